# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay out the web client: exactly what its page loads, from verified packages.

    web_client.py LOCK TARBALLS DESTINATION LICENCES

The client's page and style sheets say which files of which package they load;
those files are copied and nothing else is, so no build tool and none of its
dependencies reaches a server. A tarball whose hash is not the locked one, or
a referenced file that is nowhere, ends the build.

    web_client.py --names LOCK

prints what the npm client has to fetch, as NAME@VERSION.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import posixpath
import re
import sys
import tarfile
import typing as t

CLIENT = "tryton-sao"
# Of the client itself, beside what the page names: loaded by its script.
CLIENT_DIRECTORIES = ("dist/", "images/", "sounds/", "locale/")
# What the translations are made from.
NOT_SERVED = (".po", ".pot")
# Referenced for additions, which lie beside the lock; the client works with empty ones.
CUSTOM = ("custom.js", "custom.css")
LICENCE = re.compile(r"^(licen[cs]e|copying|copyright|notice|authors)([.-][a-z]+)?$", re.IGNORECASE)
PAGE_REFERENCE = re.compile(r'<(?:script|link)\b[^>]*?\b(?:src|href)="([^":]+)"')
STYLE_REFERENCE = re.compile(r"""url\(\s*["']?([^"')]+)["']?\s*\)""")


class BuildError(Exception):
    """What is wrong with which file, in one line."""


def tarball_name(package: str, version: str) -> str:
    """As `npm pack` names it."""
    return f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"


def verify(content: bytes, integrity: str, name: str) -> None:
    """A tarball has to be the one that was locked."""
    algorithm, dummy, wanted = integrity.partition("-")
    if algorithm != "sha512":
        raise BuildError(f"{name}: the lock has a {algorithm} hash; only sha512 is accepted")
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != wanted:
        raise BuildError(f"{name}: its sha512 is {found}, the lock says {wanted}")


def unpack(path: pathlib.Path) -> dict[str, bytes]:
    """The regular files of a package by their path inside of it."""
    with tarfile.open(path) as opened:
        members = [member for member in opened.getmembers() if member.isfile()]
        return {member.name.partition("/")[2]: t.cast(t.IO[bytes], opened.extractfile(member)).read() for member in members}


def references(page: str, sheets: t.Mapping[str, str]) -> set[str]:
    """Paths, relative to the page, that it and the given style sheets load."""
    found = set(PAGE_REFERENCE.findall(page))
    for path, text in sheets.items():
        for name in STYLE_REFERENCE.findall(text):
            if not name.startswith(("data:", "#")):
                found.add(posixpath.normpath(posixpath.join(posixpath.dirname(path), re.split("[?#]", name)[0])))
    return found


def select(
    packages: t.Mapping[str, t.Mapping[str, bytes]], additions: t.Mapping[str, bytes]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files of the web root, and the licences, each by its path."""
    client = packages[CLIENT]
    root = {"index.html": client["index.html"]}
    root.update({name: content for name, content in client.items() if name.startswith(CLIENT_DIRECTORIES) and not name.endswith(NOT_SERVED)})

    def fetch(name: str) -> bytes:
        if name in CUSTOM:
            return additions.get(name, b"")
        if name in client:
            return client[name]
        for package, files in packages.items():
            inner = name.removeprefix(f"node_modules/{package}/")
            if inner != name and inner in files:
                return files[inner]
        raise BuildError(f"{name}: the web client loads it, but no package of the lock has it")

    page = client["index.html"].decode()
    sheets: dict[str, str] = {}
    while True:
        wanted = references(page, sheets) - set(root)
        if not wanted:
            break
        root.update({name: fetch(name) for name in wanted})
        sheets = {name: content.decode() for name, content in root.items() if name.endswith(".css")}
    root = {name: content for name, content in root.items() if not LICENCE.match(posixpath.basename(name))}
    licences = {
        f"{package}/{name}": content
        for package, files in packages.items()
        for name, content in files.items()
        if LICENCE.match(posixpath.basename(name))
    }
    return root, licences


def write(files: t.Mapping[str, bytes], directory: pathlib.Path) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "--names":
        lock = json.loads(pathlib.Path(arguments[1]).read_text(encoding="utf-8"))
        print(*(f"{name}@{entry['version']}" for name, entry in lock.items()))
        return 0
    lock_path, tarballs, destination, licence_directory = map(pathlib.Path, arguments)
    lock = json.loads(lock_path.read_text(encoding="utf-8"))
    packages = {}
    try:
        for name, entry in lock.items():
            path = tarballs / tarball_name(name, entry["version"])
            verify(path.read_bytes(), entry["integrity"], path.name)
            packages[name] = unpack(path)
        additions = {name: path.read_bytes() for name in CUSTOM if (path := lock_path.parent / name).exists()}
        root, licences = select(packages, additions)
    except (BuildError, OSError, tarfile.TarError) as exc:
        print(f"web client: {exc}", file=sys.stderr)
        return 1
    write(root, destination)
    write(licences, licence_directory)
    print(f"web client: {len(root)} files from {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
