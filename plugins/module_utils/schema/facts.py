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
     OR d.classid = 'pg_rewrite'::regclass AND EXISTS (SELECT FROM pg_rewrite r JOIN pg_class m ON m.oid = r.ev_class WHERE r.oid = d.objid AND m.relkind = 'm')
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
    """

    def __init__(self, session, wanted: model.Schema, live: model.Schema, oids: dict) -> None:
        self.session, self.wanted, self.live, self.oids = session, wanted, live, oids
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
