# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores on a deployed server: what was written comes back, and a restore that fails or is cut off leaves the old data live."""

from __future__ import annotations

import base64
import os
import time

from backups import COMMAND, DATA, QUIET, REPOSITORY, command, health, now, parties, problems, state


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


def attach(server, name):
    """A new attachment of a new party; its number."""
    client = server.platform.login()
    party = client.create_party("With attachments")
    data = {"__class__": "bytes", "base64": base64.b64encode(f"attachment {name}".encode()).decode()}
    (number,) = client.call("model.ir.attachment.create", [{"name": name, "resource": f"party.party,{party}", "data": data}], {})
    return number


def file_of(server, name):
    return server.host.sh(f"grep -rl 'attachment {name}' /var/lib/crm-platform/data").strip()


def test_an_attachment_without_its_file_is_counted_and_named_until_it_is_cured(undone):
    command(undone, "backup", "incr")
    number = attach(undone, "after the last saving")
    name = f"(ir.attachment,{number})"
    undone.host.run("rm", file_of(undone, "after the last saving"))
    found = state(undone)
    # Told, and no reason not to rely on the backups.
    assert found["ok"] and found["attachments"]["without_file"] == 1 and name in found["attachments"]["missing"][0], found["attachments"]
    one = health(undone, "backup_attachments")
    assert one["status"] == "critical" and name in one["message"] and "files --path" in one["cure"], one
    assert name in command(undone, "attachments")["message"]
    # What is too new for the last saving is no fault of it; the same an hour later is one.
    said = command(undone, "drill")
    assert said["ok"] and (said["attachments"]["newer"], said["attachments"]["not_saved"]) == (1, 0), said
    undone.platform.sql(f"UPDATE ir_attachment SET create_date = create_date - interval '1 hour', write_date = NULL WHERE id = {number}")
    said = command(undone, "drill")
    assert said["ok"] and said["attachments"]["not_saved"] == 1 and name in said["attachments"]["missing"][0], said
    outcome = undone.run(playbook="crm.platform.restore_drill")
    assert outcome.rc != 0 and "the restore is proved" in outcome.failure and name in outcome.failure, outcome.failure
    # A restore is done, and tells at its end what has no file.
    outcome = undone.run(playbook="crm.platform.restore", backup_restore_confirm="crm")
    assert outcome.rc != 0 and "the database is restored, but" in outcome.failure and name in outcome.failure, outcome.failure
    assert name in command(undone, "files", "--path", "/var/lib/crm-platform/data", check=False)["error"]
    command(undone, "forget")
    undone.platform.login().call("model.ir.attachment.delete", [number], {})
    assert command(undone, "drill")["attachments"]["not_saved"] == 0
    assert problems(undone) == set() and health(undone, "backup_attachments")["status"] == "ok"


def test_new_attachments_are_saved_in_time_and_what_is_gone_of_them_comes_back_from_an_earlier_saving(undone):
    undone.host.sh("rm -rf /run/systemd/system/crm-platform-backup-attachments.timer.d; systemctl daemon-reload")
    undone.host.sh("systemctl restart crm-platform-backup-attachments.timer")
    number, began = attach(undone, "soon saved"), time.monotonic()
    path = file_of(undone, "soon saved")
    files = f"restic --no-cache --no-lock -r {REPOSITORY}/files --password-file /etc/crm-platform/secrets/backup_key"

    def saved():
        # Its first line names what is asked for.
        return path in undone.host.sh(f"{files} ls latest {path}").splitlines()

    undone.host.wait_for("the attachment to be saved", saved, 300)
    print(f"saved after {time.monotonic() - began:.0f} s")
    undone.host.sh(QUIET)
    # One that is as young as the saving itself is saved once more.
    time.sleep(2)
    command(undone, "follow")
    assert command(undone, "follow") == {"changed": False}
    # A deleted file is no reason to save; in the newest saving after that it is missing, and is to be had all the same.
    undone.host.run("rm", "-r", os.path.dirname(os.path.dirname(path)))
    assert command(undone, "follow") == {"changed": False}
    attach(undone, "another")
    assert command(undone, "follow")["changed"] and not saved()
    assert [one["check"] for one in state(undone)["problems"]] == ["attachments"]
    assert command(undone, "files", "--path", "/var/lib/crm-platform/data")["restored"] == 1
    assert undone.host.read(path) == "attachment soon saved"
    assert undone.host.sh(f"stat -c '%U %a' {os.path.dirname(path)}") == undone.host.sh(f"stat -c '%U %a' {os.path.dirname(file_of(undone, 'another'))}")
    found = undone.platform.login().call("model.ir.attachment.read", [number], ["data"], {})
    assert "soon saved" in base64.b64decode(found[0]["data"]["base64"]).decode() and problems(undone) == set()


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
