# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_schema as a module: what it returns, what it refuses, and that a run with nothing to do leaves no trace."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

import plays
import psycopg2
import pytest
import schemas
import servers
import yaml
from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.schema import apply, declare, steps

pytestmark = pytest.mark.parametrize("server", [max(servers.DEBIAN)], indirect=True)
REFUSALS = (postgres.PostgresError, declare.DeclarationError, steps.PlanError)
MODEL = """
enums: [{name: mood, values: [sad, ok]}]
tables:
- name: customer
  comment: it's 100%
  columns:
  - {name: id, type: bigint, identity: always}
  - {name: name, type: varchar(80), nullable: false}
  - {name: mood, type: mood, default: "'ok'"}
  - {name: email, type: text}
  primary_key: [id]
  checks: [{name: has_at, expression: email LIKE '%@%'}]
  indexes: [{name: idx_customer_name, columns: [name]}, {name: idx_email, columns: [lower(email)], unique: true, where: email IS NOT NULL}]
- name: visit
  columns: [{name: customer, type: bigint, nullable: false}, {name: at, type: timestamptz, default: now()}]
  foreign_keys: [{columns: [customer], references: {table: customer}, on_delete: cascade}]
views: [{name: mail, query: 'SELECT name, email FROM customer WHERE mood IN (''ok'')'}]
"""


@pytest.fixture
def play(server, database, tmp_path):
    """play([options, ...], ...): one task for each; a task that fails does not keep the others from running."""
    here = plays.inventory("localhost", ansible_connection="local", ansible_python_interpreter=sys.executable)

    def run(tasks, *arguments):
        content = [
            {"name": f"Call {number}", "crm.platform.customer_schema": {**server.options(database), **options}, "ignore_errors": True}
            for number, options in enumerate(tasks)
        ]
        outcome = plays.run(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": content}], here, *arguments, timeout=300)
        assert len(outcome.tasks) == len(tasks), outcome.text
        return [task["result"] for task in outcome.tasks]

    return run


def test_check_run_and_run_again(server, database, play):
    model = yaml.safe_load(MODEL)
    (shown,) = play([model], "--check", "--diff")
    assert shown["changed"] and not shown.get("failed"), shown
    assert schemas.ask(server.connect(database), "SELECT count(*) FROM pg_namespace WHERE nspname IN ('customer', 'crm_platform')") == [(0,)]
    (done,) = play([model], "--diff")
    assert done["changed"]
    assert done["plan"] == shown["plan"]
    assert done["queries"] == shown["queries"] == [step["sql"] for step in done["plan"]]
    assert set(done["plan"][0]) == {"sql", "reason", "object", "hazards", "transactional"}
    assert done["diff"] == shown["diff"]
    assert "idx_customer_name" in done["diff"]["after"] and "customer" not in done["diff"]["before"]
    before = server.dump(database)
    for result in (*play([model]), *play([model], "--check", "--diff")):
        assert (result["changed"], result["plan"], result["queries"], result["undeclared"]) == (False, [], [], [])
        assert not result.get("diff") or result["diff"]["before"] == result["diff"]["after"] == ""
    assert server.dump(database) == before


def test_hazards_fail_with_each_statement_and_its_cure(server, database, play):
    server.run(database, "CREATE SCHEMA customer; CREATE TABLE customer.t (a int, b text); INSERT INTO customer.t VALUES (1, 'x')")
    desired = {"tables": [{"name": "t", "columns": [{"name": "a", "type": "bigint"}]}], "purge": True}
    before = server.dump(database)
    refused, done = play([desired, {**desired, "allow": ["deletes_data", "rewrites_table"]}])
    assert refused["failed"] and not refused["changed"]
    assert len(refused["hazards"]) == 2 and len(refused["plan"]) == 2
    for words in ("nothing was changed", 'DROP COLUMN "b"', "TYPE bigint", "Add deletes_data to allow", "Add rewrites_table to allow"):
        assert words in refused["msg"]
    assert "\n" not in refused["msg"]
    assert done["changed"]
    assert server.run(database, "SELECT * FROM customer.t") == [(1,)]
    assert server.dump(database) != before


COLUMN = {"name": "a", "type": "int"}
BAD = [
    (
        {"tables": [{"name": "t", "columns": [{"name": "a", "type": "nonsense"}]}]},
        ("table t: column a: type 'nonsense'", "does not exist", "correct it"),
    ),
    ({"tables": [{"name": "t", "columns": [COLUMN, COLUMN]}]}, ("tables[0] (t): columns[1]", "a is declared twice", "keep one")),
    ({"tables": [{"name": "t"}, {"name": "t"}]}, ("tables", "t is listed twice", "keep one")),
    ({"tables": [{"name": "t", "columns": [COLUMN], "primary_key": ["b"]}]}, ("tables[0] (t): primary_key", "column b", "declare it or correct")),
    ({"tables": [{"name": "t", "columns": [COLUMN], "unique": [{"columns": ["b"]}]}]}, ("unique[0]: columns", "column b", "declare it or correct")),
    (
        {"tables": [{"name": "t", "columns": [COLUMN], "foreign_keys": [{"columns": ["a"], "references": {"table": "u"}}]}]},
        ("t_a_fkey", "table u", "declare it or correct"),
    ),
    (
        {"tables": [{"name": "t", "columns": [COLUMN], "foreign_keys": [{"columns": ["a"], "references": {"schema": "far", "table": "u"}}]}]},
        ("t_a_fkey", "far.u", "list the columns"),
    ),
    (
        {"tables": [{"name": "t", "columns": [COLUMN], "checks": [{"name": "c", "expression": "a >"}]}]},
        ("constraint c", "'a >'", "syntax error", "correct it"),
    ),
    (
        {"tables": [{"name": "t", "columns": [COLUMN], "checks": [{"name": "c", "expression": "(a > 1"}]}]},
        ("checks[0]: expression", "balance its brackets"),
    ),
    ({"tables": [{"name": "t", "columns": [{**COLUMN, "default": "'x"}]}]}, ("columns[0] (a): default", "string without an end", "close it")),
    ({"tables": [{"name": "t", "columns": [{**COLUMN, "default": "'x'"}]}]}, ("column a", "'x'", "correct it")),
    (
        {"tables": [{"name": "t", "columns": [{**COLUMN, "default": "1", "identity": "always"}]}]},
        ("columns[0] (a)", "default and identity", "keep one"),
    ),
    ({"tables": [{"name": "t", "columns": [{"name": "a", "type": ""}]}]}, ("columns[0] (a)", "type is missing", "text")),
    ({"tables": [{"name": "", "columns": [COLUMN]}]}, ("tables[0]: name", "empty", "give it a name")),
    ({"tables": [{"name": "t", "columns": [COLUMN]}], "definition": "CREATE TABLE t (a int)"}, ("mutually exclusive", "definition", "tables")),
    ({}, ("tables", "definition", "required")),
    ({"tables": "customer"}, ("tables is 'customer'", "not a list")),
    ({"tables": [{"name": "t", "columns": [COLUMN], "primary_key": "a"}]}, ("tables[0] (t): primary_key is 'a'", "not a list", "[a]")),
    ({"tables": [{"name": "t", "columns": {"a": "int"}}]}, ("tables[0] (t): columns is a dictionary", "not a list")),
    (
        {"tables": [{"name": "t", "columns": [COLUMN], "indexes": [{"name": "i", "columns": "a,b"}]}]},
        ("indexes[0] (i): columns is 'a,b'", "not a list"),
    ),
    ({"enums": [{"name": "e", "values": "a,b"}]}, ("enums[0] (e): values is 'a,b'", "not a list")),
    ({"tables": [], "allow": "deletes_data,drops_index"}, ("allow is 'deletes_data,drops_index'", "not a list")),
    ({"tables": [], "lock_timeout": "soon"}, ("lock_timeout", "'soon' is no time", "3s")),
    ({"tables": [], "lock_retries": -1}, ("lock_retries is -1",)),
    ({"tables": [{"name": "t", "columns": [COLUMN], "partition_by": "nothing"}]}, ("partition_by 'nothing'", "RANGE (at)")),
    ({"enums": [{"name": "e", "values": []}]}, ("enums[0] (e)", "values is empty", "list at least one")),
    ({"enums": [{"name": "e", "values": ["x", "x"]}]}, ("enums[0] (e): values", "x is listed twice")),
    ({"tables": [{"name": "t", "columns": [COLUMN], "indexes": [{"name": "t", "columns": ["a"]}]}]}, ("index t of t", "same name", "rename one")),
    ({"definition": "CREATE TABLE t (a int"}, ("definition: statement 1 (CREATE TABLE t (a ...)", "syntax error", "correct it")),
    ({"definition": "DROP TABLE victim"}, ("definition: statement 1", "not a description", "allowed are")),
    ({"definition": "CREATE TABLE t (a int); INSERT INTO t VALUES (1)"}, ("definition: statement 2", "not a description")),
    ({"definition": "CREATE TABLE t AS SELECT * FROM victim"}, ("definition: statement 1", "copies rows", "write the columns")),
    ({"definition": "CREATE TABLE other.t (a int)"}, ("definition: statement 1", "other.t with its schema", "write it without")),
    ({"login_db": "no_such_database", "tables": []}, ("cannot connect", "no_such_database", "login_db")),
    ({"session_role": "no_such_role", "tables": []}, ("session_role", "no_such_role", "member")),
]


def test_bad_input(server, database, play):
    """One line that names option, object and cure; nothing happens."""
    server.run(database, "CREATE TABLE victim (a int)")
    before = server.dump(database)
    for (options, expected), result in zip(BAD, play([options for options, dummy in BAD])):
        assert result.get("failed"), (options, result)
        assert not result.get("changed")
        assert "\n" not in result["msg"]
        for words in expected:
            assert words in result["msg"], (options, result["msg"])
    assert server.dump(database) == before


# For a place where a name or value is quoted, and more of them where SQL of the user's stands.
PAYLOADS = [
    "x; DROP TABLE public.victim; --",
    "x'); DROP TABLE public.victim; --",
    'x"); DROP TABLE public.victim; --',
    "x\\'; DROP TABLE public.victim; --",
    "%s %(x)s",
]
SQL_PAYLOADS = [
    *PAYLOADS,
    "x) ; DROP TABLE public.victim; (",
    "text; DROP TABLE public.victim",
    "E'\\\\''; DROP TABLE public.victim; --'",
    "$a$; DROP TABLE public.victim; --$a$",
    "1, DROP COLUMN a",
    "int, evil int",
    "/* */ x",
    "x -- y",
    "'a' \n'b'; DROP TABLE public.victim",
]
SQL_PLACES = (
    "two defaults",
    "type",
    "default",
    "generated",
    "check",
    "index columns",
    "index where",
    "partition_by",
    "view query",
    "definition",
    "definition after a table",
)
FOREIGN = {"columns": ["a"], "references": {"table": "t", "columns": ["a"]}}


def placed(text: str) -> dict[str, dict]:
    """Every option that takes text, with this text in it."""

    def table(column=None, **more) -> dict:
        return {"tables": [{"name": "t", "columns": [{**COLUMN, **(column or {})}], **more}]}

    return {
        "schema": {"schema": text, "tables": []},
        "owner": {"owner": text, **table()},
        "table name": {"tables": [{"name": text, "columns": [COLUMN]}]},
        "table comment": table(comment=text),
        "table renamed_from": table(renamed_from=text),
        "column name": table({"name": text}),
        "type": table({"type": text}),
        "default": table({"default": text}),
        "generated": table({"generated": text}),
        "collation": table({"type": "text", "collation": text}),
        "column comment": table({"comment": text}),
        "column renamed_from": table({"renamed_from": text}),
        "primary_key": table(primary_key=[text]),
        "unique name": table(unique=[{"name": text, "columns": ["a"]}]),
        "foreign key name": table(primary_key=["a"], foreign_keys=[{**FOREIGN, "name": text}]),
        "foreign key schema": table(foreign_keys=[{"columns": ["a"], "references": {"schema": text, "table": "t", "columns": ["a"]}}]),
        "foreign key table": table(foreign_keys=[{"columns": ["a"], "references": {"table": text}}]),
        "foreign key columns": table(foreign_keys=[{"columns": ["a"], "references": {"table": "t", "columns": [text]}}]),
        "check name": table(checks=[{"name": text, "expression": "a > 0"}]),
        "check": table(checks=[{"name": "c", "expression": text}]),
        "index name": table(indexes=[{"name": text, "columns": ["a"]}]),
        "index columns": table(indexes=[{"name": "i", "columns": [text]}]),
        "index method": table(indexes=[{"name": "i", "columns": ["a"], "method": text}]),
        "index where": table(indexes=[{"name": "i", "columns": ["a"], "where": text}]),
        "index include": table(indexes=[{"name": "i", "columns": ["a"], "include": [text]}]),
        "index with": table(indexes=[{"name": "i", "columns": ["a"], "with": {text: text}}]),
        "index fillfactor": table(indexes=[{"name": "i", "columns": ["a"], "with": {"fillfactor": text}}]),
        "partition_by": table(partition_by=f"RANGE (a) {text}"),
        "enum name": {"enums": [{"name": text, "values": ["x"]}]},
        "enum value": {"enums": [{"name": "e", "values": [text]}]},
        "two defaults": {
            "tables": [
                {
                    "name": "t",
                    "columns": [{**COLUMN, "type": "text", "default": "E'\\'"}, {"name": text, "type": "text", "default": f"'));{text}--'"}],
                }
            ]
        },
        "view name": {"views": [{"name": text, "query": "SELECT 1 AS n"}]},
        "view query": {"views": [{"name": "v", "query": f"SELECT {text}"}]},
        "definition": {"definition": text},
        "definition after a table": {"definition": f"CREATE TABLE t (a int DEFAULT {text})"},
    }


@pytest.mark.parametrize("place", placed(""))
def test_injection(server, database, place):
    """Whatever text an option holds is refused, or is a name or value and nothing else; on a new table and on a live one."""
    server.run(database, "CREATE TABLE public.victim (a int); INSERT INTO public.victim VALUES (1)")
    server.run(database, "CREATE FUNCTION public.witness() RETURNS int LANGUAGE sql AS 'DELETE FROM public.victim RETURNING 1'")
    eyes, worker = server.connect(database), server.connect(database)
    for payload in SQL_PAYLOADS if place in SQL_PLACES else PAYLOADS:
        for old in ("", "CREATE SCHEMA customer; CREATE TABLE customer.t (a int)"):
            schemas.ask(eyes, "DROP SCHEMA IF EXISTS customer CASCADE; " + old)
            with contextlib.suppress(*REFUSALS, psycopg2.DataError):
                schemas.run(worker, placed(payload)[place], allow=list(steps.HAZARDS), keep=True)
            assert schemas.ask(eyes, "SELECT * FROM public.victim") == [(1,)], payload
            columns = schemas.ask(
                eyes, "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('customer.t') AND attnum > 0 AND NOT attisdropped"
            )
            assert set(columns) <= {("a",), (payload,)}, (payload, columns)
    eyes.close()
    worker.close()


def many(number: int) -> dict:
    """A model of some tables, with all kinds of parts."""
    tables = []
    for place in range(number):
        tables.append(
            {
                "name": f"t{place}",
                "columns": [{"name": "id", "type": "int"}, {"name": "up", "type": "int4"}, {"name": "a", "type": "varchar(9)", "default": "'x'"}],
                "primary_key": ["id"],
                "checks": [{"name": "c", "expression": "a IN ('x', 'y')"}],
                "foreign_keys": [{"columns": ["up"], "references": {"table": f"t{max(place - 1, 0)}"}}],
                "indexes": [{"name": f"i{place}", "columns": ["lower(a)"]}],
            }
        )
    return {"tables": tables, "views": [{"name": "v", "query": "SELECT a FROM t0"}]}


def trips(connection, desired: dict, check: bool) -> int:
    session = postgres.Session(connection)
    try:
        schemas.converger(session, desired).run(check)
        return session.round_trips
    finally:
        session.close()


def test_round_trips_do_not_grow(server, database):
    found = []
    for number in (1, 50):
        schemas.ask(server.connect(database), "DROP SCHEMA IF EXISTS customer CASCADE; DROP SCHEMA IF EXISTS crm_platform CASCADE")
        schemas.run(server.connect(database), many(number))
        found.append([trips(server.connect(database), many(number), check) for check in (False, True)])
    assert found[0] == found[1]
    assert max(found[0]) < 25


def written(connection) -> tuple:
    """What a run that writes would move."""
    schemas.ask(connection, "SELECT pg_stat_force_next_flush()")
    lsn = schemas.ask(connection, "SELECT pg_current_wal_insert_lsn()::text")[0][0]
    counts = schemas.ask(
        connection,
        "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_all_tables WHERE relname IN ('pg_class', 'pg_attribute', 'pg_namespace',"
        " 'pg_constraint')",
    )
    return lsn, sorted(counts)


@pytest.mark.parametrize("way", ["tables", "definition"])
def test_a_run_with_nothing_to_do_writes_nothing(server, database, way):
    desired = (
        many(5)
        if way == "tables"
        else {"definition": "CREATE TABLE t (a int PRIMARY KEY, b text CHECK (b IN ('x'))); CREATE VIEW v AS SELECT b FROM t"}
    )
    schemas.run(server.connect(database), desired)
    dump = server.dump(database)
    eyes = server.connect(database)
    schemas.run(server.connect(database), desired)
    schemas.ask(eyes, "CHECKPOINT")
    seen = []
    # The server notes its running transactions now and then on its own account; the module's writes would be there each time.
    for dummy in range(3):
        time.sleep(1.2)  # statistics of ended sessions arrive within a second
        before = written(eyes)
        for check in (False, True):
            assert schemas.run(server.connect(database), desired, check).sql == []
        time.sleep(1.2)
        seen.append((before, written(eyes)))
        if before == seen[-1][1]:
            break
    else:
        raise AssertionError(seen)
    assert server.dump(database) == dump
    eyes.close()


CHANGE = """
tables:
- name: t
  columns: [{name: a, type: bigint, nullable: false}, {name: b, type: text}, {name: c, type: int, default: 5}]
  primary_key: [a]
  checks: [{name: k, expression: c > 0}]
  indexes: [{name: i, columns: [b]}]
- name: u
  columns: [{name: t, type: bigint}]
  foreign_keys: [{columns: [t], references: {table: t}}]
views: [{name: v, query: SELECT b FROM t}]
"""


def test_check_mode_and_no_op_take_no_lock_that_others_mind(server, database):
    """EXCLUSIVE goes together with ACCESS SHARE and nothing else: a run that asked for more would wait for its end."""
    server.run(
        database,
        "CREATE SCHEMA customer; CREATE TABLE customer.t (a int, b varchar(9)); CREATE TABLE customer.u (t int); CREATE VIEW customer.v AS SELECT b"
        " FROM customer.t",
    )
    holder = server.connect(database)
    holder.autocommit = False
    schemas.ask(holder, "LOCK TABLE customer.t, customer.u IN EXCLUSIVE MODE")
    began = time.monotonic()
    shown = schemas.run(server.connect(database), CHANGE, check=True, allow=["rewrites_table", "blocks_writes"])
    assert len(shown.sql) > 8
    assert time.monotonic() - began < 2.5
    reader = server.connect(database, options="-c lock_timeout=100")
    assert schemas.ask(reader, "SELECT count(*) FROM customer.t") == [(0,)]
    holder.rollback()
    schemas.run(server.connect(database), CHANGE, allow=["rewrites_table", "blocks_writes"])
    schemas.ask(holder, "LOCK TABLE customer.t, customer.u IN EXCLUSIVE MODE")
    for check in (True, False):
        assert schemas.run(server.connect(database), CHANGE, check=check).sql == []
    holder.close()
    reader.close()


def test_check_mode_beside_a_reader_keeps_no_other_reader_waiting(server, database):
    server.run(
        database,
        "CREATE SCHEMA customer; CREATE TABLE customer.t (a int, b varchar(9)); CREATE TABLE customer.u (t int); INSERT INTO customer.t VALUES (1)",
    )
    holder = server.connect(database)
    holder.autocommit = False
    schemas.ask(holder, "SELECT * FROM customer.t; UPDATE customer.u SET t = 1; LOCK TABLE customer.t IN ROW EXCLUSIVE MODE")
    modes, end = set(), threading.Event()

    def watch() -> None:
        connection = server.connect(database, options="-c lock_timeout=100")
        while not end.is_set():
            schemas.ask(connection, "SELECT count(*) FROM customer.t, customer.u")
            modes.update(
                row[0]
                for row in schemas.ask(
                    connection,
                    "SELECT mode FROM pg_locks l JOIN pg_stat_activity s USING (pid) JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON"
                    " n.oid = c.relnamespace WHERE n.nspname = 'customer' AND pid NOT IN (pg_backend_pid(), %s)",
                    [holder.info.backend_pid],
                )
            )
        connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    for dummy in range(5):
        schemas.run(server.connect(database), CHANGE, check=True, allow=["rewrites_table", "blocks_writes"])
    end.set()
    watcher.join()
    assert modes <= {"AccessShareLock"}
    holder.close()


SLOW = (
    "CREATE SCHEMA customer; CREATE TABLE customer.t (a int); INSERT INTO customer.t VALUES (1), (2), (3), (4); "
    + "CREATE FUNCTION public.slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.4); RETURN $1; END'"
)
SLOWLY = "tables: [{name: t, columns: [{name: a, type: int}, {name: b, type: int}], indexes: [{name: i, columns: [slow(a)]}]}]"


def wait_for_build(connection) -> int:
    """The number of the session that builds an index."""
    for dummy in range(200):
        found = schemas.ask(
            connection,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active'",
        )
        if found:
            return found[0][0]
        time.sleep(0.05)
    raise AssertionError("nobody builds an index")


def test_database_gone_in_the_middle(server, database):
    """The error says what was done, and that the next run finishes it; it does."""
    server.run(database, SLOW)
    eyes, caught = server.connect(database), []

    def run() -> None:
        try:
            schemas.run(server.connect(database), SLOWLY)
        except postgres.PostgresError as error:
            caught.append(error)

    runner = threading.Thread(target=run)
    runner.start()
    pid = wait_for_build(eyes)
    schemas.ask(eyes, "SELECT pg_terminate_backend(%s)", [pid])
    runner.join()
    assert isinstance(caught[0], apply.ApplyError)
    text = str(caught[0])
    for words in ("connection was lost", "1 of 2 statements were done and stay", "run again to finish", "CREATE INDEX CONCURRENTLY"):
        assert words in text
    assert caught[0].done == ['ALTER TABLE "customer"."t" ADD COLUMN "b" int'] or "ADD COLUMN" in caught[0].done[0]
    assert [line for line in schemas.describe(eyes) if "INVALID" in line]
    done = schemas.run(server.connect(database), SLOWLY)
    assert len(done.sql) == 2 and "DROP INDEX CONCURRENTLY" in done.sql[0]
    assert not [line for line in schemas.describe(eyes) if "INVALID" in line]
    assert schemas.run(server.connect(database), SLOWLY).sql == []
    eyes.close()


def test_two_runs_at_once(server, database):
    """The second waits for the first and finds nothing left to do."""
    server.run(database, SLOW)
    results = []
    runners = [threading.Thread(target=lambda: results.append(schemas.run(server.connect(database), SLOWLY))) for dummy in range(3)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert sorted(len(result.steps) for result in results) == [0, 0, 2]
    assert not [line for line in schemas.describe(server.connect(database)) if "INVALID" in line]


def test_an_index_that_somebody_builds_is_waited_for(server, database):
    server.run(database, SLOW)
    other = threading.Thread(target=lambda: schemas.ask(server.connect(database), "CREATE INDEX CONCURRENTLY i ON customer.t (public.slow(a))"))
    other.start()
    eyes = server.connect(database)
    wait_for_build(eyes)
    done = schemas.run(server.connect(database), SLOWLY)
    other.join()
    assert not [sql for sql in done.sql if "INDEX" in sql]
    assert not [line for line in schemas.describe(eyes) if "INVALID" in line]
    assert schemas.run(server.connect(database), SLOWLY).sql == []
    eyes.close()
