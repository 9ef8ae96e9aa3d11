# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of OSPF on a host, checked against the addresses that it has. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t

LINK_LOCAL = ipaddress.ip_network("fe80::/10")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,14}\Z")
# What FRR reads as one word, and neither as a comment nor as a request for help.
KEY = re.compile(r"[!-~]+\Z")
ACCEPT = re.compile(r"(?P<prefix>\S+)(?: le (?P<le>[0-9]{1,3}))?\Z")
# The longest key that FRR takes.
KEY_LENGTHS = {"md5": 16, "hmac-sha-256": 63}
AUTHENTICATIONS = ("none", "md5", "hmac-sha-256")
NETWORKS = ("broadcast", "point-to-point")
# Highest first in the election of a link's designated router. A host that only announces an address takes no part.
ROUTER_PRIORITY, HOST_PRIORITY = 10, 0

Address = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class OspfError(Exception):
    """A wish that cannot be had; the message names the variable, the value and the cure."""


class Interface(t.NamedTuple):
    """One interface that OSPF knows. Where no neighbour of a family is declared, it is passive in it."""

    name: str
    area: str
    cost: t.Optional[int]
    network: str
    priority: int
    neighbours: tuple[Network, ...]
    families: tuple[int, ...]

    def speaks(self, family: int) -> bool:
        return any(neighbour.version == family for neighbour in self.neighbours)


class Accepted(t.NamedTuple):
    """A prefix that may get into the kernel's table; ``le`` lets parts of it in, down to that length."""

    prefix: Network
    le: t.Optional[int]


class Wanted(t.NamedTuple):
    """All of it."""

    interfaces: tuple[Interface, ...]
    service_addresses: tuple[Address, ...]
    accepted: tuple[Accepted, ...]
    holds: bool
    router: bool
    router_id: str
    authentication: str
    key_id: int
    hello: int
    dead: int
    bfd: bool
    bfd_interval: int
    bfd_multiplier: int
    restart: int

    def speaks(self, family: int) -> bool:
        return any(interface.speaks(family) for interface in self.interfaces)

    def service_area(self, family: int) -> str:
        """The area of the first link on which the service address can be told."""
        return next(interface.area for interface in self.interfaces if interface.speaks(family))


Own = t.Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Addresses = t.Mapping[str, t.Sequence[Own]]


def own_address(local: str, prefixlen: int, peer: str = "") -> Own:
    """An address of this host. Where it has a peer, as on a tunnel, its network is the one at the other end."""
    address = ipaddress.ip_interface(f"{local}/{prefixlen}")
    if peer:
        address.network = ipaddress.ip_network(f"{peer}/{prefixlen}", strict=False)
    return address


def parse(options: t.Mapping[str, t.Any], addresses: Addresses, variable: t.Callable[[str], str], router_id: str = "") -> Wanted:
    """The options of the module as a model, or the first thing that is wrong with them.

    :param addresses: the addresses of each interface of this host.
    :param variable: gives an option the name that its user knows.
    :param router_id: the router-id that the host has now.
    """
    services = tuple(_service_address(variable("service_addresses"), text) for text in options["service_addresses"])
    _unique(variable("service_addresses"), services)
    interfaces = tuple(_interface(variable("interfaces"), spec, options["router"], addresses) for spec in options["interfaces"])
    _unique(variable("interfaces"), [interface.name for interface in interfaces])
    for service in services:
        _off_the_links(variable("service_addresses"), service, addresses)
    accepted = tuple(_accepted(variable("accept"), text) for text in options["accept"])
    _timers(options, variable)
    _key(options, variable)
    wanted = Wanted(
        interfaces=interfaces,
        service_addresses=services,
        accepted=accepted,
        holds=bool(options["hold"] and services),
        router=options["router"],
        router_id=_router_id(options["router_id"], interfaces, addresses, variable, router_id),
        authentication=options["authentication"],
        key_id=options["key_id"],
        hello=options["hello_interval"],
        dead=options["dead_interval"],
        bfd=options["bfd"],
        bfd_interval=options["bfd_interval"],
        bfd_multiplier=options["bfd_multiplier"],
        restart=options["graceful_restart"],
    )
    _reach(wanted, variable)
    return wanted


def _unique(variable: str, values: t.Sequence[t.Any]) -> None:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise OspfError(f"{variable}: {value} is listed twice; keep one of the two")


def _service_address(variable: str, text: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise OspfError(f"{variable}: {text!r} is no address; give IPv4 or IPv6 addresses without a length, such as 192.0.2.10") from None
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
        raise OspfError(f"{variable}: {text} leads nowhere; give an address that the clients' routers can route")
    return address


def _off_the_links(variable: str, service: Address, addresses: Addresses) -> None:
    """Who thinks it is on the own link asks for it by ARP, and nobody answers."""
    for name, own in addresses.items():
        for address in own:
            if name != "lo" and address.version == service.version and service in address.network:
                raise OspfError(f"{variable}: {service} is in {address.network}, the network of {name}; take one that is in no network of a link")


def _interface(variable: str, spec: t.Mapping[str, t.Any], router: bool, addresses: Addresses) -> Interface:
    name = spec["name"]
    here = f"{variable}: {name}"
    if not NAME.match(name):
        raise OspfError(f"{variable}: {name!r} is no name of an interface; give one as `ip link` shows it, such as eth0")
    if name not in addresses:
        raise OspfError(f"{here} does not exist here; there are {', '.join(sorted(set(addresses) - {'lo'}))}")
    if name == "lo":
        raise OspfError(f"{here} is looked after by the service addresses; name links only")
    own = addresses[name]
    neighbours = tuple(_neighbour(here, text, own) for text in spec.get("neighbours") or [])
    cost, priority = spec.get("cost"), spec.get("priority")
    for what, value, least, most in (("cost", cost, 1, 65535), ("priority", priority, 0, 255)):
        if value is not None and not least <= value <= most:
            raise OspfError(f"{here}: {what} is {value}; allowed is {least} to {most}")
    families = tuple(family for family in (4, 6) if any(address.version == family for address in own))
    if 4 not in families and not any(neighbour.version == 6 for neighbour in neighbours):
        raise OspfError(f"{here} has no IPv4 address; give it one, or IPv6 neighbours such as fe80::/10")
    return Interface(
        name=name,
        area=_area(here, spec.get("area") or "0.0.0.0"),
        cost=cost,
        network=spec.get("network") or NETWORKS[0],
        priority=priority if priority is not None else ROUTER_PRIORITY if router else HOST_PRIORITY,
        neighbours=neighbours,
        families=families,
    )


def _area(here: str, text: str) -> str:
    """Areas as FRR writes them: four numbers with dots."""
    try:
        return str(ipaddress.IPv4Address(int(text) if text.isdigit() else text))
    except ValueError:
        raise OspfError(f"{here}: area {text!r} is none; give a number from 0 to 4294967295, or four with dots such as 0.0.0.1") from None


def _neighbour(here: str, text: str, own: t.Sequence[t.Any]) -> Network:
    try:
        neighbour = ipaddress.ip_network(text)
    except ValueError as exc:
        if "host bits" in str(exc):
            raise OspfError(f"{here}: neighbour {text} has bits beyond its length; allowed is {ipaddress.ip_interface(text).network}") from None
        raise OspfError(f"{here}: neighbour {text!r} is no address; give one such as 192.0.2.1, or fe80::/10 for those of IPv6") from None
    if neighbour.version == 6:
        if not neighbour.subnet_of(LINK_LOCAL):
            raise OspfError(f"{here}: neighbour {text} is not link-local, and OSPFv3 speaks from link-local addresses only; give one, or fe80::/10")
        return neighbour
    networks = [address.network for address in own if address.version == 4]
    if not any(neighbour.subnet_of(network) for network in networks):
        where = ", ".join(map(str, networks)) or "without an IPv4 address"
        raise OspfError(f"{here}: neighbour {text} is outside its subnet ({where}); correct the address, or the interface")
    if any(address.ip in neighbour and neighbour.num_addresses == 1 for address in own if address.version == 4):
        raise OspfError(f"{here}: neighbour {text} is this host itself; list the others of the link only")
    return neighbour


def _accepted(variable: str, text: str) -> Accepted:
    match = ACCEPT.match(text)
    try:
        prefix = ipaddress.ip_network(match["prefix"] if match else text)
    except ValueError:
        raise OspfError(
            f"{variable}: {text!r} is no prefix; give an IPv4 or IPv6 network such as 198.51.100.0/24, or 198.51.100.0/22 le 24 for its parts too"
        ) from None
    le = int(match["le"]) if match and match["le"] else None
    if le is not None and not prefix.prefixlen < le <= prefix.max_prefixlen:
        raise OspfError(f"{variable}: {text}: allowed after le is {prefix.prefixlen + 1} to {prefix.max_prefixlen}")
    return Accepted(prefix, le)


def _timers(options: t.Mapping[str, t.Any], variable: t.Callable[[str], str]) -> None:
    for option, least, most in (
        ("hello_interval", 1, 65535),
        ("dead_interval", 1, 65535),
        ("bfd_interval", 10, 60000),
        ("bfd_multiplier", 2, 255),
        ("graceful_restart", 0, 1800),
        ("key_id", 1, 255),
    ):
        if not least <= options[option] <= most:
            raise OspfError(f"{variable(option)} is {options[option]}; allowed is {least} to {most}")
    if options["dead_interval"] < 2 * options["hello_interval"]:
        raise OspfError(
            f"{variable('dead_interval')} is {options['dead_interval']}, less than twice {variable('hello_interval')} ({options['hello_interval']});"
            " one lost packet would end the neighbourhood, take four times"
        )


def _key(options: t.Mapping[str, t.Any], variable: t.Callable[[str], str]) -> None:
    """Its value is nobody's business, so no message holds it."""
    authentication, key = options["authentication"], options["key"] or ""
    if authentication == "none" or not key:
        return
    longest = KEY_LENGTHS[authentication]
    if len(key) > longest:
        raise OspfError(
            f"{variable('key')} is {len(key)} characters long; FRR takes {longest} at most with {authentication}, shorten it on all hosts of the link"
        )
    if not KEY.match(key) or key[0] in "!#" or "?" in key:
        raise OspfError(
            f"{variable('key')} holds a blank, a ?, or something else that FRR cannot read, or starts with ! or #; take letters and digits"
        )


def _router_id(text: str, interfaces: t.Sequence[Interface], addresses: Addresses, variable: t.Callable[[str], str], current: str) -> str:
    """A given router-id, else the current one while it is an address of these interfaces, else their lowest address.

    A change ends every adjacency, so it follows neither the order of interfaces nor that of addresses.
    """
    if text:
        try:
            given = ipaddress.IPv4Address(text)
        except ValueError:
            given = None
        if given is None:
            raise OspfError(f"{variable('router_id')}: {text!r} is none; give four numbers with dots, such as 192.0.2.1")
        if given.is_unspecified:
            raise OspfError(f"{variable('router_id')}: {text} stands for no router; give another, such as an address of this host, or leave it empty")
        return str(given)
    speaking = [interface for interface in interfaces if interface.neighbours]
    for some in (speaking, interfaces):
        found = [address for interface in some for address in addresses[interface.name] if address.version == 4]
        if any(str(address.ip) == current for address in found):
            return current
        if found:
            # An address that a failover moves from host to host is a /32 as a rule, and would be the router-id of two hosts.
            return str(min(found, key=lambda one: (one.ip.is_link_local, one.network.prefixlen == 32 and one.ip in one.network, one.ip)).ip)
    if not interfaces:
        return ""
    raise OspfError(f"{variable('router_id')}: none is given, and no interface of {variable('interfaces')} has an IPv4 address to take; give one")


def _reach(wanted: Wanted, variable: t.Callable[[str], str]) -> None:
    """A service address that no neighbour could be told of."""
    for service in wanted.service_addresses if wanted.interfaces else ():
        if not wanted.speaks(service.version):
            example = "fe80::/10" if service.version == 6 else "192.0.2.1"
            raise OspfError(
                f"{variable('service_addresses')}: {service} is IPv{service.version}, and {variable('interfaces')} has no neighbour of IPv{service.version};"
                f" add one, such as {example}, or remove the address"
            )
