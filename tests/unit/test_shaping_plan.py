# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/shaping: reading tc's text (live), and the way to what is wanted (plan, host)."""

from __future__ import annotations

import re

import jinja2
import pytest
from conftest import ROOT
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
class htb 1:1 root rate 100Mbit ceil 100Mbit linklayer ethernet burst 50000b/1 mpu 0b cburst 50000b/1 mpu 0b level 7
class htb 1:10 parent 1:1 leaf 10: prio 1 quantum 7500 rate 60Mbit ceil 100Mbit linklayer ethernet burst 30000b/1 mpu 0b cburst 50000b/1 mpu 0b level 0
class htb 1:20 parent 1:1 leaf 20: prio 3 quantum 5000 rate 40Mbit ceil 100Mbit linklayer ethernet burst 20000b/1mpu 0b cburst 50000b/1mpu 0b level 0
"""


def tree(shaper="htb+pfifo", link=10**8, specs=None, **more):
    return model.build_tree("classes", model.Link("eth0", link, link // 2), model.parse_classes("classes", specs or SPECS), shaper, **more)


def live(qdiscs=QDISCS, classes=CLASSES, filters="", arrival="", device="eth0"):
    return reading.parse(device, qdiscs, classes, filters, arrival)


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
        assert lib.undo(found, live()) == ["qdisc del dev eth0 root"]


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
            "ceil 100Mbit linklayer ethernet burst 30000b",
            "ceil 90Mbit linklayer ethernet burst 30000b",
            ["class replace dev eth0 parent 1:1 classid 1:10"],
        ),
        ("prio 3", "prio 0", ["class replace dev eth0 parent 1:1 classid 1:20"]),
        ("quantum 5000", "quantum 60000", ["class replace dev eth0 parent 1:1 classid 1:20"]),
        ("root rate 100Mbit", "root rate 200Mbit", ["class replace dev eth0 parent 1: classid 1:1"]),
        ("burst 20000b", "burst 1600b", ["class replace dev eth0 parent 1:1 classid 1:20"]),
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


FILTERS = """\
filter parent 1: protocol ip pref 10 u32 chain 0
filter parent 1: protocol ip pref 10 u32 chain 0 fh 800: ht divisor 1
filter parent 1: protocol ip pref 10 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 flowid 1:10 not_in_hw
  match 00680000/00fc0000 at 0
filter parent 1: protocol ipv6 pref 11 u32 chain 0
filter parent 1: protocol ipv6 pref 11 u32 chain 0 fh 801: ht divisor 1
filter parent 1: protocol ipv6 pref 11 u32 chain 0 fh 801::800 order 2048 key ht 801 bkt 0 *flowid 1:10 not_in_hw
  match 06800000/0fc00000 at 0
"""
ARRIVAL = """\
filter protocol all pref 49000 u32 chain 0
filter protocol all pref 49000 u32 chain 0 fh 800: ht divisor 1
filter protocol all pref 49000 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 terminal flowid not_in_hw
  match 00000000/00000000 at 0
\taction order 1: mirred (Egress Redirect to device ifb-eth0) stolen
\t index 1 ref 1 bind 1

"""
WANTED = (model.Filter(10, "ip", ((0, 26 << 18, 0xFC << 16),), "1:10"), model.Filter(11, "ipv6", ((0, 26 << 22, 0x3F << 22),), "1:10"))
LINK = model.Link("eth0", 10**8, 10**8)


def test_filters_are_read_as_they_were_written():
    assert reading.parse_filters(FILTERS) == {10: [WANTED[0]], 11: [WANTED[1]]}
    assert reading.parse_filters(ARRIVAL) == {49000: [lib.classify.redirect(LINK)]}
    other = "filter protocol all pref 7 bpf chain 0 \nfilter protocol all pref 7 bpf chain 0 handle 0x1 x.o direct-action\n"
    assert reading.parse_filters(other) == {7: ["bpf"]}
    policed = ARRIVAL + "\taction order 2:  police 0x1 rate 1Mbit\n"
    assert reading.parse_filters(policed)[49000] == ["u32"]


def test_filters_that_are_as_wanted_stay():
    assert lib.plan(tree(filters=WANTED), live(filters=FILTERS)) == []


def test_filters_that_nobody_declared_go_before_the_classes_and_come_last():
    steps = lines(
        lib.plan(tree(filters=WANTED[1:] + (model.Filter(12, "ip", ((0, 1, 1),), "1:20"),)), live("", CLASSES, FILTERS)._replace(root=live().root))
    )
    assert steps[0] == "filter del dev eth0 parent 1: pref 10"
    assert steps[-1] == "filter add dev eth0 parent 1: protocol ip pref 12 u32 match u32 0x00000001 0x00000001 at 0 flowid 1:20"
    moved = WANTED[0]._replace(target="1:20")
    assert [line.split()[1] for line in lines(lib.plan(tree(filters=(moved, WANTED[1])), live(filters=FILTERS)))] == ["del", "add"]


def ingress(stand_in=None, arrival=ARRIVAL, qdiscs=QDISCS + "qdisc clsact ffff: parent ffff:fff1\n"):
    wanted = tree(filters=WANTED)._replace(device="ifb-eth0")
    stand_in = stand_in or live(filters=FILTERS, device="ifb-eth0")
    return [(step.tool, step.line) for step in lib.plan_ingress(LINK, wanted, live(qdiscs, arrival=arrival), stand_in)]


REDIRECT = "filter add dev eth0 ingress protocol all pref 49000 u32 match u32 0x00000000 0x00000000 at 0 action mirred egress redirect dev ifb-eth0"


def test_what_comes_in_and_is_as_wanted_needs_no_step():
    assert ingress() == []


def test_what_comes_in_is_redirected_last():
    steps = ingress(live("", "", device="ifb-eth0"), "", QDISCS)
    assert steps[:2] == [("ip", "link add dev ifb-eth0 type ifb"), ("ip", "link set dev ifb-eth0 up")]
    assert steps[2:-2] == [("tc", line) for line in lib.whole(tree(filters=WANTED)._replace(device="ifb-eth0"))]
    assert steps[-2:] == [("tc", "qdisc add dev eth0 clsact"), ("tc", REDIRECT)]


def test_a_stand_in_that_is_down_and_filters_of_others():
    assert ingress(live(filters=FILTERS, device="ifb-eth0")._replace(up=False)) == [("ip", "link set dev ifb-eth0 up")]
    others = ARRIVAL + "filter protocol ip pref 3 u32 chain 0 fh 802::800 order 2048 key ht 802 bkt 0 flowid 1:3\n  match 00000001/00000001 at 0\n"
    assert ingress(arrival=others) == [("tc", "filter del dev eth0 ingress pref 3")]
    assert lib.foreign_arrival(live(arrival=others)) == [3]
    gone = ARRIVAL.replace("ifb-eth0", "if7")
    assert ingress(arrival=gone) == [("tc", "filter del dev eth0 ingress pref 49000"), ("tc", REDIRECT)]


def test_what_comes_in_is_left_alone_again():
    clsact = QDISCS + "qdisc clsact ffff: parent ffff:fff1\n"
    nothing = live("", "", device="ifb-eth0")
    steps = lib.plan_no_ingress("eth0", live(clsact, arrival=ARRIVAL), live(device="ifb-eth0"))
    assert lines(steps) == ["filter del dev eth0 ingress pref 49000", "qdisc del dev eth0 clsact", "link del dev ifb-eth0"]
    others = ARRIVAL.replace("49000", "7")
    assert lib.plan_no_ingress("eth0", live(clsact, arrival=others), nothing) == [], "the filters of others are theirs"
    assert lines(lib.plan_no_ingress("eth0", live(clsact, arrival=others + ARRIVAL), nothing)) == ["filter del dev eth0 ingress pref 49000"]
    assert lib.plan_no_ingress("eth0", live(clsact), nothing) == []
    shared = live(clsact, arrival=ARRIVAL)._replace(shared=True)
    assert lines(lib.plan_no_ingress("eth0", shared, nothing)) == ["filter del dev eth0 ingress pref 49000"]


def test_what_boot_loads():
    loaded = lib.boot(LINK, [tree(), tree(filters=WANTED)._replace(device="ifb-eth0")])
    assert loaded[: len(lib.whole(tree()))] == lib.whole(tree())
    assert loaded[-1] == REDIRECT and lib.boot(LINK._replace(ingress=0), [tree()]) == lib.whole(tree())


def test_what_the_link_adds_is_kept():
    link = model.Link("eth0", 10**8, 0, 18, 64)
    wanted = model.build_tree("x", link, model.parse_classes("x", SPECS), "htb+pfifo")
    assert " overhead 18 mpu 64 " in lib.whole(wanted)[2]
    shown = CLASSES.replace("mpu 0b", "mpu 64b").replace("linklayer", "overhead 18 linklayer")
    assert lib.plan(wanted, live(classes=shown)) == []
    assert len(lib.plan(wanted, live())) == len(lib.plan(tree(), live(classes=shown))) == 3


CAKE = "qdisc cake 1: root refcnt 2 bandwidth 100Mbit diffserv4 triple-isolate nonat nowash no-ack-filter split-gso rtt 100ms raw overhead 0 \n"


def test_cake_alone():
    made = tree("cake")
    assert lib.whole(made) == [
        "qdisc replace dev eth0 root handle 2: pfifo limit 1000",
        "qdisc replace dev eth0 root handle 1: cake bandwidth 100000000bit diffserv4 overhead 0 mpu 0",
    ]
    assert lib.plan(made, live(CAKE, "")) == [] and not lib.is_foreign(live(CAKE, ""))
    slower = lines(lib.plan(made, live(CAKE.replace("100Mbit", "90Mbit"), "")))
    assert slower == ["qdisc replace dev eth0 root handle 1: cake bandwidth 100000000bit diffserv4 overhead 0 mpu 0"], "in place"
    assert lines(lib.plan(made, live())) == lib.whole(made) and lines(lib.plan(tree(), live(CAKE, ""))) == lib.whole(tree())
    incoming = tree("cake", ingress=True)
    assert lib.whole(incoming)[-1] == "qdisc replace dev ifb-eth0 root handle 1: cake bandwidth 50000000bit diffserv4 overhead 0 mpu 0 ingress"
    assert "cake" in lib.describe_live(live(CAKE, ""), {}) and "100000000bit" in lib.describe_tree(made)


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
        ("cake", "bandwidth unlimited besteffort triple-isolate nonat nowash no-ack-filter split-gso rtt 100ms raw overhead 0"),
    ],
)
def test_the_other_queues_are_known_again(leaf, shown):
    qdiscs = QDISCS.replace("pfifo", leaf).replace("limit 100p", shown)
    assert lib.plan(tree(f"htb+{leaf}"), live(qdiscs)) == []
    assert lib.plan(tree(), live(qdiscs)) != []
    assert f" {leaf}" in lib.whole(tree(f"htb+{leaf}"))[-1]


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


def test_a_burst_that_tc_cut_is_written_again():
    cut = live(classes=CLASSES.replace("burst 30000b", "burst 29985b"))
    assert lib.refine(live(), live()) == []
    (line,) = lib.refine(live(), cut)
    assert line.startswith("class replace dev eth0 parent 1:1 classid 1:10 htb rate 60000000bit ceil 100000000bit burst 30012 cburst 50019 ")


def test_undo_of_a_tree_of_ours_is_that_tree():
    assert lib.undo(live(), live()) == []
    gone = lib.undo(live(filters=FILTERS), live("qdisc noqueue 0: root refcnt 2\n", ""))
    assert sorted(gone) == sorted(lib.whole(tree(filters=WANTED)))
    changed = live(classes=CLASSES.replace("rate 60Mbit", "rate 50Mbit"), filters=FILTERS)
    assert [line.split()[:2] for line in lib.undo(live(), changed)] == [["filter", "del"]] * 2 + [["class", "replace"]], "in place"


def test_undo_of_a_tree_of_somebody_else():
    tbf = live("qdisc tbf 9: root refcnt 2 rate 1Gbit burst 500Kb lat 50ms\n", "")
    assert lib.undo(tbf, live()) == ["qdisc del dev eth0 root", "qdisc replace dev eth0 root handle 9: tbf rate 1Gbit burst 500Kb lat 50ms"]
    assert lib.undo(tbf, tbf) == []


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


def test_a_failed_step_says_which():
    shell = Shell(**{"tc -batch": "Error: Exclusivity flag on, cannot modify.\nCommand failed -:3\n"})
    steps = [lib.Step("link add dev x type ifb", "", "ip"), lib.Step("a", ""), lib.Step("b", ""), lib.Step("link set dev x up", "", "ip")]
    with pytest.raises(
        model.ShapingError, match="^eth0: tc refused a step: Error: Exclusivity flag on, cannot modify; what was there before is back$"
    ):
        acting.apply(shell, steps, "eth0")
    assert shell.calls == [("ip -batch -", "link add dev x type ifb\n"), ("tc -batch -", "a\nb\n")]


def test_going_back_removes_what_was_not_there_before():
    class Host(Shell):
        def __call__(self, argv, data=None):
            super().__call__(argv, data)
            now = {"-d qdisc show dev ifb-eth0": QDISCS, "-d qdisc show dev eth0": QDISCS + "qdisc clsact ffff: parent ffff:fff1\n"}
            now["filter show dev eth0 ingress"] = ARRIVAL
            return (0, now.get(" ".join(argv[1:]), ""), "")

    shell = Host()
    acting.restore(shell, acting.Snapshot(live("qdisc noqueue 0: root refcnt 2\n", ""), live("", "", device="ifb-eth0")))
    done = [line for command, data in shell.calls if "-batch" in command for line in data.splitlines()]
    assert done == ["filter del dev eth0 ingress pref 49000", "qdisc del dev eth0 clsact", "link del dev ifb-eth0", "qdisc del dev eth0 root"]
    assert all("-force" in command for command, dummy in shell.calls if "-batch" in command)


def test_rehearsal():
    acting.rehearse(Shell(), "eth0", ["x"])
    acting.rehearse(Shell(unshare="unshare: unshare failed: Operation not permitted"), "eth0", ["x"])
    with pytest.raises(model.ShapingError, match="eth0: the kernel refuses the classes: Error: no such thing; nothing was changed"):
        acting.rehearse(Shell(**{"--net sh": "Error: no such thing.\n"}), "eth0", ["x"])


@pytest.mark.parametrize(
    "out, shapers, ingress, reason",
    [
        ("htb\nhtb+cake\nhtb+fq_codel\nhtb+sfq\nhtb+pfifo\ncake\ningress\n", model.SHAPERS, True, ""),
        ("htb\nhtb+pfifo\nhtb+fq_codel\n", ("htb+fq_codel", "htb+pfifo"), False, ""),
        ("htb\nhtb+sfq\n", ("htb+sfq",), False, ""),
        ("cake\ningress\n", ("cake",), True, ""),
        ("htb\n", (), False, "the kernel has no queue to put below a class"),
        ("", (), False, "no reason given"),
    ],
)
def test_probe(out, shapers, ingress, reason):
    shell = Shell()
    shell.out = out
    assert acting.probe(shell) == (shapers, ingress, reason)


def test_the_order_of_the_shapers():
    assert model.SHAPERS == ("htb+cake", "htb+fq_codel", "htb+sfq", "htb+pfifo", "cake")


@pytest.mark.parametrize("refused, made", [("", ["ifb"]), ("crmprobe0 type ifb", ["ifb", "veth"])])
def test_probe_without_a_right_to_namespaces_makes_and_removes_a_device(refused, made):
    shell = Shell(unshare="unshare: unshare failed: Operation not permitted", **({refused: "Unknown device type"} if refused else {}))
    shell.out = "htb\nhtb+pfifo\n"
    assert acting.probe(shell).shapers == ("htb+pfifo",)
    calls = [line.split() for line, dummy in shell.calls if line.startswith("ip ")]
    assert [words[2:4] + words[5:6] for words in calls] == [["add", "crmprobe0", kind] for kind in made] + [["del", "crmprobe0"]]


def test_the_default_route():
    routes = [line.split() for line in ("eth1 00000000 014D1FAC 0003 0 0 100 00000000 0 0 0", "eth0 00000000 014D1FAC 0003 0 0 0 00000000 0 0 0")]
    routes6 = [("00000000000000000000000000000000 00 " + "0" * 32 + " 00 " + "0" * 32 + " 00000400 00000003 0 3 eth2").split()]
    other = ["eth0 004D1FAC 00000000 0001 0 0 0 00FFFFFF 0 0 0".split()]
    assert acting.pick_default(routes + other, routes6) == ["eth0"]
    assert acting.pick_default(other, routes6) == ["eth2"]
    assert acting.pick_default(other, []) == []


def test_interfaces_of_an_earlier_run_are_found_again(tmp_path):
    assert acting.persisted_devices(str(tmp_path / "none")) == []
    for name in ("qos-eth0.tc", "qos-br-lan.7.tc", "qos.nft", "qos-eth1.tc.old"):
        (tmp_path / name).write_text("")
    assert acting.persisted_devices(str(tmp_path)) == ["br-lan.7", "eth0"]
    assert lib.off(["eth0"]) == ["qdisc del dev eth0 root"]


def test_the_unit_knows_the_preference_of_the_filter():
    text = (ROOT / "roles/qos/templates/crm-platform-qos-link.service.j2").read_text()
    assert set(re.findall(r"ingress pref (\d+)", text)) == {str(model.REDIRECT_PREF)}


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("ifb", ["ifb-eth0", ""])
def test_the_unit_of_an_interface(bound, ifb):
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["comment"] = lambda text: f"# {text}"
    template = environment.from_string((ROOT / "roles/qos/templates/crm-platform-qos-link.service.j2").read_text())
    link = {"device": "br-lan", "unit": model.unit_name("br-lan"), "ifb": ifb, "bound": bound}
    text = template.render(ansible_managed="x", _qos_link=link, _qos_unit="crm-platform-qos", crm_platform_config_directory="/etc/crm-platform")
    device = "sys-subsystem-net-devices-br\\x2dlan.device"
    assert (f"\nBindsTo={device}\nAfter={device}\n" in text) is bound
    assert text.endswith(f"\n[Install]\nWantedBy=crm-platform-qos.service{' ' + device if bound else ''}")
    assert "\nExecStart=/usr/sbin/tc -batch /etc/crm-platform/qos-br-lan.tc\n" in text
    stops = [line.split("=-/usr/sbin/")[1] for line in text.splitlines() if line.startswith("ExecStopPost=")]
    incoming = ["tc filter del dev br-lan ingress pref 49000", f"ip link del dev {ifb}"]
    assert stops == (incoming if ifb else []) + ["tc qdisc del dev br-lan root"]
    assert ("ip link add" in text) is bool(ifb)
