#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: customer_schema
short_description: Keep the customer data model on a live PostgreSQL database as it is declared
version_added: 0.2.0
description:
  - Compares the tables, columns, constraints, indexes, enums and views of one schema with what is declared, and brings the
    database there in one task. One plan is computed; check mode shows it, a run executes the same.
  - PostgreSQL itself reads what is declared, in a scratch schema that is always rolled back. So C(int4) and C(integer), a
    default of C('x') and one of C('x'::text), or a check that PostgreSQL rewrites, are no differences.
  - The database may be in use. Indexes are built with C(CONCURRENTLY), constraints are added C(NOT VALID) and validated
    apart, C(NOT NULL) goes through a validated check, and every other lock is asked for with O(lock_timeout) and given up
    rather than have others queue behind it.
  - Nothing is lost unasked. A table, column, constraint, index, enum or view that is not declared stays and is reported as
    RV(undeclared), unless O(purge) is set; what would delete data, rewrite a table or keep writers out is done only with the hazard
    named in O(allow).
  - B(What leaving something out means.) A column that is declared is declared whole. Without O(tables[].columns[].nullable) it may be
    null, and one that may not be now is made so; without O(tables[].columns[].default), O(tables[].columns[].identity) or
    O(tables[].columns[].generated) it has none, and one that it has now is taken off. None of this touches a row. Only the comments and
    the owner stay as they are when they are left out.
    Keys, constraints and indexes are things of their own. Those left out stay, be the list missing or empty, and go with O(purge).
  - B(Names.) A constraint that is there under another name with the same content is renamed, not built again.
  - A run that has nothing to do reads the catalog in a fixed number of queries and writes nothing. What was converged is
    remembered in the table C(customer_schema.memory), which is a cache and may be dropped at any time.
  - A run that was killed is finished by the next one. Of two runs on one schema the second waits for the first.
options:
  schema:
    description: Schema that holds the data model. It is made where it is missing.
    type: str
    default: customer
  owner:
    description: Role that owns the schema and everything declared. Left out, new objects belong to the role that makes them.
    type: str
  tables:
    description: Tables, as they are to be. Not together with O(definition).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the table, exactly as it is to be; it is always quoted.
        type: str
        required: true
      state:
        description: V(absent) drops the table, which needs V(deletes_data) in O(allow).
        type: str
        choices: [present, absent]
        default: present
      comment:
        description: Comment of the table; an empty one removes it, none leaves what is there.
        type: str
      renamed_from:
        description: Name that the table has until now. It is renamed and keeps its rows. Leave it there, it is harmless afterwards.
        type: str
      columns:
        description: Columns. Their order counts when the table is made; later ones are added at the end.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the column.
            type: str
            required: true
          type:
            description:
              - Type as in SQL, such as V(text), V(numeric(12,2\)), V(varchar(100\)[]), V(bigserial), or an enum of O(enums).
                A type with a comma needs quotes inside of C({}).
            type: str
            required: true
          nullable:
            description:
              - Whether it may be null. Columns of the primary key, identities and serials never are.
              - A new column with V(false) needs a default when the table has rows. An old one that holds nulls is refused; fill it first.
            type: bool
            default: true
          default:
            description:
              - SQL expression, such as V(now(\)) or V(0). A text needs SQL's quotes inside of YAML's, as in C("'new'").
              - It holds for rows made from then on, and fills a new column.
            type: str
          identity:
            description:
              - Make it an identity column, whose numbers PostgreSQL gives. V(always) refuses numbers that a client gives, V(by_default)
                takes them.
            type: str
            choices: [always, by_default]
          identity_start:
            description: First number of an identity that is made; it says nothing of one that is there and has given numbers.
            type: int
          identity_increment:
            description: Step from one number of the identity to the next; left out, what is there stays.
            type: int
          generated:
            description: SQL expression from which PostgreSQL computes and stores the value.
            type: str
          collation:
            description: Name of a collation.
            type: str
          comment:
            description: Comment of the column; an empty one removes it, none leaves what is there.
            type: str
          renamed_from:
            description: Name that the column has until now. It is renamed and keeps its values. Leave it there, it is harmless afterwards.
            type: str
      primary_key:
        description: Columns of the primary key. That of a partitioned table has to hold the columns of O(tables[].partition_by).
        type: list
        elements: str
      primary_key_options:
        description: How the primary key is made.
        type: dict
        suboptions:
          name:
            description: Name; left out, C(<table>_pkey) for a new one, and any name for one that is there.
            type: str
          include:
            description: Columns that its index carries without being part of the key.
            type: list
            elements: str
          deferrable:
            description: Whether a transaction may have it checked at its end. No foreign key can reference it then.
            type: bool
            default: false
          initially_deferred:
            description: Whether each transaction has it checked at its end. Needs O(tables[].primary_key_options.deferrable).
            type: bool
            default: false
      unique:
        description: Unique constraints.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name; left out, C(<table>_<columns>_key).
            type: str
          columns:
            description: Columns that are unique together.
            type: list
            elements: str
            required: true
          include:
            description: Columns that its index carries without being part of the key.
            type: list
            elements: str
          nulls_not_distinct:
            description: Whether two nulls count as the same (PostgreSQL 15 and later).
            type: bool
            default: false
          deferrable:
            description: Whether a transaction may have it checked at its end. No foreign key can reference it then.
            type: bool
            default: false
          initially_deferred:
            description: Whether each transaction has it checked at its end. Needs O(tables[].unique[].deferrable).
            type: bool
            default: false
      foreign_keys:
        description: Foreign keys.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name; left out, C(<table>_<columns>_fkey).
            type: str
          columns:
            description: Columns that reference.
            type: list
            elements: str
            required: true
          references:
            description: What they reference.
            type: dict
            required: true
            suboptions:
              schema:
                description: Schema of the table; left out, O(schema).
                type: str
              table:
                description: Name of the table.
                type: str
                required: true
              columns:
                description: Columns there, which need a primary key or unique constraint; left out, its primary key.
                type: list
                elements: str
          on_delete:
            description: What happens when the referenced row is deleted.
            type: str
            choices: [no_action, restrict, cascade, set_null, set_default]
            default: no_action
          on_delete_columns:
            description: With V(set_null) or V(set_default), the only columns that are set; left out, all of them (PostgreSQL 15 and later).
            type: list
            elements: str
          on_update:
            description: What happens when the referenced key changes.
            type: str
            choices: [no_action, restrict, cascade, set_null, set_default]
            default: no_action
          match:
            description: Whether a row with some nulls among its columns is let pass (V(simple)), or only one with all null (V(full)).
            type: str
            choices: [simple, full]
            default: simple
          deferrable:
            description: Whether a transaction may have it checked at its end.
            type: bool
            default: false
          initially_deferred:
            description: Whether each transaction has it checked at its end. Needs O(tables[].foreign_keys[].deferrable).
            type: bool
            default: false
      exclusions:
        description: Exclusion constraints, such as no two visits to one room at one time.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name, one in the whole schema.
            type: str
            required: true
          method:
            description: Access method of its index. V(gist) takes ranges; for plain types beside them it needs the extension btree_gist.
            type: str
            default: gist
          elements:
            description: Each entry a column or expression and its operator, such as V(room WITH =) or V(during WITH &&).
            type: list
            elements: str
            required: true
          where:
            description: SQL expression; only rows for which it is true are compared.
            type: str
          deferrable:
            description: Whether a transaction may have it checked at its end.
            type: bool
            default: false
          initially_deferred:
            description: Whether each transaction has it checked at its end. Needs O(tables[].exclusions[].deferrable).
            type: bool
            default: false
      checks:
        description: Check constraints.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name.
            type: str
            required: true
          expression:
            description: SQL expression that must not be false for any row.
            type: str
            required: true
      indexes:
        description: Indexes.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name, one in the whole schema.
            type: str
            required: true
          columns:
            description:
              - Each entry a column's name, or what would stand in C(CREATE INDEX) - an expression with collation, operator class
                and order, such as V(lower(email\)), V(at DESC NULLS LAST) or V(email text_pattern_ops).
            type: list
            elements: str
            required: true
          unique:
            description: Whether no two rows may have the same.
            type: bool
            default: false
          method:
            description: Access method, such as V(gin) or V(brin).
            type: str
            default: btree
          where:
            description: SQL expression; only rows for which it is true are in the index.
            type: str
          include:
            description: Columns that the index carries without being ordered by them.
            type: list
            elements: str
          nulls_not_distinct:
            description: Whether two nulls count as the same in a unique index (PostgreSQL 15 and later).
            type: bool
            default: false
          with:
            description: "Storage parameters, such as V({fillfactor: 70})."
            type: dict
      replica_identity:
        description:
          - What a publication sends of the old row - V(default) for the primary key, V(full), V(nothing), or the name of a declared
            unique index or key whose columns are not null. Left out, what is there stays.
        type: str
      partition_by:
        description:
          - Partition key, such as V(RANGE (at\)); it cannot be changed later.
          - The partitions are made by others and left alone, by O(purge) too; they go with their table.
        type: str
  enums:
    description: Enumerated types. New values are added in their places; PostgreSQL can take none out.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the type.
        type: str
        required: true
      values:
        description: Its values, in their order.
        type: list
        elements: str
        required: true
  views:
    description: Views. They are replaced in place where PostgreSQL can do so, else dropped and made again with their grants.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the view.
        type: str
        required: true
      query:
        description: The SELECT.
        type: str
        required: true
      security_invoker:
        description:
          - Whether the rights and row policies of whoever asks count, and not those of the view's owner (PostgreSQL 15 and later).
            Left out, what is there stays.
        type: bool
      security_barrier:
        description: Whether conditions of whoever asks are tried only after the view's own. Left out, what is there stays.
        type: bool
      check_option:
        description: Whether rows that are written through the view have to be in it, or in the views below it too. Left out, what is there stays.
        type: str
        choices: [none, local, cascaded]
      comment:
        description: Comment of the view; an empty one removes it, none leaves what is there.
        type: str
  definition:
    description:
      - The same as plain DDL, instead of O(tables), O(enums) and O(views) - CREATE TABLE, CREATE INDEX, CREATE TYPE ... AS ENUM,
        CREATE VIEW, ALTER TABLE ... ADD and COMMENT ON, with names that have no schema.
      - It cannot say that something is renamed, owned or absent. Use O(tables) for the run that renames.
    type: str
  purge:
    description:
      - Remove what is not declared - tables, views and enums of the schema, and columns, constraints and indexes of declared
        tables.
      - A run that would so drop a table or column fails and changes nothing, unless O(allow) holds V(deletes_data); the same
        goes for an index or key and V(drops_index). The declaration has to be all of the schema - what another task or program
        has made there goes too.
    type: bool
    default: false
  allow:
    description:
      - Hazards that this run may take. A plan with another one changes nothing and fails, with each statement and its hazard.
        A change may need several. Each one that is allowed holds for all of the run, so look at the plan in check mode first.
      - V(deletes_data) - a table or column is dropped, or a type is changed to one that does not hold every value of the old,
        such as V(varchar(200\)) to V(varchar(100\)) or V(text) to V(bigint), or a serial becomes a plain number and its sequence goes.
        Values that would be lost by a change of type are refused all the same.
      - V(rewrites_table) - every row is written anew while nobody reads or writes the table, as for V(integer) to V(bigint), a new
        generated column, or a new column whose default differs from row to row.
      - V(blocks_writes) - all rows are read while nobody writes to the table, or nobody reads it either where PostgreSQL's
        ALTER TABLE wants it so, as for a key on a partitioned table, an exclusion constraint, or a type that a check names.
      - V(drops_index) - an index or key goes that is not replaced.
      - What hangs on an object that is dropped and made anew - comments, grants, triggers, rules and defaults of a view, the comment, CLUSTER
        and replica identity of an index or key - comes back. What cannot come back is named, and the run refused, whatever is allowed.
      - Needs no hazard - a new table, a new column that is empty or has a constant default, an index, key, foreign key, check or
        NOT NULL on an ordinary table, a rename, a wider V(varchar) or V(numeric), a comment, an owner, a view.
    type: list
    elements: str
    choices: [deletes_data, rewrites_table, blocks_writes, drops_index]
    default: []
  lock_timeout:
    description:
      - How long a transaction waits for its locks, all together, before it gives up and tries again. With a unit as in
        C(postgresql.conf) (V(500ms), V(3s), V(1min)); a bare number is milliseconds.
    type: str
    default: 3s
  lock_retries:
    description:
      - How often it tries again, with a pause that grows from a quarter of a second to five, jitter included. With the defaults a
        run that gets no lock fails after about a minute, and that transaction has changed nothing.
    type: int
    default: 10
  statement_timeout:
    description:
      - Longest time for one statement, builds of indexes and validations of constraints among them; V(0) for no limit. Units as in
        O(lock_timeout).
    type: str
    default: '0'
  record:
    description:
      - File on the host in which what is declared is kept, without passwords and for root only, so that M(crm.platform.health_check)
        can tell what was changed since. Left out, it is kept nowhere. Its directory has to be there.
    type: path
extends_documentation_fragment:
  - crm.platform.postgres
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details:
      - Takes no lock above C(ACCESS SHARE) on any live object, waits for nobody, and leaves nothing behind. The scratch schema in which
        PostgreSQL reads the declaration is in a transaction that is rolled back.
  diff_mode:
    support: full
  platform:
    platforms: posix
notes:
  - The role that the module acts as needs C(CREATE) on the database for the scratch schema, and has to own, or be a member of the
    owner of, the tables that it changes.
  - Names in expressions, queries and types are looked up in C(pg_catalog), in O(schema), then in C(public).
  - A refused plan fails with a line such as C(One step of the plan is not allowed, and nothing was changed - ALTER TABLE
    "customer"."customer" DROP COLUMN "fax" -- column customer.customer.fax, it is not declared; deletes_data, what it removes is gone.
    Add deletes_data to allow to have it done). The whole RV(plan) is in the result then too.
seealso:
  - module: crm.platform.customer_grants
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Have the customers' table
  crm.platform.customer_schema:
    login_db: crm
    owner: crm
    tables:
      - name: customer
        columns:
          - {name: id, type: bigint, identity: always}
          - {name: name, type: text, nullable: false}
          - {name: phone, type: text}
          - {name: email, type: text}
          - {name: address, type: text}
        primary_key: [id]
        indexes:
          - {name: idx_customer_name, columns: [name]}
          - {name: idx_customer_email, columns: [lower(email)], unique: true, where: email IS NOT NULL}
  become: true
  become_user: postgres

# The column email and both indexes, which are not declared here, stay as they are.
- name: Add a field, a table of visits and a type with fixed values, and rename a column without losing its values
  crm.platform.customer_schema:
    login_db: crm
    owner: crm
    enums:
      - {name: kind_of_visit, values: [call, meeting, fair]}
    tables:
      - name: customer
        columns:
          - {name: id, type: bigint, identity: always}
          - {name: name, type: text, nullable: false}
          - {name: telephone, type: text, renamed_from: phone}
          - {name: segment, type: text, nullable: false, default: "'private'"}
        primary_key: [id]
      - name: visit
        columns:
          - {name: id, type: bigint, identity: always}
          - {name: customer, type: bigint, nullable: false}
          - {name: kind, type: kind_of_visit, nullable: false}
          - {name: at, type: timestamptz, nullable: false, default: now()}
        primary_key: [id]
        foreign_keys:
          - {columns: [customer], references: {table: customer}, on_delete: cascade}
        indexes:
          - {name: idx_visit_customer, columns: [customer, at DESC]}
  become: true
  become_user: postgres

- name: Look at the plan first
  crm.platform.customer_schema:
    login_db: crm
    schema: sales
    definition: "{{ lookup('ansible.builtin.file', 'sales.sql') }}"
    purge: true
  become: true
  become_user: postgres
  check_mode: true
  ignore_errors: true  # a plan with a hazard fails, and is in the result
  register: sales

# The declaration has to be all of the schema: with purge, every table and column that it lacks goes.
# Give allow for this one run, such as with --extra-vars '{"sales_allow": ["deletes_data"]}', and not for ever.
- name: Drop the columns and tables that are not declared any more
  crm.platform.customer_schema:
    login_db: crm
    schema: sales
    definition: "{{ lookup('ansible.builtin.file', 'sales.sql') }}"
    purge: true
    allow: "{{ sales_allow | default([]) }}"
  become: true
  become_user: postgres

- name: Keep one room from being booked twice at a time, and show a reader of the view no row that the tables would not
  crm.platform.customer_schema:
    login_db: crm
    owner: crm
    tables:
      - name: booking
        columns:
          - {name: id, type: bigint, identity: always, identity_start: 1000}
          - {name: room, type: int4range, nullable: false}
          - {name: during, type: tstzrange, nullable: false}
        primary_key: [id]
        exclusions:
          - {name: booking_once, elements: [room WITH &&, during WITH &&]}
    views:
      - name: booking_now
        query: SELECT id, room FROM booking WHERE during @> now()
        security_invoker: true
  become: true
  become_user: postgres

- name: Drop one table, and leave alone what else is not declared
  crm.platform.customer_schema:
    login_db: crm
    tables:
      - {name: old_customer, state: absent}
    allow: [deletes_data]
  become: true
  become_user: postgres

- name: A table in partitions, one for each year; the key holds the column that they are parted by
  crm.platform.customer_schema:
    login_host: db.example.com
    login_db: crm
    login_user: deployer
    login_password: "{{ vault_deployer_password }}"
    ssl_mode: verify-full
    ca_cert: /etc/ssl/certs/db.example.com.pem
    tables:
      - name: event
        columns:
          - {name: id, type: bigint, identity: always}
          - {name: at, type: timestamptz, nullable: false}
          - {name: amount, type: "numeric(12,2)"}
        primary_key: [id, at]
        partition_by: RANGE (at)
"""

RETURN = r"""
plan:
  description: The steps in their order, as check mode shows them and a run executes them.
  returned: always, and when the plan holds a hazard that is not allowed
  type: list
  elements: dict
  contains:
    sql:
      description: The statement.
      type: str
    reason:
      description: Why it is needed.
      type: str
    object:
      description: What it changes.
      type: str
    hazards:
      description: The entries that O(allow) needs for it.
      type: list
      elements: str
    transactional:
      description:
        - Whether it runs in a transaction. What can is in one, before the indexes that are built concurrently, and in a second one
          after them for what needs these; each validation has its own.
      type: bool
  sample:
    - sql: CREATE INDEX CONCURRENTLY "idx_customer_name" ON "customer"."customer" USING "btree" ("name")
      reason: it is missing
      object: index customer.idx_customer_name
      hazards: []
      transactional: false
queries:
  description: The statements that were executed, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ['CREATE INDEX CONCURRENTLY "idx_customer_name" ON "customer"."customer" USING "btree" ("name")']
undeclared:
  description: What is there and not declared, and stays.
  returned: always, and when the plan holds a hazard that is not allowed
  type: list
  elements: str
  sample: [column customer.customer.fax, table customer.old_customer]
hazards:
  description: The steps that are not allowed, each with its object, reason, hazard and cure.
  returned: when the plan holds a hazard that is not allowed
  type: list
  elements: str
  sample:
    - 'ALTER TABLE "customer"."customer" DROP COLUMN "fax" -- column customer.customer.fax: it is not declared; deletes_data: what it
      removes is gone. Add deletes_data to allow to have it done'
"""

from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.schema import apply, converge, declare, options, steps


class Module(postgres.Declared):
    """Names the option and object where Ansible's own words for a string instead of a list would not."""

    def fail_json(self, msg, **kwargs):
        try:
            declare.check_lists(self.declared)
        except declare.DeclarationError as error:
            msg = str(error)
        super().fail_json(msg, **kwargs)


def settle(module):
    """The options as the model, before anything is asked of the server."""
    declare.check_lists(module.declared)
    name, owner, definition = module.params["schema"], module.params["owner"] or "", module.params["definition"] or ""
    declared = declare.schema(name, owner, {} if definition else module.params)
    return declared, name, owner, definition, apply.patience(module.params)


def main():
    module = Module(
        argument_spec=options.argument_spec(),
        mutually_exclusive=[("definition", "tables"), ("definition", "enums"), ("definition", "views")],
        required_one_of=[("tables", "definition", "enums", "views")],
        supports_check_mode=True,
    )
    try:
        declared, name, owner, definition, patience = settle(module)
    except declare.DeclarationError as error:
        module.fail_json(msg=str(error))
    session = postgres.connect(module)
    worker = converge.Converger(
        session, None if definition else declared, definition, name, owner, module.params["purge"], module.params["allow"], patience
    )
    try:
        outcome = worker.run(module.check_mode)
    except converge.Hazardous as error:
        module.fail_json(
            msg=f"{converge.counted(error.lines)} not allowed, and nothing was changed: {'; '.join(error.lines)}",
            hazards=error.lines,
            plan=[step.shown() for step in error.plan.steps],
            undeclared=error.plan.undeclared,
        )
    except apply.ApplyError as error:
        module.fail_json(msg=str(error), queries=error.done, changed=bool(error.done))
    except (declare.DeclarationError, steps.PlanError, postgres.PostgresError) as error:
        module.fail_json(msg=str(error))
    except postgres.DatabaseError as error:
        module.fail_json(msg=f"reading the schema {name}: {postgres.one_line(error)}; nothing was changed, run again")
    finally:
        session.close()
    for warning in outcome.warnings:
        module.warn(warning)
    recorded = postgres.record(module)
    done = [step for step in outcome.plan.steps if not step.guard]
    module.exit_json(
        changed=bool(done) or recorded,
        plan=[step.shown() for step in outcome.plan.steps],
        queries=[step.sql for step in done],
        undeclared=outcome.plan.undeclared,
        diff={"before": outcome.before, "after": outcome.after, "before_header": f"schema {name}", "after_header": f"schema {name}"},
    )


if __name__ == "__main__":
    main()
