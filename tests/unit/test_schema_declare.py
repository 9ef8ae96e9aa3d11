# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options become the model, or an error that names option, object and cure."""

from __future__ import annotations

import pytest
from ansible_collections.crm.platform.plugins.module_utils.schema import declare, model, sql

COLUMN = {"name": "a", "type": "int"}


def read(*tables, **more) -> model.Schema:
    return declare.schema("customer", "", {"tables": list(tables), **more})


def test_a_table():
    table = read(
        {
            "name": "t",
            "columns": [COLUMN, {"name": "b", "type": " BigSerial "}, {"name": "C c", "type": "text"}],
            "primary_key": ["a"],
            "unique": [{"columns": ["C c"]}],
            "foreign_keys": [{"columns": ["b"], "references": {"table": "u"}, "on_delete": "set_null"}],
            "indexes": [{"name": "i", "columns": ["C c", "lower(a)", "a || 'x'", "a DESC"], "with": {"fastupdate": False}}],
        }
    ).tables["t"]
    assert not table.columns["a"].nullable and not table.columns["b"].nullable and table.columns["C c"].nullable
    assert (table.columns["b"].type, table.columns["b"].serial) == ("bigint", "bigserial")
    assert list(table.constraints) == ["t_pkey", "t_C c_key", "t_b_fkey"]
    assert (table.constraints["t_b_fkey"].target, table.constraints["t_b_fkey"].on_delete) == (("customer", "u"), "set null")
    assert table.indexes["i"].keys == ('"C c"', "lower(a)", "(a || 'x')", "a DESC")
    assert table.indexes["i"].storage == (("fastupdate", "false"),)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"name": "t" * 64}, ("tables[0]: name", "64 bytes")),
        ({"name": "t", "columns": [{"name": "a"}]}, ("tables[0] (t): columns[0] (a)", "type is missing")),
        ({"name": "t", "columns": [COLUMN, COLUMN]}, ("tables[0] (t): columns[1]", "twice")),
        ({"name": "t", "columns": [COLUMN], "primary_key": ["a", "a"]}, ("primary_key", "twice")),
        ({"name": "t", "columns": [COLUMN], "indexes": [{"name": "i", "columns": []}]}, ("indexes[0] (i)", "at least one")),
        ({"name": "t", "columns": [COLUMN], "indexes": [{"name": "i", "columns": ["a, b"]}]}, ("columns[0]", "more than one")),
        ({"name": "t", "columns": [COLUMN], "indexes": [{"name": "i", "columns": ["b"]}]}, ("the column b", "does not declare")),
        ({"name": "t", "columns": [{**COLUMN, "type": "serial", "default": "1"}]}, ("default and type",)),
        ({"name": "t", "columns": [{**COLUMN, "identity_start": 5}]}, ("identity_start belongs to an identity", "set identity too")),
        ({"name": "t", "columns": [{**COLUMN, "identity": "always", "identity_increment": 0}]}, ("identity_increment is 0",)),
        ({"name": "t", "columns": [COLUMN], "primary_key_options": {"name": "k"}}, ("primary_key_options is for a primary_key",)),
        ({"name": "t", "columns": [COLUMN], "unique": [{"columns": ["a"], "include": ["a"]}]}, ("include lists a", "leave it out")),
        ({"name": "t", "columns": [COLUMN], "unique": [{"columns": ["a"], "initially_deferred": True}]}, ("needs deferrable: true",)),
        ({"name": "t", "columns": [COLUMN], "exclusions": [{"name": "x", "elements": ["a"]}]}, ("exclusions[0]: elements[0]", "room WITH =")),
        ({"name": "t", "columns": [COLUMN], "exclusions": [{"name": "x", "elements": ["a with =) deferrable--"]}]}, ("elements[0]",)),
        ({"name": "t", "columns": [COLUMN], "replica_identity": "i"}, ("replica_identity is 'i'", "correct it")),
        (
            {"name": "t", "columns": [COLUMN], "indexes": [{"name": "i", "columns": ["a"]}], "replica_identity": "i"},
            ("replica_identity names the index i", "not unique"),
        ),
        (
            {"name": "t", "columns": [COLUMN], "foreign_keys": [{"columns": ["a"], "references": {"table": "o"}, "on_delete_columns": ["a"]}]},
            ("on_delete_columns needs on_delete",),
        ),
    ],
)
def test_refused(table, words):
    with pytest.raises(declare.DeclarationError) as caught:
        read(table)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"tables": "a"}, "tables is 'a'"),
        ({"tables": [{"name": "t", "primary_key": "a,b"}]}, "tables[0] (t): primary_key"),
        ({"tables": [{"name": "t", "foreign_keys": [{"columns": "a"}]}]}, "foreign_keys[0]: columns"),
        ({"tables": [{"name": "t", "foreign_keys": [{"references": {"columns": "a"}}]}]}, "references: columns"),
        ({"enums": [{"name": "e", "values": "a"}]}, "enums[0] (e): values"),
        ({"allow": "deletes_data"}, "allow"),
    ],
)
def test_a_string_is_no_list(options, place):
    with pytest.raises(declare.DeclarationError, match="not a list") as caught:
        declare.check_lists(options)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "printed"),
    [
        ("1", "1"),
        ("now()", "now()"),
        ("'x'", "'x'"),
        ("now() at time zone 'utc'", "(now() at time zone 'utc')"),
        ("1, b int", "(1, b int)"),
        ("f(1) + g(2)", "(f(1) + g(2))"),
        ("-1", "(-1)"),
    ],
)
def test_a_default_stands_in_brackets_where_it_needs_them(expression, printed):
    assert sql.default(expression) == printed


def test_a_switch_of_an_index_is_the_same_in_each_of_postgresqls_words():
    assert {model.storage_value("deduplicate_items", word) for word in (False, "off", "false", "no", "0", "False")} == {"off"}
    assert {model.storage_value("fastupdate", word) for word in (True, "on", "yes", "1")} == {"on"}
    one = model.Index("i", ("a",), storage=(("deduplicate_items", "off"),))
    assert one.same(model.Index("i", ("a",), storage=(("deduplicate_items", "false"),)))
    assert not one.same(model.Index("i", ("a",), storage=(("deduplicate_items", "on"),)))
    assert model.storage_value("buffering", "auto") == "auto" and model.storage_value("fillfactor", 70) == "70"
