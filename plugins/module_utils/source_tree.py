# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory as one text with a digest of what it holds. Nothing here knows Ansible."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import tarfile
import typing as t

DIGITS = 40


def files(directory: str) -> dict[str, bytes]:
    """Contents by paths with slashes, in their order, without what Python or an editor leaves."""
    if not os.path.isdir(directory):
        raise NotADirectoryError(20, "is no directory", directory)
    found = {}
    for place, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        for name in names:
            if name.endswith((".pyc", "~", ".orig", ".rej")) or name.startswith("."):
                continue
            path = os.path.join(place, name)
            with open(path, "rb") as stream:
                found[os.path.relpath(path, directory).replace(os.sep, "/")] = stream.read()
    return dict(sorted(found.items()))


def digest(contents: t.Mapping[str, bytes]) -> str:
    """Of names and contents; each is preceded by its length, so that nothing can stand for something else."""
    total = hashlib.sha256()
    for name, content in sorted(contents.items()):
        for part in (name.encode(), content):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:DIGITS]


def archive(contents: t.Mapping[str, bytes]) -> bytes:
    """A compressed tar that is the same for the same contents."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as compressed:
        with tarfile.open(fileobj=compressed, mode="w", format=tarfile.GNU_FORMAT) as opened:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                member.mode = 0o755 if content.startswith(b"#!") else 0o644
                opened.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def pack(directory: str, add: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """Digest of a directory, and its content with more files beside it."""
    contents = files(directory)
    more = {}
    for name, path in (add or {}).items():
        with open(path, "rb") as stream:
            more[name] = stream.read()
    return {
        "digest": digest(contents),
        "archive": base64.b64encode(archive({**contents, **more})).decode(),
    }
