# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run without a host to work on is an error that names the groups; every playbook begins with that check."""

from __future__ import annotations

import os
import subprocess

import pytest
import run_tests
import yaml
from ansible_collections.crm.platform.plugins.filter import variables_problem
from ansible_collections.crm.platform.plugins.module_utils import inventory

PLAYBOOKS = sorted(path.stem for path in (run_tests.ROOT / "playbooks").glob("*.yml"))
# It asks for its hosts by variables, and refuses a run without them.
BY_VARIABLE = {"qos_verify"}


def test_a_host_is_enough():
    assert inventory.problem({"all": ["a"], "crm_app": ["a"], "crm_database": []}, ["crm_database", "crm_app"]) == ""


def test_no_host_at_all():
    message = inventory.problem({"all": [], "ungrouped": []}, ["crm_database", "crm_app"])
    assert message.startswith("The inventory has no host; this playbook needs one in crm_database or crm_app.") and "-i" in message


def test_a_misspelt_group_is_named():
    message = inventory.problem({"all": ["a", "b"], "ungrouped": [], "crm_application": ["a"], "web": ["b"]}, ["crm_app"])
    assert message.startswith("The inventory has no host in crm_app; its groups are crm_application (misspelt crm_app?), web.")


def test_an_empty_group_of_ours():
    assert "its groups are crm_app, crm_database." in inventory.problem({"all": ["a"], "crm_app": [], "crm_database": ["a"]}, ["crm_app"])


def test_a_limit_that_leaves_none():
    groups = {"all": ["a", "b"], "crm_app": ["a"], "crm_database": ["b"]}
    assert inventory.problem(groups, ["crm_app"], ["a"]) == ""
    assert inventory.problem(groups, ["crm_app"], ["b"]).startswith("--limit leaves no host of crm_app, on which this playbook works; the inventory has a.")


def begins(name):
    """The playbooks that a playbook begins with, down to the first play."""
    first = yaml.safe_load((run_tests.ROOT / "playbooks" / name).read_text())[0]
    imported = first.get("ansible.builtin.import_playbook")
    return [name, *(begins(imported) if imported and not imported.startswith("checks/") else [imported])]


@pytest.mark.parametrize("name", sorted(set(PLAYBOOKS) - BY_VARIABLE))
def test_every_playbook_begins_with_the_check(name):
    assert begins(f"{name}.yml")[-1] == "checks/hosts.yml"


@pytest.mark.parametrize("playbook, words", [("health_check", "-i"), ("site", "crm_database, crm_app"), ("restore", "crm_application (misspelt crm_app?)")])
def test_a_run_without_a_host_fails(tmp_path, playbook, words):
    path = tmp_path / "hosts"
    if "misspelt" in words:
        path.write_text("[crm_application]\na\n", encoding="utf-8")
    environment = run_tests.environment(ANSIBLE_HOME=str(tmp_path / "home"))
    command = [run_tests.script("ansible-playbook"), "-i", str(path), f"crm.platform.{playbook}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=os.fspath(tmp_path))
    assert done.returncode == 2 and words in " ".join(done.stdout.split()), done.stdout + done.stderr


KNOWN = ["backup_restore_time", "firewall_services", "firewall_zones", "foundation_domain"]


@pytest.mark.parametrize(
    "names, passed, words",
    [
        (KNOWN, [], []),
        (["firewall_servics"], [], ["firewall_servics (firewall_services?)", "foundation_foreign_variables: [firewall_servics]"]),
        # Nothing is near: no guess.
        (["backup_user"], [], ["Unknown option backup_user: no role of crm.platform reads it"]),
        (["backup_user", "firewall_allowed_tcp_ports"], ["backup_user", "firewall_allowed_*"], []),
        (["backup_user", "firewall_zone"], ["backup_user"], ["firewall_zone (firewall_zones?)"]),
        ([], ["*"], ["foundation_foreign_variables: '*'", "every variable"]),
        # A pattern that takes a variable of the platform would hide its misspelling, too.
        ([], ["firewall_*"], ["firewall_services, firewall_zones", "which the platform reads"]),
    ],
)
def test_a_variable_that_no_role_reads(names, passed, words):
    said = inventory.unknown_variables(names, KNOWN, passed)
    assert bool(said) == bool(words) and "\n" not in said and [word for word in words if word not in said] == [], said
    assert variables_problem.problem(names, KNOWN, passed) == said
