# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""health_check where things are as bad as they get: the report comes, and says what could not be known; and drift against a live server."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import plays
import psycopg2
import pytest
import servers
from ansible_collections.crm.platform.plugins.module_utils.health import database as checks  # pylint: disable=unused-import
from ansible_collections.crm.platform.plugins.module_utils.health import drift, probe, registry, security  # pylint: disable=unused-import

TABLES = int(os.environ.get("CRM_TEST_HEALTH_TABLES", "300"))
NEWEST = pytest.mark.parametrize("server", [max(servers.DEBIAN)], indirect=True)


def by_id(result):
    return {one["id"]: one for one in result["results"]}


def test_all_that_can_be_wrong_at_once(host, call, place):
    """No database, no CRM, a foreign history, options of nonsense: one run, which tells all of it."""
    host.write(f"{place}/history.json", '{"at": 1}')
    host.write(f"{place}/password", "onlyTheTestKnows")
    options = {
        "login_db": "crm",
        "login_unix_socket": place,
        "crm": {"url": "https://crm.example.test", "password_file": f"{place}/password"},
        "history": f"{place}/history.json",
        "thresholds": {"disk_space": {"warning": "much"}, "memory_available": {"critical": -1}, "nobody": {"warning": 1}},
        "skip": ["nothing", "updates"],
        "time_limit": 3,
    }
    began = time.monotonic()
    result = call("health_check", options).last
    found = by_id(result)
    assert not result.get("failed") and len(found) > 70 and time.monotonic() - began < 60
    assert found["db_up"]["status"] == "critical" and found["crm_answers"]["status"] == "critical"
    assert {one["status"] for one in found.values() if one["area"] == "database" and one["id"] != "db_up"} == {"unknown"}
    assert found["uptime"]["status"] == "ok" and found["firewall_table"]["status"] == "skipped"
    for word in ("it is begun anew", "warning is 'much'", "critical is -1", "no check 'nobody'", "no check 'nothing'"):
        assert any(word in problem for problem in result["problems"]), (word, result["problems"])
    assert json.loads(host.read(f"{place}/history.json"))["series"]["memory_available_percent"]
    assert "onlyTheTestKnows" not in json.dumps(result)


def test_a_full_disk_is_told_and_not_filled_further(host, call, place):
    host.sh(
        f"mount -t tmpfs -o size=64k none {place} && echo '{{}}' > {place}/history.json; head -c 99999 /dev/zero > {place}/full 2>/dev/null || true"
    )
    try:
        result = call("health_check", {"areas": ["system"], "skip": ["updates"], "history": f"{place}/history.json"}).last
        assert any("the history could not be written" in problem and "No space" in problem for problem in result["problems"])
        assert len(result["results"]) > 10 and result["history"]
        assert host.sh(f"ls {place}").split() == ["full", "history.json"]
    finally:
        host.run("umount", place)


SHAPING = {
    "interfaces": [{"name": "hea0", "rate": "100mbit", "ingress_rate": "50%", "overhead": 18}],
    "classes": [{"name": "crm", "guarantee": "60%", "priority": 1}, {"name": "other", "guarantee": "30%", "default": True}],
    "services": [{"name": "web", "ports": ["443"], "traffic_class": "crm"}],
}
# What is done to the interface, and what has to be told of it.
UNSHAPED = {
    "true": {},
    "tc class del dev hea0 classid 1:10": {"qos_qdisc": "lacks the class crm"},
    "tc qdisc del dev hea0 root": {"qos_qdisc": "has "},
    "tc filter del dev hea0 ingress pref 49000": {"qos_ingress": "nothing sends what comes in"},
    "ip link set ifb-hea0 down": {"qos_ingress": "is down"},
    "ip link del ifb-hea0": {"qos_ingress": "does not exist"},
}


def test_shaping_that_is_gone_is_told(host, tmp_path):
    """On a real interface, as the kernel's tools print it."""
    host.sh("command -v nft >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends nftables; } 2>&1")
    host.sh("mkdir -p /etc/crm-platform; ip link add hea0 type veth peer name hea1; ip link set hea0 up; ip link set hea1 up")
    tasks: list = []
    for fault in UNSHAPED:
        tasks += [
            {"name": "Shape", "crm.platform.traffic_shaping": SHAPING},
            {"name": "Do it", "ansible.builtin.shell": fault},
            {"name": "Look", "crm.platform.health_check": {"areas": ["qos"], "history": "/srv/qos.json"}},
        ]
    try:
        outcome = plays.run(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": tasks}], plays.inventory(host.name), timeout=180)
        assert len(outcome.tasks) == len(tasks), outcome.text[-3000:]
        for fault, task in zip(UNSHAPED, outcome.tasks[2::3]):
            found = by_id(task["result"])
            assert {name: one["status"] for name, one in found.items() if one["status"] not in ("ok", "skipped")} == dict.fromkeys(
                UNSHAPED[fault], "critical"
            ), (fault, found)
            assert all(word in found[name]["message"] for name, word in UNSHAPED[fault].items()), (fault, found)
            assert found["qos_starved"]["status"] == "ok"
        assert "qos_sent hea0 1:10" in json.loads(host.read("/srv/qos.json"))["counters"]
    finally:
        host.sh("ip link del hea0; ip link del ifb-hea0; nft delete table inet crm_platform_qos; rm -f /etc/crm-platform/qos* /srv/qos.json; true")


def looked(server, name, *only):
    """The checks of the database, in this process."""
    options = {
        "login_unix_socket": "",
        "login_port": 5432,
        "ssl_mode": "prefer",
        "ca_cert": None,
        "ssl_cert": None,
        "ssl_key": None,
        "connect_params": {},
    }
    host = probe.Host({**options, **server.options(name)})
    try:
        results, dummy = registry.run(host, ["database", "security"], [one for one in registry.REGISTRY if only and one not in only])
    finally:
        host.close()
    return {one["id"]: one for one in results}


@NEWEST
def test_many_tables(server, database):
    """Every check of the database comes to its end in its time, with thousands of tables."""
    connection = server.connect(database)
    for start in range(0, TABLES, 500):
        with connection.cursor() as cursor:
            cursor.execute(
                "DO $$ BEGIN FOR number IN %s..%s LOOP"
                " EXECUTE format('CREATE TABLE t%%s (id serial PRIMARY KEY, name text); CREATE INDEX ON t%%s (name)', number, number);"
                " END LOOP; END $$",
                (start, min(start + 500, TABLES) - 1),
            )
    connection.close()
    began = time.monotonic()
    found = looked(server, database)
    seconds = time.monotonic() - began
    print(f"{TABLES} tables: {len(found)} checks in {seconds:.2f} s, the longest {max(found.values(), key=lambda one: one['seconds'])}")
    assert {one["id"] for one in found.values() if one["status"] == "unknown" and not one["id"].startswith("sec_")} == set()


def test_what_runs_is_told_without_what_it_holds(server, database):
    """And a long statement that has just begun to wait has not waited long: nobody is to be ended for that."""
    holder, waiter = server.connect(database), server.connect(database)

    def both():
        with waiter.cursor() as cursor:
            cursor.execute("SELECT 'Anna Secret', pg_sleep(4); SELECT pg_advisory_lock(7)")

    with holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(7)")
    thread = threading.Thread(target=both)
    thread.start()
    try:
        time.sleep(2)
        running = looked(server, database, "db_longest_query")["db_longest_query"]
        time.sleep(2.5)
        waiting = looked(server, database, "db_lock_waits")["db_lock_waits"]
    finally:
        holder.close()
        thread.join(10)
        waiter.close()
    assert running["status"] == "ok" and "SELECT" in running["message"] and "Anna" not in json.dumps(running)
    assert 0.1 < waiting["value"] < 3 and "has waited" in waiting["message"]


@NEWEST
def test_drift_is_what_the_modules_would_do(server, database, tmp_path, monkeypatch):
    """Declared by the modules, which keep it; then changed by hand, and put right."""
    role = server.role()
    schema, access = str(tmp_path / "schema.json"), str(tmp_path / "access.json")
    monkeypatch.setattr(drift, "SCHEMA", schema)
    monkeypatch.setattr(drift, "ACCESS", access)
    table = {"name": "customer", "columns": [{"name": "id", "type": "bigint"}, {"name": "name", "type": "text"}], "primary_key": ["id"]}
    login = {**server.options(database)}
    tasks = [
        {"name": "Have tables", "crm.platform.customer_schema": {**login, "tables": [table], "record": schema}},
        {
            "name": "Have access",
            "crm.platform.customer_grants": {
                **login,
                "roles": [{"name": role, "password": "never in a file"}],
                "grants": [
                    {"roles": [role], "schema": "customer", "privileges": ["USAGE"]},
                    {"roles": [role], "schema": "customer", "tables": ["customer"], "privileges": ["SELECT"]},
                ],
                "record": access,
            },
        },
    ]
    here = plays.inventory("localhost", ansible_connection="local", ansible_python_interpreter=sys.executable)

    def converge():
        outcome = plays.run(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": tasks}], here, timeout=120)
        assert outcome.rc == 0, outcome.text
        return outcome.changed

    def status():
        found = looked(server, database, "db_schema_drift", "db_grants_drift", "db_up")
        assert found["db_up"]["status"] == "ok"
        return {name: found[name]["status"] for name in ("db_schema_drift", "db_grants_drift")}, found

    try:
        assert looked(server, database, "db_schema_drift")["db_schema_drift"]["status"] == "skipped"
        assert converge() == ["Have tables", "Have access"] and converge() == []
        assert os.stat(access).st_mode & 0o777 == 0o600 and "never in a file" not in open(access, encoding="utf-8").read()
        assert status()[0] == {"db_schema_drift": "ok", "db_grants_drift": "ok"}
        server.run(database, "ALTER TABLE customer.customer DROP COLUMN name")
        states, found = status()
        assert states == {"db_schema_drift": "warning", "db_grants_drift": "ok"} and "customer" in found["db_schema_drift"]["message"]
        server.run(database, f'REVOKE SELECT ON customer.customer FROM "{role}"')
        states, found = status()
        assert states == {"db_schema_drift": "warning", "db_grants_drift": "warning"} and role in found["db_grants_drift"]["message"]
        assert converge() == ["Have tables", "Have access"]
        assert status()[0] == {"db_schema_drift": "ok", "db_grants_drift": "ok"}
        # A lock that somebody holds is no reason to wait, nor to say that all is well.
        server.run(database, "CREATE TABLE customer.extra (id int)")
        holder = server.connect(database)
        holder.autocommit = False
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE customer.customer, pg_catalog.pg_class IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        found = looked(server, database, "db_schema_drift")
        holder.rollback()
        holder.close()
        assert found["db_schema_drift"]["status"] == "unknown" and time.monotonic() - began < 12
    finally:
        try:
            server.run(database, f'DROP OWNED BY "{role}"')
        except psycopg2.Error:
            pass
        server.drop_role(role)
