# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_schema from any model A, with rows, to any model B: the catalog is that of a fresh B, and no row is lost unasked.

CRM_PAIRS sets how many pairs are tried with each server; a failure prints the smallest pair.
"""

from __future__ import annotations

import collections
import dataclasses
import os

import hypothesis
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.schema import apply, catalog, converge, declare, model, options, scratch, steps
from hypothesis import strategies as st

PAIRS = int(os.environ.get("CRM_PAIRS", "100"))
SCHEMA = "customer"
ROWS = 3
EVERYTHING = tuple(steps.HAZARDS)
# Types -> the value of row n, as SQL; the same n gives the same value, so that foreign keys hold.
VALUES = {
    "smallint": "{n}",
    "integer": "{n}",
    "bigint": "{n}",
    "numeric(10,2)": "{n}.25",
    "numeric(12,2)": "{n}.25",
    "numeric(12,4)": "{n}.25",
    "varchar(50)": "'v{n}'",
    "varchar(100)": "'v{n}'",
    "text": "'v{n}'",
    "timestamptz": "'2024-01-0{n} 10:00+00'",
    "timestamp(3)": "'2024-01-0{n} 10:00'",
    "date": "'2024-01-0{n}'",
    "uuid": "'00000000-0000-0000-0000-00000000000{n}'",
    "boolean": "true",
    "jsonb": "'{{\"n\": {n}}}'",
    "text[]": "'{{v{n}}}'",
    "mood": "'a'",
}
KEYS = [kind for kind in VALUES if kind not in ("boolean", "jsonb", "mood")]
DEFAULTS = {
    "smallint": ["0", "1 + 1"],
    "integer": ["0", "-1", "1 + 1"],
    "bigint": ["0", "9999999999"],
    "numeric(10,2)": ["0", "0.5"],
    "numeric(12,2)": ["0"],
    "numeric(12,4)": ["0"],
    "varchar(50)": ["'x'", "upper('x')"],
    "varchar(100)": ["'x'", "'a' || 'b'"],
    "text": ["'x'", "'it''s; 100%'", "current_user"],
    "timestamptz": ["now()"],
    "timestamp(3)": ["now()"],
    "date": ["CURRENT_DATE"],
    "uuid": ["gen_random_uuid()"],
    "boolean": ["false", "'t'"],
    "jsonb": ["'{}'"],
    "text[]": ["'{}'"],
    "mood": ["'a'"],
}
# Types whose rows fit, or nearly fit, one another.
FAMILIES = [
    ["smallint", "integer", "bigint", "numeric(10,2)", "text"],
    ["numeric(10,2)", "numeric(12,2)", "numeric(12,4)", "text"],
    ["varchar(50)", "varchar(100)", "text"],
    ["timestamptz", "timestamp(3)", "text"],
]
LABELS = [["a"], ["a", "b"], ["z", "a", "b"], ["z", "a", "x", "b"]]
TABLES = ["customer", "Deal Stage", "visit"]
COLUMNS = ["id", "name", "Größe %", "select", "note"]


def quoted(name):
    return postgres.identifier(name)


def kind_of(column):
    return {"serial": "integer", "bigserial": "bigint"}.get(column["type"], column["type"])


@st.composite
def columns(draw, like):
    """:param like: columns of the model before, which this one often keeps."""
    found = []
    for name in draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4, unique=True)):
        before = next((column for column in like if column["name"] == name), None)
        if before and draw(st.integers(0, 3)):
            found.append(dict(before))
            continue
        kind = draw(st.sampled_from(list(VALUES)))
        if before and draw(st.integers(0, 4)):
            kind = draw(st.sampled_from(next((kinds for kinds in FAMILIES if kind_of(before) in kinds), ["text"])))
        column = {"name": name, "type": kind}
        source = draw(st.sampled_from(["none", "none", "default", "identity", "serial"]))
        if source == "default":
            column["default"] = draw(st.sampled_from(DEFAULTS[kind]))
        elif source == "identity" and kind in ("smallint", "integer", "bigint"):
            column["identity"] = draw(st.sampled_from(["always", "by_default"]))
        elif source == "serial" and kind in ("integer", "bigint"):
            column["type"] = {"integer": "serial", "bigint": "bigserial"}[kind]
        if draw(st.booleans()):
            column["nullable"] = False
            numbered = "identity" in column or "serial" in column["type"]
            if "default" not in column and not numbered and (like or draw(st.booleans())) and draw(st.integers(0, 9)):
                column["default"] = DEFAULTS[kind][0]
        if draw(st.integers(0, 5)) == 0:
            column["comment"] = draw(st.sampled_from(["it's 100%", 'a "b"']))
        found.append(column)
    texts = [column["name"] for column in found if column["type"] in ("text", "varchar(50)")]
    if texts and draw(st.integers(0, 3)) == 0:
        found.append(
            {"name": "made", "type": "text", "generated": draw(st.sampled_from([f"lower({quoted(texts[0])})", f"{quoted(texts[0])} || '!'"]))}
        )
    return found


@st.composite
def table(draw, name, like=()):
    found = {"name": name, "columns": draw(columns(like))}
    plain = [column for column in found["columns"] if "generated" not in column]
    keys = [column["name"] for column in plain if kind_of(column) in KEYS]
    if keys and draw(st.booleans()):
        found["primary_key"] = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique=True))
    if keys and draw(st.integers(0, 2)) == 0:
        listed = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique=True))
        if listed != found.get("primary_key"):
            found["unique"] = [{"columns": listed}]
    checks = {
        "integer": "{c} > -5 AND {c} BETWEEN -5 AND 99",
        "bigint": "{c} < 99999999999",
        "text": "length({c}) < 60",
        "varchar(50)": "{c} IN ('x', 'X', 'v1', 'v2', 'v3')",
        "numeric(10,2)": "{c} >= 0",
    }
    found["checks"] = [
        {"name": f"check {number}", "expression": checks[kind_of(column)].format(c=quoted(column["name"]))}
        for number, column in enumerate(plain)
        if kind_of(column) in checks and draw(st.integers(0, 2)) == 0
    ]
    found["indexes"] = []
    for number in range(draw(st.integers(0, 2))):
        column = draw(st.sampled_from(found["columns"]))
        kind, key = kind_of(column), quoted(column["name"])
        index = {"name": f"i{number} {name}", "columns": [column["name"]]}
        shape = draw(st.sampled_from(["plain", "desc", "expression", "where", "include", "method"]))
        if shape == "desc":
            index["columns"] = [f"{key} DESC NULLS LAST"]
        elif shape == "expression" and kind in ("text", "varchar(50)"):
            index["columns"] = [f"lower({key})", f"{key} text_pattern_ops"]
        elif shape == "where":
            index["where"] = f"{key} IS NOT NULL"
        elif shape == "include" and len(found["columns"]) > 1:
            index["include"] = [other["name"] for other in found["columns"] if other is not column][:1]
        elif shape == "method":
            index["method"] = "gin" if kind in ("jsonb", "text[]") else "brin" if kind in ("integer", "date") else "hash"
            if index["method"] == "gin" and draw(st.booleans()):
                index["with"] = {"fastupdate": False}
        if draw(st.integers(0, 3)) == 0 and kind in KEYS and "method" not in index and "generated" not in column:
            index["unique"] = True
        found["indexes"].append(index)
    return found


@st.composite
def models(draw, like=()):
    before = {one["name"]: one["columns"] for one in like}
    names = draw(st.lists(st.sampled_from(TABLES), min_size=1, max_size=3, unique=True))
    found = [draw(table(name, before.get(name, ()))) for name in names]
    for one in found:
        targets = [
            (other, column)
            for other in found
            if len(other.get("primary_key", [])) == 1
            for column in one["columns"]
            if "generated" not in column
            and kind_of(column) == next(kind_of(key) for key in other["columns"] if key["name"] == other["primary_key"][0])
        ]
        if targets and draw(st.booleans()):
            other, column = draw(st.sampled_from(targets))
            action = draw(st.sampled_from(["no_action", "cascade", "set_null"]))
            one["foreign_keys"] = [{"columns": [column["name"]], "references": {"table": other["name"]}, "on_delete": action}]
    views = []
    if draw(st.booleans()):
        shown = draw(st.sampled_from(found))
        listed = ", ".join(quoted(column["name"]) for column in shown["columns"][: draw(st.integers(1, 4))])
        views.append({"name": "shown", "query": f"SELECT {listed} FROM {quoted(shown['name'])}"})
        if draw(st.booleans()):
            views.append({"name": "all shown", "query": "SELECT * FROM shown"})
    # Values can only be added: fewer of them is a refusal, and not what most pairs are for.
    values = draw(st.sampled_from(LABELS[1:] if like and draw(st.integers(0, 9)) else LABELS[:2]))
    return {"tables": found, "views": views, "enums": [{"name": "mood", "values": values}]}


@st.composite
def pairs(draw):
    """B keeps some columns of A, and renames some tables and columns."""
    first = draw(models())
    second = draw(models(first["tables"]))
    if draw(st.booleans()):
        names = {one["name"] for one in first["tables"]}
        for one in second["tables"]:
            if one["name"] not in names and draw(st.booleans()):
                free = sorted(names - {other["name"] for other in second["tables"]})
                if free:
                    one["renamed_from"] = free[0]
                    names.discard(free[0])
            before = next((other for other in first["tables"] if other["name"] == one.get("renamed_from", one["name"])), None)
            if before and draw(st.booleans()):
                old = [column["name"] for column in before["columns"] if column["name"] not in {c["name"] for c in one["columns"]}]
                new = [
                    column for column in one["columns"] if column["name"] not in {c["name"] for c in before["columns"]} and "generated" not in column
                ]
                if old and new:
                    new[0]["renamed_from"] = old[0]
    return first, second


def run(session, wanted, **more):
    found = ArgumentSpecValidator(options.argument_spec()).validate({"login_db": "x", **wanted})
    assert not found.error_messages, found.error_messages
    declared = declare.schema(SCHEMA, "", found.validated_parameters)
    settings = {"purge": False, "allow": (), **more}
    check = settings.pop("check", False)
    worker = converge.Converger(session, declared, "", SCHEMA, "", settings["purge"], settings["allow"], apply.Patience(3000, 3, 0))
    return worker.run(check)


def emptied(session):
    session.run(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; DROP SCHEMA IF EXISTS customer_schema CASCADE")


def read(session):
    with session.transaction("READ ONLY"):
        scratch.set_path(session, SCHEMA)
        return catalog.read(session, SCHEMA).schema


def comparable(schema):
    """What has to be equal: not the order of columns, nor the names that PostgreSQL picks."""

    def of(one):
        columns = {name: dataclasses.replace(column, serial=bool(column.serial), comment=None) for name, column in one.columns.items()}
        constraints = {
            "" if constraint.kind == model.PRIMARY else name: dataclasses.replace(constraint, name="") for name, constraint in one.constraints.items()
        }
        indexes = {name: dataclasses.replace(index, columns=()) for name, index in one.indexes.items()}
        return columns, constraints, indexes, one.partition_by

    return (
        {name: of(one) for name, one in schema.tables.items()},
        schema.enums,
        {name: (view.query, view.columns) for name, view in schema.views.items()},
    )


def load(session, wanted):
    """Rows for every table; parents first, as often as foreign keys ask for it."""
    session.run("SET session_replication_role = replica")
    for one in wanted["tables"]:
        plain = [column for column in one["columns"] if "generated" not in column]
        names = ", ".join(quoted(column["name"]) for column in plain)
        for number in range(1, ROWS + 1):
            values = ", ".join(VALUES[kind_of(column)].format(n=number) for column in plain)
            session.run(f"INSERT INTO {quoted(SCHEMA)}.{quoted(one['name'])} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})")
    session.run("SET session_replication_role = origin")


def rows(session):
    """table -> column -> its values in every row, as text."""
    found = {}
    for name, one in read(session).tables.items():
        found[name] = {}
        for column in one.columns:
            found[name][column] = sorted(str(row[0]) for row in session.rows(f"SELECT {quoted(column)}::text FROM {quoted(SCHEMA)}.{quoted(name)}"))
    return found


def kept(before, after, wanted):
    """Nothing of before is missing in after, by the names that it has now."""
    table_names = {
        one.get("renamed_from"): one["name"] for one in wanted["tables"] if one.get("renamed_from") in before and one["name"] not in before
    }
    column_names = {
        (one["name"], column["renamed_from"]): column["name"] for one in wanted["tables"] for column in one["columns"] if column.get("renamed_from")
    }
    for name, values in before.items():
        now = table_names.get(name, name)
        assert now in after, f"the table {name} is gone"
        for column, cells in values.items():
            here = column if column in after[now] else column_names.get((now, column), column)
            assert here in after[now], f"the column {name}.{column} is gone"
            assert len(after[now][here]) == len(cells), f"rows of {name} are gone"


COUNTS = collections.Counter()
# What rows can have against a model: a type that does not hold them, a key that they have twice, a check that they break.
STOPPED = ("would not survive", "duplicate", "not unique", "is violated", "violates")


def test_from_any_model_to_any_other(server):
    databases = [server.database() for dummy in range(2)]
    one, other = (postgres.Session(server.connect(name)) for name in databases)
    COUNTS.clear()

    @hypothesis.settings(max_examples=PAIRS, deadline=None, report_multiple_bugs=False)
    @hypothesis.given(pairs())
    def converges(pair):
        first, second = pair
        for session in (one, other):
            emptied(session)
        try:
            run(one, first)
        except declare.DeclarationError as error:
            COUNTS[f"no model: {str(error)[-60:]}"] += 1
            return
        assert run(one, first).plan.steps == []
        load(one, first)
        before, catalog_before = rows(one), read(one)
        try:
            run(other, second)
        except declare.DeclarationError as error:
            COUNTS[f"no model: {str(error)[-60:]}"] += 1
            return
        try:
            run(one, second)
            COUNTS["without any hazard"] += 1
            unasked = True
        except (converge.Hazardous, steps.PlanError):
            assert read(one) == catalog_before, "a refused plan changed something"
            unasked = False
        except apply.ApplyError as error:
            # A key over values that are there twice, a view that somebody's column keeps: said when it is tried.
            COUNTS[f"stopped: {str(error)[:40]}"] += 1
            unasked = True
        if unasked:
            kept(before, rows(one), second)
        else:
            assert rows(one) == before
        try:
            planned = run(one, second, purge=True, allow=EVERYTHING, check=True).plan
            done = run(one, second, purge=True, allow=EVERYTHING)
        except steps.PlanError as error:
            COUNTS[f"refused: {' '.join(str(error).split(': ', 1)[-1].split()[:7])}"] += 1
            return
        except apply.ApplyError as error:
            assert any(word in str(error) for word in STOPPED), error
            COUNTS["stopped by the rows"] += 1
            return
        assert done.plan == planned and done.warnings == []
        assert comparable(read(one)) == comparable(read(other))
        assert run(one, second, purge=True, allow=EVERYTHING).plan.steps == []
        one.run("DROP SCHEMA customer_schema CASCADE")
        assert run(one, second, purge=True, allow=EVERYTHING, check=True).plan.steps == [], "only the memory said that all was well"
        COUNTS["converged"] += 1

    try:
        converges()
    finally:
        server.drop(*databases)
    print(dict(COUNTS))
    assert COUNTS["converged"] >= PAIRS / 3, COUNTS
