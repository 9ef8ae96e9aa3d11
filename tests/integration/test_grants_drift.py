# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_grants: what was changed by hand is reported in check mode and mended by a run, to the very state before."""

from __future__ import annotations

import re

import grants
import pytest

access = grants.access

# Kind -> (what somebody did, the object that has to be named). {app}, {support} and {stray} are roles.
DRIFTS = {
    "extra grant": ("GRANT DELETE ON customer.visit TO {support}", "table customer.visit"),
    "missing grant": ("REVOKE INSERT ON customer.customer FROM {app}", "table customer.customer"),
    "PUBLIC grant": ("GRANT SELECT ON customer.customer TO PUBLIC", "table customer.customer"),
    "column grant": ("GRANT SELECT (email) ON customer.customer TO {support}", "column customer.customer.email"),
    "grant option": ("GRANT SELECT ON customer.visit TO {app} WITH GRANT OPTION", "table customer.visit"),
    "membership": ("GRANT {app} TO {support}", "membership of {support} in {app}"),
    "attribute": ("ALTER ROLE {support} CREATEROLE", "role {support}"),
    "password": ("ALTER ROLE {support} PASSWORD 'known to all'", "role {support}"),
    "policy changed": ("ALTER POLICY region ON customer.customer USING (true)", "policy region on table customer.customer"),
    "policy added": ("CREATE POLICY door ON customer.customer USING (true)", "policy door on table customer.customer"),
    "RLS off": ("ALTER TABLE customer.customer DISABLE ROW LEVEL SECURITY", "table customer.customer"),
    "default privilege": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {crm} IN SCHEMA customer GRANT SELECT ON TABLES TO PUBLIC",
        "default privileges of {crm} in the schema customer",
    ),
    "owner": ("ALTER TABLE customer.visit OWNER TO {support}", "table customer.visit"),
    "role setting": ("ALTER ROLE {app} SET row_security = off", "role {app}"),
    "role added": ("CREATE ROLE {stray} LOGIN; GRANT {app} TO {stray}; GRANT SELECT ON customer.visit TO {stray}", "role {stray}"),
    # More than the fifteen.
    "superuser": ("ALTER ROLE {support} SUPERUSER", "role {support}"),
    "RLS not forced": ("ALTER TABLE customer.customer NO FORCE ROW LEVEL SECURITY", "table customer.customer"),
    "PUBLIC may connect": ("GRANT CONNECT ON DATABASE {database} TO PUBLIC", "database {database}"),
    "handed on": (
        "GRANT SELECT ON customer.visit TO {app} WITH GRANT OPTION; SET ROLE {app}; GRANT SELECT ON customer.visit TO PUBLIC; RESET ROLE",
        "table customer.visit",
    ),
    "function": ("GRANT EXECUTE ON FUNCTION customer.score(int) TO PUBLIC", "function customer.score(integer)"),
    "default for all schemas": ("ALTER DEFAULT PRIVILEGES FOR ROLE {crm} GRANT DELETE ON TABLES TO {support}", "default privileges of {crm}"),
    "policy restricted": (
        "DROP POLICY region ON customer.customer; CREATE POLICY region ON customer.customer FOR UPDATE TO {support} USING (true)",
        "policy region on table customer.customer",
    ),
}


@pytest.fixture
def declared(access):
    """A whole model, converged; (names, options)."""
    names = {label: access.name(label) for label in ("crm", "app", "support", "stray")}
    crm, app, support = names["crm"], names["app"], names["support"]
    names["database"] = access.database
    access.sql("CREATE FUNCTION customer.score(int) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    condition = "region = current_setting('crm.region', true)"
    tables = {"schema": "customer", "tables": "all"}
    options = {
        "roles": [{"name": crm}, *access.present(app, support)],
        "ownership": [{"owner": crm, "schema": "customer"}, {"owner": crm, **tables}],
        "grants": [
            {"roles": [app, support], "privileges": ["CONNECT"], "database": access.database},
            {"roles": [app, support], "privileges": ["USAGE"], "schema": "customer"},
            {"roles": [app], "privileges": ["SELECT", "INSERT", "UPDATE", "DELETE"], **tables, "future": True, "owners": [crm]},
            {"roles": [support], "privileges": ["SELECT"], "schema": "customer", "columns": {"customer": ["id", "name", "region"]}},
            {"roles": [app], "privileges": ["EXECUTE"], "schema": "customer", "functions": "all"},
        ],
        "row_security": [
            {
                "schema": "customer",
                "table": "customer",
                "forced": True,
                "policies": [
                    {"name": "region", "command": "select", "roles": [support], "using": condition},
                    {"name": "app", "roles": [app], "using": "true"},
                ],
            }
        ],
        "manage": {"schemas": ["customer"], "databases": [access.database], "roles": [f"{access.prefix}_*"]},
    }
    access.settle(**options)
    return names, options


@pytest.mark.parametrize("kind", DRIFTS)
def test_drift(access, declared, kind):
    names, options = declared
    before = [row for row in grants.snapshot(access.db) if row[0] != "role"]
    access.sql(DRIFTS[kind][0].format(**names))
    drifted = grants.snapshot(access.db)
    shown = access.call(True, **options)
    assert shown["changed"] and DRIFTS[kind][1].format(**names) in [step["object"] for step in shown["plan"]], shown["plan"]
    assert grants.snapshot(access.db) == drifted, "check mode changes nothing"
    access.settle(**options)
    after = [row for row in grants.snapshot(access.db) if row[0] != "role"]
    assert sorted_lists(after) == sorted_lists(before)
    assert access.connect(names["support"]), "its declared password opens again"
    if kind == "role added":
        assert access.refused(names["stray"])


def sorted_lists(found):
    """Without the order of the items of a list, which is that of the grants, and the places of words in a condition's text."""
    plain = [tuple(re.sub(r" :location -?[0-9]+", "", part) if part else part for part in row) for row in found]
    return [tuple(tuple(sorted(part.strip("{}").split(","))) if part and part.startswith("{") else part for part in row) for row in plain]


def test_all_of_them_at_once(access, declared):
    names, options = declared
    for statement, dummy in DRIFTS.values():
        access.sql(statement.format(**names))
    shown = access.call(True, **options)
    objects = {step["object"] for step in shown["plan"]}
    assert {thing.format(**names) for dummy, thing in DRIFTS.values()} <= objects
    access.settle(**options)
