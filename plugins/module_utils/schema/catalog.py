# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a schema from PostgreSQL's catalog into the model, in a number of queries that does not grow with it.

Nothing here takes a lock above ACCESS SHARE. The search path decides how names
print, so that a schema and its scratch copy read alike when each is first in it.
https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

import hashlib
import typing as t

from . import lexer, model

TABLES = ("r", "p")
KINDS = {"m": "materialized view", "f": "foreign table", "S": "sequence"}
_ACTIONS = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}
_IDENTITY = {"a": model.ALWAYS, "d": model.BY_DEFAULT}

_SCHEMA = """
SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = %(schema)s
"""
_RELATIONS = """
SELECT c.oid, c.relname, c.relkind::text AS kind, c.relpersistence::text AS persistence, r.rolname AS owner, d.description,
       c.reloptions AS options, CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_by,
       CASE WHEN c.relispartition THEN p.relname END AS parent,
       CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END AS bound,
       CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END AS query,
       CASE c.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing' WHEN 'i' THEN
         (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident)
         ELSE 'default' END AS replica_identity
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles r ON r.oid = c.relowner
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
  LEFT JOIN pg_class p ON p.oid = i.inhparent
  LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0
 WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.objsubid = 0
                      AND (e.deptype = 'e' OR c.relkind = 'S' AND e.deptype IN ('a', 'i')))
 ORDER BY c.relname
"""
_COLUMNS = """
SELECT a.attrelid AS relation, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       pg_get_expr(f.adbin, f.adrelid) AS expression, a.attidentity::text AS identity, a.attgenerated::text AS generated,
       CASE WHEN a.attcollation <> y.typcollation THEN o.collname END AS collation, d.description,
       (SELECT s.relname FROM pg_depend e JOIN pg_class s ON s.oid = e.objid AND s.relkind = 'S' AND s.relnamespace = c.relnamespace
          JOIN pg_depend u ON u.classid = 'pg_attrdef'::regclass AND u.objid = f.oid AND u.refclassid = 'pg_class'::regclass AND u.refobjid = s.oid
         WHERE e.classid = 'pg_class'::regclass AND e.refclassid = 'pg_class'::regclass
           AND e.refobjid = a.attrelid AND e.refobjsubid = a.attnum AND e.deptype = 'a' LIMIT 1) AS owned_sequence,
       q.seqstart AS start, q.seqincrement AS increment
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_type y ON y.oid = a.atttypid
  LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
  LEFT JOIN pg_depend v ON a.attidentity <> '' AND v.classid = 'pg_class'::regclass AND v.refclassid = 'pg_class'::regclass
        AND v.refobjid = a.attrelid AND v.refobjsubid = a.attnum AND v.deptype = 'i'
  LEFT JOIN pg_sequence q ON q.seqrelid = v.objid
  LEFT JOIN pg_collation o ON o.oid = a.attcollation
  LEFT JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = a.attrelid AND d.objsubid = a.attnum
 WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
"""
_CONSTRAINTS = """
SELECT k.conrelid AS relation, k.conname AS name, k.contype::text AS kind, k.convalidated AS validated, k.condeferrable AS deferrable,
       k.condeferred AS deferred, k.connoinherit AS no_inherit, k.confdeltype::text AS on_delete, k.confupdtype::text AS on_update,
       k.confmatchtype = 'f' AS match_full, tn.nspname AS target_schema, t.relname AS target_table,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(number, place)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(number, place)
               JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place) AS target_columns,
       pg_get_expr(k.conbin, k.conrelid) AS expression,
       CASE WHEN k.contype = 'x' THEN pg_get_constraintdef(k.oid) END AS text, {nulls_not_distinct} AS nulls_not_distinct,
       ARRAY(SELECT a.attname::text FROM unnest(x.indkey) WITH ORDINALITY u(number, place)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number WHERE u.place > x.indnkeyatts ORDER BY u.place) AS include,
       ARRAY(SELECT a.attname::text FROM unnest({set_columns}) WITH ORDINALITY u(number, place)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place) AS delete_columns
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class t ON t.oid = k.confrelid
  LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
  LEFT JOIN pg_index x ON x.indexrelid = k.conindid AND k.contype IN ('p', 'u')
 WHERE n.nspname = %(schema)s AND k.contype IN ('p', 'u', 'f', 'c', 'x') AND k.conparentid = 0 AND k.conislocal
 ORDER BY k.conrelid, k.conname
"""
_INDEXES = """
SELECT i.indrelid AS relation, x.relname AS name, i.indisunique AS is_unique, i.indisvalid AS valid, m.amname AS method,
       pg_get_indexdef(i.indexrelid) AS definition, {nulls_not_distinct} AS nulls_not_distinct, x.reloptions AS options,
       i.indnkeyatts AS number_of_keys,
       ARRAY(SELECT a.attname::text FROM pg_depend e
               JOIN pg_attribute a ON a.attrelid = e.refobjid AND a.attnum = e.refobjsubid
              WHERE e.classid = 'pg_class'::regclass AND e.objid = i.indexrelid AND e.refclassid = 'pg_class'::regclass
                AND e.refobjid = i.indrelid AND e.refobjsubid > 0 ORDER BY 1) AS columns
  FROM pg_index i
  JOIN pg_class x ON x.oid = i.indexrelid
  JOIN pg_am m ON m.oid = x.relam
  JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p') AND NOT x.relispartition
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x') AND k.conrelid = i.indrelid)
 ORDER BY i.indrelid, x.relname
"""
_ENUMS = """
SELECT y.typname AS name, r.rolname AS owner, ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = y.oid ORDER BY e.enumsortorder) AS labels
  FROM pg_type y
  JOIN pg_namespace n ON n.oid = y.typnamespace
  JOIN pg_roles r ON r.oid = y.typowner
 WHERE n.nspname = %(schema)s AND y.typtype = 'e'
 ORDER BY y.typname
"""


_NAMES = """
SELECT 'relation' AS room, c.relname AS name,
       CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
         WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' ELSE 'index' END || ' ' || n.nspname || '.' || c.relname
       || coalesce(' of ' || (SELECT t.relname FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid WHERE i.indexrelid = c.oid), '') AS what
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s AND c.relkind <> 't'
 UNION ALL
SELECT 'type', y.typname, coalesce((SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'c' THEN 'type' ELSE 'table' END FROM pg_class c WHERE c.oid = y.typrelid),
                                  CASE y.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' ELSE 'type' END) || ' ' || n.nspname || '.' || y.typname
  FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
 -- PostgreSQL moves the array types that it has made itself out of the way.
 WHERE n.nspname = %(schema)s AND NOT (y.typelem <> 0 AND EXISTS (SELECT FROM pg_type e WHERE e.oid = y.typelem AND e.typarray = y.oid))
"""


class Reading(t.NamedTuple):
    """``marks``: (kind, name) -> a short text that changes when the object does; ``names``: (room, name) -> what has it, see steps.RELATION."""

    schema: model.Schema
    marks: dict
    oids: dict
    names: dict = {}


def read(session, schema: str) -> Reading:
    """The schema as it is live. The caller has opened a transaction and set the search path."""
    distinct = "coalesce({}.indnullsnotdistinct, false)" if session.version >= 15 else "false"
    values = {"schema": schema}
    owner = session.value(_SCHEMA, values)
    if owner is None:
        return Reading(model.Schema(schema, exists=False), {}, {})
    relations = session.rows(_RELATIONS, values)
    columns = _by_relation(session.rows(_COLUMNS, values))
    set_columns = "k.confdelsetcols" if session.version >= 15 else "NULL::int2[]"
    constraints = _by_relation(session.rows(_CONSTRAINTS.format(nulls_not_distinct=distinct.format("x"), set_columns=set_columns), values))
    indexes = _by_relation(session.rows(_INDEXES.format(nulls_not_distinct=distinct.format("i")), values))
    enums = {row.name: model.Enum(row.name, tuple(row.labels), row.owner) for row in session.rows(_ENUMS, values)}
    marks = {("enum", name): _mark(tuple(enum.values)) for name, enum in enums.items()}
    tables, views, others, oids = {}, {}, {}, {}
    for row in relations:
        oids[row.relname] = row.oid
        parts = (columns.get(row.oid, ()), constraints.get(row.oid, ()), indexes.get(row.oid, ()))
        if row.kind in TABLES:
            tables[row.relname] = _table(row, *parts)
            marks["table", row.relname] = _mark((row[2:4], row[5:11], row.replica_identity, *(tuple(part[1:] for part in rows) for rows in parts)))
        elif row.kind == "v":
            views[row.relname] = _view(row, parts[0])
            marks["view", row.relname] = _mark((row.query, row.description, row.options, tuple(part[1:3] for part in parts[0])))
        else:
            others[row.relname] = KINDS[row.kind]
    found = model.Schema(schema, owner=owner, tables=tables, enums=enums, views=views, others=others)
    return Reading(found, marks, oids)


def names(session, schema: str) -> dict:
    """What has which name; only of a live schema is it asked."""
    return {(row.room, row.name): row.what for row in session.rows(_NAMES, {"schema": schema})}


def _by_relation(rows: list) -> dict:
    grouped: dict = {}
    for row in rows:
        grouped.setdefault(row.relation, []).append(row)
    return grouped


def _mark(value: t.Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:32]


def _table(row, columns, constraints, indexes) -> model.Table:
    return model.Table(
        name=row.relname,
        columns={column.name: _column(column) for column in columns},
        constraints={constraint.name: _constraint(constraint) for constraint in constraints},
        indexes={index.name: _index(index) for index in indexes},
        partition_by=row.partition_by or "",
        partition_of=row.parent or "",
        bound=row.bound or "",
        comment=row.description,
        owner=row.owner,
        unlogged=row.persistence == "u",
        replica_identity=row.replica_identity or "default",
    )


def _column(row) -> model.Column:
    serial = row.owned_sequence if row.owned_sequence and row.expression.startswith("nextval(") else ""
    return model.Column(
        name=row.name,
        type=row.type,
        nullable=not row.not_null,
        default="" if row.generated or serial else row.expression or "",
        identity=_IDENTITY.get(row.identity, ""),
        generated=row.expression if row.generated else "",
        collation=row.collation or "",
        comment=row.description,
        serial=serial,
        serial_default=row.expression if serial else "",
        start=row.start,
        increment=row.increment,
    )


def _constraint(row) -> model.Constraint:
    foreign = row.kind == model.FOREIGN
    return model.Constraint(
        kind=row.kind,
        name=row.name,
        columns=tuple(row.columns) if row.kind in (model.PRIMARY, model.UNIQUE, model.FOREIGN) else (),
        expression=bare(row.expression or "") if row.kind == model.CHECK else "",
        target=(row.target_schema, row.target_table) if foreign else (),
        target_columns=tuple(row.target_columns) if foreign else (),
        on_delete=_ACTIONS[row.on_delete] if foreign else "no action",
        on_update=_ACTIONS[row.on_update] if foreign else "no action",
        match_full=foreign and row.match_full,
        deferrable=row.deferrable,
        deferred=row.deferred,
        no_inherit=row.kind == model.CHECK and row.no_inherit,
        nulls_not_distinct=row.nulls_not_distinct,
        include=tuple(row.include),
        delete_columns=tuple(row.delete_columns),
        validated=row.validated,
        text=row.text or "",
    )


def _index(row) -> model.Index:
    keys, include, where = parts_of_index(row.definition)
    return model.Index(
        name=row.name,
        keys=keys,
        unique=row.is_unique,
        method=row.method,
        where=where,
        include=include,
        storage=tuple(sorted(tuple(option.split("=", 1)) for option in row.options or ())),
        nulls_not_distinct=row.nulls_not_distinct,
        valid=row.valid,
        columns=tuple(row.columns),
    )


def _view(row, columns) -> model.View:
    return model.View(
        name=row.relname,
        query=(row.query or "").strip().rstrip(";"),
        columns=tuple((column.name, column.type) for column in columns),
        owner=row.owner,
        options=tuple(sorted(tuple(option.split("=", 1)) for option in row.options or ())),
        comment=row.description,
    )


def bare(expression: str) -> str:
    """Without one pair of brackets around all of it."""
    text = expression.strip()
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    found = lexer.tokens(text)
    for number, token in enumerate(found):
        depth += (token.text == "(") - (token.text == ")") if token.kind == lexer.SYMBOL else 0
        if depth == 0:
            return text[1:-1].strip() if number == len(found) - 1 else text
    return text


def parts_of_index(definition: str) -> tuple:
    """What pg_get_indexdef printed -> (keys, included columns, predicate)."""
    found = lexer.tokens(definition)
    position = next(number for number, token in enumerate(found) if token.kind == lexer.WORD and token.text == "USING")
    keys, position = _brackets(found, position)
    include: tuple = ()
    where = ""
    while position < len(found):
        token = found[position]
        if token.kind == lexer.WORD and token.text == "INCLUDE":
            included, position = _brackets(found, position)
            include = tuple(_plain(name) for name in included)
        elif token.kind == lexer.WORD and token.text == "WITH":
            dummy, position = _brackets(found, position)
        elif token.kind == lexer.WORD and token.text == "WHERE":
            where = bare("".join(other.text for other in found[position + 1 :]))
            break
        else:
            position += 1
    return keys, include, where


def _brackets(found: list, position: int) -> tuple:
    """The parts of the next pair of brackets, and where it ends."""
    while not (found[position].kind == lexer.SYMBOL and found[position].text == "("):
        position += 1
    start, depth = position + 1, 0
    while True:
        if found[position].kind == lexer.SYMBOL:
            depth += (found[position].text == "(") - (found[position].text == ")")
        if depth == 0:
            break
        position += 1
    inside = "".join(token.text for token in found[start:position])
    return tuple(lexer.split_top(inside)), position + 1


def _plain(quoted: str) -> str:
    return quoted[1:-1].replace('""', '"') if quoted.startswith('"') else quoted
