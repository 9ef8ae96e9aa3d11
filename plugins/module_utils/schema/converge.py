# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of customer_schema: read, compare, plan, and carry out."""

from __future__ import annotations

import dataclasses
import typing as t

from ..postgres import DEADLOCK, INTERNAL, LOCK_NOT_AVAILABLE, PostgresError
from . import apply, catalog, facts, lexer, memory, model, scratch, sql
from .declare import DeclarationError
from .plan import Plan, Planner, _by_mention, beside
from .steps import PlanError, forbidden

# Somebody dropped or locked what was being read.
_MOVED = (LOCK_NOT_AVAILABLE, DEADLOCK, INTERNAL, "42P01", "42704", "3F000")
_BUILDING = """
SELECT p.pid, x.relname AS name FROM pg_stat_progress_create_index p
  JOIN pg_class x ON x.oid = p.index_relid JOIN pg_namespace n ON n.oid = x.relnamespace
 WHERE n.nspname = %s AND p.pid <> pg_backend_pid() AND p.datname = current_database()
"""


class Hazardous(PostgresError):
    """The plan holds what this run may not do; ``lines`` say what, one for each."""

    def __init__(self, lines: list[str], plan: Plan) -> None:
        super().__init__("; ".join(lines))
        self.lines, self.plan = lines, plan


def counted(lines: t.Sized) -> str:
    return "One step of the plan is" if len(lines) == 1 else f"{len(lines)} steps of the plan are"


class Outcome(t.NamedTuple):
    """``before`` and ``after`` are the changed objects as text, for the diff."""

    plan: Plan
    before: str
    after: str
    warnings: list


@dataclasses.dataclass
class Comparison:
    """One look at what is live, against what is declared."""

    reading: catalog.Reading
    wanted: model.Schema
    live: model.Schema
    same: set
    remembered: dict
    plan: Plan


class Converger:
    """:param declared: the model, or None where ``definition`` holds it as SQL."""

    def __init__(
        self,
        session,
        declared: t.Optional[model.Schema],
        definition: str,
        name: str,
        owner: str,
        purge: bool,
        allow: t.Collection[str],
        patience: apply.Patience,
    ) -> None:
        self.session, self.declared, self.definition = session, declared, definition
        self.name, self.owner, self.purge, self.allow, self.patience = name, owner, purge, allow, patience
        self.checking = False
        self.spellings: dict = {}

    def run(self, check: bool) -> Outcome:
        """PlanError, DeclarationError, Hazardous and ApplyError say why not."""
        self.session.settings(lock_timeout=str(self.patience.lock), statement_timeout="0")
        self.checking = check
        found = self._compare()
        if found.plan.steps and not check:
            # Only who changes something waits for others; they may have done it meanwhile.
            with self.session.exclusively(f"the schema {self.name}", self._others_time()):
                self._wait_for_builders(found)
                found = self._compare(found)
                self._refuse_hazards(found.plan)
                if found.plan.steps:
                    self._apply(found.plan)
                warnings = self._remember(found)
        else:
            self._refuse_hazards(found.plan)
            warnings = [] if check else self._remember(found)
        before, after = _as_text(found)
        return Outcome(found.plan, before, after, warnings)

    def _apply(self, plan: Plan) -> None:
        try:
            apply.run(self.session, self.name, plan.steps, self.patience)
        except apply.ApplyError as error:
            if not error.done and not self.session.connection.closed:
                # What is new was not read in the scratch schema, where the part at fault is found and named.
                self.checking = True
                self._compare()
            raise

    def _others_time(self) -> float:
        return max(60.0, self.patience.lock / 1000 * (self.patience.retries + 1))

    def _refuse_hazards(self, plan: Plan) -> None:
        lines = forbidden(plan.steps, self.allow)
        if lines:
            raise Hazardous(lines, plan)

    # -- comparing

    def _compare(self, before: t.Optional[Comparison] = None) -> Comparison:
        """``before`` is handed back where the schema is still as it was found then."""
        return self.session.patiently(lambda: self._compare_once(before), self.patience.retries, _MOVED, f"reading the schema {self.name}")

    def _read(self) -> tuple:
        with self.session.transaction("ISOLATION LEVEL REPEATABLE READ, READ ONLY"):
            scratch.set_path(self.session, self.name)
            reading = catalog.read(self.session, self.name)._replace(names=catalog.names(self.session, self.name))
            return reading, memory.read(self.session, self.name)

    def _compare_once(self, before: t.Optional[Comparison]) -> Comparison:
        reading, remembered = self._read()
        if before and (reading, remembered) == (before.reading, before.remembered):
            return before
        live = reading.schema
        if self.declared is None:
            wanted, same = self._defined(reading, remembered)
        else:
            wanted, same = self._normalised(reading, remembered)
        live = _respelled(live, self.spellings)
        known = facts.Facts(self.session, wanted, live, reading.oids, reading.names)
        plan = Planner(wanted, live, known, self.purge, same).plan()
        if ("definition", "") in same:
            plan = plan._replace(undeclared=sorted({*plan.undeclared, *(name for kind, name in remembered if kind == "undeclared")}))
        return Comparison(reading, wanted, live, same, remembered, plan)

    def _defined(self, reading: catalog.Reading, remembered: dict) -> tuple:
        """A definition is one piece: either all of it is known to be so, or all is built and compared."""
        key = ("definition", "")
        if remembered.get(key) == (self._definition_digest(), _mark_of_all(reading.marks)):
            names = {key for key in remembered if key[0] not in ("definition", "undeclared")}
            kept = model.Schema(
                self.name,
                owner=self.owner,
                tables={name: table for name, table in reading.schema.tables.items() if ("table", name) in names},
                enums={name: enum for name, enum in reading.schema.enums.items() if ("enum", name) in names},
                views={name: view for name, view in reading.schema.views.items() if ("view", name) in names},
            )
            return kept, names | {key}
        found, self.spellings = scratch.define(self.session, self.name, self.owner, self.definition)
        return found, set()

    def _definition_digest(self) -> str:
        return memory.digest((self.definition, self.owner, self.purge))

    def _declared_digest(self, kind: str, name: str) -> str:
        if kind == "table":
            return memory.digest(self.declared.tables[name])
        # What SELECT * means follows from what the view stands on.
        below, waiting = {}, [name]
        while waiting:
            view = self.declared.views[waiting.pop()]
            for mentioned in lexer.names(view.query) - set(below):
                if mentioned in self.declared.tables:
                    below[mentioned] = self.declared.tables[mentioned]
                elif mentioned in self.declared.views:
                    below[mentioned] = self.declared.views[mentioned]
                    waiting.append(mentioned)
        return memory.digest((self.declared.views[name], sorted(below.items(), key=lambda item: item[0])))

    def _normalised(self, reading: catalog.Reading, remembered: dict) -> tuple:
        """Only what is there, and not known to be as declared, is read by PostgreSQL."""
        declared, live = self._keys_resolved(reading.schema), reading.schema
        same = {
            key
            for key, mark in reading.marks.items()
            if key[0] != "enum"
            and key[1] in (declared.tables if key[0] == "table" else declared.views)
            and remembered.get(key) == (self._declared_digest(*key), mark)
        }
        if self.purge:
            # What goes may have kept the rest from being as declared: a primary key its columns from being nullable.
            same -= {("table", name) for name in declared.tables if name in live.tables and any(beside(declared.tables[name], live.tables[name]))}
        there = [
            name
            for name, table in declared.tables.items()
            if (name in live.tables or table.renamed_from in live.tables) and ("table", name) not in same
        ]
        new = [name for name, table in declared.tables.items() if name not in live.tables and table.renamed_from not in live.tables]
        views = [name for name in _by_mention(declared.views) if ("view", name) not in same]
        enums = [name for name, enum in declared.enums.items() if name not in live.enums or live.enums[name].values != enum.values]
        changed_views = [name for name in views if name in live.views]
        # New objects are built as they are declared, in a transaction that fails as a whole; nothing is gained by building them twice,
        # unless something that is compared stands on them, a statement before that transaction would stay, or there is none: in check mode.
        needed = bool(changed_views) or any(name in live.enums for name in enums) or self.checking and bool(new or views or enums)
        if not there and not needed:
            return declared, same
        read, self.spellings = scratch.read(self.session, declared, there + (new if needed or there else []), views if needed or there else [], enums)
        tables = dict(declared.tables)
        for name in there:
            tables[name] = _merged(declared.tables[name], read.tables[name], live.tables.get(name) or live.tables[declared.tables[name].renamed_from])
        normalised_views = {
            name: (
                dataclasses.replace(view, query=read.views[name].query, columns=read.views[name].columns, written=view.query)
                if name in read.views and name in live.views
                else view
            )
            for name, view in declared.views.items()
        }
        return dataclasses.replace(declared, tables=tables, views=normalised_views), same

    def _keys_resolved(self, live: model.Schema) -> model.Schema:
        """A foreign key that names no columns means the primary key."""
        tables = {}
        for name, table in self.declared.tables.items():
            constraints = {}
            for key, one in table.constraints.items():
                if one.kind == model.FOREIGN and not one.target_columns:
                    one = dataclasses.replace(one, target_columns=self._primary_key(one, name, live))
                constraints[key] = one
            tables[name] = dataclasses.replace(table, constraints=constraints)
        return dataclasses.replace(self.declared, tables=tables)

    def _primary_key(self, foreign: model.Constraint, table: str, live: model.Schema) -> tuple:
        schema, target = foreign.target
        place = f"table {table}: foreign_keys ({foreign.name}): references"
        if schema == self.name:
            known = self.declared.tables.get(target) or live.tables.get(target)
            if known is None:
                raise DeclarationError(f"{place}: the table {target} is neither declared nor there; declare it or correct the name")
            key = known.primary_key.columns if known.primary_key else ()
        else:
            key = tuple(
                row.name
                for row in self.session.rows(
                    "SELECT a.attname AS name FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY u(number, place) "
                    "JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number "
                    "WHERE k.contype = 'p' AND k.conrelid = (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                    "WHERE n.nspname = %s AND c.relname = %s) ORDER BY u.place",
                    [schema, target],
                )
            )
        if not key:
            raise DeclarationError(f"{place}: {schema}.{target} has no primary key, or is not there; list the columns that are referenced")
        if len(key) != len(foreign.columns):
            raise DeclarationError(
                f"{place}: {len(foreign.columns)} columns reference a primary key of {len(key)}; list the columns that are referenced"
            )
        return key

    # -- others that build

    def _wait_for_builders(self, found: Comparison) -> None:
        """An index that somebody is building is invalid, and not left behind."""
        wanted = {index for table in found.wanted.tables.values() for index in table.indexes}
        while any(row.name in wanted for row in self.session.rows(_BUILDING, [self.name])):
            self.session.run("SELECT pg_sleep(0.5)")

    # -- remembering

    def _remember(self, found: Comparison) -> list[str]:
        """Read again what was changed, tell what is not as it was meant, and keep what is."""
        warnings: list[str] = []
        changed = bool(found.plan.steps)
        if changed:
            reading, dummy = self._read()
            # What was made from the declaration itself has no other text to be compared with.
            made = {("table", name) for name in found.wanted.tables if name not in found.live.tables and not found.wanted.tables[name].renamed_from}
            made |= {("view", name) for name in found.wanted.views}
            known = facts.Facts(self.session, found.wanted, reading.schema, reading.oids, reading.names)
            try:
                left = Planner(found.wanted, _respelled(reading.schema, self.spellings), known, self.purge, found.same | made).plan().steps
            except PlanError as error:
                left = []
                warnings.append(f"after the run: {error}")
            warnings += [f"after the run {step.object} is not as declared: {step.reason}" for step in left]
        else:
            reading = found.reading
        if not warnings:
            self._write(found, reading.marks)
        return warnings

    def _write(self, found: Comparison, marks: dict) -> None:
        after = {}
        if self.declared is None:
            for kind, names in (("table", found.wanted.tables), ("view", found.wanted.views), ("enum", found.wanted.enums)):
                after.update({(kind, name): ("", marks[kind, name]) for name in names if (kind, name) in marks})
            after["definition", ""] = (self._definition_digest(), _mark_of_all(marks))
            after.update({("undeclared", name): ("", "") for name in found.plan.undeclared})
        else:
            for kind, names in (("table", self.declared.tables), ("view", self.declared.views)):
                after.update({(kind, name): (self._declared_digest(kind, name), marks[kind, name]) for name in names if (kind, name) in marks})
        memory.write(self.session, self.name, found.remembered, after)


def _respelled(live: model.Schema, spellings: dict) -> model.Schema:
    """With PostgreSQL's first words wherever its second ones stand."""
    if not spellings:
        return live

    def first(text: str) -> str:
        return spellings.get(text, text)

    tables = {}
    for name, table in live.tables.items():
        columns = {key: dataclasses.replace(one, default=first(one.default), generated=first(one.generated)) for key, one in table.columns.items()}
        constraints = {key: dataclasses.replace(one, expression=first(one.expression)) for key, one in table.constraints.items()}
        indexes = {key: dataclasses.replace(one, keys=tuple(map(first, one.keys)), where=first(one.where)) for key, one in table.indexes.items()}
        tables[name] = dataclasses.replace(table, columns=columns, constraints=constraints, indexes=indexes)
    views = {name: dataclasses.replace(view, query=first(view.query)) for name, view in live.views.items()}
    return dataclasses.replace(live, tables=tables, views=views)


def _mark_of_all(marks: dict) -> str:
    return memory.digest(sorted(marks.items()))


def _merged(declared: model.Table, read: model.Table, live: model.Table) -> model.Table:
    """PostgreSQL's reading of types and expressions, with what it was not asked about."""
    columns = {
        name: dataclasses.replace(
            column,
            comment=declared.columns[name].comment,
            renamed_from=declared.columns[name].renamed_from,
            written=(declared.columns[name].default, declared.columns[name].generated),
            start=declared.columns[name].start,
            increment=declared.columns[name].increment,
        )
        for name, column in read.columns.items()
    }
    constraints = {
        name: dataclasses.replace(one, written=declared.constraints[name].expression) if name in declared.constraints else one
        for name, one in read.constraints.items()
    }
    constraints.update(declared.of_kind(model.FOREIGN))
    indexes = {
        name: dataclasses.replace(one, written=(declared.indexes[name].keys, declared.indexes[name].where)) for name, one in read.indexes.items()
    }
    for name, column in columns.items():
        there = live.columns.get(name) or live.columns.get(column.renamed_from)
        if there is not None and there.serial and (column.serial or column.default == there.serial_default):
            # Written as serial, or as the default that serial stands for.
            columns[name] = dataclasses.replace(column, serial=there.serial, default="", written=())
    return dataclasses.replace(
        read,
        columns=columns,
        constraints=constraints,
        indexes=indexes,
        comment=declared.comment,
        renamed_from=declared.renamed_from,
        owner=declared.owner,
        unlogged=live.unlogged,
        replica_identity=declared.replica_identity,
    )


def _as_text(found: Comparison) -> tuple[str, str]:
    """The objects that change, before and after, one line for each part."""
    touched = {step.object.split(" ", 1)[1].split(".", 2)[1] for step in found.plan.steps if "." in step.object}
    texts = []
    for schema in (found.live, found.wanted):
        lines = []
        for kind, objects in (("enum", schema.enums), ("table", schema.tables), ("view", schema.views)):
            for name, one in sorted(objects.items()):
                indexes = getattr(one, "indexes", {})
                if name in touched or touched & set(indexes):
                    lines += [f"{kind} {schema.name}.{name}", *(f"  {line}" for line in _lines(schema.name, one))]
        texts.append("\n".join(lines) + ("\n" if lines else ""))
    return texts[0], texts[1]


def _lines(schema: str, one: t.Any) -> list[str]:
    if isinstance(one, model.Enum):
        return [repr(value) for value in one.values]
    if isinstance(one, model.View):
        return one.query.splitlines()
    return [
        *(sql.column(column) for column in one.columns.values()),
        *sorted(sql.constraint(constraint) for constraint in one.constraints.values()),
        *sorted(sql.index(schema, one.name, index) for index in one.indexes.values()),
    ]
