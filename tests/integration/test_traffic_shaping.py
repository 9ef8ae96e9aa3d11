# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.traffic_shaping on a Debian host: drift of every kind, bad input, a step that fails, and the end of it.

The interface is one end of a pair that carries nothing. The kernel says what is there, in tc's and nft's own words.
"""

from __future__ import annotations

import json
import re

import plays
import pytest

WISH = {
    "interfaces": [{"name": "shp0", "rate": "100mbit", "ingress_rate": "50%", "overhead": 18, "mpu": 64}],
    "classes": [
        {"name": "crm", "guarantee": "60%", "priority": 1, "dscp": "af31", "matches": [{"ports": ["8000-8010"]}, {"users": ["daemon"]}]},
        {"name": "other", "guarantee": "30%", "default": True},
        {
            "name": "bulk",
            "guarantee": "10%",
            "ceil": "90%",
            "priority": 7,
            "matches": [{"dscp": ["cs1"]}, {"addresses": ["192.0.2.0/24", "2001:db8::7"]}],
        },
    ],
    "services": [{"name": "web", "ports": ["443"], "traffic_class": "crm"}],
    "directory": "/srv/shaping",
}
# What tells the same state from another: without counts of users, and numbers that the kernel gives out.
LOOK = r"""
for device in shp0 ifb-shp0; do
  ip -o link show dev $device 2>/dev/null | sed -E 's/.*(UP|DOWN).*/\1/; s/^/'$device' /' | grep -oE '^[^ ]+ (UP|DOWN)'
  { tc qdisc show dev $device; tc -d class show dev $device | sort; tc filter show dev $device parent 1:; tc filter show dev $device ingress; } 2>/dev/null
done | sed -E 's/refcnt [0-9]+ //; s/ *$//; /^filter .* chain 0( fh [0-9a-f]+: ht divisor 1)?$/d; s/fh [0-9a-f]+::800/fh/; s/key ht [0-9a-f]+/key/
/index [0-9]/d; /^$/d'
nft -s list table inet crm_platform_qos 2>/dev/null
sha256sum /srv/shaping/* 2>/dev/null
true
"""
DRIFTS = {
    "a class deleted": "tc class del dev shp0 classid 1:30",
    "a class of its own": "tc class add dev shp0 parent 1:1 classid 1:77 htb rate 1mbit quantum 1514",
    "a rate changed": "tc class change dev shp0 parent 1:1 classid 1:10 htb rate 5mbit ceil 100mbit prio 1 quantum 7500 overhead 18 mpu 64",
    "a ceiling changed": "tc class change dev ifb-shp0 parent 1:1 classid 1:30 htb rate 5mbit ceil 6mbit prio 7 quantum 1514 overhead 18 mpu 64",
    "a priority changed": "tc class change dev shp0 parent 1:1 classid 1:20 htb rate 30mbit ceil 100mbit prio 0 quantum 3750 overhead 18 mpu 64",
    "an overhead changed": "tc class change dev shp0 parent 1:1 classid 1:20 htb rate 30mbit ceil 100mbit burst 3750 cburst 12500 prio 3 quantum 3750",
    "a filter of its own": "tc filter add dev shp0 parent 1: protocol ip pref 7 u32 match u32 0 0 flowid 1:30",
    "a filter of its own for what comes in": "tc filter add dev shp0 ingress protocol ip pref 7 u32 match u32 0 0 flowid 1:3",
    "a filter deleted": "tc filter del dev ifb-shp0 parent 1: pref 12",
    "a filter that leads elsewhere": "tc filter del dev ifb-shp0 parent 1: pref 10; tc filter add dev ifb-shp0 parent 1: protocol ip pref 10 u32"
    " match u32 0x05000000 0x0f000000 at 0 flowid 1:20",
    "the stand-in removed": "ip link del ifb-shp0",
    "the stand-in down": "ip link set ifb-shp0 down",
    "the redirection removed": "tc filter del dev shp0 ingress pref 49000",
    "no place for filters": "tc qdisc del dev shp0 clsact",
    "another root": "tc qdisc replace dev shp0 root handle 5: tbf rate 1mbit burst 10k latency 50ms",
    "no root": "tc qdisc del dev shp0 root",
    "another default": "tc qdisc replace dev shp0 root handle 2: pfifo; tc qdisc replace dev shp0 root handle 1: htb default 10",
    "another queue": "tc qdisc replace dev shp0 parent 1:10 handle 99: tbf rate 1mbit burst 10k latency 50ms",
    "a shorter queue": "tc qdisc change dev shp0 parent 1:10 handle 10: pfifo limit 5",
    "the rules deleted": "nft delete table inet crm_platform_qos",
    "a rule of its own": "nft add rule inet crm_platform_qos classify tcp dport 9 goto class_crm",
    "the file for boot gone": "rm /srv/shaping/qos-shp0.tc",
}
# Fails at the line with the word in /run/tc-fails, once, in the host's own network.
BROKEN_TC = """#!/bin/sh
real=/usr/sbin/tc
[ "$*" = "-batch -" ] && [ -s /run/tc-fails ] && [ "$(readlink /proc/self/ns/net)" = "$(readlink /proc/1/ns/net)" ] || exec $real "$@"
cat >/run/tc-lines
grep -q -- "$(cat /run/tc-fails)" /run/tc-lines || exec $real -batch /run/tc-lines
sed "/$(cat /run/tc-fails)/,\\$d" /run/tc-lines | $real -batch -
rm /run/tc-fails
echo "Error: No more space left in the kernel." >&2
exit 1
"""


# Sends one packet of each kind between shp0 and a network of its own at the other end; prints the classes that counted, in and out.
PACKETS = r"""
import json, os, re, socket, subprocess, sys, time

def counted(device):
    text = subprocess.run(["tc", "-s", "class", "show", "dev", device], capture_output=True, text=True).stdout
    return {name: int(sent) for name, sent in re.findall(r"class htb (1:\d+) parent.*?\n Sent \d+ bytes (\d+) pkt", text)}

def send(source, target, port, tos, user):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if port else socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        if tos:
            one.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ":" in target else (socket.IPPROTO_IP, socket.IP_TOS)), tos)
        one.bind((source, 0))
        try:
            one.connect((target, port or 9))
            one.send(b"x")
        except OSError:
            pass

if sys.argv[1] == "send":
    source, target, port, tos, user = json.loads(sys.argv[2])
    if user:
        os.setuid(user)
    send(source, target, port, tos, user)
    sys.exit()
found = {}
for name, (peer, *packet) in json.loads(sys.stdin.read()).items():
    before = counted("ifb-shp0"), counted("shp0")
    inside = ["ip", "netns", "exec", "peer"] if peer else []
    subprocess.run([*inside, sys.executable, __file__, "send", json.dumps(packet)], check=True)
    time.sleep(0.1)
    after = counted("ifb-shp0"), counted("shp0")
    found[name] = [sorted(key for key in now if now[key] > then[key]) for then, now in zip(before, after)]
print(json.dumps(found))
"""
# (the peer sends, from, to, TCP port or 0 for a datagram, TOS, user) and the classes in and out, besides the default's: there is always a word
# between neighbours. What nobody listens for is answered, from the same port.
OURS, THEIRS, BULKY = ("198.51.100.1", "2001:db8:1::1"), ("198.51.100.2", "2001:db8:1::2"), ("192.0.2.7", "2001:db8::7")
SORTED = {}
for number, version in enumerate(("IPv4", "IPv6")):
    ours, theirs, bulky = OURS[number], THEIRS[number], BULKY[number]
    SORTED[f"{version}, a port of ours"] = (True, theirs, ours, 8005, 0, 0), "1:10", "1:10"
    SORTED[f"{version}, a port outside of the range"] = (True, theirs, ours, 8011, 0, 0), "", ""
    SORTED[f"{version}, a service"] = (True, theirs, ours, 443, 0, 0), "1:10", "1:10"
    SORTED[f"{version}, a port of theirs"] = (False, ours, theirs, 8010, 0, 0), "1:10", "1:10"
    SORTED[f"{version}, an address of theirs"] = (True, bulky, ours, 7, 0, 0), "1:30", "1:30"
    SORTED[f"{version}, a mark"] = (True, theirs, ours, 0, 0x20, 0), "1:30", ""
    SORTED[f"{version}, the mark of a class"] = (True, theirs, ours, 0, 0x68, 0), "1:10", ""
    SORTED[f"{version}, a mark that goes out"] = (False, ours, theirs, 0, 0x20, 0), "", "1:30"
    # Its answer carries the mark back.
    SORTED[f"{version}, a user"] = (False, ours, theirs, 7, 0, 1), "1:10", "1:10"
    SORTED[f"{version}, nothing of that"] = (False, ours, theirs, 7, 0, 0), "", ""


@pytest.fixture(scope="module")
def shaped(host):
    """The host with the tools and the pair of interfaces."""
    host.sh("command -v nft >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends nftables; } 2>&1")
    host.sh("mkdir -p /srv/shaping; ip link add shp0 type veth peer name shp1; ip link set shp0 up; ip link set shp1 up")
    yield host
    host.sh("ip link del shp0; ip link del ifb-shp0; nft delete table inet crm_platform_qos; true")


@pytest.fixture
def play(shaped, tmp_path):
    """play(task, ...): the results of the tasks; one is a command, or options of the module and words of the task."""

    def run(*tasks, options=()):
        listed = []
        for task in tasks:
            if isinstance(task, str):
                listed.append({"name": "Run", "ansible.builtin.shell": task})
            else:
                module, words = task
                listed.append({"name": "Shape", "crm.platform.traffic_shaping": {**WISH, **module}, "ignore_errors": True, **words})
        whole = [{"hosts": "all", "gather_facts": False, "tasks": listed}]
        outcome = plays.run(tmp_path, whole, plays.inventory(shaped.name), *options, timeout=300)
        assert len(outcome.tasks) == len(tasks), outcome.failure or outcome.text[-3000:]
        return [task["result"] for task in outcome.tasks]

    return run


CHECK = ({}, {"check_mode": True})
HAVE = ({}, {})
ABSENT = ({"state": "absent"}, {})


def test_checked_shown_done_and_left_alone(play):
    before, checked, unchanged, done, after, again = play(LOOK, CHECK, LOOK, HAVE, LOOK, HAVE, options=["--diff"])
    assert checked["changed"] and unchanged["stdout"] == before["stdout"]
    assert done["steps"] == checked["steps"] and not again["changed"] and again["steps"] == []
    tables = {part["before_header"]: part for part in done["diff"]}["shp0 now"]
    assert "guarantee     60mbit" in tables["after"] and "ifb-shp0" in tables["after"] and "filter 49000" in tables["after"]
    assert done["shaper"] in done["available"] and done["available"][-1] in ("htb+pfifo", "cake")
    assert done["links"][0]["ifb"] == "ifb-shp0" and done["rates"] == {"shp0": "100mbit"}
    assert len(re.findall("^class htb", after["stdout"], re.MULTILINE)) == 8
    assert "Redirect to device ifb-shp0" in after["stdout"] and "meta skuid 1 goto class_crm" in after["stdout"]


def test_drift_of_every_kind_is_shown_and_mended(play):
    tasks = [HAVE]
    for command in DRIFTS.values():
        tasks += [f"{LOOK}\nexec >/dev/null 2>&1; {command}", CHECK, HAVE]
    results = play(*tasks, LOOK, HAVE)[1:]
    wanted = results[0]["stdout"]
    looks = [result["stdout"] for result in results[3::3]]
    wrong = {}
    for number, name in enumerate(DRIFTS):
        checked, mended = results[3 * number + 1 : 3 * number + 3]
        if not (checked["changed"] and checked["steps"] == mended["steps"] and looks[number] == wanted and not mended.get("failed")):
            wrong[name] = (checked.get("msg", ""), checked.get("steps"), looks[number])
    assert wrong == {}
    assert not results[-1]["changed"]


def test_a_changed_rate_changes_classes_and_nothing_else(play):
    steps = play(HAVE, ({"interfaces": [{**WISH["interfaces"][0], "rate": "80mbit"}]}, {}), HAVE)[1]["steps"]
    assert len(steps) == 10 - 1 and all(step.startswith(("tc class replace ", "write ")) for step in steps), steps


# Two networks without anybody else, in the first what boot loads.
NETWORKS = """
set -e
for name in here peer; do ip netns add $name; done
in_here="ip netns exec here"; in_peer="ip netns exec peer"
$in_here ip link add shp0 type veth peer name shp1 netns peer
for one in {ours}; do $in_here ip addr add $one dev shp0; done
for one in {theirs}; do $in_peer ip addr add $one dev shp1; done
$in_here sh -c 'echo 0 >/proc/sys/net/ipv6/conf/shp0/accept_dad' 2>/dev/null || true
$in_here ip link set shp0 up; $in_peer ip link set shp1 up
$in_here ip link add ifb-shp0 type ifb; $in_here ip link set ifb-shp0 up
$in_here ip route add 192.0.2.0/24 dev shp0; $in_here ip route add 2001:db8::/64 dev shp0
$in_here tc qdisc add dev shp0 clsact
$in_here tc -batch /srv/shaping/qos-shp0.tc
$in_here nft -f /srv/shaping/qos.nft
for dummy in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  $in_peer ip -6 addr show tentative | grep -q inet6 || $in_here ip -6 addr show tentative | grep -q inet6 || break
  sleep 0.3
done
"""


def test_each_packet_is_in_its_class(play, shaped):
    def with_length(addresses):
        return " ".join(f"{address}/{64 if ':' in address else 24}" for address in addresses)

    play(HAVE)
    shaped.write("/srv/packets.py", PACKETS)
    try:
        shaped.sh(NETWORKS.format(ours=with_length(OURS), theirs=with_length(THEIRS + BULKY)))
        packets = json.dumps({name: packet for name, (packet, *dummy) in SORTED.items()})
        found = json.loads(shaped.run("ip", "netns", "exec", "here", "python3", "/srv/packets.py", "all", input=packets).stdout)
    finally:
        shaped.sh("ip netns del here; ip netns del peer; true")
    wrong = {}
    for name, (dummy, *wanted) in SORTED.items():
        told = [[one for one in one_way if one != "1:20"] for one_way in found[name]]
        if told != [[one] if one else [] for one in wanted]:
            wrong[name] = (told, wanted)
    assert wrong == {}


def classes(number, **values):
    return {"classes": [dict(spec, **values) if index == number else spec for index, spec in enumerate(WISH["classes"])]}


BAD = {
    "guarantees above the link": (classes(0, guarantee="61%"), ["classes", "101mbit", "100mbit"]),
    "a ceiling below its guarantee": (classes(2, ceil="5%"), ["bulk", "ceil 5%", "below"]),
    "an unknown unit": (classes(0, guarantee="60mb"), ["crm", "60mb", "mbit"]),
    "two defaults": (classes(0, default=True), ["crm, other", "exactly one"]),
    "a class that nothing matches": (classes(2, matches=[]), ["bulk", "nothing matches"]),
    "classes that overlap": (classes(2, matches=[{"ports": ["8005-8020"]}]), ["crm", "bulk", "8005-8020", "overlap"]),
    "a class that is hidden": (classes(2, matches=[{"ports": ["8005"]}]), ["bulk", "8005", "crm", "comes before"]),
    "a range reversed": (classes(0, matches=[{"ports": ["9-8"]}]), ["9-8", "reversed"]),
    "a network that is none": (classes(0, matches=[{"addresses": ["10.0.0.0/33"]}]), ["10.0.0.0/33"]),
    "an account that is none": (classes(0, matches=[{"users": ["nobody-here"]}]), ["crm", "nobody-here", "does not exist"]),
    "an interface that is not there": ({"interfaces": [{"name": "eth7"}]}, ["eth7", "does not exist", "eth0, shp0, shp1"]),
    "more comes in than the guarantees allow": (
        {"interfaces": [{"name": "shp0", "rate": "100mbit", "ingress_rate": "5mbit"}], **classes(2, guarantee="6mbit", ceil="100%")},
        ["bulk", "6mbit", "come in"],
    ),
    "an overhead that is none": ({"overhead": -4, "interfaces": [{"name": "shp0"}]}, ["overhead", "-4"]),
    "a shaper that the kernel lacks": ({"qdisc": "cake"}, ["qdisc", "no cake"]),
}


def test_what_cannot_be_had_is_said_in_one_line_and_changes_nothing(play):
    before, *refused, after = play(LOOK, *(({**wish, "variable_prefix": "qos_"}, {}) for wish, dummy in BAD.values()), LOOK)
    wrong = {}
    for (name, (dummy, words)), result in zip(BAD.items(), refused):
        message = result.get("msg", "")
        if name == "a shaper that the kernel lacks" and "cake" in result.get("available", []):
            continue
        if not result.get("failed") or "\n" in message or not message.startswith("qos_") or [word for word in words if word not in message]:
            wrong[name] = message or result.get("steps")
    assert wrong == {}
    assert after["stdout"] == before["stdout"]


def test_a_shaper_of_somebody_else(play):
    tbf = "tc qdisc replace dev shp0 root handle 5: tbf rate 1mbit burst 10k latency 50ms"
    refused = play(HAVE, tbf, ({"foreign": "refuse"}, {}), HAVE)[2]
    assert refused["failed"] and "somebody else (tbf 5:)" in refused["msg"]
    refused = play("tc filter add dev shp0 ingress protocol ip pref 7 u32 match u32 0 0 flowid 1:3", ({"foreign": "refuse"}, {}), HAVE)[1]
    assert refused["failed"] and "filters of somebody else" in refused["msg"] and "pref 7" in refused["msg"]


@pytest.fixture
def broken(shaped):
    shaped.write("/usr/local/sbin/tc", BROKEN_TC)
    shaped.sh("chmod 755 /usr/local/sbin/tc")
    yield
    shaped.sh("rm -f /usr/local/sbin/tc /run/tc-fails /run/tc-lines")


SLOWER = ({"interfaces": [{"name": "shp0", "rate": "80mbit", "ingress_rate": "20mbit"}]}, {})


@pytest.mark.parametrize("word", ["dev shp0 parent 1:1 classid 1:30", "dev ifb-shp0 parent 1:1 classid 1:20"])
def test_a_step_that_fails_puts_the_old_state_back(play, broken, word):
    dummy, before, dummy, failed, after, still = play(HAVE, LOOK, f"echo '{word}' >/run/tc-fails", SLOWER, LOOK, CHECK)
    assert failed["failed"] and failed["msg"] == "shp0: tc refused a step: Error: No more space left in the kernel; what was there before is back"
    assert after["stdout"] == before["stdout"] and not still["changed"]


def test_a_first_run_that_fails_leaves_nothing(play, broken):
    dummy, before, dummy, failed, after = play(ABSENT, LOOK, "echo 'action mirred egress redirect' >/run/tc-fails", HAVE, LOOK)
    assert failed["failed"] and "what was there before is back" in failed["msg"]
    assert after["stdout"] == before["stdout"]


def test_a_foreign_root_comes_back_when_a_step_fails(play, broken):
    tbf = "tc qdisc replace dev shp0 root handle 5: tbf rate 1mbit burst 10k latency 50ms"
    dummy, dummy, before, dummy, failed, after = play(ABSENT, tbf, LOOK, "echo 'dev shp0 parent 1:1 classid 1:30' >/run/tc-fails", HAVE, LOOK)
    assert failed["failed"] and "tbf" in before["stdout"] and after["stdout"] == before["stdout"]


def test_the_end_leaves_what_others_set(play):
    foreign = (
        "tc qdisc add dev shp0 clsact; tc filter add dev shp0 ingress protocol ip pref 7 u32 match u32 0 0 flowid 1:3; tc qdisc show dev shp0 root"
    )
    plain = ({"interfaces": [{"name": "shp0"}]}, {})
    dummy, dummy, left, dummy, removed, after, again = play(HAVE, plain, LOOK, foreign, ABSENT, LOOK, ABSENT)
    assert "ifb-shp0" not in left["stdout"] and "clsact" not in left["stdout"], "what comes in is left alone again"
    assert removed["changed"] and not again["changed"]
    assert "htb" not in after["stdout"] and "crm_platform_qos" not in after["stdout"] and "/srv/shaping" not in after["stdout"]
    assert "pref 7" in after["stdout"] and "clsact" in after["stdout"]
