#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_advice
short_description: Say what would make a database quicker or smaller, with figures, and change nothing
version_added: 0.1.0
description:
  - Looks for indexes that the slowest statements lack, that nobody uses, that are there twice or that another one covers, for foreign keys
    without an index, for settings that do not fit the host or its load, for empty space, and for tables without statistics.
  - Returns a ranked list. Each advice has its figures, the SQL that would do it, and for tables of O(declared_schema) the declaration for
    M(crm.platform.customer_schema).
  - It never applies anything. It reads in one transaction that cannot write, plans statements without executing them, waits for no lock
    longer than O(lock_timeout), and rolls back.
  - Indexes of constraints, unique ones, those that support a foreign key and those of a replica identity are never said to be unused.
options:
  areas:
    description: What is looked for.
    type: list
    elements: str
    choices: [statements, indexes, settings, bloat, statistics]
    default: [statements, indexes, settings, bloat, statistics]
  statements:
    description: How many of the statements that took the most time are planned, by C(pg_stat_statements).
    type: int
    default: 50
  min_rows:
    description: Tables with fewer rows need no further index.
    type: int
    default: 10000
  min_size_mb:
    description: Indexes that are smaller, in MiB, are not said to be unused, and less empty space is not told.
    type: int
    default: 10
  min_statistics_days:
    description: An index is not said to be unused before uses were counted for so many days.
    type: int
    default: 28
  bloat_percent:
    description: The share of a table or index, in percent, that has to be empty before it is told.
    type: int
    default: 30
  declared_schema:
    description: The schema that M(crm.platform.customer_schema) keeps; empty for none.
    type: str
    default: customer
  expected_settings:
    description: >-
      What the host's size asks for, as in V({shared_buffers: 512MB, random_page_cost: 1.1}). The playbook C(crm.platform.advise) takes it
      from the role C(crm.platform.database).
    type: dict
    default: {}
  limit:
    description: The most advice of each kind; RV(left_out) counts the rest.
    type: int
    default: 20
  statement_timeout:
    description: Longest time for one question, with a unit as in C(postgresql.conf); a bare number is milliseconds.
    type: str
    default: 30s
  lock_timeout:
    description: Longest wait for a lock, as O(statement_timeout).
    type: str
    default: 1s
extends_documentation_fragment:
  - crm.platform.postgres
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Nothing is ever changed.
  diff_mode:
    support: none
  platform:
    platforms: posix
notes:
  - Statements come from the extension C(pg_stat_statements). Without it, and where the login may not see others' statements
    (C(pg_read_all_stats)), the rest is told, and RV(problems) says so.
  - Where C(hypopg) is in the database, each index is tried in the planner, and one that it would not use is not advised; without it
    the gain is estimated. Where C(pgstattuple) is there, empty space is measured; without it it is estimated.
  - To plan a statement the server may call functions that it names and that are not volatile, with the rights of the login. Where one of
    those belongs to somebody who is no superuser, other roles' statements are not planned, and RV(problems) names the function.
seealso:
  - module: crm.platform.customer_schema
  - module: crm.platform.health_check
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Look for what could be better
  crm.platform.database_advice:
    login_db: crm
  become: true
  become_user: postgres
  register: advice

- name: Show it
  ansible.builtin.debug:
    var: advice.lines

- name: Look for indexes that nobody has used for half a year
  crm.platform.database_advice:
    login_db: crm
    areas: [indexes]
    min_statistics_days: 180
  become: true
  become_user: postgres
"""

RETURN = r"""
advice:
  description: What could be better, the most useful kind first, within a kind the largest gain first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The kind and the object; the same in each run.
      type: str
    kind:
      description: >-
        V(missing_index), V(foreign_key_index), V(setting), V(never_analysed), V(autovacuum), V(bloated_table), V(bloated_index),
        V(duplicate_index), V(redundant_index) or V(unused_index).
      type: str
    object:
      description: The table, index or setting, quoted as in SQL.
      type: str
    why:
      description: The figures.
      type: str
    gain:
      description: How much, in RV(advice[].unit). For V(missing_index) the time by the share of the planner's cost that goes.
      type: float
    unit:
      description: Of the gain.
      type: str
    sql:
      description: The statement that would do it.
      type: str
    declaration:
      description: Variables of the inventory that would do it in the platform's own way; empty where there are none.
      type: dict
    note:
      description: What to know before; may be empty.
      type: str
  sample:
    - id: missing_index:"customer"."visit" ("customer")
      kind: missing_index
      object: '"customer"."visit" ("customer")'
      why: 'about 100,000 rows are read from end to end; cost 2,137 to 9: SELECT * FROM customer.visit WHERE customer = $1'
      gain: 41.2
      unit: s a day
      sql: CREATE INDEX CONCURRENTLY "idx_visit_customer" ON "customer"."visit" USING btree ("customer")
      declaration:
        crm_customer_tables:
          - name: visit
            indexes:
              - {name: idx_visit_customer, columns: [customer]}
      note: ''
left_out:
  description: How many more there are of a kind, beyond O(limit).
  returned: success
  type: dict
  sample: {unused_index: 12}
notes:
  description: What to know of all of it, such as that the statistics are too young.
  returned: success
  type: list
  elements: str
  sample: ['it is too early to say that an index is unused: uses are counted since 3.1 days, and 28 are wanted']
problems:
  description: What could not be looked at, why, and what to do.
  returned: success
  type: list
  elements: str
explained:
  description: How many statements were planned.
  returned: success
  type: int
hypothetical:
  description: Whether the gain of indexes was asked of the planner, with C(hypopg).
  returned: success
  type: bool
lines:
  description: All of it for people.
  returned: success
  type: list
  elements: str
script:
  description: All of it as a file of SQL. What belongs in the inventory is a comment there.
  returned: success
  type: str
declaration:
  description: All declarations as one.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.advice import look, model

# Option -> the least and most that make sense.
RANGES = {
    "statements": (1, 5000),
    "min_rows": (0, 10**12),
    "min_size_mb": (0, 10**9),
    "min_statistics_days": (0, 3650),
    "bloat_percent": (1, 100),
    "limit": (1, 10_000),
}


def argument_spec():
    return {
        **postgres.argument_spec(),
        "areas": {"type": "list", "elements": "str", "choices": list(look.AREAS), "default": list(look.AREAS)},
        "statements": {"type": "int", "default": 50},
        "min_rows": {"type": "int", "default": 10000},
        "min_size_mb": {"type": "int", "default": 10},
        "min_statistics_days": {"type": "int", "default": 28},
        "bloat_percent": {"type": "int", "default": 30},
        "declared_schema": {"type": "str", "default": "customer"},
        "expected_settings": {"type": "dict", "default": {}},
        "limit": {"type": "int", "default": 20},
        "statement_timeout": {"type": "str", "default": "30s"},
        "lock_timeout": {"type": "str", "default": "1s"},
    }


def wanted(params):
    """(the options for the look, its two timeouts); PostgresError for what cannot be."""
    for option, (least, most) in RANGES.items():
        if not least <= params[option] <= most:
            raise postgres.PostgresError(f"{option} is {params[option]}; write a number from {least} to {most}")
    timeouts = [postgres.duration(params, option, postgres.PostgresError) for option in ("statement_timeout", "lock_timeout")]
    chosen = look.Wanted(
        areas=params["areas"],
        statements=params["statements"],
        least_rows=params["min_rows"],
        least_size=params["min_size_mb"] * model.MIB,
        least_days=params["min_statistics_days"],
        bloat_percent=params["bloat_percent"],
        declared_schema=params["declared_schema"],
        settings=params["expected_settings"],
    )
    return chosen, timeouts


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        chosen, timeouts = wanted(module.params)
    except postgres.PostgresError as error:
        module.fail_json(msg=str(error))
    session = postgres.connect(module)
    try:
        found = look.Looker(session, chosen, *timeouts).run()
    except postgres.DatabaseError as error:
        module.fail_json(msg=f"looking at the database {module.params['login_db']}: {postgres.one_line(error)}; nothing was changed, run again")
    finally:
        session.close()
    advice, left_out = model.ranked(found.advice, module.params["limit"])
    module.exit_json(
        changed=False,
        advice=[one.shown() for one in advice],
        left_out=left_out,
        notes=found.notes,
        problems=found.problems,
        explained=found.explained,
        hypothetical=found.hypothetical,
        lines=model.lines(advice, left_out, found.notes, found.problems),
        script=model.script(advice, found.notes + found.problems),
        declaration=model.declared(advice),
    )


if __name__ == "__main__":
    main()
