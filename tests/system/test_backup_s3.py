# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second repository on an S3 server: added to a running platform, restored from when the first is gone, no burden when it is dead itself."""

from __future__ import annotations

import base64
import json

import hosts
import pytest
import s3

COMMAND = "crm-platform-backup"
REPOSITORY = "/var/backups/crm-platform"
BUCKET = "crm-backups"
AUTHORITY = "/etc/ssl/s3-ca.crt"
SECRET = "sEcret/of+s3=Zw8h2Yq7"


def state(server):
    return json.loads(server.host.run(COMMAND, "status", check=False).stdout.splitlines()[-1])


def problems(server):
    return {one["check"] for one in state(server)["problems"]} - {"key"}


@pytest.fixture(scope="module")
def store(deployed):
    """The server, and the host that knows it by its name."""
    address = hosts.engine("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", deployed.host.name).stdout.strip()
    server = s3.Server(deployed.directory, address)
    deployed.host.write("/etc/hosts", deployed.host.read("/etc/hosts") + f"{address} {s3.NAME}\n")
    try:
        server.start(BUCKET)
        deployed.host.write(AUTHORITY, server.authority.read_text())
        yield server
    finally:
        server.stop()
        # What the dead server has failed is not the next test's to find.
        deployed.host.sh("systemctl reset-failed 'crm-platform-backup-*' 2> /dev/null || true")


@pytest.fixture(scope="module")
def variables(store):
    return {
        "backup_s3_endpoint": store.endpoint,
        "backup_s3_bucket": BUCKET,
        "backup_s3_key": "AKIDOFATEST",
        "backup_s3_key_secret": SECRET,
        "backup_s3_ca": AUTHORITY,
    }


def test_it_is_added_to_a_running_platform_in_one_run(deployed, variables, store):
    assert problems(deployed) == set()
    outcome = deployed.run("-vvv", "--diff", playbook="crm.platform.backup_setup", **variables)
    assert outcome.rc == 0, outcome.failure
    found = state(deployed)
    assert [one["type"] for one in found["second"]["sets"]] == ["full"] and found["second"]["files"]["files"]["snapshots"] >= 1
    assert problems(deployed) == set()
    # The secret is where it has to be, and nowhere else.
    assert SECRET not in outcome.text and base64.b64encode(SECRET.encode()).decode()[:20] not in outcome.text
    assert deployed.host.stat("/etc/crm-platform/secrets/backup_s3") == "regular file root:root 600"
    assert deployed.host.stat("/etc/pgbackrest/conf.d/crm-platform-second.conf") == "regular file root:postgres 640"
    assert SECRET not in deployed.host.sh("journalctl --no-pager; cat /var/log/pgbackrest/* /var/lib/crm-platform/backup/*.json")
    # What is there is encrypted.
    assert store.ask("GET", f"{BUCKET}/crm-platform/database/backup/crm/backup.info").startswith(b"Salted__")
    again = deployed.run(playbook="crm.platform.backup_setup", **variables)
    assert again.rc == 0 and not again.changed, again.failure or again.changed


def test_what_the_first_repository_has_lost_comes_back_from_the_second(deployed, variables):
    party = deployed.platform.login().create_party("In the log of both")
    count = deployed.platform.sql("SELECT count(*) FROM party_party")
    deployed.host.sh(f"mv {REPOSITORY} {REPOSITORY}.away")
    try:
        outcome = deployed.run(playbook="crm.platform.restore", backup_restore_confirm="crm", backup_restore_repository=2, **variables)
        assert outcome.rc == 0, outcome.failure
        assert "repository" in problems(deployed)
    finally:
        deployed.host.sh(f"rm -rf {REPOSITORY}; mv {REPOSITORY}.away {REPOSITORY}")
    assert deployed.platform.sql("SELECT count(*) FROM party_party") == count
    assert deployed.platform.login().party_name(party) == "In the log of both"
    deployed.host.run(COMMAND, "forget")
    # The first goes on from there.
    outcome = deployed.run(playbook="crm.platform.backup", **variables)
    assert outcome.rc == 0 and "is in it" in outcome.text, outcome.failure
    assert problems(deployed) == set()


def test_a_second_one_that_is_dead_is_told_and_does_not_hold_up_the_first(deployed, store):
    before = state(deployed)["database"]["sets"]
    store.stop()
    deployed.host.run(COMMAND, "backup", "incr")
    found = state(deployed)
    assert len(found["database"]["sets"]) == len(before) + 1 and not found["ok"]
    assert {one["check"] for one in found["problems"]} - {"key"} == {"second"}, found["problems"]
    # The log reaches the first at once.
    deployed.platform.sql("SELECT pg_switch_wal()")
    waits = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
    deployed.host.wait_for("the log to be saved", lambda: deployed.platform.sql(waits) == "0", 30)


def test_one_can_do_without_it(deployed):
    outcome = deployed.run(playbook="crm.platform.backup_setup")
    assert outcome.rc == 0, outcome.failure
    assert SECRET not in deployed.host.sh("cat /etc/pgbackrest/conf.d/* /etc/crm-platform/secrets/*")
    assert problems(deployed) == set() and state(deployed)["second"] is None
