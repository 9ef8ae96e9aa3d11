# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attachments of the database without a file are counted and named; new ones are saved within the bound that is told."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import types

import pytest
import yaml
from ansible_collections.crm.platform.plugins.module_utils import backup as rules
from conftest import ROOT

sys.modules.setdefault("rules", rules)
sys.path.insert(0, str(ROOT / "roles/backup/files/command"))

import common  # pylint: disable=wrong-import-position
import follow  # pylint: disable=wrong-import-position
import records  # pylint: disable=wrong-import-position
import save  # pylint: disable=wrong-import-position

NOW = 1_800_000_000


@pytest.fixture
def config(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "crm.conf").write_text("[database]\nuri = postgresql://crm:p%40ss@/\n", encoding="utf-8")
    return {
        "name": "h", "mode": "own", "database": "crm", "crm": str(tmp_path / "crm.conf"), "attachments": str(tmp_path / "data"),
        "state": str(tmp_path / "state"), "policy": {"database": True, "files": True}, "files": [str(tmp_path / "data")], "files_exclude": [],
        "files_keep": {"daily": 3}, "second": {}, "clients": [],
    }  # fmt: skip


@pytest.fixture
def table(monkeypatch):
    """{number: (file, time, name, resource)}; what psql answers of them."""
    rows = {}

    def psql(config, query, socket=""):
        if "json_build_array" in query:
            asked = [int(one) for one in re.search(r"IN \(([^)]*)\)", query)[1].split(",")]
            return "\n".join(f"{number}|{json.dumps(rows[number][2:])}" for number in asked)
        return "\n".join(f"{number}|{file}|{time}" for number, (file, time, *dummy) in rows.items())

    monkeypatch.setattr(common, "psql", psql)
    return rows


def put(config, file, prefix="crm"):
    path = os.path.join(config["attachments"], prefix, file[:2], file[2:4], file)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as new:
        new.write("x")
    return path


def test_rows_without_a_file_are_counted_and_named(config, table):
    for number in range(1, 13):
        table[number] = (f"ab{number:02}-4e", NOW, f"contract {number}", f"party.party,{number}")
    assert records.look_through(config)["without_file"] == 12
    for number in range(3, 13):
        put(config, table[number][0])
    table[1] = ("ab01-4e", NOW, "a|b\nc", None)
    found = records.look_through(config)
    names = ["a|b c of nothing (ir.attachment,1)", "contract 2 of party.party,2 (ir.attachment,2)"]
    assert found == {"rows": 12, "without_file": 2, "missing": names}
    assert list(records.missing(config)) == [os.path.join(config["attachments"], "crm", "ab", "01", "ab01-4e"), config["attachments"] + "/crm/ab/02/ab02-4e"]
    told = records.told(found)
    assert told.startswith("2 attachments without a file: ") and all(one in told for one in names) and "files --path" in told
    put(config, "ab01-4e")
    put(config, "ab02-4e")
    assert records.told(records.look_through(config)) == "" and records.missing(config) == {}


def test_of_very_many_all_are_counted(config, table):
    for number in range(1, 2001):
        table[number] = (f"{number:04x}-1", NOW, "n" * 50, "party.party,1")
    found = records.look_through(config)
    assert found["without_file"] == 2000 and len(found["missing"]) == records.TOLD
    text = records.told(found)
    assert text.startswith("2000 attachments without a file: ") and len(text) < rules.LINE + 400
    assert int(re.search(r"and (\d+) more", text)[1]) == 2000 - text.count("n" * 50)


def test_a_prefix_of_the_store_is_heeded(config, table):
    with open(config["crm"], "a", encoding="utf-8") as file:
        file.write("[attachment]\nstore_prefix = shared\n")
    table[1] = ("abcd-1", NOW, "n", "r")
    put(config, "abcd-1", "shared")
    assert records.look_through(config)["without_file"] == 0


def test_what_cannot_be_told_is_not_told_as_well(config, monkeypatch):
    def psql(config, query, socket=""):
        raise rules.BackupError("no table")

    monkeypatch.setattr(common, "psql", psql)
    assert records.look_through(config) is None and records.told(None) == "" and records.missing(config) == {}
    assert records.look_through({**config, "crm": ""}) is None


def test_where_the_database_is_elsewhere_the_crm_asks(config, monkeypatch):
    def run(*words, text="", env=None, **more):
        assert words[:2] == ("setpriv", "--reuid=crm-platform") and words[-1] == "crm" and env["TRYTOND_CONFIG"] == config["crm"]
        return types.SimpleNamespace(stdout='1|["n", "r"]\n' if "json_build" in text else "1|abcd-1|5\n")

    monkeypatch.setattr(common, "run", run)
    found = records.look_through({**config, "policy": {"database": False}})
    assert found == {"rows": 1, "without_file": 1, "missing": ["n of r (ir.attachment,1)"]}


def test_a_drill_tells_what_was_not_saved_from_what_is_too_new(config, table):
    table[1] = ("aa01-1", NOW - 9000, "saved", "r")
    table[2] = ("aa02-1", NOW - 9000, "forgotten", "r")
    table[3] = ("aa03-1", NOW - 100, "in a long transaction", "r")
    table[4] = ("aa04-1", NOW + 100, "new", "r")
    saved = {os.path.join(config["attachments"], "crm/aa/01/aa01-1"): 1}
    found = records.compare(config, saved, NOW, "/run/drill")
    assert found == {"rows": 4, "not_saved": 1, "newer": 2, "missing": ["forgotten of r (ir.attachment,2)"]}


# --- what is told of it ---


def facts(**more):
    return {"drills": [], "attachments": None, "followed": {}, **more}


def test_each_is_a_problem_of_its_own_and_no_fault_of_the_backups():
    lost = {"rows": 9, "without_file": 1, "missing": ["a"]}
    (one,) = rules.attachment_problems(facts(attachments=lost), NOW)
    assert one["check"] == "attachments" and "1 attachment without a file: a; " in one["message"] and rules.hard([one]) == []
    (one,) = rules.attachment_problems(facts(drills=[{"attachments": {"rows": 9, "not_saved": 1, "newer": 0, "missing": ["b"]}}]), NOW)
    assert "at the last drill: b; " in one["message"] and rules.hard([one]) == []
    assert rules.attachment_problems(facts(attachments={"rows": 9, "without_file": 0, "missing": []}, drills=[{"attachments": None}]), NOW) == []


def test_new_ones_that_are_not_saved_in_time_are_a_fault():
    for since, told in ((NOW - 200, 0), (NOW - 301, 1)):
        found = rules.attachment_problems(facts(followed={"saved": 1, "error": "no room", "since": since}), NOW)
        assert [one["check"] for one in found] == ["files"] * told and rules.hard(found) == found


def test_a_restore_that_lacks_attachments_alone_is_told_by_their_name():
    failed = {"ok": False, "ended": NOW, "error": "x"}
    for lacks, told in ((None, 1), (["attachments"], 0), (["CRM", "attachments"], 1)):
        assert len(rules.run_problems({"runs": {"restore": {**failed, "lacks": lacks}}, "killed": []})) == told


# --- the saving of new ones ---


@pytest.fixture
def restic(monkeypatch):
    """The snapshots that were taken; what fails, where that is set."""
    taken = types.SimpleNamespace(calls=0, error="")

    def patient(config, *words, **more):
        if taken.error:
            raise rules.BackupError(taken.error)
        taken.calls += 1
        summary = {"message_type": "summary", "snapshot_id": "s", "total_files_processed": 1, "total_bytes_processed": 1, "data_added": 1}
        return types.SimpleNamespace(stdout=json.dumps(summary))

    monkeypatch.setattr(common, "patient_restic", patient)
    monkeypatch.setattr(common, "restic", lambda config, *words, **more: types.SimpleNamespace(returncode=0, stdout="", stderr=""))
    return taken


def later(config):
    """All files of by now are older than the last saving."""
    known = common.remembered(config, "followed.json", {})
    common.remember(config, "followed.json", {**known, "saved": known["saved"] + 5})


def test_the_files_are_saved_where_one_came_and_not_where_one_has_gone(config, restic):
    assert follow.follow(config) == {"changed": False}
    path = put(config, "abcd-1")
    assert follow.follow(config)["changed"] and restic.calls == 1
    later(config)
    os.remove(path)
    os.rmdir(os.path.dirname(path))
    assert follow.follow(config) == {"changed": False} and restic.calls == 1
    # An hourly backup has saved it, too.
    put(config, "abcd-2")
    save.save_files(config, "incr")
    later(config)
    assert follow.follow(config) == {"changed": False} and restic.calls == 2
    # What a restore fetches is not where it will be yet.
    os.makedirs(os.path.join(config["attachments"], ".crm-platform-restore"))
    common.remember(config, "followed.json", {"saved": 0})
    os.remove(os.path.join(config["attachments"], "crm/ab/cd/abcd-2"))
    with open(os.path.join(config["attachments"], ".crm-platform-restore", "x"), "w", encoding="utf-8"):
        pass
    assert follow.follow(config) == {"changed": False}


def test_one_that_fails_is_told_since_when_and_tried_again(config, restic):
    put(config, "abcd-1")
    restic.error = "no room"
    for dummy in range(2):
        with pytest.raises(rules.BackupError, match="no room"):
            follow.follow(config)
        known = common.remembered(config, "followed.json", {})
        assert known["error"] == "no room"
        common.remember(config, "followed.json", {**known, "since": min(known["since"], NOW)})
    restic.error = ""
    assert follow.follow(config)["changed"] and "error" not in common.remembered(config, "followed.json", {})


def test_it_waits_for_no_other_run_and_is_not_made_twice(config, restic):
    put(config, "abcd-1")
    with open(common.state_path(config, "lock-follow"), "a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert follow.follow(config) == {"changed": False} and restic.calls == 0
    with common.alone(config, "drill"):
        assert follow.follow(config)["changed"]
    assert follow.follow({**config, "crm": ""}) == {"changed": False}


def test_what_is_young_is_kept(config):
    assert "--keep-within 6h --keep-daily 3" in " ".join(save.forget_words(config, "incr"))


def test_the_bound_that_the_guide_tells_is_that_of_timer_and_problem():
    calendar = yaml.safe_load((ROOT / "roles/backup/defaults/main.yml").read_text(encoding="utf-8"))["backup_schedule_attachments"]
    minutes = int(re.fullmatch(r"\*-\*-\* \*:00/(\d):00", calendar)[1])
    template = (ROOT / "roles/backup/templates/timer.j2").read_text(encoding="utf-8")
    assert "'30s' if one.name in ['status', 'attachments']" in template and "AccuracySec=10s" in template
    # Spread, accuracy, and a minute for the saving itself; one that was missed by a moment comes with the next.
    assert minutes * 60 + 30 + 10 + 60 <= rules.ATTACHMENT_SAVED == 300
    assert "attachments five minutes" in (ROOT / "docs/backup.md").read_text(encoding="utf-8")
