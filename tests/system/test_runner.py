# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""health_check.yml, with health_check and health_report, as AWX runs it: by ansible-runner, from a directory with inventory and extra variables,
with its artifacts; and on a terminal.

On a host without the CRM, where the checks of the system are all that there is to look at. Load and pressure belong to the machine on which
the tests run, so their limits are taken away; those of the open files, which are always more than none, make the checks what they are to be.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess

import ansible_runner
import hosts
import plays
import pytest
import yaml

VARIABLES = {
    "health_check_areas": ["system"],
    "health_check_skip": ["updates", "failed_units", "load", "pressure", "swap", "disk_space", "disk_inodes"],
}
GROUPS = ("crm_router", "crm_monitor")


@pytest.fixture(scope="module")
def bare():
    host = hosts.Host("runner")
    try:
        yield host.create()
    finally:
        host.remove()


def run(directory, host, **variables):
    """(runner, what AWX would show as the job's artifacts, what the run printed)"""
    (directory / "inventory").mkdir(parents=True, exist_ok=True)
    # A group that is looked at without being one of the first roles: a router, and where it exists the monitor.
    (directory / "inventory" / "hosts.yml").write_text(yaml.safe_dump(plays.inventory(host.name, groups=GROUPS)), encoding="utf-8")
    # As docs/awx.md says: AWX runs the playbooks that lie in the project.
    (directory / "project").mkdir(exist_ok=True)
    (directory / "project" / "health.yml").write_text("- name: Look\n  ansible.builtin.import_playbook: crm.platform.health_check\n", encoding="utf-8")
    (directory / "env").mkdir(exist_ok=True)
    (directory / "env" / "extravars").write_text(json.dumps({**VARIABLES, **variables}), encoding="utf-8")
    environment = {name: value for name, value in plays.environment(directory).items() if name.startswith(("ANSIBLE_", "PATH", "SSL_CERT"))}
    del environment["ANSIBLE_STDOUT_CALLBACK"]
    outcome = ansible_runner.run(private_data_dir=str(directory), playbook="health.yml", envvars=environment, quiet=True, timeout=120)
    last = [event["event_data"] for event in outcome.events if event["event"] == "playbook_on_stats"]
    return outcome, (last[0].get("artifact_data") or {}) if last else {}, outcome.stdout.read()


@pytest.mark.parametrize(
    "limits, fail_on, status, rc",
    [
        ({"warning": 100, "critical": 100}, "warning", "ok", 0),
        ({"warning": 0, "critical": 100}, "critical", "warning", 0),
        ({"warning": 0, "critical": 0}, "critical", "critical", 2),
    ],
)
def test_rc_and_artifacts_are_those_of_the_status(bare, tmp_path, limits, fail_on, status, rc):
    outcome, artifacts, text = run(tmp_path, bare, health_check_thresholds={"open_files": limits}, health_check_fail_on=fail_on)
    assert (outcome.rc, outcome.status) == (rc, "failed" if rc else "successful"), text
    assert artifacts["health_status"] == status
    summary = artifacts["health_summary"]
    assert summary["status"] == status and summary["checks"] == sum(summary[one] for one in ("ok", "warning", "critical", "unknown", "skipped"))
    findings = [(one["host"], one["id"], one["status"]) for one in artifacts["health_findings"]]
    assert findings == ([] if status == "ok" else [(bare.name, "open_files", status)])
    assert all(one["message"] and one["cure"] for one in artifacts["health_findings"])
    assert outcome.stats["failures"] == ({bare.name: 1} if rc else {}) and not outcome.stats["dark"]


def test_colour_is_for_terminals(bare, tmp_path):
    command = plays.command(tmp_path, "crm.platform.health_check", plays.inventory(bare.name, groups=GROUPS), "-e", json.dumps(VARIABLES))
    environment = {name: value for name, value in plays.environment(tmp_path).items() if name not in ("ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_NOCOLOR")}
    plain = subprocess.run(command, env={**environment, "TERM": "xterm"}, capture_output=True, text=True, check=False, timeout=120).stdout
    assert "AREA" in plain and "\x1b[" not in plain
    leader, follower = pty.openpty()
    with subprocess.Popen(command, env={**environment, "TERM": "xterm"}, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        process.wait(timeout=30)
    os.close(leader)
    (line,) = [line for line in shown.decode().splitlines() if f"{bare.name}  system" in line]
    assert line.startswith("\x1b[")
