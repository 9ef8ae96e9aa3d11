# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a set of files in place, all of them or none.

A desired file is a plain dict (see :func:`normalise`). :func:`plan` compares
the desired set with the file system and returns the :class:`Step` list that
would make them equal; :class:`Transaction` carries such a list out and can
take it back. Nothing here knows Ansible.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import typing as t

STATES = ("file", "directory", "link", "absent")
STAGED_SUFFIX = ".crm-staged"
BINARY_NOTE = "(binary content)\n"


class FilesError(Exception):
    """A desired file that cannot be had; the message names path and cure."""


class Step(t.NamedTuple):
    """One path that differs from what is wanted."""

    path: str
    spec: dict
    reasons: tuple  # of 'content', 'mode', 'owner', 'group', 'target', 'state'
    before: str  # text for the diff, '' when absent
    after: str


class Current(t.NamedTuple):
    """What stands at a path now; ``kind`` is 'absent' where nothing does."""

    kind: str
    content: bytes
    target: str
    mode: int
    uid: int
    gid: int


def parse_mode(path: str, text: str) -> int:
    """'0640' -> 0o640. Only octal text: a YAML number is read as decimal."""
    try:
        value = int(text, 8)
    except (TypeError, ValueError):
        value = -1
    if not 0 <= value <= 0o7777 or len(text) < 3:
        raise FilesError(
            f"files: {path}: mode {text!r} is not an octal mode; write it quoted, such as '0640'"
        )
    return value


def normalise(spec: dict) -> dict:
    """Check one desired file and fill what follows from its state.

    :param spec: ``path`` (absolute), ``state`` (one of :data:`STATES`),
        ``content`` (text, for a file), ``target`` (for a link), ``owner``,
        ``group`` (names or numbers), ``mode`` (octal text), ``secret``,
        ``keep`` (where a copy of what is replaced or removed goes).
    :returns: a copy with ``mode`` as a number.
    :raises FilesError: naming the path and the cure.
    """
    wanted = dict(spec)
    path = wanted["path"]
    state = wanted.setdefault("state", "file")
    if not os.path.isabs(path) or os.path.normpath(path) != path.rstrip("/"):
        raise FilesError(f"files: {path!r} is not a plain absolute path; write it from the root, without '..'")
    wanted["path"] = path.rstrip("/")
    if state == "file" and wanted.get("content") is None:
        raise FilesError(f"files: {path}: a file needs content; give content, or another state")
    if state == "link" and not wanted.get("target"):
        raise FilesError(f"files: {path}: a link needs target; give the path that it points to")
    if state in ("file", "directory"):
        default = "0755" if state == "directory" else "0644"
        wanted["mode"] = parse_mode(path, wanted.get("mode") or default)
    return wanted


def normalise_all(specs: t.Iterable[dict]) -> list[dict]:
    """Check the whole set; a path may stand in it once."""
    result: list[dict] = []
    seen: set[str] = set()
    for spec in specs:
        wanted = normalise(spec)
        if wanted["path"] in seen:
            raise FilesError(f"files: {wanted['path']} is listed twice; keep one of the two")
        seen.add(wanted["path"])
        result.append(wanted)
    return result


def read_current(path: str) -> Current:
    """What stands at ``path`` now (links are not followed)."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Current("absent", b"", "", 0, -1, -1)
    mode = stat.S_IMODE(info.st_mode)
    if stat.S_ISLNK(info.st_mode):
        return Current("link", b"", os.readlink(path), mode, info.st_uid, info.st_gid)
    if stat.S_ISDIR(info.st_mode):
        return Current("directory", b"", "", mode, info.st_uid, info.st_gid)
    if not stat.S_ISREG(info.st_mode):
        raise FilesError(f"files: {path} is a device, socket or pipe; move it away first")
    with open(path, "rb") as stream:
        return Current("file", stream.read(), "", mode, info.st_uid, info.st_gid)


def lookup_uid(owner: str) -> int | None:
    """User name or number -> uid; None where there is no such user."""
    if owner.isdigit():
        return int(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        return None


def lookup_gid(group: str) -> int | None:
    """Group name or number -> gid; None where there is no such group."""
    if group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None


def kept_path(spec: dict, current: Current) -> str:
    """Where the copy of what stands at a path goes, or is already; '' where none is asked for or nothing stands there."""
    if not spec.get("keep") or current.kind not in ("file", "link"):
        return ""
    number, path = 1, spec["keep"]
    while True:
        there = read_current(path)
        if there.kind == "absent" or there[:3] == current[:3]:
            return path
        number, path = number + 1, f"{spec['keep']}.{number}"


def kept(steps: t.Iterable[Step]) -> dict[str, str]:
    """{path: copy} of what the steps replace or remove and keep."""
    found = {step.path: kept_path(step.spec, read_current(step.path)) for step in steps}
    return {path: copy for path, copy in found.items() if copy}


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return BINARY_NOTE


def _describe(kind: str, spec: dict, current: Current | None) -> str:
    """Text of one side of the diff: the content, and a line on its rights."""
    if kind == "absent":
        return ""
    if current is not None:
        owner, group, mode = str(current.uid), str(current.gid), current.mode
        body = _text(current.content) if kind == "file" else ""
        target = current.target
    else:
        uid, gid = lookup_uid(spec["owner"]), lookup_gid(spec["group"])
        owner = spec["owner"] if uid is None else str(uid)
        group = spec["group"] if gid is None else str(gid)
        mode = spec.get("mode", 0o777)
        body = spec.get("content") or ""
        target = spec.get("target") or ""
    if kind == "link":
        return f"link to {target}\n"
    if spec.get("secret") and body:
        body = "(secret content)\n"
    rights = f"{kind} {owner}:{group} {mode:04o}\n"
    return rights + body


def compare(spec: dict, current: Current) -> tuple:
    """Why ``current`` is not what ``spec`` wants; an empty tuple when it is."""
    state = spec["state"]
    if state == "absent":
        return () if current.kind == "absent" else ("state",)
    if current.kind != state:
        return ("state",)
    if state == "link":
        return () if current.target == spec["target"] else ("target",)
    reasons = []
    if state == "file" and current.content != spec["content"].encode("utf-8"):
        reasons.append("content")
    if current.mode != spec["mode"]:
        reasons.append("mode")
    if current.uid != lookup_uid(spec["owner"]):
        reasons.append("owner")
    if current.gid != lookup_gid(spec["group"]):
        reasons.append("group")
    return tuple(reasons)


def plan(specs: t.Iterable[dict]) -> list[Step]:
    """The steps from what is there to what is wanted, in the given order.

    :param specs: what :func:`normalise_all` returned.
    """
    steps = []
    for spec in specs:
        current = read_current(spec["path"])
        reasons = compare(spec, current)
        if not reasons:
            continue
        if spec["state"] in ("file", "link") and current.kind == "directory":
            raise FilesError(f"files: {spec['path']} is a directory where a {spec['state']} is wanted; move it away first")
        if spec["state"] == "directory" and current.kind not in ("absent", "directory"):
            raise FilesError(f"files: {spec['path']} is a {current.kind} where a directory is wanted; move it away first")
        if spec["state"] == "absent" and current.kind == "directory":
            if os.listdir(spec["path"]):
                raise FilesError(f"files: {spec['path']} is a directory with content; empty it before it can be removed")
        before = _describe(current.kind, spec, current)
        after = _describe(spec["state"], spec, None)
        if spec.get("secret") and "content" in reasons:
            after = after.replace("(secret content)", "(secret content, changed)")
        steps.append(Step(spec["path"], spec, reasons, before, after))
    return steps


class Transaction:
    """Carry out steps; :meth:`rollback` puts back what stood there before."""

    def __init__(self, steps: t.Sequence[Step]) -> None:
        self.steps = list(steps)
        self._undo: list[t.Callable[[], None]] = []
        self._staged: dict[str, str] = {}

    def staged_path(self, path: str) -> str | None:
        """Where the new content of ``path`` waits, for a validation command."""
        return self._staged.get(path)

    def stage(self) -> None:
        """Make directories and write new contents beside their targets."""
        for step in self.steps:
            spec = step.spec
            if spec["state"] == "directory":
                self._make_directory(spec)
            elif spec["state"] in ("file", "link"):
                parent = os.path.dirname(step.path)
                if not os.path.isdir(parent):
                    raise FilesError(f"files: {step.path}: there is no directory {parent}; list it before the file")
                if spec["state"] == "file":
                    self._staged[step.path] = self._write(spec)

    def commit(self) -> None:
        """Move the staged files over the live ones, then links and removals."""
        for step in self.steps:
            state = step.spec["state"]
            if state == "directory":
                continue
            self._remember(step.path)
            self._keep(step)
            if state == "absent":
                if os.path.isdir(step.path) and not os.path.islink(step.path):
                    os.rmdir(step.path)
                else:
                    os.unlink(step.path)
            else:
                if state == "link":
                    self._staged[step.path] = staged = _staged_name(step.path)
                    _unlink(staged)
                    os.symlink(step.spec["target"], staged)
                os.replace(self._staged[step.path], step.path)
                del self._staged[step.path]

    def discard(self) -> None:
        """Remove what was staged and not moved."""
        for staged in self._staged.values():
            _unlink(staged)
        self._staged.clear()

    def rollback(self) -> None:
        """Put everything back as it was before :meth:`stage`."""
        self.discard()
        while self._undo:
            self._undo.pop()()

    def _make_directory(self, spec: dict) -> None:
        path = spec["path"]
        uid, gid = _ids(spec)
        current = read_current(path)
        if current.kind == "absent":
            try:
                os.mkdir(path, 0o700)
            except FileNotFoundError as exc:
                raise FilesError(f"files: {path}: there is no directory {os.path.dirname(path)}; list it first") from exc
            self._undo.append(lambda: os.rmdir(path))
        else:

            def restore() -> None:
                os.chown(path, current.uid, current.gid)
                os.chmod(path, current.mode)

            self._undo.append(restore)
        os.chown(path, uid, gid)
        os.chmod(path, spec["mode"])

    def _write(self, spec: dict) -> str:
        staged = _staged_name(spec["path"])
        _write_file(staged, spec["content"].encode("utf-8"), *_ids(spec), spec["mode"])
        return staged

    def _keep(self, step: Step) -> None:
        current = read_current(step.path)
        path = kept_path(step.spec, current)
        if not path or read_current(path).kind != "absent":
            return
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            os.mkdir(parent)
            os.chmod(parent, 0o755)
            self._undo.append(lambda: os.rmdir(parent))
        self._undo.append(lambda: _unlink(path))
        if current.kind == "link":
            os.symlink(current.target, path)
        else:
            _write_file(path, current.content, current.uid, current.gid, current.mode)

    def _remember(self, path: str) -> None:
        current = read_current(path)

        def restore() -> None:
            if current.kind == "absent":
                _unlink(path)
            elif current.kind == "link":
                _unlink(path)
                os.symlink(current.target, path)
            elif current.kind == "directory":
                if not os.path.isdir(path):
                    os.mkdir(path, current.mode)
                os.chown(path, current.uid, current.gid)
            else:
                staged = _staged_name(path)
                _write_file(staged, current.content, current.uid, current.gid, current.mode)
                os.replace(staged, path)

        self._undo.append(restore)


def _ids(spec: dict) -> tuple:
    uid, gid = lookup_uid(spec["owner"]), lookup_gid(spec["group"])
    if uid is None:
        raise FilesError(f"files: {spec['path']}: there is no user {spec['owner']!r} here; create it first")
    if gid is None:
        raise FilesError(f"files: {spec['path']}: there is no group {spec['group']!r} here; create it first")
    return uid, gid


def _staged_name(path: str) -> str:
    # A fixed name, so that what a killed run left is overwritten by the next;
    # hidden and with a suffix of its own, so that no `*.conf` include reads it.
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}{STAGED_SUFFIX}")


def _write_file(path: str, content: bytes, uid: int, gid: int, mode: int) -> None:
    _unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chown(path, uid, gid)
        os.chmod(path, mode)
    except OSError as exc:
        _unlink(path)
        if exc.errno == errno.ENOSPC:
            raise FilesError(f"files: no space left to write {path}; nothing was replaced, make room and run again") from exc
        raise


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
