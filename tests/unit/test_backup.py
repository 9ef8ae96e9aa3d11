# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What backups are, which of them leads where, and what is wrong with them."""

from __future__ import annotations

import pytest
from ansible_collections.crm.platform.plugins.module_utils import backup as lib

NOW = 1_800_000_000
HOUR = 3600


def entry(label, kind, ended, timeline=1, first="0/2000028", last="0/2000100", error=False, repository=1):
    segment = f"{timeline:08X}0000000000000002"
    return {
        "label": label,
        "type": kind,
        "database": {"id": 2, "repo-key": repository},
        "timestamp": {"start": ended - 10, "stop": ended},
        "archive": {"start": segment, "stop": segment},
        "lsn": {"start": first, "stop": last},
        "info": {"size": 1000, "repository": {"delta": 100}},
        "error": error,
    }


def stanza(*entries, code=0, message="ok"):
    return [
        {
            "name": "crm",
            "status": {"code": code, "message": message},
            "repo": [{"key": 1, "status": {"code": code, "message": message}}],
            "backup": list(entries),
            "db": [{"id": 1, "repo-key": 1, "system-id": 7}, {"id": 2, "repo-key": 1, "system-id": 8}],
            "archive": [{"database": {"id": 2, "repo-key": 1}, "min": "000000010000000000000001", "max": "000000010000000000000009"}],
        }
    ]


def a_set(label="20270115-080000F", kind="full", ended=NOW - HOUR, timeline=1, last=0x2000100, damaged=False):
    return lib.Set(label, kind, ended - 10, ended, timeline, last - 100, last, 1000, 100, damaged)


def test_positions_of_the_log():
    assert lib.read_lsn("1/A0") == 0x1000000A0
    assert lib.show_lsn(0x1000000A0) == "1/A0"
    with pytest.raises(lib.BackupError, match="no position"):
        lib.read_lsn("1-A0")


@pytest.mark.parametrize("text", ["2026-01-31 12:30:00+01:00", "2026-01-31T11:30:00Z", "2026-01-31 12:30:00+01", "2026-01-31 11:30+00:00"])
def test_times_with_their_zone(text):
    assert lib.utc(lib.read_time(text)) == "2026-01-31T11:30:00Z"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("2026-01-31 12:30:00", "zone"), ("2026-01-31Z", "time of day"), ("yesterday", "time of day"), ("2026-02-31 12:30:00Z", "not a time")],
)
def test_times_that_cannot_be_meant(text, complaint):
    with pytest.raises(lib.BackupError, match=complaint):
        lib.read_time(text)


def test_sets_and_cluster_of_a_stanza():
    found = lib.stanza_of(stanza(entry("B", "incr", NOW, timeline=2), entry("A", "full", NOW - 100)), "crm")
    assert [one.label for one in lib.sets_of(found)] == ["A", "B"]
    assert [one.timeline for one in lib.sets_of(found)] == [1, 2]
    assert lib.system_of(found) == 8
    assert lib.archive_of(found)["last"].endswith("9")


def test_a_repository_that_is_not_well_is_told():
    with pytest.raises(lib.BackupError, match="missing stanza path"):
        lib.stanza_of([], "crm")
    with pytest.raises(lib.BackupError, match="other"):
        lib.stanza_of(stanza(code=99, message="other"), "crm")
    assert lib.sets_of(lib.stanza_of(stanza(code=2, message="no valid backups"), "crm")) == []


def test_two_repositories_are_kept_apart():
    info = stanza(entry("A", "full", NOW - 100), entry("B", "full", NOW, repository=2), entry("C", "incr", NOW + 1, repository=2))
    info[0]["status"] = {"code": 4, "message": "different across repos"}
    info[0]["repo"].append({"key": 2, "status": {"code": 0, "message": "ok"}})
    # Each counts the clusters that it has seen.
    info[0]["db"].append({"id": 1, "repo-key": 2, "system-id": 9})
    info[0]["archive"].append({"database": {"id": 1, "repo-key": 2}, "min": "000000010000000000000005", "max": "000000010000000000000006"})
    first, second = lib.stanza_of(info, "crm"), lib.stanza_of(info, "crm", 2)
    assert [one.label for one in lib.sets_of(first)] == ["A"] and [one.label for one in lib.sets_of(second, 2)] == ["B", "C"]
    assert (lib.system_of(first), lib.system_of(second, 2)) == (8, 9)
    assert lib.archive_of(first)["last"].endswith("9") and lib.archive_of(second, 2)["last"].endswith("6")
    # What is wrong with one says nothing of the other.
    info[0]["repo"][1]["status"] = {"code": 99, "message": "[ProtocolError] failed with 404:\n*** more ***\n<Message>no such\nbucket</Message>"}
    assert lib.sets_of(lib.stanza_of(info, "crm"))
    with pytest.raises(lib.BackupError, match=r"failed with 404: no such bucket$"):
        lib.stanza_of(info, "crm", 2)


def test_history_of_a_timeline():
    assert lib.read_history("1\t0/3000000\tbefore 2026\n2\t0/5000000\tno recovery target\n") == {1: 0x3000000, 2: 0x5000000}


def test_the_future_that_a_restore_left_behind_is_not_chosen():
    before = a_set("before", ended=NOW - 300, last=0x2000000)
    safety = a_set("safety", "incr", ended=NOW - 200, last=0x4000000)
    history = {1: 0x3000000}
    assert lib.choose([before, safety], 2, history) is before
    after = a_set("after", "incr", ended=NOW - 100, timeline=2, last=0x5000000)
    assert lib.choose([before, safety, after], 2, history) is after
    # Where that restore was undone, the first timeline is live again.
    assert lib.choose([before, safety, after], 1, {}) is safety
    # By its name it can be had.
    assert lib.choose([before, safety], 2, history, label="safety") is safety
    with pytest.raises(lib.BackupError, match="leads to timeline 2"):
        lib.choose([safety], 2, history)


def test_the_newest_set_before_the_target_is_chosen():
    sets = [a_set("A", ended=100, last=10), a_set("B", ended=200, last=20), a_set("C", ended=300, last=30, damaged=True)]
    assert lib.choose(sets, 1, {}).label == "B"
    assert lib.choose(sets, 1, {}, moment=150).label == "A"
    assert lib.choose(sets, 1, {}, position=19).label == "A"
    for options in ({"moment": 99}, {"position": 9}):
        with pytest.raises(lib.BackupError, match="before the end of the first backup"):
            lib.choose(sets, 1, {}, **options)
    # Nobody knows where a named point is.
    assert lib.choose(sets, 1, {}, name="x").label == "A"
    with pytest.raises(lib.BackupError, match="after the target time"):
        lib.choose(sets, 1, {}, label="B", moment=150)
    with pytest.raises(lib.BackupError, match="damage"):
        lib.choose(sets, 1, {}, label="C")
    with pytest.raises(lib.BackupError, match="there is no set D; there are A, B, C"):
        lib.choose(sets, 1, {}, label="D")
    with pytest.raises(lib.BackupError, match="there is no backup; take one"):
        lib.choose([], 1, {})


def test_the_verification_is_read_although_it_always_succeeds():
    assert lib.verified("stanza: crm\nstatus: ok\n  backup: X, status: valid, total files checked: 9\n") == []
    damaged = "stanza: crm\nstatus: error\n  backup: X, status: invalid, total files checked: 9\n    checksum invalid: 1, missing: 0\n"
    found = lib.verified(damaged)
    assert any("invalid" in one for one in found) and any("1 x checksum invalid" in one for one in found)
    assert lib.verified("") == ["the verification said nothing"]


def test_a_damaged_history_of_timelines_is_seen():
    whole = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-01-01 00:00:00+00\n"
    assert lib.history_complaint("x", whole) == ""
    for text in ("", whole.replace("0/3", "0\x83"), whole.replace("recovery", "rec\ufffdvery"), whole.replace("1\t", "\t")):
        assert lib.history_complaint("x", text) == "x: damaged"


POLICY = {
    "database": True,
    "sets": True,
    "files": True,
    "key": True,
    "verify": False,
    "archive_command": "save",
    "full_max_hours": 180,
    "max_hours": 26,
    "drill_max_days": 8,
    "archive_max_seconds": 300,
    "space_max_percent": 92,
    "timers": ["a.timer"],
}


def facts(**other):
    archiver = {
        "mode": True,
        "command": "save",
        "failing": False,
        "failed_count": 0,
        "last_failed_wal": None,
        "waiting": 0,
        "oldest_waiting_seconds": 0,
    }
    found = {
        "database": {"sets": [a_set()], "archiver": archiver},
        "files": {"snapshots": [{"id": "1", "time": NOW - HOUR}]},
        "clients": {},
        "second": None,
        "runs": {"backup": {"ok": True}},
        "killed": [],
        "drills": [{"ok": True, "ended": NOW - HOUR}],
        "since": NOW - 100 * HOUR,
        "timers": {"a.timer": "active"},
        "verify": [],
        "verified": None,
        "resumed": None,
        "space": {"percent": 50.0, "free": 1},
        "key_exported": True,
    }
    found["database"]["archiver"] = {**archiver, **other.pop("archiver", {})}
    found.update(other)
    return found


def test_backups_that_are_well():
    assert lib.judge(POLICY, facts(), NOW) == []


@pytest.mark.parametrize(
    ("other", "check"),
    [
        ({"database": {"error": "gone", "archiver": facts()["database"]["archiver"]}}, "repository"),
        ({"database": {"sets": [], "archiver": facts()["database"]["archiver"]}}, "age"),
        ({"database": {"sets": [a_set(ended=NOW - 27 * HOUR)], "archiver": facts()["database"]["archiver"]}}, "age"),
        ({"database": {"sets": [a_set(ended=NOW - 181 * HOUR), a_set("I", "incr")], "archiver": facts()["database"]["archiver"]}}, "age"),
        ({"database": {"sets": [a_set(), a_set("I", "incr", damaged=True)], "archiver": facts()["database"]["archiver"]}}, "damaged"),
        ({"database": {"sets": [a_set()], "archiver": None}}, "archive"),
        ({"archiver": {"command": "/bin/true"}}, "archive"),
        ({"archiver": {"failing": True}}, "archive"),
        ({"archiver": {"waiting": 2, "oldest_waiting_seconds": 301}}, "archive"),
        ({"files": {"snapshots": []}}, "files"),
        ({"files": {"snapshots": [{"id": "1", "time": NOW - 27 * HOUR}]}}, "files"),
        ({"files": {"snapshots": [], "error": "wrong password"}}, "repository"),
        ({"runs": {"backup": {"ok": False, "ended": NOW, "error": "no room"}}}, "run"),
        ({"killed": [{"kind": "backup", "began": NOW}]}, "run"),
        ({"drills": [{"ok": False, "ended": NOW, "error": "rows differ"}]}, "drill"),
        ({"drills": [{"ok": True, "ended": NOW - 9 * 24 * HOUR}]}, "drill"),
        ({"drills": [], "since": NOW - 9 * 24 * HOUR}, "drill"),
        ({"timers": {"a.timer": "inactive"}}, "timer"),
        ({"timers": {}}, "timer"),
        ({"verify": ["a byte differs"]}, "verify"),
        ({"resumed": NOW - 60}, "archive"),
        ({"space": {"percent": 92.0, "free": 1}}, "space"),
        ({"key_exported": False}, "key"),
    ],
)
def test_each_fault_is_told(other, check):
    found = lib.judge(POLICY, facts(**other), NOW)
    assert [one["check"] for one in found] == [check]
    assert bool(lib.hard(found)) == (check != "key")


def test_a_verification_that_is_overdue_is_told_where_it_has_a_timer():
    days = 24 * HOUR
    policy = {**POLICY, "database": False, "verify": True}
    for verified, since, told in ((NOW - days, None, 0), (NOW - 9 * days, NOW, 1), (None, NOW - 9 * days, 1), (None, NOW - days, 0)):
        found = lib.judge(policy, facts(verified=verified, since=since), NOW)
        assert [one["check"] for one in found] == ["verify"] * told, found
    assert lib.judge({**policy, "verify": False}, facts(verified=NOW - 9 * days), NOW) == []


def test_gaps_in_the_log():
    whole = {f"0000000100000000000000F{digit}": NOW for digit in "DEF"}
    later = {"000000010000000100000000": NOW, "000000020000000100000005": NOW}
    assert lib.gap_of({}) is None and lib.gap_of({**whole, **later}) is None
    gap = lib.gap_of({**whole, "000000010000000100000002": NOW - 2000, "000000010000000100000005": NOW - 1000})
    assert gap == lib.Gap(1, "000000010000000100000003", "000000010000000100000004", 0x105000000, NOW - 1000)


def test_one_can_go_back_to_what_came_after_the_last_gap():
    gap = lib.Gap(1, "a", "b", 0x105000000, NOW - 1000)
    before, after = a_set("before", ended=NOW - 500, last=0x104000100), a_set("after", ended=NOW - 400, last=0x105000200)
    # Of another timeline its position says nothing.
    other, newer = a_set("other", ended=NOW - 2000, timeline=2, last=0x200000000), a_set("newer", ended=NOW - 300, timeline=2)
    assert lib.usable_from([other, before, after, newer], gap, 0) is after
    assert lib.usable_from([other, before, newer], gap, 0) is newer
    assert lib.usable_from([other, before], gap, 0) is None
    assert lib.usable_from([other, before], None, 0) is other
    assert lib.usable_from([other, before], None, NOW - 600) is before


def test_a_gap_that_no_backup_has_closed_is_told():
    found = facts()
    found["database"]["gap"] = lib.Gap(1, "000000010000000000000003", "000000010000000000000004", 0x5000000, NOW - 1000)
    (told,) = lib.judge(POLICY, found, NOW)
    assert told["check"] == "archive" and "from 000000010000000000000003 to 000000010000000000000004" in told["message"]
    found["database"]["gap"] = found["database"]["gap"]._replace(since=NOW - 100)
    assert lib.judge(POLICY, found, NOW) == []
    found["database"] = {**found["database"], "gap": found["database"]["gap"]._replace(since=NOW - 1000), "sets": [a_set(), a_set(last=0x6000000)]}
    assert lib.judge(POLICY, found, NOW) == []


def second(**other):
    well = {"place": "b on h:443", "begun": True, "sets": [a_set()], "files": {"": {"snapshots": [{"id": "1", "time": NOW - HOUR}]}}}
    return {**well, "error": "", "complaints": [], "left": None, "unreadable": "", **other}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"begun": False, "error": "no such bucket"}, "holds no backup yet: no such bucket"),
        ({"unreadable": "it is dead"}, "it is dead"),
        ({"unreadable": "it is dead", "error": "it is dead"}, "it is dead"),
        ({"error": "no room"}, "the last backup into it failed: no room"),
        ({"left": NOW - HOUR}, "lacks the log"),
        ({"sets": []}, "no full backup"),
        ({"sets": [a_set(ended=NOW - 27 * HOUR)]}, "27.0 hours old"),
        ({"files": {"a": {"snapshots": []}}}, "no backup of the files of a"),
        ({"complaints": ["a byte differs"]}, "a byte differs"),
    ],
)
def test_each_fault_of_the_second_repository_is_told_and_is_not_the_first_s(other, words):
    (found,) = lib.judge(POLICY, facts(second=second(**other)), NOW)
    assert found["check"] == "second" and words in found["message"] and "b on h:443" in found["message"]
    assert lib.judge(POLICY, facts(second=second()), NOW) == []
    # A host of files alone has no sets.
    assert lib.judge(POLICY, facts(second=second(sets=None)), NOW) == []


def test_a_host_without_a_database_answers_for_its_files_only():
    assert lib.judge({**POLICY, "database": False, "sets": False}, {**facts(drills=[]), "database": None}, NOW) == []


def test_the_host_of_a_repository_answers_for_the_files_of_each_client():
    policy = {**POLICY, "database": False, "files": False}
    well = {"snapshots": [{"id": "1", "time": NOW - HOUR}], "forged": []}
    found = facts(drills=[], files={"snapshots": []}, clients={"a": well})
    found["database"]["archiver"] = None
    assert lib.judge(policy, found, NOW) == []
    found["clients"] = {"a": well, "b": {"snapshots": [], "forged": []}, "c": {**well, "forged": ["9"]}, "d": {"snapshots": [], "error": "gone"}}
    assert [(one["check"], "of b" in one["message"], "of c" in one["message"]) for one in lib.judge(policy, found, NOW)] == [
        ("files", True, False),
        ("forged", False, True),
        ("repository", False, False),
    ]


def test_a_client_does_not_ask_for_the_export_of_a_key_that_it_has_not():
    assert lib.judge({**POLICY, "key": False}, facts(key_exported=False), NOW) == []


def test_each_host_has_a_key_of_its_own():
    # A host may bear any name and still has not the key of the sets.
    assert (
        len(
            {
                lib.key_of_files("k", "a"),
                lib.key_of_files("k", "b"),
                lib.key_of_files("l", "a"),
                lib.key_of_files("k", "sets"),
                lib.key_of("k", "sets"),
            }
        )
        == 5
    )
    assert lib.key_of_files("k", "a") == lib.key_of_files("k", "a") and len(lib.key_of_files("k", "a")) == 64


def test_snapshots_of_false_times_are_seen():
    known = {"looked": NOW - HOUR, "ids": ["old"]}
    assert lib.forged([{"id": "old", "time": 5}, {"id": "new", "time": NOW - 60}, {"id": "late", "time": NOW - 25 * HOUR}], known, NOW) == []
    assert lib.forged([{"id": "back", "time": NOW - 48 * HOUR}, {"id": "future", "time": NOW + HOUR}], known, NOW) == ["back", "future"]
    # At the first look nobody knows better, but for what has not happened yet.
    assert lib.forged([{"id": "old", "time": 5}, {"id": "future", "time": NOW + HOUR}], {}, NOW) == ["future"]


def test_metrics_are_whole():
    state = {
        "written": NOW,
        "problems": [lib.problem("age", "old")],
        "database": {"age": 5.5, "age_full": None, "sets": [{"repository_size": 3, "size": 4}]},
        "space": {"free": 9},
        "drill": {"last": {"seconds": 2.25, "ok": True, "ended": NOW, "rpo": 1.0}},
    }
    text = lib.metrics(state)
    assert 'crm_backup_problems{check="age"} 1' in text and "crm_backup_drill_ok 1" in text and "crm_backup_age_full" not in text
    assert all(line.startswith(("# HELP", "# TYPE", "crm_backup_")) for line in text.splitlines())
