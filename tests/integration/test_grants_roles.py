# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_grants: roles, what they are members of, the rows that they see, and roles that go."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time

import grants
import psycopg2
import pytest
import servers
from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.grants import apply, declare, scram

VERSIONS = (*servers.DEBIAN, 18)

access = grants.access
ALL = {"schemas": ["customer"]}


def test_attributes_comment_and_settings(access):
    who = access.name("app")
    role = {
        "name": who,
        "login": True,
        "password": access.server_password,
        "comment": "the CRM's",
        "createdb": True,
        "bypassrls": True,
        "inherit": False,
        "connection_limit": 1,
        "valid_until": "2091-01-01 12:00+02",
        "settings": {"search_path": 'customer, "Odd Name"', "statement_timeout": "7s", "datestyle": "German", "jit": False, "crm.region": "north"},
    }
    access.settle(roles=[role], manage={"roles": [who]})
    connection = access.connect(who)
    assert grants.rows(connection, "SHOW search_path") == [('customer, "Odd Name"',)]
    assert grants.rows(connection, "SHOW crm.region") == [("north",)] and grants.rows(connection, "SHOW jit") == [("off",)]
    assert access.refused(who), "one connection at a time"
    row = "SELECT rolcreatedb, rolbypassrls, rolinherit, rolconnlimit, rolvaliduntil = '2091-01-01 10:00+00', shobj_description(oid, 'pg_authid')"
    assert access.sql(f"{row} FROM pg_roles WHERE rolname = %s", (who,)) == [(True, True, False, 1, True, "the CRM's")]
    connection.close()
    # What is not given any more gets its default, where the role is managed.
    access.sql(f"ALTER ROLE {who} IN DATABASE {access.database} SET work_mem = '8MB'")
    access.settle(roles=[{"name": who, "login": True, "comment": ""}], manage={"roles": [who]})
    assert access.sql(f"{row} FROM pg_roles WHERE rolname = %s", (who,)) == [(False, False, True, -1, False, None)]
    assert access.sql("SELECT FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE rolname = %s", (who,)) == []


def test_a_role_that_is_not_managed_keeps_what_is_not_given(access):
    who = access.role("app", "LOGIN CREATEDB CONNECTION LIMIT 5")
    access.sql(f"ALTER ROLE {who} SET jit = off")
    done = access.settle(roles=[{"name": who, "connection_limit": 6, "settings": {"work_mem": "8MB"}}])
    assert [step["sql"] for step in done["plan"]] == [f'ALTER ROLE "{who}" CONNECTION LIMIT 6', f'ALTER ROLE "{who}" SET "work_mem" TO \'8MB\'']


@pytest.mark.parametrize("password", ["plain", "sp ace 'quote\" \\ % $1", "gr\u00f6\u00dfe \u2460 \u00a0x", "\u0627\u0644\u0631\u0642\u0645", "\u0627a\u0628"])
def test_passwords_are_made_here_and_open_the_door(access, password):
    who = access.name("app")
    done = access.settle(roles=[{"name": who, "login": True, "password": password}])
    assert f"ALTER ROLE \"{who}\" PASSWORD '********'" in done["queries"]
    assert access.connect(who, password=password) and access.refused(who, password="wrong")
    # What PostgreSQL itself stored for the password is known again.
    access.sql(f"ALTER ROLE {who} PASSWORD %s", (password,))
    assert not access.call(roles=[{"name": who, "login": True, "password": password}])["changed"]
    stored = access.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (who,))
    assert scram.matches(password, stored) and not access.call(roles=[{"name": who, "password": stored}])["changed"]
    access.settle(roles=[{"name": who, "password": "another"}])
    assert access.connect(who, password="another") and access.refused(who, password=password)


def test_a_stored_md5_is_replaced(access):
    who = access.role("app")
    access.sql(f"SET password_encryption = 'md5'; ALTER ROLE {who} PASSWORD 'abc'; RESET password_encryption")
    done = access.settle(roles=[{"name": who, "password": "abc"}])
    assert done["plan"][0]["reason"] == "the stored one is MD5"
    assert access.connect(who, password="abc")


def test_memberships_are_exact(access):
    reader, writer, who = access.name("reader"), access.name("writer"), access.name("who")
    roles = [{"name": reader}, {"name": writer}, *access.present(who, member_of=[reader, {"role": "pg_monitor"}])]
    entries = [{"roles": [reader], "privileges": ["USAGE"], "schema": "customer"}]
    entries += [{"roles": [reader], "privileges": ["SELECT"], "schema": "customer", "tables": "all"}]
    manage = {**ALL, "roles": [f"{access.prefix}_*"]}
    access.settle(roles=roles, grants=entries, manage=manage)
    role = access.connect(who)
    assert grants.may(role, "SELECT * FROM customer.visit") and grants.may(role, "SELECT pg_ls_waldir()")
    access.sql(f"GRANT {writer} TO {who}; GRANT {reader} TO {writer} WITH ADMIN OPTION; GRANT pg_read_all_data TO {who}")
    done = access.settle(roles=roles, grants=entries, manage=manage)
    assert len(done["plan"]) == 3
    # An edge is turned around in one run.
    roles = [{"name": reader, "member_of": [writer]}, {"name": writer}, *access.present(who, member_of=[{"role": reader, "admin": True}])]
    access.sql(f"GRANT {reader} TO {writer}")
    access.settle(roles=roles, grants=entries, manage=manage)
    assert grants.may(access.connect(who), "SELECT * FROM customer.visit")
    assert not grants.may(access.connect(who), "SELECT pg_ls_waldir()")
    access.settle(roles=[{"name": reader, "member_of": []}, {"name": writer}, *access.present(who, member_of=[])], grants=entries, manage=manage)
    assert not grants.may(access.connect(who), "SELECT * FROM customer.visit")


def test_circles_are_shown(access):
    one, two, three = (access.name(label) for label in ("one", "two", "three"))
    roles = [{"name": one, "member_of": [two]}, {"name": two, "member_of": [three]}, {"name": three, "member_of": [one]}]
    assert f"{one} -> {two} -> {three} -> {one}" in access.failure(roles=roles)
    access.settle(roles=[{"name": one}, {"name": two, "member_of": [one]}])
    assert f"{one} -> {two} -> {one}" in access.failure(roles=[{"name": one, "member_of": [two]}])
    assert f"{one} -> {one}" in access.failure(roles=[{"name": one, "member_of": [one]}])


def test_options_of_memberships(access):
    reader, who = access.name("reader"), access.name("who")
    roles = [{"name": reader}, *access.present(who, member_of=[{"role": reader, "inherit": False, "set": True}])]
    entries = [{"roles": [reader], "privileges": ["USAGE"], "schema": "customer"}]
    entries += [{"roles": [reader], "privileges": ["SELECT"], "schema": "customer", "tables": "all"}]
    if access.server.version < 16:
        assert "need PostgreSQL 16" in access.failure(roles=roles)
        return
    access.settle(roles=roles, grants=entries)
    role = access.connect(who)
    assert not grants.may(role, "SELECT * FROM customer.visit") and grants.may(role, f"SET ROLE {reader}; SELECT * FROM customer.visit")
    roles[1]["member_of"] = [{"role": reader, "inherit": True, "set": False}]
    access.settle(roles=roles, grants=entries)
    assert grants.may(role, "SELECT * FROM customer.visit") and not grants.may(role, f"SET ROLE {reader}")
    # A second row, from another grantor, is taken too.
    other = access.role("other", "LOGIN CREATEROLE")
    access.sql(f"GRANT {reader} TO {other} WITH ADMIN OPTION")
    grants.rows(access.connect(other), f"GRANT {reader} TO {who} WITH SET TRUE")
    assert grants.may(role, f"SET ROLE {reader}")
    access.settle(roles=roles, grants=entries)
    assert not grants.may(role, f"SET ROLE {reader}")
    access.settle(roles=[roles[0], *access.present(who, member_of=[])], manage={"roles": [who]})
    assert not grants.may(role, "SELECT * FROM customer.visit")
    # What somebody gave by an option that is taken away goes with it, unless it is declared or outside of the bounds.
    access.sql(f"GRANT {reader} TO {who} WITH ADMIN OPTION")
    third, fourth = access.role("third"), access.role("fourth")
    grants.rows(access.connect(who), f"GRANT {reader} TO {third}; GRANT {reader} TO {fourth}")
    roles = [roles[0], *access.present(who, member_of=[]), *access.present(third, member_of=[reader])]
    access.settle(roles=roles, manage={"roles": [who]})
    assert grants.may(access.connect(third), "SELECT * FROM customer.visit") and grants.may(access.connect(fourth), "SELECT * FROM customer.visit")
    assert not grants.may(access.connect(who), "SELECT * FROM customer.visit")


def test_an_undeclared_role_inside_the_bounds_loses_all_but_its_name(access):
    stray, reader = access.role("stray"), access.role("reader")
    access.sql(f"CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.t (id int); GRANT USAGE ON SCHEMA elsewhere TO {stray}")
    access.sql(f"GRANT SELECT ON elsewhere.t TO {stray}, {reader}; GRANT SELECT ON pg_catalog.pg_authid TO {stray}; GRANT {reader} TO {stray}")
    access.sql(f"GRANT CREATE ON DATABASE {access.database} TO {stray}; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {stray}")
    access.sql(f"GRANT SELECT (name) ON customer.customer TO {stray}")
    access.settle(roles=[{"name": reader, "login": True}], manage={"roles": [f"{access.prefix}_*"]})
    assert access.refused(stray)
    left = "SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid WHERE rolname = %s"
    assert access.value(left, (stray,)) == 0
    assert access.value("SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE rolname = %s", (stray,)) == 0
    assert access.value("SELECT has_table_privilege(%s, 'elsewhere.t', 'SELECT')", (reader,)), "others keep theirs there"


def test_a_role_that_owns_things_goes(access):
    old, new, friend = access.role("old"), access.role("new"), access.role("friend")
    second = access.server.database()
    try:
        access.sql(f"ALTER DATABASE {second} OWNER TO {old}; ALTER TABLE customer.visit OWNER TO {old}; GRANT CREATE ON SCHEMA customer TO {old}")
        access.sql(f"ALTER DEFAULT PRIVILEGES FOR ROLE {old} GRANT SELECT ON TABLES TO {friend}")
        access.sql(f"ALTER DEFAULT PRIVILEGES FOR ROLE {old} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        access.sql(f"ALTER DEFAULT PRIVILEGES IN SCHEMA customer GRANT SELECT ON TABLES TO {old}; GRANT {friend} TO {old}")
        access.sql(f"GRANT UPDATE (phone) ON customer.customer TO {old}; GRANT USAGE ON LANGUAGE plpgsql TO {old}")
        access.sql(f"CREATE POLICY mine ON customer.customer TO {old} USING (true); CREATE POLICY ours ON customer.customer TO {old}, {friend} USING (true)")
        grants.rows(access.server.connect(second), f"CREATE TABLE public.theirs (id int); ALTER TABLE public.theirs OWNER TO {old}")
        message = access.failure(roles=[{"name": old, "state": "absent"}])
        assert "table customer.visit" in message and "reassign_to" in message
        gone = [{"name": old, "state": "absent", "reassign_to": new}]
        done = access.settle(roles=gone)
        assert any(second in warning and "cannot be dropped yet" in warning for warning in done["warnings"])
        assert access.refused(old) and access.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", (old,)) == 1
        assert access.value("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'customer.visit'::regclass") == new
        assert access.sql("SELECT polname, polroles::regrole[]::text FROM pg_policy") == [("ours", f"{{{friend}}}")]
        grants.settle(access.server.options(second), roles=gone)
        assert access.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", (old,)) == 0
        assert access.value("SELECT datdba::regrole::text FROM pg_database WHERE datname = %s", (second,)) == new
    finally:
        access.server.drop(second)


def test_rows(access):
    support, other, crm = access.role("support"), access.role("other"), access.role("crm")
    access.sql(f"ALTER TABLE customer.customer OWNER TO {crm}; GRANT ALL ON SCHEMA customer TO PUBLIC")
    entries = [{"roles": ["public"], "privileges": ["USAGE"], "schema": "customer"}]
    entries += [{"roles": [support, other], "privileges": ["SELECT", "UPDATE"], "schema": "customer", "tables": ["customer"]}]
    policy = {"name": "own region", "roles": [support], "using": "region = current_setting('crm.region', true)", "check": "region <> 'south'"}
    one = {"schema": "customer", "table": "customer", "policies": [policy]}

    def seen(who, region="north"):
        connection = access.connect(who)
        grants.rows(connection, f"SET crm.region = '{region}'")
        return sorted(name for (name,) in grants.rows(connection, "SELECT name FROM customer.customer"))

    access.settle(grants=entries, row_security=[one], manage=ALL)
    assert seen(support) == ["Ada"] and seen(support, "south") == ["Bob"] and seen(other) == [] and seen(crm) == ["Ada", "Bob"]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        grants.rows(access.connect(support), "SET crm.region = 'north'; UPDATE customer.customer SET region = 'south'")
    access.settle(grants=entries, row_security=[{**one, "forced": True}], manage=ALL)
    assert seen(crm) == [], "FORCE binds the owner"
    # A restrictive policy, another command, and a condition that is taken away: ALTER POLICY can none of these.
    policies = [{"name": "own region", "using": "true", "command": "select"}, {"name": "narrow", "permissive": False, "using": "name <> 'Bob'"}]
    access.settle(grants=entries, row_security=[{**one, "policies": policies}], manage=ALL)
    assert seen(support) == seen(other) == ["Ada"]
    access.settle(grants=entries, row_security=[{**one, "enabled": False, "policies": []}], manage=ALL)
    assert seen(other) == ["Ada", "Bob"]


@pytest.mark.parametrize(
    "text",
    [
        "region IN ('north', 'south') AND name LIKE 'A%'",
        "((id)) BETWEEN 1 AND 3 or phone is null",
        "exists (select 1 from visit v where v.customer = customer.id and v.at > now() - interval '1 day')",
        "id = any (array[1, 2]) and lower(name) <> E'it\\'s'",
        "case when current_user = 'x' then true else coalesce(region, '') <> '' end",
        "(select count(*) from (select id from visit union all select 1) s) > 0",
        "current_user = name::name",
    ],
)
def test_a_condition_is_compared_as_postgresql_understands_it(access, text):
    one = {"schema": "customer", "table": "customer", "policies": [{"name": "p", "using": text, "check": text}]}
    access.settle(row_security=[one])
    access.settle(row_security=[{**one, "policies": [{"name": "p", "using": f"  {text} ", "check": f"({text})"}]}])
    # Another way to the same tree is no change; another tree is one.
    printed = access.value("SELECT pg_get_expr(polqual, polrelid) FROM pg_policy")
    assert not access.call(row_security=[{**one, "policies": [{"name": "p", "using": printed, "check": text}]}])["changed"] or "visit" in text
    access.sql("ALTER POLICY p ON customer.customer USING (true)")
    done = access.settle(row_security=[one])
    assert [step["reason"] for step in done["plan"]] == ["it differs in using"]


def test_lists_say_nothing_of_other_tables(access):
    access.sql("ALTER TABLE customer.visit ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON customer.visit USING (true)")
    assert access.call(row_security=[{"schema": "customer", "table": "customer"}])["plan"][0]["object"] == "table customer.customer"
    done = access.settle(row_security=[{"schema": "customer", "table": "customer"}], manage=ALL)
    assert 'DROP POLICY "p" ON "customer"."visit"' in done["queries"]
    assert any("customer.visit has row security, which is not declared" in warning for warning in done["warnings"])


# --- without a superuser ---


@pytest.fixture
def admin(access):
    """A role with CREATEROLE that owns the schema customer; call(check, **options) as it."""
    who = access.role("admin", "LOGIN CREATEROLE")
    for name in ("TABLE customer.customer", "TABLE customer.visit", "SCHEMA customer"):
        access.sql(f"ALTER {name} OWNER TO {who}")
    access.sql(f"GRANT CREATE ON DATABASE {access.database} TO {who}")
    return who, access.server.options(access.database, who)


def test_an_owner_with_createrole(access, admin):
    who, login = admin
    app = access.name("app")
    entries = [{"roles": [app], "privileges": ["USAGE"], "schema": "customer"}]
    entries += [{"roles": [app], "privileges": ["SELECT"], "schema": "customer", "tables": "all", "future": True, "owners": [who]}]
    options = {"roles": [{"name": app, "login": True, "password": access.server_password, "settings": {"jit": "off"}}], "grants": entries, "manage": ALL}
    first = grants.call(login, **options)
    assert grants.may(access.connect(app), "SELECT * FROM customer.visit")
    again = grants.call(login, **options)
    assert again["queries"] == [f"ALTER ROLE \"{app}\" PASSWORD '********'"], "it cannot compare the password, and says so"
    assert any("may not read the stored password" in warning and "GRANT SELECT ON pg_catalog.pg_authid" in warning for warning in again["warnings"])
    access.sql(f"GRANT SELECT ON pg_catalog.pg_authid TO {who}")
    assert not grants.call(login, **options)["changed"]
    access.sql(f"REVOKE SELECT ON pg_catalog.pg_authid FROM {who}")
    assert first["changed"]


def test_what_is_not_ours_to_change(access, admin):
    who, login = admin
    app, strange = access.role("app"), access.role("strange")
    access.sql(f"CREATE TABLE customer.theirs (id int); ALTER TABLE customer.theirs OWNER TO {strange}; GRANT SELECT ON customer.theirs TO PUBLIC")
    access.sql(f"ALTER DEFAULT PRIVILEGES FOR ROLE {strange} IN SCHEMA customer GRANT SELECT ON TABLES TO PUBLIC")
    done = grants.settle(login, grants=[{"roles": [app], "privileges": ["USAGE"], "schema": "customer"}], manage=ALL)
    assert len(done["beyond"]) == 2 and any("SELECT of public on the table customer.theirs" in told for told in done["beyond"])
    with pytest.raises(grants.Failed, match="neither its owner"):
        grants.call(login, grants=[{"roles": [app], "privileges": ["SELECT"], "schema": "customer", "tables": ["theirs"]}])
    with pytest.raises(grants.Failed, match="PostgreSQL refused CREATE ROLE|PostgreSQL refused ALTER ROLE"):
        grants.call(login, roles=[{"name": access.name("bad"), "replication": True, "bypassrls": True}])
    # With a grant option it can hand on, and take what it handed on.
    access.sql(f"GRANT INSERT ON customer.theirs TO {who} WITH GRANT OPTION")
    entry = {"roles": [app], "privileges": ["INSERT"], "schema": "customer", "tables": ["theirs"]}
    grants.settle(login, grants=[entry])
    assert grants.may(access.connect(app), "INSERT INTO customer.theirs VALUES (1)")


def test_it_does_not_lock_itself_out(access, admin):
    who, login = admin
    access.sql(f"CREATE SCHEMA more; GRANT USAGE ON SCHEMA more TO {who}")
    for options in (
        {"manage": {"roles": [f"{access.prefix}_*"]}},
        {"roles": [{"name": who, "login": False}]},
        {"roles": [{"name": who, "state": "absent"}]},
        {"roles": [{"name": who, "login": True}], "manage": {"roles": [who]}},
    ):
        with pytest.raises(grants.Failed, match="the role that this connection acts as"):
            grants.call(login, True, **options)
    me = access.login["login_user"]
    assert "would lose its login" in access.failure(manage={"roles": ["*"]})
    assert "which nothing here can declare" in access.failure(roles=[{"name": me, "login": True}], manage={"roles": ["*"]})
    assert "the owner of the schema customer" in access.failure(manage={"roles": [f"{access.prefix}_*"], **ALL})


# --- together with others ---


def test_two_runs_and_other_grants_at_the_same_time(access):
    roles = [access.role(f"r{number}") for number in range(4)]
    for number in range(20):
        access.sql(f"CREATE TABLE customer.t{number} (id int)")
    entries = [{"roles": roles, "privileges": ["SELECT"], "schema": "customer", "tables": "all"}]
    stop = threading.Event()

    def disturb():
        connection = access.server.connect(access.database)
        while not stop.is_set():
            for number in range(20):
                with contextlib.suppress(psycopg2.errors.InternalError_):  # tuple concurrently updated
                    grants.rows(connection, f"GRANT INSERT ON customer.t{number} TO {roles[number % 4]}")
                time.sleep(0.02)
        connection.close()

    def run(number):
        connection = access.server.connect(access.database)
        try:
            chosen = entries if number % 2 else []
            declared = declare.declared({"grants": chosen, "manage": {"schemas": ["customer"]}})
            return apply.run(postgres.Session(connection), declared, False, False, 3000, 20)
        finally:
            connection.close()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(run, range(8)))) == 8
    finally:
        stop.set()
        thread.join()
    access.settle(grants=entries, manage=ALL)


def test_a_table_that_is_in_use_is_waited_for_a_little(access):
    busy = access.server.connect(access.database)
    busy.autocommit = False
    grants.rows(busy, "SELECT * FROM customer.customer")
    began = time.monotonic()
    options = {"row_security": [{"schema": "customer", "table": "customer"}], "lock_timeout": "200ms", "lock_retries": 2}
    assert access.call(True, **options)["changed"] and time.monotonic() - began < 2
    with pytest.raises(grants.Failed, match="a lock was not to be had in 3 attempts"):
        access.call(**options)
    busy.close()
    assert access.call(**options)["changed"]
