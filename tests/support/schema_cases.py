# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases of customer_schema; tests/integration/test_customer_schema_cases.py says what is asked of each."""

from __future__ import annotations

import dataclasses
import typing as t

ROLES = ("other_owner", "reader", "member_of_other")


@dataclasses.dataclass(frozen=True)
class Case:
    """From ``old`` and ``rows`` (SQL run by hand) to ``new`` (YAML) or ``ddl`` (the same as SQL, and what a fresh schema is made of).

    ``allow`` are exactly the hazards of the plan; ``plan`` a piece of each of its statements. Instead of a plan, ``error``
    is a piece of the refusal. ``around`` is there before, in the fresh database too; ``beside`` what is left undeclared.
    """

    name: str
    old: str = ""
    new: str = ""
    ddl: str = ""
    around: str = ""
    beside: str = ""
    rows: str = ""
    allow: tuple = ()
    plan: t.Optional[t.Sequence] = None
    error: t.Union[str, tuple] = ""
    undeclared: t.Optional[tuple] = None
    reasons: tuple = ()  # pieces of what the plan says of itself
    proofs: tuple = ()  # (query, rows) pairs that hold afterwards
    other_values: tuple = ()  # (table, column) pairs whose values are meant to change
    actions: tuple = ()  # called with a connection after the rows
    role: str = ""
    yaml_only: bool = False
    unseen: bool = False  # check mode cannot see what is wrong: it is in the rows
    partly: bool = False  # what was done before the refusal stays
    empty: bool = False  # fresh is an empty schema
    name_free: bool = False  # not compared with a fresh schema: PostgreSQL picks names there


def table(columns: str, more: str = "", name: str = "t") -> str:
    """One table as YAML."""
    lines = "".join(f"\n  {line.strip()}" for line in more.strip().splitlines() if line.strip())
    return f"tables:\n- name: {name}\n  columns: [{columns}]{lines}\n"


NAMES = [
    Case(
        "quoted names",
        'CREATE TABLE "Deal Stage"("ID" int, "prix €" text, "select" text, "a""b" int, "x.y,z" int, "100%s" text)',
        """
tables:
- name: Deal Stage
  columns:
  - {name: ID, type: bigint}
  - {name: prix €, type: text}
  - {name: select, type: text}
  - {name: 'a"b', type: int}
  - {name: 'x.y,z', type: int}
  - {name: '100%s', type: text}
""",
        'CREATE TABLE "Deal Stage"("ID" bigint, "prix €" text, "select" text, "a""b" int, "x.y,z" int, "100%s" text)',
        rows='INSERT INTO "Deal Stage" VALUES (1, $$%s$$, $$b$$, 2, 3, $$%$$)',
        allow=("rewrites_table",),
        plan=['ALTER TABLE "customer"."Deal Stage" ALTER COLUMN "ID" TYPE bigint'],
    ),
    Case(
        "odd names everywhere",
        new="""
enums: [{name: 'My "%s" Enum', values: ['%', "it's", 'x\\y', '"']}]
tables:
- name: 'a "b" 100%'
  comment: 'it''s 100% %s "good" \\ $$ E''x'' ;--'
  columns:
  - {name: 'Id %', type: int, nullable: false, comment: '%(x)s '' \\'}
  - {name: 'from', type: '"My ""%s"" Enum"', default: "'%'"}
  - {name: 'Ünïcode ☃', type: text}
  primary_key: ['Id %']
  unique: [{name: 'u %s', columns: ['from', 'Ünïcode ☃']}]
  checks: [{name: 'c %', expression: '"Id %" % 2 = 0 OR "Ünïcode ☃" LIKE ''a%'''}]
  indexes: [{name: 'i "x" %s', columns: ['Ünïcode ☃', 'lower("Ünïcode ☃")'], where: '"Id %" > 3'}]
- name: order
  columns: [{name: user, type: int}, {name: end, type: int}]
  primary_key: [user]
  foreign_keys: [{name: 'f %', columns: [end], references: {table: 'a "b" 100%'}}]
views: [{name: 'V %', query: 'SELECT "Id %" AS "a %", ''%s'' AS "b""c" FROM "a ""b"" 100%"'}]
""",
        ddl="""
CREATE TYPE "My ""%s"" Enum" AS ENUM ('%', 'it''s', E'x\\\\y', '"');
CREATE TABLE "a ""b"" 100%" ("Id %" int PRIMARY KEY, "from" "My ""%s"" Enum" DEFAULT '%', "Ünïcode ☃" text,
  CONSTRAINT "u %s" UNIQUE ("from", "Ünïcode ☃"), CONSTRAINT "c %" CHECK ("Id %" % 2 = 0 OR "Ünïcode ☃" LIKE 'a%'));
CREATE INDEX "i ""x"" %s" ON "a ""b"" 100%" ("Ünïcode ☃", lower("Ünïcode ☃")) WHERE "Id %" > 3;
CREATE TABLE "order" ("user" int PRIMARY KEY, "end" int CONSTRAINT "f %" REFERENCES "a ""b"" 100%");
COMMENT ON TABLE "a ""b"" 100%" IS E'it''s 100% %s "good" \\\\ $$ E''x'' ;--';
COMMENT ON COLUMN "a ""b"" 100%"."Id %" IS E'%(x)s '' \\\\';
CREATE VIEW "V %" AS SELECT "Id %" AS "a %", '%s' AS "b""c" FROM "a ""b"" 100%";
""",
    ),
    Case(
        "names of 63 bytes",
        new=f"""
tables:
- name: {'t' * 63}
  columns: [{{name: {'é' * 31}x, type: int, nullable: false}}, {{name: b, type: int}}]
  unique: [{{name: {'u' * 63}, columns: [b]}}]
  indexes: [{{name: {'i' * 63}, columns: [{'é' * 31}x]}}]
""",
        ddl=(
            f"CREATE TABLE {'t' * 63} ({'é' * 31}x int NOT NULL, b int CONSTRAINT {'u' * 63} UNIQUE); CREATE INDEX {'i' * 63} ON {'t' * 63}"
            f" ({'é' * 31}x)"
        ),
    ),
    Case(
        "a changed index and not null under names of 63 bytes",
        f"CREATE TABLE {'t' * 63} ({'é' * 31}x int); CREATE INDEX {'i' * 63} ON {'t' * 63} ({'é' * 31}x)",
        f"tables: [{{name: {'t' * 63}, columns: [{{name: {'é' * 31}x, type: int, nullable: false}}], indexes: [{{name: {'i' * 63}, columns:"
        f" [{'é' * 31}x DESC]}}]}}]",
        rows=f"INSERT INTO {'t' * 63} VALUES (1)",
    ),
    Case("a table name of 64 bytes", new=table("{name: a, type: int}", name="t" * 64), error=("tables[0]: name", "64 bytes", "63")),
    Case("a column name of 64 bytes", new=table(f"{{name: {'é' * 32}, type: int}}"), error=("columns[0]: name", "64 bytes")),
    Case(
        "a derived name of 64 bytes",
        new=table(f"{{name: {'c' * 60}, type: int}}", f"unique: [{{columns: [{'c' * 60}]}}]"),
        error=("unique[0]", "66 bytes"),
    ),
    Case("a name of 64 bytes in SQL", ddl=f"CREATE TABLE {'t' * 64} (a int)", error=("definition", "64 bytes")),
]

TYPES = [
    Case(
        "type aliases",
        """CREATE TABLE t (a int4, b float8, c decimal(8), d char, e varchar, f timestamptz, g "char", h bit, i int8[], j varchar(3)[], k timetz(3),
           l interval(2), m interval year to month, n numeric(5,2)[], o float(10), p national character varying(7), q bool,
           r timestamp(3) with time zone, s dec(6, 2))""",
        table("""
{name: a, type: integer}, {name: b, type: double precision}, {name: c, type: 'numeric(8,0)'}, {name: d, type: character(1)},
{name: e, type: character varying}, {name: f, type: timestamp with time zone}, {name: g, type: '"char"'}, {name: h, type: bit(1)},
{name: i, type: 'bigint[]'}, {name: j, type: 'character varying(3)[]'}, {name: k, type: time(3) with time zone}, {name: l, type: interval(2)},
{name: m, type: interval year to month}, {name: n, type: 'numeric(5,2)[]'}, {name: o, type: float4}, {name: p, type: varchar(7)}, {name: q, type: boolean},
{name: r, type: 'timestamptz(3)'}, {name: s, type: 'numeric(6,2)'}
"""),
        """CREATE TABLE t (a integer, b double precision, c numeric(8,0), d character(1), e character varying, f timestamp with time zone, g "char", h bit(1),
           i bigint[], j character varying(3)[], k time(3) with time zone, l interval(2), m interval year to month, n numeric(5,2)[],
           o real, p varchar(7), q boolean,
           r timestamptz(3), s numeric(6,2))""",
        plan=[],
    ),
    Case(
        "char is not quoted char",
        'CREATE TABLE t (a "char")',
        table("{name: a, type: char}"),
        "CREATE TABLE t (a char)",
        rows="INSERT INTO t VALUES ('x')",
        allow=("deletes_data", "rewrites_table"),
    ),
    Case(
        "varchar grows",
        "CREATE TABLE t (a varchar(80))",
        table("{name: a, type: varchar(120)}"),
        "CREATE TABLE t (a varchar(120))",
        rows="INSERT INTO t VALUES ('x')",
        plan=['ALTER COLUMN "a" TYPE character varying(120)'],
    ),
    Case(
        "varchar to text",
        "CREATE TABLE t (a varchar(80))",
        table("{name: a, type: text}"),
        "CREATE TABLE t (a text)",
        rows="INSERT INTO t VALUES ('x')",
        plan=["TYPE text"],
    ),
    Case(
        "text to varchar",
        "CREATE TABLE t (a text)",
        table("{name: a, type: varchar(5)}"),
        "CREATE TABLE t (a varchar(5))",
        rows="INSERT INTO t VALUES ('12345'), (NULL), ('')",
        allow=("deletes_data", "rewrites_table"),
    ),
    Case(
        "text to varchar that is too short",
        "CREATE TABLE t (a text)",
        table("{name: a, type: varchar(5)}"),
        "CREATE TABLE t (a varchar(5))",
        rows="INSERT INTO t VALUES ('12345'), ('123456')",
        allow=("deletes_data", "rewrites_table"),
        error=("column customer.t.a", "1 values would not survive", "nothing was changed"),
        unseen=True,
    ),
    Case(
        "text to varchar without limit",
        "CREATE TABLE t (a text)",
        table("{name: a, type: varchar}"),
        "CREATE TABLE t (a varchar)",
        rows="INSERT INTO t VALUES ('x')",
    ),
    Case(
        "varchar shrinks",
        "CREATE TABLE t (a varchar(80))",
        table("{name: a, type: varchar(2)}"),
        "CREATE TABLE t (a varchar(2))",
        rows="INSERT INTO t VALUES ('xy')",
        allow=("deletes_data", "rewrites_table"),
    ),
    Case(
        "char to varchar",
        "CREATE TABLE t (a char(4))",
        table("{name: a, type: varchar(4)}"),
        "CREATE TABLE t (a varchar(4))",
        rows="INSERT INTO t VALUES ('abcd'), ('xy')",
        allow=("deletes_data", "rewrites_table"),
    ),
    Case(
        "numeric grows",
        "CREATE TABLE t (a numeric(10,2))",
        table("{name: a, type: 'numeric(12,2)'}"),
        "CREATE TABLE t (a numeric(12,2))",
        rows="INSERT INTO t VALUES (1.5)",
        plan=["TYPE numeric(12,2)"],
    ),
    Case(
        "numeric shrinks and values fit",
        "CREATE TABLE t (a numeric(12,2))",
        table("{name: a, type: 'numeric(10,2)'}"),
        "CREATE TABLE t (a numeric(10,2))",
        rows="INSERT INTO t VALUES (12345678.99), (NULL)",
        allow=("deletes_data", "rewrites_table"),
    ),
    Case(
        "numeric shrinks and values do not fit",
        "CREATE TABLE t (a numeric(12,2))",
        table("{name: a, type: 'numeric(10,2)'}"),
        "CREATE TABLE t (a numeric(10,2))",
        rows="INSERT INTO t VALUES (1234567890.99)",
        allow=("deletes_data", "rewrites_table"),
        error=("column customer.t.a", "nothing was changed"),
        unseen=True,
    ),
    Case(
        "numeric loses digits after the point",
        "CREATE TABLE t (a numeric(12,3))",
        table("{name: a, type: 'numeric(12,2)'}"),
        "CREATE TABLE t (a numeric(12,2))",
        rows="INSERT INTO t VALUES (0.001)",
        allow=("deletes_data", "rewrites_table"),
        error=("1 values would not survive",),
        unseen=True,
    ),
    Case(
        "numeric loses its limit",
        "CREATE TABLE t (a numeric(10,2))",
        table("{name: a, type: numeric}"),
        "CREATE TABLE t (a numeric)",
        rows="INSERT INTO t VALUES (1)",
    ),
    Case(
        "numeric gets a scale",
        "CREATE TABLE t (a numeric(10,2))",
        table("{name: a, type: 'numeric(12,4)'}"),
        "CREATE TABLE t (a numeric(12,4))",
        rows="INSERT INTO t VALUES (1.25)",
        allow=("rewrites_table",),
        other_values=(("t", "a"),),
    ),
    Case(
        "int to bigint",
        "CREATE TABLE t (a int PRIMARY KEY)",
        table("{name: a, type: bigint}", "primary_key: [a]"),
        "CREATE TABLE t (a bigint PRIMARY KEY)",
        rows="INSERT INTO t VALUES (7)",
        allow=("rewrites_table",),
    ),
    Case(
        "bigint to int",
        "CREATE TABLE t (a bigint DEFAULT 5)",
        table("{name: a, type: int, default: 5}"),
        "CREATE TABLE t (a int DEFAULT 5)",
        rows="INSERT INTO t VALUES (7)",
        allow=("deletes_data", "rewrites_table"),
    ),
    Case(
        "bigint to int that is too large",
        "CREATE TABLE t (a bigint)",
        table("{name: a, type: int}"),
        "CREATE TABLE t (a int)",
        rows="INSERT INTO t VALUES (7000000000)",
        allow=("deletes_data", "rewrites_table"),
        error=("column customer.t.a", "nothing was changed"),
        unseen=True,
    ),
    Case(
        "text to int",
        "CREATE TABLE t (a text DEFAULT '1')",
        table("{name: a, type: int, default: 1}"),
        "CREATE TABLE t (a int DEFAULT 1)",
        rows="INSERT INTO t VALUES ('7')",
        allow=("deletes_data", "rewrites_table"),
    ),
    Case(
        "text to int that is none",
        "CREATE TABLE t (a text)",
        table("{name: a, type: int}"),
        "CREATE TABLE t (a int)",
        rows="INSERT INTO t VALUES ('seven')",
        allow=("deletes_data", "rewrites_table"),
        error=("column customer.t.a", "seven", "nothing was changed"),
        unseen=True,
    ),
    Case(
        "text to int that reads otherwise",
        "CREATE TABLE t (a text)",
        table("{name: a, type: int}"),
        "CREATE TABLE t (a int)",
        rows="INSERT INTO t VALUES ('007')",
        allow=("deletes_data", "rewrites_table"),
        error=("1 values would not survive",),
        unseen=True,
    ),
    Case(
        "text to enum",
        "CREATE TABLE t (a text DEFAULT 'x')",
        "enums: [{name: e, values: [x, y]}]\n" + table("{name: a, type: e, default: \"'y'\"}"),
        "CREATE TYPE e AS ENUM ('x', 'y'); CREATE TABLE t (a e DEFAULT 'y')",
        rows="INSERT INTO t VALUES ('x')",
        allow=("deletes_data", "rewrites_table"),
    ),
    Case(
        "enum to text",
        "CREATE TYPE e AS ENUM ('x', 'y'); CREATE TABLE t (a e DEFAULT 'y')",
        table("{name: a, type: text}"),
        "CREATE TABLE t (a text)",
        rows="INSERT INTO t VALUES ('x')",
        beside="CREATE TYPE e AS ENUM ('x', 'y')",
        allow=("rewrites_table",),
    ),
    Case(
        "timestamp with more digits",
        "CREATE TABLE t (a timestamp(3))",
        table("{name: a, type: timestamp(6)}"),
        "CREATE TABLE t (a timestamp(6))",
        rows="INSERT INTO t VALUES ('2026-01-01 10:00')",
        plan=["TYPE timestamp(6) without time zone"],
    ),
    Case(
        "timestamptz to timestamp",
        "CREATE TABLE t (a timestamptz)",
        table("{name: a, type: timestamp}"),
        "CREATE TABLE t (a timestamp)",
        rows="INSERT INTO t VALUES ('2026-01-01 10:00+00')",
        allow=("deletes_data",),
        other_values=(("t", "a"),),
    ),
    Case(
        "cidr to inet",
        "CREATE TABLE t (a cidr)",
        table("{name: a, type: inet}"),
        "CREATE TABLE t (a inet)",
        rows="INSERT INTO t VALUES ('10.0.0.0/8')",
        plan=["TYPE inet"],
    ),
    Case(
        "no way from one type to another",
        "CREATE TABLE t (a int[])",
        table("{name: a, type: point}"),
        rows="INSERT INTO t VALUES ('{1}')",
        allow=("deletes_data", "rewrites_table"),
        error=("column customer.t.a", "point", "nothing was changed"),
        unseen=True,
    ),
    Case(
        "collation changes",
        "CREATE TABLE t (a text)",
        table("{name: a, type: text, collation: C}"),
        'CREATE TABLE t (a text COLLATE "C")',
        rows="INSERT INTO t VALUES ('b')",
    ),
    Case(
        "collation goes",
        'CREATE TABLE t (a text COLLATE "C")',
        table("{name: a, type: text}"),
        "CREATE TABLE t (a text)",
        rows="INSERT INTO t VALUES ('b')",
    ),
    Case(
        "type changes under an index",
        "CREATE TABLE t (a varchar(5)); CREATE INDEX i ON t (a)",
        table("{name: a, type: text}", "indexes: [{name: i, columns: [a]}]"),
        "CREATE TABLE t (a text); CREATE INDEX i ON t (a)",
        rows="INSERT INTO t VALUES ('b')",
    ),
    Case(
        "type changes under a check",
        "CREATE TABLE t (a varchar(5), CONSTRAINT c CHECK (a <> 'x'))",
        table("{name: a, type: varchar(9)}", "checks: [{name: c, expression: \"a <> 'x'\"}]"),
        "CREATE TABLE t (a varchar(9), CONSTRAINT c CHECK (a <> 'x'))",
        rows="INSERT INTO t VALUES ('b')",
        allow=("blocks_writes",),
    ),
    Case(
        "type changes on both sides of a foreign key",
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (a int REFERENCES p)",
        """
tables:
- {name: p, columns: [{name: id, type: bigint}], primary_key: [id]}
- {name: t, columns: [{name: a, type: bigint}], foreign_keys: [{columns: [a], references: {table: p}}]}
""",
        "CREATE TABLE p (id bigint PRIMARY KEY); CREATE TABLE t (a bigint REFERENCES p)",
        rows="INSERT INTO p VALUES (1); INSERT INTO t VALUES (1)",
        allow=("rewrites_table",),
    ),
]

DEFAULTS = [
    Case(
        "defaults read alike",
        """CREATE TABLE t (a text DEFAULT 'x'::text, b varchar(3) DEFAULT 'x'::character varying, c int DEFAULT '-1'::integer, d bool DEFAULT true,
           e jsonb DEFAULT '{}'::jsonb, f bigint DEFAULT '9999999999'::bigint, g text DEFAULT ('a'::text || 'b'::text),
           h timestamp DEFAULT (now() AT TIME ZONE 'utc'::text), i int, j numeric(10,2) DEFAULT 0.50, k timestamptz DEFAULT CURRENT_TIMESTAMP,
           l text[] DEFAULT ARRAY[]::text[], m interval DEFAULT '1 day'::interval, n text DEFAULT CURRENT_USER,
           o int DEFAULT (1 + (2 * 3)), p uuid DEFAULT gen_random_uuid(),
           q date DEFAULT ('now'::text)::date)""",
        table("""
{name: a, type: text, default: "'x'"}, {name: b, type: varchar(3), default: "'x'"}, {name: c, type: int, default: -1}, {name: d, type: bool, default: "'t'"},
{name: e, type: jsonb, default: "'{}'"}, {name: f, type: bigint, default: 9999999999}, {name: g, type: text, default: "'a' || 'b'"},
{name: h, type: timestamp, default: now() at time zone 'utc'}, {name: i, type: int, default: 'NULL'}, {name: j, type: 'numeric(10,2)', default: '0.50'},
{name: k, type: timestamptz, default: current_timestamp}, {name: l, type: 'text[]', default: "array[]::text[]"}, {name: m, type: interval,
  default: "interval '1 day'"},
{name: n, type: text, default: current_user}, {name: o, type: int, default: 1 + 2 * 3}, {name: p, type: uuid, default: gen_random_uuid()},
{name: q, type: date, default: "'now'::text::date"}
"""),
        """CREATE TABLE t (a text DEFAULT 'x', b varchar(3) DEFAULT 'x', c int DEFAULT -1, d bool DEFAULT 't', e jsonb DEFAULT '{}',
        f bigint DEFAULT 9999999999,
           g text DEFAULT 'a' || 'b', h timestamp DEFAULT (now() at time zone 'utc'), i int DEFAULT NULL, j numeric(10,2) DEFAULT 0.50,
           k timestamptz DEFAULT current_timestamp,
           l text[] DEFAULT array[]::text[], m interval DEFAULT interval '1 day', n text DEFAULT current_user, o int DEFAULT 1 + 2 * 3,
           p uuid DEFAULT gen_random_uuid(),
           q date DEFAULT 'now'::text::date)""",
        plan=[],
    ),
    Case(
        "default is set, changed and taken away",
        "CREATE TABLE t (a int, b int DEFAULT 1, c int DEFAULT 1, d int DEFAULT 1)",
        table("{name: a, type: int, default: 2}, {name: b, type: int, default: 2}, {name: c, type: int}, {name: d, type: int, default: 1}"),
        "CREATE TABLE t (a int DEFAULT 2, b int DEFAULT 2, c int, d int DEFAULT 1)",
        rows="INSERT INTO t VALUES (9, 9, 9, 9)",
        plan=['"c" DROP DEFAULT', '"a" SET DEFAULT 2', '"b" SET DEFAULT 2'],
    ),
    Case(
        "default of a function in the schema",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int, default: next_one()}"),
        "CREATE TABLE t (a int DEFAULT next_one())",
        around="CREATE FUNCTION next_one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ),
    Case(
        "new columns with defaults that need no rewrite",
        "CREATE TABLE t (a int)",
        table(
            """{name: a, type: int}, {name: b, type: int, default: 7, nullable: false}, {name: c, type: timestamptz, default: now(), nullable: false},
                  {name: d, type: text, default: "'it''s'"}, {name: e, type: text, default: "upper('x')"}"""
        ),
        "CREATE TABLE t (a int, b int NOT NULL DEFAULT 7, c timestamptz NOT NULL DEFAULT now(), d text DEFAULT 'it''s', e text DEFAULT upper('x'))",
        rows="INSERT INTO t VALUES (9)",
        proofs=(("SELECT b, d, e, c IS NULL FROM t", [(7, "it's", "X", False)]),),
    ),
    Case(
        "new column with a volatile default",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}, {name: b, type: uuid, default: gen_random_uuid()}"),
        "CREATE TABLE t (a int, b uuid DEFAULT gen_random_uuid())",
        rows="INSERT INTO t VALUES (9), (8)",
        allow=("rewrites_table",),
    ),
    Case(
        "new column that needs a value",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}, {name: b, type: int, nullable: false}"),
        rows="INSERT INTO t VALUES (9)",
        error=("column customer.t.b", "give it a default"),
    ),
    Case(
        "new column that needs a value in an empty table",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}, {name: b, type: int, nullable: false}"),
        "CREATE TABLE t (a int, b int NOT NULL)",
    ),
]

NUMBERS = [
    Case(
        "serials read alike",
        "CREATE TABLE t (a serial, b bigserial, c smallserial)",
        table("{name: a, type: serial}, {name: b, type: serial8}, {name: c, type: SmallSerial}"),
        "CREATE TABLE t (a serial, b bigserial, c smallserial)",
        plan=[],
    ),
    Case(
        "identities read alike",
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY, b bigint GENERATED BY DEFAULT AS IDENTITY)",
        table("{name: a, type: int, identity: always}, {name: b, type: bigint, identity: by_default}"),
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY, b bigint GENERATED BY DEFAULT AS IDENTITY)",
        plan=[],
    ),
    Case(
        "int to serial",
        "CREATE TABLE t (a int NOT NULL)",
        table("{name: a, type: serial}"),
        "CREATE TABLE t (a serial)",
        rows="INSERT INTO t VALUES (41)",
        proofs=(("INSERT INTO t DEFAULT VALUES RETURNING a", [(42,)]),),
    ),
    Case(
        "nullable int to serial",
        "CREATE TABLE t (a int)",
        table("{name: a, type: serial}"),
        "CREATE TABLE t (a serial)",
        rows="INSERT INTO t VALUES (41)",
        proofs=(("INSERT INTO t DEFAULT VALUES RETURNING a", [(42,)]),),
    ),
    Case(
        "int to identity",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int, identity: always}"),
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)",
        rows="INSERT INTO t VALUES (41)",
        proofs=(("INSERT INTO t DEFAULT VALUES RETURNING a", [(42,)]),),
    ),
    Case(
        "int with a default to identity",
        "CREATE TABLE t (a int NOT NULL DEFAULT 3)",
        table("{name: a, type: int, identity: by_default}"),
        "CREATE TABLE t (a int GENERATED BY DEFAULT AS IDENTITY)",
        rows="INSERT INTO t VALUES (41)",
        proofs=(("INSERT INTO t DEFAULT VALUES RETURNING a", [(42,)]),),
    ),
    Case(
        "serial to int",
        "CREATE TABLE t (a serial)",
        table("{name: a, type: int, nullable: false}"),
        "CREATE TABLE t (a int NOT NULL)",
        rows="INSERT INTO t VALUES (41)",
        allow=("deletes_data",),
    ),
    Case(
        "serial to identity",
        "CREATE TABLE t (a serial PRIMARY KEY)",
        table("{name: a, type: int, identity: always}", "primary_key: [a]"),
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
        rows="INSERT INTO t VALUES (41)",
        proofs=(("INSERT INTO t DEFAULT VALUES RETURNING a", [(42,)]),),
    ),
    Case(
        "identity to serial",
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)",
        table("{name: a, type: serial}"),
        "CREATE TABLE t (a serial)",
        rows="INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (41)",
        proofs=(("INSERT INTO t DEFAULT VALUES RETURNING a", [(42,)]),),
    ),
    Case(
        "identity to int",
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)",
        table("{name: a, type: int}"),
        "CREATE TABLE t (a int)",
        rows="INSERT INTO t DEFAULT VALUES",
    ),
    Case(
        "identity always to by default",
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)",
        table("{name: a, type: int, identity: by_default}"),
        "CREATE TABLE t (a int GENERATED BY DEFAULT AS IDENTITY)",
        rows="INSERT INTO t DEFAULT VALUES",
        plan=["SET GENERATED BY DEFAULT"],
    ),
    Case(
        "identity by default to always",
        "CREATE TABLE t (a int GENERATED BY DEFAULT AS IDENTITY)",
        table("{name: a, type: int, identity: always}"),
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)",
        rows="INSERT INTO t DEFAULT VALUES",
        plan=["SET GENERATED ALWAYS"],
    ),
    Case(
        "identity grows",
        "CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY)",
        table("{name: a, type: bigint, identity: always}"),
        "CREATE TABLE t (a bigint GENERATED ALWAYS AS IDENTITY)",
        rows="INSERT INTO t DEFAULT VALUES",
        allow=("rewrites_table",),
        proofs=(("INSERT INTO t DEFAULT VALUES RETURNING a", [(2,)]),),
    ),
    Case(
        "serial grows",
        "CREATE TABLE t (a serial)",
        table("{name: a, type: bigserial}"),
        "CREATE TABLE t (a bigserial)",
        rows="INSERT INTO t DEFAULT VALUES",
        allow=("rewrites_table",),
        proofs=(("INSERT INTO t DEFAULT VALUES RETURNING a", [(2,)]),),
    ),
    Case(
        "new identity and serial columns",
        "CREATE TABLE t (a int)",
        table("{name: a, type: int}, {name: b, type: bigint, identity: always}, {name: c, type: serial}"),
        "CREATE TABLE t (a int, b bigint GENERATED ALWAYS AS IDENTITY, c serial)",
        rows="INSERT INTO t VALUES (9), (8)",
        allow=("rewrites_table",),
    ),
]

CASES: list[Case] = [*NAMES, *TYPES, *DEFAULTS, *NUMBERS]
