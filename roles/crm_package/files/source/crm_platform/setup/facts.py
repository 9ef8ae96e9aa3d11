# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the database holds now, read with plain SQL. Writes only its own note."""

from __future__ import annotations

import json
import typing as t

import psycopg

# Where this program notes which versions the tables were last brought up to.
SCHEMA = "crm_platform"
TABLE = f"{SCHEMA}.setup"

NAMES = (
    "ir_configuration", "ir_module", "ir_module_config_wizard_item", "ir_lang", "ir_model_data", "res_user",
    "company_company", "currency_currency", "country_country", "country_subdivision",
)  # fmt: skip


class Facts(t.NamedTuple):
    """One look at the database; empty where it is empty."""

    initialised: bool = False
    series: str | None = None
    modules: dict[str, str] = {}  # name: state; only read
    languages: frozenset[str] = frozenset()
    admin_password: bool = False
    admin_email: bool = False
    companies: int = 0
    assistant: frozenset[str] = frozenset()  # modules with open steps in the assistant of the first login
    currencies: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    subdivided: frozenset[str] = frozenset()  # countries that have subdivisions
    versions: dict[str, str] | None = None  # at the last update, None when unknown


def read(connection: psycopg.Connection) -> Facts:
    """All facts, from one snapshot; the connection is left without a transaction."""
    connection.read_only = True
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction():
            return _read(connection)
    finally:
        connection.read_only = connection.isolation_level = None


def _read(connection: psycopg.Connection) -> Facts:
    names = [*NAMES, TABLE]
    row = connection.execute("SELECT " + ", ".join("to_regclass(%s)" for dummy in names), names).fetchone()
    there = {name for name, oid in zip(names, row or (), strict=True) if oid}
    if "ir_configuration" not in there:
        return Facts(versions=_versions(connection, there))
    columns = {
        name
        for (name,) in connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('res_user') AND attnum > 0 AND NOT attisdropped"
        )
    }
    return Facts(
        initialised=True,
        series=_one(connection, "SELECT max(series) FROM ir_configuration"),
        modules=dict(connection.execute("SELECT name, state FROM ir_module").fetchall()),
        languages=_set(connection, "SELECT code FROM ir_lang WHERE translatable"),
        admin_password=_admin(connection, columns, "password_hash"),
        admin_email=_admin(connection, columns, "email"),
        companies=_one(connection, "SELECT count(*) FROM company_company") if "company_company" in there else 0,
        assistant=_set(
            connection,
            "SELECT d.module FROM ir_module_config_wizard_item i JOIN ir_model_data d ON d.db_id = i.id"
            " WHERE d.model = 'ir.module.config_wizard.item' AND i.state = 'open'",
            "ir_module_config_wizard_item" in there,
        ),
        currencies=_set(connection, "SELECT code FROM currency_currency", "currency_currency" in there),
        countries=_set(connection, "SELECT code FROM country_country", "country_country" in there),
        subdivided=_set(
            connection,
            "SELECT DISTINCT c.code FROM country_country c WHERE EXISTS (SELECT 1 FROM country_subdivision s WHERE s.country = c.id)",
            "country_subdivision" in there,
        ),
        versions=_versions(connection, there),
    )


def _one(connection: psycopg.Connection, query: str) -> t.Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None


def _set(connection: psycopg.Connection, query: str, there: bool = True) -> frozenset[str]:
    return frozenset(value for (value,) in connection.execute(query) if value) if there else frozenset()


def _admin(connection: psycopg.Connection, columns: set[str], column: str) -> bool:
    """Whether the user that Tryton made as administrator has this; renamed or not."""
    if column not in columns:
        return False
    query = (
        f"SELECT count(*) FROM res_user u JOIN ir_model_data d ON d.db_id = u.id"
        f" WHERE d.module = 'res' AND d.model = 'res.user' AND d.fs_id = 'user_admin' AND coalesce(u.{column}, '') <> ''"
    )
    return bool(_one(connection, query))


def _versions(connection: psycopg.Connection, there: set[str]) -> dict[str, str] | None:
    if TABLE not in there:
        return None
    value = _one(connection, f"SELECT versions FROM {TABLE}")
    return value if isinstance(value, dict) else None


def note_versions(connection: psycopg.Connection, versions: dict[str, str]) -> None:
    """Remember what the tables were brought up to."""
    with connection.transaction():
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE}"
            " (one boolean PRIMARY KEY DEFAULT true CHECK (one), versions jsonb NOT NULL, noted timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute(
            f"INSERT INTO {TABLE} (versions) VALUES (%s) ON CONFLICT (one) DO UPDATE SET versions = excluded.versions, noted = now()",
            [json.dumps(versions)],
        )
