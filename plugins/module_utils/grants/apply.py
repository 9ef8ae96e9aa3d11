# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that acts: read, plan, and either show the plan or carry it out, in one transaction."""

from __future__ import annotations

import time
import typing as t

from .. import postgres
from ..postgres import DatabaseError, Session, one_line
from . import access, catalog, plan, roles, rows
from .model import TABLE, AccessError, Declared, Live, Object, Plan, Step

# Somebody changed the same rows of the catalog, held a lock, or both.
RETRIED = (postgres.LOCK_NOT_AVAILABLE, postgres.DEADLOCK, postgres.SERIALIZATION, postgres.INTERNAL)
# How often a run starts anew when others changed what it had just put right.
REPEATED = 5
PATIENCE = 60  # seconds that a run waits for another one on the same database
# What would write a statement down, and what it is set to while one holds a verifier.
QUIET = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_min_error_statement": "panic",
    "track_activities": "off",
    "pg_stat_statements.track_utility": "off",
    "auto_explain.log_min_duration": "-1",
    "pgaudit.log": "none",
}


class Outcome(t.NamedTuple):
    plan: Plan
    executed: list
    access: list


class Unsettled(Exception):
    """After all statements the catalog does not say what was declared: somebody else works on the same."""


class Failed(Exception):
    """A statement that the server refused; nothing was changed."""

    def __init__(self, message: str, steps: t.Sequence[Step] = ()) -> None:
        super().__init__(message)
        self.steps = steps


def run(session: Session, declared: Declared, check: bool, report: bool, lock_timeout: int, retries: int) -> Outcome:
    """Make the database's access what is declared, or tell what that would take.

    :param lock_timeout: milliseconds.
    :raises AccessError: before anything was changed.
    :raises Failed: where the server refused; the transaction was rolled back.
    """

    def once() -> Outcome:
        # A statement that changes the catalog works on its newest rows. An older snapshot would show those and its own beside them.
        with session.transaction("ISOLATION LEVEL REPEATABLE READ READ ONLY" if check else "ISOLATION LEVEL READ COMMITTED READ WRITE"):
            return _transaction(session, declared, check, report, lock_timeout)

    if check:
        return once()
    with session.exclusively(f"grants {session.connection.info.dbname}", PATIENCE):
        for attempt in range(1 + min(retries, REPEATED)):
            try:
                return session.patiently(once, retries, RETRIED, "access")
            except Unsettled as error:
                told = str(error)
            time.sleep(postgres.backoff(attempt))
    raise Failed(told)


def _transaction(session: Session, declared: Declared, check: bool, report: bool, lock_timeout: int) -> Outcome:
    session.settings(True, search_path="pg_catalog, pg_temp", TimeZone="UTC", lock_timeout=f"{lock_timeout}ms")
    live = look(session, declared, report)
    result = plan.make(declared, live)
    _try_settings(session, declared, live, result)
    executed: list = []
    if result.steps and not check:
        for step in result.steps:
            _execute(session, step, result.steps)
            executed.append(step.sql)
        live = look(session, declared, report)
        left = plan.make(declared, live).steps
        # A password is set on each run where it cannot be compared.
        left = [step for step in left if not step.secret or live.server.passwords]
        if left:
            raise Unsettled(
                f"{left[0].object}: {left[0].reason}, also after all statements, {left[0].sql} is left; nothing was changed;"
                " see whether somebody else changes the same, or connect as a superuser"
            )
    return Outcome(result, executed, access.report(declared, live) if report else [])


def look(session: Session, declared: Declared, report: bool = False) -> Live:
    """The catalog, and what the server says of the declaration's own words."""
    live = catalog.read(session, declared, columns=report)
    texts = [role.attributes["valid_until"] for role in declared.roles.values() if "valid_until" in role.attributes]
    if texts:
        live.times = catalog.times(session, texts)
    live.signatures = _signatures(session, declared, live)
    conditions = rows.to_compare(declared, live)
    if conditions:
        live.trees = _trees(session, declared, live, conditions)
    return live


def _signatures(session: Session, declared: Declared, live: Live) -> dict:
    """Functions whose signature is not written as PostgreSQL prints it."""
    targets = [one.target for one in [*declared.grants, *declared.ownership] if one.target.kind == "function"]
    asked = []
    for target in targets:
        for text in target.names or ():
            if "(" in text and Object("function", target.schema, text) not in live.objects:
                name, types = text.split("(", 1)[0], text.split("(", 1)[1].rsplit(")", 1)[0]
                asked.append((target.schema, name, types))
    if not asked:
        return {}
    session.run("SAVEPOINT crm_platform")
    found = catalog.signatures(session, asked)
    session.run("RELEASE SAVEPOINT crm_platform")
    return {(schema, f"{name}({types})"): text for (schema, name, types), text in found.items()}


def _trees(session: Session, declared: Declared, live: Live, conditions: list) -> dict:
    """The parse trees of all conditions, or an error that names the one that PostgreSQL does not understand."""
    session.run("SAVEPOINT crm_platform")
    quiet = {"log_min_messages": "fatal", "log_statement": "none"} if live.server.superuser else {}
    session.settings(True, debug_print_parse="on", debug_pretty_print="off", client_min_messages="log", **quiet)
    try:
        return catalog.parse_trees(session, conditions)
    except DatabaseError:
        session.run("ROLLBACK TO SAVEPOINT crm_platform")
        _blame(session, declared)
        raise
    finally:
        # Undoes the settings too.
        session.run("ROLLBACK TO SAVEPOINT crm_platform; RELEASE SAVEPOINT crm_platform")


def _blame(session: Session, declared: Declared) -> None:
    """Find the condition that does not parse."""
    for one in declared.row_security:
        for policy in one.policies.values():
            for option, text in (("using", policy.using), ("check", policy.check)):
                if not text:
                    continue
                try:
                    catalog.parse_trees(session, [(Object(TABLE, one.schema, one.table), text)])
                except DatabaseError as error:
                    session.run("ROLLBACK TO SAVEPOINT crm_platform")
                    raise AccessError(
                        f"{one.place}: {policy.name}: {option} {text!r} is not understood: {one_line(error)};"
                        " write a condition on the table's columns, and functions and tables of other schemas with their schema"
                    ) from None


def _try_settings(session: Session, declared: Declared, live: Live, result: Plan) -> None:
    """Have the server judge the values of settings that are about to be given."""
    for role in declared.roles.values():
        now = live.settings.get((role.name, ""), {})
        for name, value in (role.settings or {}).items():
            if (
                "." in name
                or name.lower() in roles.UNTRIED
                or any(name.lower() == known.lower() and roles.is_same_setting(name, value, text) for known, text in now.items())
            ):
                continue
            session.run("SAVEPOINT crm_platform")
            try:
                session.run("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
            except DatabaseError as error:
                if error.pgcode == "22023":
                    raise AccessError(f"{role.place}: settings: {name}: {one_line(error)}; correct the value") from None
                # Not ours to set, or not now: ALTER ROLE will tell.
            session.run("ROLLBACK TO SAVEPOINT crm_platform; RELEASE SAVEPOINT crm_platform")


def _execute(session: Session, step: Step, steps: t.Sequence[Step]) -> None:
    try:
        if step.secret:
            _quietly(session, step.secret)
        else:
            if step.path:
                session.settings(True, search_path=postgres.identifier(step.path))
            if step.by:
                _in_the_name_of(session, *step.by, step.sql)
            else:
                session.run(step.sql)
            if step.path:
                session.settings(True, search_path="pg_catalog, pg_temp")
    except DatabaseError as error:
        if error.pgcode in RETRIED or error.pgcode is None or session.connection.closed:
            raise
        raise Failed(
            f"{step.object}: PostgreSQL refused {step.sql}: {one_line(error)}; nothing was changed;"
            " correct what it names, or connect as a role that may do this",
            steps,
        ) from None


def _in_the_name_of(session: Session, role: str, schema: str, text: str) -> None:
    """Run what another role has to do, which may not look into the schema; nobody sees that it may meanwhile."""
    on = f"USAGE ON SCHEMA {postgres.identifier(schema)}" if schema else ""
    lent = bool(schema) and not session.rows("SELECT pg_catalog.has_schema_privilege(%s::name, %s::text, 'USAGE')", (role, schema))[0][0]
    if lent:
        session.run(f"GRANT {on} TO {postgres.identifier(role)}")
    session.run(text)
    if lent:
        session.run(f"REVOKE {on} FROM {postgres.identifier(role)}")


def _quietly(session: Session, sql: str) -> None:
    """Run a statement with a verifier in it, so that as little as possible writes it down.

    What we may not set stays as it is; a superuser may set all. The settings end with the savepoint.
    """
    allowed = session.rows(
        "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY (%s)"
        " AND (context = 'user' OR (context = 'superuser' AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)))",
        (list(QUIET),),
    )
    before = {row[0]: row[1] for row in allowed}
    chosen = {name: QUIET[name] for name in before}
    if chosen:
        session.settings(True, **chosen)
    try:
        session.run(sql)
    finally:
        if chosen and session.connection.info.transaction_status == postgres.psycopg2.extensions.TRANSACTION_STATUS_INTRANS:
            session.settings(True, **before)
