# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hangs on an object that customer_schema makes anew comes back or is named, and a name that is taken is foreseen."""

from __future__ import annotations

import pytest
import schemas
import servers
import yaml
from ansible_collections.crm.platform.plugins.module_utils.schema import converge, steps

VERSIONS = servers.ALL
VIEW = """
CREATE TABLE t (id int PRIMARY KEY, k varchar(10)); CREATE VIEW v AS SELECT id, k FROM t;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER tr INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION f();
CREATE RULE ru AS ON DELETE TO v DO INSTEAD NOTHING;
COMMENT ON COLUMN v.k IS 'it''s k'; ALTER VIEW v ALTER COLUMN k SET DEFAULT 'q'; GRANT SELECT (k) ON v TO PUBLIC;
"""
WIDER = "tables: [{name: t, primary_key: [id], columns: [{name: id, type: int}, {name: k, type: text}]}]"
TURNED = "views: [{name: v, query: 'SELECT k, id FROM t'}]"
IDENTITY = """
CREATE TABLE t (id int NOT NULL, k text NOT NULL); CREATE UNIQUE INDEX ri ON t (id); COMMENT ON INDEX ri IS 'mine';
ALTER TABLE t REPLICA IDENTITY USING INDEX ri; ALTER TABLE t CLUSTER ON ri; CREATE PUBLICATION {publication} FOR TABLE t; INSERT INTO t VALUES (1, 'a');
"""
KEY = """
CREATE TABLE t (id int NOT NULL, k text NOT NULL, CONSTRAINT u UNIQUE (id)); COMMENT ON CONSTRAINT u ON t IS 'the key';
ALTER TABLE t REPLICA IDENTITY USING INDEX u; CREATE PUBLICATION {publication} FOR TABLE t; INSERT INTO t VALUES (1, 'a');
"""
COLUMNS = "columns: [{name: id, type: int, nullable: false}, {name: k, type: text, nullable: false}]"
GENERATED = """
CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED, CONSTRAINT keepme UNIQUE (b), CONSTRAINT chk CHECK (b < 100));
CREATE UNIQUE INDEX ux ON t (a) WHERE b > 1; GRANT SELECT (b) ON t TO PUBLIC; COMMENT ON COLUMN t.b IS 'x';
CREATE STATISTICS st ON a, b FROM t;
"""
TRIPLE = "tables: [{name: t, columns: [{name: a, type: int}, {name: b, type: int, generated: a*3}]}]"


@pytest.fixture
def publication():
    return "pub"


def prepare(server, database, script):
    server.run(database, f"CREATE SCHEMA customer; SET search_path = customer; {script}")


def run(server, database, declared, check=False, **options):
    return schemas.run(server.connect(database), {**yaml.safe_load(declared), **options}, check)


def parts_of(server, database, place):
    """Comments, defaults, triggers and rules, as PostgreSQL's own functions print them."""
    return server.run(
        database,
        f"""SELECT 'comment', objsubid::text, description FROM pg_description WHERE objoid = '{place}'::regclass
            UNION ALL SELECT 'default', '', pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = '{place}'::regclass
            UNION ALL SELECT 'trigger', '', pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = '{place}'::regclass
            UNION ALL SELECT 'rule', '', pg_get_ruledef(oid) FROM pg_rewrite WHERE ev_class = '{place}'::regclass AND rulename <> '_RETURN'
            UNION ALL SELECT 'right', attname, attacl::text FROM pg_attribute WHERE attrelid = '{place}'::regclass AND attacl IS NOT NULL
            ORDER BY 1, 2, 3""",
    )


@pytest.mark.parametrize("declared", [WIDER, TURNED])
def test_a_view_keeps_what_hangs_on_it(server, database, declared):
    prepare(server, database, VIEW)
    before = parts_of(server, database, "customer.v")
    assert len(before) == 5
    done = run(server, database, declared)
    assert [step for step in done.steps if step.sql.startswith("DROP VIEW")]
    after = parts_of(server, database, "customer.v")
    if declared == TURNED:  # the columns have other numbers
        before, after = ([(kind, text) for kind, dummy, text in found] for found in (before, after))
    assert after == before
    assert run(server, database, declared, True).steps == []


@pytest.mark.parametrize(
    "more, words",
    [
        ("CREATE MATERIALIZED VIEW m AS SELECT * FROM v", "rule _RETURN on materialized view"),
        ("CREATE FUNCTION g() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM v; END", "function customer.g()"),
        ("CREATE TABLE u (row v)", "column \"row\" of table customer.u"),
        ("COMMENT ON TRIGGER tr ON v IS 'x'", "the comment on trigger tr"),
    ],
)
def test_what_cannot_come_back_with_a_view_is_named(server, database, more, words):
    prepare(server, database, VIEW + more)
    for check in (True, False):
        with pytest.raises(steps.PlanError) as caught:
            run(server, database, TURNED, check)
        assert words.replace('"', "") in str(caught.value).replace('"', "") and "customer.v: it has to be made anew" in str(caught.value)


@pytest.mark.parametrize(
    "script, more",
    [
        (IDENTITY, "indexes: [{name: ri, columns: [id, k], unique: true}]"),
        (KEY, "unique: [{name: u, columns: [id, k]}]"),
    ],
)
def test_a_replaced_index_hands_on_what_hangs_on_it(server, database, publication, script, more):
    prepare(server, database, script.format(publication=publication))
    name = "ri" if script == IDENTITY else "u"
    question = f"""SELECT indisreplident, indisclustered, obj_description(indexrelid, 'pg_class'),
        (SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = '{name}')
        FROM pg_index WHERE indexrelid = 'customer.{name}'::regclass"""
    before = server.run(database, question)
    declared = f"tables: [{{name: t, {COLUMNS}, {more}}}]"
    assert run(server, database, declared).steps
    assert server.run(database, question) == before and before[0][0]
    server.run(database, "UPDATE customer.t SET k = 'c'")
    assert run(server, database, declared, True).steps == []


@pytest.mark.parametrize("purge, more", [(False, "indexes: [{name: ri, columns: [id, k]}]"), (True, "indexes: []")])
def test_a_replica_identity_does_not_go(server, database, publication, purge, more):
    prepare(server, database, IDENTITY.format(publication=publication))
    for check in (True, False):
        with pytest.raises(steps.PlanError, match="replica identity of customer.t"):
            run(server, database, f"tables: [{{name: t, {COLUMNS}, {more}}}]", check, purge=purge, allow=["drops_index"])
    server.run(database, "UPDATE customer.t SET k = 'c'")


def test_a_replica_identity_is_declared(server, database):
    prepare(server, database, "CREATE TABLE t (id int NOT NULL)")
    for given in ("full", "ri", "nothing", "default"):
        declared = f"tables: [{{name: t, replica_identity: {given}, columns: [{{name: id, type: int, nullable: false}}],"
        declared += " indexes: [{name: ri, columns: [id], unique: true}]}]"
        assert run(server, database, declared).steps and run(server, database, declared, True).steps == []
        kept = server.run(database, "SELECT relreplident::text FROM pg_class WHERE oid = 'customer.t'::regclass")
        assert kept == [({"full": "f", "ri": "i", "nothing": "n", "default": "d"}[given],)]


def test_a_changed_check_keeps_its_comment(server, database):
    prepare(server, database, "CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 0)); COMMENT ON CONSTRAINT c ON t IS 'why'")
    run(server, database, "tables: [{name: t, columns: [{name: a, type: int}], checks: [{name: c, expression: a > 1}]}]")
    assert server.run(database, "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'c'") == [("why",)]


def test_a_generated_column_loses_nothing_in_silence(server, database):
    prepare(server, database, GENERATED + "INSERT INTO t (a) VALUES (2)")
    if server.version >= 17:
        with pytest.raises(converge.Hazardous, match="rewrites_table"):
            run(server, database, TRIPLE)
        run(server, database, TRIPLE, allow=["rewrites_table"])
        assert run(server, database, TRIPLE, True).steps == []
        found = server.run(database, "SELECT conname FROM pg_constraint WHERE conrelid = 'customer.t'::regclass AND contype IN ('u', 'c') ORDER BY 1")
        assert found == [("chk",), ("keepme",)] and server.run(database, "SELECT b FROM customer.t") == [(6,)]
        assert [kind for kind, *dummy in parts_of(server, database, "customer.t")] == ["comment", "default", "right"]
        return
    for check in (True, False):
        with pytest.raises(steps.PlanError) as caught:
            run(server, database, TRIPLE, check, allow=["rewrites_table"])
        for lost in ("constraint chk", "constraint keepme", "index ux", "grant of SELECT to PUBLIC", "statistics object customer.st"):
            assert lost in str(caught.value), str(caught.value)


def test_the_comment_of_a_generated_column_comes_back(server, database):
    prepare(server, database, "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED); COMMENT ON COLUMN t.b IS 'x'")
    run(server, database, TRIPLE, allow=["rewrites_table"])
    assert [text for kind, dummy, text in parts_of(server, database, "customer.t") if kind == "comment"] == ["x"]


# -- sequences


@pytest.mark.parametrize(
    "script, kind",
    [
        ("CREATE TABLE t (id serial PRIMARY KEY, x text)", "type: int, default: \"nextval('t_id_seq'::regclass)\""),
        (
            "CREATE SEQUENCE mine INCREMENT BY 5; CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('mine'), x text); ALTER SEQUENCE mine OWNED BY t.id",
            "type: int, default: \"nextval('mine'::regclass)\"",
        ),
        ("CREATE SEQUENCE id; CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('id'), x text)", "type: int, default: \"nextval('id')\""),
    ],
)
def test_a_default_from_a_sequence_is_no_change(server, database, script, kind):
    prepare(server, database, script)
    declared = f"tables: [{{name: t, primary_key: [id], columns: [{{name: id, {kind}}}, {{name: x, type: text}}]}}]"
    for dummy in range(2):
        assert run(server, database, declared).steps == []


def test_a_sequence_that_another_table_uses_stays(server, database):
    prepare(server, database, "CREATE TABLE t (id serial PRIMARY KEY); CREATE TABLE o (id int DEFAULT nextval('t_id_seq'))")
    run(server, database, "tables: [{name: t, primary_key: [id], columns: [{name: id, type: int}]}]")
    server.run(database, "INSERT INTO customer.o DEFAULT VALUES; DROP TABLE customer.t; INSERT INTO customer.o DEFAULT VALUES")


def test_the_counter_of_a_serial_does_not_go_unasked(server, database):
    prepare(server, database, "CREATE TABLE t (id serial PRIMARY KEY)")
    with pytest.raises(converge.Hazardous, match="deletes_data"):
        run(server, database, "tables: [{name: t, primary_key: [id], columns: [{name: id, type: int}]}]")


# -- names that are taken

NEW_COLUMN = "tables: [{name: t, columns: [{name: a, type: int}, {name: b, type: int}], %s}]"


@pytest.mark.parametrize(
    "taken, declared, words",
    [
        ("CREATE VIEW i1 AS SELECT 1 x", NEW_COLUMN % "indexes: [{name: i1, columns: [a]}]", "taken by view customer.i1"),
        ("CREATE SEQUENCE i1", NEW_COLUMN % "indexes: [{name: i1, columns: [a]}]", "taken by sequence customer.i1"),
        ("CREATE TABLE o (a int); CREATE INDEX i1 ON o (a)", NEW_COLUMN % "indexes: [{name: i1, columns: [a]}]", "taken by index customer.i1 of o"),
        ("CREATE TYPE i1 AS (x int)", NEW_COLUMN % "indexes: [{name: i1, columns: [a]}]", "taken by type customer.i1"),
        ("CREATE SEQUENCE t_pkey", NEW_COLUMN % "primary_key: [a]", "taken by sequence customer.t_pkey"),
        ("CREATE DOMAIN n AS int", "tables: [{name: n, columns: [{name: a, type: int}]}]", "taken by domain customer.n"),
        ("CREATE TABLE n (a int)", "enums: [{name: n, values: [x]}]", "taken by table customer.n"),
        (
            "ALTER TABLE t ADD CONSTRAINT t_a_key UNIQUE (a)",
            NEW_COLUMN % "indexes: [{name: t_a_key, columns: [a], unique: true}]",
            "taken by index customer.t_a_key of t",
        ),
    ],
)
def test_a_taken_name_is_foreseen(server, database, taken, declared, words):
    prepare(server, database, f"CREATE TABLE t (a int); {taken}")
    before = statements(server, database)
    for check in (True, False):
        with pytest.raises(steps.PlanError) as caught:
            run(server, database, declared, check)
        assert words in str(caught.value) and "rename or drop" in str(caught.value), str(caught.value)
    assert statements(server, database) == before


def test_a_unique_constraint_becomes_an_index_of_the_same_name(server, database):
    prepare(server, database, "CREATE TABLE t (a int CONSTRAINT t_a_key UNIQUE)")
    declared = "tables: [{name: t, columns: [{name: a, type: int}], indexes: [{name: t_a_key, columns: [a], unique: true}]}]"
    run(server, database, declared, purge=True, allow=["drops_index"])
    assert run(server, database, declared, True, purge=True).steps == []
    assert server.run(database, "SELECT count(*) FROM pg_constraint WHERE conrelid = 'customer.t'::regclass AND contype = 'u'") == [(0,)]


def test_a_serial_takes_the_next_name_that_is_free(server, database):
    prepare(server, database, "CREATE TABLE t (id int NOT NULL); CREATE SEQUENCE t_id_seq; INSERT INTO t VALUES (7)")
    run(server, database, "tables: [{name: t, columns: [{name: id, type: serial}]}]")
    assert server.run(database, "SELECT pg_get_serial_sequence('customer.t', 'id'), nextval('customer.t_id_seq1')") == [("customer.t_id_seq1", 8)]


@pytest.mark.parametrize("how", ["(a, id)", "WHERE (a = 'x')"])
def test_a_publication_in_the_way_is_foreseen(server, database, publication, how):
    prepare(server, database, f"CREATE TABLE t (id int PRIMARY KEY, a varchar(10)); CREATE PUBLICATION {publication} FOR TABLE t {how}")
    for check in (True, False):
        with pytest.raises(steps.PlanError, match=f"publication of table customer.t in publication {publication} uses column a"):
            declared = "tables: [{name: t, primary_key: [id], columns: [{name: id, type: int}, {name: a, type: varchar(20)}]}]"
            run(server, database, declared, check)


def test_a_rule_of_a_table_in_the_way_is_foreseen(server, database):
    prepare(server, database, "CREATE TABLE t (a varchar(10)); CREATE RULE r AS ON UPDATE TO t WHERE new.a = 'x' DO INSTEAD NOTHING")
    with pytest.raises(steps.PlanError, match="rule r on table customer.t uses column a"):
        run(server, database, "tables: [{name: t, columns: [{name: a, type: varchar(20)}]}]", True)


@pytest.mark.parametrize(
    "script, index",
    [
        ("CREATE TABLE t (a int); CREATE INDEX i ON t (a) WITH (deduplicate_items = off)", "columns: [a], with: {deduplicate_items: false}"),
        ("CREATE TABLE t (a int[]); CREATE INDEX i ON t USING gin (a) WITH (fastupdate = off)", "columns: [a], method: gin, with: {fastupdate: false}"),
    ],
)
def test_a_switch_of_an_index_is_no_change(server, database, script, index):
    prepare(server, database, script)
    kind = "int[]" if "int[]" in script else "int"
    assert run(server, database, f"tables: [{{name: t, columns: [{{name: a, type: '{kind}'}}], indexes: [{{name: i, {index}}}]}}]").steps == []


# -- what a DBA declares

ALL = """
tables:
  - name: room
    columns:
      - {name: id, type: int, identity: by_default, identity_start: 100, identity_increment: 10}
      - {name: code, type: text, nullable: false}
      - {name: floor, type: int}
      - {name: during, type: tsrange}
    primary_key: [id]
    primary_key_options: {name: the_key, include: [code], deferrable: true}
    unique:
      - {name: u, columns: [code, floor], nulls_not_distinct: true, deferrable: true, initially_deferred: true}
    exclusions:
      - {name: once, elements: [during WITH &&], where: floor > 0, deferrable: true, initially_deferred: true}
  - name: part
    columns: [{name: a, type: int, nullable: false}, {name: b, type: int}, {name: c, type: int, nullable: false}]
    unique: [{columns: [a, b]}, {columns: [c], include: [a]}]
  - name: visit
    columns: [{name: a, type: int, nullable: false}, {name: b, type: int}]
    foreign_keys:
      - {columns: [a, b], references: {table: part, columns: [a, b]}, on_delete: set_null, on_delete_columns: [b],
         deferrable: true, initially_deferred: true, name: f}
      - {columns: [b, a], references: {table: part, columns: [b, a]}, match: full, name: g}
views:
  - {name: v, query: SELECT id FROM room WHERE floor > 1, security_invoker: true, security_barrier: true, check_option: local, comment: what it is}
"""
BY_HAND = """
CREATE TABLE room (id int GENERATED BY DEFAULT AS IDENTITY (START WITH 100 INCREMENT BY 10), code text NOT NULL, floor int, during tsrange,
  CONSTRAINT the_key PRIMARY KEY (id) INCLUDE (code) DEFERRABLE,
  CONSTRAINT u UNIQUE NULLS NOT DISTINCT (code, floor) DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT once EXCLUDE USING gist (during WITH &&) WHERE (floor > 0) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE part (a int NOT NULL, b int, c int NOT NULL, UNIQUE (a, b), CONSTRAINT part_c_key UNIQUE (c) INCLUDE (a));
CREATE TABLE visit (a int NOT NULL, b int,
  CONSTRAINT f FOREIGN KEY (a, b) REFERENCES part (a, b) ON DELETE SET NULL (b) DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT g FOREIGN KEY (b, a) REFERENCES part (b, a) MATCH FULL);
CREATE VIEW v WITH (check_option = local, security_barrier = on, security_invoker = on) AS SELECT id FROM room WHERE floor > 1;
COMMENT ON VIEW v IS 'what it is';
"""


def statements(server, database):
    text = server.dump(database, "--schema=customer", "--no-owner")
    return sorted("\n".join([line for line in text.splitlines() if line and not line.startswith("--")] + [""]).split(";\n"))


def test_each_option_makes_what_it_says(server, database):
    run(server, database, ALL)
    other = server.database()
    try:
        prepare(server, other, BY_HAND)
        assert statements(server, database) == statements(server, other)
        assert run(server, database, ALL, True).steps == []
        # From a plain one, too.
        plain = server.database()
        try:
            prepare(server, plain, "CREATE TABLE room (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, code text NOT NULL, floor int, during tsrange)")
            run(server, plain, ALL, allow=["blocks_writes"])
            assert statements(server, plain) == statements(server, other)
        finally:
            server.drop(plain)
    finally:
        server.drop(other)


def test_options_of_a_view_are_taken_back(server, database):
    run(server, database, ALL)
    without = ALL.replace("security_invoker: true, security_barrier: true, check_option: local", "security_invoker: false, check_option: none")
    run(server, database, without)
    assert server.run(database, "SELECT reloptions FROM pg_class WHERE oid = 'customer.v'::regclass") == [(["security_barrier=on"],)]
    assert run(server, database, without, True).steps == []
