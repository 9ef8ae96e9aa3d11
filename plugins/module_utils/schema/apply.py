# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan on a database that is in use.

A transaction asks for all of its locks first, within ``lock_timeout``
altogether, and gives up and asks again rather than have others queue behind it.
CREATE INDEX CONCURRENTLY has no such limit: it waits without being in anybody's
way, and a limit would only leave an invalid index behind.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import typing as t

from ..postgres import DEADLOCK, INTERNAL, LOCK_NOT_AVAILABLE, QUERY_CANCELED, SERIALIZATION, PostgresError, backoff, identifier, one_line
from . import scratch
from .steps import ALONE, OUTSIDE, STRENGTH, Step

_BUSY = (LOCK_NOT_AVAILABLE, DEADLOCK, SERIALIZATION, INTERNAL)
# A value that the new type does not have.
_DATA = "22"
_GONE = ("57P01", "57P02", "57P03", "08006", "08003", "08000", None)


class ApplyError(PostgresError):
    """What stopped the plan; ``done`` is what was carried out before."""

    def __init__(self, message: str, done: list) -> None:
        super().__init__(message)
        self.done = done


class Refused(Exception):
    """A guard found what must not be lost."""


class Patience(t.NamedTuple):
    """``lock`` and ``statement`` in milliseconds, 0 for no limit."""

    lock: int
    retries: int
    statement: int


def run(session, schema: str, steps: list[Step], patience: Patience) -> None:
    """All steps, or ApplyError."""
    done: list[str] = []
    for stage, group in itertools.groupby(steps, key=lambda step: step.stage):
        of_stage = list(group)
        units = [[step] for step in of_stage] if stage in ALONE + OUTSIDE else [of_stage]
        for unit in units:
            try:
                if stage in OUTSIDE:
                    _outside(session, schema, unit[0], patience)
                else:
                    _transaction(session, schema, unit, patience)
            except (scratch.DatabaseError, PostgresError, Refused) as error:
                raise _told(error, unit, done, len(steps), session) from error
            done += [step.sql for step in unit if not step.guard]


def _told(error: Exception, unit: list, done: list, total: int, session) -> ApplyError:
    failed = getattr(error, "step", None) or unit[0]
    reached = f"{len(done)} of {total} statements were done and stay; " if done else "nothing was changed; "
    if isinstance(error, Refused):
        return ApplyError(f"{failed.object}: {error}; {reached}change those values, or declare a type that holds them", done)
    lost = session.connection.closed or getattr(error, "pgcode", "") in _GONE and not isinstance(error, PostgresError)
    cure = "run again to finish" if lost or done else "mend the cause and run again"
    text = error if isinstance(error, PostgresError) else one_line(error)
    what = "the connection was lost" if lost else f"{failed.object}"
    return ApplyError(f"{what}: {text}; {reached}{cure}. The statement was: {' '.join(failed.sql.split())}", done)


def _limits(session, lock: int, statement: int) -> None:
    session.settings(local=True, lock_timeout=str(lock), statement_timeout=str(statement))


def _transaction(session, schema: str, unit: list[Step], patience: Patience) -> None:
    """One transaction, begun anew while somebody holds what it needs."""
    for attempt in range(patience.retries + 1):
        current: list = [unit[0]]
        locking = [True]
        try:
            with session.transaction():
                scratch.set_path(session, schema)
                _lock(session, unit, patience)
                locking[0] = False
                _limits(session, patience.lock, patience.statement)
                for step in unit:
                    current[0] = step
                    _one(session, step)
            return
        except scratch.DatabaseError as error:
            busy = error.pgcode in _BUSY or (locking[0] and error.pgcode == QUERY_CANCELED)
            if not busy or session.connection.closed:
                error.step = current[0]
                raise
            if attempt == patience.retries:
                raise PostgresError(
                    f"a lock was not to be had in {patience.retries + 1} attempts ({one_line(error)}); "
                    "run again when less is going on, or raise lock_timeout or lock_retries"
                ) from error
        time.sleep(backoff(attempt))


def _lock(session, unit: list[Step], patience: Patience) -> None:
    """Every lock that the transaction will need: the strongest first, and all within the time of one."""
    needed: dict = {}
    for step in unit:
        for table, mode in step.locks:
            if table not in needed or STRENGTH.index(mode) > STRENGTH.index(needed[table]):
                needed[table] = mode
    if not needed:
        _limits(session, patience.lock, patience.statement)
        return
    statements = []
    for mode in reversed(STRENGTH):
        tables = sorted(identifier(*table) for table, wanted in needed.items() if wanted == mode)
        if tables:
            statements.append(f"LOCK TABLE {', '.join(tables)} IN {mode} MODE")
    # Sent as one, so that the time limit of a statement bounds all of them.
    _limits(session, patience.lock, patience.lock)
    session.run("; ".join(statements))


def _one(session, step: Step) -> None:
    if step.guard:
        try:
            lost = session.value(step.sql)
            problem = f"{lost} values would not survive ({step.reason})" if lost else ""
        except scratch.DatabaseError as error:
            if not (error.pgcode or "").startswith(_DATA):
                raise
            problem = f"values would not survive: {one_line(error)} ({step.reason})"
        if problem:
            refused = Refused(problem)
            refused.step = step
            raise refused
    else:
        session.run(step.sql)


def _outside(session, schema: str, step: Step, patience: Patience) -> None:
    """A statement that cannot be in a transaction. An index that failed is removed, since it costs writers and serves nobody."""
    lock = 0 if " CONCURRENTLY " in step.sql else patience.lock
    path = ", ".join(identifier(one) for one in (schema, "public"))
    session.settings(lock_timeout=str(lock), statement_timeout=str(patience.statement), search_path=path)
    for attempt in range(patience.retries + 1):
        try:
            session.run(step.sql)
            return
        except scratch.DatabaseError as error:
            if session.connection.closed:
                raise
            if step.index:
                with contextlib.suppress(scratch.DatabaseError):
                    session.run(f"DROP INDEX CONCURRENTLY IF EXISTS {identifier(*step.index)}")
            if error.pgcode not in _BUSY or attempt == patience.retries:
                raise
        time.sleep(backoff(attempt))
