# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A signed apt repository of a few packages, each in several versions.

The files are the state: what lies in ``pool/SUITE`` is published, and
``dists/SUITE`` is its index. :func:`survey` reads both, :func:`plan` names what
differs from what is wanted, :class:`Publisher` carries the plan out. Every file
appears under its name only when it is complete, and the signed ``InRelease`` is
the last to be replaced: a client sees the old state or the new one, and a run
that was killed leaves nothing but files that end in ``.staged``.

apt-ftparchive writes the index and gpg signs it. Nothing here knows Ansible.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import glob
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import typing as t

from . import programs

COMPONENT = "main"
STAGED = ".staged"
PUBLIC_KEY = "public.gpg"
CONTROL_FIELDS = ("Package", "Version", "Architecture", "Source-Digest")
_PARTS = re.compile(r"(\D*)(\d*)")


class RepositoryError(Exception):
    """What is wrong, in one line, with the cure."""


class Package(t.NamedTuple):
    """One version of one package, by the fields of its control file."""

    name: str
    version: str
    architecture: str
    digest: str  # of its source, '' where the package does not say

    @property
    def file_name(self) -> str:
        """As apt expects it; an epoch is no part of it."""
        return f"{self.name}_{self.version.split(':', 1)[-1]}_{self.architecture}.deb"


class State(t.NamedTuple):
    """What there is."""

    has_key: bool
    keyring_is_current: bool
    pool: t.Mapping[str, Package]  # by file name
    leftovers: tuple[str, ...]
    index_is_current: bool


class Step(t.NamedTuple):
    """One thing to do, as the report names it."""

    kind: str  # key, keyring, clean, add, remove, index
    subject: str


# --- versions ---


def _order(char: str) -> int:
    """Letters before the rest, a tilde before even the end."""
    if char == "~":
        return -1
    return ord(char) if char.isalpha() else ord(char) + 256


def _compare_part(left: str, right: str) -> int:
    for (text_l, number_l), (text_r, number_r) in itertools.zip_longest(_PARTS.findall(left), _PARTS.findall(right), fillvalue=("", "")):
        for char_l, char_r in itertools.zip_longest(text_l, text_r):
            difference = (_order(char_l) if char_l else 0) - (_order(char_r) if char_r else 0)
            if difference:
                return difference
        if int(number_l or 0) != int(number_r or 0):
            return int(number_l or 0) - int(number_r or 0)
    return 0


def compare(left: str, right: str) -> int:
    """Below 0, 0 or above 0, as dpkg orders versions."""

    def split(version: str) -> tuple[int, str, str]:
        epoch, dummy, rest = version.rpartition(":")
        upstream, dash, revision = rest.rpartition("-")
        return int(epoch or 0), (upstream if dash else rest), (revision if dash else "")

    one, other = split(left), split(right)
    return (one[0] - other[0]) or _compare_part(one[1], other[1]) or _compare_part(one[2], other[2])


def newest_first(packages: t.Iterable[Package]) -> list[Package]:
    return sorted(packages, key=functools.cmp_to_key(lambda a, b: compare(b.version, a.version)))


def version_for(wanted: str, suffix: str, digest: str, published: t.Iterable[Package]) -> tuple[str, bool]:
    """The version that a source has or gets, and whether it is published.

    A source whose digest is published has that version. A new source gets its
    own version, and where another source was published under it, a rebuild
    number: 1~deb12, then 1.2~deb12, 1.3~deb12, each higher than the last.
    """
    published = list(published)
    for package in newest_first(published):
        if package.digest == digest:
            return package.version, True
    taken = {package.version for package in published}
    for version in itertools.chain([wanted + suffix], (f"{wanted}.{number}{suffix}" for number in itertools.count(2))):
        if version not in taken:
            return version, False
    raise AssertionError("unreachable")


# --- what there is ---


def run(*words: str, cwd: str | None = None, **environment: str) -> str:
    """The output of a command; its complaint in one line where it fails."""
    try:
        done = subprocess.run(
            words, cwd=cwd, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **programs.LANGUAGE, **environment},
        )
    except FileNotFoundError:
        raise RepositoryError(f"{words[0]} is not installed; install apt-utils and gnupg") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
        raise RepositoryError(f"`{' '.join(words)}` failed: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def stanzas(text: str) -> t.Iterator[dict[str, str]]:
    """The paragraphs of a control file; of a folded field the first line."""
    for block in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z][\w-]*):[ \t]*(.*?)[ \t]*$", block, re.MULTILINE))
        if fields:
            yield fields


def as_package(fields: t.Mapping[str, str]) -> Package:
    return Package(*(fields.get(name, "") for name in CONTROL_FIELDS))


def read_deb(path: str) -> Package:
    """What a .deb says of itself; it has to be readable to its end."""
    try:
        text = run("dpkg-deb", "--field", path, *CONTROL_FIELDS)
        run("dpkg-deb", "--contents", path)
    except RepositoryError as exc:
        raise RepositoryError(f"{path}: is no complete Debian package ({exc}); build or copy it again") from None
    package = as_package(next(stanzas(text), {}))
    if not (package.name and package.version and package.architecture):
        raise RepositoryError(f"{path}: its control file lacks Package, Version or Architecture; build it again")
    return package


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


class Layout:
    """The paths of a repository, for one suite of it."""

    def __init__(self, directory: str, suite: str, gnupg_home: str, keyring: str) -> None:
        self.directory = directory
        self.suite = suite
        self.gnupg_home = gnupg_home
        self.keyring = keyring
        self.pool = os.path.join(directory, "pool", suite)
        self.index = os.path.join(directory, "dists", suite)
        self.in_release = os.path.join(self.index, "InRelease")
        self.public_key = os.path.join(gnupg_home, PUBLIC_KEY)

    def pooled(self) -> list[str]:
        return sorted(os.path.basename(path) for path in glob.glob(os.path.join(glob.escape(self.pool), "*.deb")))

    def leftovers(self) -> list[str]:
        found = glob.glob(os.path.join(glob.escape(self.pool), f"*{STAGED}")) + glob.glob(f"{glob.escape(self.index)}{STAGED}")
        return sorted(found + glob.glob(f"{glob.escape(self.gnupg_home)}{STAGED}"))

    def indexed(self) -> dict[str, Package] | None:
        """The index by file names; None where it is not whole, or not signed with the key."""
        signed = _content(self.in_release)
        if signed is None:
            return None
        listed = dict((name, digest) for digest, name in re.findall(r"^ ([0-9a-f]{64}) +\d+ (\S+)$", signed.decode(errors="replace"), re.MULTILINE))
        found: dict[str, Package] = {}
        for name, digest in listed.items():
            content = _content(os.path.join(self.index, name))
            if content is None or hashlib.sha256(content).hexdigest() != digest:
                return None
            for fields in stanzas(content.decode(errors="replace")):
                file_name = fields.get("Filename", "")
                path = os.path.join(self.directory, file_name)
                if not os.path.isfile(path) or str(os.path.getsize(path)) != fields.get("Size"):
                    return None
                found[os.path.basename(file_name)] = as_package(fields)
        try:
            run("gpg", "--homedir", self.gnupg_home, "--batch", "--quiet", "--trust-model", "always", "--verify", self.in_release)
        except RepositoryError:
            return None
        return found


def survey(layout: Layout) -> State:
    """Read everything. The index answers for the packages where it is right: it is read in no time."""
    public_key = _content(layout.public_key)
    pooled = layout.pooled()
    indexed = layout.indexed() if public_key else None
    current = indexed is not None and sorted(indexed) == pooled
    return State(
        has_key=public_key is not None,
        keyring_is_current=public_key is not None and _content(layout.keyring) == public_key,
        pool=indexed if current and indexed is not None else {name: read_deb(os.path.join(layout.pool, name)) for name in pooled},
        leftovers=tuple(layout.leftovers()),
        index_is_current=current or (not pooled and not os.path.exists(layout.in_release)),
    )


# --- what to do ---


def excess(packages: t.Iterable[Package], keep: int) -> list[Package]:
    """Versions beyond the newest ``keep`` of each name and architecture; 0 keeps all."""
    groups: dict[tuple[str, str], list[Package]] = {}
    for package in packages:
        groups.setdefault((package.name, package.architecture), []).append(package)
    return [package for group in groups.values() for package in newest_first(group)[keep:] if keep]


def plan(state: State, wanted: t.Mapping[str, Package], keep: int) -> list[Step]:
    """The steps from what there is to what is wanted; ``wanted`` is by path of the .deb."""
    steps = [Step("clean", path) for path in state.leftovers]
    if not state.has_key:
        steps.append(Step("key", "new signing key"))
    if not state.keyring_is_current:
        steps.append(Step("keyring", "public key for the clients"))
    added = {path: package for path, package in wanted.items() if package.file_name not in state.pool}
    steps += [Step("add", path) for path in added]
    removed = excess([*state.pool.values(), *added.values()], keep)
    # What was asked for in this call stays, be it old.
    removed = [package for package in removed if package.file_name in state.pool and package not in wanted.values()]
    steps += [Step("remove", package.file_name) for package in removed]
    if added or removed or not state.index_is_current:
        steps.append(Step("index", "signed index"))
    return steps


# --- doing it ---


@contextlib.contextmanager
def lock(directory: str) -> t.Iterator[None]:
    """One publisher at a time, on the directory itself."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_file(path: str, content: bytes, mode: int = 0o644) -> None:
    staged = path + STAGED
    handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as stream:
        os.fchmod(handle, mode)
        stream.write(content)
        stream.flush()
        os.fsync(handle)
    os.rename(staged, path)


class Publisher:
    """Carries a plan out, under :func:`lock`."""

    def __init__(self, layout: Layout, label: str, signer: str, default_architecture: str) -> None:
        self.layout = layout
        self.label = label
        self.signer = signer
        self.default_architecture = default_architecture

    def apply(self, steps: t.Iterable[Step], wanted: t.Mapping[str, Package]) -> None:
        for step in steps:
            if step.kind == "clean":
                self._clean(step.subject)
            elif step.kind == "key":
                self._make_key()
            elif step.kind == "keyring":
                write_file(self.layout.keyring, _content(self.layout.public_key) or b"")
            elif step.kind == "add":
                self._add(step.subject, wanted[step.subject])
            elif step.kind == "remove":
                os.unlink(os.path.join(self.layout.pool, step.subject))
            elif step.kind == "index":
                self._index()

    @staticmethod
    def _clean(path: str) -> None:
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def _gpg(self, home: str, *words: str) -> None:
        run("gpg", "--homedir", home, "--batch", "--yes", "--quiet", "--no-tty", *words)

    def _make_key(self) -> None:
        home, staged = self.layout.gnupg_home, self.layout.gnupg_home + STAGED
        os.makedirs(os.path.dirname(home), mode=0o755, exist_ok=True)
        os.mkdir(staged, 0o700)
        os.chmod(staged, 0o700)
        try:
            self._gpg(staged, "--passphrase", "", "--quick-generate-key", self.signer, "ed25519", "sign", "never")
            self._gpg(staged, "--output", os.path.join(staged, PUBLIC_KEY), "--export")
        finally:
            self._stop_agent(staged)
        # A home without the exported key was never one; see Layout.
        if os.path.isdir(home):
            shutil.rmtree(home)
        os.rename(staged, home)

    @staticmethod
    def _stop_agent(home: str) -> None:
        with contextlib.suppress(RepositoryError):
            run("gpgconf", "--homedir", home, "--kill", "all")

    def _add(self, path: str, package: Package) -> None:
        os.makedirs(self.layout.pool, mode=0o755, exist_ok=True)
        target = os.path.join(self.layout.pool, package.file_name)
        shutil.copyfile(path, target + STAGED)
        os.chmod(target + STAGED, 0o644)
        with open(target + STAGED, "rb") as stream:
            os.fsync(stream.fileno())
        os.rename(target + STAGED, target)

    def _architectures(self) -> list[str]:
        found = {name.rsplit("_", 1)[-1].removesuffix(".deb") for name in self.layout.pooled()}
        return sorted(found - {"all"}) or [self.default_architecture]

    def _index(self) -> None:
        """Write the index beside the live one, sign it, move its parts over, the signature last."""
        layout, staged = self.layout, self.layout.index + STAGED
        if os.path.isdir(staged):
            shutil.rmtree(staged)
        os.makedirs(staged, mode=0o755)
        architectures = self._architectures()
        for architecture in architectures:
            text = run("apt-ftparchive", "--arch", architecture, "packages", f"pool/{layout.suite}", cwd=layout.directory)
            place = os.path.join(staged, COMPONENT, f"binary-{architecture}")
            os.makedirs(place, mode=0o755)
            with open(os.path.join(place, "Packages"), "w", encoding="utf-8") as stream:
                stream.write(text)
        fields = {
            "Origin": self.label, "Label": self.label, "Suite": layout.suite, "Codename": layout.suite,
            "Architectures": " ".join(architectures), "Components": COMPONENT, "Acquire-By-Hash": "yes",
        }
        options = [word for name, value in fields.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")]
        # Copies named after their hashes: a client that holds the old
        # signature still finds the old parts.
        release = run("apt-ftparchive", *options, "-o", "APT::FTPArchive::DoByHash=true",
                      *(word for name in ("MD5", "SHA1", "SHA512") for word in ("-o", f"APT::FTPArchive::{name}=false")), "release", staged)
        plain, signed = os.path.join(staged, "Release"), os.path.join(staged, "InRelease")
        with open(plain, "w", encoding="utf-8") as stream:
            stream.write(release)
        try:
            self._gpg(layout.gnupg_home, "--output", signed, "--clear-sign", plain)
        finally:
            self._stop_agent(layout.gnupg_home)
        self._go_live(staged)

    def _go_live(self, staged: str) -> None:
        live = self.layout.index
        known = set()
        for place, dummy, names in os.walk(staged):
            target = os.path.join(live, os.path.relpath(place, staged))
            os.makedirs(target, mode=0o755, exist_ok=True)
            for name in names:
                if place == staged:
                    continue
                os.rename(os.path.join(place, name), os.path.join(target, name))
                known.add(os.path.normpath(os.path.join(target, name)))
        os.sync()
        os.rename(os.path.join(staged, "InRelease"), os.path.join(live, "InRelease"))
        shutil.rmtree(staged)
        # Of older parts the last few stay, for clients that are under way.
        for place in glob.glob(os.path.join(glob.escape(live), COMPONENT, "*", "by-hash", "*")):
            old = [path for path in glob.glob(os.path.join(glob.escape(place), "*")) if os.path.normpath(path) not in known]
            for path in sorted(old, key=os.path.getmtime)[:-2]:
                os.unlink(path)
