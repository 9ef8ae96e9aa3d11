# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/qos and playbooks/qos_verify.yml between two hosts: the units, a reboot, a measurement, and the end of it all."""

from __future__ import annotations

import json

import hosts
import plays
import pytest

CLASSES = [
    {"name": "ssh", "guarantee": "10%", "priority": 0},
    {"name": "crm", "guarantee": "40%", "priority": 1},
    {"name": "database", "guarantee": "10%", "priority": 2},
    {"name": "other", "guarantee": "20%", "default": True},
    {"name": "bulk", "guarantee": "20%", "priority": 7, "matches": [{"dscp": ["cs1"]}]},
]
VARIABLES = {
    "foundation_domain": "crm.example.test",
    "qos_rate": "50mbit",
    "qos_ingress_rate": "80%",
    "qos_interfaces": [{"name": "eth0"}],
    "qos_classes": CLASSES,
}
ROLE = [
    {
        "hosts": "crm_database",
        "gather_facts": False,
        "tasks": [
            {"name": "Know the host", "ansible.builtin.import_role": {"name": "crm.platform.foundation", "tasks_from": "known.yml"}},
            {"name": "Shape", "ansible.builtin.import_role": {"name": "crm.platform.qos"}},
        ],
    }
]
# A firewall that lets nobody in, with the table and chain of the platform's.
CLOSED = (
    "table inet crm_platform {\n chain input {\n type filter hook input priority filter; policy drop;\n ct state established,related accept\n }\n}\n"
)


def inventory(sender, host, **variables):
    """The sender as the one shaped host, and the other beside it."""
    made = plays.inventory(sender.name, **{**VARIABLES, **variables})
    made["all"]["hosts"] = {host.name: {}}
    made["all"]["children"]["platform"] = {"hosts": {sender.name: {}, host.name: {}}}
    return made


@pytest.fixture(scope="module")
def sender(host, tmp_path_factory):
    """A host with the role on it, and what the first runs said."""
    made = hosts.Host("qos")
    place = tmp_path_factory.mktemp("qos")
    try:
        # What the role foundation makes.
        made.create().run("mkdir", "/etc/crm-platform")
        made.checked = plays.run(place, ROLE, inventory(made, host), "--check", "--diff", timeout=300)
        made.untouched = live(made)
        made.done = plays.run(place, ROLE, inventory(made, host), timeout=300)
        assert made.done.rc == 0, made.done.failure or made.done.text[-3000:]
        yield made
    finally:
        made.remove()


@pytest.fixture
def run(sender, host, tmp_path):
    """run(playbook, option, ..., variable=...)"""
    return lambda playbook, *options, **variables: plays.run(tmp_path, playbook, inventory(sender, host, **variables), *options, timeout=300)


def live(host):
    return host.sh(
        "tc qdisc show dev eth0; tc class show dev eth0 | grep -c ' leaf '; ip -o link show ifb-eth0 2>&1 | grep -c ,UP; tc filter show dev eth0 ingress"
        " | grep -o 'Redirect to device .*)'; systemctl is-active crm-platform-qos crm-platform-qos-eth0; nft list table inet crm_platform_qos | grep -c goto",
        check=False,
    )


def test_the_role_is_shown_done_left_alone_and_there_after_a_boot(run, sender):
    assert sender.checked.rc == 0 and "htb" not in sender.untouched, sender.checked.failure or sender.checked.text[-3000:]
    assert "Plan the classes, or have them" in [name.split(" : ")[-1] for name in sender.checked.changed]
    assert run(ROLE).changed == []
    before = live(sender)
    assert "htb 1:" in before and "Redirect to device ifb-eth0" in before and before.count("active") == 2
    sender.restart()
    assert live(sender) == before


def test_what_breaks_the_shaper_is_cured_by_its_unit(sender):
    before = live(sender)
    sender.sh("tc qdisc del dev eth0 root; tc filter del dev eth0 ingress; ip link del ifb-eth0; nft delete table inet crm_platform_qos")
    sender.run("systemctl", "restart", "crm-platform-qos")
    sender.wait_for("the unit of the interface", lambda: live(sender) == before, 10)


def test_the_stock_unit_of_nftables_takes_the_rules_away_for_a_moment(sender):
    before = live(sender)
    for verb in ("start", "reload", "stop"):
        sender.run("systemctl", verb, "nftables")
        sender.wait_for(f"the rules after {verb}", lambda: live(sender) == before, 10)


def test_an_interface_that_is_not_there_stops_the_run_before_any_change(run, sender):
    before = live(sender)
    stopped = run(ROLE, qos_interfaces=[{"name": "eth9"}])
    assert stopped.failure == "qos_interfaces: eth9 does not exist here; there are eth0"
    assert stopped.changed == [] and live(sender) == before


def measured(run, sender, host, **variables):
    hosts_ = {"qos_verify_from": sender.name, "qos_verify_to": host.name, "qos_verify_confirm": True, "qos_verify_seconds": 1, **variables}
    return run("crm.platform.qos_verify", "-e", json.dumps(hosts_))


def left(host):
    """What a measurement could leave."""
    return host.sh(
        "ls /run/crm-platform-qos-verify /usr/bin/iperf3; pgrep -a iperf3; systemctl is-active crm-platform-qos-verify;"
        " nft -s list ruleset | grep -v counter 2>/dev/null; true",
        check=False,
    )


# What the platform's firewall may have of what a host begins itself.
KEPT_IN = "table inet crm_platform {\n chain output {\n type filter hook output priority filter; policy accept;\n tcp dport 25200-25299 drop\n }\n}\n"


@pytest.fixture
def closed(host, sender):
    host.sh("command -v nft >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends nftables; } 2>&1")
    host.run("nft", "-f", "-", input=CLOSED)
    sender.run("nft", "-f", "-", input=KEPT_IN)
    yield
    host.sh("nft delete table inet crm_platform")
    sender.sh("nft delete table inet crm_platform")


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"qos_verify_confirm": False}, ["qos_verify_confirm is False", "set it to true"]),
        ({"qos_verify_to": "nobody"}, ["qos_verify_to", "nobody", "two different hosts"]),
        ({"qos_verify_seconds": 600}, ["qos_verify_seconds is 600; allowed is 1 to 30"]),
    ],
)
def test_a_measurement_that_nobody_confirmed(run, sender, host, variables, words):
    refused = measured(run, sender, host, **variables)
    assert refused.rc != 0 and [word for word in words if word not in refused.failure] == [], refused.text[-2000:]
    assert "\n" not in refused.failure.strip()


def test_a_measurement_that_fails_leaves_nothing(run, sender, host, closed):
    before = left(sender), left(host)
    last = 25200 + 2 * len(CLASSES) - 1
    taken = host.sh(
        f"systemd-run --quiet --unit=crm-test-taken python3 -c 'import socket, time; s = socket.create_server((\"\", {last})); time.sleep(300)'"
    )
    try:
        failed = measured(run, sender, host)
    finally:
        host.run("systemctl", "stop", "crm-test-taken")
    assert failed.rc != 0 and "Send" in [task["name"].split(" : ")[-1] for task in failed.tasks], (taken, failed.text[-3000:])
    assert (left(sender), left(host)) == before


def test_a_measurement_tells_of_each_class_and_leaves_nothing(run, sender, host, closed):
    before = left(sender), left(host)
    done = measured(run, sender, host)
    assert done.rc == 0, done.failure or done.text[-3000:]
    report = next(task["result"]["msg"] for task in done.tasks if task["name"].endswith("Report") and "msg" in task["result"])
    print("\n".join(report))
    assert [line.split()[0] for line in report[1:6]] == [cls["name"] for cls in CLASSES] and "(comes" in report[6]
    # A second of TCP on a busy machine is no measurement, see benchmarks/shaping.py: here every class has to have sent.
    assert all(0 < float(line.split()[2]) for line in report[1:6])
    assert (left(sender), left(host)) == before


def test_the_end_leaves_nothing(run, sender):
    removed = run(ROLE, qos_enabled=False)
    assert removed.rc == 0, removed.failure or removed.text[-3000:]
    assert run(ROLE, qos_enabled=False).changed == []
    assert "htb" not in live(sender) and "Redirect" not in live(sender)
    assert (
        sender.sh(
            "ls /sys/class/net /etc/crm-platform /etc/systemd/system /etc/systemd/system/nftables.service.d 2>/dev/null | grep -E 'ifb-|qos'; true"
        )
        == ""
    )
