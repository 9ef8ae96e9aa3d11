# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packet goes into which class: an nftables table for what goes out, u32 filters for what comes in. Pure.

HTB takes the packet's priority for a class when it has the form of one, so no
tc filter is needed, and IPv4 and IPv6 are told apart by nft alone. What comes
in waits in its stand-in before nft sees it; there the kernel has u32.
"""

from __future__ import annotations

import ipaddress
import typing as t

from .model import DSCP, Filter, Link, Match, REDIRECT_PREF, ShapingError, TrafficClass, parse_addresses, parse_ports


class Service(t.NamedTuple):
    """A service of the platform and the class of its traffic."""

    name: str
    protocol: str
    ports: tuple
    traffic_class: str
    served: bool  # this host listens
    addresses: tuple  # of the hosts that it uses the service of


def parse_services(variable: str, classes_variable: str, specs: t.Iterable[dict], classes: t.Sequence[TrafficClass]) -> tuple:
    names = [cls.name for cls in classes]
    services = []
    for spec in specs:
        here = f"{variable}: {spec['name']}"
        if spec["traffic_class"] not in names:
            raise ShapingError(
                f"{classes_variable}: there is no class {spec['traffic_class']}, which the service {spec['name']} names;"
                f" there are {', '.join(names)}, so add {spec['traffic_class']}"
            )
        services.append(
            Service(
                spec["name"],
                spec.get("protocol") or "tcp",
                parse_ports(f"{here}: ports", spec["ports"]),
                spec["traffic_class"],
                bool(spec.get("served", True)),
                parse_addresses(f"{here}: addresses", spec.get("addresses") or []),
            )
        )
    return tuple(services)


def by_family(addresses: t.Iterable[str]) -> list[tuple[str, list[str]]]:
    """[('ip', [...]), ('ip6', [...])], without an empty one."""
    listed = list(addresses)
    families = (("ip", [a for a in listed if ":" not in a]), ("ip6", [a for a in listed if ":" in a]))
    return [(family, found) for family, found in families if found]


def braces(values: t.Iterable[str]) -> str:
    return "{ " + ", ".join(values) + " }"


def match_rules(cls: TrafficClass) -> list[str]:
    """What the class itself declares."""
    rules = []
    for match in cls.matches:
        parts = [f"{family} daddr {braces(found)} " for family, found in by_family(match.addresses)] or [""]
        if match.users:
            # In quotes, as nft shows them.
            users = braces(user if user.isdigit() else f'"{user}"' for user in match.users)
            parts = [f"{part}meta skuid {users} " for part in parts]
        if match.dscp:
            marks = braces(match.dscp)
            families = ("ip", "ip6")
            parts = [f"{part}{family} dscp {marks} " for part in parts for family in families if not match.addresses or part.startswith(family + " ")]
        if match.ports:
            ports = braces(match.ports)
            parts = [f"{part}{match.protocol} {side} {ports} " for part in parts for side in ("sport", "dport")]
        rules += [f"{part}goto class_{cls.name}" for part in parts]
    return rules


def service_rules(service: Service) -> list[str]:
    """Answers of what is served here, and requests to the peers that serve it."""
    ports = braces(service.ports)
    rules = []
    if service.served:
        rules.append(f"{service.protocol} sport {ports} goto class_{service.traffic_class}")
    for family, found in by_family(service.addresses):
        rules.append(f"{family} daddr {braces(found)} {service.protocol} dport {ports} goto class_{service.traffic_class}")
    return rules


def ruleset(table: str, devices: t.Iterable[str], classes: t.Sequence[TrafficClass], services: t.Iterable[Service]) -> str:
    """The whole table, loadable over one that is there."""
    rules = [rule for cls in classes for rule in match_rules(cls)]
    rules += [rule for service in services for rule in service_rules(service)]
    default = next(cls.name for cls in classes if cls.default)
    lines = [f"table {table}", f"delete table {table}", "", f"table {table} {{", "\tchain classify {"]
    lines += ["\t\ttype filter hook postrouting priority mangle; policy accept;"]
    names = ", ".join(f'"{device}"' for device in devices)
    lines += [f"\t\toifname != {{ {names} }} return"]
    lines += ["\t\t" + rule for rule in rules] + [f"\t\tgoto class_{default}", "\t}"]
    for cls in classes:
        lines += ["", f"\tchain class_{cls.name} {{"]
        lines += [f"\t\tip dscp set {cls.dscp}", f"\t\tip6 dscp set {cls.dscp}"] if cls.dscp else []
        lines += [f"\t\tmeta priority set {cls.classid} counter", "\t}"]
    return "\n".join(lines + ["}", ""])


# --- what comes in ---

_PROTOCOLS = {"tcp": 6, "udp": 17}


def masks(low: int, high: int) -> list[tuple[int, int]]:
    """The ports of a range as (value, mask): each mask is a block of a power of two."""
    found = []
    while low <= high:
        size = low & -low or 1 << 16
        while size > high - low + 1:
            size >>= 1
        found.append((low, 0xFFFF ^ (size - 1)))
        low += size
    return found


def port_masks(ports: t.Iterable[str]) -> list[tuple[int, int]]:
    found = []
    for port in ports:
        low, dummy, high = port.partition("-")
        found += masks(int(low), int(high or low))
    return found


def keys(*parts: tuple) -> tuple:
    """(offset, value, mask) each, those of one offset joined, as the kernel keeps them."""
    joined: dict[int, tuple[int, int]] = {}
    for offset, value, mask in parts:
        old = joined.get(offset, (0, 0))
        joined[offset] = (old[0] | value, old[1] | mask)
    return tuple((offset, *joined[offset]) for offset in sorted(joined))


def dscp_key(protocol: str, mark: str) -> tuple:
    number = DSCP[mark] if mark in DSCP else int(mark)
    return (0, number << 18, 0x3F << 18) if protocol == "ip" else (0, number << 22, 0x3F << 22)


def source_keys(address: str) -> list[tuple]:
    network = ipaddress.ip_network(address)
    value, mask = int(network.network_address), int(network.netmask)
    if network.version == 4:
        return [(12, value, mask)]
    words = [(8 + 4 * index, value >> shift & 0xFFFFFFFF, mask >> shift & 0xFFFFFFFF) for index, shift in enumerate((96, 64, 32, 0))]
    return [word for word in words if word[2]]


def port_keys(protocol: str, transport: str, value: int, mask: int, own: bool) -> list[tuple]:
    """A port behind a header without options; only the first fragment of a packet has ports."""
    shift = 0 if own else 16
    ports = (20 if protocol == "ip" else 40, value << shift, mask << shift)
    if protocol == "ip":
        return [(0, 0x05000000, 0x0F000000), (4, 0, 0x1FFF), (8, _PROTOCOLS[transport] << 16, 0xFF << 16), ports]
    return [(4, _PROTOCOLS[transport] << 8, 0xFF << 8), ports]


def incoming(match: Match, sides: t.Sequence[bool]) -> list[tuple[str, tuple]]:
    """(protocol, keys) of each filter for packets that come in; a side is True for this host's port, False for the peer's."""
    found = []
    for protocol, version in (("ip", 4), ("ipv6", 6)):
        addresses = [address for address in match.addresses if (":" in address) == (version == 6)]
        if match.addresses and not addresses:
            continue
        for address in addresses or [""]:
            for mark in match.dscp or [""]:
                base = source_keys(address) if address else []
                base = base + [dscp_key(protocol, mark)] if mark else base
                if not match.ports:
                    found.append((protocol, keys(*base)))
                for own in sides if match.ports else ():
                    for value, mask in port_masks(match.ports):
                        found.append((protocol, keys(*base, *port_keys(protocol, match.protocol, value, mask, own))))
    return found


def filters(classes: t.Sequence[TrafficClass], services: t.Iterable[Service]) -> tuple:
    """The filters of a stand-in, first come first served: matches, services, and last the marks that peers have set."""
    ids = {cls.name: cls.classid for cls in classes}
    found = []
    for cls in classes:
        for match in cls.matches:
            # Nobody knows whose process a packet will reach.
            if not match.users:
                found += [(cls.classid, *one) for one in incoming(match, (True, False))]
    for service in services:
        target = ids[service.traffic_class]
        if service.served:
            found += [(target, *one) for one in incoming(Match(service.protocol, service.ports, (), ()), (True,))]
        if service.addresses:
            found += [(target, *one) for one in incoming(Match(service.protocol, service.ports, service.addresses, ()), (False,))]
    for cls in classes:
        if cls.dscp:
            found += [(cls.classid, *one) for one in incoming(Match("tcp", (), (), (cls.dscp,)), ())]
    if len(found) > 1000:
        raise ShapingError(
            f"classes: what comes in would need {len(found)} filters, more than 1000; give fewer addresses and ports, or networks and ranges"
        )
    seen: dict[tuple, str] = {}
    for target, protocol, words in found:
        seen.setdefault((protocol, words), target)
    return tuple(Filter(10 + index, protocol, words, target) for index, ((protocol, words), target) in enumerate(seen.items()))


def redirect(link: Link) -> Filter:
    """Sends all that comes in to the stand-in."""
    return Filter(REDIRECT_PREF, "all", ((0, 0, 0),), link.ifb)
