# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/shaping/classify.py: which packet goes into which class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils.shaping import classify as lib
from ansible_collections.crm.platform.plugins.module_utils.shaping import model

CLASSES = model.parse_classes(
    "classes",
    [
        {"name": "crm", "guarantee": "60%", "dscp": "af31"},
        {"name": "other", "guarantee": "30%", "default": True},
        {"name": "bulk", "guarantee": "10%", "matches": [{"dscp": ["cs1"]}]},
    ],
)


def services(*specs):
    return lib.parse_services("services", "qos_classes", specs, CLASSES)


def rules(match):
    return lib.match_rules(CLASSES[0]._replace(matches=(model.parse_match("x", match),)))


def test_answers_of_what_is_served_here():
    (service,) = services({"name": "web", "ports": [80, 443], "traffic_class": "crm"})
    assert lib.service_rules(service) == ["tcp sport { 80, 443 } goto class_crm"]


def test_requests_to_peers_by_family():
    (service,) = services({"name": "db", "ports": [5432], "traffic_class": "crm", "served": False, "addresses": ["192.0.2.1", "2001:db8::1"]})
    assert lib.service_rules(service) == [
        "ip daddr { 192.0.2.1 } tcp dport { 5432 } goto class_crm",
        "ip6 daddr { 2001:db8::1 } tcp dport { 5432 } goto class_crm",
    ]


def test_a_class_that_is_none():
    with pytest.raises(
        model.ShapingError, match="^qos_classes: there is no class fast, which the service web names; there are crm, other, bulk, so add fast$"
    ):
        services({"name": "web", "ports": [80], "traffic_class": "fast"})


def test_what_a_class_declares():
    assert rules({"dscp": ["cs1", 2]}) == ["ip dscp { cs1, 2 } goto class_crm", "ip6 dscp { cs1, 2 } goto class_crm"]
    assert rules({"ports": ["873"], "protocol": "udp"}) == ["udp sport { 873 } goto class_crm", "udp dport { 873 } goto class_crm"]
    assert rules({"addresses": ["192.0.2.0/24"], "dscp": ["ef"]}) == ["ip daddr { 192.0.2.0/24 } ip dscp { ef } goto class_crm"]
    assert rules({"addresses": ["2001:db8::/64"], "ports": [22]}) == [
        "ip6 daddr { 2001:db8::/64 } tcp sport { 22 } goto class_crm",
        "ip6 daddr { 2001:db8::/64 } tcp dport { 22 } goto class_crm",
    ]


def test_users():
    assert rules({"users": ["postgres", 33]}) == ['meta skuid { "postgres", 33 } goto class_crm']
    assert rules({"users": ["postgres"], "dscp": ["ef"]}) == [
        'meta skuid { "postgres" } ip dscp { ef } goto class_crm',
        'meta skuid { "postgres" } ip6 dscp { ef } goto class_crm',
    ]
    assert rules({"users": ["33"], "addresses": ["192.0.2.1"], "dscp": ["ef"], "ports": [9]})[0] == (
        "ip daddr { 192.0.2.1 } meta skuid { 33 } ip dscp { ef } tcp sport { 9 } goto class_crm"
    )


@given(st.integers(min_value=1, max_value=65535), st.integers(min_value=1, max_value=65535))
def test_a_range_in_masks_is_that_range(one, other):
    low, high = sorted((one, other))
    masks = lib.masks(low, high)
    assert sum(0x10000 - mask for dummy, mask in masks) == high - low + 1
    assert all(low <= value and value + (0xFFFF ^ mask) <= high and value & mask == value for value, mask in masks)


def keys(match, *sides):
    return lib.incoming(model.parse_match("x", match), sides)


def test_what_comes_in_by_port():
    head = ((0, 0x05000000, 0x0F000000), (4, 0, 0x1FFF), (8, 0x00060000, 0x00FF0000))
    assert keys({"ports": [443]}, True) == [
        ("ip", (*head, (20, 443, 0xFFFF))),
        ("ipv6", ((4, 0x00000600, 0x0000FF00), (40, 443, 0xFFFF))),
    ]
    assert keys({"ports": ["873"], "protocol": "udp"}, False)[0][1][2:] == ((8, 0x00110000, 0x00FF0000), (20, 873 << 16, 0xFFFF0000))


def test_what_comes_in_by_address_and_mark():
    assert keys({"addresses": ["192.0.2.0/24", "2001:db8::/33"], "dscp": ["af31"]}) == [
        ("ip", ((0, 26 << 18, 0x00FC0000), (12, 0xC0000200, 0xFFFFFF00))),
        ("ipv6", ((0, 26 << 22, 0x0FC00000), (8, 0x20010DB8, 0xFFFFFFFF), (12, 0, 0x80000000))),
    ]
    # The header's length and the mark are in one word.
    assert keys({"dscp": ["cs1"], "ports": [9]}, True)[0][1][0] == (0, 0x05200000, 0x0FFC0000)


def test_filters_are_in_order_and_each_packet_is_named_once():
    served = services(
        {"name": "web", "ports": [443], "traffic_class": "crm"},
        {"name": "again", "ports": [443], "traffic_class": "other"},
        {"name": "db", "ports": [5432], "traffic_class": "crm", "served": False, "addresses": ["192.0.2.1"]},
    )
    made = lib.filters(CLASSES, served)
    assert [one.pref for one in made] == list(range(10, 10 + len(made)))
    # The match of bulk, the web by both families, the database of one address, the mark of crm by both.
    assert [(one.protocol, one.target) for one in made] == [
        ("ip", "1:30"), ("ipv6", "1:30"), ("ip", "1:10"), ("ipv6", "1:10"), ("ip", "1:10"), ("ip", "1:10"), ("ipv6", "1:10"),
    ]  # fmt: skip
    users = [CLASSES[0]._replace(dscp="", matches=(model.parse_match("x", {"users": ["ann"]}),)), CLASSES[1]]
    assert lib.filters(users, ()) == (), "nobody knows whose process a packet will reach"


def test_too_many_filters():
    ports = {"ports": [str(port) for port in range(1, 1000, 2)]}
    with pytest.raises(model.ShapingError, match="would need 2000 filters, more than 1000"):
        lib.filters([CLASSES[0]._replace(dscp="", matches=(model.parse_match("x", ports),))], ())


def test_the_whole_table():
    made = lib.ruleset("inet qos", ["eth0", "eth1"], CLASSES, services({"name": "web", "ports": [443], "traffic_class": "crm"}))
    assert made.startswith("table inet qos\ndelete table inet qos\n")
    lines = [line.strip() for line in made.splitlines()]
    start = lines.index('oifname != { "eth0", "eth1" } return')
    assert lines[start + 1 : start + 6] == [
        "ip dscp { cs1 } goto class_bulk",
        "ip6 dscp { cs1 } goto class_bulk",
        "tcp sport { 443 } goto class_crm",
        "goto class_other",
        "}",
    ], "a class's own matches come first, the default last"
    assert "ip dscp set af31" in lines and "ip6 dscp set af31" in lines
    assert "meta priority set 1:10 counter" in lines and "meta priority set 1:30 counter" in lines
    assert made.count("{") == made.count("}")
