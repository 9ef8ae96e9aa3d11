# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command crm-platform-backup, with pgBackRest, restic, PostgreSQL and systemd replaced by what they would say."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils import backup as rules
from conftest import ROOT

PARTS = ("common", "look", "save", "records", "attachments", "follow", "aside", "bring_back", "drill", "__main__")
NOW = 1_800_000_000


@pytest.fixture(scope="module")
def parts():
    """The program's files, as they find one another on a host: `rules` is the module_utils file."""
    place = str(ROOT / "roles" / "backup" / "files" / "command")
    before = {name: sys.modules.pop(name, None) for name in ("rules", *PARTS)}
    sys.path.insert(0, place)
    sys.modules["rules"] = rules
    try:
        found = types.SimpleNamespace(**{name: importlib.import_module(name) for name in PARTS if name != "__main__"})
        spec = importlib.util.spec_from_file_location("backup_main", f"{place}/__main__.py")
        found.main = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found.main)
        yield found
    finally:
        sys.path.remove(place)
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module:
                sys.modules[name] = module


@pytest.fixture
def config(tmp_path):
    policy = {"database": True, "sets": True, "files": True, "key": True, "archive_command": "save", "archive_max_seconds": 300, "verify": False}
    for name in ("state", "data"):
        (tmp_path / name).mkdir()
    return {
        "name": "db",
        "mode": "own",
        "clients": [],
        "second": {},
        "stanza": "crm",
        "repository": str(tmp_path / "repository"),
        "state": str(tmp_path / "state"),
        "key": str(tmp_path / "key"),
        "peer": {"host": "keeper"},
        "files_keep": {"daily": 3},
        "policy": policy,
        "cluster": {"data": str(tmp_path / "data"), "unit": "postgresql@15-main.service", "bin": "/bin"},
        "drill": {"directory": str(tmp_path / "crm-platform-drill")},
    }


@pytest.fixture
def umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path):
    return path.stat().st_mode & 0o7777


def a_set(label="20270115-080000F", kind="full", ended=NOW - 3600, timeline=1, last=0x2000100, damaged=False):
    return rules.Set(label, kind, ended - 10, ended, timeline, last - 100, last, 1000, 100, damaged)


# --- directories ---


def test_others_get_through_to_what_a_command_with_a_narrow_umask_makes(parts, tmp_path, umask, monkeypatch):
    monkeypatch.setattr(parts.save.shutil, "chown", lambda *words: None)
    parts.save.make_directory(str(tmp_path / "data" / "backup" / "crm"), "root", "root", 0o711)
    assert [mode(tmp_path / one) for one in ("data", "data/backup", "data/backup/crm")] == [0o755, 0o755, 0o711]


@pytest.mark.parametrize("there", [False, True])
def test_node_exporter_can_read_the_metrics(parts, tmp_path, umask, monkeypatch, there):
    monkeypatch.setattr(parts.look, "EXPORTED", str(tmp_path / "prometheus"))
    place = tmp_path / "prometheus" / "node-exporter"
    if there:
        # As an earlier release has left it.
        place.mkdir(parents=True)
        place.parent.chmod(0o700)
    above = mode(tmp_path)
    parts.look.have_metrics_directory(str(place))
    assert mode(place) == mode(place.parent) == 0o755 and mode(tmp_path) == above
    # Another place may be closed on purpose.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    parts.look.have_metrics_directory(str(elsewhere))
    assert mode(elsewhere) == 0o700


# --- the setup of what is there already ---


@pytest.fixture
def set_up(parts, config, monkeypatch):
    """set_up(missing steps, sets, gap): the steps of the setup, and the kinds of the backups that it took."""
    taken = []

    def run(steps, sets, gap=None, check=False):
        taken.clear()
        monkeypatch.setattr(parts.save, "missing", lambda config: list(steps))
        monkeypatch.setattr(parts.save, "make_directory", lambda *words: None)
        monkeypatch.setattr(parts.save, "directories", lambda config: {config["state"]: ("root", "root", 0o700)})
        monkeypatch.setattr(parts.save, "owned", lambda *words: True)
        monkeypatch.setattr(parts.save, "wait_for_archive", lambda config: None)
        monkeypatch.setattr(parts.save, "backup", lambda config, kind: taken.append(kind))
        monkeypatch.setattr(parts.save, "OVERTAKEN", 0)
        monkeypatch.setattr(parts.common, "run", lambda *words, **more: None)
        monkeypatch.setattr(parts.common, "stanza", lambda config, repository=1: {})
        monkeypatch.setattr(parts.look, "write", lambda config: {})
        monkeypatch.setattr(parts.look, "gap", lambda config, stanza: gap)
        monkeypatch.setattr(rules, "sets_of", lambda stanza, repository=1: sets)
        return parts.save.setup(config, check)["steps"], list(taken)

    return run


def remember(config, **known):
    with open(os.path.join(config["state"], "since.json"), "w", encoding="utf-8") as file:
        json.dump({"time": NOW - 9 * 3600, "place": config["repository"], **known}, file)


def recall(config):
    with open(os.path.join(config["state"], "since.json"), encoding="utf-8") as file:
        return json.load(file)


def test_where_archiving_begins_again_a_backup_is_taken(set_up, config):
    remember(config)
    steps, taken = set_up(["archive_command"], [a_set()])
    assert steps == ["archive_command", "backup after a gap in the log"] and taken == ["incr"]
    # The window begins after the gap, and a run that was killed before its backup takes it the next time.
    resumed = recall(config)["resumed"]
    assert resumed >= time.time() - 60
    assert set_up([], [a_set(ended=resumed - 100)])[1] == ["incr"]
    assert set_up([], [a_set(ended=resumed - 100), a_set(ended=resumed + 1)]) == ([], [])


def test_a_check_says_so_and_does_nothing(set_up, config):
    remember(config)
    assert set_up(["archive_command"], [a_set()], check=True) == (["archive_command", "backup after a gap in the log"], [])
    assert "resumed" not in recall(config)


def test_where_the_repository_was_another_one_meanwhile_a_backup_is_taken(set_up, config):
    remember(config, place="/var/backups/crm-platform on keeper")
    assert set_up([], [a_set()]) == (["backup after a gap in the log"], ["incr"])
    assert recall(config)["place"] == config["repository"] and recall(config)["resumed"] > NOW - 10**9
    assert set_up([], [a_set(ended=int(time.time()) + 1)]) == ([], [])


def test_the_first_backup_is_no_other_one(set_up, config):
    assert set_up(["archive_command", "first backup"], [])[1] == ["full"]
    assert "resumed" not in recall(config)


def test_a_gap_that_is_seen_in_the_log_is_closed(set_up, config):
    config["policy"]["database"] = False
    config["mode"] = "host"
    remember(config)
    gap = rules.Gap(1, "a", "b", 0x3000000, NOW - 1000)
    assert set_up([], [a_set(last=0x2000100)], gap)[1] == ["incr"]
    assert set_up([], [a_set(last=0x2000100), a_set(last=0x4000100)], gap) == ([], [])


def test_the_log_in_the_repository_is_looked_through(parts, config):
    place = os.path.join(config["repository"], "database", "archive", "crm", "15-1")
    stanza = {
        "db": [{"id": 1, "repo-key": 1, "system-id": 7}],
        "archive": [{"id": "15-1", "database": {"id": 1, "repo-key": 1}, "min": "x", "max": "y"}],
    }

    def come(*names, end="-" + "a" * 40 + ".zst"):
        for name in names:
            os.makedirs(os.path.join(place, name[:16]), exist_ok=True)
            with open(os.path.join(place, name[:16], name + end), "w", encoding="ascii"):
                pass

    come("0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000")
    come("000000010000000100000005", end=".partial-" + "a" * 40 + ".zst")
    come("000000010000000100000005", end="-" + "a" * 40 + ".zst.pgbackrest.tmp")
    # Another timeline begins where it left the one before.
    come("000000020000000100000007", "000000020000000100000008")
    assert parts.look.gap(config, stanza) is None
    come("000000010000000100000003")
    found = parts.look.gap(config, stanza)
    assert (found.first, found.last, found.resumed) == ("000000010000000100000001", "000000010000000100000002", 0x103000000)
    assert parts.look.gap({**config, "mode": "client"}, stanza) is None


# --- sets and files ---


def test_a_damaged_set_drives_out_no_good_one(parts, config, monkeypatch):
    called = []
    monkeypatch.setattr(parts.common, "patient_pgbackrest", lambda config, *words, **more: called.append(words))
    monkeypatch.setattr(parts.common, "stanza", lambda config, repository=1: {})
    monkeypatch.setattr(rules, "sets_of", lambda stanza, repository=1: [a_set(damaged=True)])
    with pytest.raises(rules.BackupError, match="pages of the database are damaged"):
        parts.save.save_sets(config, "full", 1)
    assert [words[0] for words in called] == ["backup"] and "--no-expire-auto" in called[0]
    called.clear()
    monkeypatch.setattr(rules, "sets_of", lambda stanza, repository=1: [a_set()])
    parts.save.save_sets(config, "full", 1)
    assert [words[0] for words in called] == ["backup", "expire"]


def test_files_of_earlier_paths_grow_too_old_as_well_and_other_hosts_are_left_alone(parts, config):
    words = parts.save.forget_words(config, "incr")
    assert words[words.index("--group-by") + 1] == "host"


# --- the drill ---


def test_a_foreign_process_is_not_stopped(parts, config, monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(parts.common, "as_postgres", lambda *words, **more: called.append(words))
    scratch = tmp_path / "crm-platform-drill"
    scratch.mkdir()
    # After a power loss the number is another process's.
    (scratch / "postmaster.pid").write_text(f"{os.getpid()}\n{scratch}\n")
    parts.drill.stop(config, str(scratch), "immediate")
    assert called == []
    words = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", "-D", str(scratch)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            (scratch / "postmaster.pid").write_text(f"{process.pid}\n{scratch}\n")
            parts.drill.stop(config, str(scratch), "immediate")
        finally:
            process.kill()
    assert len(called) == 1 and str(scratch) in called[0]


def test_rows_that_came_and_went_between_the_counts_are_no_difference(parts):
    differences = parts.drill.differences
    before, after, restored = {"t": 5, "still": 3}, {"t": 5, "still": 3}, {"t": 7, "still": 3}
    assert differences(before, after, restored) == ["t has 7 rows instead of 5"]
    earlier = {"t": (100, 10), "still": (3, 0)}
    assert differences(before, after, restored, earlier, {"t": (102, 12), "still": (3, 0)}) == []
    assert differences(before, after, {"t": 3, "still": 3}, earlier, {"t": (102, 12), "still": (3, 0)}) == []
    # One that did not change that much has to be as it was.
    assert differences(before, after, {"t": 8, "still": 2}, earlier, {"t": (102, 12), "still": (3, 0)}) == [
        "still has 2 rows instead of 3",
        "t has 8 rows instead of 5",
    ]


@pytest.fixture
def room(parts, monkeypatch):
    """The free room, which a test changes."""
    found = types.SimpleNamespace(free=0)
    monkeypatch.setattr(parts.drill.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=found.free))
    monkeypatch.setattr(parts.common, "psql", lambda *words, **more: str(2 * 1024**3))
    monkeypatch.setattr(parts.drill, "WATCH", 0.05)
    return found


def test_a_drill_beside_the_live_data_leaves_it_room(parts, config, room, monkeypatch):
    monkeypatch.setattr(parts.common, "stanza", lambda config: {})
    monkeypatch.setattr(parts.bring_back, "timeline_of", lambda *words: (1, {}))
    monkeypatch.setattr(rules, "sets_of", lambda stanza, repository=1: [a_set()])
    monkeypatch.setattr(parts.drill, "point", lambda config: pytest.fail("it began"))
    room.free = 2 * 1024**3
    with pytest.raises(rules.BackupError, match="make room, or set backup_drill_directory"):
        parts.drill.prove(config, {})
    monkeypatch.setattr(parts.drill, "beside", lambda config: False)
    with pytest.raises(pytest.fail.Exception, match="it began"):
        parts.drill.prove(config, {})


def test_a_drill_ends_before_it_takes_the_last_room(parts, config, room):
    before = signal.getsignal(signal.SIGALRM)
    room.free = 10 * 1024**3
    with parts.drill.reserved(config):
        time.sleep(0.15)
    room.free = 5 * 1024**2
    began = time.monotonic()
    with pytest.raises(rules.BackupError, match="only 5 MiB left"), parts.drill.reserved(config):
        parts.common.run("sleep", "30")
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGALRM) == before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_whose_sets_are_another_host_s_is_told_to_have_one_taken(parts, config, capsys):
    parts.main.say_next(config)
    assert capsys.readouterr().err == ""
    parts.main.say_next({**config, "mode": "client"})
    assert "on keeper" in (said := capsys.readouterr().err) and "crm-platform-backup backup incr" in said


@pytest.mark.parametrize(("mode_", "known", "checks"), [("own", True, 1), ("client", True, 1), ("client", False, 0)])
def test_the_log_that_flows_again_is_waited_for_where_the_repository_is_made(parts, config, monkeypatch, mode_, known, checks):
    """A repository's host sees a gap by the segment that came after it."""
    called = []

    def stanza(config):
        if not known:
            raise rules.BackupError("the repository knows no crm")

    monkeypatch.setattr(parts.common, "stanza", stanza)
    monkeypatch.setattr(parts.common, "pgbackrest", lambda config, *words, **more: called.append(words[0]))
    monkeypatch.setattr(parts.look, "archiver", lambda config: {"command": "save", "mode": True})
    parts.save.wait_for_archive({**config, "mode": mode_})
    assert called == ["check"] * checks


def test_a_second_restore_is_refused_before_anything_is_planned(parts, config, monkeypatch):
    state = types.SimpleNamespace(stdout="active\n")
    monkeypatch.setattr(parts.common, "run", lambda *words, **options: state)
    parts.common.remember(config, "restoring.json", {"began": 1796072400})
    with pytest.raises(rules.BackupError, match="a restore is under way since 2026-11-30T21:00:00Z: wait for its end, which `journalctl"):
        parts.bring_back.refuse_second(config)
    state.stdout = "inactive\n"
    parts.bring_back.refuse_second(config)


def test_the_way_to_the_attachments_is_open_whatever_the_umask(parts, tmp_path):
    before = os.umask(0o077)
    try:
        parts.common.make_way(str(tmp_path / "lib" / "crm-platform"))
    finally:
        os.umask(before)
    assert (tmp_path / "lib").stat().st_mode & 0o777 == 0o755
