# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of customer_schema, as its documentation tells them."""

from __future__ import annotations

from .. import postgres

_STRINGS = {"type": "list", "elements": "str"}
_ACTION = {"type": "str", "choices": ["no_action", "restrict", "cascade", "set_null", "set_default"], "default": "no_action"}
_NAME = {"type": "str", "required": True}


def _list(**options) -> dict:
    return {"type": "list", "elements": "dict", "options": options}


_COLUMNS = _list(
    name=_NAME,
    type={"type": "str", "required": True},
    nullable={"type": "bool", "default": True},
    default={"type": "str"},
    identity={"type": "str", "choices": ["always", "by_default"]},
    identity_start={"type": "int"},
    identity_increment={"type": "int"},
    generated={"type": "str"},
    collation={"type": "str"},
    comment={"type": "str"},
    renamed_from={"type": "str"},
)
_TIMING = {"deferrable": {"type": "bool", "default": False}, "initially_deferred": {"type": "bool", "default": False}}
_FOREIGN_KEYS = _list(
    name={"type": "str"},
    columns={**_STRINGS, "required": True},
    references={"type": "dict", "required": True, "options": {"schema": {"type": "str"}, "table": _NAME, "columns": _STRINGS}},
    on_delete=_ACTION,
    on_delete_columns=_STRINGS,
    on_update=_ACTION,
    match={"type": "str", "choices": ["simple", "full"], "default": "simple"},
    **_TIMING,
)
_INDEXES = _list(
    **{
        "name": _NAME,
        "columns": {**_STRINGS, "required": True},
        "unique": {"type": "bool", "default": False},
        "method": {"type": "str", "default": "btree"},
        "where": {"type": "str"},
        "include": _STRINGS,
        "nulls_not_distinct": {"type": "bool", "default": False},
        "with": {"type": "dict"},
    }
)
_TABLES = _list(
    name=_NAME,
    state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    comment={"type": "str"},
    renamed_from={"type": "str"},
    columns={**_COLUMNS, "default": []},
    primary_key={**_STRINGS, "no_log": False},
    primary_key_options={"type": "dict", "no_log": False, "options": {"name": {"type": "str"}, "include": _STRINGS, **_TIMING}},
    unique=_list(
        name={"type": "str"},
        columns={**_STRINGS, "required": True},
        include=_STRINGS,
        nulls_not_distinct={"type": "bool", "default": False},
        **_TIMING,
    ),
    foreign_keys={**_FOREIGN_KEYS, "no_log": False},
    checks=_list(name=_NAME, expression={"type": "str", "required": True}),
    exclusions=_list(
        name=_NAME, method={"type": "str", "default": "gist"}, elements={**_STRINGS, "required": True}, where={"type": "str"}, **_TIMING
    ),
    indexes=_INDEXES,
    replica_identity={"type": "str"},
    partition_by={"type": "str"},
)


def argument_spec() -> dict:
    return {
        **postgres.argument_spec(),
        "schema": {"type": "str", "default": "customer"},
        "owner": {"type": "str"},
        "tables": _TABLES,
        "enums": _list(name=_NAME, values={**_STRINGS, "required": True}),
        "views": _list(
            name=_NAME,
            query={"type": "str", "required": True},
            security_invoker={"type": "bool"},
            security_barrier={"type": "bool"},
            check_option={"type": "str", "choices": ["none", "local", "cascaded"]},
            comment={"type": "str"},
        ),
        "definition": {"type": "str"},
        "purge": {"type": "bool", "default": False},
        "allow": {"type": "list", "elements": "str", "default": [], "choices": ["deletes_data", "rewrites_table", "blocks_writes", "drops_index"]},
        "lock_timeout": {"type": "str", "default": "3s"},
        "lock_retries": {"type": "int", "default": 10},
        "statement_timeout": {"type": "str", "default": "0"},
        "record": {"type": "path"},
    }
