# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the backups that are killed, and bytes that are flipped: each is told, and the next run works.

More of each: CRM_BACKUP_KILLS=10 CRM_BACKUP_FLIPS=20.
"""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import pytest
from backups import COMMAND, REPOSITORY, command, now, parties, problems, problems_kept, state

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "backup.md"

# As many as one wants to wait for: CRM_BACKUP_KILLS=10 CRM_BACKUP_FLIPS=20.
KILLS = int(os.environ.get("CRM_BACKUP_KILLS", "2"))
FLIPS = int(os.environ.get("CRM_BACKUP_FLIPS", "3"))


@pytest.mark.parametrize("unit", ["crm-platform-backup-incr", "crm-platform-backup-drill", "crm-platform-restore"])
def test_a_killed_run_is_told_and_the_next_one_works(undone, unit):
    count = parties(undone)
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    for dummy in range(KILLS):
        if unit.endswith("restore"):
            undone.host.run(COMMAND, "restore", "--confirm", "crm", "--detach")
        else:
            undone.host.run("systemctl", "start", "--no-block", unit)
        # Over the whole of the run, whichever takes how long.
        time.sleep(chance.uniform(0.2, {"crm-platform-backup-incr": 6, "crm-platform-backup-drill": 9}.get(unit, 14)))
        undone.host.run("systemctl", "kill", "--signal=KILL", unit, check=False)
        undone.host.wait_for(
            "the unit to end",
            lambda: undone.host.sh(f"systemctl is-active {unit} || true").strip() not in ("active", "activating", "deactivating"),
            60,
        )
        kind = unit.rsplit("-", 1)[1].replace("incr", "backup")
        # A kill that came too late has found the run well ended.
        whole = state(undone)["runs"].get(kind, {}).get("ok") and not undone.host.sh(
            "ls /var/lib/crm-platform/backup/running.json 2>/dev/null || true"
        )
        assert whole or not state(undone)["ok"], f"seed {seed}"
        if kind == "restore":
            # What was live is live again without anybody's doing.
            undone.host.wait_for("the CRM to answer", undone.platform.healthy, 30)
            undone.platform.works()
            assert not state(undone)["restoring"]
            if state(undone)["kept"]:
                command(undone, "forget")
        command(undone, *{"backup": ("backup", "incr"), "drill": ("drill",), "restore": ("restore", "--confirm", "crm")}[kind])
        if kind == "restore":
            command(undone, "forget")
        assert parties(undone) == count and problems(undone) == set(), f"seed {seed}"
    assert not undone.host.sh("ls -d /var/lib/postgresql/crm-platform-drill /run/crm-platform-drill 2>/dev/null || true")


def flip(server, path, place):
    """Turn over one bit of a file; a second time, and it is as it was."""
    script = f"f = open({path!r}, 'r+b'); f.seek({place}); b = f.read(1); f.seek({place}); f.write(bytes([b[0] ^ 1]))"
    server.host.run("python3", "-c", script)


def test_each_flipped_byte_in_a_copy_of_the_data_is_found(undone):
    """In the files that hold data: the free space map and all free space in them is under the checksums, too."""
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    copy = "/var/lib/postgresql/copy"
    control = f"/usr/lib/postgresql/15/bin/pg_ctl -D {copy} -w"
    options = "-p 5499 -c listen_addresses= -c unix_socket_directories=/tmp -c ssl=off -c archive_mode=off"
    undone.host.write(
        "/root/copy",
        f"set -e; cd /; mkdir -m 700 {copy}\n"
        f"pgbackrest --stanza=crm --pg1-path={copy} --type=immediate --target-action=promote --archive-mode=off restore\n"
        f"touch {copy}/postgresql.conf {copy}/pg_ident.conf; echo 'local all all peer' > {copy}/pg_hba.conf\n"
        f"{control} -l {copy}/log -o '{options}' start > /dev/null\n"
        "until [ \"$(psql -h /tmp -p 5499 -XAtc 'select pg_is_in_recovery()' postgres)\" = f ]; do sleep 0.2; done\n"
        f"{control} -m fast stop > /dev/null\n",
    )
    undone.host.sh("chmod 755 /root; runuser -u postgres -- sh /root/copy; chmod 700 /root")
    try:
        # Caches that PostgreSQL makes anew hold no data, and no backup takes them.
        listed = undone.host.sh(f"find {copy}/base {copy}/global -type f -size +0 ! -name pg_internal.init -printf '%s %p\n'").splitlines()
        sizes = [(int(line.split()[0]), line.split()[1]) for line in listed]
        for dummy in range(FLIPS):
            place = chance.randrange(sum(size for size, path in sizes))
            for size, path in sizes:
                if place < size:
                    break
                place -= size
            flip(undone, path, place)
            said = command(undone, "examine", copy, check=False)
            flip(undone, path, place)
            assert said.get("failed"), f"{path} at {place}, seed {seed}: {said}"
        assert command(undone, "examine", copy)["parties"] >= 0
    finally:
        undone.host.run("rm", "-rf", copy)
    assert problems(undone) == set()


def test_each_flipped_byte_in_the_repository_is_found(undone):
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    # Locks of runs that ended, and pgBackRest's notes on backups and segments, which no restore reads.
    notes = "! -path '*/backup.history/*' ! -name '*.backup' ! -path '*/locks/*'"
    files = undone.host.sh(f"find {REPOSITORY} -type f -size +0 {notes}").split()
    for dummy in range(FLIPS):
        part = chance.choice(["/database/backup/", "/database/archive/", "/files/"])
        path = chance.choice([path for path in files if part in path])
        place = chance.randrange(int(undone.host.sh(f"stat -c %s {path}")))
        flip(undone, path, place)
        said = command(undone, "verify", check=False)
        flip(undone, path, place)
        assert said.get("failed"), f"{path} at {place}, seed {seed}"
        assert "verify" in problems_kept(undone)
    command(undone, "verify")
    assert problems(undone) == set()


def test_a_damaged_segment_leaves_the_drill_proved_and_the_printed_cure_ends_it(undone):
    switch = "SELECT pg_walfile_name(pg_switch_wal())"

    def stored(segment):
        # A restore of an earlier test may have led to another timeline.
        place = f"{REPOSITORY}/database/archive/crm/15-1/{segment[:16]}"
        return undone.host.sh(f"ls {place}/{segment}-* 2> /dev/null || true").strip()

    names, moment = [], ""
    for number in range(3):
        undone.platform.sql(f"CREATE TABLE public.damage_{number} AS SELECT 1 AS one")
        if number == 0:
            moment = now(undone)
            undone.platform.sql("CREATE TABLE public.after_moment AS SELECT 1 AS one")
        names.append(undone.platform.sql(switch))
        undone.host.wait_for("the segment to be stored", lambda: stored(names[-1]), 60)
    between = now(undone)
    # The middle one and the next.
    flip(undone, stored(names[1]), 100)
    flip(undone, stored(names[2]), 200)
    said = command(undone, "verify", check=False)
    assert names[1] in said["error"] and names[2] in said["error"], said
    # A damaged one, and a later full set: else it stays.
    assert "backup full" in command(undone, "set-aside", names[1], check=False)["error"]
    assert names[0] in command(undone, "set-aside", names[0], check=False)["error"] and stored(names[0])
    # Once nothing newer needs it, there are two results: the restore is proved, and the repository has damage.
    command(undone, "backup", "full")
    said = command(undone, "drill")
    assert said["ok"] and names[1] in said["damage"] and names[2] in said["damage"], said
    found = state(undone)
    assert {one["check"] for one in found["problems"]} == {"verify", "run"} and found["drill"]["last"]["ok"]
    (block,) = [one for one in re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL) if "set-aside" in one]
    lines = [line for line in block.splitlines() if not line.startswith("#")]
    for segment in names[1:]:
        for line in lines:
            undone.host.run(*re.sub(r"[0-9A-F]{24}", segment, line).split(), check=line != lines[-1] or segment == names[-1])
    assert problems(undone) == set()
    assert command(undone, "drill")["damage"] == "" and not stored(names[1]) and not stored(names[2]) and stored(names[0])
    # What is before the gap can be brought back, and what is in it cannot.
    said = command(undone, "restore", "--confirm", "crm", "--time", between, check=False)
    assert "recovery ended before" in said["error"], said
    command(undone, "restore", "--confirm", "crm", "--time", moment)
    tables = undone.platform.sql("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname ~ '^damage_'")
    assert tables == "damage_0", tables
    command(undone, "undo")
    undone.platform.sql("DROP TABLE after_moment, damage_0, damage_1, damage_2")
    assert problems(undone) == set()
