# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted: rates, classes, and the tree of one interface or of its stand-in for what comes in. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import typing as t

UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12}
DSCP = {"cs%d" % i: 8 * i for i in range(8)}
DSCP.update({"af%d%d" % (i, j): 8 * i + 2 * j for i in range(1, 5) for j in range(1, 4)})
DSCP["ef"] = 46

# Leaves in the order in which they are preferred, with their options. The
# last has no fairness between flows, so its queue is kept short. An option
# without a value is a word of its own.
LEAVES = {"cake": (("besteffort", ""),), "fq_codel": (), "sfq": (("perturb", "10"),), "pfifo": (("limit", "100"),)}
# What can shape, in the same order. cake alone keeps no guarantees, only an
# order by DSCP: it stands in where there is no HTB.
SHAPERS = tuple("htb+" + leaf for leaf in LEAVES) + ("cake",)

ROOT = "1:"
LINK = "1:1"
R2Q = 10
# Preference of the one filter that sends what comes in to its stand-in. Those of others, which mostly count from 1 or 49152, go on.
REDIRECT_PREF = 49000

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,30}$")
_RATE = re.compile(r"^(\d+(?:\.\d+)?) ?(%|[kmgt]?bit)(?:/s|ps)?$")
_PORTS = re.compile(r"^(\d{1,5})(?:-(\d{1,5}))?$")
_USER = re.compile(r"^([a-z_][a-z0-9_-]{0,31}|\d{1,10})$")
_INTERFACE = re.compile(r"^[A-Za-z0-9_.@-]{1,15}$")


class ShapingError(Exception):
    """A wish that cannot be had; the message names variable, value, what is allowed and the cure."""


class Match(t.NamedTuple):
    """Packets of a class; what is empty matches all."""

    protocol: str
    ports: tuple  # of '443' and '8000-8010', this host's or the peer's
    addresses: tuple  # of the peer
    dscp: tuple  # as the application marked them
    users: tuple = ()  # whose processes sent them


class TrafficClass(t.NamedTuple):
    name: str
    minor: str  # '10', of classid 1:10
    guarantee: str
    ceil: str
    priority: int
    default: bool
    dscp: str
    matches: tuple

    @property
    def classid(self) -> str:
        return ROOT + self.minor


class HtbClass(t.NamedTuple):
    """A class as the kernel keeps it. Bits and bytes; only leaves have priority and quantum."""

    classid: str
    parent: str
    rate: int
    ceil: int
    burst: int
    cburst: int
    prio: int | None
    quantum: int | None
    overhead: int = 0
    mpu: int = 0


class Leaf(t.NamedTuple):
    """The queue below a class."""

    parent: str
    handle: str
    kind: str
    options: tuple  # of (name, value)


class Filter(t.NamedTuple):
    """A u32 filter in the form in which the kernel shows it."""

    pref: int
    protocol: str  # ip, ipv6 or all
    keys: tuple  # of (offset, value, mask), 32 bits each
    target: str  # a classid, or the device to which packets are sent


class Tree(t.NamedTuple):
    """All that one interface is to have."""

    device: str
    default: str  # minor of the default class
    classes: tuple
    leaves: tuple
    names: dict  # classid -> name of the traffic class
    filters: tuple = ()  # of its own root
    kind: str = "htb"
    options: tuple = ()  # of a root that is cake, as leaves have them


class Link(t.NamedTuple):
    """An interface and its rates in bits per second; none for what comes in leaves that alone."""

    device: str
    rate: int
    ingress: int = 0
    overhead: int = 0
    mpu: int = 0

    @property
    def ifb(self) -> str:
        return ifb_name(self.device)


def ifb_name(device: str) -> str:
    """Of the stand-in behind which what comes in waits; 15 characters are all that a name may have."""
    name = "ifb-" + device
    return name if len(name) <= 15 else "ifb-" + device[:3] + hashlib.sha256(device.encode()).hexdigest()[:8]


def unit_name(device: str) -> str:
    """As in sys-subsystem-net-devices-NAME.device: what systemd-escape makes of it."""
    return "".join(
        char if char.isascii() and (char.isalnum() or char in ":_" or char == "." and index) else f"\\x{ord(char):02x}"
        for index, char in enumerate(device)
    )


def parse_rate(variable: str, text: str, link: int | None = None) -> int:
    """'100mbit' or, of a known link, '40%' -> bits per second."""
    match = _RATE.match(str(text).strip().lower())
    if not match or (match.group(2) == "%" and link is None):
        percent = ", or percent of the link such as 40%" if link is not None else ""
        raise ShapingError(f"{variable}: {text} is no rate; give a number and bit, kbit, mbit or gbit, such as 100mbit{percent}")
    number, unit = float(match.group(1)), match.group(2)
    bits = int(number * link / 100) if unit == "%" and link is not None else int(number * UNITS.get(unit, 0))
    if bits < 1000:
        raise ShapingError(f"{variable}: {text} is too little; the least that can be shaped is 1kbit")
    return bits


def format_rate(bits: int) -> str:
    """100000000 -> '100mbit', without loss."""
    for unit, factor in reversed(list(UNITS.items())):
        if bits % factor == 0 and bits >= factor:
            return f"{bits // factor}{unit}"
    return f"{bits}bit"


def burst(rate: int) -> int:
    """Bytes that may leave at once: what the rate carries in four milliseconds, two packets at least.

    A busy host comes late by milliseconds; what it could not make up for would be missing from the rate.
    """
    return max(rate // 2000, 3028)


def quantum(rate: int) -> int:
    """Bytes that a class borrows in its turn: one packet at least, and no more than the kernel likes."""
    return min(max(rate // 8000, 1514), 60000)


def parse_ports(variable: str, ports: t.Iterable) -> tuple:
    parsed = []
    for port in ports:
        match = _PORTS.match(str(port))
        low, high = (int(match.group(1)), int(match.group(2) or match.group(1))) if match else (0, 0)
        if not 1 <= low <= 65535 or not 1 <= high <= 65535:
            raise ShapingError(f"{variable}: port {port} is not allowed; give a port from 1 to 65535, or a range such as 8000-8010")
        if low > high:
            raise ShapingError(f"{variable}: the range {port} is reversed; write the lower port first, {high}-{low}")
        parsed.append(str(port))
    return tuple(parsed)


def parse_addresses(variable: str, addresses: t.Iterable[str]) -> tuple:
    parsed = []
    for address in addresses:
        try:
            network = ipaddress.ip_network(address, strict=False)
        except ValueError as exc:
            raise ShapingError(
                f"{variable}: {address} is no address; give IPv4 or IPv6 addresses or networks, such as 192.0.2.0/24 or 2001:db8::7"
            ) from exc
        parsed.append(str(network.network_address) if network.num_addresses == 1 else str(network))
    return tuple(parsed)


def parse_dscp(variable: str, values: t.Iterable) -> tuple:
    parsed = []
    for value in values:
        text = str(value).lower()
        if text not in DSCP and not (text.isdigit() and int(text) < 64):
            raise ShapingError(f"{variable}: {value} is no DSCP; give a name such as af31, cs1 or ef, or a number from 0 to 63")
        parsed.append(text)
    return tuple(parsed)


def parse_users(variable: str, values: t.Iterable) -> tuple:
    for value in values:
        if not _USER.match(str(value)):
            raise ShapingError(f"{variable}: {value} is no user; give the name of an account of this host, such as postgres, or its number")
    return tuple(str(value) for value in values)


def parse_size(variable: str, value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise ShapingError(f"{variable}: {value} is not allowed; give 0 to {most} bytes")
    return value


def parse_match(variable: str, spec: dict) -> Match:
    match = Match(
        protocol=spec.get("protocol") or "tcp",
        ports=parse_ports(f"{variable}: ports", spec.get("ports") or []),
        addresses=parse_addresses(f"{variable}: addresses", spec.get("addresses") or []),
        dscp=parse_dscp(f"{variable}: dscp", spec.get("dscp") or []),
        users=parse_users(f"{variable}: users", spec.get("users") or []),
    )
    if not (match.ports or match.addresses or match.dscp or match.users):
        raise ShapingError(f"{variable}: matches has an empty entry; give it ports, addresses, dscp or users, or remove it")
    return match


def parse_classes(variable: str, specs: t.Sequence[dict]) -> tuple:
    """Check the declared classes, as far as that needs no link."""
    seen: dict[str, int] = {}
    classes = []
    for index, spec in enumerate(specs):
        name = str(spec["name"])
        here = f"{variable}: {name}"
        if not _NAME.match(name):
            raise ShapingError(f"{here}: this name is not allowed; use 1 to 31 lower-case letters, digits and _, a letter first")
        if name in seen:
            raise ShapingError(f"{here}: the class is defined twice; allowed is one class a name, so join the two or rename one")
        seen[name] = index
        priority = spec.get("priority", 3)
        if not 0 <= priority <= 7:
            raise ShapingError(f"{here}: priority {priority} is not allowed; give 0 (first to borrow) to 7 (last)")
        mark = parse_dscp(f"{here}: dscp", [spec["dscp"]] if spec.get("dscp") else [])
        classes.append(
            TrafficClass(
                name=name,
                minor=str(10 * (index + 1)),
                guarantee=str(spec["guarantee"]),
                ceil=str(spec.get("ceil") or "100%"),
                priority=priority,
                default=bool(spec.get("default")),
                dscp=mark[0] if mark else "",
                matches=tuple(parse_match(here, match) for match in spec.get("matches") or []),
            )
        )
    if len(classes) > 99:
        raise ShapingError(f"{variable}: {len(classes)} classes are too many; give up to 99")
    defaults = [cls.name for cls in classes if cls.default]
    if len(defaults) != 1:
        found = f"{len(defaults)} classes are ({', '.join(defaults)})" if defaults else "no class is"
        raise ShapingError(f"{variable}: {found} marked default; mark exactly one with default: true, for all that matches no other")
    check_overlaps(variable, classes)
    return tuple(classes)


def spans(match: Match) -> dict[str, list]:
    """What a match asks for, as ranges that can be compared; nothing of a kind stands for all of it."""
    found: dict[str, list] = {"ports": [], "addresses": [], "dscp": [], "users": []}
    for port in match.ports:
        low, dummy, high = port.partition("-")
        found["ports"].append((match.protocol, int(low), int(high or low)))
    for address in match.addresses:
        network = ipaddress.ip_network(address)
        found["addresses"].append((str(network.version), int(network.network_address), int(network.broadcast_address)))
    for mark in match.dscp:
        number = DSCP.get(mark, -1) if mark in DSCP else int(mark)
        found["dscp"].append(("", number, number))
    found["users"] = [(user, 0, 0) for user in match.users]
    return found


def touches(ones: list, others: list) -> bool:
    if not ones or not others:
        return True
    return any(a[0] == b[0] and a[1] <= b[2] and b[1] <= a[2] for a in ones for b in others)


def covers(ones: list, others: list) -> bool:
    """Whether each of the others lies within one of the ones."""
    if not ones or not others:
        return not ones
    return all(any(a[0] == b[0] and a[1] <= b[1] and b[2] <= a[2] for a in ones) for b in others)


def show(match: Match) -> str:
    parts = [("ports", match.ports), ("addresses", match.addresses), ("dscp", match.dscp), ("users", match.users)]
    return " and ".join(f"{kind} {', '.join(values)}" for kind, values in parts if values)


def check_overlaps(variable: str, classes: t.Sequence[TrafficClass]) -> None:
    """No match may be hidden behind an earlier class, nor two of the same kind cross: nobody could tell where a packet goes.

    An exception that stands before its rule is fine.
    """
    earlier: list[tuple] = []
    for cls in classes:
        for match in cls.matches:
            wanted = spans(match)
            for name, other in earlier:
                taken = spans(other)
                if name == cls.name or not all(touches(taken[kind], wanted[kind]) for kind in wanted):
                    continue
                if all(covers(taken[kind], wanted[kind]) for kind in wanted):
                    raise ShapingError(
                        f"{variable}: {cls.name}: no packet is left for its match ({show(match)}), as {name} comes before it"
                        f" and takes {show(other)}; remove one of the two, or put {cls.name} first"
                    )
                same = all(bool(taken[kind]) == bool(wanted[kind]) for kind in wanted)
                if same and not all(covers(wanted[kind], taken[kind]) for kind in wanted):
                    raise ShapingError(
                        f"{variable}: {name} ({show(other)}) and {cls.name} ({show(match)}) overlap; each packet has one class, so part them"
                    )
            earlier.append((cls.name, match))


def check_reached(variable: str, classes: t.Sequence[TrafficClass], named: t.Iterable[str]) -> None:
    """A class that takes nothing is a mistake; those that services may yet name are not."""
    for cls in classes:
        if not (cls.default or cls.matches or cls.name in named):
            raise ShapingError(
                f"{variable}: {cls.name}: nothing matches this class; give it matches (ports, addresses, dscp or users), make it the default, or remove it"
            )


def parse_interface(variable: str, name: str) -> str:
    if not _INTERFACE.match(name):
        raise ShapingError(f"{variable}: {name!r} is no name of an interface; give one that `ip link` shows, such as eth0")
    return name


def build_tree(
    variable: str, link: Link, classes: t.Sequence[TrafficClass], shaper: str, filters: t.Sequence[Filter] = (), ingress: bool = False
) -> Tree:
    """The tree of one interface, or of its stand-in for what comes in: the link, the classes below it, a queue each."""
    device, total_rate = (link.ifb, link.ingress) if ingress else (link.device, link.rate)
    about = f"{format_rate(total_rate)}{' that come in' if ingress else ''}"
    leaf = shaper.partition("+")[2]
    framing = (link.overhead, link.mpu)
    htb = [HtbClass(LINK, ROOT, total_rate, total_rate, burst(total_rate), burst(total_rate), None, None, *framing)]
    leaves = []
    total = 0
    for cls in classes:
        here = f"{variable}: {cls.name}"
        rate = parse_rate(f"{here}: guarantee", cls.guarantee, total_rate)
        ceil = parse_rate(f"{here}: ceil", cls.ceil, total_rate)
        if rate > total_rate:
            raise ShapingError(f"{here}: guarantee {cls.guarantee} is above the {about} of {link.device}; lower it, or give percent")
        if ceil > total_rate:
            raise ShapingError(f"{here}: ceil {cls.ceil} is above the {about} of {link.device}; give 100% at most")
        if ceil < rate:
            raise ShapingError(f"{here}: ceil {cls.ceil} is below guarantee {cls.guarantee}; raise ceil, or lower guarantee")
        total += rate
        htb.append(HtbClass(cls.classid, LINK, rate, ceil, burst(rate), burst(ceil), cls.priority, quantum(rate), *framing))
        if leaf:
            leaves.append(Leaf(cls.classid, cls.minor + ":", leaf, LEAVES[leaf]))
    if total > total_rate:
        raise ShapingError(f"{variable}: the guarantees add up to {format_rate(total)}, more than the {about} of {link.device}; lower some of them")
    default = next(cls.minor for cls in classes if cls.default)
    names = {cls.classid: cls.name for cls in classes}
    if shaper == "cake":
        options = [("bandwidth", f"{total_rate}bit"), ("diffserv4", ""), ("overhead", str(link.overhead)), ("mpu", str(link.mpu))]
        return Tree(device, "", (), (), names, (), "cake", tuple(options + ([("ingress", "")] if ingress else [])))
    return Tree(device, default, tuple(htb), tuple(leaves), names, tuple(filters))
