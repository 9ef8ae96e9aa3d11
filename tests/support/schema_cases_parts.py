# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases of what belongs to a table: enums, constraints, generated columns, indexes, partitions."""

from __future__ import annotations

import contextlib

import psycopg2
from ansible_collections.crm.platform.plugins.module_utils.schema import steps
from schema_cases import Case, table

HELPER = steps.helper_name("null", "t", "a")


def run_and_fail(*statements: str):
    """An action of statements that each fail, and leave what they leave."""

    def act(connection) -> None:
        for statement in statements:
            with connection.cursor() as cursor, contextlib.suppress(psycopg2.Error):
                cursor.execute(statement)
                raise AssertionError(f"should have failed: {statement}")

    return act


def run_all(*statements: str):
    """An action of statements that cannot share a transaction."""

    def act(connection) -> None:
        for statement in statements:
            with connection.cursor() as cursor:
                cursor.execute(statement)

    return act


ENUM = "enums: [{name: e, values: [%s]}]\n" + table("{name: a, type: e}")
ENUMS = [
    Case(
        "enum value in the middle",
        "CREATE TYPE e AS ENUM ('a', 'c'); CREATE TABLE t (a e)",
        ENUM % "a, b, c",
        "CREATE TYPE e AS ENUM ('a', 'b', 'c'); CREATE TABLE t (a e)",
        rows="INSERT INTO t VALUES ('a'), ('c')",
        plan=["ADD VALUE 'b' BEFORE 'c'"],
    ),
    Case(
        "enum values at all ends",
        "CREATE TYPE e AS ENUM ('c', 'f'); CREATE TABLE t (a e)",
        ENUM % "a, b, c, d, e, f, g, h",
        "CREATE TYPE e AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'); CREATE TABLE t (a e)",
        rows="INSERT INTO t VALUES ('c'), ('f')",
    ),
    Case(
        "enum value as a default in the same run",
        "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (a e DEFAULT 'a')",
        "enums: [{name: e, values: [new, a]}]\n"
        + table(
            "{name: a, type: e, default: \"'new'\"}",
            "checks: [{name: c, expression: \"a IN ('new', 'a')\"}]\nindexes: [{name: i, columns: [a], where: \"a = 'new'\"}]",
        ),
        "CREATE TYPE e AS ENUM ('new', 'a'); CREATE TABLE t (a e DEFAULT 'new', CONSTRAINT c CHECK (a IN ('new', 'a'))); CREATE INDEX i ON t (a)"
        " WHERE a = 'new'",
        rows="INSERT INTO t VALUES ('a')",
    ),
    Case(
        "enum value goes", "CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE t (a e)", ENUM % "a", error=("enum customer.e", "'b'", "declare it again")
    ),
    Case(
        "enum values change their order",
        "CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE t (a e)",
        ENUM % "b, a",
        error=("enum customer.e", "order", "a, b"),
    ),
    Case(
        "enum label that attacks",
        "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (a e); CREATE TABLE foo ()",
        'enums: [{name: e, values: [a, "x\'); DROP TABLE foo; --"]}]\n' + table("{name: a, type: e}") + "- name: foo\n",
        "CREATE TYPE e AS ENUM ('a', 'x''); DROP TABLE foo; --'); CREATE TABLE t (a e); CREATE TABLE foo ()",
    ),
    Case(
        "enum array",
        "",
        "enums: [{name: e, values: [a, b]}]\n" + table("{name: a, type: 'e[]', default: \"'{a}'\"}"),
        "CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE t (a e[] DEFAULT '{a}')",
    ),
    Case(
        "enum that nobody uses goes",
        "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (a int)",
        table("{name: a, type: int}") + "purge: true",
        "CREATE TABLE t (a int)",
        plan=['DROP TYPE "customer"."e"'],
    ),
    Case(
        "enum that an undeclared table uses cannot go",
        "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (a int)",
        table("{name: a, type: int}") + "purge: true",
        around="CREATE SCHEMA elsewhere",
        actions=(run_all("CREATE TABLE elsewhere.u (a customer.e)"),),
        error=("e", "elsewhere.u"),
        unseen=True,
    ),
]

CHECKS = [
    Case(
        "checks read alike",
        """CREATE TABLE t (s varchar(9), n numeric, at timestamptz, j jsonb, CONSTRAINT c1 CHECK (s IN ('a', 'b')), CONSTRAINT c2 CHECK (n BETWEEN 0 AND 10),
           CONSTRAINT c3 CHECK (s ~ '^[a-z]+$' AND NOT (n IS NULL OR n > 3)), CONSTRAINT c4 CHECK (CASE WHEN n > 1 THEN s IS NOT NULL ELSE true END),
           CONSTRAINT c5 CHECK (at > '2020-01-01'::timestamptz), CONSTRAINT c6 CHECK (j ? 'k' AND j->>'k' <> ''), CONSTRAINT c7 CHECK (n::int % 2 = 0))""",
        table(
            "{name: s, type: varchar(9)}, {name: n, type: numeric}, {name: at, type: timestamptz}, {name: j, type: jsonb}",
            """
checks:
  - {name: c1, expression: "s in ('a','b')"}
  - {name: c2, expression: "n between 0 and 10"}
  - {name: c3, expression: "((s ~ '^[a-z]+$') and not (n is null or n > 3))"}
  - {name: c4, expression: "case when n > 1 then s is not null else true end"}
  - {name: c5, expression: "at > timestamptz '2020-01-01'"}
  - {name: c6, expression: "j ? 'k' and (j ->> 'k') != ''"}
  - {name: c7, expression: "cast(n as integer) % 2 = 0"}
""".replace("\n  -", "\n-"),
        ),
        """CREATE TABLE t (s varchar(9), n numeric, at timestamptz, j jsonb, CONSTRAINT c1 CHECK (s IN ('a', 'b')), CONSTRAINT c2 CHECK (n BETWEEN 0 AND 10),
           CONSTRAINT c3 CHECK (s ~ '^[a-z]+$' AND NOT (n IS NULL OR n > 3)), CONSTRAINT c4 CHECK (CASE WHEN n > 1 THEN s IS NOT NULL ELSE true END),
           CONSTRAINT c5 CHECK (at > '2020-01-01'::timestamptz), CONSTRAINT c6 CHECK (j ? 'k' AND j->>'k' <> ''), CONSTRAINT c7 CHECK (n::int % 2 = 0))""",
        plan=[],
    ),
    Case(
        "check with a domain and a function of the schema",
        "CREATE TABLE t (a text, CONSTRAINT c CHECK (f(a) AND a <> 'b'::d))",
        table("{name: a, type: text}", "checks: [{name: c, expression: \"f(a) AND a <> 'b'::d\"}]"),
        "CREATE TABLE t (a text, CONSTRAINT c CHECK (f(a) AND a <> 'b'::d))",
        around="CREATE DOMAIN d AS text; CREATE FUNCTION f(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        plan=[],
    ),
    Case(
        "check with a type of public",
        "CREATE TABLE t (a st, CONSTRAINT c CHECK (a <> 'a'::st))",
        table("{name: a, type: public.st}", "checks: [{name: c, expression: \"a <> 'a'\"}]"),
        "CREATE TABLE t (a st, CONSTRAINT c CHECK (a <> 'a'::st))",
        around="CREATE TYPE public.st AS ENUM ('a', 'b')",
        plan=[],
    ),
    Case(
        "check is added",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}", "checks: [{name: c, expression: a > 0}]"),
        "CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 0))",
        rows="INSERT INTO t VALUES (1)",
        plan=['ADD CONSTRAINT "c" CHECK (a > 0) NOT VALID', 'VALIDATE CONSTRAINT "c"'],
    ),
    Case(
        "check changes",
        "CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 0))",
        table("{name: a, type: int}", "checks: [{name: c, expression: a > 1}]"),
        "CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 1))",
        rows="INSERT INTO t VALUES (2)",
        plan=['DROP CONSTRAINT "c"', "NOT VALID", "VALIDATE"],
    ),
    Case(
        "check under another name",
        "CREATE TABLE t (a int, CONSTRAINT old CHECK (a > 0))",
        table("{name: a, type: int}", "checks: [{name: c, expression: a > 0}]"),
        "CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 0))",
        rows="INSERT INTO t VALUES (2)",
        plan=['RENAME CONSTRAINT "old" TO "c"'],
    ),
    Case(
        "check that waits for its validation",
        "CREATE TABLE t (a int); ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
        table("{name: a, type: int}", "checks: [{name: c, expression: a > 0}]"),
        "CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 0))",
        rows="INSERT INTO t VALUES (2)",
        plan=['VALIDATE CONSTRAINT "c"'],
    ),
    Case(
        "undeclared check stays",
        "CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 0))",
        table("{name: a, type: int}"),
        "CREATE TABLE t (a int)",
        beside="ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)",
        undeclared=("constraint customer.t.c",),
        plan=[],
    ),
    Case(
        "undeclared check goes",
        "CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 0))",
        table("{name: a, type: int}") + "purge: true",
        "CREATE TABLE t (a int)",
        plan=['DROP CONSTRAINT "c"'],
    ),
]

NULLS = [
    Case(
        "not null",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int, nullable: false}"),
        "CREATE TABLE t (a int NOT NULL)",
        rows="INSERT INTO t VALUES (1)",
        plan=["IS NOT NULL) NOT VALID", "VALIDATE CONSTRAINT", "SET NOT NULL", "DROP CONSTRAINT"],
    ),
    Case(
        "not null over nulls",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int, nullable: false}"),
        rows="INSERT INTO t VALUES (1), (NULL)",
        error=("column customer.t.a", "rows in which it is", "fill them"),
    ),
    Case(
        "not null that was begun",
        f"CREATE TABLE t (a int); ALTER TABLE t ADD CONSTRAINT {HELPER} CHECK (a IS NOT NULL) NOT VALID",
        table("{name: a, type: int, nullable: false}"),
        "CREATE TABLE t (a int NOT NULL)",
        rows="INSERT INTO t VALUES (1)",
        plan=["VALIDATE", "SET NOT NULL", "DROP CONSTRAINT"],
    ),
    Case(
        "not null that was validated",
        f"CREATE TABLE t (a int, CONSTRAINT {HELPER} CHECK (a IS NOT NULL))",
        table("{name: a, type: int, nullable: false}"),
        "CREATE TABLE t (a int NOT NULL)",
        rows="INSERT INTO t VALUES (1)",
        plan=["SET NOT NULL", "DROP CONSTRAINT"],
    ),
    Case(
        "not null that was begun and is no longer declared",
        f"CREATE TABLE t (a int); ALTER TABLE t ADD CONSTRAINT {HELPER} CHECK (a IS NOT NULL) NOT VALID",
        table("{name: a, type: int}"),
        "CREATE TABLE t (a int)",
        rows="INSERT INTO t VALUES (1)",
        plan=["DROP CONSTRAINT"],
    ),
    Case(
        "not null with a check of its own",
        "CREATE TABLE t (a int, CONSTRAINT c CHECK (a IS NOT NULL))",
        table("{name: a, type: int, nullable: false}", "checks: [{name: c, expression: a is not null}]"),
        "CREATE TABLE t (a int NOT NULL, CONSTRAINT c CHECK (a IS NOT NULL))",
        rows="INSERT INTO t VALUES (1)",
    ),
    Case(
        "null again",
        "CREATE TABLE t (a int NOT NULL, b int NOT NULL, PRIMARY KEY (b))",
        table("{name: a, type: int}, {name: b, type: int}", "primary_key: [b]"),
        "CREATE TABLE t (a int, b int PRIMARY KEY)",
        rows="INSERT INTO t VALUES (1, 2)",
        plan=['"a" DROP NOT NULL'],
    ),
]

KEYS = [
    Case(
        "primary key is added",
        "CREATE TABLE t (a int, b int)",
        table("{name: a, type: int}, {name: b, type: int}", "primary_key: [b, a]"),
        "CREATE TABLE t (a int, b int, PRIMARY KEY (b, a))",
        rows="INSERT INTO t VALUES (1, 2)",
    ),
    Case(
        "primary key is added over duplicates",
        "CREATE TABLE t (a int NOT NULL)",
        table("{name: a, type: int}", "primary_key: [a]"),
        rows="INSERT INTO t VALUES (1), (1)",
        error=("t_pkey", "duplicate", "(a)=(1)"),
        unseen=True,
    ),
    Case(
        "primary key under another name",
        "CREATE TABLE t (a int CONSTRAINT pk PRIMARY KEY)",
        table("{name: a, type: int}", "primary_key: [a]"),
        plan=[],
        name_free=True,
    ),
    Case(
        "primary key gets another column",
        "CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL)",
        table("{name: a, type: int}, {name: b, type: int}", "primary_key: [a, b]"),
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))",
        rows="INSERT INTO t VALUES (1, 2)",
    ),
    Case(
        "primary key goes",
        "CREATE TABLE t (a int PRIMARY KEY)",
        table("{name: a, type: int, nullable: false}") + "purge: true",
        "CREATE TABLE t (a int NOT NULL)",
        rows="INSERT INTO t VALUES (1)",
        allow=("drops_index",),
    ),
    Case(
        "primary key goes and the column may be null",
        "CREATE TABLE t (a int PRIMARY KEY)",
        table("{name: a, type: int}") + "purge: true",
        "CREATE TABLE t (a int)",
        rows="INSERT INTO t VALUES (1)",
        allow=("drops_index",),
    ),
    Case(
        "unique is added",
        "CREATE TABLE t (a int, b text)",
        table("{name: a, type: int}, {name: b, type: text}", "unique: [{columns: [b, a]}]"),
        "CREATE TABLE t (a int, b text, UNIQUE (b, a))",
        rows="INSERT INTO t VALUES (1, 'x')",
        plan=["CREATE UNIQUE INDEX CONCURRENTLY", "UNIQUE USING INDEX"],
    ),
    Case(
        "unique is added over duplicates",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}", "unique: [{columns: [a]}]"),
        rows="INSERT INTO t VALUES (1), (1)",
        error=("t_a_key", "(a)=(1)"),
        unseen=True,
    ),
    Case(
        "unique changes its columns",
        "CREATE TABLE t (a int, b int, CONSTRAINT u UNIQUE (a))",
        table("{name: a, type: int}, {name: b, type: int}", "unique: [{name: u, columns: [a, b]}]"),
        "CREATE TABLE t (a int, b int, CONSTRAINT u UNIQUE (a, b))",
        rows="INSERT INTO t VALUES (1, 2)",
    ),
    Case(
        "unique under another name",
        "CREATE TABLE t (a int CONSTRAINT old UNIQUE)",
        table("{name: a, type: int}", "unique: [{name: u, columns: [a]}]"),
        "CREATE TABLE t (a int CONSTRAINT u UNIQUE)",
        rows="INSERT INTO t VALUES (1)",
        plan=['RENAME CONSTRAINT "old" TO "u"'],
    ),
    Case(
        "unique index becomes a unique constraint",
        "CREATE TABLE t (a int); CREATE UNIQUE INDEX t_a_key ON t (a)",
        table("{name: a, type: int}", "unique: [{columns: [a]}]"),
        "CREATE TABLE t (a int UNIQUE)",
        rows="INSERT INTO t VALUES (1)",
        plan=["USING INDEX"],
    ),
    Case(
        "deferrable unique in SQL",
        "CREATE TABLE t (a int)",
        "schema: customer",
        "CREATE TABLE t (a int CONSTRAINT u UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        rows="INSERT INTO t VALUES (1)",
    ),
    Case(
        "exclusion in SQL",
        "CREATE TABLE t (a int4range)",
        "schema: customer",
        "CREATE TABLE t (a int4range, CONSTRAINT x EXCLUDE USING gist (a WITH &&))",
        rows="INSERT INTO t VALUES ('[1,2)')",
        allow=("blocks_writes",),
    ),
    Case(
        "nulls not distinct in SQL",
        "CREATE TABLE t (a int, b int)",
        "schema: customer",
        "CREATE TABLE t (a int CONSTRAINT u UNIQUE NULLS NOT DISTINCT, b int); CREATE UNIQUE INDEX i ON t (b) NULLS NOT DISTINCT",
        rows="INSERT INTO t VALUES (1, 2)",
    ),
]

TWO = """
tables:
- {name: p, columns: [{name: id, type: int}, {name: q, type: int}], primary_key: [id]}
- name: t
  columns: [{name: id, type: int}, {name: p, type: int}]
  primary_key: [id]
  foreign_keys: [%s]
"""
TWO_OLD = "CREATE TABLE p (id int PRIMARY KEY, q int); CREATE TABLE t (id int PRIMARY KEY, p int%s)"
TWO_ROWS = "INSERT INTO p VALUES (1, 1); INSERT INTO t VALUES (1, 1), (2, NULL)"
FOREIGN_KEYS = [
    Case(
        "foreign key is added",
        TWO_OLD % "",
        TWO % "{columns: [p], references: {table: p}, on_delete: cascade, on_update: set_null}",
        TWO_OLD % " REFERENCES p ON DELETE CASCADE ON UPDATE SET NULL",
        rows=TWO_ROWS,
        plan=["ON DELETE CASCADE ON UPDATE SET NULL NOT VALID", 'VALIDATE CONSTRAINT "t_p_fkey"'],
    ),
    Case(
        "foreign key over rows that do not comply",
        TWO_OLD % "",
        TWO % "{columns: [p], references: {table: p}}",
        rows="INSERT INTO t VALUES (1, 7)",
        error=("t_p_fkey", "(p)=(7)", "1 of 2 statements were done and stay"),
        unseen=True,
        partly=True,
    ),
    Case(
        "foreign key changes its action",
        TWO_OLD % " REFERENCES p",
        TWO % "{columns: [p], references: {table: p}, on_delete: restrict, deferrable: true}",
        TWO_OLD % " REFERENCES p ON DELETE RESTRICT DEFERRABLE",
        rows=TWO_ROWS,
        plan=["DROP CONSTRAINT", "NOT VALID", "VALIDATE"],
    ),
    Case(
        "foreign key under another name",
        TWO_OLD % " CONSTRAINT old REFERENCES p",
        TWO % "{columns: [p], references: {table: p}}",
        TWO_OLD % " REFERENCES p",
        rows=TWO_ROWS,
        plan=["RENAME CONSTRAINT"],
    ),
    Case(
        "foreign key that waits for its validation",
        TWO_OLD % "" + "; ALTER TABLE t ADD CONSTRAINT t_p_fkey FOREIGN KEY (p) REFERENCES p NOT VALID",
        TWO % "{columns: [p], references: {table: p}}",
        TWO_OLD % " REFERENCES p",
        rows=TWO_ROWS,
        plan=["VALIDATE"],
    ),
    Case("foreign key goes", TWO_OLD % " REFERENCES p", TWO % "" + "purge: true", TWO_OLD % "", rows=TWO_ROWS, plan=['DROP CONSTRAINT "t_p_fkey"']),
    Case(
        "foreign key to a new unique column",
        TWO_OLD % "",
        (TWO % "{columns: [p], references: {table: p, columns: [q]}}").replace("primary_key: [id]}", "primary_key: [id], unique: [{columns: [q]}]}"),
        "CREATE TABLE p (id int PRIMARY KEY, q int UNIQUE); CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES p (q))",
        rows=TWO_ROWS,
    ),
    Case(
        "foreign key of a new table to a new key",
        "CREATE TABLE p (id int, q int)",
        TWO % "{columns: [p], references: {table: p}}",
        TWO_OLD % " REFERENCES p",
        rows="INSERT INTO p VALUES (1, 1)",
    ),
    Case(
        "foreign key to itself",
        "",
        table("{name: id, type: int}, {name: up, type: int}", "primary_key: [id]\nforeign_keys: [{columns: [up], references: {table: t}}]"),
        "CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t)",
    ),
    Case(
        "foreign key to itself and a key that comes for another",
        "CREATE TABLE t (id smallint, CONSTRAINT old UNIQUE (id))",
        table("{name: id, type: integer}", "primary_key: [id]\nforeign_keys: [{columns: [id], references: {table: t}}]") + "purge: true",
        "CREATE TABLE t (id int PRIMARY KEY REFERENCES t)",
        rows="INSERT INTO t VALUES (1), (2)",
        allow=("rewrites_table", "drops_index"),
    ),
    Case(
        "foreign key to itself and a key that comes for another of the same type",
        "CREATE TABLE t (id int, CONSTRAINT old UNIQUE (id))",
        table("{name: id, type: integer}", "primary_key: [id]\nforeign_keys: [{columns: [id], references: {table: t}}]") + "purge: true",
        "CREATE TABLE t (id int PRIMARY KEY REFERENCES t)",
        rows="INSERT INTO t VALUES (1), (2)",
        allow=("drops_index",),
    ),
    Case(
        "foreign key of a table that goes, on a key that is replaced",
        "CREATE TABLE t (id int, CONSTRAINT old PRIMARY KEY (id)); CREATE TABLE o (id int REFERENCES t)",
        table("{name: id, type: integer, nullable: false}", "unique: [{columns: [id]}]") + "purge: true",
        "CREATE TABLE t (id int NOT NULL UNIQUE)",
        rows="INSERT INTO t VALUES (1), (2); INSERT INTO o VALUES (1)",
        allow=("deletes_data", "drops_index"),
    ),
    Case(
        "foreign key of a table that goes, on a key that is written anew",
        "CREATE TABLE t (id smallint, CONSTRAINT old PRIMARY KEY (id)); CREATE TABLE o (id smallint REFERENCES t)",
        table("{name: id, type: integer, nullable: false}", "unique: [{columns: [id]}]") + "purge: true",
        "CREATE TABLE t (id int NOT NULL UNIQUE)",
        rows="INSERT INTO t VALUES (1), (2); INSERT INTO o VALUES (1)",
        allow=("deletes_data", "drops_index", "rewrites_table"),
    ),
    Case(
        "foreign key of two columns in another order",
        "CREATE TABLE p (a int, b int, UNIQUE (a, b)); CREATE TABLE t (x int, y int)",
        "tables:\n- {name: p, columns: [{name: a, type: int}, {name: b, type: int}], unique: [{columns: [a, b]}]}\n- {name: t, columns: [{name: x,"
        " type: int}, {name: y, type: int}], foreign_keys: [{columns: [x, y], references: {table: p, columns: [b, a]}}]}",
        "CREATE TABLE p (a int, b int, UNIQUE (a, b)); CREATE TABLE t (x int, y int, FOREIGN KEY (x, y) REFERENCES p (b, a))",
        rows="INSERT INTO p VALUES (1, 2); INSERT INTO t VALUES (2, 1)",
    ),
    Case(
        "foreign key to another schema",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}", "foreign_keys: [{columns: [a], references: {schema: elsewhere, table: far}}]"),
        around="CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.far (id int PRIMARY KEY); INSERT INTO elsewhere.far VALUES (1)",
        rows="INSERT INTO t VALUES (1)",
    ),
    Case(
        "foreign key to nothing",
        "",
        table("{name: a, type: int}", "foreign_keys: [{columns: [a], references: {table: nothing, columns: [id]}}]"),
        error=("t_a_fkey", "nothing", "neither declared nor there"),
    ),
    Case(
        "foreign key to no key",
        "",
        "tables:\n- {name: p, columns: [{name: id, type: int}]}\n- {name: t, columns: [{name: a, type: int}], foreign_keys: [{columns: [a],"
        " references: {table: p, columns: [id]}}]}",
        error=("t_a_fkey", "no primary key or unique constraint on (id)"),
    ),
    Case(
        "foreign key to another type",
        "",
        "tables:\n- {name: p, columns: [{name: id, type: int}], primary_key: [id]}\n- {name: t, columns: [{name: a, type: text}], foreign_keys:"
        " [{columns: [a], references: {table: p}}]}",
        error=("t_a_fkey", "a is text", "p.id is int", "declare a as int"),
    ),
    Case(
        "foreign key to an undeclared table",
        "CREATE TABLE p (id int PRIMARY KEY)",
        table("{name: a, type: int}", "foreign_keys: [{columns: [a], references: {table: p}}]"),
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (a int REFERENCES p)",
        undeclared=("table customer.p",),
        yaml_only=True,
    ),
    Case(
        "key under a foreign key is replaced",
        "CREATE TABLE p (id int CONSTRAINT k UNIQUE, r int); CREATE TABLE t (a int REFERENCES p (id))",
        "tables:\n- {name: p, columns: [{name: id, type: int}, {name: r, type: int}], primary_key: [id]}\n- {name: t, columns: [{name: a, type:"
        " int}], foreign_keys: [{columns: [a], references: {table: p}}]}\npurge: true",
        "CREATE TABLE p (id int PRIMARY KEY, r int); CREATE TABLE t (a int REFERENCES p)",
        rows="INSERT INTO p VALUES (1); INSERT INTO t VALUES (1)",
        allow=("drops_index",),
    ),
]

CYCLE = """
tables:
- {name: a, columns: [{name: id, type: int}, {name: b, type: int}], primary_key: [id], foreign_keys: [{columns: [b], references: {table: b}}]}
- {name: b, columns: [{name: id, type: int}, {name: a, type: int}], primary_key: [id], foreign_keys: [{columns: [a], references: {table: a}}]}
"""
CYCLE_SQL = (
    "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a); ALTER TABLE a ADD FOREIGN KEY (b)"
    " REFERENCES b"
)
CYCLES = [
    Case("cycle is made", "", CYCLE, CYCLE_SQL),
    Case(
        "cycle is closed on live tables",
        "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int)",
        CYCLE,
        CYCLE_SQL,
        rows="INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1)",
    ),
    Case(
        "cycle goes by purge",
        CYCLE_SQL,
        "tables: []\npurge: true",
        allow=("deletes_data",),
        rows="INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1)",
        empty=True,
    ),
    Case(
        "cycle goes by state absent", CYCLE_SQL, "tables: [{name: a, state: absent}, {name: b, state: absent}]", allow=("deletes_data",), empty=True
    ),
    Case(
        "one side of a cycle cannot go alone",
        CYCLE_SQL,
        "tables: [{name: a, state: absent}]",
        allow=("deletes_data",),
        error=("customer.a cannot go", "b.b_a_fkey"),
    ),
]

GENERATED = [
    Case(
        "generated reads alike",
        "CREATE TABLE t (a text, b text GENERATED ALWAYS AS (lower(a) || '!') STORED, c int GENERATED ALWAYS AS (length(a)) STORED)",
        table(
            "{name: a, type: text}, {name: b, type: text, generated: lower(a)||'!'}, {name: c, type: int, generated: length(a)}",
            "indexes: [{name: i, columns: [b]}]",
        ),
        "CREATE TABLE t (a text, b text GENERATED ALWAYS AS (lower(a) || '!') STORED, c int GENERATED ALWAYS AS (length(a)) STORED); CREATE INDEX i"
        " ON t (b)",
        plan=["CREATE INDEX CONCURRENTLY"],
    ),
    Case(
        "generated changes",
        "CREATE TABLE t (a text, b text GENERATED ALWAYS AS (lower(a)) STORED); CREATE INDEX i ON t (b)",
        table("{name: a, type: text}, {name: b, type: text, generated: upper(a)}", "indexes: [{name: i, columns: [b]}]"),
        "CREATE TABLE t (a text, b text GENERATED ALWAYS AS (upper(a)) STORED); CREATE INDEX i ON t (b)",
        rows="INSERT INTO t VALUES ('x')",
        allow=("rewrites_table",),
        other_values=(("t", "b"),),
        proofs=(("SELECT b FROM t", [("X",)]),),
    ),
    Case(
        "generated is added",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}, {name: b, type: int, generated: a * 2}"),
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
        rows="INSERT INTO t VALUES (2)",
        allow=("rewrites_table",),
        proofs=(("SELECT b FROM t", [(4,)]),),
    ),
    Case(
        "generated becomes plain",
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
        table("{name: a, type: int}, {name: b, type: int}"),
        "CREATE TABLE t (a int, b int)",
        rows="INSERT INTO t VALUES (2)",
        plan=["DROP EXPRESSION"],
    ),
    Case(
        "plain becomes generated",
        "CREATE TABLE t (a int, b int)",
        table("{name: a, type: int}, {name: b, type: int, generated: a * 2}"),
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
        rows="INSERT INTO t VALUES (2, 5)",
        allow=("deletes_data", "rewrites_table"),
        other_values=(("t", "b"),),
    ),
    Case(
        "source of a generated column grows",
        "CREATE TABLE t (a int, b bigint GENERATED ALWAYS AS (a * 2) STORED)",
        table("{name: a, type: bigint}, {name: b, type: bigint, generated: a * 2}"),
        "CREATE TABLE t (a bigint, b bigint GENERATED ALWAYS AS (a * 2) STORED)",
        rows="INSERT INTO t VALUES (2)",
        allow=("rewrites_table",),
    ),
]

COLUMNS = "{name: a, type: text}, {name: b, type: int}, {name: at, type: timestamptz}, {name: j, type: jsonb}"
TABLE = "CREATE TABLE t (a text, b int, at timestamptz, j jsonb)"
ROW = "INSERT INTO t VALUES ('x', 1, '2026-01-01', '{}')"
DIALECTS = """
indexes:
- {name: i1, columns: [lower(a)], where: "a IS NOT NULL AND b > 3"}
- {name: i2, columns: ["a text_pattern_ops DESC NULLS LAST"], include: [b, at]}
- {name: i3, columns: ["at DESC NULLS LAST", b]}
- {name: i4, columns: [at DESC], unique: true}
- {name: i5, columns: [j jsonb_path_ops], method: gin, with: {fastupdate: false}}
- {name: i6, columns: [at], method: brin, with: {pages_per_range: 32}}
- {name: i7, columns: [b], method: hash}
- {name: i8, columns: ['a COLLATE "C"', "b NULLS FIRST"]}
- {name: i9, columns: ["a || 'x'", "(b + 1)", "coalesce(a, '')"], with: {fillfactor: 70}}
- {name: i10, columns: ["(j->>'k')", "date_trunc('day', at at time zone 'utc')"]}
"""
DIALECTS_SQL = """
CREATE INDEX i1 ON t (lower(a)) WHERE a IS NOT NULL AND b > 3; CREATE INDEX i2 ON t (a text_pattern_ops DESC NULLS LAST) INCLUDE (b, at);
CREATE INDEX i3 ON t (at DESC NULLS LAST,
  b); CREATE UNIQUE INDEX i4 ON t (at DESC); CREATE INDEX i5 ON t USING gin (j jsonb_path_ops) WITH (fastupdate = false);
CREATE INDEX i6 ON t USING brin (at) WITH (pages_per_range = 32); CREATE INDEX i7 ON t USING hash (b); CREATE INDEX i8 ON t (a COLLATE "C", b NULLS FIRST);
CREATE INDEX i9 ON t ((a || 'x'), (b + 1), coalesce(a, '')) WITH (fillfactor = 70); CREATE INDEX i10 ON t ((j->>'k'), date_trunc('day', at at time zone 'utc'));
"""


def index(text: str) -> str:
    return table(COLUMNS, f"indexes: [{text}]")


INDEXES = [
    Case("indexes read alike", f"{TABLE}; {DIALECTS_SQL}", table(COLUMNS, DIALECTS), f"{TABLE}; {DIALECTS_SQL}", plan=[]),
    Case("indexes are made with their table", "", table(COLUMNS, DIALECTS), f"{TABLE}; {DIALECTS_SQL}"),
    Case("indexes are made beside writers", TABLE, table(COLUMNS, DIALECTS), f"{TABLE}; {DIALECTS_SQL}", rows=ROW, plan=["CONCURRENTLY"] * 10),
    Case(
        "index with other columns",
        f"{TABLE}; CREATE INDEX i ON t (a)",
        index("{name: i, columns: [a, b]}"),
        f"{TABLE}; CREATE INDEX i ON t (a, b)",
        rows=ROW,
        plan=["ALTER INDEX", "CREATE INDEX CONCURRENTLY", "DROP INDEX CONCURRENTLY"],
    ),
    Case(
        "index with another opclass",
        f"{TABLE}; CREATE INDEX i ON t (a)",
        index("{name: i, columns: [a text_pattern_ops]}"),
        f"{TABLE}; CREATE INDEX i ON t (a text_pattern_ops)",
        plan=["RENAME", "CREATE", "DROP"],
    ),
    Case(
        "index with another predicate",
        f"{TABLE}; CREATE INDEX i ON t (a) WHERE b > 1",
        index("{name: i, columns: [a], where: b > 2}"),
        f"{TABLE}; CREATE INDEX i ON t (a) WHERE b > 2",
        plan=["RENAME", "CREATE", "DROP"],
    ),
    Case(
        "index becomes unique",
        f"{TABLE}; CREATE INDEX i ON t (a)",
        index("{name: i, columns: [a], unique: true}"),
        f"{TABLE}; CREATE UNIQUE INDEX i ON t (a)",
        plan=["RENAME", "CREATE", "DROP"],
    ),
    Case(
        "index with another fill factor",
        f"{TABLE}; CREATE INDEX i ON t (a)",
        index("{name: i, columns: [a], with: {fillfactor: 70}}"),
        f"{TABLE}; CREATE INDEX i ON t (a) WITH (fillfactor = 70)",
    ),
    Case(
        "index under another name",
        f"{TABLE}; CREATE INDEX old ON t (a)",
        index("{name: i, columns: [a]}"),
        f"{TABLE}; CREATE INDEX i ON t (a)",
        plan=['RENAME TO "i"'],
    ),
    Case(
        "two indexes trade their names",
        f"{TABLE}; CREATE INDEX i ON t (a); CREATE INDEX k ON t (b)",
        index("{name: i, columns: [b]}, {name: k, columns: [a]}"),
        f"{TABLE}; CREATE INDEX i ON t (b); CREATE INDEX k ON t (a)",
        rows=ROW,
    ),
    Case(
        "undeclared index stays",
        f"{TABLE}; CREATE INDEX i ON t (a)",
        table(COLUMNS),
        TABLE,
        beside="CREATE INDEX i ON t (a)",
        undeclared=("index customer.i",),
        plan=[],
    ),
    Case(
        "undeclared index goes",
        f"{TABLE}; CREATE INDEX i ON t (a)",
        table(COLUMNS) + "purge: true",
        TABLE,
        allow=("drops_index",),
        plan=["DROP INDEX CONCURRENTLY"],
    ),
    Case(
        "invalid index is built anew",
        TABLE,
        index("{name: i, columns: [b], unique: true}"),
        f"{TABLE}; CREATE UNIQUE INDEX i ON t (b)",
        rows=ROW + ", ('y', 1, '2026-01-02', '{}')",
        actions=(run_and_fail("CREATE UNIQUE INDEX CONCURRENTLY i ON t (b)"), run_all("UPDATE t SET b = 2 WHERE a = 'y'")),
        plan=["DROP INDEX CONCURRENTLY", "CREATE UNIQUE INDEX CONCURRENTLY"],
    ),
    Case(
        "invalid index over duplicates",
        TABLE,
        index("{name: i, columns: [b], unique: true}"),
        rows=ROW + ", ('y', 1, '2026-01-02', '{}')",
        unseen=True,
        actions=(run_and_fail("CREATE UNIQUE INDEX CONCURRENTLY i ON t (b)"),),
        error=("index customer.i", "(b)=(1)", "duplicate"),
        partly=True,
    ),
    Case(
        "invalid index with another definition",
        TABLE,
        index("{name: i, columns: [a]}"),
        f"{TABLE}; CREATE INDEX i ON t (a)",
        rows=ROW + ", ('y', 1, '2026-01-02', '{}')",
        actions=(run_and_fail("CREATE UNIQUE INDEX CONCURRENTLY i ON t (b)"),),
    ),
    Case(
        "invalid index where a unique constraint belongs",
        TABLE,
        table(COLUMNS, "unique: [{name: i, columns: [b]}]"),
        f"{TABLE}; ALTER TABLE t ADD CONSTRAINT i UNIQUE (b)",
        rows=ROW + ", ('y', 1, '2026-01-02', '{}')",
        actions=(run_and_fail("CREATE UNIQUE INDEX CONCURRENTLY i ON t (b)"), run_all("UPDATE t SET b = 2 WHERE a = 'y'")),
    ),
    Case("nulls not distinct index in SQL", TABLE, "schema: customer", f"{TABLE}; CREATE UNIQUE INDEX i ON t (b) NULLS NOT DISTINCT", rows=ROW),
    Case("index on a column that is not there", TABLE, index("{name: i, columns: [nothing]}"), error=("indexes[0] (i): columns[0]", "nothing")),
    Case("index expression on a column that is not there", TABLE, index("{name: i, columns: [lower(nothing)]}"), error=("index i", "nothing")),
    Case("index with an access method that is not there", TABLE, index("{name: i, columns: [a], method: none}"), error=("index i", "none")),
]

PARTED = "CREATE TABLE t (at date NOT NULL, b int) PARTITION BY RANGE (at)"
PARTS = (
    "; CREATE TABLE t1 PARTITION OF t FOR VALUES FROM ('2026-01-01') TO ('2026-02-01'); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM ('2026-02-01')"
    " TO ('2026-03-01') PARTITION BY LIST (b); CREATE TABLE t2a PARTITION OF t2 FOR VALUES IN (1, 2); CREATE TABLE t2b PARTITION OF t2 DEFAULT"
)
PARTED_ROWS = "INSERT INTO t VALUES ('2026-01-03', 1), ('2026-02-03', 1), ('2026-02-03', 7)"


def parted(more: str = "", columns: str = "{name: at, type: date, nullable: false}, {name: b, type: int}", by: str = "RANGE (at)") -> str:
    return table(columns, f"partition_by: {by}\n{more}")


PARTITIONS = [
    Case("parted table is made", "", parted("indexes: [{name: i, columns: [b]}]"), f"{PARTED}; CREATE INDEX i ON t (b)"),
    Case("parted table with partitions of others", PARTED + PARTS, parted(), PARTED, beside=PARTS.removeprefix(";"), plan=[], undeclared=()),
    Case("index on a parted table", PARTED, parted("indexes: [{name: i, columns: [b]}]"), f"{PARTED}; CREATE INDEX i ON t (b)"),
    Case(
        "index on partitions of partitions",
        PARTED + PARTS,
        parted("indexes: [{name: i, columns: [b]}]"),
        rows=PARTED_ROWS,
        yaml_only=True,
        empty=True,
        name_free=True,
    ),
    Case(
        "index on a parted table in part",
        PARTED + PARTS + "; CREATE INDEX i ON ONLY t (b); CREATE INDEX x ON t1 (b); ALTER INDEX i ATTACH PARTITION x",
        parted("indexes: [{name: i, columns: [b]}]"),
        rows=PARTED_ROWS,
        yaml_only=True,
        empty=True,
        name_free=True,
    ),
    Case(
        "column of a parted table",
        PARTED + PARTS,
        parted(columns="{name: at, type: date, nullable: false}, {name: b, type: int}, {name: c, type: text, default: \"'x'\"}"),
        PARTED.replace("b int", "b int, c text DEFAULT 'x'"),
        beside=PARTS.removeprefix(";"),
        rows=PARTED_ROWS,
    ),
    Case(
        "not null and check of a parted table",
        PARTED + PARTS,
        parted("checks: [{name: k, expression: b > 0}]", "{name: at, type: date, nullable: false}, {name: b, type: int, nullable: false}"),
        PARTED.replace("b int", "b int NOT NULL, CONSTRAINT k CHECK (b > 0)"),
        beside=PARTS.removeprefix(";"),
        rows=PARTED_ROWS,
    ),
    Case(
        "primary key of a parted table",
        PARTED + PARTS,
        parted("primary_key: [at, b]"),
        PARTED.replace("b int", "b int, PRIMARY KEY (at, b)"),
        beside=PARTS.removeprefix(";"),
        rows=PARTED_ROWS,
        allow=("blocks_writes",),
    ),
    Case("partition key changes", PARTED, parted(by="RANGE (b)"), error=("table customer.t", "partition_by", "RANGE (at)")),
    Case(
        "plain table becomes parted",
        "CREATE TABLE t (at date NOT NULL, b int)",
        parted(),
        error=("table customer.t", "partition_by", "cannot change"),
    ),
    Case(
        "parted table goes with its partitions",
        PARTED + PARTS,
        "tables: [{name: t, state: absent}]",
        rows=PARTED_ROWS,
        allow=("deletes_data",),
        empty=True,
        plan=["DROP TABLE"],
    ),
    Case("partitions in SQL", PARTED, "schema: customer", f"{PARTED}{PARTS}; CREATE INDEX i ON t (b)"),
]

CASES: list[Case] = [*ENUMS, *CHECKS, *NULLS, *KEYS, *FOREIGN_KEYS, *CYCLES, *GENERATED, *INDEXES, *PARTITIONS]
