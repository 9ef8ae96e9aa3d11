# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading, nothing else: a number of queries that does not grow with what there is, no lock above ACCESS SHARE, no write.

Lists come as aclitems in text form, one a grantee, not exploded into one row a
right: they are fewer by far, and each distinct one is parsed once.
"""

from __future__ import annotations

import re
import typing as t

from ..postgres import DatabaseError, Session, identifier, one_line
from .model import (
    COMMANDS,
    DATABASE,
    FUNCTION,
    GRANTORS_SINCE,
    SCHEMA,
    SEQUENCE,
    TABLE,
    TYPE,
    AccessError,
    Declared,
    Dependency,
    Live,
    Membership,
    Object,
    Policy,
    Role,
    Server,
    Thing,
    parse_item,
)

SERVER = """
SELECT current_user, session_user, r.rolsuper, r.rolcreaterole, current_database(),
       (SELECT b.rolname FROM pg_catalog.pg_roles b WHERE b.oid = 10),
       pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')
         AND pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'oid', 'SELECT'),
       coalesce(pg_catalog.current_setting('scram_iterations', true), '4096')::int,
       CASE WHEN r.rolsuper THEN '{}'::text[] ELSE (
         SELECT pg_catalog.array_agg(o.rolname::text) FROM pg_catalog.pg_roles o WHERE pg_catalog.pg_has_role(o.oid, 'USAGE')) END
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""
ROLES = """
SELECT r.rolname, r.rolsuper, r.rolcanlogin, r.rolinherit, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls,
       r.rolconnlimit, coalesce(r.rolvaliduntil, 'infinity')::text, %s, coalesce(d.description, '')
FROM %s r
LEFT JOIN pg_catalog.pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
"""
MEMBERSHIPS = """
SELECT g.rolname, m.rolname, coalesce(b.rolname, ''), a.admin_option, %s
FROM pg_catalog.pg_auth_members a
JOIN pg_catalog.pg_roles g ON g.oid = a.roleid
JOIN pg_catalog.pg_roles m ON m.oid = a.member
LEFT JOIN pg_catalog.pg_roles b ON b.oid = a.grantor
"""
SETTINGS = """
SELECT r.rolname, coalesce(d.datname, ''), s.setconfig
FROM pg_catalog.pg_db_role_setting s
JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
"""
DATABASES = """
SELECT d.datname, pg_catalog.pg_get_userbyid(d.datdba), coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))::text[], d.datistemplate
FROM pg_catalog.pg_database d
"""
SCHEMAS = """
SELECT n.oid::int8, n.nspname, pg_catalog.pg_get_userbyid(n.nspowner), coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))::text[],
       EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND e.objid = n.oid AND e.deptype = 'e')
FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp)'
"""
RELATIONS = """
SELECT c.oid::int8, n.nspname, c.relname, c.relkind, pg_catalog.pg_get_userbyid(c.relowner),
       coalesce(c.relacl, pg_catalog.acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, c.relowner))::text[],
       c.relrowsecurity, c.relforcerowsecurity, e.objid IS NOT NULL, o.refobjid::int8
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend e ON e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.objsubid = 0 AND e.deptype = 'e'
LEFT JOIN pg_catalog.pg_depend o ON c.relkind = 'S' AND o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.objid = c.oid
  AND o.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND o.deptype IN ('a', 'i')
WHERE c.relnamespace = ANY (%s::oid[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
"""
COLUMNS = """
SELECT a.attrelid::int8, a.attname, a.attacl::text[]
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = ANY (%s::oid[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attacl IS NOT NULL OR a.attrelid = ANY (%s::oid[]))
"""
FUNCTIONS = """
SELECT p.oid::int8, n.nspname, p.proname,
       ARRAY(SELECT pg_catalog.format_type(a.t, NULL) FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY a(t, i) ORDER BY a.i),
       pg_catalog.pg_get_userbyid(p.proowner), coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))::text[], e.objid IS NOT NULL
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_depend e ON e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND e.objid = p.oid AND e.deptype = 'e'
WHERE p.pronamespace = ANY (%s::oid[])
"""
TYPES = """
SELECT y.oid::int8, n.nspname, y.typname, pg_catalog.pg_get_userbyid(y.typowner),
       coalesce(y.typacl, pg_catalog.acldefault('T', y.typowner))::text[], e.objid IS NOT NULL
FROM pg_catalog.pg_type y
JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace
LEFT JOIN pg_catalog.pg_class c ON c.oid = y.typrelid
LEFT JOIN pg_catalog.pg_depend e ON e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND e.objid = y.oid AND e.deptype = 'e'
WHERE y.typnamespace = ANY (%s::oid[]) AND y.typtype <> 'm' AND y.typisdefined
  AND NOT (y.typcategory = 'A' AND y.typelem <> 0) AND coalesce(c.relkind, 'c') = 'c'
"""
DEFAULTS = """
SELECT pg_catalog.pg_get_userbyid(d.defaclrole), coalesce(n.nspname, ''), d.defaclobjtype, d.defaclacl::text[]
FROM pg_catalog.pg_default_acl d LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace
"""
POLICIES = """
SELECT p.polrelid::int8, p.polname, p.polcmd, p.polpermissive,
       ARRAY(SELECT CASE WHEN r = 0 THEN 'public' ELSE pg_catalog.pg_get_userbyid(r)::text END FROM pg_catalog.unnest(p.polroles) r),
       coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), ''), coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), ''),
       coalesce(p.polqual::text, ''), coalesce(p.polwithcheck::text, '')
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
WHERE c.relnamespace = ANY (%s::oid[])
"""
DEPENDENCIES = """
SELECT r.rolname, coalesce(b.datname, ''), s.deptype, s.dbid = 0 OR s.dbid = h.oid, s.classid::pg_catalog.regclass::text, pg_catalog.count(*),
       CASE WHEN s.dbid = 0 OR s.dbid = h.oid
            THEN pg_catalog.array_to_string((pg_catalog.array_agg(d.description ORDER BY d.description DESC))[1:3], ', ') ELSE '' END
FROM pg_catalog.pg_shdepend s
JOIN pg_catalog.pg_roles r ON s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = r.oid
JOIN pg_catalog.pg_database h ON h.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_database b ON b.oid = s.dbid
CROSS JOIN LATERAL (
  SELECT CASE WHEN s.dbid IN (0, h.oid) THEN pg_catalog.pg_describe_object(s.classid, s.objid, s.objsubid) END AS description) d
WHERE r.rolname = ANY (%s)
GROUP BY 1, 2, 3, 4, 5, s.dbid, h.oid
"""
DEPENDENCY_KINDS = {"o": "owner", "a": "acl", "r": "policy"}


def _rows(session: Session, sql: str, values: t.Optional[t.Sequence] = None) -> list:
    """Plain tuples: with ten thousands of rows, names for their fields cost more than the query."""
    session.round_trips += 1
    with session.connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def _acl(items: t.Optional[list]) -> tuple:
    return tuple(parse_item(item) for item in items or ())


def signature(name: str, types: t.Iterable[str]) -> str:
    return f"{name}({', '.join(types)})"


def read_server(session: Session) -> Server:
    user, session_user, superuser, createrole, database, bootstrap, passwords, iterations, roles = _rows(session, SERVER)[0]
    return Server(session.version, database, user, session_user, superuser, createrole, bootstrap, passwords, iterations, frozenset(roles or ()))


def read_roles(session: Session, live: Live) -> None:
    """Roles, what they are members of, and their settings: these belong to all databases."""
    readable = live.server.passwords
    query = ROLES % (("r.rolpassword", "pg_catalog.pg_authid") if readable else ("NULL", "pg_catalog.pg_roles"))
    for row in _rows(session, query):
        live.roles[row[0]] = Role(*row)
    options = "a.inherit_option, a.set_option" if live.server.version >= GRANTORS_SINCE else "true, true"
    live.memberships = {Membership(*row) for row in _rows(session, MEMBERSHIPS % options)}
    for role, database, config in _rows(session, SETTINGS):
        live.settings[(role, database)] = dict(one.split("=", 1) for one in config)


def read(session: Session, declared: Declared, columns: bool = False) -> Live:
    """All that the declaration needs.

    :param columns: read the names of all columns, not just of those with rights of their own.
    """
    live = Live(read_server(session))
    read_roles(session, live)
    leaving = sorted(
        name
        for name in live.roles
        if (name in declared.roles and not declared.roles[name].present) or (name not in declared.roles and declared.bounds.role(name))
    )
    if leaving:
        for role, database, kind, here, catalog, count, what in _rows(session, DEPENDENCIES, (leaving,)):
            told = "other" if catalog == "pg_default_acl" and kind == "o" else DEPENDENCY_KINDS.get(kind, "other")
            live.dependencies.append(Dependency(role, database, told, here, what, count, catalog))
    everywhere = any(one.here and one.database for one in live.dependencies)
    for name, owner, acl, template in _rows(session, DATABASES):
        live.objects[Object(DATABASE, "", name)] = Thing(owner, _acl(acl), extension=template)
    spoken, inside = declared.schemas(), []
    for oid, name, owner, acl, extension in _rows(session, SCHEMAS):
        live.objects[Object(SCHEMA, "", name)] = Thing(owner, _acl(acl), oid=oid, extension=extension)
        # Rights on the system's own schemas are looked at only to take them from a role that leaves.
        if name in spoken or declared.bounds.schema(name) or everywhere:
            inside.append(oid)
    _read_relations(session, live, inside, declared, columns)
    for oid, schema, name, types, owner, acl, extension in _rows(session, FUNCTIONS, (inside,)):
        live.objects[Object(FUNCTION, schema, signature(name, types))] = Thing(owner, _acl(acl), oid=oid, extension=extension)
    for oid, schema, name, owner, acl, extension in _rows(session, TYPES, (inside,)):
        live.objects[Object(TYPE, schema, name)] = Thing(owner, _acl(acl), oid=oid, extension=extension)
    for owner, schema, kind, acl in _rows(session, DEFAULTS):
        live.defaults[(owner, schema, kind)] = _acl(acl)
    if any(role.settings for role in declared.roles.values()):
        rows = _rows(session, "SELECT name, context FROM pg_catalog.pg_settings")
        live.known_settings = {name.lower(): (name, context) for name, context in rows}
    return live


def _read_relations(session: Session, live: Live, schemas: list, declared: Declared, columns: bool) -> None:
    by_oid, linked = {}, []
    for oid, schema, name, relkind, owner, acl, enabled, forced, extension, table in _rows(session, RELATIONS, (schemas,)):
        thing = Object(SEQUENCE if relkind == "S" else TABLE, schema, name)
        live.objects[thing] = Thing(owner, _acl(acl), relkind, oid, extension, None, enabled, forced)
        by_oid[oid] = thing
        if table:
            linked.append((thing, table))
    for sequence, table in linked:
        live.objects[sequence].belongs_to = by_oid.get(table)
    named = {(grant.target.schema, table) for grant in declared.grants for table, dummy in grant.target.columns}
    wanted = [oid for oid, thing in by_oid.items() if columns or (thing.schema, thing.name) in named]
    for oid, name, acl in _rows(session, COLUMNS, (schemas, wanted)):
        live.columns.setdefault(by_oid[oid], {})[name] = _acl(acl)
    for oid, name, command, permissive, roles, using, check, *trees in _rows(session, POLICIES, (schemas,)):
        policy = Policy(name, COMMANDS[command], tuple(sorted(roles)), using, check, permissive, tuple(trees))
        live.policies.setdefault(by_oid[oid], {})[name] = policy


# --- what only the server can say of what was declared ---


def times(session: Session, texts: t.Sequence[str]) -> dict:
    """Text -> (as PostgreSQL prints it, whether it is over). AccessError where it is no time."""
    found = {}
    try:
        for text, printed, over in _rows(
            session, "SELECT v, v::timestamptz::text, v::timestamptz < pg_catalog.now() FROM pg_catalog.unnest(%s) v", (list(texts),)
        ):
            found[text] = (printed, over)
    except DatabaseError as error:
        raise AccessError(f"valid_until: {one_line(error)}; write a time such as 2027-12-31 or 2027-12-31 18:00+01, or infinity") from None
    return found


def signatures(session: Session, calls: t.Sequence[t.Tuple[str, str, str]]) -> dict:
    """(schema, name, types as written) -> the signature as PostgreSQL prints it, None where there is no such function."""
    texts = [f"{identifier(schema, name)}({types})" for schema, name, types in calls]
    query = """
        SELECT w.text, p.proname, ARRAY(SELECT pg_catalog.format_type(a.t, NULL)
                                        FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY a(t, i) ORDER BY a.i)
        FROM (SELECT v AS text, pg_catalog.to_regprocedure(v)::oid AS oid FROM pg_catalog.unnest(%s) v) w
        LEFT JOIN pg_catalog.pg_proc p ON p.oid = w.oid
    """
    try:
        found = {text: name and signature(name, types) for text, name, types in _rows(session, query, (texts,))}
    except DatabaseError as error:
        raise AccessError(f"functions: {one_line(error)}; write a name, or a name with the types of its arguments: f(integer, text)") from None
    return {call: found.get(text) for call, text in zip(calls, texts)}


def tree_of(text: str) -> str:
    """A parse tree without the places in the text that it was parsed from."""
    return " ".join(re.sub(r":(?:\w*location|stmt_len|list_start|list_end) -?\d+", "", text).split())


_QUALS = re.compile(r":jointree \{FROMEXPR :fromlist \(\{RANGETBLREF :rtindex 1\}\) :quals ")


class _Notices(list):
    """psycopg2 throws all but the last 50 messages away, unless it is given a list of another class."""


def parse_trees(session: Session, conditions: t.Sequence[t.Tuple[Object, str]]) -> dict:
    """How PostgreSQL reads conditions on the rows of tables: (table, text) -> tree. DatabaseError where it cannot.

    PREPARE analyses a query without planning or running it: no right is needed and no lock but
    ACCESS SHARE taken; debug_print_parse has it tell the client what it understood.
    """
    words, told = [], _Notices()
    for table, text in conditions:
        words.append(f"SET LOCAL search_path TO {identifier(table.schema)}")
        words.append(f"PREPARE crm_platform_policy AS SELECT FROM {identifier(table.schema, table.name)} WHERE {text}")
        words.append("DEALLOCATE crm_platform_policy")
    kept, session.connection.notices = session.connection.notices, told
    try:
        session.run("; ".join(words))
    finally:
        session.connection.notices = kept
    # The statements themselves are told of too, without a condition.
    trees = [_quals(" ".join(one.split())) for one in told if "{QUERY :commandType 1 " in one]
    return dict(zip(conditions, trees)) if len(trees) == len(conditions) else {}


def _quals(told: str) -> str:
    """The condition in the printed tree of a query; '' where it is not found."""
    match = _QUALS.search(told)
    if not match:
        return ""
    depth, position = 0, match.end()
    while position < len(told):
        char = told[position]
        if char == "\\":
            position += 1
        elif char in "{(":
            depth += 1
        elif char in "})":
            depth -= 1
            if depth <= 0:
                return tree_of(told[match.end() : position + 1])
        position += 1
    return ""
