# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of the role backup that need no host: the export of the key, units that a host has no more, the end of archiving."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "support"))

import plays  # pylint: disable=wrong-import-position

PHRASE = "a passphrase of the tests"
HOSTS = {"all": {"hosts": {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}}
# The time of the cluster's last start or reload is that of a file.
SYSTEMCTL = """#!/bin/sh
place=$(dirname "$0")
verb=$1; shift
case "$verb" in
    show) printf 'Id=postgresql@15-main.service\\nNames=postgresql@15-main.service\\nLoadState=loaded\\nActiveState=active\\n'
        printf 'UnitFileState=enabled\\nNeedDaemonReload=no\\nStateChangeTimestamp=%s\\n' "$(date -u -r "$place/since" '+%a %Y-%m-%d %H:%M:%S.%6N UTC')";;
    *) echo "$verb $*" >> "$place/calls"; sleep 0.01; touch "$place/since";;
esac
"""


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """The directory of the stub, with the files `since` and `calls`."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", str(place), prepend=os.pathsep)
    (place / "systemctl").write_text(SYSTEMCTL)
    (place / "systemctl").chmod(0o755)
    (place / "since").touch()
    return place


@pytest.fixture
def role(tmp_path):
    """role(tasks, option, ..., variable=...): the outcome of these tasks of the role."""

    def run(tasks, *options, **variables):
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [{"name": "Do", "ansible.builtin.include_role": {"name": "crm.platform.backup", "tasks_from": tasks}}],
        }
        return plays.run(tmp_path, [play], HOSTS, "-e", json.dumps(variables), *options, timeout=60)

    return run


def names(outcome):
    """The tasks that changed something, or would."""
    return [one.removeprefix("crm.platform.backup : ") for one in outcome.changed]


def opened(path, tmp_path):
    (tmp_path / "phrase").write_text(PHRASE + "\n")
    words = [plays.run_tests.script("ansible-vault"), "view", "--vault-password-file", str(tmp_path / "phrase"), str(path)]
    return subprocess.run(words, check=True, capture_output=True, text=True, env=plays.environment(tmp_path)).stdout.strip()


def test_the_export_of_another_key_is_kept(role, tmp_path):
    place = tmp_path / "safe"
    place.mkdir()
    variables = {"backup_key_passphrase": PHRASE, "backup_key_directory": str(place)}
    path = place / "localhost.backup_key"

    def export(key, *options):
        text = "".join(f"{ord(letter):02x}" for letter in key)
        read = {"content": f"{{{{ '{key}' | b64encode }}}}"}
        outcome = role("export", *options, __backup_key_read=read, **variables)
        assert outcome.rc == 0, outcome.failure or outcome.text[-2000:]
        assert key not in outcome.text and text not in outcome.text
        return names(outcome)

    assert export("first") == ["Write it, encrypted, to the controller"] and opened(path, tmp_path) == "first"
    before = path.read_text()
    wanted = ["Keep the export of another key", "Write it, encrypted, to the controller"]
    assert export("second", "--check", "--diff") == wanted and os.listdir(place) == [path.name]
    assert export("second") == wanted and opened(path, tmp_path) == "second"
    (kept,) = [one for one in place.iterdir() if one != path]
    assert kept.read_text() == before and kept.stat().st_mode & 0o777 == 0o600 and opened(kept, tmp_path) == "first"
    assert export("second") == []
    other = role("export", __backup_key_read={"content": "{{ 'second' | b64encode }}"}, **{**variables, "backup_key_passphrase": "another phrase"})
    assert other.rc != 0 and f"{path} is there and backup_key_passphrase does not open it" in other.failure, other.text[-2000:]
    assert opened(path, tmp_path) == "second"


def test_postgresql_forgets_archiving_although_an_earlier_run_was_killed_before(role, tmp_path, systemctl):
    settings = tmp_path / "conf.d" / "zz-crm-platform-backup.conf"
    settings.parent.mkdir()
    # It came as far as this: the file is removed, and PostgreSQL does not know.
    os.utime(systemctl / "since", (1, 1))
    variables = {
        "ansible_facts": {"packages": {"postgresql-15": []}},
        "_backup_database": True,
        "_backup_version": "15",
        "_backup_stopped": [],
        "_backup_config": {"cluster": {"unit": "postgresql@15-main.service"}},
        "_backup_settings": str(settings),
        "_backup_removed": [{"path": str(settings), "state": "absent"}],
    }
    outcome = role("remove", **variables)
    assert outcome.rc == 0 and names(outcome) == ["Have PostgreSQL forget it"], outcome.failure or outcome.text[-2000:]
    assert (systemctl / "calls").read_text() == "reload postgresql@15-main.service\n"
    assert role("remove", **variables).changed == []


@pytest.mark.usefixtures("systemctl")
def test_a_schedule_that_was_emptied_has_no_timer(role):
    schedules = [
        {"name": "full", "calendar": "daily", "what": "x", "enabled": True},
        {"name": "incr", "calendar": "", "what": "x", "enabled": True},
        {"name": "drill", "calendar": "daily", "what": "x", "enabled": False},
    ]
    variables = {"_backup_schedules": schedules, "_backup_database": False, "_backup_removed": [], "_backup_served": False}

    def units(**more):
        outcome = role("remove", "--check", **variables, **more)
        assert outcome.rc == 0, outcome.failure or outcome.text[-2000:]
        (found,) = [
            task["result"]["invocation"]["module_args"]["units"]
            for task in outcome.tasks
            if "units" in task["result"].get("invocation", {}).get("module_args", {})
        ]
        return {one["name"].removeprefix("crm-platform-backup-"): one["state"] for one in found}

    assert units(_backup_stopped="{{ _backup_units }}") == {
        "full.timer": "started",
        "full.service": "unmanaged",
        "incr.timer": "absent",
        "incr.service": "unmanaged",
        "drill.timer": "absent",
        "drill.service": "absent",
    }
    # Whichever were made before go with backup_enabled.
    made = [f"{name}.{kind}" for name in ("full", "incr", "drill") for kind in ("timer", "service")]
    assert units() == {**dict.fromkeys(made, "absent"), "files.service": "absent", "boot.service": "absent"}
