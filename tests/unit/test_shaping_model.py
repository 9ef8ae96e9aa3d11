# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/shaping/model.py, under the module traffic_shaping: rates, and which classes can be had."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils.shaping import model as lib

CLASSES = [
    {"name": "crm", "guarantee": "60%", "priority": 1, "dscp": "af31"},
    {"name": "other", "guarantee": "30%", "default": True},
    {"name": "bulk", "guarantee": "10mbit", "ceil": "80mbit", "priority": 7, "matches": [{"dscp": ["cs1", 2]}]},
]


def tree(specs=None, link=10**8, shaper="htb+pfifo", **more):
    return lib.build_tree(
        "qos_classes", lib.Link("eth0", link, 5 * 10**7, 18, 64), lib.parse_classes("qos_classes", specs or CLASSES), shaper, **more
    )


def changed(index, **values):
    return [dict(spec, **values) if number == index else spec for number, spec in enumerate(CLASSES)]


@pytest.mark.parametrize(
    "text, bits",
    [
        ("100mbit", 10**8),
        ("1.5gbit", 1500 * 10**6),
        ("800kbit", 800_000),
        ("100Mbit", 10**8),
        ("5000bit", 5000),
        ("10 mbit/s", 10**7),
        ("1tbit", 10**12),
    ],
)
def test_rates(text, bits):
    assert lib.parse_rate("rate", text) == bits


@pytest.mark.parametrize("text", ["10mb", "fast", "", "-5mbit", "mbit", "10", "1e3bit", "10%"])
def test_what_is_no_rate(text):
    with pytest.raises(lib.ShapingError, match="^qos_rate: .*no rate; give a number"):
        lib.parse_rate("qos_rate", text)


def test_percent_of_a_link():
    assert lib.parse_rate("rate", "40%", 10**8) == 4 * 10**7
    assert lib.parse_rate("rate", "2.5%", 10**8) == 2_500_000


def test_too_little():
    with pytest.raises(lib.ShapingError, match="too little"):
        lib.parse_rate("rate", "999bit")


@given(st.integers(min_value=1000, max_value=10**13))
def test_a_rate_that_is_written_is_read_the_same(bits):
    assert lib.parse_rate("rate", lib.format_rate(bits)) == bits


@given(st.integers(min_value=1000, max_value=10**12))
def test_burst_and_quantum_are_what_the_kernel_takes(rate):
    assert lib.burst(rate) >= 2 * 1514
    assert 1514 <= lib.quantum(rate) <= 60000


def test_the_tree():
    made = tree()
    assert [(cls.classid, cls.parent, cls.rate, cls.ceil, cls.prio) for cls in made.classes] == [
        ("1:1", "1:", 10**8, 10**8, None),
        ("1:10", "1:1", 6 * 10**7, 10**8, 1),
        ("1:20", "1:1", 3 * 10**7, 10**8, 3),
        ("1:30", "1:1", 10**7, 8 * 10**7, 7),
    ]
    assert made.default == "20"
    assert [(leaf.parent, leaf.handle, leaf.kind) for leaf in made.leaves] == [
        ("1:10", "10:", "pfifo"),
        ("1:20", "20:", "pfifo"),
        ("1:30", "30:", "pfifo"),
    ]
    assert made.names == {"1:10": "crm", "1:20": "other", "1:30": "bulk"}


@pytest.mark.parametrize(
    "specs, said",
    [
        (changed(0, guarantee="61%"), "qos_classes: the guarantees add up to 101mbit, more than the 100mbit of eth0; lower"),
        (changed(2, guarantee="200mbit"), "qos_classes: bulk: guarantee 200mbit is above the 100mbit of eth0"),
        (changed(2, ceil="101mbit"), "qos_classes: bulk: ceil 101mbit is above the 100mbit of eth0"),
        (changed(2, ceil="5mbit"), "qos_classes: bulk: ceil 5mbit is below guarantee 10mbit"),
        (changed(1, default=False), "qos_classes: no class is marked default; mark exactly one"),
        (changed(0, default=True), r"qos_classes: 2 classes are \(crm, other\) marked default; mark exactly one"),
        (changed(0, name="bulk"), "qos_classes: bulk: the class is defined twice"),
        (changed(0, name="CRM"), "qos_classes: CRM: this name is not allowed"),
        (changed(0, priority=8), "qos_classes: crm: priority 8 is not allowed; give 0"),
        (changed(0, dscp="af99"), "qos_classes: crm: dscp: af99 is no DSCP"),
        (changed(0, guarantee="60"), "qos_classes: crm: guarantee: 60 is no rate"),
        (changed(0, matches=[{}]), "qos_classes: crm: matches has an empty entry"),
        (changed(0, matches=[{"ports": ["0"]}]), "qos_classes: crm: ports: port 0 is not allowed"),
        (changed(0, matches=[{"ports": ["1-65536"]}]), "qos_classes: crm: ports: port 1-65536 is not allowed"),
        (changed(0, matches=[{"ports": ["9-8"]}]), "qos_classes: crm: ports: the range 9-8 is reversed; write the lower port first, 8-9"),
        (changed(0, matches=[{"addresses": ["10.0.0.0/33"]}]), "qos_classes: crm: addresses: 10.0.0.0/33 is no address"),
        ([{"name": f"c{number}", "guarantee": "1kbit", "default": number == 0} for number in range(100)], "100 classes are too many"),
        ([], "no class is marked default"),
        (changed(0, matches=[{"users": ["no such"]}]), "qos_classes: crm: users: no such is no user; give the name of an account"),
        (
            changed(0, matches=[{"ports": ["443"]}])[:2] + [{"name": "bulk", "guarantee": "1%", "matches": [{"ports": ["443"]}]}],
            r"qos_classes: bulk: no packet is left for its match \(ports 443\), as crm comes before it and takes ports 443; remove",
        ),
        (
            changed(0, matches=[{"addresses": ["192.0.2.0/24"]}])[:2]
            + [{"name": "bulk", "guarantee": "1%", "matches": [{"addresses": ["192.0.2.7"], "ports": [9]}]}],
            "qos_classes: bulk: no packet is left for its match",
        ),
        (
            changed(0, matches=[{"ports": ["8000-8010"]}])[:2] + [{"name": "bulk", "guarantee": "1%", "matches": [{"ports": ["8005-8020"]}]}],
            r"qos_classes: crm \(ports 8000-8010\) and bulk \(ports 8005-8020\) overlap; each packet has one class",
        ),
        (
            changed(0, matches=[{"dscp": ["ef", "cs1"]}])[:2] + [{"name": "bulk", "guarantee": "1%", "matches": [{"dscp": ["8", "2"]}]}],
            "overlap; each packet has one class",
        ),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(specs, said):
    with pytest.raises(lib.ShapingError, match=said) as caught:
        lib.build_tree("qos_classes", lib.Link("eth0", 10**8), lib.parse_classes("qos_classes", specs), "htb+pfifo")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "first, second",
    [
        ({"ports": ["8005"]}, {"ports": ["8000-8010"]}),
        ({"ports": ["443"]}, {"ports": ["443"], "protocol": "udp"}),
        ({"addresses": ["192.0.2.7"]}, {"addresses": ["192.0.2.0/24"]}),
        ({"addresses": ["::/0"]}, {"addresses": ["0.0.0.0/0"]}),
        ({"ports": ["443"]}, {"addresses": ["192.0.2.0/24"]}),
        ({"users": ["postgres"]}, {"users": ["backup"]}),
        ({"dscp": ["af31"]}, {"dscp": ["af32"]}),
    ],
)
def test_exceptions_before_their_rule_and_matches_apart_are_fine(first, second):
    lib.parse_classes("x", changed(0, matches=[first])[:2] + [{"name": "bulk", "guarantee": "1%", "matches": [second]}])


def test_a_class_that_nothing_matches():
    classes = lib.parse_classes("qos_classes", CLASSES)
    lib.check_reached("qos_classes", classes, ["crm"])
    with pytest.raises(lib.ShapingError, match="^qos_classes: crm: nothing matches this class; give it matches"):
        lib.check_reached("qos_classes", classes, ["database"])


def test_what_comes_in_has_a_tree_of_its_own():
    made = tree(changed(2, guarantee="1mbit", ceil="40mbit"), ingress=True)
    assert made.device == "ifb-eth0"
    assert [(cls.rate, cls.ceil) for cls in made.classes] == [(5 * 10**7,) * 2, (3 * 10**7, 5 * 10**7), (15 * 10**6, 5 * 10**7), (10**6, 4 * 10**7)]
    with pytest.raises(lib.ShapingError, match="qos_classes: bulk: ceil 80mbit is above the 50mbit that come in of eth0"):
        tree(ingress=True)


def test_what_a_link_adds_is_told_to_every_class():
    assert {(cls.overhead, cls.mpu) for cls in tree().classes} == {(18, 64)}
    assert lib.parse_size("qos_mpu", 64, 256) == 64
    with pytest.raises(lib.ShapingError, match="^qos_overhead: -1 is not allowed; give 0 to 256 bytes$"):
        lib.parse_size("qos_overhead", -1, 256)


@pytest.mark.parametrize("shaper", lib.SHAPERS)
def test_each_shaper_has_its_tree(shaper):
    made = tree(shaper=shaper)
    assert made.kind == shaper.partition("+")[0]
    assert {leaf.kind for leaf in made.leaves} == ({shaper.partition("+")[2]} if "+" in shaper else set())


def test_names():
    assert lib.ifb_name("eth0") == "ifb-eth0"
    assert len(lib.ifb_name("a" * 15)) == 15 and lib.ifb_name("a" * 15) != lib.ifb_name("a" * 14)
    assert lib.unit_name("br-lan.7") == "br\\x2dlan.7" and lib.unit_name("eth0") == "eth0"


def test_matches_are_normalised():
    match = lib.parse_match("x", {"addresses": ["192.0.2.7/24", "2001:DB8::0:7", "198.51.100.1/32"], "ports": [80, "8000-8010"], "dscp": ["EF", 10]})
    assert match.addresses == ("192.0.2.0/24", "2001:db8::7", "198.51.100.1")
    assert match.ports == ("80", "8000-8010")
    assert match.dscp == ("ef", "10")


def test_interfaces():
    assert lib.parse_interface("qos_interfaces", "eth0.100") == "eth0.100"
    for name in ("", "eth0; reboot", "a" * 16, "eth 0"):
        with pytest.raises(lib.ShapingError, match="no name of an interface"):
            lib.parse_interface("qos_interfaces", name)
