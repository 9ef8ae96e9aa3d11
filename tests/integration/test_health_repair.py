# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.health_repair: a fault, what check mode shows of its repair, the repair, and a second run that finds nothing.

The repairs of a host run on one that boots systemd, those of the database against servers of both versions. Certificates want a whole
platform: molecule/health.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import hosts
import plays
import pytest
import run_tests
import walls

REPAIRS = ["restart_services", "restore_firewall", "restore_shaping", "clear_logs"]
RULES = """table inet crm_platform {}
delete table inet crm_platform
table inet crm_platform {
  set bans { type ipv4_addr; flags dynamic, timeout; timeout 1h; }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iif lo accept
    ip saddr @bans drop
    tcp dport 22 accept
  }
}
"""
# As the roles write them, without what confines them.
UNITS = {
    "crm-platform-worker.service": "[Service]\nExecStart=/bin/sleep infinity\n",
    "crm-platform-cron.service": "[Service]\nExecStart=/bin/sh -c 'test ! -e /run/crm-broken || exit 3; sleep infinity'\n",
    "crm-platform-other.service": "[Service]\nExecStart=/bin/sleep infinity\n",
    "crm-platform-firewall.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/nft -f /etc/crm-platform/firewall.nft\n"
    "ExecReload=/usr/sbin/nft -f /etc/crm-platform/firewall.nft\nExecStop=-/usr/sbin/nft delete table inet crm_platform\n",
    "crm-platform-qos.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/nft -f /etc/crm-platform/qos.nft\n"
    "ExecStopPost=-/usr/sbin/nft delete table inet crm_platform_qos\n",
    "crm-platform-qos-shp0.service": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/tc -batch /etc/crm-platform/qos-shp0.tc\n"
    "ExecStopPost=-/usr/sbin/tc qdisc del dev shp0 root\n",
}
SHAPE = {
    "interfaces": [{"name": "shp0", "rate": "100mbit"}],
    "classes": [{"name": "crm", "guarantee": "60%", "priority": 1, "dscp": "af31", "matches": [{"ports": ["443"]}]},
                {"name": "other", "guarantee": "40%", "default": True}],
    "directory": "/etc/crm-platform",
}  # fmt: skip
FAULTS = """
set -e
touch /run/crm-broken; systemctl kill -s KILL crm-platform-cron; sleep 0.2; rm /run/crm-broken
systemctl stop crm-platform-worker
systemctl disable -q --now crm-platform-other
nft add element inet crm_platform bans '{ 192.0.2.7 timeout 1h }'
nft insert rule inet crm_platform input tcp dport 9999 accept
tc class del dev shp0 classid 1:20 || tc qdisc del dev shp0 root
mkdir -p /var/log/nginx && cd /var/log/nginx && echo live > access.log && echo old > access.log.1
head -c 300000 /dev/urandom > access.log.2.gz && cp access.log.2.gz access.log.3.gz && touch -d '20 days ago' access.log access.log.1 access.log.3.gz
ln -sf /etc/passwd /var/log/nginx/link.gz
"""
LOOK = """
systemctl is-active crm-platform-worker crm-platform-cron crm-platform-other crm-platform-firewall crm-platform-qos crm-platform-qos-shp0
nft -s list table inet crm_platform | sed 's/ expires [^ ,}]*//'; nft -s list table inet crm_platform_qos
tc qdisc show dev shp0; tc -d class show dev shp0 | sort
ls /var/log/nginx
"""


class Repaired:
    """A host with every fault at once: what check mode said, what the run did, and what the second run found."""

    def __init__(self, host, directory):
        self.host, self.directory = host, directory
        host.sh("mkdir -p /etc/crm-platform; ip link add shp0 type veth peer name shp1; ip link set shp0 up; ip link set shp1 up")
        host.write("/etc/crm-platform/firewall.nft", RULES)
        for name, text in UNITS.items():
            host.write(f"/etc/systemd/system/{name}", f"[Unit]\nStartLimitIntervalSec=0\n{text}[Install]\nWantedBy=multi-user.target\n")
        shaped = self.call("traffic_shaping", SHAPE)
        assert shaped.rc == 0 and shaped.last["supported"], shaped.failure
        host.sh(f"systemctl daemon-reload; systemctl enable -q --now {' '.join(UNITS)}")
        self.well = host.sh(LOOK)
        host.sh(FAULTS)
        self.broken = host.sh(LOOK)
        self.checked = self.repair("--check", "--diff")
        self.after_check = host.sh(LOOK)
        self.done = self.repair("--diff")
        self.after = host.sh(LOOK)
        self.again = self.repair()

    def call(self, module, options, *arguments):
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Call it", f"crm.platform.{module}": options}]}]
        return plays.run(self.directory, play, plays.inventory(self.host.name), *arguments, timeout=120)

    def repair(self, *arguments, **options):
        return self.call("health_repair", {"repairs": REPAIRS, "wait": 10, **options}, *arguments)


@pytest.fixture(scope="module")
def repaired(tmp_path_factory):
    made = hosts.Host("repair", source=walls.image("debian12"))
    try:
        yield Repaired(made.create(), tmp_path_factory.mktemp("repair"))
    finally:
        made.remove()


def of(outcome, name):
    return next(one for one in outcome.last["repairs"] if one["repair"] == name)


def test_check_mode_changes_nothing_and_shows_what_the_run_does(repaired):
    assert repaired.broken != repaired.well and repaired.after_check == repaired.broken
    assert repaired.checked.rc == repaired.done.rc == 0, (repaired.checked.failure, repaired.done.failure)
    for name in REPAIRS:
        assert of(repaired.checked, name)["steps"] == of(repaired.done, name)["steps"] != [], name
    assert repaired.checked.last["diff"] == repaired.done.last["diff"] and len(repaired.done.last["diff"]) == len(REPAIRS)


def test_the_second_run_finds_nothing(repaired):
    assert repaired.again.rc == 0 and not repaired.again.last["changed"]
    assert [line for line in repaired.again.last["said"] if "nothing to repair" in line] == [f"{name}: nothing to repair" for name in REPAIRS]


def test_units_are_up_again_but_for_the_disabled_one(repaired):
    assert repaired.after.split()[:6] == ["active", "active", "inactive", "active", "active", "active"]
    steps = of(repaired.done, "restart_services")["steps"]
    assert len(steps) == 2 and any(step.startswith("reset-failed and start crm-platform-cron.service (failed: ") for step in steps)
    assert "start crm-platform-worker.service (stopped)" in steps


def test_the_confirmed_ruleset_is_back_and_bans_stay(repaired):
    assert "dport 9999" in repaired.broken and "dport 9999" not in repaired.after
    assert "192.0.2.7" in repaired.after and "policy drop" in repaired.after
    assert len(of(repaired.done, "restore_firewall")["facts"]["digest"]) == 64


def test_the_classes_are_back(repaired):
    def classes(text):
        return [line for line in text.splitlines() if line.startswith(("class ", "qdisc "))]

    assert classes(repaired.broken) != classes(repaired.well) == classes(repaired.after)


def test_only_old_packed_logs_are_gone(repaired):
    left = repaired.host.sh("ls /var/log/nginx").split()
    assert left == ["access.log", "access.log.1", "access.log.2.gz", "link.gz"] and repaired.host.sh("cat /etc/passwd")
    assert of(repaired.done, "clear_logs")["facts"]["freed_bytes"] >= 300_000
    refused = repaired.repair(log_directories=["/var/lib/postgresql"])
    assert refused.rc != 0 and refused.failure.startswith("log_directories: /var/lib/postgresql is not below /var/log")


def test_a_unit_that_fails_again_is_told_with_its_journal_and_no_secret(repaired):
    host = repaired.host
    host.write(
        "/etc/systemd/system/crm-platform-cron.service",
        "[Service]\nExecStart=/bin/sh -c 'echo no way to postgresql://crm:geheim@db/crm; exit 3'\n[Install]\nWantedBy=multi-user.target\n",
    )
    host.sh("systemctl daemon-reload; systemctl stop crm-platform-cron; nft delete table inet crm_platform")
    failed = repaired.repair()
    assert failed.rc != 0 and "crm-platform-cron.service is failed again (exit-code)" in failed.failure and "\n" not in failed.failure
    assert "no way to postgresql://crm:***@db/crm" in failed.failure and "geheim" not in failed.text
    assert "policy drop" in host.sh("nft list table inet crm_platform"), "the other repairs go on"


# -- the database

MODULE = Path(run_tests.ROOT) / "plugins" / "modules" / "health_repair.py"


def process(server, database, *repairs, check=False, **options):
    given = {"repairs": list(repairs), **server.options(database), "lock_timeout": 20, **options, "_ansible_check_mode": check, "_ansible_diff": True}
    env = {**os.environ, "PYTHONPATH": run_tests.environment()["ANSIBLE_COLLECTIONS_PATH"]}
    made = subprocess.Popen([sys.executable, str(MODULE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    made.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
    made.stdin.close()
    made.stdin = None
    return made


def repair(*arguments, **options):
    out, err = process(*arguments, **options).communicate(timeout=120)
    assert out.startswith("{"), err
    return json.loads(out)


def invalid(server, database):
    return [row[0] for row in server.run(database, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")]


@pytest.fixture
def table(server, database):
    """A table whose unique index could not be built, which a rebuild has left too, and whose key is marked as broken."""
    server.run(database, "CREATE TABLE t (id int PRIMARY KEY, email text); INSERT INTO t SELECT n, 'a' || n % 900 FROM generate_series(1, 1000) n")
    for sql in ("CREATE UNIQUE INDEX CONCURRENTLY t_email ON t (email)", "REINDEX INDEX CONCURRENTLY t_email"):
        with pytest.raises(Exception, match="could not create unique index"):
            server.run(database, sql)
    server.run(database, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_pkey'::regclass")
    assert invalid(server, database) == ["t_email", "t_email_ccnew", "t_pkey"]
    return database


def test_invalid_indexes(server, table):
    failed = repair(server, table, "rebuild_invalid_indexes")
    assert failed["failed"] and "rows are there twice" in failed["msg"] and "a1" not in failed["msg"]
    assert invalid(server, table) == ["t_email"], "the key is valid, and no half-built copy is left"
    server.run(table, "UPDATE t SET email = 'a' || id")
    checked = repair(server, table, "rebuild_invalid_indexes", check=True)
    assert checked["changed"] and invalid(server, table) == ["t_email"]
    done = repair(server, table, "rebuild_invalid_indexes")
    assert done["repairs"][0]["steps"] == checked["repairs"][0]["steps"] == ['REINDEX INDEX CONCURRENTLY "public"."t_email" (invalid)']
    assert not invalid(server, table) and server.run(table, "SELECT count(*) FROM pg_constraint WHERE conname = 't_pkey'") == [(1,)]
    again = repair(server, table, "rebuild_invalid_indexes")
    assert not again["changed"] and again["said"] == ["rebuild_invalid_indexes: nothing to repair"]


def test_a_rebuild_that_was_killed_is_taken_up_again(server, table):
    server.run(table, "UPDATE t SET email = 'a' || id; DROP INDEX t_email_ccnew")
    blocker = server.connect(table)
    blocker.autocommit = False
    blocker.cursor().execute("LOCK TABLE t IN ROW EXCLUSIVE MODE")
    running = process(server, table, "rebuild_invalid_indexes")
    end = time.monotonic() + 20
    while "t_email_ccnew" not in invalid(server, table) and "t_pkey_ccnew" not in invalid(server, table):
        assert time.monotonic() < end, running.poll()
        time.sleep(0.1)
    running.kill()
    running.communicate()
    blocker.rollback()
    blocker.close()
    done = repair(server, table, "rebuild_invalid_indexes")
    assert not done.get("failed"), done["msg"]
    assert not invalid(server, table)
    names = [row[0] for row in server.run(table, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't'::regclass ORDER BY 1")]
    assert names == ["t_email", "t_pkey"]
    assert not repair(server, table, "rebuild_invalid_indexes")["changed"]


def test_wraparound(server, database):
    server.run(database, "CREATE TABLE young (n int); CREATE TABLE oldest (n int); INSERT INTO oldest SELECT generate_series(1, 1000)")
    burn = "DO $$ BEGIN FOR n IN 1..6000 LOOP BEGIN INSERT INTO young VALUES (n); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$"
    server.run(database, burn)
    limit = {"wraparound_percent": 100 * 5000 / 2**31}
    age = "SELECT age(relfrozenxid) FROM pg_class WHERE relname = 'oldest'"
    before = server.run(database, age)
    checked = repair(server, database, "vacuum_wraparound", check=True, **limit)
    assert server.run(database, age)[0][0] >= before[0][0] >= 6000
    done = repair(server, database, "vacuum_wraparound", **limit)
    assert not done.get("failed"), done["msg"]
    (found,) = done["repairs"]
    assert found["facts"]["before"][database] > found["facts"]["after"][database]
    assert len(found["steps"]) == len(checked["repairs"][0]["steps"]) and any(f'"oldest" of {database}' in step for step in found["steps"])
    assert server.run(database, age)[0][0] < 5000
    assert not repair(server, database, "vacuum_wraparound", **limit)["changed"]


def test_a_dead_slot(server, database):
    dead, live = f"dead_{os.getpid()}", f"live_{os.getpid()}"

    def slots():
        return [row[0] for row in server.run(database, "SELECT slot_name FROM pg_replication_slots ORDER BY 1")]

    for name in (dead, live):
        server.run(database, "SELECT pg_create_physical_replication_slot(%s, true)", [name])
    server.host.sh(
        f"mkdir -p /tmp/{live}; chown postgres /tmp/{live}; runuser -u postgres -- pg_receivewal -D /tmp/{live} -S {live} >/dev/null 2>&1 & echo $!"
    )
    try:
        server.host.wait_for(
            "a reader", lambda: server.run(database, "SELECT active FROM pg_replication_slots WHERE slot_name = %s", [live])[0][0], 20
        )
        for given, word in [({}, f"Nobody reads {dead}"), ({"slot": dead}, "confirm is empty"), ({"slot": dead, "confirm": live}, "in both"),
                            ({"slot": live, "confirm": live}, "is read by process")]:  # fmt: skip
            refused = repair(server, database, "drop_dead_slot", **given)
            assert refused["failed"] and word in refused["msg"] and "\n" not in refused["msg"], refused
        named = {"slot": dead, "confirm": dead}
        checked = repair(server, database, "drop_dead_slot", check=True, **named)
        assert checked["changed"] and slots() == [dead, live]
        done = repair(server, database, "drop_dead_slot", **named)
        assert done["changed"] and len(done["repairs"][0]["steps"]) == 1 and slots() == [live]
        assert not repair(server, database, "drop_dead_slot", **named)["changed"]
    finally:
        server.host.sh("pkill -x pg_receivewal; sleep 0.5; true")
        server.run(database, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
