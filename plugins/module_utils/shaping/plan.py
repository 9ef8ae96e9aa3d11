# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way from what is there to what is wanted, in lines for `tc -batch` and `ip -batch`. Pure.

A tree of ours is changed in place, so that no queue is dropped and no packet
goes unshaped. Only a root that cannot be changed (another kind, another
default class) is replaced, in one step of the kernel.

What comes in is sent to a stand-in (IFB), which has a tree like any other. A
filter that points to a stand-in that is gone or down drops all that comes in:
so the filter is the last to come and the first to go.
"""

from __future__ import annotations

import typing as t

from .live import Live, Qdisc, parse_bits
from . import classify
from .model import LINK, R2Q, REDIRECT_PREF, ROOT, Filter, HtbClass, Leaf, Link, Tree, format_rate, ifb_name


class Step(t.NamedTuple):
    line: str  # for tc -batch
    reason: str
    tool: str = "tc"  # or ip


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
        and (wanted.overhead, wanted.mpu) == (live.overhead, live.mpu)
    )


def same_options(options: t.Iterable, words: t.Sequence[str]) -> bool:
    values = dict(zip(words, words[1:]))
    for name, value in options:
        shown = values.get(name, "")
        if name == "bandwidth":
            if not near(int(value.removesuffix("bit")), parse_bits(shown), 0.001):
                return False
        elif value == "":
            if name not in words:
                return False
        # tc shows a number with its unit, as in 'limit 100p' or 'perturb 10sec', and leaves some out that are 0.
        elif (shown.rstrip("pbsec") or "0") != value:
            return False
    return True


def same_leaf(wanted: Leaf, live: Qdisc | None) -> bool:
    return live is not None and (live.kind, live.handle) == (wanted.kind, wanted.handle) and same_options(wanted.options, live.words)


def class_line(device: str, cls: HtbClass) -> str:
    line = f"class replace dev {device} parent {cls.parent} classid {cls.classid} htb rate {cls.rate}bit ceil {cls.ceil}bit"
    line += f" burst {cls.burst} cburst {cls.cburst}"
    if cls.overhead or cls.mpu:
        line += f" overhead {cls.overhead} mpu {cls.mpu}"
    if cls.prio is not None:
        line += f" prio {cls.prio}"
    # Given for inner classes too: without, the kernel derives one and complains about it.
    return line + f" quantum {cls.quantum or 60000}"


def words(options: t.Iterable) -> str:
    return "".join(f" {name} {value}".rstrip() for name, value in options)


def leaf_line(device: str, leaf: Leaf) -> str:
    return f"qdisc replace dev {device} parent {leaf.parent} handle {leaf.handle} {leaf.kind}{words(leaf.options)}"


def filter_line(where: str, wanted: Filter) -> str:
    """``where`` is 'dev eth0 ingress' or 'dev ifb-eth0 parent 1:'."""
    line = f"filter add {where} protocol {wanted.protocol} pref {wanted.pref} u32"
    line += "".join(f" match u32 0x{value:08x} 0x{mask:08x} at {offset}" for offset, value, mask in wanted.keys)
    if ":" in wanted.target:
        return f"{line} flowid {wanted.target}"
    return f"{line} action mirred egress redirect dev {wanted.target}"


def root_lines(device: str, root: str) -> list[str]:
    # An HTB root cannot be replaced by another of the same handle. A plain
    # queue takes its place for a moment, so that the lines hold on any state.
    return [
        f"qdisc replace dev {device} root handle 2: pfifo limit 1000",
        f"qdisc replace dev {device} root handle {ROOT} {root}",
    ]


def root_words(tree: Tree) -> str:
    return f"htb default {tree.default} r2q {R2Q}" if tree.kind == "htb" else tree.kind + words(tree.options)


def whole(tree: Tree) -> list[str]:
    """The tree from nothing: what boot loads."""
    lines = root_lines(tree.device, root_words(tree))
    lines += [class_line(tree.device, cls) for cls in tree.classes]
    lines += [leaf_line(tree.device, leaf) for leaf in tree.leaves]
    return lines + [filter_line(f"dev {tree.device} parent {ROOT}", wanted) for wanted in tree.filters]


def rebuild_reason(tree: Tree, live: Live) -> str:
    """Why the root has to be made anew, '' when it can stay."""
    if live.root is None or live.root.by_kernel:
        return "there is no shaper"
    if live.root.kind != tree.kind or live.root.handle != ROOT:
        return f"the root is {live.root.kind} {live.root.handle}, not {tree.kind} {ROOT}"
    if tree.kind == "htb" and live.default != tree.default:
        return f"the default class is 1:{live.default or '0'}, not 1:{tree.default}"
    return ""


def is_foreign(live: Live) -> bool:
    """A shaper that somebody else set."""
    return live.root is not None and not live.root.by_kernel and (live.root.kind, live.root.handle) not in (("htb", ROOT), ("cake", ROOT))


def plan(tree: Tree, live: Live) -> list[Step]:
    reason = rebuild_reason(tree, live)
    if reason:
        return [Step(line, reason) for line in whole(tree)]
    device, steps = tree.device, []
    if tree.kind == "cake" and live.root and not same_options(tree.options, live.root.words):
        return [Step(f"qdisc replace dev {device} root handle {ROOT} {root_words(tree)}", "it differs")]
    # Before the classes, which cannot go while a filter names them.
    removed, added = filter_steps(f"dev {device} parent {ROOT}", tree.filters, live.filters)
    steps += removed
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
    return steps + added


def filter_steps(where: str, wanted: t.Iterable[Filter], live: dict) -> tuple[list[Step], list[Step]]:
    """(to remove, to add); both ways together for one that differs."""
    declared = {one.pref: one for one in wanted}
    removed = [
        Step(f"filter del {where} pref {pref}", "it differs" if pref in declared else "nobody declared it")
        for pref, found in live.items()
        if found != [declared.get(pref)]
    ]
    added = [
        Step(filter_line(where, one), "it differs" if pref in live else "it is absent") for pref, one in declared.items() if live.get(pref) != [one]
    ]
    return removed, added


def plan_ingress(link: Link, tree: Tree, live: Live, stand_in: Live) -> list[Step]:
    """Have what comes in wait behind its stand-in. ``live`` is of the interface."""
    steps = []
    if not stand_in.exists:
        steps.append(Step(f"link add dev {link.ifb} type ifb", "it is absent", "ip"))
    if not stand_in.exists or not stand_in.up:
        steps.append(Step(f"link set dev {link.ifb} up", "it is down", "ip"))
    steps += plan(tree, stand_in)
    if not live.hook:
        steps.append(Step(f"qdisc add dev {link.device} clsact", "there is no place for filters"))
    removed, added = filter_steps(f"dev {link.device} ingress", [classify.redirect(link)], live.arrival)
    return steps + removed + added


def plan_no_ingress(device: str, live: Live, stand_in: Live) -> list[Step]:
    """Leave what comes in alone: remove what we have set, and nothing else."""
    name, reason, steps = ifb_name(device), "what comes in is not shaped", []
    ours = live.arrival.get(REDIRECT_PREF)
    # One whose stand-in is gone shows no name any more; the preference is ours all the same.
    if ours:
        steps.append(Step(f"filter del dev {device} ingress pref {REDIRECT_PREF}", reason))
    if live.hook == "clsact" and (ours or stand_in.exists) and not live.shared and not set(live.arrival) - {REDIRECT_PREF}:
        steps.append(Step(f"qdisc del dev {device} clsact", reason))
    if stand_in.exists:
        steps.append(Step(f"link del dev {name}", reason, "ip"))
    return steps


def foreign_arrival(live: Live) -> list[int]:
    """Preferences of filters for what comes in that somebody else has set."""
    return sorted(set(live.arrival) - {REDIRECT_PREF})


def boot(link: Link, trees: t.Iterable[Tree]) -> list[str]:
    """What the unit of an interface loads; the stand-in and the place for filters are there by then."""
    lines = [line for tree in trees for line in whole(tree)]
    return lines + ([filter_line(f"dev {link.device} ingress", classify.redirect(link))] if link.ingress else [])


def depth(live: Live, classid: str) -> int:
    """How far below the root: children go before their parents."""
    steps = 0
    while classid in live.classes and steps < 8:
        classid = live.classes[classid].parent
        steps += 1
    return steps


def remembered(live: Live) -> Tree:
    """A tree of ours as it was, to go back to."""
    leaves = tuple(Leaf(parent, qdisc.handle, qdisc.kind, pairs(qdisc.words)) for parent, qdisc in live.leaves.items() if not qdisc.by_kernel)
    ordered = tuple(live.classes[classid] for classid in sorted(live.classes, key=lambda classid: depth(live, classid)))
    filters = tuple(one for found in live.filters.values() for one in found if isinstance(one, Filter))
    return Tree(live.device, live.default or "0", ordered, leaves, {}, filters)


def refine(before: Live, now: Live) -> list[str]:
    """Lines for the classes whose bursts came back a little smaller.

    Older versions of tc cut them to microseconds, once when they write and once when they read.
    """
    lines = []
    for classid, cls in before.classes.items():
        present = now.classes.get(classid)
        if present and present != cls and (present.burst < cls.burst or present.cburst < cls.cburst):
            lines.append(
                class_line(
                    before.device, cls._replace(burst=cls.burst - (-3 * cls.rate // 16_000_000), cburst=cls.cburst - (-3 * cls.ceil // 16_000_000))
                )
            )
    return lines


def pairs(shown: t.Sequence[str]) -> tuple:
    """The words of a queue, as options that same_leaf and leaf_line take: what tc shows, tc takes, but for units of packets."""
    options, rest = [], list(shown)
    while rest:
        name = rest.pop(0)
        value = rest.pop(0) if rest and rest[0][:1].isdigit() else ""
        if name in ("limit", "perturb", "besteffort"):
            options.append((name, value.rstrip("pbsec")))
    return tuple(options)


def undo(before: Live, now: Live) -> list[str]:
    """Lines that bring back what was there, in place where that can be. Of a foreign root as much as tc can be told of it."""
    root = before.root
    if root is None or root.by_kernel:
        return off([before.device])
    if (root.kind, root.handle) == ("htb", ROOT):
        return [step.line for step in plan(remembered(before), now)]
    if now.root is not None and (now.root.kind, now.root.handle) == (root.kind, root.handle):
        return []
    shown = list(root.words)
    if "refcnt" in shown:
        del shown[shown.index("refcnt") : shown.index("refcnt") + 2]
    # The second line fails where tc shows what it does not take; then the kernel's own queue stays.
    return off([before.device]) + [f"qdisc replace dev {before.device} root handle {root.handle} {root.kind} {' '.join(shown)}"]


def off(devices: t.Iterable[str]) -> list[str]:
    return [f"qdisc del dev {device} root" for device in devices]


def table(device: str, names: dict, classes: t.Iterable[HtbClass], leaves: dict) -> str:
    """One line a class, for people; the same for both sides of a diff."""
    rows = []
    for cls in classes:
        name = "link" if cls.classid == LINK else names.get(cls.classid, "-")
        row = f"{device} {cls.classid:<6} {name:<12} guarantee {format_rate(cls.rate):>10}  ceil {format_rate(cls.ceil):>10}"
        if cls.classid != LINK:
            row += f"  priority {'-' if cls.prio is None else cls.prio}  {leaves.get(cls.classid, '-')}"
        elif cls.overhead or cls.mpu:
            row += f"  overhead {cls.overhead} mpu {cls.mpu}"
        rows.append(row + "\n")
    return "".join(rows)


def describe_filters(device: str, names: dict, filters: t.Iterable) -> str:
    """One line a filter."""
    rows = []
    for one in filters:
        if not isinstance(one, Filter):
            rows.append(f"{device} filter {one} (not ours)\n")
            continue
        match = " ".join(f"{value:08x}/{mask:08x}@{offset}" for offset, value, mask in one.keys)
        target = names.get(one.target, one.target)
        rows.append(f"{device} filter {one.pref:<5} {one.protocol:<4} {match or 'all'} -> {target}\n")
    return "".join(rows)


def describe_live(live: Live, names: dict) -> str:
    if not live.exists:
        return f"{live.device} does not exist\n"
    kind = f"{live.root.kind} {live.root.handle}" if live.root else "none"
    state = "" if live.up else " (down)"
    arrival = describe_filters(f"{live.device} in", names, (one for found in live.arrival.values() for one in found))
    if not live.classes:
        shown = " " + " ".join(live.root.words) if live.root and live.root.kind == "cake" else ""
        return f"{live.device} root {kind}{shown}{state}\n" + arrival
    leaves = {parent: qdisc.kind for parent, qdisc in live.leaves.items()}
    ordered = [live.classes[classid] for classid in sorted(live.classes, key=lambda text: (len(text), text))]
    listed = describe_filters(live.device, names, (one for found in live.filters.values() for one in found))
    return f"{live.device} root {kind} default 1:{live.default or '0'}{state}\n" + table(live.device, names, ordered, leaves) + listed + arrival


def describe_tree(tree: Tree, arrival: t.Iterable = ()) -> str:
    leaves = {leaf.parent: leaf.kind for leaf in tree.leaves}
    listed = describe_filters(tree.device, tree.names, tree.filters) + describe_filters(f"{tree.device} in", {}, arrival)
    if tree.kind != "htb":
        return f"{tree.device} root {tree.kind} {ROOT}{words(tree.options)}\n" + listed
    header = f"{tree.device} root htb {ROOT} default 1:{tree.default}\n"
    return header + table(tree.device, tree.names, tree.classes, leaves) + listed
