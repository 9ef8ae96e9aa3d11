# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module options -> model, or an error that names the option, the object and the cure."""

from __future__ import annotations

import typing as t

from ..postgres import name_problem
from ..schema import lexer
from . import scram
from .model import (
    ATTRIBUTES,
    COLUMN,
    DATABASE,
    FUNCTION,
    LETTERS,
    PUBLIC,
    RIGHTS,
    SCHEMA,
    SEQUENCE,
    TABLE,
    TYPE,
    AccessError,
    Bounds,
    Declared,
    DeclaredGrant,
    DeclaredOwner,
    DeclaredRole,
    DeclaredRows,
    MemberOf,
    Patterns,
    Policy,
    Target,
    is_system_role,
    is_system_schema,
    names,
)

ALL = "all"
# Option -> the kind of what it lists. `columns` is a dictionary, `database` and `schema` are one name.
LISTS = {"tables": TABLE, "sequences": SEQUENCE, "functions": FUNCTION, "types": TYPE}
TARGETS = ("database", "schema", "tables", "columns", "sequences", "functions", "types")
RESERVED = ("public", "none", "current_user", "session_user", "current_role", "user")
ALIASES = {"TEMP": "TEMPORARY"}


def declared(options: dict) -> Declared:
    """What is wanted, from the module's options."""
    return Declared(
        roles=_roles(options.get("roles")),
        grants=[_grant(one, f"grants[{number}]") for number, one in enumerate(_list(options.get("grants"), "grants"))],
        ownership=_ownership(options.get("ownership")),
        row_security=_row_security(options.get("row_security")),
        bounds=_bounds(options.get("manage") or {}),
    )


def _list(value: t.Any, place: str) -> list:
    """A list as it was written; a string would be split at its commas in silence."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        raise AccessError(f"{place} is {value!r}, not a list; write it as [{value if isinstance(value, str) else '...'}]")
    return list(value)


def _names(value: t.Any, place: str, empty: str = "") -> tuple:
    found = []
    for one in _list(value, place):
        name = _name(one, place)
        if name in found:
            raise AccessError(f"{place}: {name} is listed twice; keep one of them")
        found.append(name)
    if empty and not found:
        raise AccessError(f"{place} is empty; {empty}")
    return tuple(found)


def _name(name: t.Any, place: str) -> str:
    if isinstance(name, (int, float)) and not isinstance(name, bool):
        raise AccessError(f"{place}: {name!r} is a number; put it in quotes")
    problem = name_problem(name)
    if problem:
        raise AccessError(f"{place}: the name {name!r} {problem}")
    return name


def _dict(value: t.Any, place: str) -> dict:
    if not isinstance(value, dict):
        raise AccessError(f"{place} is {value!r}, not a dictionary; write its options as name: value")
    return value


def _bounds(options: dict) -> Bounds:
    bounds = {option: Patterns(_names(options.get(option), f"manage: {option}")) for option in ("schemas", "databases", "roles")}
    for name in bounds["schemas"].patterns:
        if is_system_schema(name):
            raise AccessError(f"manage: schemas: {name} is PostgreSQL's own, whose rights are not to be managed; leave it out")
    for name in bounds["roles"].patterns:
        if is_system_role(name):
            raise AccessError(f"manage: roles: {name} names PostgreSQL's own roles, whose rights are not to be managed; leave it out")
    return Bounds(**bounds)


# --- roles ---


def _roles(value: t.Any) -> dict:
    found: dict = {}
    for number, one in enumerate(_list(value, "roles")):
        place = f"roles[{number}]"
        name = _name(_dict(one, place).get("name"), f"{place}: name")
        if name in found:
            raise AccessError(f"{place}: {name} is declared twice; keep one of them")
        found[name] = _role(one, f"{place} ({name})")
    return found


def _role(one: dict, place: str) -> DeclaredRole:
    name = one["name"]
    if is_system_role(name):
        raise AccessError(f"{place}: {name} is PostgreSQL's own role, which is not to be changed; name it in member_of of other roles")
    if name in RESERVED:
        raise AccessError(f"{place}: {name} is a reserved word; choose another name")
    present = one.get("state") != "absent"
    if not present:
        given = [option for option, value in one.items() if value is not None and option not in ("name", "state", "reassign_to")]
        if given:
            raise AccessError(f"{place}: {given[0]} has no meaning for a role that is to be absent; leave it out")
    elif one.get("reassign_to"):
        raise AccessError(f"{place}: reassign_to is for a role that is to be absent; leave it out, or set state to absent")
    if one.get("reassign_to"):
        if _name(one["reassign_to"], f"{place}: reassign_to") == name:
            raise AccessError(f"{place}: reassign_to names the role itself; name another one")
    limit = one.get("connection_limit")
    if limit is not None and limit < -1:
        raise AccessError(f"{place}: connection_limit is {limit}; write a number of connections, or -1 for no limit")
    attributes = {option: one[option] for option in ATTRIBUTES if one.get(option) is not None}
    return DeclaredRole(
        name=name,
        place=place,
        present=present,
        comment=one.get("comment"),
        password=_password(one.get("password"), place),
        attributes=attributes,
        settings=_settings(one.get("settings"), place),
        member_of=_member_of(one.get("member_of"), name, place),
        reassign_to=one.get("reassign_to") or "",
    )


def _password(value: t.Optional[str], place: str) -> t.Optional[str]:
    if value is None:
        return None
    if value == "":
        raise AccessError(f"{place}: password is empty, with which PostgreSQL lets nobody in; give one, or leave the option out")
    if "\0" in value:
        raise AccessError(f"{place}: password holds a NUL character; choose another one")
    if scram.is_md5(value):
        raise AccessError(f"{place}: password is an MD5 hash, which can be cracked; give the password itself or a SCRAM-SHA-256 verifier")
    return value


def _settings(value: t.Optional[dict], place: str) -> t.Optional[dict]:
    if value is None:
        return None
    found = {}
    for name, setting in _dict(value, f"{place}: settings").items():
        _name(name, f"{place}: settings")
        if isinstance(setting, (dict, list)) or setting is None:
            raise AccessError(f"{place}: settings: {name} is {setting!r}; write one value, lists as a, b")
        found[name] = ("on" if setting else "off") if isinstance(setting, bool) else str(setting)
    return found


def _member_of(value: t.Any, member: str, place: str) -> t.Optional[tuple]:
    if value is None:
        return None
    found: dict = {}
    for number, one in enumerate(_list(value, f"{place}: member_of")):
        here = f"{place}: member_of[{number}]"
        given = one if isinstance(one, dict) else {"role": one}
        unknown = sorted(set(given) - {"role", "admin", "inherit", "set"})
        if unknown:
            raise AccessError(f"{here}: there is no option {unknown[0]}; there are role, admin, inherit and set")
        role = _name(given.get("role"), here)
        for option in ("admin", "inherit", "set"):
            if given.get(option) is not None and not isinstance(given[option], bool):
                raise AccessError(f"{here}: {option} is {given[option]!r}; write true or false")
        if role in found:
            raise AccessError(f"{here}: {role} is listed twice; keep one of them")
        if role == member:
            raise AccessError(f"{here}: {role} -> {role} would make the role a member of itself; leave it out")
        if role == PUBLIC:
            raise AccessError(f"{here}: every role is in public by itself; leave it out")
        found[role] = MemberOf(role, bool(given.get("admin")), given.get("inherit"), given.get("set"))
    return tuple(found.values())


# --- what a grant or an ownership is about ---


def _target(one: dict, place: str, options: t.Sequence[str] = TARGETS) -> Target:
    given = [option for option in options if one.get(option) is not None]
    chosen = [option for option in given if option != "schema"]
    if len(chosen) > 1:
        raise AccessError(f"{place}: {' and '.join(chosen)} are given; write an entry for each")
    if not given:
        raise AccessError(f"{place} names nothing to grant on; give one of {', '.join(options)}")
    if not chosen:
        return Target(SCHEMA, names=(_name(one["schema"], f"{place}: schema"),))
    option = chosen[0]
    if option == "database":
        if one.get("schema") is not None:
            raise AccessError(f"{place}: database and schema are given; write an entry for each")
        return Target(DATABASE, names=(_name(one["database"], f"{place}: database"),))
    if one.get("schema") is None:
        raise AccessError(f"{place}: {option} stand in a schema; name it with schema")
    schema = _name(one["schema"], f"{place}: schema")
    if option == "columns":
        columns = _dict(one["columns"], f"{place}: columns")
        pairs = tuple(
            (_name(table, f"{place}: columns"), column)
            for table, listed in columns.items()
            for column in _names(listed, f"{place}: columns: {table}", "list at least one column")
        )
        if not pairs:
            raise AccessError(f"{place}: columns is empty; write the table and a list of its columns")
        return Target(COLUMN, schema, columns=pairs)
    if one[option] == ALL:
        return Target(LISTS[option], schema, None)
    return Target(LISTS[option], schema, _names(one[option], f"{place}: {option}", "list at least one, or write all"))


def _grant(one: t.Any, place: str) -> DeclaredGrant:
    _dict(one, place)
    roles = _names(one.get("roles"), f"{place}: roles", "list at least one role, or public")
    target = _target(one, place)
    rights = _rights(one.get("privileges"), target.kind, place)
    if one.get("grant_option") and PUBLIC in roles:
        raise AccessError(f"{place}: grant_option cannot be given to public; name the roles that may grant on")
    owners = _names(one.get("owners"), f"{place}: owners")
    if one.get("future"):
        if target.kind not in (TABLE, SEQUENCE, FUNCTION, TYPE) or target.names is not None:
            raise AccessError(f"{place}: future is for all tables, sequences, functions or types of a schema; write tables: all, or leave it out")
    elif owners:
        raise AccessError(f"{place}: owners says whose later objects are meant; set future to true, or leave it out")
    return DeclaredGrant(place, roles, rights, target, bool(one.get("grant_option")), bool(one.get("future")), owners)


def _rights(value: t.Any, kind: str, place: str) -> t.Optional[frozenset]:
    """The letters; None for all."""
    if isinstance(value, str) and value.lower() in (ALL, "all privileges"):
        return None
    found = set()
    for one in _names(value, f"{place}: privileges", "list at least one, or write all"):
        name = ALIASES.get(one.upper(), one.upper())
        if name in ("ALL", "ALL PRIVILEGES"):
            return None
        letter = LETTERS.get(name)
        if letter is None or letter not in RIGHTS[kind]:
            on = "columns" if kind == COLUMN else f"a {kind}"
            raise AccessError(f"{place}: privileges: {one} is no privilege on {on}; there are {', '.join(names(RIGHTS[kind]))}")
        found.add(letter)
    return frozenset(found)


def _ownership(value: t.Any) -> list:
    found = []
    for number, one in enumerate(_list(value, "ownership")):
        place = f"ownership[{number}]"
        owner = _name(_dict(one, place).get("owner"), f"{place}: owner")
        if owner == PUBLIC:
            raise AccessError(f"{place}: owner: public can own nothing; name a role")
        found.append(DeclaredOwner(place, owner, _target(one, place, ("database", "schema", *LISTS))))
    return found


# --- row security ---

# Which of the two conditions a command knows.
CONDITIONS = {"all": ("using", "check"), "select": ("using",), "insert": ("check",), "update": ("using", "check"), "delete": ("using",)}


def _row_security(value: t.Any) -> list:
    found: list = []
    for number, one in enumerate(_list(value, "row_security")):
        place = f"row_security[{number}]"
        schema = _name(_dict(one, place).get("schema"), f"{place}: schema")
        table = _name(one.get("table"), f"{place}: table")
        place = f"{place} ({schema}.{table})"
        if any((rows.schema, rows.table) == (schema, table) for rows in found):
            raise AccessError(f"{place}: the table is declared twice; put its policies into one entry")
        policies: dict = {}
        for index, policy in enumerate(_list(one.get("policies"), f"{place}: policies")):
            here = f"{place}: policies[{index}]"
            name = _name(_dict(policy, here).get("name"), f"{here}: name")
            if name in policies:
                raise AccessError(f"{here}: {name} is declared twice; keep one of them")
            policies[name] = _policy(policy, f"{here} ({name})")
        enabled, forced = one.get("enabled"), one.get("forced")
        found.append(DeclaredRows(place, schema, table, enabled is not False, bool(forced), policies))
    return found


def _policy(one: dict, place: str) -> Policy:
    command = (one.get("command") or "all").lower()
    if command not in CONDITIONS:
        raise AccessError(f"{place}: command is {command!r}; there are {', '.join(CONDITIONS)}")
    texts = {}
    for option in ("using", "check"):
        text = one.get(option)
        if text is None:
            continue
        text = "true" if text is True else "false" if text is False else str(text)
        if option not in CONDITIONS[command]:
            other = CONDITIONS[command][0]
            raise AccessError(f"{place}: {option} has no meaning for {command}; write it as {other}, or leave it out")
        try:
            lexer.check_fragment(text)
        except lexer.SqlError as error:
            raise AccessError(f"{place}: {option}: {text!r} {error}") from None
        texts[option] = text.strip()
    roles = _names(one.get("roles"), f"{place}: roles") or (PUBLIC,)
    if PUBLIC in roles:
        roles = (PUBLIC,)
    permissive = one.get("permissive")
    return Policy(one["name"], command, tuple(sorted(roles)), texts.get("using", ""), texts.get("check", ""), permissive is not False)
