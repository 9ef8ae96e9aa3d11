# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/crm_setup.py: what the module says to the command, and what it makes of the answer."""

from __future__ import annotations

import json

import pytest

from ansible_collections.crm.platform.plugins.module_utils import crm_setup as lib

PARAMS = {
    "database": "crm",
    "modules": ["party"],
    "languages": ["en"],
    "admin_email": "admin@example.com",
    "admin_password": "pa$$ \"w'ört\\%",
    "company_name": "Example",
    "company_currency": "EUR",
    "company_timezone": None,
    "currencies": ["EUR"],
    "countries": ["all"],
    "subdivisions": True,
}
CHANGE = {"object": "module party", "before": "absent", "after": "activated"}
ANSWER = json.dumps({"changed": True, "changes": [CHANGE], "series": "8.0"}) + "\n"


def test_the_document():
    assert json.loads(lib.document(PARAMS)) == {
        "database": "crm",
        "modules": ["party"],
        "languages": ["en"],
        "admin": {"email": "admin@example.com", "password": "pa$$ \"w'ört\\%"},
        "company": {"name": "Example", "currency": "EUR", "timezone": None},
        "currencies": ["EUR"],
        "countries": "all",
        "subdivisions": True,
    }


@pytest.mark.parametrize("name", ["admin_email", "admin_password"])
def test_what_is_not_given_is_left_out(name):
    admin = json.loads(lib.document({**PARAMS, name: None}))["admin"]
    assert name.removeprefix("admin_") not in admin


def test_no_company():
    assert "company" not in json.loads(lib.document({**PARAMS, "company_name": None}))


@pytest.mark.parametrize(
    "given, sent",
    [(["all"], "all"), (["ALL"], "all"), (["DE", "FR"], ["DE", "FR"]), ([], []), (["all", "DE"], ["all", "DE"])],
)
def test_codes(given, sent):
    assert lib.codes(given) == sent


def test_an_answer():
    assert lib.interpret(0, ANSWER, "", False) == lib.Outcome(True, [CHANGE], "8.0")


def test_what_comes_before_the_answer_does_not_matter():
    assert lib.interpret(0, "some library says hello\n" + ANSWER, "", True).changes == [CHANGE]


@pytest.mark.parametrize("rc", [1, 2, lib.UNREACHABLE, lib.MISCONFIGURED])
def test_a_failure_says_why_in_one_line(rc):
    with pytest.raises(lib.SetupFailed, match="^crm-platform-setup: no such thing$"):
        lib.interpret(rc, "", "crm-platform-setup: no\n  such thing\n", False)


@pytest.mark.parametrize("rc", [lib.UNREACHABLE, lib.MISCONFIGURED])
def test_what_an_earlier_task_would_mend_is_a_change_in_check_mode(rc):
    outcome = lib.interpret(rc, "", "no database", True)
    assert outcome.changed
    assert "no database" in outcome.warning


@pytest.mark.parametrize("rc", [1, 2])
def test_bad_input_fails_in_check_mode_too(rc):
    with pytest.raises(lib.SetupFailed):
        lib.interpret(rc, "", "unknown module", True)


@pytest.mark.parametrize("out", ["", "hello", "[]", "{}", '{"changed": true}'])
def test_an_answer_that_is_none(out):
    with pytest.raises(lib.SetupFailed, match="no answer that can be read"):
        lib.interpret(0, out, "", False)


def test_a_failure_without_a_word():
    with pytest.raises(lib.SetupFailed, match="status 137"):
        lib.interpret(137, "", "", False)


def test_the_diff():
    assert lib.describe([CHANGE], "before") == "module party: absent\n"
    assert lib.describe([CHANGE], "after") == "module party: activated\n"
    assert lib.describe([], "after") == ""
