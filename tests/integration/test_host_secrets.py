# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.host_secrets on a Debian host."""

from __future__ import annotations

import pytest

AWKWARD = 'it\'s "50 %" @ $HOME + ünïcödé #;\\ 密 {{ x }}'


@pytest.fixture
def secrets(place, call):
    def have(*wanted, options=()):
        return call("host_secrets", {"directory": f"{place}/secrets", "secrets": list(wanted)}, *options)

    return have


def test_made_once_and_kept_to_root(host, place, secrets):
    made = secrets({"name": "one"}, {"name": "two", "length": 20})
    assert made.rc == 0 and made.last["changed"], made.text
    values = made.last["secrets"]
    assert (len(values["one"]), len(values["two"])) == (40, 20)
    assert host.stat(f"{place}/secrets") == "directory root:root 700"
    assert host.stat(f"{place}/secrets/one") == "regular file root:root 600"
    again = secrets({"name": "one"}, {"name": "two", "length": 20}, {"name": "three"})
    assert again.last["changed_secrets"] == ["three"]
    assert {name: again.last["secrets"][name] for name in values} == values
    assert not secrets({"name": "three"}, {"name": "one", "length": 64}).last["changed"]


def test_check_mode_hands_out_a_value_and_stores_none(host, place, secrets):
    checked = secrets({"name": "one"}, options=("--check", "--diff"))
    assert checked.rc == 0 and checked.last["changed"] and len(checked.last["secrets"]["one"]) == 40
    assert host.sh(f"ls -A {place}") == ""
    secrets({"name": "one"})
    assert not secrets({"name": "one"}, options=("--check",)).last["changed"]


def test_a_given_value_of_any_characters(host, place, secrets):
    wanted = {"name": "given", "value": {"__ansible_unsafe": AWKWARD}}
    secrets({"name": "given"})
    replaced = secrets({"name": "given", "value": "{% raw %}" + AWKWARD + "{% endraw %}"})
    assert replaced.rc == 0 and replaced.last["secrets"]["given"] == AWKWARD, (wanted, replaced.text)
    assert host.read(f"{place}/secrets/given") == AWKWARD + "\n"
    assert not secrets({"name": "given", "value": "{% raw %}" + AWKWARD + "{% endraw %}"}).last["changed"]
    kept = secrets({"name": "given"})
    assert not kept.last["changed"] and kept.last["secrets"]["given"] == AWKWARD


def test_a_stored_value_may_stay(host, place, secrets):
    secrets({"name": "first", "value": "the-first-of-all", "keep": True})
    kept = secrets({"name": "first", "value": "another-one-later", "keep": True})
    assert kept.rc == 0 and not kept.last["changed"] and kept.last["secrets"]["first"] == "the-first-of-all"
    assert "another value is given" in str(kept.last["warnings"]) and "another-one-later" not in str(kept.last["warnings"])
    assert host.read(f"{place}/secrets/first") == "the-first-of-all\n"


def test_rights_that_drifted_are_mended(host, place, secrets):
    secrets({"name": "one"})
    host.sh(f"chmod 755 {place}/secrets; chmod 644 {place}/secrets/one; chown daemon {place}/secrets/one")
    assert secrets({"name": "one"}, options=("--check",)).last["changed"]
    assert secrets({"name": "one"}).last["changed_secrets"] == ["(directory)", "one"]
    assert host.stat(f"{place}/secrets/one") == "regular file root:root 600"
    assert not secrets({"name": "one"}).last["changed"]


@pytest.mark.parametrize("wanted", [{"name": "../escape"}, {"name": "short", "length": 3}, {"name": "empty", "value": ""}])
def test_a_wrong_one_stops_before_anything_is_made(host, place, secrets, wanted):
    refused = secrets({"name": "good"}, wanted)
    assert refused.rc != 0 and "\n" not in refused.failure and wanted["name"] in refused.failure
    assert host.sh(f"ls -A {place}") == ""


def test_the_diff_names_it_and_tells_no_value(secrets):
    made = secrets({"name": "one"}, {"name": "given", "value": "given-value-1234"}, options=("--diff",))
    assert "one" in made.last["diff"]["after"]
    assert "given-value-1234" not in str(made.last["diff"]) + str(made.last["invocation"])
    assert made.last["secrets"]["one"] not in str(made.last["diff"])
