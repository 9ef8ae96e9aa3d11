# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host lets in and out: the role's variables, checked and written as an nftables ruleset. Pure.

``given`` holds the variables of roles/firewall without their prefix, and what
the role knows of the platform: ``platform_services``, ``groups`` (hosts by
group), ``my_groups``, ``addresses`` (by host), ``host``, ``ssh_port`` and
``over_ssh``, ``neighbours`` of the routing, the ``service_addresses`` that a
router leads to, and ``table``.

Sets are named with dots, which no name of a service or zone may hold.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
RATE = re.compile(r"[1-9][0-9]{0,6}/(second|minute|hour|day)")
DURATION = re.compile(r"[1-9][0-9]{0,5}[smhd]")
PORT = re.compile(r"0|[1-9][0-9]{0,4}")
INTERFACE = re.compile(r"[A-Za-z0-9_.@:-]{1,15}")
FAMILIES = (("ipv4", "ip", "ip saddr"), ("ipv6", "ip6", "ip6 saddr & ffff:ffff:ffff:ffff::"))
# How long a source is remembered that has tried: no bucket needs longer to be full again.
MEMORY = {"second": "1m", "minute": "5m", "hour": "2h", "day": "2d"}
# By number, since a bare host knows no names.
WITHOUT_PORTS = {"ah": 51, "esp": 50, "gre": 47, "vrrp": 112}
# BFD on a link; the hop limit proves that nobody has forwarded it.
BFD = "udp dport { 3784, 3785 }"


class Sources(t.NamedTuple):
    """Who is on the other end, resolved to addresses and zones."""

    anyone: bool
    ipv4: tuple
    ipv6: tuple
    zones: tuple


def parsed(text: t.Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address or network. The kernel sees IPv4 where a program writes ::ffff:192.0.2.1."""
    found = ipaddress.ip_network(str(text), strict=False)
    mapped = found.network_address.ipv4_mapped if found.version == 6 else None
    return ipaddress.ip_network((mapped, found.prefixlen - 96), strict=False) if mapped and found.prefixlen >= 96 else found


def network(text: t.Any) -> str | None:
    """As nft lists it, or None where it is no address or network."""
    try:
        found = parsed(text)
    except ValueError:
        return None
    if "%" in str(text):
        return None
    return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)


def truth(value: t.Any) -> bool:
    """Inventories hold text where a yes or no is meant."""
    return str(value).lower() in ("true", "yes", "on", "1")


def by_family(addresses: t.Iterable[str]) -> tuple[tuple, tuple]:
    """IPv4 and IPv6, each sorted and once."""
    found: dict[int, set] = {4: set(), 6: set()}
    for text in addresses:
        one = parsed(text)
        found[one.version].add(one)
    return tuple(tuple(network(one) for one in sorted(found[version])) for version in (4, 6))


# Complaints: each is one line with the variable, the value, what is allowed, and the cure.


def complaints(given: dict) -> list[str]:
    found = list(zone_complaints(given))
    found += entry_complaints(given, "firewall_services", given["services"], "sources")
    found += rate_complaints(given)
    found += entry_complaints(given, "firewall_egress", given["egress"], "destinations")
    found += setting_complaints(given)
    return found + list(peer_complaints(given)) + list(lockout_complaints(given)) + list(sshd_complaints(given))


def twice(variable: str, entries: t.Sequence[dict], what: str) -> t.Iterator[str]:
    names = [entry["name"] for entry in entries]
    for name in dict.fromkeys(names):
        if not NAME.fullmatch(name):
            yield f"{variable}: {name}: this name is not allowed; use 1 to 32 lower-case letters, digits, _ and -, a letter first"
        if names.count(name) > 1:
            yield f"{variable}: {name}: the name is defined twice; allowed is one {what} a name, so join the two or rename one"


def zone_complaints(given: dict) -> t.Iterator[str]:
    yield from twice("firewall_zones", given["zones"], "zone")
    for zone in given["zones"]:
        here = f"firewall_zones: {zone['name']}: "
        if zone["name"] in given["groups"] or zone["name"] == "any":
            yield f"{here}this is the name of a group of the inventory already; give the zone another"
        if not zone.get("addresses") and not zone.get("interfaces"):
            yield f"{here}it has neither addresses nor interfaces; list some, or remove the zone"
        for text in zone.get("addresses") or []:
            if network(text) is None:
                yield f"{here}{text} is no address or network; give IPv4 or IPv6, such as 192.0.2.0/24 or 2001:db8::/32"
        yield from interface_complaints(given, here + "interfaces", zone.get("interfaces") or [])
        if truth(zone.get("interfaces_later")) and not zone.get("interfaces"):
            yield f"{here}interfaces_later is for interfaces, and it has none; list them, or take it out"


def interface_complaints(given: dict, here: str, names: t.Iterable[str]) -> t.Iterator[str]:
    there = given.get("interfaces")
    later = {name for zone in given["zones"] if truth(zone.get("interfaces_later")) for name in zone.get("interfaces") or []}
    for name in names:
        if not INTERFACE.fullmatch(name):
            yield f"{here}: {name!r} is no name of an interface; give one as `ip link` shows it"
        elif there and name not in there and name not in later:
            yield (
                f"{here}: there is no interface {name} on {given['host']}; there are {', '.join(sorted(there))};"
                " correct it, or set interfaces_later for a zone of interfaces that come later"
            )


def entry_complaints(given: dict, variable: str, entries: t.Sequence[dict], other_end: str) -> t.Iterator[str]:
    yield from twice(variable, entries, "service")
    zones = [zone["name"] for zone in given["zones"]]
    known = ", ".join(sorted(set(given["groups"]) - {"all", "ungrouped"} | set(zones)))
    for entry in entries:
        here = f"{variable}: {entry['name']}: "
        ports = entry.get("ports") or []
        if entry.get("protocol") in WITHOUT_PORTS:
            if ports or entry.get("rate_limit"):
                what = "ports" if ports else "rate_limit"
                yield f"{here}{what} is given, and protocol {entry['protocol']} has no ports; take {what} out, or give tcp or udp"
                continue
        elif not ports:
            yield f"{here}ports is empty; list at least one port, such as [8080]"
        for port in map(str, ports):
            ends = port.split("-")
            if len(ends) > 2 or not all(PORT.fullmatch(end) and 1 <= int(end) <= 65535 for end in ends):
                yield f"{here}port {port} is not allowed; give a port from 1 to 65535, or a range such as 8000-8010"
            elif int(ends[0]) > int(ends[-1]):
                yield f"{here}the range {port} is reversed; write the lower port first, {ends[-1]}-{ends[0]}"
        sources = entry.get(other_end, ["any"])
        if not sources:
            yield f"{here}{other_end} is empty; list any, an address, a network, a zone or an inventory group, or remove the service"
        for source in entry.get("excluded_sources") or []:
            if source == "any" or source not in given["groups"] and source not in zones and network(source) is None:
                yield f"{here}excluded_sources: {source} is not allowed; give an IPv4 or IPv6 address or network, a zone, or a group ({known})"
        for source in sources:
            if source != "any" and source not in given["groups"] and source not in zones and network(source) is None:
                yield (
                    f"{here}{'source' if other_end == 'sources' else 'destination'} {source} is not allowed;"
                    f" give any, an IPv4 or IPv6 address or network, a zone, or a group of the inventory ({known})"
                )
        if other_end == "destinations":
            for zone in given["zones"]:
                if zone["name"] in sources and not zone.get("addresses"):
                    yield f"{here}the zone {zone['name']} has no addresses to go to; list the destination's"


def rate_complaints(given: dict) -> t.Iterator[str]:
    rates = {name: given[name.removeprefix("firewall_")] for name in ("firewall_ping_rate", "firewall_log_rate", "firewall_ssh_rate_limit")}
    rates.update({f"firewall_services: {service['name']}: rate_limit": service.get("rate_limit") or "" for service in given["services"]})
    for name, rate in rates.items():
        if not RATE.fullmatch(rate) and (rate or not name.endswith("rate_limit")):
            yield f"{name}: {rate} is no rate; give a number and a unit of time, such as 10/minute (second, minute, hour or day)"


def setting_complaints(given: dict) -> t.Iterator[str]:
    for source in given["controllers"]:
        if network(source) is None:
            yield f"firewall_controllers: {source} is no address; give IPv4 or IPv6 addresses or networks, such as 192.0.2.7 or 2001:db8::/64"
    if not 0 <= given["controller_port"] <= 65535:
        yield f"firewall_controller_port: {given['controller_port']} is no port; give 1 to 65535, or 0 for the one that Ansible connects to"
    if not DURATION.fullmatch(given["ban_time"]):
        yield f"firewall_ban_time: {given['ban_time']} is no time; give a number and a unit, such as 10m (s, m, h or d)"
    timeout = given["confirm_timeout"]
    if timeout and not 5 <= timeout <= 3600:
        yield f"firewall_confirm_timeout: {timeout} is not allowed; give 5 to 3600 seconds, or 0 to apply without a way back"
    yield from interface_complaints(given, "firewall_asymmetric_interfaces", given["asymmetric_interfaces"])
    for neighbour in given["neighbours"]:
        for text in neighbour["addresses"]:
            if network(text) is None:
                yield f"crm_platform_routing: neighbour {text} on {neighbour['interface']} is no address; give IPv4 or IPv6 addresses or networks"
        if not INTERFACE.fullmatch(neighbour["interface"]):
            yield f"crm_platform_routing: {neighbour['interface']!r} is no name of an interface; give one as `ip link` shows it"


def peer_complaints(given: dict) -> t.Iterator[str]:
    """A group stands for addresses; those that nobody knows cannot be let in."""
    entries = [*given["platform_services"], *given["services"]] + (given["egress"] if given["egress_policy"] != "accept" else [])
    for entry in entries:
        for group in [*other_end(entry), *(entry.get("excluded_sources") or [])]:
            for host in given["groups"].get(group, []):
                if host != given["host"] and network(given["addresses"].get(host, host)) is None:
                    yield (
                        f"foundation_address: the address of {host} is not known, and service {entry['name']} lets in the group {group};"
                        " set foundation_address for it, or run without --limit"
                    )


def lockout_complaints(given: dict) -> t.Iterator[str]:
    if not given["over_ssh"] or given["controllers"]:
        return
    port = given["ssh_port"]
    opening = openers(given, port)
    if any("any" in other_end(entry) for entry in opening):
        return
    if opening:
        yield (
            f"firewall_controllers: empty, while port {port}, on which Ansible connects, is open to some sources only;"
            " list the addresses that Ansible comes from, so that it cannot be locked out"
        )
    else:
        yield (
            f"firewall_controller_port: {port}/tcp, on which Ansible connects, would be closed; add it to foundation_ssh_ports,"
            " or give the port on which sshd sees the connection where one is translated on the way"
        )


def openers(given: dict, port: int) -> list[dict]:
    """The services that open this TCP port to somebody."""
    return [
        entry
        for entry in [*given["platform_services"], *given["services"]]
        for ends in (str(one).split("-") for one in entry.get("ports") or [] if entry.get("protocol", "tcp") == "tcp")
        if all(end.isdigit() for end in ends) and int(ends[0]) <= port <= int(ends[-1])
    ]


def listening(text: str) -> list[int]:
    """The TCP ports on which sshd can be reached from elsewhere: of `sshd -T`, and of the Listen property of its socket."""
    found = set()
    for address, port in re.findall(r"^(?:listenaddress |Listen=)?(?P<address>\S*?):(?P<port>[0-9]+)(?: \(Stream\))?$", text, re.M):
        if not address.strip("[]").startswith("127.") and address.strip("[]") != "::1":
            found.add(int(port))
    return sorted(found)


def sshd_complaints(given: dict) -> t.Iterator[str]:
    """Also where Ansible comes by another way: people come by ssh."""
    ports = listening(given.get("sshd") or "")
    closed = [port for port in ports if not openers(given, port) and not (given["controllers"] and port == given["ssh_port"])]
    if closed:
        yield (
            f"foundation_ssh_ports: sshd on {given['host']} listens on {', '.join(map(str, closed))}, which the firewall would close;"
            " add the port to foundation_ssh_ports, open it to some sources in firewall_services, or take it out of sshd's configuration"
        )


def other_end(entry: dict) -> list[str]:
    return entry.get("from") or entry.get("sources") or entry.get("destinations") or ["any"]


# The ruleset


def resolve(given: dict, names: t.Iterable[str]) -> Sources:
    zones = {zone["name"] for zone in given["zones"]}
    plain, used = [], []
    for name in names:
        if name in given["groups"]:
            hosts = [host for host in given["groups"][name] if host != given["host"]]
            plain += [given["addresses"].get(host, host) for host in hosts]
        elif name in zones:
            used.append(name)
        elif name != "any":
            plain.append(name)
    return Sources("any" in names, *by_family(plain), tuple(dict.fromkeys(used)))


def carried(entry: dict) -> str:
    """The match of a service's protocol and ports."""
    protocol = entry.get("protocol", "tcp")
    if protocol in WITHOUT_PORTS:
        return f"meta l4proto {WITHOUT_PORTS[protocol]}"
    return f"{protocol} dport {{ {', '.join(dict.fromkeys(map(str, entry['ports'])))} }}"


def quoted(names: t.Iterable[str]) -> str:
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"


def constant_set(name: str, family: str, addresses: t.Iterable[str]) -> list[str]:
    return [
        f"  set {name} {{",
        f"    type {family}_addr",
        "    flags interval",
        "    auto-merge",
        f"    elements = {{ {', '.join(addresses)} }}",
        "  }",
    ]


def dynamic_set(name: str, family: str, timeout: str = "") -> list[str]:
    lines = [f"  set {name} {{", f"    type {family}_addr . inet_proto . inet_service", "    size 65535", "    flags dynamic,timeout"]
    return lines + ([f"    timeout {timeout}"] if timeout else []) + ["  }"]


class Writer:
    """The ruleset of one host, piece by piece."""

    def __init__(self, given: dict) -> None:
        self.given = given
        self.zones = {zone["name"]: zone for zone in given["zones"]}
        self.limited: list[tuple[dict, str]] = []
        self.sets: list[str] = []

    def matches(self, sources: Sources, named: str, side: str = "saddr") -> list[str]:
        """What stands in front of the ports, a rule each; the sets for it are made by the way."""
        if sources.anyone:
            return [""]
        found = []
        for (family, match, dummy), addresses in zip(FAMILIES, (sources.ipv4, sources.ipv6)):
            if addresses:
                self.sets += constant_set(f"{named}.{family}", family, addresses)
                found.append(f"{match} {side} @{named}.{family} ")
        return found + [match for name in sources.zones for match in self.zone_matches(self.zones[name], side)]

    def zone_matches(self, zone: dict, side: str) -> list[str]:
        interfaces = f"iifname {quoted(zone['interfaces'])} " if zone.get("interfaces") and side == "saddr" else ""
        families = [(family, match) for (family, match, dummy), found in zip(FAMILIES, by_family(zone.get("addresses") or [])) if found]
        return [f"{interfaces}{match} {side} @zone.{zone['name']}.{family} " for family, match in families] or [interfaces]

    def zone_sets(self) -> list[str]:
        lines = []
        for zone in self.given["zones"]:
            for (family, dummy, dummy), found in zip(FAMILIES, by_family(zone.get("addresses") or [])):
                lines += constant_set(f"zone.{zone['name']}.{family}", family, found) if found else []
        return lines

    def controllers(self) -> list[str]:
        rules = []
        for (family, match, dummy), found in zip(FAMILIES, by_family(self.given["controllers"])):
            if found:
                self.sets += constant_set(f"controllers.{family}", family, found)
                rules.append(f'{match} saddr @controllers.{family} tcp dport {self.given["ssh_port"]} counter accept comment "controllers"')
        return rules

    def services(self) -> list[str]:
        rules = []
        for service in [*self.given["platform_services"], *self.given["services"]]:
            name = service["name"]
            limit = service.get("rate_limit")
            if limit is None:
                # Also of one that takes the place of the platform's: to open another port is not to open it to all attempts.
                limit = self.given["ssh_rate_limit"] if name == "ssh" else ""
            if limit or truth(service.get("log")):
                self.limited.append((service, limit))
            verdict = f"goto service.{name}" if limit or truth(service.get("log")) else f'counter accept comment "{name}"'
            found = self.matches(resolve(self.given, other_end(service)), f"service.{name}")
            excluded = service.get("excluded_sources") or []
            shut_out = self.matches(resolve(self.given, excluded), f"excluded.{name}") if excluded else []
            rules += [f"{match}{carried(service)} goto refuse_the_rest" for match in shut_out]
            rules += [f"{match}{carried(service)} {verdict}" for match in found] or [f"# {name}: no other host needs it."]
        return rules

    def service_chains(self) -> list[str]:
        lines = []
        for service, limit in self.limited:
            rules = []
            for family, match, source in FAMILIES if limit else ():
                key = f"{source} . meta l4proto . th dport"
                count, unit = limit.split("/")
                rules.append(f'{key} @banned.{family} counter drop comment "{service["name"]}: banned"')
                rules.append(
                    f"update @tries.{family} {{ {key} timeout {MEMORY[unit]} limit rate over {limit} burst {count} packets }}"
                    f" add @banned.{family} {{ {key} }} goto ban"
                )
            if truth(service.get("log")):
                rules.append(f'limit rate {self.given["log_rate"]} log prefix "crm-platform {service["name"]}: " level info')
            lines += chain(f"service.{service['name']}", rules + [f'counter accept comment "{service["name"]}"'])
        return lines

    def neighbours_in(self) -> list[str]:
        """What routing hears from those who may speak it."""
        rules = []
        for neighbour in self.given["neighbours"]:
            for (dummy, match, dummy), hops, found in zip(FAMILIES, ("ip ttl", "ip6 hoplimit"), by_family(neighbour["addresses"])):
                if found:
                    who = f'iifname "{neighbour["interface"]}" {match} saddr {{ {", ".join(found)} }} '
                    rules += [f"{who}meta l4proto 89 accept", f"{who}{BFD} {hops} 255 accept"]
        return rules

    def neighbours_out(self) -> list[str]:
        """What it says there: to them, and to the groups of OSPF."""
        interfaces = quoted(dict.fromkeys(one["interface"] for one in self.given["neighbours"]))
        return [f"oifname {interfaces} meta l4proto 89 accept", f"oifname {interfaces} {BFD} accept"] if self.given["neighbours"] else []

    def antispoofing(self) -> list[str]:
        if self.given["antispoofing"] == "disabled":
            return []
        loose = list(dict.fromkeys([*self.given["asymmetric_interfaces"], *(one["interface"] for one in self.given["neighbours"])]))
        anywhere = 'fib saddr oif missing counter drop comment "spoofed"'
        rules = ["type filter hook prerouting priority raw; policy accept;", "", 'iifname "lo" accept']
        rules += ["# What is forwarded is for others to judge.", "fib daddr type != local accept"]
        if self.given["antispoofing"] == "strict":
            if loose:
                rules += ["# Several ways lead here: any will do.", f"iifname {quoted(loose)} {anywhere}", f"iifname {quoted(loose)} accept"]
            rules += ["# Answers would leave by another interface.", 'fib saddr . iif oif missing counter drop comment "spoofed"']
        else:
            rules.append(anywhere)
        return chain("antispoofing", rules)

    def input(self, controllers: list[str]) -> list[str]:
        rules = ["type filter hook input priority filter; policy drop;", "", 'iifname "lo" accept']
        if self.given["neighbours"]:
            rules += [
                "# Before what is established: who is a neighbour no more is one no more.",
                "meta l4proto 89 goto routing",
                f"{BFD} goto routing",
            ]
        rules += ["ct state vmap { established : accept, related : accept }", 'ct state invalid counter drop comment "invalid"', ""]
        rules += ["# Ansible's way in stays open whatever stands below."] + controllers + [""] if controllers else []
        return chain("input", rules + ["jump let_control_in", "jump let_services_in", "jump refuse_the_rest"])

    def control_in(self) -> list[str]:
        ping = self.given["ping_rate"]
        neighbour = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect"
        listener = "mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report"
        return chain(
            "let_control_in",
            [
                "# Without the errors, path MTU discovery and traceroute fail.",
                "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
                "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept",
                "# Neighbours and routers of this link: a hop limit of 255 proves that they are.",
                f"icmpv6 type {{ {neighbour} }} ip6 hoplimit 255 accept",
                f"ip6 saddr fe80::/10 icmpv6 type {{ {listener} }} accept",
                "# The answer to a DHCPv6 request comes from an address that was not asked.",
                "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
                f'icmp type echo-request limit rate {ping} counter accept comment "ping"',
                f'icmpv6 type echo-request limit rate {ping} counter accept comment "ping"',
            ],
        )

    def log(self, what: str) -> list[str]:
        return [f'limit rate {self.given["log_rate"]} log prefix "crm-platform {what}: " level info'] if self.given["log"] else []

    def refusal(self, policy: str) -> list[str]:
        if policy == "reject":
            return ["meta l4proto tcp counter reject with tcp reset", "counter reject with icmpx type port-unreachable"]
        return ['counter drop comment "refused"']

    def refuse_in(self) -> list[str]:
        noise = ["# The noise of a shared link is neither logged nor answered.", 'meta pkttype { broadcast, multicast } counter drop comment "noise"']
        return chain("refuse_the_rest", noise + self.log("refused") + self.refusal(self.given["policy"]))

    def output(self) -> list[str]:
        """What the host may begin by itself; answers always leave."""
        if self.given["egress_policy"] == "accept":
            return []
        rules = ["type filter hook output priority filter; policy drop;", "", 'oifname "lo" accept']
        rules += [
            "ct state vmap { established : accept, related : accept }",
            "# ICMP, IGMP, ICMPv6: by number, since a bare host knows no names.",
            "meta l4proto { 1, 2, 58 } accept",
        ]
        rules += ["udp sport 68 udp dport 67 accept", "udp sport 546 udp dport 547 accept"] + self.neighbours_out()
        for entry in self.given["egress"] + self.peers():
            found = self.matches(resolve(self.given, entry.get("destinations", ["any"])), f"egress.{entry['name']}", "daddr")
            rules += [f'{match}{carried(entry)} counter accept comment "{entry["name"]}"' for match in found]
        return chain("output", rules + self.log("kept in") + self.refusal(self.given["egress_policy"]))

    def peers(self) -> list[dict]:
        """The services of the platform that this host uses."""
        names = {entry["name"] for entry in self.given["egress"]}
        return [
            {**service, "destinations": [service["group"]]}
            for service in self.given["all_platform_services"]
            if set(service.get("from", [])) & set(self.given["my_groups"]) and service["name"] not in names
        ]

    def forward(self) -> list[str]:
        if self.given["forward"] != "drop":
            return []
        rules = ["type filter hook forward priority filter; policy drop;", "", "ct state vmap { established : accept, related : accept }"]
        # A router is there for these.
        for service in self.given["all_platform_services"]:
            if service["group"] == "crm_app" and "any" in other_end(service):
                ports = ", ".join(dict.fromkeys(map(str, service["ports"])))
                rules += [
                    f'{match} daddr {{ {", ".join(found)} }} {service.get("protocol", "tcp")} dport {{ {ports} }} counter accept comment "{service["name"]}"'
                    for (dummy, match, dummy), found in zip(FAMILIES, by_family(self.given["service_addresses"]))
                    if found
                ]
        return chain("forward", rules + ['counter drop comment "forwarded"'])

    def text(self) -> str:
        controllers, services, output = self.controllers(), self.services(), self.output()
        lines = self.antispoofing() + self.input(controllers)
        if self.given["neighbours"]:
            lines += chain("routing", self.neighbours_in() + ['counter drop comment "no neighbour"'])
        lines += self.control_in() + chain("let_services_in", services) + self.service_chains()
        lines += chain("ban", self.log("banned") + ['counter drop comment "banned"']) + self.refuse_in() + output + self.forward()
        # Kept when the ruleset is replaced; those who tried too often, by source (/64 in IPv6), protocol and port.
        sets = [line for family in ("ipv4", "ipv6") for line in dynamic_set(f"tries.{family}", family)]
        sets += [line for family in ("ipv4", "ipv6") for line in dynamic_set(f"banned.{family}", family, self.given["ban_time"])]
        table = self.given["table"]
        body = "\n".join([f"table {table} {{"] + sets + self.zone_sets() + self.sets + lines + ["}", ""])
        return f"table {table}\ndelete table {table}\n\n{body}"


def chain(name: str, rules: t.Iterable[str]) -> list[str]:
    return ["", f"  chain {name} {{"] + [f"    {rule}" if rule else "" for rule in rules] + ["  }"]


def ruleset(given: dict) -> str:
    """The whole table, loadable over one that is there."""
    return Writer(given).text()
