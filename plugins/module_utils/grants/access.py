# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can do what, and through whom: the report. Pure."""

from __future__ import annotations

import typing as t

from . import acl as lists
from .model import (
    COLUMN,
    DATABASE,
    GRANTORS_SINCE,
    PUBLIC,
    SCHEMA,
    SEQUENCE,
    TABLE,
    Declared,
    Live,
    Object,
    is_system_role,
    names,
    rights,
)

# Predefined roles whose members have rights that no list shows: (kind, letters).
PREDEFINED = {
    "pg_read_all_data": {TABLE: "r", SEQUENCE: "r", SCHEMA: "U"},
    "pg_write_all_data": {TABLE: "awd", SEQUENCE: "w", SCHEMA: "U"},
    "pg_maintain": {TABLE: "m"},
}


def inherited(live: Live) -> dict:
    """Role -> {role whose rights it has without asking: the way there, as names}."""
    above: dict = {}
    for one in live.memberships:
        inherits = one.inherit if live.server.version >= GRANTORS_SINCE else live.roles[one.member].inherit
        if inherits:
            above.setdefault(one.member, set()).add(one.role)
    found = {}
    for name in live.roles:
        ways: dict = {}
        waiting = [(role, (role,)) for role in sorted(above.get(name, ()))]
        while waiting:
            role, way = waiting.pop(0)
            if role not in ways:
                ways[role] = way
                waiting += [(other, (*way, other)) for other in sorted(above.get(role, ()))]
        found[name] = ways
    return found


def scope(declared: Declared, live: Live) -> list[Object]:
    """The objects that the declaration speaks of or covers, and the database itself."""
    spoken = declared.schemas()
    databases = {live.server.database} | {name for grant in declared.grants if grant.target.kind == DATABASE for name in grant.target.names or ()}

    def belongs(thing: Object) -> bool:
        if thing.kind == DATABASE:
            return thing.name in databases or declared.bounds.database(thing.name)
        schema = thing.schema or thing.name
        return schema in spoken or declared.bounds.schema(schema)

    return sorted(thing for thing in live.objects if belongs(thing) and not live.objects[thing].extension)


def report(declared: Declared, live: Live) -> list[dict]:
    """One entry for each role, object and way: what the role can do there, and through whom."""
    ways = inherited(live)
    people = sorted(name for name in live.roles if not is_system_role(name))
    found: list = []
    for thing in scope(declared, live):
        columns = {name: acl for name, acl in live.columns.get(thing, {}).items() if acl}
        whole = lists.held(live.objects[thing].acl)
        parts = {column: lists.held(acl) for column, acl in columns.items()}
        for who in [*people, PUBLIC]:
            found += _of_role(who, thing, live, ways.get(who, {}), whole, parts)
    return found


def _of_role(who: str, thing: Object, live: Live, ways: dict, whole: lists.Wanted, parts: dict) -> list[dict]:
    everything = frozenset(rights(thing.kind, live.server.version))
    if who != PUBLIC and live.roles[who].superuser:
        return [_entry(who, thing, (), everything, everything, ["superuser"], "all")]
    through: dict = {}  # (columns, way) -> [letters, options]

    def add(columns: tuple, way: str, letters: t.Iterable[str], options: t.Iterable[str] = ()) -> None:
        have = through.setdefault((columns, way), [set(), set()])
        have[0] |= set(letters)
        have[1] |= set(options)

    owner = live.objects[thing].owner
    for name in [who, *ways, *([] if who == PUBLIC else [PUBLIC])]:
        way = "itself" if name == who else "PUBLIC" if name == PUBLIC else f"member of {' > '.join(ways[name])}"
        letters, options = whole.get(name, (frozenset(), frozenset()))
        if name == owner:
            way = "owner" if name == who else f"{way}, the owner"
            options = everything
        if letters or name == owner:
            add((), way, letters, options)
        for column, held in parts.items():
            letters, options = held.get(name, (frozenset(), frozenset()))
            if letters:
                add((column,), way, letters, options)
        if name in PREDEFINED and thing.kind in PREDEFINED[name]:
            add((), way, set(PREDEFINED[name][thing.kind]) & everything)
    by_rights: dict = {}
    for (columns, way), (letters, options) in through.items():
        if letters:
            by_rights.setdefault((frozenset(letters), frozenset(options & letters), way), []).extend(columns)
    seen = _rows(who, thing, live, owner, ways)
    return [_entry(who, thing, sorted(columns), letters, options, [way], seen) for (letters, options, way), columns in _split(by_rights, through)]


def _split(by_rights: dict, through: dict) -> list:
    """Rights on the whole object and the same rights on some columns are two entries."""
    found = []
    for (letters, options, way), columns in by_rights.items():
        whole = through.get(((), way))
        if whole and frozenset(whole[0]) == letters and frozenset(whole[1] & whole[0]) == options:
            found.append(((letters, options, way), []))
        if columns:
            found.append(((letters, options, way), columns))
    return found


def _rows(who: str, thing: Object, live: Live, owner: str, ways: dict) -> t.Union[str, list]:
    """'all', or the names of the policies that decide which rows the role sees."""
    table = live.objects[thing]
    if thing.kind != TABLE or not table.enabled:
        return "all"
    if who != PUBLIC and (live.roles[who].bypassrls or ((who == owner or owner in ways) and not table.forced)):
        return "all"
    mine = {who, PUBLIC, *ways}
    return sorted(name for name, policy in live.policies.get(thing, {}).items() if mine & set(policy.roles))


def _entry(who: str, thing: Object, columns: t.Sequence[str], letters: t.Iterable[str], options: t.Iterable[str], through: list, seen: t.Any) -> dict:
    entry = {
        "role": who,
        "kind": COLUMN if columns else thing.kind,
        "object": f"{thing.schema}.{thing.name}" if thing.schema else thing.name,
        "columns": list(columns),
        "privileges": names(letters),
        "grantable": names(options),
        "through": through,
    }
    if thing.kind == TABLE:
        entry["rows"] = seen
    return entry
