# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the live schema to the declared one: the list of steps, in an order that respects who needs whom."""

from __future__ import annotations

import dataclasses
import typing as t

from ..postgres import identifier, literal
from . import lexer, model, sql, tables
from .steps import (
    ACCESS_EXCLUSIVE,
    BLOCKS_WRITES,
    DELETES_DATA,
    LABELS,
    MAIN,
    RELATION,
    SHARE_ROW_EXCLUSIVE,
    TYPE,
    PlanError,
    Step,
    ordered,
    refuse_taken_names,
    relations,
    with_row_type,
)

# What stands around the orders of tables.py in the main transaction.
SCHEMA, ENUM = 0, 10
VIEW, OWNER, DROP_ENUM = 200, 300, 400


class Plan(t.NamedTuple):
    """``undeclared``: what is live and not declared, and stays, such as 'column customer.customer.fax'."""

    steps: list
    undeclared: list


class Planner:
    """One use: ``Planner(...).plan()``.

    :param wanted: the declared schema; a table that is there already is as
        PostgreSQL normalised it.
    :param live: as it was read.
    :param same: (kind, name) of what is known to be as declared.
    :param facts: see facts.Facts; it knows live names only.
    """

    def __init__(self, wanted: model.Schema, live: model.Schema, facts, purge: bool = False, same: t.Collection = ()) -> None:
        self.wanted, self.live, self.facts, self.purge, self.same = wanted, live, facts, purge, same
        self.steps: list[Step] = []
        self.undeclared: list[str] = []
        self.old_tables: dict[str, str] = {}
        self.old_columns: dict[tuple, str] = {}
        self.disturbed: dict[str, dict] = {}
        self.dropped_keys: list = []

    # -- what TableDiff asks: it knows the names of after the renames, the server those of before

    def _actual(self, table: str) -> str:
        return self.old_tables.get(table, table)

    def has_rows(self, table: str) -> bool:
        return self.facts.has_rows(self._actual(table))

    def has_nulls(self, table: str, column: str) -> bool:
        return self.facts.has_nulls(self._actual(table), self.old_columns.get((table, column), column))

    def partitions(self, table: str, index: str) -> list:
        return self.facts.partitions(self._actual(table), index)

    def type_change(self, old: model.Column, new: model.Column):
        return self.facts.type_change(old, new)

    def adding_rewrites(self, table: model.Table, column: model.Column) -> bool:
        return self.facts.adding_rewrites(table, column)

    @property
    def version(self) -> int:
        return self.facts.version

    def index_parts(self, index: str):
        return self.facts.index_parts(index)

    def constraint_comment(self, table: str, constraint: str) -> t.Optional[str]:
        return self.facts.constraint_comment(self._actual(table), constraint)

    def column_holds(self, table: str, column: str) -> list:
        return self.facts.column_holds(self._actual(table), self.old_columns.get((table, column), column))

    def sequence_user(self, sequence: str, table: str, column: str) -> t.Optional[str]:
        return self.facts.sequence_user(sequence, self._actual(table), self.old_columns.get((table, column), column))

    def is_taken(self, relation: str) -> bool:
        return (RELATION, relation) in self.facts.names

    def is_live(self, table: str) -> bool:
        return table in self.after.tables

    def key_comes_late(self, foreign: model.Constraint) -> bool:
        """Whether the key that it references is built in this run, beside the writers, or one that it could rest on goes."""
        if foreign.target[0] != self.live.name or foreign.target[1] not in self.after.tables:
            return False
        target = self.after.tables[foreign.target[1]]
        if not _has_key(target, foreign.target_columns):
            return True
        keys = target.of_kind(model.PRIMARY, model.UNIQUE).values()
        return any(set(key.columns) == set(foreign.target_columns) and not self._stays(target, key) for key in keys)

    def _stays(self, table: model.Table, key: model.Constraint) -> bool:
        wanted = self.wanted.tables.get(table.name)
        if wanted is None:
            return True
        if key.kind == model.PRIMARY:
            return wanted.primary_key.same(key) if wanted.primary_key else not self.purge
        if key.name in wanted.constraints:
            return wanted.constraints[key.name].same(key)
        # Under another name, perhaps.
        return not self.purge or any(one.same(key) for name, one in wanted.constraints.items() if name not in table.constraints)

    # -- the plan

    def plan(self) -> Plan:
        self._schema()
        self.after = self._renames()
        self._refuse_foreigners()
        self._enums()
        self._foreign_targets()
        dropped = self._dropped_tables()
        for name in _parents_first(self.wanted.tables):
            table = self.wanted.tables[name]
            if name not in self.after.tables:
                self._create(table)
            elif ("table", name) in self.same:
                self._only_undeclared(table)
            else:
                self._change(table)
        self._drop_tables(dropped)
        self._keys_under_foreign_keys({name for name, dummy in dropped})
        self._views(dropped)
        self._owners()
        self._lock_by_actual_names()
        for name, kind in sorted(self.live.others.items()):
            self.undeclared.append(f"{kind} {self.live.name}.{name}")
        steps = ordered(self.steps)
        refuse_taken_names(steps, self.facts.names)
        return Plan(steps, sorted(self.undeclared))

    def step(self, order: int, text: str, reason: str, what: str, hazards: tuple = (), stage: int = MAIN, locks: tuple = (), **names) -> None:
        self.steps.append(Step(stage, order, text, reason, what, hazards, locks, **names))

    def _named(self, kind: str, name: str) -> str:
        return f"{kind} {self.wanted.name}.{name}"

    def _schema(self) -> None:
        name = self.wanted.name
        if not self.live.exists:
            owner = f" AUTHORIZATION {identifier(self.wanted.owner)}" if self.wanted.owner else ""
            self.step(SCHEMA, f"CREATE SCHEMA {identifier(name)}{owner}", "it is missing", f"schema {name}")
        elif self.wanted.owner and self.wanted.owner != self.live.owner:
            self.step(
                SCHEMA,
                f"ALTER SCHEMA {identifier(name)} OWNER TO {identifier(self.wanted.owner)}",
                f"it belongs to {self.live.owner}",
                f"schema {name}",
            )

    # -- renames

    def _renames(self) -> model.Schema:
        found = dict(self.live.tables)
        for name, table in self.wanted.tables.items():
            if table.renamed_from and name not in found and table.renamed_from in found:
                if table.renamed_from in self.wanted.tables:
                    raise PlanError(f"table {name}: renamed_from is {table.renamed_from}, which is declared as a table of its own; keep one of both")
                found = _table_renamed(found, self.live.name, table.renamed_from, name)
                self.old_tables[name] = table.renamed_from
                text = sql.alter(self.live.name, table.renamed_from, f"RENAME TO {identifier(name)}")
                self.step(
                    tables.RENAME,
                    text,
                    f"renamed_from is {table.renamed_from}; its rows stay",
                    self._named("table", name),
                    locks=self._lock(name),
                    frees=with_row_type(table.renamed_from),
                    makes=with_row_type(name),
                )
            if name in found:
                for column in table.columns.values():
                    old = column.renamed_from
                    if old and column.name not in found[name].columns and old in found[name].columns:
                        if old in table.columns:
                            raise PlanError(
                                f"column {name}.{column.name}: renamed_from is {old}, which is declared as a column of its own; keep one of both"
                            )
                        found = _column_renamed(found, self.live.name, name, old, column.name)
                        self.old_columns[name, column.name] = old
                        text = sql.alter(self.live.name, name, f"RENAME COLUMN {identifier(old)} TO {identifier(column.name)}")
                        self.step(
                            tables.RENAME + 1,
                            text,
                            f"renamed_from is {old}; its values stay",
                            self._named("column", f"{name}.{column.name}"),
                            locks=self._lock(name),
                        )
        return dataclasses.replace(self.live, tables=found)

    def _lock(self, table: str, mode: str = ACCESS_EXCLUSIVE) -> tuple:
        return (((self.live.name, table), mode),)

    def _lock_by_actual_names(self) -> None:
        """The first transaction asks for its locks before it renames."""
        known = {self._actual(name) for name in self.after.tables}
        changed = []
        for step in self.steps:
            if step.stage == MAIN:
                locks = tuple(((schema, self._actual(name)), mode) for (schema, name), mode in step.locks)
                step = step._replace(locks=tuple(lock for lock in locks if lock[0][0] == self.live.name and lock[0][1] in known))
            changed.append(step)
        self.steps = changed

    # -- refusals that need the whole picture

    def _refuse_foreigners(self) -> None:
        """Only an owner may alter a table."""
        for name, table in self.wanted.tables.items():
            live = self.after.tables.get(name)
            if live is not None and ("table", name) not in self.same and not self.facts.may_act_as(live.owner):
                raise PlanError(
                    f"table {self.live.name}.{name} belongs to {live.owner}, and {self.facts.user} is no member of that role: "
                    f"GRANT {identifier(live.owner)} TO {identifier(self.facts.user)}, or set session_role or login_user to a role that may"
                )
            if name in self.live.views or name in self.live.others:
                kind = self.live.others.get(name, "view")
                raise PlanError(f"table {self.live.name}.{name}: there is a {kind} of that name; rename one of them")
        for name in self.wanted.views:
            stays = name in self.after.tables and name not in self.wanted.absent and not self.purge
            if stays or name in self.live.others:
                raise PlanError(f"view {self.live.name}.{name}: there is a {self.live.others.get(name, 'table')} of that name; rename one of them")

    def _foreign_targets(self) -> None:
        """Every declared foreign key needs a key to point to."""
        for name, table in self.wanted.tables.items():
            for constraint in table.of_kind(model.FOREIGN).values():
                schema, target = constraint.target
                what = f"foreign key {constraint.name} of {self.wanted.name}.{name}"
                if schema != self.wanted.name:
                    continue
                known = self.wanted.tables.get(target) or self.after.tables.get(target)
                if known is None or target in self.wanted.absent:
                    raise PlanError(f"{what}: references the table {target}, which is neither declared nor there; declare it or correct the name")
                if not _has_key(known, constraint.target_columns) and not (
                    target in self.after.tables and _has_key(self.after.tables[target], constraint.target_columns)
                ):
                    put_off = any(set(key.columns) == set(constraint.target_columns) for key in known.of_kind(model.PRIMARY, model.UNIQUE).values())
                    raise PlanError(
                        f"{what}: {target} has no primary key or unique constraint on ({', '.join(constraint.target_columns)})"
                        f"{' that is not deferrable' if put_off else ''}; "
                        "declare one there, or reference the columns that have one"
                    )
                there = self.after.tables[name].constraints.get(constraint.name) if name in self.after.tables else None
                if there is None or (there.columns, there.target, there.target_columns) != (
                    constraint.columns,
                    constraint.target,
                    constraint.target_columns,
                ):
                    self._comparable(what, constraint, table, known)

    def _comparable(self, what: str, constraint: model.Constraint, table: model.Table, known: model.Table) -> None:
        """PostgreSQL would say so too, but only when the statement runs, which it does not in check mode."""
        for own, other in zip(constraint.columns, constraint.target_columns):
            one, two = table.columns.get(own), known.columns.get(other)
            if one and two and one.type != two.type and not self.facts.comparable(one.type, two.type):
                raise PlanError(f"{what}: {own} is {one.type}, {known.name}.{other} is {two.type}; declare {own} as {two.type}")

    # -- enums

    def _enums(self) -> None:
        for name, wanted in self.wanted.enums.items():
            live = self.live.enums.get(name)
            what = self._named("enum", name)
            if live is None:
                self.step(ENUM, sql.enum(self.wanted.name, wanted), "it is missing", what, makes=((TYPE, name),))
            elif live.values != wanted.values:
                self._labels(wanted, live, what)
        for name, live in self.live.enums.items():
            if name in self.wanted.enums:
                continue
            if self.purge:
                text = f"DROP TYPE {identifier(self.live.name, name)}"
                self.step(DROP_ENUM, text, "it is not declared", self._named("enum", name), frees=((TYPE, name),))
            else:
                self.undeclared.append(self._named("enum", name))

    def _labels(self, wanted: model.Enum, live: model.Enum, what: str) -> None:
        gone = [value for value in live.values if value not in wanted.values]
        if gone:
            raise PlanError(
                f"{what}: PostgreSQL cannot take {', '.join(map(repr, gone))} out of an enum, since rows may hold it; declare it again, "
                "or add a column of a new enum, fill it, and drop the old column"
            )
        if [value for value in wanted.values if value in live.values] != list(live.values):
            raise PlanError(
                f"{what}: PostgreSQL cannot change the order of values that are there; declare them as ({', '.join(live.values)}), with new ones in between"
            )
        there = list(live.values)
        for number, value in enumerate(wanted.values):
            if value in there:
                continue
            place = f"BEFORE {literal(there[number])}" if number < len(there) else ""
            text = f"ALTER TYPE {identifier(self.live.name, wanted.name)} ADD VALUE {literal(value)} {place}".rstrip()
            self.step(number, text, f"the value {value!r} is missing", what, stage=LABELS)
            there.insert(number, value)

    # -- tables

    def _create(self, table: model.Table) -> None:
        schema, name = self.wanted.name, table.name
        what = self._named("table", name)
        # A partition of a live table is made when all of its parent is there, which it then has too.
        first, foreign, index_order = (
            (tables.ADD_INDEX + 1, tables.ADD_INDEX + 2, tables.ADD_INDEX + 3)
            if _root(self.wanted.tables, name) in self.after.tables
            else (tables.CREATE + bool(table.partition_of), tables.ADD_FOREIGN, tables.ADD_INDEX)
        )
        locks = self._lock(table.partition_of) if table.partition_of in self.after.tables else ()
        keys = relations(*table.of_kind(model.PRIMARY, model.UNIQUE, model.EXCLUDE))
        self.step(first, sql.table(schema, table), "it is missing", what, locks=locks, makes=(*with_row_type(name), *keys))
        if table.replica_identity not in ("", "default"):
            self.step(tables.COMMENT, sql.alter(schema, name, sql.replica_identity(table.replica_identity)), "it is declared", what)
        for constraint in table.of_kind(model.FOREIGN).values():
            locks = self._lock(constraint.target[1], SHARE_ROW_EXCLUSIVE) if constraint.target[0] == schema else ()
            text = sql.alter(schema, name, f"ADD {sql.constraint(constraint)}")
            late = self.key_comes_late(constraint)
            self.step(
                foreign,
                text,
                "it is missing",
                self._named("constraint", f"{name}.{constraint.name}"),
                stage=tables.FINISH if late else MAIN,
                locks=locks,
            )
        for index in table.indexes.values():
            text, made = sql.index(schema, name, index), relations(index.name)
            self.step(index_order, text, "it is missing; the table is new", self._named("index", index.name), makes=made)
        if table.comment:
            self.step(tables.COMMENT, sql.comment("TABLE", identifier(schema, name), table.comment), "it is declared", what)
        for column in table.columns.values():
            if column.comment:
                text = sql.comment("COLUMN", identifier(schema, name, column.name), column.comment)
                self.step(tables.COMMENT, text, "it is declared", self._named("column", f"{name}.{column.name}"))

    def _change(self, table: model.Table) -> None:
        diff = tables.TableDiff(self.wanted.name, table, self.after.tables[table.name], self, self.purge).run()
        self.steps += diff.steps
        self.undeclared += diff.undeclared
        self.dropped_keys += [(table.name, key, stage) for key, stage in diff.dropped_keys]
        self.dropped_keys += [
            (table.name, key, None)
            for key in self.after.tables[table.name].of_kind(model.PRIMARY, model.UNIQUE).values()
            if diff.dropped & set(key.columns)
        ]
        if diff.disturbed:
            self.disturbed[table.name] = diff.disturbed

    def _only_undeclared(self, table: model.Table) -> None:
        """The declared part is known to be right; what stands beside it is found by name."""
        live = self.after.tables[table.name]
        columns, constraints, indexes = beside(table, live)
        if columns or constraints or indexes:
            # As the same diff sees it, with the live objects for the declared ones.
            wanted = dataclasses.replace(
                live,
                columns={name: column for name, column in live.columns.items() if name not in columns},
                constraints={name: one for name, one in live.constraints.items() if name not in constraints},
                indexes={name: index for name, index in live.indexes.items() if name not in indexes},
                comment=None,
            )
            self._change(wanted)

    def _dropped_tables(self) -> list:
        found = []
        for name, table in self.after.tables.items():
            if name in self.wanted.tables:
                continue
            root = table
            while root.partition_of and root.partition_of in self.after.tables:
                root = self.after.tables[root.partition_of]
            if root.name in self.wanted.tables:
                continue  # PostgreSQL's or somebody's partition of a declared table
            if name in self.wanted.absent:
                found.append((name, "its state is absent"))
            elif self.purge:
                added = [new for new in self.wanted.tables if new not in self.after.tables]
                hint = f"; if it is to be {added[0]} from now on, declare renamed_from: {name} there" if added else ""
                found.append((name, f"it is not declared{hint}"))
            else:
                self.undeclared.append(self._named("table", name))
        return found

    def _drop_tables(self, dropped: list) -> None:
        names = {name for name, dummy in dropped}
        for name, table in self.after.tables.items():
            for constraint in table.of_kind(model.FOREIGN).values():
                if constraint.target[0] != self.live.name or constraint.target[1] not in names or constraint.target[1] == name:
                    continue
                what = self._named("constraint", f"{name}.{constraint.name}")
                if (
                    name not in names
                    and not self.purge
                    and constraint.name not in self._declared_constraints(name)
                    and not self._loses(name, constraint)
                ):
                    raise PlanError(
                        f"table {self.live.name}.{constraint.target[1]} cannot go: {what} references it; drop that one first, or set purge"
                    )
                if name in names or self._loses(name, constraint):
                    text = sql.alter(self.live.name, name, f"DROP CONSTRAINT {identifier(constraint.name)}")
                    self.step(tables.DROP_CONSTRAINT - 2, text, "the table that it references is dropped", what, locks=self._lock(name))
        for name, reason in dropped:
            table = self.after.tables[name]
            if table.partition_of in names:
                continue
            self.step(
                tables.DROP_TABLE,
                f"DROP TABLE {identifier(self.live.name, name)}",
                reason,
                self._named("table", name),
                (DELETES_DATA,),
                locks=self._lock(name),
                frees=(*with_row_type(name), *relations(*self._parts_of(table))),
            )

    @staticmethod
    def _parts_of(table: model.Table) -> list:
        """Names in the schema that go with a table: its indexes, keys and sequences."""
        keys = table.of_kind(model.PRIMARY, model.UNIQUE, model.EXCLUDE)
        return [*table.indexes, *keys, *(column.serial for column in table.columns.values() if column.serial)]

    def _keys_under_foreign_keys(self, dropped: t.Container[str]) -> None:
        """A foreign key rests on one index: where that goes, it is made anew, in the same transaction, unless its table is dropped."""
        going = {step.object for step in self.steps if " DROP CONSTRAINT " in step.sql}
        for target, key, stage in self.dropped_keys:
            for name, table in self.after.tables.items():
                for foreign in table.of_kind(model.FOREIGN).values():
                    what = self._named("constraint", f"{name}.{foreign.name}")
                    if foreign.target != (self.live.name, target) or set(foreign.target_columns) != set(key.columns) or what in going:
                        continue
                    going.add(what)
                    if name in dropped:
                        if stage == MAIN:
                            text = sql.alter(self.live.name, name, f"DROP CONSTRAINT {identifier(foreign.name)}")
                            self.step(tables.DROP_CONSTRAINT - 1, text, "its table is dropped", what, locks=self._lock(name) + self._lock(target))
                        continue
                    if stage is None or not _has_key(self.wanted.tables[target], foreign.target_columns):
                        raise PlanError(
                            f"{what} references ({', '.join(key.columns)}) of {target}, whose key {key.name} is to go; "
                            "declare that foreign key otherwise, or drop it first"
                        )
                    first, last = (29, 35) if stage != MAIN else (tables.DROP_CONSTRAINT - 1, tables.ADD_FOREIGN)
                    locks = self._lock(name) + self._lock(target)
                    self.step(
                        first,
                        sql.alter(self.live.name, name, f"DROP CONSTRAINT {identifier(foreign.name)}"),
                        "it rests on a key that is replaced",
                        what,
                        stage=stage,
                        locks=locks,
                    )
                    valid = "" if table.partition_by else " NOT VALID"
                    text = sql.alter(self.live.name, name, f"ADD {sql.constraint(foreign)}{valid}")
                    # A key that had to go early is built anew beside the writers, and there at the end.
                    last, back = (35, tables.FINISH) if not self.after.tables[target].partition_by else (last, stage)
                    self.step(
                        last, text, "it comes back, on the new key", what, (BLOCKS_WRITES,) if table.partition_by else (), stage=back, locks=locks
                    )
                    comment = self.constraint_comment(name, foreign.name)
                    if comment:
                        on = f"{identifier(foreign.name)} ON {identifier(self.live.name, name)}"
                        text = f"COMMENT ON CONSTRAINT {on} IS {literal(comment)}"
                        self.step(tables.COMMENT, text, "it had this comment", what, stage=back, locks=locks)
                    if valid and foreign.validated:
                        text = sql.alter(self.live.name, name, f"VALIDATE CONSTRAINT {identifier(foreign.name)}")
                        self.step(10, text, "it is as valid as before", what, stage=tables.VALIDATE_FINISH)

    def _loses(self, table: str, constraint: model.Constraint) -> bool:
        """Whether a column of the constraint is dropped, and it with the column."""
        return any(self.disturbed.get(table, {}).get(column) == "dropped" for column in constraint.columns)

    def _declared_constraints(self, table: str) -> t.Container[str]:
        return self.wanted.tables[table].constraints if table in self.wanted.tables else ()

    # -- views

    def _views(self, dropped: list) -> None:
        """Views step aside while a column that they show is changed, and only then; whoever may read them may do so after."""
        aside = self._views_in_the_way(dropped)
        again: dict = {}
        order = 0
        for view in aside:
            inside = view.schema == self.live.name
            if inside and view.name in self.wanted.views:
                continue
            again[view.schema, view.name] = view
        for name, wanted in self.wanted.views.items():
            live = self.live.views.get(name)
            if live is not None and ("view", name) not in self.same and not _replaceable(wanted, live) and wanted.query != live.query:
                aside += [view for view in self.facts.views_over([name]) if view not in aside]
        undeclared = [name for name in self.live.views if name not in self.wanted.views]
        purged = {name for name in undeclared if self.purge}
        for view in self.facts.views_over(sorted(purged)) if purged else ():
            if view.schema != self.live.name:
                raise PlanError(
                    f"view {view.schema}.{view.name} shows views of {self.live.name} that are not declared, and purge is to remove them; "
                    "drop that view first, or declare them"
                )
            aside += [view] if view not in aside else []
        for view in aside:
            if (view.schema, view.name) not in again and not (view.schema == self.live.name and view.name in self.wanted.views):
                again[view.schema, view.name] = view
        self._refuse_old_names(view for (schema, name), view in again.items() if not (schema == self.live.name and name in purged))
        aside_names = [(view.schema, view.name) for view in aside]
        for schema, name in aside_names:
            reason = (
                "it is not declared"
                if (schema == self.live.name and name in purged)
                else "a column or view that it shows is changed; it comes back after"
            )
            frees = with_row_type(name) if schema == self.live.name else ()
            self.step(tables.DROP_VIEW + order, f"DROP VIEW {identifier(schema, name)}", reason, f"view {schema}.{name}", frees=frees)
            order = min(order + 1, 9)
        for name in undeclared:
            if name not in purged:
                self.undeclared.append(self._named("view", name))
            elif (self.live.name, name) not in aside_names:
                text = f"DROP VIEW {identifier(self.live.name, name)}"
                self.step(tables.DROP_VIEW + 9, text, "it is not declared", self._named("view", name), frees=with_row_type(name))
        place = VIEW
        for name in _by_mention(self.wanted.views):
            place = self._view(self.wanted.views[name], (self.live.name, name) in aside_names, place)
        for (schema, name), view in reversed(list(again.items())):
            if schema == self.live.name and name in purged:
                continue
            place = self._again(view, place)

    def _refuse_old_names(self, again: t.Iterable) -> None:
        """The text of a view that comes back as it was holds the names of before the renames."""
        columns = {(self._actual(table), column) for (table, dummy), column in self.old_columns.items()}
        for view in again:
            for table, column in view.columns:
                if table in self.old_tables.values() or (table, column) in columns:
                    raise PlanError(
                        f"view {view.schema}.{view.name} shows {table}.{column}, which is renamed and has to be made anew with what it shows; "
                        "declare the view with the new names, or have the rename done in a run of its own first"
                    )

    def _views_in_the_way(self, dropped: list) -> list:
        changed = {
            self._actual(table): {self.old_columns.get((table, column), column) for column in columns} for table, columns in self.disturbed.items()
        }
        lost = {
            (self._actual(table), self.old_columns.get((table, column), column))
            for table, columns in self.disturbed.items()
            for column, why in columns.items()
            if why == "dropped" and column not in self.wanted.tables[table].columns
        }
        goes = [self._actual(name) for name, dummy in dropped]
        if not changed and not goes:
            return []
        for other in self.facts.users_of(changed, goes):
            raise PlanError(
                f"{other.what} uses {other.column and f'column {other.column} of '}{self.live.name}.{other.table}, "
                "and PostgreSQL will not change it meanwhile; "
                "drop it, run again, and make it anew"
            )
        aside = self.facts.views_on(changed, goes)
        for view in aside:
            mine = view.schema == self.live.name and (view.name in self.wanted.views or self.purge and view.name in self.live.views)
            bad = [f"{table}.{column}" for table, column in view.columns if (table, column) in lost or table in goes]
            if bad and not mine:
                raise PlanError(
                    f"view {view.schema}.{view.name} shows {bad[0]}, which is to be dropped; change or drop the view first, or declare it without that column"
                )
        return aside

    def _view(self, wanted: model.View, aside: bool, place: int) -> int:
        live = self.live.views.get(wanted.name)
        what = self._named("view", wanted.name)
        same = ("view", wanted.name) in self.same or (
            live is not None and live.query == wanted.query and live.columns == (wanted.columns or live.columns)
        )
        made = dataclasses.replace(wanted, options=wanted.options_over(live.options if live else ()), whole=True)
        if live is not None and same and not aside:
            return self._view_in_place(wanted, live, place) if ("view", wanted.name) not in self.same else place
        text = sql.view(self.wanted.name, made)
        if live is None:
            self.step(place, text, "it is missing", what, makes=with_row_type(wanted.name))
            return self._view_comment(wanted, None, place + 1)
        if not aside and _replaceable(wanted, live):
            self.step(place, sql.view(self.wanted.name, made, replace=True), "its query is another", what)
            return self._view_comment(wanted, live.comment, place + 1)
        if not aside:
            self.step(
                tables.DROP_VIEW + 9,
                f"DROP VIEW {identifier(self.live.name, wanted.name)}",
                "its columns change, so that it cannot be replaced in place",
                what,
                frees=with_row_type(wanted.name),
            )
        self.step(place, text, "it comes back" if same else "its query is another", what, makes=with_row_type(wanted.name))
        comment = live.comment if wanted.comment is None else wanted.comment
        columns = {name for name, dummy in wanted.columns} if wanted.columns else None
        back = dataclasses.replace(live, comment=comment, acl=self.facts.view_rights(self.live.name, wanted.name))
        return self._rights(self.live.name, back, place + 1, columns)

    def _view_in_place(self, wanted: model.View, live: model.View, place: int) -> int:
        """Options and comment of a view whose query stays."""
        what, quoted = self._named("view", wanted.name), identifier(self.wanted.name, wanted.name)
        there, after = model.options_meant(live.options), model.options_meant(wanted.options_over(live.options))
        gone = [name for name in there if name not in after]
        new = {name: value for name, value in after.items() if there.get(name) != value}
        if gone:
            self.step(place, f"ALTER VIEW {quoted} RESET ({', '.join(map(identifier, gone))})", "it is declared without that option", what)
            place += 1
        if new:
            self.step(place, f"ALTER VIEW {quoted} SET ({sql.settings(new.items())})", "it is declared with that option", what)
            place += 1
        return self._view_comment(wanted, live.comment, place)

    def _view_comment(self, wanted: model.View, there: t.Optional[str], place: int) -> int:
        if wanted.comment is None or (wanted.comment or None) == there:
            return place
        text = sql.comment("VIEW", identifier(self.wanted.name, wanted.name), wanted.comment)
        self.step(place, text, "another comment is declared", self._named("view", wanted.name))
        return place + 1

    def _again(self, view, place: int) -> int:
        text = f"CREATE VIEW {identifier(view.schema, view.name)}"
        if view.options:
            text += f" WITH ({sql.settings(view.options)})"
        made = with_row_type(view.name) if view.schema == self.live.name else ()
        self.step(place, f"{text} AS {view.query}", "it had to step aside and comes back as it was", f"view {view.schema}.{view.name}", makes=made)
        live = model.View(
            view.name, view.query, owner=view.owner, options=view.options, comment=view.comment, acl=self.facts.view_rights(view.schema, view.name)
        )
        return self._rights(view.schema, live, place + 1)

    def _rights(self, schema: str, live: model.View, place: int, columns: t.Optional[t.Container] = None) -> int:
        """Comments, defaults, triggers, rules, owner and grants of a view that was made again.

        :param columns: those that it has now, None for the same as before.
        """
        what, quoted = f"view {schema}.{live.name}", identifier(schema, live.name)
        held = self.facts.view_holds(schema, live.name)
        if held:
            raise PlanError(f"{what}: it has to be made anew, and {', '.join(held)} would be lost or in the way; drop that, run again, and make it anew")
        for kind, column, text in self.facts.view_parts(schema, live.name):
            if column and columns is not None and column not in columns:
                continue
            if kind == "comment":
                text = sql.comment("COLUMN", f"{quoted}.{identifier(column)}", text)
            elif kind == "default":
                text = f"ALTER VIEW {quoted} ALTER COLUMN {identifier(column)} SET DEFAULT {text}"
            self.step(place, text.strip().rstrip(";"), "it was there before", what)
            place += 1
        if live.comment:
            self.step(place, sql.comment("VIEW", quoted, live.comment), "it had this comment", what)
            place += 1
        for grantee, privilege, grantable, column in live.acl:
            to = identifier(grantee) if grantee else "PUBLIC"
            on = f"{privilege} ({identifier(column)})" if column else privilege
            self.step(place, f"GRANT {on} ON {quoted} TO {to}{' WITH GRANT OPTION' if grantable else ''}", "it was granted before", what)
            place += 1
        if live.owner != self.facts.user:
            self.step(place, f"ALTER VIEW {quoted} OWNER TO {identifier(live.owner)}", "it belonged to this role", what)
            place += 1
        return place

    # -- owners

    def _owners(self) -> None:
        owner = self.wanted.owner
        if not owner:
            return
        for kind, word, wanted, live in (
            ("table", "TABLE", self.wanted.tables, self.after.tables),
            ("view", "VIEW", self.wanted.views, self.live.views),
            ("enum", "TYPE", self.wanted.enums, self.live.enums),
        ):
            for name in wanted:
                now = live[name].owner if name in live else self.facts.user
                if now != owner:
                    text = f"ALTER {word} {identifier(self.wanted.name, name)} OWNER TO {identifier(owner)}"
                    locks = self._lock(name) if kind == "table" and name in live else ()
                    self.step(OWNER, text, f"it belongs to {now}", self._named(kind, name), locks=locks)


def beside(declared: model.Table, live: model.Table) -> tuple:
    """Names of live columns, constraints and indexes that the declaration does not hold."""
    names = {constraint.name for constraint in declared.constraints.values()}
    return (
        [name for name in live.columns if name not in declared.columns] if not declared.partition_of else [],
        [name for name, one in live.constraints.items() if name not in names and not (one.kind == model.PRIMARY and declared.primary_key)],
        [name for name in live.indexes if name not in declared.indexes],
    )


def _has_key(table: model.Table, columns: tuple) -> bool:
    """Whether a foreign key can rest on something of these columns: PostgreSQL takes no key that is deferrable."""
    keys = [key for key in table.of_kind(model.PRIMARY, model.UNIQUE).values() if not key.deferrable]
    plain = {tuple(sorted(identifier(column) for column in key.columns)) for key in keys}
    plain |= {
        tuple(sorted(_requoted(key) for key in index.keys)) for index in table.indexes.values() if index.unique and index.valid and not index.where
    }
    return tuple(sorted(identifier(column) for column in columns)) in plain


def _requoted(key: str) -> str:
    return key if key.startswith('"') else identifier(key)


def _replaceable(wanted: model.View, live: model.View) -> bool:
    """CREATE OR REPLACE may only add columns at the end."""
    return wanted.columns[: len(live.columns)] == live.columns


def _parents_first(declared: dict) -> list:
    return sorted(declared, key=lambda name: _depth(declared, name))


def _root(declared: dict, name: str) -> str:
    """The table of which it is a partition, or one of a partition; '' for none."""
    parent = declared[name].partition_of
    return _root(declared, parent) or parent if parent in declared else parent


def _depth(declared: dict, name: str) -> int:
    depth = 0
    while declared[name].partition_of in declared:
        name, depth = declared[name].partition_of, depth + 1
    return depth


def _by_mention(views: dict) -> list:
    """Views after those whose names stand in their queries; declared order otherwise."""
    placed: list = []
    waiting = list(views)
    while waiting:
        ready = [name for name in waiting if not (lexer.names(views[name].query) & set(waiting) - {name})]
        chosen = ready or waiting[:1]
        placed += chosen
        waiting = [name for name in waiting if name not in chosen]
    return placed


def _table_renamed(found: dict, schema: str, old: str, new: str) -> dict:
    changed = {}
    for name, table in found.items():
        constraints = {
            key: dataclasses.replace(one, target=(schema, new)) if one.target == (schema, old) else one for key, one in table.constraints.items()
        }
        table = dataclasses.replace(table, constraints=constraints, partition_of=new if table.partition_of == old else table.partition_of)
        changed[new if name == old else name] = dataclasses.replace(table, name=new) if name == old else table
    return changed


def _column_renamed(found: dict, schema: str, table_name: str, old: str, new: str) -> dict:
    def of(columns: tuple) -> tuple:
        return tuple(new if column == old else column for column in columns)

    def text(expression: str) -> str:
        return lexer.renamed(expression, {old: new}) if expression else expression

    changed = {}
    for name, table in found.items():
        constraints = {}
        for key, one in table.constraints.items():
            if name == table_name:
                one = dataclasses.replace(one, columns=of(one.columns), expression=text(one.expression), text=text(one.text))
            if one.target == (schema, table_name):
                one = dataclasses.replace(one, target_columns=of(one.target_columns))
            constraints[key] = one
        table = dataclasses.replace(table, constraints=constraints)
        if name == table_name:
            columns = {
                new if key == old else key: dataclasses.replace(column, name=new if key == old else key, generated=text(column.generated))
                for key, column in table.columns.items()
            }
            indexes = {
                key: dataclasses.replace(
                    one, keys=tuple(map(text, one.keys)), where=text(one.where), include=of(one.include), columns=of(one.columns)
                )
                for key, one in table.indexes.items()
            }
            table = dataclasses.replace(table, columns=columns, indexes=indexes, partition_by=text(table.partition_by))
        changed[name] = table
    return changed
