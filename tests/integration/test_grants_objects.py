# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_grants: privileges on every kind of object, proven as the roles themselves."""

from __future__ import annotations

import grants
import pytest

access = grants.access
ALL = {"schemas": ["customer"]}


@pytest.fixture
def usage(access):
    """A role that may enter the schema, as entries of the option grants; (name, entries)."""
    who = access.role("app")
    return who, [{"roles": [who], "privileges": ["USAGE"], "schema": "customer"}]


def test_the_founding_grant(access, usage):
    who, entries = usage
    entries = [*entries, {"roles": [who], "privileges": ["SELECT", "INSERT", "UPDATE", "DELETE"], "schema": "customer", "tables": ["customer"]}]
    entries += [{"roles": [who], "privileges": ["USAGE"], "schema": "customer", "sequences": ["customer_id_seq"]}]
    access.settle(grants=entries, manage=ALL)
    role = access.connect(who)
    assert grants.may(role, "SELECT * FROM customer.customer")
    assert grants.may(role, "INSERT INTO customer.customer (name) VALUES ('Eve')")
    assert grants.may(role, "UPDATE customer.customer SET name = 'x'")
    assert grants.may(role, "DELETE FROM customer.customer")
    assert not grants.may(role, "TRUNCATE customer.customer CASCADE")
    assert not grants.may(role, "SELECT * FROM customer.visit")
    assert not grants.may(role, "CREATE TABLE customer.mine (id int)")


def test_without_bounds_nothing_is_taken(access, usage):
    who, entries = usage
    access.sql("GRANT SELECT ON customer.visit TO PUBLIC")
    done = access.settle(grants=entries)
    assert [step["object"] for step in done["plan"]] == ["schema customer"]
    assert grants.may(access.connect(who), "SELECT * FROM customer.visit")


@pytest.mark.parametrize("label", ['Up per', 'qu"ote', "da-sh", "at@host", "größe", "per%cent", "se;mi'", "dot.ted", "a,b"])
def test_names_of_all_kinds(access, label):
    who = access.name(label)
    quoted = '"' + label.replace('"', '""') + '"'
    access.sql(f"CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} ({quoted} int, b int)")
    access.sql(f"CREATE FUNCTION {quoted}.{quoted}(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE {quoted}.{quoted[:-1]}t\" AS ENUM ('a')")
    policy = {"name": label, "command": "select", "roles": [who], "using": f"{quoted} > 0"}
    options = {
        "roles": access.present(who, comment=f"{label} \\ % '"),
        "grants": [
            {"roles": [who], "privileges": ["USAGE"], "schema": label},
            {"roles": [who], "privileges": ["SELECT"], "schema": label, "columns": {label: [label]}},
            {"roles": [who], "privileges": ["EXECUTE"], "schema": label, "functions": [label]},
            {"roles": [who], "privileges": ["INSERT"], "schema": label, "tables": "all", "future": True},
            {"roles": [who], "privileges": ["CONNECT"], "database": access.database},
        ],
        "row_security": [{"schema": label, "table": label, "policies": [policy]}],
        "manage": {"schemas": [label], "roles": [who]},
    }
    access.settle(**options)
    role = access.connect(who)
    assert grants.may(role, f"SELECT {quoted} FROM {quoted}.{quoted}")
    assert grants.may(role, f"SELECT {quoted}.{quoted}(1)")
    assert not grants.may(role, f"SELECT b FROM {quoted}.{quoted}")
    access.settle(roles=[{"name": who, "state": "absent"}], manage={"schemas": [label]})


def test_columns_under_a_table_grant(access, usage):
    who, entries = usage
    table = {"roles": [who], "privileges": ["SELECT"], "schema": "customer", "tables": ["customer"]}
    columns = {"roles": [who], "privileges": ["UPDATE", "SELECT"], "schema": "customer", "columns": {"customer": ["phone", "email"]}}
    access.settle(grants=[*entries, table, columns], manage=ALL)
    role = access.connect(who)
    assert grants.may(role, "SELECT address FROM customer.customer")
    assert grants.may(role, "UPDATE customer.customer SET phone = ''") and not grants.may(role, "UPDATE customer.customer SET name = ''")
    # The table's grant goes; PostgreSQL takes the columns' with it, so they have to be given back in the same run.
    access.settle(grants=[*entries, columns], manage=ALL)
    assert grants.may(role, "SELECT phone FROM customer.customer") and not grants.may(role, "SELECT address FROM customer.customer")
    access.settle(grants=entries, manage=ALL)
    assert not grants.may(role, "SELECT phone FROM customer.customer")


def test_partitions_have_privileges_of_their_own(access, usage):
    who, entries = usage
    access.sql("CREATE TABLE customer.log (at date, t text) PARTITION BY RANGE (at)")
    access.sql("CREATE TABLE customer.log_1 PARTITION OF customer.log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')")
    access.sql(f"GRANT SELECT ON customer.log_1 TO {who}")
    entries = [*entries, {"roles": [who], "privileges": ["SELECT", "INSERT"], "schema": "customer", "tables": ["log"]}]
    access.settle(grants=entries, manage=ALL)
    role = access.connect(who)
    assert grants.may(role, "SELECT * FROM customer.log") and grants.may(role, "INSERT INTO customer.log VALUES ('2026-05-05', 'x')")
    assert not grants.may(role, "SELECT * FROM customer.log_1")


def test_views_materialized_views_and_foreign_tables(access, usage):
    who, entries = usage
    access.sql("CREATE VIEW customer.v AS SELECT name FROM customer.customer; CREATE MATERIALIZED VIEW customer.m AS SELECT 1 AS a")
    access.sql("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    access.sql("CREATE FOREIGN TABLE customer.f (line text) SERVER files OPTIONS (filename '/etc/debian_version')")
    access.sql("GRANT ALL ON customer.v, customer.m, customer.f TO PUBLIC")
    entries = [*entries, {"roles": [who], "privileges": ["SELECT"], "schema": "customer", "tables": ["v", "m", "f"]}]
    access.settle(grants=entries, manage=ALL)
    role = access.connect(who)
    for name in "vmf":
        assert grants.may(role, f"SELECT * FROM customer.{name}") and not grants.may(role, f"DELETE FROM customer.{name}") or name == "m"
    assert not grants.may(access.connect(access.role("other")), "SELECT * FROM customer.v")


def test_sequences_behind_serial_and_identity(access, usage):
    who, entries = usage
    entries = [*entries, {"roles": [who], "privileges": ["INSERT"], "schema": "customer", "tables": "all"}]
    access.settle(grants=entries, manage=ALL)
    role = access.connect(who)
    assert grants.may(role, "INSERT INTO customer.visit DEFAULT VALUES"), "identity needs no right on its sequence"
    assert not grants.may(role, "INSERT INTO customer.customer (name) VALUES ('x')"), "serial does"
    access.settle(grants=[*entries, {"roles": [who], "privileges": ["USAGE"], "schema": "customer", "sequences": "all"}], manage=ALL)
    assert grants.may(role, "INSERT INTO customer.customer (name) VALUES ('x')")


def test_overloaded_functions_and_public(access, usage):
    who, entries = usage
    for types in ("int", "text", "varchar, timestamptz", "VARIADIC numeric[]"):
        access.sql(f"CREATE FUNCTION customer.price({types}) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    access.sql("CREATE PROCEDURE customer.clean(a int, INOUT b int) LANGUAGE sql AS 'SELECT 1'")
    access.sql("CREATE AGGREGATE customer.total(int) (SFUNC = int4pl, STYPE = int)")
    stranger = access.connect(access.role("other"))
    access.sql("GRANT USAGE ON SCHEMA customer TO PUBLIC")
    assert grants.may(stranger, "SELECT customer.price(1)"), "PUBLIC may, by PostgreSQL's own default"
    chosen = ["price(int)", "price(character varying,  timestamptz)", "clean", "total"]
    entries = [*entries, {"roles": [who], "privileges": ["EXECUTE"], "schema": "customer", "functions": chosen}]
    entries += [{"roles": ["public"], "privileges": ["USAGE"], "schema": "customer"}]
    access.settle(grants=entries, manage=ALL)
    role = access.connect(who)
    assert grants.may(role, "SELECT customer.price(1)") and grants.may(role, "SELECT customer.price('a'::varchar, now())")
    assert grants.may(role, "SELECT customer.total(1)") and grants.may(role, "CALL customer.clean(1, 1)")
    assert not grants.may(role, "SELECT customer.price('a'::text)") and not grants.may(role, "SELECT customer.price(1.5, 2.5)")
    assert not grants.may(stranger, "SELECT customer.price(1)")
    message = access.failure(grants=[{"roles": [who], "privileges": "all", "schema": "customer", "functions": ["price"]}])
    assert "several functions price" in message and "price(integer)" in message
    assert "no function price(int8)" in access.failure(
        grants=[{"roles": [who], "privileges": "all", "schema": "customer", "functions": ["price(int8)"]}]
    )


def test_types(access, usage):
    who, entries = usage
    access.sql("CREATE TYPE customer.size AS ENUM ('s'); CREATE DOMAIN customer.zip AS text; CREATE TYPE customer.pair AS (a int, b int)")
    access.sql("CREATE TYPE customer.span AS RANGE (subtype = int)")
    entries = [*entries, {"roles": [who], "privileges": ["USAGE"], "schema": "customer", "types": ["size", "zip"]}]
    entries += [{"roles": [who], "privileges": ["CREATE"], "schema": "customer"}]
    access.settle(grants=entries, manage=ALL)
    role = access.connect(who)
    assert grants.may(role, "CREATE TABLE customer.a (s customer.size, z customer.zip)")
    assert not grants.may(role, "CREATE TABLE customer.a (p customer.pair)") and not grants.may(role, "CREATE TABLE customer.a (p customer.span)")


def test_publics_rights_on_the_database_and_schema_public(access, usage):
    who, entries = usage
    stranger = access.role("other")
    access.sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
    assert grants.may(access.connect(stranger), "CREATE TEMP TABLE a (id int)") and grants.may(access.connect(stranger), "CREATE TABLE public.a (id int)")
    entries = [*entries, {"roles": [who], "privileges": ["CONNECT"], "database": access.database}]
    entries += [{"roles": ["public"], "privileges": ["USAGE"], "schema": "public"}]
    access.settle(grants=entries, manage={"databases": [access.database], "schemas": ["public", "customer"]})
    assert access.refused(stranger)
    role = access.connect(who)
    assert not grants.may(role, "CREATE TEMP TABLE a (id int)") and not grants.may(role, "CREATE TABLE public.a (id int)")


def test_grant_options_and_what_was_handed_on(access, usage):
    who, entries = usage
    second, third = access.role("second"), access.role("third")
    mine = {"roles": [who], "privileges": ["SELECT"], "schema": "customer", "tables": ["customer"], "grant_option": True}
    everybody = [{**entries[0], "roles": [who, second, third]}]
    access.settle(grants=[*everybody, mine], manage=ALL)
    grants.rows(access.connect(who), f"GRANT SELECT ON customer.customer TO {second} WITH GRANT OPTION")
    grants.rows(access.connect(second), f"GRANT SELECT ON customer.customer TO {third}")
    # Declared for the third, not for the second, through whom it came: it has to survive the CASCADE.
    keep = {"roles": [third], "privileges": ["SELECT"], "schema": "customer", "tables": ["customer"]}
    access.settle(grants=[*everybody, mine, keep], manage=ALL)
    assert grants.may(access.connect(third), "SELECT * FROM customer.customer")
    assert not grants.may(access.connect(second), "SELECT * FROM customer.customer")
    grants.rows(access.connect(who), f"GRANT SELECT ON customer.customer TO {second}; GRANT SELECT (phone) ON customer.customer TO {second}")
    access.settle(grants=[*everybody, mine, keep], manage=ALL)
    assert not grants.may(access.connect(second), "SELECT phone FROM customer.customer")
    assert access.value("SELECT has_table_privilege(%s, 'customer.customer', 'SELECT WITH GRANT OPTION')", (who,))
    access.settle(grants=[*everybody, {**mine, "grant_option": False}], manage=ALL)
    assert not access.value("SELECT has_table_privilege(%s, 'customer.customer', 'SELECT WITH GRANT OPTION')", (who,))
    assert grants.may(access.connect(who), "SELECT * FROM customer.customer")


@pytest.mark.parametrize("looks", [True, False])
@pytest.mark.parametrize("right, holds", [("SELECT", "whole"), ("INSERT (phone)", "whole"), ("INSERT (phone)", "column"), ("SELECT", "nothing")])
def test_a_member_of_the_owner_has_handed_on(access, right, holds, looks):
    """PostgreSQL's CASCADE stops at who has the grant option by a membership, here in the owner."""
    owner, member, second, third = (access.role(name) for name in ("owner", "member", "second", "third"))
    people = [{"name": name} for name in (owner, member, second, third)]
    people[1]["member_of"] = [owner]
    bounds = {**ALL, "roles": [owner, member, second, third]}
    usage = {"roles": [member], "privileges": ["USAGE"], "schema": "customer"}
    mine = {"roles": [member], "privileges": ["SELECT", "INSERT"], "schema": "customer", "tables": ["customer"], "grant_option": True}
    wide = {"manage": bounds, "ownership": [{"schema": "customer", "tables": ["customer"], "owner": owner}]}
    access.settle(roles=[people[0], {"name": member}, *people[2:]], grants=[{**usage, "roles": [member, second]}], **wide)
    option = f"GRANT {right} ON customer.customer TO {member} WITH GRANT OPTION"
    access.sql(option if holds == "column" else f"GRANT SELECT, INSERT ON customer.customer TO {member} WITH GRANT OPTION")
    # An option on a column can only be handed on by who has it on that column.
    further = holds == "column" or "(" not in right
    access.sql(f"SET ROLE {member}; GRANT {right} ON customer.customer TO {second}{' WITH GRANT OPTION' if further else ''}; RESET ROLE")
    if further:
        access.sql(f"SET ROLE {second}; GRANT {right} ON customer.customer TO {third}; RESET ROLE")
    entries = [usage] if looks else []
    access.settle(roles=people, grants=entries if holds == "nothing" else [*entries, mine], **wide)
    plain = right.split(maxsplit=1)[0]
    for role in (second, third):
        assert not access.value("SELECT has_any_column_privilege(%s, 'customer.customer', %s)", (role, plain))
    direct = access.value("SELECT relacl::text FROM pg_class WHERE oid = 'customer.customer'::regclass")
    assert (member in direct) == (holds != "nothing")
    assert access.value("SELECT nspacl::text LIKE %s FROM pg_namespace WHERE nspname = 'customer'", (f"%{member}=%",)) == looks


def test_an_option_from_its_own_holder(access, usage):
    """No CASCADE takes it: whoever loses the option has it from itself."""
    who, entries = usage
    owner = access.role("owner")
    access.sql(f"GRANT {owner} TO {who}; ALTER TABLE customer.customer OWNER TO {owner}; GRANT USAGE ON SCHEMA customer TO {who}")
    access.sql(f"GRANT INSERT (phone) ON customer.customer TO {who} WITH GRANT OPTION")
    access.sql(f"SET ROLE {who}; GRANT INSERT (phone) ON customer.customer TO {who} WITH GRANT OPTION; RESET ROLE")
    look = "SELECT attacl::text FROM pg_attribute WHERE attrelid = 'customer.customer'::regclass AND attname = 'phone'"
    assert f"{who}=a*/{who}" in access.value(look)
    access.sql(f"REVOKE {owner} FROM {who}")
    access.settle(grants=entries, manage=ALL)
    assert who not in (access.value(look) or "")


def test_later_objects_of_several_owners(access):
    first, second, reader = access.role("first"), access.role("second"), access.role("reader")
    access.sql(f"ALTER DEFAULT PRIVILEGES FOR ROLE {first} IN SCHEMA customer GRANT DELETE ON TABLES TO {reader}")
    access.sql(f"ALTER DEFAULT PRIVILEGES FOR ROLE {second} GRANT INSERT ON TABLES TO PUBLIC")
    entries = [
        {"roles": [first, second], "privileges": "all", "schema": "customer"},
        {"roles": [reader], "privileges": ["USAGE"], "schema": "customer"},
        {"roles": [reader], "privileges": ["SELECT"], "schema": "customer", "tables": "all", "future": True, "owners": [first, second]},
    ]
    manage = {"schemas": ["customer"], "databases": [access.database]}
    entries += [{"roles": ["public"], "privileges": ["CONNECT"], "database": access.database}]
    access.settle(grants=entries, manage=manage)
    for number, owner in enumerate((first, second)):
        grants.rows(access.connect(owner), f"CREATE TABLE customer.later_{number} (id int)")
        grants.rows(access.connect(owner), f"CREATE FUNCTION customer.later_{number}() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        role = access.connect(reader)
        assert grants.may(role, f"SELECT * FROM customer.later_{number}")
        assert not grants.may(role, f"INSERT INTO customer.later_{number} VALUES (1)") and not grants.may(role, f"DELETE FROM customer.later_{number}")
        assert not grants.may(role, f"SELECT customer.later_{number}()"), "PUBLIC's built-in right is gone for later functions too"
    assert not access.call(grants=entries, manage=manage)["changed"], "what defaults gave is declared"
    # One kind goes, the others stay.
    access.sql(f"ALTER DEFAULT PRIVILEGES FOR ROLE {first} IN SCHEMA customer GRANT USAGE ON SEQUENCES TO {reader}")
    done = access.settle(grants=entries, manage=manage)
    assert [step["sql"].split(" REVOKE ")[-1] for step in done["plan"]] == [f'USAGE ON SEQUENCES FROM "{reader}"']
    grants.rows(access.connect(first), "CREATE TABLE customer.later_3 (id int)")
    assert grants.may(access.connect(reader), "SELECT * FROM customer.later_3")


def test_a_table_created_between_two_runs(access, usage):
    who, entries = usage
    entries = [*entries, {"roles": [who], "privileges": ["SELECT"], "schema": "customer", "tables": "all"}]
    access.settle(grants=entries, manage=ALL)
    access.sql("CREATE TABLE customer.later (id int); GRANT DELETE ON customer.later TO PUBLIC")
    done = access.settle(grants=entries, manage=ALL)
    assert {step["object"] for step in done["plan"]} == {"table customer.later"}
    role = access.connect(who)
    assert grants.may(role, "SELECT * FROM customer.later") and not grants.may(role, "DELETE FROM customer.later")


def test_owners(access, usage):
    who, entries = usage
    access.sql("CREATE VIEW customer.v AS SELECT 1; CREATE MATERIALIZED VIEW customer.m AS SELECT 1; CREATE DOMAIN customer.d AS int")
    access.sql("CREATE FUNCTION customer.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    kinds = [{"owner": who, "schema": "customer", kind: "all"} for kind in ("tables", "sequences", "functions", "types")]
    access.settle(ownership=[{"owner": who, "schema": "customer"}, *kinds], grants=entries, manage=ALL)
    role = access.connect(who)
    assert grants.may(role, "ALTER TABLE customer.customer ADD COLUMN x int; INSERT INTO customer.customer (name) VALUES ('a')")
    # An owner that lost its own right gets it back: the list is then {} and not NULL.
    access.sql("REVOKE ALL ON customer.customer FROM " + who)
    assert not grants.may(role, "SELECT * FROM customer.customer")
    access.settle(ownership=[{"owner": who, "schema": "customer"}, *kinds], grants=entries, manage=ALL)
    assert grants.may(role, "SELECT * FROM customer.customer")


def test_extensions_keep_what_they_gave(access, usage):
    who, entries = usage
    access.sql("CREATE EXTENSION pgcrypto SCHEMA customer")
    done = access.settle(grants=entries, manage=ALL)
    assert not [step for step in done["plan"] if step["object"].startswith("function")]
    assert grants.may(access.connect(who), "SELECT customer.gen_random_bytes(1)")


def test_all_follows_the_version(access, usage):
    who, entries = usage
    access.settle(grants=[*entries, {"roles": [who], "privileges": "all", "schema": "customer", "tables": ["customer"]}], manage=ALL)
    if access.server.version >= 17:
        assert access.value("SELECT has_table_privilege(%s, 'customer.customer', 'MAINTAIN')", (who,))
    else:
        entry = {"roles": [who], "privileges": ["MAINTAIN"], "schema": "customer", "tables": "all"}
        assert "MAINTAIN needs PostgreSQL 17" in access.failure(grants=[entry])


def test_the_report_says_through_whom(access):
    reader, member, owner = access.role("reader"), access.role("member"), access.role("owner")
    access.sql(f"GRANT {reader} TO {member}; ALTER TABLE customer.visit OWNER TO {owner}")
    entries = [{"roles": [reader], "privileges": ["SELECT"], "schema": "customer", "tables": ["customer"], "grant_option": True}]
    entries += [{"roles": [member], "privileges": ["UPDATE"], "schema": "customer", "columns": {"customer": ["phone", "email"]}}]
    entries += [{"roles": ["public"], "privileges": ["USAGE"], "schema": "customer"}]
    told = access.call(grants=entries, report=True)["access"]
    mine = {(one["object"], tuple(one["columns"]), tuple(one["through"])): one for one in told if one["role"] == member}
    assert mine["customer.customer", (), (f"member of {reader}",)]["privileges"] == ["SELECT"]
    assert mine["customer.customer", (), (f"member of {reader}",)]["grantable"] == ["SELECT"]
    assert mine["customer.customer", ("email", "phone"), ("itself",)]["privileges"] == ["UPDATE"]
    assert mine["customer", (), ("PUBLIC",)]["privileges"] == ["USAGE"]
    assert [one["through"] for one in told if one["role"] == owner and one["object"] == "customer.visit"] == [["owner"]]
    assert {one["through"][0] for one in told if one["role"] == access.login["login_user"]} == {"superuser"}
    for one in told:
        if one["kind"] == "table":
            for privilege in one["privileges"]:
                assert access.value("SELECT has_table_privilege(%s, %s, %s)", (one["role"], one["object"], privilege))
