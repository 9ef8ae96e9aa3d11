# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What saves: the repository and its key, backups of database and files, the verification of what was saved."""

from __future__ import annotations

import filecmp
import grp
import json
import os
import pathlib
import pwd
import secrets
import shutil
import string
import tempfile
import time
import typing as t

import common
import look
import rules

WAIT = 3600
# What is younger is kept beside restic's periods: an attachment that came and was lost within an hour is in one of these.
YOUNG = "6h"
# What each file begins with that pgBackRest has encrypted.
ENCRYPTED = b"Salted__"
# A step of the setup; and the seconds after which a segment of the log has come that another one has overtaken.
AFTER_A_GAP, OVERTAKEN = "backup after a gap in the log", 2


def owned(path: str, owner: str, group: str, mode: int) -> bool:
    """Whether a directory is there, with these rights."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid, mode)


def directories(config: dict) -> dict[str, tuple[str, str, int]]:
    """{path: (owner, group, mode)}"""
    # On a repository's host another user has to get through to its own part.
    wanted = {config["state"]: ("root", "root", 0o711 if common.keeps_for_others(config) else 0o700)}
    wanted[os.path.dirname(config["key"])] = ("root", "root", 0o700)
    if common.kept_elsewhere(config):
        return wanted
    wanted[config["repository"]] = ("root", "root", 0o711)
    files, database = (os.path.join(config["repository"], name) for name in ("files", "database"))
    if common.keeps_for_others(config):
        keeper = common.KEEPER
        wanted[common.state_path(config, "lock-pgbackrest")] = (keeper, "postgres", 0o700)
        wanted[files] = (keeper, "postgres", 0o700)
        # What is made below it belongs to the group that the server is in, and that may read.
        wanted[database] = (keeper, "postgres", 0o2750)
        return wanted
    wanted[files] = ("root", "root", 0o700)
    if config["policy"]["database"]:
        wanted[database] = ("postgres", "postgres", 0o750)
    return wanted


def make_directory(path: str, owner: str, group: str, mode: int) -> None:
    # PostgreSQL and the keeper of the sets have to get through to it.
    common.make_way(os.path.dirname(path))
    os.makedirs(path, exist_ok=True)
    shutil.chown(path, owner, group)
    os.chmod(path, mode)


def make_key(config: dict) -> None:
    """Once; it is never shown, and an existing one never replaced."""
    letters = string.ascii_letters + string.digits
    common.write_whole(config["key"], "".join(secrets.choice(letters) for dummy in range(48)) + "\n", 0o600)


def key_text(config: dict) -> str:
    """pgBackRest's part of its configuration that holds the key."""
    key = rules.key_of(common.key_text(config), "sets")
    return f"# Made from {config['key']} by crm-platform-backup.\n[global]\nrepo1-cipher-pass={key}\n"


def hand_key_on(config: dict) -> None:
    write_for_postgres(config["pgbackrest_key"], key_text(config))


def write_for_postgres(path: str, text: str) -> None:
    common.write_whole(path, text, 0o640)
    shutil.chown(path, "root", "postgres")


def heed_second(config: dict) -> str:
    """Have pgBackRest know the second repository while it answers, and not otherwise; why not.

    Each segment of the log goes to both. One that is dead would have the first wait for minutes, and the database's disk fill up. So the
    second lacks the log of that time, which is told until the next backup is in it.
    """
    if not common.writes_second(config):
        return ""
    path, why = pathlib.Path(config["pgbackrest_second"]), ""
    try:
        common.reach_second(config)
    except rules.BackupError as exc:
        why = str(exc)
    if not config["policy"]["sets"]:
        return why
    known = common.remembered(config, "second.json", {})
    if why:
        if path.exists():
            path.unlink()
            common.remember(config, "second.json", {**known, "left": int(time.time())})
    else:
        text, key = pathlib.Path(config["second"]["settings"]).read_text(encoding="utf-8"), common.credentials(config)
        cipher = rules.key_of(common.key_text(config), "sets")
        text += f"repo2-cipher-pass={cipher}\nrepo2-s3-key={key['id']}\nrepo2-s3-key-secret={key['secret']}\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_for_postgres(str(path), text)
    return why


def key_differs(config: dict) -> bool:
    try:
        return pathlib.Path(config["pgbackrest_key"]).read_text(encoding="ascii") != key_text(config)
    except FileNotFoundError:
        return True


def catch_up_second(config: dict) -> None:
    """Take note of the second repository; when it is back, a backup closes the gap in its log."""
    if not heed_second(config) and common.writes_second(config) and common.remembered(config, "second.json", {}).get("left"):
        common.run("systemctl", "start", "--no-block", "crm-platform-backup-incr.service", check=False)


def unfinished(config: dict) -> None:
    """Refuse while a restore has not come to its end."""
    if common.remembered(config, "restoring.json", None):
        raise rules.BackupError("a restore was killed half-way: put the old data back with `crm-platform-backup undo`, or run the restore again")


def base(config: dict) -> list[str]:
    """What is missing of directories and keys, in the order in which it is made."""
    steps = [f"directory {path}" for path, rights in directories(config).items() if not owned(path, *rights)]
    if not os.path.exists(config["key"]):
        if common.kept_elsewhere(config):
            raise rules.BackupError(f"{config['key']} is missing: run the role crm.platform.backup, which has it from {config['peer']['host']}")
        steps.append("key")
    if config["policy"]["sets"] and not common.kept_elsewhere(config) and ("key" in steps or key_differs(config)):
        steps.append("key for pgBackRest")
    return steps


def missing(config: dict) -> list[str]:
    """What a host lacks until its backups can be relied on, in the order in which it is made."""
    steps = base(config)
    if config["policy"]["sets"] and not common.kept_elsewhere(config):
        steps += missing_sets(config, "key for pgBackRest" not in steps)
    if config["policy"]["database"]:
        steps += missing_archive(config)
    if config["policy"]["files"]:
        found = missing_files(config, steps)
        # The first full backup has the files in it.
        steps += [step for step in found if not (step == "first backup of the files" and "first backup" in steps)]
    if common.writes_second(config) and not second_begun(config):
        steps.append("second repository")
    return steps


def missing_sets(config: dict, readable: bool) -> list[str]:
    """Of the stanza and its sets, on the host that has the repository."""
    if not os.path.exists(os.path.join(config["repository"], "database", "archive", config["stanza"], "archive.info")):
        return ["stanza", "first backup"]
    if not readable:
        return ["first backup"]
    known = common.stanza(config)
    if config["policy"]["database"]:
        check_system(config, known)
    return [] if any(one.kind == "full" for one in rules.sets_of(known)) else ["first backup"]


def missing_archive(config: dict) -> list[str]:
    """Of PostgreSQL's settings, on the database's host."""
    live = look.archiver(config)
    if live is None:
        raise rules.BackupError(f"PostgreSQL {config['cluster']['version']}/main does not answer; start it first")
    steps = [] if live["mode"] else ["restart of PostgreSQL with archive_mode"]
    return steps if live["command"] == config["policy"]["archive_command"] else [*steps, "archive_command"]


def missing_files(config: dict, steps: list[str]) -> list[str]:
    """Of the repository of the files, and of the first snapshot in it."""
    if common.kept_elsewhere(config):
        # It is asked once: the answer takes a second.
        done = common.restic(config, "--no-lock", "snapshots", "--json", check=False) if not steps else None
        if done is None or done.returncode:
            unreachable = done is not None and "unable to open config file" not in done.stderr
            if unreachable:
                raise rules.BackupError(f"the repository of the files on {config['peer']['host']}: {common.last_words(done.stderr)}")
            return ["files repository", "first backup of the files"]
        return [] if json.loads(done.stdout) else ["first backup of the files"]
    files = os.path.join(config["repository"], "files")
    found = [] if os.path.exists(os.path.join(files, "config")) else ["files repository"]
    there = os.path.isdir(os.path.join(files, "snapshots")) and os.listdir(os.path.join(files, "snapshots"))
    return found if there else [*found, "first backup of the files"]


def check_system(config: dict, stanza: dict, repository: int = 1, here: str = "") -> None:
    """Refuse a repository that holds another cluster's backups."""
    here = here or common.controldata(config)["Database system identifier"]
    found = str(rules.system_of(stanza, repository))
    if found != here:
        raise rules.BackupError(
            f"the repository {config['repository'] if repository == 1 else common.second_place(config)} holds the backups of another cluster"
            f" (system identifier {found}, here {here});"
            " give backup_repository another directory, or bring that cluster back with crm.platform.rebuild"
        )


def setup(config: dict, check: bool, base_only: bool = False) -> dict:
    """Have everything that backups need, and the first of them; {changed, steps}.

    :param base_only: directories and keys, which a repository's host has to have before its clients come.
    """
    state = directories(config)[config["state"]]
    if not check:
        make_directory(config["state"], *state) if not owned(config["state"], *state) else None
        unfinished(config)
        if not base_only and os.path.exists(config["key"]):
            heed_second(config)
    steps = base(config) if base_only else missing(config)
    since = common.remembered(config, "since.json", {})
    # A repository elsewhere is another one, and begins when it is first used.
    if since.get("place") == place(config):
        refuse_to_begin_anew(config, steps, since["time"])
    if not base_only and resumes(config, steps, since):
        steps.append(AFTER_A_GAP)
    if check or not steps:
        return {"changed": bool(steps), "steps": steps, "key_exported": look.key_exported(config)}
    if config["policy"]["database"] and since and (AFTER_A_GAP in steps or paused(steps)):
        # Before the log flows again: whatever cuts this off, that is known.
        common.remember(config, "since.json", {**since, "resumed": int(time.time())})
    with common.alone(config, "setup", WAIT):
        for path, rights in directories(config).items():
            make_directory(path, *rights)
        actions: dict[str, t.Callable] = {
            "key": lambda: make_key(config),
            "key for pgBackRest": lambda: hand_key_on(config),
            "stanza": lambda: make_stanza(config),
            "files repository": lambda: make_files_repository(config),
            "restart of PostgreSQL with archive_mode": lambda: common.run("systemctl", "restart", config["cluster"]["unit"]),
            "archive_command": lambda: common.run("systemctl", "reload", config["cluster"]["unit"]),
        }
        for step in steps:
            if step in actions:
                common.say(step)
                actions[step]()
        if config["policy"]["database"]:
            wait_for_archive(config)
    if {"first backup", "first backup of the files", AFTER_A_GAP} & set(steps):
        backup(config, "full" if "first backup" in steps else "incr")
    if "second repository" in steps and not second_begun(config):
        with common.alone(config, "backup", WAIT):
            save_second(config, "incr")
    if not base_only:
        since = common.remembered(config, "since.json", {})
        if since.get("place") != place(config):
            common.remember(config, "since.json", {**since, "time": int(time.time()), "place": place(config)})
        look.write(config)
    # The first is well by now, and the next backup tries again.
    if "second repository" in steps and not second_begun(config):
        raise rules.BackupError(f"the second repository, {common.second_place(config)}: {common.remembered(config, 'second.json', {}).get('error')}")
    return {"changed": True, "steps": steps, "key_exported": look.key_exported(config)}


def paused(steps: list[str]) -> bool:
    """Whether the log does not go to the repository."""
    return "archive_command" in steps or "restart of PostgreSQL with archive_mode" in steps


def resumes(config: dict, steps: list[str], since: dict) -> bool:
    """Whether there are backups from which no log leads to now, so that another one has to be taken."""
    if "first backup" in steps or "first backup of the files" in steps:
        # It is taken anyway.
        return False
    if since and since.get("place") != place(config):
        # Meanwhile all went to another repository.
        return True
    if not config["policy"]["sets"] or common.kept_elsewhere(config):
        return False
    if paused(steps):
        return True
    if any(step.startswith("key") or step == "stanza" for step in steps):
        return False
    known = common.stanza(config)
    gap = look.gap(config, known)
    if gap and time.time() - gap.since < config["policy"]["archive_max_seconds"]:
        # Segments overtake one another on their way.
        time.sleep(OVERTAKEN)
        gap = look.gap(config, known)
    return rules.usable_from(rules.sets_of(known), gap, since.get("resumed") or 0) is None


def place(config: dict) -> str:
    return f"{config['repository']} on {config['peer']['host']}" if common.kept_elsewhere(config) else config["repository"]


def refuse_to_begin_anew(config: dict, steps: list[str], since: float) -> None:
    """What was there once and is not any more is to be brought back, not to be made anew in silence."""
    if any(step in ("stanza", "files repository") for step in steps):
        raise rules.BackupError(
            f"{place(config)} holds no repository, but backups were made into it since {rules.utc(since)}: mount what belongs there;"
            f" where it is lost, remove {common.state_path(config, 'since.json')} to begin anew"
        )
    if "key" in steps:
        raise rules.BackupError(
            f"{config['key']} is missing, and without it nobody reads the repository {place(config)}: put it back from its export"
        )


def make_stanza(config: dict, repository: int = 1) -> None:
    """In the first repository, or in both."""
    # Segments of the log that are on their way, and do not arrive as long as this was not done, hold a lock.
    common.patient_pgbackrest(config, "stanza-create", repository=1 if repository == 1 else 0)
    take_over(config)


def make_files_repository(config: dict) -> None:
    # A run that was killed may have made it after it was looked for.
    if common.restic(config, "--no-lock", "cat", "config", check=False).returncode:
        common.restic(config, "init", "--repository-version", "2")


def take_over(config: dict) -> None:
    """On a repository's host: what the server has received belongs to the keeper from now on.

    The server that the database's host reaches runs as postgres. In directories with the sticky bit it may add, but not remove or
    replace what is another user's: so a database's host that fell cannot take old log or sets with it.
    """
    if not common.keeps_for_others(config):
        return
    keeper, server = pwd.getpwnam(common.KEEPER).pw_uid, pwd.getpwnam("postgres").pw_uid
    archive = os.path.join(config["repository"], "database", "archive", config["stanza"])
    for dummy, dummy, files, handle in os.fwalk(archive):
        os.fchown(handle, keeper, -1)
        os.fchmod(handle, 0o3770)
        for name in files:
            # One that is being written has this end, and is renamed when it is whole.
            if not name.endswith(".pgbackrest.tmp"):
                try:
                    if os.stat(name, dir_fd=handle, follow_symlinks=False).st_uid == server:
                        os.chown(name, keeper, -1, dir_fd=handle, follow_symlinks=False)
                except FileNotFoundError:
                    pass


def wait_for_archive(config: dict) -> None:
    """Until PostgreSQL has taken up the command, and a segment of the log has reached the repository."""
    for dummy in range(40):
        live = look.archiver(config)
        if live and live["command"] == config["policy"]["archive_command"] and live["mode"]:
            # A repository's host looks itself, once it has made the stanza; and sees a gap in the log by what came after it.
            if not common.kept_elsewhere(config) or known_elsewhere(config):
                common.pgbackrest(config, "check", f"--archive-timeout={common.ARCHIVED}", repository=1)
            return
        time.sleep(0.25)
    raise rules.BackupError(f"PostgreSQL did not take up archive_command; see `journalctl -u {config['cluster']['unit']}`")


def known_elsewhere(config: dict) -> bool:
    """Whether the repository's host has made the stanza."""
    try:
        common.stanza(config)
    except (rules.BackupError, ValueError):
        return False
    return True


def backup(config: dict, kind: str) -> dict:
    """Save the database and the files. One that fails does not keep the other from being saved."""
    result: dict = {"type": kind}
    try:
        with common.alone(config, "backup", WAIT), common.recorded(config, "backup") as entry:
            unfinished(config)
            heed_second(config)
            errors = []
            for name, action in parts(config):
                try:
                    result[name] = action(config, kind)
                except (rules.BackupError, OSError, ValueError) as exc:
                    errors.append(f"{name}: {exc}")
            if errors:
                raise rules.BackupError("; ".join(errors))
            entry["result"] = result
    finally:
        look.write(config)
    return result


def parts(config: dict) -> list[tuple[str, t.Callable]]:
    """What a backup does on this host."""
    found: list[tuple[str, t.Callable]] = []
    if config["policy"]["sets"] and not common.kept_elsewhere(config):
        found.append(("database", save_database))
    if config["policy"]["files"]:
        found.append(("files", save_files))
    if common.keeps_for_others(config):
        found.append(("expired", expire_files))
    if common.writes_second(config):
        found.append(("second", save_second))
    return found


def save_database(config: dict, kind: str) -> dict:
    common.say(f"{rules.KINDS[kind]} backup of the database")
    take_over(config)
    return save_sets(config, kind, 1)


def save_sets(config: dict, kind: str, repository: int) -> dict:
    """A backup of the database into one repository."""
    words = ("backup", f"--type={kind}", f"--archive-timeout={common.ARCHIVED}", "--no-expire-auto")
    common.patient_pgbackrest(config, *words, repository=repository)
    made = rules.sets_of(common.stanza(config, repository), repository)[-1]
    if made.damaged:
        # It would drive out the good ones: nothing is removed until a set is whole again.
        raise rules.BackupError(
            f"{made.label} was made, but pages of the database are damaged; `pgbackrest info --stanza={config['stanza']}` names the files"
        )
    common.patient_pgbackrest(config, "expire", repository=repository)
    return made.shown()


def second_begun(config: dict) -> bool:
    """Whether the second repository was made. What vanished from it is told, not made anew in silence."""
    return common.remembered(config, "second.json", {}).get("place") == common.second_place(config)


def save_second(config: dict, kind: str) -> dict:
    """The same into the second repository. What fails there is remembered and told, and is no failure of the backup."""
    common.say(f"{rules.KINDS[kind]} backup into the second repository, {common.second_place(config)}")
    begun, result, errors = second_begun(config), {}, []
    try:
        why = heed_second(config)
        if why:
            errors.append(why)
        elif config["policy"]["sets"]:
            result["database"] = save_second_sets(config, kind, begun)
    except (rules.BackupError, OSError, ValueError) as exc:
        errors.append(str(exc))
    # One line is enough of one that does not answer.
    forged = {client: one["forged"] for client, one in look.clients(config).items()}
    for client in [] if errors else config["clients"] or [""]:
        try:
            copy_files(config, client, begun)
            if not forged.get(client):
                unlocked(config, *forget_words(config, kind), client=client)
        except (rules.BackupError, OSError, ValueError) as exc:
            errors.append(f"files{' of ' + client if client else ''}: {exc}")
    known = {**common.remembered(config, "second.json", {}), "time": int(time.time()), "error": "; ".join(errors)}
    if not errors:
        known.update(place=common.second_place(config), left=None)
    common.remember(config, "second.json", known)
    return {**result, "place": common.second_place(config), "error": known["error"]}


def save_second_sets(config: dict, kind: str, begun: bool) -> dict:
    if not begun:
        make_stanza(config, 2)
    return save_sets(config, kind, 2)


def copy_files(config: dict, client: str, begun: bool) -> None:
    """Copy the snapshots of the files that are not there yet."""
    if not begun and common.restic_second(config, "--no-lock", "cat", "config", check=False, client=client).returncode:
        # Cut in the same places, what both hold is stored once.
        common.restic_second(config, "init", "--repository-version", "2", "--copy-chunker-params", client=client)
    unlocked(config, "copy", "--quiet", client=client)


def unlocked(config: dict, *words: str, client: str) -> None:
    """restic on the second repository, once more without the locks that a killed run has left there."""
    done = common.restic_second(config, *words, check=False, client=client)
    if done.returncode and common.LOCKED in done.stderr:
        common.restic_second(config, "unlock", check=False, client=client)
        done = common.restic_second(config, *words, check=False, client=client)
    if done.returncode:
        raise rules.BackupError(f"restic failed ({done.returncode}): {common.last_words(done.stderr + done.stdout)}")


def save_files(config: dict, kind: str) -> dict:
    paths, began = [path for path in config["files"] if os.path.exists(path)], time.time()
    excluded = [word for path in config["files_exclude"] for word in ("--exclude", path)]
    common.say(f"backup of {', '.join(paths)}")
    common.restic(config, "unlock", check=False)
    done = common.patient_restic(config, "backup", "--json", "--host", config["name"], "--tag", kind, *excluded, "--", *paths)
    summary = next(one for one in map(json.loads, reversed(done.stdout.splitlines())) if one.get("message_type") == "summary")
    common.remember(config, "followed.json", {"saved": began})
    if not common.kept_elsewhere(config):
        expire(config, kind)
    return {
        "snapshot": summary["snapshot_id"],
        "files": summary["total_files_processed"],
        "size": summary["total_bytes_processed"],
        "added": summary["data_added"],
        "paths": paths,
    }


def expire(config: dict, kind: str, client: str = "") -> None:
    """Forget the snapshots that the retention does not keep."""
    done = common.restic(config, *forget_words(config, kind), client=client, check=False)
    if common.LOCKED in done.stderr:
        # A backup of that host is under way; the next run is soon enough.
        common.say(f"the files{' of ' + client if client else ''} are in use, nothing of them is expired now")
    elif done.returncode:
        raise rules.BackupError(f"restic failed ({done.returncode}): {common.last_words(done.stderr + done.stdout)}")


def forget_words(config: dict, kind: str) -> list[str]:
    keep = [word for name, count in config["files_keep"].items() for word in (f"--keep-{name}", str(count))]
    # Pruning reads and writes much; it goes with the full backup.
    # By restic's own grouping the snapshots of an earlier set of paths would be kept for ever; other hosts' are not touched.
    return ["forget", "--quiet", "--group-by", "host", "--keep-within", YOUNG, *keep, *(["--prune"] if kind == "full" else [])]


def expire_now(config: dict) -> dict:
    """Remove at once what the retention does not keep, for a repository that is full: else that follows a backup that succeeded."""
    if common.kept_elsewhere(config):
        raise rules.BackupError(f"the repository is on {config['peer']['host']}; expire there")
    try:
        with common.alone(config, "expire", WAIT):
            if config["policy"]["sets"]:
                common.pgbackrest(config, "expire", repository=1)
            if common.keeps_for_others(config):
                expire_files(config, "full")
            else:
                expire(config, "full")
    finally:
        found = look.write(config)
    return {"space": found["space"]}


def expire_files(config: dict, kind: str) -> list[str]:
    """On a repository's host, whose clients can add and not remove: the clients whose snapshots were looked through."""
    done = []
    found = look.clients(config)
    for client, one in found.items():
        # What one that fell has sent in with false times would drive out what is true.
        if one["snapshots"] and not one["forged"]:
            common.restic(config, "unlock", check=False, client=client)
            expire(config, kind, client)
            done.append(client)
    return done


def verify(config: dict) -> dict:
    """Read the repositories whole. What is wrong stays in the state until a later verification finds nothing."""
    if common.kept_elsewhere(config):
        raise rules.BackupError(f"the repository is on {config['peer']['host']}; verify it there")
    try:
        with common.alone(config, "verify", WAIT):
            read_whole(config)
    finally:
        look.write(config)
    return {"complaints": []}


def read_whole(config: dict) -> None:
    """Read the repositories, and record that; BackupError with all that is wrong."""
    with common.recorded(config, "verify"):
        complaints = inspect(config)
        if complaints:
            raise rules.BackupError(common.all_of(complaints))


def inspect(config: dict) -> list[str]:
    """Complaints about the repositories of database and files, remembered as well."""
    complaints, damaged = [], {}
    if config["policy"]["sets"]:
        found, named = inspect_sets(config, 1)
        damaged = {**headless(config), **named}
        complaints += [f"database: {rules.damage(path, what)}" for path, what in sorted(damaged.items())] + found
        complaints += [f"database: {one}" for one in unverified(config)]
    for client in config["clients"] or [""]:
        done = common.patient_restic(config, "check", "--read-data", check=False, client=client)
        if done.returncode:
            complaints.append(f"files{' of ' + client if client else ''}: {common.last_words(done.stderr)}")
    common.remember(config, "verify.json", {"time": int(time.time()), "complaints": complaints, "segments": rules.segments_of(damaged)})
    if common.writes_second(config):
        common.remember(config, "second.json", {**common.remembered(config, "second.json", {}), "complaints": inspect_second(config)})
    return complaints


def inspect_sets(config: dict, repository: int) -> tuple[list[str], dict[str, str]]:
    """(complaints, {damaged file: what is wrong with it}). What names the files pgBackRest calls information."""
    done = common.pgbackrest(config, "verify", "--output=text", "--verbose", check=False, repository=repository, level="info")
    complaints = [f"database: {one}" for one in rules.verified(done.stdout)]
    if done.returncode:
        complaints.append(f"database: {common.last_words(done.stderr + done.stdout)}")
    return complaints, rules.damaged_files(done.stdout)


def headless(config: dict) -> dict[str, str]:
    """{segment of the log: what is wrong with it} of those that do not begin as what is encrypted does: pgBackRest ends at such a one and names none."""
    archive, found = pathlib.Path(config["repository"], "database", "archive", config["stanza"]), {}
    for path in sorted(archive.glob("*/*/*-*")):
        if rules.SEGMENT.fullmatch(path.name):
            try:
                with path.open("rb") as file:
                    begins = file.read(len(ENCRYPTED))
            except FileNotFoundError:
                # Expired meanwhile.
                continue
            if begins != ENCRYPTED:
                found[str(path.relative_to(archive))] = "invalid header"
    return found


def inspect_second(config: dict) -> list[str]:
    """Complaints about the second repository, which say nothing of the first."""
    complaints = []
    try:
        common.reach_second(config)
        if config["policy"]["sets"]:
            found, damaged = inspect_sets(config, 2)
            complaints += [f"database: {rules.damage(path, what, 2)}" for path, what in sorted(damaged.items())] + found
        for client in config["clients"] or [""]:
            done = common.restic_second(config, "check", "--read-data", check=False, client=client)
            if done.returncode:
                complaints.append(f"files{' of ' + client if client else ''}: {common.last_words(done.stderr)}")
    except (rules.BackupError, OSError) as exc:
        complaints.append(str(exc))
    return complaints


def unverified(config: dict) -> list[str]:
    """Damage in what pgBackRest reads around, or does not look at, when it verifies: the twins of its own files, the histories of timelines."""
    database, found = pathlib.Path(config["repository"], "database"), []
    for copy in sorted(database.rglob("*.copy")):
        twin = copy.with_suffix("")
        try:
            if not filecmp.cmp(copy, twin, shallow=False):
                found.append(f"{twin.relative_to(database)} and its copy differ: one of them is damaged")
        except FileNotFoundError:
            # Expired meanwhile, or its backup was cut off.
            if copy.exists() and twin.name != "backup.manifest":
                found.append(f"{twin.relative_to(database)} is missing")
    for path in sorted(database.glob("archive/*/*/*.history")):
        name = str(path.relative_to(database))
        done = common.pgbackrest(config, "repo-get", name, check=False, repository=1)
        if path.exists():
            complaint = rules.history_complaint(name, done.stdout) if done.returncode == 0 else f"{name}: {common.last_words(done.stderr)}"
            found += [complaint] if complaint else []
    return found


def restore_files(config: dict, path: str) -> dict:
    """The newest files of this host, or those below a path, to where they were."""
    if common.keeps_for_others(config):
        raise rules.BackupError(f"{config['name']} saves no files of its own; run it on {' or '.join(config['clients'])}")
    # On a host that is being rebuilt the state was not made yet.
    make_directory(config["state"], *directories(config)[config["state"]])
    with common.alone(config, "files", WAIT):
        include = ["--include", path] if path else []
        common.say(f"bringing back {path or 'all files'}")
        common.restic(config, "--no-lock", "restore", "latest", "--host", config["name"], "--target", "/", *include)
    return {"path": path or "/"}


def hand_out(config: dict, client: str, pki: bool) -> dict:
    """What a client needs: the key of its files; for one that is rebuilt its certificates as well, which it had saved."""
    if not common.keeps_for_others(config) or client not in config["clients"]:
        raise rules.BackupError(f"{config['name']} keeps no backups of {client}; it keeps those of {', '.join(config['clients']) or 'nobody'}")
    found: dict = {"key": rules.key_of_files(common.key_text(config), client), "files": {}}
    if pki:
        with tempfile.TemporaryDirectory(dir="/run") as place:
            shutil.chown(place, common.KEEPER, "postgres")
            common.restic(config, "--no-lock", "restore", "latest", "--target", place, "--include", config["pki"], client=client)
            for path in sorted(pathlib.Path(place).rglob("*")):
                if path.is_file():
                    found["files"][f"/{path.relative_to(place)}"] = path.read_text(encoding="ascii")
        if not found["files"]:
            raise rules.BackupError(f"the newest backup of {client} holds no {config['pki']}")
    return found


def exported(config: dict) -> dict:
    """From now on the key counts as exported, until there is another."""
    known = common.remembered(config, "exported.json", {}).get("fingerprint") == common.fingerprint(config)
    if not known:
        common.remember(config, "exported.json", {"time": int(time.time()), "fingerprint": common.fingerprint(config)})
        look.write(config)
    return {"changed": not known}
