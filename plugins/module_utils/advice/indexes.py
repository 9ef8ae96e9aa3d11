# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The indexes that are there: those that nobody uses, that are there twice, that another one covers, and foreign keys without one."""

from __future__ import annotations

import dataclasses
import typing as t

from ..postgres import identifier
from .model import MIB, Advice
from .plans import Candidate


@dataclasses.dataclass(frozen=True)
class Index:
    """One of the catalog.

    :param keys: of each key its column's number, or 0 and the expression, and operator class, collation, order.
    :param include: numbers of the columns that it only carries.
    :param predicate: of a partial one; '' for all rows.
    :param bound: a constraint, a foreign key's target, the replica identity or a CLUSTER needs it, or it is a part of a partitioned one.
    """

    oid: int
    table: int
    schema: str
    name: str
    table_name: str
    method: str
    keys: tuple
    include: frozenset
    predicate: str
    unique: bool
    bound: bool
    valid: bool
    scans: int
    size: float
    distinct_nulls: bool = True

    @property
    def shown(self) -> str:
        return identifier(self.schema, self.name)

    @property
    def columns(self) -> tuple[int, ...]:
        return tuple(key[0] for key in self.keys)

    @property
    def drop(self) -> str:
        return f"DROP INDEX CONCURRENTLY {self.shown}"


@dataclasses.dataclass(frozen=True)
class Key:
    """A foreign key. ``deleted``: rows that went from the table that it points to since the statistics began."""

    name: str
    table: int
    schema: str
    table_name: str
    numbers: tuple[int, ...]
    columns: tuple[str, ...]
    target: str
    rows: float
    deleted: int


def supports(index: Index, numbers: t.Collection[int]) -> bool:
    """Whether the rows of a foreign key's columns are found by it."""
    return index.valid and not index.predicate and index.method in ("btree", "hash") and set(index.columns[: len(numbers)]) == set(numbers)


def of_tables(found: t.Iterable[Index]) -> dict[int, list[Index]]:
    tables: dict[int, list[Index]] = {}
    for one in found:
        tables.setdefault(one.table, []).append(one)
    return tables


def advice(
    found: t.Sequence[Index], keys: t.Sequence[Key], declared_schema: str, least: float, days: t.Optional[float], least_days: float, replicas: bool
) -> list[Advice]:
    """All of it.

    :param least: bytes; smaller indexes are not said to be unused.
    :param days: how long uses were counted; None where nobody knows.
    :param replicas: others answer queries, too, whose uses are counted there.
    """
    given: list[Advice] = []
    gone: set[int] = set()
    needed: set[int] = set()
    foreign: dict[int, list[Key]] = {}
    for key in keys:
        foreign.setdefault(key.table, []).append(key)

    def add(kind: str, one: Index, why: str, note: str = "") -> None:
        gone.add(one.oid)
        # What is there twice costs each write, but with less than a MiB nobody notices.
        if one.size < min(least, MIB):
            return
        if one.schema == declared_schema:
            note = "; ".join(filter(None, ["take it out of the declaration first, if it is there: the next run would make it again", note]))
        given.append(Advice(kind, one.shown, why, one.size / MIB, "MiB", one.drop, note=note))

    tables = of_tables(one for one in found if one.valid)
    for group in tables.values():
        for kept, others in twice(group):
            for one in others:
                needed.add(kept.oid)
                add("duplicate_index", one, f"{kept.shown} on {identifier(one.schema, one.table_name)} is the same")
        for one, longer in covered([index for index in group if index.oid not in gone]):
            needed.add(longer.oid)
            size = f"{one.size / MIB:.1f} MiB beside {longer.size / MIB:.1f} MiB"
            add("redundant_index", one, f"{longer.shown} begins with the same keys ({size})", "a scan of the longer one reads a little more")
    if days is not None and days >= least_days:
        note = "look at its uses on the replicas, too: they count their own" if replicas else ""
        for one in found:
            if one.scans or one.oid in gone | needed or not one.valid or one.unique or one.bound or one.size < least:
                continue
            if any(supports(one, key.numbers) for key in foreign.get(one.table, ())):
                continue
            add("unused_index", one, f"it was used by no query in {days:.0f} days, and each change of a row writes it", note)
    return given


def twice(group: t.Sequence[Index]) -> t.Iterator[tuple[Index, list[Index]]]:
    """(the one to keep, those that are the same and can go)."""
    same: dict[tuple, list[Index]] = {}
    for one in group:
        same.setdefault((one.method, one.keys, one.include, one.predicate, one.distinct_nulls), []).append(one)
    for alike in same.values():
        # A constraint's, then a unique one, then the one that is used, then the older one.
        first, *others = sorted(alike, key=lambda one: (not one.bound, not one.unique, -one.scans, one.oid))
        free = [one for one in others if not one.bound]
        if free:
            yield first, free


def covered(group: t.Sequence[Index]) -> t.Iterator[tuple[Index, Index]]:
    """(one that can go, the longest one that begins with its keys)."""
    for one in group:
        if one.unique or one.bound or one.method != "btree":
            continue
        longer = [
            other
            for other in group
            if other.method == "btree"
            and other.predicate == one.predicate
            and len(other.keys) > len(one.keys)
            and other.keys[: len(one.keys)] == one.keys
            and one.include <= set(other.columns) | other.include
        ]
        if longer:
            yield one, max(longer, key=lambda other: (len(other.keys), -other.oid))


def foreign_keys(
    keys: t.Sequence[Key], found: t.Sequence[Index], least_rows: float, declared_schema: str, taken: t.Callable[[str], t.Container[str]]
) -> list[Advice]:
    """Foreign keys of large tables without an index, where rows are deleted that they may point to."""
    tables = of_tables(found)
    given: dict[tuple, Advice] = {}
    for key in keys:
        if key.rows < least_rows or not key.deleted or any(supports(one, key.numbers) for one in tables.get(key.table, ())):
            continue
        wanted = Candidate(key.schema, key.table_name, tuple((name, "") for name in key.columns))
        name = wanted.name(taken(key.schema))
        given[(key.table, key.numbers)] = Advice(
            "foreign_key_index",
            identifier(key.schema, key.table_name),
            f"{key.deleted:,} rows were deleted from {key.target}, and for each the foreign key {identifier(key.name)} "
            f"reads all of about {key.rows:,.0f} rows",
            key.rows,
            "rows a delete",
            wanted.sql(name, True),
            wanted.declaration(name) if key.schema == declared_schema else {},
        )
    return list(given.values())
