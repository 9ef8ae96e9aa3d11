# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of a deployed server: no false alarm, and each fault that is made turns its own check, with a cure, and no other.

The playbook as a user runs it, health_check on the host and health_report on the controller, where the report and its end are looked at;
the code of health_check on the host for the rest.
"""

from __future__ import annotations

import os
import time

import pytest
import tryton
from conftest import SERVER, bad, differs
from faults import FAULTS

testinfra_hosts = [SERVER]
# As many as one wants to wait for: CRM_HEALTH_RUNS=30.
RUNS = int(os.environ.get("CRM_HEALTH_RUNS", "3"))
# All with CRM_HEALTH_FAULTS=100; else as many, from all parts of the list.
COUNT = min(int(os.environ.get("CRM_HEALTH_FAULTS", "40")), len(FAULTS))
CHOSEN = [list(FAULTS)[number * len(FAULTS) // COUNT] for number in range(COUNT)]


def run_script(lab, script):
    if callable(script):
        script(lab)
    else:
        lab.server.sh(script)


def test_a_platform_that_is_well(lab):
    told, outcome = lab.first
    found = {one["id"]: one for one in told["hosts"][SERVER]["results"]}
    assert not bad(found) and outcome.rc == 0, bad(found) or outcome.failure
    assert sum(one["status"] == "ok" for one in found.values()) >= 50
    page = (lab.directory / "report" / "report.html").read_text()
    assert "The platform is well" in page and "<script" not in page


def test_no_false_alarm_in_normal_use_and_while_a_backup_runs(lab):
    client = lab.crm.login()
    party = client.create_party("Steady work")
    with tryton.Searchers(client, 2, party, "Steady work") as searchers:
        for number in range(RUNS):
            if number % 3 == 0:
                lab.server.sh("systemctl start --no-block crm-platform-backup-full")
            elif number % 3 == 1:
                client.call("model.party.party.write", [party], {"name": "Steady work"}, {})
            found = lab.look()
            assert not bad(found), f"look {number + 1}: {bad(found)}"
    assert not searchers.errors, searchers.errors[:3]
    lab.server.wait_for("the backup to end", lambda: "active" != lab.server.sh("systemctl is-active crm-platform-backup-full || true").strip(), 60)
    print(f"{RUNS} looks, {len(searchers.answers)} searches, no false alarm")


@pytest.mark.parametrize("name", CHOSEN)
def test_a_fault_turns_its_own_check_and_no_other(lab, name):
    fault = FAULTS[name]
    # Where nothing is asked for, the look after the last fault tells.
    before = (not fault.limits and lab.last) or lab.look(fault.limits)
    assert not bad(before), bad(before)
    run_script(lab, fault.make)
    try:
        found = lab.wait_until(lambda found: differs(before, found) == fault.told, fault.patience, fault.limits)
    finally:
        run_script(lab, fault.back)
        lab.last = {}
    assert differs(before, found) == fault.told, bad(found)
    for one in fault.told:
        assert found[one]["message"] and (found[one]["cure"] or fault.told[one] == "skipped"), found[one]
    after = lab.wait_until(lambda found: not bad(found), 90)  # neighbours take a while to find each other
    assert not bad(after), f"taken back: {bad(after)}"


def test_the_playbook_fails_with_a_fault_and_says_what_to_do(lab):
    lab.server.sh("systemctl stop crm-platform-worker")
    try:
        told, outcome = lab.report()
    finally:
        lab.server.sh("systemctl start crm-platform-worker")
    assert outcome.rc != 0 and told["summary"]["status"] == "critical"
    assert "crm-platform-worker.service is not running" in outcome.text and "systemctl restart crm-platform-worker.service" in outcome.text


def test_options_that_cannot_be_used_do_not_stop_the_report(lab):
    told, outcome = lab.report(
        health_check_thresholds={"disk_space": {"warning": "much"}, "nobody": {"warning": 1}, "uptime": {"warning": 1}},
        health_check_skip=["nothing"],
        health_check_fail_on="never",
    )
    assert outcome.rc == 0 and len(told["hosts"][SERVER]["results"]) >= 50
    assert all(word in outcome.text for word in ("warning is 'much'", "no check 'nobody'", "no check 'nothing'", "uptime: it is right or wrong"))


def test_a_database_that_is_down_costs_no_other_check(lab):
    """What is not known is never ok, and the report comes in time."""
    before = lab.look()
    lab.server.sh("systemctl stop postgresql@15-main")
    try:
        began = time.monotonic()
        found = lab.look()
        took = time.monotonic() - began
    finally:
        lab.server.sh("systemctl start postgresql@15-main; systemctl restart crm-platform crm-platform-worker crm-platform-cron")
    changed = differs(before, found)
    assert changed.pop("db_up") == "critical" and changed.pop("crm_answers", "critical") in ("critical", "unknown") and took < 30, (changed, took)
    assert {found[name]["area"] for name in changed} <= {"database", "crm", "security"}, changed
    assert all(status == "unknown" for name, status in changed.items() if found[name]["area"] == "database"), changed
    # For a minute it is told that the database started anew.
    after = lab.wait_until(lambda found: not bad(found), 120)
    assert not bad(after), bad(after)
