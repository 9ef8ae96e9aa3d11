# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage in the repository: all of it is named, a drill stays proved beside it, and a damaged segment of the log leaves once nothing needs it."""

from __future__ import annotations

import json
import os
import sys
import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils import backup as rules
from conftest import ROOT

sys.modules.setdefault("rules", rules)
sys.path.insert(0, str(ROOT / "roles/backup/files/command"))

import aside  # pylint: disable=wrong-import-position
import common  # pylint: disable=wrong-import-position
import drill  # pylint: disable=wrong-import-position
import look  # pylint: disable=wrong-import-position
import save  # pylint: disable=wrong-import-position

# pgBackRest 2.45 with --log-level-console=info, shortened in its checksums.
SHA = "1d35e7038cf21bac414ad2f4609f53d1042893a8"
SAID = f"""\
2026-12-01 04:25:56.988 P00   INFO: verify command begin 2.45: --exec-id=1038-911976c3 --log-level-console=info --stanza=crm --verbose
2026-12-01 04:25:57.021 P02   INFO: invalid checksum '15-1/0000000100000000/000000010000000000000003-{SHA}.zst'
2026-12-01 04:26:12.037 P02   INFO: invalid result 15-1/0000000100000000/000000010000000000000004-{SHA}.zst: [95] raised from local-2 protocol: unable to flush
                                    [CryptoError] on retry after 0ms
2026-12-01 04:26:12.038 P02   INFO: invalid checksum '20261201-042344F/pg_data/base/5/1255.zst'
2026-12-01 04:26:12.614 P00   INFO: stanza: crm
                                    status: error
                                      archiveId: 15-1, total WAL checked: 10, total valid WAL: 8
                                        missing: 0, checksum invalid: 1, size invalid: 0, other: 1
                                      backup: 20261201-042504F, status: valid, total files checked: 2967, total valid files: 2967
                                        missing: 0, checksum invalid: 0, size invalid: 0, other: 0
stanza: crm
status: error
  archiveId: 15-1, total WAL checked: 10, total valid WAL: 8
    missing: 0, checksum invalid: 1, size invalid: 0, other: 1
  backup: 20261201-042504F, status: valid, total files checked: 2967, total valid files: 2967
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
2026-12-01 04:26:12.614 P00   INFO: verify command end: completed successfully (15627ms)
"""


def a_set(label, first, last, kind="full", timeline=1, began=1000, damaged=False):
    return rules.Set(label, kind, began, began + 10, timeline, first << 24, (last << 24) + 0x100, 1000, 100, damaged)


def test_all_complaints_are_named_and_of_very_many_their_number():
    assert rules.listed([]) == "" and rules.listed(["a"]) == "a"
    seven = [f"complaint {number}" for number in range(7)]
    assert rules.listed(seven) == f"7: {'; '.join(seven)}"
    text = rules.listed(["x" * 100] * 1000)
    assert len(text) < rules.LINE + 50 and text.startswith("1000: ") and text.endswith(f"and {1000 - text.count('x' * 100)} more")
    # One that is longer than all is not left out.
    assert rules.listed(["x" * 5000, "y"]) == f"2: {'x' * 5000}; and 1 more"


def test_the_files_that_pgbackrest_names_are_told_once_and_a_segment_with_its_cure():
    named = rules.damaged_files(SAID)
    segments = [f"15-1/0000000100000000/00000001000000000000000{number}-{SHA}.zst" for number in (3, 4)]
    assert named == {segments[0]: "invalid checksum", segments[1]: "invalid result", "20261201-042344F/pg_data/base/5/1255.zst": "invalid checksum"}
    assert rules.segments_of(named) == segments
    assert rules.verified(SAID) == ["archiveId: 15-1: 1 x checksum invalid", "archiveId: 15-1: 1 x other"]
    assert "`crm-platform-backup set-aside 000000010000000000000003`" in rules.damage(segments[0], "invalid checksum")
    # The second repository is in a bucket, and of a set the way out is another one.
    assert "set-aside" not in rules.damage(segments[0], "x", 2) and rules.damage("F/pg_data/1", "x") == "F/pg_data/1: x"


def test_what_is_lost_with_a_segment():
    segment = "000000010000000000000005"
    sets = [a_set("A", 2, 3), a_set("B", 4, 5), a_set("C", 5, 5, "incr"), a_set("D", 7, 7, "incr", damaged=True), a_set("E", 8, 9, "incr")]
    lost = rules.lost_without(segment, 2000, sets)
    assert (lost.until.label, lost.first, lost.last, lost.unusable) == ("E", 5 << 24, (9 << 24) + 0x100, ["B", "C"])
    assert not rules.later_full(segment, 2000, sets)
    assert rules.later_full(segment, 2000, [*sets, a_set("F", 12, 12)])
    # After a restore positions are used once more: there it counts what was made later.
    other = a_set("G", 3, 3, timeline=2, began=1900)
    assert not rules.later_full(segment, 2000, [other]) and rules.later_full(segment, 1800, [other])
    assert rules.unusable(sets, []) == []


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A repository of four segments, a full set after the first three, and a verification that has named the second."""
    policy = {"database": True, "sets": True, "files": False}
    found = {
        "mode": "own", "stanza": "crm", "repository": str(tmp_path / "repository"), "state": str(tmp_path / "state"), "policy": policy,
        "clients": [], "second": {}, "crm": "", "peer": {"host": "keeper"}, "cluster": {"data": str(tmp_path)},
    }  # fmt: skip
    place = tmp_path / "repository/database/archive/crm/15-1/0000000100000000"
    place.mkdir(parents=True)
    (tmp_path / "state").mkdir()
    for number in range(1, 5):
        path = place / f"00000001000000000000000{number}-{SHA}.zst"
        path.write_bytes(save.ENCRYPTED + b"segment")
        os.utime(path, (1000 * number, 1000 * number))
    common.remember(found, "verify.json", {"segments": [f"15-1/0000000100000000/000000010000000000000002-{SHA}.zst"]})
    found["sets"] = [a_set("A", 1, 1, began=1), a_set("B", 4, 4, began=4000)]
    monkeypatch.setattr(common, "stanza", lambda config, repository=1: {})
    monkeypatch.setattr(rules, "sets_of", lambda stanza, repository=1: found["sets"])
    monkeypatch.setattr(look, "write", lambda config: {})
    return found


def names(config):
    return sorted(path.name[23] for path in aside.archive(config).rglob("*-*.zst"))


def test_the_named_segment_leaves_and_no_other(config):
    said = aside.set_aside(config, "000000010000000000000002")
    assert names(config) == ["1", "3", "4"] and os.path.exists(said["place"])
    assert said["lost"] == {"from": rules.utc(1000), "to": rules.utc(4010), "lsn_from": "0/2000000", "lsn_to": "0/4000100"}
    assert common.remembered(config, "aside.json", {}) == {"15-1": ["000000010000000000000002"]}
    for segment in ("000000010000000000000002", "000000010000000000000003", "nonsense"):
        with pytest.raises(rules.BackupError, match="is no segment that the last verification found damaged"):
            aside.set_aside(config, segment)
    assert names(config) == ["1", "3", "4"]


def test_it_stays_until_a_later_full_set_is_there(config):
    for sets in ([config["sets"][0]], [config["sets"][0], a_set("B", 4, 4, "incr")], [config["sets"][0], a_set("B", 4, 4, damaged=True)]):
        config["sets"][:] = sets
        with pytest.raises(rules.BackupError, match="no full set was made after .*`crm-platform-backup backup full`"):
            aside.set_aside(config, "000000010000000000000002")
    assert names(config) == ["1", "2", "3", "4"]


def test_where_the_repository_is_elsewhere_it_is_done_there(config):
    with pytest.raises(rules.BackupError, match="on keeper; run it there"):
        aside.set_aside({**config, "mode": "client"}, "000000010000000000000002")


def test_a_set_that_needs_it_is_named_and_not_taken_for_whole(config, monkeypatch):
    config["sets"][0] = a_set("A", 1, 2, began=1)
    assert aside.set_aside(config, "000000010000000000000002")["unusable"] == ["A"]
    monkeypatch.setattr(rules, "archive_of", lambda stanza, repository=1: {"id": "15-1"})
    assert common.broken(config, {}, config["sets"]) == ["A"]
    # The segments of another cluster have the same names.
    monkeypatch.setattr(rules, "archive_of", lambda stanza, repository=1: {"id": "17-2"})
    assert common.broken(config, {}, config["sets"]) == []


def test_a_segment_without_its_header_is_named_though_pgbackrest_ends_at_it(config, monkeypatch):
    path = aside.archive(config) / f"15-1/0000000100000000/000000010000000000000003-{SHA}.zst"
    path.write_bytes(b"Zalted__segment")
    ends = types.SimpleNamespace(returncode=95, stdout="", stderr="ERROR: [095]: cipher header invalid")
    monkeypatch.setattr(common, "pgbackrest", lambda *words, **more: ends)
    monkeypatch.setattr(common, "patient_restic", lambda *words, **more: types.SimpleNamespace(returncode=0))
    complaints = save.inspect(config)
    assert "set-aside 000000010000000000000003" in complaints[0] and any("cipher header invalid" in one for one in complaints)
    assert common.remembered(config, "verify.json", {})["segments"] == [str(path.relative_to(aside.archive(config)))]


@pytest.mark.parametrize("proved", [True, False])
def test_a_restore_that_is_proved_and_damage_are_two_results(config, monkeypatch, proved):
    def prove(config, entry):
        if not proved:
            raise rules.BackupError("rows differ")

    complaints = [f"complaint {number}" for number in range(9)]
    monkeypatch.setattr(drill, "prove", prove)
    monkeypatch.setattr(drill, "clean", lambda config: None)
    monkeypatch.setattr(drill, "beside", lambda config: False)
    monkeypatch.setattr(save, "inspect", lambda config: complaints)
    config["drill"] = {"directory": "/nowhere"}
    if not proved:
        with pytest.raises(rules.BackupError, match="rows differ"):
            drill.drill(config)
        assert "verify" not in common.remembered(config, "runs.json", {})
        return
    said = drill.drill(config)
    runs = common.remembered(config, "runs.json", {})
    assert said["ok"] and runs["drill"]["ok"] and [one["ok"] for one in common.remembered(config, "drills.json", [])] == [True]
    assert not runs["verify"]["ok"] and all(one in runs["verify"]["error"] and one in said["damage"] for one in complaints)
    json.dumps(said)


def test_programs_errors_are_all_told():
    text = "".join(f"2026 P00 ERROR: [0{number}]: wrong {number}\n" for number in range(1, 6))
    assert common.last_words(text) == "5: [01]: wrong 1; [02]: wrong 2; [03]: wrong 3; [04]: wrong 4; [05]: wrong 5"
    assert common.last_words("ERROR: one\n<Message>no bucket</Message>") == "one no bucket"
