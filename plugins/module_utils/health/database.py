# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database: whether it answers, who waits, what grows, what is lost.

Sources of the limits: pgmonitor's alert rules, awesome-prometheus-alerts, check_postgres, pghero, CloudNativePG; "own" where none had one.
"""

from __future__ import annotations

import typing as t

from . import drift  # noqa: F401  # pylint: disable=unused-import  # it registers its checks
from .registry import CRITICAL, OK, WARNING, Reading, Skipped, TimeOver, check

# Not PostgreSQL's own.
OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'"
MIB = 1024 * 1024


def listed(names: t.Sequence[str], count: int = 3) -> str:
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")


# What PostgreSQL says where all its connections are taken.
FULL = ("too many clients", "too many connections", "remaining connection slots")


@check("db_up", "database", cure="systemctl status postgresql; journalctl -u 'postgresql@*' -n 50", source="pgmonitor", repair="restart_services")
def answers(host):
    """PostgreSQL answers"""
    try:
        version = host.database.value("SHOW server_version")
    except Skipped:
        raise
    except TimeOver:
        why = host.overload()
        if not why:
            raise
        return Reading(None, f"PostgreSQL does not answer in time: {why}", CRITICAL, "see load for what takes the processors", "")
    except OSError as error:
        if any(words in str(error) for words in FULL):
            # A restart would end every session, and they would come again.
            cure = "see who holds the sessions: ps -u postgres -o args; end idle ones, or raise database_max_connections"
            return Reading(None, str(error), CRITICAL, cure, "")
        return Reading(None, str(error), CRITICAL)
    return Reading(None, f"PostgreSQL {version.split()[0]} answers")


@check(
    "db_connections",
    "database",
    "%",
    75,
    90,
    "SELECT usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2; end idle ones or raise max_connections",
    "pgmonitor",
)
def connections(host):
    """Connections in use"""
    used, most = host.database.row(
        "SELECT count(*) FILTER (WHERE backend_type = 'client backend'),"
        " current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int FROM pg_stat_activity"
    )
    host.series["connections"] = used
    return Reading(100 * used / most, f"{used} of {most} connections are in use")


@check(
    "db_idle_in_transaction",
    "database",
    "s",
    300,
    900,
    "SELECT pg_terminate_backend(PID) ends it; set idle_in_transaction_session_timeout",
    "pgmonitor",
)
def idle_in_transaction(host):
    """Longest transaction that does nothing"""
    rows = host.database.rows(
        "SELECT extract(epoch FROM clock_timestamp() - state_change)::float8, pid, coalesce(usename, '') FROM pg_stat_activity"
        " WHERE state LIKE 'idle in transaction%' ORDER BY state_change LIMIT 1"
    )
    if not rows:
        return Reading(0, "no transaction is idle")
    seconds, pid, user = rows[0]
    return Reading(
        seconds, f"process {pid} of {user} has done nothing in its transaction for {seconds:.0f} s", cure=f"SELECT pg_terminate_backend({pid})"
    )


@check("db_longest_query", "database", "s", 3600, 43200, "look at the query; SELECT pg_cancel_backend(PID) stops it", "pgmonitor, tighter")
def longest_query(host):
    """Longest running query"""
    rows = host.database.rows(
        "SELECT extract(epoch FROM clock_timestamp() - query_start)::float8, pid, coalesce(usename, '') AS usename,"
        # No more of it: what a statement holds, such as a customer's name, is nothing for a report.
        " coalesce(upper(substring(query FROM '^\\s*([[:alpha:]]+)')), 'a statement') AS said FROM pg_stat_activity"
        " WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY query_start LIMIT 1"
    )
    if not rows:
        return Reading(0, "no query is running")
    seconds, pid, user, query = rows[0]
    return Reading(
        seconds,
        f"process {pid} of {user} runs for {seconds:.0f} s: {query}",
        cure=f"SELECT query FROM pg_stat_activity WHERE pid = {pid}; SELECT pg_cancel_backend({pid}) stops it",
    )


@check("db_lock_waits", "database", "s", 60, 120, "SELECT * FROM pg_blocking_pids(PID); end the one that blocks", "check_postgres")
def lock_waits(host):
    """Longest wait for a lock"""
    rows = host.database.rows(
        # Without a start the wait has just begun.
        "SELECT coalesce(extract(epoch FROM clock_timestamp() - min(waitstart)), 0)::float8, pid, pg_blocking_pids(pid)"
        " FROM pg_locks WHERE NOT granted GROUP BY pid ORDER BY 1 DESC LIMIT 1"
    )
    if not rows:
        return Reading(0, "nobody waits for a lock")
    seconds, pid, others = rows[0]
    blocking = ", ".join(map(str, others)) or "somebody who has just gone"
    return Reading(
        seconds, f"process {pid} has waited {seconds:.0f} s for {blocking}", cure=f"SELECT pg_terminate_backend({others[0]})" if others else ""
    )


@check("db_deadlocks", "database", "a day", 10, 100, "the server's log names the statements; have them lock in one order", "CloudNativePG")
def deadlocks(host):
    """Deadlocks"""
    number = host.database.value("SELECT coalesce(sum(deadlocks), 0)::float8 FROM pg_stat_database")
    grown = host.rate("deadlocks", number)
    if grown is None:
        raise Skipped("there is no earlier run to compare with")
    # A single one in a short while is no trend.
    day = grown[0] * min(1, 86400 / max(grown[1], 1)) if grown[1] > 86400 else grown[0]
    return Reading(day, f"{grown[0]:.0f} deadlocks in {grown[1] / 3600:.1f} hours")


@check("db_rollbacks", "database", "%", 10, 50, "find who fails in the server's log", "awesome-prometheus-alerts, looser")
def rollbacks(host):
    """Share of transactions that are rolled back"""
    done, undone = host.database.row(
        "SELECT sum(xact_commit)::float8 AS done, sum(xact_rollback)::float8 AS undone FROM pg_stat_database WHERE datname = current_database()"
    )
    grown, lost = host.rate("commits", done), host.rate("rollbacks", undone)
    if grown is None or lost is None or grown[0] + lost[0] < 1000:
        raise Skipped("there are too few transactions since the last run")
    share = 100 * lost[0] / (grown[0] + lost[0])
    return Reading(share, f"{lost[0]:.0f} of {grown[0] + lost[0]:.0f} transactions were rolled back")


@check(
    "db_wraparound",
    "database",
    "%",
    50,
    75,
    "end old transactions and slots; VACUUM FREEZE the oldest tables",
    "pgmonitor",
    repair="vacuum_wraparound",
)
def wraparound(host):
    """Transaction numbers used up before the database stops"""
    share, name = host.database.row(
        "SELECT 100.0 * greatest(age(datfrozenxid), mxid_age(datminmxid))::float8 / 2146483647, datname FROM pg_database ORDER BY 1 DESC LIMIT 1"
    )
    return Reading(share, f"{share:.1f} % of the transaction numbers are used in {name}")


@check("db_replication_lag", "database", "MiB", 50, 100, "look at the replica's log and at the network between", "pgmonitor")
def replication_lag(host):
    """Replicas behind"""
    rows = host.database.rows(
        "SELECT coalesce(nullif(application_name, ''), client_addr::text), pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, sent_lsn))::float8"
        " FROM pg_stat_replication WHERE NOT pg_is_in_recovery() AND state <> 'backup' AND coalesce(replay_lsn, sent_lsn) IS NOT NULL ORDER BY 2 DESC"
    )
    if not rows:
        raise Skipped("there is no replica")
    return Reading(rows[0][1] / MIB, f"{rows[0][0]} is {rows[0][1] / MIB:.1f} MiB behind")


@check(
    "db_replication_slots",
    "database",
    cure="start what reads it; to drop it instead, with -e repair_slot=NAME -e repair_confirm=NAME",
    source="pgmonitor",
    repair="drop_dead_slot",
)
def replication_slots(host):
    """Replication slots that nobody reads"""
    rows = host.database.rows(
        "SELECT slot_name::text, coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
        " ELSE pg_current_wal_lsn() END, restart_lsn), 0)::float8 FROM pg_replication_slots WHERE NOT active AND NOT temporary"
    )
    if not rows:
        return Reading(0, "no slot is without its reader")
    kept = max(row[1] for row in rows)
    return Reading(len(rows), f"nobody reads {listed([row[0] for row in rows])}, which keeps {kept / MIB:.0f} MiB of WAL", CRITICAL)


@check("db_archive", "database", cure="the server's log tells why archive_command fails; WAL stays on the disk until it works", source="pgmonitor")
def archive(host):
    """WAL is archived"""
    if host.database.setting("archive_mode") == "off":
        raise Skipped("WAL is not archived on this server")
    row = host.database.row(
        "SELECT last_failed_time > coalesce(last_archived_time, '-infinity'), last_failed_wal,"
        " extract(epoch FROM now() - last_failed_time)::float8, failed_count FROM pg_stat_archiver"
    )
    if row[0]:
        return Reading(row[2], f"{row[1]} could not be archived, tried last {row[2]:.0f} s ago", CRITICAL)
    return Reading(0, "the last WAL file was archived")


@check("db_archive_age", "database", "s", 7200, 21600, "archive_timeout ends a WAL file in time; see db_archive")
def archive_age(host):
    """Age of the oldest WAL that is not archived"""
    if host.database.setting("archive_mode") == "off":
        raise Skipped("WAL is not archived on this server")
    waiting = host.database.rows(
        "SELECT count(*), coalesce(extract(epoch FROM now() - min(modification)), 0)::float8 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    )[0]
    return Reading(waiting[1], f"{waiting[0]} WAL files wait to be archived")


@check(
    "db_checksums", "database", cure="restore the block from a backup: crm.platform.restore; do not write to the table until then", source="pgmonitor"
)
def checksums(host):
    """Blocks whose checksum is wrong"""
    rows = host.database.rows("SELECT coalesce(datname, 'shared'), checksum_failures FROM pg_stat_database WHERE checksum_failures > 0")
    if rows:
        return Reading(sum(row[1] for row in rows), f"{sum(row[1] for row in rows)} failures in {listed([row[0] for row in rows])}", CRITICAL)
    if host.database.setting("data_checksums") == "off":
        return Reading(None, "the cluster has no checksums", WARNING, "pg_checksums --enable while PostgreSQL is stopped")
    return Reading(0, "no checksum was wrong")


@check(
    "db_cache_hit", "database", "%", 95, 80, "raise shared_buffers or memory; look for scans of whole tables", "postgresqltuner, looser", least=True
)
def cache_hit(host):
    """Blocks that were found in memory"""
    hit, read = host.database.row(
        "SELECT sum(blks_hit)::float8 AS hit, sum(blks_read)::float8 AS read FROM pg_stat_database WHERE datname = current_database()"
    )
    more_hit, more_read = host.rate("blocks_hit", hit), host.rate("blocks_read", read)
    if more_hit is None or more_read is None or more_hit[0] + more_read[0] < 100_000:
        raise Skipped("too little was read since the last run")
    share = 100 * more_hit[0] / (more_hit[0] + more_read[0])
    return Reading(share, f"{share:.1f} % of the blocks were in memory")


@check("db_dead_tuples", "database", "%", 20, 40, "VACUUM (ANALYZE) the table", "awesome-prometheus-alerts, looser")
def dead_tuples(host):
    """Dead rows in the worst table of more than 10,000 of them"""
    rows = host.database.rows(
        "SELECT 100.0 * n_dead_tup::float8 / (n_live_tup + n_dead_tup), format('%I.%I', schemaname, relname) FROM pg_stat_user_tables"
        " WHERE n_dead_tup > 10000 ORDER BY 1 DESC LIMIT 1"
    )
    if not rows:
        return Reading(0, "no table has more than 10,000 dead rows")
    return Reading(rows[0][0], f"{rows[0][0]:.0f} % of {rows[0][1]} are dead rows", cure=f"VACUUM (ANALYZE) {rows[0][1]}")


@check(
    "db_vacuum_age",
    "database",
    "d",
    30,
    90,
    "see whether autovacuum is on and comes to an end: SELECT * FROM pg_stat_progress_vacuum",
    "awesome-prometheus-alerts, looser",
)
def vacuum_age(host):
    """Time since the statistics of a large, changing table were made"""
    rows = host.database.rows(
        "SELECT extract(epoch FROM now() - coalesce(greatest(last_analyze, last_autoanalyze), pg_postmaster_start_time()))::float8 / 86400,"
        " format('%I.%I', schemaname, relname) FROM pg_stat_user_tables"
        " WHERE n_mod_since_analyze > 10000 AND n_mod_since_analyze > 0.2 * n_live_tup ORDER BY 1 DESC LIMIT 1"
    )
    if not rows:
        return Reading(0, "all statistics are fresh")
    return Reading(rows[0][0], f"{rows[0][1]} changed and was analysed {rows[0][0]:.1f} days ago", cure=f"ANALYZE {rows[0][1]}")


@check("db_bloat", "database", "%", 80, 95, "VACUUM FULL while the CRM is down, or pg_repack", "awesome-prometheus-alerts")
def bloat(host):
    """Estimated empty space in the worst table of more than 200 MB"""
    rows = host.database.rows(
        "SELECT format('%I.%I', n.nspname, c.relname), c.relpages::float8, c.reltuples::float8,"
        " (SELECT coalesce(sum((1 - s.null_frac) * s.avg_width), 0)::float8 FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'm') AND c.relpages > 25600 AND c.reltuples > 0 AND {OURS} ORDER BY c.relpages DESC LIMIT 50"
    )
    found = []
    for name, pages, tuples, width in rows:
        # A row's head of 24 bytes, its pointer of 4, on pages of 8,168 usable bytes.
        needed = max(1.0, tuples * (width + 28) / 8168)
        found.append((max(0.0, 100 * (1 - needed / pages)), name))
    if not found:
        return Reading(0, "no table is larger than 200 MB")
    share, name = max(found)
    return Reading(share, f"about {share:.0f} % of {name} are empty")


@check("db_invalid_indexes", "database", cure="REINDEX INDEX CONCURRENTLY NAME", source="postgresqltuner", repair="rebuild_invalid_indexes")
def invalid_indexes(host):
    """Indexes that PostgreSQL does not use"""
    rows = host.database.rows(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE (NOT i.indisvalid OR NOT i.indisready) AND c.relkind = 'i'"
        " AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid) ORDER BY 1"
    )
    names = [row[0] for row in rows]
    return Reading(len(names), f"{listed(names)} cannot be used" if names else "all indexes are valid", WARNING if names else OK)


@check("db_unused_indexes", "database", "MiB", 1024, None, "DROP INDEX CONCURRENTLY what no query needs, on the replicas neither", "pghero, larger")
def unused_indexes(host):
    """Size of indexes of more than 10 MB that nobody used in four weeks of statistics"""
    age, *dummy = host.database.row(
        "SELECT coalesce(extract(epoch FROM now() - stats_reset), extract(epoch FROM now() - pg_postmaster_start_time()))::float8"
        " FROM pg_stat_database WHERE datname = current_database()"
    )
    if age < 28 * 86400:
        raise Skipped(f"the statistics are {age / 86400:.1f} days old; four weeks are needed")
    rows = host.database.rows(
        "SELECT format('%I.%I', s.schemaname, s.indexrelname), c.relpages::float8 * 8192 FROM pg_stat_user_indexes s"
        " JOIN pg_index i USING (indexrelid) JOIN pg_class c ON c.oid = s.indexrelid"
        " WHERE s.idx_scan = 0 AND NOT i.indisunique AND c.relpages > 1280 ORDER BY 2 DESC"
    )
    size = sum(float(row[1]) for row in rows) / MIB
    return Reading(size, f"nobody uses {listed([row[0] for row in rows])}" if rows else "all large indexes are used")


@check(
    "db_missing_indexes",
    "database",
    "tables",
    1,
    None,
    "EXPLAIN the queries on it; declare an index in crm_customer_tables, or CREATE INDEX CONCURRENTLY",
    "pghero",
)
def missing_indexes(host):
    """Large tables that are mostly read from end to end"""
    rows = host.database.rows(
        "SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables WHERE n_live_tup > 100000 AND seq_scan > 1000"
        " AND seq_scan > 10 * coalesce(idx_scan, 0) ORDER BY seq_tup_read DESC"
    )
    names = [row[0] for row in rows]
    return Reading(len(names), f"{listed(names)} are read from end to end" if names else "no large table is")


@check("db_duplicate_indexes", "database", "indexes", 1, None, "DROP INDEX CONCURRENTLY one of the two", "pghero")
def duplicate_indexes(host):
    """Indexes of more than 1 MiB that are there twice"""
    rows = host.database.rows(
        "SELECT format('%I and %I on %s', min(c.relname), max(c.relname), i.indrelid::regclass) FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        # The size as VACUUM and ANALYZE saw it: to ask for it opens each index, and waits where one is locked.
        f" WHERE i.indisvalid AND c.relpages > 128 AND {OURS}"
        " GROUP BY i.indrelid, i.indkey::text, i.indclass::text, i.indoption::text, i.indcollation::text, pg_get_expr(i.indexprs, i.indrelid),"
        " pg_get_expr(i.indpred, i.indrelid), c.relam, i.indnkeyatts"
        " HAVING count(*) > 1 AND count(*) FILTER (WHERE NOT i.indisunique) > 0 ORDER BY 1"
    )
    names = [row[0] for row in rows]
    return Reading(len(names), listed(names) if names else "no index is there twice")


@check("db_slow_statements", "database", "ms", 500, 5000, "EXPLAIN (ANALYZE, BUFFERS) it; an index or a limit may help", "pghero, looser")
def slow_statements(host):
    """Mean time of the slowest statement that ran at least 100 times"""
    if not host.database.has("pg_stat_statements"):
        raise Skipped("pg_stat_statements is not in this database")
    rows = host.database.rows(
        "SELECT mean_exec_time, calls, left(query, 100) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
        " WHERE d.datname = current_database() AND calls >= 100 ORDER BY mean_exec_time DESC LIMIT 1"
    )
    if not rows:
        return Reading(0, "no statement has run 100 times")
    return Reading(rows[0][0], f"{rows[0][0]:.0f} ms a run, {rows[0][1]} runs: {rows[0][2]}")


@check(
    "db_sequences",
    "database",
    "%",
    85,
    95,
    "make the column a bigint: declare its type so, or ALTER TABLE ... ALTER COLUMN ... TYPE bigint",
    "check_postgres",
)
def sequences(host):
    """Numbers used up of the fullest sequence, within its column's type"""
    rows = host.database.rows(
        "SELECT 100.0 * s.last_value::float8 / least(s.max_value::float8, coalesce(CASE a.atttypid WHEN 'int2'::regtype THEN 32767"
        " WHEN 'int4'::regtype THEN 2147483647 END, s.max_value)::float8), format('%I.%I', s.schemaname, s.sequencename) FROM pg_sequences s"
        " JOIN pg_class c ON c.oid = format('%I.%I', s.schemaname, s.sequencename)::regclass"
        " LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"
        " LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid"
        " WHERE s.last_value IS NOT NULL AND NOT s.cycle AND s.increment_by > 0 ORDER BY 1 DESC LIMIT 1"
    )
    if not rows:
        return Reading(0, "no sequence was used yet")
    return Reading(rows[0][0], f"{rows[0][1]} has used {rows[0][0]:.1f} %")


@check("db_pending_restart", "database", cure="systemctl restart postgresql@VERSION-main, or run crm.platform.database", source="pgmonitor")
def pending_restart(host):
    """Settings that wait for a restart"""
    names = [row[0] for row in host.database.rows("SELECT name FROM pg_settings WHERE pending_restart ORDER BY 1")]
    return Reading(len(names), f"{listed(names)} wait for a restart" if names else "no setting waits for a restart", WARNING if names else OK)


@check("db_config_files", "database", cure="correct the file; SELECT pg_reload_conf()")
def config_files(host):
    """The configuration files can be read again"""
    rows = host.database.rows(
        # One that only waits for a restart could not be applied either: db_pending_restart tells of it.
        "SELECT f.sourcefile, f.sourceline, f.error FROM pg_file_settings f WHERE f.error IS NOT NULL"
        " AND NOT EXISTS (SELECT FROM pg_settings s WHERE s.pending_restart AND lower(s.name) = lower(f.name)) LIMIT 1"
    )
    hba = host.database.rows("SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL LIMIT 1")
    if rows:
        return Reading(None, f"{rows[0][0]} line {rows[0][1]}: {rows[0][2]}", CRITICAL)
    if hba:
        return Reading(None, f"pg_hba.conf line {hba[0][0]}: {hba[0][1]}", CRITICAL)
    return Reading(None, "the configuration files are right")


@check("db_safety_settings", "database", cure="take the setting out of database_settings and run crm.platform.database", source="postgresqltuner")
def safety_settings(host):
    """Settings that protect the data are on"""
    rows = host.database.rows(
        "SELECT name, sourcefile, sourceline FROM pg_catalog.pg_settings"
        " WHERE name IN ('fsync', 'full_page_writes', 'autovacuum') AND setting = 'off' ORDER BY name"
    )
    if not rows:
        return Reading(0, "fsync, full_page_writes and autovacuum are on")
    said = ", ".join(f"{name} is off" + (f" ({file} line {line})" if file else "") for name, file, line in rows)
    foreign = [file for dummy, file, dummy2 in rows if file and "/crm-platform" not in file]
    return Reading(len(rows), said, CRITICAL, f"take the line out of {foreign[0]}; SELECT pg_reload_conf()" if foreign else "")


@check("db_write", "database", cure="see disk_space and disk_readonly, and the log of PostgreSQL; it goes on by itself once there is space", source="own")
def write(host):
    """A row can be written"""
    if host.database.value("SELECT pg_catalog.pg_is_in_recovery()"):
        raise Skipped("this server is a replica")
    try:
        with host.database.apart() as session:
            # A table of the session's own, whose pages take space as any other's do.
            session.run(
                "SET statement_timeout = 3000; BEGIN; CREATE TEMPORARY TABLE crm_platform_look (at timestamptz);"
                " INSERT INTO pg_temp.crm_platform_look VALUES (pg_catalog.now()); ROLLBACK"
            )
    except OSError as error:
        return Reading(None, f"no row can be written: {error}", CRITICAL)
    return Reading(None, "a row was written, and taken back")


@check(
    "db_outranked_settings",
    "database",
    cure="take it out there (a line of a file, ALTER ... RESET, an option of the unit), or move it into database_settings",
)
def outranked_settings(host):
    """Nothing outranks the settings of the platform"""
    rows = host.database.rows(
        "WITH ours AS (SELECT lower(f.name) AS name, f.applied FROM pg_catalog.pg_file_settings f WHERE f.sourcefile LIKE %s AND f.error IS NULL)"
        " SELECT o.name, coalesce(s.sourcefile || ' line ' || s.sourceline, 'the ' || s.source) FROM ours o JOIN pg_catalog.pg_settings s"
        # What ALTER SYSTEM has set is taken back by the next run of crm.platform.database.
        " ON lower(s.name) = o.name WHERE NOT o.applied AND s.sourcefile NOT LIKE %s AND s.sourcefile NOT LIKE %s"
        " OR s.source IN ('command line', 'environment variable')"
        " UNION SELECT o.name, CASE WHEN r.setrole = 0 THEN 'ALTER DATABASE ' || d.datname ELSE 'ALTER ROLE ' || pg_catalog.pg_get_userbyid(r.setrole) END"
        " FROM pg_catalog.pg_db_role_setting r CROSS JOIN LATERAL pg_catalog.unnest(r.setconfig) AS c(setting)"
        " JOIN ours o ON o.name = lower(pg_catalog.split_part(c.setting, '=', 1)) JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()"
        " WHERE r.setdatabase IN (0, d.oid) AND r.setrole IN (0, d.datdba) ORDER BY 1",
        ("%/conf.d/crm-platform.conf", "%crm-platform%", "%/postgresql.auto.conf"),
    )
    said = "; ".join(f"{name} comes from {place}" for name, place in rows)
    return Reading(len(rows), said or "each is in force", WARNING if rows else OK)


@check("db_prepared_transactions", "database", "s", 300, 3600, "COMMIT PREPARED or ROLLBACK PREPARED it", "check_postgres")
def prepared_transactions(host):
    """Oldest transaction that is prepared and not ended"""
    rows = host.database.rows("SELECT extract(epoch FROM now() - prepared)::float8, gid FROM pg_prepared_xacts ORDER BY prepared LIMIT 1")
    return Reading(rows[0][0], f"{rows[0][1]} waits") if rows else Reading(0, "none waits")


@check("db_disabled_triggers", "database", "triggers", 1, None, "ALTER TABLE ... ENABLE TRIGGER ...", "check_postgres")
def disabled_triggers(host):
    """Triggers that somebody switched off"""
    rows = host.database.rows(
        "SELECT format('%s on %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE tgenabled = 'D'"
        " UNION ALL SELECT format('foreign key %s on %s', conname, conrelid::regclass) FROM pg_constraint WHERE NOT convalidated AND contype = 'f'"
    )
    return Reading(len(rows), listed([row[0] for row in rows]) if rows else "all triggers are on, all foreign keys proven")


@check("db_size", "database", "GiB", 100, 250, "see which tables grow; plan the disk", "pgmonitor")
def size(host):
    """Size of the database"""
    number = float(host.database.value("SELECT pg_database_size(current_database())"))
    host.series["database_bytes"] = number
    return Reading(number / 1024**3, f"{number / MIB:.0f} MiB")


@check(
    "db_wal_size",
    "database",
    "%",
    150,
    400,
    "an inactive slot, a failing archive or a long transaction keeps it: see db_replication_slots and db_archive",
)
def wal_size(host):
    """WAL on the disk, of max_wal_size"""
    have = float(host.database.value("SELECT coalesce(sum(size), 0) FROM pg_ls_waldir()"))
    most = float(host.database.setting("max_wal_size")) * MIB
    return Reading(100 * have / most, f"{have / MIB:.0f} MiB of WAL, max_wal_size is {most / MIB:.0f} MiB")


@check("db_temporary_files", "database", "GiB a day", 10, 100, "raise work_mem for the statements that sort on disk")
def temporary_files(host):
    """Temporary files that were written"""
    grown = host.rate("temp_bytes", float(host.database.value("SELECT coalesce(sum(temp_bytes), 0) FROM pg_stat_database")))
    if grown is None:
        raise Skipped("there is no earlier run to compare with")
    day = grown[0] * (86400 / grown[1] if grown[1] > 86400 else 1) / 1024**3
    return Reading(day, f"{grown[0] / MIB:.0f} MiB in {grown[1] / 3600:.1f} hours")


@check("db_collation", "database", cure="REINDEX what sorts text, then ALTER DATABASE ... REFRESH COLLATION VERSION")
def collation(host):
    """The system sorts as when the indexes were built"""
    if host.database.session.version < 15:
        raise Skipped("PostgreSQL knows it from version 15 on")
    row = host.database.row("SELECT datcollversion, pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database()")
    if row[0] != row[1]:
        return Reading(None, f"the indexes were built with collation version {row[0]}, the system has {row[1]}", CRITICAL)
    return Reading(None, "the versions are the same")


@check("db_restart", "database", cure="the server's log tells why: journalctl -u 'postgresql@*'", source="awesome-prometheus-alerts")
def restart(host):
    """PostgreSQL did not start again since the last run"""
    started = float(host.database.value("SELECT extract(epoch FROM pg_postmaster_start_time())"))
    before = host.previous.get("counters", {}).get("postmaster_start")
    host.counters["postmaster_start"] = started
    if before is not None and started > before + 1:
        return Reading(None, f"it started again {host.now - started:.0f} s ago", WARNING)
    return Reading(None, f"it runs for {(host.now - started) / 3600:.1f} hours")
