# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the backups of this host stand: facts from pgBackRest, restic, PostgreSQL and systemd, judged by the rules."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import re
import stat
import time

import common
import records
import rules

# Where Debian's node_exporter has its files.
EXPORTED = "/var/lib/prometheus"
# Seconds after which a commit should be on its way to the repository: archive_timeout, and some more.
WAKE = 75
# A segment of the log in pgBackRest's repository.
SEGMENT = re.compile(r"[0-9A-F]{24}-[0-9a-f]{40}(\.[a-z0-9]+)?$")


def database(config: dict) -> dict:
    """Sets, log and archiver; `error` where the repository does not answer."""
    found: dict = {"sets": [], "archiver": archiver(config) if config["policy"]["database"] else None}
    try:
        stanza = common.stanza(config)
        found.update(sets=rules.sets_of(stanza), archive=rules.archive_of(stanza), system=rules.system_of(stanza), gap=gap(config, stanza))
        found["broken"] = common.broken(config, stanza, found["sets"])
    except (rules.BackupError, ValueError, KeyError) as exc:
        found["error"] = f"the repository of the database: {exc}"
    return found


def gap(config: dict, stanza: dict) -> rules.Gap | None:
    """What the repository's log lacks; None as well where that is another host's, who looks itself."""
    name = rules.archive_of(stanza)["id"]
    if common.kept_elsewhere(config) or not name:
        return None
    segments = {}
    for place in pathlib.Path(config["repository"], "database", "archive", config["stanza"], name).glob("[0-9A-F]" * 16):
        for one in os.scandir(place):
            # A part of one, and what is on its way, have more in their names.
            if SEGMENT.match(one.name):
                try:
                    segments[one.name[:24]] = one.stat().st_mtime
                except FileNotFoundError:
                    # Expired meanwhile.
                    pass
    return rules.gap_of(segments)


def archiver(config: dict) -> dict | None:
    """What PostgreSQL says of its log's way to the repository; None where it does not answer."""
    query = """
        SELECT json_build_object(
          'mode', current_setting('archive_mode') <> 'off', 'command', current_setting('archive_command'),
          'segment', CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END,
          'failed_count', failed_count, 'last_failed_wal', last_failed_wal,
          'failing', coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false),
          'last_archived', extract(epoch FROM last_archived_time),
          'waiting', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
          'oldest_waiting_seconds',
          (SELECT coalesce(extract(epoch FROM now() - min(modification)), 0) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'))
        FROM pg_stat_archiver"""
    try:
        found = json.loads(common.psql(config, query, database="postgres"))
    except (rules.BackupError, ValueError):
        return None
    found["pending_since"] = pending_since(config, found.pop("segment"))
    return found


def pending_since(config: dict, segment: str | None) -> int | None:
    """When the first commit was made that is only in the segment which PostgreSQL still writes; None where that holds none."""
    if not segment:
        return None
    words = (f"{config['cluster']['bin']}/pg_waldump", "--rmgr=Transaction", "--limit=20", f"--path={config['cluster']['data']}/pg_wal", segment)
    # It ends with an error where the log ends.
    return rules.first_commit(common.as_postgres(*words, check=False, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"}).stdout)


def wake_archiver(config: dict) -> None:
    """Make the checkpoint without which PostgreSQL does not mind archive_timeout, where a start went by its unit."""
    found = archiver(config) if config["policy"]["database"] else None
    if found and found["pending_since"] and time.time() - found["pending_since"] > WAKE:
        common.psql(config, "CHECKPOINT", database="postgres", check=False)


def moment(text: str) -> int:
    """restic's time, which has nanoseconds, in seconds."""
    return int(datetime.datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00")).timestamp())


def snapshots(text: str) -> list[dict]:
    """What restic tells of its snapshots, oldest first."""
    return sorted(({"id": one["short_id"], "time": moment(one["time"])} for one in json.loads(text) or []), key=lambda one: one["time"])


def files(config: dict, client: str = "") -> dict:
    """Snapshots of the files; `error` where the repository does not answer."""
    try:
        return {"snapshots": snapshots(common.restic(config, "--no-lock", "snapshots", "--json", client=client).stdout)}
    except (rules.BackupError, OSError, ValueError, KeyError) as exc:
        return {"snapshots": [], "error": f"the repository of the files{' of ' + client if client else ''}: {exc}"}


def clients(config: dict) -> dict:
    """{host: snapshots of its files, those among them that came with a false time}"""
    found = {}
    known = common.remembered(config, "snapshots.json", {})
    for client in config["clients"]:
        found[client] = files(config, client)
        found[client]["forged"] = rules.forged(found[client]["snapshots"], known.get(client, {}), time.time())
    return found


def second(config: dict) -> dict | None:
    """Sets and snapshots in the second repository, and what the last run into it said; None where this host has none."""
    if not common.writes_second(config):
        return None
    known = common.remembered(config, "second.json", {})
    place = common.second_place(config)
    found: dict = {"place": place, "begun": known.get("place") == place, "sets": None, "files": {}}
    found.update(error=known.get("error", ""), complaints=known.get("complaints", []), left=known.get("left"), unreadable="")
    try:
        common.reach_second(config)
        if config["policy"]["sets"]:
            found["sets"] = rules.sets_of(common.stanza(config, 2), 2)
        for client in config["clients"] or [""]:
            found["files"][client] = {"snapshots": snapshots(common.restic_second(config, "--no-lock", "snapshots", "--json", client=client).stdout)}
    except (rules.BackupError, OSError, ValueError, KeyError) as exc:
        found["unreadable"] = str(exc)
    return found


def learn(config: dict, found: dict) -> None:
    """Remember which snapshots were there now."""
    known = common.remembered(config, "snapshots.json", {})
    for client, one in found.items():
        if not one.get("error"):
            ids = [snapshot["id"] for snapshot in one["snapshots"] if snapshot["id"] not in one["forged"]]
            known[client] = {"looked": int(time.time()), "ids": ids}
    common.remember(config, "snapshots.json", known)


def timers(config: dict) -> dict:
    """{timer: active, inactive, ...}"""
    wanted = config["policy"]["timers"]
    if not wanted:
        return {}
    done = common.run("systemctl", "show", "--property", "Id,ActiveState", "--", *wanted, check=False)
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in done.stdout.split("\n\n")]
    return {block["Id"]: block["ActiveState"] for block in blocks if "Id" in block}


def space(config: dict) -> dict | None:
    """Of the file system that holds the repository; None where that is another host's."""
    if common.kept_elsewhere(config):
        return None
    try:
        found = os.statvfs(config["repository"])
    except OSError:
        return None
    free, total = found.f_bavail * found.f_frsize, (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
    return {"free": free, "total": total, "percent": round(100 * (1 - free / total), 1) if total else 100.0}


def killed(config: dict) -> list[dict]:
    """Runs that did not come to their end: nobody holds the lock, but the mark is there."""
    found = common.remembered(config, "killed.json", [])
    left = common.remembered(config, "running.json", None)
    if left and not common.locked(config):
        found = [one for one in found if one["kind"] != left["kind"]] + [left]
    return found


def key_exported(config: dict) -> bool:
    """Whether the key is kept elsewhere, too; one that is another host's is that host's to export."""
    exported = common.remembered(config, "exported.json", {})
    return not config["policy"]["key"] or (bool(exported) and exported.get("fingerprint") == common.fingerprint(config))


def look(config: dict) -> dict:
    """The facts that `rules.judge` takes."""
    since, verified = common.remembered(config, "since.json", {}), common.remembered(config, "verify.json", {})
    facts = {
        "files": files(config) if config["policy"]["files"] else {"snapshots": []},
        "clients": clients(config),
        "second": second(config),
        "runs": common.remembered(config, "runs.json", {}),
        "killed": killed(config),
        "drills": common.remembered(config, "drills.json", []),
        "attachments": records.look_through(config),
        "followed": common.remembered(config, "followed.json", {}),
        "since": since.get("time"),
        "resumed": since.get("resumed"),
        "timers": timers(config),
        "verify": verified.get("complaints", []),
        "verified": verified.get("time"),
        "space": space(config),
        "key_exported": key_exported(config),
    }
    if config["policy"]["sets"]:
        facts["database"] = database(config)
    return facts


def summed(found: dict) -> dict:
    """The number of snapshots, and the last of them."""
    return {"snapshots": len(found["snapshots"]), "last": found["snapshots"][-1] if found["snapshots"] else None}


def summed_second(found: dict | None) -> dict | None:
    """Its place, sets and snapshots."""
    if found is None:
        return None
    # A host's own files have no name there.
    files_ = {client or "files": summed(one) for client, one in found["files"].items()}
    return {"place": found["place"], "sets": [one.shown() for one in found["sets"] or []], "files": files_}


def state(config: dict) -> dict:
    """The whole state, as the state file, the health checks and the module backup_info tell it."""
    facts, now = look(config), time.time()
    learn(config, facts["clients"])
    problems = rules.judge(config["policy"], facts, now)
    drills = facts["drills"]
    result = {
        "version": 1,
        "mode": config["mode"],
        "written": int(now),
        "ok": not rules.hard(problems),
        "problems": problems,
        "repository": f"{config['peer']['host']}:{config['repository']}" if common.kept_elsewhere(config) else config["repository"],
        "files": summed(facts["files"]),
        "clients": {client: summed(one) for client, one in facts["clients"].items()},
        "second": summed_second(facts["second"]),
        "runs": facts["runs"],
        "attachments": facts["attachments"],
        "drill": {"last": drills[-1] if drills else None, "history": drills[-20:]},
        "space": facts["space"],
        "key_exported": facts["key_exported"],
        "restoring": common.remembered(config, "restoring.json", None) is not None,
        "kept": os.path.isdir(config["cluster"]["data"] + ".before-restore") if config["policy"]["database"] else False,
    }
    found = facts.get("database")
    if found is not None:
        sets = found["sets"]
        full, last = rules.newest(sets, "full"), rules.newest(sets)
        first = rules.usable_from([one for one in sets if one.label not in found.get("broken", [])], found.get("gap"), facts["resumed"] or 0)
        archived = (found["archiver"] or {}).get("last_archived")
        result["database"] = {
            "sets": [one.shown() for one in sets],
            "age": now - last.ended if last else None,
            "age_full": now - full.ended if full else None,
            "archive": found.get("archive"),
            "archiver": found["archiver"],
            "window": {"from": rules.utc(first.ended), "to": rules.utc(max(archived or 0, last.ended if last else 0))} if first else None,
        }
    return result


def have_metrics_directory(path: str) -> None:
    """Where node_exporter, which is another user, reads."""
    common.make_way(path)
    # Earlier releases have made it, and what is above it, for root alone; a directory of another place may be so on purpose.
    for one in (os.path.dirname(path), path):
        if one == EXPORTED or one.startswith(EXPORTED + "/"):
            found = os.stat(one)
            if (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o700):
                os.chmod(one, 0o755)


def write(config: dict) -> dict:
    """Look, write the state file and the metrics, and return the state."""
    found = state(config)
    common.remember(config, "state.json", found)
    if config["metrics"]:
        have_metrics_directory(os.path.dirname(config["metrics"]))
        common.write_whole(config["metrics"], rules.metrics(found), 0o644)
    return found
