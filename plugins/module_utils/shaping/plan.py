# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from what is there to what is wanted, in lines for `tc -batch`. Pure.

A tree of ours is changed in place, so that no queue is dropped and no packet
goes unshaped. Only a root that cannot be changed (another kind, another
default class) is replaced, in one step of the kernel.
"""

from __future__ import annotations

import typing as t

from .live import Live, Qdisc
from .model import LEAVES, LINK, R2Q, ROOT, HtbClass, Leaf, Tree, format_rate


class Step(t.NamedTuple):
    line: str  # for tc -batch
    reason: str


def near(one: int, other: int, share: float, least: int = 0) -> bool:
    """Equal but for tc's rounding when it prints."""
    return abs(one - other) <= max(share * max(one, other), least)


def same_class(wanted: HtbClass, live: HtbClass) -> bool:
    return (
        wanted.parent == live.parent
        and near(wanted.rate, live.rate, 0.001)
        and near(wanted.ceil, live.ceil, 0.001)
        and near(wanted.burst, live.burst, 0.02, 128)
        and near(wanted.cburst, live.cburst, 0.02, 128)
        and wanted.prio in (None, live.prio)
        and wanted.quantum in (None, live.quantum)
    )


def same_leaf(wanted: Leaf, live: Qdisc | None) -> bool:
    if live is None or (live.kind, live.handle) != (wanted.kind, wanted.handle):
        return False
    values = dict(zip(live.words, live.words[1:]))
    # tc shows a number with its unit, as in 'limit 100p' or 'perturb 10sec'.
    return all(values.get(name, "").rstrip("pbsec") == value for name, value in wanted.options)


def class_line(device: str, cls: HtbClass) -> str:
    line = f"class replace dev {device} parent {cls.parent} classid {cls.classid} htb rate {cls.rate}bit ceil {cls.ceil}bit"
    line += f" burst {cls.burst} cburst {cls.cburst}"
    if cls.prio is not None:
        line += f" prio {cls.prio}"
    # Given for inner classes too: without, the kernel derives one and complains about it.
    return line + f" quantum {cls.quantum or 60000}"


def leaf_line(device: str, leaf: Leaf) -> str:
    options = "".join(f" {name} {value}" for name, value in leaf.options)
    return f"qdisc replace dev {device} parent {leaf.parent} handle {leaf.handle} {leaf.kind}{options}"


def root_lines(device: str, default: str) -> list[str]:
    # An HTB root cannot be replaced by another of the same handle. A plain
    # queue takes its place for a moment, so that the lines hold on any state.
    return [
        f"qdisc replace dev {device} root handle 2: pfifo limit 1000",
        f"qdisc replace dev {device} root handle {ROOT} htb default {default} r2q {R2Q}",
    ]


def whole(tree: Tree) -> list[str]:
    """The tree from nothing: what boot loads."""
    lines = root_lines(tree.device, tree.default)
    lines += [class_line(tree.device, cls) for cls in tree.classes]
    return lines + [leaf_line(tree.device, leaf) for leaf in tree.leaves]


def off(devices: t.Iterable[str]) -> list[str]:
    """What the unit runs when it stops."""
    return [f"qdisc del dev {device} root" for device in devices]


def rebuild_reason(tree: Tree, live: Live) -> str:
    """Why the root has to be made anew, '' when it can stay."""
    if live.root is None or live.root.by_kernel:
        return "there is no shaper"
    if live.root.kind != "htb" or live.root.handle != ROOT:
        return f"the root is {live.root.kind} {live.root.handle}, not htb {ROOT}"
    if live.default != tree.default:
        return f"the default class is 1:{live.default or '0'}, not 1:{tree.default}"
    return ""


def is_foreign(live: Live) -> bool:
    """A shaper that somebody else set."""
    return live.root is not None and not live.root.by_kernel and (live.root.kind, live.root.handle) != ("htb", ROOT)


def plan(tree: Tree, live: Live) -> list[Step]:
    reason = rebuild_reason(tree, live)
    if reason:
        return [Step(line, reason) for line in whole(tree)]
    device, steps = tree.device, []
    if live.filters:
        steps.append(Step(f"filter del dev {device} parent {ROOT}", "the shaper has filters that nobody declared"))
    wanted = {cls.classid: cls for cls in tree.classes}
    # A class hangs where it was made: one below another parent is made anew.
    moved = {classid for classid, cls in wanted.items() if classid in live.classes and live.classes[classid].parent != cls.parent}
    for classid in sorted(set(live.classes) - set(wanted) | moved, key=lambda classid: -depth(live, classid)):
        steps.append(Step(f"class del dev {device} classid {classid}", "nobody declared it"))
    for classid, cls in wanted.items():
        present = live.classes.get(classid) if classid not in moved else None
        if present is None or not same_class(cls, present):
            steps.append(Step(class_line(device, cls), "it differs" if present else "it is absent"))
    for leaf in tree.leaves:
        present_leaf = live.leaves.get(leaf.parent) if leaf.parent not in moved else None
        if same_leaf(leaf, present_leaf):
            continue
        if present_leaf is not None and not present_leaf.by_kernel:
            steps.append(Step(f"qdisc del dev {device} parent {leaf.parent}", "another queue is in its place"))
        steps.append(Step(leaf_line(device, leaf), "it differs" if present_leaf else "it is absent"))
    return steps


def depth(live: Live, classid: str) -> int:
    """How far below the root: children go before their parents."""
    steps = 0
    while classid in live.classes and steps < 8:
        classid = live.classes[classid].parent
        steps += 1
    return steps


def undo(live: Live) -> list[str]:
    """Lines that bring back what was there; a foreign root becomes the kernel's own."""
    if live.root is None or live.root.kind != "htb" or live.root.handle != ROOT:
        return off([live.device])
    lines = root_lines(live.device, live.default or "0")
    for classid in sorted(live.classes, key=lambda classid: depth(live, classid)):
        lines.append(class_line(live.device, live.classes[classid]))
    for parent, qdisc in live.leaves.items():
        if qdisc.kind in LEAVES and not qdisc.by_kernel:
            lines.append(leaf_line(live.device, Leaf(parent, qdisc.handle, qdisc.kind, LEAVES[qdisc.kind])))
    return lines


def table(device: str, names: dict, classes: t.Iterable[HtbClass], leaves: dict) -> str:
    """One line a class, for people; the same for both sides of a diff."""
    rows = []
    for cls in classes:
        name = "link" if cls.classid == LINK else names.get(cls.classid, "-")
        row = f"{device} {cls.classid:<6} {name:<12} guarantee {format_rate(cls.rate):>10}  ceil {format_rate(cls.ceil):>10}"
        if cls.classid != LINK:
            row += f"  priority {'-' if cls.prio is None else cls.prio}  {leaves.get(cls.classid, '-')}"
        rows.append(row + "\n")
    return "".join(rows)


def describe_live(live: Live, names: dict) -> str:
    kind = "none" if live.root is None else f"{live.root.kind} {live.root.handle}"
    if not live.classes:
        return f"{live.device} root {kind}\n"
    leaves = {parent: qdisc.kind for parent, qdisc in live.leaves.items()}
    extra = f"{live.device} filters {live.filters}\n" if live.filters else ""
    ordered = [live.classes[classid] for classid in sorted(live.classes, key=lambda text: (len(text), text))]
    return f"{live.device} root {kind} default 1:{live.default or '0'}\n" + table(live.device, names, ordered, leaves) + extra


def describe_tree(tree: Tree) -> str:
    leaves = {leaf.parent: leaf.kind for leaf in tree.leaves}
    header = f"{tree.device} root htb {ROOT} default 1:{tree.default}\n"
    return header + table(tree.device, tree.names, tree.classes, leaves)
