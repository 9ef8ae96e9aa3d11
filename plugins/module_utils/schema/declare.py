# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module options -> model, or an error that names the option, the object and the cure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .. import postgres
from ..postgres import identifier, name_problem
from . import lexer, model, sql


class DeclarationError(ValueError):
    """What is wrong with which option of which object, and what to do about it."""


# Option -> options of its elements that hold lists, None where they are no dictionaries; no list may be a string.
LISTS: dict = {
    "tables": {
        "columns": {},
        "primary_key": None,
        "primary_key_options": {"include": None},
        "unique": {"columns": None, "include": None},
        "foreign_keys": {"columns": None, "on_delete_columns": None, "references": {"columns": None}},
        "checks": {},
        "exclusions": {"elements": None},
        "indexes": {"columns": None, "include": None},
    },
    "enums": {"values": None},
    "views": {},
    "allow": None,
}


def check_lists(written: t.Any) -> None:
    postgres.check_lists(written, LISTS, DeclarationError)


def schema(name: str, owner: str, options: dict) -> model.Schema:
    """What is declared with ``tables``, ``enums`` and ``views``.

    :param options: the module's, after Ansible has filled in the defaults.
    """
    _name(name, "schema")
    if owner:
        _name(owner, "owner")
    enums = _each(options.get("enums"), "enums", lambda declared, place: _enum(declared, place, owner))
    declared_tables = options.get("tables") or []
    absent = tuple(one["name"] for one in declared_tables if one.get("state") == "absent")
    _distinct([one.get("name") for one in declared_tables], "tables")
    tables = _each(
        [one for one in declared_tables if one.get("state") != "absent"], "tables", lambda declared, place: _table(declared, place, owner, name)
    )
    views = _each(options.get("views"), "views", lambda declared, place: _view(declared, place, owner))
    found = model.Schema(name, owner=owner, tables=tables, enums=enums, views=views, absent=absent)
    _distinct_relations(found)
    return found


def _each(declared: t.Optional[list], option: str, make: t.Callable) -> dict:
    found: dict = {}
    for number, one in enumerate(declared or []):
        place = f"{option}[{number}]"
        _name(one.get("name"), f"{place}: name")
        if one["name"] in found:
            raise DeclarationError(f"{place}: {one['name']} is declared twice; keep one of them")
        found[one["name"]] = make(one, f"{place} ({one['name']})")
    return found


def _name(name: t.Any, place: str) -> str:
    problem = name_problem(name)
    if problem:
        raise DeclarationError(f"{place} {name!r} {problem}")
    return name


def _distinct(listed: t.Iterable, place: str) -> None:
    seen = set()
    for one in listed:
        if one in seen:
            raise DeclarationError(f"{place}: {one} is listed twice; keep one of them")
        seen.add(one)


def _sql(text: t.Any, place: str, check: t.Callable = lexer.check_fragment) -> str:
    try:
        check(str(text))
    except lexer.SqlError as error:
        raise DeclarationError(f"{place}: {str(text)!r} {error}") from None
    return str(text).strip()


def _columns_exist(columns: t.Iterable[str], known: t.Container[str], place: str) -> tuple:
    listed = tuple(columns or ())
    if not listed:
        raise DeclarationError(f"{place} names no column; list at least one")
    _distinct(listed, place)
    for column in listed:
        if column not in known:
            raise DeclarationError(f"{place} names the column {column}, which the table does not declare; declare it or correct the name")
    return listed


def _column(declared: dict, place: str) -> model.Column:
    if not declared.get("type"):
        raise DeclarationError(f"{place}: type is missing; give one such as text")
    kind = _sql(declared["type"], f"{place}: type", lexer.check_type)
    default = _sql(declared["default"], f"{place}: default") if declared.get("default") is not None else ""
    generated = _sql(declared["generated"], f"{place}: generated") if declared.get("generated") is not None else ""
    identity = declared.get("identity") or ""
    serial = kind.lower() in sql.SERIALS
    chosen = [
        option for option, value in (("default", default), ("identity", identity), ("generated", generated), ("type", serial and kind)) if value
    ]
    if len(chosen) > 1:
        raise DeclarationError(f"{place}: {' and '.join(chosen)} both say where the value comes from; keep one of them")
    if declared.get("collation"):
        _name(declared["collation"], f"{place}: collation")
    if declared.get("renamed_from"):
        _name(declared["renamed_from"], f"{place}: renamed_from")
    if not identity:
        for option in ("identity_start", "identity_increment"):
            if declared.get(option) is not None:
                raise DeclarationError(f"{place}: {option} belongs to an identity; set identity too, or leave {option} out")
    if declared.get("identity_increment") == 0:
        raise DeclarationError(f"{place}: identity_increment is 0, so that each number would be the same; give another")
    return model.Column(
        name=declared["name"],
        type=sql.SERIALS[kind.lower()] if serial else kind,
        nullable=declared.get("nullable", True) is not False and not identity and not serial,
        default=default,
        identity=identity,
        generated=generated,
        collation=declared.get("collation") or "",
        comment=declared.get("comment"),
        renamed_from=declared.get("renamed_from") or "",
        serial=kind.lower() if serial else "",
        start=declared.get("identity_start"),
        increment=declared.get("identity_increment"),
    )


def _table(declared: dict, place: str, owner: str, schema_name: str) -> model.Table:
    name = declared["name"]
    columns = _each(declared.get("columns"), f"{place}: columns", _column)
    old = [column.renamed_from for column in columns.values() if column.renamed_from]
    _distinct(old, f"{place}: renamed_from")
    constraints: dict = {}

    def add(constraint: model.Constraint, where: str) -> None:
        if constraint.name in constraints:
            raise DeclarationError(f"{where}: the constraint {constraint.name} is declared twice; keep one of them")
        constraints[constraint.name] = constraint

    if declared.get("primary_key"):
        keys = _columns_exist(declared["primary_key"], columns, f"{place}: primary_key")
        more = declared.get("primary_key_options") or {}
        where = f"{place}: primary_key_options"
        key_name = _name(more["name"], f"{where}: name") if more.get("name") else f"{name}_pkey"
        add(model.Constraint(model.PRIMARY, key_name, keys, include=_included(more, keys, columns, where), **_timing(more, where)), where)
        for key in keys:
            columns[key] = dataclasses.replace(columns[key], nullable=False)
    elif declared.get("primary_key_options"):
        raise DeclarationError(f"{place}: primary_key_options is for a primary_key, which is not declared; list its columns")
    for number, one in enumerate(declared.get("unique") or []):
        where = f"{place}: unique[{number}]"
        keys = _columns_exist(one.get("columns") or [], columns, f"{where}: columns")
        # PostgreSQL keeps one of both in CREATE TABLE, and both when they come one after the other.
        twin = next((other for other in constraints.values() if other.columns == keys), None)
        if twin:
            raise DeclarationError(f"{where}: {twin.name} keeps ({', '.join(keys)}) unique already; leave this one out")
        add(
            model.Constraint(
                model.UNIQUE,
                _derived(one.get("name"), name, keys, "key", where),
                keys,
                include=_included(one, keys, columns, where),
                nulls_not_distinct=bool(one.get("nulls_not_distinct")),
                **_timing(one, where),
            ),
            where,
        )
    for number, one in enumerate(declared.get("checks") or []):
        where = f"{place}: checks[{number}]"
        add(
            model.Constraint(
                model.CHECK, _name(one.get("name"), f"{where}: name"), expression=_sql(one.get("expression") or "", f"{where}: expression")
            ),
            where,
        )
    for number, one in enumerate(declared.get("foreign_keys") or []):
        where = f"{place}: foreign_keys[{number}]"
        add(_foreign_key(one, name, columns, schema_name, where), where)
    for number, one in enumerate(declared.get("exclusions") or []):
        where = f"{place}: exclusions[{number}]"
        add(_exclusion(one, where), where)
    indexes = _each(declared.get("indexes"), f"{place}: indexes", lambda one, where: _index(one, where, columns))
    if declared.get("renamed_from"):
        _name(declared["renamed_from"], f"{place}: renamed_from")
    partition_by = _sql(declared["partition_by"], f"{place}: partition_by") if declared.get("partition_by") else ""
    if partition_by and not re.match(r"(?i)(range|list|hash)\s*\(", partition_by):
        raise DeclarationError(f"{place}: partition_by {partition_by!r} is no way to part a table; write one such as RANGE (at)")
    return model.Table(
        name=name,
        columns=columns,
        constraints=constraints,
        indexes=indexes,
        partition_by=partition_by,
        replica_identity=_replica_identity(declared.get("replica_identity"), indexes, constraints, place),
        comment=declared.get("comment"),
        renamed_from=declared.get("renamed_from") or "",
        owner=owner,
    )


def _derived(given: t.Optional[str], table: str, columns: t.Iterable[str], suffix: str, place: str) -> str:
    """The name as PostgreSQL would make it, where none is given."""
    name = given or "_".join([table, *columns, suffix])
    problem = name_problem(name)
    if problem:
        raise DeclarationError(f"{place}: name {name!r} {problem}")
    return name


def _included(one: dict, keys: tuple, columns: dict, where: str) -> tuple:
    if not one.get("include"):
        return ()
    listed = _columns_exist(one["include"], columns, f"{where}: include")
    twice = [column for column in listed if column in keys]
    if twice:
        raise DeclarationError(f"{where}: include lists {twice[0]}, which is one of the key's columns; leave it out")
    return listed


def _timing(one: dict, where: str) -> dict:
    if one.get("initially_deferred") and not one.get("deferrable"):
        raise DeclarationError(f"{where}: initially_deferred needs deferrable: true")
    return {"deferrable": bool(one.get("deferrable")), "deferred": bool(one.get("initially_deferred"))}


def _exclusion(one: dict, where: str) -> model.Constraint:
    name = _name(one.get("name"), f"{where}: name")
    method = _name(one.get("method") or "gist", f"{where}: method")
    elements = []
    for number, text in enumerate(one.get("elements") or []):
        place = f"{where}: elements[{number}]"
        _sql(text, place)
        if len(lexer.split_top(str(text))) > 1 or not re.search(r"(?i)\swith\s+\S+$", str(text).strip()):
            raise DeclarationError(f"{place}: {str(text)!r} is no column or expression and its operator; write one such as room WITH =")
        elements.append(str(text).strip())
    if not elements:
        raise DeclarationError(f"{where}: elements is empty; list at least one, such as room WITH =")
    predicate = f" WHERE ({_sql(one['where'], f'{where}: where')})" if one.get("where") else ""
    timing = _timing(one, where)
    text = f"EXCLUDE USING {identifier(method)} ({', '.join(elements)}){predicate}"
    if timing["deferrable"]:
        text += " DEFERRABLE INITIALLY DEFERRED" if timing["deferred"] else " DEFERRABLE"
    return model.Constraint(model.EXCLUDE, name, text=text, **timing)


def _replica_identity(given: t.Optional[str], indexes: dict, constraints: dict, place: str) -> str:
    if not given or given in ("default", "full", "nothing"):
        return given or ""
    if given not in indexes and not (given in constraints and constraints[given].kind in (model.PRIMARY, model.UNIQUE)):
        raise DeclarationError(
            f"{place}: replica_identity is {given!r}, which is neither default, full or nothing nor an index or key that is declared; correct it"
        )
    if given in indexes and not indexes[given].unique:
        raise DeclarationError(f"{place}: replica_identity names the index {given}, which is not unique; PostgreSQL wants a unique one")
    return given


def _foreign_key(one: dict, table: str, columns: dict, schema_name: str, where: str) -> model.Constraint:
    keys = _columns_exist(one.get("columns") or [], columns, f"{where}: columns")
    references = one.get("references") or {}
    _name(references.get("table"), f"{where}: references: table")
    targets = tuple(references.get("columns") or ())
    if targets and len(targets) != len(keys):
        raise DeclarationError(f"{where}: {len(keys)} columns reference {len(targets)}; list as many on both sides")
    actions = {}
    for option in ("on_delete", "on_update"):
        actions[option] = (one.get(option) or "no action").replace("_", " ").lower()
        if actions[option] not in model.ACTIONS:
            raise DeclarationError(
                f"{where}: {option} is {one[option]!r}; allowed are {', '.join(action.replace(' ', '_') for action in model.ACTIONS)}"
            )
    set_columns = ()
    if one.get("on_delete_columns"):
        if actions["on_delete"] not in ("set null", "set default"):
            raise DeclarationError(f"{where}: on_delete_columns needs on_delete: set_null or set_default")
        set_columns = tuple(one["on_delete_columns"])
        _distinct(set_columns, f"{where}: on_delete_columns")
        strange = [column for column in set_columns if column not in keys]
        if strange:
            raise DeclarationError(f"{where}: on_delete_columns lists {strange[0]}, which is none of its columns; correct it")
    return model.Constraint(
        kind=model.FOREIGN,
        name=_derived(one.get("name"), table, keys, "fkey", where),
        columns=keys,
        target=(references.get("schema") or schema_name, references["table"]),
        target_columns=targets,
        match_full=one.get("match") == "full",
        # All of them is what PostgreSQL does without a list.
        delete_columns=set_columns if set(set_columns) != set(keys) else (),
        **_timing(one, where),
        **actions,
    )


def _index(one: dict, place: str, columns: dict) -> model.Index:
    if not one.get("columns"):
        raise DeclarationError(f"{place}: columns names no column; list at least one")
    keys = []
    for number, text in enumerate(one["columns"]):
        where = f"{place}: columns[{number}]"
        if text in columns:
            keys.append(identifier(text))
            continue
        _sql(text, where)
        if len(lexer.split_top(str(text))) > 1:
            raise DeclarationError(f"{where}: {text!r} holds more than one; write one column or expression an entry")
        keys.append(_index_key(str(text).strip(), columns, where))
    _distinct(keys, f"{place}: columns")
    include = _columns_exist(one["include"], columns, f"{place}: include") if one.get("include") else ()
    storage = []
    for parameter, value in sorted((one.get("with") or {}).items()):
        _name(parameter, f"{place}: with")
        storage.append((parameter, str(value).lower() if isinstance(value, bool) else str(value)))
    method = one.get("method") or "btree"
    _name(method, f"{place}: method")
    return model.Index(
        name=one["name"],
        keys=tuple(keys),
        unique=bool(one.get("unique")),
        method=method,
        where=_sql(one["where"], f"{place}: where") if one.get("where") else "",
        include=include,
        nulls_not_distinct=bool(one.get("nulls_not_distinct")),
        storage=tuple(storage),
    )


def _index_key(text: str, columns: dict, where: str) -> str:
    """An expression without a function call around it needs brackets of its own, which users leave out: a || b."""
    found = [token for token in lexer.tokens(text) if token.kind != lexer.SPACE]
    first = found[0]
    if first.name and first.name in columns and (len(found) == 1 or found[1].kind in (lexer.WORD, lexer.QUOTED)):
        return text
    if first.name and len(found) > 1 and found[1].text not in ("(", ".") and found[1].kind == lexer.SYMBOL:
        return f"({text})"
    if first.name and (len(found) == 1 or found[1].name):
        raise DeclarationError(f"{where} {text!r} names the column {first.name}, which the table does not declare; declare it or correct the name")
    return text


def _enum(declared: dict, place: str, owner: str) -> model.Enum:
    values = declared.get("values") or []
    if not values:
        raise DeclarationError(f"{place}: values is empty; list at least one")
    for value in values:
        _name(value, f"{place}: values")
    _distinct(values, f"{place}: values")
    return model.Enum(declared["name"], tuple(values), owner)


def _view(declared: dict, place: str, owner: str) -> model.View:
    text = str(declared.get("query") or "").strip().rstrip(";")
    query = _sql(text, f"{place}: query")
    first = next(token.name for token in lexer.tokens(query) if token.kind != lexer.SPACE)
    if first not in ("select", "with", "values", "table") and not query.startswith("("):
        raise DeclarationError(f"{place}: query begins with {query.split()[0]!r}; a view is a SELECT")
    options = []
    for option in ("security_invoker", "security_barrier"):
        if declared.get(option) is not None:
            options.append((option, "on" if declared[option] else ""))
    if declared.get("check_option"):
        options.append(("check_option", declared["check_option"] if declared["check_option"] != "none" else ""))
    return model.View(declared["name"], query, owner=owner, options=tuple(sorted(options)), comment=declared.get("comment"))


def _distinct_relations(declared: model.Schema) -> None:
    """Tables, views, indexes and keys share one room of names in a schema."""
    seen: dict = {}

    def claim(name: str, what: str) -> None:
        if name in seen:
            raise DeclarationError(f"{what} and {seen[name]} have the same name; rename one of them")
        seen[name] = what

    for table in declared.tables.values():
        claim(table.name, f"the table {table.name}")
    for view in declared.views.values():
        claim(view.name, f"the view {view.name}")
    for table in declared.tables.values():
        for constraint in table.of_kind(model.PRIMARY, model.UNIQUE).values():
            claim(constraint.name, f"the key {constraint.name} of {table.name}")
        for index in table.indexes.values():
            claim(index.name, f"the index {index.name} of {table.name}")
