# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packet goes into which class: an nftables table of its own. Pure.

HTB takes the packet's priority for a class when it has the form of one, so no
tc filter is needed, and IPv4 and IPv6 are told apart by nft alone.
"""

from __future__ import annotations

import typing as t

from .model import ShapingError, TrafficClass, parse_addresses, parse_ports


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
        if match.dscp:
            marks = braces(match.dscp)
            families = ("ip", "ip6")
            parts = [f"{part}{family} dscp {marks} " for part in parts for family in families if not part or part.startswith(family + " ")]
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
