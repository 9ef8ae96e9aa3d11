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

import attachments
import common
import look
import records
import rules
import save
import tablespaces

CUT_OFF = (
    "a restore that wrote over the data directory was cut off, and there is no older one to put back:"
    " restore again with backup_restore_in_place=true and backup_restore_safety_backup=false"
)
COMMAND = "/usr/local/sbin/crm-platform-backup"
# While a restore is on its way, PostgreSQL starts only where this is there, too: not by itself after a power cut, half-way.
ALLOWED = "/run/crm-platform-restore"
# Settings that recovery wants no smaller than they were, and what pg_controldata calls them.
SETTINGS = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
# Appended to the restored postgresql.auto.conf for a replay with settings that are smaller than they were.
EASED = "\n# crm-platform-backup, while the log is replayed\nhot_standby = 'off'\n"
UNIT = "crm-platform-restore.service"
CRM_UNITS = ("crm-platform.service", "crm-platform-worker.service", "crm-platform-cron.service")
# Beside the set itself: the log that is replayed, and some room for PostgreSQL to work.
ROOM = 256 * 1024**2
# Of it, kept for the old data to come up with where the disk is full to the last block: its lock file, and one segment of its log.
RESERVE = 32 * 1024**2
# Less than this is none.
FULL = 1024**2


class Unfinished(rules.BackupError):
    """The database is restored, and live; something beside it is not done."""


class NotUp(rules.BackupError):
    """PostgreSQL, or the CRM, does not come up with the data that is there."""


def old(config: dict) -> str:
    """Where the data directory lies that a restore has replaced."""
    return config["cluster"]["data"] + ".before-restore"


def failed(config: dict) -> str:
    """Where that lies for a while which gave way to the old data: what a restore made, or what was live before an undo."""
    return config["cluster"]["data"] + ".failed"


def forgotten(config: dict) -> str:
    """Where that lies while it is removed which nobody wants any more: half of it is taken for nothing else."""
    return config["cluster"]["data"] + ".forgotten"


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
    broken = common.broken(config, stanza, sets) if chosen.repository == 1 else []
    sets = [one for one in sets if one.label not in broken]
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
    in_set = tablespaces.of_set(config, one.label, chosen.repository)
    # Of one that was cut off, the links may be gone with the rest.
    places = sorted({*tablespaces.outside(config["cluster"]["data"]), *in_set.values(), *cut_off.get("places", [])})
    log = tablespaces.log_of(config["cluster"]["data"]) or cut_off.get("log", "")
    tablespaces.refuse_unmovable(config, places, chosen.in_place)
    if not chosen.in_place:
        tablespaces.refuse_crowded(config, places)
    known = {"system": str(rules.system_of(stanza, chosen.repository)), "timeline": live_timeline, "history": live_history, "places": places, "log": log}
    return {
        "set": one.shown(),
        "timeline": timeline,
        "options": options_of(chosen, one, timeline, moment),
        "live": live,
        "known": known,
        "spaces": sorted(in_set.values()),
    }


def restore(config: dict, chosen: argparse.Namespace) -> dict:
    """Bring the database back; whatever fails on the way, what was there before is live again."""
    if chosen.confirm != config["database"] and not (chosen.check and not chosen.confirm):
        raise rules.BackupError(
            f"a restore replaces the database {config['database']}: give its name as backup_restore_confirm to show that it is meant"
        )
    if chosen.new_cluster and not take_over(config, chosen):
        return {"plan": None}
    if chosen.check:
        return {"plan": plan(config, chosen)}
    began, unfinished = time.monotonic(), None
    try:
        try:
            with common.alone(config, "restore", resumes=("undo", "recover")):
                clear_up(config)
                # What is refused here was no run.
                steps = plan(config, chosen)
                with common.recorded(config, "restore") as entry:
                    if steps["live"] and not chosen.no_safety_backup and not chosen.new_cluster:
                        keep_what_is_there(config, chosen.repository)
                    reached, undone = replace(config, chosen, steps)
                    kept = old(config) if os.path.isdir(old(config)) else None
                    entry["result"] = {
                        "set": steps["set"]["label"],
                        "target": target_words(chosen),
                        "recovered": reached,
                        "kept": kept,
                        "undo": "crm-platform-backup undo" if kept else None,
                        "forget": "crm-platform-backup forget" if kept else None,
                        "seconds": round(time.monotonic() - began, 1),
                    }
                    if undone:
                        entry["lacks"] = sorted({what for what, dummy in undone})
                        raise Unfinished(f"the database is restored, but {'; '.join(how for dummy, how in undone)}")
        except Unfinished as exc:
            unfinished = exc
        # On its new timeline nothing was saved yet.
        save_again(config, chosen.repository)
    finally:
        look.write(config)
    if unfinished:
        raise unfinished
    return entry["result"]


def clear_up(config: dict) -> None:
    """Before a restore: what an earlier one has left. Old data that does not come up is no reason not to restore, but one to do it."""
    mark = common.remembered(config, "restoring.json", {})
    if mark and not mark.get("in_place"):
        try:
            put_back(config)
        except NotUp as exc:
            common.say(str(exc))
    sweep(config)


def target_words(chosen: argparse.Namespace) -> list[str]:
    """What is asked for, to know it again."""
    return [chosen.label, chosen.time, chosen.lsn, chosen.name, str(chosen.timeline or "")]


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


def refuse_second(config: dict) -> None:
    """BackupError where a restore is under way already, before anything is planned or stopped for another."""
    shown = common.run("systemctl", "show", "--property", "ActiveState", "--value", UNIT, check=False).stdout.strip()
    if shown in ("active", "activating", "deactivating"):
        began = common.remembered(config, "restoring.json", {}).get("began")
        since = f" since {rules.utc(began)}" if began else ""
        raise rules.BackupError(f"a restore is under way{since}: wait for its end, which `journalctl -f -t crm-platform-backup` shows")


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
    if common.locked(config) or not left_over(config):
        return {"changed": False}
    try:
        # It does not count as a run of its own: the mark of the killed one stays.
        with common.alone(config, "recover"):
            # Since the look another may have begun, and ended.
            mark = common.remembered(config, "restoring.json", None)
            # What was written over cannot be put back; that is told, too.
            if mark and not mark.get("in_place"):
                common.say("the restore was killed: putting the old data back")
                put_back(config)
            elif not mark:
                go_on(config)
            sweep(config)
    finally:
        look.write(config)
    return {"changed": True}


def left_over(config: dict) -> bool:
    """Whether a run that was killed left something to do."""
    mark = common.remembered(config, "restoring.json", None)
    if mark:
        return not mark.get("in_place")
    return common.remembered(config, "stopped.json", None) is not None or any(os.path.isdir(path) for path in (failed(config), forgotten(config)))


def go_on(config: dict) -> None:
    """Start what a restore had stopped, where it was killed before it could. PostgreSQL is tried once: somebody may be mending it."""
    stopped = common.remembered(config, "stopped.json", None)
    if stopped is None:
        return
    try:
        if look.archiver(config) is None:
            if stopped.get("tried"):
                return
            bring_up(config, stopped.get("units", []))
        else:
            start_crm(config, stopped.get("units", []))
    except NotUp as exc:
        common.say(str(exc))


def sweep(config: dict) -> None:
    """Remove what nobody wants any more and a killed run has left."""
    if not common.remembered(config, "restoring.json", None):
        pathlib.Path(ALLOWED).unlink(missing_ok=True)
        tablespaces.discard(config)
        for path in (failed(config), forgotten(config)):
            shutil.rmtree(path, ignore_errors=True)


def take_over(config: dict, chosen: argparse.Namespace) -> bool:
    """Make a repository that came from elsewhere this host's own; False where its database is live here already."""
    repository = chosen.repository
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
        last = common.remembered(config, "runs.json", {}).get("restore", {}).get("result", {})
        # The same rebuild once more, since something after this failed, has been here already.
        if any(target_words(chosen)) and last.get("target") != target_words(chosen):
            raise rules.BackupError(
                f"the database {config['database']} is live here already, and a rebuild leaves it as it is: bring it to an earlier state with"
                " crm.platform.restore, or leave the target out"
            )
        return False
    tables = common.psql(config, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
    if tables != "0":
        raise rules.BackupError(
            f"the database {config['database']} here is another than the repository's and holds {tables} tables: rebuild on a bare server"
        )
    return True


def replace(config: dict, chosen: argparse.Namespace, steps: dict) -> tuple[dict, list[tuple[str, str]]]:
    """Stop, put the old data aside, restore, replay, start; or put the old data back. (The point reached, [what lacks beside it, and how].)"""
    data, unit = config["cluster"]["data"], config["cluster"]["unit"]
    running = [name for name in CRM_UNITS if common.run("systemctl", "is-active", name, check=False).stdout.strip() == "active"]
    # Of a restore that was cut off, or left a database that does not start, the CRM is still stopped.
    for name in ("restoring.json", "stopped.json"):
        running = running or common.remembered(config, name, {}).get("units", [])
    common.remember(
        config,
        "restoring.json",
        {"began": int(time.time()), "in_place": chosen.in_place, "units": running, "new": chosen.new_cluster, **steps["known"]},
    )
    places = steps["known"]["places"]
    try:
        if running:
            common.run("systemctl", "stop", *running)
        common.run("systemctl", "stop", unit)
        if not chosen.in_place:
            with reserve(config).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE)
            tablespaces.put_aside(places, make_data)
            os.rename(data, old(config))
            make_data(data)
        else:
            tablespaces.make_ready(places, steps["spaces"], make_data)
        common.say(f"restoring {steps['set']['label']}")
        source = common.from_repository(config, chosen.repository)
        common.pgbackrest(config, "restore", *steps["options"], *source, *(["--delta"] if chosen.in_place else []), repository=chosen.repository)
        tablespaces.link_log(config, steps["known"]["log"])
        common.say("replaying the log")
        reached = replay(config)
    except BaseException as exc:
        # pgBackRest does not say so of a file that it could write in part.
        full = shutil.disk_usage(os.path.dirname(data)).free < FULL and "No space" not in str(exc)
        why = f"{exc}{f' (no space is left on {os.path.dirname(data)})' if full else ''}"
        if chosen.in_place:
            raise rules.BackupError(f"{why}; the data directory is incomplete, PostgreSQL is stopped: restore again, newest set or another") from exc
        try:
            put_back(config)
        except rules.BackupError as other:
            raise rules.BackupError(f"{why}; and {other}") from exc
        if full and isinstance(exc, rules.BackupError):
            raise rules.BackupError(why) from exc
        raise
    reserve(config).unlink(missing_ok=True)
    if chosen.new_cluster and os.path.isdir(old(config)):
        shutil.rmtree(forgotten(config), ignore_errors=True)
        os.rename(old(config), forgotten(config))
    # From here on the restored data is what is live: what fails beside it is told, and throws it away no more.
    settle(config, running)
    sweep(config)
    complaints = []
    if chosen.files:
        try:
            attachments.fill(config, repository=chosen.repository)
        except (rules.BackupError, OSError, ValueError) as exc:
            again = f"crm-platform-backup files --path {config['attachments']}" + (" --repository 2" if chosen.repository == 2 else "")
            complaints.append(("attachments", f"attachments are missing ({exc}): `{again}` brings them back"))
    try:
        start_crm(config, running)
    except NotUp as exc:
        complaints.append(("CRM", f"{exc}; `crm-platform-backup undo` puts back what was there before"))
    # A rebuild installs the CRM later, and looks then.
    found = records.look_through(config) if not chosen.new_cluster else None
    if found and found["without_file"]:
        for one in found["missing"]:
            common.say(one)
        complaints.append(("attachments", f"there are {records.told(found)}"))
    return reached, complaints


def replay(config: dict) -> dict:
    """Start PostgreSQL and have it replay the log; the point that was reached."""
    try:
        start(config)
        return recovered(config)
    except NotUp:
        small = too_small(config)
        if not small:
            raise
    # Only for those who would look on meanwhile they have to be as large as they were when the log was written.
    common.say(f"replaying the log without readers, since {small}")
    auto = pathlib.Path(config["cluster"]["data"], "postgresql.auto.conf")
    common.run("systemctl", "stop", config["cluster"]["unit"], check=False)
    with auto.open("a", encoding="utf-8") as file:
        file.write(EASED)
    start(config)
    # PostgreSQL forgets it when it stops.
    reached = recovered(config)
    auto.write_text(auto.read_text(encoding="utf-8").replace(EASED, ""), encoding="utf-8")
    common.run("systemctl", "stop", config["cluster"]["unit"])
    start(config)
    return reached


def too_small(config: dict) -> str:
    """The first of the server's settings that is smaller than the log needs; as far as that was replayed, the data's control file knows."""
    try:
        needed = common.controldata(config)
    except rules.BackupError:
        return ""
    for name, shown in SETTINGS.items():
        words = (f"{config['cluster']['bin']}/postgres", "-D", f"/etc/postgresql/{config['cluster']['version']}/main", "-C", name)
        here = common.as_postgres(*words, check=False).stdout.strip()
        if here.isdigit() and int(here) < int(needed.get(shown, 0)):
            return f"{name} is {here} here and was {needed[shown]}"
    return ""


def settle(config: dict, units: list[str]) -> None:
    """The restore, or what takes it back, is done with the data directory; what is left to start is remembered."""
    try:
        common.remember(config, "stopped.json", {"units": units})
    except OSError as exc:
        if exc.errno not in common.NO_ROOM:
            raise
    pathlib.Path(common.state_path(config, "restoring.json")).unlink(missing_ok=True)
    pathlib.Path(ALLOWED).unlink(missing_ok=True)


def bring_up(config: dict, units: list[str]) -> None:
    """Start PostgreSQL with the data that is there, and the CRM; NotUp where one of them does not start."""
    try:
        start(config)
    except NotUp:
        # What a later restore brings back has its CRM again.
        common.remember(config, "stopped.json", {"units": units, "tried": True})
        raise
    start_crm(config, units)


def start_crm(config: dict, units: list[str]) -> None:
    if units:
        done = common.run("systemctl", "start", *units, check=False)
        if done.returncode:
            raise NotUp(f"the CRM does not start: {common.last_words(done.stderr)}")
    pathlib.Path(common.state_path(config, "stopped.json")).unlink(missing_ok=True)


def make_data(path: str) -> None:
    os.mkdir(path, 0o700)
    shutil.chown(path, "postgres", "postgres")


def start(config: dict) -> None:
    """Start PostgreSQL and wait until it has replayed the log and takes writes."""
    log, unit = pathlib.Path(config["cluster"]["log"]), config["cluster"]["unit"]
    behind = log.stat().st_size if log.exists() else 0
    if common.remembered(config, "restoring.json", None):
        pathlib.Path(ALLOWED).touch()
    # Earlier starts that failed are counted, and this is none of them.
    common.run("systemctl", "reset-failed", unit, check=False)
    common.run("systemctl", "start", "--no-block", unit, check=False)
    while True:
        state = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() ELSE 'done' END"
        answer = common.psql(config, state, database="postgres", check=False)
        if answer == "done":
            # The one that the unit asks for comes while the log is still replayed.
            common.psql(config, "CHECKPOINT", database="postgres", check=False)
            return
        said = common.run("systemctl", "show", "--property", "ActiveState,ControlPID,NRestarts,Job", unit, check=False).stdout
        shown = dict(word.partition("=")[::2] for word in said.split())
        at_work = shown.get("ActiveState") in ("active", "activating") or shown.get("Job", "0") != "0"
        # systemd waits without end for one that died while its pgBackRest fetched the log,
        begun = shown.get("ActiveState") == "activating" and shown.get("ControlPID") == "0"
        silent = begun and not os.path.exists(os.path.join(config["cluster"]["data"], "postmaster.pid"))
        # and tries again and again what cannot come up.
        if shown.get("NRestarts") != "0" or not at_work or silent:
            raise NotUp(f"PostgreSQL did not come up: {complaint(log, behind)}")
        # Nobody asks for that; it is what PostgreSQL does where it cannot go on.
        if answer == "paused":
            raise NotUp(f"PostgreSQL has paused the replay of the log: see {log}")
        time.sleep(0.3)


def complaint(log: pathlib.Path, behind: int) -> str:
    """Why PostgreSQL did not come up, as its log says since then."""
    if not log.exists():
        return f"see {log}"
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(behind)
        words = [line.split("FATAL: ", 1)[1].strip() for line in file if "FATAL: " in line and "starting up" not in line]
    return words[-1] if words else f"see {log}"


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
    reserve(config).unlink(missing_ok=True)
    if mark.get("undo"):
        take_back(config, mark)
        return
    # Where a rebuild was done with its old data, its tablespaces only wait to be removed.
    if os.path.isdir(old(config)) or (tablespaces.kept(config) and not os.path.isdir(forgotten(config))):
        exchange(config)
        # It may be what has filled the disk.
        tablespaces.discard(config)
        shutil.rmtree(failed(config), ignore_errors=True)
    elif mark.get("in_place"):
        raise rules.BackupError(CUT_OFF)
    # All is as it was before the restore. Whether that comes up is another matter, and must not keep the next restore from being made.
    settle(config, mark.get("units", []))
    try:
        bring_up(config, mark.get("units", []))
    except NotUp as exc:
        raise NotUp(f"what was there before is back, but not up: {exc}") from exc  # pylint: disable=bad-exception-cause


def exchange(config: dict) -> None:
    """The old data to its place, and what is there to `failed`. One that was killed between the two goes on."""
    data = config["cluster"]["data"]
    common.run("systemctl", "stop", config["cluster"]["unit"], check=False)
    tablespaces.exchange(config)
    if not os.path.isdir(old(config)):
        return
    if os.path.isdir(data):
        shutil.rmtree(failed(config), ignore_errors=True)
        os.rename(data, failed(config))
    os.rename(old(config), data)


def take_back(config: dict, mark: dict) -> None:
    """End an undo: what was live before it is removed when the old data is up, and live again where that does not come up."""
    data, units = config["cluster"]["data"], mark.get("units", [])
    if os.path.isdir(old(config)) or tablespaces.kept(config):
        exchange(config)
    try:
        start(config)
    except NotUp as exc:
        if not os.path.isdir(failed(config)):
            settle(config, units)
            raise
        common.run("systemctl", "stop", config["cluster"]["unit"], check=False)
        tablespaces.reverse(config)
        os.rename(data, old(config))
        os.rename(failed(config), data)
        settle(config, units)
        bring_up(config, units)
        said = f"what was live is live again, since the data from before the restore does not come up: {exc}"
        raise rules.BackupError(said) from exc  # pylint: disable=bad-exception-cause
    if os.path.isdir(failed(config)):
        shutil.rmtree(forgotten(config), ignore_errors=True)
        os.rename(failed(config), forgotten(config))
    settle(config, units)
    start_crm(config, units)
    sweep(config)


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
                running = running or common.remembered(config, "stopped.json", {}).get("units", [])
                common.remember(config, "restoring.json", {"began": int(time.time()), "in_place": False, "undo": True, "units": running})
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
        # What is half removed is not taken for the old data any more.
        shutil.rmtree(forgotten(config), ignore_errors=True)
        if found:
            os.rename(old(config), forgotten(config))
            tablespaces.discard(config)
            shutil.rmtree(forgotten(config))
        sweep(config)
    look.write(config)
    return {"removed": old(config) if found else None}
