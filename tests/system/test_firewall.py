# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/firewall and nftables_ruleset on bare servers: whom they let in, and that nobody is locked out.

More of each: CRM_FIREWALL_ROUNDS=10 lock-outs of each kind, CRM_FIREWALL_ATTEMPTS=10000 connections to ssh,
CRM_FIREWALL_REPLACED=200 replacements under load, CRM_FIREWALL_SYSTEM=debian13.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import hosts
import pytest
import walls

ROUNDS = int(os.environ.get("CRM_FIREWALL_ROUNDS", "1"))
ATTEMPTS = int(os.environ.get("CRM_FIREWALL_ATTEMPTS", "400"))
REPLACED = int(os.environ.get("CRM_FIREWALL_REPLACED", "20"))
SYSTEM = os.environ.get("CRM_FIREWALL_SYSTEM", "debian12")
# What listens: declared ones, and ones that nobody declared.
TCP, UDP = (80, 443, 3306, 5432, 5999, 8080, 8090, 9000, 9005), (53, 123, 5353, 5999)
SERVICES = [
    {"name": "web", "ports": ["8080", "9000-9005"]},
    {"name": "names", "protocol": "udp", "ports": ["5353"]},
    {"name": "limited", "ports": ["8090"], "rate_limit": "500/second"},
]
# Of other programs: a table as container engines make it, and an administrator's own.
OTHERS = """
table ip engine {
  chain DOCKER { iifname "docker0" counter packets 3 bytes 180 return; tcp dport 5001 counter packets 7 bytes 420 dnat to 172.17.0.2:5000; }
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local tcp dport 5001 counter packets 0 bytes 0 jump DOCKER; }
}
table inet own {
  set friends { type ipv4_addr; flags dynamic,timeout; timeout 1d; elements = { 192.0.2.1 timeout 1d expires 23h } }
  chain marks { type filter hook forward priority 10; policy accept; counter packets 5 bytes 300; }
}
"""
CHANGE = "crm.platform.firewall : Have the rules, live and for the next boot"
# Nobody comes from here: what a typing error in the inventory does.
LOCKED_OUT = {"firewall_services": [{"name": "ssh", "ports": ["22"], "sources": ["203.0.113.0/24"]}], "firewall_controllers": ["203.0.113.9"]}
WINDOW = 6
LOCKED_OUT["firewall_confirm_timeout"] = WINDOW


@pytest.fixture(scope="module")
def network():
    hosts.lab.ensure_engine()
    made = walls.Network(230)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def server(network):
    """With the firewall, and tables of others beside it."""
    made = walls.Wall("server", network, 10, SYSTEM)
    try:
        made.create()
        made.serve(TCP, UDP)
        made.run("nft", "-f", "-", input=OTHERS)
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def stranger(network):
    made = walls.Wall("stranger", network, 20, SYSTEM)
    try:
        yield made.create()
    finally:
        made.remove()


@pytest.fixture(scope="module")
def controller(server, tmp_path_factory):
    return walls.Controller(tmp_path_factory.mktemp("firewall"), server)


@pytest.fixture(scope="module")
def first(controller, server):
    """The first run; before it, one that would have locked everybody out."""
    controller.cut = controller.run(**LOCKED_OUT)
    controller.left = (server.table(), server.confirmed(), server.state())
    controller.before = others(server)
    done = controller.run(firewall_services=SERVICES)
    assert done.rc == 0, done.failure or done.text[-3000:]
    return controller


def others(server):
    """The tables of others, byte by byte; the times that elements have left go by."""
    text = server.sh("nft list table ip engine; nft list table inet own")
    return "\n".join(line.split("expires")[0] for line in text.splitlines())


def good(controller, **variables):
    done = controller.run(firewall_services=SERVICES, **variables)
    assert done.rc == 0, done.failure or done.text[-3000:]
    return done


# Nobody is locked out


def test_the_first_ruleset_ever_goes_back_to_none(first, server):
    assert first.cut.rc != 0 and "cut the controller off" in first.cut.failure, first.cut.failure or first.cut.text[-2000:]
    table, confirmed, state = first.left
    assert (table, confirmed) == ("", "")
    assert state["state"] == "rolled_back"


def test_confirmed_and_then_left_alone(first, server):
    assert server.state()["state"] == "confirmed" and server.confirmed() and server.table()
    again = good(first)
    assert again.changed == []
    checked = first.run("--check", "--diff", firewall_services=SERVICES[:1])
    assert checked.rc == 0 and checked.changed == [CHANGE]
    assert good(first).changed == []


def by_docker(server):
    """Not by ssh."""
    return {"ansible_connection": "community.docker.docker", "ansible_host": server.name}


def locked_out(first, server, after=None):
    """A run of what locks us out; killed with SIGKILL once the rules are live, where something is to come after."""
    before = (server.table(), server.confirmed(), others(server))
    process = first.begin(**LOCKED_OUT)
    server.wait_for("the rules to be live", lambda: "203.0.113.9" in server.table(), 60)
    began = time.monotonic()
    if after:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        assert process.wait(90) != 0
    assert not after or not first.ssh(timeout=1), "the rules locked nobody out"
    if after:
        after()
    back = server.wait_for("ssh to answer", first.ssh, WINDOW + 40)
    print(f"ssh answers {time.monotonic() - began:.1f} s after the lock-out ({back:.1f} s of waiting)")
    process.wait()
    assert (server.table(), server.confirmed()) == before[:2]
    assert server.state()["state"] == "rolled_back"
    return before[2]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_locked_out_by_a_run(first, server, number):
    assert locked_out(first, server) == others(server) == first.before


@pytest.mark.parametrize("number", range(ROUNDS))
def test_locked_out_by_a_run_that_is_killed(first, server, number):
    assert locked_out(first, server, after=lambda: None) == others(server) == first.before


@pytest.mark.parametrize("number", range(ROUNDS))
def test_locked_out_by_a_run_that_is_killed_before_a_reboot(first, server, number):
    def reboot():
        hosts.engine("restart", "--time", "0", server.name)
        server.wait_until_booted()

    locked_out(first, server, after=reboot)
    assert "reboot" in server.state()["why"]
    server.run("nft", "-f", "-", input=OTHERS)  # nobody loads them at boot here
    assert good(first).changed == []


def test_one_change_at_a_time(first, server):
    """A run that was killed leaves a change that waits: the next is told of it, and may follow when it was taken back."""
    before = server.table()
    process = first.begin(**{**LOCKED_OUT, "firewall_confirm_timeout": 60})
    server.wait_for("the change to wait", lambda: "203.0.113.9" in server.table(), 60)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    second = first.run(firewall_services=SERVICES, **by_docker(server))
    assert second.rc != 0 and "nftables-rollback-inet_crm_platform.timer takes it back in" in second.failure, second.text[-2000:]
    assert "\n" not in second.failure and "systemctl start" in second.failure
    look = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Look", "crm.platform.health_check": {"areas": ["firewall"]}}]}]
    health = {one["id"]: one["status"] for one in first.run(play=look, **by_docker(server)).last["results"]}
    assert health["firewall_unconfirmed"] == health["firewall_table"] == "warning" and health["firewall_bans"] == "ok", health
    server.run("systemctl", "start", "nftables-rollback-inet_crm_platform.service")
    assert server.table() == before and server.state()["state"] == "rolled_back"


# Whom it lets in


def seen(found):
    return set(found["open"] + found["refused"])


DECLARED = {22, 80, 443, 8080, 8090, *range(9000, 9006)}


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_scan_sees_what_is_declared(first, server, stranger, family):
    address = getattr(server, family)
    found = stranger.scan(address)
    assert seen(found) == DECLARED
    assert set(found["udp"]) == {5353}
    assert {80, 443, 8080, 8090, 22} <= set(found["open"])


def test_more_would_be_seen_without_it(first, server, stranger):
    """The scan is able to find what the firewall hides."""
    server.run("nft", "add", "chain", "inet", "crm_platform", "input", "{ policy accept; }")
    server.run("nft", "insert", "rule", "inet", "crm_platform", "input", "accept")
    try:
        found = stranger.scan(server.ipv4, 5000, 6000, udp=(5999, 123))
        assert 5999 in found["open"] and 5002 in found["refused"] and set(found["udp"]) == {5999, 123}
    finally:
        server.load_confirmed()


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_too_many_attempts_on_ssh_shut_out_of_ssh_alone(first, server, stranger, family):
    address = getattr(server, family)
    assert stranger.knock(address, 22, ATTEMPTS) <= 31
    assert not stranger.reaches(address, 22)
    assert stranger.reaches(address, 8080) and stranger.reaches(address, 443), "other ports stay open to the source"
    assert first.ssh(), "and ssh to others"
    assert "22" in server.table_set(f"banned.{family}")


def test_controllers_are_not_counted(first, server, stranger):
    server.load(controllers=[stranger.ipv4])
    server.sh("nft flush set inet crm_platform banned.ipv4")
    assert stranger.knock(server.ipv4, 22, 60) == 60
    assert stranger.knock(server.ipv6, 22, 1) == 0, "its other address is, and was shut out"
    server.load_confirmed()
    stranger.knock(server.ipv4, 22, 60)


def test_the_shut_out_stay_shut_out_when_the_rules_change(first, server, stranger):
    assert stranger.ipv4 in server.table_set("banned.ipv4")
    server.load()
    server.load(ping_rate="30/second")  # the same structure
    assert stranger.ipv4 in server.table_set("banned.ipv4")
    server.load(zones=[{"name": "office", "addresses": ["192.0.2.0/24"]}], ban_time="1h", forward="drop")  # another one
    after = server.table_set("banned.ipv4")
    assert stranger.ipv4 in after and "timeout 10m expires" in after, "for the time that it was shut out for"
    assert not stranger.reaches(server.ipv4, 22) and stranger.reaches(server.ipv4, 443)
    server.load_confirmed()
    assert stranger.reaches(server.ipv4, 22)


SPOOF = (
    "import socket, struct, sys\n"
    "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
    "src, dst = map(socket.inet_aton, sys.argv[1:3])\n"
    "udp = struct.pack('!HHHH', 4000, 5353, 9, 0) + b'x'\n"
    "s.sendto(struct.pack('!BBHHHBBH4s4s', 69, 0, 20 + len(udp), 1, 0, 64, 17, 0, src, dst) + udp, (sys.argv[2], 0))\n"
)


def test_an_address_of_elsewhere_is_dropped(first, server, stranger):
    """One that belongs to another interface of the server, and the server's own."""
    server.sh(
        "ip link add inside0 type veth peer name inside1; ip addr add 198.51.100.1/24 dev inside0; ip link set inside0 up; ip link set inside1 up"
    )

    def dropped():
        text = server.sh("nft list chain inet crm_platform antispoofing")
        return sum(int(line.split("packets ")[1].split()[0]) for line in text.splitlines() if "spoofed" in line)

    before = dropped()
    for address in ("198.51.100.77", server.ipv4, stranger.ipv4):
        stranger.python(SPOOF, address, server.ipv4)
    server.wait_for("two of three to be dropped", lambda: dropped() >= before + 2, 5)
    assert dropped() == before + 2
    server.load(asymmetric_interfaces=["eth0"])
    stranger.python(SPOOF, "198.51.100.77", server.ipv4)
    stranger.python(SPOOF, server.ipv4, server.ipv4)
    server.wait_for("its own to be dropped", lambda: dropped() >= 1, 5)
    assert dropped() == 1, "where there are several ways, any will do"
    server.load_confirmed()


HEARD = (
    "import json, select, socket, sys, time\n"
    "ospf = socket.socket(socket.AF_INET, socket.SOCK_RAW, 89)\n"
    "bfd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); bfd.bind(('', 3784))\n"
    "ospf.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('224.0.0.5') + socket.inet_aton(sys.argv[1]))\n"
    "print('ready', flush=True)\n"
    "end, got = time.monotonic() + float(sys.argv[2]), []\n"
    "while time.monotonic() < end:\n"
    "    for s in select.select([ospf, bfd], [], [], max(0, end - time.monotonic()))[0]:\n"
    "        data, who = s.recvfrom(2000)\n"
    "        got.append([who[0], data[-4:].decode()])\n"
    "print(json.dumps(got))\n"
)
SPEAK = (
    "import socket\n"
    "import sys\n"
    "own, other = sys.argv[1:]\n"
    "o = socket.socket(socket.AF_INET, socket.SOCK_RAW, 89)\n"
    "o.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))\n"
    "o.sendto(b'many', ('224.0.0.5', 0)); o.sendto(b'once', (other, 0))\n"
    "for ttl in (255, 64):\n"
    "    b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); b.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)\n"
    "    b.sendto(b't%03d' % ttl, (other, 3784))\n"
)


def test_only_neighbours_speak_routing(first, server, stranger, network):
    neighbour = walls.Wall("neighbour", network, 30, SYSTEM)
    try:
        neighbour.create()
        server.load(neighbours=[{"interface": "eth0", "addresses": [neighbour.ipv4]}])
        with subprocess.Popen(
            ["docker", "exec", server.name, "python3", "-c", HEARD, server.ipv4, "3"], stdout=subprocess.PIPE, text=True
        ) as listener:
            assert listener.stdout.readline() == "ready\n"
            for one in (neighbour, stranger):
                one.python(SPEAK, one.ipv4, server.ipv4)
            heard = json.loads(listener.stdout.readline())
        assert sorted(heard) == [[neighbour.ipv4, "many"], [neighbour.ipv4, "once"], [neighbour.ipv4, "t255"]]
    finally:
        neighbour.remove()
        server.load_confirmed()


def test_what_the_host_begins_itself(first, server, stranger):
    stranger.serve((8080, 8081), (5353,))
    egress = [{"name": "out", "ports": ["8080"], "destinations": [f"{stranger.network.ipv4}.0/24"]}]
    server.load(egress_policy="reject", egress=egress, services=SERVICES)
    try:
        assert server.reaches(stranger.ipv4, 8080)
        assert not server.reaches(stranger.ipv4, 8081) and not server.reaches(stranger.ipv6, 8080)
        assert stranger.reaches(server.ipv4, 8080) and first.ssh(), "answers leave"
    finally:
        server.load_confirmed()
    assert server.reaches(stranger.ipv4, 8081)


# Replaced while it works

FLOW = r"""
import json, socket, sys, time
address, seconds = sys.argv[1], float(sys.argv[2])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect((address, 5353)); u.setblocking(False)
t = socket.create_connection((address, 8080)); t.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); t.settimeout(5)
sent, got, rounds, longest, made, end = 0, set(), 0, 0.0, 0, time.monotonic() + seconds
def hear():
    try:
        while True:
            got.add(u.recv(100))
    except BlockingIOError:
        pass
while time.monotonic() < end:
    u.send(b"%d" % sent); sent += 1
    began = time.monotonic()
    t.sendall(b"x" * 1000)
    left = 1000
    while left:
        left -= len(t.recv(left))
    longest = max(longest, time.monotonic() - began); rounds += 1
    if rounds % 20 == 0:
        socket.create_connection((address, 9000), 5).close(); made += 1
    hear()
    time.sleep(0.0005)
time.sleep(0.5); hear()
info = t.getsockopt(socket.IPPROTO_TCP, 11, 104)
again = int.from_bytes(info[100:104], "little")
print(json.dumps({"sent": sent, "lost": sent - len(got), "rounds": rounds, "longest": longest, "made": made, "retransmits": again}))
"""
REPLACE = r"""
import sys, subprocess, json, time
sys.path.insert(0, "/root")
import nftables as nft
def run(argv, data=None):
    done = subprocess.run(argv, input=data, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr
table = nft.Table("inet", "crm_platform")
text = open("/etc/crm-platform/firewall.nft").read()
other = text.replace("limit rate 20/second", "limit rate 21/second")
third = other.replace("chain let_control_in", "chain let_errors_in").replace("jump let_control_in", "jump let_errors_in")
wanted = [(one, nft.read_wanted(run, table, one)) for one in (other, third, text)]
began, number = time.monotonic(), int(sys.argv[1])
for count in range(number):
    assert nft.load(run, table, *wanted[count % 3])
    time.sleep(0.02)
nft.load(run, table, *wanted[2])
print(json.dumps({"seconds": time.monotonic() - began}))
"""


def test_replaced_under_load(first, server, stranger):
    """Emptied and filled, and made anew, by turns: no packet and no connection is lost."""
    seconds = max(3.0, REPLACED * 0.15)
    with subprocess.Popen(
        ["docker", "exec", stranger.name, "python3", "-c", FLOW, server.ipv4, str(seconds)], stdout=subprocess.PIPE, text=True
    ) as flow:
        time.sleep(0.3)
        took = json.loads(server.python(REPLACE, str(REPLACED)))["seconds"]
        outcome = json.loads(flow.stdout.read())
    print(f"{REPLACED} replacements in {took:.1f} s of {seconds:.1f} s: {outcome}")
    assert outcome["lost"] == 0 and outcome["retransmits"] == 0 and outcome["rounds"] > 100 and outcome["made"] > 5


def test_thousands_of_networks(first, server, stranger):
    networks = [f"10.{number // 250}.{number % 250}.0/25" for number in range(2500)] + [f"2001:db8:{2 * number:x}::/48" for number in range(2500)]
    zones = [{"name": "office", "addresses": networks}]
    done = first.run(firewall_zones=zones, firewall_services=SERVICES[:2], **by_docker(server))
    assert done.rc == 0 and done.changed == [CHANGE], done.failure
    listing = server.table()
    assert listing.count("/25") == 2500 and listing.count("/48") == 2500
    assert "8090" not in server.confirmed() and server.state()["state"] == "confirmed", "over a connection that no rule can cut, too"


def test_the_stock_unit_takes_it_away_for_no_longer_than_it_takes_to_load(first, server):
    """It flushes all tables, those of others too: they are its administrator's to bring back."""
    before = server.table()
    for words in ("start", "reload", "restart", "enable", "disable --now", "enable --now"):
        server.sh(f"systemctl {words} nftables")
        server.wait_for(f"the table after {words}", lambda: server.table() == before, 10)
        assert server.sh("systemctl is-active crm-platform-firewall").strip() == "active"
    server.restart()
    assert server.table() == before and not server.sh("systemctl --failed --no-legend | grep -E 'nftables|crm-platform-firewall' || true")
    # Loaded once, and not once more since nftables.service was started as well.
    started = server.sh("journalctl --no-pager --unit crm-platform-firewall").rpartition("Starting crm-platform-firewall")
    assert started[1] and "Reload" not in started[2]
    server.sh("systemctl disable --now nftables")
    server.wait_for("the table", lambda: server.table() == before, 10)
    server.run("nft", "-f", "-", input=OTHERS)


def test_off(first, server, stranger):
    before = others(server)
    done = first.run(firewall_enabled=False)
    assert done.rc == 0, done.failure
    assert server.table() == "" and server.confirmed() == "" and others(server) == before
    assert stranger.reaches(server.ipv4, 5999)
    assert (
        "crm-platform" not in server.sh("systemctl cat nftables")
        and server.sh("systemctl show --value --property NeedDaemonReload nftables") == "no\n"
    )
    assert first.run(firewall_enabled=False).changed == []
