# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that are proved: what was written comes back, what is refused changes nothing, what is killed or damaged is told.

All through the playbooks (modules backup_run and backup_info) and the host's own command, against the repository that the site has set up.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time

import hosts
import platforms
import plays
import pytest

COMMAND = "crm-platform-backup"
PHRASE = "a passphrase of the tests"
REPOSITORY = "/var/backups/crm-platform"
DATA = "/var/lib/postgresql/15/main"
# As many as one wants to wait for: CRM_BACKUP_KILLS=10 CRM_BACKUP_FLIPS=20.
KILLS = int(os.environ.get("CRM_BACKUP_KILLS", "2"))
FLIPS = int(os.environ.get("CRM_BACKUP_FLIPS", "3"))


def command(server, *words, check=True):
    """What the command says in its last line, and whether it succeeded."""
    done = server.host.run(COMMAND, *words, check=False)
    said = json.loads(done.stdout.splitlines()[-1])
    if check:
        assert done.returncode == 0, said
    return said


def state(server):
    return command(server, "status")


def problems(server):
    return {one["check"] for one in state(server)["problems"]}


def now(server):
    return server.platform.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")


def parties(server):
    return int(server.platform.sql("SELECT count(*) FROM party_party"))


@pytest.fixture(scope="module")
def saved(deployed):
    """The deployed host, the key of its repository exported, a full backup taken."""
    deployed.platform.works()
    outcome = deployed.run(playbook="crm.platform.backup_key", backup_key_passphrase=PHRASE, backup_key_directory=str(deployed.directory))
    assert outcome.rc == 0, outcome.failure
    command(deployed, "backup", "full")
    return deployed


@pytest.fixture
def undone(saved):
    """Whatever a test does to it, the host is well before and after."""
    before = state(saved)
    assert before["ok"] and not before["kept"], before["problems"]
    yield saved
    # Units that a test has killed stay failed until they run again, which is theirs to tell, and not the next test's to find.
    saved.host.sh("systemctl reset-failed 'crm-platform-backup-*' 2> /dev/null || true")
    if state(saved)["kept"]:
        command(saved, "undo")
    assert saved.platform.healthy()


def test_the_site_leaves_a_backup_that_nobody_else_can_read(saved):
    found = state(saved)
    assert found["ok"] and found["problems"] == []
    assert found["database"]["sets"][0]["type"] == "full"
    assert saved.host.stat("/etc/crm-platform/secrets/backup_key") == "regular file root:root 600"
    assert saved.host.stat("/etc/pgbackrest/conf.d/crm-platform-key.conf") == "regular file root:postgres 640"
    assert not saved.host.sh(f"find {REPOSITORY}/* /var/lib/crm-platform/backup -maxdepth 0 -perm /007").strip()
    # What is in the repository is in it encrypted.
    saved.host.sh(f"! grep -rqa -e 'PRIVATE KEY' -e party_party {REPOSITORY}")
    assert "crm_backup_problems 0" in saved.host.read("/var/lib/prometheus/node-exporter/crm_platform_backup.prom")
    # Which node_exporter reads, by a user of its own.
    assert saved.host.stat("/var/lib/prometheus/node-exporter").endswith(" 755")


def test_the_key_is_exported_encrypted_and_once(saved):
    path = saved.directory / f"{saved.host.name}.backup_key"
    key = saved.platform.secrets["backup_key"]
    before = path.read_text()
    assert before.startswith("$ANSIBLE_VAULT;") and key not in before
    outcome = saved.run("-vvv", playbook="crm.platform.backup_key", backup_key_passphrase=PHRASE, backup_key_directory=str(saved.directory))
    assert outcome.rc == 0 and not outcome.changed and path.read_text() == before
    assert key not in outcome.text and base64.b64encode(key.encode()).decode()[:40] not in outcome.text


def test_the_second_run_changes_nothing_and_a_check_tells_nothing(saved):
    for options in ((), ("--check", "--diff")):
        outcome = saved.run(*options, playbook="crm.platform.backup_setup")
        assert outcome.rc == 0 and not outcome.changed, outcome.changed


def test_a_dropped_table_comes_back_with_every_acknowledged_row_and_none_after(undone):
    client = undone.platform.login()
    kept = []
    for kind in ("full", "diff", "incr"):
        kept.append(client.create_party(f"Before, {kind}"))
        outcome = undone.run(playbook="crm.platform.backup", backup_type=kind)
        assert outcome.rc == 0, outcome.failure
    kept.append(client.create_party("The last one"))
    moment = now(undone)
    lost = client.create_party("After the moment")
    undone.platform.sql("DROP TABLE customer.customer CASCADE")
    outcome = undone.run(playbook="crm.platform.restore", backup_restore_confirm="crm", backup_restore_time=moment)
    assert outcome.rc == 0, outcome.failure
    client = undone.platform.login()
    assert [client.party_name(one) for one in kept] == ["Before, full", "Before, diff", "Before, incr", "The last one"]
    assert undone.platform.sql(f"SELECT count(*) FROM party_party WHERE id = {lost}") == "0"
    assert undone.platform.sql("SELECT to_regclass('customer.customer') IS NOT NULL") == "t"
    undone.platform.works()
    # The newest state can be proved and had at once, although the safety backup is newer than the set restored from.
    outcome = undone.run(playbook="crm.platform.restore_drill")
    assert outcome.rc == 0, outcome.failure
    # A wrong hand: what the restore has replaced comes back, with the row that it took.
    outcome = undone.run(playbook="crm.platform.restore_undo")
    assert outcome.rc == 0, outcome.failure
    assert undone.platform.sql(f"SELECT count(*) FROM party_party WHERE id = {lost}") == "1"
    assert command(undone, "drill")["ok"]


def test_a_set_and_a_named_point_come_back(undone):
    client = undone.platform.login()
    first = client.create_party("In the set")
    command(undone, "backup", "incr")
    label = state(undone)["database"]["sets"][-1]["label"]
    second = client.create_party("Before the point")
    undone.platform.sql("SELECT pg_create_restore_point('before the import')", "postgres")
    third = client.create_party("After the point")
    command(undone, "backup", "incr")

    def there():
        return [int(one) for one in undone.platform.sql(f"SELECT id FROM party_party WHERE id IN ({first}, {second}, {third}) ORDER BY 1").split()]

    outcome = undone.run(playbook="crm.platform.restore", backup_restore_confirm="crm", backup_restore_set=label)
    assert outcome.rc == 0, outcome.failure
    assert there() == [first]
    command(undone, "undo")
    assert there() == [first, second, third]
    outcome = undone.run(playbook="crm.platform.restore", backup_restore_confirm="crm", backup_restore_name="before the import")
    assert outcome.rc == 0, outcome.failure
    assert there() == [first, second]
    outcome = undone.run(playbook="crm.platform.restore_forget")
    assert outcome.rc == 0 and not state(undone)["kept"], outcome.failure


def test_a_restore_over_the_data_that_was_killed_is_told_and_can_be_repeated(undone):
    count = parties(undone)
    undone.host.run(COMMAND, "restore", "--confirm", "crm", "--in-place", "--detach")
    undone.host.wait_for("the data to be written over", lambda: undone.host.sh("pgrep -f '[p]gbackrest .*--delta' || true").strip(), 60)
    undone.host.run("systemctl", "kill", "--signal=KILL", "crm-platform-restore")
    undone.host.wait_for("the unit to end", lambda: undone.host.sh("systemctl is-active crm-platform-restore || true").strip() == "inactive", 60)
    assert not state(undone)["ok"] and state(undone)["restoring"]
    said = command(undone, "restore", "--confirm", "crm", check=False)
    assert "cut off" in said["error"]
    command(undone, "restore", "--confirm", "crm", "--in-place", "--no-safety-backup")
    undone.host.wait_for("the CRM to answer", undone.platform.healthy, 30)
    assert parties(undone) == count and problems(undone) == set()
    undone.platform.works()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "backup_restore_confirm"),
        ({"backup_restore_confirm": "other"}, "backup_restore_confirm"),
        ({"backup_restore_confirm": "crm", "backup_restore_time": "2099-01-01 00:00:00Z"}, "in the future"),
        ({"backup_restore_confirm": "crm", "backup_restore_time": "2001-01-01 00:00:00Z"}, "before the end of the first backup"),
        ({"backup_restore_confirm": "crm", "backup_restore_time": "2026-01-01 00:00:00"}, "zone"),
        ({"backup_restore_confirm": "crm", "backup_restore_set": "nothing"}, "there is no set nothing"),
        ({"backup_restore_confirm": "crm", "backup_restore_lsn": "nowhere"}, "no position in the log"),
        ({"backup_restore_confirm": "crm", "backup_restore_lsn": "0/1", "backup_restore_name": "x"}, "one target"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(saved, options, words):
    before = saved.host.sh(f"ls {DATA}/.. ; systemctl show -p ActiveEnterTimestamp postgresql@15-main")
    outcome = saved.run(playbook="crm.platform.restore", **options)
    assert outcome.rc != 0 and words in outcome.failure and "\n" not in outcome.failure.strip()
    assert saved.host.sh(f"ls {DATA}/.. ; systemctl show -p ActiveEnterTimestamp postgresql@15-main") == before


def test_no_room_is_told_before(undone):
    # The container cannot mount a small file system: what the system says of the room is replaced.
    said = undone.host.run(
        "python3",
        "-c",
        "import sys, shutil, collections; sys.path.insert(0, '/usr/local/lib/crm-platform/backup'); sys.argv = ['x', 'restore', '--confirm', 'crm', '--here'];"
        "shutil.disk_usage = lambda path: collections.namedtuple('U', 'total used free')(10, 9, 1);"
        "import runpy; runpy.run_path('/usr/local/lib/crm-platform/backup/__main__.py', run_name='__main__')",
        check=False,
    )
    assert said.returncode == 1 and "make room" in said.stderr and "Traceback" not in said.stderr


def test_no_room_on_the_way_leaves_the_old_data_live(undone):
    count, home = parties(undone), DATA.removesuffix("/main")
    units = "crm-platform crm-platform-worker crm-platform-cron postgresql@15-main"
    undone.host.sh(
        f"set -e; systemctl stop {units}; mv {home} {home}.disk; mkdir {home}; mount -t tmpfs -o size=900m none {home};"
        f" cp -a {home}.disk/. {home}/; systemctl start {units}"
    )
    try:
        undone.host.wait_for("the CRM to answer", undone.platform.healthy, 30)
        # Just enough is free when the restore begins; nothing as soon as it writes.
        undone.host.sh(
            f"cd {home}; crm-platform-backup backup incr; need=$(crm-platform-backup restore --confirm crm --check | python3 -c"
            ' \'import json, sys; print(json.load(sys.stdin)["plan"]["set"]["size"] // 1024 ** 2 + 256 + 60)\');'
            f" free=$(df --output=avail -m {home} | tail -1); fallocate -l $((free - need))M fill;"
            " crm-platform-backup restore --confirm crm --detach;"
            " until [ -d main.before-restore ]; do sleep 0.02; done;"
            " fallocate -l $(df --output=avail -B1 . | tail -1) fill2 || dd if=/dev/zero of=fill2 bs=1M; true"
        )
        undone.host.wait_for(
            "the restore to end", lambda: undone.host.sh("systemctl is-active crm-platform-restore || true").strip() == "inactive", 60
        )
        undone.host.sh(f"rm {home}/fill*")
        last = state(undone)["runs"]["restore"]
        assert not last["ok"] and "pace" in last["error"], last
        undone.host.wait_for("the CRM to answer", undone.platform.healthy, 30)
        assert parties(undone) == count
        undone.platform.works()
    finally:
        undone.host.sh(
            f"rm -f {home}/fill*; systemctl stop {units}; rm -rf {home}.disk/main; cp -a {home}/main {home}.disk/main;"
            f" umount {home}; rmdir {home}; mv {home}.disk {home}; systemctl start {units}"
        )
    undone.host.wait_for("the CRM to answer", undone.platform.healthy, 30)
    command(undone, "restore", "--confirm", "crm")
    command(undone, "forget")
    assert parties(undone) == count and problems(undone) == set()


def test_a_repository_that_vanished_is_not_begun_anew_in_silence(undone):
    path = f"{REPOSITORY}/database"
    undone.host.sh(f"mv {path} {path}.kept; crm-platform-backup setup; true")
    try:
        said = command(undone, "setup", check=False)
        assert "holds no repository" in said["error"]
    finally:
        undone.host.sh(f"rm -rf {path}; mv {path}.kept {path}")


def test_a_restore_that_fails_leaves_the_old_data_live(undone):
    count = parties(undone)
    outcome = undone.run(playbook="crm.platform.restore", backup_restore_confirm="crm", backup_restore_name="a point that was never made")
    assert outcome.rc != 0 and "recovery ended before" in outcome.failure
    assert not state(undone)["kept"] and parties(undone) == count
    undone.platform.works()
    # It is told until a restore, or its undoing, went well.
    assert "run" in problems(undone)
    command(undone, "restore", "--confirm", "crm")
    assert parties(undone) == count and problems(undone) == set()


def test_a_database_that_cannot_start_is_restored_after_a_restore_that_failed(undone):
    count = parties(undone)
    # Without its database the worker takes a minute and a half to stop.
    undone.host.sh(f"systemctl stop crm-platform-worker postgresql@15-main && mv {DATA}/pg_wal {DATA}/pg_wal.away")
    words = ("restore", "--confirm", "crm", "--no-safety-backup")
    said = command(undone, *words, "--lsn=FFFF/0", check=False)
    assert "recovery ended before" in said["error"] and "pg_wal" in said["error"], said
    assert not state(undone)["restoring"] and not state(undone)["kept"]
    command(undone, *words)
    undone.host.wait_for("the CRM to answer", undone.platform.healthy, 30)
    assert parties(undone) == count and problems(undone) == set()
    # The other way there is nothing but what does not start: what is live stays.
    said = command(undone, "undo", check=False)
    assert "live again" in said["error"], said
    undone.host.wait_for("the CRM to answer", undone.platform.healthy, 30)
    assert parties(undone) == count and state(undone)["kept"]
    undone.host.sh(f"mv {DATA}.before-restore/pg_wal.away {DATA}.before-restore/pg_wal")
    command(undone, "undo")
    assert parties(undone) == count and problems(undone) == set()


def test_attachments_that_are_missing_come_back_and_no_other_is_touched(undone):
    client = undone.platform.login()
    party = client.create_party("With attachments")
    for text in ("kept", "lost"):
        data = {"__class__": "bytes", "base64": base64.b64encode(f"attachment {text}".encode()).decode()}
        client.call("model.ir.attachment.create", [{"name": text, "resource": f"party.party,{party}", "data": data}], {})
    command(undone, "backup", "incr")
    kept, lost = (undone.host.sh(f"grep -rl 'attachment {text}' /var/lib/crm-platform/data").strip() for text in ("kept", "lost"))
    rights = undone.host.sh(f"stat -c '%n %U:%G %a' {lost} $(dirname {lost})")
    undone.host.sh(f"echo more >> {kept}; rm -r $(dirname {lost})")
    before = undone.host.sh(f"stat -c '%i %s %y %z' {kept}")
    assert command(undone, "files", "--path", "/var/lib/crm-platform/data")["restored"] >= 1
    assert undone.host.sh(f"stat -c '%i %s %y %z' {kept}") == before
    assert undone.host.read(lost) == "attachment lost"
    assert undone.host.sh(f"stat -c '%n %U:%G %a' {lost} $(dirname {lost})") == rights
    assert not undone.host.sh("ls -A /var/lib/crm-platform/backup | grep attachments || true")


def test_after_a_power_cut_nothing_starts_on_data_that_is_half_restored(undone):
    mark = '{"began": 1, "in_place": false, "units": []}'
    undone.host.sh(
        f"systemctl stop postgresql@15-main; echo '{mark}' > /var/lib/crm-platform/backup/restoring.json; systemctl start postgresql@15-main"
    )
    assert undone.host.sh("systemctl is-active postgresql@15-main || true").strip() == "inactive"
    assert undone.host.sh("systemctl is-enabled crm-platform-backup-boot").strip() == "enabled"
    undone.host.sh("systemctl start crm-platform-backup-boot")
    # Debian's unit says so a moment after PostgreSQL does.
    undone.host.wait_for("PostgreSQL to be up", lambda: undone.host.sh("systemctl is-active postgresql@15-main || true").strip() == "active", 30)
    undone.host.wait_for("the CRM to answer", undone.platform.healthy, 30)
    assert problems(undone) == set()


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


def problems_kept(server):
    """As the state file tells them, which whoever watches reads."""
    return {one["check"] for one in json.loads(server.host.read("/var/lib/crm-platform/backup/state.json"))["problems"]}


SILENCES = {
    "a stopped timer": ("systemctl stop crm-platform-backup-incr.timer", "systemctl start crm-platform-backup-incr.timer", "timer"),
    "a full disk": (
        f"mv {REPOSITORY} {REPOSITORY}.disk && mkdir {REPOSITORY} && mount -t tmpfs -o size=600m none {REPOSITORY} && cp -a {REPOSITORY}.disk/. {REPOSITORY}/;"
        f" dd if=/dev/zero of={REPOSITORY}/fill bs=1M 2> /dev/null; true",
        f"rm {REPOSITORY}/fill; crm-platform-backup backup incr; cp -a {REPOSITORY}/. {REPOSITORY}.disk/;"
        f" umount {REPOSITORY} && rmdir {REPOSITORY} && mv {REPOSITORY}.disk {REPOSITORY}",
        "space",
    ),
    "a wrong key": (
        "cp -p /etc/crm-platform/secrets/backup_key /root/key; echo wrong > /etc/crm-platform/secrets/backup_key",
        "cp -p /root/key /etc/crm-platform/secrets/backup_key; rm /root/key",
        "repository",
    ),
    "a dead repository": (f"mv {REPOSITORY} {REPOSITORY}.away", f"rm -rf {REPOSITORY}; mv {REPOSITORY}.away {REPOSITORY}", "repository"),
    "an archive that fails": (
        "chown root: /var/spool/pgbackrest; chmod 700 /var/spool/pgbackrest;"
        " runuser -u postgres -- psql -qc 'select pg_current_xact_id()' -c 'select pg_switch_wal()'; sleep 8",
        "chown postgres: /var/spool/pgbackrest; runuser -u postgres -- pgbackrest --stanza=crm --archive-timeout=120 check",
        "archive",
    ),
    "an overdue drill": (
        "cd /var/lib/crm-platform/backup; cp -p drills.json /root/; cp -p since.json /root/; echo '[]' > drills.json;"
        " echo '{\"time\": 1000000000}' > since.json",
        "cp -p /root/drills.json /root/since.json /var/lib/crm-platform/backup/; rm /root/drills.json /root/since.json",
        "drill",
    ),
}


@pytest.mark.parametrize("silence", SILENCES)
def test_no_silence(undone, silence):
    make, take_back, told = SILENCES[silence]
    undone.host.sh(make)
    try:
        outcome = undone.run(playbook="crm.platform.backup_info")
        found = problems_kept(undone)
    finally:
        undone.host.sh(take_back)
    assert outcome.rc != 0 and told in found, found
    assert problems(undone) == set()


def test_a_host_that_is_down_keeps_no_other_from_telling(saved):
    inventory = saved.inventory()
    inventory["all"]["children"]["crm_package"]["hosts"]["elsewhere"] = {"foundation_address": "192.0.2.9"}
    outcome = plays.run(saved.directory, "crm.platform.backup_info", inventory, collections=saved.collections)
    # A container that is not there is a failure, to ssh it would be a host that is not reached.
    assert outcome.rc != 0 and outcome.stats["elsewhere"]["unreachable"] + outcome.stats["elsewhere"]["failures"] == 1
    assert f"{saved.host.name}: the backups can be relied on" in outcome.text


def test_a_lost_repository_is_begun_anew_where_that_is_meant(undone):
    count = parties(undone)
    undone.host.sh(f"rm -rf {REPOSITORY}")
    outcome = undone.run(playbook="crm.platform.backup_setup")
    assert outcome.rc != 0 and "since.json" in outcome.failure
    undone.host.sh("rm /var/lib/crm-platform/backup/since.json")
    outcome = undone.run(playbook="crm.platform.backup_setup")
    assert outcome.rc == 0, outcome.failure
    # The cluster was restored before: its timeline is not the first.
    assert command(undone, "drill")["ok"]
    command(undone, "restore", "--confirm", "crm")
    command(undone, "forget")
    assert parties(undone) == count and problems(undone) == set()


def test_a_lost_server_is_rebuilt_from_the_repository_and_the_key_alone(undone, make_server):
    client = undone.platform.login()
    party = client.create_party("Survives its server")
    data = {"__class__": "bytes", "base64": base64.b64encode(b"signed").decode()}
    attachment = client.call("model.ir.attachment.create", [{"name": "contract", "resource": f"party.party,{party}", "data": data}], {})
    command(undone, "backup", "incr")
    count, secrets = parties(undone), undone.platform.secrets
    spare = make_server("spare")
    hosts.engine("cp", f"{undone.host.name}:{REPOSITORY}", str(undone.directory / "repository"))
    spare.host.run("mkdir", "-p", "/var/backups")
    hosts.engine("cp", str(undone.directory / "repository"), f"{spare.host.name}:{REPOSITORY}")
    spare.host.sh("chown -R 0:0 /var/backups")
    # The same server to the inventory, at another place.
    inventory = undone.inventory(backup_key_passphrase=PHRASE, backup_key_directory=str(undone.directory))
    text = json.loads(json.dumps(inventory).replace(f'"{undone.host.name}": {{}}', f'"{undone.host.name}": {{"ansible_host": "{spare.host.name}"}}'))
    began = time.monotonic()
    outcome = spare_run(spare, "crm.platform.rebuild", text)
    assert outcome.rc == 0, outcome.failure
    print(f"rebuilt in {time.monotonic() - began:.0f} s")
    there = platforms.Platform(spare.host.name, undone.platform.domain)
    assert there.secrets == secrets
    assert int(there.sql("SELECT count(*) FROM party_party")) == count
    client = there.login()
    assert client.party_name(party) == "Survives its server"
    found = client.call("model.ir.attachment.read", attachment, ["data"], {})
    assert "signed" in base64.b64decode(found[0]["data"]["base64"]).decode()
    there.works()
    again = spare_run(spare, "crm.platform.rebuild", text)
    assert again.rc == 0 and not again.changed, again.failure or again.changed
    assert json.loads(spare.host.run(COMMAND, "drill").stdout.splitlines()[-1])["ok"]


def spare_run(server, playbook, inventory):
    import plays

    return plays.run(server.directory, playbook, inventory, collections=server.collections)


def test_an_emptied_schedule_has_no_timer(saved):
    for dummy in range(2):
        outcome = saved.run(playbook="crm.platform.backup_setup", backup_schedule_incr="")
        assert outcome.rc == 0 and bool(outcome.changed) == (not dummy), outcome.failure or outcome.changed
        assert "incr" not in saved.host.sh("systemctl list-timers --all --no-legend 'crm-platform-backup*'; ls /etc/systemd/system/*/")
    assert problems(saved) == set()


def test_one_can_do_without(saved):
    # As a run that was killed in between has left it.
    saved.host.sh(
        "cd /etc/systemd/system; systemctl disable --now crm-platform-backup-status.timer; rm crm-platform-backup-status.timer;"
        " rm /etc/postgresql/15/main/conf.d/zz-crm-platform-backup.conf"
    )
    outcome = saved.run(playbook="crm.platform.backup_setup", backup_enabled=False)
    assert outcome.rc == 0, outcome.failure
    assert saved.platform.sql("SHOW archive_command") == "/bin/true"
    assert not saved.host.sh(
        "systemctl list-timers --all --no-legend 'crm-platform-backup*'; ls -d /etc/systemd/system/crm-platform-backup* || true"
    ).strip()
    # What nobody brings up to date any more would be told as a fault for ever.
    told = saved.host.run("crm-platform-health", "--area", "backup", "--json", "--no-write", check=False)
    assert {one["status"] for one in json.loads(told.stdout)["results"]} == {"skipped"}, told.stdout
    assert not saved.run(playbook="crm.platform.backup_setup", backup_enabled=False).changed
    for dummy in range(3):
        saved.platform.sql("SELECT pg_current_xact_id(); SELECT pg_switch_wal()")
    outcome = saved.run(playbook="crm.platform.backup_setup")
    assert outcome.rc == 0, outcome.failure
    # No log leads from earlier sets to now.
    found = state(saved)
    newest = found["database"]["sets"][-1]
    assert newest["type"] == "incr" and found["database"]["window"]["from"] == newest["ended"] and found["problems"] == []
    assert command(saved, "drill")["set"] == newest["label"]
    again = saved.run(playbook="crm.platform.backup_setup")
    assert again.rc == 0 and not again.changed, again.failure or again.changed
