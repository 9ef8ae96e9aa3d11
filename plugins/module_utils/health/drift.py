# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the customers' data is still as it was declared, by the plans of customer_schema and customer_grants, which nobody carries out here.

What was declared is in two files on the host, see ../declaration.py. Tables that the modules remember as converged cost two queries.
"""

from __future__ import annotations

import json
import typing as t

from .registry import OK, WARNING, Reading, Skipped, check

SCHEMA, ACCESS = "/etc/crm-platform/declared-schema.json", "/etc/crm-platform/declared-access.json"
CURE = "ansible-playbook crm.platform.customer_data --check --diff shows each statement; without --check it does them"
# Who waits for a lock would come too late anyway.
LOCK_MILLISECONDS = 1000


def declared(host, path: str) -> dict:
    """The options of the module in its last run."""
    if host.database.value("SELECT pg_is_in_recovery()"):
        raise Skipped("a replica has what its primary has")
    try:
        found = json.loads(host.read(path))
    except FileNotFoundError:
        raise Skipped("no declaration is kept on this host: crm.platform.customer_data leaves it") from None
    except ValueError as error:
        raise OSError(f"{path} cannot be read ({error}); crm.platform.customer_data writes it anew") from None
    if not isinstance(found, dict):
        raise OSError(f"{path} holds no declaration; crm.platform.customer_data writes it anew")
    return found


def told(steps: t.Sequence, well: str) -> Reading:
    """:param steps: of either plan; both have `object` and `reason`."""
    first = "; ".join(dict.fromkeys(f"{step.object}: {step.reason}" for step in steps[:3]))
    more = f" and {len(steps) - 3} more" if len(steps) > 3 else ""
    return Reading(len(steps), f"{first}{more}" if steps else well, WARNING if steps else OK)


@check("db_schema_drift", "database", cure=CURE, source="own")
def schema_drift(host):
    """The customers' tables are as they were declared"""
    # Only who comes here needs them.
    from ..schema import apply, converge, declare

    given = declared(host, SCHEMA)
    definition = given.get("definition") or ""
    name, owner = given.get("schema") or "customer", given.get("owner") or ""
    model = None if definition else declare.schema(name, owner, given)
    patience = apply.Patience(LOCK_MILLISECONDS, 0, 0)
    with host.database.apart() as session:
        worker = converge.Converger(session, model, definition, name, owner, bool(given.get("purge")), given.get("allow") or [], patience)
        try:
            plan = worker.run(True).plan
        except converge.Hazardous as error:
            plan = error.plan
    more = f"; not declared: {', '.join(plan.undeclared[:3])}" if plan.undeclared else ""
    return told([step for step in plan.steps if not step.guard], f"they are{more}")


@check("db_grants_drift", "database", cure=CURE, source="own")
def grants_drift(host):
    """The access to the customers' data is as it was declared"""
    from ..grants import apply, declare

    given = declared(host, ACCESS)
    with host.database.apart() as session:
        plan = apply.run(session, declare.declared(given), True, False, LOCK_MILLISECONDS, 0).plan
    return told(plan.steps, "it is")
