# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was converged: which declaration led to which live object.

With it a run that has nothing to do reads the catalog and writes nothing. It
is a cache: without it, or where it is wrong, the scratch schema is asked.
"""

from __future__ import annotations

import hashlib
import typing as t

from ..postgres import identifier

SCHEMA, TABLE = "customer_schema", "memory"
# Changes when a later version of this module reads or makes something in another way.
VERSION = "1"
_READ = f"""
SELECT kind, name, declared, live FROM {identifier(SCHEMA, TABLE)} WHERE schema = %s
"""


def digest(declared: t.Any) -> str:
    return hashlib.sha256(f"{VERSION} {declared!r}".encode()).hexdigest()[:32]


def read(session, schema: str) -> dict:
    """(kind, name) -> (digest of the declaration, mark of the live object); empty where there is none or it may not be read."""
    there = session.value(
        "SELECT CASE WHEN to_regclass(%s) IS NOT NULL THEN has_table_privilege(to_regclass(%s), 'SELECT') END", [identifier(SCHEMA, TABLE)] * 2
    )
    if not there:
        return {}
    return {(row.kind, row.name): (row.declared, row.live) for row in session.rows(_READ, [schema])}


def write(session, schema: str, before: dict, after: dict) -> bool:
    """Keep what is known now; False where this role may not."""
    if before == after:
        return True
    allowed = session.value(
        "SELECT CASE WHEN to_regclass(%s) IS NULL THEN has_database_privilege(current_database(), 'CREATE') "
        "ELSE has_table_privilege(to_regclass(%s), 'INSERT, UPDATE, DELETE') END",
        [identifier(SCHEMA, TABLE)] * 2,
    )
    if not allowed:
        return False
    with session.transaction():
        session.run(f"CREATE SCHEMA IF NOT EXISTS {identifier(SCHEMA)}")
        session.run(
            f"CREATE TABLE IF NOT EXISTS {identifier(SCHEMA, TABLE)} "
            "(schema text, kind text, name text, declared text NOT NULL, live text NOT NULL, PRIMARY KEY (schema, kind, name))"
        )
        gone = [key for key in before if key not in after]
        if gone:
            session.run(
                f"DELETE FROM {identifier(SCHEMA, TABLE)} WHERE schema = %s AND (kind, name) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
                [schema, [kind for kind, dummy in gone], [name for dummy, name in gone]],
            )
        new = {key: value for key, value in after.items() if before.get(key) != value}
        if new:
            session.run(
                f"INSERT INTO {identifier(SCHEMA, TABLE)} SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) "
                "ON CONFLICT (schema, kind, name) DO UPDATE SET declared = excluded.declared, live = excluded.live",
                [schema, *([key[place] for key in new] for place in (0, 1)), *([value[place] for value in new.values()] for place in (0, 1))],
            )
    return True
