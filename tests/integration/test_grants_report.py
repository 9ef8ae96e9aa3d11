# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook crm.platform.access_report, and the platform's own access model, which docs/access.md shows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import grants
import plays
import pytest
import yaml

from ansible_collections.crm.platform.plugins.module_utils.schema import extend

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("crm_app", "crm_support", "crm_analyst", "crm_backup", "crm_monitor")
FOUNDING = """
CREATE ROLE crm; CREATE SCHEMA customer AUTHORIZATION crm; SET ROLE crm;
CREATE TABLE customer.customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL, phone text, email text, address text, region text, source text);
CREATE INDEX idx_customer_name ON customer.customer (name);
INSERT INTO customer.customer (name, phone, email) VALUES ('Ada', '1', 'a@example.com');
"""


@pytest.fixture
def platform(server):
    """The database crm with the founding table, as the platform makes it."""
    server.run("postgres", "CREATE DATABASE crm")
    try:
        server.run("crm", FOUNDING)
        yield server
    finally:
        server.drop("crm")
        server.drop_role(*ROLES, "crm")


def report(platform, tmp_path, *arguments, **variables):
    login = {"ansible_python_interpreter": sys.executable, "ansible_connection": "local"}
    login.update(customer_data_report_login=platform.options("crm"), customer_data_report_directory=str(tmp_path / "out"))
    hosts = {"all": {"children": {"crm_database": {"hosts": {"localhost": {**login, **variables}}}}}}
    return plays.run(tmp_path, "crm.platform.access_report", hosts, *arguments)


def declared():
    """The access of the role customer_data, as it is for the database crm that belongs to crm."""
    text = (ROOT / "roles" / "customer_data" / "defaults" / "main.yml").read_text(encoding="utf-8")
    for variable, value in {"customer_data_owner": "crm", "crm_platform_database.name": "crm", "customer_data_schema": "customer"}.items():
        text = text.replace(f'"{{{{ {variable} }}}}"', value)
    told = yaml.safe_load(text)
    return {option: told[f"customer_data_{option}"] for option in ("roles", "grants", "row_security", "manage")}


def test_the_report_and_its_drifts(platform, tmp_path):
    before = report(platform, tmp_path, "--check")
    assert before.rc != 0 and "role crm_app: the role is missing" in before.failure or "there is no role" in before.failure
    options = declared()
    grants.settle(platform.options("crm"), **options)
    done = report(platform, tmp_path)
    assert done.rc == 0, done.text
    told = json.loads((tmp_path / "out" / "access.json").read_text())
    assert told["drifts"] == [] and told["beyond"] == []
    text = (tmp_path / "out" / "access.txt").read_text()
    assert "All of it is as declared." in text and "crm_support" in text and "SELECT (address, email, id, name, phone, region)" in text
    assert "<td>crm_analyst</td><td>table customer.customer</td>" in (tmp_path / "out" / "access.html").read_text()
    assert report(platform, tmp_path, "--check").rc == 0
    platform.run("crm", "GRANT SELECT ON customer.customer TO PUBLIC; GRANT pg_read_all_data TO crm_monitor")
    after = report(platform, tmp_path, "--check")
    assert after.rc != 0 and "2 differences" in after.failure
    assert (
        "table customer.customer: not declared: SELECT of PUBLIC" in after.failure
        and "membership of crm_monitor in pg_read_all_data" in after.failure
    )
    page = (ROOT / "docs" / "access.md").read_text()
    for line in text.split("\n\n", maxsplit=1)[0].splitlines():
        if platform.version == 15:
            assert line.rstrip() in page, f"docs/access.md shows another matrix: {line}"


def test_the_roles_of_the_platform_can_do_their_work_and_no_more(platform):
    options = declared()
    for role in options["roles"]:
        role.update(password="only for tests")
    grants.settle(platform.options("crm"), **options)
    app, support, analyst, backup, monitor = (platform.connect("crm", role) for role in ROLES)
    assert grants.may(
        app, "INSERT INTO customer.customer (name) VALUES ('x'); UPDATE customer.customer SET phone = ''; DELETE FROM customer.customer"
    )
    assert not grants.may(app, "TRUNCATE customer.customer") and not grants.may(app, "CREATE TABLE customer.x (id int)")
    assert grants.may(support, "SELECT id, name, phone, email, address FROM customer.customer")
    assert not grants.may(support, "SELECT source FROM customer.customer") and not grants.may(support, "SELECT * FROM customer.customer")
    assert not grants.may(support, "UPDATE customer.customer SET name = 'x'")
    assert grants.may(analyst, "SELECT * FROM customer.customer") and not grants.may(
        analyst, "SET transaction_read_only = off; DELETE FROM customer.customer"
    )
    assert grants.may(backup, "SELECT * FROM customer.customer") and not grants.may(backup, "DELETE FROM customer.customer")
    assert grants.may(monitor, "SELECT * FROM pg_ls_waldir()") and not grants.may(monitor, "SELECT name FROM customer.customer")
    platform.run("crm", "SET ROLE crm; CREATE TABLE customer.later (id int)")
    assert grants.may(analyst, "SELECT * FROM customer.later") and not grants.may(support, "SELECT * FROM customer.later")


def test_support_sees_the_customers_of_its_region(platform):
    """docs/access.md: those of its own regions and those without one, whatever it sets in its session."""
    example = yaml.safe_load((ROOT / "docs" / "access.md").read_text().split("```yaml\n# Regions\n")[1].split("```")[0])
    platform.run("crm", "UPDATE customer.customer SET region = 'north'")
    platform.run("crm", "SET ROLE crm; INSERT INTO customer.customer (name, region) VALUES ('Bob', 'south'), ('Eve', NULL)")
    options = declared()
    options["roles"] = extend.extended(options["roles"], example["crm_customer_roles"])
    options["roles"] = [{**role, "password": "only for tests"} if role.get("login") else role for role in options["roles"]]
    try:
        grants.settle(platform.options("crm"), **options)
        seen = {}
        for role in ("crm_ann", "crm_support", "crm_app", "crm_analyst"):
            connection = platform.connect("crm", role)
            seen[role] = sorted(name for (name,) in grants.rows(connection, "SELECT name FROM customer.customer"))
            if role == "crm_ann":
                assert grants.may(connection, "SELECT email, phone FROM customer.customer")
                assert not grants.may(connection, "SET ROLE crm_region_south")
            connection.close()
        everybody = ["Ada", "Bob", "Eve"]
        assert seen == {"crm_ann": ["Ada", "Eve"], "crm_support": ["Eve"], "crm_app": everybody, "crm_analyst": everybody}
    finally:
        platform.drop("crm")
        platform.drop_role("crm_ann", "crm_region_north", "crm_region_south")
