# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/whole.py: the new text, or the old one and nothing beside it."""

from __future__ import annotations

import os

import pytest
from conftest import ROOT
from ansible_collections.crm.platform.plugins.module_utils import whole


def test_it_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    whole.write(str(path), "new", 0o600)
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o600 and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_was_there_stays_where_it_cannot_be_written(tmp_path, monkeypatch, error):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*dummy):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        whole.write(str(path), "new", 0o644)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_the_mode_is_not_left_to_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        whole.write(str(tmp_path / "a"), "text", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("module", ["package_repository", "health_check", "nftables_ruleset"])
def test_a_module_that_writes_for_others_sets_its_umask_before_anything_else(module):
    text = (ROOT / "plugins" / "modules" / f"{module}.py").read_text()
    rest = text.split("    module = AnsibleModule(", 1)[1]
    assert "os.umask(programs.UMASK)" in rest.split("module.params", 1)[0]
