#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: customer_grants
short_description: Say who may see which customer data, and have it exactly so
version_added: 0.1.0
description:
  - States the access model of a database in one task, roles, memberships, privileges, default privileges, owners and row security,
    and makes a live PostgreSQL match it. It can print who can do what, and through whom.
  - No privilege, membership or policy is taken away because it is not declared, unless O(manage) says where the declaration is the
    whole truth. Inside of these bounds whatever is not declared is revoked, privileges of PUBLIC and on single columns included, except
    what RV(beyond) lists; outside of them it stays.
  - B(To revoke one privilege) or drop one policy, put the schema, database or role into O(manage), and declare everything there that is
    to stay. There is no option to take a single thing; see the second example.
  - The plan is made first, from a number of catalog queries that does not grow with the tables. Check mode shows the very
    statements that a run executes, takes no lock above C(ACCESS SHARE), and writes nothing.
  - A run is one connection and one transaction. At its end the catalog is read again, and unless it says what was declared,
    everything is rolled back. A run that is killed has changed nothing.
  - B(The way to begin) with a database that has grown. Declare what you know with O(manage) empty. Then run with
    C(--check) and O(manage) set, and read the plan, each statement has its reason; declare what you find right. Run it.
  - B(What is implied.) The owner of an object has all privileges on it, and inside of the bounds gets them back where they were
    revoked. Privileges on what an extension made are left alone, unless an entry of O(grants) names the object.
    PostgreSQL's own schemas and roles (C(pg_)) are never managed; they may be named in O(roles[].member_of).
  - B(Partitions and views) are tables with privileges of their own. A privilege on a partitioned table is enough to reach the
    rows through it; V(all) tables of a schema include the partitions.
  - B(Passwords) are never sent. The module makes the SCRAM-SHA-256 verifier itself, and compares with the stored one, so that
    an unchanged password is no change. Statements that hold a verifier are kept out of the server's log,
    C(pg_stat_activity) and C(pg_stat_statements) as far as the connecting role may set that; a superuser may.
  - B(Without a superuser) it works with what the connecting role may do. Rights are granted as the owner of an object
    if it is a member of the owner; roles need CREATEROLE, and on PostgreSQL 16 or newer the ADMIN option on each.
    What is missing and cannot be granted fails the task. What is too much and cannot be revoked is told in RV(beyond) and as a warning.
    Stored passwords can be compared if the role may read them (C(GRANT SELECT ON pg_catalog.pg_authid)),
    otherwise a declared password is set, and a change reported, on each run.
options:
  roles:
    description:
      - Roles that have to exist, or must not.
      - What is not given stays as it is, attributes, O(roles[].settings) and O(roles[].member_of). Where O(manage.roles) covers the
        role, what is not given is taken instead. Attributes get the defaults of C(CREATE ROLE), settings and memberships end, and the
        role is no superuser. Comment and password stay even then.
      - Privileges of a role that is declared are only taken inside of O(manage.schemas) and O(manage.databases).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the role, any that PostgreSQL takes. With O(roles[].state=absent) it need not exist.
        type: str
        required: true
      state:
        description:
          - V(absent) drops the role, with all that was granted to it. It must not own anything unless O(roles[].reassign_to) says who takes it.
          - A role that other databases still need stays, without login, and a warning names them. Run the task with O(login_db) set
            to each of them; the last of these runs drops the role.
        type: str
        choices: [present, absent]
        default: present
      comment:
        description: Comment on the role; an empty one removes it.
        type: str
      login:
        description: Whether it may log in.
        type: bool
      password:
        description:
          - Password, or a ready SCRAM-SHA-256 verifier. Where it is not given, the stored one stays.
          - MD5 hashes are refused, and a stored one is replaced.
        type: str
      inherit:
        description: Whether it has the privileges of the roles that it is a member of without C(SET ROLE).
        type: bool
      createdb:
        description: Whether it may create databases.
        type: bool
      createrole:
        description: Whether it may create roles.
        type: bool
      replication:
        description: Whether it may stream the write-ahead log.
        type: bool
      bypassrls:
        description: Whether row security does not bind it.
        type: bool
      connection_limit:
        description: Number of connections at a time; V(-1) for any.
        type: int
      valid_until:
        description: Time when the password ends, such as V(2027-06-30 12:00) or V(2027-06-30 12:00+02), in UTC unless it names a zone,
          or V(infinity).
        type: str
      settings:
        description:
          - Parameters of the server for the sessions of this role, in all databases. Lists of names are written as V(a, b).
          - Exact where O(manage.roles) covers the role; then settings for single databases go too.
        type: dict
      member_of:
        description:
          - Roles that it is a member of, by their names or as dictionaries with C(role), C(admin) (it may add others), and on
            PostgreSQL 16 or newer C(inherit) and C(set).
          - Exact where O(manage.roles) covers the role.
        type: list
        elements: raw
      reassign_to:
        description: With O(roles[].state=absent), the role that takes what it owns, databases included.
        type: str
  grants:
    description:
      - Privileges. Each entry has roles, privileges, and one kind of objects. Several entries on the same object add up.
      - The roles and objects have to exist, or be in O(roles); otherwise the task fails before it changed anything.
    type: list
    elements: dict
    default: []
    suboptions:
      roles:
        description: Who gets them; V(public) is everybody.
        type: list
        elements: str
        required: true
      privileges:
        description:
          - List of privileges that such an object has, or V(all), which follows the server's version.
        type: raw
        required: true
      database:
        description: A database, which may be another than that of the connection.
        type: str
      schema:
        description: The schema of the objects; alone, the schema itself.
        type: str
      tables:
        description: List of tables, views, materialized views and foreign tables of the schema, or V(all).
        type: raw
      columns:
        description: "Columns of tables of the schema, as a dictionary from each table to its list of columns, V({customer: [id, name]})."
        type: dict
      sequences:
        description: List of sequences of the schema, or V(all). Identity columns need none, C(serial) ones need C(USAGE).
        type: raw
      functions:
        description:
          - List of functions, procedures and aggregates of the schema, or V(all). Where there are several of a name, write the types
            of the arguments, V(price(integer, text\)).
        type: raw
      types:
        description: List of types and domains of the schema, or V(all).
        type: raw
      grant_option:
        description: Whether they may hand the privileges on.
        type: bool
        default: false
      future:
        description:
          - Grant them on objects too that are created later, through default privileges. For V(all) objects of a kind.
        type: bool
        default: false
      owners:
        description: The roles whose later objects are meant. Without it, the owner of the schema.
        type: list
        elements: str
        default: []
  ownership:
    description:
      - Who owns what. Sequences of columns follow their tables.
    type: list
    elements: dict
    default: []
    suboptions:
      owner:
        description: The owner.
        type: str
        required: true
      database:
        description: A database.
        type: str
      schema:
        description: The schema of the objects; alone, the schema itself.
        type: str
      tables:
        description: As in O(grants[].tables).
        type: raw
      sequences:
        description: As in O(grants[].sequences).
        type: raw
      functions:
        description: As in O(grants[].functions).
        type: raw
      types:
        description: As in O(grants[].types).
        type: raw
  row_security:
    description:
      - Which rows the roles see. Inside of O(manage.schemas) a policy that is not declared is dropped.
      - Row security of a table that is not listed stays on or off as it is. If it stays on without policies, nobody but the owner sees a
        row; the task warns of that. List the table with V(false) for O(row_security[].enabled) to end it.
    type: list
    elements: dict
    default: []
    suboptions:
      schema:
        description: Schema of the table.
        type: str
        required: true
      table:
        description: The table. A policy holds for access through this name; partitions need their own.
        type: str
        required: true
      enabled:
        description: Whether row security is on. Then nobody sees a row that no policy shows, but for the owner (unless
          O(row_security[].forced)), roles with O(roles[].bypassrls), and superusers.
        type: bool
        default: true
      forced:
        description: Whether it binds the owner as well.
        type: bool
        default: false
      policies:
        description: The policies.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the policy.
            type: str
            required: true
          command:
            description: The command that it is for.
            type: str
            choices: [all, select, insert, update, delete]
            default: all
          roles:
            description: The roles that it is for.
            type: list
            elements: str
            default: [public]
          using:
            description:
              - Condition on the rows that may be seen, changed or deleted, in SQL. Names are looked up in C(pg_catalog) and the table's
                schema only; name others with their schema. Compared as PostgreSQL understands it, so that its words may differ.
              - Do not let it depend on a parameter (C(current_setting)) that the session can set by itself.
            type: str
          check:
            description: Condition on the rows that may be written. Without it, O(row_security[].policies[].using) holds for them too.
            type: str
          permissive:
            description: Whether it adds rows to those of other policies, or as V(false) narrows them.
            type: bool
            default: true
  manage:
    description:
      - The bounds inside of which the declaration is the whole truth. Names may hold C(*) and C(?), and one with C(!) before it is taken
        out again; in YAML such names need quotes. Empty, privileges are added and none is taken.
    type: dict
    default: {}
    suboptions:
      schemas:
        description: Schemas of the database, with all tables, columns, sequences, functions, types, policies and default privileges in them.
        type: list
        elements: str
        default: []
      databases:
        description:
          - Databases, that is who may connect, create schemas and temporary tables.
          - If the connection's own database is among them, default privileges that hold for all schemas are managed too. PostgreSQL lets
            PUBLIC execute each function, and use each type, that is made later. This is taken from PUBLIC for what the roles named in
            O(grants[].owners) make.
        type: list
        elements: str
        default: []
      roles:
        description:
          - Roles, with their attributes, settings and memberships. One that is not declared in O(roles) loses its login, its memberships
            and all that was granted to it in this database, in schemas outside of O(manage.schemas) too; it is not dropped.
          - A role that is taken out with C(!) keeps its attributes, settings and memberships. What it has in O(manage.schemas) and
            O(manage.databases) has to be declared all the same.
        type: list
        elements: str
        default: []
  report:
    description:
      - Return RV(access). This is no check mode by itself - the task still grants, and inside of O(manage) revokes, what differs. Set
        C(check_mode=true) on the task to only look.
    type: bool
    default: false
  lock_timeout:
    description:
      - How long a statement waits for a lock. Only those on row security and owners take one on a table. With a unit (V(500ms), V(3s));
        a bare number is milliseconds.
    type: str
    default: 3s
  lock_retries:
    description: How often the whole transaction is tried again when a lock was not to be had or somebody else changed the same privileges.
    type: int
    default: 10
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
  diff_mode:
    support: full
  platform:
    platforms: posix
notes:
  - It refuses to take the login, the superuser or the privileges from the role that it connects as, and the login from the owner of
    a schema that it manages, and never takes the last superuser.
  - Of two runs on the same database the second waits for the first.
  - PostgreSQL 13 has no C(pg_read_all_data); grant what it would give one by one there.
seealso:
  - module: crm.platform.customer_schema
  - name: Privileges in PostgreSQL
    description: What each privilege allows.
    link: https://www.postgresql.org/docs/current/ddl-priv.html
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Who may see customers
  crm.platform.customer_grants:
    login_db: shop
    roles:
      - {name: shop_readers, comment: may read customers}
      - name: shop_support
        login: true
        password: "{{ vault_shop_support_password }}"
        connection_limit: 20
        settings: {statement_timeout: 30s}
      # One role for each region, to be a member of. A session cannot choose another one by itself, as it could a parameter.
      - {name: shop_region_north}
      - {name: shop_ann, login: true, member_of: [shop_support, shop_region_north]}
      - name: shop_analyst
        login: true
        member_of: [shop_readers]
        settings: {default_transaction_read_only: true}
      - {name: intern_2023, state: absent, reassign_to: shop}
    grants:
      - {roles: [shop_readers, shop_support], privileges: [CONNECT], database: shop}
      - {roles: [shop_readers, shop_support], privileges: [USAGE], schema: customer}
      # Tables that the role shop makes later too.
      - {roles: [shop_readers], privileges: [SELECT], schema: customer, tables: all, future: true, owners: [shop]}
      # Support sees no e-mail address and no phone number.
      - {roles: [shop_support], privileges: [SELECT], schema: customer, columns: {customer: [id, name, region]}}
    row_security:
      - schema: customer
        table: customer
        policies:
          - {name: readers, command: select, roles: [shop_readers], using: "true"}
          - name: own_regions
            command: select
            roles: [shop_support]
            using: >-
              region IN (SELECT substr(r.rolname::text, 13) FROM pg_roles r
              WHERE starts_with(r.rolname::text, 'shop_region_') AND pg_has_role(r.oid, 'USAGE'))
    manage:
      schemas: [customer]
      databases: [shop]
      roles: ['shop_*', '!shop_migration']
  become: true
  become_user: postgres

# What somebody else was granted on customer.customer, such as DELETE, and what PUBLIC has there, is revoked. So are all other
# privileges and policies in the schema that are not in this task: it has to hold all that is to stay.
- name: Readers only read, and nobody else does anything in this schema
  crm.platform.customer_grants:
    login_db: shop
    grants:
      - {roles: [shop_readers], privileges: [USAGE], schema: customer}
      - {roles: [shop_readers], privileges: [SELECT], schema: customer, tables: [customer]}
    manage: {schemas: [customer]}
  become: true
  become_user: postgres

- name: What would a run change, and who can do what now
  crm.platform.customer_grants:
    login_db: shop
    grants: "{{ shop_grants }}"
    manage: {schemas: [customer]}
    report: true
  become: true
  become_user: postgres
  check_mode: true
  register: access

- name: Let one role own the schema and all of its tables and functions
  crm.platform.customer_grants:
    login_db: shop
    ownership:
      - {owner: shop, schema: customer}
      - {owner: shop, schema: customer, tables: all}
      - {owner: shop, schema: customer, functions: all}
  become: true
  become_user: postgres

- name: A managed server, where we are no superuser
  crm.platform.customer_grants:
    login_host: db.example.com
    login_db: shop
    login_user: deployer
    login_password: "{{ vault_deployer_password }}"
    ssl_mode: verify-full
    ca_cert: /etc/ssl/certs/db.example.com.pem
    session_role: shop
    grants:
      - {roles: [shop_analyst], privileges: [SELECT], schema: customer, tables: all}
"""

RETURN = r"""
plan:
  description: The statements in their order, as check mode shows them and a run executes them. A password's verifier is hidden.
  returned: always
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
      description: What else the statement takes along, in words. Nothing has to be allowed for it here.
      returned: where there is something
      type: list
      elements: str
  sample:
    - sql: REVOKE SELECT ON TABLE "customer"."customer" FROM PUBLIC
      reason: 'not declared: SELECT of PUBLIC'
      object: table customer.customer
queries:
  description: The statements that were executed, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ['REVOKE SELECT ON TABLE "customer"."customer" FROM PUBLIC']
beyond:
  description: What is there, not declared, inside of O(manage), and not the connecting role's to change; with the cure.
  returned: always
  type: list
  elements: str
access:
  description:
    - Who can do what, on the objects that are declared or managed. After a run it is what holds then, in check mode what holds now.
  returned: when O(report) is true
  type: list
  elements: dict
  contains:
    role:
      description: The role, or V(public).
      type: str
    kind:
      description: What the object is; V(column) where only some columns are meant.
      type: str
    object:
      description: The object, with its schema.
      type: str
    columns:
      description: The columns, empty for the whole object.
      type: list
      elements: str
    privileges:
      description: What it can do.
      type: list
      elements: str
    grantable:
      description: What of that it can hand on.
      type: list
      elements: str
    through:
      description: How it comes to that, V(itself), V(member of a > b), V(PUBLIC), V(owner), V(superuser).
      type: list
      elements: str
    rows:
      description: For tables, V(all), or the names of the policies that decide. Where none does, the list is empty and no row is seen.
      type: raw
  sample:
    - role: crm_analyst
      kind: table
      object: customer.customer
      columns: []
      privileges: [SELECT]
      grantable: []
      through: [member of crm_readers]
      rows: [readers]
"""

from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.grants import apply, declare, options
from ansible_collections.crm.platform.plugins.module_utils.grants.model import AccessError


def main():
    module = postgres.Declared(argument_spec=options.argument_spec(), supports_check_mode=True)
    try:
        options.check_lists(module.declared)
        declared = declare.declared(module.params)
        timeout, retries = options.patience(module.params)
    except AccessError as error:
        module.fail_json(msg=str(error))
    session = postgres.connect(module)
    try:
        outcome = apply.run(session, declared, module.check_mode, module.params["report"], timeout, retries)
    except apply.Failed as error:
        module.fail_json(msg=str(error), plan=[step.shown() for step in error.steps])
    except (AccessError, postgres.PostgresError) as error:
        module.fail_json(msg=str(error))
    except postgres.DatabaseError as error:
        module.fail_json(msg=f"{postgres.one_line(error)}; nothing was changed, run again when the server answers")
    finally:
        session.close()
    for warning in outcome.plan.warnings:
        module.warn(warning)
    recorded = postgres.record(module)
    plan = [step.shown() for step in outcome.plan.steps]
    result = {"access": outcome.access} if module.params["report"] else {}
    module.exit_json(
        changed=bool(plan) or recorded,
        plan=plan,
        queries=[step["sql"] for step in plan],
        beyond=outcome.plan.beyond,
        diff={"prepared": "".join(f"{step['object']}: {step['reason']}\n+ {step['sql']}\n" for step in plan)},
        **result,
    )


if __name__ == "__main__":
    main()
