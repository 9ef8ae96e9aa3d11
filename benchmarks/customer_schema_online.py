# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long writers wait while customer_schema changes a table of 5 million rows that they work on.

Eight clients of pgbench write all the time, and somebody reads the table in a transaction of 8 seconds that begins before
the change. The change is an index, a NOT NULL, a foreign key and a check: by the module, then by plain DDL in the same run.
The bar: no writer waits longer than `lock_timeout` (3 s) and half a second, and none fails.
"""

from __future__ import annotations

import os
import pathlib
import sys
import threading
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]
import lab  # noqa: E402
import servers  # noqa: E402
from run_tests import environment  # noqa: E402

from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder  # noqa: E402

_AnsibleCollectionFinder(paths=[environment()["ANSIBLE_COLLECTIONS_PATH"]])._install()

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator  # noqa: E402
from ansible_collections.crm.platform.plugins.module_utils import postgres  # noqa: E402
from ansible_collections.crm.platform.plugins.module_utils.schema import apply, converge, declare, options  # noqa: E402

ROWS, REGIONS, CLIENTS, RATE = 5_000_000, 100, 8, 300
LOCK_TIMEOUT, READER = 3.0, 8.0
PGBENCH = "/usr/lib/postgresql/15/bin/pgbench"
WRITES = f"""\\set id random(1, {ROWS})
\\set region random(1, {REGIONS})
BEGIN;
UPDATE customer.customer SET phone = 'new', region = :region WHERE id = :id;
INSERT INTO customer.customer (name, email, phone, region, amount) VALUES ('n', 'm', 'p', :region, 1);
END;
"""
BEFORE: list[dict] = [
    {"name": "region", "columns": [{"name": "id", "type": "int"}], "primary_key": ["id"]},
    {
        "name": "customer",
        "columns": [
            {"name": "id", "type": "bigint", "identity": "always"},
            {"name": "name", "type": "text", "nullable": False},
            {"name": "email", "type": "text"},
            {"name": "phone", "type": "text"},
            {"name": "region", "type": "int"},
            {"name": "amount", "type": "int"},
        ],
        "primary_key": ["id"],
    },
]
AFTER: list[dict] = [
    BEFORE[0],
    {
        **BEFORE[1],
        "columns": [{**one, "nullable": one["name"] not in ("name", "email")} for one in BEFORE[1]["columns"]],
        "checks": [{"name": "customer_amount_check", "expression": "amount >= 0"}],
        "foreign_keys": [{"name": "customer_region_fkey", "columns": ["region"], "references": {"table": "region", "columns": ["id"]}}],
        "indexes": [{"name": "idx_customer_name", "columns": ["name", "email"]}],
    },
]
PLAIN = [
    "CREATE INDEX idx_customer_name ON customer.customer (name, email)",
    "ALTER TABLE customer.customer ALTER COLUMN email SET NOT NULL",
    "ALTER TABLE customer.customer ADD CONSTRAINT customer_region_fkey FOREIGN KEY (region) REFERENCES customer.region (id)",
    "ALTER TABLE customer.customer ADD CONSTRAINT customer_amount_check CHECK (amount >= 0)",
]
BACK = [
    "DROP INDEX customer.idx_customer_name",
    "ALTER TABLE customer.customer ALTER COLUMN email DROP NOT NULL, DROP CONSTRAINT customer_region_fkey, DROP CONSTRAINT customer_amount_check",
]


def converge_to(server, database: str, tables: list[dict]) -> list[str]:
    given = ArgumentSpecValidator(options.argument_spec()).validate({**server.options(database), "tables": tables})
    declared = declare.schema("customer", "", given.validated_parameters)
    session = postgres.Session(postgres.psycopg2.connect(**postgres.parameters(given.validated_parameters)))
    outcome = converge.Converger(session, declared, "", "customer", "", False, [], apply.Patience(int(LOCK_TIMEOUT * 1000), 10, 0)).run(False)
    session.close()
    return [step.sql for step in outcome.plan.steps]


def plainly(server, database: str) -> list[str]:
    for statement in PLAIN:
        server.run(database, statement)
    return PLAIN


def report(server, database: str) -> threading.Thread:
    """Somebody who looks at the table and takes time over it."""

    def read() -> None:
        connection = server.connect(database)
        with connection.cursor() as cursor:
            cursor.execute(f"BEGIN; SELECT count(*) FROM customer.region, (SELECT 1 FROM customer.customer LIMIT 1) c; SELECT pg_sleep({READER}); END")
        connection.close()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(0.5)
    return reader


class Writers:
    """pgbench in the server's container, each transaction with its time in a log."""

    def __init__(self, server, database: str) -> None:
        self.server, self.database = server, database

    def __enter__(self) -> "Writers":
        host = self.server.host
        host.write("/tmp/writes.sql", WRITES)
        host.sh("rm -f /tmp/writers.*; chmod 1777 /tmp")
        options_ = f"-n -f /tmp/writes.sql -c {CLIENTS} -j 2 -R {RATE} -T 900 -l --log-prefix=/tmp/writers {self.database}"
        login = f"PGPASSWORD='{servers.PASSWORD}' PGUSER={servers.USER} PGHOST=127.0.0.1"
        host.sh(f"cd /tmp; {login} nohup {PGBENCH} {options_} >/tmp/writers.out 2>&1 & echo $! >/tmp/writers.pid")
        time.sleep(3)
        return self

    def __exit__(self, *dummy: t.Any) -> None:
        time.sleep(3)
        self.server.host.sh("kill $(cat /tmp/writers.pid)")

    def waits(self) -> list[float]:
        """Seconds from the first statement to the commit, for each transaction; what it was late at the start is not its own wait."""
        rows = [line.split() for line in self.server.host.sh("cat /tmp/writers.[0-9]*").splitlines()]
        # The last line of a log is cut off where pgbench was stopped.
        return sorted((int(row[2]) - int(row[6])) / 1e6 for row in rows if len(row) == 7 and row[6].isdigit())

    def failures(self) -> int:
        return self.server.host.sh("cat /tmp/writers.out").count("error")


def measure(server, database: str, what: str, change: t.Callable) -> float:
    with Writers(server, database) as writers:
        reader = report(server, database)
        began = time.monotonic()
        statements = change()
        took = time.monotonic() - began
        reader.join()
    waits = writers.waits()
    middle, high = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    print(
        f"{what:16} {took:6.1f} s for {len(statements):2} statements; {len(waits):6} transactions, median {middle * 1000:5.1f} ms, "
        f"99th percentile {high * 1000:7.1f} ms, longest {waits[-1]:6.2f} s, {writers.failures()} failures",
        flush=True,
    )
    return waits[-1]


def main() -> int:
    lab.ensure_engine()
    with servers.running(15) as found:
        server = found[15]
        database = server.database()
        began = time.monotonic()
        converge_to(server, database, BEFORE)
        server.run(database, f"INSERT INTO customer.region SELECT generate_series(1, {REGIONS})")
        server.run(
            database,
            "INSERT INTO customer.customer (name, email, phone, region, amount) "
            f"SELECT 'name ' || g, g || '@example.org', 'p', g % {REGIONS} + 1, 1 FROM generate_series(1, {ROWS}) g",
        )
        server.run(database, "VACUUM ANALYZE customer.customer")
        server.run(database, "CHECKPOINT")
        print(f"{ROWS:,} rows after {time.monotonic() - began:.0f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
        nobody = measure(server, database, "no change", lambda: time.sleep(READER) or [])
        ours = measure(server, database, "customer_schema", lambda: converge_to(server, database, AFTER))
        assert not converge_to(server, database, AFTER)
        for statement in BACK:
            server.run(database, statement)
        theirs = measure(server, database, "plain DDL", lambda: plainly(server, database))
        print(
            f"longest wait of a writer: {ours:.2f} s ours (bar {LOCK_TIMEOUT + 0.5:.1f} s), {theirs:.2f} s plain, {nobody:.2f} s without a change; "
            f"ratio {ours / theirs:.2f}"
        )
        server.drop(database)
    return 0


if __name__ == "__main__":
    sys.exit(main())
