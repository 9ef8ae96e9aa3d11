# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the server, in one transaction that cannot write and is rolled back, with a handful of queries however many tables there are."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import re
import typing as t

from .. import postgres
from ..postgres import DatabaseError, identifier
from . import indexes, model, plans, settings, space

AREAS = ("statements", "indexes", "settings", "bloat", "statistics")
OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
MIB = model.MIB
# Looking into a relation reads it: only the largest ones that look empty, and no index above this size.
LOOKED_INTO, LOOKED_INTO_MOST = 20, 1024 * MIB

INDEXES = f"""
SELECT i.indexrelid::int8, i.indrelid::int8, n.nspname::text, c.relname::text, tc.relname::text AS of_table, am.amname::text,
       i.indkey::text, i.indclass::text, i.indcollation::text, i.indoption::text, i.indnkeyatts::int,
       CASE WHEN i.indexprs IS NULL THEN '{{}}'::text[] ELSE
         ARRAY(SELECT pg_get_indexdef(i.indexrelid, k + 1, false) FROM generate_series(0, i.indnkeyatts - 1) k WHERE i.indkey[k] = 0) END AS expressions,
       coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS predicate, i.indisunique,
       i.indisprimary OR i.indisreplident OR i.indisclustered OR c.relispartition
         OR EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) AS bound,
       i.indisvalid AND i.indisready AS valid, coalesce(s.idx_scan, 0)::int8 AS scans, c.relpages::float8 * 8192 AS size,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) AS nulls_alike
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class tc ON tc.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_am am ON am.oid = c.relam LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = i.indexrelid
 WHERE c.relkind = 'i' AND {OURS}
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indrelid AND d.deptype = 'e')
"""
FOREIGN_KEYS = f"""
SELECT k.conname::text, k.conrelid::int8, n.nspname::text, c.relname::text, k.conkey::int[],
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(number, place)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place),
       format('%I.%I', tn.nspname, tc.relname), greatest(c.reltuples, 0)::float8, coalesce(s.n_tup_del, 0)::int8
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class tc ON tc.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = tc.relnamespace
  LEFT JOIN pg_stat_user_tables s ON s.relid = k.confrelid
 WHERE k.contype = 'f' AND k.conparentid = 0 AND {OURS}
"""
TABLES = """
SELECT c.oid::int8, n.nspname::text, c.relname::text, greatest(c.reltuples, 0)::float8, c.relpages::float8, a.attname::text, a.attnum::int,
       t.typname::text, s.n_distinct::float8, coalesce(s.null_frac, 0)::float8
  FROM unnest(%s::text[], %s::text[]) AS wanted(schema, name) JOIN pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited
"""
# Widths by the statistics, which are read once and not for each table: pg_stats asks for the rights to each column.
SPACE = f"""
WITH known AS MATERIALIZED (
       SELECT schemaname, tablename, attname, null_frac, avg_width FROM pg_stats WHERE NOT inherited),
     large AS MATERIALIZED (
       SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpages, c.reltuples, c.reloptions FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm', 'i') AND c.reltuples >= 0 AND c.relpages >= %s AND {OURS}),
     columns AS (
       SELECT l.oid, l.nspname, l.relname AS name, a.attname AS attname FROM large l JOIN pg_attribute a ON a.attrelid = l.oid
        WHERE l.relkind <> 'i' AND a.attnum > 0 AND NOT a.attisdropped
       UNION ALL
       SELECT l.oid, l.nspname, CASE WHEN a.attname IS NULL THEN l.relname ELSE tc.relname END, coalesce(a.attname, ia.attname)
         FROM large l JOIN pg_index i ON i.indexrelid = l.oid AND i.indisvalid JOIN pg_class tc ON tc.oid = i.indrelid
         JOIN pg_class c ON c.oid = l.oid JOIN pg_am am ON am.oid = c.relam AND am.amname = 'btree'
         JOIN pg_attribute ia ON ia.attrelid = l.oid AND ia.attnum > 0
         LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[ia.attnum - 1]),
     widths AS (
       SELECT c.oid, sum((1 - k.null_frac) * k.avg_width)::float8 AS width, count(*)::int AS columns, bool_or(k.null_frac > 0) AS nulls
         FROM columns c LEFT JOIN known k ON k.schemaname = c.nspname AND k.tablename = c.name AND k.attname = c.attname
        GROUP BY c.oid HAVING count(k.attname) = count(*))
SELECT CASE l.relkind WHEN 'i' THEN 'index' ELSE 'table' END AS kind, l.nspname::text, l.relname::text, l.relpages::float8, l.reltuples::float8,
       w.width, w.columns, w.nulls, coalesce((SELECT option_value::int FROM pg_options_to_table(l.reloptions) WHERE option_name = 'fillfactor'),
       CASE l.relkind WHEN 'i' THEN 90 ELSE 100 END) AS fill, l.oid::int8
  FROM large l JOIN widths w ON w.oid = l.oid
"""
NEVER_ANALYSED = f"""
WITH known AS MATERIALIZED (SELECT DISTINCT schemaname, tablename FROM pg_stats)
SELECT n.nspname::text, c.relname::text, pg_relation_size(c.oid)::float8
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_user_tables s ON s.relid = c.oid
  LEFT JOIN known k ON k.schemaname = n.nspname AND k.tablename = c.relname
 WHERE c.relkind IN ('r', 'm') AND {OURS} AND s.last_analyze IS NULL AND s.last_autoanalyze IS NULL AND k.tablename IS NULL
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
   AND pg_relation_size(c.oid) >= %s AND has_table_privilege(c.oid, 'SELECT')
"""
# A function that the planner may call while it plans somebody's statement; it would have the rights of who asks for the plan.
FOLDABLE = """
SELECT format('%I.%I', n.nspname, p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner
 WHERE p.provolatile <> 'v' AND NOT r.rolsuper AND r.rolname <> current_user ORDER BY 1 LIMIT 1
"""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The module's options."""

    areas: t.Sequence[str] = AREAS
    statements: int = 50
    least_rows: float = 10_000
    least_size: float = 10 * MIB
    least_days: float = 28
    bloat_percent: float = 30
    declared_schema: str = "customer"
    settings: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Found:
    """Advice, what to know of it, and what could not be looked at."""

    advice: list[model.Advice] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    hypothetical: bool = False
    explained: int = 0


# What the server says of a statement in which $1 stands for a constant: wrong grammar, no type that can be told, no such parameter.
WITHOUT_VALUES = ("42601", "42P18", "42P02")


class Refused(Exception):
    """The server does not answer this question; the rest goes on."""


class Looker:
    """One look at one database."""

    def __init__(self, session: postgres.Session, wanted: Wanted, timeout: int, lock_timeout: int) -> None:
        self.session, self.wanted, self.timeout, self.lock_timeout = session, wanted, timeout, lock_timeout
        self.found = Found()
        self.extensions: dict[str, str] = {}
        self.names: dict[str, set[str]] = {}
        self._indexes: t.Optional[list[indexes.Index]] = None

    def run(self) -> Found:
        path = self.session.value("SHOW search_path")
        with self.session.transaction("READ ONLY", keep=False):
            self.session.settings(True, statement_timeout=f"{self.timeout}ms", lock_timeout=f"{self.lock_timeout}ms", search_path="pg_catalog")
            with contextlib.suppress(Refused):
                # Our own questions are nobody's slow statements. Only superusers may say so.
                self._try(lambda: self.session.settings(True, **{"pg_stat_statements.track": "none"}))
            self.extensions = dict(
                self.session.rows("SELECT e.extname::text, n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace")
            )
            days, replicas = self._days(), self._replicas()
            looks = {
                "statements": lambda: self._statements(path, days),
                "indexes": lambda: self._there(days, replicas),
                "settings": lambda: self._settings(days),
                "bloat": self._bloat,
                "statistics": self._unknown,
            }
            for area in AREAS:
                if area not in self.wanted.areas:
                    continue
                try:
                    self._try(looks[area])
                except Refused as error:
                    self.found.problems.append(f"{area}: {error}")
        return self.found

    def _try(self, look: t.Callable[[], t.Any]) -> t.Any:
        """What it returns; Refused, and the transaction as before, where the server refuses."""
        self.session.run("SAVEPOINT advice")
        try:
            answer = look()
        except DatabaseError as error:
            if self.session.connection.closed:
                raise
            self.session.run("ROLLBACK TO SAVEPOINT advice; RELEASE SAVEPOINT advice")
            text = postgres.one_line(error)
            if getattr(error, "pgcode", "") == postgres.QUERY_CANCELED:
                text += "; raise statement_timeout"
            elif getattr(error, "pgcode", "") == "42501":
                text += "; log in as a superuser, or as a member of pg_monitor who may read the tables"
            elif getattr(error, "pgcode", "") in WITHOUT_VALUES:
                # Such as interval $10: the server keeps statements with parameters in places where its grammar wants a constant.
                text = "PostgreSQL keeps them without their values, and plans them only with these; EXPLAIN one by hand, with values, where it is slow"
            raise Refused(text) from None
        except BaseException:
            with contextlib.suppress(DatabaseError):
                self.session.run("ROLLBACK TO SAVEPOINT advice; RELEASE SAVEPOINT advice")
            raise
        self.session.run("RELEASE SAVEPOINT advice")
        return answer

    # -- how old the counters are

    def _days(self) -> float:
        """Days since uses are counted in this database."""
        age = self.session.value(
            "SELECT extract(epoch FROM clock_timestamp() - coalesce(d.stats_reset, b.stats_reset, pg_postmaster_start_time()))::float8"
            " FROM pg_stat_database d, pg_stat_bgwriter b WHERE d.datname = current_database()"
        )
        with contextlib.suppress(Refused):
            # A database that is younger than the server's counters.
            made = self._try(
                lambda: self.session.value(
                    "SELECT extract(epoch FROM clock_timestamp() - (pg_stat_file('base/' || oid || '/PG_VERSION', true)).modification)::float8"
                    " FROM pg_database WHERE datname = current_database()"
                )
            )
            age = min(age, made) if made is not None else age
        return max(age, 0) / 86400

    def _replicas(self) -> bool:
        standby, sending = self.session.rows(
            "SELECT pg_is_in_recovery(), EXISTS (SELECT FROM pg_stat_replication WHERE state <> 'backup')"
            " OR EXISTS (SELECT FROM pg_replication_slots WHERE slot_type = 'physical')"
        )[0]
        if standby:
            self.found.notes.append("this server is a replica: it counts its own queries only, and what is advised has to be done on the primary")
        elif sending:
            self.found.notes.append("queries on the replicas are counted there and not here: ask them, too, before an index goes")
        return standby or sending

    # -- statements

    def _statements(self, path: str, days: float) -> None:
        if "pg_stat_statements" not in self.extensions:
            self.found.problems.append(
                "statements: pg_stat_statements is not in this database; add it to shared_preload_libraries, restart PostgreSQL,"
                " and CREATE EXTENSION pg_stat_statements"
            )
            return
        place = self.extensions["pg_stat_statements"]
        rows = self.session.rows(
            "SELECT s.query, s.total_exec_time::float8, r.rolname::text, s.calls::int8, s.mean_exec_time::float8,"
            " coalesce((SELECT split_part(c, '=', 2) FROM pg_db_role_setting x, unnest(x.setconfig) c"
            "   WHERE c LIKE 'search_path=%%' AND x.setrole IN (0, s.userid) AND x.setdatabase IN (0, d.oid)"
            "   ORDER BY x.setrole <> 0 DESC, x.setdatabase <> 0 DESC LIMIT 1), '')"
            f" FROM {identifier(place, 'pg_stat_statements')} s JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid"
            " WHERE d.datname = current_database() ORDER BY s.total_exec_time DESC LIMIT %s",
            (self.wanted.statements,),
        )
        hidden = sum(row[0] == "<insufficient privilege>" for row in rows)
        if hidden:
            self.found.problems.append(
                f"statements: {hidden} of {len(rows)} are hidden from {self.session.value('SELECT current_user::text')};"
                " GRANT pg_read_all_stats to it, or log in as postgres"
            )
        with contextlib.suppress(Refused):
            age = self._try(
                lambda: self.session.value(
                    f"SELECT extract(epoch FROM clock_timestamp() - stats_reset)::float8 / 86400 FROM {identifier(place, 'pg_stat_statements_info')}"
                )
            )
            days = age if age is not None else days
        planned = self._planned(rows, path)
        self._missing(planned, max(days, 1))

    def _planned(self, rows: t.Sequence, path: str) -> list[tuple[str, dict, float, str]]:
        """(statement, its plan, seconds in all, its search_path) of those that can be planned."""
        planned = []
        refused: collections.Counter = collections.Counter()
        foreign = 0
        user = self.session.value("SELECT current_user::text")
        foldable = self.session.value(FOLDABLE)
        for query, total, role, dummy_calls, dummy_mean, own_path in rows:
            sql = plans.explainable(query)
            if not sql:
                continue
            if foldable and role != user:
                foreign += 1
                continue
            searched = re.sub(r'"?\$user"?', lambda dummy, name=role: identifier(name), own_path or path)
            try:
                plan = self._try(lambda sql=sql, searched=searched: self._plan(sql, searched))
            except Refused as error:
                refused[str(error)] += 1
                continue
            planned.append((sql, plan, total / 1000, searched))
        self.found.explained = len(planned)
        # A type that only the parameter's value tells, a table that is gone: nobody can mend that.
        self.found.notes += [f"{number} statements could not be planned: {reason}" for reason, number in refused.most_common(3)]
        if foreign:
            self.found.problems.append(
                f"statements: {foreign} were not planned: the planner might call {foldable}, which is no superuser's, with the rights of {user};"
                " make it VOLATILE or a superuser's"
            )
        return planned

    def _plan(self, sql: str, path: str) -> dict:
        """The plan for any parameters, of a statement that is not executed."""
        self.session.settings(True, search_path=path)
        try:
            if self.session.version >= 16 or not plans.parameters(sql):
                generic = "GENERIC_PLAN, " if self.session.version >= 16 else ""
                return self.session.value(f"EXPLAIN ({generic}VERBOSE, FORMAT JSON) {sql}")[0]["Plan"]
            self.session.settings(True, plan_cache_mode="force_generic_plan")
            # One that failed is still there: no rollback takes it back.
            self.session.run("DEALLOCATE ALL")
            self.session.run(f"PREPARE crm_platform_advice AS {sql}")
            values = ", ".join(["NULL"] * plans.parameters(sql))
            return self.session.value(f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE crm_platform_advice({values})")[0]["Plan"]
        finally:
            with contextlib.suppress(DatabaseError):
                self.session.settings(True, search_path="pg_catalog")

    def _missing(self, planned: t.Sequence[tuple[str, dict, float, str]], days: float) -> None:
        scans = [(number, scan) for number, (dummy, plan, *dummies) in enumerate(planned) for scan in plans.scans(plan)]
        tables = self._tables({(scan.schema, scan.table) for dummy, scan in scans})
        hypothetical = self.extensions.get("hypopg", "")
        self.found.hypothetical = bool(hypothetical)
        random_page_cost = float(self.session.value("SHOW random_page_cost"))
        candidates: dict[plans.Candidate, list[plans.Use]] = {}
        for number, scan in scans:
            table = tables.get((scan.schema, scan.table))
            if table is None or table.rows < self.wanted.least_rows:
                continue
            chosen = plans.candidate(scan, table)
            if chosen is None or self._is_there(chosen[0], table):
                continue
            sql, plan, seconds, path = planned[number]
            before = plan["Total Cost"]
            after = None
            if hypothetical:
                try:
                    after = self._try(lambda sql=sql, path=path, wanted=chosen[0]: self._with(hypothetical, sql, path, wanted))
                except Refused as error:
                    self.found.problems.append(f"statements: hypopg: {error}")
                    hypothetical = ""
            if hypothetical:
                measured, cost = True, after
            else:
                measured, cost = False, plans.estimate(scan, before, chosen[1] * table.rows, random_page_cost)
            # Twice as quick at least: an index costs each change of a row.
            if cost is None or cost > before / 2:
                continue
            candidates.setdefault(chosen[0], []).append(plans.Use(sql, before, cost, seconds / days, measured))
        if scans and not self.found.hypothetical:
            self.found.notes.append("hypopg is not in this database: what an index would bring is estimated, not asked of the planner")
        for wanted, uses in plans.merged(candidates).items():
            self.found.advice.append(self._advised(wanted, uses, tables[(wanted.schema, wanted.table)]))

    def _with(self, place: str, sql: str, path: str, wanted: plans.Candidate) -> t.Optional[float]:
        """The cost with an index that is not there; None where the planner would not use it."""
        try:
            name = self.session.value(f"SELECT indexname FROM {identifier(place, 'hypopg_create_index')}(%s)", (wanted.sql(),))
            plan = self._plan(sql, path)
        finally:
            with contextlib.suppress(DatabaseError):
                self.session.run(f"SELECT {identifier(place, 'hypopg_reset')}()")
        return plan["Total Cost"] if plans.uses(plan, name) else None

    def _advised(self, wanted: plans.Candidate, uses: t.Sequence[plans.Use], table: plans.Table) -> model.Advice:
        name = wanted.name(self._taken(wanted.schema))
        self._taken(wanted.schema).add(name)
        worst = max(uses, key=lambda one: one.gain)
        text = " ".join(worst.statement.split())
        costs = f"{worst.before:,.0f} to {worst.after:,.0f}" + ("" if worst.measured else " by estimate")
        more = f" and {len({one.statement for one in uses}) - 1} more" if len({one.statement for one in uses}) > 1 else ""
        return model.Advice(
            "missing_index",
            f"{identifier(wanted.schema, wanted.table)} ({', '.join(wanted.keys)})",
            f"about {table.rows:,.0f} rows are read from end to end; cost {costs}: {text[:120] + ('...' if len(text) > 120 else '')}{more}",
            sum(one.gain for one in uses),
            "s a day",
            wanted.sql(name, True),
            wanted.declaration(name) if wanted.schema == self.wanted.declared_schema else {},
        )

    def _tables(self, names: t.Collection[tuple[str, str]]) -> dict[tuple[str, str], plans.Table]:
        ordered = sorted(names)
        columns: dict[tuple, dict[str, plans.Column]] = {}
        heads: dict[tuple, tuple] = {}
        for row in self.session.rows(TABLES, ([one[0] for one in ordered], [one[1] for one in ordered])) if ordered else ():
            oid, schema, name, rows, pages, column, number, kind, distinct, nulls = row
            heads[(schema, name)] = (oid, schema, name, rows, pages)
            columns.setdefault((schema, name), {})[column] = plans.Column(number, kind, distinct, nulls)
        return {key: plans.Table(*head, columns[key]) for key, head in heads.items()}

    def _taken(self, schema: str) -> set[str]:
        if schema not in self.names:
            rows = self.session.rows(
                "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s", (schema,)
            )
            self.names[schema] = {row[0] for row in rows}
        return self.names[schema]

    def _there_before(self, schema: str) -> set[str]:
        """Without the names that this advice has given itself, so that equal ones get equal names."""
        return self._taken(schema) - {one.sql.split('"')[1] for one in self.found.advice if one.kind == "missing_index"}

    def _is_there(self, wanted: plans.Candidate, table: plans.Table) -> bool:
        """Whether an index begins so: then the planner has its reasons."""
        if any(function for dummy, function in wanted.columns):
            keys = [plans.plain(text) for text in wanted.keys]
            return any(
                one.table == table.oid and one.valid and any(plans.plain(key[1]) in keys for key in one.keys if key[1]) for one in self.indexes()
            )
        numbers = {table.columns[name].number for name, dummy in wanted.columns}
        return any(
            one.table == table.oid and one.valid and not one.predicate and set(one.columns[: len(numbers)]) == numbers for one in self.indexes()
        )

    # -- indexes

    def indexes(self) -> list[indexes.Index]:
        if self._indexes is None:
            self._indexes = [index_of(row) for row in self.session.rows(INDEXES)]
        return self._indexes

    def _there(self, days: float, replicas: bool) -> None:
        wanted = self.wanted
        keys = [indexes.Key(row[0], row[1], row[2], row[3], tuple(row[4]), tuple(row[5]), *row[6:]) for row in self.session.rows(FOREIGN_KEYS)]
        self.found.advice += indexes.advice(self.indexes(), keys, wanted.declared_schema, wanted.least_size, days, wanted.least_days, replicas)
        advised = {one.sql for one in self.found.advice}
        # The same index for a statement and for a foreign key is one.
        self.found.advice += [
            one
            for one in indexes.foreign_keys(keys, self.indexes(), wanted.least_rows, wanted.declared_schema, self._there_before)
            if one.sql not in advised
        ]
        if days < wanted.least_days:
            self.found.notes.append(
                f"it is too early to say that an index is unused: uses are counted since {days:.1f} days, and {wanted.least_days:g} are wanted"
            )

    # -- settings

    def _settings(self, days: float) -> None:
        known = {
            row[0]: settings.Setting(*row)
            for row in self.session.rows("SELECT name, coalesce(setting, '') AS setting, coalesce(unit, '') AS unit, source FROM pg_settings")
        }
        if self.session.version >= 17:
            sql = "SELECT num_timed, num_requested, stats_reset FROM pg_stat_checkpointer"
        else:
            sql = "SELECT checkpoints_timed, checkpoints_req, stats_reset FROM pg_stat_bgwriter"
        timed, requested, dummy = self.session.rows(sql)[0]
        written = self.session.value("SELECT temp_bytes::float8 FROM pg_stat_database WHERE datname = current_database()")
        wal = None
        with contextlib.suppress(Refused):
            # From PostgreSQL 14 on.
            wal = self._try(lambda: self.session.value("SELECT wal_bytes::float8 FROM pg_stat_wal"))
        if not self.wanted.settings:
            self.found.notes.append("settings are not compared with the host's size: nobody said what it asks for (expected_settings)")
        self.found.advice += settings.sized(known, self.wanted.settings)
        self.found.advice += settings.loaded(known, settings.Counters(days, timed, requested, written or 0, wal))
        rows = self.session.rows(
            "SELECT schemaname::text, relname::text, n_live_tup, n_dead_tup,"
            " coalesce(to_char(greatest(last_vacuum, last_autovacuum), 'YYYY-MM-DD HH24:MI'), '') FROM pg_stat_user_tables WHERE n_dead_tup >= 10000"
        )
        self.found.advice += settings.dead([settings.Changed(*row) for row in rows])

    # -- space

    def _bloat(self) -> None:
        least = self.wanted.least_size / space.PAGE
        relations = [(space.Relation(*row[:9]), row[9]) for row in self.session.rows(SPACE, (max(least, 1),))]
        suspects = sorted(
            ((space.empty(one), one, oid) for one, oid in relations if space.empty(one) >= self.wanted.least_size),
            key=lambda each: -each[0],
        )
        place = self.extensions.get("pgstattuple")
        looked = []
        for number, (dummy, one, oid) in enumerate(suspects):
            if place and number < LOOKED_INTO and one.pages * space.PAGE <= LOOKED_INTO_MOST:
                with contextlib.suppress(Refused):
                    one = self._try(lambda one=one, oid=oid: self._looked_into(place, one, oid))
            looked.append(one)
        if suspects and not place:
            self.found.notes.append("pgstattuple is not in this database: empty space is estimated from the statistics")
        self.found.advice += space.bloat(looked, self.wanted.bloat_percent, self.wanted.least_size)

    def _looked_into(self, place: str, one: space.Relation, oid: int) -> space.Relation:
        if one.kind == space.TABLE:
            free = self.session.value(
                f"SELECT (approx_free_space + dead_tuple_len)::float8 FROM {identifier(place, 'pgstattuple_approx')}(%s::oid::regclass)", (oid,)
            )
            # What fillfactor keeps free is there on purpose.
            return dataclasses.replace(one, empty=free - one.pages * space.PAGE * (100 - one.fill) / 100)
        density, empty, deleted = self.session.rows(
            f"SELECT avg_leaf_density::float8, empty_pages::float8, deleted_pages::float8 FROM {identifier(place, 'pgstatindex')}(%s::oid::regclass)",
            (oid,),
        )[0]
        pages = one.pages - empty - deleted
        density = 0.0 if math.isnan(density) else density
        return dataclasses.replace(one, empty=(one.pages - pages * min(1.0, density / one.fill)) * space.PAGE)

    # -- statistics

    def _unknown(self) -> None:
        self.found.advice += space.unknown(self.session.rows(NEVER_ANALYSED, (MIB,)))


def index_of(row: t.Sequence) -> indexes.Index:
    """A row of INDEXES."""
    (
        oid,
        table,
        schema,
        name,
        table_name,
        method,
        columns,
        classes,
        collations,
        options,
        count,
        expressions,
        predicate,
        unique,
        bound,
        valid,
        *rest,
    ) = row
    numbers = [int(word) for word in columns.split()]
    expressions = iter(expressions)
    each = zip(numbers[:count], classes.split(), collations.split(), options.split())
    keys = tuple((number, next(expressions) if number == 0 else "", *more) for number, *more in each)
    scans, size, nulls_alike = rest
    return indexes.Index(
        oid,
        table,
        schema,
        name,
        table_name,
        method,
        keys,
        frozenset(numbers[count:]),
        predicate,
        unique,
        bound,
        valid,
        scans,
        size,
        not nulls_alike,
    )
