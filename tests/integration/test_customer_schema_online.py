# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_schema beside writers: none fails, none waits longer than lock_timeout allows, and a blocked run tries again."""

from __future__ import annotations

import random
import threading
import time

import psycopg2
import pytest
import schemas

ROWS = 200_000
OLD = f"""
CREATE SCHEMA customer;
CREATE TABLE customer.customer (id int PRIMARY KEY);
CREATE TABLE customer.visit (id int PRIMARY KEY, customer int, note text, code int);
INSERT INTO customer.customer SELECT generate_series(1, 1000);
INSERT INTO customer.visit SELECT n, n % 1000 + 1, md5(n::text), n FROM generate_series(1, {ROWS}) n;
"""
NEW = """
lock_timeout: 1s
tables:
- {name: customer, columns: [{name: id, type: int}], primary_key: [id]}
- name: visit
  columns: [{name: id, type: int}, {name: customer, type: int, nullable: false}, {name: note, type: text}, {name: code, type: int}]
  primary_key: [id]
  unique: [{columns: [code]}]
  checks: [{name: positive, expression: code > 0}]
  foreign_keys: [{columns: [customer], references: {table: customer}}]
  indexes: [{name: visit_note, columns: [lower(note)]}]
"""
LOCK_TIMEOUT = 1.0


class Writers:
    """Some sessions that insert, update and delete without a pause; ``slowest`` in seconds, ``errors`` as text."""

    def __init__(self, server, database: str, number: int) -> None:
        self.slowest, self.errors, self.done, self.end = 0.0, [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(server.connect(database), place)) for place in range(number)]

    def work(self, connection, place: int) -> None:
        dice, new = random.Random(place), ROWS * (place + 2)
        while not self.end.is_set():
            began, new = time.monotonic(), new + 1
            try:
                schemas.ask(connection, "INSERT INTO customer.visit VALUES (%s, %s, 'new', %s)", [new, dice.randint(1, 1000), new])
                schemas.ask(connection, "UPDATE customer.visit SET note = 'changed' WHERE id = %s", [dice.randint(1, ROWS)])
                schemas.ask(connection, "DELETE FROM customer.visit WHERE id = %s", [new])
            except psycopg2.Error as error:
                self.errors.append(str(error))
                break
            # Three statements, of which each may meet a lock of its own.
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.done += 1
        connection.close()

    def __enter__(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *dummy) -> None:
        self.end.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def visits(server, database):
    server.run(database, OLD)
    return database


def test_writers_go_on(server, visits):
    with Writers(server, visits, 3) as writers:
        done = schemas.run(server.connect(visits), NEW)
        assert len(done.steps) > 8 and not done.warnings
    assert writers.errors == []
    assert writers.done > 20
    assert writers.slowest < LOCK_TIMEOUT + 0.5
    eyes = server.connect(visits)
    assert not [line for line in schemas.describe(eyes) if "INVALID" in line or "NOT VALID" in line]
    assert schemas.run(eyes, NEW).sql == []


def test_a_reader_in_the_way_is_not_queued_behind(server, visits):
    """Somebody reads in a long transaction: the run tries again until that ends, and others get by in between."""
    reader = server.connect(visits)
    reader.autocommit = False
    schemas.ask(reader, "SELECT count(*) FROM customer.visit WHERE id < 10")
    threading.Timer(4, reader.rollback).start()
    began = time.monotonic()
    with Writers(server, visits, 2) as writers:
        desired = NEW.replace("name: code, type: int}", "name: code, type: int}, {name: more, type: text}")
        done = schemas.run(server.connect(visits), desired)
    assert 3 < time.monotonic() - began < 60
    assert done.ran.count(next(sql for sql in done.ran if sql.startswith("LOCK TABLE"))) > 1
    assert writers.errors == []
    assert writers.slowest < LOCK_TIMEOUT + 0.5
    assert schemas.run(server.connect(visits), desired).sql == []
    reader.close()


def test_a_lock_that_is_never_to_be_had(server, visits):
    """The error says how often it was tried and what to raise; nothing is changed."""
    holder = server.connect(visits)
    holder.autocommit = False
    schemas.ask(holder, "LOCK TABLE customer.visit IN ROW EXCLUSIVE MODE")
    eyes = server.connect(visits)
    before = schemas.fingerprint(eyes)
    with pytest.raises(Exception, match="2 attempts") as caught:
        schemas.run(server.connect(visits), NEW.replace("lock_timeout: 1s", "lock_timeout: 200ms\nlock_retries: 1"))
    assert "nothing was changed" in str(caught.value) and "lock_retries" in str(caught.value)
    assert schemas.fingerprint(eyes) == before
    holder.close()
    eyes.close()


def test_an_old_transaction_elsewhere_does_not_spoil_a_build(server, visits):
    """CREATE INDEX CONCURRENTLY waits for every old snapshot; lock_timeout is no limit for that."""
    other = server.connect(visits)
    other.set_session(isolation_level="REPEATABLE READ", autocommit=False)
    schemas.ask(other, "SELECT count(*) FROM customer.customer")
    threading.Timer(2.5, other.rollback).start()
    desired = (
        "lock_timeout: 500ms\n"
        + "tables: [{name: visit, columns: [{name: id, type: int}, {name: customer, type: int}, {name: note, type: text}, {name: code, type: int}],"
        " primary_key: [id], indexes: [{name: i, columns: [code]}]}]"
    )
    done = schemas.run(server.connect(visits), desired)
    assert [sql.split('"')[0].strip() for sql in done.sql] == ["CREATE INDEX CONCURRENTLY"]
    assert not [line for line in schemas.describe(server.connect(visits)) if "INVALID" in line]
    other.close()
