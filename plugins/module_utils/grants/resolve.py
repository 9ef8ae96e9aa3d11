# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared, by the names that the server knows. Pure; AccessError names what does not exist."""

from __future__ import annotations

import difflib
import typing as t

from .acl import Wanted
from .model import (
    COLUMN,
    DATABASE,
    DEFAULT_KINDS,
    FUNCTION,
    PUBLIC,
    SCHEMA,
    SEQUENCE,
    TABLE,
    AccessError,
    Declared,
    DeclaredGrant,
    Live,
    Object,
    Target,
    is_system_schema,
    rights,
)

DEFAULT_LETTERS = {kind: letter for letter, kind in DEFAULT_KINDS.items()}


def meant(name: str, known: t.Iterable[str]) -> str:
    """A hint at the name that was probably meant, '' where none is near."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {near[0]}?)" if near else ""


class Resolver:
    """Names -> objects, roles and rights."""

    def __init__(self, declared: Declared, live: Live) -> None:
        self.declared, self.live = declared, live
        self.roles = {PUBLIC, *live.roles, *declared.roles} - {name for name, role in declared.roles.items() if not role.present}
        self.by_schema: dict = {}
        for thing in live.objects:
            self.by_schema.setdefault((thing.kind, thing.schema), []).append(thing)
        self.overloads: dict = {}
        for thing in live.objects:
            if thing.kind == FUNCTION:
                self.overloads.setdefault((thing.schema, thing.name.partition("(")[0]), []).append(thing)

    def role(self, name: str, place: str, public: bool = True) -> str:
        if name not in self.roles or (name == PUBLIC and not public):
            if name in self.declared.roles:
                raise AccessError(f"{place}: {name} is declared as absent in roles; take it out here, or declare it as present")
            known = meant(name, self.roles - {PUBLIC})
            raise AccessError(f"{place}: there is no role {name}{known}; declare it in roles or correct the name")
        return name

    def objects(self, target: Target, place: str) -> list[Object]:
        """The objects of a target; those of extensions only by their names."""
        kind, schema = target.kind, target.schema
        if kind == DATABASE:
            return [self.existing(Object(DATABASE, "", name), place) for name in target.names or ()]
        if kind == SCHEMA:
            return [self.existing(Object(SCHEMA, "", name), place) for name in target.names or ()]
        self.existing(Object(SCHEMA, "", schema), place)
        if target.names is None:
            if is_system_schema(schema):
                raise AccessError(f"{place}: {schema} is PostgreSQL's own schema; name the objects that are meant")
            found = self.by_schema.get((kind, schema), [])
            return [thing for thing in found if not self.live.objects[thing].extension]
        if kind == FUNCTION:
            return [self._function(schema, text, place) for text in target.names]
        return [self.existing(Object(kind, schema, name), place) for name in target.names]

    def existing(self, thing: Object, place: str) -> Object:
        if thing in self.live.objects:
            return thing
        for other, option in ((TABLE, "tables"), (SEQUENCE, "sequences")):
            if Object(other, thing.schema, thing.name) in self.live.objects:
                raise AccessError(f"{place}: {thing.schema}.{thing.name} is a {other}; write it under {option}")
        known = meant(thing.name, [one.name for one in self.by_schema.get((thing.kind, thing.schema), [])])
        where = f" in the schema {thing.schema}" if thing.schema else ""
        raise AccessError(f"{place}: there is no {thing.kind} {thing.name}{where}{known}; create it first or correct the name")

    def _function(self, schema: str, text: str, place: str) -> Object:
        if "(" in text:
            name = self.live.signatures.get((schema, text)) or text
            return self.existing(Object(FUNCTION, schema, name), place)
        found = self.overloads.get((schema, text), [])
        if len(found) > 1:
            listed = ", ".join(sorted(thing.name for thing in found))
            raise AccessError(f"{place}: there are several functions {text} in the schema {schema}; name the one that is meant: {listed}")
        if not found:
            self.existing(Object(FUNCTION, schema, text), place)
        return found[0]

    def columns(self, target: Target, place: str) -> list[tuple[Object, str]]:
        found = []
        self.existing(Object(SCHEMA, "", target.schema), place)
        for table, column in target.columns:
            thing = self.existing(Object(TABLE, target.schema, table), place)
            known = self.live.columns.get(thing, {})
            if column not in known:
                raise AccessError(
                    f"{place}: columns: there is no column {column} in {target.schema}.{table}{meant(column, known)}; add it first or correct the name"
                )
            found.append((thing, column))
        return found

    def rights(self, grant: DeclaredGrant) -> frozenset:
        """The letters of a grant; AccessError where this version does not know one."""
        known = rights(grant.target.kind, self.live.server.version)
        if grant.rights is None:
            return frozenset(known)
        if grant.rights - set(known):
            raise AccessError(
                f"{grant.place}: privileges: MAINTAIN needs PostgreSQL 17, the server is {self.live.server.version}; leave it out, or write all"
            )
        return grant.rights

    def wanted(self) -> dict:
        """Object -> column ('' for the whole) -> grantee -> (rights, grant options)."""
        found: dict = {}
        for grant in self.declared.grants:
            letters = self.rights(grant)
            both = (letters, letters if grant.grant_option else frozenset())
            who = [self.role(name, f"{grant.place}: roles") for name in grant.roles]
            if grant.target.kind == COLUMN:
                places = self.columns(grant.target, grant.place)
            else:
                places = [(thing, "") for thing in self.objects(grant.target, grant.place)]
            for thing, column in places:
                add(found.setdefault(thing, {}).setdefault(column, {}), who, both)
        return found

    def wanted_defaults(self) -> dict:
        """(owner, schema, letter of the kind) -> grantee -> (rights, grant options)."""
        found: dict = {}
        for grant in self.declared.grants:
            if not grant.future:
                continue
            schema = grant.target.schema
            owners = grant.owners or (self.live.objects[Object(SCHEMA, "", schema)].owner,)
            letters = self.rights(grant)
            both = (letters, letters if grant.grant_option else frozenset())
            for owner in owners:
                self.role(owner, f"{grant.place}: owners", public=False)
                add(found.setdefault((owner, schema, DEFAULT_LETTERS[grant.target.kind]), {}), grant.roles, both)
        return found

    def owners(self) -> dict:
        """Object -> the owner that is declared."""
        found: dict = {}
        for one in self.declared.ownership:
            self.role(one.owner, f"{one.place}: owner", public=False)
            for thing in self.objects(one.target, one.place):
                live = self.live.objects[thing]
                if live.belongs_to and one.target.names is None:
                    continue
                if found.get(thing, one.owner) != one.owner:
                    raise AccessError(f"{one.place}: {thing} is declared to belong to {found[thing]} too; keep one of them")
                found[thing] = one.owner
        return found


def add(known: Wanted, who: t.Iterable[str], both: tuple) -> None:
    for name in who:
        old = known.get(name)
        known[name] = both if old is None else (old[0] | both[0], old[1] | both[1])


def union(*parts: Wanted) -> Wanted:
    found: dict = {}
    for part in parts:
        for who, both in part.items():
            add(found, (who,), both)
    return found
