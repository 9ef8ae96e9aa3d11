# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an advice is, in which order they stand, and how they are written down."""

from __future__ import annotations

import dataclasses
import typing as t

# In the order of the list: what makes statements quicker, what keeps the server well, what frees space.
KINDS = (
    "missing_index",
    "foreign_key_index",
    "setting",
    "never_analysed",
    "autovacuum",
    "bloated_table",
    "bloated_index",
    "duplicate_index",
    "redundant_index",
    "unused_index",
)
MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Advice:
    """One thing that could be better.

    :param object: its name, quoted as SQL has it.
    :param gain: how much, in ``unit``.
    :param sql: what would do it; '' where no statement does.
    :param declaration: variables of the inventory that would do it in the platform's own way, where there are any.
    :param note: what to know before.
    """

    kind: str
    object: str
    why: str
    gain: float
    unit: str
    sql: str = ""
    declaration: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.object}"

    def shown(self) -> dict:
        return {
            "id": self.id,
            "kind": self.kind,
            "object": self.object,
            "why": self.why,
            "gain": round(self.gain, 3),
            "unit": self.unit,
            "sql": self.sql,
            "declaration": dict(self.declaration),
            "note": self.note,
        }


def ranked(found: t.Iterable[Advice], most: int) -> tuple[list[Advice], dict[str, int]]:
    """(the best of each kind in the order of kinds, kind -> how many more there are)."""
    order = sorted(found, key=lambda one: (KINDS.index(one.kind), -one.gain, one.object))
    kept: list[Advice] = []
    count = dict.fromkeys(KINDS, 0)
    for one in order:
        count[one.kind] += 1
        if count[one.kind] <= most:
            kept.append(one)
    return kept, {kind: number - most for kind, number in count.items() if number > most}


def figure(one: Advice) -> str:
    return f"{one.gain:,.1f}".rstrip("0").rstrip(".") + f" {one.unit}"


def lines(found: t.Sequence[Advice], left_out: t.Mapping[str, int], notes: t.Sequence[str], problems: t.Sequence[str]) -> list[str]:
    """For people."""
    told = []
    for number, one in enumerate(found, 1):
        told.append(f"{number:3} {one.kind}  {one.object}  ({figure(one)})")
        told.append(f"      why  {one.why}")
        told += [f"      sql  {one.sql}"] if one.sql else []
        told += ["      declare it in the inventory instead: see declaration"] if one.declaration else []
        told += [f"     note  {one.note}"] if one.note else []
    told += ["there is nothing to advise"] if not found else []
    told += [f"{number} more of {kind}" for kind, number in left_out.items()]
    told += [f"note: {one}" for one in notes]
    told += [f"could not be looked at: {one}" for one in problems]
    return told


def script(found: t.Sequence[Advice], notes: t.Sequence[str] = ()) -> str:
    """A file of SQL to read, choose from and run with psql; each statement stands alone, as CONCURRENTLY wants it."""
    parts = ["-- Advice of crm.platform.advise. Nothing of it was done; read it, and take what you want.\n"]
    parts += [comment(f"note: {one}") for one in notes]
    for number, one in enumerate(found, 1):
        parts.append("\n" + comment(f"{number}. {one.kind} {one.object}: {one.why}; gain {figure(one)}"))
        parts += [comment(one.note)] if one.note else []
        parts += [comment("declare it in the inventory instead, see advice.yml")] if one.declaration else []
        # What belongs in the inventory would be taken back by the next run of the platform.
        parts.append((comment(one.sql) if one.declaration else f"{one.sql};\n") if one.sql else "")
    return "".join(parts)


def comment(text: str) -> str:
    """Names may hold line breaks, and nothing of one may become a statement."""
    return "".join(f"-- {line}\n" for line in text.splitlines())


def declared(found: t.Sequence[Advice]) -> dict:
    """All declarations as one: tables by their names with all of their indexes, settings by theirs."""
    tables: dict[str, list] = {}
    whole: dict[str, t.Any] = {}
    for one in found:
        for variable, value in one.declaration.items():
            if variable == "crm_customer_tables":
                for table in value:
                    tables.setdefault(table["name"], []).extend(table["indexes"])
            else:
                whole.setdefault(variable, {}).update(value)
    if tables:
        whole["crm_customer_tables"] = [{"name": name, "indexes": indexes} for name, indexes in sorted(tables.items())]
    return whole
