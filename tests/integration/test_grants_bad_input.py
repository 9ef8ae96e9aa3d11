# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_grants refuses the whole of what is wrong somewhere, before any change, with option, object and cure."""

from __future__ import annotations

import grants
import pytest

access = grants.access
# A change that comes first and must not be made.
FIRST = {"roles": ["public"], "privileges": ["SELECT"], "schema": "customer", "tables": ["visit"]}


def grant(**options):
    return {"grants": [FIRST, {"roles": ["public"], "privileges": ["SELECT"], "schema": "customer", **options}]}


def rows(**policy):
    return {"row_security": [{"schema": "customer", "table": "customer", "policies": [{"name": "p", **policy}]}]}


def role(**options):
    return {"roles": [{"name": "a_x", **options}]}


CASES = {
    "unknown privilege": (grant(tables="all", privileges=["READ"]), "grants[1]: privileges: READ is no privilege on a table; there are SELECT"),
    "privilege of another kind": (grant(tables="all", privileges=["EXECUTE"]), "EXECUTE is no privilege on a table"),
    "privilege of columns": (grant(columns={"customer": ["id"]}, privileges=["DELETE"]), "DELETE is no privilege on columns; there are SELECT, INSERT, UPDATE"),
    "unknown role": (grant(tables="all", roles=["nobdy"]), "grants[1]: roles: there is no role nobdy; declare it in roles or correct the name"),
    "unknown table": (grant(tables=["custmer"]), "there is no table custmer in the schema customer (did you mean customer?)"),
    "unknown column": (grant(columns={"customer": ["emial"]}), "columns: there is no column emial in customer.customer (did you mean email?)"),
    "unknown schema": (grant(tables="all", schema="custumer"), "there is no schema custumer (did you mean customer?)"),
    "unknown database": ({"grants": [{"roles": ["public"], "privileges": "all", "database": "nowhere"}]}, "there is no database nowhere"),
    "unknown function": (grant(functions=["nope"], privileges="all"), "there is no function nope"),
    "types that do not parse": (grant(functions=["f(int"], privileges="all"), "function f(int"),
    "a sequence as a table": (grant(tables=["customer_id_seq"]), "customer.customer_id_seq is a sequence; write it under sequences"),
    "a system schema": (grant(schema="pg_catalog", tables="all"), "pg_catalog is PostgreSQL's own schema; name the objects that are meant"),
    "two kinds": (grant(tables="all", sequences="all"), "tables and sequences are given; write an entry for each"),
    "nothing to grant on": ({"grants": [{"roles": ["public"], "privileges": "all"}]}, "names nothing to grant on"),
    "tables without schema": ({"grants": [{"roles": ["public"], "privileges": "all", "tables": "all"}]}, "tables stand in a schema; name it with schema"),
    "no tables": (grant(tables=[]), "tables is empty; list at least one, or write all"),
    "no roles": (grant(tables="all", roles=[]), "grants[1]: roles is empty"),
    "no privileges": (grant(tables="all", privileges=[]), "grants[1]: privileges is empty"),
    "a string for roles": (grant(tables="all", roles="a, b"), "grants[1]: roles is 'a, b', not a list; write it as [a, b]"),
    "a string for tables": (grant(tables="customer"), "grants[1]: tables is 'customer', not a list; write it as [customer]"),
    "a string for privileges": (grant(tables="all", privileges="SELECT"), "privileges is 'SELECT', not a list; write it as [SELECT]"),
    "a string for manage": ({"manage": {"schemas": "customer"}}, "manage: schemas is 'customer', not a list; write it as [customer]"),
    "columns as a list": (grant(columns=["id"]), "columns"),
    "twice the same": (grant(tables=["visit", "visit"]), "visit is listed twice; keep one of them"),
    "future of named tables": (grant(tables=["visit"], future=True), "future is for all tables, sequences, functions or types of a schema"),
    "owners without future": (grant(tables="all", owners=["postgres"]), "owners says whose later objects are meant; set future to true"),
    "grant option for public": (grant(tables="all", grant_option=True), "grant_option cannot be given to public"),
    "an unknown owner": (grant(tables="all", future=True, owners=["nobody"]), "grants[1]: owners: there is no role nobody"),
    "an unknown option": (grant(tables="all", tabels="x"), "tabels"),
    "empty password": (role(password=""), "roles[0] (a_x): password is empty"),
    "MD5 password": (role(password="md5" + "0" * 32), "password is an MD5 hash"),
    "a long name": ({"roles": [{"name": "x" * 64}]}, "has 64 bytes, and PostgreSQL keeps 63: shorten it"),
    "an empty name": ({"roles": [{"name": ""}]}, "is empty: give it a name"),
    "a reserved name": ({"roles": [{"name": "public"}]}, "public is a reserved word"),
    "a system role": ({"roles": [{"name": "pg_monitor", "login": True}]}, "pg_monitor is PostgreSQL's own role"),
    "declared twice": ({"roles": [{"name": "a_x"}, {"name": "a_x"}]}, "roles[1]: a_x is declared twice"),
    "attributes of an absent role": (role(state="absent", login=True), "login has no meaning for a role that is to be absent"),
    "reassign_to of a present role": (role(reassign_to="postgres"), "reassign_to is for a role that is to be absent"),
    "an absent role with grants": ({**grant(tables="all", roles=["a_x"]), **role(state="absent")}, "a_x is declared as absent in roles"),
    "a wrong time": (role(valid_until="tomorow"), "valid_until: invalid input syntax"),
    "a wrong limit": (role(connection_limit=-2), "connection_limit is -2; write a number of connections, or -1"),
    "an unknown setting": (role(settings={"statement_timout": 1}), "there is no parameter statement_timout (did you mean statement_timeout?)"),
    "a setting of the server": (role(settings={"shared_buffers": "1GB"}), "shared_buffers can only be set for the whole server"),
    "a wrong value": (role(settings={"work_mem": "much"}), "settings: work_mem: invalid value for parameter"),
    "an unknown group": (role(member_of=["nobody"]), "member_of: there is no role nobody"),
    "an unknown membership option": (role(member_of=[{"role": "pg_monitor", "admn": True}]), "there is no option admn"),
    "a condition that does not parse": (rows(using="id >"), "policies[0] (p)|p: using 'id >' is not understood: syntax error"),
    "a condition on no column": (rows(using="emial = 'x'"), 'column "emial" does not exist'),
    "a condition that is none": (rows(using="1 + 1"), "argument of WHERE must be type boolean"),
    "a condition that leaves its place": (rows(using="true); DROP TABLE customer.visit; --"), "closes a bracket"),
    "a semicolon": (rows(using="true; DROP TABLE customer.visit"), "holds a semicolon"),
    "using of an insert": (rows(command="insert", using="true"), "using has no meaning for insert; write it as check"),
    "an unknown role of a policy": (rows(roles=["nobody"], using="true"), "p: roles: there is no role nobody"),
    "policies of no table": ({"row_security": [{"schema": "customer", "table": "nope"}]}, "there is no table nope"),
    "rows of a view": ({"row_security": [{"schema": "customer", "table": "view"}]}, "row security is for tables"),
    "managing the system": ({"manage": {"schemas": ["pg_catalog"]}}, "manage: schemas: pg_catalog is PostgreSQL's own"),
    "managing system roles": ({"manage": {"roles": ["pg_*"]}}, "manage: roles: pg_* names PostgreSQL's own roles"),
    "managing oneself": ({"manage": {"roles": ["*"]}}, "would lose its login and rights; declare it in roles, or take it out with '!"),
    "owner of a sequence of a column": (
        {"ownership": [{"owner": "pg_monitor", "schema": "customer", "sequences": ["customer_id_seq"]}]},
        "belongs to a column of the table customer.customer",
    ),
    "a wrong time to wait": ({"lock_timeout": "soon"}, "lock_timeout: 'soon' is no time"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_as_a_whole(access, case):
    options, expected = CASES[case]
    access.sql("CREATE VIEW customer.view AS SELECT 1")
    message = access.failure(**options)
    assert any(part in message for part in expected.split("|")), message
    assert "\n" not in message


def test_a_password_that_is_over_is_a_warning(access):
    who = access.name("app")
    done = access.settle(roles=access.present(who, valid_until="2020-01-01"))
    assert any("valid_until 2020-01-01 is over" in warning for warning in done["warnings"]) and access.refused(who)


def test_a_database_that_is_gone(access):
    with pytest.raises(grants.Failed, match="cannot connect to the database nowhere"):
        grants.call({**access.login, "login_db": "nowhere"}, grants=[FIRST])
