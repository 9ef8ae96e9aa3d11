# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/shaping: reading tc's text (live), and the way to what is wanted (plan, host)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils.shaping import host as acting
from ansible_collections.crm.platform.plugins.module_utils.shaping import live as reading
from ansible_collections.crm.platform.plugins.module_utils.shaping import model
from ansible_collections.crm.platform.plugins.module_utils.shaping import plan as lib

SPECS = [{"name": "crm", "guarantee": "60%", "priority": 1}, {"name": "other", "guarantee": "40%", "default": True}]

QDISCS = """\
qdisc htb 1: root refcnt 3 r2q 10 default 0x20 direct_packets_stat 0 ver 3.17 direct_qlen 1000
qdisc pfifo 20: parent 1:20 limit 100p
qdisc pfifo 10: parent 1:10 limit 100p
"""
CLASSES = """\
class htb 1:1 root rate 100Mbit ceil 100Mbit linklayer ethernet burst 12500b/1 mpu 0b cburst 12500b/1 mpu 0b level 7
class htb 1:10 parent 1:1 leaf 10: prio 1 quantum 7500 rate 60Mbit ceil 100Mbit linklayer ethernet burst 7500b/1 mpu 0b cburst 12500b/1 mpu 0b level 0
class htb 1:20 parent 1:1 leaf 20: prio 3 quantum 5000 rate 40Mbit ceil 100Mbit linklayer ethernet burst 5000b/1mpu 0b cburst 12500b/1mpu 0b level 0
"""


def tree(leaf="pfifo", link=10**8, specs=None):
    return model.build_tree("classes", "eth0", link, model.parse_classes("classes", specs or SPECS), leaf)


def live(qdiscs=QDISCS, classes=CLASSES, filters=""):
    return reading.parse("eth0", qdiscs, classes, filters)


def lines(steps):
    return [step.line for step in steps]


@pytest.mark.parametrize("text, bits", [("40Mbit", 4 * 10**7), ("2500Mbit", 25 * 10**8), ("1234567bit", 1234567), ("1.5Gbit", 15 * 10**8), ("x", 0)])
def test_rates_of_tc(text, bits):
    assert reading.parse_bits(text) == bits


@pytest.mark.parametrize("text, size", [("15Kb/1", 15360), ("15337b", 15337), ("1Mb/1", 2**20), ("62500b/1mpu", 62500), ("x", 0)])
def test_sizes_of_tc(text, size):
    assert reading.parse_bytes(text) == size


def test_what_is_wanted_needs_no_step():
    assert lib.plan(tree(), live()) == []


def test_an_interface_without_a_shaper_gets_the_whole_tree():
    for qdiscs in ("", "qdisc noqueue 0: root refcnt 2\n", "qdisc mq 0: root\nqdisc fq_codel 0: parent :1 limit 10240p\n"):
        found = live(qdiscs, "")
        assert lines(lib.plan(tree(), found)) == lib.whole(tree())
        assert not lib.is_foreign(found)
        assert lib.undo(found) == ["qdisc del dev eth0 root"]


@pytest.mark.parametrize(
    "qdiscs, foreign",
    [
        ("qdisc tbf 9: root refcnt 2 rate 1Gbit burst 500Kb lat 50ms\n", True),
        ("qdisc htb 2: root refcnt 2 r2q 10 default 0x20\n", True),
        (QDISCS.replace("0x20", "0x10"), False),
    ],
)
def test_a_root_that_cannot_be_changed_is_replaced(qdiscs, foreign):
    assert lines(lib.plan(tree(), live(qdiscs))) == lib.whole(tree())
    assert lib.is_foreign(live(qdiscs)) is foreign


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("rate 60Mbit", "rate 50Mbit", ["class replace dev eth0 parent 1:1 classid 1:10"]),
        (
            "ceil 100Mbit linklayer ethernet burst 7500b",
            "ceil 90Mbit linklayer ethernet burst 7500b",
            ["class replace dev eth0 parent 1:1 classid 1:10"],
        ),
        ("prio 3", "prio 0", ["class replace dev eth0 parent 1:1 classid 1:20"]),
        ("quantum 5000", "quantum 60000", ["class replace dev eth0 parent 1:1 classid 1:20"]),
        ("root rate 100Mbit", "root rate 200Mbit", ["class replace dev eth0 parent 1: classid 1:1"]),
        ("burst 5000b", "burst 1600b", ["class replace dev eth0 parent 1:1 classid 1:20"]),
    ],
)
def test_a_class_that_differs_is_changed_in_place(old, new, expected):
    steps = lines(lib.plan(tree(), live(classes=CLASSES.replace(old, new, 1))))
    assert [line.split(" htb ")[0] for line in steps] == expected


def test_a_class_that_is_absent_comes_back_with_its_queue():
    found = live(QDISCS.replace("qdisc pfifo 20: parent 1:20 limit 100p\n", ""), "".join(CLASSES.splitlines(True)[:2]))
    assert [line.split()[:2] + [line.split()[-1]] for line in lines(lib.plan(tree(), found))] == [
        ["class", "replace", "5000"],
        ["qdisc", "replace", "100"],
    ]


def test_classes_that_nobody_declared_go_children_first():
    extra = "class htb 1:77 parent 1:1 rate 1Mbit ceil 1Mbit\nclass htb 1:78 parent 1:77 leaf 8001: prio 0 quantum 1514 rate 1Mbit ceil 1Mbit\n"
    assert lines(lib.plan(tree(), live(classes=CLASSES + extra))) == ["class del dev eth0 classid 1:78", "class del dev eth0 classid 1:77"]


def test_a_class_below_another_parent_is_made_anew():
    moved = CLASSES.replace("1:20 parent 1:1", "1:20 parent 1:")
    steps = lines(lib.plan(tree(), live(classes=moved)))
    assert steps[0] == "class del dev eth0 classid 1:20"
    assert steps[1].startswith("class replace dev eth0 parent 1:1 classid 1:20")
    assert steps[2].startswith("qdisc replace dev eth0 parent 1:20 handle 20:")


def test_filters_that_nobody_declared_go():
    steps = lines(
        lib.plan(tree(), live(filters="filter parent 1: protocol ip pref 1 u32 chain 0 \nfilter parent 1: protocol ip pref 1 u32 fh 800:\n"))
    )
    assert steps == ["filter del dev eth0 parent 1:"]


@pytest.mark.parametrize(
    "new, expected",
    [
        ("qdisc pfifo 20: parent 1:20 limit 7p", ["del", "replace"]),
        ("qdisc tbf 20: parent 1:20 rate 1Mbit burst 5Kb", ["del", "replace"]),
        ("qdisc pfifo 8003: parent 1:20 limit 100p", ["del", "replace"]),
        ("", ["replace"]),
    ],
)
def test_a_queue_that_differs_is_replaced(new, expected):
    steps = lines(lib.plan(tree(), live(QDISCS.replace("qdisc pfifo 20: parent 1:20 limit 100p", new))))
    assert [line.split()[1] for line in steps] == expected
    assert steps[-1] == "qdisc replace dev eth0 parent 1:20 handle 20: pfifo limit 100"


@pytest.mark.parametrize(
    "leaf, shown",
    [
        ("fq_codel", "limit 10240p flows 1024 quantum 1514 target 5ms interval 100ms memory_limit 32Mb ecn drop_batch 64"),
        ("sfq", "limit 127p quantum 1514b depth 127 divisor 1024 perturb 10sec"),
    ],
)
def test_the_other_queues_are_known_again(leaf, shown):
    qdiscs = QDISCS.replace("pfifo", leaf).replace("limit 100p", shown)
    assert lib.plan(tree(leaf), live(qdiscs)) == []
    assert lib.plan(tree("pfifo"), live(qdiscs)) != []
    assert f" {leaf}" in lib.whole(tree(leaf))[-1]


@given(st.integers(min_value=10**5, max_value=10**11))
def test_the_rounding_of_tc_is_no_difference(link):
    """Show each class as tc would, and plan again."""

    def rate(bits):
        for unit in ("", "K", "M", "G", "T"):
            if bits < 1000 or (bits % 1000 and bits < 1000 * 1000):
                return f"{bits}{unit}bit"
            bits //= 1000
        return f"{bits}Pbit"

    def size(count):
        if count >= 2**20 and abs(2**20 * round(count / 2**20) - count) < 1024:
            return f"{round(count / 2**20)}Mb"
        if count >= 1024 and abs(1024 * round(count / 1024) - count) < 16:
            return f"{round(count / 1024)}Kb"
        return f"{count}b"

    made = tree(link=link)
    shown = ""
    for cls in made.classes:
        where = "root" if cls.prio is None else f"parent {cls.parent} leaf {cls.classid[2:]}: prio {cls.prio} quantum {cls.quantum}"
        shown += f"class htb {cls.classid} {where} rate {rate(cls.rate)} ceil {rate(cls.ceil)} burst {size(cls.burst)}/1 mpu 0b cburst {size(cls.cburst)}/1\n"
    assert lib.plan(made, live(classes=shown)) == []


def test_undo_of_a_tree_of_ours_is_that_tree():
    assert lib.undo(live()) == lib.whole(tree())[:5] + sorted(lib.whole(tree())[5:], reverse=True)


def test_the_file_for_boot_holds_on_any_state():
    whole = lib.whole(tree())
    assert whole[0] == "qdisc replace dev eth0 root handle 2: pfifo limit 1000"
    assert whole[1] == "qdisc replace dev eth0 root handle 1: htb default 20 r2q 10"
    assert all(" quantum " in line for line in whole if line.startswith("class"))


def test_both_sides_of_the_diff_look_alike():
    named = tree()
    assert lib.describe_live(live(), named.names) == lib.describe_tree(named)
    assert lib.describe_live(live("qdisc noqueue 0: root refcnt 2\n", ""), {}) == "eth0 root noqueue 0:\n"


class Shell:
    """Fails the commands that hold one of the given words."""

    def __init__(self, **failing):
        self.failing, self.calls, self.out = failing, [], ""

    def __call__(self, argv, data=None):
        self.calls.append((" ".join(argv), data))
        for word, error in self.failing.items():
            if word in " ".join(argv):
                return (1, "", error)
        return (0, self.out, "")


def test_a_failed_step_brings_back_what_was_there():
    shell = Shell(**{"tc -batch": "Error: Exclusivity flag on, cannot modify.\nCommand failed -:3\n"})
    with pytest.raises(model.ShapingError, match="Exclusivity flag on, cannot modify; what was there before is back"):
        acting.apply(shell, lib.whole(tree()), live())
    assert shell.calls[-1] == ("tc -force -batch -", "\n".join(lib.undo(live())) + "\n")


def test_rehearsal():
    acting.rehearse(Shell(), "eth0", ["x"])
    acting.rehearse(Shell(unshare="unshare: unshare failed: Operation not permitted"), "eth0", ["x"])
    with pytest.raises(model.ShapingError, match="eth0: the kernel refuses the classes: Error: no such thing; nothing was changed"):
        acting.rehearse(Shell(**{"--net sh": "Error: no such thing.\n"}), "eth0", ["x"])


@pytest.mark.parametrize(
    "out, expected",
    [
        ("htb\nfq_codel\n", (True, "fq_codel", "")),
        ("htb\nsfq\n", (True, "sfq", "")),
        ("htb\n", (False, "", "the kernel has no queue to put below a class")),
    ],
)
def test_probe(out, expected):
    shell = Shell()
    shell.out = out
    assert acting.probe(shell) == expected


def test_probe_without_a_right_to_namespaces_makes_and_removes_a_device():
    shell = Shell(unshare="unshare: unshare failed: Operation not permitted")
    shell.out = "htb\npfifo\n"
    assert acting.probe(shell)[:2] == (True, "pfifo")
    assert [line.split()[:3] for line, dummy in shell.calls if line.startswith("ip ")] == [["ip", "link", "add"], ["ip", "link", "del"]]


def test_the_default_route():
    routes = [line.split() for line in ("eth1 00000000 014D1FAC 0003 0 0 100 00000000 0 0 0", "eth0 00000000 014D1FAC 0003 0 0 0 00000000 0 0 0")]
    routes6 = [("00000000000000000000000000000000 00 " + "0" * 32 + " 00 " + "0" * 32 + " 00000400 00000003 0 3 eth2").split()]
    other = ["eth0 004D1FAC 00000000 0001 0 0 0 00FFFFFF 0 0 0".split()]
    assert acting.pick_default(routes + other, routes6) == ["eth0"]
    assert acting.pick_default(other, routes6) == ["eth2"]
    assert acting.pick_default(other, []) == []


def test_interfaces_of_an_earlier_run_are_found_again(tmp_path):
    path = tmp_path / "qos.tc"
    assert acting.persisted_devices(str(path)) == []
    path.write_text("# x\n" + "\n".join(lib.whole(tree())) + "\n")
    assert acting.persisted_devices(str(path)) == ["eth0"]
    assert lib.off(["eth0"]) == ["qdisc del dev eth0 root"]
