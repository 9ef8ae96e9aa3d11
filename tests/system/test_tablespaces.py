# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills and restores with a tablespace in the cluster touch no live file; WAL is archived soon after each start, and local time goes back.

CRM_BACKUP_ROUNDS is the number of rounds.
"""

from __future__ import annotations

import os
import time

from backups import command, now

ROUNDS = int(os.environ.get("CRM_BACKUP_ROUNDS", "1"))
PLACE = "/srv/space"
UNIT = "postgresql@15-main"


def live_files(server):
    """Times and checksums of the tablespace's files."""
    return server.host.sh(
        f"find {PLACE} -type f -exec stat --format '%n %i %Y %Z' {{}} + | sort; find {PLACE} -type f -exec sha256sum {{}} + | sort"
    )


def test_drills_and_restores_beside_a_tablespace(deployed):
    deployed.host.sh(f"install --directory --owner=postgres --mode=700 {PLACE}")
    deployed.platform.sql(f"CREATE TABLESPACE space LOCATION '{PLACE}'", "postgres")
    deployed.platform.sql(
        "CREATE TABLE kept WITH (autovacuum_enabled = off) TABLESPACE space AS SELECT g AS id, 0 AS value FROM generate_series(1, 500) g"
    )
    deployed.platform.sql("VACUUM FREEZE kept")
    deployed.platform.sql("CHECKPOINT")
    for number in range(ROUNDS):
        # In the first round the newest set has no tablespace, and its creation is replayed.
        before = live_files(deployed)
        assert command(deployed, "drill")["ok"]
        assert live_files(deployed) == before
        value = number + 1
        deployed.platform.sql(f"UPDATE kept SET value = {value}")
        time.sleep(1)
        moment = now(deployed)
        time.sleep(1)
        deployed.platform.sql("DELETE FROM kept")
        command(deployed, "restore", "--confirm", "crm", "--time", moment)
        assert (
            deployed.platform.sql(f"SELECT count(*) FROM kept WHERE value = {value}")
            == "500"
        )
        command(deployed, "undo")
        assert deployed.platform.sql("SELECT count(*) FROM kept") == "0"
        assert deployed.host.sh(f"ls -d {PLACE}*").split() == [PLACE]
        deployed.platform.sql(
            "INSERT INTO kept SELECT g, 0 FROM generate_series(1, 500) g"
        )
        deployed.platform.sql("VACUUM FREEZE kept")
        deployed.platform.sql("CHECKPOINT")


def test_wal_is_archived_soon_after_a_crash(deployed):
    for dummy in range(ROUNDS):
        deployed.host.sh(f"systemctl kill --signal=KILL {UNIT}")
        end = time.monotonic() + 90
        segment = ""
        while not segment and time.monotonic() < end:
            written = "SELECT pg_current_xact_id(); SELECT pg_walfile_name(pg_current_wal_insert_lsn())"
            segment = deployed.host.sh(
                f"cd /; runuser -u postgres -- psql -XAtqc '{written}' 2>/dev/null || true"
            ).strip()[-24:]
            time.sleep(0.5)
        end = time.monotonic() + 90
        while (
            deployed.platform.sql(
                f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver",
                "postgres",
            )
            != "t"
        ):
            assert time.monotonic() < end, "the commit after the start is not archived"
            time.sleep(1)


def test_sets_are_named_later_though_local_time_goes_back(deployed):
    for zone in ("Asia/Kolkata", "America/New_York", "Etc/UTC"):
        deployed.host.sh(f"ln -sf /usr/share/zoneinfo/{zone} /etc/localtime")
        assert command(deployed, "backup", "incr")
    # A set that somebody made by hand, in the zone of an eastern host.
    deployed.host.sh(
        "cd /; TZ=Asia/Kolkata setpriv --reuid=postgres --regid=postgres --init-groups pgbackrest --stanza=crm backup --type=incr"
    )
    assert command(deployed, "backup", "incr")
