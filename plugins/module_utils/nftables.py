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
# Tables of another, to see whether a ruleset spares them.
OTHERS = ("ip crm_platform_other", "ip6 crm_platform_other", "inet crm_platform_other")
# Loads stdin, names the tables that came of it, lists ours without counters.
SCRATCH = 'set -e; nft "$1"; nft -f -; nft list tables; echo "$2"; shift 2; nft -s list table "$@"'

_BLOCK = re.compile(r"^\t(?P<kind>set|map|meter) (?P<name>\S+) \{$")
_CHAIN = re.compile(r"^\tchain \S+ \{$")
_HOOK = re.compile(r"^\t\ttype \S+ hook .* priority [^;]*;")
_ELEMENTS = re.compile(r"^\t\telements = \{")
_PREAMBLE = "(add |create )?table {0}( ?{{ ?}})?|(delete|flush|destroy) table {0}"


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
    kind: str = "set"

    @property
    def dynamic(self) -> bool:
        """Filled by rules while the table is live, not by its file."""
        return "dynamic" in self.value("flags")

    def value(self, word: str) -> str:
        """What follows a word of the declaration: the type, the flags, the timeout."""
        return next((line.strip().partition(" ")[2] for line in self.declaration if line.split()[:1] == [word]), "")

    @property
    def key(self) -> tuple:
        return self.value("type"), self.value("typeof")


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
        found.append(Block(match.group("name"), tuple(declaration), text[text.find("{") + 1 : -1].strip(), match.group("kind")))
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


def skeleton(listing: str) -> list[str]:
    """The listing without rules, elements and policies: what a refilled table must have alike."""
    kept, inside_chain, inside_elements = [], False, False
    for line in listing.splitlines():
        inside_chain = inside_chain or bool(_CHAIN.match(line))
        inside_elements = inside_elements or (not inside_chain and bool(_ELEMENTS.match(line)))
        if inside_elements:
            inside_elements = not line.endswith("}")
            continue
        hook = _HOOK.match(line) if inside_chain else None
        if not inside_chain or _CHAIN.match(line) or hook or line == "\t}":
            kept.append(hook[0] if hook else line)
        inside_chain = inside_chain and line != "\t}"
    return kept


def statements(table: Table, body: str = "") -> str:
    """What loads the body, or nothing, in place of the table, whether it is there or not."""
    return f"table {table}\ndelete table {table}\n{body}"


def refill_statements(table: Table, live: str, content: str) -> str:
    """What loads the ruleset into the table that is there: its dynamic sets are not touched."""
    spared = re.compile(_PREAMBLE.format(re.escape(str(table))))
    body = "".join(line + "\n" for line in content.splitlines() if not spared.fullmatch(" ".join(line.split("#")[0].replace(";", " ").split())))
    emptied = "".join(f"flush {block.kind} {table} {block.name}\n" for block in blocks(live) if not block.dynamic)
    return f"flush table {table}\n{emptied}{body}"


def carried_elements(block: Block, new: Block | None) -> str:
    """The elements of a live dynamic set as the set of the same name in the new table takes them."""
    if new is None or not (block.dynamic and new.dynamic and block.elements) or block.key != new.key:
        return ""
    if block.declaration == new.declaration:
        return block.elements
    if ("timeout" in block.value("flags")) != ("timeout" in new.value("flags")):
        return ""
    # Shut out for ten minutes is for ten minutes, also where it is an hour from now on.
    default = block.value("timeout")
    kept = []
    for element in _split(block.elements):
        if " limit rate " in element:
            continue
        if default and default != new.value("timeout") and " expires " in element and " timeout " not in element:
            element = element.replace(" expires ", f" timeout {default} expires ", 1)
        kept.append(element)
    return ", ".join(kept)


def _split(elements: str) -> list[str]:
    """At the commas, but for those in comments."""
    return re.split(r', (?=(?:[^"]*"[^"]*")*[^"]*$)', elements) if '"' in elements else elements.split(", ")


def restore_statements(table: Table, live: str, wanted: str, alike: bool = False) -> str:
    """Statements that put the contents of the live dynamic sets into the new table.

    Only into sets that are dynamic and of the same type on both sides, or
    declared alike; ``live`` is a listing with state (``nft list table``),
    ``wanted`` one of the new table.
    """
    declared = {block.name: block for block in blocks(wanted)}
    found = []
    for block in blocks(live):
        new = declared.get(block.name)
        elements = "" if alike and new is not None and new.declaration != block.declaration else carried_elements(block, new)
        if elements:
            found.append(f"add element {table} {block.name} {{ {elements} }}\n")
    return "".join(found)


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
    made = "; ".join(f"add table {other}" for other in OTHERS)
    argv = ["unshare", "--net", "sh", "-c", SCRATCH, "sh", made, SEPARATOR, table.family, table.name]
    rc, out, err = run(argv, content)
    if rc != 0:
        if not may_unshare(run):
            return None
        raise NftError(f"content: nft refuses the ruleset of table {table}: {complaint(err)}; nothing was changed")
    tables, dummy, listing = out.partition(SEPARATOR + "\n")
    there = {line for line in tables.split("\n") if line}
    expected = {f"table {other}" for other in OTHERS}
    others = sorted(there - expected - {f"table {table}"})
    if others:
        raise NftError(f"content: the ruleset makes {', '.join(others)}; only table {table} may be touched, remove the rest")
    if expected - there:
        raise NftError(f"content: the ruleset removes tables of others; only table {table} may be touched, remove `flush ruleset`")
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
    """Replace the table in one transaction; False when dynamic contents were lost.

    Where the structure stays, the table is emptied and filled and its dynamic
    sets are left as they are. Else it is made anew, and they are carried over.
    """
    rc, live, dummy = run(["nft", "list", "table", table.family, table.name])
    live = live if rc == 0 else ""
    if live and wanted and skeleton(live) == skeleton(wanted.listing):
        rc, dummy, dummy = run(["nft", "-f", "-"], refill_statements(table, live, content))
        if rc == 0 and comparable(read_live(run, table).listing) == comparable(wanted.listing):
            return True
    # Where the wanted table could not be tried, its sets are taken to be declared as they are now.
    listing = wanted.listing if wanted else live
    tries = [restore_statements(table, live, listing), restore_statements(table, live, listing, alike=True), ""]
    for carried in tries if tries[0] else [""]:
        rc, dummy, err = run(["nft", "-f", "-"], statements(table, content) + ("\n" + carried if carried else ""))
        if rc == 0:
            return carried == tries[0]
    raise NftError(f"content: nft did not load table {table}: {complaint(err)}; the live table is as it was")


def remove(run: t.Callable, table: Table) -> None:
    rc, dummy, err = run(["nft", "delete", "table", table.family, table.name])
    if rc != 0 and "No such file or directory" not in err:
        raise NftError(f"table: {table}: nft did not delete it: {' '.join(err.split())}")
