# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's own reading of what is declared: built in a schema that nobody else sees, read, and rolled back.

The scratch schema is first in the search path and the live one second, so that
a name that is not built here means the live object, and both print alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing as t
import uuid

from ..postgres import DatabaseError, PostgresError, identifier, name_problem, one_line
from . import catalog, lexer, model, sql, uncarried
from .declare import DeclarationError

FORBIDDEN = "42501"
# What a definition may hold: it describes, and nothing in it works on rows.
STATEMENTS = (
    ("create", "table"), ("create", "unlogged", "table"), ("create", "index"), ("create", "unique", "index"), ("create", "type"),
    ("create", "view"), ("create", "or", "replace", "view"), ("alter", "table"), ("comment", "on"),
)  # fmt: skip


def set_path(session, *schemas: str) -> None:
    session.run(f"SET LOCAL search_path TO {', '.join(identifier(schema) for schema in (*schemas, 'public'))}")


@contextlib.contextmanager
def schema(session, live: str) -> t.Iterator[str]:
    """A transaction with an empty schema, which always ends in a rollback."""
    name = f"customer_schema_scratch_{uuid.uuid4().hex[:16]}"
    with session.transaction(keep=False):
        try:
            session.run(f"CREATE SCHEMA {identifier(name)}")
        except DatabaseError as error:
            if error.pgcode != FORBIDDEN:
                raise
            session.run("ROLLBACK")
            user, database = session.value("SELECT current_user"), session.connection.info.dbname
            raise PostgresError(
                f"{one_line(error)}: what is declared is compared in a schema that is made and rolled back; "
                f"GRANT CREATE ON DATABASE {identifier(database)} TO {identifier(user)}, or set login_user or session_role to a role that may"
            ) from error
        set_path(session, name, live)
        # The path counts for what is created, too; nothing of it may be taken from the live schema's names.
        session.run("SET LOCAL check_function_bodies = off")
        yield name


def read(session, wanted: model.Schema, tables: t.Collection[str], views: t.Collection[str], enums: t.Collection[str]) -> tuple:
    """These objects as PostgreSQL would keep them, and see ``respelled``; DeclarationError for what it refuses."""
    with schema(session, wanted.name) as name:
        for enum in enums:
            _try(session, sql.enum(name, wanted.enums[enum]), f"enum {enum}")
        for table in tables:
            declared = wanted.tables[table]
            _create(session, name, declared)
        for view in views:
            _try(session, sql.view(name, wanted.views[view]), f"view {view}: query")
        found = catalog.read(session, name).schema
        return found, respelled(session, name, wanted.name, found)


def respelled(session, name: str, live: str, found: model.Schema) -> dict:
    """What PostgreSQL prints when it reads its own words again -> its first words.

    Some expressions change once more: x IN ('a', 'b') on varchar, when a dump of
    it was restored, or when this module made it from what was printed.
    """
    first = texts(found)
    if not any("ARRAY[" in text for text in first.values()):
        return {}
    again = f"{name}_again"
    session.run(f"CREATE SCHEMA {identifier(again)}")
    set_path(session, again, name, live)
    for table in found.tables.values():
        if not table.partition_of:
            session.run(sql.table(again, dataclasses.replace(table, columns={key: _unnumbered(one) for key, one in table.columns.items()})))
            for index in table.indexes.values():
                session.run(sql.index(again, table.name, index))
    set_path(session, again, live)
    for view in found.views.values():
        session.run("SAVEPOINT view")
        try:
            session.run(sql.view(again, view))
        except DatabaseError:  # it stands on what was not built here
            session.run("ROLLBACK TO SAVEPOINT view")
    second = texts(catalog.read(session, again).schema)
    return {second[key]: text for key, text in first.items() if second.get(key, text) != text}


def _unnumbered(column: model.Column) -> model.Column:
    return dataclasses.replace(column, serial="", identity="")


def texts(found: model.Schema) -> dict:
    """Every expression of it, by where it stands."""
    all_of_it = {("view", view.name): view.query for view in found.views.values()}
    for table in found.tables.values():
        for column in table.columns.values():
            all_of_it[table.name, "default", column.name] = column.default
            all_of_it[table.name, "generated", column.name] = column.generated
        for check in table.of_kind(model.CHECK).values():
            all_of_it[table.name, "check", check.name] = check.expression
        for index in table.indexes.values():
            all_of_it[table.name, "where", index.name] = index.where
            for number, key in enumerate(index.keys):
                all_of_it[table.name, index.name, number] = key
    return {place: text for place, text in all_of_it.items() if text}


def _create(session, name: str, declared: model.Table) -> None:
    """A table with all that is its own; where PostgreSQL refuses, the part at fault is found by leaving the others out."""
    place = f"table {declared.name}"
    session.run("SAVEPOINT declared")
    try:
        session.run(sql.table(name, declared))
    except DatabaseError as error:
        session.run("ROLLBACK TO SAVEPOINT declared")
        _blame(session, name, declared, place)
        raise _refused(place, error) from error
    for index in declared.indexes.values():
        _try(session, sql.index(name, declared.name, index), f"{place}: index {index.name}")


def _blame(session, name: str, declared: model.Table, place: str) -> None:
    """Raise for the first column or constraint that does not work alone with the plain columns."""
    for column in declared.columns.values():
        plain = model.Column(column.name, column.type, collation=column.collation)
        _probe(session, f"CREATE TABLE {identifier(name, 'probe')} ({sql.column(plain)})", f"{place}: column {column.name}: type {column.type!r}")
    plain_columns = {key: model.Column(one.name, one.type, collation=one.collation) for key, one in declared.columns.items()}
    for key, column in declared.columns.items():
        probe = dataclasses.replace(declared, name="probe", columns={**plain_columns, key: column}, constraints={}, indexes={}, partition_by="")
        text = column.generated or column.default
        _probe(session, sql.table(name, probe), f"{place}: column {column.name}{f': {text!r}' if text else ''}")
    for key, constraint in declared.constraints.items():
        if constraint.kind != model.FOREIGN:
            probe = dataclasses.replace(declared, name="probe", columns=plain_columns, constraints={key: constraint}, indexes={}, partition_by="")
            _probe(
                session,
                sql.table(name, probe),
                f"{place}: constraint {constraint.name}{f': {constraint.expression!r}' if constraint.expression else ''}",
            )


def _probe(session, statement: str, place: str) -> None:
    _try(session, statement, place)
    session.run("ROLLBACK TO SAVEPOINT declared")


def _try(session, statement: str, place: str) -> None:
    try:
        session.run(statement)
    except DatabaseError as error:
        raise _refused(place, error) from error


def _refused(place: str, error: Exception) -> Exception:
    if getattr(error, "pgcode", None) is None or error.pgcode.startswith(("08", "57", "53", "55")):
        return error
    return DeclarationError(f"{place}: PostgreSQL refuses it: {one_line(error)}; correct it")


def define(session, wanted_schema: str, owner: str, definition: str) -> tuple:
    """What a script of CREATE TABLE and the like describes, and see ``respelled``."""
    try:
        statements = lexer.statements(definition)
    except lexer.SqlError as error:
        raise DeclarationError(f"definition {error}") from None
    for number, statement in enumerate(statements, 1):
        _check_statement(statement, f"definition: statement {number} ({' '.join(statement.split()[:4])} ...)")
    with schema(session, wanted_schema) as name:
        for number, statement in enumerate(statements, 1):
            place = f"definition: statement {number} ({' '.join(statement.split()[:4])} ...)"
            for other in _works_on(statement):
                # The path leads on to what is live, which is not to be touched, nor locked until the rollback.
                if session.value("SELECT to_regclass(%s)", [identifier(name, other)]) is None:
                    raise DeclarationError(f"{place} works on {other}, which no statement above it creates; write that one too")
            # Inside a function no statement can end the transaction that is to be rolled back.
            session.run("SELECT set_config('customer_schema.statement', %s, true)", [statement])
            _try(session, "DO $do$ BEGIN EXECUTE current_setting('customer_schema.statement'); END $do$", place)
        dropped = uncarried.first(session, name)
        if dropped:
            raise DeclarationError(f"definition: {dropped} is not looked after by this module, and would be dropped in silence; leave it out")
        found = catalog.read(session, name).schema
        spellings = respelled(session, name, wanted_schema, found)
    if found.others:
        other, kind = next(iter(found.others.items()))
        raise DeclarationError(f"definition: {other} is a {kind}, which this module does not look after; leave it out")
    return _moved(found, name, wanted_schema, owner), spellings


def _works_on(statement: str) -> list[str]:
    """The tables and views that a statement changes, or makes a part of."""
    words = [token for token in lexer.tokens(statement) if token.kind != lexer.SPACE]
    names = [token.name for token in words]

    def after(spot: int) -> list[str]:
        while spot < len(words) and names[spot] in ("only", "if", "not", "exists"):
            spot += 1
        return [names[spot]] if spot < len(words) and names[spot] else []

    if names[:2] == ["alter", "table"]:
        return after(2)
    if "index" in names[1:3] and names[0] == "create":
        return after(names.index("on") + 1) if "on" in names else []
    if names[:2] == ["comment", "on"]:
        return after(names.index("on", 3) + 1) if names[2:3] == ["constraint"] and "on" in names[3:] else after(3)
    if names[:1] == ["create"] and "partition" in names and names[names.index("partition") + 1 :][:1] == ["of"]:
        return after(names.index("partition") + 2)
    if names[:1] == ["create"] and "inherits" in names:
        spot = names.index("inherits") + 2
        return after(spot)
    return []


def _check_statement(statement: str, place: str) -> None:
    words = [token for token in lexer.tokens(statement) if token.kind != lexer.SPACE]
    heads = tuple(token.text.lower() for token in words[:4])
    match = next((head for head in STATEMENTS if heads[: len(head)] == head), None)
    if match is None:
        raise DeclarationError(f"{place} is not a description; allowed are CREATE TABLE, INDEX, TYPE ... AS ENUM, VIEW, ALTER TABLE and COMMENT ON")
    for token in words:
        if token.name and name_problem(token.name):
            raise DeclarationError(f"{place}: name {token.text!r} {name_problem(token.name)}")
    rest = words[len(match) :]
    names = [token.text.lower() for token in rest]
    if (
        "as" in names
        and match[-1] == "table"
        and match[0] == "create"
        and not any(names[number : number + 2] == ["always", "as"] for number in range(len(names)))
    ):
        if names.index("as") <= 3:
            raise DeclarationError(f"{place} copies rows; write the columns")
    if match == ("create", "type") and "enum" not in names:
        raise DeclarationError(f"{place}: only enums are looked after")
    if "concurrently" in names[:2]:
        raise DeclarationError(f"{place}: leave CONCURRENTLY out; how an index is built follows from what is there")
    spots = [0]
    if match[-1] == "index":
        spots = [number + 1 for number, word in enumerate(names) if word == "on"][:1]
    elif match[0] == "comment":
        spots = []
    spots += [number + 1 for number, word in enumerate(names) if word == "references"]
    for spot in spots:
        while spot < len(rest) and names[spot] in ("only", "if", "not", "exists"):
            spot += 1
        if spot + 1 < len(rest) and rest[spot + 1].text == ".":
            raise DeclarationError(
                f"{place} names {rest[spot].text}.{rest[spot + 2].text if spot + 2 < len(rest) else ''} with its schema; "
                "write it without, the schema is the option's"
            )
    if match == ("comment", "on") and names[:1] not in (["table"], ["column"], ["view"]):
        raise DeclarationError(f"{place}: of comments only those on tables, columns and views are looked after; leave it out")
    if match == ("alter", "table") and not _adds_only(rest):
        raise DeclarationError(f"{place}: of ALTER TABLE only ADD is allowed; write the table as it is to be")


def _adds_only(words: list) -> bool:
    """Whether each action of an ALTER TABLE, whose words after those two these are, begins with ADD."""
    spot = 0
    while spot < len(words) and words[spot].name in ("only", "if", "exists"):
        spot += 1
    actions = lexer.split_top(" ".join(token.text for token in words[spot + 1 :]))
    return bool(actions) and all(re.match(r"(?i)add\b", action.strip()) for action in actions)


def _moved(found: model.Schema, name: str, wanted: str, owner: str) -> model.Schema:
    """The scratch schema's objects as those of the schema that is meant."""
    tables = {}
    for key, table in found.tables.items():
        constraints = {
            other: dataclasses.replace(one, target=(wanted, one.target[1])) if one.target and one.target[0] == name else one
            for other, one in table.constraints.items()
        }
        tables[key] = dataclasses.replace(table, constraints=constraints, owner=owner)
    views = {key: dataclasses.replace(view, owner=owner, whole=True) for key, view in found.views.items()}
    enums = {key: dataclasses.replace(enum, owner=owner) for key, enum in found.enums.items()}
    return dataclasses.replace(found, name=wanted, owner=owner, tables=tables, views=views, enums=enums)
