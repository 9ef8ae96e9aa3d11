# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user of the CRM who is kept out after several wrong logins: the CRM counts the rows of one table, and lets in whoever has none."""

from __future__ import annotations

from ..postgres import identifier
from .registry import Repair, RepairError, Step, repair

TABLE = "public.res_user_login_attempt"
# The rows are the CRM's: whatever hangs on its table runs with the rights of its owner.
OWNER = "SELECT pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%s)"
QUERY = f"SELECT login::text AS login, count(*)::int4 AS wrong FROM {TABLE} GROUP BY 1 ORDER BY 2 DESC, 1"


@repair("unlock_logins", "Let a user in again after several wrong logins", ("crm_failed_logins",))
class UnlockLogins(Repair):
    @staticmethod
    def _as_owner(host):
        """A session with the rights of the CRM's role; None where the CRM's tables are not there."""
        session = host.session()
        owner = session.value(OWNER, [TABLE])
        if owner is None:
            return None
        session.run(f"SET ROLE {identifier(owner)}")
        return session

    def look(self, host, outcome):
        session = self._as_owner(host) if host.has_database else None
        if session is None:
            return []
        try:
            return session.rows(QUERY)
        finally:
            session.run("RESET ROLE")

    def plan(self, found, options, outcome):
        login = options["login"]
        if not found:
            return []
        told = ", ".join(f"{one.login} ({one.wrong})" for one in found)
        if not login:
            raise RepairError(f"login is empty; name the user to let in again (-e repair_login=NAME). Wrong logins: {told}")
        one = next((one for one in found if one.login == login), None)
        if one is None:
            outcome.notes.append(f"{login} has no wrong logins; others have: {told}")
            return []
        return [Step(f"forget the wrong logins of {login}", "forget", (login,), f"{login}: {one.wrong} wrong logins", "")]

    def do(self, host, step, outcome):
        session = self._as_owner(host)
        try:
            session.run(f"DELETE FROM {TABLE} WHERE login = %s", step.what)
        finally:
            session.run("RESET ROLE")
