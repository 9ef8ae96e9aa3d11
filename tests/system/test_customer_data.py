# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The customers' tables of a deployed server follow the inventory, and lose nothing on the way."""

from __future__ import annotations

import pytest

PLAYBOOK = "crm.platform.customer_data"
MORE = {
    "customer_data_enums": [{"name": "kind_of_visit", "values": ["call", "meeting"]}],
    "customer_data_views": [{"name": "customer_by_segment", "query": "SELECT segment, count(*) AS customers FROM customer GROUP BY segment"}],
    "crm_customer_tables": [
        {
            "name": "customer",
            "columns": [{"name": "segment", "type": "text", "nullable": False, "default": "'private'"}, {"name": "telephone", "renamed_from": "phone"}],
            "indexes": [{"name": "idx_customer_segment", "columns": ["segment", "name"]}],
        },
        {
            "name": "visit",
            "columns": [
                {"name": "id", "type": "bigint", "identity": "always"},
                {"name": "customer", "type": "bigint", "nullable": False},
                {"name": "kind", "type": "kind_of_visit", "nullable": False},
            ],
            "primary_key": ["id"],
            "foreign_keys": [{"columns": ["customer"], "references": {"table": "customer"}, "on_delete": "cascade"}],
        },
    ],
}
TASK = "crm.platform.customer_data : Have the tables as they are declared"


def result(outcome):
    """What the module returned."""
    assert outcome.rc == 0, outcome.failure or outcome.text[-2000:]
    return next(task["result"] for task in outcome.tasks if task["name"] == TASK)


@pytest.fixture(scope="module")
def extended(deployed):
    """The server with an organisation's own tables; what a check foretold, and what the run then did."""
    sql = deployed.platform.sql
    sql("insert into customer.customer (name, phone) values ('Ann', '1'), ('Bo', '2')")
    deployed.foretold = result(deployed.run("--check", "--diff", playbook=PLAYBOOK, **MORE))
    assert sql("select to_regclass('customer.visit') is null") == "t"
    deployed.done = result(deployed.run(playbook=PLAYBOOK, **MORE))
    yield deployed
    sql("drop schema customer cascade")
    result(deployed.run(playbook=PLAYBOOK))


def test_a_check_foretells_the_run(extended):
    assert extended.foretold["queries"] == extended.done["queries"] != []
    assert extended.done["changed"] and "segment" in extended.foretold["diff"]["after"]


def test_no_value_was_lost(extended):
    assert extended.platform.sql("select name, telephone, segment from customer.customer order by name").split() == ["Ann|1|private", "Bo|2|private"]


def test_the_second_run_finds_nothing_to_do(extended):
    outcome = extended.run(playbook=PLAYBOOK, **MORE)
    assert outcome.changed == [] and result(outcome)["plan"] == []


def test_it_belongs_to_the_crm(extended):
    assert extended.platform.sql("select distinct relowner::regrole from pg_class where relnamespace = 'customer'::regnamespace") == "crm"


def test_drift_is_reported_and_mended(extended):
    sql = extended.platform.sql
    sql("drop index customer.idx_customer_name; alter table customer.customer alter segment drop not null, alter name type varchar(99)")
    sql("alter table customer.visit drop constraint visit_customer_fkey; alter table customer.visit owner to postgres")
    reported = " ".join(result(extended.run("--check", playbook=PLAYBOOK, **MORE))["queries"])
    for word in ("idx_customer_name", "SET NOT NULL", "TYPE text", "visit_customer_fkey", "OWNER TO"):
        assert word in reported, word
    result(extended.run(playbook=PLAYBOOK, **MORE))
    assert result(extended.run("--check", playbook=PLAYBOOK, **MORE))["queries"] == []


def test_what_would_lose_data_is_refused(extended):
    outcome = extended.run(playbook=PLAYBOOK, customer_data_purge=True)
    assert outcome.rc != 0 and outcome.changed == []
    for word in ("DROP TABLE", "visit", "deletes_data", "Add deletes_data to allow"):
        assert word in outcome.failure, outcome.failure
    assert extended.platform.sql("select count(*) from customer.customer") == "2"


def test_what_is_not_declared_is_told_and_stays(extended):
    outcome = extended.run(playbook=PLAYBOOK, **{**MORE, "crm_customer_tables": MORE["crm_customer_tables"][:1]})
    assert "table customer.visit" in result(outcome)["undeclared"] and result(outcome)["queries"] == []
    # Only what is written down as declared is another one now.
    assert outcome.changed == [TASK]
    assert "Not declared, and left alone" in outcome.text


def test_a_mistake_is_named_before_anything_is_done(extended):
    wrong = [{"name": "customer", "columns": [{"name": "x", "type": "text"}], "primary_key": ["nr"]}]
    outcome = extended.run(playbook=PLAYBOOK, crm_customer_tables=wrong)
    assert outcome.rc != 0 and "nr" in outcome.failure and "crm_customer_tables" in outcome.failure
    assert TASK not in [task["name"] for task in outcome.tasks]
    misspelt = extended.run(playbook=PLAYBOOK, crm_customer_tabels=[])
    assert "crm_customer_tabels" in misspelt.failure
