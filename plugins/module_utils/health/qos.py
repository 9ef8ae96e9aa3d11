# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic shaping: whether it is there, and whether the CRM gets what it was promised."""

from __future__ import annotations

import glob
import json
import os
import re

from .registry import CRITICAL, OK, Reading, Skipped, check

FILES, UNIT = "/etc/crm-platform/qos-*.tc", "crm-platform-qos.service"


def devices(dummy) -> list:
    """The interfaces whose files boot loads."""
    found = sorted(os.path.basename(path)[len("qos-") : -len(".tc")] for path in glob.glob(FILES))
    if not found:
        raise Skipped("the platform shapes no traffic on this host")
    return found


@check("qos_qdisc", "qos", cure=f"systemctl restart {UNIT}", repair="restore_shaping")
def qdisc(host):
    """The shaper is on each of its interfaces"""
    bad = []
    for device in devices(host):
        if not os.path.exists(f"/sys/class/net/{device}"):
            bad.append(f"{device} does not exist")
            continue
        root = next((one for one in json.loads(host.run("tc", "-j", "qdisc", "show", "dev", device) or "[]") if one.get("root")), {})
        if root.get("kind") not in ("htb", "cake"):
            bad.append(f"{device} has {root.get('kind', 'nothing')}")
    return Reading(len(bad), "; ".join(bad) or "it is", CRITICAL if bad else OK)


@check("qos_drops", "qos", "%", 2, 10, "tc -s class show dev DEVICE; raise qos_rate or the class's guarantee", "own")
def drops(host):
    """Packets that the shaper dropped, since the last run"""
    sent = lost = 0.0
    for device in devices(host):
        # Its JSON is broken for the classes of htb in several versions of tc.
        for packets, gone in re.findall(r"Sent \d+ bytes (\d+) pkt \(dropped (\d+)", host.run("tc", "-s", "class", "show", "dev", device)):
            sent += float(packets)
            lost += float(gone)
    grown, dropped = host.rate("qos_packets", sent), host.rate("qos_drops", lost)
    if grown is None or dropped is None or grown[0] < 1000:
        raise Skipped("there is too little traffic since the last run")
    return Reading(100 * dropped[0] / grown[0], f"{dropped[0]:.0f} of {grown[0]:.0f} packets")
