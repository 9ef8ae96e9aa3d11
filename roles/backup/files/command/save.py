# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What saves: the repository and its key, backups of database and files, the verification of what was saved."""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import shutil
import string
import time
import typing as t

import common
import look
import rules

WAIT = 3600


def owned(path: str, owner: str, mode: int) -> bool:
    """Whether a directory is there, with these rights."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return (found.st_uid, found.st_mode & 0o777) == (uid(owner), mode)


def uid(name: str) -> int:
    import pwd

    return pwd.getpwnam(name).pw_uid


def directories(config: dict) -> dict[str, tuple[str, int]]:
    wanted = {config["state"]: ("root", 0o700), config["repository"]: ("root", 0o711), os.path.join(config["repository"], "files"): ("root", 0o700)}
    if config["policy"]["database"]:
        wanted[os.path.join(config["repository"], "database")] = ("postgres", 0o750)
    return wanted


def make_directory(path: str, owner: str, mode: int) -> None:
    os.makedirs(path, exist_ok=True)
    shutil.chown(path, owner, owner)
    os.chmod(path, mode)


def make_key(config: dict) -> None:
    """Once; it is never shown, and an existing one never replaced."""
    letters = string.ascii_letters + string.digits
    common.write_whole(config["key"], "".join(secrets.choice(letters) for dummy in range(48)) + "\n", 0o600)


def key_text(config: dict) -> str:
    """pgBackRest's part of its configuration that holds the key."""
    key = pathlib.Path(config["key"]).read_text(encoding="ascii").strip()
    return f"# Made from {config['key']} by crm-platform-backup.\n[global]\nrepo1-cipher-pass={key}\n"


def hand_key_on(config: dict) -> None:
    common.write_whole(config["pgbackrest_key"], key_text(config), 0o640)
    shutil.chown(config["pgbackrest_key"], "root", "postgres")


def key_differs(config: dict) -> bool:
    try:
        return pathlib.Path(config["pgbackrest_key"]).read_text(encoding="ascii") != key_text(config)
    except FileNotFoundError:
        return True


def unfinished(config: dict) -> None:
    """Refuse while a restore has not come to its end."""
    if common.remembered(config, "restoring.json", None):
        raise rules.BackupError("a restore was killed half-way: put the old data back with `crm-platform-backup undo`, or run the restore again")


def missing(config: dict) -> list[str]:
    """What a host lacks until its backups can be relied on, in the order in which it is made."""
    steps = [f"directory {path}" for path, (owner, mode) in directories(config).items() if not owned(path, owner, mode)]
    if not os.path.exists(config["key"]):
        steps.append("key")
    files = os.path.join(config["repository"], "files")
    if not os.path.exists(os.path.join(files, "config")):
        steps.append("files repository")
    if config["policy"]["database"]:
        if "key" in steps or key_differs(config):
            steps.append("key for pgBackRest")
        stanza = os.path.join(config["repository"], "database", "archive", config["stanza"], "archive.info")
        sets = []
        if not os.path.exists(stanza):
            steps.append("stanza")
        elif "key for pgBackRest" not in steps:
            known = rules.stanza_of(json.loads(common.pgbackrest(config, "info", "--output=json").stdout), config["stanza"])
            sets = rules.sets_of(known)
            check_system(config, known)
        live = look.archiver(config)
        if live is None:
            raise rules.BackupError(f"PostgreSQL {config['cluster']['version']}/main does not answer; start it first")
        if not live["mode"]:
            steps.append("restart of PostgreSQL with archive_mode")
        if live["command"] != config["policy"]["archive_command"]:
            steps.append("archive_command")
        if not any(one.kind == "full" for one in sets):
            steps.append("first backup")
    if "first backup" not in steps and not (os.path.isdir(os.path.join(files, "snapshots")) and os.listdir(os.path.join(files, "snapshots"))):
        steps.append("first backup of the files")
    return steps


def check_system(config: dict, stanza: dict) -> None:
    """Refuse a repository that holds another cluster's backups."""
    here = common.controldata(config)["Database system identifier"]
    if str(rules.system_of(stanza)) != here:
        raise rules.BackupError(
            f"the repository {config['repository']} holds the backups of another cluster (system identifier {rules.system_of(stanza)}, here {here});"
            " give backup_repository another directory, or bring that cluster back with crm.platform.rebuild"
        )


def setup(config: dict, check: bool) -> dict:
    """Have everything that backups need, and the first of them; {changed, steps}."""
    if not check:
        make_directory(config["state"], "root", 0o700) if not owned(config["state"], "root", 0o700) else None
        unfinished(config)
    steps = missing(config)
    since = common.remembered(config, "since.json", None)
    if since and any(step in ("stanza", "files repository") for step in steps):
        raise rules.BackupError(
            f"{config['repository']} holds no repository, but backups were made into it since {rules.utc(since['time'])}: mount what belongs there;"
            f" where it is lost, remove {common.state_path(config, 'since.json')} to begin anew"
        )
    if since and "key" in steps:
        raise rules.BackupError(f"{config['key']} is missing, and without it nobody reads the repository {config['repository']}: put it back from its export")
    if check or not steps:
        return {"changed": bool(steps), "steps": steps}
    with common.alone(config, "setup", WAIT):
        for path, (owner, mode) in directories(config).items():
            make_directory(path, owner, mode)
        actions: dict[str, t.Callable] = {
            "key": lambda: make_key(config),
            "key for pgBackRest": lambda: hand_key_on(config),
            "stanza": lambda: common.pgbackrest(config, "stanza-create"),
            "files repository": lambda: common.restic(config, "init", "--repository-version", "2"),
            "restart of PostgreSQL with archive_mode": lambda: common.run("systemctl", "restart", config["cluster"]["unit"]),
            "archive_command": lambda: common.run("systemctl", "reload", config["cluster"]["unit"]),
        }
        for step in steps:
            if step in actions:
                common.say(step)
                actions[step]()
        if config["policy"]["database"]:
            wait_for_archive(config)
    if "first backup" in steps or "first backup of the files" in steps:
        backup(config, "full" if "first backup" in steps else "incr")
    if since is None:
        common.remember(config, "since.json", {"time": int(time.time())})
    look.write(config)
    return {"changed": True, "steps": steps}


def wait_for_archive(config: dict) -> None:
    """Until PostgreSQL has taken up the command, and a segment of the log has reached the repository."""
    for dummy in range(40):
        live = look.archiver(config)
        if live and live["command"] == config["policy"]["archive_command"] and live["mode"]:
            common.pgbackrest(config, "check", "--archive-timeout=60")
            return
        time.sleep(0.25)
    raise rules.BackupError(f"PostgreSQL did not take up archive_command; see `journalctl -u {config['cluster']['unit']}`")


def backup(config: dict, kind: str) -> dict:
    """Save the database and the files. One that fails does not keep the other from being saved."""
    result: dict = {"type": kind}
    try:
        with common.alone(config, "backup", WAIT), common.recorded(config, "backup") as entry:
            unfinished(config)
            errors = []
            for name, action in (("database", save_database), ("files", save_files)):
                if name == "database" and not config["policy"]["database"]:
                    continue
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


def save_database(config: dict, kind: str) -> dict:
    common.say(f"{rules.KINDS[kind]} backup of the database")
    common.pgbackrest(config, "backup", f"--type={kind}")
    stanza = rules.stanza_of(json.loads(common.pgbackrest(config, "info", "--output=json").stdout), config["stanza"])
    made = rules.sets_of(stanza)[-1]
    if made.damaged:
        raise rules.BackupError(f"{made.label} was made, but pages of the database are damaged; `pgbackrest info --stanza={config['stanza']}` names the files")
    return made.shown()


def save_files(config: dict, kind: str) -> dict:
    paths = [path for path in config["files"] if os.path.exists(path)]
    excluded = [word for path in config["files_exclude"] for word in ("--exclude", path)]
    common.say(f"backup of {', '.join(paths)}")
    common.restic(config, "unlock", check=False)
    done = common.restic(config, "backup", "--json", "--host", config["name"], "--tag", kind, *excluded, "--", *paths)
    summary = next(one for one in map(json.loads, reversed(done.stdout.splitlines())) if one.get("message_type") == "summary")
    keep = [word for name, count in config["files_keep"].items() for word in (f"--keep-{name}", str(count))]
    # Pruning reads and writes much; it goes with the full backup.
    common.restic(config, "forget", "--quiet", *keep, *(["--prune"] if kind == "full" else []))
    return {
        "snapshot": summary["snapshot_id"],
        "files": summary["total_files_processed"],
        "size": summary["total_bytes_processed"],
        "added": summary["data_added"],
        "paths": paths,
    }


def verify(config: dict) -> dict:
    """Read both repositories whole. What is wrong stays in the state until a later verification finds nothing."""
    try:
        with common.alone(config, "verify", WAIT), common.recorded(config, "verify"):
            complaints = inspect(config)
            if complaints:
                raise rules.BackupError("; ".join(complaints[:5]))
    finally:
        look.write(config)
    return {"complaints": []}


def inspect(config: dict) -> list[str]:
    """Complaints about both repositories, remembered as well."""
    complaints = []
    if config["policy"]["database"]:
        done = common.pgbackrest(config, "verify", "--output=text", "--verbose", check=False)
        complaints += [f"database: {one}" for one in rules.verified(done.stdout)]
        if done.returncode:
            complaints.append(f"database: {common.last_words(done.stderr + done.stdout)}")
    done = common.restic(config, "check", "--read-data", check=False)
    if done.returncode:
        complaints.append(f"files: {common.last_words(done.stderr)}")
    common.remember(config, "verify.json", {"time": int(time.time()), "complaints": complaints})
    return complaints


def restore_files(config: dict, path: str) -> dict:
    """The newest files of this host, or those below a path, to where they were."""
    # On a host that is being rebuilt the state was not made yet.
    make_directory(config["state"], "root", 0o700)
    with common.alone(config, "files", WAIT):
        include = ["--include", path] if path else []
        common.say(f"bringing back {path or 'all files'}")
        common.restic(config, "--no-lock", "restore", "latest", "--host", config["name"], "--target", "/", *include)
    return {"path": path or "/"}


def exported(config: dict) -> dict:
    """From now on the key counts as exported, until there is another."""
    known = common.remembered(config, "exported.json", {}).get("fingerprint") == common.fingerprint(config)
    if not known:
        common.remember(config, "exported.json", {"time": int(time.time()), "fingerprint": common.fingerprint(config)})
        look.write(config)
    return {"changed": not known}
