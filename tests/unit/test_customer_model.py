# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles/customer_data makes of an inventory, before any database is asked."""

from __future__ import annotations

import copy
import re

import pytest
import yaml
from conftest import ROOT

from ansible_collections.crm.platform.plugins.filter.customer_access_problem import problem as access_problem
from ansible_collections.crm.platform.plugins.filter.customer_model_problem import problem
from ansible_collections.crm.platform.plugins.module_utils.schema import extend

ROLE = ROOT / "roles" / "customer_data"
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
TABLES = DEFAULTS["customer_data_tables"]
ACCESS = {option: DEFAULTS[f"customer_data_{option}"] for option in ("roles", "grants", "ownership", "row_security", "manage")}


def names(elements):
    return [one["name"] for one in elements]


def extended(*more):
    before = copy.deepcopy(TABLES), copy.deepcopy(more)
    found = extend.extended(TABLES, list(more))
    assert (TABLES, more) == before, "what was given is not changed"
    return found


def customer(**more):
    (found,) = extended({"name": "customer", **more})
    return found


def test_what_the_platform_brings():
    (table,) = TABLES
    assert names(table["columns"])[:5] == ["id", "name", "phone", "email", "address"]
    assert table["indexes"] == [{"name": "idx_customer_name", "columns": ["name"]}]
    assert problem({"tables": TABLES}) == ""


def test_the_readme_shows_it():
    assert yaml.safe_load(re.search(r"```yaml\n(.*?)```", (ROLE / "README.md").read_text(), re.DOTALL)[1]) == TABLES


def test_nothing_added_is_what_there_was():
    assert extended() == TABLES


def test_a_field_is_added_and_nothing_lost():
    table = customer(columns=[{"name": "segment", "type": "text"}], indexes=[{"name": "idx_customer_segment", "columns": ["segment"]}])
    assert names(table["columns"]) == [*names(TABLES[0]["columns"]), "segment"]
    assert names(table["indexes"]) == ["idx_customer_name", "idx_customer_segment"]
    assert table["primary_key"] == ["id"] and table["comment"]


def test_a_column_is_changed_in_what_is_given():
    columns = {one["name"]: one for one in customer(columns=[{"name": "source", "nullable": False}])["columns"]}
    assert columns["source"] == {**TABLES[0]["columns"][6], "nullable": False}


def test_a_renamed_column_takes_its_place_and_that_in_keys_and_indexes():
    table = customer(columns=[{"name": "full_name", "renamed_from": "name"}, {"name": "origin", "renamed_from": "source"}])
    assert names(table["columns"])[1] == "full_name" and table["columns"][1]["type"] == "text"
    assert "name" not in names(table["columns"])
    assert table["indexes"][0]["columns"] == ["full_name"]
    assert table["unique"][0]["columns"] == ["origin", "source_id"]
    assert problem({"tables": [table]}) == ""


def test_after_a_rename_the_next_one_still_finds_it():
    """A column that was renamed and is kept with `renamed_from` stays one column."""
    table = customer(columns=[{"name": "telephone", "type": "text", "renamed_from": "phone"}])
    assert "phone" not in names(table["columns"]) and problem({"tables": [table]}) == ""


def test_a_renamed_table_takes_its_place():
    (table,) = extended({"name": "client", "renamed_from": "customer"})
    assert table["name"] == "client" and len(table["columns"]) == len(TABLES[0]["columns"])


def test_another_table_is_appended():
    assert names(extended({"name": "visit", "columns": [{"name": "id", "type": "int"}]})) == ["customer", "visit"]


def test_the_whole_table_again_changes_nothing():
    assert extended(*TABLES) == TABLES


@pytest.mark.parametrize(
    "more",
    [
        [{"name": "customer"}, {"name": "customer"}],
        [{"name": "visit", "columns": []}, {"name": "visit", "columns": []}],
        [{"name": "customer", "columns": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}],
        [{"name": "customer", "columns": [{"name": "email", "type": "int"}, {"name": "email", "type": "int"}]}],
    ],
)
def test_what_is_declared_twice_stays_so_and_is_refused(more):
    assert "twice" in problem({"tables": extended(*more)})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tables": "customer"}, ["tables", "'customer'", "list"]),
        ({"tables": ["customer"]}, ["customer", "dict"]),
        ({"tables": extend.extended(TABLES, [{"name": "customer", "columns": "region text"}])}, ["columns", "region text", "list"]),
        ({"tables": extend.extended(TABLES, [{"name": "customer", "columns": [{"name": "x"}]}])}, ["type", "columns"]),
        ({"tables": extend.extended(TABLES, [{"name": "visit", "colums": []}])}, ["colums"]),
        ({"tables": extend.extended(TABLES, [{"columns": []}])}, ["name"]),
        ({"tables": extend.extended(TABLES, [{"name": "customer", "primary_key": ["nr"]}])}, ["customer", "primary_key", "nr"]),
        ({"tables": extend.extended(TABLES, [{"name": "customer", "columns": [{"name": "x", "type": "text; DROP TABLE y"}]}])}, ["x", "DROP TABLE"]),
        ({"tables": extend.extended(TABLES, [{"name": "v" * 64}])}, ["64 bytes"]),
        ({"tables": TABLES, "lock_timeout": "soon"}, ["lock_timeout", "soon"]),
        ({"tables": TABLES, "allow": ["everything"]}, ["allow", "everything"]),
        ({"tables": TABLES, "schema": ""}, ["schema"]),
        ({"tables": TABLES, "enums": [{"name": "kind", "values": []}]}, ["kind", "values"]),
        ({"tables": TABLES, "views": [{"name": "v", "query": "DROP TABLE x"}]}, ["v", "SELECT"]),
    ],
)
def test_a_mistake_is_named_before_a_database_is_asked(given, words):
    found = problem(given)
    assert [word for word in words if word not in found] == [], found


@pytest.mark.parametrize("more", [None, [], "", "x", 3, ["x"], [None], [{}], [{"name": 3}], {"name": "x"}])
def test_whatever_is_given_nothing_breaks(more):
    found = extend.extended(TABLES, more)
    assert isinstance(problem({"tables": found}), str)


def test_the_access_that_the_platform_brings():
    assert access_problem(ACCESS) == ""
    assert names(ACCESS["roles"]) == ["crm_app", "crm_support", "crm_analyst", "crm_backup", "crm_monitor"]


@pytest.mark.parametrize(
    "given, words",
    [
        ({"roles": [{"name": "crm_app", "password": ""}]}, ["crm_app", "password"]),
        ({"roles": "crm_app"}, ["roles", "not a list"]),
        ({"roles": [{"name": "crm_app", "passwort": "x"}]}, ["passwort"]),
        ({"grants": [{"roles": ["a"], "privileges": ["SELEKT"], "schema": "customer", "tables": "all"}]}, ["SELEKT"]),
        ({"lock_timeout": "soon"}, ["lock_timeout", "soon"]),
    ],
)
def test_a_wrong_access_is_named(given, words):
    found = access_problem(given)
    for word in words:
        assert word in found, found


def test_a_password_is_laid_over_a_role():
    found = extend.extended(ACCESS["roles"], [{"name": "crm_analyst", "password": "x"}, {"name": "crm_ann"}])
    assert names(found) == [*names(ACCESS["roles"]), "crm_ann"]
    assert found[2]["password"] == "x" and found[2]["settings"]


def test_grants_follow_a_new_name():
    grants = [
        {"schema": "customer", "columns": {"customer": ["id", "phone"], "old": ["a"]}},
        {"schema": "other", "columns": {"customer": ["phone"]}},
        {"schema": "customer", "tables": "all"},
        "nonsense",
    ]
    tables = [
        {"name": "customer", "columns": [{"name": "telephone", "renamed_from": "phone"}]},
        {"name": "new", "renamed_from": "old"},
        {"name": "x"},
    ]
    found = extend.renamed_in_grants(grants, "customer", tables)
    assert found[0]["columns"] == {"customer": ["id", "telephone"], "new": ["a"]} and found[1:] == grants[1:]
    assert extend.renamed_in_grants("nonsense", "customer", tables) == "nonsense"
