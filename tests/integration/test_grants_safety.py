# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_grants: all or nothing when it is killed, no secret anywhere, and nothing written where nothing is to do."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grants
import plays
import pytest

access = grants.access
SUPPORT = Path(grants.__file__).parent
RUN = f"""
import json, sys
sys.path.insert(0, {str(SUPPORT)!r})
import collection
collection.importable()
import grants
given = json.load(sys.stdin)
print("ready", flush=True)
sys.stdin = open("/dev/null")
grants.call(given["login"], **given["options"])
"""


def models(access):
    """Two access models that differ in everything, on a hundred tables."""
    roles = [access.role(f"r{number}") for number in range(6)]
    access.sql("".join(f"CREATE TABLE customer.t{number} (id int, secret text);" for number in range(100)))
    manage = {"schemas": ["customer"], "roles": [f"{access.prefix}_r*"]}
    found = []
    for number in (0, 1):
        who, others = roles[number::2], roles[1 - number :: 2]
        found.append(
            {
                "roles": [*({"name": one, "login": True, "connection_limit": number + 1} for one in roles)],
                "grants": [
                    {"roles": who, "privileges": ["SELECT", "DELETE"][: number + 1], "schema": "customer", "tables": "all", "future": True},
                    {"roles": others, "privileges": ["UPDATE"], "schema": "customer", "columns": {f"t{t}": ["id"] for t in range(number, 100, 2)}},
                ],
                "row_security": [
                    {"schema": "customer", "table": f"t{t}", "policies": [{"name": f"p{number}", "using": "id > 0", "roles": [who[0]]}]}
                    for t in range(10)
                ],
                "manage": manage,
            }
        )
    return found


def test_killed_or_cut_off_it_is_the_old_access_or_the_new(access):
    first, second = models(access)
    access.settle(**first)
    began = time.monotonic()
    access.call(**second)
    took, chance = time.monotonic() - began, random.Random(4)
    matrices = {"second": grants.snapshot(access.db)}
    access.call(**first)
    matrices["first"] = grants.snapshot(access.db)
    seen = []
    for number in range(20):
        wanted = (first, second)[(number + 1) % 2]
        process = subprocess.Popen(
            [sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        process.stdin.write(json.dumps({"login": access.login, "options": wanted}))
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, took * 1.1))
        if number % 2:
            process.send_signal(signal.SIGKILL)
        else:
            access.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crm.platform' AND datname = current_database()")
        process.wait()
        process.stdout.close()
        wait = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crm.platform' AND datname = current_database()"
        while access.value(wait):
            time.sleep(0.05)
        states = [name for name, options in (("first", first), ("second", second)) if not access.call(True, **options)["changed"]]
        assert len(states) == 1, f"at point {number} the access is neither the old nor the new"
        seen.append(states[0])
        access.call(**wanted)
    print(f"left as it was or as it should be: {seen}")
    assert {row[0] for row in matrices["first"]} == {row[0] for row in grants.snapshot(access.db)}


@contextlib.contextmanager
def talkative(server):
    """A server that writes down all that it is told."""
    server.run("postgres", "ALTER SYSTEM SET log_statement = 'all'")
    for name, value in (("log_min_duration_statement", "0"), ("shared_preload_libraries", "pg_stat_statements"), ("log_min_messages", "debug1")):
        server.run("postgres", f"ALTER SYSTEM SET {name} = '{value}'")
    restart(server)
    try:
        yield
    finally:
        server.run("postgres", "ALTER SYSTEM RESET ALL")
        restart(server)


def restart(server):
    server.host.run("systemctl", "restart", f"postgresql@{server.version}-main.service")
    server.host.wait_for("PostgreSQL to answer", server._answers, 60)


def test_no_secret_comes_out(server, tmp_path):
    secret, other = "Tr0ub4dor&3 'x", "second Secret"
    with talkative(server):
        made = grants.Access(server, server.database())
        try:
            made.sql("CREATE EXTENSION pg_stat_statements")
            # What other tests have said on this server in their own words.
            made.sql("SELECT pg_stat_statements_reset()")
            who, seen, stop = made.name("app"), set(), threading.Event()

            def watch():
                connection = server.connect("postgres")
                while not stop.is_set():
                    seen.update(row[0] for row in grants.rows(connection, "SELECT query FROM pg_stat_activity"))
                    time.sleep(0.002)
                connection.close()

            thread = threading.Thread(target=watch)
            thread.start()
            texts = []
            try:
                for password, broken in ((secret, False), (other, False), (other, False), ("third Secret", True)):
                    roles = [{"name": who, "login": True, "password": password}]
                    if broken:  # it fails when the password has been set already
                        roles.append({"name": made.name("two"), "connection_limit": 5, "settings": {"role": "nobody at all"}})
                    options = {**made.login, "roles": roles}
                    task = [{"name": "Call it", "crm.platform.customer_grants": options}]
                    play = [{"hosts": "all", "gather_facts": False, "connection": "local", "tasks": task}]
                    hosts = {"all": {"hosts": {"localhost": {"ansible_python_interpreter": sys.executable}}}}
                    done = plays.run(tmp_path, play, hosts, "-vvvv", "--diff", timeout=120)
                    assert (done.rc != 0) == broken, done.text[-2000:]
                    texts.append(done.text)
            finally:
                stop.set()
                thread.join()
            assert made.connect(who, password=other)
            verifier = made.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (who,))
            texts.append(server.host.sh("cat /var/log/postgresql/*.log"))
            texts.append("\n".join(query for (query,) in made.sql("SELECT query FROM pg_stat_statements")))
            texts.append("\n".join(one for one in seen if one))
            assert "CREATE ROLE" in texts[-3] and "CREATE ROLE" in texts[-2], "it does write down other statements"
            for text in texts:
                for word in (secret, other, "third Secret", verifier, verifier.split("$")[2], "SCRAM-SHA-256$"):
                    assert word not in text
        finally:
            made.remove()


def test_nothing_to_do_writes_nothing_and_locks_nothing(access):
    first, second = models(access)
    access.settle(**first)
    access.sql("VACUUM")
    access.sql("CHECKPOINT")
    touched = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_sys_tables"
    locks = (
        "SELECT count(*) FROM pg_stat_activity a JOIN pg_locks l USING (pid)"
        " WHERE application_name = 'crm.platform' AND l.mode !~ 'AccessShare|^ExclusiveLock$'"
    )
    blocker = access.server.connect(access.database)
    blocker.autocommit = False
    # Stands in the way of anything stronger than ACCESS SHARE.
    grants.rows(blocker, "LOCK TABLE customer.t1, customer.t2, customer.customer, pg_class, pg_policy, pg_authid IN EXCLUSIVE MODE")
    for options, check in ((first, False), (first, True), (second, True)):
        written, rows = [], []
        # The server writes now and then on its own account, and counts what an earlier session did up to seconds later;
        # what the module did itself would be there each time, since its session has ended by then.
        for dummy in range(3):
            before, rows_before = access.value("SELECT pg_current_wal_insert_lsn()"), access.value(touched)
            result = access.call(check, lock_timeout="100ms", lock_retries=0, **options)
            written.append(int(access.value("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", (before,))))
            rows.append(int(access.value(touched) - rows_before))
        assert result["changed"] == (options is second)
        assert (min(written), min(rows)) == (0, 0), (written, rows)
    blocker.close()
    assert access.value(locks) == 0


def test_the_number_of_queries_does_not_grow(access):
    from ansible_collections.crm.platform.plugins.module_utils import postgres
    from ansible_collections.crm.platform.plugins.module_utils.grants import apply, declare

    who, trips = access.role("app"), []
    for number in (1, 300):
        access.sql("".join(f"CREATE TABLE IF NOT EXISTS customer.t{one} (id int);" for one in range(number)))
        options = {"grants": [{"roles": [who], "privileges": ["SELECT"], "schema": "customer", "tables": "all"}], "manage": {"schemas": ["customer"]}}
        options["row_security"] = [
            {"schema": "customer", "table": f"t{one}", "policies": [{"name": "p", "using": f"id > {one}"}]} for one in range(number)
        ]
        access.call(**options)
        session = postgres.Session(access.server.connect(access.database))
        assert apply.run(session, declare.declared(options), True, False, 3000, 0).plan.steps == []
        trips.append(session.round_trips)
        session.close()
    print(f"round trips: {trips[0]} with 1 table, {trips[1]} with 300")
    assert trips[0] == trips[1] <= 30


def test_five_thousand_tables(access):
    who = access.role("app")
    access.sql("DO $$ BEGIN FOR n IN 1..5000 LOOP EXECUTE format('CREATE TABLE customer.t%s (id int)', n); END LOOP; END $$")
    options = {
        "grants": [
            {"roles": [who], "privileges": ["USAGE"], "schema": "customer"},
            {"roles": [who], "privileges": ["SELECT", "INSERT"], "schema": "customer", "tables": "all", "future": True},
        ],
        "manage": {"schemas": ["customer"]},
    }
    times = []
    for expected in (5003, 0):
        began = time.monotonic()
        assert len(access.call(**options)["plan"]) >= expected
        times.append(time.monotonic() - began)
    role = access.connect(who)
    assert grants.may(role, "SELECT * FROM customer.t4999") and not grants.may(role, "DELETE FROM customer.t1")
    access.sql("GRANT DELETE ON customer.t77 TO PUBLIC")
    assert [step["object"] for step in access.call(**options)["plan"]] == ["table customer.t77"]
    print(f"5,000 tables: first run {times[0]:.1f} s, nothing to do {times[1]:.2f} s")


def test_a_connection_that_ends_is_told_in_one_line(access, monkeypatch):
    from ansible_collections.crm.platform.plugins.module_utils.grants import apply

    who = access.role("app")
    execute = apply._execute

    def cut(session, step, steps):
        access.sql("SELECT pg_terminate_backend(%s)", (session.connection.info.backend_pid,))
        execute(session, step, steps)

    monkeypatch.setattr(apply, "_execute", cut)
    with pytest.raises(grants.Failed, match="nothing was changed, run again when the server answers"):
        access.call(grants=[{"roles": [who], "privileges": "all", "schema": "customer"}])
