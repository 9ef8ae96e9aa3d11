# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written right after a start, a kill, a crash, a reboot or a restore is in the repository within a minute and a half."""

from __future__ import annotations

import os
import time

import pytest
from backups import DATA

# Each of them takes a minute; all, five times, with CRM_BACKUP_STARTS=5.
STARTS = {
    "a kill": f"kill -9 $(head -n 1 {DATA}/postmaster.pid)",
    "a restart": "systemctl restart postgresql@15-main",
    "a crash of one process": "kill -9 $(pgrep -f '[p]ostgres:.*checkpointer')",
    "a restore": "crm-platform-backup restore --confirm crm > /dev/null; crm-platform-backup forget > /dev/null",
}
ROUNDS = int(os.environ.get("CRM_BACKUP_STARTS", "0"))
CHOSEN = list(STARTS) if ROUNDS else ["a crash of one process", "a restore"]
LIMIT = 90


def archived(server, segment):
    return (server.platform.sql("SELECT last_archived_wal FROM pg_stat_archiver") or "") >= segment


def follow(server, what):
    """Write something as soon as the CRM answers, and wait until it is archived."""
    server.platform.sql("SELECT pg_current_xact_id()")
    began, segment = time.monotonic(), server.platform.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
    server.host.wait_for("the WAL to be archived", lambda: archived(server, segment), LIMIT)
    print(f"archived {time.monotonic() - began:.0f} s after {what}")


@pytest.mark.parametrize("what", CHOSEN)
def test_what_is_written_right_after_a_start_is_archived(saved, what):
    for dummy in range(max(ROUNDS, 1)):
        saved.host.sh(STARTS[what])
        saved.host.wait_for("the CRM to answer", saved.platform.healthy, 60)
        follow(saved, what)


@pytest.mark.skipif(not ROUNDS, reason="asked for with CRM_BACKUP_STARTS")
def test_what_is_written_right_after_a_reboot_is_archived(saved):
    for dummy in range(max(ROUNDS, 1)):
        saved.host.restart()
        saved.host.wait_for("the CRM to answer", saved.platform.healthy, 90)
        follow(saved, "a reboot")
