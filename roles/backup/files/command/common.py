# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every command needs: the configuration, other programs, one lock, and files that are written whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import typing as t

import rules

CONFIG = "/etc/crm-platform/backup.json"
# Who owns the sets on a repository's host. The server that the database's host reaches is another user, who cannot remove them.
KEEPER = "crm-backup"
PGBACKREST_CONFIG = "/etc/pgbackrest/pgbackrest.conf"
# Seconds within which the repository's host has to answer.
REACH = 5
# Seconds to wait for a locked repository of files, and what restic says of one.
LOCK_WAIT = 900
LOCKED = "already locked"
# What pgBackRest says where another of its runs holds a lock, here or on the other host, and the seconds to wait for it.
LOCKED_SETS, WAIT_FOR_SETS = "is another pgBackRest process running", 120
# Runs that make room: they must not fail for want of it before they have begun.
MAKE_ROOM = ("recover", "forget", "undo", "expire")
# What the system says where nothing can be written any more.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Seconds within which a segment of the log has to be in the repository; where a second one is dead it takes a while to be in the first.
ARCHIVED = 300


def say(text: str) -> None:
    """One line of progress, for the journal."""
    print(text, file=sys.stderr, flush=True)


def all_of(complaints: list[str]) -> str:
    """Them in one line, as many as fit; the journal has all."""
    for one in complaints if len(complaints) > 1 else []:
        say(one)
    return rules.listed(complaints)


def read_config() -> dict:
    path = os.environ.get("CRM_PLATFORM_BACKUP_CONFIG", CONFIG)
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise rules.BackupError(f"{path} is missing: run the role crm.platform.backup on this host") from None
    except ValueError as exc:
        raise rules.BackupError(f"{path} is no JSON ({exc}): run the role crm.platform.backup on this host again") from None


def last_words(text: str) -> str:
    """The errors of a program's output in one line, or what it said last."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    errors = [line.split("ERROR: ", 1)[1] for line in lines if "ERROR: " in line] or [line for line in lines if "FATAL: " in line]
    if rules.NOT_LATER.search(text):
        errors.append("the clock was put back: correct it, or wait until it is later than that label, which is a time in UTC")
    if errors:
        return rules.in_short(rules.listed(list(dict.fromkeys(errors))) + text[text.find("\n") :])
    return lines[-1] if lines else ""


def run(*words: str, check: bool = True, text: str | None = None, **options) -> subprocess.CompletedProcess:
    """Run a program; BackupError with what it said where it fails."""
    # What programs say is read here, in one language.
    environment = {**(options.pop("env", None) or os.environ), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        words, check=False, text=True, errors="replace", input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", env=environment, **options
    )
    if check:
        assert_done(words, done)
    return done


def assert_done(words: tuple, done: subprocess.CompletedProcess) -> None:
    if done.returncode:
        program = next(word for word in words if word != "setpriv" and not word.startswith("--"))
        say((done.stderr + done.stdout).strip())
        raise rules.BackupError(f"{os.path.basename(program)} failed ({done.returncode}): {last_words(done.stderr + done.stdout)}")


def as_user(user: str, *words: str, **options) -> subprocess.CompletedProcess:
    return run("setpriv", f"--reuid={user}", "--regid=postgres", "--init-groups", *words, **options)


def as_postgres(*words: str, **options) -> subprocess.CompletedProcess:
    return as_user("postgres", *words, **options)


def keeps_for_others(config: dict) -> bool:
    """Whether this is a repository's host."""
    return config["mode"] == "host"


def kept_elsewhere(config: dict) -> bool:
    """Whether the repository is on a host of its own, and this one of those that it is for."""
    return config["mode"] == "client"


def writes_second(config: dict) -> bool:
    """Whether there is a second repository that this host itself writes into; a client's is written by the repository's host."""
    return bool(config["second"]) and not kept_elsewhere(config)


def pgbackrest(
    config: dict, command: str, *options: str, repository: int = 0, env: dict | None = None, level: str = "warn", **more
) -> subprocess.CompletedProcess:
    """pgBackRest on one of the repositories, on all of them where none is named."""
    # pgBackRest names a set after the local time, and refuses one that is not later than the last: after summer time, for an hour.
    environment = {**os.environ, **(env or {}), "TZ": "UTC"}
    if kept_elsewhere(config):
        reach(config, "database_port")
    elif repository == 2:
        reach_second(config)
    if repository and config["second"]:
        if command in ("check", "stanza-create"):
            # These know no --repo, and one that is dead fails the other. What is said of the second is in conf.d, and so is the key.
            options = (*options, f"--config={PGBACKREST_CONFIG}")
            if not kept_elsewhere(config):
                environment["PGBACKREST_REPO1_CIPHER_PASS"] = rules.key_of(key_text(config), "sets")
        else:
            options = (*options, f"--repo={repository}")
    words = ("pgbackrest", f"--stanza={config['stanza']}", f"--log-level-console={level}", command, *options)
    if not keeps_for_others(config):
        return named_later(words, environment, "postgres", **more)
    # Locks and logs in the configuration are the server's, who is another user. Not every command knows these options.
    environment.update(PGBACKREST_LOCK_PATH=state_path(config, "lock-pgbackrest"), PGBACKREST_LOG_LEVEL_FILE="off")
    return named_later(words, environment, KEEPER, **more)


def named_later(words: tuple, environment: dict, user: str, check: bool = True, **more) -> subprocess.CompletedProcess:
    """Run pgBackRest; once more where a set bears a name of the future, as a zone east of UTC, or a clock that was wrong, has given it."""
    done = as_user(user, *words, env=environment, check=False, **more)
    zone = rules.zone_after(done.stderr + done.stdout, time.time()) if done.returncode else ""
    if zone:
        done = as_user(user, *words, env={**environment, "TZ": zone}, check=False, **more)
    if check:
        assert_done(words, done)
    return done


def patient_pgbackrest(config: dict, command: str, *options: str, **more) -> None:
    """pgBackRest for what another run keeps out for a while: one by hand, or what a cut network has left on the other host."""
    end, told = time.monotonic() + WAIT_FOR_SETS, False
    while True:
        done = pgbackrest(config, command, *options, check=False, **more)
        said = done.stderr + done.stdout
        if not done.returncode or LOCKED_SETS not in said or time.monotonic() > end:
            break
        if not told:
            say("waiting for another run of pgBackRest, which holds the lock")
        told = True
        time.sleep(2)
    if done.returncode:
        say(said.strip())
        # Of a lock on another host it says only that it found no primary there.
        why = next((line for line in said.splitlines() if "LockAcquireError" in line), "")
        raise rules.BackupError(f"pgbackrest failed ({done.returncode}): {' '.join(why.split()) or last_words(said)}")


def stanza(config: dict, repository: int = 1) -> dict:
    """What pgBackRest tells of the stanza in one of the repositories."""
    said = pgbackrest(config, "info", "--output=json", repository=repository).stdout
    return rules.stanza_of(json.loads(said), config["stanza"], repository)


def broken(config: dict, stanza: dict, sets: list) -> list[str]:
    """Labels of the sets that need a segment of the log which was set aside."""
    return rules.unusable(sets, remembered(config, "aside.json", {}).get(rules.archive_of(stanza)["id"], []))


def from_repository(config: dict, repository: int, data: str = "") -> list[str]:
    """Options of a restore that takes sets and log from one repository: where the other is dead, each segment would wait for it.

    :param data: the data directory, where it is not the live one.
    """
    if not config["second"]:
        return []
    where = f" --pg1-path={data}" if data else ""
    return [f'--recovery-option=restore_command=pgbackrest --stanza={config["stanza"]} --repo={repository}{where} archive-get %f "%p"']


def restic(config: dict, *words: str, client: str = "", **more) -> subprocess.CompletedProcess:
    """restic on this host's repository of files; on a repository's host, on that of one of its clients."""
    if keeps_for_others(config):
        key = rules.key_of_files(key_text(config), client)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "RESTIC_PASSWORD": key, "HOME": "/nonexistent"}
        repository = os.path.join(config["repository"], "files", client)
        return as_user(KEEPER, "restic", "--repo", repository, "--no-cache", *words, env=environment, **more)
    if kept_elsewhere(config):
        peer = config["peer"]
        reach(config, "files_port")
        place = ("--repo", f"rest:https://{peer['host']}:{peer['files_port']}/{config['name']}/", "--cacert", config["tls"]["authority"])
        place += ("--tls-client-cert", certificate(config))
    else:
        place = ("--repo", os.path.join(config["repository"], "files"))
    return run("restic", *place, "--password-file", config["key"], "--no-cache", *words, **more)


def patient_restic(config: dict, *words: str, client: str = "", check: bool = True) -> subprocess.CompletedProcess:
    """restic for what needs the repository to itself, or is kept out by one that does: waits, and removes the locks of the dead."""
    end = time.monotonic() + LOCK_WAIT
    while True:
        done = restic(config, *words, client=client, check=False)
        if done.returncode == 0 or LOCKED not in done.stderr or time.monotonic() > end:
            break
        say("waiting for the repository of the files, which is locked")
        time.sleep(5)
        restic(config, "unlock", client=client, check=False)
    if check and done.returncode:
        say(done.stderr.strip())
        raise rules.BackupError(f"restic failed ({done.returncode}): {last_words(done.stderr + done.stdout)}")
    return done


def restic_second(config: dict, *words: str, client: str = "", **more) -> subprocess.CompletedProcess:
    """restic on the second repository of the files of this host, or of one of its clients; the first is there to copy from."""
    reach_second(config)
    second, keeps = config["second"], keeps_for_others(config)
    key = rules.key_of_files(key_text(config), client) if keeps else key_text(config)
    known = credentials(config)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "AWS_ACCESS_KEY_ID": known["id"],
        "AWS_SECRET_ACCESS_KEY": known["secret"],
        "RESTIC_PASSWORD": key,
        "RESTIC_FROM_PASSWORD": key,
        "RESTIC_FROM_REPOSITORY": os.path.join(config["repository"], "files", client),
    }
    lookup = "dns" if second["uri_style"] == "host" else "path"
    place = ("--repo", f"s3:https://{second['host']}:{second['port']}/{second['bucket']}{second['path']}/files/{client or config['name']}")
    place += ("-o", f"s3.region={second['region']}", "-o", f"s3.bucket-lookup={lookup}")
    place += ("--cacert", second["ca"]) if second["ca"] else ()
    run_it = functools.partial(as_user, KEEPER) if keeps else run
    return run_it("restic", *place, "--no-cache", *words, env=environment, **more)


def credentials(config: dict) -> dict:
    """{id, secret} for the second repository, which the role has written."""
    path = config["second"]["credentials"]
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        raise rules.BackupError(f"{path} is missing or no JSON: run the role crm.platform.backup on this host again") from None


def second_place(config: dict) -> str:
    second = config["second"]
    return f"{second['bucket']}{second['path']} on {second['host']}:{second['port']}"


def reach(config: dict, port: str) -> None:
    """Refuse at once where the repository's host does not answer; restic would try for a quarter of an hour."""
    answer(config["peer"]["host"], config["peer"][port])


def reach_second(config: dict) -> None:
    """Likewise for the second repository."""
    if not config["second"]:
        raise rules.BackupError("there is no second repository; backup_s3_endpoint names one")
    answer(config["second"]["host"], config["second"]["port"])


def answer(*peer) -> None:
    try:
        socket.create_connection(peer, timeout=REACH).close()
    except OSError as exc:
        raise rules.BackupError(f"{peer[0]}:{peer[1]} does not answer ({exc})") from None


def key_text(config: dict) -> str:
    return pathlib.Path(config["key"]).read_text(encoding="ascii").strip()


def certificate(config: dict) -> str:
    """This host's certificate and key in one file, as restic wants them."""
    path = state_path(config, "client.pem")
    text = "".join(pathlib.Path(config["tls"][name]).read_text(encoding="ascii") for name in ("certificate", "key"))
    if not os.path.exists(path) or pathlib.Path(path).read_text(encoding="ascii") != text:
        write_whole(path, text)
    return path


def psql(config: dict, query: str, socket: str = "", database: str = "", check: bool = True) -> str:
    """Answer of a script, its columns parted by |; the live cluster where no socket is named."""
    place = ["-h", socket or config["cluster"]["socket"], "-p", str(config["cluster"]["port"])]
    words = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *place, "-d", database or config["database"], "-f", "-"]
    return as_postgres(*words, text=query, check=check).stdout.strip()


def controldata(config: dict, directory: str = "") -> dict:
    """What pg_controldata says of a data directory."""
    done = as_postgres(
        f"{config['cluster']['bin']}/pg_controldata", directory or config["cluster"]["data"], env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "")}
    )
    return {name.strip(): value.strip() for name, value in (line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)}


def write_whole(path: str, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step, so that nobody reads half of it."""
    staged = f"{path}.{os.getpid()}.new"
    try:
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    except OSError:
        pathlib.Path(staged).unlink(missing_ok=True)
        raise


def make_way(path: str) -> None:
    """Have a directory and all above it; everybody gets through those that are made, whatever the umask of the command."""
    missing = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for one in reversed(missing):
        os.makedirs(one, exist_ok=True)
        os.chmod(one, 0o755)


def state_path(config: dict, name: str) -> str:
    return os.path.join(config["state"], name)


def remembered(config: dict, name: str, otherwise: t.Any) -> t.Any:
    """What a state file holds; `otherwise` where there is none or none that can be read."""
    try:
        return json.loads(pathlib.Path(state_path(config, name)).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return otherwise


def remember(config: dict, name: str, value: t.Any) -> None:
    write_whole(state_path(config, name), json.dumps(value) + "\n")


def fingerprint(config: dict) -> str:
    """Tells one repository key from another, and nothing else about it."""
    try:
        return hashlib.sha256(b"crm-platform " + pathlib.Path(config["key"]).read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        return ""


def locked(config: dict) -> bool:
    """Whether a run is under way."""
    with open(state_path(config, "lock"), "a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def alone(config: dict, kind: str, wait: float = 0, resumes: tuple = ()) -> t.Iterator[None]:
    """One run at a time. What a killed one leaves is told until a run of its kind (or of one that `resumes`) has ended."""
    with open(state_path(config, "lock"), "a+", encoding="utf-8") as file:
        end = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    running = remembered(config, "running.json", {})
                    raise rules.BackupError(
                        f"a {running.get('kind', 'run')} is under way since {rules.utc(running.get('began', time.time()))}; wait until it has ended"
                    ) from None
                time.sleep(1)
        killed = [one for one in remembered(config, "killed.json", []) if one["kind"] not in (kind, *resumes)]
        left = remembered(config, "running.json", None)
        if left and left["kind"] not in (kind, *resumes):
            killed = [one for one in killed if one["kind"] != left["kind"]] + [left]
        marked = True
        try:
            remember(config, "killed.json", killed)
            remember(config, "running.json", {"kind": kind, "began": int(time.time())})
        except OSError as exc:
            if exc.errno not in NO_ROOM or kind not in MAKE_ROOM:
                raise
            # What tells of a killed run stays as it is.
            marked = False
        try:
            yield
        finally:
            if marked:
                pathlib.Path(state_path(config, "running.json")).unlink(missing_ok=True)


@contextlib.contextmanager
def recorded(config: dict, kind: str) -> t.Iterator[dict]:
    """Write down how the run ended, whichever way it does."""
    entry: dict = {"kind": kind, "began": int(time.time()), "ok": False, "error": "it was interrupted"}
    started = time.monotonic()
    try:
        yield entry
        entry.update(ok=True, error="")
    except (rules.BackupError, OSError) as exc:
        entry["error"] = str(exc)
        raise
    finally:
        entry.update(ended=int(time.time()), seconds=round(time.monotonic() - started, 2))
        runs = remembered(config, "runs.json", {})
        runs[kind] = entry
        remember(config, "runs.json", runs)
