# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""database_advice against servers: what it finds is so, what it advises helps, and it changes nothing."""

from __future__ import annotations

import os
import sys
import time

import plays
import pytest
import servers
import yaml
from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.advice import look, model

TABLES = int(os.environ.get("CRM_TEST_TABLES", "300"))
SOUGHT = "SELECT * FROM customer.visit WHERE customer = %s AND kind = %s"
# Names that break what is pasted; the percent sign is psycopg2's.
SCHEMA, TABLE, COLUMN = 'Sch"ema %s', "Täble; DROP TABLE customer.visit --", "Sel'ect"
CONTENT = f"""
CREATE EXTENSION pg_stat_statements;
CREATE SCHEMA customer;
CREATE TABLE customer.customer (id bigint PRIMARY KEY, email text, name text);
INSERT INTO customer.customer SELECT g, 'c' || g || '@example.com', 'n' || g FROM generate_series(1, 4000) g;
CREATE TABLE customer.visit (id bigint PRIMARY KEY, customer bigint NOT NULL REFERENCES customer.customer, kind varchar(20), at timestamptz);
INSERT INTO customer.visit SELECT g, 1 + g % 4000, 'k' || g % 5, now() FROM generate_series(1, 20000) g;
CREATE TABLE customer.used (id bigint PRIMARY KEY, a int, b int, c text, customer bigint REFERENCES customer.customer);
INSERT INTO customer.used SELECT g, g, g, 'c' || g, 1 + g % 4000 FROM generate_series(1, 3000) g;
CREATE INDEX twice_1 ON customer.used (b);
CREATE INDEX twice_2 ON customer.used (b);
CREATE INDEX partial ON customer.used (b) WHERE a > 10;
CREATE INDEX lowered ON customer.used (lower(c));
CREATE INDEX plain ON customer.used (c);
CREATE INDEX short ON customer.used (a);
CREATE INDEX long ON customer.used (a, c);
CREATE INDEX for_key ON customer.used (customer);
CREATE UNIQUE INDEX alone ON customer.used (id, a);
CREATE SCHEMA {postgres.identifier(SCHEMA)};
CREATE TABLE {postgres.identifier(SCHEMA, TABLE)} ({postgres.identifier(COLUMN)} text);
INSERT INTO {postgres.identifier(SCHEMA, TABLE)} SELECT 'x' || g FROM generate_series(1, 12000) g;
CREATE TABLE never AS SELECT g, repeat('x', 200) FROM generate_series(1, 8000) g;
"""
CATALOG = """
SELECT (SELECT array_agg((c.oid, relname, relpages, relfilenode, reloptions)::text ORDER BY c.oid) FROM pg_class c),
       (SELECT array_agg(i.*::text ORDER BY indexrelid) FROM pg_index i), (SELECT array_agg(e.*::text) FROM pg_extension e),
       (SELECT array_agg(s.*::text) FROM pg_db_role_setting s), (SELECT array_agg(name || setting ORDER BY name) FROM pg_file_settings)
"""
QUICK = {"least_size": 0, "least_days": 0, "least_rows": 10_000}


def advise(server, database, **wanted):
    session = postgres.Session(server.connect(database))
    try:
        return look.Looker(session, look.Wanted(**{**QUICK, **wanted}), 30_000, 1_000).run()
    finally:
        session.close()


def of_kind(found, *kinds):
    return [one for one in found.advice if one.kind in kinds]


def ask(server, database, *statements):
    """Each in a transaction of its own, as its user would; rows of the last."""
    connection = server.connect(database)
    try:
        with connection.cursor() as cursor:
            for one, values in statements:
                cursor.execute(one, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@pytest.fixture(scope="module")
def filled():
    """filled(server): a database with the tables, one a server."""
    made = {}

    def have(server):
        if server not in made:
            made[server] = server.database()
            server.run(made[server], CONTENT)
            for table in ("customer.customer", "customer.visit", "customer.used", postgres.identifier(SCHEMA, TABLE)):
                server.run(made[server], f"VACUUM ANALYZE {table}")
        server.run(made[server], "SELECT pg_stat_statements_reset()")
        return made[server]

    yield have
    for server, name in made.items():
        server.drop(name)


def slow(server, database):
    ask(server, database, *[(SOUGHT, (number, "k1")) for number in range(5)])


def test_a_missing_index_is_found_and_helps(server):
    name = server.database()
    try:
        server.run(name, CONTENT)
        server.run(name, "ANALYZE; SELECT pg_stat_statements_reset()")
        slow(server, name)
        estimated = advise(server, name, areas=["statements"])
        server.run(name, "CREATE EXTENSION hypopg")
        measured = advise(server, name, areas=["statements"])
        assert (estimated.hypothetical, measured.hypothetical) == (False, True)
        for found in (estimated, measured):
            (one,) = of_kind(found, "missing_index")
            assert not found.problems
            assert one.object == '"customer"."visit" ("customer", "kind")'
            declared = {"name": "visit", "indexes": [{"name": "idx_visit_customer_kind", "columns": ["customer", "kind"]}]}
            assert one.declaration == {"crm_customer_tables": [declared]}
        plan = f"EXPLAIN (FORMAT JSON) {SOUGHT}"
        before = ask(server, name, (plan, (7, "k1")))[0][0][0]["Plan"]
        server.run(name, one.sql)
        after = ask(server, name, (plan, (7, "k1")))[0][0][0]["Plan"]
        assert after["Total Cost"] < before["Total Cost"] / 10
        assert "idx_visit_customer_kind" in str(after)
        # What was advised is done, so there is nothing more to say.
        assert of_kind(advise(server, name, areas=["statements"]), "missing_index") == []
    finally:
        server.drop(name)


def test_indexes_that_can_go_and_those_that_cannot(server, filled):
    found = advise(server, filled(server), areas=["indexes"])
    said = {(one.kind, one.sql.split(".")[-1].strip('"')) for one in of_kind(found, "duplicate_index", "redundant_index", "unused_index")}
    assert said == {
        ("duplicate_index", "twice_2"),
        ("redundant_index", "short"),
        ("unused_index", "partial"),
        ("unused_index", "lowered"),
        ("unused_index", "plain"),
    }
    assert all("declaration" in one.note for one in found.advice)


def test_statistics_that_are_too_young(server, filled):
    found = advise(server, filled(server), areas=["indexes"], least_days=28)
    assert of_kind(found, "unused_index") == []
    assert any("too early" in note for note in found.notes)


def test_a_foreign_key_without_an_index(server, filled):
    name = filled(server)
    ask(server, name, ("DELETE FROM customer.visit WHERE customer = 4000", None), ("DELETE FROM customer.used WHERE customer = 4000", None))
    ask(
        server,
        name,
        ("DELETE FROM customer.customer WHERE id = 4000", None),
        ("SELECT pg_stat_force_next_flush()", None) if server.version > 14 else ("", None),
    )
    end = time.monotonic() + 10
    while not (said := of_kind(advise(server, name, areas=["indexes"]), "foreign_key_index")):
        assert time.monotonic() < end
        time.sleep(0.3)
    assert [one.sql for one in said] == ['CREATE INDEX CONCURRENTLY "idx_visit_customer" ON "customer"."visit" USING btree ("customer")']


def test_hostile_names(server, filled):
    name = filled(server)
    place = postgres.identifier(SCHEMA, TABLE).replace("%", "%%")
    ask(server, name, *[(f"SELECT * FROM {place} WHERE {postgres.identifier(COLUMN)} = %s", ("x1",))] * 3)
    found = advise(server, name)
    (one,) = of_kind(found, "missing_index")
    connection = server.connect(name)
    with connection.cursor() as cursor:
        cursor.execute(one.sql.replace(" CONCURRENTLY", ""))
        cursor.execute("SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND tablename = %s", (SCHEMA, TABLE))
        assert cursor.fetchone() == (1,)
        cursor.execute("SELECT format('DROP INDEX %%I.%%I', schemaname, indexname) FROM pg_indexes WHERE schemaname = %s", (SCHEMA,))
        cursor.execute(cursor.fetchone()[0])
        cursor.execute("SELECT count(*) FROM customer.visit")
    connection.close()


def test_nobodys_function_runs_with_our_rights(server, filled):
    """An immutable function with a constant is called by the planner itself."""
    name, role = filled(server), server.role("LOGIN")
    try:
        server.run(
            name, f'GRANT CREATE ON SCHEMA public TO "{role}"; GRANT USAGE ON SCHEMA customer TO "{role}"; GRANT SELECT ON customer.visit TO "{role}"'
        )
        theirs = server.connect(name, role)
        with theirs.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION trap() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF current_user = 'tester' THEN"
                " RAISE EXCEPTION 'caught'; END IF; RETURN 5; END $$"
            )
            cursor.execute("SELECT * FROM customer.visit WHERE customer = public.trap()")
        theirs.close()
        found = advise(server, name, areas=["statements"])
        assert [one for one in found.problems if "trap" in one and "VOLATILE" in one], found.problems
        assert not [one for one in found.problems if "caught" in one]
    finally:
        server.run(name, "DROP FUNCTION IF EXISTS public.trap()")
        server.run(name, f'DROP OWNED BY "{role}"')
        server.drop_role(role)


def test_tables_without_statistics_and_with_empty_space(server, filled):
    name = filled(server)
    ask(server, name, ("CREATE TABLE hollow AS SELECT g, repeat('x', 200) AS text FROM generate_series(1, 30000) g", None))
    ask(server, name, ("CREATE INDEX hollow_g ON hollow (g)", None), ("DELETE FROM hollow WHERE g % 10 <> 0", None), ("VACUUM ANALYZE hollow", None))
    try:
        found = advise(server, name, areas=["bloat", "statistics"], least_size=model.MIB / 4)
        assert [one.sql for one in of_kind(found, "never_analysed")] == ['ANALYZE "public"."never"']
        estimated = {one.object: one.gain for one in of_kind(found, "bloated_table", "bloated_index")}
        assert set(estimated) == {'"public"."hollow"', '"public"."hollow_g"'}
        ask(server, name, ("CREATE EXTENSION pgstattuple", None))
        measured = {
            one.object: one.gain for one in of_kind(advise(server, name, areas=["bloat"], least_size=model.MIB / 4), "bloated_table", "bloated_index")
        }
        assert {one: pytest.approx(gain, rel=0.25) for one, gain in estimated.items()} == measured
        ask(server, name, ("VACUUM FULL hollow", None), ("ANALYZE hollow", None))
        assert of_kind(advise(server, name, areas=["bloat"], least_size=model.MIB / 4), "bloated_table", "bloated_index") == []
    finally:
        server.run(name, "DROP TABLE hollow; DROP EXTENSION IF EXISTS pgstattuple")


def test_settings(server, filled):
    found = advise(server, filled(server), areas=["settings"], settings={"shared_buffers": "1GB", "max_worker_processes": 8})
    assert [one.declaration for one in of_kind(found, "setting")] == [{"database_settings": {"shared_buffers": "1GB"}}]


def test_what_is_missing_is_one_line(server, database):
    found = advise(server, database)
    assert [one for one in found.problems if "CREATE EXTENSION pg_stat_statements" in one] == found.problems
    role = server.role("LOGIN")
    try:
        server.run(database, "CREATE EXTENSION pg_stat_statements")
        server.run(database, "SELECT 'somebody', 'else'")
        session = postgres.Session(server.connect(database, role))
        found = look.Looker(session, look.Wanted(), 30_000, 1_000).run()
        session.close()
        assert any("pg_read_all_stats" in one for one in found.problems), found.problems
        assert all("\n" not in one for one in found.problems)
    finally:
        server.drop_role(role)


def test_the_module_changes_nothing(server, filled, tmp_path):
    name = filled(server)
    slow(server, name)
    options = {**server.options(name), "min_size_mb": 0, "min_statistics_days": 0}
    tasks = [
        {"name": "Look", "crm.platform.database_advice": options},
        {"name": "Look at no database", "crm.platform.database_advice": {**options, "login_db": "nowhere"}, "ignore_errors": True},
        {"name": "Ask for nonsense", "crm.platform.database_advice": {**options, "limit": 0}, "ignore_errors": True},
    ]
    here = plays.inventory("localhost", ansible_connection="local", ansible_python_interpreter=sys.executable)
    before = server.run(name, CATALOG)
    known = server.run(name, "SELECT count(*) FROM pg_stat_statements")
    outcome = plays.run(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": tasks}], here, "--check", timeout=120)
    found, nowhere, nonsense = (task["result"] for task in outcome.tasks)
    assert server.run(name, CATALOG) == before
    # Those of this test alone: what it asked is nobody's slow statement.
    assert server.run(name, "SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%pg_qualstats%' OR query LIKE 'EXPLAIN%'") == [(0,)], known
    assert not found["changed"] and found["explained"] > 0 and not found["problems"], found
    kinds = [one["kind"] for one in found["advice"]]
    assert kinds == sorted(kinds, key=model.KINDS.index) and {"missing_index", "duplicate_index"} <= set(kinds)
    assert yaml.safe_load(yaml.safe_dump(found["declaration"]))["crm_customer_tables"][0]["name"] == "visit"
    assert found["script"].count("DROP INDEX CONCURRENTLY") >= 3 and found["lines"]
    assert "nowhere" in nowhere["msg"] and "\n" not in nowhere["msg"]
    assert nonsense["msg"] == "limit is 0; write a number from 1 to 10000"


@pytest.mark.parametrize("server", [max(servers.DEBIAN)], indirect=True)
def test_many_tables(server, database):
    server.run(
        database,
        "CREATE EXTENSION pg_stat_statements; DO $$ BEGIN FOR n IN 1..%d LOOP EXECUTE format('CREATE TABLE t%%s (id int PRIMARY KEY, a int);"
        " CREATE INDEX ON t%%s (a); INSERT INTO t%%s VALUES (1, 1)', n, n, n); END LOOP; END $$" % TABLES,
    )
    session = postgres.Session(server.connect(database))
    before = session.round_trips
    found = look.Looker(session, look.Wanted(least_size=0, least_days=0), 30_000, 1_000).run()
    kept, left_out = model.ranked(found.advice, 20)
    assert len(of_kind(found, "unused_index")) == TABLES and left_out["unused_index"] == TABLES - 20 and len(kept) < 40
    assert not found.problems
    # Not one for each table.
    assert session.round_trips - before < 100
    session.close()
