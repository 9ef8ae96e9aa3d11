# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables whose oldest rows near the wraparound of the transaction numbers: frozen, the oldest first, within a time."""

from __future__ import annotations

import time
import typing as t

from .. import postgres
from ..health import database as _checks  # noqa: F401  # pylint: disable=unused-import  # it registers the check whose limit holds
from ..health.registry import REGISTRY
from .registry import Repair, Step, repair

NUMBERS = 2147483647
LIMIT = REGISTRY["db_wraparound"].warning
DATABASES = """
SELECT datname::text AS name, datallowconn AS open, greatest(age(datfrozenxid), mxid_age(datminmxid))::int8 AS age FROM pg_database ORDER BY 3 DESC, 1
"""
# A table is as old as its TOAST table, which VACUUM takes along.
TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relpersistence = 't' AS temporary,
  greatest(age(c.relfrozenxid), mxid_age(c.relminmxid), age(s.relfrozenxid), mxid_age(s.relminmxid))::int8 AS age
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class s ON s.oid = c.reltoastrelid
WHERE c.relkind IN ('r', 'm') ORDER BY 4 DESC, 1, 2
"""
HOLDERS = """
SELECT 'process ' || pid || ' of ' || coalesce(usename, backend_type) || ': SELECT pg_terminate_backend(' || pid || ')' AS cure,
  greatest(age(backend_xmin), age(backend_xid)) AS age
  FROM pg_stat_activity WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
UNION ALL SELECT 'slot ' || slot_name || ': start its reader, or drop it', greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots
  WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
UNION ALL SELECT 'prepared transaction ' || gid || ': ROLLBACK PREPARED or COMMIT PREPARED it', age(transaction) FROM pg_prepared_xacts
ORDER BY 2 DESC
"""


def percent(age: float) -> float:
    return round(100 * age / NUMBERS, 3)


def floor(options: t.Mapping[str, t.Any]) -> float:
    """The age from which something is too old."""
    return options["wraparound_percent"] / 100 * NUMBERS


@repair("vacuum_wraparound", "Freeze the oldest tables", ("db_wraparound",))
class VacuumWraparound(Repair):
    @staticmethod
    def problem(options):
        if not 0 < options["wraparound_percent"] < 100:
            return f"wraparound_percent is {options['wraparound_percent']:g}; give a share above 0 and below 100, such as {LIMIT:g}"
        return ""

    def look(self, host, outcome):
        if not host.has_database:
            return []
        found = []
        for database in host.session().rows(DATABASES):
            old = database.age >= floor(host.options)
            found.append((database, host.session(database.name).rows(TABLES) if old and database.open else []))
        outcome.facts["before"] = {database.name: percent(database.age) for database, dummy in found}
        return found

    def plan(self, found, options, outcome):
        chosen: list[tuple] = []
        for database, tables in found:
            if database.age < floor(options):
                continue
            if not database.open:
                outcome.notes.append(f"{database.name} lets nobody in; autovacuum freezes it by itself")
                continue
            old = [table for table in tables if table.age is not None and table.age >= floor(options)]
            outcome.notes += [f"{table.schema}.{table.name} belongs to another session; it ends with that" for table in old if table.temporary]
            lasting = [table for table in old if not table.temporary]
            # The database's own number is set by a VACUUM; one of the oldest table will do.
            lasting = lasting or [table for table in tables if not table.temporary][:1]
            chosen += [(table.age or 0, database.name, table) for table in lasting]
        steps = []
        for age, database_name, table in sorted(chosen, key=lambda one: -one[0]):
            name = postgres.identifier(table.schema, table.name)
            text = f"VACUUM (FREEZE) {name} of {database_name} (age {age:,}, {percent(age):g} %)"
            steps.append(Step(text, "vacuum", (database_name, table.schema, table.name), f"{database_name} {name}: age {age:,}", ""))
        return steps

    def carry_out(self, host, found, outcome):
        end, done = time.monotonic() + host.options["max_seconds"], []
        outcome.facts["finished"] = True
        for number, step in enumerate(outcome.steps):
            left = end - time.monotonic()
            if left < 1 and number:
                break
            done.append(step)
            self.vacuum(host, step, max(left, 1), outcome)
        if len(done) < len(outcome.steps):
            outcome.facts["finished"] = False
            outcome.notes.append(
                f"max_seconds ({host.options['max_seconds']}) is over, {len(outcome.steps) - len(done)} tables are left; run it again"
            )
        outcome.facts["planned"], outcome.steps = len(outcome.steps), done
        self.settle(host, found, outcome)

    @staticmethod
    def vacuum(host, step, seconds, outcome) -> None:
        database, *names = step.what
        session, name = host.session(database), postgres.identifier(*names)
        session.settings(lock_timeout=f"{host.options['lock_timeout']}s", statement_timeout=f"{int(seconds * 1000)}ms")
        try:
            session.run(f"VACUUM (FREEZE) {name}")
        except postgres.DatabaseError as error:
            outcome.facts["finished"] = outcome.facts["finished"] and error.pgcode not in (postgres.QUERY_CANCELED, postgres.LOCK_NOT_AVAILABLE)
            if error.pgcode == postgres.QUERY_CANCELED:
                outcome.notes.append(f"{name} of {database} was not done in time; what was frozen stays so")
            elif error.pgcode == postgres.LOCK_NOT_AVAILABLE:
                outcome.notes.append(f"{name} of {database} is locked, perhaps by autovacuum, which does the same; run it again")
            elif error.pgcode != "42P01":  # it was dropped meanwhile
                outcome.left.append(f"{name} of {database}: {postgres.one_line(error)}")
        finally:
            session.settings(statement_timeout="0")

    def settle(self, host, found, outcome):
        after = host.session().rows(DATABASES)
        outcome.facts["after"] = {database.name: percent(database.age) for database in after}
        old = [database for database in after if database.open and database.age >= floor(host.options)]
        # What is done by the next run is no failure of this one.
        if old and outcome.facts["finished"] and not outcome.left:
            holder = next(iter(host.session().rows(HOLDERS)), None)
            why = f"what holds it: {holder.cure}" if holder else "run it again"
            outcome.left.append(f"{old[0].name} is at {percent(old[0].age):g} % still; {why}")
