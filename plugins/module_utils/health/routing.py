# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routing: neighbours, BFD, and whether the CRM's address is announced just when the CRM answers."""

from __future__ import annotations

import json
import os

from .registry import CRITICAL, OK, Reading, Skipped, check


def frr(host, command: str):
    if not os.path.exists("/usr/bin/vtysh") or "ospfd=yes" not in host.read("/etc/frr/daemons"):
        raise Skipped("the platform does not route on this host")
    return json.loads(host.run("vtysh", "-c", command) or "{}")


@check("routing_neighbours", "routing", cure="vtysh -c 'show ip ospf neighbor'; same area, key, timers and mtu on both sides")
def neighbours(host):
    """OSPF's neighbours are full"""
    found = frr(host, "show ip ospf neighbor json").get("neighbors", {})
    states = {name: one["nbrState"] if "nbrState" in one else one.get("state", "?") for name, many in found.items() for one in many}
    bad = [f"{name} is {state}" for name, state in states.items() if not state.startswith(("Full", "2-Way"))]
    if not states:
        return Reading(0, "there is no neighbour", CRITICAL)
    return Reading(len(bad), "; ".join(bad) or f"{len(states)} are", CRITICAL if bad else OK)


@check("routing_bfd", "routing", cure="vtysh -c 'show bfd peers'; udp 3784 between the neighbours")
def bfd(host):
    """BFD is up to each of its peers"""
    peers = frr(host, "show bfd peers json")
    bad = [one.get("peer", "?") for one in peers if one.get("status") != "up"]
    if not peers:
        raise Skipped("BFD has no peer")
    return Reading(len(bad), f"{', '.join(bad)} is down" if bad else f"{len(peers)} are up", CRITICAL if bad else OK)
