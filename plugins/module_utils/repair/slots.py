# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replication slot that nobody reads, which keeps WAL on the disk until it is full."""

from __future__ import annotations

from .. import postgres
from .registry import Repair, RepairError, Step, repair

QUERY = """
SELECT slot_name::text AS name, slot_type AS kind, active, active_pid AS pid, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8 AS kept
FROM pg_replication_slots WHERE NOT temporary ORDER BY 1
"""


@repair("drop_dead_slot", "Drop a replication slot that nobody reads", ("db_replication_slots",))
class DropDeadSlot(Repair):
    @staticmethod
    def problem(options):
        slot, confirm = options["slot"], options["confirm"]
        if slot and confirm and confirm != slot:
            return f"confirm is {confirm!r} and slot is {slot!r}; what was dropped does not come back, so write the slot's name in both"
        return ""

    def look(self, host, outcome):
        return host.session().rows(QUERY) if host.has_database else []

    def plan(self, found, options, outcome):
        slot = options["slot"]
        dead = ", ".join(f"{one.name} (keeps {one.kept / 1024**2:.0f} MiB of WAL)" for one in found if not one.active)
        if not slot:
            if dead:
                raise RepairError(f"slot is empty; name the one to drop in slot and in confirm. Nobody reads {dead}")
            return []
        one = next((one for one in found if one.name == slot), None)
        if one is None:
            outcome.notes.append(f"there is no slot {slot}" + (f"; nobody reads {dead}" if dead else ""))
            return []
        if one.active:
            raise RepairError(f"slot: {slot} is read by process {one.pid}; it is not dead. Stop its reader first if it shall go")
        if options["confirm"] != slot:
            raise RepairError(
                f"confirm is empty; dropping {slot} cannot be taken back, and its reader has to be made anew. Nobody reads {dead}. Write its name in confirm"
            )
        size = f"{one.kept / 1024**2:.0f} MiB of WAL"
        return [Step(f"drop the {one.kind} slot {slot}, which keeps {size}", "drop", (slot,), f"{slot}: not active, keeps {size}", "")]

    def do(self, host, step, outcome):
        try:
            host.session().run("SELECT pg_drop_replication_slot(%s)", step.what)
        except postgres.DatabaseError as error:
            if error.pgcode != "42704":  # somebody else has dropped it meanwhile
                raise RepairError(f"slot: {postgres.one_line(error)}; nothing was changed") from None

    def settle(self, host, found, outcome):
        if any(one.name == outcome.steps[0].what[0] for one in host.session().rows(QUERY)):
            raise RepairError(f"slot: {outcome.steps[0].what[0]} is there still; run it again")
