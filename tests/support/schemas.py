# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run customer_schema's Converger in this process, and look at a schema with queries of our own."""

from __future__ import annotations

import re
import typing as t

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.schema import apply, converge, declare
from ansible_collections.crm.platform.plugins.module_utils.schema import options as module_options

# The whole definition of a schema, one line for each part, as PostgreSQL's own functions print it. Not how the module reads it.
_DESCRIPTION = """
WITH rel AS (
  SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s
)
SELECT format('schema owned by %%s', pg_get_userbyid(nspowner)) FROM pg_namespace WHERE nspname = %(schema)s
UNION ALL
SELECT format('%%s %%I owned by %%s, %%s %%s%%s%%s', CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'parted table' ELSE relkind::text END, relname,
              pg_get_userbyid(relowner), relpersistence, reloptions, CASE WHEN relkind = 'p' THEN ' BY ' || pg_get_partkeydef(oid) END,
              CASE WHEN relispartition THEN ' OF ' || (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = rel.oid)
                   || ' ' || pg_get_expr(relpartbound, oid) END)
  FROM rel WHERE relkind IN ('r', 'p', 'm', 'f')
UNION ALL
SELECT format('view %%I owned by %%s %%s AS %%s', relname, pg_get_userbyid(relowner), reloptions, pg_get_viewdef(oid)) FROM rel WHERE relkind = 'v'
UNION ALL
SELECT format('column %%I.%%I %%s%%s%%s%%s%%s%%s', rel.relname, attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ' NOT NULL' END,
              CASE WHEN a.attcollation <> y.typcollation THEN ' COLLATE ' || o.collname END,
              CASE WHEN attidentity <> '' THEN ' IDENTITY ' || attidentity::text END, CASE WHEN attgenerated <> '' THEN ' GENERATED ' END,
              ' DEFAULT ' || pg_get_expr(adbin, adrelid))
  FROM rel JOIN pg_attribute a ON attrelid = rel.oid JOIN pg_type y ON y.oid = atttypid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  LEFT JOIN pg_collation o ON o.oid = a.attcollation
 WHERE relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT format('constraint %%I.%%I %%s', rel.relname, conname, pg_get_constraintdef(k.oid)) FROM rel JOIN pg_constraint k ON conrelid = rel.oid
 WHERE contype <> 'n'
UNION ALL
SELECT format('index %%s%%s', pg_get_indexdef(indexrelid), CASE WHEN NOT indisvalid OR NOT indisready THEN ' INVALID' END)
  FROM rel JOIN pg_index ON indrelid = rel.oid WHERE relkind IN ('r', 'p')
UNION ALL
SELECT format('enum %%I owned by %%s %%s', typname, pg_get_userbyid(typowner),
  (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = y.oid))
  FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace WHERE n.nspname = %(schema)s AND typtype = 'e'
UNION ALL
SELECT format('comment of %%s: %%s', pg_describe_object(classoid, objoid, objsubid), description) FROM rel JOIN pg_description d ON objoid = rel.oid
 WHERE classoid = 'pg_class'::regclass
UNION ALL
SELECT format('sequence of %%s for %%I.%%I', format_type(q.seqtypid, NULL), t.relname, a.attname)
  FROM rel s JOIN pg_sequence q ON q.seqrelid = s.oid LEFT JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  LEFT JOIN pg_class t ON t.oid = d.refobjid LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
UNION ALL
SELECT format('trigger %%s', pg_get_triggerdef(g.oid)) FROM rel JOIN pg_trigger g ON g.tgrelid = rel.oid WHERE NOT tgisinternal
 ORDER BY 1
"""
# Every row of the catalog that somebody made, with the transaction that wrote it last.
_FINGERPRINT = "\nUNION ALL\n".join(
    f"SELECT '{catalog} ' || {key}::text || ' ' || xmin || ' ' || ctid FROM {catalog} WHERE {oid} >= 16384"
    for catalog, key, oid in (
        ("pg_namespace", "oid", "oid"),
        ("pg_class", "oid || ' ' || relfilenode", "oid"),
        ("pg_attribute", "attrelid || '.' || attnum", "attrelid"),
        ("pg_attrdef", "oid", "oid"),
        ("pg_constraint", "oid", "oid"),
        ("pg_index", "indexrelid", "indexrelid"),
        ("pg_type", "oid", "oid"),
        ("pg_enum", "oid", "oid"),
        ("pg_rewrite", "oid", "oid"),
        ("pg_trigger", "oid", "oid"),
        ("pg_policy", "oid", "oid"),
        ("pg_proc", "oid", "oid"),
        ("pg_sequence", "seqrelid", "seqrelid"),
        ("pg_description", "objoid || '.' || objsubid", "objoid"),
        ("pg_depend", "objid || '.' || objsubid || '.' || refobjid || '.' || refobjsubid", "objid"),
    )
)


class Recorder(postgres.Session):
    """A session that keeps what it was told."""

    def __init__(self, connection) -> None:
        self.ran: list[str] = []
        super().__init__(connection)

    def run(self, sql, values=None) -> None:
        self.ran.append(sql)
        super().run(sql, values)

    def rows(self, sql, values=None) -> list:
        self.ran.append(sql)
        return super().rows(sql, values)


class Run(t.NamedTuple):
    """What one run planned and said, and all that it had executed."""

    steps: list
    undeclared: list
    warnings: list
    before: str
    after: str
    ran: list

    @property
    def sql(self) -> list[str]:
        return [step.sql for step in self.steps]

    @property
    def hazards(self) -> set[str]:
        return {hazard for step in self.steps for hazard in step.hazards}

    @property
    def shown(self) -> list[dict]:
        return [step.shown() for step in self.steps]

    def __str__(self) -> str:
        lines = [f"{step.sql} -- {step.object}: {step.reason} {' '.join(step.hazards)}" for step in self.steps]
        return "\n".join([*lines, *(f"undeclared {name}" for name in self.undeclared), *(f"warning: {text}" for text in self.warnings)])


def options(desired: str | dict) -> dict:
    """Options of the module, from YAML or a dictionary, as Ansible would hand them over."""
    given = yaml.safe_load(desired) if isinstance(desired, str) else desired
    declare.check_lists(given)
    validated = ArgumentSpecValidator(module_options.argument_spec()).validate({"login_db": "unused", **given})
    if validated.error_messages:
        raise declare.DeclarationError("; ".join(validated.error_messages))
    return validated.validated_parameters


def converger(session, desired: str | dict, allow: t.Collection[str] = ()) -> converge.Converger:
    chosen = options(desired)
    name, owner, definition = chosen["schema"], chosen["owner"] or "", chosen["definition"] or ""
    patience = apply.patience(chosen)
    declared = declare.schema(name, owner, {} if definition else chosen)
    return converge.Converger(
        session, None if definition else declared, definition, name, owner, chosen["purge"], [*allow, *chosen["allow"]], patience
    )


def run(connection, desired: str | dict, check: bool = False, allow: t.Collection[str] = (), keep: bool = False) -> Run:
    """One run of the module; the connection is closed, or made as new where it is kept."""
    session = Recorder(connection)
    try:
        outcome = converger(session, desired, allow).run(check)
    finally:
        if keep:
            ask(connection, "DISCARD ALL")
        else:
            session.close()
    return Run(outcome.plan.steps, outcome.plan.undeclared, outcome.warnings, outcome.before, outcome.after, session.ran)


def ask(connection, sql: str, values: t.Any = None) -> list:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def describe(connection, schema: str = "customer") -> list[str]:
    """Every object of the schema; columns in no order, and the names of sequences left out, since they are PostgreSQL's choice."""
    ask(connection, f"SET search_path TO {postgres.identifier(schema)}, public")
    lines = [row[0] for row in ask(connection, _DESCRIPTION, {"schema": schema})]
    return sorted(re.sub(r"nextval\('.*?'::regclass\)", "nextval", line) for line in lines)


def fingerprint(connection) -> set[str]:
    """Changes with any write to the catalog, also one that changes nothing."""
    return {row[0] for row in ask(connection, _FINGERPRINT)}


def rows(connection, schema: str = "customer") -> dict[str, dict[str, list]]:
    """Table -> column -> its values as text, in the order of the table's rows as text: what has to survive."""
    found: dict[str, dict[str, list]] = {}
    for oid, table in ask(
        connection,
        "SELECT c.oid, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
        [schema],
    ):
        columns = [
            row[0] for row in ask(connection, "SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped", [oid])
        ]
        found[table] = {
            column: [row[0] for row in ask(connection, f"SELECT {postgres.identifier(column)}::text FROM {postgres.identifier(schema, table)}")]
            for column in columns
        }
    return found


def clean(connection) -> None:
    """Remove every schema but an empty public."""
    for (name,) in ask(connection, "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"):
        ask(connection, f"DROP SCHEMA {postgres.identifier(name)} CASCADE")
    ask(connection, "CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC")
