# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic shaping: whether it is there, both ways, and whether each class gets what it was promised."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import time
import typing as t

from .registry import CRITICAL, OK, Reading, Skipped, check

FILES, RULES, UNIT = "/etc/crm-platform/qos-*.tc", "/etc/crm-platform/qos.nft", "crm-platform-qos.service"
TABLE = ("inet", "crm_platform_qos")
CURE = f"systemctl restart {UNIT} 'crm-platform-qos-*.service', or crm.platform.network"
# Classes with fewer packets than this since the last run are left out: a handful says nothing.
ENOUGH_PACKETS = 1000
# How long a class that waits is watched, and what it has to be able to send in that time to be judged at all.
WATCHED_SECONDS, ENOUGH_BYTES = 0.4, 15000
FAIR_PERCENT = 80

# What boot loads: see shaping/plan.py, `whole` and `boot`.
_ROOT = re.compile(r"^qdisc replace dev (\S+) root handle 1: (\S+)", re.M)
_CLASS = re.compile(r"^class replace dev (\S+) parent \S+ classid (\S+) htb rate (\d+)bit .*?(?: overhead (\d+))?(?: mpu \d+)? prio \d+ ", re.M)
_REDIRECT = re.compile(r"^filter add dev (\S+) ingress .* redirect dev (\S+)$", re.M)
_NAME = re.compile(r"chain class_(\w+) \{[^}]*?meta priority set (\S+)", re.S)
# What tc tells of a class; its JSON is broken for those of htb in several versions.
_STATS = re.compile(
    r"^class htb (\S+) [^\n]*\n\s*Sent (\d+) bytes (\d+) pkt \(dropped (\d+), overlimits (\d+)[^\n]*\n\s*(?:rate \S+ \S+ )?backlog \S+ (\d+)p", re.M
)


class Declared(t.NamedTuple):
    """One interface of those that boot shapes. ``classes``: (device, classid) -> (guarantee in bit/s, overhead of a packet); only the leaves."""

    device: str
    kinds: dict
    classes: dict
    stand_in: str


@dataclasses.dataclass(frozen=True)
class Class:
    sent: int
    packets: int
    dropped: int
    overlimits: int
    waiting: int


def parse_declared(device: str, text: str) -> Declared:
    classes = {(one[0], one[1]): (int(one[2]), int(one[3] or 0)) for one in _CLASS.findall(text)}
    return Declared(device, dict(_ROOT.findall(text)), classes, dict(_REDIRECT.findall(text)).get(device, ""))


def parse_stats(text: str) -> dict[str, Class]:
    """classid -> what went through it, of `tc -s class show`."""
    return {one[0]: Class(*map(int, one[1:])) for one in _STATS.findall(text)}


def declared(host) -> list[Declared]:
    """The interfaces whose files boot loads."""

    def look():
        return [parse_declared(os.path.basename(path)[len("qos-") : -len(".tc")], host.read(path)) for path in sorted(glob.glob(FILES))]

    found = host.once("qos declared", look)
    if not found:
        raise Skipped("the platform shapes no traffic on this host")
    return found


def names(host) -> dict[str, str]:
    """classid -> name of the class."""

    def look():
        try:
            return {classid: name for name, classid in _NAME.findall(host.read(RULES))}
        except FileNotFoundError:
            return {}

    return host.once("qos names", look)


def stats(host) -> dict[tuple, Class]:
    """(device, classid) -> what went through each leaf."""
    found = {}
    for one in declared(host):
        for device in one.kinds:
            live = parse_stats(host.run("tc", "-s", "class", "show", "dev", device, check=False))
            found.update({(device, classid): stat for classid, stat in live.items() if (device, classid) in one.classes})
    return found


def told(host, key: tuple) -> str:
    return f"{names(host).get(key[1], key[1])} on {key[0]}"


def missing(host, device: str, one: Declared) -> str:
    """What of the tree of a device is not there, '' where all is."""
    if not os.path.exists(f"/sys/class/net/{device}"):
        return f"{device} does not exist"
    root = next((found for found in json.loads(host.run("tc", "-j", "qdisc", "show", "dev", device) or "[]") if found.get("root")), {})
    if root.get("kind") != one.kinds[device]:
        return f"{device} has {root.get('kind', 'nothing')} instead of {one.kinds[device]}"
    wanted = {classid for where, classid in one.classes if where == device}
    absent = wanted - set(re.findall(r"^class htb (\S+)", host.run("tc", "class", "show", "dev", device), re.M)) if wanted else ()
    return f"{device} lacks the class {', '.join(names(host).get(classid, classid) for classid in sorted(absent))}" if absent else ""


@check("qos_qdisc", "qos", cure=CURE, repair="restore_shaping")
def qdisc(host):
    """The shaper is on each of its interfaces, with all of its classes"""
    bad = [text for text in (missing(host, one.device, one) for one in declared(host) if one.device in one.kinds) if text]
    return Reading(len(bad), "; ".join(bad) or "it is", CRITICAL if bad else OK)


@check("qos_ingress", "qos", cure=CURE, source="own", repair="restore_shaping")
def ingress(host):
    """What comes in is shaped, too"""
    shaped = [one for one in declared(host) if one.stand_in]
    if not shaped:
        raise Skipped("what comes in is not shaped on this host")
    bad = []
    for one in shaped:
        text = missing(host, one.stand_in, one)
        if not text and f"edirect to device {one.stand_in})" not in host.run("tc", "filter", "show", "dev", one.device, "ingress", check=False):
            text = f"nothing sends what comes in on {one.device} to {one.stand_in}"
        if not text and not int(host.read(f"/sys/class/net/{one.stand_in}/flags"), 16) & 1:
            text = f"{one.stand_in} is down: nothing comes in on {one.device}"
        bad += [text] if text else []
    return Reading(len(bad), "; ".join(bad) or "it is", CRITICAL if bad else OK)


@check("qos_rules", "qos", cure=f"systemctl restart {UNIT}", source="own")
def rules(host):
    """What leaves is sorted into its class"""
    declared(host)
    if not os.path.exists(RULES):
        raise Skipped("nothing is sorted on this host")
    gone = host.status("nft", "list", "table", *TABLE)[0] != 0
    return Reading(int(gone), f"the table {' '.join(TABLE)} is gone: all goes into the default class" if gone else "it is", CRITICAL if gone else OK)


@check("qos_drops", "qos", "%", 5, 20, "tc -s class show dev DEVICE; raise qos_rate, or the class's guarantee in qos_classes", "own")
def drops(host):
    """Packets that the worst class dropped, since the last run"""
    shares, looked = [], False
    for key, now in stats(host).items():
        name = " ".join(key)
        sent, packets = host.rate(f"qos_sent {name}", now.sent), host.rate(f"qos_packets {name}", now.packets)
        dropped, delayed = host.rate(f"qos_drops {name}", now.dropped), host.rate(f"qos_overlimits {name}", now.overlimits)
        if sent:
            host.series[f"qos {key[0]} {names(host).get(key[1], key[1])}"] = 8 * sent[0] / sent[1]
        if packets and dropped and delayed:
            looked = True
            if packets[0] >= ENOUGH_PACKETS:
                shares.append((100 * dropped[0] / packets[0], key, dropped[0], packets[0], delayed[0]))
    if not looked:
        raise Skipped("there is no earlier run to compare with")
    if not shares:
        return Reading(0, "there was little traffic since the last run")
    share, key, dropped_, packets_, delayed_ = max(shares)
    return Reading(share, f"{told(host, key)} dropped {dropped_:.0f} of {packets_:.0f} packets and had to wait {delayed_:.0f} times")


def given(before: Class, after: Class, seconds: float, guarantee: int, overhead: int) -> t.Optional[float]:
    """Per cent of its guarantee that a class got; None where it did not wait all the while, or would send too little to be judged."""
    if not before.waiting or not after.waiting or guarantee * seconds / 8 < ENOUGH_BYTES:
        return None
    return 100 * 8 * (after.sent - before.sent + overhead * (after.packets - before.packets)) / seconds / guarantee


@check(
    "qos_starved",
    "qos",
    "%",
    FAIR_PERCENT,
    50,
    "see who uses up the link: tc -s class show dev DEVICE; lower qos_rate to what the link really has",
    "own",
    least=True,
)
def starved(host):
    """Share of its guarantee that a class gets while its packets wait"""
    promised = {key: value for one in declared(host) for key, value in one.classes.items()}
    least: dict = {}
    # A second look where the first is bad: the host itself may have been busy for a moment.
    for again in (False, True):
        began, before = time.monotonic(), stats(host)
        if not any(one.waiting for one in before.values()):
            return Reading(100, "no class waits")
        time.sleep(min(WATCHED_SECONDS, host.left / 4))
        after, seconds = stats(host), time.monotonic() - began
        shares = {key: given(one, after[key], seconds, *promised[key]) for key, one in before.items() if key in after}
        found = {key: value for key, value in shares.items() if value is not None}
        least = {key: max(value, found.get(key, 100.0)) for key, value in least.items()} if again else found
        if min(least.values(), default=100) > FAIR_PERCENT:
            break
    if not least:
        return Reading(100, "no class waits for long")
    key = min(least, key=least.get)
    return Reading(least[key], f"{told(host, key)} waits, and got {least[key]:.0f} % of the {promised[key][0] / 1e6:g} Mbit/s that it was promised")
