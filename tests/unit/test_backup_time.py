# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Local time that goes back names no set earlier, and commits that do not reach the repository are told with their age."""

from __future__ import annotations

import datetime
import sys
import time
import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils import backup as rules
from conftest import ROOT

# As on a host, where the role puts it beside the others by that name.
sys.modules.setdefault("rules", rules)
sys.path.insert(0, str(ROOT / "roles/backup/files/command"))

import common  # pylint: disable=wrong-import-position

NOW = datetime.datetime(2026, 11, 1, 5, 30, tzinfo=datetime.timezone.utc).timestamp()
LATER = "ERROR: [041]: new backup label '20261101-013000F' is not later than latest backup label '{}'"


@pytest.mark.parametrize(
    "label, zone",
    [
        ("20261101-053000F", "<+01>-1"),
        ("20261101-062000F", "<+01>-1"),
        ("20261031-200000F_20261101-105900I", "<+06>-6"),
        ("20261101-110000D", "<+06>-6"),
        # A clock that was wrong by days is another matter.
        ("20261103-110000F", ""),
    ],
)
def test_a_set_is_named_later_than_one_of_an_eastern_zone(label, zone, monkeypatch):
    assert rules.zone_after(LATER.format(label), NOW) == zone
    if zone:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert time.strftime("%Y%m%d-%H%M%S", time.localtime(NOW)) > label[-16:-1]
        monkeypatch.undo()
        time.tzset()


def test_another_complaint_changes_no_zone():
    assert rules.zone_after("ERROR: [056]: unable to find primary cluster", NOW) == ""


@pytest.mark.parametrize("mode, user", [("own", "postgres"), ("host", common.KEEPER)])
def test_pgbackrest_names_sets_by_utc_and_tries_again_past_a_name_of_the_future(mode, user, monkeypatch):
    calls = []
    monkeypatch.setenv("TZ", "America/New_York")
    label = time.strftime("%Y%m%d-%H%M%SF", time.gmtime(time.time() + 19000))

    def as_user(name, *words, env, check, **more):
        calls.append((name, env["TZ"]))
        failed = len(calls) == 1
        return types.SimpleNamespace(returncode=41 if failed else 0, stdout="", stderr=LATER.format(label) if failed else "")

    monkeypatch.setattr(common, "as_user", as_user)
    config = {"mode": mode, "second": {}, "stanza": "crm", "state": "/nowhere"}
    assert common.pgbackrest(config, "backup").returncode == 0
    assert calls == [(user, "UTC"), (user, "<+06>-6")]


def test_what_fails_otherwise_is_run_once_and_told(monkeypatch):
    calls = []

    def as_user(name, *words, env, check, **more):
        calls.append(env["TZ"])
        return types.SimpleNamespace(returncode=56, stdout="", stderr="P00 ERROR: [056]: unable to find primary cluster")

    monkeypatch.setattr(common, "as_user", as_user)
    config = {"mode": "own", "second": {}, "stanza": "crm", "state": "/nowhere"}
    with pytest.raises(rules.BackupError, match=r"pgbackrest failed \(56\): .*unable to find primary"):
        common.pgbackrest(config, "backup")
    assert calls == ["UTC"]
    assert common.pgbackrest(config, "info", check=False).returncode == 56


def test_the_first_commit_of_a_segment_is_read_from_pg_waldump():
    line = "rmgr: Transaction len (rec/tot):     {n}/    {n}, tx: 740, lsn: 0/0800{n}, prev 0/08000028, desc: {what}\n"
    aborted = line.format(n=34, what="ABORT 2026-11-01 05:10:00.123456 UTC")
    first = line.format(n=46, what="COMMIT 2026-11-01 05:12:00.123456 UTC; inval msgs: catcache 50")
    second = line.format(n=58, what="COMMIT 2026-11-01 05:14:00.123456 UTC")
    prepared = line.format(n=70, what="COMMIT_PREPARED 741: 2026-11-01 05:13:00.123456 UTC")
    assert rules.first_commit(aborted + first + second) == NOW - 18 * 60
    assert rules.first_commit(prepared) == NOW - 17 * 60
    assert rules.first_commit(aborted) is None and rules.first_commit("") is None


def test_commits_that_are_not_handed_over_are_told():
    policy = {"archive_command": "save", "archive_max_seconds": 300}
    archiver = {"command": "save", "mode": True, "failing": False, "waiting": 0, "oldest_waiting_seconds": 0}

    def told(since):
        return rules.archive_problems(policy, {"database": {"archiver": {**archiver, "pending_since": since}}}, NOW)

    assert told(None) == [] and told(NOW - 290) == []
    (problem,) = told(NOW - 540)
    assert problem["check"] == "archive" and "2026-11-01T05:21:00" in problem["message"] and "(540 s, limit 300)" in problem["message"]
