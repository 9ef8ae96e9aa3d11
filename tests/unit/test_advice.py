# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is advised of what was read, without a server."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from ansible_collections.crm.platform.plugins.module_utils.advice import indexes, look, model, plans, settings, space
from ansible_collections.crm.platform.plugins.module_utils.schema import declare, lexer
from ansible_collections.crm.platform.plugins.modules import database_advice

MIB = model.MIB


def keys(*columns):
    return tuple((one, "", "1", "0", "0") if isinstance(one, int) else (0, one, "1", "0", "0") for one in columns)


def index(name, *columns, **more):
    index.last += 1
    given = {"include": frozenset(), "predicate": "", "unique": False, "bound": False, "valid": True, "scans": 5, "size": 20 * MIB, **more}
    return indexes.Index(index.last, 1, "public", name, "visit", given.pop("method", "btree"), keys(*columns), **given)


index.last = 0


def advised(*found, foreign=(), days=90.0, replicas=False):
    given = indexes.advice(found, foreign, "customer", 10 * MIB, days, 28, replicas)
    return {(one.kind, one.object.split('"')[3]) for one in given}


# -- filters


@pytest.mark.parametrize(
    "text, found",
    [
        ("(v.customer = $1)", ["customer="]),
        ("((v.customer = $1) AND (v.at > $2))", ["customer=", "at<"]),
        ("(((v.status)::text = $1) AND (v.at >= $2) AND (v.at <= $3))", ["status:text=", "at<", "at<"]),
        ('(v."Sel""ect AND" = $1)', ['Sel"ect AND=']),
        ("(v.note = 'it''s AND (v.customer = 3'::text)", ["note="]),
        ("($1 = v.customer)", ["customer="]),
        ("(v.customer = ANY ($1))", ["customer="]),
        ("(v.customer = ANY ('{1,2}'::integer[]))", ["customer="]),
        ("(lower(v.email) = $1)", ["lower email="]),
        ("(lower((v.email)::text) = $1)", ["lower email:text="]),
        ("(v.gone IS NULL)", ["gone0"]),
        # No index of these columns serves those.
        ("((v.customer = $1) OR (v.at > $2))", []),
        ("(v.customer <> ALL ($1))", []),
        ("(v.customer <> $1)", []),
        ("(v.a = v.b)", []),
        ("((v.a + 1) = $1)", []),
        ("(v.name ~~ $1)", []),
        ("(NOT v.active)", []),
        ("(NOT (hashed SubPlan 1))", []),
        ("(other.customer = $1)", []),
        ("(v.gone IS NOT NULL)", []),
        ("(v.data -> 'a'::text) = $1", []),
        ("(v.name = 'without an end", []),
    ],
)
def test_conditions_of_a_filter(text, found):
    signs = {plans.EQUAL: "=", plans.RANGE: "<", plans.NULL: "0"}
    said = [
        f"{one.function}{' ' if one.function else ''}{one.column}{':' if one.cast else ''}{one.cast}{signs[one.kind]}"
        for one in plans.filtered(text, "v")
    ]
    assert said == found


def test_scans_are_found_at_any_depth():
    scan = {
        "Node Type": "Seq Scan",
        "Schema": "public",
        "Relation Name": "visit",
        "Alias": "v",
        "Total Cost": 9.0,
        "Plan Rows": 3,
        "Filter": "(v.a = $1)",
    }
    plan = {"Node Type": "Limit", "Plans": [{"Node Type": "Gather", "Plans": [scan]}, {**scan, "Filter": "(NOT v.b)"}, {"Node Type": "Seq Scan"}]}
    assert [(one.table, one.cost) for one in plans.scans(plan)] == [("visit", 9.0)]


@pytest.mark.parametrize(
    "sql, taken",
    [
        ("SELECT $1", "SELECT $1"),
        ("SELECT ';' ;", "SELECT ';'"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
        ("/* a; b */ UPDATE t SET a = $1", "/* a; b */ UPDATE t SET a = $1"),
        ("SELECT 1; DROP TABLE customer", ""),
        ("COMMIT", ""),
        ("DROP TABLE customer", ""),
        ("COPY t TO PROGRAM 'x'", ""),
        ("SELECT 'without an end", ""),
        ("<insufficient privilege>", ""),
        ("", ""),
    ],
)
def test_only_one_statement_is_ever_explained(sql, taken):
    assert plans.explainable(sql) == taken


def test_a_comment_at_the_end_hides_no_statement():
    taken = plans.explainable("SELECT 1 -- ; DROP TABLE customer")
    assert not [token for token in lexer.tokens(taken) if token.text == ";"]


def test_parameters():
    assert plans.parameters("SELECT $1, '$9', $10, \"$11\"") == 10


# -- candidates


TABLE = plans.Table(
    1,
    "customer",
    "visit",
    100_000,
    2_000,
    {
        "id": plans.Column(1, "int8", -1),
        "customer": plans.Column(2, "int8", 5_000),
        "kind": plans.Column(3, "varchar", 4),
        "at": plans.Column(4, "timestamptz", -0.9),
        "data": plans.Column(5, "json"),
        "fresh": plans.Column(6, "text"),
        "gone": plans.Column(7, "timestamptz", 100, 0.999),
    },
)


def scan(*conditions, rows=500.0):
    return plans.Scan("customer", "visit", 3_000.0, rows, tuple(plans.Condition(*one) if isinstance(one, tuple) else one for one in conditions))


@pytest.mark.parametrize(
    "conditions, columns",
    [
        ([("customer", plans.EQUAL)], ["customer"]),
        ([("kind", plans.EQUAL), ("at", plans.RANGE), ("customer", plans.EQUAL)], ["customer", "kind", "at"]),
        ([("customer", plans.EQUAL), ("customer", plans.RANGE)], ["customer"]),
        ([("fresh", plans.EQUAL)], ["fresh"]),
        # A quarter of all rows, an unknown range, no order, another value.
        ([("kind", plans.EQUAL)], None),
        ([("at", plans.RANGE)], None),
        ([("data", plans.EQUAL)], None),
        ([("customer", plans.EQUAL, "", "numeric")], None),
        ([("unheard", plans.EQUAL)], None),
        ([("gone", plans.NULL)], None),
        ([("customer", plans.EQUAL), ("kind", plans.EQUAL, "", "text")], ["customer", "kind"]),
    ],
)
def test_candidates(conditions, columns):
    found = plans.candidate(scan(*conditions, rows=50_000), TABLE)
    assert (found and [name for name, dummy in found[0].columns]) == columns


def test_an_index_on_an_expression():
    found, dummy = plans.candidate(scan(("fresh", plans.EQUAL, "lower")), TABLE)
    assert found.sql("i") == 'CREATE INDEX "i" ON "customer"."visit" USING btree (lower("fresh"))'


def test_names_are_quoted_short_and_free():
    hostile = plans.Candidate('sch"ema', 'Täble "x"; DROP', (('Col"umn', ""), ("ü" * 30, "lower")))
    name = hostile.name(set())
    assert len(name.encode()) <= 63
    assert hostile.sql(name, True).startswith(
        f'CREATE INDEX CONCURRENTLY {plans.identifier(name)} ON "sch""ema"."Täble ""x""; DROP" USING btree ("Col""umn", '
    )
    plain = plans.Candidate("customer", "visit", (("customer", ""),))
    assert plain.name(set()) == "idx_visit_customer"
    assert plain.name({"idx_visit_customer"}) != "idx_visit_customer"


def test_the_declaration_is_one_that_customer_schema_takes():
    declared = plans.Candidate("customer", "visit", (('Col"umn', ""), ("at", ""), ("email", "lower"))).declaration("idx")
    (table,) = yaml.safe_load(yaml.safe_dump(declared))["crm_customer_tables"]
    columns = [{"name": name, "type": "text"} for name in ('Col"umn', "at", "email")]
    made = declare.schema("customer", "", {"tables": [{**table, "columns": columns}]})
    (found,) = made.tables["visit"].indexes.values()
    assert found.keys == ('"Col""umn"', '"at"', 'lower("email")')


def test_a_longer_index_serves_the_shorter_ones_statements():
    use = plans.Use("SELECT 1", 100, 10, 10, True)
    short, long, other = (plans.Candidate("s", "t", tuple((name, "") for name in names)) for names in ("a", "ab", "b"))
    found = plans.merged({short: [use], long: [use], other: [use]})
    assert {key: len(uses) for key, uses in found.items()} == {long: 2, other: 1}
    assert use.gain == pytest.approx(9)


def test_an_estimate_is_never_above_what_is_there():
    assert plans.estimate(scan(), 3_000, 10, 1.1) < 30
    assert plans.estimate(scan(), 3_500, 90_000, 4) == 3_500


# -- indexes


def test_twice():
    assert advised(index("a", 1), index("b", 1)) == {("duplicate_index", "b")}
    assert advised(index("a", 1), index("b", 1, unique=True)) == {("duplicate_index", "a")}
    assert advised(index("a", 1, unique=True), index("b", 1, unique=True, bound=True)) == {("duplicate_index", "a")}
    assert advised(index("a", 1), index("b", 1, size=MIB / 2)) == set()
    assert advised(index("a", 1), index("b", 1, scans=50)) == {("duplicate_index", "a")}
    assert advised(index("a", 1, unique=True, bound=True), index("b", 1, unique=True, bound=True)) == set()


@pytest.mark.parametrize(
    "other",
    [
        {"predicate": "(a > 1)"},
        {"method": "hash"},
        {"include": frozenset({7})},
        {"valid": False},
        {"distinct_nulls": False},
    ],
    ids=str,
)
def test_not_the_same(other):
    assert advised(index("a", 1), index("b", 1, **other)) == set()


def test_other_orders_and_expressions_are_not_the_same():
    descending = dataclasses.replace(index("b", 1), keys=((1, "", "1", "0", "3"),))
    assert advised(index("a", 1), descending) == set()
    assert advised(index("a", "lower(x)"), index("b", "upper(x)"), index("c", 1)) == set()
    assert advised(index("a", "lower(x)"), index("b", "lower(x)")) == {("duplicate_index", "b")}


def test_covered():
    assert advised(index("a", 1), index("b", 1, 2)) == {("redundant_index", "a")}
    assert advised(index("a", 1), index("b", 1, 2), index("c", 1, 2, 3)) == {("redundant_index", "a"), ("redundant_index", "b")}
    assert advised(index("a", 1, include=frozenset({2})), index("b", 1, 2)) == {("redundant_index", "a")}


@pytest.mark.parametrize(
    "shorter, longer",
    [
        ({"unique": True}, {}),
        ({"bound": True}, {}),
        ({"predicate": "(a > 1)"}, {}),
        ({}, {"predicate": "(a > 1)"}),
        ({}, {"valid": False}),
        ({"include": frozenset({7})}, {}),
        ({"method": "gist"}, {"method": "gist"}),
    ],
    ids=str,
)
def test_not_covered(shorter, longer):
    assert advised(index("a", 1, **shorter), index("b", 1, 2, **longer)) == set()


def test_the_second_column_is_no_beginning():
    assert advised(index("a", 2), index("b", 1, 2)) == set()


def test_unused():
    assert advised(index("a", 1, scans=0)) == {("unused_index", "a")}
    for other in ({"scans": 1}, {"unique": True}, {"bound": True}, {"size": MIB}, {"valid": False}):
        assert advised(index("a", 1, **{"scans": 0, **other})) == set(), other


def test_too_early_to_say_unused():
    assert advised(index("a", 1, scans=0), days=27.9) == advised(index("a", 1, scans=0), days=None) == set()


def test_the_one_that_stays_is_not_unused():
    assert advised(index("a", 1, scans=9), index("b", 1, 2, scans=0)) == {("redundant_index", "a")}
    assert advised(index("a", 1, scans=0), index("b", 1, scans=0)) == {("duplicate_index", "b")}


def key(*numbers, deleted=10, rows=50_000):
    return indexes.Key("fk", 1, "customer", "visit", numbers, tuple(f"c{number}" for number in numbers), '"customer"."customer"', rows, deleted)


def test_what_supports_a_foreign_key_is_not_unused():
    assert advised(index("a", 1, scans=0), foreign=[key(1)]) == set()
    assert advised(index("a", 2, 1, 3, scans=0), foreign=[key(1, 2)]) == set()
    assert advised(index("a", 2, 1, scans=0), foreign=[key(1)]) == {("unused_index", "a")}
    assert advised(index("a", 1, predicate="x", scans=0), foreign=[key(1)]) == {("unused_index", "a")}


def test_foreign_keys_without_an_index():
    def missing(*found, **more):
        return [one.sql for one in indexes.foreign_keys([key(1, 2, **more)], found, 10_000, "customer", lambda dummy: set())]

    assert missing(index("a", 1)) == ['CREATE INDEX CONCURRENTLY "idx_visit_c1_c2" ON "customer"."visit" USING btree ("c1", "c2")']
    assert missing(index("a", 2, 1)) == missing(rows=10) == missing(deleted=0) == []


def test_replicas_are_told_of():
    (one,) = indexes.advice([index("a", 1, scans=0)], [], "customer", 0, 90, 28, True)
    assert "replicas" in one.note


def test_a_row_of_the_catalog():
    row = (
        5,
        4,
        "s",
        "i",
        "t",
        "btree",
        "2 0 0 7",
        "10 11 12",
        "0 100 100",
        "0 1 0",
        3,
        ["lower(a)", "upper(b)"],
        "",
        False,
        True,
        True,
        3,
        8192.0,
        False,
    )
    one = look.index_of(row)
    assert one.keys == ((2, "", "10", "0", "0"), (0, "lower(a)", "11", "100", "1"), (0, "upper(b)", "12", "100", "0"))
    assert (one.include, one.bound, one.distinct_nulls) == (frozenset({7}), True, True)


# -- settings


def test_amounts():
    assert settings.amount("512MB") == settings.amount("65536", "8kB") == settings.amount("524288", "kB") == 512 * MIB
    assert (settings.amount("1.1"), settings.amount("on"), settings.amount("5 parsecs")) == (1.1, None, None)


def of(name, value, unit="", source="configuration file"):
    return {name: settings.Setting(name, value, unit, source)}


def test_settings_against_the_host():
    have = {**of("shared_buffers", "16384", "8kB"), **of("random_page_cost", "4"), **of("work_mem", "4096", "kB")}
    found = settings.sized(have, {"shared_buffers": "512MB", "random_page_cost": "1.1", "work_mem": "4MB", "port": 5432})
    assert [(one.object, one.sql, one.declaration) for one in found] == [
        ("shared_buffers", "ALTER SYSTEM SET \"shared_buffers\" = '512MB'", {"database_settings": {"shared_buffers": "512MB"}}),
        ("random_page_cost", "ALTER SYSTEM SET \"random_page_cost\" = '1.1'", {"database_settings": {"random_page_cost": "1.1"}}),
    ]
    assert "it is 128MB" in found[0].why and found[0].gain == 4


def test_settings_against_the_load():
    have = {**of("max_wal_size", "1024", "MB"), **of("work_mem", "4096", "kB")}

    def found(**counters):
        return [(one.object, one.declaration["database_settings"][one.object]) for one in settings.loaded(have, settings.Counters(10, **counters))]

    assert found(checkpoints_timed=100, checkpoints_requested=60) == [("max_wal_size", "2048MB")]
    assert found(checkpoints_timed=100, checkpoints_requested=10) == found(checkpoints_timed=1, checkpoints_requested=5) == []
    # Most were asked for by somebody else.
    assert found(checkpoints_timed=100, checkpoints_requested=60, wal_bytes=10 * 512 * MIB) == []
    assert found(checkpoints_timed=100, checkpoints_requested=60, wal_bytes=90 * 512 * MIB) == [("max_wal_size", "2048MB")]
    assert found(temporary_bytes=30 * 1024 * MIB) == [("work_mem", "8MB")]
    assert found(temporary_bytes=3 * 1024 * MIB) == []


def test_dead_rows():
    found = settings.dead([settings.Changed("s", 't"', 50_000, 20_000, ""), settings.Changed("s", "u", 900_000, 20_000, "")])
    assert [one.object for one in found] == ['"s"."t"""']
    assert "never vacuumed" in found[0].why


# -- space


def relation(**more):
    return space.Relation(**{"kind": space.TABLE, "schema": "s", "name": "t", "pages": 10_000, "rows": 100_000, "width": 100, "columns": 3, **more})


def test_empty_space():
    # 24 + 104 + 4 bytes a row: 61 on a page.
    assert space.needed(relation()) == 1617
    (one,) = space.bloat([relation()], 30, MIB)
    assert one.sql == 'VACUUM (FULL, ANALYZE) "s"."t"' and one.gain == pytest.approx((10_000 - 1617) * 8192 / MIB)
    assert space.bloat([relation(pages=1700)], 30, MIB) == []
    assert space.bloat([relation(empty=0.0)], 30, MIB) == []
    assert space.bloat([relation(pages=0)], 30, 0) == []
    (one,) = space.bloat([relation(kind=space.INDEX, fill=90)], 30, MIB)
    assert one.sql == 'REINDEX INDEX CONCURRENTLY "s"."t"'


# -- all of it


def some(kind, name, gain, **more):
    return model.Advice(kind, name, "why", gain, "MiB", f"DO {name}", **more)


def test_ranked():
    given = [
        some("unused_index", "a", 5),
        some("missing_index", "b", 1),
        some("missing_index", "c", 2),
        some("unused_index", "d", 9),
        some("setting", "e", 1),
    ]
    kept, left_out = model.ranked(given, 1)
    assert [one.object for one in kept] == ["c", "e", "d"]
    assert left_out == {"missing_index": 1, "unused_index": 1}


def test_nothing_of_a_name_becomes_a_statement():
    hostile = dataclasses.replace(some("unused_index", "a\nDROP TABLE customer", 5, note="x\ny"), why="b\nc", sql="SELECT 1")
    statements = [line for line in model.script([hostile], ["a\nb"]).splitlines() if line and not line.startswith("--")]
    assert statements == ["SELECT 1;"]
    text = model.script([some("missing_index", "a", 5, declaration={"database_settings": {"a": 1}})])
    assert not [line for line in text.splitlines() if line and not line.startswith("--")]


def test_declarations_become_one():
    def table(name, index_name):
        return {"crm_customer_tables": [{"name": name, "indexes": [{"name": index_name, "columns": ["a"]}]}]}

    given = [
        some("missing_index", "a", 1, declaration=table("t", "i")),
        some("missing_index", "b", 1, declaration=table("t", "j")),
        some("setting", "c", 1, declaration={"database_settings": {"work_mem": "8MB"}}),
        some("setting", "d", 1, declaration={"database_settings": {"max_wal_size": "2GB"}}),
    ]
    assert model.declared(given) == {
        "database_settings": {"work_mem": "8MB", "max_wal_size": "2GB"},
        "crm_customer_tables": [{"name": "t", "indexes": [{"name": "i", "columns": ["a"]}, {"name": "j", "columns": ["a"]}]}],
    }
    assert model.declared([]) == {}


def test_lines():
    told = model.lines([some("setting", "a", 1200, note="n")], {"setting": 3}, ["note"], ["problem"])
    assert told == [
        "  1 setting  a  (1,200 MiB)",
        "      why  why",
        "      sql  DO a",
        "     note  n",
        "3 more of setting",
        "note: note",
        "could not be looked at: problem",
    ]


@pytest.mark.parametrize("option, value", [("limit", 0), ("min_statistics_days", -1), ("bloat_percent", 101), ("statement_timeout", "soon")])
def test_options_that_cannot_be(option, value):
    given = {name: spec.get("default") for name, spec in database_advice.argument_spec().items()}
    database_advice.wanted(given)
    with pytest.raises(database_advice.postgres.PostgresError, match=option):
        database_advice.wanted({**given, option: value})
