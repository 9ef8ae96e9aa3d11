# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner without a server: steps, their order and their hazards."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.crm.platform.plugins.module_utils.schema import declare, facts, lexer, model, plan, scratch, steps


class Facts:
    """A server with rows in every table, no nulls, and nobody else."""

    user = "me"
    version = 15
    names: dict = {}

    def __getattr__(self, name):
        return lambda *arguments: []

    def has_rows(self, table):
        return True

    def may_act_as(self, role):
        return True

    def type_change(self, old, new):
        return facts.TypeChange(False, old.type == "integer")

    def adding_rewrites(self, table, column):
        return "random" in column.default

    def is_live(self, name):
        return True

    def comparable(self, one, two):
        return {one, two} != {"uuid", "bigint"}

    def index_parts(self, index):
        return facts.IndexParts()


def read(tables, **more):
    found = declare.schema("customer", "", {"tables": tables, **more})
    return dataclasses.replace(found, tables={name: dataclasses.replace(table, owner="me") for name, table in found.tables.items()}, owner="me")


def steps_of(old, new, purge=False):
    wanted = dataclasses.replace(read(new), owner="")
    return plan.Planner(wanted, read(old), Facts(), purge).plan()


def table(*columns, **more):
    return {"name": "t", "columns": [{"name": name, "type": kind} for name, kind in columns], **more}


OLD = [table(("a", "integer"), ("b", "text"), indexes=[{"name": "i", "columns": ["a"]}])]


def test_nothing_to_do():
    assert steps_of(OLD, OLD) == plan.Plan([], [])


def test_what_is_undeclared_is_told_or_goes():
    new = [table(("a", "integer"))]
    assert steps_of(OLD, new) == plan.Plan([], ["column customer.t.b", "index customer.i"])
    found = steps_of(OLD, new, purge=True)
    assert {hazard for step in found.steps for hazard in step.hazards} == {steps.DELETES_DATA, steps.DROPS_INDEX}
    assert not found.undeclared


def test_an_index_is_replaced_without_a_gap():
    found = steps_of(OLD, [table(("a", "integer"), ("b", "text"), indexes=[{"name": "i", "columns": ["b"]}])]).steps
    assert [step.sql.split('"')[0].strip() for step in found] == ["ALTER INDEX", "CREATE INDEX CONCURRENTLY", "DROP INDEX CONCURRENTLY"]
    assert [step.stage for step in found] == [steps.MAIN, steps.BUILD, steps.CLEAN]
    assert not any(step.hazards for step in found)


def test_not_null_goes_by_way_of_a_check():
    new = [{**OLD[0], "columns": [{"name": "a", "type": "integer", "nullable": False}, OLD[0]["columns"][1]]}]
    found = steps_of(OLD, new).steps
    assert [step.stage for step in found] == [steps.MAIN, steps.VALIDATE, steps.FINISH, steps.FINISH]
    assert found[0].sql.endswith("NOT VALID") and found[2].sql.endswith("SET NOT NULL")


def test_hazards_are_named_with_their_cure():
    found = steps_of(OLD, [table(("a", "bigint"), ("b", "text"), indexes=[{"name": "i", "columns": ["a"]}])]).steps
    (line,) = steps.forbidden(found, [])
    assert "TYPE bigint" in line and "Add rewrites_table to allow" in line
    assert steps.forbidden(found, [steps.REWRITES_TABLE]) == []


def test_a_rename_asks_for_locks_by_the_old_name():
    new = [{**OLD[0], "name": "new", "renamed_from": "t"}]
    found = steps_of(OLD, new).steps
    assert [step.sql for step in found] == ['ALTER TABLE "customer"."t" RENAME TO "new"']
    assert found[0].locks == ((("customer", "t"), steps.ACCESS_EXCLUSIVE),)


@pytest.mark.parametrize(("old", "new"), [(["a", "b"], ["a"]), (["a", "b"], ["b", "a"])])
def test_enums_only_grow(old, new):
    wanted = declare.schema("customer", "", {"enums": [{"name": "e", "values": new}]})
    live = declare.schema("customer", "", {"enums": [{"name": "e", "values": old}]})
    with pytest.raises(steps.PlanError):
        plan.Planner(wanted, live, Facts()).plan()


def test_a_foreign_key_does_not_rest_on_a_key_that_is_deferrable():
    target = {**table(("id", "int"), primary_key=["id"], primary_key_options={"deferrable": True}), "name": "p"}
    here = table(("a", "int"), foreign_keys=[{"columns": ["a"], "references": {"table": "p", "columns": ["id"]}}])
    with pytest.raises(steps.PlanError, match="p has no primary key or unique constraint on .id. that is not deferrable"):
        steps_of([], [target, here])
    assert steps_of([], [{**target, "primary_key_options": {}}, here]).steps


def test_a_foreign_key_needs_a_type_that_its_target_has():
    target = {"name": "t", "columns": [{"name": "id", "type": "bigint"}], "primary_key": ["id"]}
    source = {
        "name": "u",
        "columns": [{"name": "t", "type": "uuid"}],
        "foreign_keys": [{"columns": ["t"], "references": {"table": "t", "columns": ["id"]}}],
    }
    with pytest.raises(steps.PlanError, match="t is uuid, t.id is bigint; declare t as bigint"):
        steps_of([], [target, source])
    source["columns"][0]["type"] = "integer"
    assert steps_of([], [target, source]).steps


def test_a_new_column_beside_an_undeclared_one_looks_like_a_rename():
    old = [{"name": "t", "columns": [{"name": "phone", "type": "text"}]}]
    new = [{"name": "t", "columns": [{"name": "telephone", "type": "text"}]}]
    (step,) = steps_of(old, new).steps
    assert "declare renamed_from: phone" in step.reason
    new[0]["columns"][0]["type"] = "bigint"
    (step,) = steps_of(old, new).steps
    assert step.reason == "it is missing"


# -- names that are taken


def made(order, what, makes=(), frees=()):
    return steps.Step(steps.MAIN, order, f"-- {what}", "it is missing", what, makes=makes, frees=frees)


def test_a_name_is_free_from_the_step_on_that_frees_it():
    taken = {("relation", "i"): "index customer.i of o", ("type", "t"): "domain customer.t"}
    steps.refuse_taken_names([made(1, "index customer.j", steps.relations("j"))], taken)
    steps.refuse_taken_names([made(1, "index customer.i", (), steps.relations("i")), made(2, "index customer.i", steps.relations("i"))], taken)
    with pytest.raises(steps.PlanError, match="index customer.i: the name i is taken by index customer.i of o; rename or drop"):
        steps.refuse_taken_names([made(1, "index customer.i", steps.relations("i")), made(2, "index customer.i", (), steps.relations("i"))], taken)
    with pytest.raises(steps.PlanError, match="table customer.t: the name t is taken by domain customer.t"):
        steps.refuse_taken_names([made(1, "table customer.t", steps.with_row_type("t"))], taken)
    with pytest.raises(steps.PlanError, match="taken by view customer.v"):
        steps.refuse_taken_names([made(1, "view customer.v", steps.with_row_type("v")), made(2, "index customer.v", steps.relations("v"))], {})


# -- statements of a definition


@pytest.mark.parametrize(
    "statement, works_on",
    [
        ("CREATE TABLE a (id int)", []),
        ("CREATE UNIQUE INDEX i ON ONLY a (id)", ["a"]),
        ('ALTER TABLE IF EXISTS ONLY "A b" ADD COLUMN x int', ["A b"]),
        ("COMMENT ON COLUMN a.id IS 'x'", ["a"]),
        ("COMMENT ON VIEW v IS 'x'", ["v"]),
        ("CREATE TABLE p PARTITION OF a FOR VALUES IN (1)", ["a"]),
        ("CREATE TABLE p (id int) PARTITION BY LIST (id)", []),
        ("CREATE TABLE c (x int) INHERITS (a)", ["a"]),
        ("CREATE VIEW v AS SELECT 1", []),
    ],
)
def test_what_a_statement_works_on(statement, works_on):
    assert scratch._works_on(statement) == works_on  # pylint: disable=protected-access


@pytest.mark.parametrize(
    "statement, allowed",
    [
        ("ALTER TABLE a ADD x int, ADD CONSTRAINT c CHECK (f(1, 2) > 0)", True),
        ("ALTER TABLE ONLY a ADD PRIMARY KEY (id)", True),
        ("ALTER TABLE a ADD x int, ALTER x SET NOT NULL", False),
        ("ALTER TABLE a ADD x int, CLUSTER ON i", False),
        ("ALTER TABLE added OWNER TO somebody", False),
    ],
)
def test_an_alter_table_only_adds(statement, allowed):
    words = [token for token in lexer.tokens(statement) if token.kind != lexer.SPACE]
    assert scratch._adds_only(words[2:]) is allowed  # pylint: disable=protected-access


@pytest.mark.parametrize(
    "live, declared, after",
    [
        ((("security_barrier", "true"),), (), {"security_barrier": "on"}),
        ((("security_barrier", "true"),), (("security_barrier", ""),), {}),
        ((), (("security_invoker", "on"),), {"security_invoker": "on"}),
        ((("check_option", "local"),), (("check_option", "cascaded"),), {"check_option": "cascaded"}),
        ((("security_barrier", "false"),), (), {}),
    ],
)
def test_the_options_of_a_view(live, declared, after):
    view = model.View("v", "SELECT 1", options=declared)
    assert model.options_meant(view.options_over(live)) == after
    assert dataclasses.replace(view, whole=True).options_over(live) == tuple(pair for pair in declared if pair[1])
