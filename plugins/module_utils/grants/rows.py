# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Row security: which rows of a table a role sees. Pure.

A condition is compared as PostgreSQL understood it, by its parse tree: the words
that it prints are never those that were written.
"""

from __future__ import annotations

import typing as t

from . import sql
from .catalog import tree_of
from .model import TABLE, Declared, DeclaredRows, Live, Object, Policy, Step


def to_compare(declared: Declared, live: Live) -> list[tuple[Object, str]]:
    """The conditions whose parse trees are needed: those of tables that exist."""
    found = []
    for rows in declared.row_security:
        thing = Object(TABLE, rows.schema, rows.table)
        if thing in live.objects:
            found += [(thing, text) for policy in rows.policies.values() for text in (policy.using, policy.check) if text]
    return list(dict.fromkeys(found))


def is_same(thing: Object, declared: str, live: str, tree: str, trees: dict) -> bool:
    if not declared or not live:
        return declared == live
    parsed = trees.get((thing, declared), "")
    return declared == live or f"({declared})" == live or (bool(parsed) and parsed == tree_of(tree))


def steps(rows: DeclaredRows, live: Live, exact: bool) -> list[Step]:
    """Policies first, so that the moment in which rows are hidden from all does not come."""
    thing = Object(TABLE, rows.schema, rows.table)
    known, now = live.policies.get(thing, {}), live.objects[thing]
    found: list = []
    for name in sorted(set(known) - set(rows.policies)) if exact else ():
        found.append(drop(thing, name, "it is not declared"))
    for policy in rows.policies.values():
        found += _policy(thing, policy, known.get(policy.name), live.trees)
    table = str(thing)
    if now.enabled != rows.enabled:
        reason = "row security is off" if rows.enabled else "row security is on, declared is off"
        found.append(Step(sql.row_security(thing, "ENABLE" if rows.enabled else "DISABLE"), reason, table))
    if now.forced != rows.forced:
        reason = "its owner sees all rows" if rows.forced else "its owner is bound by its policies too, which is not declared"
        found.append(Step(sql.row_security(thing, "FORCE" if rows.forced else "NO FORCE"), reason, table))
    return found


def drop(thing: Object, name: str, reason: str) -> Step:
    return Step(sql.drop_policy(thing, name), reason, f"policy {name} on {thing}")


def _policy(thing: Object, wanted: Policy, known: t.Optional[Policy], trees: dict) -> list[Step]:
    what = f"policy {wanted.name} on {thing}"

    def create(reason: str) -> Step:
        return Step(sql.create_policy(thing, wanted), reason, what, path=thing.schema)

    if known is None:
        return [create("it is missing")]
    roles = wanted.roles != known.roles
    using = not is_same(thing, wanted.using, known.using, known.trees[0], trees)
    check = not is_same(thing, wanted.check, known.check, known.trees[1], trees)
    differing = [
        word
        for word, differs in (
            ("command", wanted.command != known.command),
            ("permissive", wanted.permissive != known.permissive),
            ("roles", roles),
            ("using", using),
            ("check", check),
        )
        if differs
    ]
    if not differing:
        return []
    reason = f"it differs in {', '.join(differing)}"
    # ALTER POLICY can neither change the first two nor take a condition away.
    if differing[0] in ("command", "permissive") or (using and not wanted.using) or (check and not wanted.check):
        return [drop(thing, wanted.name, reason), create(reason)]
    return [Step(sql.alter_policy(thing, wanted, roles, using, check), reason, what, path=thing.schema)]
