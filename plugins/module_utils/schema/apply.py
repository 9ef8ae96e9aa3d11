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

from .. import postgres
from ..postgres import (
    DEADLOCK,
    INTERNAL,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    SERIALIZATION,
    DatabaseError,
    PostgresError,
    backoff,
    identifier,
    one_line,
)
from . import scratch
from .declare import DeclarationError
from .steps import ALONE, OUTSIDE, STRENGTH, Step

# Statements that are sent as one message: a round trip for each would be most of the time that a new model takes.
_BATCH = 50
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


def patience(given: dict) -> Patience:
    """From the options of the module."""
    limits = [postgres.duration(given, option, DeclarationError) for option in ("lock_timeout", "statement_timeout")]
    return Patience(limits[0], postgres.count(given, "lock_retries", DeclarationError), limits[1])


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
            except (DatabaseError, PostgresError, Refused) as error:
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
    attempt, size = 0, _BATCH
    while True:
        current, locking = unit[:1], True
        try:
            with session.transaction():
                scratch.set_path(session, schema)
                _lock(session, unit, patience)
                locking = False
                _limits(session, patience.lock, patience.statement)
                for current in _batches(unit, size):
                    _together(session, current)
            return
        except DatabaseError as error:
            busy = error.pgcode in _BUSY or (locking and error.pgcode == QUERY_CANCELED)
            if session.connection.closed or not busy and len(current) == 1:
                error.step = current[0]
                raise
            if not busy:
                # One of several failed, and none of them was kept: one by one they tell which.
                size = 1
                continue
            if attempt == patience.retries:
                raise PostgresError(
                    f"a lock was not to be had in {patience.retries + 1} attempts ({one_line(error)}); "
                    "run again when less is going on, or raise lock_timeout or lock_retries"
                ) from error
        time.sleep(backoff(attempt))
        attempt += 1


def _batches(unit: list[Step], size: int) -> t.Iterator[list[Step]]:
    """The steps in their order; a guard has an answer, and stands alone."""
    for guard, group in itertools.groupby(unit, key=lambda step: step.guard):
        steps = list(group)
        width = 1 if guard else size
        yield from (steps[first : first + width] for first in range(0, len(steps), width))


def _together(session, steps: list[Step]) -> None:
    if len(steps) == 1:
        _one(session, steps[0])
    else:
        session.run(";\n".join(step.sql for step in steps))


def _lock(session, unit: list[Step], patience: Patience) -> None:
    """Every lock that the transaction will need: the strongest first, and all within the time of one."""
    needed: dict = {}
    for step in unit:
        for table, mode in step.locks:
            if table not in needed or STRENGTH.index(mode) > STRENGTH.index(needed[table]):
                needed[table] = mode
    end = time.monotonic() + patience.lock / 1000
    for mode in reversed(STRENGTH):
        tables = sorted(identifier(*table) for table, wanted in needed.items() if wanted == mode)
        if tables:
            # The limit of the statement bounds the waits for all of its tables. 0 would be none at all.
            left = max(1, round((end - time.monotonic()) * 1000)) if patience.lock else 0
            _limits(session, left, left)
            session.run(f"LOCK TABLE {', '.join(tables)} IN {mode} MODE")


def _one(session, step: Step) -> None:
    if step.guard:
        try:
            lost = session.value(step.sql)
            problem = f"{lost} values would not survive ({step.reason})" if lost else ""
        except DatabaseError as error:
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
        except DatabaseError as error:
            if session.connection.closed:
                raise
            if step.index:
                with contextlib.suppress(DatabaseError):
                    session.run(f"DROP INDEX CONCURRENTLY IF EXISTS {identifier(*step.index)}")
            if error.pgcode not in _BUSY or attempt == patience.retries:
                raise
        time.sleep(backoff(attempt))
