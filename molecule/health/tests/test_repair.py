# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each repair: a fault is made, check mode shows the steps and mends nothing, the run carries out the same ones, and the check is ok again.

All of the faults are there at once, and all of the repairs are one run: nothing of them may stand in another's way.
"""

from __future__ import annotations

import json
import re

import pytest
from conftest import SERVER, bad
from faults import CRITICAL, CRM, DATABASE, NETWORK, WARNING, Fault, small_disk, sql, table

testinfra_hosts = [SERVER]
LOGS = "/var/log/fault"
# What the tables are too old at, per cent; 42,949 numbers.
TOO_OLD = 0.002
AGE = (
    "CREATE TEMPORARY TABLE ages (a int);"
    " DO $$ BEGIN FOR n IN 1..50000 LOOP BEGIN INSERT INTO ages VALUES (n); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$"
)
FREEZE = "runuser -u postgres -- vacuumdb --quiet --all --freeze"
# What the fault is, which check tells of it, and words of the step that mends it.
REPAIRS = {
    "restart_services": (CRM["worker stopped"], "crm-platform-worker"),
    "rebuild_invalid_indexes": (
        Fault(
            sql(table("fault", 10), "INSERT INTO fault SELECT a FROM fault")
            + f"; {sql('CREATE UNIQUE INDEX CONCURRENTLY fault_a ON fault (a)')} 2> /dev/null; {sql('TRUNCATE fault')}",
            sql("DROP TABLE fault"),
            {"db_invalid_indexes": WARNING},
        ),
        "REINDEX INDEX CONCURRENTLY",
    ),
    "vacuum_wraparound": (
        # A database that lets nobody in is left to autovacuum, which comes later than this test.
        Fault(
            f"{sql('ALTER DATABASE template0 ALLOW_CONNECTIONS true')}; {FREEZE}; {sql(AGE)}",
            sql("ALTER DATABASE template0 ALLOW_CONNECTIONS false"),
            {"db_wraparound": WARNING},
            {"db_wraparound": {"warning": TOO_OLD}},
        ),
        "VACUUM (FREEZE)",
    ),
    "drop_dead_slot": (DATABASE["slot without a reader"], "fault"),
    "restore_firewall": (NETWORK["firewall flushed"], "crm_platform"),
    "restore_shaping": (NETWORK["shaper deleted"], "ethN"),
    "renew_certificates": (CRM["certificate that ends now"], "nginx"),
    "clear_logs": (
        Fault(
            small_disk("size=8m", f"head -c 7800000 /dev/urandom > {LOGS}/error.log.2.gz; touch -d '40 days ago' {LOGS}/error.log.2.gz", LOGS),
            f"umount {LOGS}; umount /run/fault; rmdir {LOGS} /run/fault",
            {"disk_space": CRITICAL},
        ),
        "error.log.N.gz",
    ),
    "unlock_logins": (
        Fault(
            sql("INSERT INTO res_user_login_attempt (login, create_date) SELECT 'fault', now() AT TIME ZONE 'UTC' FROM generate_series(1, 6)"),
            sql("DELETE FROM res_user_login_attempt"),
            {"crm_failed_logins": WARNING},
            {"crm_failed_logins": {"warning": 5}},
        ),
        "forget the wrong logins of fault",
    ),
}
LIMITS = {name: limit for fault, dummy in REPAIRS.values() for name, limit in fault.limits.items()}
# What is taken back after the test, and is no repair's to take back.
LEFT = ("rebuild_invalid_indexes", "vacuum_wraparound", "clear_logs")


def steps(outcome):
    """{repair: its steps} on the server; numbers in them, such as ages, may be others a moment later."""
    done = next(task["result"] for task in outcome.tasks if task["name"].endswith("Repair") and "repairs" in task["result"])
    return {one["repair"]: [re.sub("[0-9]+", "N", step) for step in one["steps"]] for one in done["repairs"]}


@pytest.fixture(scope="module")
def repaired(lab):
    """What was told of the faults, what check mode said, what was told after it, what the run said, and what was told at last."""

    def repair(*options):
        return lab.run(
            "repair",
            "--limit",
            SERVER,
            *options,
            repair=list(REPAIRS),
            repair_slot="fault",
            repair_confirm="fault",
            repair_login="fault",
            repair_log_directories=[LOGS],
            health_check_thresholds=LIMITS,
        )

    well = lab.wait_until(lambda found: not bad(found), 90)
    assert not bad(well), bad(well)
    for fault, dummy in REPAIRS.values():
        lab.server.sh(fault.make)
    try:
        faulty, checked, still, done = lab.look(LIMITS), repair("--check", "--diff"), lab.look(LIMITS), repair()
        after = lab.wait_until(lambda found: not bad(found), 10, LIMITS)
        yield {"faulty": faulty, "checked": checked, "still": still, "done": done, "after": after, "again": repair()}
    finally:
        for name in LEFT:
            lab.server.sh(REPAIRS[name][0].back, check=False)


@pytest.mark.parametrize("name", REPAIRS)
def test_a_repair_mends_its_fault(repaired, name):
    fault, words = REPAIRS[name]
    for one, status in fault.told.items():
        assert repaired["faulty"][one]["status"] == repaired["still"][one]["status"] == status, repaired["still"][one]
    would = steps(repaired["checked"])[name]
    assert words in json.dumps(would) and steps(repaired["done"])[name] == would
    for one in fault.told:
        assert repaired["after"][one]["status"] == "ok", repaired["after"][one]
    assert not steps(repaired["again"])[name]


def test_the_checks_name_the_repairs_and_nothing_else_is_wrong(repaired):
    for name, (fault, dummy) in REPAIRS.items():
        cures = [repaired["faulty"][one]["cure"] for one in fault.told]
        assert any(f"repair={name}" in cure for cure in cures), cures
    assert repaired["done"].rc == repaired["again"].rc == 0, repaired["done"].failure
    assert not bad(repaired["after"]), bad(repaired["after"])
    assert not repaired["again"].changed, repaired["again"].changed
