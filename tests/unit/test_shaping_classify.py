# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/shaping/classify.py: which packet goes into which class."""

from __future__ import annotations

import pytest

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
