# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL took from a definition and the model has no place for: named, so that nothing of a definition is dropped in silence.

Asked of the catalogs, not of the words: whichever way something was written, this is where it ends up.
"""

from __future__ import annotations

_CLASS = "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %(schema)s"
# (least version, SELECT object, what it has)
QUERIES = (
    (
        0,
        f"SELECT 'table ' || c.relname, 'reloptions ' || array_to_string(c.reloptions, ', ') FROM pg_class c {_CLASS}"
        " WHERE c.relkind IN ('r', 'p') AND c.reloptions IS NOT NULL",
    ),
    (
        0,
        f"SELECT 'table ' || c.relname, 'TOAST options ' || array_to_string(x.reloptions, ', ') FROM pg_class c {_CLASS}"
        " JOIN pg_class x ON x.oid = c.reltoastrelid WHERE x.reloptions IS NOT NULL",
    ),
    (0, f"SELECT 'table ' || c.relname, 'OF ' || format_type(c.reloftype, NULL) FROM pg_class c {_CLASS} WHERE c.reloftype <> 0"),
    (0, f"SELECT 'index ' || x.relname, 'CLUSTER' FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid {_CLASS}"
        " JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indisclustered"),
    (
        0,
        f"SELECT 'partition ' || c.relname, 'columns of its own: ' || a.attname FROM pg_class c {_CLASS} JOIN pg_inherits h ON h.inhrelid = c.oid"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        " JOIN pg_attribute b ON b.attrelid = h.inhparent AND b.attname = a.attname"
        " LEFT JOIN pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum LEFT JOIN pg_attrdef f ON f.adrelid = b.attrelid AND f.adnum = b.attnum"
        " WHERE c.relispartition AND (a.attnotnull <> b.attnotnull OR a.attcollation <> b.attcollation"
        "   OR pg_get_expr(e.adbin, e.adrelid) IS DISTINCT FROM pg_get_expr(f.adbin, f.adrelid) OR col_description(c.oid, a.attnum) IS NOT NULL)",
    ),
    (
        0,
        f"SELECT 'table ' || c.relname, 'TABLESPACE' FROM pg_class c {_CLASS} WHERE c.reltablespace <> 0 AND c.relkind IN ('r', 'p')"
        f" UNION ALL SELECT 'index ' || c.relname, 'TABLESPACE' FROM pg_class c {_CLASS} WHERE c.reltablespace <> 0 AND c.relkind IN ('i', 'I')",
    ),
    (
        0,
        f"SELECT 'table ' || c.relname, 'USING ' || m.amname FROM pg_class c {_CLASS} JOIN pg_am m ON m.oid = c.relam"
        " WHERE c.relkind = 'r' AND m.amname <> 'heap' OR c.relkind = 'p'",
    ),
    (0, f"SELECT 'table ' || c.relname, 'ROW LEVEL SECURITY' FROM pg_class c {_CLASS} WHERE c.relrowsecurity OR c.relforcerowsecurity"),
    (
        0,
        f"SELECT 'table ' || c.relname, 'INHERITS' FROM pg_class c {_CLASS} JOIN pg_inherits i ON i.inhrelid = c.oid"
        " WHERE c.relkind = 'r' AND NOT c.relispartition",
    ),
    (0, "SELECT 'table ' || c.relname, 'TEMPORARY' FROM pg_class c WHERE c.relnamespace = pg_my_temp_schema() AND c.relkind IN ('r', 'p', 'v')"),
    (
        0,
        f"SELECT 'column ' || c.relname || '.' || a.attname, CASE WHEN a.attstorage <> y.typstorage THEN 'STORAGE'"
        " WHEN o.text <> '' THEN o.text ELSE 'STATISTICS' END"
        f" FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid {_CLASS} JOIN pg_type y ON y.oid = a.atttypid"
        " CROSS JOIN LATERAL (SELECT coalesce(string_agg(u.option, ', '), '') AS text FROM unnest(a.attoptions) AS u(option)"
        " WHERE u.option LIKE 'n\\_distinct%%') AS o"
        " WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped"
        " AND (a.attstorage <> y.typstorage OR o.text <> '' OR coalesce(a.attstattarget, -1) >= 0)",
    ),
    (
        14,
        f"SELECT 'column ' || c.relname || '.' || a.attname, 'COMPRESSION' FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid {_CLASS}"
        " WHERE c.relkind IN ('r', 'p') AND a.attcompression <> '' AND a.attnum > 0",
    ),
    (
        0,
        "SELECT 'sequence of column ' || c.relname || '.' || a.attname,"
        " CASE WHEN s.relname <> c.relname || '_' || a.attname || '_seq' THEN 'the name ' || s.relname || ' and ' ELSE '' END"
        " || 'START ' || q.seqstart || ' INCREMENT ' || q.seqincrement || ' MINVALUE ' || q.seqmin || ' MAXVALUE ' || q.seqmax || ' CACHE ' || q.seqcache"
        " || CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END"
        " FROM pg_sequence q JOIN pg_class s ON s.oid = q.seqrelid JOIN pg_depend e"
        " ON e.classid = 'pg_class'::regclass AND e.objid = q.seqrelid AND e.deptype IN ('a', 'i')"
        f" AND e.refclassid = 'pg_class'::regclass JOIN pg_class c ON c.oid = e.refobjid {_CLASS}"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = e.refobjsubid"
        # START and INCREMENT of an identity are carried; a name of its own is not, where there was room for PostgreSQL's.
        " WHERE a.attidentity = '' AND (q.seqstart, q.seqincrement) <> (1, 1) OR (q.seqmin, q.seqcache, q.seqcycle) <> (1, 1, false)"
        " OR a.attidentity <> '' AND octet_length(c.relname || a.attname) < 50 AND s.relname <> c.relname || '_' || a.attname || '_seq'"
        " OR q.seqmax <> CASE q.seqtypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END",
    ),
    (
        0,
        f"SELECT 'constraint ' || k.conname || ' of ' || c.relname, 'WITH (' || array_to_string(x.reloptions, ', ') || ')'"
        f" FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid {_CLASS} JOIN pg_class x ON x.oid = k.conindid"
        " WHERE k.contype IN ('p', 'u') AND x.reloptions IS NOT NULL",
    ),
    (
        0,
        f"SELECT 'constraint ' || k.conname || ' of ' || c.relname, 'NOT VALID' FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid {_CLASS}"
        " WHERE k.contype IN ('c', 'f', 'n') AND NOT k.convalidated",
    ),
    (18, f"SELECT 'column ' || c.relname || '.' || a.attname, 'GENERATED VIRTUAL' FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid {_CLASS}"
         " WHERE a.attgenerated = 'v'"),
    (
        18,
        "SELECT 'constraint ' || k.conname || ' of ' || c.relname, CASE WHEN k.contype = 'n' THEN 'a named NOT NULL, or one with NO INHERIT'"
        " WHEN k.conperiod THEN 'WITHOUT OVERLAPS or PERIOD' ELSE 'NOT ENFORCED' END"
        f" FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid {_CLASS} WHERE k.conperiod OR NOT k.conenforced OR k.contype = 'n' AND k.conislocal"
        " AND (k.connoinherit OR octet_length(k.conname) < 60 AND k.conname <> c.relname || '_'"
        " || (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1]) || '_not_null')",
    ),
    (
        0,
        f"SELECT 'index ' || x.relname, 'ONLY' FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid {_CLASS} JOIN pg_class x ON x.oid = i.indexrelid"
        " WHERE NOT i.indisvalid",
    ),
    (
        0,
        f"SELECT 'constraint ' || k.conname || ' of ' || c.relname, 'COMMENT' FROM pg_description d"
        " JOIN pg_constraint k ON d.classoid = 'pg_constraint'::regclass AND k.oid = d.objoid"
        f" JOIN pg_class c ON c.oid = k.conrelid {_CLASS}",
    ),
    (
        0,
        f"SELECT 'index ' || c.relname, 'COMMENT' FROM pg_description d JOIN pg_class c ON d.classoid = 'pg_class'::regclass AND c.oid = d.objoid {_CLASS}"
        " WHERE c.relkind IN ('i', 'I')",
    ),
    (
        0,
        f"SELECT 'view ' || c.relname, 'COMMENT ON COLUMN' FROM pg_description d JOIN pg_class c ON d.classoid = 'pg_class'::regclass AND c.oid = d.objoid"
        f" {_CLASS} WHERE c.relkind = 'v' AND d.objsubid > 0",
    ),
    (
        0,
        "SELECT 'type ' || y.typname, 'COMMENT' FROM pg_description d JOIN pg_type y ON d.classoid = 'pg_type'::regclass AND y.oid = d.objoid"
        " JOIN pg_namespace n ON n.oid = y.typnamespace AND n.nspname = %(schema)s WHERE y.typtype = 'e'",
    ),
    (
        0,
        "SELECT 'statistics ' || s.stxname, 'extended statistics' FROM pg_statistic_ext s"
        " JOIN pg_namespace n ON n.oid = s.stxnamespace AND n.nspname = %(schema)s",
    ),
)


def first(session, schema: str) -> str:
    """The first thing in a schema that the model cannot hold, as 'object: what it has'; '' where there is none."""
    for least, query in QUERIES:
        if session.version >= least:
            for row in session.rows(f"SELECT * FROM ({query}) AS q(object, what)", {"schema": schema}):
                return f"{row.object}: {row.what}"
    return ""
