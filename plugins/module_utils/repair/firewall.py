# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The confirmed ruleset of the firewall, put back in one transaction: no moment is open or shut."""

from __future__ import annotations

import os

from .. import nftables as nft
from ..health.firewall import RULESET, TABLE, UNIT
from ..nftables_confirm import Change, digest
from .registry import Repair, RepairError, Step, repair

STATE = "/var/lib/crm-platform/firewall/state"


@repair("restore_firewall", "Put the confirmed ruleset of the firewall back", ("firewall_table", "firewall_unit"))
class RestoreFirewall(Repair):
    def look(self, host, outcome):
        if not os.path.exists(RULESET):
            outcome.notes.append("the platform's firewall is not set up on this host")
            return None
        Change(host.run, TABLE, RULESET, STATE).refuse_another()
        with open(RULESET, encoding="utf-8") as stream:
            content = stream.read()
        dummy, out, dummy = host.run(["systemctl", "show", "--property=ActiveState,UnitFileState", UNIT])
        unit = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return {"content": content, "live": nft.read_live(host.run, TABLE), "wanted": nft.read_wanted(host.run, TABLE, content), "unit": unit}

    def plan(self, found, options, outcome):
        if found is None:
            return []
        steps, live, wanted = [], found["live"], found["wanted"]
        if not live.exists:
            steps.append(
                Step(f"load table {TABLE} from {RULESET} (it is absent: everything is open)", "load", (), "", nft.comparable(found["content"]))
            )
        elif wanted is None:
            outcome.notes.append("no right to make a network namespace: whether the live table is the confirmed one cannot be told")
        elif digest(wanted.listing) != digest(live.listing):
            text = f"load table {TABLE} from {RULESET} (the live one differs)"
            steps.append(Step(text, "load", (), nft.comparable(live.listing), nft.comparable(wanted.listing)))
        if found["unit"].get("UnitFileState") != "enabled":
            state = found["unit"].get("UnitFileState") or "not there"
            steps.append(Step(f"enable {UNIT} (it is {state})", "enable", (), f"{UNIT}: {state}", f"{UNIT}: enabled"))
        if found["unit"].get("ActiveState") != "active":
            state = found["unit"].get("ActiveState") or "not there"
            steps.append(Step(f"start {UNIT} (it is {state})", "start", (), f"{UNIT}: {state}", f"{UNIT}: active"))
        return steps

    def carry_out(self, host, found, outcome):
        if any(step.verb == "load" for step in outcome.steps):
            nft.check(host.run, found["content"])
            if not nft.load(host.run, TABLE, found["content"], found["wanted"]):
                outcome.notes.append("the addresses that were banned could not be carried over")
        for step in outcome.steps:
            if step.verb == "start":
                host.run(["systemctl", "reset-failed", UNIT])
            if step.verb != "load":
                rc, dummy, err = host.run(["systemctl", step.verb, UNIT])
                if rc:
                    raise RepairError(f"`systemctl {step.verb} {UNIT}`: {' '.join(err.split())}; run crm.platform.network, which writes the unit")
        now = nft.read_live(host.run, TABLE)
        outcome.facts["digest"] = digest(now.listing) if now.exists else ""
        if not now.exists or found["wanted"] and digest(now.listing) != digest(found["wanted"].listing):
            raise RepairError(f"table {TABLE} is not the confirmed one after it was loaded; somebody else changes it: nft monitor tells who")
