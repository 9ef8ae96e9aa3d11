# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores, and what takes them back: killed at each step, over data that does not start, on a full disk. systemd and PostgreSQL are stubs."""

from __future__ import annotations

import argparse
import errno
import json
import os
import pathlib
import shutil
import sys
import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils import backup as rules
from conftest import ROOT

# As on a host, where the role puts it beside the others by that name.
sys.modules.setdefault("rules", rules)
sys.path.insert(0, str(ROOT / "roles/backup/files/command"))

import bring_back  # pylint: disable=wrong-import-position
import common  # pylint: disable=wrong-import-position
import tablespaces  # pylint: disable=wrong-import-position

UNIT = "postgresql@15-main.service"
CRM = list(bring_back.CRM_UNITS)
CHOSEN = {"confirm": "crm", "label": "", "time": "", "lsn": "", "name": "", "repository": 1, "timeline": 0, "no_safety_backup": True}
CHOSEN.update(in_place=False, files=False, new_cluster=False, check=False)


def chosen(**other):
    return argparse.Namespace(**{**CHOSEN, **other})


class Killed(BaseException):
    """By SIGKILL: nothing that is to be done at the end of a block is done."""


class World:
    """A host of files alone: what the data directory holds says whether PostgreSQL comes up with it."""

    def __init__(self, directory, monkeypatch, spread=False):
        self.directory, self.patch, self.spread = directory, monkeypatch, spread
        self.active, self.restored, self.calls, self.ticks, self.end = {UNIT, *CRM}, "new", [], 0, None
        self.config = {
            "mode": "own",
            "database": "crm",
            "state": str(directory / "state"),
            "attachments": str(directory / "attachments"),
            "second": {},
            "crm": "",
            "stanza": "crm",
            "policy": {"database": True},
            "cluster": {
                "data": str(directory / "main"),
                "unit": UNIT,
                "log": str(directory / "log"),
                "version": "15",
                "bin": "/nowhere",
                "socket": "/nowhere",
                "port": 5432,
            },
        }
        (directory / "state").mkdir()
        self.fill("main", "old")
        self.deadly(monkeypatch, os, "rename")
        self.deadly(monkeypatch, os, "replace")
        self.deadly(monkeypatch, pathlib.Path, "unlink")
        self.deadly(monkeypatch, common, "write_whole")
        real = shutil.rmtree

        def rmtree(path, ignore_errors=False):
            found = sorted(pathlib.Path(path).iterdir()) if os.path.isdir(path) else []
            for one in found[:1]:
                self.tick()
                os.remove(one)
            self.tick()
            real(path, ignore_errors=ignore_errors)

        monkeypatch.setattr(shutil, "rmtree", rmtree)
        for module, name, value in (
            (bring_back, "ALLOWED", str(directory / "allowed")),
            (bring_back, "RESERVE", 4096),
            (bring_back, "make_data", os.mkdir),
            (bring_back, "plan", lambda config, chosen: self.plan()),
            (bring_back, "recovered", lambda config: {"lsn": "0/1"}),
            (bring_back.save, "backup", lambda config, kind: {}),
            (bring_back.look, "write", lambda config: {}),
            (bring_back.look, "archiver", lambda config: {} if self.up() else None),
            (common, "run", self.run),
            (common, "psql", lambda config, query, **more: "done" if self.up() else ""),
            (common, "pgbackrest", self.pgbackrest),
        ):
            monkeypatch.setattr(module, name, value)

    def fill(self, name, content):
        path = self.directory / name
        path.mkdir(exist_ok=True)
        for part in ("a", "b"):
            (path / part).write_text(content)
        if self.spread and name.startswith("main"):
            (path / "pg_tblspc").mkdir(exist_ok=True)
            if not (path / "pg_tblspc" / "16384").is_symlink():
                (path / "pg_tblspc" / "16384").symlink_to(self.directory / "space")
            self.fill(name.replace("main", "space"), content)

    def holds(self, name="main"):
        """What a data directory holds; 'half' where some of it is gone, '' where it is not there."""
        path = self.directory / name
        files = [one.read_text() for one in path.iterdir() if one.is_file()] if path.is_dir() else ["", ""]
        if self.spread and name.startswith("main") and path.is_dir():
            files.append(self.holds(name.replace("main", "space")))
        return files[0] if len(files) >= 2 and len(set(files)) == 1 else "half"

    def names(self, first="main"):
        return {one.name for one in self.directory.iterdir() if one.name.startswith(first)}

    def up(self):
        return UNIT in self.active

    def tick(self):
        """One step more that changes something; from the last one on there is nobody any more."""
        self.ticks += 1
        if self.end is not None and self.ticks > self.end:
            raise Killed

    def deadly(self, monkeypatch, place, name):
        real = getattr(place, name)

        def call(*words, **more):
            self.tick()
            return real(*words, **more)

        monkeypatch.setattr(place, name, call)

    def plan(self):
        if os.path.isdir(bring_back.old(self.config)):
            raise rules.BackupError("still holds")
        known = {"places": sorted(tablespaces.outside(self.config["cluster"]["data"])), "log": ""}
        return {"set": {"label": "F"}, "options": [], "live": self.up(), "spaces": [], "known": known}

    def pgbackrest(self, config, command, *options, **more):
        self.tick()
        self.calls.append(("pgbackrest", command))
        if command == "restore":
            self.fill("main", self.restored)

    def run(self, *words, check=True, **more):
        verb, units = words[1], [one for one in words[2:] if one.endswith(".service")]
        self.calls.append(words)
        code, said = 0, ""
        if verb == "is-active":
            said = "active" if units[0] in self.active else "inactive"
        elif verb == "show":
            said = f"NRestarts=0 ActiveState={'active' if self.up() else 'failed'}"
        elif verb == "stop":
            self.tick()
            self.active -= set(units)
        elif verb == "start":
            self.tick()
            mark = os.path.exists(common.state_path(self.config, "restoring.json"))
            if UNIT in units and self.holds() in ("old", "new") and (not mark or os.path.exists(bring_back.ALLOWED)):
                self.active.add(UNIT)
            self.active |= {one for one in units if one != UNIT}
        if check and code:
            raise rules.BackupError("failed")
        return types.SimpleNamespace(returncode=code, stdout=said, stderr="")

    def kill(self, action, step):
        """Run something and kill it at that step; whether it came to its end before."""
        self.ticks, self.end = 0, step
        try:
            action()
            return True
        except Killed:
            return False
        finally:
            self.end = None


@pytest.fixture(params=[False, True], ids=["one directory", "a tablespace"])
def world(request, tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch, request.param)


def well(world):
    """All runs, and nothing of a restore is left but what it has replaced."""
    assert world.active == {UNIT, *CRM}
    assert world.names() <= {"main", "main.before-restore"}
    if world.spread:
        assert {one.replace("space", "main") for one in world.names("space")} == world.names()
    left = set(os.listdir(world.config["state"]))
    assert not left & {"restoring.json", "stopped.json"} and not os.path.exists(bring_back.ALLOWED)


def test_a_restore_and_its_undoing(world):
    said = bring_back.restore(world.config, chosen())
    assert said["recovered"] == {"lsn": "0/1"} and said["kept"]
    assert (world.holds(), world.holds("main.before-restore")) == ("new", "old")
    well(world)
    bring_back.undo(world.config)
    assert (world.holds(), world.names()) == ("old", {"main"})
    well(world)


def test_over_data_that_cannot_start_it_can_be_repeated(world):
    world.fill("main", "broken")
    world.active -= {UNIT}
    world.restored = "broken too"
    for dummy in range(2):
        # The reason is that of the restore, and not of what came after it.
        with pytest.raises(rules.BackupError, match="^PostgreSQL did not come up: see .*; and what was there before is back, but not up"):
            bring_back.restore(world.config, chosen())
        assert world.names() == {"main"} and world.holds() == "broken"
        # Nothing keeps backups and drills away, and what looks every ten minutes does not fail for ever, nor starts what somebody may be mending.
        bring_back.save.unfinished(world.config)
        before = len(world.calls)
        bring_back.recover(world.config)
        assert ("systemctl", "start", UNIT) not in world.calls[before:]
    world.restored = "new"
    bring_back.restore(world.config, chosen())
    assert world.holds() == "new"
    # With the CRM, which was at work before the first of them.
    well(world)


def test_a_full_disk_is_named_where_pgbackrest_does_not(world, monkeypatch):
    def cut_short(config, command, *options, **more):
        raise rules.BackupError("pgbackrest failed (64): unable to write 'base/1/13391'")

    monkeypatch.setattr(common, "pgbackrest", cut_short)
    with pytest.raises(rules.BackupError, match="13391'$"):
        bring_back.restore(world.config, chosen())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=0))
    with pytest.raises(rules.BackupError, match=r"13391' \(no space is left on /.*\)$"):
        bring_back.restore(world.config, chosen())
    well(world)


def test_a_killed_one_over_data_that_cannot_start_can_be_repeated_in_place_too(world):
    world.fill("main.before-restore", "broken")
    world.fill("main", "half restored")
    world.active -= {UNIT, *CRM}
    common.remember(world.config, "restoring.json", {"began": 1, "in_place": False, "units": CRM})
    bring_back.restore(world.config, chosen(in_place=True))
    assert world.names() == {"main"} and world.holds() == "new"
    well(world)


def test_an_undo_keeps_what_is_live_where_the_old_data_does_not_start(world):
    bring_back.restore(world.config, chosen())
    world.fill("main.before-restore", "broken")
    with pytest.raises(rules.BackupError, match="what was live is live again"):
        bring_back.undo(world.config)
    assert (world.holds(), world.holds("main.before-restore")) == ("new", "broken")
    well(world)


def steps(action):
    """Until a run comes to its end before it is killed."""
    step = 0
    while not action(step):
        step += 1
    assert step > 5


def fresh(world):
    for name in world.names():
        shutil.rmtree(world.directory / name)
    for name in world.names("space"):
        shutil.rmtree(world.directory / name)
    for name in os.listdir(world.config["state"]):
        os.remove(os.path.join(world.config["state"], name))
    world.fill("main", "old")
    world.active = {UNIT, *CRM}


def reboot(world, cut):
    """The unit's ExecStopPost; or nothing of the kind, and all starts anew by itself."""
    if cut:
        pathlib.Path(bring_back.ALLOWED).unlink(missing_ok=True)
        world.active.clear()
        world.run("systemctl", "start", UNIT, *CRM)
        if os.path.exists(common.state_path(world.config, "restoring.json")):
            assert not world.up()
    bring_back.recover(world.config)


@pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("new_cluster", [False, True], ids=["restore", "rebuild"])
def test_a_restore_that_is_cut_off_anywhere_is_whole_or_not_at_all(world, cut, new_cluster, monkeypatch):
    monkeypatch.setattr(bring_back, "take_over", lambda config, chosen: True)

    def one(step):
        fresh(world)
        ended = world.kill(lambda: bring_back.restore(world.config, chosen(new_cluster=new_cluster)), step)
        reboot(world, cut)
        assert world.holds() in ("old", "new"), step
        assert world.holds("main.before-restore") in ("", "old"), step
        well(world)
        if world.holds("main.before-restore"):
            bring_back.forget(world.config)
        bring_back.restore(world.config, chosen(new_cluster=new_cluster))
        assert world.holds() == "new"
        well(world)
        return ended

    steps(one)


@pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("before", ["old", "broken"])
def test_an_undo_that_is_cut_off_anywhere_loses_nothing(world, cut, before):
    def one(step):
        fresh(world)
        bring_back.restore(world.config, chosen())
        world.fill("main.before-restore", before)
        try:
            ended = world.kill(lambda: bring_back.undo(world.config), step)
        except rules.BackupError:
            ended = True
        try:
            reboot(world, cut)
        except rules.BackupError as exc:
            assert before == "broken" and "live again" in str(exc)
        assert world.holds() in (("old", "new") if before == "old" else ("new",)), step
        assert world.holds("main.before-restore") in ("", before), step
        well(world)
        return ended

    steps(one)


def test_a_forget_that_is_cut_off_leaves_no_half_that_could_be_put_back(world):
    def one(step):
        fresh(world)
        bring_back.restore(world.config, chosen())
        ended = world.kill(lambda: bring_back.forget(world.config), step)
        assert world.holds("main.before-restore") in ("", "old"), step
        bring_back.forget(world.config)
        assert world.names() == {"main"}
        well(world)
        return ended

    steps(one)


def test_what_a_killed_one_left_is_swept_away(world):
    world.fill("main.failed", "junk")
    world.fill("main.forgotten", "junk")
    bring_back.recover(world.config)
    assert world.names() == {"main"}


def test_recover_leaves_a_restore_alone_that_has_ended_meanwhile(world, monkeypatch):
    common.remember(world.config, "restoring.json", {"began": 1, "in_place": False, "units": CRM})
    world.fill("main.before-restore", "old")
    world.fill("main", "new")

    def locked(config):
        # Between the two looks the restore comes to its end.
        pathlib.Path(common.state_path(config, "restoring.json")).unlink()
        return False

    real = bring_back.left_over
    monkeypatch.setattr(bring_back, "left_over", lambda config: [real(config), locked(config)][0])
    bring_back.recover(world.config)
    assert (world.holds(), world.holds("main.before-restore")) == ("new", "old")


def test_attachments_that_cannot_be_had_do_not_throw_the_database_away(world, monkeypatch):
    def fill(config, path="", repository=1):
        raise rules.BackupError("3 could not be had")

    monkeypatch.setattr(bring_back.attachments, "fill", fill)
    with pytest.raises(rules.BackupError, match="is restored, but .*3 could not be had.*`crm-platform-backup files --path .*attachments`"):
        bring_back.restore(world.config, chosen(files=True))
    run = common.remembered(world.config, "runs.json", {})["restore"]
    assert not run["ok"] and run["result"]["kept"]
    assert (world.holds(), world.holds("main.before-restore")) == ("new", "old")
    well(world)


@pytest.fixture
def small(world, monkeypatch):
    """A server whose max_connections is smaller than it was when the log was written."""
    auto = world.directory / "main" / "postgresql.auto.conf"
    state = {"eased": []}

    def postgres(*words, **more):
        return types.SimpleNamespace(stdout="10\n" if words[-1] == "max_connections" else "8\n", stderr="", returncode=0)

    real = world.pgbackrest

    def pgbackrest(config, command, *options, **more):
        real(config, command, *options, **more)
        auto.write_text("restore_command = 'x'\n")
        world.recovery = True

    def psql(config, query, **more):
        if not world.up() or not auto.exists():
            return "done" if world.up() else ""
        eased = bring_back.EASED in auto.read_text()
        if query != "CHECKPOINT":
            state["eased"].append(eased)
        if world.recovery and not eased:
            return "paused"
        world.recovery = False
        return "done"

    monkeypatch.setattr(world, "holds", lambda name="main": "new")
    monkeypatch.setattr(common, "controldata", lambda config, directory="": {"max_connections setting": "100", "max_worker_processes setting": "8"})
    monkeypatch.setattr(common, "as_postgres", postgres)
    monkeypatch.setattr(common, "pgbackrest", pgbackrest)
    monkeypatch.setattr(common, "psql", psql)
    state["auto"] = auto
    return state


def test_settings_that_are_smaller_than_they_were_do_not_keep_a_restore_away(world, small):
    bring_back.restore(world.config, chosen())
    # Tried, replayed without readers, and started as it is to be.
    assert small["eased"] == [False, True, False]
    assert small["auto"].read_text() == "restore_command = 'x'\n"
    well(world)


def test_a_replay_that_is_paused_for_another_reason_fails(world, small, monkeypatch):
    monkeypatch.setattr(common, "controldata", lambda config, directory="": {"max_connections setting": "10"})
    with pytest.raises(rules.BackupError, match="paused the replay"):
        bring_back.restore(world.config, chosen())
    assert world.names() == {"main"}


def test_a_rebuild_with_a_target_does_not_pass_over_a_live_database(world, monkeypatch):
    monkeypatch.setattr(common, "controldata", lambda config, directory="": {"Database system identifier": "8"})
    monkeypatch.setattr(common, "stanza", lambda config, repository=1: {"db": [{"id": 1, "repo-key": 1, "system-id": 8}]})
    monkeypatch.setattr(common, "kept_elsewhere", lambda config: True)
    monkeypatch.setattr(bring_back.save, "make_directory", lambda *words: None)
    monkeypatch.setattr(bring_back.save, "directories", lambda config: {config["state"]: ()})
    assert not bring_back.take_over(world.config, chosen())
    for target in ({"time": "2026-01-31 12:30:00Z"}, {"lsn": "0/1"}, {"name": "x"}, {"label": "F"}):
        with pytest.raises(rules.BackupError, match="crm.platform.restore"):
            bring_back.take_over(world.config, chosen(**target))
        # The same once more, since something after it has failed, goes on.
        common.remember(world.config, "runs.json", {"restore": {"result": {"target": bring_back.target_words(chosen(**target))}}})
        assert not bring_back.take_over(world.config, chosen(**target))


def test_what_makes_room_begins_without_any(world, monkeypatch):
    bring_back.restore(world.config, chosen())
    before = {"kind": "backup", "began": 1}
    common.remember(world.config, "running.json", before)

    def write_whole(path, text, mode=0o600):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(common, "write_whole", write_whole)
    with pytest.raises(OSError):
        with common.alone(world.config, "backup"):
            pass
    assert bring_back.forget(world.config)["removed"]
    assert world.names() == {"main"}
    # The run that was killed before is still told.
    assert json.loads((world.directory / "state" / "running.json").read_text()) == before
