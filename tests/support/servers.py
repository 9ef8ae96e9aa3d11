# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL servers of the versions that Debian ships, in containers that start in seconds.

A conftest.py takes the fixtures over by name:

    server = servers.server
    database = servers.database

CRM_TEST_KEEP=1 leaves the containers running after the tests, and
CRM_TEST_SERVERS="15=NAME 17=NAME" uses them for the next.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import time
import typing as t

import hosts
import lab
import psycopg2
import pytest

SYSTEMS = {15: "debian12", 17: "debian13"}
USER, PASSWORD = "tester", "only for tests"
# What the image holds; another recipe makes another image. Nothing of it has to last: writing is not waited for.
RECIPE = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends postgresql
version=$(ls /etc/postgresql)
apt-get install -qq --no-install-recommends postgresql-$version-hypopg
cat > /etc/postgresql/$version/main/conf.d/tests.conf <<END
listen_addresses = '*'
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum_naptime = 1h
max_connections = 200
max_locks_per_transaction = 512
max_wal_size = 8GB
checkpoint_timeout = 1h
deadlock_timeout = 300ms
log_lock_waits = on
shared_preload_libraries = pg_stat_statements
END
echo 'host all all all scram-sha-256' >> /etc/postgresql/$version/main/pg_hba.conf
systemctl restart postgresql@$version-main
runuser -u postgres -- psql -qXc "CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'"
systemctl stop postgresql@$version-main
apt-get clean
rm -rf /var/lib/apt/lists/*
"""


def image(system: str) -> str:
    """Have the image with PostgreSQL in it; its name."""
    name = hosts.image_with("postgresql", system, RECIPE)
    hosts.engine("tag", name, f"crm-platform/{system}:postgresql")
    return name


class Server:
    """One server. ``connect`` gives psycopg2 connections, ``options`` what a module needs for its own."""

    def __init__(self, version: int, container: str = "") -> None:
        self.version = version
        self.system = SYSTEMS[version]
        self.host = hosts.Host(f"postgresql{version}", self.system, "running already" if container else image(self.system))
        self.host.name = container or self.host.name
        self.mine = not container
        self.address = ""
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"PostgreSQL {self.version}"

    def start(self) -> "Server":
        if self.mine:
            self.host.create()
        self.address = self.host.address
        self.host.wait_for("PostgreSQL to answer", self._answers, 60)
        return self

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def connect(self, database: str, user: str = USER, password: str = PASSWORD, **more):
        """A connection in which each statement is a transaction (autocommit)."""
        connection = psycopg2.connect(host=self.address, dbname=database, user=user, password=password, connect_timeout=10, **more)
        connection.autocommit = True
        return connection

    def options(self, database: str, user: str = USER, password: str = PASSWORD) -> dict:
        """The login options of customer_schema and customer_grants."""
        return {"login_db": database, "login_host": self.address, "login_user": user, "login_password": password}

    def run(self, database: str, sql: str, values: t.Optional[t.Sequence] = None) -> list:
        """The rows, where there are any."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def database(self, template: str = "template0") -> str:
        """The name of a new database, empty or a copy; all are gone with the server, see drop."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.run("postgres", f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop(self, *databases: str) -> None:
        for name in databases:
            self.run("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def role(self, attributes: str = "LOGIN", name: str = "") -> str:
        """The name of a new role, whose password is that of the tests; drop_role removes it."""
        name = name or f"role_{os.getpid()}_{next(self._numbers)}"
        self.run("postgres", f"CREATE ROLE \"{name}\" {attributes} PASSWORD '{PASSWORD}'")
        return name

    def drop_role(self, *roles: str) -> None:
        for name in roles:
            self.run("postgres", f'DROP ROLE IF EXISTS "{name}"')

    def dump(self, database: str, *options: str) -> str:
        """What pg_dump --schema-only prints, without the key that it makes up for each run."""
        text = self.host.run("runuser", "-u", "postgres", "--", "pg_dump", "--schema-only", *options, database).stdout
        return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(("\\restrict ", "\\unrestrict ")))

    def stop(self) -> None:
        if self.mine:
            self.host.remove()


@contextlib.contextmanager
def running(*versions: int) -> t.Iterator[dict[int, Server]]:
    """Servers of these versions, started side by side."""
    began = time.monotonic()
    lab.ensure_engine()
    found: dict[int, Server] = {}
    there = dict(word.split("=", 1) for word in os.environ.get("CRM_TEST_SERVERS", "").split())

    def start(version: int) -> None:
        found[version] = Server(version, there.get(str(version), ""))
        found[version].start()

    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(start, versions))
        print(f"PostgreSQL {', '.join(map(str, versions))}: ready after {time.monotonic() - began:.1f} s")
        yield found
    finally:
        for server_ in found.values():
            server_.stop()


_STARTED: dict = {}


@pytest.fixture(scope="session", params=sorted(SYSTEMS), ids=lambda version: f"postgresql{version}")
def server(request):
    """Each test runs once with each version. Both are started with the first, and stopped with the session."""
    if not _STARTED:
        stack = contextlib.ExitStack()
        _STARTED.update(stack.enter_context(running(*SYSTEMS)))
        request.config.add_cleanup(stack.close)
    return _STARTED[request.param]


@pytest.fixture
def database(server):
    """An empty database for one test."""
    name = server.database()
    yield name
    server.drop(name)
