# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups on a deployed server: what is refused changes nothing, and no failure goes untold.

All through the playbooks (modules backup_run and backup_info) and the host's own command, against the repository that the site has set up.
"""

from __future__ import annotations

import base64
import json

import plays
import pytest
from backups import DATA, PHRASE, REPOSITORY, command, problems, problems_kept, state


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
    path = saved.directory / f"{saved.name}.backup_key"
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


def test_a_repository_that_vanished_is_not_begun_anew_in_silence(undone):
    path = f"{REPOSITORY}/database"
    undone.host.sh(f"mv {path} {path}.kept; crm-platform-backup setup; true")
    try:
        said = command(undone, "setup", check=False)
        assert "holds no repository" in said["error"]
    finally:
        undone.host.sh(f"rm -rf {path}; mv {path}.kept {path}")


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
        "set -e; crm-platform-backup drill > /dev/null;"
        " cd /var/lib/crm-platform/backup; cp -p drills.json /root/; cp -p since.json /root/; echo '[]' > drills.json;"
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
    assert f"{saved.name}: the backups can be relied on" in outcome.text


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
