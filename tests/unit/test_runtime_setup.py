# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The setup of the CRM's database: what the document may say, and what is planned from what is there."""

from __future__ import annotations

import json
import sys
import types

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(ROOT / "roles/crm_package/files/source"))
sys.modules.setdefault("psycopg", types.ModuleType("psycopg"))

from crm_platform.setup import desired as lib
from crm_platform.setup import facts, plan, reference

INSTALLED = {"trytond": "8.0.12", "party": "8.0.4", "company": "8.0.1", "currency": "8.0.0", "country": "8.0.0", "sale": "8.0.5"}
DOCUMENT = {
    "database": "crm",
    "modules": ["party"],
    "languages": ["en", "de"],
    "admin": {"email": "admin@example.com", "password": "a long password"},
    "company": {"name": "Example", "currency": "EUR", "timezone": "Europe/Berlin"},
    "currencies": ["USD"],
    "countries": ["DE", "FR"],
    "subdivisions": True,
}
DONE = facts.Facts(
    initialised=True,
    series="8.0",
    modules={name: "activated" for name in ("ir", "res", "party", "company", "currency", "country")},
    languages=frozenset({"en", "de"}),
    admin_password=True,
    admin_email=True,
    companies=1,
    currencies=frozenset({"EUR", "USD"}),
    countries=frozenset({"DE", "FR"}),
    subdivided=frozenset({"DE", "FR"}),
    versions=INSTALLED,
)


@pytest.fixture(autouse=True)
def installation(monkeypatch):
    """A small one: what it has is not what is tested."""
    monkeypatch.setattr(reference, "modules", lambda: frozenset(INSTALLED) - {"trytond"} | {"ir", "res"})
    monkeypatch.setattr(reference, "languages", lambda: frozenset({"en", "de", "fr"}))
    monkeypatch.setattr(reference, "countries", lambda: dict.fromkeys(["DE", "FR", "MC"]))
    monkeypatch.setattr(reference, "currencies", lambda: dict.fromkeys(["EUR", "USD", "JPY"]))
    monkeypatch.setattr(reference, "is_timezone", lambda name: name in ("UTC", "Europe/Berlin"))


def parse(**changes):
    return lib.parse(json.dumps({**DOCUMENT, **changes}))


def make(seen, **changes):
    return plan.make(parse(**changes), seen, INSTALLED, {"DE", "FR"})


def objects(made):
    return [change.object for change in made.changes]


def test_a_good_document():
    wanted = parse()
    assert wanted.modules == ("party", "company", "currency", "country")
    assert wanted.currencies == ("USD", "EUR"), "the company's is one of them"


def test_all_stands_for_the_whole_list():
    assert parse(countries="all").countries == ("DE", "FR", "MC")


def test_only_the_database_is_needed():
    wanted = lib.parse('{"database": "crm"}')
    assert wanted.languages == ("en",)
    assert wanted.company is None


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"modules": ["nonsense"]}, "'nonsense'"),
        ({"modules": "party"}, "list of names"),
        ({"modules": [1]}, "list of names"),
        ({"languages": ["xx"]}, "'xx'"),
        ({"currencies": ["XXX"]}, "ISO 4217"),
        ({"currencies": "EUR"}, "ISO 4217"),
        ({"countries": ["Germany"]}, "ISO 3166"),
        ({"countries": ["ALL"]}, "ISO 3166"),
        ({"subdivisions": "yes"}, "true or false"),
        ({"database": ""}, "name of the database"),
        ({"database": None}, "name of the database"),
        ({"admin": {"email": "nobody"}}, "admin.email"),
        ({"admin": {"email": "a@b@c"}}, "admin.email"),
        ({"admin": {"password": "two\nlines"}}, "admin.password"),
        ({"admin": {"name": "x"}}, "'name'"),
        ({"admin": []}, "admin"),
        ({"company": {"name": "Example", "currency": "XXX"}}, "company.currency"),
        ({"company": {"name": " ", "currency": "EUR"}}, "company's name"),
        ({"company": {"name": "Example", "currency": "EUR", "timezone": "Mars"}}, "company.timezone"),
        ({"company": {"name": "Example", "currency": "EUR", "timezone": 3}}, "company.timezone"),
        ({"surprise": 1}, "'surprise'"),
    ],
)
def test_a_bad_document(changes, said):
    with pytest.raises(lib.DesiredError) as caught:
        parse(**changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_password_is_in_no_message():
    with pytest.raises(lib.DesiredError) as caught:
        parse(admin={"password": "s3cret\n"})
    assert "s3cret" not in str(caught.value)


LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.text() | st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(json.dumps))
def test_anything_else_is_refused(text):
    with pytest.raises(lib.DesiredError):
        lib.parse(text)


def test_nothing_to_do():
    assert make(DONE) == plan.Plan()


def test_a_new_database():
    made = make(facts.Facts())
    assert made.initialise
    assert made.update == ("company", "country", "currency", "ir", "party", "res")
    assert made.password and made.email and made.company
    assert made.currencies == ("USD", "EUR")
    assert made.subdivisions == ("DE", "FR")
    assert objects(made)[0] == "database crm"


def test_every_step_has_a_line_in_the_report():
    made = make(facts.Facts())
    lines = " ".join(objects(made))
    for what in (*made.update, *made.currencies, *made.countries, "password", "e-mail", "company Example", "language de"):
        assert what in lines


def test_an_initialisation_that_was_killed_is_finished():
    """The first tables are there, nothing is activated."""
    seen = facts.Facts(initialised=True, modules={"ir": "to activate", "res": "to activate"})
    made = make(seen)
    assert not made.initialise
    assert {"ir", "res", "party"} <= set(made.update)
    assert made.password


@pytest.mark.parametrize(
    "lost, line",
    [
        ({"admin_password": False}, "password of the administrator"),
        ({"admin_email": False}, "e-mail of the administrator"),
        ({"companies": 0}, "company Example"),
        ({"currencies": frozenset({"EUR"})}, "currency USD"),
        ({"countries": frozenset({"DE"})}, "country FR"),
        ({"subdivided": frozenset({"DE"})}, "subdivisions of FR"),
        ({"assistant": frozenset({"res", "sale"})}, "assistant of the first login"),
        ({"modules": {**DONE.modules, "party": "not activated"}}, "module party"),
    ],
)
def test_only_what_is_missing_is_done(lost, line):
    assert objects(make(DONE._replace(**lost))) == [line]


def test_a_language_that_comes_later_is_read_by_every_module():
    made = make(DONE, languages=["en", "de", "fr"])
    assert made.update == ("ir",)
    assert made.languages == ("fr",)


def test_a_new_series_updates_all():
    made = make(DONE._replace(series="7.8"))
    assert made.update == ("ir",)
    assert made.changes == (plan.Change("module ir", "series 7.8", "series 8.0"),)


@pytest.mark.parametrize(
    "versions, update",
    [
        ({**INSTALLED, "party": "8.0.3"}, ("party",)),
        ({**INSTALLED, "party": "8.0.5"}, ("party",)),
        ({**INSTALLED, "trytond": "8.0.11"}, ("ir",)),
        ({**INSTALLED, "sale": "8.0.1"}, ()),
        (None, ("ir",)),
    ],
)
def test_another_version_updates_what_it_made(versions, update):
    assert make(DONE._replace(versions=versions)).update == update


def test_an_older_package_is_refused():
    with pytest.raises(plan.PlanError, match=r"cannot go back"):
        make(DONE._replace(series="8.2"))


def test_a_series_is_a_number():
    assert make(DONE._replace(series="7.10")).update == ("ir",)
    with pytest.raises(plan.PlanError):
        make(DONE._replace(series="8.10"))


def test_a_module_that_the_package_lost_is_refused():
    with pytest.raises(plan.PlanError, match="gone"):
        make(DONE._replace(modules={**DONE.modules, "gone": "activated"}))


@pytest.mark.parametrize("password", [None, "pa55", "administrator", "Admin@Example.com"])
def test_a_password_that_will_not_do(password):
    with pytest.raises(plan.PlanError, match=r"admin\.password") as caught:
        make(facts.Facts(), admin={"email": "admin@example.com", "password": password})
    assert password in (None, "administrator") or password not in str(caught.value)


def test_a_password_is_needed_only_once():
    assert make(DONE, admin={}) == plan.Plan()


def test_what_users_changed_stays():
    assert make(DONE, company={"name": "Another", "currency": "JPY"}, currencies=[]).company is False


def test_digits_and_symbols_are_of_codes():
    assert all(len(code) == 3 and code.isupper() for code in (*reference.DIGITS, *reference.SYMBOLS))
    assert set(reference.DIGITS.values()) == {0, 3}
