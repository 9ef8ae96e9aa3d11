# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One nftables table: what it should be, what it is, and how to make it so.

The kernel is asked on both sides: the wanted ruleset is loaded into a network
namespace of its own and listed there, so that both texts were written by the
same nft and can be compared as they are. Commands go through ``run``, a
function ``run(argv, data=None) -> (rc, stdout, stderr)``; nothing here knows
Ansible.
"""

from __future__ import annotations

import os
import re
import typing as t

SEPARATOR = "-- table --"
# Loads stdin, names the tables that came of it, lists ours without counters.
SCRATCH = 'set -e; nft -f -; nft list tables; echo "$1"; shift; nft -s list table "$@"'

_BLOCK = re.compile(r"^\t(?P<kind>set|map|meter) (?P<name>\S+) \{$")
_ELEMENTS = re.compile(r"^\t\telements = \{")


class NftError(Exception):
    """A ruleset that cannot be had; the message names what and the cure."""


class Table(t.NamedTuple):
    """Family and name, as in ``inet crm_platform``."""

    family: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Table:
        words = text.split()
        if len(words) != 2 or words[0] not in ("inet", "ip", "ip6", "arp", "bridge", "netdev"):
            raise NftError(f"table: {text!r} is no table; give family and name, such as 'inet crm_platform'")
        return cls(*words)

    def __str__(self) -> str:
        return f"{self.family} {self.name}"


class Block(t.NamedTuple):
    """A set or map of a listing: its declaration and its elements."""

    name: str
    declaration: tuple  # the lines without elements
    elements: str  # '1.2.3.4 expires 9m, 5.6.7.8', '' when empty

    @property
    def dynamic(self) -> bool:
        """Filled by rules while the table is live, not by its file."""
        return any(line.split()[:1] == ["flags"] and "dynamic" in line for line in self.declaration)


class State(t.NamedTuple):
    """The table as the kernel lists it; ``listing`` is '' when there is none."""

    listing: str

    @property
    def exists(self) -> bool:
        return bool(self.listing)


def runner(module: t.Any) -> t.Callable:
    """``run`` for the functions below, of an AnsibleModule."""

    def run(argv: list, data: str | None = None) -> tuple:
        try:
            return module.run_command(argv, data=data, binary_data=True, environ_update=environment(), handle_exceptions=False)
        except OSError as exc:
            # A command that ends before it has read its input, or is not there.
            return exc.errno or 1, "", f"{argv[0]}: {exc.strerror or exc}"

    return run


def environment() -> dict[str, str]:
    """For nft and its kin: messages that can be read, and the path of root's commands."""
    return {"LC_ALL": "C", "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"}


def blocks(listing: str) -> list[Block]:
    """The sets and maps of ``nft list table``."""
    found = []
    lines = iter(listing.splitlines())
    for line in lines:
        match = _BLOCK.match(line)
        if not match:
            continue
        declaration, elements, inside = [line], [], False
        for inner in lines:
            if inner == "\t}":
                break
            inside = inside or bool(_ELEMENTS.match(inner))
            if inside:
                elements.append(inner.strip())
                inside = not inner.endswith("}")
            else:
                declaration.append(inner)
        text = " ".join(elements)
        found.append(Block(match.group("name"), tuple(declaration), text[text.find("{") + 1 : -1].strip()))
    return found


def comparable(listing: str) -> str:
    """The listing without what rules put into dynamic sets at run time."""
    dynamic = {block.name for block in blocks(listing) if block.dynamic}
    kept, owner, inside = [], "", False
    for line in listing.splitlines():
        match = _BLOCK.match(line)
        if match:
            owner = match.group("name")
        inside = inside or (owner in dynamic and bool(_ELEMENTS.match(line)))
        if inside:
            inside = not line.endswith("}")
            continue
        if line == "\t}":
            owner = ""
        kept.append(line)
    return "".join(line + "\n" for line in kept)


def restore_statements(table: Table, live: str, wanted: str) -> str:
    """Statements that put the contents of the live dynamic sets into the new table.

    Only sets that are declared alike on both sides; ``live`` is a listing with
    state (``nft list table``), ``wanted`` one of the new table.
    """
    declared = {block.name: block.declaration for block in blocks(wanted)}
    return "".join(
        f"add element {table} {block.name} {{ {block.elements} }}\n"
        for block in blocks(live)
        if block.dynamic and block.elements and declared.get(block.name) == block.declaration
    )


def may_unshare(run: t.Callable) -> bool:
    """Whether a network namespace can be made; some containers forbid it."""
    return run(["unshare", "--net", "true"])[0] == 0


def read_live(run: t.Callable, table: Table) -> State:
    rc, out, err = run(["nft", "-s", "list", "table", table.family, table.name])
    if rc == 0:
        return State(out)
    if "No such file or directory" in err:
        return State("")
    raise NftError(f"table: {table}: nft cannot list it: {' '.join(err.split())}")


def read_wanted(run: t.Callable, table: Table, content: str) -> State | None:
    """The table as the kernel would list it, or None without a right to namespaces."""
    argv = ["unshare", "--net", "sh", "-c", SCRATCH, "sh", SEPARATOR, table.family, table.name]
    rc, out, err = run(argv, content)
    if rc != 0:
        if not may_unshare(run):
            return None
        raise NftError(f"content: nft refuses the ruleset of table {table}: {complaint(err)}; nothing was changed")
    tables, dummy, listing = out.partition(SEPARATOR + "\n")
    others = [line for line in tables.split("\n") if line and line != f"table {table}"]
    if others:
        raise NftError(f"content: the ruleset makes {', '.join(others)}; only table {table} may be touched, remove the rest")
    return State(listing)


def check(run: t.Callable, content: str) -> None:
    """Have the live kernel accept the ruleset, without loading it."""
    rc, dummy, err = run(["nft", "-c", "-f", "-"], content)
    if rc != 0:
        raise NftError(f"content: nft refuses the ruleset: {complaint(err)}; nothing was changed")


def complaint(stderr: str) -> str:
    """nft's first error on one line, without the excerpt below it."""
    lines = [line for line in stderr.splitlines() if "rror:" in line] or stderr.splitlines() or ["no reason given"]
    return " ".join(lines[0].split())


def load(run: t.Callable, table: Table, content: str, wanted: State | None) -> bool:
    """Replace the table in one transaction; False when dynamic contents were lost."""
    rc, live, dummy = run(["nft", "list", "table", table.family, table.name])
    # Where the wanted table could not be tried, its sets are taken to be declared as they are now.
    carried = restore_statements(table, live, wanted.listing if wanted else live) if rc == 0 else ""
    if carried:
        rc, dummy, dummy = run(["nft", "-f", "-"], content + "\n" + carried)
        if rc == 0:
            return True
    rc, dummy, err = run(["nft", "-f", "-"], content)
    if rc != 0:
        raise NftError(f"content: nft did not load table {table}: {complaint(err)}; the live table is as it was")
    return not carried


def remove(run: t.Callable, table: Table) -> None:
    rc, dummy, err = run(["nft", "delete", "table", table.family, table.name])
    if rc != 0 and "No such file or directory" not in err:
        raise NftError(f"table: {table}: nft did not delete it: {' '.join(err.split())}")
