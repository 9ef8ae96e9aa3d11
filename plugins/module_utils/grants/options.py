# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of customer_grants, as its documentation tells them."""

from __future__ import annotations

import typing as t

from .. import postgres
from .model import AccessError

_STRINGS = {"type": "list", "elements": "str"}
_NAME = {"type": "str", "required": True}
_TARGETS = {
    "database": {"type": "str"},
    "schema": {"type": "str"},
    "tables": {"type": "raw"},
    "sequences": {"type": "raw"},
    "functions": {"type": "raw"},
    "types": {"type": "raw"},
}


def _list(**options) -> dict:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


_ROLES = _list(
    name=_NAME,
    state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    comment={"type": "str"},
    login={"type": "bool"},
    password={"type": "str", "no_log": True},
    inherit={"type": "bool"},
    createdb={"type": "bool"},
    createrole={"type": "bool"},
    replication={"type": "bool"},
    bypassrls={"type": "bool"},
    connection_limit={"type": "int"},
    valid_until={"type": "str"},
    settings={"type": "dict"},
    member_of={"type": "list", "elements": "raw"},
    reassign_to={"type": "str"},
)
_GRANTS = _list(
    roles={**_STRINGS, "required": True},
    privileges={"type": "raw", "required": True},
    columns={"type": "dict"},
    grant_option={"type": "bool", "default": False},
    future={"type": "bool", "default": False},
    owners={**_STRINGS, "default": []},
    **_TARGETS,
)
_POLICIES = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": _NAME,
        "command": {"type": "str", "choices": ["all", "select", "insert", "update", "delete"], "default": "all"},
        "roles": {**_STRINGS, "default": ["public"]},
        "using": {"type": "str"},
        "check": {"type": "str"},
        "permissive": {"type": "bool", "default": True},
    },
}
_ROWS = _list(schema=_NAME, table=_NAME, enabled={"type": "bool", "default": True}, forced={"type": "bool", "default": False}, policies=_POLICIES)
_BOUNDS = ("schemas", "databases", "roles")
# Where lists stand, for postgres.check_lists.
_LISTS: dict = {
    "roles": {"member_of": None},
    "grants": {"roles": None, "owners": None},
    "ownership": {},
    "row_security": {"policies": {"roles": None}},
    "manage": dict.fromkeys(_BOUNDS),
}


def argument_spec() -> dict:
    return {
        **postgres.argument_spec(),
        "roles": _ROLES,
        "grants": _GRANTS,
        "ownership": _list(owner=_NAME, **_TARGETS),
        "row_security": _ROWS,
        "manage": {"type": "dict", "default": {}, "options": {bound: {**_STRINGS, "default": []} for bound in _BOUNDS}},
        "report": {"type": "bool", "default": False},
        "lock_timeout": {"type": "str", "default": "3s"},
        "lock_retries": {"type": "int", "default": 10},
        "record": {"type": "path"},
    }


def check_lists(written: t.Any) -> None:
    postgres.check_lists(written, _LISTS, AccessError)


def patience(given: dict) -> tuple[int, int]:
    """(milliseconds to wait for a lock, attempts after the first)."""
    return postgres.duration(given, "lock_timeout", AccessError), postgres.count(given, "lock_retries", AccessError)
