# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""plugins/module_utils/ospf: what may be asked for (of the module ospf_routing), FRR's text of it, and what a running FRR lacks."""

from __future__ import annotations

import ipaddress
import json

import pytest
from ansible_collections.crm.platform.plugins.module_utils.ospf import frr, host, model

HOST = {
    "lo": [ipaddress.ip_interface("127.0.0.1/8")],
    "eth0": [ipaddress.ip_interface("198.51.100.11/24"), ipaddress.ip_interface("fe80::11/64")],
    "eth1": [ipaddress.ip_interface("203.0.113.1/24")],
    "eth2": [ipaddress.ip_interface("fe80::12/64")],
}
OPTIONS = {
    "interfaces": [{"name": "eth0", "neighbours": ["198.51.100.1", "fe80::/10"]}, {"name": "eth1", "cost": 7, "area": "1"}],
    "service_addresses": ["192.0.2.10", "2001:db8::10"],
    "hold": True,
    "router": False,
    "accept": ["203.0.113.0/24"],
    "router_id": "",
    "authentication": "md5",
    "key": "abcdefgh12345678",
    "key_id": 1,
    "hello_interval": 1,
    "dead_interval": 4,
    "bfd": True,
    "bfd_interval": 300,
    "bfd_multiplier": 3,
    "graceful_restart": 60,
}
KEY = OPTIONS["key"]


def wanted(**changed):
    return model.parse({**OPTIONS, **changed}, HOST, lambda option: f"routing_{option}")


def text(forwarding=False, key=KEY, **changed):
    return frr.render(wanted(key=key, **changed), key, "app1", "8.4", {4: forwarding, 6: forwarding})


def one(**interface):
    return {"interfaces": [{"name": "eth0", "neighbours": ["198.51.100.1", "fe80::/10"], **interface}]}


# --- bad input: one line that names the variable, the value and the cure ---


@pytest.mark.parametrize(
    "changed, words",
    [
        (one(name="eth9"), ["routing_interfaces: eth9", "does not exist", "eth0, eth1"]),
        (one(name="eth0; reboot"), ["routing_interfaces", "no name"]),
        (one(name="lo"), ["routing_interfaces: lo", "links only"]),
        (one(neighbours=["198.51.101.1"]), ["eth0", "198.51.101.1", "outside its subnet", "198.51.100.0/24"]),
        (one(neighbours=["198.51.100.11"]), ["198.51.100.11", "this host itself"]),
        (one(neighbours=["2001:db8::1"]), ["2001:db8::1", "link-local"]),
        (one(neighbours=["198.51.100.1/24"]), ["198.51.100.1/24", "198.51.100.0/24"]),
        (one(neighbours=["router"]), ["'router'", "no address"]),
        (one(cost=0), ["eth0: cost is 0", "1 to 65535"]),
        (one(priority=256), ["eth0: priority is 256", "0 to 255"]),
        (one(area="backbone"), ["area 'backbone'", "four with dots"]),
        ({"interfaces": OPTIONS["interfaces"] + [{"name": "eth0"}]}, ["eth0 is listed twice"]),
        ({"service_addresses": ["192.0.2.10/32"]}, ["routing_service_addresses", "192.0.2.10/32", "without a length"]),
        ({"service_addresses": ["127.0.0.2"]}, ["127.0.0.2", "leads nowhere"]),
        ({"service_addresses": ["192.0.2.10", "192.0.2.10"]}, ["listed twice"]),
        ({"service_addresses": ["203.0.113.77"]}, ["203.0.113.77", "eth1", "in no network of a link"]),
        (
            {"interfaces": [{"name": "eth0", "neighbours": ["198.51.100.1"]}]},
            ["2001:db8::10", "no neighbour of IPv6", "fe80::/10"],
        ),
        ({"accept": ["10.0.0.1/8"]}, ["routing_accept", "10.0.0.1/8", "such as"]),
        ({"accept": ["10.0.0.0/8 le 8"]}, ["10.0.0.0/8 le 8", "9 to 32"]),
        ({"router_id": "app1"}, ["routing_router_id", "app1"]),
        ({"router_id": "0.0.0.0"}, ["routing_router_id", "0.0.0.0", "stands for no router"]),
        ({"dead_interval": 1}, ["routing_dead_interval is 1", "routing_hello_interval"]),
        ({"bfd_interval": 5}, ["routing_bfd_interval is 5", "10 to 60000"]),
        ({"key_id": 0}, ["routing_key_id is 0"]),
        (
            {"interfaces": [{"name": "eth2", "neighbours": ["fe80::1"]}], "service_addresses": ["2001:db8::10"]},
            ["routing_router_id", "none is given"],
        ),
        ({"interfaces": [{"name": "eth2"}]}, ["eth2 has no IPv4 address"]),
    ],
)
def test_bad_input(changed, words):
    with pytest.raises(model.OspfError) as refused:
        wanted(**changed)
    assert [word for word in words if word not in str(refused.value)] == [] and "\n" not in str(refused.value), str(refused.value)


MANY = {
    "eth0": [ipaddress.ip_interface(one) for one in ("198.51.100.12/24", "198.51.100.11/24", "198.51.100.5/32", "169.254.1.1/16")],
    "eth1": [ipaddress.ip_interface("198.51.99.1/24")],
    "eth2": [ipaddress.ip_interface("10.0.0.1/24")],
}


def router_id(current="", turned=False, addresses=None):
    given = addresses or MANY
    found = {name: list(reversed(own)) for name, own in given.items()} if turned else given
    links = [{"name": "eth0", "neighbours": ["198.51.100.1"]}, {"name": "eth1", "neighbours": ["198.51.99.2"]}, {"name": "eth2"}]
    options = {**OPTIONS, "service_addresses": [], "interfaces": list(reversed(links)) if turned else links}
    return model.parse(options, found, str, current).router_id


def test_the_router_id_follows_no_order():
    # Not of the link without neighbours, not one of failover or link-local.
    assert router_id() == router_id(turned=True) == "198.51.99.1"
    # The current one stays while it is the host's, since a change ends every adjacency.
    assert router_id("198.51.100.12") == "198.51.100.12" and router_id("198.51.100.77") == "198.51.99.1"
    less = {**MANY, "eth1": [ipaddress.ip_interface("198.51.99.9/24")], "eth0": MANY["eth0"]}
    assert router_id("198.51.100.11", addresses=less) == "198.51.100.11"
    assert host.router_id(text(router_id="192.0.2.77")) == "192.0.2.77" and host.router_id("") == ""


def test_the_peer_of_a_tunnel_is_a_neighbour():
    def run(dummy):
        links = [
            {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
            {"ifname": "tun0", "addr_info": [{"local": "10.0.0.1", "address": "10.0.0.2", "prefixlen": 32}, {"local": "fe80::1", "prefixlen": 64}]},
        ]
        return 0, json.dumps(links), ""

    def neighbour(text_):
        interfaces = [{"name": "tun0", "network": "point-to-point", "neighbours": [text_]}]
        return model.parse({**OPTIONS, "service_addresses": [], "interfaces": interfaces}, host.addresses(run), str)

    assert neighbour("10.0.0.2").router_id == "10.0.0.1"
    with pytest.raises(model.OspfError, match=r"outside its subnet \(10.0.0.2/32\)"):
        neighbour("10.0.0.3")
    with pytest.raises(model.OspfError, match="outside its subnet"):
        neighbour("10.0.0.1")


def test_a_kernel_that_may_not_be_changed_is_found_before_anything_is(monkeypatch):
    monkeypatch.setattr(host, "switch", lambda name: 0)
    monkeypatch.setattr(host.os, "access", lambda path, mode: False)
    host.check_switches({"net.ipv4.ip_forward": 0})
    with pytest.raises(model.OspfError, match="net.ipv4.ip_forward is 0 and cannot be set to 1 here .Read-only file system.; in a container"):
        host.check_switches({"net.ipv4.ip_forward": 1})


@pytest.mark.parametrize(
    "authentication, key, word",
    [
        ("md5", "seventeen-letters", "17 characters long"),
        ("hmac-sha-256", "x" * 64, "64 characters long"),
        ("md5", "two words", "letters and digits"),
        ("md5", "what?", "letters and digits"),
        ("md5", "!comment", "letters and digits"),
        ("md5", "line\nbreak", "letters and digits"),
    ],
)
def test_a_bad_key_is_named_and_not_shown(authentication, key, word):
    with pytest.raises(model.OspfError) as refused:
        wanted(authentication=authentication, key=key)
    assert word in str(refused.value) and "routing_key" in str(refused.value) and key not in str(refused.value)


# --- FRR's text ---


def test_it_speaks_to_declared_neighbours_only():
    lines = frr.statements(text())
    assert ("interface eth0", "ip ospf message-digest-key 1 md5 " + KEY) in lines
    assert ("interface eth0", "ipv6 ospf6 bfd profile crm") in lines and ("interface eth0", "ip ospf priority 0") in lines
    # No neighbour was declared there: its network is told, and nobody is listened to.
    assert {line for line in lines if line[0] == "interface eth1"} == {
        ("interface eth1", "ip ospf area 0.0.0.1"),
        ("interface eth1", "ip ospf cost 7"),
        ("interface eth1", "ip ospf passive"),
    }


def test_of_the_loopback_only_the_service_addresses_are_told():
    assert {line for line in frr.statements(text()) if line[0] == "interface lo"} == {
        ("interface lo", "ip ospf area 0.0.0.0 192.0.2.10"),
        ("interface lo", "ipv6 ospf6 area 0.0.0.0"),
        ("interface lo", "ipv6 ospf6 passive"),
        ("interface lo", "ipv6 ospf6 advertise prefix-list crm-service6"),
    }
    assert "interface lo" not in text(hold=False)


def test_only_what_is_declared_gets_into_the_table():
    lines = [line[0] for line in frr.statements(text(accept=["203.0.113.0/24", "10.0.0.0/8 le 24", "::/0"])) if "prefix-list crm-accept" in line[0]]
    assert sorted(lines) == [
        "ip prefix-list crm-accept seq 10 permit 203.0.113.0/24",
        "ip prefix-list crm-accept seq 15 permit 10.0.0.0/8 le 24",
        "ip prefix-list crm-accept seq 20 deny any",
        "ip prefix-list crm-accept seq 5 permit 192.0.2.10/32",
        "ipv6 prefix-list crm-accept6 seq 10 permit ::/0",
        "ipv6 prefix-list crm-accept6 seq 15 deny any",
        "ipv6 prefix-list crm-accept6 seq 5 permit 2001:db8::10/128",
    ]
    assert "permit 0.0.0.0/0" not in text()


def test_frr_is_told_what_the_kernel_does_not_forward():
    # Otherwise its reload would have it forward.
    assert "no ip forwarding\nno ipv6 forwarding\n" in text(forwarding=False)
    assert "forwarding" not in text(forwarding=True)


def test_one_family_alone():
    only = text(**one(neighbours=["198.51.100.1"]), service_addresses=["192.0.2.10"])
    assert "ospf6" not in only and "ipv6 prefix-list" not in only
    assert frr.wanted_daemons(wanted(**one(neighbours=["fe80::1"]), service_addresses=[])) == ["ospf6d", "bfdd"]
    assert frr.wanted_daemons(wanted(bfd=False)) == ["ospfd", "ospf6d"]


def test_key_chains():
    modern = text(authentication="hmac-sha-256")
    assert ("key chain crm", "key 1", f"key-string {KEY}") in frr.statements(modern)
    assert " ip ospf authentication key-chain crm\n" in modern and " ipv6 ospf6 authentication keychain crm\n" in modern and "md5" not in modern


def test_what_is_frr_s_default_is_left_out():
    plain = text(hello_interval=10, dead_interval=40, **one(priority=1))
    assert "hello-interval" not in plain and "dead-interval" not in plain and "priority" not in plain and "detect-multiplier" not in plain
    assert "detect-multiplier 5" in text(bfd_multiplier=5)


def test_daemons_of_others_stay():
    assert frr.daemons_file("bgpd=yes\nospfd=no\nbfdd=no\n# end\n", ["ospfd", "bfdd"]) == "bgpd=yes\nospfd=yes\nbfdd=yes\n# end\n"
    assert frr.daemons_file("bgpd=no", ["ospfd"]) == "bgpd=no\nospfd=yes\n"


def test_daemons_of_ours_that_are_not_needed_go():
    assert frr.daemons_file("bgpd=yes\nospfd=yes\nospf6d=yes\nbfdd=yes\n", ["ospf6d"]) == "bgpd=yes\nospfd=no\nospf6d=yes\nbfdd=no\n"
    assert frr.daemons_file("zebra=yes\n", []) == "zebra=yes\n"


def test_a_configuration_of_somebody_else():
    assert not frr.is_foreign("# default to using syslog\nlog syslog informational\n") and not frr.is_foreign("") and not frr.is_foreign(text())
    assert frr.is_foreign("frr version 8.4\nrouter bgp 64512\n")


def test_what_frr_itself_has_written_of_ours_is_ours():
    """`write memory` keeps the statements, and none of the comments."""
    for configuration in (text(), text(**one(neighbours=["fe80::1"]), service_addresses=[])):
        kept = "".join(f"{line}\n" for line in configuration.splitlines() if not line.startswith("!"))
        assert not frr.is_foreign(kept + "router bgp 64512\n"), "what was added by hand is undone by the next run"
    assert frr.is_foreign("route-map other permit 10\nexit\n")


# --- what a running FRR lacks ---


def running(configuration):
    """As vtysh shows it."""
    return "Building configuration...\n\nCurrent configuration:\n!\n" + configuration.removeprefix(frr.MARK + "\n")


def test_nothing_is_different_where_frr_has_it():
    for configuration in (text(), text(authentication="hmac-sha-256"), text(router=True, hold=False, bfd=False)):
        assert frr.differences(running(configuration), configuration) == []


def test_drift_is_told_with_every_key_hidden():
    by_hand = running(text().replace("ip ospf priority 0", "ip ospf cost 99").replace(KEY, "otherkey"))
    told = frr.differences(by_hand, text())
    assert "- interface eth0 / ip ospf cost 99" in told and "+ interface eth0 / ip ospf priority 0" in told
    assert not [line for line in told if KEY in line or "otherkey" in line]
    chains = frr.differences(running(text(authentication="hmac-sha-256", key="otherkey")), text(authentication="hmac-sha-256"))
    assert len(chains) == 2 and not [line for line in chains if KEY in line or "otherkey" in line]


@pytest.mark.parametrize(
    "line",
    [
        "router bgp 1 / neighbor 192.0.2.1 password hush",
        "interface eth0 / isis password md5 hush",
        "router isis 1 / area-password clear hush authenticate snp validate",
        "enable password 8 hush",
        "password hush",
        "interface eth0 / ip ospf authentication-key hush 192.0.2.1",
        "interface eth0 / ip ospf message-digest-key 1 md5 hush 192.0.2.1",
        "interface eth0 / ip rip authentication string hush",
        "router ospf / area 1 virtual-link 192.0.2.1 message-digest-key 1 md5 hush",
        "mpls ldp / neighbor 192.0.2.1 password hush",
        "interface eth0 / ipv6 ospf6 authentication key-id 1 hash-algo md5 key hush",
    ],
)
def test_keys_of_somebody_else_s_configuration_are_hidden(line):
    assert "hush" not in frr.hide(line) and frr.hide(line).endswith(" (hidden)") and frr.hide(line).split(" / ")[:-1] == line.split(" / ")[:-1]


@pytest.mark.parametrize("line", ["service password-encryption", "key chain crm", "interface eth0 / ip ospf authentication key-chain crm"])
def test_what_is_no_key_is_shown(line):
    assert frr.hide(line) == line


def test_an_empty_block_stands_for_itself():
    assert "- bfd / profile other" in frr.differences(running(text() + "bfd\n profile other\n exit\n"), text())
    assert frr.differences(running(text()) + "interface eth7\nexit\n", text()) == ["- interface eth7"]
    # What a daemon that is needed no more, and still runs, has to say.
    assert frr.differences(running(text(bfd=False)) + "bfd\nexit\n", text(bfd=False)) == []


def test_keys_are_changed_without_naming_the_old_one():
    commands = frr.rekey(running(text(key="oldkey")), text())
    assert commands == f"interface eth0\nno ip ospf message-digest-key 1\nip ospf message-digest-key 1 md5 {KEY}\nexit\n"
    assert frr.rekey(running(text()), text()) == ""
    gone = frr.rekey(running(text(key="oldkey")), text(authentication="none"))
    assert gone == "interface eth0\nno ip ospf message-digest-key 1\nexit\n"


def test_the_kernel_s_switches():
    assert host.switches(router=False, holds=False) == {"net.ipv4.fib_multipath_hash_policy": 1, "net.ipv6.fib_multipath_hash_policy": 1}
    assert host.switches(router=True, holds=False)["net.ipv4.ip_forward"] == 1
    assert host.switches(router=False, holds=True)["net.ipv4.conf.all.arp_ignore"] == 1
    both = host.switches(router=True, holds=False)
    assert both["net.ipv6.conf.all.forwarding"] == 1 and not [name for name in host.switches(True, False, six=False) if "forwarding" in name]


RA = [{"dst": "default", "gateway": "fe80::9", "dev": "eth0.5", "protocol": "ra"}, {"dst": "default", "nexthops": [{"dev": "eth1"}, {"dev": "eth2"}]}]


def test_a_router_keeps_its_own_default_route(monkeypatch):
    """Told by router advertisement, which who forwards does not hear any more unless accept_ra is 2. Of these eth2 asks nobody."""
    state = {"eth0.5": 1, "eth1": 1, "eth2": 0, "eth3": 2, "eth4": 2}
    monkeypatch.setattr(host, "switch", lambda name: state.get(name.split("/")[3]))
    kept = "net.ipv4.ip_forward = 1\nnet/ipv6/conf/eth3/accept_ra = 2\nnet/ipv6/conf/eth9/accept_ra = 2\n"
    found = host.advertised(lambda argv: (0, json.dumps(RA), ""), kept)
    assert found == ["eth0.5", "eth1", "eth3"], "eth3 by an earlier run, eth9 is gone, eth4 is somebody else's"
    assert host.advertised(lambda argv: (1, "", "no ip"), "") == []
    names = list(host.switches(True, False, True, found))
    assert names.index("net/ipv6/conf/eth0.5/accept_ra") < names.index("net.ipv6.conf.all.forwarding")
    assert "net/ipv6/conf/eth0.5/accept_ra" not in host.switches(True, False, False, found)
    assert host._switch_path("net/ipv6/conf/eth0.5/accept_ra") == "/proc/sys/net/ipv6/conf/eth0.5/accept_ra"
