# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call customer_grants in this process, and ask a server what its roles may do."""

from __future__ import annotations

import contextlib
import io
import json
import typing as t

import psycopg2
import pytest
from ansible.module_utils import testing
from ansible_collections.crm.platform.plugins.modules import customer_grants


class Failed(AssertionError):
    """The module failed; ``result`` is all that it said."""

    def __init__(self, result: dict) -> None:
        super().__init__(result.get("msg"))
        self.result = result


def call(login: dict, check: bool = False, **options: t.Any) -> dict:
    """One run of the module; what it returned. Failed where it failed."""
    given = {**login, **options, "_ansible_check_mode": check, "_ansible_diff": True}
    out = io.StringIO()
    with testing.patch_module_args(given), contextlib.redirect_stdout(out):
        try:
            customer_grants.main()
        except SystemExit:
            pass
    result = json.loads(out.getvalue().strip().splitlines()[-1])
    # Newer versions of Ansible tell a warning with its time and place.
    result["warnings"] = [json.dumps(one) if isinstance(one, dict) else one for one in result.get("warnings", [])]
    if result.get("failed"):
        raise Failed(result)
    return result


def settle(login: dict, **options: t.Any) -> dict:
    """Check mode, the run that does just what it showed, and a second run that finds nothing; the first run's result."""
    shown = call(login, True, **options)
    done = call(login, False, **options)
    assert done["queries"] == shown["queries"] and done["plan"] == shown["plan"]
    assert done["changed"] == shown["changed"] == bool(done["plan"])
    again = call(login, False, **options)
    assert not again["changed"] and again["plan"] == [], again["plan"]
    return done


def rows(connection, sql: str, values: t.Sequence | None = None) -> list:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def may(connection, sql: str) -> bool:
    """Whether the role of the connection may run this; nothing of it stays."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"BEGIN; {sql}; ROLLBACK")
        return True
    except psycopg2.errors.InsufficientPrivilege:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
        return False


class Access:
    """One database of a server, with roles whose names no other test has."""

    def __init__(self, server, database: str) -> None:
        self.server, self.database = server, database
        self.prefix = f"a{database.rpartition('_')[2]}"
        self.login = server.options(database)
        self.db = server.connect(database)
        self.opened = [self.db]

    def name(self, label: str) -> str:
        return f"{self.prefix}_{label}"

    def sql(self, text: str, values: t.Sequence | None = None) -> list:
        return rows(self.db, text, values)

    def value(self, text: str, values: t.Sequence | None = None) -> t.Any:
        return self.sql(text, values)[0][0]

    def role(self, label: str, attributes: str = "LOGIN") -> str:
        """A role that the tests' password opens."""
        return self.server.role(attributes, self.name(label))

    def present(self, *names: str, **more: t.Any) -> list:
        """The roles as entries of the option roles, able to log in."""
        return [{"name": name, "login": True, "password": self.server_password, **more} for name in names]

    @property
    def server_password(self) -> str:
        return self.login["login_password"]

    def connect(self, role: str, database: str = "", password: str = ""):
        connection = self.server.connect(database or self.database, role, password or self.server_password)
        self.opened.append(connection)
        return connection

    def refused(self, role: str, **options: t.Any) -> bool:
        """Whether the role is not even let in."""
        try:
            self.connect(role, **options)
        except psycopg2.OperationalError:
            return True
        return False

    def call(self, check: bool = False, **options: t.Any) -> dict:
        return call(self.login, check, **options)

    def settle(self, **options: t.Any) -> dict:
        return settle(self.login, **options)

    def failure(self, **options: t.Any) -> str:
        """The message of a run that is refused, in check mode and for real, and changes nothing."""
        before = snapshot(self.db)
        messages = []
        for check in (True, False):
            try:
                call(self.login, check, **options)
            except Failed as error:
                messages.append(str(error))
        assert snapshot(self.db) == before
        assert len(messages) == 2, "it was not refused"
        return messages[1]

    def close(self) -> None:
        for connection in self.opened:
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    def remove(self, databases: t.Sequence[str] = ()) -> None:
        """Drop the databases, and then the roles, which may own some."""
        self.close()
        self.server.drop(self.database, *databases)
        connection = self.server.connect("postgres")
        for (name,) in rows(connection, "SELECT rolname FROM pg_roles WHERE left(rolname, %s) = %s", (len(self.prefix) + 1, f"{self.prefix}_")):
            quoted = '"' + name.replace('"', '""') + '"'
            rows(connection, f"DROP OWNED BY {quoted} CASCADE")
            rows(connection, f"DROP ROLE {quoted}")
        connection.close()


SNAPSHOT = """
SELECT 'relation', oid::text, relowner::text, relacl::text || relrowsecurity::text || relforcerowsecurity::text FROM pg_class WHERE relnamespace > 16000
UNION ALL SELECT 'column', attrelid::text, attname, attacl::text FROM pg_attribute WHERE attrelid > 16000 AND attacl IS NOT NULL
UNION ALL SELECT 'function', oid::text, proowner::text, proacl::text FROM pg_proc WHERE pronamespace > 16000
UNION ALL SELECT 'type', oid::text, typowner::text, typacl::text FROM pg_type WHERE typnamespace > 16000
UNION ALL SELECT 'schema', nspname, nspowner::text, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
UNION ALL SELECT 'database', datname, datdba::text, datacl::text FROM pg_database WHERE datname = current_database()
UNION ALL SELECT 'default', defaclrole::text, defaclnamespace::text || defaclobjtype::text, defaclacl::text FROM pg_default_acl
UNION ALL SELECT 'policy', polname, polrelid::text, polroles::text || coalesce(polqual::text, '') || coalesce(polwithcheck::text, '') FROM pg_policy
UNION ALL SELECT 'role', rolname, row(a.*)::text, shobj_description(a.oid, 'pg_authid') FROM pg_authid a
UNION ALL SELECT 'membership', roleid::text, member::text, row(m.*)::text FROM pg_auth_members m
UNION ALL SELECT 'setting', setrole::text, setdatabase::text, setconfig::text FROM pg_db_role_setting
ORDER BY 1, 2, 3, 4
"""


def snapshot(connection) -> list:
    """All that access is made of, as it is stored."""
    return rows(connection, SNAPSHOT)


FOUNDING = """
CREATE SCHEMA customer;
CREATE TABLE customer.customer (id serial PRIMARY KEY, name text NOT NULL, phone text, email text, address text, region text);
CREATE TABLE customer.visit (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int REFERENCES customer.customer, at timestamptz DEFAULT now());
INSERT INTO customer.customer (name, phone, email, region) VALUES ('Ada', '1', 'a@example.com', 'north'), ('Bob', '2', 'b@example.com', 'south');
"""


@pytest.fixture
def access(server):
    """A database with the founding table, whose own roles go with it."""
    made = Access(server, server.database())
    made.sql(FOUNDING)
    try:
        yield made
    finally:
        made.remove()
