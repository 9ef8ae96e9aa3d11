# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of FRR: its text from a model, and what of it a running FRR lacks. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.crm.platform.plugins.module_utils.ospf.model import Wanted

MARK = "! Made by crm.platform.ospf_routing; what is changed here by hand is undone by the next run."
PROFILE = "crm"
DAEMONS = {4: "ospfd", 6: "ospf6d"}
# All that a configuration of ours may need.
OURS = (*DAEMONS.values(), "bfdd")
# What FRR keeps of ours when it writes the file itself (`write memory`), without the mark.
KEPT = re.compile(rf"^route-map {PROFILE}-ospf6? permit 10$", re.M)
HEADER = re.compile(r"(Building configuration|Current configuration|frr version|frr defaults|hostname|service integrated-vtysh-config|!|end$|exit$)")
# Ours, and those of the protocols that somebody else may have configured, with all that follows them.
SECRET = re.compile(
    r"(message-digest-key \d+ md5|key-string|key) (?P<key>\S+)$"
    r"|((?:^|[ -])(?:password|message-digest-key \d+ md5|authentication-key|authentication string|nhrp authentication)) .+$"
)

Line = tuple[str, ...]


def render(wanted: Wanted, key: str, hostname: str, version: str, forwarding: t.Mapping[int, bool]) -> str:
    """frr.conf, written as FRR itself writes it, so that the two can be compared. What is FRR's default is left out.

    :param forwarding: whether the kernel forwards, by family. FRR tells where it does not, and would set it otherwise.
    """
    families = [family for family in (4, 6) if wanted.speaks(family)]
    lines = [MARK, f"frr version {version}", "frr defaults traditional", f"hostname {hostname}", "log syslog informational"]
    lines += [f"no {name} forwarding" for family, name in ((4, "ip"), (6, "ipv6")) if not forwarding[family]]
    lines += ["service integrated-vtysh-config", "!"]
    if wanted.authentication == "hmac-sha-256":
        lines += [
            f"key chain {PROFILE}",
            f" key {wanted.key_id}",
            f"  key-string {key}",
            "  cryptographic-algorithm hmac-sha-256",
            " exit",
            "exit",
            "!",
        ]
    for interface in wanted.interfaces:
        lines.append(f"interface {interface.name}")
        for family in families:
            if family in interface.families or interface.speaks(family):
                lines += [f" {line}" for line in _link(wanted, interface, family, key)]
        lines += ["exit", "!"]
    if wanted.holds:
        lines += ["interface lo", *[f" {line}" for family in families for line in _loopback(wanted, family)], "exit", "!"]
    for family in families:
        lines += [f"router {'ospf' if family == 4 else 'ospf6'}", *[f" {line}" for line in _router(wanted, family)], "exit", "!"]
    for family in families:
        lines += _filters(wanted, family)
    if wanted.bfd and families:
        lines += ["bfd", f" profile {PROFILE}"]
        lines += [f"  detect-multiplier {wanted.bfd_multiplier}"] if wanted.bfd_multiplier != 3 else []
        lines += [f"  {what}-interval {wanted.bfd_interval}" for what in ("transmit", "receive") if wanted.bfd_interval != 300]
        lines += [" exit", " !", "exit", "!"]
    return "\n".join([*lines, "end", ""])


def _link(wanted: Wanted, interface: t.Any, family: int, key: str) -> list[str]:
    word = "ip ospf" if family == 4 else "ipv6 ospf6"
    lines = [f"area {interface.area}"]
    if interface.cost is not None:
        lines.append(f"cost {interface.cost}")
    if not interface.speaks(family):
        return [f"{word} {line}" for line in [*lines, "passive"]]
    if wanted.authentication == "hmac-sha-256":
        lines.append(f"authentication key-chain {PROFILE}" if family == 4 else f"authentication keychain {PROFILE}")
    elif wanted.authentication == "md5" and family == 4:
        lines += ["authentication message-digest", f"message-digest-key {wanted.key_id} md5 {key}"]
    lines += ["bfd", f"bfd profile {PROFILE}"] if wanted.bfd else []
    lines += [f"hello-interval {wanted.hello}"] if wanted.hello != 10 else []
    lines += [f"dead-interval {wanted.dead}"] if wanted.dead != 40 else []
    lines += [f"network {interface.network}"] if interface.network != "broadcast" else []
    lines += [f"priority {interface.priority}"] if interface.priority != 1 else []
    return [f"{word} {line}" for line in lines]


def _loopback(wanted: Wanted, family: int) -> list[str]:
    """Of the loopback's addresses only the service addresses are told."""
    addresses = [address for address in wanted.service_addresses if address.version == family]
    if not addresses:
        return []
    area = wanted.service_area(family)
    if family == 4:
        return [f"ip ospf area {area} {address}" for address in addresses]
    return [f"ipv6 ospf6 advertise prefix-list {PROFILE}-service6", f"ipv6 ospf6 area {area}", "ipv6 ospf6 passive"]


def _router(wanted: Wanted, family: int) -> list[str]:
    lines = [f"{'ospf' if family == 4 else 'ospf6'} router-id {wanted.router_id}", "log-adjacency-changes"]
    # A change is told within 50 ms, and the next one soon after: an address that went away may come back at once.
    lines += ["timers throttle spf 10 50 500", "timers lsa min-arrival 50"] + (["timers throttle lsa all 50"] if family == 4 else [])
    if wanted.restart:
        lines += [f"graceful-restart grace-period {wanted.restart}", "graceful-restart helper enable"]
    return lines


def _filters(wanted: Wanted, family: int) -> list[str]:
    """Into the kernel's table comes what was declared, exactly; a default route only where it is declared itself."""
    word, name = ("ip", "") if family == 4 else ("ipv6", "6")
    services = [f"{address}/{address.max_prefixlen}" for address in wanted.service_addresses if address.version == family]
    prefixes = services + [
        f"{one.prefix} le {one.le}" if one.le else str(one.prefix)
        for one in wanted.accepted
        if one.prefix.version == family and str(one.prefix) not in services
    ]
    lists = {f"{PROFILE}-accept{name}": prefixes, **({f"{PROFILE}-service6": services} if family == 6 and wanted.holds and services else {})}
    lines = []
    for list_name, entries in lists.items():
        lines += [f"{word} prefix-list {list_name} seq {number * 5} permit {entry}" for number, entry in enumerate(entries, 1)]
        lines.append(f"{word} prefix-list {list_name} seq {len(entries) * 5 + 5} deny any")
    protocol = "ospf" if family == 4 else "ospf6"
    return [
        *lines,
        "!",
        f"route-map {PROFILE}-{protocol} permit 10",
        f" match {word} address prefix-list {PROFILE}-accept{name}",
        "exit",
        "!",
        f"{word} protocol {protocol} route-map {PROFILE}-{protocol}",
        "!",
    ]


def wanted_daemons(wanted: Wanted) -> list[str]:
    return [daemon for family, daemon in DAEMONS.items() if wanted.speaks(family)] + (["bfdd"] if wanted.bfd else [])


def daemons_file(text: str, on: t.Container[str]) -> str:
    """The file of FRR's daemons with these of ours on, and the rest of ours off. Those of others stay as they are."""
    for daemon in OURS:
        text, found = re.subn(rf"(?m)^{daemon}=.*$", f"{daemon}={'yes' if daemon in on else 'no'}", text)
        if not found and daemon in on:
            text = text.rstrip("\n") + ("\n" if text else "") + f"{daemon}=yes\n"
    return text


def is_ours(text: str) -> bool:
    return MARK in text or bool(KEPT.search(text))


def is_foreign(text: str) -> bool:
    """Whether somebody else has configured FRR: what its package brings is nothing but logging."""
    return not is_ours(text) and any(not HEADER.match(line) and not re.match(r"(#|log )", line) for line in text.splitlines() if line.strip())


def statements(text: str) -> set[Line]:
    """Each line of a configuration with those that it stands below."""
    found: set[Line] = set()
    above: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        depth = len(raw) - len(raw.lstrip(" "))
        if not line or HEADER.match(line) or line.startswith("#"):
            continue
        above = [*above[:depth], line]
        found.add(tuple(above))
    # A block is there by its lines; one that is empty stands for itself. But that of a bfdd that has nothing to do: no reload removes it.
    return {one for one in found if not any(other[: len(one)] == one and len(other) > len(one) for other in found)} - {("bfd",)}


def differences(running: str, wanted: str) -> list[str]:
    """What a reload would take away and add, as `- line` and `+ line`, with every key hidden."""
    now, then = statements(running), statements(wanted)
    lines = [f"- {hide(' / '.join(one))}" for one in sorted(now - then)] + [f"+ {hide(' / '.join(one))}" for one in sorted(then - now)]
    return lines


def hide(line: str) -> str:
    return SECRET.sub(lambda match: f"{match[1] or match[3]} (hidden)", line)


def rekey(running: str, wanted: str) -> str:
    """Commands that change keys in place. FRR's reload would name the old ones in arguments of its commands, which every user can read."""
    now, then = statements(running), statements(wanted)
    commands: list[str] = []
    for one in sorted(then - now):
        match = re.match(r"ip ospf message-digest-key (\d+) md5 \S+$", one[-1])
        if match and any(other[:-1] == one[:-1] and other[-1].startswith(f"ip ospf message-digest-key {match[1]} md5 ") for other in now):
            commands += [*one[:-1], f"no ip ospf message-digest-key {match[1]}", one[-1], "exit"]
    for one in sorted(now - then):
        match = re.match(r"ip ospf message-digest-key (\d+) md5 \S+$", one[-1])
        if match and not any(other[:-1] == one[:-1] and other[-1].startswith(f"ip ospf message-digest-key {match[1]} md5 ") for other in then):
            commands += [*one[:-1], f"no ip ospf message-digest-key {match[1]}", "exit"]
        elif one[-1].startswith("key-string ") and not any(other[:-1] == one[:-1] for other in then):
            commands += [f"no {one[0]}"]
    return "".join(f"{line}\n" for line in commands)
