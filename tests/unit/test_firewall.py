# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/firewall.py: what is refused, and what the ruleset holds. What the ruleset does is tried in tests/system."""

from __future__ import annotations

import re
import sys

import pytest
from conftest import ROOT
from ansible_collections.crm.platform.plugins.filter import firewall_problem, firewall_ruleset
from ansible_collections.crm.platform.plugins.module_utils import firewall as lib

sys.path.insert(0, str(ROOT / "tests" / "support"))

from given import DATABASE, SSH, given  # pylint: disable=wrong-import-position
import plays  # pylint: disable=wrong-import-position


def service(name="x", ports=(8080,), **more):
    return {"services": [{"name": name, "ports": list(ports), **more}]}


def rules(**more):
    """The rules, by their chains."""
    found, chain = {}, ""
    for line in firewall_ruleset.ruleset(given(**more)).splitlines():
        if re.match(r"  (chain|set) ", line):
            chain = line.split()[1]
            found[chain] = []
        elif chain and line.startswith("    ") and not line.startswith("    #"):
            found[chain].append(line.strip())
    return found


def test_what_is_given_by_default_is_fine():
    assert lib.complaints(given()) == []
    assert firewall_problem.problem(given()) == ""


WRONG = [
    (service(ports=[99999]), "firewall_services: x: port 99999 is not allowed; give a port from 1 to 65535"),
    (service(ports=["0"]), "port 0 is not allowed"),
    (service(ports=["ssh"]), "port ssh is not allowed"),
    (service(ports=["1-2-3"]), "port 1-2-3 is not allowed"),
    (service(ports=["90-80"]), "the range 90-80 is reversed; write the lower port first, 80-90"),
    (service(ports=[]), "ports is empty"),
    (service(sources=["192.0.2.0/33"]), "source 192.0.2.0/33 is not allowed"),
    (service(sources=["192.0.2.256"]), "source 192.0.2.256 is not allowed"),
    (service(sources=["2001:db8::g"]), "source 2001:db8::g is not allowed"),
    (service(sources=["nowhere"]), "a group of the inventory (crm_app, crm_database, crm_package)"),
    (service(sources=[]), "sources is empty"),
    (service(name="X Y"), "this name is not allowed"),
    ({"services": 2 * service()["services"]}, "firewall_services: x: the name is defined twice"),
    (service(rate_limit="10/fortnight"), "firewall_services: x: rate_limit: 10/fortnight is no rate"),
    (service(rate_limit="0/minute"), "0/minute is no rate"),
    ({"ssh_rate_limit": "many"}, "firewall_ssh_rate_limit: many is no rate"),
    ({"ping_rate": ""}, "firewall_ping_rate:  is no rate"),
    ({"ban_time": "10 minutes"}, "firewall_ban_time: 10 minutes is no time; give a number and a unit, such as 10m"),
    ({"confirm_timeout": 3}, "firewall_confirm_timeout: 3 is not allowed; give 5 to 3600"),
    ({"controllers": ["laptop"]}, "firewall_controllers: laptop is no address"),
    ({"controller_port": 70000}, "firewall_controller_port: 70000 is no port"),
    ({"zones": [{"name": "office", "addresses": ["192.0.2.0/40"]}]}, "firewall_zones: office: 192.0.2.0/40 is no address or network"),
    ({"zones": [{"name": "office"}]}, "it has neither addresses nor interfaces"),
    ({"zones": [{"name": "crm_app", "addresses": ["192.0.2.0/24"]}]}, "the name of a group of the inventory already"),
    ({"zones": 2 * [{"name": "office", "addresses": ["192.0.2.0/24"]}]}, "firewall_zones: office: the name is defined twice"),
    ({"zones": [{"name": "inside", "interfaces": ["eth9"]}]}, "there is no interface eth9 on one; there are eth0, eth1, lo"),
    ({"asymmetric_interfaces": ["eth9"]}, "firewall_asymmetric_interfaces: there is no interface eth9 on one"),
    ({"asymmetric_interfaces": ['e" accept']}, "is no name of an interface"),
    ({"egress": [{"name": "dns", "ports": ["53-1"]}]}, "firewall_egress: dns: the range 53-1 is reversed"),
    ({"egress": [{"name": "dns", "ports": [53], "destinations": ["x.y"]}]}, "firewall_egress: dns: destination x.y is not allowed"),
    ({"neighbours": [{"interface": "eth1", "addresses": ["r1"]}]}, "neighbour r1 on eth1 is no address"),
    ({"addresses": {"one": "192.0.2.1"}}, "foundation_address: the address of two is not known, and service postgresql lets in the group crm_app"),
    ({"platform_services": [{**SSH, "from": ["crm_app"]}]}, "firewall_controllers: empty, while port 22"),
    ({"ssh_port": 2222}, "firewall_controller_port: 2222/tcp, on which Ansible connects, would be closed"),
]


@pytest.mark.parametrize("wrong, said", WRONG)
def test_what_is_wrong_is_said_in_one_line(wrong, said):
    found = lib.complaints(given(**wrong))
    assert [line for line in found if said in line], found
    assert not [line for line in found if "\n" in line]


def test_who_cannot_be_locked_out_needs_no_open_port():
    assert lib.complaints(given(ssh_port=2222, over_ssh=False)) == []
    assert lib.complaints(given(ssh_port=2222, controllers=["192.0.2.9"])) == []
    assert lib.complaints(given(ssh_port=2222, **service(ports=["2000-3000"]))) == []


SSHD = "port {0}\npermitrootlogin no\nlistenaddress 0.0.0.0:{0}\nlistenaddress [::]:{0}\n"


@pytest.mark.parametrize(
    "sshd, more, closed",
    [
        (SSHD.format(22), {}, ""),
        (SSHD.format(2222), {}, "2222"),
        ("port 22\nport 2222\nlistenaddress [::]:22\nlistenaddress 0.0.0.0:2222\n", {}, "2222"),
        # An address with a port: the configuration's own port is not listened on.
        ("port 2222\nlistenaddress 192.0.2.1:22\nlistenaddress 127.0.0.1:2222\nlistenaddress [::1]:2222\n", {}, ""),
        ("Listen=0.0.0.0:2022 (Stream)\nListen=[::]:2222 (Stream)\n", {}, "2022, 2222"),
        (SSHD.format(2222), service(ports=["2200-2300"], sources=["192.0.2.0/24"]), ""),
        (SSHD.format(2222), service(ports=[2222], protocol="udp"), "2222"),
        (SSHD.format(2222), {"controllers": ["192.0.2.7"], "ssh_port": 2222, "controller_port": 2222}, ""),
        ("", {}, ""),
    ],
)
def test_a_port_of_sshd_is_not_closed_without_a_word(sshd, more, closed):
    found = [one for one in lib.complaints(given(over_ssh=False, sshd=sshd, **more)) if "sshd" in one]
    assert [f"sshd on one listens on {closed}, which the firewall would close" in one for one in found] == ([True] if closed else []), found


def test_protocols_without_ports():
    entry = {"name": "failover", "protocol": "vrrp", "sources": ["192.0.2.2"]}
    egress = {"egress_policy": "drop", "egress": [{"name": "tunnel", "protocol": "esp"}]}
    assert lib.complaints(given(services=[entry], **egress)) == []
    found = rules(services=[entry], **egress)
    assert 'ip saddr @service.failover.ipv4 meta l4proto 112 counter accept comment "failover"' in found["let_services_in"]
    assert 'meta l4proto 50 counter accept comment "tunnel"' in found["output"]
    for more, words in (({"ports": [80]}, "ports is given, and protocol vrrp has no ports"), ({"rate_limit": "1/second"}, "rate_limit is given")):
        assert words in lib.complaints(given(services=[{**entry, **more}]))[0]
    assert "ports is empty" in lib.complaints(given(services=[{"name": "x"}]))[0]


def test_a_network_is_shut_out_of_a_service_that_is_open_to_any():
    found = rules(**service("crm", [443], excluded_sources=["203.0.113.0/24", "2001:db8::/32"]))["let_services_in"]
    assert found[-3:] == [
        "ip saddr @excluded.crm.ipv4 tcp dport { 443 } goto refuse_the_rest",
        "ip6 saddr @excluded.crm.ipv6 tcp dport { 443 } goto refuse_the_rest",
        'tcp dport { 443 } counter accept comment "crm"',
    ]
    assert "excluded_sources: any is not allowed" in lib.complaints(given(**service(excluded_sources=["any"])))[0]


def test_interfaces_that_come_later():
    zone = {"name": "tunnel", "interfaces": ["wg0"]}
    assert "there is no interface wg0" in lib.complaints(given(zones=[zone]))[0]
    assert lib.complaints(given(zones=[{**zone, "interfaces_later": True}], asymmetric_interfaces=["wg0"])) == []
    assert "interfaces_later is for interfaces" in lib.complaints(given(zones=[{"name": "x", "addresses": ["192.0.2.1"], "interfaces_later": True}]))[0]


@pytest.mark.parametrize(
    "text, meant", [("::ffff:192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.0/120", "192.0.2.0/24"), ("::ffff:0:0/95", "::fffe:0:0/95")]
)
def test_mapped_addresses_are_ipv4(text, meant):
    assert lib.network(text) == meant and (lib.by_family([text])[0] == (meant,)) == (":" not in meant)


def test_services_are_opened_to_those_who_need_them():
    found = rules(services=[{"name": "x", "ports": [80, "90-99"], "sources": ["crm_package", "198.51.100.7/24", "2001:DB8::1"]}])
    assert 'ip saddr @service.postgresql.ipv4 tcp dport { 5432 } counter accept comment "postgresql"' in found["let_services_in"]
    assert "elements = { 192.0.2.2 }" in found["service.postgresql.ipv4"], "of the group crm_app, without the host itself"


def test_addresses_are_written_as_the_kernel_lists_them():
    found = rules(**service(sources=["198.51.100.7/24", "198.51.100.0/24", "2001:DB8:0::1"]))
    assert "elements = { 198.51.100.0/24 }" in found["service.x.ipv4"]
    assert "elements = { 2001:db8::1 }" in found["service.x.ipv6"]
    assert 'ip6 saddr @service.x.ipv6 tcp dport { 8080 } counter accept comment "x"' in found["let_services_in"]


def test_a_zone_is_a_set_that_services_share_or_an_interface():
    zones = [{"name": "office", "addresses": ["192.0.2.0/24"], "interfaces": ["eth1"]}, {"name": "inside", "interfaces": ["eth0"]}]
    found = rules(zones=zones, **service(sources=["office", "inside"]))
    assert "elements = { 192.0.2.0/24 }" in found["zone.office.ipv4"]
    assert 'iifname { "eth1" } ip saddr @zone.office.ipv4 tcp dport { 8080 } counter accept comment "x"' in found["let_services_in"]
    assert 'iifname { "eth0" } tcp dport { 8080 } counter accept comment "x"' in found["let_services_in"]


def test_the_limiter_is_of_the_port_and_after_the_controllers():
    found = rules(controllers=["198.51.100.9"], **service(rate_limit="5/hour", protocol="udp"))
    order = found["input"]
    assert order.index('ip saddr @controllers.ipv4 tcp dport 22 counter accept comment "controllers"') < order.index("jump let_services_in")
    assert "tcp dport { 22 } goto service.ssh" in found["let_services_in"]
    assert [line for line in found["service.x"] if "ip saddr . meta l4proto . th dport timeout 2h limit rate over 5/hour burst 5 packets" in line]
    assert 'ip saddr . meta l4proto . th dport @banned.ipv4 counter drop comment "ssh: banned"' in found["service.ssh"]
    assert "timeout 10m" in found["banned.ipv4"]


def test_without_a_limit_there_is_none():
    assert "service.ssh" not in rules(ssh_rate_limit="")
    assert "service.ssh" not in rules(platform_services=[DATABASE], **service(name="ssh", ports=[22], rate_limit=""))
    own = rules(platform_services=[DATABASE], **service(name="ssh", ports=[22], rate_limit="5/hour"))
    assert [line for line in own["service.ssh"] if "limit rate over 5/hour" in line], "a service of the user's own has the limit that he gave it"


def test_ssh_on_another_port_keeps_the_limit():
    own = rules(platform_services=[DATABASE], ssh_port=2222, **service(name="ssh", ports=[22, 2222]))
    assert "tcp dport { 22, 2222 } goto service.ssh" in own["let_services_in"]
    assert [line for line in own["service.ssh"] if "limit rate over 30/minute" in line]


def test_log_of_a_service():
    assert 'limit rate 10/minute log prefix "crm-platform x: " level info' in rules(**service(log=True))["service.x"]
    assert "service.x" not in rules(**service(log="no"))


def test_antispoofing():
    exact = 'fib saddr . iif oif missing counter drop comment "spoofed"'
    anywhere = 'fib saddr oif missing counter drop comment "spoofed"'
    assert rules()["antispoofing"][-1] == exact
    assert rules(antispoofing="loose")["antispoofing"][-1] == anywhere
    assert "antispoofing" not in rules(antispoofing="disabled")
    mixed = rules(asymmetric_interfaces=["eth0"], neighbours=[{"interface": "eth1", "addresses": ["192.0.2.9"]}])["antispoofing"]
    assert mixed[-3:] == [f'iifname {{ "eth0", "eth1" }} {anywhere}', 'iifname { "eth0", "eth1" } accept', exact]


def test_routing_is_for_neighbours():
    found = rules(neighbours=[{"interface": "eth1", "addresses": ["172.31.1.2", "fe80::/10"]}])
    assert found["routing"] == [
        'iifname "eth1" ip saddr { 172.31.1.2 } meta l4proto 89 accept',
        'iifname "eth1" ip saddr { 172.31.1.2 } udp dport { 3784, 3785 } ip ttl 255 accept',
        'iifname "eth1" ip6 saddr { fe80::/10 } meta l4proto 89 accept',
        'iifname "eth1" ip6 saddr { fe80::/10 } udp dport { 3784, 3785 } ip6 hoplimit 255 accept',
        'counter drop comment "no neighbour"',
    ]
    order = found["input"]
    assert order.index("meta l4proto 89 goto routing") < order.index("ct state vmap { established : accept, related : accept }")
    assert "routing" not in rules()


def test_egress():
    egress = [{"name": "dns", "ports": [53], "protocol": "udp"}, {"name": "mail", "ports": [25], "destinations": ["192.0.2.25"]}]
    found = rules(egress_policy="reject", egress=egress, neighbours=[{"interface": "eth1", "addresses": ["192.0.2.9"]}])
    out = found["output"]
    assert 'udp dport { 53 } counter accept comment "dns"' in out
    assert 'ip daddr @egress.mail.ipv4 tcp dport { 25 } counter accept comment "mail"' in out
    assert 'ip daddr @egress.repository.ipv4 tcp dport { 8081 } counter accept comment "repository"' in out, "what this host uses"
    assert not [line for line in out if "postgresql" in line], "which is on this host alone"
    assert 'oifname { "eth1" } meta l4proto 89 accept' in out
    assert "counter reject with icmpx type port-unreachable" in out
    assert "output" not in rules(egress=egress)


def test_policies():
    assert "counter reject with icmpx type port-unreachable" in rules(policy="reject")["refuse_the_rest"]
    assert 'counter drop comment "refused"' in rules()["refuse_the_rest"]
    assert "forward" in rules(forward="drop") and "forward" not in rules()
    assert not [line for line in rules(log=False)["refuse_the_rest"] if "log" in line]


def test_a_router_that_forwards_nothing_else_leads_to_the_crm():
    crm = {"name": "crm", "group": "crm_app", "protocol": "tcp", "ports": [80, 443], "from": ["any"]}
    for_us = {**crm, "name": "internal", "from": ["crm_app"]}
    given_ = {"forward": "drop", "all_platform_services": [SSH, DATABASE, crm, for_us]}
    found = rules(**given_, service_addresses=["192.0.2.10", "2001:db8::10"])["forward"]
    assert [line for line in found if "daddr" in line] == [
        'ip daddr { 192.0.2.10 } tcp dport { 80, 443 } counter accept comment "crm"',
        'ip6 daddr { 2001:db8::10 } tcp dport { 80, 443 } counter accept comment "crm"',
    ]
    assert found[-1] == 'counter drop comment "forwarded"'
    assert not [line for line in rules(**given_)["forward"] if "daddr" in line]


@pytest.mark.parametrize("words, warned", [("", True), ("-o ControlMaster=no -o ControlPersist=60s", True), (None, False)])
def test_who_makes_a_connection_for_each_task_is_told_of_the_limit(tmp_path, words, warned):
    """None is what Ansible does where nobody says otherwise."""
    roles = [("foundation", "known"), ("firewall", "preflight")]
    tasks = [{"name": name, "ansible.builtin.import_role": {"name": f"crm.platform.{name}", "tasks_from": f"{file}.yml"}} for name, file in roles]
    variables = {"foundation_domain": "crm.example.test", "ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    variables.update({} if words is None else {"ansible_ssh_args": words})
    play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    done = plays.run(tmp_path, play, plays.inventory("one", **variables), "--extra-vars", '{"_firewall_over_ssh": true}', timeout=120)
    assert done.rc == 0, done.failure or done.text[-2000:]
    said = [task["result"].get("msg", "") for task in done.tasks if "Warn of a limit" in task["name"]]
    assert ["firewall_controllers is empty" in text for text in said] == [warned] and "\n" not in said[0].strip()
