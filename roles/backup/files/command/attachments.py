# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attachments that are missing come back: fetched to a place beside, and moved to where they were. What is there is never touched."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import typing as t

import common
import records
import rules
import save

# Files that are fetched and moved at a time: so much more room is needed than for what is missing.
CHUNK = 1000
# Files that cannot be had before it is given up.
GIVE_UP = 20


class Saved(t.NamedTuple):
    """What the newest snapshot holds below a path."""

    snapshot: str
    # {path: bytes}
    files: dict
    # {path: (uid, gid, mode)}
    directories: dict
    # When it was begun, as restic tells it.
    time: str = ""


def within(config: dict, path: str) -> bool:
    """Whether a path is that of the attachments, or below it."""
    return f"{os.path.normpath(path)}/".startswith(f"{config['attachments']}/")


def source(config: dict, repository: int) -> t.Callable:
    """restic on one of the repositories. A client has no way to the second one."""
    return common.restic_second if repository == 2 and common.writes_second(config) else common.restic


def read(text: str) -> Saved:
    """What `restic ls --json` says."""
    found = Saved("", {}, {})
    for line in text.splitlines():
        one = json.loads(line)
        if one.get("struct_type") == "snapshot":
            found = found._replace(snapshot=one["id"], time=one.get("time", ""))
        elif one.get("type") == "dir":
            found.directories[one["path"]] = (one["uid"], one["gid"], one.get("mode", 0) & 0o777)
        elif one.get("path"):
            found.files[one["path"]] = one.get("size", 0)
    return found


def staging(config: dict) -> str:
    """Where it is fetched to: nobody else reads there, no backup looks there, and a move from there is no copy."""
    root = config["attachments"]
    inside = os.path.join(root, ".crm-platform-restore")
    return os.path.join(config["state"], "attachments") if os.stat(root).st_dev == os.stat(config["state"]).st_dev else inside


def literal(path: str) -> str:
    """The pattern that only this path matches."""
    return re.sub(r"([\\*?\[])", r"\\\1", path)


def newest(config: dict, restic: t.Callable) -> Saved:
    """What the newest snapshot holds of them."""
    return read(restic(config, "--no-lock", "ls", "--json", "--recursive", "--host", config["name"], "latest", config["attachments"]).stdout)


def fill(config: dict, path: str = "", repository: int = 1) -> int:
    """Bring back what is missing below a path; how many files that were. BackupError, when all others are there, for what cannot be had."""
    path, restic = os.path.normpath(path or config["attachments"]), source(config, repository)
    saved, lost = newest(config, restic), []
    count = 0
    try:
        count = fill_from(config, restic, saved, [one for one in saved.files if f"{one}/".startswith(f"{path}/")], path)
    except Lost as exc:
        lost.append(exc)
    # What the CRM or somebody has removed since is in earlier ones.
    named = [one for one in records.missing(config) if f"{one}/".startswith(f"{path}/")]
    for earlier, files in find(config, restic, named).items():
        one = saved._replace(snapshot=earlier, files=files)
        try:
            count += fill_from(config, restic, one, list(files), path)
        except Lost as exc:
            lost.append(exc)
    if lost:
        raise rules.BackupError("; ".join(map(str, lost)))
    return count


class Lost(rules.BackupError):
    """Files that are saved, and could not be had."""


def find(config: dict, restic: t.Callable, paths: list[str]) -> dict[str, dict]:
    """{snapshot: {path: bytes}} of files that are in some snapshot. The CRM never changes a file, so that any will do."""
    found: dict[str, dict] = {}
    for first in range(0, len(paths), CHUNK):
        part = set(paths[first : first + CHUNK])
        words = ("--no-lock", "find", "--json", "--host", config["name"], *sorted(os.path.basename(one) for one in part))
        for one in json.loads(restic(config, *words).stdout or "[]"):
            for match in one["matches"] or []:
                if match["path"] in part:
                    part.remove(match["path"])
                    found.setdefault(one["snapshot"], {})[match["path"]] = match.get("size", 0)
    return found


def fill_from(config: dict, restic: t.Callable, saved: Saved, paths: list[str], path: str) -> int:
    """Bring back what is missing of some files of a snapshot."""
    root = config["attachments"]
    wanted = {one: saved.files[one] for one in paths if "/.crm-platform-restore/" not in one}
    missing = sorted(one for one in wanted if not os.path.lexists(one))
    if not missing:
        return 0
    if not os.path.isdir(root):
        # The CRM has to get through, whatever the umask of this command is.
        common.make_way(os.path.dirname(root))
        os.rename(make(f"{root}.new", saved.directories.get(root)), root)
    place = staging(config)
    shutil.rmtree(place, ignore_errors=True)
    need, free = sum(wanted[one] for one in missing), shutil.disk_usage(root).free
    if need > free:
        raise rules.BackupError(f"{root} has {free // 1024**2} MiB free, and {len(missing)} attachments need {need // 1024**2} MiB: make room")
    common.say(f"bringing back {len(missing)} attachments")
    total, lost = sum(wanted.values()), []
    try:
        # A host that has lost most of them fetches all in one go: restic looks for each name in the whole of the snapshot.
        if len(missing) > CHUNK and total < min(2 * need, free):
            lost = fetch(config, restic, saved, place, missing, [path])
        else:
            lost = fetch_parts(config, restic, saved, place, missing, CHUNK)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if lost:
        count = f"{'at least ' if len(lost) >= GIVE_UP else ''}{len(lost)}"
        raise Lost(f"of {len(missing)} attachments that are missing {count} could not be had: {common.all_of(lost)}")
    return len(missing)


def fetch(config: dict, restic: t.Callable, saved: Saved, place: str, paths: list[str], included: list[str]) -> list[str]:
    """Fetch files and move them to where they were; those that cannot be had, with the reason."""
    os.mkdir(place, 0o700)
    words = [word for one in included for word in ("--include", literal(one))]
    done = restic(config, "--no-lock", "restore", saved.snapshot, "--target", place, *words, check=False)
    if done.returncode == 0:
        # Half a file that a power cut leaves would never be fetched again.
        os.sync()
        lost = move(config, saved, place, paths)
        shutil.rmtree(place)
        return lost
    # What is damaged may be there in part. The others are to be had without it.
    shutil.rmtree(place)
    if len(paths) == 1:
        return [f"{paths[0]}: {common.last_words(done.stderr + done.stdout)}"]
    return fetch_parts(config, restic, saved, place, paths, min(CHUNK, (len(paths) + 1) // 2))


def fetch_parts(config: dict, restic: t.Callable, saved: Saved, place: str, paths: list[str], size: int) -> list[str]:
    lost: list[str] = []
    for first in range(0, len(paths), size):
        if len(lost) < GIVE_UP:
            part = paths[first : first + size]
            lost += fetch(config, restic, saved, place, part, part)
    return lost


def move(config: dict, saved: Saved, place: str, paths: list[str]) -> list[str]:
    """To where they were, never over what is there by now; those for which that fails, with the reason."""
    lost = []
    for parent, names in itertools.groupby(paths, os.path.dirname):
        left = list(names)
        try:
            handle = directory(config, parent, saved.directories, place)
        except OSError as exc:
            lost += [f"{path}: {exc.strerror}" for path in left]
            continue
        for path in left:
            try:
                os.link(place + path, os.path.basename(path), dst_dir_fd=handle, follow_symlinks=False)
            except FileExistsError:
                pass
            except OSError as exc:
                lost.append(f"{path}: {exc.strerror}")
        os.close(handle)
    return lost


def directory(config: dict, path: str, known: dict, place: str) -> int:
    """A directory below the attachments, opened, and made where it is missing. All of it is the CRM's: no link of its making is followed."""
    root = config["attachments"]
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    at = root
    for name in [part for part in path[len(root) :].split("/") if part]:
        at = os.path.join(at, name)
        try:
            try:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            except FileNotFoundError:
                above = os.fstat(handle)
                rights = known.get(at) or (above.st_uid, above.st_gid, above.st_mode & 0o777)
                os.rename(make(os.path.join(place, ".new"), rights), name, dst_dir_fd=handle)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    return handle


def make(path: str, rights: tuple[int, int, int] | None) -> str:
    """A directory that is renamed to its place with its owner and mode: so a kill leaves none there that the CRM cannot enter."""
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path, 0o700)
    if rights:
        os.chown(path, rights[0], rights[1])
        os.chmod(path, rights[2])
    return path


def bring_back(config: dict, path: str, repository: int = 1) -> dict:
    """The command `files` for attachments."""
    save.make_directory(config["state"], *save.directories(config)[config["state"]])
    with common.alone(config, "files", save.WAIT):
        count = fill(config, path, repository)
        found = records.look_through(config)
    if found and found["without_file"]:
        for one in found["missing"]:
            common.say(one)
        what = rules.attachments_named(found["without_file"], found["missing"], "whose file is in no backup")
        raise rules.BackupError(f"{what}: add them again in the CRM, or delete them there")
    return {"changed": count > 0, "path": path, "restored": count}
