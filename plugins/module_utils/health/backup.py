# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backups, as the backup role's own state file tells; a state that nobody writes any more is a fault too."""

from __future__ import annotations

import json

from ..backup import listed
from .registry import CRITICAL, OK, WARNING, Reading, Skipped, check

STATE = "/var/lib/crm-platform/backup/state.json"


def state(host) -> dict:
    def look():
        try:
            return json.loads(host.read(STATE))
        except FileNotFoundError:
            return None

    found = host.once("backup", look)
    if found is None:
        raise Skipped("no backup is set up on this host")
    return found


def not_here(host, *modes: str) -> None:
    """Skip what another host answers for."""
    if state(host).get("mode") in modes:
        raise Skipped("another host answers for it")


def problems(host, *kinds: str) -> list:
    return [one["message"] for one in state(host).get("problems", []) if one["check"] in kinds]


def told(host, found: list, well: str) -> Reading:
    """What the state tells, and when that was: somebody may have cured it since."""
    minutes = (host.now - state(host)["written"]) / 60
    when = f" (as it was {minutes:.0f} minutes ago)" if found and minutes >= 2 else ""
    return Reading(len(found), (listed(found) or well) + when, CRITICAL if found else OK)


def stopped_timers(host) -> list:
    """What the state tells of timers, as far as it still is so."""
    found = []
    for message in problems(host, "timer"):
        unit = message.split(" ", 1)[0]
        if not unit.endswith(".timer") or host.run("systemctl", "is-active", unit, check=False).strip() != "active":
            found.append(message)
    return found


@check("backup_state", "backup", "h", 3, 12, "systemctl list-timers 'crm-platform-backup*'; systemctl status crm-platform-backup-status", "own")
def written(host):
    """Age of what the backups tell of themselves"""
    age = (host.now - state(host)["written"]) / 3600
    return Reading(age, f"written {age:.1f} hours ago")


@check("backup_full_age", "backup", "h", 180, 240, "crm.platform.backup with backup_type=full", "pgmonitor")
def full_age(host):
    """Age of the newest full backup"""
    database = state(host).get("database")
    if database is None:
        raise Skipped("there is no database on this host")
    if database.get("age_full") is None:
        return Reading(None, "there is no full backup", CRITICAL)
    age = (database["age_full"] + host.now - state(host)["written"]) / 3600
    return Reading(age, f"{age:.1f} hours old")


@check("backup_age", "backup", "h", 26, 36, "crm.platform.backup; systemctl list-timers 'crm-platform-backup*'", "pgmonitor")
def age(host):
    """Age of the newest backup of any kind"""
    database = state(host).get("database")
    if database is None:
        raise Skipped("there is no database on this host")
    if database.get("age") is None:
        return Reading(None, "there is no backup", CRITICAL)
    hours = (database["age"] + host.now - state(host)["written"]) / 3600
    host.series["backup_bytes"] = sum(one.get("repository_size") or 0 for one in database.get("sets", []))
    return Reading(hours, f"{hours:.1f} hours old, {len(database.get('sets', []))} sets")


@check("backup_rpo", "backup", "s", 3600, 21600, "see backup_archive and db_archive: WAL waits until it can be stored", "own")
def rpo(host):
    """What is lost if the host burns now: the age of what has not left it"""
    not_here(host, "host")
    archiver = (state(host).get("database") or {}).get("archiver")
    if not archiver:
        raise Skipped("the database did not tell when the backups were looked at")
    since = archiver.get("pending_since")
    waits = max(float(archiver.get("oldest_waiting_seconds") or 0), state(host)["written"] - since if since else 0)
    return Reading(waits, f"the log of the last {waits:.0f} s waits to be stored" if waits else "all finished pieces of the log are stored")


@check("backup_rto", "backup", "s", 3600, 14400, "a smaller database, more cores for backup_processes, or a faster repository", "own")
def rto(host):
    """How long a restore takes, as the last drill proved"""
    not_here(host, "host")
    known = state(host).get("drill") or {}
    tried = known.get("history") or [one for one in [known.get("last")] if one]
    # Its rto ends where the CRM's login succeeded; its seconds count what is compared after that, too.
    good = [one for one in tried if one.get("ok") and one.get("rto")]
    if not good:
        raise Skipped(f"no restore {'ended well' if tried else 'was tried'} yet, see backup_drill")
    return Reading(float(good[-1]["rto"]), f"the last drill that ended well took {good[-1]['rto']:.0f} s until the CRM was back")


@check("backup_arrivals", "backup", "h", 26, 36, "systemctl list-timers 'crm-platform-backup*' on that host; its health says more", "own")
def arrivals(host):
    """Age of what the other hosts sent last, of the one that is silent for longest"""
    known = state(host).get("clients") or {}
    if not known:
        raise Skipped("no other host sends its files here")
    never = sorted(name for name, one in known.items() if not one.get("last"))
    missing = f"nothing has come from {', '.join(never)} yet"
    times = [(one["last"]["time"], name) for name, one in known.items() if one.get("last")]
    if not times:
        return Reading(None, missing, WARNING)
    last, name = min(times)
    hours = (host.now - last) / 3600
    sent = f"{name} sent something {hours:.1f} hours ago"
    if not never:
        return Reading(hours, f"{sent}; {len(known)} hosts do")
    # A host that is new must not hide one that went silent.
    return Reading(hours, f"{sent}; {missing}", at_least=WARNING)


@check("backup_server", "backup", cure="journalctl -u UNIT -n 50; systemctl restart UNIT", source="own")
def server(host):
    """What the other hosts reach for their backups runs"""
    mode, wanted = state(host).get("mode"), []
    if mode == "host":
        wanted = ["pgbackrest.service", "crm-platform-backup-files.service"]
    elif mode == "client" and state(host).get("database"):
        wanted = ["pgbackrest.service"]
    # Not all of them are on each host: a platform may have no database to save.
    wanted = [name for name in wanted if host.run("systemctl", "is-enabled", name, check=False).strip() == "enabled" or mode == "client"]
    if not wanted:
        raise Skipped("no other host reaches this one for its backups")
    states = host.run("systemctl", "is-active", *wanted, check=False).split()
    down = [name for name, found in zip(wanted, states) if found != "active"]
    cure = f"journalctl -u {down[0]} -n 50; systemctl restart {down[0]}" if down else ""
    return Reading(len(down), f"{', '.join(down)} is not running" if down else f"{', '.join(wanted)} run", CRITICAL if down else OK, cure)


@check("backup_files", "backup", cure="crm.platform.backup")
def files(host):
    """Attachments, configuration and secrets are in the backup"""
    return told(host, problems(host, "files", "forged"), "they are")


@check("backup_attachments", "backup", cure="crm-platform-backup files --path /var/lib/crm-platform/data", source="own")
def attachments(host):
    """Each attachment of the CRM has its file, here and in the backup"""
    not_here(host, "host")
    known = state(host).get("attachments")
    found = problems(host, "attachments")
    if not known and not found:
        raise Skipped("the CRM is on another host, or its database did not tell")
    return told(host, found, f"{known['rows']} have" if known else "")


@check("backup_key", "backup", cure="crm.platform.backup_key")
def key(host):
    """The repository's key is kept elsewhere, too"""
    not_here(host, "client")
    found = problems(host, "key")
    return Reading(len(found), found[0] if found else "it was exported", WARNING if found else OK)


@check("backup_archive", "backup", cure="the server's log tells why archive_command fails", source="CloudNativePG")
def archive(host):
    """The log reaches the repository"""
    not_here(host, "host")
    return told(host, problems(host, "archive"), "it does")


@check("backup_drill", "backup", cure="crm.platform.restore_drill")
def drill(host):
    """A restore was proven not long ago"""
    not_here(host, "host")
    found = problems(host, "drill")
    last = (state(host).get("drill") or {}).get("last") or {}
    if not found and not last:
        return Reading(None, "none was due yet", OK)
    told_ = f"restored in {last.get('seconds', 0):.0f} s" if last else ""
    return told(host, found, told_)


@check("backup_runs", "backup", cure="journalctl -u 'crm-platform-backup*' -n 50", source="pgmonitor")
def runs(host):
    """The last runs ended well, and the timers run"""
    return told(host, problems(host, "run") + stopped_timers(host), "they did")


@check("backup_damage", "backup", cure="a full backup; then remove what is damaged, see docs/backup.md; crm-platform-backup verify", source="own")
def damage(host):
    """No damage was found in the repository"""
    return told(host, problems(host, "damaged", "verify", "repository"), "none was")


@check("backup_second", "backup", cure="crm.platform.backup; journalctl -t crm-platform-backup -n 50 says what failed", source="own")
def second(host):
    """The second repository is as well as the first"""
    known = state(host).get("second")
    return told(host, problems(host, "second"), f"{len(known['sets'])} sets in {known['place']}" if known else "there is none")


@check("backup_space", "backup", "%", 80, 92, "a larger repository, or fewer full backups: backup_retention_full", "pgmonitor")
def space(host):
    """Room in the repository"""
    not_here(host, "client")
    found = state(host).get("space")
    if not found:
        return Reading(None, "it could not be told", WARNING)
    return Reading(found["percent"], f"{found['percent']:.0f} % used, {found['free'] / 1024**3:.1f} GiB are left")
