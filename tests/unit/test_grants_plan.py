# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/grants: verifiers, lists and what a CASCADE takes, patterns, circles, statements."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.crm.platform.plugins.module_utils.grants import acl, declare, model, plan, roles, scram, sql
from hypothesis import given
from hypothesis import strategies as st


def test_the_verifier_of_rfc_7677():
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    made = scram.verifier("pencil", salt, 4096)
    stored = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    assert made == f"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==${stored}"
    assert scram.matches("pencil", made) and not scram.matches("Pencil", made) and scram.matches(made, made)
    assert not scram.matches("pencil", "md5" + "0" * 32) and not scram.matches("pencil", "SCRAM-SHA-256$4096:====$YQ==:YQ==")


@pytest.mark.parametrize(
    "text, prepared",
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0007", "\u0007"),  # control characters are not prepared: taken as they are
        ("\u06271", "\u06271"),
        ("\u00ad", "\u00ad"),
    ],
)
def test_saslprep(text, prepared):
    assert scram.prepared(text) == prepared


@pytest.mark.parametrize(
    "text, entry",
    [
        ("=r/crm", ("public", "crm", "r", "")),
        ("crm_app=ar*w/crm", ("crm_app", "crm", "arw", "r")),
        ('"a=b""/c"=U/"x y"', ('a=b"/c', "x y", "U", "")),
    ],
)
def test_items_of_a_list(text, entry):
    grantee, grantor, rights, options = entry
    assert model.parse_item(text) == (grantee, grantor, frozenset(rights), frozenset(options))


def parsed(rights):
    """'r*w' -> (rights, those with the grant option)"""
    return frozenset(rights.replace("*", "")), frozenset(rights[at - 1] for at, char in enumerate(rights) if char == "*")


def converge(items, wanted, exact=True, owner="o"):
    way = acl.Converge([model.parse_item(item) for item in items], owner, owner, lambda who: exact)
    goal = {who: parsed(rights) for who, rights in wanted.items()}
    operations = way.run({"": goal}, frozenset())
    return [f"{'+' if one.give else '-'}{one.letter}{'*' if one.option else ''} {one.grantee}{' cascade' if one.cascade else ''}" for one in operations], way


def test_what_a_cascade_takes_is_given_back():
    items = ["a=r*/o", "b=r*/a", "c=r/b", "o=r/o"]
    assert converge(items, {"a": "r*", "b": "r*", "c": "r"})[0] == []
    assert converge(items, {"a": "r", "c": "r"})[0] == ["-r* a cascade", "+r c"]
    operations, way = converge(items, {"a": "r*"})
    assert operations == ["-r* a cascade", "+r* a"] and way.stuck == []
    assert converge(items, {}, exact=False)[0] == []


def test_a_grantor_without_an_option_is_reached_too():
    operations, way = converge(["o=r/o", "c=r/gone"], {})
    assert operations == ["+r* gone", "-r gone cascade"] and way.stuck == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("oabc"), st.sampled_from("rw"), st.booleans()), max_size=12),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from(["r", "w", "rw", "r*", "rw*"]), max_size=3),
)
def test_any_list_becomes_any_other(given_rights, wanted):
    # PostgreSQL lets nobody give a right back to whom it came from.
    items = [f"{who}={letter}{'*' if option else ''}/{by}" for who, by, letter, option in given_rights if by == "o" or by < who]
    operations, way = converge(items, wanted)
    held = acl.held(way.lists[""].entries())
    assert {who: both for who, both in held.items() if who != "o"} == {who: parsed(rights) for who, rights in wanted.items()} and way.stuck == []
    again = acl.Converge(way.lists[""].entries(), "o", "o", lambda who: True)
    full = {who: (both[0], both[1]) for who, both in held.items()}
    assert again.run({"": full}, frozenset()) == [] and isinstance(operations, list)


def test_a_new_owner_takes_the_old_ones_place():
    before = [model.parse_item(item) for item in ("o=rw/o", "n=r*/o", "x=r/n")]
    assert acl.changed_owner(before, "o", "n") == (
        model.Entry("n", "n", frozenset("rw"), frozenset("r")),
        model.Entry("x", "n", frozenset("r"), frozenset()),
    )


def test_patterns():
    found = model.Patterns(["crm_*", "a?c", "!crm_x*", "do[t]"])
    assert [name in found for name in ("crm_", "crm_app", "crm_xy", "abc", "ac", "do[t]", "dot")] == [True, True, False, True, False, True, False]
    assert not model.Patterns([]) and model.Bounds(roles=model.Patterns(["*"])).role("pg_monitor") is False


def test_circles():
    roles.check_cycles([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    with pytest.raises(model.AccessError, match="a -> b -> c -> a"):
        roles.check_cycles([("b", "a"), ("c", "b"), ("a", "c"), ("x", "a")])
    # Many ways to the same place are no circle, and take no time.
    roles.check_cycles([(f"{level}{one}", f"{level + 1}{two}") for level in range(60) for one in "ab" for two in "ab"])


@pytest.mark.parametrize(
    "value, parts", [("a, B", ["a", "b"]), ('"A b", c', ["A b", "c"]), ('"a""b"', ['a"b']), ('"$user", public', ["$user", "public"]), ("", [""])]
)
def test_lists_of_names(value, parts):
    assert sql.list_of(value) == parts


def test_the_plan_needs_no_server():
    server = model.Server(15, "crm", "postgres", "postgres", True, True)
    table = model.Object(model.TABLE, "customer", "customer")
    live = model.Live(
        server,
        roles={name: model.Role(name, superuser=name == "postgres", login=True) for name in ("postgres", "crm")},
        objects={
            model.Object(model.SCHEMA, "", "customer"): model.Thing("crm"),
            table: model.Thing("crm", tuple(model.parse_item(item) for item in ("crm=arwdDxt/crm", "=r/crm"))),
        },
    )
    options = {
        "roles": [{"name": "crm_app", "login": True}],
        "grants": [{"roles": ["crm_app"], "privileges": ["SELECT"], "schema": "customer", "tables": "all"}],
        "manage": {"schemas": ["customer"]},
    }
    made = plan.make(declare.declared(options), live)
    assert [step.sql for step in made.steps] == [
        'CREATE ROLE "crm_app" LOGIN',
        'REVOKE SELECT ON TABLE "customer"."customer" FROM PUBLIC',
        'GRANT USAGE, CREATE ON SCHEMA "customer" TO "crm"',
        'GRANT SELECT ON TABLE "customer"."customer" TO "crm_app"',
    ]
