# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/lab.py: an engine that is down is started, once, by whoever asks for an image first."""

from __future__ import annotations

import concurrent.futures

import lab
import pytest

DOCKER = """#!/bin/sh
[ -e "$HERE/up" ] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; }
[ "$1" != images ] || echo 0123456789ab
"""
DOCKERD = """#!/bin/sh
echo started >> "$HERE/starts"
sleep 0.3
touch "$HERE/up"
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A directory whose commands stand for an engine that is down; what started it is in `starts`."""
    # Where systemd runs it is asked, and does the same here.
    for name, text in (("docker", DOCKER), ("dockerd", DOCKERD), ("systemctl", DOCKERD)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(lab, "CACHE", tmp_path)
    monkeypatch.setattr(lab, "forget_dead_engine", lambda: None)
    monkeypatch.setattr(lab.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_whoever_asks_for_an_image_has_the_engine_started_and_only_one_does(engine):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        names = set(pool.map(lambda _number: lab.ensure_image("debian12"), range(4)))
    assert names == {lab.image_name("debian12")}
    assert (engine / "starts").read_text().split() == ["started"]


def test_an_engine_that_answers_is_left_alone(engine):
    (engine / "up").touch()
    lab.ensure_image("debian12")
    assert not (engine / "starts").exists()
