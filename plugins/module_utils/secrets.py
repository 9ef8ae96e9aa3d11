# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that a host makes once, keeps to root and hands out again."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
import string

ALPHABET = string.ascii_letters + string.digits
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*\Z")
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


class SecretError(Exception):
    """A secret that cannot be kept; the message names it and the cure."""


def generate(length: int) -> str:
    """A random text of ``length`` letters and digits (5.95 bits each)."""
    return "".join(secrets.choice(ALPHABET) for dummy in range(length))


def check(name: str, length: int, value: str | None) -> None:
    """Refuse what could not be stored or read back unchanged."""
    if not NAME.match(name):
        raise SecretError(f"secrets: the name {name!r} may hold a-z, 0-9, '_', '.' and '-' only; rename it")
    if length < 16:
        raise SecretError(f"secrets: {name}: length {length} is too short; allowed is 16 or more")
    if value is not None:
        if not value:
            raise SecretError(f"secrets: {name}: the given value is empty; give one, or leave it out to have one made")
        if any(ord(char) < 32 for char in value):
            raise SecretError(f"secrets: {name}: the given value holds a control character or a line break; take it out")


def read(path: str) -> str | None:
    """The stored secret, or None where there is none yet."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = stream.read()
    except FileNotFoundError:
        return None
    value = value[:-1] if value.endswith("\n") else value
    # An empty file is what a full disk leaves: no secret was ever handed out.
    return value or None


def rights_differ(path: str, mode: int) -> bool:
    """Whether somebody but root may look, or does own it."""
    info = os.lstat(path)
    return stat.S_IMODE(info.st_mode) != mode or info.st_uid != 0 or info.st_gid != 0


def store(path: str, value: str, replace: bool = True) -> str:
    """Write the secret in one atomic step, root-only from its first byte.

    :param replace: overwrite what is there; else whoever came first has won,
        so that two runs at a time hand out the same secret.
    :returns: the secret that is stored now.
    """
    directory = os.path.dirname(path)
    staged = os.path.join(directory, f".{os.path.basename(path)}.crm-staged")
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not replace:
            stored = read(path)
            if stored is not None:
                return stored
        try:
            os.unlink(staged)
        except FileNotFoundError:
            pass
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(value + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(staged, path)
        return value
    finally:
        os.close(lock)


def protect(path: str, mode: int) -> None:
    """Give the path back to root alone."""
    os.chown(path, 0, 0)
    os.chmod(path, mode)
