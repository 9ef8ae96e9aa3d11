# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of the platform that are down: started again, and looked at for a while."""

from __future__ import annotations

import time
import typing as t

from .. import units
from .registry import Repair, RepairError, Step, repair

# As systemctl takes patterns; in the order in which they are started: the database before what asks it.
PATTERNS = (
    "postgresql.service",
    "postgresql@*.service",
    "crm-platform-firewall.service",
    "crm-platform-qos*.service",
    "frr.service",
    "pgbackrest.service",
    "crm-platform*.service",
    "nginx.service",
    "crm-platform*.timer",
)
CRM = ("crm-platform.service", "crm-platform-worker.service", "crm-platform-cron.service", "nginx.service")
PROPERTIES = (*units.PROPERTIES, "SubState", "Result", "Type", "RemainAfterExit", "ConditionResult", "ConditionTimestampMonotonic")
SETTLE = 1.5  # seconds after which a service that ends at once has ended


def rank(name: str) -> tuple:
    """The database, then the net, then the rest; the CRM before its front."""
    order = (
        "postgresql.",
        "postgresql@",
        "crm-platform-firewall",
        "crm-platform-qos",
        "frr",
        "pgbackrest",
        "crm-platform.",
        "crm-platform-",
        "nginx",
    )
    return (name.endswith(".timer"), next((at for at, start in enumerate(order) if name.startswith(start)), len(order)), name)


def why_down(properties: t.Mapping[str, str]) -> str:
    """'failed: exit-code' and the like, '' for a unit that is well, is not meant to run, or is on its way."""
    if properties.get("LoadState") != "loaded" or properties.get("UnitFileState") not in units.ENABLED:
        return ""
    active, sub = properties.get("ActiveState", ""), properties.get("SubState", "")
    if active == "failed":
        return f"failed: {properties.get('Result') or 'no reason given'}"
    if active == "activating" and sub == "auto-restart":
        return f"ends again and again: {properties.get('Result') or 'no reason given'}"
    if active != "inactive":
        return ""
    ended = properties.get("Type") == "oneshot" and properties.get("RemainAfterExit") == "no"
    unwanted = properties.get("ConditionResult") == "no" and properties.get("ConditionTimestampMonotonic", "0") != "0"
    # It has done its work, or a condition of its own keeps it down.
    return "" if ended or unwanted else "stopped"


@repair("restart_services", "Start units of the platform that are down", ("crm_answers", "crm_units", "db_up", "failed_units"))
class RestartServices(Repair):
    def look(self, host, outcome):
        dummy, out, dummy = host.run(["systemctl", "list-unit-files", "--no-legend", "--no-pager", "--plain", *PATTERNS])
        names = [line.split()[0] for line in out.splitlines() if line.strip()]
        # Instances have no file of their own, and what failed may have none any more.
        rc, out, err = host.run(["systemctl", "list-units", "--all", "--no-legend", "--no-pager", "--plain", *PATTERNS])
        if rc:
            raise RepairError(f"systemd does not answer: {' '.join(err.split())}; boot the host with systemd first")
        names = {name for name in names + [line.split()[0] for line in out.splitlines() if line.strip()] if "@." not in name}
        # A cluster that was not up since the boot is wanted all the same.
        names |= clusters(host)
        return self.states(host, names) if names else {}

    @staticmethod
    def states(host, names) -> dict:
        dummy, out, dummy = host.run(["systemctl", "show", "--no-pager", "--property", ",".join(PROPERTIES), "--", *sorted(names)])
        return {properties["Id"]: properties for properties in units.parse_show(out).values() if properties.get("Id")}

    def plan(self, found, options, outcome):
        steps = []
        for name in sorted(found, key=rank):
            why = why_down(found[name])
            if why:
                text = f"start {name} ({why})" if why == "stopped" else f"reset-failed and start {name} ({why})"
                steps.append(Step(text, "start", (name, why != "stopped"), f"{name}: {why}", f"{name}: active"))
        return steps

    def do(self, host, step, outcome):
        name, reset = step.what
        if reset:
            host.run(["systemctl", "reset-failed", name])
        # Not waited for here: a unit may wait for one that comes later in the list.
        host.run(["systemctl", "start", "--no-block", name])

    def settle(self, host, found, outcome):
        names = [step.what[0] for step in outcome.steps]
        seconds = host.options["wait"]

        def settled():
            now = self.states(host, names)
            return all(one["ActiveState"] in ("active", "failed") for one in now.values())

        host.wait_for(settled, seconds)
        time.sleep(SETTLE)
        now = self.states(host, names)
        for name in names:
            state = now.get(name, {})
            if state.get("ActiveState") not in units.RUNNING:
                outcome.left.append(f"{name} is {state.get('ActiveState', 'gone')} again ({state.get('Result', '?')}): {host.journal(name)}")
        if (host.options.get("crm") or {}).get("url") and set(names) & {*CRM, "postgresql.service", *clusters(host)}:
            complaint = ""

            def answers():
                nonlocal complaint
                complaint = host.crm_complaint()
                return not complaint

            if not host.wait_for(answers, seconds if not outcome.left else 2):
                outcome.left.append(f"{host.options['crm']['url']}/health does not answer: {complaint}; journalctl -u crm-platform -u nginx -n 50")


def clusters(host) -> set:
    """The units of PostgreSQL's clusters that are started at boot."""
    dummy, out, dummy = host.run(["systemctl", "show", "--value", "--property", "Wants", "postgresql.service"])
    return {name for name in out.split() if name.startswith("postgresql@")}
