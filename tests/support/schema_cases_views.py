# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases of what spans tables: views and other users of a column, comments, renames, what is not declared, owners."""

from __future__ import annotations

from schema_cases import Case, table
from schema_cases_parts import run_all

AB = "{name: a, type: %s}, {name: b, type: int}"
GRANTS = (
    "SELECT grantee, privilege_type, is_grantable FROM information_schema.role_table_grants WHERE table_name = '%s' AND grantee IN ('reader',"
    " 'PUBLIC') ORDER BY 1, 2"
)
OWNER = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = '%s'"
USED = "CREATE TABLE t (a varchar(9), b int)"

VIEWS = [
    Case(
        "views read alike",
        "CREATE TABLE t (a text, b int); CREATE VIEW v AS SELECT * FROM t WHERE b IN (1, 2); CREATE VIEW w AS SELECT v.a || 'x' AS y, count(*) FROM v"
        " GROUP BY 1",
        table(AB % "text")
        + "views: [{name: w, query: \"select v.a||'x' as y, count(*) from v group by 1;\"}, {name: v, query: 'SELECT * FROM t WHERE b IN (1,2)'}]",
        "CREATE TABLE t (a text, b int); CREATE VIEW v AS SELECT * FROM t WHERE b IN (1, 2); CREATE VIEW w AS SELECT v.a || 'x' AS y, count(*) FROM v"
        " GROUP BY 1",
        plan=[],
    ),
    Case(
        "views on views are made in their order",
        "",
        table(AB % "text")
        + "views: [{name: w, query: SELECT * FROM v}, {name: v, query: SELECT * FROM t}, {name: x, query: 'WITH q AS (SELECT 1 AS n) SELECT * FROM"
        " q'}]",
        "CREATE TABLE t (a text, b int); CREATE VIEW v AS SELECT * FROM t; CREATE VIEW w AS SELECT * FROM v; CREATE VIEW x AS WITH q AS (SELECT 1 AS"
        " n) SELECT * FROM q",
    ),
    Case(
        "view gets a column at its end",
        f"{USED}; CREATE VIEW v AS SELECT a FROM t; GRANT SELECT ON v TO reader",
        table(AB % "varchar(9)") + "views: [{name: v, query: 'SELECT a, b FROM t'}]",
        f"{USED}; CREATE VIEW v AS SELECT a, b FROM t",
        plan=["CREATE OR REPLACE VIEW"],
        proofs=((GRANTS % "v", [("reader", "SELECT", "NO")]),),
    ),
    Case(
        "view loses a column",
        f"{USED}; CREATE VIEW v AS SELECT a, b FROM t; GRANT SELECT ON v TO reader WITH GRANT OPTION; GRANT UPDATE (b) ON v TO reader; COMMENT ON"
        " VIEW v IS 'it''s'; ALTER VIEW v SET (security_barrier = true)",
        table(AB % "varchar(9)") + "views: [{name: v, query: SELECT b FROM t}]",
        name_free=True,
        proofs=(
            (GRANTS % "v", [("reader", "SELECT", "YES")]),
            ("SELECT has_column_privilege('reader', 'v', 'b', 'UPDATE')", [(True,)]),
            (
                "SELECT obj_description('v'::regclass), (SELECT reloptions FROM pg_class WHERE oid = 'v'::regclass)",
                [("it's", ["security_barrier=true"])],
            ),
        ),
    ),
    Case(
        "view of another owner is made again",
        f"{USED}; CREATE VIEW v AS SELECT a, b FROM t; GRANT CREATE, USAGE ON SCHEMA customer TO other_owner; GRANT SELECT ON t TO other_owner; ALTER"
        " VIEW v OWNER TO other_owner; GRANT SELECT ON v TO PUBLIC",
        table(AB % "varchar(9)") + "views: [{name: v, query: SELECT b FROM t}]",
        name_free=True,
        proofs=((GRANTS % "v", [("PUBLIC", "SELECT", "NO")]), (OWNER % "v", [("other_owner",)])),
    ),
    Case(
        "column under views changes its type",
        f"{USED}; CREATE VIEW v AS SELECT a FROM t; CREATE VIEW w AS SELECT a || 'x' AS y FROM v; GRANT SELECT ON w TO reader",
        table(AB % "text") + "views: [{name: v, query: SELECT a FROM t}, {name: w, query: \"SELECT a || 'x' AS y FROM v\"}]",
        "CREATE TABLE t (a text, b int); CREATE VIEW v AS SELECT a FROM t; CREATE VIEW w AS SELECT a || 'x' AS y FROM v",
        rows="INSERT INTO t VALUES ('x', 1)",
        plan=[
            'DROP VIEW "customer"."w"',
            'DROP VIEW "customer"."v"',
            "TYPE text",
            'CREATE VIEW "customer"."v"',
            'CREATE VIEW "customer"."w"',
            'GRANT SELECT ON "customer"."w" TO "reader"',
        ],
        proofs=((GRANTS % "w", [("reader", "SELECT", "NO")]),),
    ),
    Case(
        "column under an undeclared view changes its type",
        f"{USED}; CREATE VIEW v AS SELECT a FROM t; GRANT SELECT ON v TO reader",
        table(AB % "text"),
        "CREATE TABLE t (a text, b int)",
        beside="CREATE VIEW v AS SELECT a FROM t",
        rows="INSERT INTO t VALUES ('x', 1)",
        undeclared=("view customer.v",),
        proofs=((GRANTS % "v", [("reader", "SELECT", "NO")]),),
    ),
    Case(
        "column under a view of another schema changes its type",
        USED,
        table(AB % "text"),
        "CREATE TABLE t (a text, b int)",
        around="CREATE SCHEMA elsewhere",
        actions=(run_all("CREATE VIEW elsewhere.v AS SELECT a FROM customer.t", "GRANT SELECT ON elsewhere.v TO reader"),),
        rows="INSERT INTO t VALUES ('x', 1)",
        proofs=((GRANTS % "v", [("reader", "SELECT", "NO")]), ("SELECT a FROM elsewhere.v", [("x",)])),
    ),
    Case(
        "column beside those of a view changes its type",
        f"{USED}; CREATE VIEW v AS SELECT b FROM t",
        table(AB % "text"),
        "CREATE TABLE t (a text, b int)",
        beside="CREATE VIEW v AS SELECT b FROM t",
        plan=["TYPE text"],
    ),
    Case(
        "column of a view is to go",
        f"{USED}; CREATE VIEW v AS SELECT a FROM t",
        table("{name: b, type: int}") + "views: [{name: v, query: SELECT b FROM t}]\npurge: true",
        "CREATE TABLE t (b int); CREATE VIEW v AS SELECT b FROM t",
        allow=("deletes_data",),
        rows="INSERT INTO t VALUES ('x', 1)",
    ),
    Case(
        "column of a view in another schema cannot go",
        USED,
        table("{name: b, type: int}") + "purge: true",
        around="CREATE SCHEMA elsewhere",
        actions=(run_all("CREATE VIEW elsewhere.v AS SELECT a FROM customer.t"),),
        allow=("deletes_data",),
        error=("view elsewhere.v", "t.a"),
    ),
    Case(
        "undeclared view stays",
        f"{USED}; CREATE VIEW v AS SELECT a FROM t",
        table(AB % "varchar(9)"),
        USED,
        beside="CREATE VIEW v AS SELECT a FROM t",
        undeclared=("view customer.v",),
        plan=[],
    ),
    Case(
        "undeclared view goes",
        f"{USED}; CREATE VIEW v AS SELECT a FROM t; CREATE VIEW w AS SELECT * FROM v",
        table(AB % "varchar(9)") + "purge: true",
        USED,
        plan=["DROP VIEW", "DROP VIEW"],
    ),
    Case(
        "view with a query that is none",
        USED,
        table(AB % "varchar(9)") + "views: [{name: v, query: DELETE FROM t}]",
        error=("views[0] (v)", "a view is a SELECT"),
    ),
    Case(
        "view that deletes",
        USED,
        table(AB % "varchar(9)") + "views: [{name: v, query: 'WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d'}]",
        rows="INSERT INTO t VALUES ('x', 1)",
        error=("view v", "data-modifying"),
    ),
    Case(
        "view of a column that is not there",
        USED,
        table(AB % "varchar(9)") + "views: [{name: v, query: SELECT nothing FROM t}]",
        error=("view v: query", "nothing"),
    ),
    Case(
        "view over a renamed column",
        f"{USED}; CREATE VIEW v AS SELECT a FROM t",
        table("{name: z, type: varchar(9), renamed_from: a}, {name: b, type: int}") + "views: [{name: v, query: SELECT z AS a FROM t}]",
        "CREATE TABLE t (z varchar(9), b int); CREATE VIEW v AS SELECT z AS a FROM t",
        rows="INSERT INTO t VALUES ('x', 1)",
    ),
]

OTHERS = [
    Case(
        "column of a materialized view changes its type",
        f"{USED}; CREATE MATERIALIZED VIEW m AS SELECT a FROM t",
        table(AB % "text"),
        error=("materialized view", "column a of customer.t", "drop it"),
    ),
    Case(
        "column of a trigger changes its type",
        USED,
        table(AB % "text"),
        actions=(run_all("CREATE TRIGGER g BEFORE UPDATE OF a ON t FOR EACH ROW EXECUTE FUNCTION f()"),),
        around="CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        error=("trigger g", "column a of customer.t"),
    ),
    Case(
        "column of a policy goes",
        USED,
        table("{name: b, type: int}") + "purge: true",
        actions=(run_all("CREATE POLICY p ON t USING (a = 'x')"),),
        allow=("deletes_data",),
        error=("policy p", "column a of customer.t"),
    ),
    Case(
        "column of a policy changes its type",
        USED,
        table(AB % "text"),
        actions=(run_all("CREATE POLICY p ON t USING (a = 'x')"),),
        error=("policy p", "column a of customer.t"),
    ),
    Case(
        "table with a trigger and a policy beside",
        USED,
        table("{name: a, type: varchar(9)}, {name: b, type: bigint}"),
        actions=(run_all("CREATE POLICY p ON t USING (a = 'x')", "CREATE TRIGGER g BEFORE UPDATE OF a ON t FOR EACH ROW EXECUTE FUNCTION f()"),),
        around="CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        allow=("rewrites_table",),
        rows="INSERT INTO t VALUES ('x', 1)",
        name_free=True,
    ),
    Case(
        "column under a foreign key of another schema goes",
        "CREATE TABLE t (a int PRIMARY KEY)",
        "tables: [{name: t, state: absent}]",
        around="CREATE SCHEMA elsewhere",
        actions=(run_all("CREATE TABLE elsewhere.u (a int REFERENCES customer.t)"),),
        allow=("deletes_data",),
        error=("u", "t"),
    ),
    Case(
        "sequences, functions, domains and materialized views stay",
        f"{USED}; CREATE SEQUENCE s; CREATE MATERIALIZED VIEW m AS SELECT 1 AS n; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE"
        " DOMAIN d AS int",
        table(AB % "varchar(9)") + "purge: true",
        name_free=True,
        plan=[],
        undeclared=("materialized view customer.m", "sequence customer.s"),
    ),
    Case("table in the way of a view's name", f"{USED}", "views: [{name: t, query: SELECT 1 AS n}]", error=("view customer.t", "table of that name")),
    Case(
        "view in the way of a table's name",
        "CREATE VIEW t AS SELECT 1 AS n",
        table("{name: a, type: int}"),
        error=("table customer.t", "view of that name"),
    ),
    Case(
        "table that inherits",
        "CREATE TABLE base (a int); CREATE TABLE t (b int) INHERITS (base)",
        table("{name: a, type: int}, {name: b, type: int}"),
        plan=[],
        name_free=True,
        undeclared=("table customer.base",),
    ),
]

COMMENTS = [
    Case(
        "comments",
        "CREATE TABLE t (a int, b int, c int, d int); COMMENT ON TABLE t IS 'old'; COMMENT ON COLUMN t.b IS 'old'; COMMENT ON COLUMN t.c IS 'old';"
        " COMMENT ON COLUMN t.d IS 'kept'",
        table(
            '{name: a, type: int, comment: "100% it\'s \\\\ \\" %s\\nnext line"}, {name: b, type: int, comment: new}, {name: c, type: int, comment:'
            " ''}, {name: d, type: int}",
            'comment: "it\'s 100%"',
        ),
        """CREATE TABLE t (a int, b int, c int, d int); COMMENT ON TABLE t IS 'it''s 100%'; COMMENT ON COLUMN t.a IS E'100% it''s \\\\ " %s\nnext line';
            COMMENT ON COLUMN t.b IS 'new'; COMMENT ON COLUMN t.d IS 'kept'""",
        yaml_only=True,
        rows="INSERT INTO t VALUES (1)",
    ),
    Case(
        "comments read alike",
        "CREATE TABLE t (a int); COMMENT ON TABLE t IS E'a''b\\\\c%'; COMMENT ON COLUMN t.a IS '$$'",
        table("{name: a, type: int, comment: $$}", "comment: 'a''b\\c%'"),
        "CREATE TABLE t (a int); COMMENT ON TABLE t IS E'a''b\\\\c%'; COMMENT ON COLUMN t.a IS '$$'",
        plan=[],
    ),
]

RENAMES = [
    Case(
        "table is renamed",
        "CREATE TABLE old (id serial PRIMARY KEY, a int UNIQUE CHECK (a > 0)); CREATE INDEX i ON old (a); CREATE TABLE child (o int REFERENCES old);"
        " CREATE VIEW v AS SELECT a FROM old",
        """
tables:
- {name: t, renamed_from: old, columns: [{name: id, type: serial}, {name: a, type: int}], primary_key: [id], unique: [{name: old_a_key,
    columns: [a]}], checks: [{name: old_a_check, expression: a > 0}],
   indexes: [{name: i, columns: [a]}]}
- {name: child, columns: [{name: o, type: int}], foreign_keys: [{columns: [o], references: {table: t}}]}
views: [{name: v, query: SELECT a FROM t}]
""",
        rows="INSERT INTO old (a) VALUES (1), (2); INSERT INTO child VALUES (1)",
        name_free=True,
        plan=['RENAME TO "t"', "CREATE OR REPLACE VIEW"],
        proofs=(("SELECT a FROM v ORDER BY 1", [(1,), (2,)]),),
    ),
    Case(
        "table is renamed and its rename stays declared",
        "CREATE TABLE t (a int)",
        "tables: [{name: t, renamed_from: old, columns: [{name: a, type: int}]}]",
        "CREATE TABLE t (a int)",
        plan=[],
    ),
    Case(
        "column is renamed",
        "CREATE TABLE t (a int PRIMARY KEY, b int CONSTRAINT c CHECK (b > 0), g int GENERATED ALWAYS AS (b * 2) STORED, CONSTRAINT u UNIQUE (b));"
        " CREATE INDEX i ON t (b, (b + 1)) WHERE b > 3",
        table(
            "{name: x, type: int, renamed_from: a}, {name: y, type: int, renamed_from: b}, {name: g, type: int, generated: y * 2}",
            "primary_key: [x]\nchecks: [{name: c, expression: y > 0}]\nunique: [{name: u, columns: [y]}]\nindexes: [{name: i, columns: [y, '(y +"
            " 1)'], where: y > 3}]",
        ),
        "CREATE TABLE t (x int PRIMARY KEY, y int CONSTRAINT c CHECK (y > 0), g int GENERATED ALWAYS AS (y * 2) STORED, CONSTRAINT u UNIQUE (y));"
        " CREATE INDEX i ON t (y, (y + 1)) WHERE y > 3",
        rows="INSERT INTO t VALUES (1, 5), (2, 6)",
        plan=["RENAME COLUMN", "RENAME COLUMN"],
    ),
    Case(
        "column is renamed to a name that needs quotes",
        "CREATE TABLE t (a int CONSTRAINT c CHECK (a > 0)); CREATE INDEX i ON t ((a + 1))",
        table(
            "{name: 'A b', type: int, renamed_from: a}",
            "checks: [{name: c, expression: '\"A b\" > 0'}]\nindexes: [{name: i, columns: ['(\"A b\" + 1)']}]",
        ),
        'CREATE TABLE t ("A b" int CONSTRAINT c CHECK ("A b" > 0)); CREATE INDEX i ON t (("A b" + 1))',
        rows="INSERT INTO t VALUES (1)",
        plan=["RENAME COLUMN"],
    ),
    Case(
        "column is renamed to a reserved word",
        "CREATE TABLE t (a int CONSTRAINT c CHECK (a > 0))",
        table("{name: user, type: int, renamed_from: a}", "checks: [{name: c, expression: '\"user\" > 0'}]"),
        'CREATE TABLE t ("user" int CONSTRAINT c CHECK ("user" > 0))',
        rows="INSERT INTO t VALUES (1)",
    ),
    Case(
        "table and column are renamed and changed",
        "CREATE TABLE old (a varchar(9)); CREATE VIEW v AS SELECT a FROM old",
        "tables: [{name: t, renamed_from: old, columns: [{name: b, type: text, nullable: false, renamed_from: a}]}]",
        "CREATE TABLE t (b text NOT NULL)",
        beside="CREATE VIEW v AS SELECT b AS a FROM t",
        rows="INSERT INTO old VALUES ('x')",
        error=("view customer.v", "renamed", "run of its own"),
    ),
    Case(
        "table and column are renamed under an undeclared view",
        "CREATE TABLE old (a varchar(9)); CREATE VIEW v AS SELECT a FROM old",
        "tables: [{name: t, renamed_from: old, columns: [{name: b, type: varchar(9), renamed_from: a}]}]",
        "CREATE TABLE t (b varchar(9))",
        beside="CREATE VIEW v AS SELECT b AS a FROM t",
        rows="INSERT INTO old VALUES ('x')",
        proofs=(("SELECT a FROM v", [("x",)]),),
    ),
    Case(
        "table and column are renamed and changed under a declared view",
        "CREATE TABLE old (a varchar(9)); CREATE VIEW v AS SELECT a FROM old",
        "tables: [{name: t, renamed_from: old, columns: [{name: b, type: text, renamed_from: a}]}]\nviews: [{name: v, query: SELECT b AS a FROM t}]",
        "CREATE TABLE t (b text); CREATE VIEW v AS SELECT b AS a FROM t",
        rows="INSERT INTO old VALUES ('x')",
        proofs=(("SELECT a FROM v", [("x",)]),),
    ),
    Case(
        "columns trade their names",
        "CREATE TABLE t (a int, b int)",
        table("{name: a, type: int, renamed_from: b}, {name: b, type: int, renamed_from: a}"),
        plan=[],
        name_free=True,
    ),
    Case(
        "renamed column under a foreign key",
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (a int REFERENCES p)",
        "tables:\n- {name: p, columns: [{name: key, type: int, renamed_from: id}], primary_key: [key]}\n- {name: t, columns: [{name: p, type: int,"
        " renamed_from: a}], foreign_keys: [{name: t_a_fkey, columns: [p], references: {table: p}}]}",
        "CREATE TABLE p (key int PRIMARY KEY); CREATE TABLE t (p int CONSTRAINT t_a_fkey REFERENCES p)",
        rows="INSERT INTO p VALUES (1); INSERT INTO t VALUES (1)",
        plan=["RENAME", "RENAME"],
    ),
    Case(
        "rename with both declared",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}, {name: b, type: int, renamed_from: a}"),
        error=("column t.b", "renamed_from is a", "keep one"),
    ),
    Case(
        "rename of a key column of a parted table",
        "CREATE TABLE t (at date NOT NULL) PARTITION BY RANGE (at)",
        table("{name: day, type: date, nullable: false, renamed_from: at}", "partition_by: RANGE (day)"),
        "CREATE TABLE t (day date NOT NULL) PARTITION BY RANGE (day)",
        plan=["RENAME COLUMN"],
    ),
    Case(
        "what looks like a rename is told",
        "CREATE TABLE t (a int, b int)",
        table("{name: a, type: int}, {name: c, type: int}") + "purge: true",
        "CREATE TABLE t (a int, c int)",
        rows="INSERT INTO t VALUES (1, 2)",
        allow=("deletes_data",),
        plan=['DROP COLUMN "b"', 'ADD COLUMN "c"'],
        reasons=("renamed_from: b",),
    ),
]

PURGES = [
    Case(
        "what is undeclared is told",
        "CREATE TABLE t (a int, b int CONSTRAINT c CHECK (b > 0)); CREATE INDEX i ON t (b); CREATE TABLE u (a int); CREATE TYPE e AS ENUM ('x')",
        table("{name: a, type: int}"),
        name_free=True,
        plan=[],
        undeclared=("column customer.t.b", "constraint customer.t.c", "enum customer.e", "index customer.i", "table customer.u"),
        rows="INSERT INTO u VALUES (1)",
    ),
    Case(
        "what is undeclared goes",
        "CREATE TABLE t (a int, b int CONSTRAINT c CHECK (b > 0), d int UNIQUE); CREATE INDEX i ON t (b); CREATE TABLE u (a int); CREATE TYPE e AS"
        " ENUM ('x'); CREATE VIEW v AS SELECT b FROM t",
        table("{name: a, type: int}") + "purge: true",
        "CREATE TABLE t (a int)",
        rows="INSERT INTO t VALUES (1, 2)",
        allow=("deletes_data",),
        undeclared=(),
    ),
    Case(
        "undeclared column that may not be null and has no default",
        "CREATE TABLE t (a int, b int NOT NULL)",
        table("{name: a, type: int}"),
        name_free=True,
        plan=[],
        undeclared=("column customer.t.b",),
    ),
    Case(
        "state absent",
        "CREATE TABLE t (a int); CREATE TABLE u (a int)",
        table("{name: a, type: int}") + "- {name: u, state: absent}\n- {name: never, state: absent}",
        "CREATE TABLE t (a int)",
        rows="INSERT INTO u VALUES (1)",
        allow=("deletes_data",),
        plan=["DROP TABLE"],
    ),
    Case(
        "state absent under a view",
        "CREATE TABLE u (a int); CREATE VIEW v AS SELECT a FROM u",
        "tables: [{name: u, state: absent}]",
        allow=("deletes_data",),
        error=("view customer.v", "u"),
    ),
    Case(
        "state absent under a declared foreign key",
        "CREATE TABLE u (a int PRIMARY KEY); CREATE TABLE t (a int REFERENCES u)",
        table("{name: a, type: int}", "foreign_keys: [{columns: [a], references: {table: u, columns: [a]}}]") + "- {name: u, state: absent}",
        allow=("deletes_data",),
        error=("t_a_fkey", "u"),
    ),
    Case("schema is made", "DROP SCHEMA customer", table("{name: a, type: int}"), "CREATE TABLE t (a int)", plan=["CREATE SCHEMA", "CREATE TABLE"]),
    Case("nothing is declared", "CREATE TABLE t (a int)", "tables: []", name_free=True, plan=[], undeclared=("table customer.t",)),
    Case("table without columns", "", "tables: [{name: t}]", "CREATE TABLE t ()"),
    Case("unlogged in SQL", "", "schema: customer", "CREATE UNLOGGED TABLE t (a int)"),
]

OWNERS = [
    Case(
        "owner is given",
        "CREATE TABLE t (a int); CREATE TYPE e AS ENUM ('x'); CREATE VIEW v AS SELECT a FROM t",
        "owner: other_owner\nenums: [{name: e, values: [x]}]\n" + table("{name: a, type: int}") + "views: [{name: v, query: SELECT a FROM t}]",
        "ALTER SCHEMA customer OWNER TO other_owner; CREATE TABLE t (a int); CREATE TYPE e AS ENUM ('x'); CREATE VIEW v AS SELECT a FROM t; ALTER"
        " TABLE t OWNER TO other_owner; ALTER TYPE e OWNER TO other_owner; ALTER VIEW v OWNER TO other_owner",
        yaml_only=True,
        rows="INSERT INTO t VALUES (1)",
    ),
    Case(
        "owner of all that is made",
        "DROP SCHEMA customer",
        "owner: other_owner\nenums: [{name: e, values: [x]}]\n" + table("{name: a, type: serial}") + "views: [{name: v, query: SELECT a FROM t}]",
        "ALTER SCHEMA customer OWNER TO other_owner; CREATE TABLE t (a serial); CREATE TYPE e AS ENUM ('x'); CREATE VIEW v AS SELECT a FROM t; ALTER"
        " TABLE t OWNER TO other_owner; ALTER TYPE e OWNER TO other_owner; ALTER VIEW v OWNER TO other_owner",
        yaml_only=True,
    ),
    Case(
        "table of another owner",
        "CREATE TABLE t (a int); ALTER TABLE t OWNER TO other_owner",
        table("{name: a, type: bigint}"),
        role="reader",
        actions=(
            run_all(
                "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO reader', current_database()); END $$",
                "GRANT USAGE ON SCHEMA customer TO reader",
            ),
        ),
        error=("table customer.t belongs to other_owner", 'GRANT "other_owner" TO "reader"'),
    ),
    Case(
        "table of another owner for a member",
        "CREATE TABLE t (a int); ALTER TABLE t OWNER TO other_owner; GRANT other_owner TO member_of_other; ALTER SCHEMA customer OWNER TO"
        " other_owner",
        table("{name: a, type: bigint}, {name: b, type: text}", "indexes: [{name: i, columns: [b]}]"),
        role="member_of_other",
        rows="INSERT INTO t VALUES (1)",
        allow=("rewrites_table",),
        name_free=True,
        actions=(run_all("DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO other_owner', current_database()); END $$"),),
        proofs=((OWNER % "t", [("other_owner",)]),),
    ),
    Case(
        "role without rights to compare",
        "CREATE TABLE t (a int); GRANT USAGE ON SCHEMA customer TO member_of_other; REVOKE other_owner FROM member_of_other",
        table("{name: a, type: bigint}"),
        role="member_of_other",
        error=("GRANT CREATE ON DATABASE", "member_of_other", "session_role"),
    ),
    Case("owner that is not there", "", "owner: nobody_of_that_name\n" + table("{name: a, type: int}"), error=("nobody_of_that_name",), unseen=True),
]

CASES: list[Case] = [*VIEWS, *OTHERS, *COMMENTS, *RENAMES, *PURGES, *OWNERS]
