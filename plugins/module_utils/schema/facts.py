# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan has to know beyond the definitions, asked only where a change needs it.

Whether PostgreSQL rewrites a table is not known by rules of ours: an empty
table of a scratch schema is changed in the same way, and its file looked at.
"""

from __future__ import annotations

import contextlib
import typing as t

from ..postgres import DatabaseError, identifier
from . import lexer, model, scratch, sql
from .steps import helper_name

_VIEWS = """
WITH RECURSIVE shown(view, depth) AS (
  SELECT r.ev_class, 1
    FROM pg_depend d
    JOIN pg_rewrite r ON r.oid = d.objid
   WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class <> d.refobjid
     AND ((d.refobjid, d.refobjsubid) IN (SELECT * FROM unnest(%(relations)s::oid[], %(columns)s::int[])) OR d.refobjid = ANY(%(whole)s::oid[]))
  UNION
  SELECT r.ev_class, s.depth + 1
    FROM shown s
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.view AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND r.ev_class <> s.view
   WHERE s.depth < 100
)
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind, pg_get_viewdef(c.oid) AS query, c.reloptions AS options, o.rolname AS owner,
       obj_description(c.oid, 'pg_class') AS comment,
       ARRAY(SELECT DISTINCT b.relname::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class b ON b.oid = d.refobjid
              WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class = c.oid AND b.oid <> c.oid
                AND d.refobjsubid > 0 ORDER BY 1) AS tables,
       ARRAY(SELECT b.relname || E'\\x01' || a.attname FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class b ON b.oid = d.refobjid
               JOIN pg_attribute a ON a.attrelid = b.oid AND a.attnum = d.refobjsubid
              WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND r.ev_class = c.oid AND b.oid <> c.oid ORDER BY 1) AS shown
  FROM (SELECT view, max(depth) AS depth FROM shown GROUP BY view) s
  JOIN pg_class c ON c.oid = s.view
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles o ON o.oid = c.relowner
 ORDER BY s.depth DESC, c.relname
"""
_USERS = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) AS what, c.relname AS table, coalesce(a.attname, '') AS column
  FROM pg_depend d
  JOIN pg_class c ON c.oid = d.refobjid
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
 WHERE d.refclassid = 'pg_class'::regclass
   AND ((d.refobjid, d.refobjsubid) IN (SELECT * FROM unnest(%(relations)s::oid[], %(columns)s::int[]))
     OR d.refobjid = ANY(%(whole)s::oid[]) AND d.deptype = 'n')
   AND (d.classid IN ('pg_policy'::regclass, 'pg_trigger'::regclass, 'pg_proc'::regclass) AND d.deptype = 'n'
     OR d.classid = 'pg_policy'::regclass AND d.refobjsubid > 0
     OR d.classid = 'pg_trigger'::regclass AND d.refobjsubid > 0 AND NOT (SELECT g.tgisinternal FROM pg_trigger g WHERE g.oid = d.objid)
     OR d.classid = 'pg_publication_rel'::regclass AND d.refobjsubid > 0 AND d.refobjid <> ALL(%(whole)s::oid[])
     OR d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite r JOIN pg_class m ON m.oid = r.ev_class WHERE r.oid = d.objid
          AND m.relkind <> 'v' AND m.oid <> ALL(%(whole)s::oid[]))
     OR d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint k JOIN pg_class f ON f.oid = k.conrelid
          WHERE k.oid = d.objid AND k.contype = 'f' AND f.relnamespace <> c.relnamespace))
 ORDER BY 1
"""
_PARTS = """
WITH RECURSIVE parts(oid, parent, depth) AS (
  SELECT i.inhrelid, i.inhparent, 1 FROM pg_inherits i WHERE i.inhparent = to_regclass(%(table)s)
  UNION ALL
  SELECT i.inhrelid, i.inhparent, p.depth + 1 FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid
)
SELECT n.nspname AS schema, c.relname AS name, c.relkind = 'p' AS parted, m.nspname AS parent_schema, b.relname AS parent, p.depth > 1 AS nested,
       ARRAY(SELECT x.relname || E'\\x01' || i.indisvalid || E'\\x01' || coalesce(y.relname, '')
               FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
               LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid LEFT JOIN pg_class y ON y.oid = h.inhparent
              WHERE i.indrelid = c.oid) AS indexes
  FROM parts p
  JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class b ON b.oid = p.parent JOIN pg_namespace m ON m.oid = b.relnamespace
 ORDER BY p.depth, c.relname
"""
_RIGHTS = """
SELECT coalesce(g.rolname, '') AS grantee, e.privilege_type AS privilege, e.is_grantable AS grantable, '' AS column
  FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) e LEFT JOIN pg_roles g ON g.oid = e.grantee
 WHERE c.oid = to_regclass(%(view)s) AND e.grantee <> c.relowner
 UNION ALL
SELECT coalesce(g.rolname, ''), e.privilege_type, e.is_grantable, a.attname
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid CROSS JOIN LATERAL aclexplode(a.attacl) e LEFT JOIN pg_roles g ON g.oid = e.grantee
 WHERE c.oid = to_regclass(%(view)s) AND e.grantee <> c.relowner
 ORDER BY 1, 2, 4
"""


# What a view carries beside its query: made again as it was.
_VIEW_PARTS = """
SELECT 'comment' AS kind, a.attname AS column, d.description AS text
  FROM pg_description d JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
 WHERE d.classoid = 'pg_class'::regclass AND d.objoid = to_regclass(%(view)s) AND d.objsubid > 0
 UNION ALL
SELECT 'default', a.attname, pg_get_expr(f.adbin, f.adrelid)
  FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum WHERE f.adrelid = to_regclass(%(view)s)
 UNION ALL
SELECT 'trigger', '', pg_get_triggerdef(g.oid) FROM pg_trigger g WHERE g.tgrelid = to_regclass(%(view)s) AND NOT g.tgisinternal
 UNION ALL
SELECT 'rule', '', pg_get_ruledef(r.oid) FROM pg_rewrite r WHERE r.ev_class = to_regclass(%(view)s) AND r.rulename <> '_RETURN'
 ORDER BY 1, 2, 3
"""
# What hangs on a view and cannot be made again by what is known here: who uses it, and what was said of its parts.
_VIEW_HOLDS = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) AS what
  FROM pg_depend d JOIN pg_class v ON v.oid = to_regclass(%(view)s)
 WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid
        OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT y.oid FROM pg_type y WHERE y.oid = v.reltype OR y.typelem = v.reltype))
   AND d.deptype = 'n' AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger g WHERE g.oid = d.objid AND g.tgrelid = v.oid))
   AND NOT (d.classid = 'pg_rewrite'::regclass
            AND EXISTS (SELECT FROM pg_rewrite r JOIN pg_class m ON m.oid = r.ev_class WHERE r.oid = d.objid AND m.relkind = 'v'))
 UNION ALL
SELECT 'the security label of ' || pg_describe_object(s.classoid, s.objoid, s.objsubid)
  FROM pg_seclabel s WHERE s.classoid = 'pg_class'::regclass AND s.objoid = to_regclass(%(view)s)
 UNION ALL
SELECT CASE WHEN g.tgenabled <> 'O' THEN 'the state of ' ELSE 'the comment on ' END || 'trigger ' || g.tgname
  FROM pg_trigger g WHERE g.tgrelid = to_regclass(%(view)s) AND NOT g.tgisinternal
   AND (g.tgenabled <> 'O' OR obj_description(g.oid, 'pg_trigger') IS NOT NULL)
 UNION ALL
SELECT CASE WHEN r.ev_enabled <> 'O' THEN 'the state of ' ELSE 'the comment on ' END || 'rule ' || r.rulename
  FROM pg_rewrite r WHERE r.ev_class = to_regclass(%(view)s) AND r.rulename <> '_RETURN'
   AND (r.ev_enabled <> 'O' OR obj_description(r.oid, 'pg_rewrite') IS NOT NULL)
 ORDER BY 1
"""
_INDEX_PARTS = """
SELECT obj_description(i.indexrelid, 'pg_class') AS comment, i.indisreplident AS identity, i.indisclustered AS clustered,
       array_remove(ARRAY[
         (SELECT 'the tablespace ' || s.spcname FROM pg_tablespace s WHERE s.oid = x.reltablespace),
         (SELECT 'the statistics targets of its expressions' FROM pg_attribute a WHERE a.attrelid = x.oid AND coalesce(a.attstattarget, -1) >= 0 LIMIT 1)
       ], NULL) AS others
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indexrelid = to_regclass(%s)
"""
_CONSTRAINT_COMMENT = "SELECT obj_description(k.oid, 'pg_constraint') FROM pg_constraint k WHERE k.conrelid = to_regclass(%s) AND k.conname = %s"
# What goes with a column that is dropped, beside keys, checks and indexes, which the model knows.
_COLUMN_HOLDS = """
WITH here AS (
  SELECT a.* FROM pg_attribute a WHERE a.attrelid = to_regclass(%(table)s) AND a.attname = %(column)s
)
SELECT DISTINCT 'the grant of ' || e.privilege_type || ' to ' || coalesce(g.rolname, 'PUBLIC') AS what
  FROM here CROSS JOIN LATERAL aclexplode(here.attacl) e LEFT JOIN pg_roles g ON g.oid = e.grantee
 UNION ALL
SELECT pg_describe_object(d.classid, d.objid, 0)
  FROM here JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = here.attrelid AND d.refobjsubid = here.attnum
 WHERE d.classid IN ('pg_statistic_ext'::regclass, 'pg_publication_rel'::regclass)
 UNION ALL
SELECT 'the comment on ' || pg_describe_object(d.classid, d.objid, 0)
  FROM here JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = here.attrelid AND d.refobjsubid = here.attnum
 WHERE d.classid = 'pg_constraint'::regclass AND obj_description(d.objid, 'pg_constraint') IS NOT NULL
    OR d.classid = 'pg_class'::regclass AND obj_description(d.objid, 'pg_class') IS NOT NULL
 UNION ALL
SELECT 'the security label' FROM here JOIN pg_seclabel s ON s.classoid = 'pg_class'::regclass AND s.objoid = here.attrelid AND s.objsubid = here.attnum
 UNION ALL
SELECT 'its storage or statistics settings' FROM here JOIN pg_type y ON y.oid = here.atttypid
 WHERE here.attstorage <> y.typstorage OR coalesce(here.attstattarget, -1) >= 0
    OR EXISTS (SELECT FROM unnest(here.attoptions) u(option) WHERE u.option LIKE 'n\\_distinct%%')
 ORDER BY 1
"""
_SEQUENCE_USERS = """
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
 WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass(%(sequence)s) AND d.deptype = 'n'
   AND NOT (d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
            WHERE f.oid = d.objid AND f.adrelid = to_regclass(%(table)s) AND a.attname = %(column)s))
 ORDER BY 1 LIMIT 1
"""


class TypeChange(t.NamedTuple):
    """``using``: PostgreSQL has no cast that it would apply by itself; the way goes through text."""

    using: bool
    rewrites: bool


class Part(t.NamedTuple):
    """A partition; ``built``: None no index of our name, else whether it is valid; ``attached``: to the frame on its parent."""

    schema: str
    name: str
    parted: bool
    parent_schema: str
    parent: str
    nested: bool
    attached: bool
    built: t.Optional[bool]


class IndexParts(t.NamedTuple):
    """What hangs on an index; ``others`` is what can't be given to another, in words."""

    comment: t.Optional[str] = None
    identity: bool = False
    clustered: bool = False
    others: tuple = ()


class User(t.NamedTuple):
    what: str
    table: str
    column: str


class ViewInTheWay(t.NamedTuple):
    """``columns``: ((table, column), ...) that it shows or reads."""

    schema: str
    name: str
    query: str
    options: tuple
    owner: str
    comment: t.Optional[str]
    columns: tuple


class Facts:
    """Asks one server about one live schema.

    :param wanted: the declared schema, whose enums a trial may need.
    :param oids: of the live relations by name.
    :param names: see catalog.Reading.
    """

    def __init__(self, session, wanted: model.Schema, live: model.Schema, oids: dict, names: t.Optional[dict] = None) -> None:
        self.session, self.wanted, self.live, self.oids, self.names = session, wanted, live, oids, names or {}
        self._user = ""
        self._roles: dict = {}
        self._comparable: dict = {}

    @property
    def user(self) -> str:
        if not self._user:
            self._user = self.session.value("SELECT current_user")
        return self._user

    def may_act_as(self, role: str) -> bool:
        if role not in self._roles:
            self._roles[role] = role == self.user or self.session.value("SELECT pg_has_role(current_user, %s, 'USAGE')", [role])
        return self._roles[role]

    def has_rows(self, table: str) -> bool:
        return self.session.value(f"SELECT EXISTS (SELECT FROM {identifier(self.live.name, table)})")

    def has_nulls(self, table: str, column: str) -> bool:
        return self.session.value(f"SELECT EXISTS (SELECT FROM {identifier(self.live.name, table)} WHERE {identifier(column)} IS NULL)")

    # -- trials

    @contextlib.contextmanager
    def _trial(self, columns: str) -> t.Iterator[str]:
        """An empty table with these columns, beside the enums as they will be; gone afterwards."""
        with scratch.schema(self.session, self.live.name) as name:
            for enum in self.wanted.enums.values():
                self.session.run(sql.enum(name, enum))
            table = identifier(name, "trial")
            self.session.run(f"CREATE TABLE {table} ({columns})")
            yield table

    def _file(self, table: str) -> int:
        return self.session.value("SELECT pg_relation_filenode(to_regclass(%s))", [table])

    def type_change(self, old: model.Column, new: model.Column) -> t.Optional[TypeChange]:
        """None where there is no way."""
        plain = model.Column(old.name, old.type, collation=old.collation)
        column, collation = identifier(old.name), f" COLLATE {identifier(new.collation)}" if new.collation else ""
        with self._trial(sql.column(plain)) as table:
            before = self._file(table)
            for using in ("", f" USING {column}::text::{new.type}"):
                self.session.run("SAVEPOINT trial")
                try:
                    self.session.run(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {new.type}{collation}{using}")
                    return TypeChange(bool(using), self._file(table) != before)
                except DatabaseError as error:
                    if error.pgcode not in ("42804", "42846", "22P02", "42883"):
                        raise
                    self.session.run("ROLLBACK TO SAVEPOINT trial")
        return None

    def comparable(self, one: str, two: str) -> bool:
        """Whether values of both types can be told to be equal, as a foreign key does."""
        if (one, two) not in self._comparable:
            try:
                with self._trial(f"one {one}, two {two}") as table:
                    self.session.run(f"SELECT FROM {table} WHERE one = two")
                self._comparable[one, two] = True
            except DatabaseError as error:
                # What else is wrong with a type is told where it stands.
                self._comparable[one, two] = error.pgcode != "42883"
        return self._comparable[one, two]

    def adding_rewrites(self, table: model.Table, column: model.Column) -> bool:
        if column.identity or column.generated or column.serial:
            return True
        if len([token for token in lexer.tokens(column.default) if token.kind != lexer.SPACE]) == 1:
            return False  # a constant
        others = [sql.column(model.Column(other.name, other.type)) for other in table.columns.values() if other.name != column.name]
        with self._trial(", ".join(others)) as trial:
            before = self._file(trial)
            self.session.run(f"ALTER TABLE {trial} ADD COLUMN {sql.column(column)}")
            return self._file(trial) != before

    # -- who else uses a column or table

    def _touched(self, changed: dict, goes: list) -> dict:
        pairs = [(self.oids[table], list(self.live.tables[table].columns).index(column)) for table, columns in changed.items() for column in columns]
        relations = [oid for oid, dummy in pairs]
        numbers = []
        for table, columns in changed.items():
            known = dict(
                self.session.rows(
                    "SELECT attname, attnum FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped", [self.oids[table]]
                )
            )
            numbers += [known[column] for column in columns]
        return {"relations": relations, "columns": numbers, "whole": [self.oids[name] for name in goes]}

    def users_of(self, changed: dict, goes: list) -> list[User]:
        """What is no view and is in the way: policies, triggers, functions, materialized views, foreign keys of other schemas."""
        return [User(*row) for row in self.session.rows(_USERS, self._touched(changed, goes))]

    def views_on(self, changed: dict, goes: list) -> list[ViewInTheWay]:
        """Every view that shows one of these columns or tables, or a view that does; who depends on others comes first."""
        return self._views(self._touched(changed, goes))

    def views_over(self, views: list) -> list[ViewInTheWay]:
        return self._views({"relations": [], "columns": [], "whole": [self.oids[name] for name in views]})

    def _views(self, values: dict) -> list[ViewInTheWay]:
        with self.session.transaction("READ ONLY"):
            scratch.set_path(self.session, self.live.name)
            rows = self.session.rows(_VIEWS, values)
        return [
            ViewInTheWay(
                row.schema,
                row.name,
                row.query.strip().rstrip(";"),
                tuple(tuple(option.split("=", 1)) for option in row.options or ()),
                row.owner,
                row.comment,
                tuple(tuple(pair.split("\x01")) for pair in row.shown),
            )
            for row in rows
            if row.kind == "v"
        ]

    def view_rights(self, schema: str, view: str) -> tuple:
        return tuple(tuple(row) for row in self.session.rows(_RIGHTS, {"view": identifier(schema, view)}))

    # -- what hangs on an object that is made anew

    def view_parts(self, schema: str, view: str) -> list:
        """(kind, column, text): comment and default of a column; the statement of a trigger or rule."""
        with self.session.transaction("READ ONLY"):
            scratch.set_path(self.session, self.live.name)
            return [tuple(row) for row in self.session.rows(_VIEW_PARTS, {"view": identifier(schema, view)})]

    def view_holds(self, schema: str, view: str) -> list[str]:
        return [row.what for row in self.session.rows(_VIEW_HOLDS, {"view": identifier(schema, view)})]

    def index_parts(self, index: str) -> IndexParts:
        rows = self.session.rows(_INDEX_PARTS, [identifier(self.live.name, index)])
        return IndexParts(rows[0].comment, rows[0].identity, rows[0].clustered, tuple(rows[0].others)) if rows else IndexParts()

    def constraint_comment(self, table: str, constraint: str) -> t.Optional[str]:
        return self.session.value(_CONSTRAINT_COMMENT, [identifier(self.live.name, table), constraint])

    def column_holds(self, table: str, column: str) -> list[str]:
        return [row.what for row in self.session.rows(_COLUMN_HOLDS, {"table": identifier(self.live.name, table), "column": column})]

    def sequence_user(self, sequence: str, table: str, column: str) -> t.Optional[str]:
        """What takes numbers from a sequence besides the column that owns it; None for nothing."""
        named = {"sequence": identifier(self.live.name, sequence), "table": identifier(self.live.name, table), "column": column}
        return self.session.value(_SEQUENCE_USERS, named)

    @property
    def version(self) -> int:
        return self.session.version

    # -- partitions

    def partitions(self, table: str, index: str) -> list[Part]:
        """All partitions, parents before their own; ``index``: the frame on the root, '' where it is not there yet."""
        found = []
        for row in self.session.rows(_PARTS, {"table": identifier(self.live.name, table)}):
            indexes = {name: (valid == "true", parent) for name, valid, parent in (one.split("\x01") for one in row.indexes)}
            frame = helper_name("part", row.parent_schema, row.parent, index) if row.nested else index
            attached = bool(index) and any(parent == frame for dummy, parent in indexes.values())
            own = indexes.get(helper_name("part", row.schema, row.name, index)) if index else None
            found.append(Part(*row[:6], attached, own[0] or row.parted if own else None))
        return found
