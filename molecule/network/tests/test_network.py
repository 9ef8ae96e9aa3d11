# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One address for two application hosts behind a router: who is well answers, who is not is gone, and strangers change nothing.

roles/routing, the module ospf_routing and the playbook crm.platform.drain. In this order: each test leaves both hosts announcing.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[3] / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

import hosts  # pylint: disable=wrong-import-position
import platforms  # pylint: disable=wrong-import-position
import plays  # pylint: disable=wrong-import-position
import yaml  # pylint: disable=wrong-import-position

# Molecule's own settings are not those of the playbooks that are run here.
for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
    del os.environ[name]

ROUTER, APP1, APP2, BULK, CLIENT = (f"crm-network-{name}" for name in ("router", "app1", "app2", "bulk", "client"))
testinfra_hosts = [ROUTER]
DOMAIN, ADDRESS, ADDRESS6 = "crm.example.test", "10.99.0.1", "2001:db8:99::1"
# Nobody listens there.
DOWN = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
NEXT_HOPS = {APP1: "172.31.60.11", APP2: "172.31.60.12"}
# As many as one wants to wait for, and as fast as the machine carries: CRM_NETWORK_RUNS=5 CRM_NETWORK_RATE=200 CRM_NETWORK_LIMIT=1.
RUNS = int(os.environ.get("CRM_NETWORK_RUNS", "1"))
RATE = int(os.environ.get("CRM_NETWORK_RATE", "40"))
# Seconds in which a host has to be gone. Without BFD it would be four; a busy machine needs more than one.
LIMIT = float(os.environ.get("CRM_NETWORK_LIMIT", "2.5"))
# Logs in through an address and says whose certificate it was; the password comes by standard input.
LOGIN = """
import http.client, json, socket, ssl, sys
address, name = sys.argv[1:]
context = ssl.create_default_context(cafile="/root/ca.crt")
connection = http.client.HTTPSConnection(name, 443, timeout=10, context=context)
connection.sock = context.wrap_socket(socket.create_connection((address, 443), 10), server_hostname=name)
body = json.dumps({"id": 1, "method": "common.db.login", "params": ["admin", {"password": sys.stdin.read()}, "en"]})
connection.request("POST", "/crm/rpc/", body, {"Content-Type": "application/json"})
print(connection.getresponse().read().decode())
"""
# Tells when a route (second word) of the router no longer leads to a host (third), or does again.
WATCH = """
import subprocess, sys, time
family, address, own, there, deadline = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] == "there", time.time() + float(sys.argv[5])
while time.time() < deadline:
    shown = subprocess.run(["ip", family, "route", "show", address], capture_output=True, text=True).stdout
    if (f"via {own} " in shown) == there:
        print(time.time())
        sys.exit(0)
    time.sleep(0.005)
sys.exit(1)
"""


class Lab:
    """The five hosts, and playbooks run against three of them."""

    def __init__(self, directory):
        self.directory = directory
        self.crm = platforms.Platform(APP1, DOMAIN)
        self.router, self.app1, self.app2, self.bulk, self.client = (platforms.Container(name) for name in (ROUTER, APP1, APP2, BULK, CLIENT))
        self.key = self.app1.read("/etc/crm-platform/secrets/ospf_key").strip()
        settings = yaml.safe_load((SUPPORT.parents[1] / "molecule" / "network" / "molecule.yml").read_text())
        self.group_vars = settings["provisioner"]["inventory"]["group_vars"]
        self.groups = {}
        for platform in settings["platforms"]:
            for group in platform["groups"]:
                self.groups.setdefault(group, {"hosts": {}})["hosts"][platform["name"]] = {}
        self.prepare_client()

    def prepare_client(self):
        self.client.write("/root/ca.crt", self.crm.authority)
        self.client.write("/root/load.py", (SUPPORT / "load.py").read_text())
        self.client.sh(f"ip route replace {ADDRESS} via 172.31.61.2; ip -6 route replace {ADDRESS6} via fd00:61::2")

    def inventory(self, **more):
        """`more` are hosts beside the router."""
        children = {group: {**hosts_, "vars": self.group_vars.get(group, {})} for group, hosts_ in self.groups.items()}
        for group in ("crm_router", "platform"):
            children[group] = {**children[group], "hosts": {**children[group]["hosts"], **more}}
        own = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}
        return {"all": {"vars": {**self.group_vars["all"], **own}, "children": children}}

    def run(self, playbook, *options, aside="", **variables):
        """One run; `aside` has its files in a directory of their own, for runs side by side."""
        directory = self.directory / aside
        directory.mkdir(exist_ok=True)
        extra = ("--extra-vars", json.dumps(variables)) if variables else ()
        began = time.monotonic()
        # Who takes a host out or in does so also while another one is down.
        inventory = self.inventory(**({"crm-network-gone": DOWN} if playbook == "drain" else {}))
        outcome = plays.run(directory, f"crm.platform.{playbook}", inventory, *options, *extra)
        print(f"{playbook} {variables}: rc {outcome.rc}, {len(outcome.changed)} changed, {time.monotonic() - began:.0f} s")
        return outcome

    def does(self, playbook, *options, **variables):
        outcome = self.run(playbook, *options, **variables)
        assert outcome.rc == 0, outcome.failure or outcome.text[-2000:]
        return outcome

    def next_hops(self, address=ADDRESS):
        """To how many hosts the router spreads the address."""
        shown = self.router.sh(f"ip {'-6' if ':' in address else '-4'} route show {address}")
        return len(set(re.findall(r"via (?:inet6 )?(\S+)", shown)))

    def whole(self, timeout=60):
        """Wait until both hosts announce both addresses."""
        self.router.wait_for("both hosts to be announced", lambda: self.next_hops() == 2 and self.next_hops(ADDRESS6) == 2, timeout)

    def warm(self):
        """Both answer at the rate that is asked for: one that was started a moment ago is slow at first."""
        self.whole()
        self.router.wait_for("both hosts to be quick", lambda: len((seen := ended(self.load(1)))["hosts"]) == 2 and seen["slowest"] < 0.5, 60)

    def status(self, host):
        return json.loads(host.run("crm-platform-anycast", "status").stdout)

    def load(self, seconds, retries=1, address=ADDRESS, patience=10.0):
        words = ["python3", "/root/load.py", address, DOMAIN, "/root/ca.crt", *map(str, (seconds, RATE, retries, patience))]
        return subprocess.Popen(["docker", "exec", "--interactive", CLIENT, *words], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def watch(self, host, there, timeout=5.0):
        words = ["python3", "-c", WATCH, "-4", ADDRESS, NEXT_HOPS[host], "there" if there else "gone", str(timeout)]
        return subprocess.Popen(["docker", "exec", ROUTER, *words], text=True, stdout=subprocess.PIPE)


def ended(process):
    """What a client or a watcher has printed in the end."""
    out = process.stdout.read()
    process.wait(120)
    assert process.returncode == 0, out
    return json.loads(out)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("network"))
    made.whole()
    return made


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS6])
def test_a_user_logs_in_through_the_service_address(lab, address):
    answer = lab.client.run("python3", "-c", LOGIN, address, DOMAIN, input=lab.crm.secrets["admin_password"]).stdout
    assert json.loads(answer)["result"][0] > 0, answer


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS6])
def test_flows_are_spread_over_both_hosts(lab, address):
    seen = ended(lab.load(2, address=address))
    assert seen["failed"] == seen["retried"] == 0, seen
    assert min(seen["hosts"].get(host, 0) for host in NEXT_HOPS) > 0.25 * seen["requests"], seen


def test_nobody_on_the_link_learns_who_has_the_address(lab):
    lab.bulk.sh(f"ip route replace {ADDRESS} dev eth0")
    done = lab.bulk.run("timeout", "3", "bash", "-c", f"echo > /dev/tcp/{ADDRESS}/443", check=False)
    assert done.returncode != 0 and "REACHABLE" not in lab.bulk.sh(f"ip neigh show {ADDRESS}")
    lab.bulk.sh(f"ip route del {ADDRESS} dev eth0")


def test_the_key_is_root_s_and_frr_s_alone(lab):
    assert len(lab.key) == 16
    for host in (lab.router, lab.app1, lab.app2):
        assert lab.key in host.read("/etc/frr/frr.conf") and host.stat("/etc/frr/frr.conf") == "regular file root:frr 640"
        assert not host.sh(f"journalctl --no-pager | grep {lab.key} || true; grep -r {lab.key} /var/log || true")


def test_a_dead_host_is_gone_within_a_second(lab):
    for dummy in range(RUNS):
        lab.warm()
        loading = lab.load(6, patience=LIMIT)
        time.sleep(2)
        hosts.engine("kill", APP2)
        seen = ended(loading)
        hosts.engine("start", APP2)
        lab.app2.wait_until_booted()
        print(f"killed: {seen}")
        assert seen["failed"] == 0 and seen["gap"] <= LIMIT and seen["window"] <= LIMIT, seen
    lab.whole()


@pytest.mark.parametrize(
    "end, start",
    [
        ("systemctl stop crm-platform", "systemctl start crm-platform crm-platform-worker crm-platform-cron"),
        # It comes back by itself.
        ("systemctl kill --signal=KILL crm-platform", ""),
        ("systemctl kill --signal=KILL crm-platform-anycast", ""),
    ],
)
def test_a_host_without_its_crm_is_withdrawn_within_a_second(lab, end, start):
    lab.whole()
    watching = lab.watch(APP2, there=False)
    loading = lab.load(2.5)
    time.sleep(0.7)
    try:
        began = float(lab.app2.sh("date +%s.%N; " + end).split()[0])
        took = ended(watching) - began
        seen = ended(loading)
    finally:
        lab.app2.sh(start)
    print(f"withdrawn {took:.3f} s after `{end}` began; {seen}")
    assert took <= LIMIT, took
    # Who stops it in order loses nothing.
    assert seen["failed"] <= (0.05 * seen["requests"] if "KILL" in end else 0), seen
    lab.whole()


def test_a_host_is_taken_out_and_in_without_a_lost_request(lab):
    # The strict client first; whoever tries once more cannot do worse.
    for retries in (0, 1)[: 1 if RUNS == 1 else 2]:
        for state in ("out", "in"):
            loading = lab.load(90, retries)
            time.sleep(1)
            outcome = lab.does("drain", "--limit", APP2, drain_state=state)
            assert loading.poll() is None, "the load was over before the drain"
            time.sleep(1)
            loading.stdin.close()
            seen = ended(loading)
            print(f"{state}: {outcome.last['msg']} {seen}")
            assert seen["failed"] == 0, seen
            assert ("is drained" if state == "out" else "is in service again") in outcome.last["msg"]
            assert lab.next_hops() == (1 if state == "out" else 2)
            if not retries:
                again = lab.does("drain", "--limit", APP2, drain_state=state)
                assert not again.changed and "nothing to do" in again.last["msg"]
    lab.whole()


def test_a_changed_setting_restarts_one_host_after_the_other(lab):
    lab.warm()
    loading = lab.load(600)
    time.sleep(1)
    outcome = lab.does("crm_service", crm_service_threads=3)
    assert loading.poll() is None, "the load was over before the run"
    time.sleep(1)
    loading.stdin.close()
    seen = ended(loading)
    print(f"restarted: {seen}")
    started = [float(host.sh("date +%s -d \"$(systemctl show --property ActiveEnterTimestamp --value crm-platform)\"")) for host in (lab.app1, lab.app2)]
    assert "Keep the CRM and its front running" in str(outcome.changed) and started[0] < started[1], (outcome.changed, started)
    assert seen["failed"] == 0 and lab.next_hops() == 2, seen


def test_the_last_host_stays_in_and_a_drained_one_stays_out(lab):
    lab.does("drain", drain_host=APP2, drain_state="out")
    refused = lab.run("drain", drain_host=APP1, drain_state="out")
    assert refused.rc != 0 and "the last application host" in refused.failure and "drain_force" in refused.failure
    assert lab.status(lab.app1)["state"] == "announced"
    lab.app2.restart()
    lab.app2.wait_for("the CRM to be up", lambda: lab.app2.run("curl", "-kfs", "https://127.0.0.1/health", check=False).returncode == 0 or True, 60)
    time.sleep(3)
    assert lab.status(lab.app2)["state"] == "drained" and lab.next_hops() == 1
    lab.does("drain", drain_host=APP2, drain_state="in")
    lab.whole()


@pytest.mark.parametrize("variables, words", [({}, ["drain_state", "out", "in"]), ({"drain_state": "out"}, ["--limit or drain_host", APP1, APP2])])
def test_what_to_drain_has_to_be_said(lab, variables, words):
    refused = lab.run("drain", **variables)
    assert refused.rc != 0 and not [word for word in words if word not in refused.failure] and "\n" not in refused.failure, refused.failure


def neighbours(host):
    return json.loads(host.sh("vtysh -c 'show ip ospf neighbor json'"))["neighbors"]


def test_a_wrong_key_makes_no_neighbour_and_hurts_nobody_else(lab):
    wrong = "an0therKey"
    outcome = lab.does("network", "--limit", APP2, "--diff", "-vvv", "--tags", "routing", routing_key=wrong)
    assert wrong not in outcome.text.replace(json.dumps({"routing_key": wrong}), "") and lab.key not in outcome.text
    # Nobody on the host could read either in a list of processes or a log.
    assert not lab.app2.sh(f"grep -rE '{wrong}|{lab.key}' /var/log || true; journalctl --no-pager | grep -E '{wrong}|{lab.key}' || true")
    lab.router.wait_for("the neighbour to be gone", lambda: lab.next_hops() == 1, 15)
    seen = ended(lab.load(1))
    assert seen["failed"] == seen["retried"] == 0 and list(seen["hosts"]) == [APP1], seen
    lab.does("network", "--limit", APP2, "--tags", "routing")
    lab.whole()


def test_an_announced_default_route_is_not_taken_and_is_mended(lab):
    before = lab.router.sh("ip route show default")
    lab.app2.sh("vtysh -c 'configure' -c 'router ospf' -c 'default-information originate always'")
    lab.router.wait_for("the announcement", lambda: "0.0.0.0" in lab.router.sh("vtysh -c 'show ip ospf database external'"), 10)
    time.sleep(1.5)
    assert lab.router.sh("ip route show default") == before and "ospf" not in before
    checked = lab.does("network", "--limit", APP2, "--tags", "routing", "--check", "--diff")
    assert checked.changed == ["crm.platform.routing : Plan OSPF, or have it"] and "default-information originate always" in checked.text
    lab.does("network", "--limit", APP2, "--tags", "routing")
    assert "default-information" not in lab.app2.sh("vtysh -c 'show running-config'")
    # Neighbours stayed meanwhile.
    assert lab.next_hops() == 2


def test_a_stranger_with_the_right_key_is_nobody_s_neighbour(lab):
    lab.bulk.sh("command -v vtysh || { apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends frr; }")
    lab.bulk.sh("sed -i 's/^ospfd=no/ospfd=yes/; s/^bfdd=no/bfdd=yes/' /etc/frr/daemons; ip address replace 10.66.0.1/32 dev lo")
    stranger = (
        lab.router.read("/etc/frr/frr.conf").split("router ospf6")[0].replace("172.31.60.2", "172.31.60.99").replace("interface eth1", "interface lo")
    )
    lab.bulk.write("/etc/frr/frr.conf", "\n".join(line for line in stranger.splitlines() if "ospf6" not in line) + "\n")
    lab.bulk.sh("systemctl reset-failed frr; systemctl restart frr")
    try:
        time.sleep(8)
        for host in (lab.router, lab.app1, lab.app2):
            assert "172.31.60.99" not in json.dumps(neighbours(host)), host.name
            assert "10.66.0.1" not in host.sh("vtysh -c 'show ip ospf route'; ip route")
        assert lab.next_hops() == 2
    finally:
        lab.bulk.sh("systemctl disable --now frr")


WRONG = {
    "a neighbour outside its subnet": (
        {"routing_interfaces": [{"name": "eth0", "neighbours": ["172.31.61.9", "fe80::/10"]}]},
        ["routing_interfaces: eth0", "172.31.61.9", "outside its subnet"],
    ),
    "a key that is too long": ({"routing_key": "seventeen-letters"}, ["routing_key", "17", "16"]),
    "an interface that is not there": (
        {"routing_interfaces": [{"name": "eth7", "neighbours": ["172.31.60.2"]}]},
        ["routing_interfaces: eth7", "does not exist", "eth0"],
    ),
}


def test_bad_input_stops_before_anything_is_changed(lab):
    with concurrent.futures.ThreadPoolExecutor(len(WRONG)) as pool:
        runs = {what: pool.submit(lab.run, "preflight", "--limit", APP2, aside=str(number), **WRONG[what][0]) for number, what in enumerate(WRONG)}
    for what, running in runs.items():
        outcome, words = running.result(), WRONG[what][1]
        message = outcome.failure
        assert outcome.rc != 0 and not outcome.changed and [word for word in words if word not in message] == [], (what, message)
        assert "\n" not in message.strip(), message
