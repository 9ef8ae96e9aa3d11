# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call customer_grants in this process, and ask a server what its roles may do."""

from __future__ import annotations

import contextlib
import io
import json
import typing as t

import psycopg2
from ansible.module_utils import testing
from ansible_collections.crm.platform.plugins.modules import customer_grants


class Failed(AssertionError):
    """The module failed; ``result`` is all that it said."""

    def __init__(self, result: dict) -> None:
        super().__init__(result.get("msg"))
        self.result = result


def call(login: dict, check: bool = False, **options: t.Any) -> dict:
    """One run of the module; what it returned. Failed where it failed."""
    given = {**login, **options, "_ansible_check_mode": check, "_ansible_diff": True}
    out = io.StringIO()
    with testing.patch_module_args(given), contextlib.redirect_stdout(out):
        try:
            customer_grants.main()
        except SystemExit:
            pass
    result = json.loads(out.getvalue().strip().splitlines()[-1])
    if result.get("failed"):
        raise Failed(result)
    return result


def settle(login: dict, **options: t.Any) -> dict:
    """Check mode, the run that does just what it showed, and a second run that finds nothing; the first run's result."""
    shown = call(login, True, **options)
    done = call(login, False, **options)
    assert done["queries"] == shown["queries"] and done["plan"] == shown["plan"]
    assert done["changed"] == shown["changed"] == bool(done["plan"])
    again = call(login, False, **options)
    assert not again["changed"] and again["plan"] == [], again["plan"]
    return done


def rows(connection, sql: str, values: t.Sequence | None = None) -> list:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def may(connection, sql: str) -> bool:
    """Whether the role of the connection may run this; nothing of it stays."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"BEGIN; {sql}; ROLLBACK")
        return True
    except psycopg2.errors.InsufficientPrivilege:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
        return False
