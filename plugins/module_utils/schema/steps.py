# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan is a list of steps, each in a stage; the stage says when it runs and in which transaction."""

from __future__ import annotations

import hashlib
import typing as t

# Stages in the order in which they run. A stage is one transaction, except where said.
LABELS = 0  # values of enums: usable only after their own transaction
MAIN = 1
VALIDATE = 2  # each step alone: it reads a table without keeping writers out
BUILD = 3  # each step alone, outside of any transaction: CONCURRENTLY
FINISH = 4  # what needs the indexes and the validated checks
VALIDATE_FINISH = 5  # each step alone, as VALIDATE
CLEAN = 6  # each step alone, outside of any transaction: CONCURRENTLY
ALONE = (VALIDATE, VALIDATE_FINISH)
OUTSIDE = (BUILD, CLEAN)

DELETES_DATA, REWRITES_TABLE, BLOCKS_WRITES, DROPS_INDEX = "deletes_data", "rewrites_table", "blocks_writes", "drops_index"
HAZARDS = {
    DELETES_DATA: "what it removes is gone",
    REWRITES_TABLE: "every row is written anew, and nobody reads or writes the table meanwhile",
    BLOCKS_WRITES: "nobody writes to the table while all of its rows are read",
    DROPS_INDEX: "queries that use the index get slow, and a key no longer keeps duplicates out",
}

ACCESS_EXCLUSIVE, SHARE_ROW_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE = "ACCESS EXCLUSIVE", "SHARE ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE"
STRENGTH = (SHARE_UPDATE_EXCLUSIVE, SHARE_ROW_EXCLUSIVE, ACCESS_EXCLUSIVE)


# Rooms of names in a schema: tables, views, indexes and sequences share one; enums and the row types of tables and views the other.
RELATION, TYPE = "relation", "type"


def relations(*names: str) -> tuple:
    """As ``Step.makes`` and ``Step.frees`` want them: indexes, keys, sequences."""
    return tuple((RELATION, name) for name in names)


def with_row_type(*names: str) -> tuple:
    """The same for tables and views, each of which is a type too."""
    return tuple((room, name) for name in names for room in (RELATION, TYPE))


class PlanError(Exception):
    """What is declared cannot be reached from what is live; what to do about it."""


class Step(t.NamedTuple):
    """One statement.

    ``order`` sorts the steps of a stage. ``locks`` are ((schema, table), mode):
    what the transaction asks for before its first statement. A ``guard`` only
    reads: it has to give 0.
    """

    stage: int
    order: int
    sql: str
    reason: str
    object: str
    hazards: tuple = ()
    locks: tuple = ()
    guard: bool = False
    index: tuple = ()  # (schema, name) of an index that is built, to be removed where that fails
    makes: tuple = ()  # names that are taken from here on: see RELATION and TYPE
    frees: tuple = ()  # names that are free from here on

    def shown(self) -> dict:
        """As the module returns it."""
        return {
            "sql": self.sql,
            "reason": self.reason,
            "object": self.object,
            "hazards": list(self.hazards),
            "transactional": self.stage not in OUTSIDE,
        }


def ordered(found: t.Iterable[Step]) -> list[Step]:
    return sorted(found, key=lambda step: (step.stage, step.order))


def refuse_taken_names(found: t.Iterable[Step], taken: dict) -> None:
    """PlanError for the first step that makes something by a name that something else has at that time.

    PostgreSQL would say so too, but only when the statement runs: after other transactions of the plan, and not at all in check mode.

    :param found: in the order in which they run.
    :param taken: (room, name) -> what is live, such as 'sequence customer.t_id_seq'.
    """
    held = dict(taken)
    for step in found:
        for key in step.frees:
            held.pop(key, None)
        for key in step.makes:
            if key in held:
                raise PlanError(f"{step.object}: the name {key[1]} is taken by {held[key]}; rename or drop that one, or declare another name")
            held[key] = step.object


def forbidden(found: t.Iterable[Step], allow: t.Container[str]) -> list[str]:
    """A line for each step with a hazard that this run may not take."""
    lines = []
    for step in found:
        for hazard in step.hazards:
            if hazard not in allow:
                lines.append(f"{step.sql} -- {step.object}: {step.reason}; {hazard}: {HAZARDS[hazard]}. Add {hazard} to allow to have it done")
    return lines


def helper_name(purpose: str, *names: str) -> str:
    """A name for what lives only while a change is under way; the same each time, so that the next run finds it."""
    return f"customer_schema_{purpose}_{hashlib.sha256(chr(0).join(names).encode()).hexdigest()[:20]}"


def is_helper(name: str) -> bool:
    return name.startswith(("customer_schema_null_", "customer_schema_old_", "customer_schema_new_", "customer_schema_part_"))
