# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What brings the database back: to its newest state, to a set, or to a moment; and what takes that back."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import time

import common
import look
import rules
import save

CUT_OFF = (
    "a restore that wrote over the data directory was cut off, and there is no older one to put back:"
    " restore again with backup_restore_in_place=true and backup_restore_safety_backup=false"
)
COMMAND = "/usr/local/sbin/crm-platform-backup"
UNIT = "crm-platform-restore.service"
CRM_UNITS = ("crm-platform.service", "crm-platform-worker.service", "crm-platform-cron.service")
# Beside the set itself: the log that is replayed, and some room for PostgreSQL to work.
ROOM = 256 * 1024**2
# Of it, kept for the old data to come up with where the disk is full to the last block: its lock file, and one segment of its log.
RESERVE = 32 * 1024**2


def old(config: dict) -> str:
    """Where the data directory lies that a restore has replaced."""
    return config["cluster"]["data"] + ".before-restore"


def reserve(config: dict) -> pathlib.Path:
    """The file that holds room beside the data while a restore is on its way."""
    return pathlib.Path(config["cluster"]["data"] + ".reserve")


def timeline_of(config: dict, sets: list, new_cluster: bool) -> tuple[int, dict]:
    """(the timeline to follow, its history): the live one's, or of the newest set where there is no live one."""
    if new_cluster:
        # A restore and its undoing both end with a backup: the newest set is where the platform was.
        last = rules.newest(sets)
        return (last.timeline if last else 1), {}
    number = int(common.controldata(config)["Latest checkpoint's TimeLineID"])
    path = pathlib.Path(config["cluster"]["data"], "pg_wal", f"{number:08X}.history")
    return number, rules.read_history(path.read_text(encoding="utf-8")) if path.exists() else {}


def target_of(chosen: argparse.Namespace) -> tuple[float | None, int | None]:
    """(moment, position) that is asked for; BackupError where that makes no sense."""
    if sum(bool(one) for one in (chosen.time, chosen.lsn, chosen.name)) > 1:
        raise rules.BackupError("give one target: a time, a position in the log or a named point")
    moment = rules.read_time(chosen.time) if chosen.time else None
    if moment is not None and moment > time.time():
        raise rules.BackupError(
            f"the target time {rules.utc(moment)} is in the future (now {rules.utc(time.time())}); leave it out for the newest state"
        )
    if chosen.name and not rules.TARGET_NAME.fullmatch(chosen.name):
        raise rules.BackupError(f"{chosen.name!r} is no name of a restore point: at most 63 plain characters")
    return moment, rules.read_lsn(chosen.lsn) if chosen.lsn else None


def timeline_option(one, timeline: int) -> str:
    """The set's own by that word: of a cluster that was restored before, a new repository has not the history to find the number by."""
    return f"--target-timeline={'current' if one.timeline == timeline else timeline}"


def options_of(chosen: argparse.Namespace, one, timeline: int, moment: float | None) -> list[str]:
    """pgBackRest's options for the target."""
    if chosen.label and not (moment is not None or chosen.lsn or chosen.name):
        # Its own timeline, whether or not that is followed any more; pgBackRest takes none for this type.
        return [f"--set={one.label}", "--type=immediate", "--target-action=promote", "--recovery-option=recovery_target_timeline=current"]
    options = [f"--set={one.label}", timeline_option(one, timeline)]
    if moment is not None:
        return [*options, "--type=time", f"--target={rules.show_time(moment)}", "--target-action=promote"]
    if chosen.lsn:
        return [*options, "--type=lsn", f"--target={chosen.lsn}", "--target-action=promote"]
    if chosen.name:
        return [*options, "--type=name", f"--target={chosen.name}", "--target-action=promote"]
    return [*options, "--type=default"]


def plan(config: dict, chosen: argparse.Namespace) -> dict:
    """What a restore would do; BackupError, with nothing changed, where it cannot or should not."""
    # Of one that was cut off while it wrote over the data, what the data cannot tell any more.
    cut_off = common.remembered(config, "restoring.json", {})
    cut_off = cut_off if cut_off.get("in_place") else {}
    if cut_off and not chosen.in_place:
        raise rules.BackupError(CUT_OFF)
    if not config["policy"]["database"]:
        raise rules.BackupError("there is no database on this host; run it on the database's host")
    if os.path.isdir(old(config)):
        raise rules.BackupError(
            f"{old(config)} still holds what an earlier restore replaced:"
            " take it back with `crm-platform-backup undo` or remove it with `crm-platform-backup forget`"
        )
    moment, position = target_of(chosen)
    if chosen.repository == 2 and not config["second"]:
        raise rules.BackupError("there is no second repository to restore from; backup_s3_endpoint names one")
    if chosen.repository == 2:
        save.heed_second(config)
    stanza = common.stanza(config, chosen.repository)
    if not chosen.new_cluster:
        save.check_system(config, stanza, chosen.repository, cut_off.get("system", ""))
    sets = rules.sets_of(stanza, chosen.repository)
    if chosen.timeline:
        timeline, history = chosen.timeline, {}
    elif cut_off:
        timeline, history = cut_off["timeline"], {int(number): left for number, left in cut_off["history"].items()}
    else:
        timeline, history = timeline_of(config, sets, chosen.new_cluster)
    live_timeline, live_history = timeline, history
    one = rules.choose(sets, timeline, history, chosen.label, moment, position, chosen.name)
    if (
        chosen.label
        and not (chosen.timeline or rules.leads_to(one, timeline, history))
        or (chosen.label and not (chosen.time or chosen.lsn or chosen.name))
    ):
        timeline = one.timeline
    free = shutil.disk_usage(os.path.dirname(config["cluster"]["data"])).free
    if not chosen.in_place and free < one.size + ROOM:
        raise rules.BackupError(
            f"{os.path.dirname(config['cluster']['data'])} has {free // 1024**2} MiB free,"
            f" and the restore beside the old data needs {(one.size + ROOM) // 1024**2} MiB:"
            " make room, or give backup_restore_in_place=true to write over the old data"
        )
    live = look.archiver(config) is not None
    if not live and not (chosen.no_safety_backup or chosen.new_cluster):
        raise rules.BackupError(
            "PostgreSQL does not answer, so what is there cannot be saved first: start it, or give backup_restore_safety_backup=false"
        )
    known = {"system": str(rules.system_of(stanza, chosen.repository)), "timeline": live_timeline, "history": live_history}
    return {"set": one.shown(), "timeline": timeline, "options": options_of(chosen, one, timeline, moment), "live": live, "known": known}


def restore(config: dict, chosen: argparse.Namespace) -> dict:
    """Bring the database back; whatever fails on the way, what was there before is live again."""
    if chosen.confirm != config["database"] and not (chosen.check and not chosen.confirm):
        raise rules.BackupError(
            f"a restore replaces the database {config['database']}: give its name as backup_restore_confirm to show that it is meant"
        )
    if chosen.new_cluster and not take_over(config, chosen.repository):
        return {"plan": None}
    if chosen.check:
        return {"plan": plan(config, chosen)}
    began = time.monotonic()
    try:
        with common.alone(config, "restore", resumes=("undo", "recover")):
            mark = common.remembered(config, "restoring.json", {})
            if mark and not mark.get("in_place"):
                put_back(config)
            # What is refused here was no run.
            steps = plan(config, chosen)
            with common.recorded(config, "restore") as entry:
                if steps["live"] and not chosen.no_safety_backup and not chosen.new_cluster:
                    keep_what_is_there(config, chosen.repository)
                replace(config, chosen, steps)
                kept = old(config) if os.path.isdir(old(config)) else None
                entry["result"] = {
                    "set": steps["set"]["label"],
                    "recovered": recovered(config),
                    "kept": kept,
                    "undo": "crm-platform-backup undo" if kept else None,
                    "forget": "crm-platform-backup forget" if kept else None,
                    "seconds": round(time.monotonic() - began, 1),
                }
        # On its new timeline nothing was saved yet.
        save_again(config, chosen.repository)
    finally:
        look.write(config)
    return entry["result"]


def save_again(config: dict, repository: int) -> None:
    """A backup of what was restored. Who restores from the second repository may have no first one; the state tells that."""
    try:
        save.backup(config, "incr")
    except rules.BackupError:
        if repository == 1:
            raise


def keep_what_is_there(config: dict, repository: int = 1) -> None:
    """A backup of the live database; where a host of its own keeps the repository, the log up to now is in it, and its next backup follows."""
    # A commit after the target, or recovery would not know that it has reached it.
    common.psql(config, "SELECT pg_current_xact_id(); SELECT pg_switch_wal()")
    common.say("backup of what is there")
    if common.kept_elsewhere(config):
        common.pgbackrest(config, "check", f"--archive-timeout={common.ARCHIVED}", repository=1)
    else:
        common.pgbackrest(config, "backup", "--type=incr", f"--archive-timeout={common.ARCHIVED}", repository=repository)


def as_unit(words: list[str], detach: bool) -> int:
    """Have systemd run the restore: a lost connection does not end it, and when it is killed what was there before comes back."""
    options = ["--detach"] if detach else []
    unit = ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", *([] if detach else ["--wait", "--pipe"])]
    unit += ["-p", "SyslogIdentifier=crm-platform-backup", "-p", "TimeoutStopSec=infinity", "-p", f"ExecStopPost={COMMAND} recover --quiet"]
    done = subprocess.run([*unit, COMMAND, *(word for word in words if word not in options), "--here"], check=False)
    if detach and done.returncode == 0:
        print(json.dumps({"unit": UNIT}))
    return done.returncode


def recover(config: dict) -> dict:
    """Where a restore was killed half-way, the old data is live again. It stays a failed run, which is told."""
    mark = common.remembered(config, "restoring.json", None)
    # What was written over cannot be put back; that is told, too.
    if not mark or mark.get("in_place") or common.locked(config):
        return {"changed": False}
    try:
        # It does not count as a run of its own: the mark of the killed one stays.
        with common.alone(config, "recover"):
            common.say("the restore was killed: putting the old data back")
            put_back(config)
    finally:
        look.write(config)
    return {"changed": True}


def take_over(config: dict, repository: int) -> bool:
    """Make a repository that came from elsewhere this host's own; False where its database is live here already."""
    save.make_directory(config["state"], *save.directories(config)[config["state"]])
    if not common.kept_elsewhere(config):
        save.hand_key_on(config)
        save.heed_second(config)
        if repository == 1:
            # Numbers of users differ from host to host.
            common.run("chown", "--recursive", "postgres:postgres", os.path.join(config["repository"], "database"))
    stanza = common.stanza(config, repository)
    if common.remembered(config, "restoring.json", None):
        return True
    if str(rules.system_of(stanza, repository)) == common.controldata(config)["Database system identifier"]:
        return False
    tables = common.psql(config, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
    if tables != "0":
        raise rules.BackupError(
            f"the database {config['database']} here is another than the repository's and holds {tables} tables: rebuild on a bare server"
        )
    return True


def replace(config: dict, chosen: argparse.Namespace, steps: dict) -> None:
    """Stop, put the old data aside, restore, replay, start; or put the old data back."""
    data, unit = config["cluster"]["data"], config["cluster"]["unit"]
    running = [name for name in CRM_UNITS if common.run("systemctl", "is-active", name, check=False).stdout.strip() == "active"]
    # Of a restore that was cut off the CRM is still stopped.
    running = running or common.remembered(config, "restoring.json", {}).get("units", [])
    common.remember(
        config,
        "restoring.json",
        {"began": int(time.time()), "in_place": chosen.in_place, "units": running, "new": chosen.new_cluster, **steps["known"]},
    )
    try:
        if running:
            common.run("systemctl", "stop", *running)
        common.run("systemctl", "stop", unit)
        if not chosen.in_place:
            with reserve(config).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
            os.rename(data, old(config))
            make_data(data)
        common.say(f"restoring {steps['set']['label']}")
        source = common.from_repository(config, chosen.repository)
        common.pgbackrest(config, "restore", *steps["options"], *source, *(["--delta"] if chosen.in_place else []), repository=chosen.repository)
        common.say("replaying the log")
        start(config)
        if chosen.files:
            save_attachments(config, chosen.repository)
    except BaseException as exc:
        if chosen.in_place:
            raise rules.BackupError(f"{exc}; the data directory is incomplete, PostgreSQL is stopped: restore again, newest set or another") from exc
        put_back(config)
        raise
    reserve(config).unlink(missing_ok=True)
    if chosen.new_cluster:
        shutil.rmtree(old(config), ignore_errors=True)
    if running:
        common.run("systemctl", "start", *running)
    pathlib.Path(common.state_path(config, "restoring.json")).unlink()


def save_attachments(config: dict, repository: int) -> None:
    """Attachments are never overwritten by the CRM, so the newest snapshot has those of every earlier moment."""
    # A client has no way to the second one.
    restic = common.restic_second if repository == 2 and common.writes_second(config) else common.restic
    restic(config, "--no-lock", "restore", "latest", "--host", config["name"], "--target", "/", "--include", config["attachments"])


def make_data(path: str) -> None:
    os.mkdir(path, 0o700)
    shutil.chown(path, "postgres", "postgres")


def start(config: dict) -> None:
    """Start PostgreSQL and wait until it has replayed the log and takes writes."""
    log = pathlib.Path(config["cluster"]["log"])
    behind = log.stat().st_size if log.exists() else 0
    common.run("systemctl", "start", config["cluster"]["unit"], check=False)
    while True:
        answer = common.psql(config, "SELECT pg_is_in_recovery()", database="postgres", check=False)
        if answer == "f":
            return
        shown = common.run("systemctl", "show", "--property", "ActiveState,NRestarts", config["cluster"]["unit"], check=False).stdout.split()
        # systemd tries again and again what cannot come up.
        if "NRestarts=0" not in shown or not {"ActiveState=active", "ActiveState=activating"} & set(shown):
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(behind)
                words = [line.split("FATAL: ", 1)[1].strip() for line in file if "FATAL: " in line and "starting up" not in line]
            raise rules.BackupError(f"PostgreSQL did not come up with the restored data: {words[-1] if words else 'see ' + str(log)}")
        time.sleep(0.3)


def recovered(config: dict) -> dict:
    """The point that was reached."""
    answer = common.psql(
        config,
        "SELECT coalesce(pg_last_xact_replay_timestamp()::timestamptz(0)::text, ''), pg_current_wal_lsn(), (pg_control_checkpoint()).timeline_id",
    )
    moment, position, timeline = answer.split("|")
    return {"last_transaction": moment or None, "lsn": position, "timeline": int(timeline)}


def put_back(config: dict) -> None:
    """The old data directory is live again, and so is the CRM; what the restore made is removed."""
    mark = common.remembered(config, "restoring.json", {})
    data, unit = config["cluster"]["data"], config["cluster"]["unit"]
    reserve(config).unlink(missing_ok=True)
    if os.path.isdir(old(config)):
        common.run("systemctl", "stop", unit, check=False)
        failed = data + ".failed"
        shutil.rmtree(failed, ignore_errors=True)
        if os.path.isdir(data):
            os.rename(data, failed)
        os.rename(old(config), data)
        shutil.rmtree(failed, ignore_errors=True)
    elif mark.get("in_place"):
        raise rules.BackupError(CUT_OFF)
    start(config)
    if mark.get("units"):
        common.run("systemctl", "start", *mark["units"])
    pathlib.Path(common.state_path(config, "restoring.json")).unlink(missing_ok=True)


def undo(config: dict) -> dict:
    """What was live before the restore is live again; what happened since is lost, but for a backup of it."""
    mark = common.remembered(config, "restoring.json", None)
    if not os.path.isdir(old(config)) and not mark:
        raise rules.BackupError("there is nothing to put back: no restore was made, or its old data was removed")
    try:
        with common.alone(config, "undo", resumes=("restore", "recover")), common.recorded(config, "undo"):
            if not mark:
                try:
                    keep_what_is_there(config)
                except rules.BackupError as exc:
                    # What is there may be why this is undone.
                    common.say(f"it could not be saved: {exc}")
                running = [name for name in CRM_UNITS if common.run("systemctl", "is-active", name, check=False).stdout.strip() == "active"]
                common.remember(config, "restoring.json", {"began": int(time.time()), "in_place": False, "units": running})
                if running:
                    common.run("systemctl", "stop", *running)
            put_back(config)
        save.backup(config, "incr")
    finally:
        look.write(config)
    return {"live": config["cluster"]["data"]}


def forget(config: dict) -> dict:
    """Remove the old data directory."""
    with common.alone(config, "forget"):
        save.unfinished(config)
        found = os.path.isdir(old(config))
        shutil.rmtree(old(config), ignore_errors=not found)
    look.write(config)
    return {"removed": old(config) if found else None}
