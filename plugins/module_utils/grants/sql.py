# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements. Every name is quoted, every value is a literal: DDL takes no parameters."""

from __future__ import annotations

import typing as t

from ..postgres import identifier, literal
from .model import COLUMN, DATABASE, DEFAULT_KINDS, FUNCTION, PUBLIC, SCHEMA, SEQUENCE, TABLE, TYPE, Object, Policy, Thing, names

HIDDEN = "'********'"
WORDS = {DATABASE: "DATABASE", SCHEMA: "SCHEMA", TABLE: "TABLE", SEQUENCE: "SEQUENCE", FUNCTION: "ROUTINE", TYPE: "TYPE"}
RELATIONS = {"v": "VIEW", "m": "MATERIALIZED VIEW", "f": "FOREIGN TABLE"}
DEFAULT_WORDS = {TABLE: "TABLES", SEQUENCE: "SEQUENCES", FUNCTION: "ROUTINES", TYPE: "TYPES", SCHEMA: "SCHEMAS"}
FLAGS = {
    "superuser": "SUPERUSER",
    "login": "LOGIN",
    "inherit": "INHERIT",
    "createdb": "CREATEDB",
    "createrole": "CREATEROLE",
    "replication": "REPLICATION",
    "bypassrls": "BYPASSRLS",
}
# Parameters that are lists of names: each name is a value of its own.
NAME_LISTS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)


def who(names_: t.Iterable[str]) -> str:
    return ", ".join("PUBLIC" if name == PUBLIC else identifier(name) for name in names_)


def what(thing: Object) -> str:
    """The object's name as it stands in a statement."""
    if thing.kind == FUNCTION:
        name, types = split_signature(thing.name)
        return f"{identifier(thing.schema, name)}({types})"
    return identifier(thing.schema, thing.name) if thing.schema else identifier(thing.name)


def split_signature(text: str) -> tuple[str, str]:
    """('f', 'integer, text') of 'f(integer, text)'; types hold no bracket but those of their own sizes and quoted names."""
    name, dummy, rest = text.partition("(")
    return name, rest[:-1] if rest.endswith(")") else rest


def _rights(letters: t.Iterable[str], columns: t.Sequence[str] = ()) -> str:
    listed = f" ({', '.join(identifier(column) for column in columns)})" if columns else ""
    return ", ".join(name + listed for name in names(letters))


def grant(thing: Object, letters: t.Iterable[str], grantees: t.Sequence[str], option: bool = False, columns: t.Sequence[str] = ()) -> str:
    tail = " WITH GRANT OPTION" if option else ""
    return f"GRANT {_rights(letters, columns)} ON {WORDS[thing.kind]} {what(thing)} TO {who(grantees)}{tail}"


def revoke(
    thing: Object,
    letters: t.Iterable[str],
    grantees: t.Sequence[str],
    option: bool = False,
    columns: t.Sequence[str] = (),
    cascade: bool = False,
) -> str:
    head = "GRANT OPTION FOR " if option else ""
    tail = " CASCADE" if cascade else ""
    return f"REVOKE {head}{_rights(letters, columns)} ON {WORDS[thing.kind]} {what(thing)} FROM {who(grantees)}{tail}"


def acting(role: str, text: str) -> str:
    """A statement in the name of another role, for a connection that acts in the name of who logged in."""
    return f"SET LOCAL ROLE {identifier(role)}; {text}; SET LOCAL ROLE NONE"


def default(owner: str, schema: str, kind: str, give: bool, letters: t.Iterable[str], grantees: t.Sequence[str], option: bool = False) -> str:
    """ALTER DEFAULT PRIVILEGES; ``kind`` is a letter of pg_default_acl, ``schema`` '' for all schemas."""
    place = f" IN SCHEMA {identifier(schema)}" if schema else ""
    rights = f"{_rights(letters)} ON {DEFAULT_WORDS[DEFAULT_KINDS[kind]]}"
    if give:
        body = f"GRANT {rights} TO {who(grantees)}{' WITH GRANT OPTION' if option else ''}"
    else:
        body = f"REVOKE {'GRANT OPTION FOR ' if option else ''}{rights} FROM {who(grantees)}"
    return f"ALTER DEFAULT PRIVILEGES FOR ROLE {identifier(owner)}{place} {body}"


def owner(thing: Object, live: Thing, new: str) -> str:
    word = RELATIONS.get(live.relkind, WORDS[thing.kind])
    return f"ALTER {word} {what(thing)} OWNER TO {identifier(new)}"


# --- roles ---


def attributes(given: dict) -> str:
    """{'login': False, 'connection_limit': 3} -> NOLOGIN CONNECTION LIMIT 3"""
    words = []
    for name, value in given.items():
        if name in FLAGS:
            words.append(FLAGS[name] if value else f"NO{FLAGS[name]}")
        elif name == "connection_limit":
            words.append(f"CONNECTION LIMIT {int(value)}")
        elif name == "valid_until":
            words.append(f"VALID UNTIL {literal(value)}")
    return " ".join(words)


def create_role(name: str, given: dict) -> str:
    return " ".join(filter(None, ["CREATE ROLE", identifier(name), attributes(given)]))


def alter_role(name: str, given: dict) -> str:
    return f"ALTER ROLE {identifier(name)} {attributes(given)}"


def password(name: str, verifier: str = "") -> str:
    return f"ALTER ROLE {identifier(name)} PASSWORD {literal(verifier) if verifier else HIDDEN}"


def comment(name: str, text: str) -> str:
    return f"COMMENT ON ROLE {identifier(name)} IS {literal(text) if text else 'NULL'}"


def list_of(value: str) -> list[str]:
    """The names of a list parameter: 'a, "B"' -> ['a', 'B']."""
    found, word, quoted, was_quoted = [], "", False, False
    position = 0
    while position < len(value):
        char = value[position]
        if quoted and char == '"' and value[position + 1 : position + 2] == '"':
            word, position = word + '"', position + 1
        elif char == '"':
            quoted, was_quoted = not quoted, True
        elif char == "," and not quoted:
            found.append(word if was_quoted else word.strip().lower())
            word, was_quoted = "", False
        elif quoted or not char.isspace() or (word and not was_quoted):
            word += char
        position += 1
    return [*found, word if was_quoted else word.strip().lower()]


def setting(role: str, name: str, value: str, database: str = "") -> str:
    texts = list_of(value) if name.lower() in NAME_LISTS else [value]
    where = f" IN DATABASE {identifier(database)}" if database else ""
    key = ".".join(identifier(part) for part in name.split("."))
    return f"ALTER ROLE {identifier(role)}{where} SET {key} TO {', '.join(literal(text) for text in texts)}"


def reset(role: str, name: str, database: str = "") -> str:
    where = f" IN DATABASE {identifier(database)}" if database else ""
    key = ".".join(identifier(part) for part in name.split("."))
    return f"ALTER ROLE {identifier(role)}{where} RESET {key}"


def join(role: str, member: str, options: dict, old: bool, grantor: str = "") -> str:
    """GRANT of a membership; ``options`` holds those of admin, inherit and set that are to be given."""
    by = f" GRANTED BY {identifier(grantor)}" if grantor else ""
    if old:
        return f"GRANT {identifier(role)} TO {identifier(member)}{' WITH ADMIN OPTION' if options.get('admin') else ''}"
    words = ", ".join(f"{name.upper()} {'TRUE' if value else 'FALSE'}" for name, value in options.items())
    return f"GRANT {identifier(role)} TO {identifier(member)}{' WITH ' + words if words else ''}{by}"


def leave(role: str, member: str, grantor: str = "", cascade: bool = False, admin_only: bool = False) -> str:
    by = f" GRANTED BY {identifier(grantor)}" if grantor else ""
    head = "ADMIN OPTION FOR " if admin_only else ""
    return f"REVOKE {head}{identifier(role)} FROM {identifier(member)}{by}{' CASCADE' if cascade else ''}"


# --- row security ---


def row_security(thing: Object, action: str) -> str:
    """``action``: ENABLE, DISABLE, FORCE or NO FORCE."""
    return f"ALTER TABLE {what(thing)} {action} ROW LEVEL SECURITY"


def create_policy(thing: Object, policy: Policy) -> str:
    words = [f"CREATE POLICY {identifier(policy.name)} ON {what(thing)}"]
    words += [] if policy.permissive else ["AS RESTRICTIVE"]
    words += [f"FOR {policy.command.upper()}"] if policy.command != "all" else []
    return " ".join([*words, f"TO {who(policy.roles)}", *_conditions(policy)])


def alter_policy(thing: Object, policy: Policy, roles: bool, using: bool, check: bool) -> str:
    chosen = Policy(policy.name, using=policy.using if using else "", check=policy.check if check else "")
    words = [f"ALTER POLICY {identifier(policy.name)} ON {what(thing)}"]
    return " ".join([*words, *([f"TO {who(policy.roles)}"] if roles else []), *_conditions(chosen)])


def _conditions(policy: Policy) -> list[str]:
    words = [f"USING ({policy.using})"] if policy.using else []
    return words + ([f"WITH CHECK ({policy.check})"] if policy.check else [])


def drop_policy(thing: Object, name: str) -> str:
    return f"DROP POLICY {identifier(name)} ON {what(thing)}"


def column_object(thing: Object, column: str) -> str:
    """As it is told in a plan."""
    return f"{COLUMN} {thing.schema}.{thing.name}.{column}"
