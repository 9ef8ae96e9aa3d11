# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_schema killed (SIGKILL) at random points of a plan with concurrent builds: the next run finishes."""

from __future__ import annotations

import multiprocessing
import random
import time

import pytest
import schemas
from ansible_collections.crm.platform.plugins.module_utils.schema import steps

KILLS = 10  # for each server
ROWS = 120_000
OLD = f"""
CREATE SCHEMA customer;
SET search_path TO customer;
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE visit (id int, customer int, at timestamptz, note text, code int);
CREATE INDEX visit_at ON visit (at);
INSERT INTO customer SELECT n, 'name ' || n FROM generate_series(1, 1000) n;
INSERT INTO visit SELECT n, n % 1000 + 1, now() - n * interval '1 minute', md5(n::text), n FROM generate_series(1, {ROWS}) n;
"""
NEW = """
tables:
- name: customer
  columns: [{name: id, type: int}, {name: name, type: text, nullable: false}]
  primary_key: [id]
- name: visit
  columns:
  - {name: id, type: int}
  - {name: customer, type: int, nullable: false}
  - {name: at, type: timestamptz, nullable: false}
  - {name: note, type: text}
  - {name: code, type: int}
  - {name: kind, type: text, default: "'call'", nullable: false}
  primary_key: [id]
  unique: [{columns: [code]}]
  foreign_keys: [{columns: [customer], references: {table: customer}}]
  checks: [{name: code_positive, expression: code > 0}]
  indexes:
  - {name: visit_at, columns: [at DESC, id]}
  - {name: visit_note, columns: [lower(note)]}
  - {name: visit_customer, columns: [customer], where: code > 10}
"""


def child(server, database: str) -> None:
    schemas.run(server.connect(database), NEW)


def start(server, database: str) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=child, args=(server, database))
    process.start()
    return process


@pytest.fixture(scope="session")
def prepared(server):
    """A database in the old state to copy from, the new state as a fresh schema has it, and how long a run takes."""
    template, fresh = server.database(), server.database()
    server.run(template, OLD)
    server.run(template, "ANALYZE")
    schemas.run(server.connect(fresh), NEW)
    connection = server.connect(fresh)
    expected = schemas.describe(connection)
    connection.close()
    trial = server.database(template)
    began = time.monotonic()
    start(server, trial).join()
    took = time.monotonic() - began
    server.drop(trial)
    yield template, expected, took
    server.drop(template, fresh)


@pytest.mark.parametrize("number", range(KILLS))
def test_the_next_run_finishes(server, prepared, number):
    template, expected, took = prepared
    database = server.database(template)
    moment = random.Random(f"{server.version} {number}").uniform(0.02, 0.98) * took
    process = start(server, database)
    time.sleep(moment)
    process.kill()
    process.join()
    done = schemas.run(server.connect(database), NEW)
    print(f"killed after {moment:.2f} of {took:.2f} s, exit code {process.exitcode}; left to do:\n{done}")
    eyes = server.connect(database)
    try:
        assert not done.warnings
        found = schemas.describe(eyes)
        assert found == expected
        assert not [line for line in found if "INVALID" in line]
        names = [
            row[0]
            for row in schemas.ask(
                eyes, "SELECT relname FROM pg_class UNION ALL SELECT conname FROM pg_constraint UNION ALL SELECT nspname FROM pg_namespace"
            )
        ]
        assert not [name for name in names if steps.is_helper(name) or name.startswith("customer_schema_scratch_")]
        assert schemas.ask(eyes, "SELECT count(*), sum(code) FROM customer.visit") == [(ROWS, ROWS * (ROWS + 1) // 2)]
        again = schemas.run(server.connect(database), NEW)
        assert (again.sql, again.warnings) == ([], [])
    finally:
        eyes.close()
        server.drop(database)
