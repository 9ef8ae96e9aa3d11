# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Single checks, asked with what a host would answer."""

from __future__ import annotations

import json

import pytest
from ansible_collections.crm.platform.plugins.module_utils import nftables
from ansible_collections.crm.platform.plugins.module_utils.health import backup, firewall, registry, routing, security

NOW = 1_700_000_000


class Host:
    """Commands by how they begin; an OSError is one that fails."""

    def __init__(self, commands=None, files=None):
        self.commands, self.files, self.options = commands or {}, files or {}, {}
        self.now, self.left, self.kept = NOW, 5, {}

    def once(self, name, look):
        return self.kept.setdefault(name, look() if name not in self.kept else None)

    def read(self, path):
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def run(self, *words, check=True):
        text = " ".join(words)
        found = next((answer for start, answer in self.commands.items() if text.startswith(start)), OSError(f"{text} failed"))
        if isinstance(found, Exception):
            if check or not isinstance(found, OSError):
                raise found
            return ""
        return found

    def status(self, *words, check=False):
        try:
            return 0, self.run(*words)
        except OSError:
            if check:
                raise
            return 1, ""


# -- routing

FULL = {"nbrState": "Full/DR", "ifaceName": "eth0:10.0.0.1"}
DEAD = {"nbrState": "Init/DROther", "ifaceName": "eth1:10.0.1.1"}


def six(state, name="eth0"):
    """As ospf6d writes it (ospf6_neighbor_show)."""
    return {"neighborId": "10.0.0.2", "priority": 1, "state": state, "ifState": "DR", "interfaceName": name, "interfaceState": "BDR"}


def neighbours(monkeypatch, four, six_, daemons="ospfd=yes\nospf6d=yes\n"):
    monkeypatch.setattr(routing.os.path, "exists", lambda dummy: True)
    commands = {"vtysh -c show ip ospf neighbor json": four, "vtysh -c show ipv6 ospf6 neighbor json": six_}
    commands = {name: json.dumps(one) if isinstance(one, dict) else one for name, one in commands.items() if one is not None}
    return routing.neighbours(Host(commands, {routing.DAEMONS: daemons}))


@pytest.mark.parametrize("many", [[FULL, DEAD], [DEAD, FULL]])
def test_a_dead_adjacency_beside_a_live_one_to_the_same_router(monkeypatch, many):
    found = neighbours(monkeypatch, {"neighbors": {"10.0.0.2": many}}, None, "ospfd=yes\n")
    assert found.status == registry.CRITICAL and found.value == 1 and found.message == "10.0.0.2 on eth1:10.0.1.1 is Init/DROther"


@pytest.mark.parametrize(
    "four, six_, status, message",
    [
        ([FULL], {"neighbors": [six("Full"), six("Twoway", "eth1")]}, "ok", "3 are"),
        ([FULL], {"neighbors": [six("Full"), six("ExStart", "eth1")]}, "critical", "10.0.0.2 on eth1 is ExStart"),
        ([DEAD], {"neighbors": [six("Init")]}, "critical", "10.0.0.2 on eth1:10.0.1.1 is Init/DROther; 10.0.0.2 on eth0 is Init"),
        ([FULL], {"neighbors": []}, "critical", "there is no neighbour by OSPFv3"),
        # What another FRR may say is no fault of the neighbours.
        ([FULL], "OSPFv3 is not running\n", "ok", "1 are; OSPFv3 did not tell its own"),
        ([FULL], {"default": {}}, "ok", "1 are; OSPFv3 did not tell its own"),
        ([FULL], {"neighbors": [{"who": "?"}]}, "ok", "1 are; OSPFv3 did not tell its own"),
        ([FULL], "[]", "ok", "1 are; OSPFv3 did not tell its own"),
        ([FULL], None, "ok", "1 are; OSPFv3 did not tell its own"),
        ([DEAD], None, "critical", "10.0.0.2 on eth1:10.0.1.1 is Init/DROther"),
    ],
)
def test_the_neighbours_of_ospfv3(monkeypatch, four, six_, status, message):
    found = neighbours(monkeypatch, {"neighbors": {"10.0.0.2": four}}, six_)
    assert (found.status, found.message) == (status, message)


def test_a_host_that_routes_ipv6_only(monkeypatch):
    only = "ospfd=no\nospf6d=yes\n"
    assert neighbours(monkeypatch, None, {"neighbors": [six("Full")]}, only).status == registry.OK
    assert neighbours(monkeypatch, None, {"neighbors": [six("Down")]}, only).status == registry.CRITICAL
    with pytest.raises(registry.Skipped, match="routing_daemons"):
        neighbours(monkeypatch, None, None, only)


# -- declared against live


def four(address, link="eth0", state="Full/DR"):
    """As ospfd writes it: FRR 8.4 calls the neighbour's address `address`, later ones `ifaceAddress`."""
    return {"nbrState": state, "ifaceName": f"{link}:10.0.0.1", "address" if address.endswith(".2") else "ifaceAddress": address}


def against(monkeypatch, links, live, live6=None, down=()):
    """The check with what the inventory declares, {interface: neighbours}, and what lives."""
    monkeypatch.setattr(routing.os.path, "exists", lambda dummy: True)
    interfaces = [{"name": name, "neighbours": list(texts)} for name, texts in links.items()]
    shown = [{"ifname": name, "flags": ["UP"] if name in down else ["UP", "LOWER_UP"]} for name in links if name != "eth9"]
    commands = {
        "vtysh -c show ip ospf neighbor json": json.dumps({"neighbors": {one.get("address", one.get("ifaceAddress")): [one] for one in live}}),
        "vtysh -c show ipv6 ospf6 neighbor json": json.dumps({"neighbors": live6 or []}),
        "ip -json link show": json.dumps(shown),
    }
    daemons = "ospfd=yes\n" + ("ospf6d=yes\n" if live6 is not None else "")
    return routing.neighbours(Host(commands, {routing.DAEMONS: daemons, routing.DECLARED: json.dumps({"interfaces": interfaces})}))


@pytest.mark.parametrize(
    "links, live, live6, message",
    [
        ({"eth0": ["10.0.0.2", "10.0.0.3"]}, [four("10.0.0.2"), four("10.0.0.3")], None, ""),
        ({"eth0": ["10.0.0.2", "10.0.0.3"]}, [four("10.0.0.2")], None, "10.0.0.3 on eth0 is missing"),
        ({"eth0": ["10.0.0.2"], "eth1": ["10.0.1.2"]}, [four("10.0.0.2")], None, "10.0.1.2 on eth1 is missing"),
        # The right router on the wrong link is not the declared one.
        ({"eth0": ["10.0.0.2"], "eth1": ["10.0.1.2"]}, [four("10.0.0.2"), four("10.0.1.2", "eth0")], None, "10.0.1.2 on eth1 is missing"),
        ({"eth0": ["10.0.0.2", "10.0.1.0/24"]}, [four("10.0.0.2")], None, "any of 10.0.1.0/24 on eth0 is missing"),
        ({"eth0": ["10.0.0.0/24"]}, [four("10.0.0.2")], None, ""),
        ({"eth0": ["10.0.0.2", "fe80::/10"], "eth1": ["fe80::/10"]}, [four("10.0.0.2")], [six("Full")], "any of fe80::/10 on eth1 is missing"),
        ({"eth0": ["10.0.0.2", "fe80::1", "fe80::2"]}, [four("10.0.0.2")], [six("Full")], "eth0 has 1 of 2 declared neighbours by OSPFv3"),
        ({"eth0": ["10.0.0.2", "fe80::/10"]}, [four("10.0.0.2")], [six("Full")], ""),
        ({"eth0": ["10.0.0.2"], "eth9": []}, [four("10.0.0.2")], None, "the interface eth9 is gone"),
    ],
)
def test_a_declared_neighbour_that_is_missing_beside_a_live_one(monkeypatch, links, live, live6, message):
    found = against(monkeypatch, links, live, live6)
    assert (found.status, found.message if message else "") == ("critical" if message else "ok", message), found


def test_a_declared_link_that_is_down(monkeypatch):
    found = against(monkeypatch, {"eth0": ["10.0.0.2"], "eth1": []}, [four("10.0.0.2")], down=["eth1"])
    assert (found.status, found.message) == ("critical", "the interface eth1 is down")


def test_a_neighbour_that_bfd_does_not_watch(monkeypatch):
    monkeypatch.setattr(routing.os.path, "exists", lambda dummy: True)
    commands = {
        "vtysh -c show ip ospf neighbor json": json.dumps({"neighbors": {"a": [four("10.0.0.2")], "b": [four("10.0.0.3")]}}),
        "vtysh -c show bfd peers json": json.dumps([{"peer": "10.0.0.2", "status": "up"}]),
    }
    found = routing.bfd(Host(commands, {routing.DAEMONS: "ospfd=yes\nbfdd=yes\n"}))
    assert (found.status, found.message) == ("critical", "10.0.0.3 has no session")


# -- the backups


def test_what_the_state_remembers_is_asked_or_dated():
    full, runs = "crm-platform-backup-full.timer", {"check": "run", "message": "the drill failed"}
    problems = [{"check": "timer", "message": f"{full} is inactive; start it"}]
    for active, more, status, message in (
        ("active\n", [], registry.OK, "they did"),
        ("inactive\n", [], registry.CRITICAL, f"1: {full} is inactive; start it (as it was 7 minutes ago)"),
        ("active\n", [runs], registry.CRITICAL, "1: the drill failed (as it was 7 minutes ago)"),
    ):
        kept = json.dumps({"written": NOW - 420, "problems": problems + more})
        found = backup.runs(Host({f"systemctl is-active {full}": active}, {backup.STATE: kept}))
        assert (found.status, found.message.removeprefix("1: ")) == (status, message.removeprefix("1: "))


# -- the firewall


def rule(*matches, verdict="drop", table="fault", chain="input"):
    expressions = [{"match": {"op": "==", "left": left, "right": right}} for left, right in matches]
    return {"rule": {"family": "inet", "table": table, "chain": chain, "handle": 4, "expr": [*expressions, {verdict: None}]}}


def port(right):
    return {"payload": {"protocol": "tcp", "field": "dport"}}, right


IN = {"chain": {"family": "inet", "table": "fault", "name": "input", "handle": 1, "type": "filter", "hook": "input", "prio": 10, "policy": "accept"}}
FROM = ({"payload": {"protocol": "ip", "field": "saddr"}}, "192.0.2.7")
LINK = ({"meta": {"key": "iifname"}}, "eth0")


@pytest.mark.parametrize(
    "parts, told",
    [
        ([IN, rule(port(443))], ["table inet fault: chain input: dport 443 drop"]),
        ([IN, rule(LINK, port(443), verdict="reject")], ["table inet fault: chain input: iifname eth0 dport 443 reject"]),
        ([IN, rule(port({"set": [22, {"range": [400, 500]}]}))], ["table inet fault: chain input: dport {\"set\": [22, {\"range\": [400, 500]}]} drop"]),
        ([IN, rule(port("@closed"))], ["table inet fault: chain input: dport @closed drop"]),
        ([IN, rule(LINK)], ["table inet fault: chain input: iifname eth0 drop"]),
        ([{"chain": {**IN["chain"], "policy": "drop"}}], ["table inet fault: the policy of chain input is drop"]),
        ([IN, rule(port(25))], []),
        ([IN, rule(port({"range": [1, 80]}), FROM)], []),
        ([IN, rule(({"ct": {"key": "state"}}, "invalid"))], []),
        ([{"chain": {**IN["chain"], "hook": "output"}}, rule(port(443))], []),
        ([{"chain": {**IN["chain"], "table": "crm_platform"}}, rule(table="crm_platform")], []),
        ([IN, rule(port(443), verdict="accept")], []),
    ],
)
def test_a_table_of_somebody_else_that_drops_is_told(parts, told):
    document = {"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "fault", "handle": 1}}, *parts]}
    assert firewall.foreign_drops(document, ("crm_platform",), (80, 443)) == told


WANTED = "table inet crm_platform {\n  chain input {\n    accept\n  }\n\n  chain forward {\n  }\n}\n"
LIVE = "table inet crm_platform {\n\tchain input {\n\t\taccept\n\t}\n\n\tchain forward {\n\t}\n}\n"


@pytest.mark.parametrize(
    "live, status, words",
    [
        (LIVE, "ok", "not compared rule by rule: without the right to a network namespace"),
        ("table inet crm_platform {\n}\n", "warning", "lacks the chains forward, input"),
        ("", "critical", "is gone"),
    ],
)
def test_a_firewall_that_cannot_be_compared_proves_its_chains(monkeypatch, live, status, words):
    monkeypatch.setattr(firewall.nft, "read_live", lambda *dummy: nftables.State(live))
    monkeypatch.setattr(firewall.nft, "read_wanted", lambda *dummy: None)
    found = firewall.table(Host(files={firewall.RULESET: WANTED}))
    assert (found.status or "ok") == status and words in found.message


# -- ssh


def sshd(**more):
    given = {"permitrootlogin": "yes", "passwordauthentication": "no", "kbdinteractiveauthentication": "no", "usepam": "yes", **more}
    return "".join(f"{name} {value}\n" for name, value in given.items())


@pytest.mark.parametrize(
    "text, status",
    [
        (sshd(), "ok"),
        (sshd(passwordauthentication="yes"), "warning"),
        (sshd(kbdinteractiveauthentication="yes"), "warning"),
        (sshd(challengeresponseauthentication="yes"), "warning"),
        (sshd(kbdinteractiveauthentication="yes", usepam="no"), "ok"),
        (sshd(kbdinteractiveauthentication="yes", permitrootlogin="without-password"), "ok"),
        (sshd(passwordauthentication="yes", permitemptypasswords="yes"), "critical"),
    ],
)
def test_root_logs_in_by_a_password_whoever_asks_for_it(text, status):
    assert (security.ssh(Host({"sshd -T": text})).status or "ok") == status


def test_an_sshd_that_does_not_tell():
    with pytest.raises(OSError, match="Bad configuration option"):
        security.ssh(Host({"sshd -T": OSError("sshd ended with status 255: /etc/ssh/sshd_config: line 1: Bad configuration option: Foo")}))
    with pytest.raises(registry.Skipped, match="/run/sshd"):
        security.ssh(Host({"sshd -T": OSError("sshd ended with status 255: Missing privilege separation directory: /run/sshd")}))
    with pytest.raises(registry.Skipped, match="not installed"):
        security.ssh(Host({"sshd -T": registry.Skipped("sshd is not installed")}))


# -- backups


def backed_up(**state):
    host = Host()
    host.kept["backup"] = {"mode": "own", "written": NOW, "problems": [], **state}
    return host


def client(hours):
    return {"last": None if hours is None else {"time": NOW - hours * 3600}}


@pytest.mark.parametrize(
    "hours, options, status, words",
    [
        ({"new": None, "db": 72}, {}, "critical", ["new", "db sent something 72.0 hours ago"]),
        ({"new": None, "db": 30}, {}, "warning", ["new", "db sent something 30.0 hours ago"]),
        ({"new": None, "db": 1}, {}, "warning", ["nothing has come from new yet", "db sent something 1.0 hours ago"]),
        ({"new": None, "db": 72}, {"thresholds": {"backup_arrivals": {"warning": 90, "critical": 99}}}, "warning", ["new"]),
        ({"new": None}, {}, "warning", ["nothing has come from new yet"]),
    ],
)
def test_one_that_never_sent_hides_none_that_is_silent(hours, options, status, words):
    host = backed_up(clients={name: client(one) for name, one in hours.items()})
    others = [name for name in registry.REGISTRY if name != "backup_arrivals"]
    (found,), dummy = registry.run(host, ["backup"], others, options.get("thresholds"))
    assert found["status"] == status and all(word in found["message"] for word in words), found


def run(began, **more):
    return {"kind": "drill", "began": began, "ok": True, "seconds": 900, "rto": 42.0, **more}


def test_a_restore_takes_what_the_last_good_drill_took_until_the_login():
    failed = run(3, ok=False, rto=7.0, seconds=8)
    assert backup.rto(backed_up(drill={"last": run(1), "history": [run(1)]})).value == 42
    assert backup.rto(backed_up(drill={"last": failed, "history": [run(1, rto=5.0), run(2), failed]})).value == 42
    with pytest.raises(registry.Skipped, match="none ended well|no restore ended well"):
        backup.rto(backed_up(drill={"last": failed, "history": [failed]}))
    with pytest.raises(registry.Skipped):
        backup.rto(backed_up(drill={"last": None, "history": []}))


# -- certificates


@pytest.mark.parametrize("ends, days", [("Nov 24 22:13:20 2023 GMT", 10), ("Nov 13 22:13:20 2023 GMT", -1)])
def test_days_of_the_platforms_certificates(monkeypatch, ends, days):
    monkeypatch.setattr(security.os.path, "exists", lambda path: True)
    host = Host({"openssl x509 -noout -enddate -in /etc/crm-platform/pki/": f"notAfter={ends}\n"})
    for look in (security.certificates, security.authority):
        found = look(host)
        assert round(found.value) == days and "/etc/crm-platform/pki/" in found.message


def test_a_host_without_certificates_is_skipped(monkeypatch):
    monkeypatch.setattr(security.os.path, "exists", lambda path: False)
    for look in (security.certificates, security.authority):
        with pytest.raises(registry.Skipped):
            look(Host())
