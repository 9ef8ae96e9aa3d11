# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Space: tables and indexes that hold more pages than their rows need, and tables without statistics."""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ..postgres import identifier
from .model import MIB, Advice

PAGE = 8192
# A page's head; a row's pointer; an index page has a tail, too.
HEAD, POINTER, TAIL = 24, 4, 16
TABLE, INDEX = "table", "index"


@dataclasses.dataclass(frozen=True)
class Relation:
    """A table or btree index.

    :param width: bytes of a row's columns, or of an index's keys, by the statistics.
    :param columns: how many.
    :param nulls: whether a row may have any, and so a bitmap of them.
    :param empty: bytes that are empty where it was looked at and not estimated.
    """

    kind: str
    schema: str
    name: str
    pages: float
    rows: float
    width: float
    columns: int = 1
    nulls: bool = False
    fill: int = 100
    empty: t.Optional[float] = None


def aligned(size: float) -> int:
    return -(-math.ceil(size) // 8) * 8


def needed(one: Relation) -> float:
    """Pages that the rows would fill if they were written anew; a little more than in truth, so that nothing is made up."""
    if one.kind == TABLE:
        row = aligned(23 + (math.ceil(one.columns / 8) if one.nulls else 0)) + aligned(one.width) + POINTER
        return math.ceil(one.rows * row / ((PAGE - HEAD) * one.fill / 100))
    row = aligned(8 + one.width) + POINTER
    # 2 % for the pages above the leaves, and the one that describes the index.
    return math.ceil(1.02 * one.rows * row / ((PAGE - HEAD - TAIL) * one.fill / 100)) + 1


def empty(one: Relation) -> float:
    """Bytes that would be freed."""
    return max(0.0, one.empty if one.empty is not None else (one.pages - needed(one)) * PAGE)


def bloat(found: t.Sequence[Relation], percent: float, least: float) -> list[Advice]:
    """Those of which this share is empty, and at least so many bytes."""
    given = []
    for one in found:
        free, whole = empty(one), one.pages * PAGE
        if whole <= 0 or free < least or 100 * free / whole < percent:
            continue
        name = identifier(one.schema, one.name)
        how = "by pgstattuple" if one.empty is not None else "by estimate from the statistics"
        if one.kind == TABLE:
            sql, note = f"VACUUM (FULL, ANALYZE) {name}", "nobody reads or writes the table meanwhile; pg_repack does the same beside them"
        else:
            sql, note = f"REINDEX INDEX CONCURRENTLY {name}", "needs the room of a second index while it runs"
        given.append(
            Advice(
                f"bloated_{one.kind}",
                name,
                f"{100 * free / whole:.0f} % of its {whole / MIB:,.0f} MiB are empty, {how}",
                free / MIB,
                "MiB",
                sql,
                note=note,
            )
        )
    return given


def unknown(found: t.Sequence[tuple[str, str, float]]) -> list[Advice]:
    """Tables that were never analysed, as (schema, name, bytes)."""
    return [
        Advice(
            "never_analysed",
            identifier(schema, name),
            f"it has {size / MIB:,.1f} MiB and no statistics: the planner guesses",
            size / MIB,
            "MiB planned blindly",
            f"ANALYZE {identifier(schema, name)}",
        )
        for schema, name, size in found
    ]
