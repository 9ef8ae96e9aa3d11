# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that PostgreSQL does not use: built anew beside the work, leftovers of earlier builds dropped."""

from __future__ import annotations

import re
import typing as t

from .. import postgres
from .registry import Outcome, Repair, Step, repair

# What identifies an index beside its name: two with the same are twins.
QUERY = """
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, i.indrelid::int8 AS relation,
  format('%I.%I', tn.nspname, tc.relname) AS relation_name, i.indisvalid AND i.indisready AS valid, i.indisexclusion AS exclusion,
  (SELECT conname::text FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x') LIMIT 1) AS constraint_name,
  concat_ws('|', i.indkey, i.indclass, i.indcollation, i.indoption, i.indisunique, pg_get_expr(i.indexprs, i.indrelid),
    pg_get_expr(i.indpred, i.indrelid), c.relam) AS definition,
  EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid) AS in_work, tn.nspname = 'pg_toast' AS toast
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class tc ON tc.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = tc.relnamespace
WHERE c.relkind = 'i' AND c.relpersistence <> 't'
  AND i.indrelid IN (SELECT indrelid FROM pg_index WHERE NOT indisvalid OR NOT indisready)
ORDER BY n.nspname, c.relname
"""
LEFTOVER = re.compile(r"^(?P<base>.+)_cc(?:new|old)\d*$")


def leftover_of(index: t.Any, others: t.Iterable[t.Any]) -> t.Any:
    """The index that this one was to take the place of, or had; None where it is none of a build that was cut off.

    The name alone proves nothing: there has to be a twin whose name it was made from, which PostgreSQL may have shortened.
    """
    match = LEFTOVER.match(index.name)
    if not match or index.valid or index.constraint_name:
        return None
    shortened = len(index.name.encode()) >= postgres.NAME_BYTES - 1
    for other in others:
        same = other.oid != index.oid and other.relation == index.relation and other.definition == index.definition
        if same and (other.name == match["base"] or shortened and other.name.startswith(match["base"])):
            return other
    return None


@repair("rebuild_invalid_indexes", "Build invalid indexes anew, beside the work", ("db_invalid_indexes",))
class RebuildInvalidIndexes(Repair):
    def look(self, host, outcome):
        return host.session().rows(QUERY) if host.has_database else []

    def plan(self, found, options, outcome):
        drops, builds = [], []
        for index in found:
            if index.valid:
                continue
            name = postgres.identifier(index.schema, index.name)
            if index.in_work:
                outcome.notes.append(f"an index of {index.relation_name} is being built just now; {name} is left alone")
                continue
            twin = leftover_of(index, found)
            if twin:
                text = f"DROP INDEX CONCURRENTLY {name} (left by a build of {twin.name} that was cut off)"
                drops.append(Step(text, "drop", (index.schema, index.name), f"{name}: left over", ""))
            elif index.exclusion or index.toast:
                outcome.left.append(f"{name} cannot be built beside the work; in a quiet hour: REINDEX TABLE {index.relation_name}")
            else:
                of = f", of the constraint {index.constraint_name}" if index.constraint_name else ""
                text = f"REINDEX INDEX CONCURRENTLY {name} (invalid{of})"
                builds.append(Step(text, "reindex", (index.schema, index.name, index.relation), f"{name}: invalid", f"{name}: valid"))
        return drops + builds

    def carry_out(self, host, found, outcome):
        # One whose controller was cut off may go on for a moment; what it leaves is then planned too.
        with host.session().exclusively("the repair of indexes", 30):
            again = Outcome()
            again.steps = self.plan(self.look(host, again), host.options, again)
            outcome.steps, outcome.left, outcome.notes = again.steps, again.left, again.notes
            super().carry_out(host, found, outcome)

    def do(self, host, step, outcome):
        session, name = host.session(), postgres.identifier(*step.what[:2])
        session.settings(lock_timeout=f"{host.options['lock_timeout']}s")
        try:
            session.run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}" if step.verb == "drop" else f"REINDEX INDEX CONCURRENTLY {name}")
        except postgres.DatabaseError as error:
            outcome.left.append(f"{name}: {explained(error)}")
            if step.verb == "reindex":
                self.tidy(host, step.what)

    def tidy(self, host, what) -> None:
        """What a build that failed leaves goes at once; where that fails too, the next run sees it."""
        found = [index for index in self.look(host, Outcome()) if index.relation == what[2] and not index.in_work]
        for index in found:
            twin = leftover_of(index, found)
            if twin and twin.name == what[1]:
                try:
                    host.session().run(f"DROP INDEX CONCURRENTLY IF EXISTS {postgres.identifier(index.schema, index.name)}")
                except postgres.DatabaseError:
                    pass

    def settle(self, host, found, outcome):
        named = " ".join(outcome.left)
        for index in self.look(host, Outcome()):
            name = postgres.identifier(index.schema, index.name)
            if not index.valid and name not in named and not index.in_work:
                outcome.left.append(f"{name} is invalid still; run the repair again, or DROP INDEX CONCURRENTLY {name}")


def explained(error: t.Any) -> str:
    """PostgreSQL's complaint without the rows that it may quote, and the cure."""
    told = getattr(error, "diag", None)
    message = " ".join(str((told and told.message_primary) or type(error).__name__).split())
    code = getattr(error, "pgcode", "")
    if code == "23505":
        return f"{message}; rows are there twice: make them unique, then run the repair again"
    if code in (postgres.LOCK_NOT_AVAILABLE, postgres.QUERY_CANCELED):
        return f"{message}; a transaction is in the way (see db_idle_in_transaction, db_longest_query): run again when it has ended, or raise lock_timeout"
    return message
