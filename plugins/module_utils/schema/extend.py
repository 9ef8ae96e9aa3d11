# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A data model laid over another: an organisation writes down what it adds, not all that is there.

Nothing here refuses anything: what is no list or no dictionary is handed on as
it is, for ``declare`` to name it.
"""

from __future__ import annotations

import typing as t

# Lists of a table whose elements have names.
LISTS_OF_COLUMNS = ("columns", "include", "on_delete_columns")
NAMED = ("columns", "unique", "foreign_keys", "checks", "exclusions", "indexes")


def extended(base: t.Any, more: t.Any) -> t.Any:
    """Tables: those of ``base``, each with what ``more`` says of it, then those that only ``more`` has.

    A table or column with ``renamed_from`` takes the place of the one that had that name.
    """
    if not isinstance(base, list) or not isinstance(more, list):
        return base if not more else more
    return _by_name(base, more, _table)


def _by_name(base: list, more: list, join: t.Callable) -> list:
    found, taken = list(base), set()
    for one in more:
        place = _place(found[: len(base)], one, taken)
        if place is None:
            found.append(one)
        else:
            taken.add(place)
            found[place] = join(found[place], one)
    return found


def _place(base: list, one: t.Any, taken: t.Container[int]) -> t.Optional[int]:
    """Which of ``base`` is meant; each is met once, so that what is declared twice stays so and is refused."""
    if not isinstance(one, dict):
        return None
    for name in (one.get("name"), one.get("renamed_from")):
        for number, known in enumerate(base):
            if name and number not in taken and isinstance(known, dict) and known.get("name") == name:
                return number
    return None


def _table(base: dict, more: dict) -> dict:
    found = {**base, **more}
    base = _follow(base, _renamed_columns(more))
    for option in NAMED:
        if isinstance(base.get(option), list) and isinstance(more.get(option), list):
            found[option] = _by_name(base[option], more[option], _element)
        elif isinstance(base.get(option), list) and more.get(option) is None:
            found[option] = base[option]
    if more.get("primary_key") is None and base.get("primary_key"):
        found["primary_key"] = base["primary_key"]
    return found


def _element(base: dict, more: dict) -> dict:
    return {**base, **more}


def _follow(table: dict, renamed: dict) -> dict:
    """The keys and indexes of a table whose columns get other names; expressions are not looked into."""

    def names(listed: t.Any) -> t.Any:
        return [renamed.get(one, one) if isinstance(one, str) else one for one in listed] if isinstance(listed, list) else listed

    def parts(elements: t.Any) -> t.Any:
        if not isinstance(elements, list):
            return elements
        return [
            {option: names(value) if option in LISTS_OF_COLUMNS else value for option, value in one.items()} if isinstance(one, dict) else one
            for one in elements
        ]

    if not renamed:
        return table
    found = {option: parts(value) if option in ("unique", "foreign_keys", "indexes") else value for option, value in table.items()}
    if "primary_key" in found:
        found["primary_key"] = names(found["primary_key"])
    if isinstance(found.get("primary_key_options"), dict):
        found["primary_key_options"] = parts([found["primary_key_options"]])[0]
    return found


def renamed_in_grants(grants: t.Any, schema: str, tables: t.Any) -> t.Any:
    """Column grants on tables of ``schema`` by the names that the tables and columns are declared to get."""
    if not isinstance(grants, list) or not isinstance(tables, list):
        return grants
    known = [table for table in tables if isinstance(table, dict)]
    new = {table["renamed_from"]: table.get("name") for table in known if table.get("renamed_from")}
    columns = {table.get("name"): _renamed_columns(table) for table in known}

    def follow(one: t.Any) -> t.Any:
        if not isinstance(one, dict) or one.get("schema") != schema or not isinstance(one.get("columns"), dict):
            return one
        found = {}
        for table, listed in one["columns"].items():
            name = new.get(table, table)
            other = columns.get(name, {})
            found[name] = [other.get(column, column) for column in listed] if isinstance(listed, list) else listed
        return {**one, "columns": found}

    return [follow(one) for one in grants]


def _renamed_columns(table: dict) -> dict:
    """Old name -> new name."""
    columns = table.get("columns")
    return {
        column["renamed_from"]: column.get("name")
        for column in (columns if isinstance(columns, list) else [])
        if isinstance(column, dict) and column.get("renamed_from")
    }
