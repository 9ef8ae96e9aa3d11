# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The classes of traffic that boot loads, put back by their units."""

from __future__ import annotations

import os
import re
import typing as t

from .. import nftables as nft
from ..health.qos import FILES, UNIT
from ..shaping import plan as planning
from ..shaping.host import persisted_devices, is_up
from ..shaping.live import Live, parse_bits, read
from ..shaping.model import ROOT, Filter, HtbClass, Leaf, Tree, ifb_name, unit_name
from .registry import Outcome, Repair, RepairError, Step, repair

DIRECTORY = os.path.dirname(FILES)
RULES, TABLE = f"{DIRECTORY}/qos.nft", nft.Table("inet", "crm_platform_qos")
_KEY = re.compile(r"match u32 0x([0-9a-f]+) 0x([0-9a-f]+) at (\d+)")


def options(words: t.Sequence[str]) -> tuple:
    """('limit', '100', 'ecn') -> (('limit', '100'), ('ecn', ''))."""
    found: list[tuple] = []
    for word in words:
        if word[:1].isdigit() and found and not found[-1][1]:
            found[-1] = (found[-1][0], word)
        else:
            found.append((word, ""))
    return tuple(found)


def trees(text: str) -> dict[str, Tree]:
    """What the lines that boot gives to `tc -batch` make, for each interface; the other way round than shaping.plan.boot."""
    made: dict[str, dict] = {}
    for line in text.splitlines():
        words = line.split()
        if "dev" not in words[:3]:
            continue
        values = dict(zip(words, words[1:]))
        one = made.setdefault(words[words.index("dev") + 1], {"kind": "", "default": "", "options": (), "classes": [], "leaves": [], "filters": []})
        if words[0] == "class":
            prio = int(values["prio"]) if "prio" in values else None
            one["classes"].append(
                HtbClass(
                    values["classid"],
                    values["parent"],
                    parse_bits(values["rate"]),
                    parse_bits(values["ceil"]),
                    int(values["burst"]),
                    int(values["cburst"]),
                    prio,
                    # Inner classes have one that nobody reads.
                    int(values["quantum"]) if prio is not None else None,
                    int(values.get("overhead", 0)),
                    int(values.get("mpu", 0)),
                )
            )
        elif words[0] == "qdisc":
            rest = words[words.index("handle") + 2 :]
            if "root" in words and values["handle"] == ROOT:
                htb = rest[0] == "htb"
                one.update(kind=rest[0], default=values["default"] if htb else "", options=() if htb else options(rest[1:]))
            elif "parent" in words:
                one["leaves"].append(Leaf(values["parent"], values["handle"], rest[0], options(rest[1:])))
        elif words[0] == "filter" and "ingress" not in words:
            keys = tuple((int(offset), int(value, 16), int(mask, 16)) for value, mask, offset in _KEY.findall(line))
            one["filters"].append(Filter(int(values["pref"]), values["protocol"], keys, values["flowid"]))
    return {
        device: Tree(device, one["default"], tuple(one["classes"]), tuple(one["leaves"]), {}, tuple(one["filters"]), one["kind"], one["options"])
        for device, one in made.items()
        if one["kind"]
    }


def differences(text: str, device: str, lives: t.Mapping[str, Live]) -> list[str]:
    """Why an interface is not as its file says."""
    found = []
    for name, tree in trees(text).items():
        live = lives[name]
        if not live.exists:
            found.append(f"{name} does not exist")
            continue
        found += sorted({f"{step.line.split(' rate ')[0].split(' protocol ')[0]}: {step.reason}" for step in planning.plan(tree, live)})[:3]
    if f"dev {device} ingress" in text and not lives[device].arrival:
        found.append(f"what comes in on {device} is not led to {ifb_name(device)}")
    return found


@repair("restore_shaping", "Put the classes of traffic back", ("qos_qdisc",))
class RestoreShaping(Repair):
    def look(self, host, outcome):
        found: dict[str, t.Any] = {"devices": {}, "rules": None}
        for device in persisted_devices(DIRECTORY):
            if not os.path.exists(f"/sys/class/net/{device}"):
                outcome.notes.append(f"{device} does not exist just now; its unit shapes it when it comes")
                continue
            with open(f"{DIRECTORY}/qos-{device}.tc", encoding="utf-8") as stream:
                text = stream.read()
            lives = {name: read(host.run, name, is_up(name)) for name in (device, ifb_name(device))}
            found["devices"][device] = differences(text, device, lives)
        if os.path.exists(RULES):
            with open(RULES, encoding="utf-8") as stream:
                content = stream.read()
            found["rules"] = (content, nft.read_live(host.run, TABLE), nft.read_wanted(host.run, TABLE, content))
        names = [UNIT, *(f"{UNIT.removesuffix('.service')}-{unit_name(device)}.service" for device in found["devices"])]
        found["units"] = {name: host.run(["systemctl", "is-active", name])[1].strip() for name in names} if found["devices"] or found["rules"] else {}
        return found

    def plan(self, found, options_, outcome):
        if not found["units"]:
            outcome.notes.append("the platform shapes no traffic on this host")
            return []
        steps = []
        if found["rules"]:
            dummy, live, wanted = found["rules"]
            why = (
                "it is absent"
                if not live.exists
                else "it differs" if wanted and nft.comparable(live.listing) != nft.comparable(wanted.listing) else ""
            )
            if why:
                steps.append(Step(f"load table {TABLE} from {RULES} ({why})", "load", (), f"table {TABLE}: {why}", f"table {TABLE}: as declared"))
            if found["units"][UNIT] != "active":
                state = found["units"][UNIT]
                steps.append(Step(f"restart {UNIT} (it is {state})", "restart", (UNIT,), f"{UNIT}: {state}", f"{UNIT}: active"))
        for device, different in found["devices"].items():
            unit = f"{UNIT.removesuffix('.service')}-{unit_name(device)}.service"
            state = found["units"][unit]
            why = "; ".join(different) or (f"it is {state}" if state != "active" else "")
            if why:
                steps.append(Step(f"restart {unit} ({why})", "restart", (unit,), f"{device}: {why}", f"{device}: as declared"))
        return steps

    def do(self, host, step, outcome):
        if step.verb == "load":
            return
        (unit,) = step.what
        host.run(["systemctl", "reset-failed", unit])
        rc, dummy, dummy = host.run(["systemctl", "restart", unit])
        if rc:
            raise RepairError(f"{unit} does not start: {host.journal(unit)}; run crm.platform.network, which writes it anew")

    def carry_out(self, host, found, outcome):
        if any(step.verb == "load" for step in outcome.steps):
            content, dummy, wanted = found["rules"]
            nft.check(host.run, content)
            nft.load(host.run, TABLE, content, wanted)
        super().carry_out(host, found, outcome)

    def settle(self, host, found, outcome):
        again = Outcome()
        left = self.plan(self.look(host, again), host.options, again)
        if left:
            raise RepairError(f"not as declared after the repair: {left[0].text}; run crm.platform.network")
