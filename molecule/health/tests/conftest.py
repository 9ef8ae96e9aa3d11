# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two hosts of the scenario, playbooks against them, and quick looks at the server."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[3] / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

import looks  # pylint: disable=wrong-import-position
import platforms  # pylint: disable=wrong-import-position
import plays  # pylint: disable=wrong-import-position
import yaml  # pylint: disable=wrong-import-position

# Molecule's own settings are not those of the playbooks that are run here.
for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
    del os.environ[name]

SERVER, ROUTER, DOMAIN = "crm-health-server", "crm-health-router", "crm.example.test"
# These tell of the machine below the containers, and of how much else it does: here they are no one's fault.
MACHINE = {
    "load": {"warning": 1000, "critical": 1000},
    "pressure": {"warning": None, "critical": None},
    "crm_latency": {"warning": 10_000, "critical": 20_000},
}
# They are skipped where too little happened since the last look, so they come and go.
COME_AND_GO = {"db_cache_hit", "db_rollbacks", "network_errors", "qos_drops"}
# Backups tell how they stand when a test wants it, not in the middle of another one.
QUIET = """
mkdir -p /run/systemd/system/crm-platform-backup-status.timer.d
printf '[Timer]\\nOnCalendar=\\nOnCalendar=yearly\\n' > /run/systemd/system/crm-platform-backup-status.timer.d/quiet.conf
systemctl daemon-reload
# Units that ask at a console, which a container lacks.
systemctl reset-failed
systemctl restart crm-platform-backup-status.timer
"""


def bad(found: dict) -> dict:
    """{id: status and message} of what is not well."""
    return {name: f"{one['status']}: {one['message']}" for name, one in found.items() if one["status"] not in ("ok", "skipped")}


def differs(before: dict, found: dict) -> dict:
    """{id: status} where it is another one than before."""
    return {
        name: one["status"]
        for name, one in found.items()
        if one["status"] != before[name]["status"] and not (name in COME_AND_GO and {one["status"], before[name]["status"]} == {"ok", "skipped"})
    }


class Lab:
    """The hosts, and playbooks run against them."""

    def __init__(self, directory):
        self.directory = directory
        self.crm = platforms.Platform(SERVER, DOMAIN)
        self.server, self.router = platforms.Container(SERVER), platforms.Container(ROUTER)
        settings = yaml.safe_load((SUPPORT.parents[1] / "molecule" / "health" / "molecule.yml").read_text())
        self.group_vars = settings["provisioner"]["inventory"]["group_vars"]
        self.groups = {}
        for platform in settings["platforms"]:
            for group in platform["groups"]:
                self.groups.setdefault(group, {"hosts": {}})["hosts"][platform["name"]] = {}
        self.looks = self.first = None
        self.last = {}

    def run(self, playbook, *options, **variables):
        children = {group: {**hosts_, "vars": self.group_vars.get(group, {})} for group, hosts_ in self.groups.items()}
        own = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}
        inventory = {"all": {"vars": {**self.group_vars["all"], **own}, "children": children}}
        began = time.monotonic()
        outcome = plays.run(self.directory, f"crm.platform.{playbook}", inventory, *options, "--extra-vars", json.dumps(variables))
        print(f"{playbook} {variables}: rc {outcome.rc}, {len(outcome.changed)} changed, {time.monotonic() - began:.0f} s")
        return outcome

    def report(self, *options, **variables):
        """(the report, the run) of the playbook health_check."""
        directory = self.directory / "report"
        limits = {**MACHINE, **variables.pop("health_check_thresholds", {})}
        outcome = self.run("health_check", *options, health_check_report_dir=str(directory), health_check_thresholds=limits, **variables)
        return json.loads((directory / "report.json").read_text()), outcome

    def look(self, thresholds=None):
        self.last = {}
        found = self.looks.look(thresholds)
        if not thresholds:
            self.last = found
        return found

    def wait_until(self, condition, patience, thresholds=None):
        """The look of which the condition holds, or the last one."""
        end = time.monotonic() + patience
        while True:
            found = self.look(thresholds)
            if condition(found) or time.monotonic() > end:
                return found
            time.sleep(0.5)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A platform that is well: no update waits, the backups' key is kept elsewhere too, the neighbours know each other."""
    made = Lab(tmp_path_factory.mktemp("health"))
    for host in (made.server, made.router):
        host.sh("DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Options::=--force-confold dist-upgrade > /dev/null")
    made.server.sh(QUIET + "crm-platform-backup exported; crm-platform-backup status > /dev/null")
    made.server.wait_for("the neighbour", lambda: '"Full' in made.server.sh("vtysh -c 'show ip ospf neighbor json'"), 30)
    made.server.wait_for("BFD", lambda: '"up"' in made.server.sh("vtysh -c 'show bfd peers json'"), 30)
    made.first = made.report("-vvv", health_check_fail_on="warning")
    given = [task["result"]["invocation"]["module_args"] for task in made.first[1].tasks if "health_check : Look" in task["name"]]
    # The router has no database.
    options = next(one for one in given if one["login_db"])
    made.looks = looks.Looks(made.server, options)
    # With the second one there is something to compare with.
    for dummy in range(2):
        made.look()
    return made
