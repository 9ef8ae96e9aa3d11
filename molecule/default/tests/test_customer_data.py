# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/customer_data: the customers' tables, as the CRM's role finds them; those of Debian 13 are extended in the inventory."""

from __future__ import annotations

import pytest

COLUMNS = ["id", "name", "phone", "email", "address", "region", "source", "source_id", "created_at", "updated_at"]


def as_application(crm, sql):
    """What psql says to the CRM's own role, over TCP with its password."""
    login = "host=localhost user=crm dbname=crm sslmode=require"
    return crm.host.run("env", f"PGPASSWORD={crm.secrets['database_password']}", "psql", "-XAtq", login, "-c", sql, check=False)


@pytest.fixture
def extended(debian):
    return debian == 13


def test_the_table_and_its_columns(crm, extended):
    found = crm.sql(
        "select string_agg(column_name, ' ' order by ordinal_position) from information_schema.columns "
        "where table_schema = 'customer' and table_name = 'customer'"
    ).split()
    wanted = ["telephone" if name == "phone" and extended else name for name in COLUMNS] + (["segment"] if extended else [])
    assert sorted(found) == sorted(wanted) and found[:2] == ["id", "name"]


def test_the_index_on_the_name(crm):
    assert crm.sql("select indexdef from pg_indexes where schemaname = 'customer' and indexname = 'idx_customer_name'").endswith("btree (name)")
    assert crm.sql("select count(*) from pg_index where not indisvalid") == "0"


def test_all_of_it_belongs_to_the_crm(crm):
    assert crm.sql("select nspowner::regrole from pg_namespace where nspname = 'customer'") == "crm"
    assert crm.sql("select distinct relowner::regrole from pg_class where relnamespace = 'customer'::regnamespace and relkind in ('r', 'v')") == "crm"


def test_the_application_writes_a_record_and_an_import_does_not_write_it_twice(crm):
    try:
        row = as_application(
            crm,
            "insert into customer.customer (name, email, source, source_id) values ('Ann O''Neil', 'ann@example.org', 'test', '1') "
            "returning id > 0, created_at <= now(), updated_at <= now()",
        )
        assert row.stdout == "t|t|t\n", row.stderr
        again = as_application(crm, "insert into customer.customer (name, source, source_id) values ('Ann', 'test', '1')")
        assert again.returncode == 1 and "customer_source_key" in again.stderr
        nameless = as_application(crm, "insert into customer.customer (email) values ('x@example.org')")
        assert nameless.returncode == 1 and "not-null" in nameless.stderr
    finally:
        crm.sql("delete from customer.customer where source = 'test'")


def test_what_the_inventory_adds(crm, extended):
    assert crm.sql("select to_regclass('customer.visit') is not null, to_regclass('customer.idx_customer_segment') is not null") == (
        "t|t" if extended else "f|f"
    )
    if extended:
        made = as_application(
            crm,
            "with c as (insert into customer.customer (name, telephone) values ('Bo', '+49 30 1') returning id, segment) "
            "select segment from c",
        )
        assert made.stdout == "private\n", made.stderr
        wrong = as_application(crm, "insert into customer.visit (customer, kind) values (-1, 'call')")
        assert wrong.returncode == 1 and "visit_customer_fkey" in wrong.stderr
        crm.sql("delete from customer.customer where name = 'Bo'")


def test_what_was_converged_is_remembered(crm):
    """With it a run that has nothing to do asks for nothing but the catalog."""
    assert int(crm.sql("select count(*) from customer_schema.memory where schema = 'customer'")) >= 1


def test_the_access_is_as_declared(crm, extended):
    """Who may see which column and row, seen from the roles themselves."""
    phone = "telephone" if extended else "phone"
    crm.sql("insert into customer.customer (name, region) values ('Access', 'south')")
    try:
        for role, columns, seen in (
            ("crm_app", "*", "Access"),
            ("crm_analyst", "*", "Access"),
            ("crm_support", f"name, {phone}, email", ""),
            ("crm_backup", "*", "Access"),
        ):
            names = f"select name from (select {columns} from customer.customer where name = 'Access') x"
            assert crm.sql(f"set role {role}; {names}") == seen, role
        for role, statement in (
            ("crm_support", "select source from customer.customer"),
            ("crm_support", "delete from customer.customer"),
            ("crm_analyst", "insert into customer.customer (name) values ('x')"),
            ("crm_monitor", "select name from customer.customer"),
        ):
            with pytest.raises(Exception, match="permission denied|denied"):
                crm.sql(f"set role {role}; {statement}")
    finally:
        crm.sql("delete from customer.customer where name = 'Access'")


def test_a_stranger_may_not_even_connect(crm):
    assert crm.sql("select has_database_privilege('public', 'crm', 'CONNECT')") == "f"
