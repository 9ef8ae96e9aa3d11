# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drill: the newest backup is restored beside the live database, proved, and removed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import time
import typing as t

import attachments
import bring_back
import common
import look
import records
import rules
import save
import tablespaces

RUNTIME = "/run/crm-platform-drill"
# pgBackRest's restore empties the spool, and with it what tells PostgreSQL that its log has arrived: not that of the live one.
SPOOL = "/var/spool/pgbackrest/crm-platform-drill"
# What is left to the live database on a disk that both write to, and how often it is looked at, in seconds.
RESERVE, WATCH = 512 * 1024**2, 1.0
COUNT = r"""
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT format('SELECT %L, count(*) FROM ONLY %I.%I', format('%I.%I', n.nspname, c.relname), n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
 ORDER BY 1 \gexec
COMMIT;
"""
CHANGED = "SELECT format('%I.%I', schemaname, relname), n_tup_ins, n_tup_del FROM pg_stat_user_tables;"
# Seconds after which each session has told the statistics what it changed.
TOLD = 11
# As a user logs in: with a password, checked by the CRM's own code against its own tables.
LOGIN = """
import sys
from crm_platform import settings
settings.prepare("drill")
from trytond import config
config.update_etc()
from trytond import security
from trytond.pool import Pool
from trytond.transaction import Transaction
name, password = sys.argv[1], sys.stdin.read().strip()
Pool.start()
pool = Pool(name)
pool.init()
with Transaction().start(name, 0) as transaction:
    User = pool.get("res.user")
    (user,) = User.search([("login", "=", "admin")], limit=1)
    User.write([user], {"password": password})
    transaction.commit()
if not security.login(name, "admin", {"password": password}):
    sys.exit("the login was refused")
with Transaction().start(name, user.id) as transaction:
    print(pool.get("party.party").search([], count=True))
"""


def counts(config: dict, socket: str = "") -> dict[str, int]:
    """Rows of each table."""
    answer = common.psql(config, COUNT, socket)
    return {name: int(count) for name, count in (line.rsplit("|", 1) for line in answer.splitlines() if "|" in line)}


def changed(config: dict) -> dict[str, tuple[int, int]]:
    """Rows that were inserted into each table, and deleted, since PostgreSQL counts them."""
    rows = (line.rsplit("|", 2) for line in common.psql(config, CHANGED).splitlines() if line.count("|") >= 2)
    return {name: (int(inserted), int(deleted)) for name, inserted, deleted in rows}


def differences(before: dict, after: dict, restored: dict, earlier: dict | None = None, later: dict | None = None) -> list[str]:
    """Tables whose rows are not those of the restore point; one that changed meanwhile has to lie between.

    :param earlier: what `changed` told before the first count; with `later`, a table may have had as many rows more, or less, in between.
    """
    found = []
    for name in sorted(set(before) & set(after) | set(restored)):
        if name not in restored:
            found.append(f"{name} is missing")
        elif name in before and name in after:
            first, last = (earlier or {}).get(name, (0, 0)), (later or {}).get(name, (0, 0))
            inserted, deleted = max(last[0] - first[0], 0), max(last[1] - first[1], 0)
            least, most = min(before[name] - deleted, after[name]), max(before[name] + inserted, after[name])
            if not least <= restored[name] <= most:
                found.append(f"{name} has {restored[name]} rows instead of {after[name]}")
    return found


def runs(scratch: str) -> bool:
    """Whether a PostgreSQL works on the directory. After a power loss the number in its file may be another's, such as the live one's."""
    try:
        number = int(pathlib.Path(scratch, "postmaster.pid").read_text(encoding="ascii").splitlines()[0])
        words = pathlib.Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return os.path.realpath(scratch) in [os.path.realpath(word) for word in words if word.startswith("/")]
    except (OSError, ValueError, IndexError):
        return False


def stop(config: dict, scratch: str, mode: str) -> None:
    if runs(scratch):
        common.as_postgres(f"{config['cluster']['bin']}/pg_ctl", "-D", scratch, "-m", mode, "-w", "stop", check=mode == "fast")


def clean(config: dict) -> None:
    """Stop and remove what a drill makes; also what a killed one left."""
    scratch = config["drill"]["directory"]
    # It is removed with all that is in it.
    if os.path.basename(scratch) != "crm-platform-drill":
        raise rules.BackupError(f"backup_drill_directory is {scratch}; its last part has to be crm-platform-drill")
    stop(config, scratch, "immediate")
    for path in (scratch, spaces(config), RUNTIME, SPOOL):
        shutil.rmtree(path, ignore_errors=True)


def spaces(config: dict) -> str:
    """Where the drill has its tablespaces."""
    return config["drill"]["directory"] + ".tablespaces"


def tidy(config: dict) -> dict:
    """Remove what a drill left that was killed, or that a reboot cut off; on a repository's host the locks of a killed run."""
    if common.keeps_for_others(config) and common.remembered(config, "running.json", None) and not common.locked(config):
        for client in config["clients"]:
            common.restic(config, "unlock", client=client, check=False)
    left = os.path.isdir(config["drill"]["directory"]) or os.path.isdir(RUNTIME)
    if left and not common.locked(config):
        clean(config)
    return {"changed": left}


def own_spool() -> dict[str, str]:
    return {**os.environ, "PGBACKREST_SPOOL_PATH": SPOOL}


def start(config: dict, scratch: str, hidden: dict[str, str]) -> None:
    """PostgreSQL on the scratch directory: own socket, no network, no archive, little memory."""
    cluster = config["cluster"]
    group = "crm-platform" if config["crm"] else "postgres"
    os.makedirs(RUNTIME, exist_ok=True)
    os.chmod(RUNTIME, 0o750)
    shutil.chown(RUNTIME, "postgres", group)
    common.write_whole(f"{RUNTIME}/pg_hba.conf", "local all all peer map=drill\n", 0o644)
    common.write_whole(f"{RUNTIME}/pg_ident.conf", f"drill postgres postgres\ndrill root postgres\ndrill crm-platform {config['owner']}\n", 0o644)
    common.write_whole(f"{RUNTIME}/postgresql.conf", "", 0o644)
    needed = common.controldata(config, scratch)
    settings = {name: needed[shown] for name, shown in bring_back.SETTINGS.items() if shown in needed}
    settings.update(
        config_file=f"{RUNTIME}/postgresql.conf", hba_file=f"{RUNTIME}/pg_hba.conf", ident_file=f"{RUNTIME}/pg_ident.conf", port=str(cluster["port"]),
        listen_addresses="", unix_socket_directories=RUNTIME, ssl="off", archive_mode="off", shared_buffers=f"{config['drill']['shared_buffers_mb']}MB",
        fsync="off", autovacuum="off", logging_collector="off", shared_preload_libraries="", synchronous_standby_names="", cluster_name="drill",
    )  # fmt: skip
    words = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    log = f"{scratch}/drill.log"
    pg_ctl = (f"{cluster['bin']}/pg_ctl", "-D", scratch, "-l", log, "-w", "-t", "86400", "-o", words, "start")
    done = tablespaces.beside(config, (scratch, spaces(config)), hidden, *pg_ctl, check=False, env=own_spool())
    while done.returncode == 0:
        if common.psql(config, "SELECT pg_is_in_recovery()", RUNTIME, "postgres", check=False) == "f":
            return
        if not os.path.exists(os.path.join(scratch, "postmaster.pid")):
            break
        time.sleep(0.3)
    said = pathlib.Path(log).read_text(encoding="utf-8", errors="replace") if os.path.exists(log) else done.stderr
    why = common.last_words(said)
    # Of a tablespace that was made after the set and dropped since, its place is nobody's, and is not touched.
    cure = ": `crm-platform-backup backup incr` makes a set that does not need this" if "Read-only file system" in why or "directory" in why else ""
    raise rules.BackupError(f"the restored database does not start: {why}{cure}")


def login(config: dict) -> int:
    """Parties that the CRM's own code sees after a login against the scratch database."""
    conf = f"{RUNTIME}/crm.conf"
    lines, section = [], ""
    for line in pathlib.Path(config["crm"]).read_text(encoding="utf-8").splitlines():
        section = line.strip() if line.startswith("[") else section
        if section == "[database]" and line.replace(" ", "").startswith("uri="):
            line = f"uri = postgresql://{config['owner']}@/?host={RUNTIME}&port={config['cluster']['port']}"
        lines.append(line)
    common.write_whole(conf, "\n".join(lines) + "\n", 0o640)
    shutil.chown(conf, "root", "crm-platform")
    environment = {"TRYTOND_CONFIG": conf, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    words = (
        "setpriv",
        "--reuid=crm-platform",
        "--regid=crm-platform",
        "--init-groups",
        "/usr/lib/crm-platform/venv/bin/python",
        "-c",
        LOGIN,
        config["database"],
    )
    return int(common.run(*words, text=secrets.token_urlsafe(24), env=environment).stdout.split()[-1])


def point(config: dict) -> tuple[str, dict, dict, dict, float]:
    """Mark a point in the live database's log: (its name, changes until then, rows before, rows after, age of what was saved already)."""
    live = look.archiver(config)
    if live is None:
        raise rules.BackupError("PostgreSQL does not answer; the drill compares with the live database")
    # No change waits longer than archive_timeout before its segment of the log is handed over.
    timeout = float(common.psql(config, "SELECT setting FROM pg_settings WHERE name = 'archive_timeout'", database="postgres"))
    pending = min(time.time() - (live["last_archived"] or 0), timeout + live["oldest_waiting_seconds"])
    name = f"drill {time.strftime('%Y%m%d-%H%M%S', time.gmtime())} {secrets.token_hex(3)}"
    earlier, before = changed(config), counts(config)
    common.psql(config, f"SELECT pg_create_restore_point('{name}')")
    after = counts(config)
    common.psql(config, "SELECT pg_current_xact_id(); SELECT pg_switch_wal()")
    common.pgbackrest(config, "check", f"--archive-timeout={common.ARCHIVED}", repository=1)
    return name, earlier, before, after, pending


def beside(config: dict) -> bool:
    """Whether the drill writes to the disk that the live database needs."""
    return os.stat(os.path.dirname(config["drill"]["directory"])).st_dev == os.stat(config["cluster"]["data"]).st_dev


def room_beside(config: dict) -> int:
    """Beside the set: the log that the scratch keeps until it clears it away, and what is the live one's. What they take beyond that ends it."""
    return int(common.psql(config, "SELECT pg_size_bytes(current_setting('max_wal_size'))", database="postgres")) + RESERVE


@contextlib.contextmanager
def reserved(config: dict) -> t.Iterator[None]:
    """End the drill before it takes the last room of the live database."""
    place = os.path.dirname(config["drill"]["directory"])

    def look_at_it(*dummy) -> None:
        free = shutil.disk_usage(place).free
        if free < RESERVE:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise rules.BackupError(f"{place} has only {free // 1024**2} MiB left, which the live database may need: set backup_drill_directory")

    if not beside(config):
        yield
        return
    before = signal.signal(signal.SIGALRM, look_at_it)
    signal.setitimer(signal.ITIMER_REAL, WATCH, WATCH)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def prove(config: dict, entry: dict) -> None:
    """Restore and look; each step that holds is written into the entry."""
    scratch, data = config["drill"]["directory"], config["cluster"]["data"]
    stanza = common.stanza(config)
    timeline, history = bring_back.timeline_of(config, [], False)
    one = rules.choose(rules.sets_of(stanza), timeline, history)
    place = os.path.dirname(scratch)
    free, need = shutil.disk_usage(place).free, one.size + (room_beside(config) if beside(config) else bring_back.ROOM)
    if free < need:
        raise rules.BackupError(
            f"{place} has {free // 1024**2} MiB free, the drill needs {need // 1024**2} MiB: make room, or set backup_drill_directory"
        )
    name, earlier, before, after, entry["rpo"] = point(config)
    entry["set"], began = one.label, time.monotonic()
    common.say(f"restoring {one.label} to {scratch}")
    bring_back.make_data(scratch)
    mapped, hidden = own_places(config, one.label)
    options = [
        f"--set={one.label}",
        f"--pg1-path={scratch}",
        *mapped,
        "--type=name",
        f"--target={name}",
        "--target-action=promote",
        bring_back.timeline_option(one, timeline),
    ]
    bring_back.make_data(SPOOL)
    common.pgbackrest(config, "restore", *options, *common.from_repository(config, 1, scratch), "--archive-mode=off", repository=1, env=own_spool())
    start(config, scratch, hidden)
    entry["restore_seconds"] = round(time.monotonic() - began, 2)
    restored = counts(config, RUNTIME)
    wrong = differences(before, after, restored)
    if wrong:
        # A row that came and went between the two counts is in neither of them.
        time.sleep(TOLD)
        wrong = differences(before, after, restored, earlier, changed(config))
    if wrong:
        raise rules.BackupError(f"the restored rows differ: {common.all_of(wrong)}")
    entry.update(tables=len(restored), rows=sum(restored.values()))
    if config["crm"]:
        common.say("logging in")
        entry["parties"] = login(config)
    entry["rto"] = round(time.monotonic() - began, 2)
    entry["attachments"] = attachments_saved(config)
    compare(config)
    stop(config, scratch, "fast")
    checksums(config, scratch, hidden)
    if common.controldata(config, scratch)["Database system identifier"] != common.controldata(config, data)["Database system identifier"]:
        raise rules.BackupError("what was restored is another cluster")


def attachments_saved(config: dict) -> dict | None:
    """Those of the restored database that the newest backup of the files lacks, and those that are too new for it; None where the CRM is elsewhere."""
    if not config["crm"] or not config["policy"]["files"]:
        return None
    common.say("comparing attachments")
    try:
        saved = attachments.newest(config, common.restic)
    except rules.BackupError as exc:
        # It says nothing of the database, and the state tells of it.
        common.say(f"the backup of the files cannot be read: {exc}")
        return None
    found = records.compare(config, saved.files, look.moment(saved.time) if saved.time else 0, RUNTIME)
    if found and found["not_saved"]:
        for one in found["missing"]:
            common.say(f"in no backup: {one}")
    return found


def own_places(config: dict, label: str) -> tuple[list[str], dict[str, str]]:
    """(pgBackRest's options that map the set's tablespaces, {live place: the directory that the second PostgreSQL has there})."""
    in_set = tablespaces.of_set(config, label)
    bring_back.make_data(spaces(config))
    hidden = {}
    # Those that are only live were made after the set: the log makes them again.
    for number, place in enumerate(sorted({*in_set.values(), *tablespaces.locations(config["cluster"]["data"]).values()})):
        hidden[place] = os.path.join(spaces(config), str(number))
        bring_back.make_data(hidden[place])
    mapped = [f"--tablespace-map={oid}={hidden[place]}" for oid, place in in_set.items()]
    # What is not there cannot be hidden, and cannot be reached either.
    return mapped, {place: instead for place, instead in hidden.items() if os.path.isdir(place)}


def compare(config: dict) -> None:
    """Tables with their indexes, of every database."""
    common.say("comparing tables and indexes")
    amcheck = [
        f"{config['cluster']['bin']}/pg_amcheck",
        "--install-missing",
        "--heapallindexed",
        "-j",
        "2",
        "-h",
        RUNTIME,
        "-p",
        str(config["cluster"]["port"]),
        "--all",
    ]
    done = common.as_postgres(*amcheck, check=False)
    if done.returncode:
        raise rules.BackupError(f"pg_amcheck: {common.all_of([' '.join(line.split()) for line in (done.stdout + done.stderr).splitlines()])}")


def checksums(config: dict, directory: str, hidden: dict[str, str]) -> None:
    """Of every page, those of free space as well."""
    tablespaces.beside(config, (directory, spaces(config)), hidden, f"{config['cluster']['bin']}/pg_checksums", "--check", "-D", directory)


def examine(config: dict, directory: str) -> dict:
    """Look through a copy of the cluster that was shut down, as the drill does with what it restores. The copy is written to."""
    if os.path.realpath(directory) == os.path.realpath(config["cluster"]["data"]):
        raise rules.BackupError(f"{directory} is the live cluster; examine a copy of it")
    if not os.path.exists(os.path.join(directory, "PG_VERSION")):
        raise rules.BackupError(f"{directory} holds no cluster of PostgreSQL")
    elsewhere = tablespaces.outside(directory)
    if elsewhere:
        raise rules.BackupError(f"{directory} has links to {', '.join(sorted(elsewhere))}, which may be the live cluster's: the drill proves such a one")
    with common.alone(config, "examine", save.WAIT):
        checksums(config, directory, {})
        try:
            start(config, directory, {})
            found = counts(config, RUNTIME)
            parties = login(config) if config["crm"] else None
            compare(config)
            stop(config, directory, "fast")
        finally:
            stop(config, directory, "immediate")
            shutil.rmtree(RUNTIME, ignore_errors=True)
    return {"tables": len(found), "rows": sum(found.values()), "parties": parties}


def drill(config: dict) -> dict:
    """Prove the newest backup, write down how it went, and leave nothing behind. Damage elsewhere in the repository is another result."""
    if not config["policy"]["database"]:
        raise rules.BackupError("there is no database on this host; run the drill on the database's host")
    try:
        with common.alone(config, "drill", save.WAIT):
            try:
                with common.recorded(config, "drill") as entry:
                    save.unfinished(config)
                    clean(config)
                    try:
                        with reserved(config):
                            prove(config, entry)
                    finally:
                        clean(config)
            finally:
                last = keep_in_history(config)
            damage = damage_elsewhere(config)
    finally:
        look.write(config)
    return {**last, "damage": damage}


def keep_in_history(config: dict) -> dict:
    """The last drill, which the history has from now on."""
    last = common.remembered(config, "runs.json", {}).get("drill", {})
    history = common.remembered(config, "drills.json", [])
    if last and (not history or history[-1]["began"] != last["began"]):
        common.remember(config, "drills.json", [*history, last][-200:])
    return last


def damage_elsewhere(config: dict) -> str:
    """What reading the repositories whole has found; it is recorded as a verification of its own."""
    if common.kept_elsewhere(config):
        # Its host reads it, by a timer of its own.
        return ""
    common.say("reading the repositories")
    try:
        save.read_whole(config)
    except rules.BackupError as exc:
        common.say(f"the restore is proved, and the repository has damage: {exc}")
        return str(exc)
    return ""
