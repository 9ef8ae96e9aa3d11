# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routing: daemons, neighbours, BFD, and whether the CRM's address is announced just when the CRM answers."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import ssl
import time
import typing as t

from .registry import CRITICAL, OK, WARNING, Reading, Skipped, check

DAEMONS, CONFIG = "/etc/frr/daemons", "/etc/frr/frr.conf"
# The links and neighbours that the inventory declares, written by the role routing.
DECLARED = "/etc/crm-platform/routing.json"
# Of the role routing. With neither this nor a configuration nobody has asked for the daemons that DAEMONS names.
SWITCHES = "/etc/sysctl.d/60-crm-platform-routing.conf"
# Of the program crm-platform-anycast, see the role routing.
ANYCAST, ANYCAST_STATUS, DRAINED = "/etc/crm-platform/anycast.json", "/run/crm-platform-anycast/status.json", "/var/lib/crm-platform/anycast-drained"
ANYCAST_UNIT = "crm-platform-anycast.service"
# A drain that somebody forgot.
DRAINED_HOURS = 24


def frr(host, command: str):
    enabled(host)
    return json.loads(host.run("vtysh", "-c", command) or "{}")


def enabled(host) -> list[str]:
    """The daemons that FRR has to run on this host."""
    found = []
    if os.path.exists("/usr/bin/vtysh") and (os.path.exists(CONFIG) or os.path.exists(SWITCHES)):
        found = re.findall(r"^(ospfd|ospf6d|bfdd)=yes", host.read(DAEMONS), re.M)
    if not {"ospfd", "ospf6d"} & set(found):
        raise Skipped("the platform does not route on this host")
    return found


def anycast(host) -> dict:
    try:
        return json.loads(host.read(ANYCAST))
    except FileNotFoundError:
        raise Skipped("this host does not hold the CRM's addresses") from None


@check("routing_daemons", "routing", cure="journalctl -u frr -n 50; systemctl restart frr", source="own")
def daemons(host):
    """FRR and its daemons run"""
    wanted = enabled(host)
    state = host.run("systemctl", "is-active", "frr.service", check=False).strip() or "not there"
    if state != "active":
        return Reading(None, f"frr.service is {state}", CRITICAL)
    running = host.status("vtysh", "-c", "show daemons")[1].split()
    gone = [name for name in ("zebra", *wanted) if name not in running]
    return Reading(len(gone), f"{', '.join(gone)} {'does' if len(gone) == 1 else 'do'} not run" if gone else "they run", CRITICAL if gone else OK)


class Adjacency(t.NamedTuple):
    """A neighbour that OSPF knows. The same router may be one on several interfaces."""

    router: str
    interface: str
    state: str
    address: str = ""  # '' where FRR does not tell it

    @property
    def link(self) -> str:
        """OSPFv2 adds the own address to the interface's name."""
        return self.interface.split(":")[0]


def adjacencies(host) -> list[Adjacency]:
    """Those of OSPFv2."""
    found = frr(host, "show ip ospf neighbor json").get("neighbors", {})
    return [
        Adjacency(name, one.get("ifaceName", "?"), one.get("nbrState") or one.get("state", "?"), one.get("ifaceAddress") or one.get("address", ""))
        for name, many in found.items()
        for one in many
    ]


def adjacencies6(host) -> list[Adjacency] | None:
    """Those of OSPFv3, which lists them without addresses; None where it does not answer, or as no FRR that we know."""
    try:
        found = frr(host, "show ipv6 ospf6 neighbor json")["neighbors"]
        return [Adjacency(one["neighborId"], one.get("interfaceName", "?"), str(one["state"])) for one in found]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def declared(host) -> dict[str, list[str]]:
    """The neighbours of each declared link; nothing on a host whose last run of the role did not tell them yet."""
    try:
        return {one["name"]: one.get("neighbours") or [] for one in json.loads(host.read(DECLARED))["interfaces"]}
    except FileNotFoundError:
        return {}


def missing(wanted: t.Mapping[str, t.Sequence[str]], version: int, live: t.Sequence[Adjacency]) -> list[str]:
    """Declared neighbours of this family that OSPF does not know. A network stands for one neighbour at least."""
    found = []
    for link, texts in wanted.items():
        networks = [one for one in map(ipaddress.ip_network, texts) if one.version == version]
        single = [one for one in networks if one.prefixlen == one.max_prefixlen]
        here = [one for one in live if one.link == link]
        if all(one.address for one in here):
            there = [ipaddress.ip_address(one.address) for one in here]
            gone = [one for one in networks if not any(address in one for address in there)]
            found += [f"{one.network_address if one in single else f'any of {one}'} on {link} is missing" for one in gone]
        elif len(here) < max(len(single), bool(networks)):
            found.append(f"{link} has {len(here)} of {max(len(single), 1)} declared neighbours{' by OSPFv3' if version == 6 else ''}")
    return found


def broken_links(host, wanted: t.Iterable[str]) -> list[str]:
    """Declared interfaces that are gone or down."""
    if not wanted:
        return []
    links = {one["ifname"].split("@")[0]: one for one in json.loads(host.run("ip", "-json", "link", "show")) if one}
    found = [f"the interface {name} is gone" for name in wanted if name not in links]
    return found + [f"the interface {name} is down" for name in wanted if name in links and "LOWER_UP" not in links[name].get("flags", ())]


@check(
    "routing_neighbours",
    "routing",
    cure="vtysh -c 'show ip ospf neighbor' -c 'show ipv6 ospf6 neighbor'; same area, key, timers and mtu on both sides",
)
def neighbours(host):
    """Each declared neighbour of OSPF is there, and full"""
    daemons_on, states, bad = enabled(host), [], []
    wanted = declared(host)
    if "ospfd" in daemons_on:
        try:
            states = adjacencies(host)
        except OSError as error:
            return Reading(0, f"OSPF does not answer: {error}", CRITICAL)
        # Without a link's neighbours by name: that there is none at all is told in one word.
        bad += ["there is no neighbour"] if not states else missing(wanted, 4, states)
    six = adjacencies6(host) if "ospf6d" in daemons_on else []
    if six is None and "ospfd" not in daemons_on:
        raise Skipped("OSPFv3 did not tell its neighbours, see routing_daemons")
    if "ospf6d" in daemons_on and six is not None:
        bad += ["there is no neighbour by OSPFv3"] if not six else missing(wanted, 6, six)
    states = [*states, *(six or ())]
    # Twoway is OSPFv3's word.
    bad += [f"{one.router} on {one.interface} is {one.state}" for one in states if not one.state.startswith(("Full", "2-Way", "Twoway"))]
    bad += broken_links(host, wanted)
    if bad:
        return Reading(len(bad), "; ".join(bad), CRITICAL)
    return Reading(0, f"{len(states)} are{'; OSPFv3 did not tell its own' if six is None else ''}", OK)


@check("routing_bfd", "routing", cure="vtysh -c 'show bfd peers'; udp 3784 between the neighbours")
def bfd(host):
    """BFD is up to each of its peers"""
    if "bfdd" not in enabled(host):
        raise Skipped("BFD is not used on this host")
    try:
        peers = frr(host, "show bfd peers json")
    except OSError:
        raise Skipped("BFD does not answer, see routing_daemons") from None
    bad = [f"{one.get('peer', '?')} is down" for one in peers if one.get("status") != "up"]
    bad += [f"{address} has no session" for address in unwatched(host, peers)]
    if not peers and not bad:
        raise Skipped("BFD has no peer")
    return Reading(len(bad), "; ".join(bad) or f"{len(peers)} are up", CRITICAL if bad else OK)


def unwatched(host, peers: t.Sequence[dict]) -> list[str]:
    """Neighbours to which OSPF speaks while BFD does not watch them: a dead one is noticed late."""
    try:
        live = adjacencies(host)
    except OSError:
        return []
    watched = {one.get("peer") for one in peers}
    return [one.address for one in live if one.address and one.state.startswith("Full") and one.address not in watched]


def answers(host, config: dict) -> bool:
    """Whether the CRM says of itself that it is well: what crm-platform-anycast asks, too."""
    context = ssl.create_default_context()
    # The host asks itself; whom the certificate names is for its users to check.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", config["port"], timeout=min(config["timeout"], host.left), context=context)
    try:
        connection.request("GET", config["path"], headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def held(host, config: dict) -> bool:
    """Whether every service address is on the loopback interface: OSPF tells the others of it then."""
    links = json.loads(host.run("ip", "-json", "address", "show", "dev", "lo"))
    return set(config["addresses"]) <= {one.get("local") for one in links[0]["addr_info"]}


@check("routing_anycast", "routing", cure=f"journalctl -u {ANYCAST_UNIT} -n 50; systemctl restart {ANYCAST_UNIT}", source="own")
def announced(host):
    """The CRM's address is announced if, and only if, the CRM answers"""
    config = anycast(host)
    addresses = ", ".join(config["addresses"])
    state = host.run("systemctl", "is-active", ANYCAST_UNIT, check=False).strip() or "not there"
    drained = os.path.exists(DRAINED)
    well, here = answers(host, config), held(host, config)
    if here != (well and not drained) and state == "active":
        # It believes what it sees only after some answers; and by now it may have.
        time.sleep(min(config["interval"] * max(config["rise"], config["fall"]) + 0.5, host.left / 2))
        well, here = answers(host, config), held(host, config)
    if here and (drained or not well):
        return Reading(None, f"{addresses} is announced, though {'the host is drained' if drained else 'the CRM does not answer'}", CRITICAL)
    if drained:
        hours = (host.now - os.stat(DRAINED).st_mtime) / 3600
        undrain = "crm.platform.drain with drain_state=in"
        return Reading(None, f"the host is drained since {hours:.1f} hours", WARNING if hours > DRAINED_HOURS else OK, undrain)
    if state != "active":
        return Reading(None, f"{ANYCAST_UNIT} is {state}: {addresses} is {'' if here else 'not '}announced, and nobody watches the CRM", CRITICAL)
    if well and not here:
        return Reading(None, f"the CRM answers, and {addresses} is not announced: {said(host)}", CRITICAL)
    return Reading(None, f"{addresses} is announced" if here else f"{addresses} is withdrawn, as the CRM does not answer: see crm_answers")


def said(host) -> str:
    """Why, as the program that announces told."""
    try:
        return json.loads(host.read(ANYCAST_STATUS)).get("reason") or "no reason is known"
    except (OSError, ValueError, AttributeError):
        return "no reason is known"


def services(text: str) -> list[str]:
    """The single addresses that frr.conf lets in: those of the CRM."""
    return re.findall(r"^ip(?:v6)? prefix-list crm-accept6? seq \d+ permit (\S+/(?:32|128))$", text, re.M)


@check(
    "routing_service", "routing", cure="vtysh -c 'show ip ospf route'; routing_anycast on the application hosts; crm.platform.network", source="own"
)
def service(host):
    """The CRM's address leads to a host that is well"""
    enabled(host)
    if os.path.exists(ANYCAST):
        raise Skipped("this host holds the address itself, see routing_anycast")
    wanted = services(host.read(CONFIG))
    if not wanted:
        raise Skipped("the platform has no service address")
    bad, ways = [], []
    for prefix in wanted:
        family = "ipv6" if ":" in prefix else "ip"
        try:
            found = frr(host, f"show {family} route {prefix} json").get(prefix, [])
        except OSError:
            raise Skipped("the routing table does not answer, see routing_daemons") from None
        used = [one for one in found if one.get("protocol", "").startswith("ospf") and one.get("selected") and one.get("installed")]
        ways += [sum(1 for hop in one.get("nexthops", ()) if hop.get("active", True)) for one in used]
        if not used:
            bad.append(f"{prefix} is {'announced, and not accepted' if found else 'announced by nobody'}")
    return Reading(len(bad), "; ".join(bad) or f"{len(wanted)} addresses lead to {min(ways)} hosts", CRITICAL if bad else OK)
