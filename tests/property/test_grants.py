# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From any access model to any other: what has_*_privilege answers is what the declaration implies, and a second run is empty.

The expectation is worked out here from the options alone, not by the module's
code. Between the two models somebody grants by hand, with grant options too.
CRM_PAIRS sets the number of pairs (default 60).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import collection  # pylint: disable=wrong-import-position

collection.importable()

import grants  # pylint: disable=wrong-import-position
import servers  # pylint: disable=wrong-import-position
from ansible_collections.crm.platform.plugins.module_utils import postgres  # pylint: disable=wrong-import-position
from ansible_collections.crm.platform.plugins.module_utils.grants import apply, declare  # pylint: disable=wrong-import-position

server = servers.server
PAIRS = int(os.environ.get("CRM_PAIRS", "60"))
ROLES = ["prop_a", "prop_b", "prop_c", "prop D", 'prop"e']
SCHEMAS = ["s", "Other S"]
TABLES = ["t", "part", "part_1", "v"]
COLUMNS = ["a", "b c"]
RIGHTS = {
    "table": ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
    "column": ["SELECT", "INSERT", "UPDATE", "REFERENCES"],
    "sequence": ["SELECT", "UPDATE", "USAGE"],
    "function": ["EXECUTE"],
    "type": ["USAGE"],
    "schema": ["CREATE", "USAGE"],
    "database": ["CREATE", "CONNECT", "TEMPORARY"],
}
MAKE = """
CREATE SCHEMA {s};
CREATE TABLE {s}.t (a serial, "b c" int);
CREATE TABLE {s}.part (a int, "b c" int) PARTITION BY RANGE (a);
CREATE TABLE {s}.part_1 PARTITION OF {s}.part FOR VALUES FROM (1) TO (2);
CREATE VIEW {s}.v AS SELECT 1 AS a, 2 AS "b c";
CREATE FUNCTION {s}.f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION {s}.f(text) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE {s}.e AS ENUM ('a');
"""


def some(listed, least=1):
    return st.lists(st.sampled_from(listed), min_size=least, max_size=3, unique=True)


@st.composite
def grant(draw):
    kind = draw(st.sampled_from(["table"] * 4 + ["column"] * 3 + ["sequence", "function", "type", "schema", "database"]))
    roles = draw(some([*ROLES, "public"]))
    entry = {"roles": roles, "privileges": draw(st.one_of(st.just("all"), some(RIGHTS[kind])))}
    if kind != "database":
        entry["schema"] = draw(st.sampled_from(SCHEMAS))
    if kind == "table":
        entry["tables"] = draw(st.one_of(st.just("all"), some(TABLES)))
    elif kind == "column":
        entry["columns"] = draw(st.dictionaries(st.sampled_from(TABLES), some(COLUMNS), min_size=1, max_size=2))
    elif kind == "sequence":
        entry["sequences"] = draw(st.sampled_from(["all", ["t_a_seq"]]))
    elif kind == "function":
        entry["functions"] = draw(st.sampled_from(["all", ["f(int)"], ["f(text)"]]))
    elif kind == "type":
        entry["types"] = draw(st.sampled_from(["all", ["e"]]))
    elif kind == "database":
        entry["database"] = True
    if "public" not in roles and draw(st.integers(0, 3)) == 0:
        entry["grant_option"] = True
    if "all" in (entry.get("tables"), entry.get("functions"), entry.get("sequences"), entry.get("types")) and draw(st.booleans()):
        entry.update(future=True, owners=draw(some(ROLES[:3])))
    return entry


@st.composite
def model(draw):
    roles = []
    for number, name in enumerate(ROLES):
        above = draw(st.lists(st.sampled_from(ROLES[:number]), max_size=2, unique=True)) if number else []
        roles.append({"name": name, "member_of": above, "inherit": draw(st.booleans()), "login": draw(st.booleans())})
    owner = st.sampled_from(ROLES[:3])
    ownership = [{"owner": draw(owner), "schema": schema, kind: "all"} for schema in SCHEMAS for kind in ("tables", "functions", "types")]
    ownership += [{"owner": draw(owner), "schema": schema} for schema in SCHEMAS]
    return {"roles": roles, "ownership": ownership, "grants": draw(st.lists(grant(), max_size=8))}


@st.composite
def disturbance(draw):
    """What somebody did by hand; each statement may fail."""
    by = draw(st.sampled_from([None, *ROLES]))
    role = draw(st.sampled_from(ROLES))
    table = postgres.identifier(draw(st.sampled_from(SCHEMAS)), draw(st.sampled_from(TABLES)))
    column = draw(st.sampled_from(["", '(a)', '("b c")']))
    right = draw(st.sampled_from(RIGHTS["column"]))
    option = draw(st.sampled_from(["", " WITH GRANT OPTION"]))
    give = f"GRANT {right} {column} ON {table} TO {postgres.identifier(role)}{option}"
    return by, draw(
        st.sampled_from(
            [
                give,
                give,
                give,
                f"REVOKE ALL ON {table} FROM {postgres.identifier(role)} CASCADE",
                f"ALTER TABLE {table} OWNER TO {postgres.identifier(role)}",
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {postgres.identifier(role)} GRANT SELECT ON TABLES TO PUBLIC",
                f"GRANT ALL ON ALL TABLES IN SCHEMA s TO PUBLIC, {postgres.identifier(role)}",
                f"ALTER ROLE {postgres.identifier(role)} CREATEDB SUPERUSER",
            ]
        )
    )


class Expected:
    """What a model implies."""

    def __init__(self, wanted, version):
        self.wanted, self.version = wanted, version
        self.above = {role["name"]: role["member_of"] if role["inherit"] else [] for role in wanted["roles"]}

    def closure(self, role):
        found, waiting = set(), [role]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.above.get(name, [])
        return found

    def rights(self, kind):
        return RIGHTS[kind] + (["MAINTAIN"] if kind == "table" and self.version >= 17 else [])

    def granted(self, kind, schema, name, column=""):
        """{(role, right): with grant option}"""
        found = {}
        for entry in self.wanted["grants"]:
            if kind == "database":
                hit = "database" in entry
            elif kind == "schema":
                hit = entry.get("schema") == schema and not set(entry) & {"tables", "columns", "sequences", "functions", "types"}
            elif kind == "column":
                hit = entry.get("schema") == schema and column in entry.get("columns", {}).get(name, [])
            else:
                listed = entry.get(f"{kind}s") if entry.get("schema") == schema else None
                hit = listed == "all" or (listed is not None and name in [one.replace("(int)", "(integer)") for one in listed])
            if hit:
                rights = self.rights(kind) if entry["privileges"] == "all" else entry["privileges"]
                for role in entry["roles"]:
                    for right in rights:
                        found[role, right] = found.get((role, right), False) or entry.get("grant_option", False)
        return found

    def owner(self, kind, schema):
        kind = {"sequence": "table"}.get(kind, kind)
        for one in self.wanted["ownership"]:
            if one["schema"] == schema and ((f"{kind}s" in one) if kind != "schema" else len(one) == 2):
                return one["owner"]
        return None

    def may(self, role, right, option, granted, owner):
        closure = self.closure(role) if role != "public" else set()
        if owner in closure:
            return True
        return any(granted.get((one, right), None) in ((True,) if option else (True, False)) for one in [*closure, "public"])


QUERY = """
SELECT q.role, q.kind, q.name, q.col, q.priv, CASE q.kind
  WHEN 'table' THEN has_table_privilege(q.role, q.name, q.priv)
  WHEN 'column' THEN has_column_privilege(q.role, q.name, q.col, q.priv)
  WHEN 'sequence' THEN has_sequence_privilege(q.role, q.name, q.priv)
  WHEN 'function' THEN has_function_privilege(q.role, q.name, q.priv)
  WHEN 'type' THEN has_type_privilege(q.role, q.name, q.priv)
  WHEN 'schema' THEN has_schema_privilege(q.role, q.col, q.priv)
  WHEN 'database' THEN has_database_privilege(q.role, current_database()::text, q.priv) END
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) q(role, kind, name, col, priv)
"""


def check(connection, wanted, version):
    expected = Expected(wanted, version)
    questions = {}
    for schema in SCHEMAS:
        here = [("table", name, "") for name in TABLES] + [("sequence", "t_a_seq", ""), ("type", "e", ""), ("schema", "", "")]
        here += [("function", "f(integer)", ""), ("function", "f(text)", "")] + [("column", name, column) for name in TABLES for column in COLUMNS]
        for kind, name, column in here:
            granted, owner = expected.granted(kind, schema, name, column), expected.owner("table" if kind == "column" else kind, schema)
            if kind == "column":
                whole = expected.granted("table", schema, name)
                granted = {key: granted.get(key, False) or whole.get(key, False) for key in [*granted, *whole]}
            quoted = postgres.identifier(schema, name) if "(" not in name else f"{postgres.identifier(schema)}.{name}"
            for right in expected.rights(kind):
                for option in (False, True):
                    for role in [*ROLES, *([] if option else ["public"])]:
                        key = (role, kind, quoted, schema if kind == "schema" else column, right + (" WITH GRANT OPTION" if option else ""))
                        questions[key] = expected.may(role, right, option, granted, owner)
    granted = expected.granted("database", "", "")
    for right in RIGHTS["database"]:
        for role in [*ROLES, "public"]:
            questions[role, "database", "", "", right] = expected.may(role, right, False, granted, None)
    answers = {tuple(row[:5]): row[5] for row in grants.rows(connection, QUERY, [list(part) for part in zip(*questions)])}
    assert {key: answers[key] for key in questions if answers[key] != questions[key]} == {}
    check_later(connection, wanted, expected)


def check_later(connection, wanted, expected):
    """Make a table as each of the owners that defaults speak of."""
    makers = {(owner, entry["schema"]) for entry in wanted["grants"] if entry.get("future") for owner in entry["owners"]}
    for owner, schema in sorted(makers):
        future = [{**entry, "tables": "all"} for entry in wanted["grants"] if entry.get("future") and owner in entry["owners"] and "tables" in entry]
        later = Expected({**wanted, "grants": future}, expected.version)
        granted, name = later.granted("table", schema, "probe"), postgres.identifier(schema, "probe")
        grants.rows(connection, f"BEGIN; GRANT ALL ON SCHEMA {postgres.identifier(schema)} TO {postgres.identifier(owner)}")
        try:
            grants.rows(connection, f"SET LOCAL ROLE {postgres.identifier(owner)}; CREATE TABLE {name} (id int)")
            grants.rows(connection, "RESET ROLE")
            for role in [*ROLES, "public"]:
                for right in expected.rights("table"):
                    answer = grants.rows(connection, "SELECT has_table_privilege(%s, %s, %s)", (role, name, right))[0][0]
                    assert answer == later.may(role, right, False, granted, owner), (role, right, owner, schema)
        finally:
            grants.rows(connection, "ROLLBACK")


@pytest.fixture(scope="module")
def connection(server):
    database = server.database()
    made = server.connect(database)
    for role in ROLES:
        grants.rows(made, f"CREATE ROLE {postgres.identifier(role)}")
    for schema in SCHEMAS:
        grants.rows(made, MAKE.format(s=postgres.identifier(schema)))
    yield made
    made.close()
    server.drop(database)
    made = server.connect("postgres")
    for role in ROLES:
        grants.rows(made, f"DROP OWNED BY {postgres.identifier(role)}")
        grants.rows(made, f"DROP ROLE {postgres.identifier(role)}")
    made.close()


def converge(connection, wanted, check_mode=False):
    name = connection.info.dbname
    entries = [{**entry, "database": name} if "database" in entry else entry for entry in wanted["grants"]]
    manage = {"schemas": ["*"], "databases": [name], "roles": ["prop*"]}
    declared = declare.declared({**wanted, "grants": entries, "manage": manage})
    session = postgres.Session(connection)
    return apply.run(session, declared, check_mode, False, 3000, 0).plan.steps


@hypothesis.settings(max_examples=PAIRS, phases=(hypothesis.Phase.generate,))
@hypothesis.given(first=model(), second=model(), by_hand=st.lists(disturbance(), max_size=6))
def test_any_model_follows_any_other(connection, first, second, by_hand):
    version = connection.server_version // 10000
    converge(connection, first)
    check(connection, first, version)
    for by, statement in by_hand:
        try:
            if by:
                grants.rows(connection, f"SET ROLE {postgres.identifier(by)}")
            grants.rows(connection, statement)
        except grants.psycopg2.Error:
            pass
        grants.rows(connection, "RESET ROLE")
    shown = converge(connection, second, check_mode=True)
    assert [step.sql for step in converge(connection, second)] == [step.sql for step in shown]
    check(connection, second, version)
    assert converge(connection, second) == []
