# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there: read tc's text. Its JSON leaves HTB classes out on Debian 12."""

from __future__ import annotations

import re
import typing as t

from .model import HtbClass

_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_RATE = re.compile(r"^([\d.]+)([KMGT]?)bit$")
_SIZE = re.compile(r"^([\d.]+)([KMG]?)b(?:/.*)?$")  # 6.15 prints "15Kb/1mpu" in one word


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
    filters: int

    @property
    def default(self) -> str:
        """Minor of the default class of an HTB root."""
        words = self.root.words if self.root else ()
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
        prio, quantum = values.get("prio"), values.get("quantum")
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
        )
    return found


def parse(device: str, qdiscs: str, classes: str, filters: str) -> Live:
    listed = parse_qdiscs(qdiscs)
    root = next((qdisc for qdisc in listed if qdisc.parent == "root"), None)
    return Live(
        device,
        root,
        parse_classes(classes),
        {qdisc.parent: qdisc for qdisc in listed if qdisc.parent != "root"},
        sum(1 for line in filters.splitlines() if line.startswith("filter")),
    )


def read(run: t.Callable, device: str) -> Live:
    """Ask tc; an interface that does not exist shows nothing."""
    outputs = []
    for argv in (["-d", "qdisc"], ["-d", "class"], ["filter"]):
        outputs.append(run(["tc"] + argv + ["show", "dev", device])[1])
    return parse(device, *outputs)
