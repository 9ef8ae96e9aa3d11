# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts of the disk beside which nothing can be restored: refused before anything is touched; and WAL is archived within a minute of a start."""

from __future__ import annotations

import os
import time

import pytest
from backups import DATA, command, problems, state

# After each of them WAL has to be archived as promised; all with CRM_BACKUP_STARTS=100.
STARTS = {
    "a kill": f"kill -9 $(head -n 1 {DATA}/postmaster.pid)",
    "a restart": "systemctl restart postgresql@15-main",
    "a crash of one process": "kill -9 $(pgrep -f 'postgres: checkpointer')",
    "a restore": "crm-platform-backup restore --confirm crm > /dev/null; crm-platform-backup forget > /dev/null",
}
ROUNDS = int(os.environ.get("CRM_BACKUP_STARTS", "1"))
LIMIT = 90
PLACE = "/srv/fast"


def archived(server, segment):
    return (server.platform.sql("SELECT last_archived_wal FROM pg_stat_archiver") or "") >= segment


@pytest.fixture
def tablespace(saved):
    """A tablespace with a table, which no backup was made with."""
    sql = saved.platform.sql
    saved.host.sh(f"mkdir {PLACE} && chown postgres {PLACE}")
    sql(f"CREATE TABLESPACE fast LOCATION '{PLACE}'")
    sql("CREATE TABLE kept (id int) WITH (autovacuum_enabled = off) TABLESPACE fast; INSERT INTO kept VALUES (1)")
    yield saved
    sql("DROP TABLE IF EXISTS kept")
    sql("DROP TABLESPACE IF EXISTS fast")
    saved.host.sh(f"rm -rf {PLACE}")


def test_beside_a_tablespace_nothing_is_restored(tablespace):
    server = tablespace
    files = f"find {PLACE} {DATA}/pg_tblspc -printf '%p %s %i %T@\\n' | sort"
    server.platform.sql("CHECKPOINT")
    before = server.host.sh(files)
    assert problems(server) == {"tablespace"}
    commands = (["drill"], ["restore", "--confirm", "crm"], ["restore", "--confirm", "crm", "--in-place"], ["restore", "--check"], ["setup"])
    for words in commands:
        said = command(server, *words, check=False)
        assert PLACE in said["error"] and "SET TABLESPACE" in said["error"] and "\n" not in said["error"], said
    outcome = server.run(playbook="crm.platform.restore", backup_restore_confirm="crm")
    assert outcome.rc != 0 and PLACE in outcome.failure
    assert server.host.sh(files) == before and server.platform.healthy()


def test_a_set_with_a_tablespace_is_refused_and_later_ones_are_proved(tablespace):
    server = tablespace
    command(server, "backup", "incr")
    label = state(server)["database"]["sets"][-1]["label"]
    server.platform.sql("DROP TABLE kept")
    server.platform.sql("DROP TABLESPACE fast")
    said = command(server, "restore", "--confirm", "crm", "--set", label, check=False)
    assert label in said["error"] and "fast (/srv/fast)" in said["error"], said
    command(server, "backup", "incr")
    assert command(server, "drill")["ok"] and problems(server) == set()
    assert server.host.sh(f"find {PLACE} -type f") == ""


def test_linked_wal_is_refused(saved):
    stop, start = "systemctl stop crm-platform-worker postgresql@15-main", "systemctl start postgresql@15-main crm-platform-worker"
    saved.host.sh(f"{stop}; mv {DATA}/pg_wal /var/lib/postgresql/wal; ln -s /var/lib/postgresql/wal {DATA}/pg_wal; {start}")
    try:
        said = command(saved, "restore", "--confirm", "crm", check=False)
        assert "pg_wal is a link to /var/lib/postgresql/wal" in said["error"], said
        assert saved.platform.healthy()
    finally:
        saved.host.sh(f"{stop}; rm {DATA}/pg_wal; mv /var/lib/postgresql/wal {DATA}/pg_wal; {start}")
    saved.host.wait_for("the CRM to answer", saved.platform.healthy, 30)


def test_a_data_directory_that_is_a_mount_point_is_refused_in_the_plan(saved):
    stop, start = "systemctl stop crm-platform-worker postgresql@15-main", "systemctl start postgresql@15-main crm-platform-worker"
    saved.host.sh(f"{stop}; mount --bind {DATA} {DATA}; {start}")
    try:
        for words in (["restore", "--check"], ["restore", "--confirm", "crm"]):
            said = command(saved, *words, check=False)
            assert "is a mount point" in said["error"] and "backup_restore_in_place" in said["error"], said
        assert saved.platform.healthy()
    finally:
        saved.host.sh(f"{stop}; umount {DATA}; {start}")
    saved.host.wait_for("the CRM to answer", saved.platform.healthy, 30)


@pytest.mark.parametrize("what", STARTS)
def test_what_is_written_right_after_a_start_is_archived(saved, what):
    for dummy in range(ROUNDS):
        saved.host.sh(STARTS[what])
        saved.host.wait_for("the CRM to answer", saved.platform.healthy, 60)
        saved.platform.sql("SELECT pg_current_xact_id()")
        began, segment = time.monotonic(), saved.platform.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
        saved.host.wait_for("the WAL to be archived", lambda: archived(saved, segment), LIMIT)
        print(f"archived {time.monotonic() - began:.0f} s after {what}")


def test_what_is_written_right_after_a_reboot_is_archived(saved):
    for dummy in range(ROUNDS):
        saved.host.restart()
        saved.host.wait_for("the CRM to answer", saved.platform.healthy, 90)
        saved.platform.sql("SELECT pg_current_xact_id()")
        began, segment = time.monotonic(), saved.platform.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
        saved.host.wait_for("the WAL to be archived", lambda: archived(saved, segment), LIMIT)
        print(f"archived {time.monotonic() - began:.0f} s after a reboot")
