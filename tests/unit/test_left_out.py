# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs with --limit: what the hosts that are left out are asked, and what becomes of a run when one of them is down."""

from __future__ import annotations

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "support"))

import plays  # pylint: disable=wrong-import-position

# Nobody listens there.
DOWN = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-o ConnectTimeout=2"}


def role(name, tasks):
    return {"name": f"{name}: {tasks}", "ansible.builtin.import_role": {"name": f"crm.platform.{name}", "tasks_from": f"{tasks}.yml"}}


@pytest.fixture
def limited(tmp_path):
    """limited({peer: its variables}, tasks): a play for the host `one`, which is this machine, and for none of its peers."""

    def run(peers, *tasks, **variables):
        hosts = {"one": {}, **peers}
        own = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "foundation_domain": "crm.example.test", **variables}
        groups = {"crm_app": {"hosts": dict.fromkeys(hosts)}, **{name: {"hosts": {"one": None}} for name in ("crm_database", "crm_package")}}
        inventory = {"all": {"hosts": hosts, "vars": own, "children": groups}}
        play = [{"hosts": "crm_app", "gather_facts": False, "any_errors_fatal": True, "tasks": list(tasks)}]
        return plays.run(tmp_path, play, inventory, "--limit", "one", timeout=120)

    return run


def test_a_peer_that_is_down_keeps_nobody_from_going_on(limited):
    tell = {"name": "Tell", "ansible.builtin.debug": {"msg": "{{ hostvars.up.ansible_facts.distribution | default('nothing is known of it') }}"}}
    done = limited({"gone": DOWN, "up": {}}, role("foundation", "known"), tell)
    assert done.rc == 0 and done.last["msg"] != "nothing is known of it", "what the others have told is kept: " + (done.failure or done.text[-2000:])


def test_who_writes_addresses_wants_those_of_all(limited):
    checks = [role("foundation", "known"), role("foundation", "preflight")]
    refused = limited({"gone": DOWN}, *checks)
    assert refused.rc != 0 and "foundation_address: the address of gone is not known" in refused.failure and "\n" not in refused.failure


ROUTING = {"routing_interfaces": [{"name": "nowhere0"}], "foundation_address": "192.0.2.1"}


def test_all_that_route_decide_how_they_prove_who_they_are(limited):
    """Also those of which only the address is told by the inventory."""
    checks = [role("foundation", "known"), role("routing", "preflight")]
    done = limited({"peer": {}}, *checks, **ROUTING)
    assert "nowhere0 does not exist here" in done.failure, done.failure or done.text[-2000:]
    assert [task["name"] for task in done.tasks if "Ask one that routes" in task["name"]], "peer was not asked"
    refused = limited({"peer": {}, "gone": DOWN}, *checks, **ROUTING)
    assert "routing_authentication is auto" in refused.failure and "gone does not answer" in refused.failure and "peer" not in refused.failure


def test_a_drain_counts_the_dead_and_goes_on(limited):
    """As far as to the host itself, which announces nothing here."""
    variables = {**ROUTING, "routing_service_addresses": ["192.0.2.10"], "drain_state": "out"}
    refused = limited({"gone": DOWN}, role("foundation", "known"), role("routing", "drain"), **variables)
    assert "one is the last application host" in refused.failure and "gone is unreachable" in refused.failure, refused.failure or refused.text[-2000:]


def test_several_application_hosts_need_attachments_that_all_of_them_see(limited):
    checks = [role("foundation", "known"), role("crm_service", "preflight")]
    refused = limited({"peer": {}}, *checks)
    assert refused.rc != 0 and "\n" not in refused.failure
    assert "crm_app holds one, peer" in refused.failure and "crm_service_attachments_shared to true" in refused.failure
    for hosts, shared in (({"peer": {}}, True), ({}, False)):
        assert "attachments" not in limited(hosts, *checks, crm_service_attachments_shared=shared).failure
