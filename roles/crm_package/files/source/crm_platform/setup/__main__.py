# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`crm-platform-setup [--check]`: JSON on standard input, one line of JSON back.

Input, all but `database` may be left out:

  {"database": "crm", "modules": ["party"], "languages": ["en", "de"],
   "admin": {"email": "admin@example.com", "password": "..."},
   "company": {"name": "Example", "currency": "EUR", "timezone": "Europe/Berlin"},
   "currencies": ["EUR"], "countries": ["DE"] or "all", "subdivisions": true}

Output: {"changed": true, "changes": [{"object", "before", "after"}], "series": "8.0"}.
Status: 0 done, 1 failed, 2 the input or the database does not allow it, 75 the
database cannot be reached, 78 the configuration cannot be used; where it is not
0, one line on standard error says why.

Password, e-mail and company are made once; what users change later stays.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from crm_platform import settings
from crm_platform.setup import desired as wanted
from crm_platform.setup import facts, plan, reference

# The advisory lock of this program, in the database that it works on.
LOCK = 0x63726D_7365
LOCK_WAIT = 900


# Statuses from sysexits.h, for callers that can wait or mend.
REFUSED, UNREACHABLE, MISCONFIGURED = 2, 75, 78


class SetupError(Exception):
    """What went wrong, in one line."""


class Unreachable(SetupError):
    """There is no database to work on."""


def connect(path: str, database: str):
    """A connection of our own, for the facts and the lock."""
    import psycopg

    from crm_platform.pool import TCP_OPTIONS

    uri = settings.conninfo(settings.parse(path), database)
    given = psycopg.conninfo.conninfo_to_dict(uri)
    options = {name: value for name, value in TCP_OPTIONS.items() if name not in given}
    try:
        return psycopg.connect(uri, autocommit=True, application_name="crm-platform-setup", **options)
    except psycopg.OperationalError as exc:
        raise Unreachable(f"the database {database} cannot be reached: {_line(exc)}") from None


def lock(connection, seconds: float = LOCK_WAIT) -> None:
    """One setup at a time. The lock ends with the connection, however this process ends."""
    deadline = time.monotonic() + seconds
    while not connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone()[0]:
        if time.monotonic() > deadline:
            raise SetupError(f"another crm-platform-setup has been at work for {seconds:.0f} s; wait for it or stop it")
        time.sleep(0.5)


def make_plan(desired, seen, path: str):
    parted = reference.subdivisions(desired.countries) if desired.subdivisions else {}
    length = settings.parse(path).getint("password", "length", fallback=8)
    return plan.make(desired, seen, reference.versions(), parted, length)


def converge(path: str, desired, check: bool):
    """Return the executed plan, or with check the one that would be."""
    with connect(path, desired.database) as connection:
        todo = make_plan(desired, facts.read(connection), path)
        if check or not todo.changes:
            return todo
        lock(connection)
        # What another run has done while this one waited is no change of ours.
        todo = make_plan(desired, facts.read(connection), path)
        if todo.changes:
            execute(connection, desired, todo)
            left = make_plan(desired, facts.read(connection), path).changes
            if left:
                raise SetupError(f"{left[0].object} is {left[0].before} after all; see the journal of PostgreSQL")
        return todo


def execute(connection, desired, todo) -> None:
    from crm_platform.setup import apply

    applier = apply.Applier(desired)
    applier.update(todo)
    if todo.update:
        facts.note_versions(connection, reference.versions())
    applier.fill(todo)


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__


def _status(exc: Exception) -> int:
    for kinds, status in (
        ((wanted.DesiredError, plan.PlanError), REFUSED),
        (Unreachable, UNREACHABLE),
        (settings.SettingsError, MISCONFIGURED),
    ):
        if isinstance(exc, kinds):
            return status
    return 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="crm-platform-setup", description="Bring the CRM's database to what standard input says.")
    parser.add_argument("--check", action="store_true", help="only say what would change")
    parser.add_argument("--debug", action="store_true", help="show where a failure comes from")
    options = parser.parse_args(arguments)
    path = settings.prepare("crm-platform-setup")
    try:
        desired = wanted.parse(sys.stdin.read())
        done = converge(path, desired, options.check)
    except Exception as exc:
        if options.debug:
            raise
        print(f"crm-platform-setup: {_line(exc)}", file=sys.stderr)
        return _status(exc)
    changes = [change._asdict() for change in done.changes]
    print(json.dumps({"changed": bool(changes), "changes": changes, "series": reference.series()}, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
