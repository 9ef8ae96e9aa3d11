# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from what is live to what is declared: one list of statements, in an order that works. Pure.

Roles come first, since all else names them; memberships and rights are taken
before others are given; row security, which locks its table, is last but for
the roles that go.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import acl as lists
from . import roles as people
from . import rows, sql
from .model import (
    DATABASE,
    DEFAULT_KINDS,
    FUNCTION,
    PUBLIC,
    SCHEMA,
    TABLE,
    TYPE,
    AccessError,
    Declared,
    Entry,
    Live,
    Object,
    Plan,
    Step,
    names,
    rights,
)
from .resolve import Resolver

# Catalogs whose rights and policies are read, and so are taken one by one.
SEEN = ("pg_class", "pg_namespace", "pg_proc", "pg_type", "pg_database", "pg_default_acl", "pg_policy")
# What PostgreSQL gives everybody on new objects, unless a default for all schemas says otherwise.
BUILT_IN = {"f": frozenset("X"), "T": frozenset("U")}


def make(declared: Declared, live: Live) -> Plan:
    """AccessError where the declaration cannot be, or must not be, made true on this server."""
    return _Planner(declared, live).plan()


class _Planner:
    def __init__(self, declared: Declared, live: Live) -> None:
        self.declared, self.live, self.bounds = declared, live, declared.bounds
        self.server = live.server
        self.things = dict(live.objects)
        self.columns = dict(live.columns)
        self.resolver = Resolver(declared, live)
        self.result = Plan()
        self.stripped = people.stripped(declared, live)
        self.leaving = [role for name, role in sorted(declared.roles.items()) if not role.present and name in live.roles]
        self.without = {*self.stripped, *(role.name for role in self.leaving)}
        self.me = {self.server.user, self.server.session_user}

    def plan(self) -> Plan:
        people.check_members(self.declared, self.live)
        wanted, defaults, owners = self.resolver.wanted(), self.resolver.wanted_defaults(), self.resolver.owners()
        self._check_policies()
        steps: list = []
        for role in self.declared.roles.values():
            if role.present:
                steps += people.present(role, self.live, self.bounds, self.result.warnings)
        for name in self.stripped:
            steps += people.strip(name, self.live)
        leave, join, pairs, above = people.memberships(self.declared, self.live)
        people.check_cycles(pairs)
        self.above = above
        self._guard(pairs)
        steps += leave + join
        retired = self._retire()
        steps += retired[0] + self._owners(owners)
        steps += self._defaults(defaults)
        steps += self._rights(wanted)
        for one in self.declared.row_security:
            steps += rows.steps(one, self.live, self.bounds.schema(one.schema))
        steps += self._other_policies() + retired[1]
        self.result.steps = steps
        return self.result

    # --- what must not happen ---

    def _guard(self, pairs: set) -> None:
        """Refuse to lock ourselves out, or the owner of a schema that we look after."""
        for name in sorted(self.me):
            self._keeps_place(name, "the role that this connection acts as")
        owned = {self.things[thing].owner: thing for thing in self.things if thing.kind == SCHEMA and self.bounds.schema(thing.name)}
        for name, thing in sorted(owned.items()):
            role = self.declared.roles.get(name)
            known = self.live.roles.get(name)
            if known is None or name in self.me or not known.login:
                continue
            if name in self.stripped or (role and self.bounds.role(name) and role.present and "login" not in role.attributes):
                raise AccessError(
                    f"manage: roles covers {name}, the owner of the {thing}, which would lose its login;"
                    f" declare it in roles with login true or false, or take it out with '!{name}'"
                )
        if not self.server.superuser:
            lost = {(one.role, one.member) for one in self.live.memberships if one.member in self.me} - pairs
            # On 16 and later, who creates a role is in it by the server's doing; without that it could not be looked after.
            if lost:
                role, member = sorted(lost)[0]
                raise AccessError(
                    f"manage: roles covers {member}, the role that this connection acts as, which would leave {role};"
                    f" declare it in member_of of {member}, or take it out with '!{member}'"
                )
        left = [
            name
            for name, role in self.live.roles.items()
            if role.superuser and name not in self.without and not (name in self.declared.roles and self.bounds.role(name) and name not in self.me)
        ]
        if not left and any(role.superuser for role in self.live.roles.values()):
            raise AccessError("roles: no superuser would be left; take one out of roles and manage")

    def _keeps_place(self, name: str, who: str) -> None:
        role, known = self.declared.roles.get(name), self.live.roles.get(name)
        if name in self.stripped:
            raise AccessError(
                f"manage: roles covers {name}, {who}, which is not declared and would lose its login and rights;"
                f" declare it in roles, or take it out with '!{name}'"
            )
        if role is None or known is None:
            return
        if not role.present:
            raise AccessError(f"{role.place}: {name} is {who}; connect as another role to remove it")
        after = {**(people.UNDECLARED if self.bounds.role(name) else {}), **role.attributes}
        if known.login and after.get("login") is False and name == self.server.session_user:
            raise AccessError(f"{role.place}: {name} is {who} and would lose its login; set login to true")
        if known.superuser and self.bounds.role(name):
            raise AccessError(
                f"{role.place}: {name} is {who} and a superuser, which nothing here can declare;" f" take it out of manage: roles with '!{name}'"
            )
        if known.createrole and not known.superuser and after.get("createrole") is False:
            raise AccessError(f"{role.place}: {name} is {who} and would lose createrole; set createrole to true")
        if role.attributes.get("valid_until") and self.live.times.get(role.attributes["valid_until"], ("", False))[1]:
            raise AccessError(f"{role.place}: {name} is {who}, and its valid_until is over; set one in the future")

    def _check_policies(self) -> None:
        for one in self.declared.row_security:
            thing = self.resolver.existing(Object(TABLE, one.schema, one.table), one.place)
            if self.live.objects[thing].relkind not in ("r", "p"):
                raise AccessError(f"{one.place}: row security is for tables, and this is a view or foreign table; take it out")
            for policy in one.policies.values():
                for name in policy.roles:
                    self.resolver.role(name, f"{one.place}: {policy.name}: roles")
        for thing, policies in self.live.policies.items():
            declared = any((one.schema, one.table) == (thing.schema, thing.name) for one in self.declared.row_security)
            if not declared and self.bounds.schema(thing.schema) and self.things[thing].enabled and policies:
                self.result.warnings.append(
                    f"{thing} has row security, which is not declared: its policies go, and its rows are hidden from all but its owner;"
                    " declare it in row_security"
                )

    # --- roles that go ---

    def _retire(self) -> tuple[list[Step], list[Step]]:
        """(steps that free a role of what it owns, steps that drop it)."""
        first: list = []
        last: list = []
        for role in self.leaving:
            name, what = role.name, f"role {role.name}"
            mine = [one for one in self.live.dependencies if one.role == name]
            owned = [one for one in mine if one.here and one.kind == "owner"]
            away = sorted({one.database for one in mine if not one.here})
            if owned and not role.reassign_to:
                listed = ", ".join(f"{one.what}{f' and {one.count - 3} more' if one.count > 3 else ''}" for one in owned)
                raise AccessError(f"{role.place}: {name} owns {listed}; name who takes it with reassign_to")
            if role.reassign_to:
                self.resolver.role(role.reassign_to, f"{role.place}: reassign_to", public=False)
            if owned:
                listed = sum(one.count for one in owned)
                reason = f"it owns {listed} object{'s' if listed > 1 else ''} here, such as {owned[0].what}"
                first.append(Step(f"REASSIGN OWNED BY {sql.who([name])} TO {sql.who([role.reassign_to])}", reason, what))
                for thing, live in list(self.things.items()):
                    if live.owner == name:
                        self._change_owner(thing, role.reassign_to)
            rest = [one for one in mine if one.here and one.kind != "owner" and (one.catalog not in SEEN or one.kind == "other")]
            if rest:
                # Rights and policies are dealt with one by one; left are defaults for what it would create, and kinds that we do not read.
                listed = ", ".join(sorted({one.what for one in rest}))
                hazards = ("revokes all that was granted to it here",)
                last.append(Step(f"DROP OWNED BY {sql.who([name])}", f"it still has a part in {listed}", what, hazards))
            if away:
                elsewhere = "; ".join(
                    f"{sum(one.count for one in mine if one.database == database and not one.here)} in the database {database}" for database in away
                )
                self.result.warnings.append(
                    f"{role.place}: {name} cannot be dropped yet, it has a part in objects of other databases ({elsewhere});"
                    " run this with login_db set to each of them, the last run drops it"
                )
                if self.live.roles[name].login:
                    first.append(Step(sql.alter_role(name, {"login": False}), "it is to be absent, and other databases still need it", what))
            else:
                last.append(Step(f"DROP ROLE {sql.who([name])}", "it is to be absent", what))
        return first, last

    # --- owners ---

    def _change_owner(self, thing: Object, new: str) -> None:
        live = self.things[thing]
        old = live.owner
        self.things[thing] = dataclasses.replace(live, owner=new, acl=lists.changed_owner(live.acl, old, new))
        if thing in self.columns:
            self.columns[thing] = {column: lists.changed_owner(entries, old, new) for column, entries in self.columns[thing].items()}
        for other, linked in list(self.things.items()) if thing.kind == TABLE else ():
            if linked.belongs_to == thing and linked.owner != new:
                self._change_owner(other, new)

    def _owners(self, owners: dict) -> list[Step]:
        steps = []
        for thing, owner in owners.items():
            live = self.things[thing]
            if live.owner == owner:
                continue
            if live.belongs_to:
                raise AccessError(f"ownership: the {thing} belongs to a column of the {live.belongs_to} and to its owner; name the table")
            steps.append(Step(sql.owner(thing, live, owner), f"it belongs to {live.owner}", str(thing)))
            self._change_owner(thing, owner)
        return steps

    # --- default privileges ---

    def _acts_as(self, role: str) -> bool:
        return self.server.superuser or role in self.server.acts_as

    def _defaults(self, wanted: dict) -> list[Step]:
        """Lists of default privileges; inside the bounds exact for all grantees, outside for roles that go."""
        steps: list = []
        everywhere = self.bounds.database(self.server.database)
        keys = set(self.live.defaults) | set(wanted)
        if everywhere:
            # Who is named as a maker of later objects is looked after as a whole: PUBLIC's built-in rights too.
            makers = {owner for owner, dummy, dummy in wanted}
            keys |= {(owner, "", kind) for owner in makers for kind in BUILT_IN}
        for owner, schema, kind in sorted(keys):
            if owner in {role.name for role in self.leaving} or kind not in DEFAULT_KINDS:
                continue
            inside = self.bounds.schema(schema) if schema else everywhere
            built_in = BUILT_IN.get(kind, frozenset()) if not schema else frozenset()
            own = (Entry(PUBLIC, owner, built_in, frozenset()),) if built_in else ()
            live = self.live.defaults.get((owner, schema, kind), own)
            goal = wanted.get((owner, schema, kind), {})
            if not schema and inside and not any(one == owner for one, dummy, dummy in wanted):
                # Nothing is declared of this maker: what PostgreSQL gives by itself may stay.
                goal = {PUBLIC: (built_in, frozenset())} if built_in and lists.held(live).get(PUBLIC) else {}
            parts = lists.defaults(live, owner, goal, (lambda who: True) if inside else self.without.__contains__)
            if any(parts) and not self._acts_as(owner):
                self._beyond(
                    bool(parts[2]),
                    f"default privileges of {owner}",
                    f"{self.server.user} is not a member of {owner}",
                    f"GRANT {owner} TO {self.server.user}",
                )
                continue
            what = f"default privileges of {owner}" + (f" in the schema {schema}" if schema else "")
            for number, part in enumerate(parts):
                for letters, option, who in _grouped(part, number == 2):
                    text = sql.default(owner, schema, kind, number == 2, letters, who, option or number == 1)
                    steps.append(Step(text, _reason(number == 2, letters, who, number == 1), what))
        return steps

    # --- rights on objects ---

    def _rights(self, wanted: dict) -> list[Step]:
        take: list = []
        give: list = []
        full = {kind: frozenset(rights(kind, self.server.version)) for kind in (DATABASE, SCHEMA, TABLE, "sequence", FUNCTION, TYPE)}
        inside: dict = {}
        nothing: dict = {}
        differing: list = []
        for thing, live in self.things.items():
            goal = wanted.get(thing, nothing)
            place = (thing.kind == DATABASE, thing.schema or thing.name)
            if place not in inside:
                inside[place] = self.bounds.object(thing)
            exact = inside[place] and not live.extension
            if not goal and not exact and not self.without:
                continue
            columns = self.columns.get(thing, nothing)
            columns = {name: entries for name, entries in columns.items() if entries}
            if exact and not columns and goal.keys() <= {""} and lists.is_as_wanted(live.acl, live.owner, goal.get("", nothing), full[thing.kind]):
                continue
            differing.append((thing, goal, exact, columns))
        for thing, goal, exact, columns in sorted(differing, key=lambda one: one[0]):
            self._object(thing, goal, exact, full[thing.kind], columns, take, give)
        return take + give

    def _object(self, thing: Object, goal: dict, exact: bool, full: frozenset, columns: dict, take: list, give: list) -> None:
        live = self.things[thing]
        # Someone who only takes part in handing on acts by that; all others act as the owner.
        actor = live.owner if self._acts_as(live.owner) else self.server.user
        way = lists.Converge(
            live.acl, live.owner, actor, (lambda who: True) if exact else self.without.__contains__, columns, self._behind, self._may_be
        )
        operations = way.run(goal, full if exact else frozenset())
        for who, grantor, letter, column in way.stuck:
            on = sql.column_object(thing, column) if column else str(thing)
            self._beyond(False, f"{names(letter)[0]} of {who} on the {on}", f"it is from {grantor}", f"connect as {live.owner} or a superuser")
        if actor != live.owner:
            operations = [one for one in operations if self._may(thing, live, way, one)]
        if not self.server.superuser:
            for one in operations:
                if not one.give and one.grantee in self.me and not one.option:
                    raise AccessError(
                        f"manage covers the {thing}, where {one.grantee}, the role that this connection acts as, would lose"
                        f" {names(one.letter)[0]}; declare it in grants, or narrow manage"
                    )
        for text, operation, who, letters in _statements(thing, operations):
            on = sql.column_object(thing, "/".join(sorted(operation.columns))) if operation.columns else str(thing)
            step = Step(text, _reason(operation.give, letters, who, operation.option and not operation.give), on)
            if operation.by:
                step = step._replace(
                    sql=sql.acting(operation.by, text), reason=f"{step.reason}, which {operation.by} gave", by=(operation.by, thing.schema)
                )
            # What is given for the sake of taking it back has to stay before it.
            (take if not operation.give or operation.first else give).append(step)

    def _behind(self, role: str) -> t.Collection[str]:
        """The roles whose rights it will have without asking."""
        if role in self.live.roles and self.live.roles[role].superuser:
            return list(self.live.roles)
        found: list = []
        waiting = list(self.above.get(role, ()))
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.append(one)
                waiting += self.above.get(one, ())
        return found

    def _may_be(self, role: str) -> bool:
        # The right to act as others is that of who logged in; and a superuser acts as the owner, whoever it is.
        mine = self.server.superuser and self.server.user == self.server.session_user
        return mine and role in self.live.roles and not self.live.roles[role].superuser

    def _may(self, thing: Object, live: t.Any, way: t.Any, one: lists.Operation) -> bool:
        """Whether a role that is neither owner nor superuser may do it; if not, it is told or refused."""
        held = lists.held([*live.acl, *self.live.columns.get(thing, {}).get(one.column, ())])
        mine = {letter for name in (self.server.acts_as | {self.server.user}) for letter in held.get(name, (frozenset(), frozenset()))[1]}
        if one.letter in mine:
            return True
        self._beyond(
            one.give,
            f"{names(one.letter)[0]} of {one.grantee} on the {thing}",
            f"{self.server.user} is neither its owner {live.owner} nor a member of it",
            f"connect as {live.owner} or a superuser, or GRANT {live.owner} TO {self.server.user}",
        )
        return False

    def _beyond(self, needed: bool, what: str, why: str, cure: str) -> None:
        """What is missing and not ours to give is an error; what is too much and not ours to take is told."""
        if needed:
            raise AccessError(f"grants: {what} is missing, and {why}; {cure}")
        told = f"{what} is not declared, and {why}; {cure}"
        if told not in self.result.beyond:
            self.result.beyond.append(told)
            self.result.warnings.append(told)

    # --- policies that nobody spoke of ---

    def _other_policies(self) -> list[Step]:
        steps: list = []
        declared = {Object(TABLE, one.schema, one.table) for one in self.declared.row_security}
        gone = {role.name for role in self.leaving}
        for thing, policies in sorted(self.live.policies.items()):
            if thing in declared and self.bounds.schema(thing.schema):
                continue
            spoken = next((one.policies for one in self.declared.row_security if (one.schema, one.table) == thing[1:]), {})
            for name, policy in sorted(policies.items()):
                if name in spoken:
                    continue
                if self.bounds.schema(thing.schema) and not self.things[thing].extension:
                    steps.append(rows.drop(thing, name, "it is not declared"))
                elif gone & set(policy.roles):
                    left = tuple(role for role in policy.roles if role not in gone)
                    if left:
                        changed = dataclasses.replace(policy, roles=left)
                        text = sql.alter_policy(thing, changed, True, False, False)
                        steps.append(Step(text, "it names a role that is to be absent", f"policy {name} on {thing}"))
                    else:
                        steps.append(rows.drop(thing, name, "it is for nobody but a role that is to be absent"))
        return steps


class _Statement(t.NamedTuple):
    give: bool
    option: bool
    cascade: bool
    columns: tuple
    first: bool
    by: str


def _statements(thing: Object, operations: t.Sequence[lists.Operation]) -> t.Iterator[tuple]:
    """(sql, what it does, grantees, letters): operations that go together in one statement, the order of dependent ones kept."""
    runs: list = []
    last_taken = max((number for number, one in enumerate(operations) if not one.give), default=-1)
    for number, one in enumerate(operations):
        key = (one.give, one.option, one.cascade, one.give and number < last_taken, one.by)
        # Operations with CASCADE and those around them keep their place; all others commute within their kind.
        if not runs or runs[-1][0] != key:
            runs.append((key, []))
        runs[-1][1].append(one)
    for (give, option, cascade, first, by), group in runs:
        by_grantee: dict = {}
        for one in group:
            by_grantee.setdefault((one.grantee, one.column), set()).add(one.letter)
        by_columns: dict = {}
        for (who, column), letters in by_grantee.items():
            by_columns.setdefault((who, frozenset(letters)), []).append(column)
        merged: dict = {}
        for (who, letters), columns in by_columns.items():
            whole = "" in columns
            if whole:
                merged.setdefault((letters, ()), []).append(who)
            rest = tuple(sorted(column for column in columns if column))
            if rest:
                merged.setdefault((letters, rest), []).append(who)
        for (letters, columns), who in merged.items():
            statement = _Statement(give, option, cascade, columns, first, by)
            if give:
                yield sql.grant(thing, letters, sorted(who), option, columns), statement, sorted(who), letters
            else:
                yield sql.revoke(thing, letters, sorted(who), option, columns, cascade), statement, sorted(who), letters


def _grouped(part: lists.Wanted, give: bool) -> t.Iterator[tuple]:
    """(letters, with grant option, grantees): those with the same rights together."""
    merged: dict = {}
    for who, (letters, options) in part.items():
        if give and options and letters - options:
            merged.setdefault((letters - options, False), []).append(who)
            letters = options
        merged.setdefault((letters, bool(give and options)), []).append(who)
    for (letters, option), grantees in sorted(merged.items(), key=lambda item: (sorted(item[0][0]), item[0][1])):
        yield letters, option, sorted(grantees)


def _reason(give: bool, letters: t.Iterable[str], who: t.Sequence[str], option: bool) -> str:
    rights_, people_ = ", ".join(names(letters)), ", ".join("PUBLIC" if one == PUBLIC else one for one in who)
    if give:
        return f"missing: {rights_} for {people_}"
    return f"not declared: {'the right to hand on ' if option else ''}{rights_} of {people_}"
