# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles: their attributes, passwords, settings and what they are members of. Pure.

Each function returns the steps of its part; plan.py puts them in order.
"""

from __future__ import annotations

import typing as t

from . import scram, sql
from .model import (
    GRANTORS_SINCE,
    AccessError,
    Bounds,
    Declared,
    DeclaredRole,
    Live,
    MemberOf,
    Membership,
    Role,
    Step,
)
from .resolve import meant

# What a role has of which nothing is said, where the declaration is the whole truth.
UNDECLARED = {
    "login": False,
    "inherit": True,
    "createdb": False,
    "createrole": False,
    "replication": False,
    "bypassrls": False,
    "connection_limit": -1,
    "valid_until": "infinity",
}
# Parameters that change whom a session acts as: trying them out would act.
UNTRIED = ("role", "session_authorization", "is_superuser")


def stripped(declared: Declared, live: Live) -> list[str]:
    """Roles inside the bounds that are not declared: they lose login, memberships and rights."""
    return sorted(name for name in live.roles if name not in declared.roles and declared.bounds.role(name))


def attributes(role: DeclaredRole, live: Live) -> dict:
    """The declared attributes as the server prints them."""
    given = dict(role.attributes)
    if "valid_until" in given:
        given["valid_until"] = live.times.get(given["valid_until"], (given["valid_until"], False))[0]
    return given


def told(given: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(given.items()))


def present(role: DeclaredRole, live: Live, bounds: Bounds, warnings: list) -> list[Step]:
    """Have the role with its attributes, password, comment and settings."""
    what, given, steps = f"role {role.name}", attributes(role, live), []
    known = live.roles.get(role.name)
    if given.get("valid_until", "infinity") != "infinity" and live.times.get(role.attributes["valid_until"], ("", False))[1]:
        warnings.append(f"{role.place}: valid_until {role.attributes['valid_until']} is over: its password lets nobody in any more")
    if known is None:
        steps.append(Step(sql.create_role(role.name, given), "the role is missing", what))
        known = Role(role.name)
    else:
        wanted = {**UNDECLARED, "superuser": False, **given} if bounds.role(role.name) else given
        differing = {name: value for name, value in wanted.items() if getattr(known, name) != value}
        if differing:
            is_now = told({name: getattr(known, name) for name in differing})
            steps.append(Step(sql.alter_role(role.name, differing), f"it has {is_now}; declared is {told(differing)}", what))
    steps += _password(role, known, live, warnings)
    if role.comment is not None and role.comment != known.comment:
        steps.append(Step(sql.comment(role.name, role.comment), "its comment differs", what))
    return steps + _settings(role, live, bounds)


def _password(role: DeclaredRole, known: Role, live: Live, warnings: list) -> list[Step]:
    if role.password is None:
        return []
    reason = "it has no password"
    if role.name not in live.roles:
        reason = "the role is new"
    elif not live.server.passwords:
        reason = f"{live.server.user} may not read the stored password to compare it"
        warnings.append(
            f"{role.place}: {reason}, so it is set on each run; a superuser can change that with"
            f" GRANT SELECT ON pg_catalog.pg_authid TO {sql.who([live.server.user])}"
        )
    elif known.password:
        if scram.matches(role.password, known.password):
            return []
        reason = "the stored one is MD5" if scram.is_md5(known.password) else "it has another password"
    if scram.is_verifier(role.password):
        verifier = role.password
    else:
        verifier = scram.verifier(role.password, iterations=live.server.iterations)
    return [Step(sql.password(role.name), reason, f"role {role.name}", (), sql.password(role.name, verifier))]


def is_same_setting(name: str, one: str, other: str) -> bool:
    if name.lower() in sql.NAME_LISTS:
        return sql.list_of(one) == sql.list_of(other)
    return one == other


def _settings(role: DeclaredRole, live: Live, bounds: Bounds) -> list[Step]:
    exact = bounds.role(role.name)
    if role.settings is None and not exact:
        return []
    wanted, what, steps = role.settings or {}, f"role {role.name}", []
    for name in wanted:
        _check_setting(role, name, live)
    names = {name.lower(): name for name in wanted}
    for (who, database), settings in sorted(live.settings.items()):
        if who != role.name or not exact:
            continue
        for name in sorted(settings):
            if database or name.lower() not in names:
                where = f" in the database {database}" if database else ""
                steps.append(Step(sql.reset(role.name, name, database), f"its setting {name}{where} is not declared", what))
    now = {name.lower(): value for name, value in live.settings.get((role.name, ""), {}).items()}
    for name, value in wanted.items():
        if name.lower() not in now:
            steps.append(Step(sql.setting(role.name, name, value), f"its setting {name} is missing", what))
        elif not is_same_setting(name, value, now[name.lower()]):
            steps.append(Step(sql.setting(role.name, name, value), f"its setting {name} is {now[name.lower()]}", what))
    return steps


def _check_setting(role: DeclaredRole, name: str, live: Live) -> None:
    if not live.known_settings or "." in name:
        return
    known = live.known_settings.get(name.lower())
    if known is None:
        hint = meant(name.lower(), live.known_settings)
        raise AccessError(f"{role.place}: settings: there is no parameter {name}{hint}; correct the name")
    if known[1] in ("internal", "postmaster", "sighup"):
        raise AccessError(f"{role.place}: settings: {name} can only be set for the whole server; leave it out")


def strip(name: str, live: Live) -> list[Step]:
    """An undeclared role inside the bounds may not log in."""
    if not live.roles[name].login:
        return []
    return [Step(sql.alter_role(name, {"login": False}), "it is not declared in roles, and manage covers it", f"role {name}")]


# --- memberships ---


def _wanted_options(member: MemberOf, attributes_of_member: dict, exact: bool, version: int) -> dict:
    if version < GRANTORS_SINCE:
        return {"admin": member.admin}
    options = {"admin": member.admin}
    if member.inherit is not None or exact:
        options["inherit"] = attributes_of_member["inherit"] if member.inherit is None else member.inherit
    if member.set is not None or exact:
        options["set"] = member.set is not False
    return options


def check_members(declared: Declared, live: Live) -> None:
    """AccessError where a role that is to be joined does not exist, or an option is not known to this server."""
    leaving = {name for name, role in declared.roles.items() if not role.present}
    known = (set(live.roles) | set(declared.roles)) - leaving
    for role in declared.roles.values():
        for one in role.member_of or ():
            if one.role not in known:
                cure = "declare it as present" if one.role in leaving else f"declare it in roles or correct the name{meant(one.role, known)}"
                raise AccessError(f"{role.place}: member_of: there is no role {one.role}; {cure}")
            if live.server.version < GRANTORS_SINCE and (one.inherit is not None or one.set is not None):
                raise AccessError(
                    f"{role.place}: member_of: inherit and set of a membership need PostgreSQL 16, the server is {live.server.version};"
                    " leave them out, or set inherit of the role"
                )


def memberships(declared: Declared, live: Live) -> tuple[list[Step], list[Step], set, dict]:
    """(steps that take, steps that give, the pairs (role, member) that hold afterwards, member -> roles whose rights it then has by itself)."""
    version, old = live.server.version, live.server.version < GRANTORS_SINCE
    rows = {(one.role, one.member, one.grantor): one for one in live.memberships}
    leaving = {name for name, role in declared.roles.items() if not role.present and name in live.roles}
    lonely = set(stripped(declared, live))
    wanted: dict = {}
    inherits = {name: role.inherit for name, role in live.roles.items()}
    exact_members = set(lonely)
    for role in declared.roles.values():
        if not role.present:
            continue
        exact = declared.bounds.role(role.name)
        if exact:
            exact_members.add(role.name)
        known = live.roles.get(role.name)
        inherit = inherits[role.name] = role.attributes.get("inherit", True if exact or not known else known.inherit)
        for one in role.member_of or ():
            wanted[(one.role, role.name)] = _wanted_options(one, {"inherit": inherit}, exact, version)
    take: list = []
    give: list = []

    def revoke(row: Membership, reason: str, admin_only: bool = False) -> None:
        """Take a membership, or its admin option, with all that its member gave by it."""
        key = (row.role, row.member, row.grantor)
        if key not in rows:
            return
        if admin_only:
            rows[key] = row._replace(admin=False)
        else:
            del rows[key]
        lost = [] if old else _orphans(rows, row.role, live.server.bootstrap)
        grantor = "" if old else row.grantor
        what = f"membership of {row.member} in {row.role}"
        take.append(Step(sql.leave(row.role, row.member, grantor, bool(lost), admin_only), reason, what))
        for orphan in lost:
            lost_pairs.add((orphan.role, orphan.member))
            del rows[(orphan.role, orphan.member, orphan.grantor)]

    lost_pairs: set = set()
    before = _by_pair(rows)
    for key in sorted(rows):
        row = rows.get(key)
        if row is None:
            continue
        if row.role in leaving or row.member in leaving:
            # DROP ROLE takes them; what the role gave to others as a grantor is in its way.
            rows.pop(key)
        elif row.member in exact_members and (row.role, row.member) not in wanted:
            reason = "it is not declared" if row.member in declared.roles else f"{row.member} is not declared in roles, and manage covers it"
            revoke(row, reason)
        elif row.grantor in leaving and not old:
            revoke(row, f"{row.grantor}, who gave it, is to be absent")
            lost_pairs.add((row.role, row.member))
        elif row.admin and (row.role, row.member) in wanted and not wanted[(row.role, row.member)]["admin"]:
            revoke(row, "it has the admin option, which is not declared", admin_only=True)
    for pair in lost_pairs - set(wanted):
        if pair[1] not in exact_members and pair[1] not in leaving and pair[0] not in leaving and pair in before:
            wanted[pair] = before[pair]
    for (role, member), options in sorted(wanted.items()):
        mine = [row for row in rows.values() if row.role == role and row.member == member]
        what = f"membership of {member} in {role}"
        if not mine:
            give.append(Step(sql.join(role, member, _given(options), old), "it is missing", what))
            rows[(role, member, "")] = Membership(role, member, "", **{"inherit": inherits[member], **options})
            continue
        for row in mine:
            differing = {name: value for name, value in options.items() if (name != "admin" or value) and getattr(row, name) != value}
            # One row that has the option is enough; to take one away, every row has to lose it.
            differing = {name: value for name, value in differing.items() if not value or not any(getattr(other, name) for other in mine)}
            if differing:
                is_now = told({name: getattr(row, name) for name in differing})
                give.append(Step(sql.join(role, member, differing, old, "" if old else row.grantor), f"it has {is_now}", what))
                rows[(role, member, row.grantor)] = row._replace(**differing)
    pairs = {(row.role, row.member) for row in rows.values()}
    above: dict = {}
    for row in rows.values():
        if inherits[row.member] if old else row.inherit:
            above.setdefault(row.member, set()).add(row.role)
    return take, give, pairs, above


def _given(options: dict) -> dict:
    return {name: value for name, value in options.items() if name != "admin" or value}


def _by_pair(rows: dict) -> dict:
    found: dict = {}
    for row in rows.values():
        old = found.get((row.role, row.member), {"admin": False, "inherit": False, "set": False})
        found[(row.role, row.member)] = {name: old[name] or getattr(row, name) for name in old}
    return found


def _orphans(rows: dict, role: str, bootstrap: str) -> list:
    """Memberships that go with a CASCADE: their grantor is not the first superuser, and has no admin option any more."""
    left = [row for row in rows.values() if row.role == role]
    found: list = []
    while True:
        givers = {bootstrap, *(row.member for row in left if row.admin)}
        gone = [row for row in left if row.grantor not in givers]
        if not gone:
            return found
        found += gone
        left = [row for row in left if row.grantor in givers]


def check_cycles(pairs: t.Iterable[tuple]) -> None:
    """AccessError that shows the way around, where memberships go in a circle."""
    above: dict = {}
    for role, member in pairs:
        above.setdefault(member, set()).add(role)
    while True:
        ends = {name for name, roles in above.items() if not roles & set(above)}
        if not ends:
            break
        above = {name: roles for name, roles in above.items() if name not in ends}
    if above:
        path = [min(above)]
        while path[-1] not in path[:-1]:
            path.append(min(above[path[-1]] & set(above)))
        circle = path[path.index(path[-1]) :]
        raise AccessError(f"roles: member_of goes in a circle: {' -> '.join(circle)}; take one of these memberships out")


def reach(pairs: t.Iterable[tuple], start: str) -> set[str]:
    """All roles that one is in, through others too, and itself."""
    above: dict = {}
    for role, member in pairs:
        above.setdefault(member, []).append(role)
    found, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += above.get(name, ())
    return found
