# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there: read tc's text. Its JSON leaves HTB classes out on Debian 12."""

from __future__ import annotations

import re
import typing as t

from .model import Filter, HtbClass

_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_RATE = re.compile(r"^([\d.]+)([KMGT]?)bit$")
_SIZE = re.compile(r"^([\d.]+)([KMG]?)b(?:/.*)?$")  # 6.15 prints "15Kb/1mpu" in one word


_MPU = re.compile(r"mpu (\d+)b")  # of the rate; that of the ceiling is the same


class Qdisc(t.NamedTuple):
    kind: str
    handle: str
    parent: str  # 'root' or a classid
    words: tuple  # the rest of the line

    @property
    def by_kernel(self) -> bool:
        """The one that an interface has when nobody set any."""
        return self.handle == "0:"


class Live(t.NamedTuple):
    """What tc shows of one interface."""

    device: str
    root: Qdisc | None
    classes: dict  # classid -> HtbClass
    leaves: dict  # classid -> Qdisc
    filters: dict  # preference -> filters, each a Filter or, when it is none that we could have made, a word for it
    arrival: dict  # the same, of what comes in
    hook: str = ""  # 'clsact' or 'ingress' where filters for what comes in can hang
    shared: bool = False  # clsact has filters for what goes out as well
    up: bool = True

    @property
    def exists(self) -> bool:
        return self.root is not None

    @property
    def default(self) -> str:
        """Minor of the default class of an HTB root."""
        words = self.root.words if self.root and self.root.kind == "htb" else ()
        return format(int(words[words.index("default") + 1], 16), "x") if "default" in words else ""


def parse_bits(text: str) -> int:
    match = _RATE.match(text)
    return round(float(match.group(1)) * _FACTORS[match.group(2)]) if match else 0


def parse_bytes(text: str) -> int:
    match = _SIZE.match(text)
    return round(float(match.group(1)) * _SIZES[match.group(2)]) if match else 0


def parse_qdiscs(text: str) -> list[Qdisc]:
    """`tc qdisc show dev X`."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or words[0] != "qdisc" or words[1] in ("ingress", "clsact"):
            continue
        parent = "root" if words[3] == "root" else words[4]
        found.append(Qdisc(words[1], words[2], parent, tuple(words[4 if parent == "root" else 5 :])))
    return found


def parse_classes(text: str) -> dict[str, HtbClass]:
    """`tc -d class show dev X`, of HTB."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if words[:2] != ["class", "htb"]:
            continue
        values = dict(zip(words, words[1:]))
        prio, quantum, mpu = values.get("prio"), values.get("quantum"), _MPU.search(line)
        parent = values.get("parent") or words[2].split(":")[0] + ":"
        found[words[2]] = HtbClass(
            words[2],
            parent,
            parse_bits(values.get("rate", "")),
            parse_bits(values.get("ceil", "")),
            parse_bytes(values.get("burst", "")),
            parse_bytes(values.get("cburst", "")),
            int(prio) if prio else None,
            int(quantum) if quantum else None,
            int(values.get("overhead", "0").rstrip("b")),
            int(mpu.group(1)) if mpu else 0,
        )
    return found


def parse_filters(text: str) -> dict[int, list]:
    """`tc filter show dev X`. Lines that only head a list, and the hash tables of u32, hold no packet back."""
    found: dict[int, list] = {}
    entry: dict = {}

    def finish():
        if entry:
            listed = found.setdefault(entry["pref"], [])
            plain = entry["kind"] == "u32" and entry["target"] and not entry["more"]
            listed.append(Filter(entry["pref"], entry["protocol"], tuple(entry["keys"]), entry["target"]) if plain else entry["kind"])
            entry.clear()

    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["filter"]:
            finish()
            values = dict(zip(words, words[1:]))
            pref = int(values.get("pref", "0"))
            kind = words[words.index("pref") + 2] if "pref" in words and len(words) > words.index("pref") + 2 else "?"
            found.setdefault(pref, [])
            if "key" in words or (kind != "u32" and ("handle" in words or "fh" in words)):
                target = values.get("flowid", values.get("*flowid", ""))
                entry.update(pref=pref, protocol=values.get("protocol", "all"), kind=kind, keys=[], more=False)
                entry["target"] = target if ":" in target else ""
        elif entry and words[:1] == ["match"] and len(words) >= 4 and "/" in words[1]:
            value, dummy, mask = words[1].partition("/")
            offset = words[3]
            if offset.isdigit():
                entry["keys"].append((int(offset), int(value, 16), int(mask, 16)))
            else:
                entry["more"] = True
        elif entry and words[:1] == ["action"]:
            if "mirred" in words and "Redirect" in words and words[-2:-1] and "device" in words:
                entry["target"] = words[words.index("device") + 1].rstrip(")")
            else:
                entry["more"] = True
    finish()
    return found


def parse(device: str, qdiscs: str, classes: str, filters: str, arrival: str = "", up: bool = True, departure: str = "") -> Live:
    listed = parse_qdiscs(qdiscs)
    root = next((qdisc for qdisc in listed if qdisc.parent == "root"), None)
    hooks = [line.split()[1] for line in qdiscs.splitlines() if line.split()[:1] == ["qdisc"] and line.split()[1] in ("ingress", "clsact")]
    return Live(
        device,
        root,
        parse_classes(classes),
        {qdisc.parent: qdisc for qdisc in listed if qdisc.parent != "root"},
        parse_filters(filters),
        parse_filters(arrival),
        hooks[0] if hooks else "",
        bool(parse_filters(departure)),
        up,
    )


def read(run: t.Callable, device: str, up: bool = True) -> Live:
    """Ask tc; an interface that does not exist shows nothing."""
    shown = {}
    for name, argv in {"qdiscs": ["-d", "qdisc"], "classes": ["-d", "class"], "filters": ["filter"]}.items():
        shown[name] = run(["tc", *argv, "show", "dev", device])[1]
    if "clsact" in shown["qdiscs"] or "ingress" in shown["qdiscs"]:
        shown["arrival"] = run(["tc", "filter", "show", "dev", device, "ingress"])[1]
        shown["departure"] = run(["tc", "filter", "show", "dev", device, "egress"])[1]
    return parse(device, up=up, **shown)
