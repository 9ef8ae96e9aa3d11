# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a data directory and lies outside of it: tablespaces, and the WAL where `pg_wal` is a link.

A restore renames each of these places beside itself, as it does with the data directory: the restored cluster has an empty one of the
old name, and so has a CREATE TABLESPACE that is replayed. The drill's PostgreSQL runs in a mount namespace of its own, in which the
places of the live one are hidden by others, and in which nothing else can be written.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import typing as t

import common
import rules

MOUNTS = "/proc/self/mountinfo"
BESIDE, FAILED = ".before-restore", ".failed"
IN_PLACE = "backup_restore_in_place=true"
# Not for files: these mounts stay as they are.
SYSTEM = ("/proc", "/sys", "/dev", "/run")
# pgBackRest fetches the log for the second PostgreSQL.
FETCH = ("/var/log/pgbackrest", "/var/spool/pgbackrest", "/tmp")
# bind: SOURCE over TARGET; lock, try: mount OPTIONS on TARGET, so that nobody writes there. What cannot be locked ends it, or does not.
SHIELD = """
set -e
while [ "$1" != -- ]; do
  case $1 in
    bind) mount --bind "$2" "$3" ;;
    lock) mount -o "remount,bind,$2" "$3" ;;
    try) mount -o "remount,bind,$2" "$3" 2>/dev/null || true ;;
  esac
  shift 3
done
shift
exec "$@"
"""


def locations(directory: str) -> dict[str, str]:
    """{OID: place} of the tablespaces of a data directory."""
    links = os.path.join(directory, "pg_tblspc")
    if not os.path.isdir(links):
        return {}
    return {name: os.readlink(os.path.join(links, name)) for name in sorted(os.listdir(links)) if os.path.islink(os.path.join(links, name))}


def log_of(directory: str) -> str:
    """Where the WAL of a data directory is, if that is elsewhere."""
    link = os.path.join(directory, "pg_wal")
    return os.path.realpath(link) if os.path.islink(link) else ""


def of_set(config: dict, label: str, repository: int = 1) -> dict[str, str]:
    """{OID: place} of the tablespaces in a set."""
    said = common.pgbackrest(config, "info", f"--set={label}", "--output=json", repository=repository).stdout
    found = [one for stanza in json.loads(said) for one in stanza["backup"]]
    return {str(one["oid"]): one["destination"] for one in (found[0].get("tablespace") or [] if found else [])}


def outside(directory: str) -> set[str]:
    """All places of a data directory that are not in it."""
    return {*locations(directory).values(), log_of(directory)} - {""}


def places(config: dict) -> list[str]:
    """Those of the live data directory, of what a restore has replaced, and of what is on its way out."""
    data = config["cluster"]["data"]
    found = set(common.remembered(config, "restoring.json", {}).get("places", []))
    for directory in (data, data + BESIDE, data + FAILED, data + ".forgotten"):
        found |= outside(directory)
    return sorted(found)


def mounted(path: str) -> bool:
    """Whether something is mounted there, were it a directory of the same disk: os.path.ismount does not see that."""
    points = [line.split()[4].encode().decode("unicode_escape") for line in pathlib.Path(MOUNTS).read_text(encoding="utf-8").splitlines()]
    return os.path.realpath(path) in points


def refuse_unmovable(config: dict, wanted: list[str], in_place: bool) -> None:
    """Refuse what a restore could not put aside, or would overwrite though it is not the live database's."""
    data = config["cluster"]["data"]
    live = places(config)
    for one in [data, *wanted]:
        inside = next((other for other in [data, *wanted] if one.startswith(other.rstrip("/") + "/")), "")
        if inside:
            raise rules.BackupError(f"the tablespace at {one} lies inside of {inside}: move its tables to another one, and drop it")
        if one not in (data, *live) and os.path.isdir(one) and os.listdir(one):
            raise rules.BackupError(f"the set has a tablespace at {one}, and that holds files of somebody else: empty it, or name another set")
        if os.path.isdir(one + BESIDE):
            raise rules.BackupError(f"{one}{BESIDE} is there: it is from an earlier restore, so remove or rename it")
        if in_place:
            continue
        kind = "a symbolic link" if os.path.islink(one) else "a mount point" if mounted(one) else ""
        if kind:
            raise rules.BackupError(f"{one} is {kind}, and a restore cannot put it aside: give {IN_PLACE} to write over it")
    links = sorted(name for name in os.listdir(data) if name != "pg_wal" and os.path.islink(os.path.join(data, name))) if os.path.isdir(data) else []
    if links and not in_place:
        raise rules.BackupError(
            f"{data} has the symbolic links {', '.join(links)}, of which a restore makes plain files and directories: give {IN_PLACE} to accept that"
        )


def refuse_crowded(config: dict, wanted: list[str]) -> None:
    """Refuse where another disk than the data's has no room for a second tablespace beside the live one."""
    disk = os.stat(os.path.dirname(config["cluster"]["data"])).st_dev
    for one in wanted:
        if os.path.isdir(one) and os.stat(one).st_dev != disk and one != log_of(config["cluster"]["data"]):
            need = sum(file.lstat().st_size for file in pathlib.Path(one).rglob("*") if file.is_file())
            free = shutil.disk_usage(one).free
            if free < need:
                raise rules.BackupError(
                    f"{one} has {free // 1024**2} MiB free, and the restore beside the old data needs {need // 1024**2} MiB:"
                    f" make room, or give {IN_PLACE} to write over the old data"
                )


def put_aside(wanted: list[str], make: t.Callable) -> None:
    """Rename each place; an empty one has its name. Of one that was not there, an empty one is what comes back."""
    for one in wanted:
        common.make_way(os.path.dirname(one))
        if os.path.isdir(one):
            os.rename(one, one + BESIDE)
        else:
            make(one + BESIDE)
        make(one)


def make_ready(wanted: list[str], in_set: t.Iterable[str], make: t.Callable) -> None:
    """Before a restore writes over the data: what the set does not have is empty, and all are there."""
    for one in wanted:
        common.make_way(os.path.dirname(one))
        if not os.path.isdir(one):
            make(one)
        elif one not in in_set:
            empty(one)


def empty(directory: str) -> None:
    for one in os.scandir(directory):
        if one.is_dir(follow_symlinks=False):
            shutil.rmtree(one.path)
        else:
            os.unlink(one.path)


def link_log(config: dict, target: str) -> None:
    """The WAL is where it was: pgBackRest makes a plain directory of the link."""
    link = os.path.join(config["cluster"]["data"], "pg_wal")
    if not target or os.path.islink(link):
        return
    for one in os.listdir(link):
        shutil.move(os.path.join(link, one), os.path.join(target, one))
    # To another disk they were copied, by root.
    common.run("chown", "--recursive", "postgres:postgres", target)
    os.rmdir(link)
    os.symlink(target, link)


def kept(config: dict) -> bool:
    """Whether some place is beside itself."""
    return any(os.path.isdir(one + BESIDE) for one in places(config))


def exchange(config: dict) -> None:
    """What was put aside to its place, and what is there to `failed`. One that was killed between the two goes on."""
    for one in places(config):
        if os.path.isdir(one + BESIDE):
            if os.path.isdir(one):
                shutil.rmtree(one + FAILED, ignore_errors=True)
                os.rename(one, one + FAILED)
            os.rename(one + BESIDE, one)


def reverse(config: dict) -> None:
    """Take an exchange back."""
    for one in places(config):
        if os.path.isdir(one + FAILED):
            if os.path.isdir(one):
                os.rename(one, one + BESIDE)
            os.rename(one + FAILED, one)


def discard(config: dict) -> None:
    """Remove what nobody wants any more; what was put aside only where there is no data directory that it belongs to."""
    for one in places(config):
        shutil.rmtree(one + FAILED, ignore_errors=True)
        if not os.path.isdir(config["cluster"]["data"] + BESIDE):
            shutil.rmtree(one + BESIDE, ignore_errors=True)


# --- A second PostgreSQL beside the live one ---


def mounts(text: str) -> list[tuple[str, str]]:
    """[(mount point, its options)] of what can be written, from /proc/self/mountinfo."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        point = fields[4].encode().decode("unicode_escape")
        options = fields[5].split(",")
        if "rw" in options and not any(point == one or point.startswith(one + "/") for one in SYSTEM):
            found.append((point, ",".join("ro" if one == "rw" else one for one in options)))
    return found


def shield(config: dict, writable: t.Iterable[str], hidden: dict[str, str], text: str) -> list[str]:
    """Arguments of the script: nothing but `writable` can be written, and each live place that `hidden` names is another directory.

    :param hidden: {live place: directory that is seen there instead}
    """
    words, open_ = [], [one for one in writable if os.path.isdir(one)]
    for one in open_:
        words += ["bind", one, one]
    for one, instead in hidden.items():
        words += ["bind", instead, one]
    over = [*open_, *hidden]
    points = [(point, options) for point, options in mounts(text) if not any(point == one or point.startswith(one + "/") for one in over)]

    def holds(path: str) -> str:
        return max((point for point, dummy in points if path == point or path.startswith(point.rstrip("/") + "/")), key=len, default="")

    needed = {holds(os.path.realpath(one)) for one in [config["cluster"]["data"], *outside(config["cluster"]["data"])]}
    for point, options in points:
        words += ["lock" if point in needed else "try", options, point]
    return words


def beside(config: dict, writable: t.Iterable[str], hidden: dict[str, str], *words: str, **options) -> subprocess.CompletedProcess:
    """Run a program as postgres in that namespace."""
    mountinfo = pathlib.Path(MOUNTS).read_text(encoding="utf-8")
    arguments = shield(config, (*writable, *FETCH), hidden, mountinfo)
    as_postgres = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *words)
    return common.run("unshare", "--mount", "--propagation", "private", "sh", "-c", SHIELD, "sh", *arguments, "--", *as_postgres, **options)
