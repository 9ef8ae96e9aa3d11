# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from a live table to the declared one: columns, then constraints, then indexes."""

from __future__ import annotations

import dataclasses
import typing as t

from ..postgres import NAME_BYTES, identifier, literal
from . import kinds, lexer, model, sql
from .steps import (
    ACCESS_EXCLUSIVE,
    BLOCKS_WRITES,
    BUILD,
    CLEAN,
    DELETES_DATA,
    DROPS_INDEX,
    FINISH,
    MAIN,
    REWRITES_TABLE,
    SHARE_ROW_EXCLUSIVE,
    SHARE_UPDATE_EXCLUSIVE,
    VALIDATE,
    VALIDATE_FINISH,
    PlanError,
    Step,
    helper_name,
    relations,
)

# The order of what a transaction does; plan.py fills the rest.
RENAME, DROP_VIEW, DROP_CONSTRAINT, DROP_TABLE, CREATE, DROP_COLUMN, TYPE, ADD_COLUMN, ALTER, ADD_CONSTRAINT, ADD_FOREIGN, ADD_INDEX, COMMENT = range(
    20, 150, 10
)


class TableDiff:
    """Collects the steps for one table that is there.

    :param wanted: as PostgreSQL normalised it.
    :param live: as it is, after the declared renames.
    :param facts: answers what the catalog's rows alone do not say, see plan.Planner.
    """

    def __init__(self, schema: str, wanted: model.Table, live: model.Table, facts, purge: bool) -> None:
        self.schema, self.wanted, self.live, self.facts, self.purge = schema, wanted, live, facts, purge
        self.steps: list[Step] = []
        self.undeclared: list[str] = []
        # Columns whose views have to step aside, and why.
        self.disturbed: dict[str, str] = {}
        self.dropped: set[str] = set()
        # Columns whose rows are written anew: an index that does not stay need not, and perhaps cannot, follow them.
        self.rewritten: set[str] = set()
        self.unique_later: set[str] = set()
        # Keys that go, and in which stage: foreign keys may rest on them.
        self.dropped_keys: list = []
        self.partitioned = bool(live.partition_by)

    # -- helpers

    @property
    def quoted(self) -> str:
        return identifier(self.schema, self.wanted.name)

    def named(self, kind: str, name: str = "") -> str:
        return f"{kind} {self.schema}.{self.wanted.name}{'.' + name if name else ''}"

    def step(self, stage: int, order: int, text: str, reason: str, what: str, hazards: tuple = (), lock: str = ACCESS_EXCLUSIVE, **more) -> None:
        locks = (((self.schema, self.wanted.name), lock),) if lock else ()
        self.steps.append(Step(stage, order, text, reason, what, hazards, locks, **more))

    def alter(self, order: int, action: str, reason: str, what: str, hazards: tuple = (), stage: int = MAIN, **more) -> None:
        self.step(stage, order, sql.alter(self.schema, self.wanted.name, action), reason, what, hazards, **more)

    # -- all of it

    def run(self) -> "TableDiff":
        self.whole()
        self.columns()
        self.constraints()
        self.indexes()
        return self

    def whole(self) -> None:
        wanted, live = self.wanted, self.live
        if wanted.partition_by != live.partition_by:
            raise PlanError(
                f"{self.named('table')}: partition_by is {wanted.partition_by or 'not declared'} and the table has {live.partition_by or 'none'}; "
                "PostgreSQL cannot change that in place: declare it as it is, or make a new table and move the rows"
            )
        if (wanted.partition_of, wanted.bound) != (live.partition_of, live.bound):
            raise PlanError(
                f"{self.named('table')}: it is a partition of {live.partition_of or 'nothing'} {live.bound}, which cannot be changed; declare it so"
            )
        if wanted.comment is not None and (wanted.comment or None) != live.comment:
            self.step(
                MAIN,
                COMMENT,
                sql.comment("TABLE", self.quoted, wanted.comment),
                "another comment is declared",
                self.named("table"),
                lock=SHARE_UPDATE_EXCLUSIVE,
            )
        if wanted.unlogged != live.unlogged:
            reason = "its rows are to last through a crash" if live.unlogged else "it is declared UNLOGGED: a crash empties it from here on"
            hazards = (REWRITES_TABLE,) if live.unlogged else (REWRITES_TABLE, DELETES_DATA)
            self.alter(ALTER, f"SET {'LOGGED' if live.unlogged else 'UNLOGGED'}", reason, self.named("table"), hazards)
        if wanted.replica_identity and wanted.replica_identity != live.replica_identity:
            # Where it names an index, that is there by then.
            self.alter(50, sql.replica_identity(wanted.replica_identity), f"it is {live.replica_identity}", self.named("table"), stage=FINISH)

    # -- columns

    def columns(self) -> None:
        wanted, live = self.wanted.columns, self.live.columns
        if self.wanted.partition_of:
            return
        self._recreated = {name for name in wanted if name in live and self._has_to_be_made_anew(wanted[name], live[name])}
        for name in sorted(self._recreated):
            if self._takes_expression(wanted[name], live[name]):
                self._recreated.discard(name)
        for name in sorted(self._recreated):
            self._refuse_lost(live[name])
        for name, column in live.items():
            if name not in wanted:
                self._undeclared_column(column)
        for name in sorted(self._recreated):
            self._drop_column(live[name], self._why_anew(wanted[name], live[name]))
        for name, column in wanted.items():
            if name not in live or name in self._recreated:
                self._add_column(column, name in self._recreated)
                if name in self._recreated and column.comment is None and live[name].comment:
                    self._comment(dataclasses.replace(column, comment=live[name].comment))
            elif column != live[name] or helper_name("null", self.wanted.name, name) in self.live.constraints:
                self._change_column(column, live[name])

    def _has_to_be_made_anew(self, wanted: model.Column, live: model.Column) -> bool:
        if wanted.generated:
            inputs = lexer.names(wanted.generated)
            changed = {
                name for name, column in self.wanted.columns.items() if name in self.live.columns and self.live.columns[name].type != column.type
            }
            return wanted.generated != live.generated or (wanted.type, wanted.collation) != (live.type, live.collation) or bool(inputs & changed)
        return False

    def _takes_expression(self, wanted: model.Column, live: model.Column) -> bool:
        """Whether PostgreSQL can compute a generated column anew in place, with all that hangs on it (17 and later)."""
        retyped = {name for name, one in self.wanted.columns.items() if name in self.live.columns and self.live.columns[name].type != one.type}
        return (
            self.facts.version >= 17
            and bool(live.generated)
            and (wanted.type, wanted.collation) == (live.type, live.collation)
            and not retyped & (lexer.names(wanted.generated) | lexer.names(live.generated))
        )

    def _refuse_lost(self, column: model.Column) -> None:
        """What is dropped and added again comes back with what is declared; the rest would go in silence."""
        lost = [
            f"constraint {one.name}"
            for one in self.live.constraints.values()
            if self._rests_on(one, {column.name}) and not any(one.same(other) for other in self.wanted.constraints.values())
        ]
        lost += [f"index {one.name}" for one in self.live.indexes.values() if column.name in one.columns and one.name not in self.wanted.indexes]
        lost += self.facts.column_holds(self.wanted.name, column.name)
        if lost:
            raise PlanError(
                f"{self.named('column', column.name)}: its value is computed in another way, for which it is dropped and made anew, and with it would go "
                f"{', '.join(lost)}; declare that, or drop it first and make it anew after the run"
            )

    @staticmethod
    def _why_anew(wanted: model.Column, live: model.Column) -> tuple:
        if live.generated:
            return "its expression, its type or that of a column it is made from changes: it is computed anew", (REWRITES_TABLE,)
        return "it becomes a generated column", (DELETES_DATA, REWRITES_TABLE)

    def _undeclared_column(self, column: model.Column) -> None:
        if not self.purge:
            self.undeclared.append(self.named("column", column.name))
            return
        added = [name for name in self.wanted.columns if name not in self.live.columns]
        hint = f"; if it is to be {added[0]} from now on, declare renamed_from: {column.name} there" if added else ""
        hazards = () if column.generated else (DELETES_DATA,)
        self._drop_column(column, (f"it is not declared{hint}", hazards))

    def _drop_column(self, column: model.Column, why: tuple) -> None:
        self.disturbed[column.name] = "dropped"
        self.dropped.add(column.name)
        # Generated ones first: others could not go while they are made from them.
        order = DROP_COLUMN if column.generated else DROP_COLUMN + 1
        frees = [one.name for one in self.live.constraints.values() if self._rests_on(one, {column.name}) and self._index_of(one, one.name)]
        frees += [one.name for one in self.live.indexes.values() if column.name in one.columns]
        frees += [column.serial] if column.serial else []
        what = self.named("column", column.name)
        self.alter(order, f"DROP COLUMN {identifier(column.name)}", why[0], what, why[1], frees=relations(*frees))

    def _add_column(self, column: model.Column, anew: bool) -> None:
        what = self.named("column", column.name)
        filled = bool(column.default or column.identity or column.generated or column.serial)
        if not column.nullable and not filled and self.facts.has_rows(self.wanted.name):
            raise PlanError(
                f"{what}: it is not nullable, and the table has rows that would have no value; give it a default, or make it nullable first"
            )
        definition = sql.column(column)
        hazards: tuple = ()
        if filled and self.facts.adding_rewrites(self.wanted, column):
            hazards = (REWRITES_TABLE,)
        reason = "it is made anew" if anew else f"it is missing{self._other_name(column)}"
        self.alter(ADD_COLUMN + bool(column.generated), f"ADD COLUMN {definition}", reason, what, hazards)
        if column.comment:
            self._comment(column)

    def _other_name(self, column: model.Column) -> str:
        """What a column that stays undeclared may be: the new one, before somebody renamed it in the declaration."""
        old = [name for name, one in self.live.columns.items() if name not in self.wanted.columns and one.type == column.type]
        if self.purge or not old:
            return ""
        return f"; if it is {old[0]} under another name, declare renamed_from: {old[0]} here"

    def _comment(self, column: model.Column) -> None:
        text = sql.comment("COLUMN", identifier(self.schema, self.wanted.name, column.name), column.comment)
        self.step(MAIN, COMMENT, text, "another comment is declared", self.named("column", column.name), lock=SHARE_UPDATE_EXCLUSIVE)

    def _change_column(self, wanted: model.Column, live: model.Column) -> None:
        what, column = self.named("column", wanted.name), identifier(wanted.name)
        retyped = (wanted.type, wanted.collation) != (live.type, live.collation)
        has_default = bool(live.default)
        if live.generated and wanted.generated and live.generated != wanted.generated:
            expression = wanted.written[1] if wanted.written else wanted.generated
            self.alter(ALTER, f"ALTER COLUMN {column} SET EXPRESSION AS ({expression})", "its expression is another", what, (REWRITES_TABLE,))
        if live.generated and not wanted.generated:
            self.alter(TYPE - 1, f"ALTER COLUMN {column} DROP EXPRESSION", "it is no longer generated; its values stay", what)
        if live.identity and not wanted.identity:
            self.alter(TYPE - 1, f"ALTER COLUMN {column} DROP IDENTITY", "it is no longer an identity", what)
        if live.serial and not wanted.serial:
            self.alter(TYPE - 1, f"ALTER COLUMN {column} DROP DEFAULT", "its numbers no longer come from the sequence", what)
            self._leave_sequence(live, what)
            has_default = False
        if retyped:
            if has_default:
                self.alter(TYPE, f"ALTER COLUMN {column} DROP DEFAULT", "the default of the old type is in the way", what)
                has_default = False
            self._retype(wanted, live, what)
            if live.serial and wanted.serial:
                text = f"ALTER SEQUENCE {identifier(self.schema, live.serial)} AS {wanted.type}"
                self.step(MAIN, TYPE + 3, text, "its numbers go as far as the column's type", what, lock="")
        if wanted.default != (live.default if has_default else "") and not wanted.serial:
            if wanted.default:
                self.alter(
                    ALTER,
                    f"ALTER COLUMN {column} SET DEFAULT {wanted.written[0] if wanted.written else wanted.default}",
                    "another default is declared",
                    what,
                )
            elif has_default:
                self.alter(TYPE - 1, f"ALTER COLUMN {column} DROP DEFAULT", "no default is declared", what)
        stage = self._nullable(wanted, live, what)
        if wanted.identity and wanted.identity != live.identity:
            self._identity(wanted, live, what, stage)
        if wanted.identity and live.identity:
            for word, there, value in (("START", live.start, wanted.start), ("INCREMENT", live.increment, wanted.increment)):
                if value is not None and value != there:
                    text = f"ALTER COLUMN {column} SET {word} {'WITH' if word == 'START' else 'BY'} {value}"
                    self.alter(ALTER, text, f"its {word.lower()} is {there}", what)
        if wanted.serial and not live.serial:
            self._serial(wanted, what, bool(has_default))
        if wanted.comment is not None and (wanted.comment or None) != live.comment:
            self._comment(wanted)

    def _leave_sequence(self, live: model.Column, what: str) -> None:
        sequence = identifier(self.schema, live.serial)
        user = self.facts.sequence_user(live.serial, self.wanted.name, live.name)
        if user:
            self.step(MAIN, TYPE, f"ALTER SEQUENCE {sequence} OWNED BY NONE", f"{user} takes its numbers from it too", what, lock="")
            return
        # The numbers of an identity go on after the largest there is.
        reason = "the column that owned it takes no number from it" + ("" if self.wanted.columns[live.name].identity else ", and where it stood is gone")
        hazards = () if self.wanted.columns[live.name].identity else (DELETES_DATA,)
        self.step(MAIN, TYPE, f"DROP SEQUENCE {sequence}", reason, what, hazards, lock="", frees=relations(live.serial))

    def _retype(self, wanted: model.Column, live: model.Column, what: str) -> None:
        self.disturbed[wanted.name] = "retyped"
        change = self.facts.type_change(live, wanted)
        if change is None:
            raise PlanError(f"{what}: PostgreSQL knows no way from {live.type} to {wanted.type}; add a new column, fill it, and drop the old one")
        hazards = []
        column = identifier(wanted.name)
        if not kinds.keeps_values(live.type, wanted.type):
            hazards.append(DELETES_DATA)
            there = f"{column}{'::text' if change.using else ''}::{wanted.type}"
            # Back by way of text: there is no cast for every pair, and a text for every value.
            back = f"({there})::text::{live.type}"
            self.steps.append(
                Step(
                    MAIN,
                    TYPE + 1,
                    f"SELECT count(*) FROM {self.quoted} WHERE {back}::text IS DISTINCT FROM {column}::text",
                    f"refuse if a value would not survive the way from {live.type} to {wanted.type}",
                    what,
                    (),
                    (((self.schema, self.wanted.name), ACCESS_EXCLUSIVE),),
                    guard=True,
                )
            )
        if change.rewrites:
            hazards.append(REWRITES_TABLE)
            self.rewritten.add(wanted.name)
        elif any(wanted.name in lexer.names(check.expression) for check in self.live.of_kind(model.CHECK).values()):
            hazards.append(BLOCKS_WRITES)
        using = f" USING {column}::text::{wanted.type}" if change.using else ""
        collation = f" COLLATE {identifier(wanted.collation)}" if wanted.collation else ""
        reason = f"its type is {live.type}{f' with collation {live.collation}' if live.collation else ''}"
        self.alter(TYPE + 2, f"ALTER COLUMN {column} TYPE {wanted.type}{collation}{using}", reason, what, tuple(hazards))

    def _nullable(self, wanted: model.Column, live: model.Column, what: str) -> int:
        """The stage in which the column is what it has to be."""
        column = identifier(wanted.name)
        helper = helper_name("null", self.wanted.name, wanted.name)
        left = self.live.constraints.get(helper)
        if wanted.nullable or not live.nullable:
            if wanted.nullable and not live.nullable:
                key = self.live.primary_key
                held = bool(key) and wanted.name in key.columns
                if not held or self.wanted.primary_key or self.purge:
                    # A key goes in the end, and keeps nulls out until then.
                    late = held and not self.partitioned
                    self.alter(34 if late else ALTER, f"ALTER COLUMN {column} DROP NOT NULL", "it may be null", what, stage=FINISH if late else MAIN)
            if left:
                self.alter(DROP_CONSTRAINT, f"DROP CONSTRAINT {identifier(helper)}", "an earlier run left it", what)
            return MAIN
        if not left and self.facts.has_nulls(self.wanted.name, wanted.name):
            raise PlanError(f"{what}: it is not to be null, and there are rows in which it is; fill them, for example with UPDATE, and run again")
        if not left:
            # While the table is locked for writers this check is only noted; reading the rows comes after, with nobody kept out.
            self.alter(
                ADD_CONSTRAINT,
                f"ADD CONSTRAINT {identifier(helper)} CHECK ({column} IS NOT NULL) NOT VALID",
                "it is not to be null: no new null from here on",
                what,
            )
        if not left or not left.validated:
            self.alter(
                0,
                f"VALIDATE CONSTRAINT {identifier(helper)}",
                "find out that no row has a null, without keeping writers out",
                what,
                stage=VALIDATE,
                lock="",
            )
        self.alter(20, f"ALTER COLUMN {column} SET NOT NULL", "it is not to be null; the check has proven it, so no row is read", what, stage=FINISH)
        self.alter(21, f"DROP CONSTRAINT {identifier(helper)}", "the check has done its work", what, stage=FINISH)
        return FINISH

    def _identity(self, wanted: model.Column, live: model.Column, what: str, stage: int) -> None:
        column = identifier(wanted.name)
        if live.identity:
            kind = "ALWAYS" if wanted.identity == model.ALWAYS else "BY DEFAULT"
            self.alter(ALTER, f"ALTER COLUMN {column} SET GENERATED {kind}", f"its identity is {live.identity}", what)
            return
        if live.default and wanted.default == live.default:
            self.alter(TYPE - 1, f"ALTER COLUMN {column} DROP DEFAULT", "an identity has no default", what)
        self.alter(ALTER + 1, f"ALTER COLUMN {column} ADD {sql.identity(wanted)}", "it becomes an identity", what, stage=stage)
        self._next_number(wanted, what, stage, ALTER + 2)

    def _serial(self, wanted: model.Column, what: str, has_default: bool) -> None:
        column = identifier(wanted.name)
        sequence = self._free_name(f"{self.wanted.name}_{wanted.name}_seq", helper_name("seq", self.wanted.name, wanted.name))
        name = identifier(self.schema, sequence)
        owned = f"{self.quoted}.{column}"
        text, reason = f"CREATE SEQUENCE {name} AS {wanted.type} OWNED BY {owned}", "its numbers come from a sequence"
        self.step(MAIN, ALTER + 1, text, reason, what, makes=relations(sequence))
        self.alter(ALTER + 2, f"ALTER COLUMN {column} SET DEFAULT nextval({literal(name)}::regclass)", "its numbers come from a sequence", what)
        self._next_number(wanted, what, MAIN, ALTER + 3)

    def _free_name(self, name: str, otherwise: str) -> str:
        """As PostgreSQL does for its own serials: with a number where the name is taken; ``otherwise`` for a name that is too long."""
        if len(name.encode()) + 3 > NAME_BYTES:
            return otherwise
        numbered = (f"{name}{number or ''}" for number in range(100))
        return next((one for one in numbered if not self.facts.is_taken(one)), otherwise)

    def _next_number(self, wanted: model.Column, what: str, stage: int, order: int) -> None:
        column = identifier(wanted.name)
        text = (
            f"SELECT setval(pg_get_serial_sequence({literal(self.quoted)}, {literal(wanted.name)}), "
            f"coalesce(max({column}), 0) + 1, false) FROM {self.quoted}"
        )
        self.step(stage, order, text, "the next number comes after the largest there is", what)

    # -- constraints

    def _goes_with_column(self, constraint: model.Constraint) -> bool:
        """Whether dropping a column takes this constraint along."""
        return self._rests_on(constraint, self.dropped)

    @staticmethod
    def _rests_on(constraint: model.Constraint, columns: set) -> bool:
        if constraint.kind == model.CHECK:
            return bool(columns & lexer.names(constraint.expression))
        if constraint.kind == model.EXCLUDE:
            return bool(columns & lexer.names(constraint.text))
        return bool(columns & {*constraint.columns, *constraint.include})

    def constraints(self) -> None:
        live = {
            name: constraint
            for name, constraint in self.live.constraints.items()
            if not name.startswith("customer_schema_null_") and not self._goes_with_column(constraint)
        }
        self._kept_constraints = set(live)
        left = dict(live)
        for name, wanted in self.wanted.constraints.items():
            there = live.get(name)
            if wanted.kind == model.PRIMARY:
                there = next((one for one in live.values() if one.kind == model.PRIMARY), None)
                if there and there.same(wanted) and there.name != name and name != f"{self.wanted.name}_pkey":
                    self._rename_constraint(there, name)
            if there is None or not there.same(wanted):
                twin = next((one for other, one in left.items() if other not in self.wanted.constraints and one.same(wanted)), None)
                if there is None and twin is not None:
                    del left[twin.name]
                    self._rename_constraint(twin, name)
                    there = twin
            if there is not None and there.same(wanted):
                left.pop(there.name, None)
                self._validate(wanted, there)
                continue
            if there is not None:
                left.pop(there.name, None)
            self._add_constraint(wanted, there)
        for constraint in left.values():
            self._undeclared_constraint(constraint)

    def _rename_constraint(self, old: model.Constraint, name: str) -> None:
        what = self.named("constraint", name)
        # After the columns that go, which may take along what has the name until then.
        self.alter(
            ADD_CONSTRAINT - 1,
            f"RENAME CONSTRAINT {identifier(old.name)} TO {identifier(name)}",
            f"it is there under the name {old.name}",
            what,
            frees=self._index_of(old, old.name),
            makes=self._index_of(old, name),
        )

    @staticmethod
    def _index_of(constraint: model.Constraint, name: str) -> tuple:
        """The name that its index takes: keys and exclusions have one."""
        return relations(name) if constraint.kind in (model.PRIMARY, model.UNIQUE, model.EXCLUDE) else ()

    def _validate(self, wanted: model.Constraint, live: model.Constraint) -> None:
        if wanted.validated and not live.validated:
            text = f"VALIDATE CONSTRAINT {identifier(wanted.name)}"
            self.alter(10, text, "it holds for new rows only", self.named("constraint", wanted.name), stage=VALIDATE, lock="")

    def _undeclared_constraint(self, constraint: model.Constraint) -> None:
        what = self.named("constraint", constraint.name)
        if not self.purge:
            self.undeclared.append(what)
            return
        self._keep_identity(constraint.name, what)
        if constraint.name in self.wanted.indexes:
            # An index is declared by that name, and built before the constraint goes.
            aside = helper_name("old", self.wanted.name, constraint.name)
            text = f"RENAME CONSTRAINT {identifier(constraint.name)} TO {identifier(aside)}"
            names = {"frees": relations(constraint.name), "makes": relations(aside)}
            self.alter(ADD_INDEX - 1, text, "it serves until the index that is declared by its name is built", what, **names)
            constraint = dataclasses.replace(constraint, name=aside)
        hazards = (DROPS_INDEX,) if constraint.kind in (model.PRIMARY, model.UNIQUE, model.EXCLUDE) else ()
        self._drop_constraint(constraint, "it is not declared", hazards)

    def _keep_identity(self, name: str, what: str) -> None:
        if self.wanted.replica_identity in ("", name) and self.live.replica_identity == name:
            raise PlanError(
                f"{what}: it is the replica identity of {self.schema}.{self.wanted.name}, and without one no row of a published table can be changed; "
                "declare it, or set replica_identity of the table to another"
            )

    def _drop_constraint(
        self, constraint: model.Constraint, reason: str, hazards: tuple = (), stage: int = MAIN, order: int = DROP_CONSTRAINT
    ) -> None:
        if constraint.kind == model.FOREIGN:
            order -= 1
        if constraint.kind in (model.PRIMARY, model.UNIQUE):
            if not self.partitioned and not self.rewritten & set(constraint.columns):
                stage, order = FINISH, 30
            self.dropped_keys.append((constraint, stage))
        self.alter(
            order,
            f"DROP CONSTRAINT {identifier(constraint.name)}",
            reason,
            self.named("constraint", constraint.name),
            hazards,
            stage=stage,
            frees=self._index_of(constraint, constraint.name),
        )
        if constraint.kind == model.FOREIGN:
            self._also_lock(constraint.target, ACCESS_EXCLUSIVE)

    def _also_lock(self, target: tuple, mode: str) -> None:
        last = self.steps[-1]
        if target[0] != self.schema or not self.facts.is_live(target[1]):
            return
        self.steps[-1] = last._replace(locks=(*last.locks, (target, mode)))

    def _add_constraint(self, wanted: model.Constraint, old: t.Optional[model.Constraint]) -> None:
        what = self.named("constraint", wanted.name)
        reason = "it is declared otherwise" if old else "it is missing"
        if old:
            self._hand_on(wanted, old, what)
        if wanted.kind in (model.PRIMARY, model.UNIQUE):
            self._add_key(wanted, old, what, reason)
            return
        if old:
            self._drop_constraint(old, reason)
        if wanted.kind == model.EXCLUDE:
            self.alter(ADD_CONSTRAINT, f"ADD {sql.constraint(wanted)}", reason, what, (BLOCKS_WRITES,), makes=relations(wanted.name))
            return
        order = ADD_FOREIGN if wanted.kind == model.FOREIGN else ADD_CONSTRAINT
        if wanted.kind == model.FOREIGN and (self.partitioned or wanted.target == (self.schema, self.wanted.name) and self.partitioned):
            self.alter(order, f"ADD {sql.constraint(wanted)}", reason, what, (BLOCKS_WRITES,))
            self._also_lock(wanted.target, SHARE_ROW_EXCLUSIVE)
            return
        late = wanted.kind == model.FOREIGN and self.facts.key_comes_late(wanted)
        lock = SHARE_ROW_EXCLUSIVE if wanted.kind == model.FOREIGN else ACCESS_EXCLUSIVE
        self.alter(
            order,
            f"ADD {sql.constraint(wanted)} NOT VALID",
            f"{reason}: it holds for new rows from here on",
            what,
            stage=FINISH if late else MAIN,
            lock=lock,
        )
        if wanted.kind == model.FOREIGN:
            self._also_lock(wanted.target, SHARE_ROW_EXCLUSIVE)
        self.alter(
            10,
            f"VALIDATE CONSTRAINT {identifier(wanted.name)}",
            "the rows that were there have to comply too; nobody is kept out meanwhile",
            what,
            stage=VALIDATE_FINISH if late else VALIDATE,
            lock="",
        )

    def _hand_on(self, wanted: model.Constraint, old: model.Constraint, what: str) -> None:
        """What hangs on a constraint that is replaced is given to the new one, or the run is refused."""
        comment = self.facts.constraint_comment(self.wanted.name, old.name)
        if comment:
            text = f"COMMENT ON CONSTRAINT {identifier(wanted.name)} ON {self.quoted} IS {literal(comment)}"
            self.step(FINISH, COMMENT, text, "the one that it replaces had this comment", what)
        if old.kind in (model.PRIMARY, model.UNIQUE):
            plain = all(not self.wanted.columns[column].nullable for column in wanted.columns if column in self.wanted.columns)
            early = bool(self.rewritten & set(old.columns))
            self._hand_on_index(old.name, wanted.name, what, plain and not wanted.deferrable and wanted.kind in (model.PRIMARY, model.UNIQUE), early)

    def _hand_on_index(self, old: str, new: str, what: str, may_identify: bool, early: bool) -> None:
        """
        :param may_identify: whether the new one can be the replica identity of its table.
        :param early: the old one goes before the new one is there.
        """
        parts = self.facts.index_parts(old)
        if parts.others:
            raise PlanError(f"{what}: it is built anew, and would lose {', '.join(parts.others)}; take that away first, and set it again after the run")
        quoted = identifier(self.schema, new)
        if parts.comment:
            self.step(FINISH, COMMENT, sql.comment("INDEX", quoted, parts.comment), "the one that it replaces had this comment", what)
        if parts.clustered:
            self.alter(61, f"CLUSTER ON {identifier(new)}", "the one that it replaces is the order of CLUSTER", what, stage=FINISH)
        if parts.identity and self.wanted.replica_identity in ("", new):
            if not may_identify or early:
                raise PlanError(
                    f"{what}: it is the replica identity of {self.schema}.{self.wanted.name}, which what is declared cannot be: that takes a unique index "
                    "on columns that are not null, whose type does not change meanwhile; set replica_identity of the table to another index, or to full"
                )
            self.alter(62, f"REPLICA IDENTITY USING INDEX {identifier(new)}", "the one that it replaces is the replica identity", what, stage=FINISH)

    def _add_key(self, wanted: model.Constraint, old: t.Optional[model.Constraint], what: str, reason: str) -> None:
        """A primary key or unique constraint: its index is built beside the writers, then made a constraint in a moment."""
        if self.partitioned:
            if old:
                self._drop_constraint(old, reason)
            self.alter(
                ADD_CONSTRAINT,
                f"ADD {sql.constraint(wanted)}",
                f"{reason}; its index on a parted table cannot be built beside writers",
                what,
                (BLOCKS_WRITES,),
                makes=relations(wanted.name),
            )
            return
        # Under the declared name where it is free, so that a run that was killed is easily understood.
        taken = wanted.name in self.live.constraints and wanted.name not in self._gone_names()
        name = helper_name("new", self.wanted.name, wanted.name) if taken else wanted.name
        index = model.Index(
            name,
            tuple(identifier(column) for column in wanted.columns),
            unique=True,
            include=wanted.include,
            nulls_not_distinct=wanted.nulls_not_distinct,
        )
        self.unique_later.add(name)
        there = self.live.indexes.get(name)
        if there and not (there.valid and self._same_columns(there, wanted)):
            self._drop_invalid(there, what)
            there = None
        if not there:
            self._build(index, f"{reason}: its index is built beside the writers", what)
        if old:
            self._drop_constraint(old, reason)
        kind = "PRIMARY KEY" if wanted.kind == model.PRIMARY else "UNIQUE"
        timing = f" {sql.timing(wanted)}" if wanted.deferrable else ""
        taken_over = {"frees": relations(name), "makes": relations(wanted.name)} if name != wanted.name else {}
        self.alter(31, f"ADD CONSTRAINT {identifier(wanted.name)} {kind} USING INDEX {identifier(name)}{timing}", reason, what, stage=FINISH, **taken_over)

    def _gone_names(self) -> set:
        return set(self.live.constraints) - self._kept_constraints

    @staticmethod
    def _same_columns(index: model.Index, wanted: model.Constraint) -> bool:
        plain = tuple(key[1:-1].replace('""', '"') if key.startswith('"') else key for key in index.keys)
        return index.unique and plain == wanted.columns and not index.where and index.include == wanted.include

    # -- indexes

    def _build(self, index: model.Index, reason: str, what: str) -> None:
        self.step(
            BUILD,
            10,
            sql.index(self.schema, self.wanted.name, index, concurrently=True),
            reason,
            what,
            lock="",
            index=(self.schema, index.name),
            makes=relations(index.name),
        )

    def _drop_invalid(self, index: model.Index, what: str) -> None:
        text = f"DROP INDEX CONCURRENTLY {identifier(self.schema, index.name)}"
        self.step(BUILD, 5, text, "a build that did not end well left it", what, lock="", frees=relations(index.name))

    def indexes(self) -> None:
        live = {
            name: index
            for name, index in self.live.indexes.items()
            if name not in self.unique_later and not (self.dropped & set(index.columns)) and not name.startswith("customer_schema_part_")
        }
        left = dict(live)
        for name, wanted in self.wanted.indexes.items():
            what = f"index {self.schema}.{name}"
            aside = helper_name("old", self.wanted.name, name)
            there, old = left.pop(name, None), left.pop(aside, None)
            if there is not None and there.same(wanted):
                self._there(wanted, there, what)
            else:
                twin = (
                    None
                    if there
                    else next((one for other, one in left.items() if other not in self.wanted.indexes and one.valid and one.same(wanted)), None)
                )
                if old is not None and old.valid and old.same(wanted) and there is None:
                    self._rename_index(aside, name, "a replacement that was not finished is no longer declared", what)
                    continue
                if twin is not None:
                    del left[twin.name]
                    self._rename_index(twin.name, name, f"it is there under the name {twin.name}", what)
                else:
                    old = self._make(wanted, there, old, aside, what)
            if old is not None:
                self._drop_index(old, "its replacement is in place", what, ())
        for name, index in left.items():
            if name.startswith("customer_schema_"):
                self._drop_index(index, "an earlier run left it", f"index {self.schema}.{name}", ())
            elif self.purge:
                self._keep_identity(name, f"index {self.schema}.{name}")
                self._drop_index(index, "it is not declared", f"index {self.schema}.{name}", (DROPS_INDEX,))
            else:
                self.undeclared.append(f"index {self.schema}.{name}")

    def _there(self, wanted: model.Index, there: model.Index, what: str) -> None:
        if there.valid:
            return
        if self.partitioned:
            self._build_parted(wanted, what, "it is not complete on all partitions", exists=True)
            return
        self._drop_invalid(there, what)
        self._build(wanted, "it is invalid: PostgreSQL does not use it", what)

    def _make(
        self, wanted: model.Index, there: t.Optional[model.Index], old: t.Optional[model.Index], aside: str, what: str
    ) -> t.Optional[model.Index]:
        """Build it; what had the name serves until the new one is there. Returns what is to be dropped after."""
        reason = "it is missing"
        if there is not None:
            reason = "it is declared otherwise"
            filled = {spelling for one in self.wanted.columns.values() if not one.nullable for spelling in (one.name, identifier(one.name))}
            may_identify = wanted.unique and not wanted.where and filled.issuperset(wanted.keys)
            self._hand_on_index(there.name, wanted.name, what, may_identify, bool(self.rewritten & set(there.columns)))
            if self.rewritten & set(there.columns):
                self._drop_index(there, f"{reason}, and its column is written anew", what, ())
            elif not there.valid and not self.partitioned:
                self._drop_invalid(there, what)
            else:
                if old is not None:
                    # An earlier replacement was never cleaned up, and its name is taken until the end.
                    self._drop_index(old, "an earlier run left it", what, ())
                    aside = helper_name("old", self.wanted.name, wanted.name, "again")
                self._rename_index(there.name, aside, "it serves until its replacement is built", what)
                old = dataclasses.replace(there, name=aside)
        if self.partitioned:
            self._build_parted(wanted, what, reason, exists=False)
        else:
            self._build(wanted, reason, what)
        return old

    def _rename_index(self, name: str, new: str, reason: str, what: str) -> None:
        text = f"ALTER INDEX {identifier(self.schema, name)} RENAME TO {identifier(new)}"
        self.step(MAIN, ADD_INDEX, text, reason, what, lock=SHARE_UPDATE_EXCLUSIVE, frees=relations(name), makes=relations(new))

    def _drop_index(self, index: model.Index, reason: str, what: str, hazards: tuple, stage: int = CLEAN) -> None:
        if self.rewritten & set(index.columns):
            self.step(MAIN, DROP_CONSTRAINT - 3, f"DROP INDEX {identifier(self.schema, index.name)}", reason, what, hazards, frees=relations(index.name))
            return
        if self.partitioned:
            # CONCURRENTLY is not offered for these; the lock is short.
            self.step(FINISH, 70, f"DROP INDEX {identifier(self.schema, index.name)}", reason, what, hazards, frees=relations(index.name))
            return
        self.step(stage, 4, f"DROP INDEX CONCURRENTLY {identifier(self.schema, index.name)}", reason, what, hazards, lock="", frees=relations(index.name))

    def _build_parted(self, wanted: model.Index, what: str, reason: str, exists: bool) -> None:
        """The parts one by one beside the writers, each then attached to the parent's index, which is valid with the last."""
        if not exists:
            # Partitions that are made after it get their part with it.
            text = sql.index(self.schema, self.wanted.name, wanted, only=True)
            self.step(MAIN, ADD_INDEX, text, f"{reason}: the frame for its parts", what, lock=SHARE_ROW_EXCLUSIVE, makes=relations(wanted.name))
        number = 10
        for part in self.facts.partitions(self.wanted.name, wanted.name if exists else ""):
            name = helper_name("part", part.schema, part.name, wanted.name)
            if part.attached:
                continue
            if part.built is False:
                self.step(
                    BUILD, number, f"DROP INDEX CONCURRENTLY {identifier(part.schema, name)}", "a build that did not end well left it", what, lock=""
                )
            if part.built is not True:
                leaf = not part.parted
                text = sql.index(part.schema, part.name, wanted, concurrently=leaf, only=not leaf, name=name)
                self.step(BUILD, number + 1, text, f"its part on {part.name}", what, lock="", index=(part.schema, name) if leaf else ())
            number += 2
        # From the leaves up: a frame is valid once all of its parts are attached.
        for part in reversed(self.facts.partitions(self.wanted.name, wanted.name if exists else "")):
            if part.attached:
                continue
            name = helper_name("part", part.schema, part.name, wanted.name)
            frame = (
                (part.parent_schema, helper_name("part", part.parent_schema, part.parent, wanted.name)) if part.nested else (self.schema, wanted.name)
            )
            text = f"ALTER INDEX {identifier(*frame)} ATTACH PARTITION {identifier(part.schema, name)}"
            self.step(BUILD, number + 1, text, f"its part on {part.name} is built", what, lock="")
            number += 1
