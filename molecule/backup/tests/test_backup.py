# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups on a host of their own: what was written comes back, the server cannot take them with it, and a bare host replaces it.

roles/backup, and the playbooks crm.platform.backup, .backup_info, .restore, .restore_drill and .rebuild. In this order: the last
test loses the server.
"""

from __future__ import annotations

import base64
import json
import os
import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "support"))

import hosts  # pylint: disable=wrong-import-position
import platforms  # pylint: disable=wrong-import-position
import plays  # pylint: disable=wrong-import-position

# Molecule's own settings are not those of the playbooks that are run here.
for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
    del os.environ[name]

testinfra_hosts = ["crm-backup-server"]
SERVER, KEEPER, SPARE = "crm-backup-server", "crm-backup-keeper", "crm-backup-spare"
REPOSITORY = "/var/backups/crm-platform"
SETS = f"find {REPOSITORY}/database/backup/crm -maxdepth 1 -type d -name '2*' | sort"
RESTIC = (
    f"restic --repo rest:https://{KEEPER}:8433/{SERVER}/ --no-cache --cacert /etc/crm-platform/pki/ca.crt"
    " --tls-client-cert /var/lib/crm-platform/backup/client.pem --password-file /etc/crm-platform/secrets/backup_files_key"
)
# As many as one wants to wait for: CRM_BACKUP_KILLS=10.
KILLS = int(os.environ.get("CRM_BACKUP_KILLS", "1"))


class Lab:
    """The three hosts, and playbooks run against them."""

    def __init__(self, directory):
        self.directory = directory
        self.crm = platforms.Platform(SERVER, "crm.example.test")
        self.server, self.keeper, self.spare = (platforms.Container(name) for name in (SERVER, KEEPER, SPARE))
        self.seen = {}

    def inventory(self, place=SERVER):
        """The server to the inventory, wherever it is."""
        variables = {
            "ansible_connection": "community.docker.docker",
            "ansible_python_interpreter": "/usr/bin/python3",
            "foundation_domain": "crm.example.test",
            "crm_package_ca_bundle": os.environ.get("SSL_CERT_FILE", ""),
            "crm_package_deb": os.environ.get("CRM_PACKAGE_DEB", ""),
            "crm_service_admin_email": "admin@example.test",
        }
        groups = {group: {"hosts": {SERVER: {"ansible_host": place}}} for group in ("crm_database", "crm_app", "crm_package")}
        return {"all": {"vars": variables, "children": {**groups, "crm_backup": {"hosts": {KEEPER: {}}}}}}

    def run(self, playbook, *options, place=SERVER, **variables):
        extra = ("--extra-vars", json.dumps(variables)) if variables else ()
        began = time.monotonic()
        outcome = plays.run(self.directory, f"crm.platform.{playbook}", self.inventory(place), *options, *extra)
        print(f"{playbook}: rc {outcome.rc}, {len(outcome.changed)} changed, {time.monotonic() - began:.0f} s")
        return outcome

    def does(self, playbook, *options, **more):
        outcome = self.run(playbook, *options, **more)
        assert outcome.rc == 0, outcome.failure or outcome.text[-2000:]
        return outcome

    def state(self, host):
        return json.loads(host.run("crm-platform-backup", "status").stdout.splitlines()[-1])

    def problems(self, host):
        return {one["check"] for one in self.state(host)["problems"]} - {"key"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("backup"))


def test_the_host_of_the_repository_has_everything_and_says_so(lab):
    found = lab.state(lab.keeper)
    assert found["ok"] and found["database"]["sets"][0]["type"] == "full" and found["clients"][SERVER]["snapshots"] >= 1, found
    # Until its key is kept elsewhere too, it says that.
    assert [one["check"] for one in found["problems"]] == ["key"]
    assert lab.state(lab.server)["problems"] == []
    outcome = lab.does("backup_key", backup_key_passphrase="a passphrase of the tests", backup_key_directory=str(lab.directory))
    assert [one.name for one in lab.directory.glob("*.backup_key")] == [f"{KEEPER}.backup_key"]
    key = lab.keeper.read("/etc/crm-platform/secrets/backup_key").strip()
    assert key not in outcome.text and lab.state(lab.keeper)["problems"] == []
    # The master key never was on the server; that of its own files was handed out.
    assert not lab.server.sh(f"grep -rl {key} /etc /var/lib/crm-platform || true")


def test_strangers_are_kept_out(lab):
    for host in (lab.server, lab.keeper):
        for port in (8432, 8433):
            done = lab.spare.run("timeout", "1", "bash", "-c", f"echo > /dev/tcp/{host.address}/{port}", check=False)
            assert done.returncode != 0, f"{host.name}:{port} answers a stranger"
    # Whom the firewall lets in still needs a certificate of the platform's authority.
    ask = (
        "import http.client, ssl; context = ssl.create_default_context(cafile='/etc/crm-platform/pki/ca.crt'); CERTIFICATE"
        f"asked = http.client.HTTPSConnection('{KEEPER}', 8433, context=context); asked.request('GET', '/{SERVER}/config'); print(asked.getresponse().status)"
    )
    known = "context.load_cert_chain('/etc/crm-platform/pki/host.crt', '/etc/crm-platform/pki/host.key');"
    assert lab.server.run("python3", "-c", ask.replace("CERTIFICATE", known)).stdout == "200\n"
    refused = lab.server.run("python3", "-c", ask.replace("CERTIFICATE", ""), check=False)
    assert refused.returncode != 0 and "alert" in refused.stderr, refused.stdout + refused.stderr


def test_the_server_cannot_remove_what_the_repository_has(lab):
    before = lab.keeper.sh(SETS)
    lab.keeper.run("crm-platform-backup", "status")
    kept = lab.keeper.sh(f"find {REPOSITORY}/database -type f | sort")
    pgbackrest = "runuser -u postgres -- pgbackrest --stanza=crm --log-level-console=error"
    newest = before.split()[-1].rsplit("/", 1)[-1]
    for attempt in (
        f"expire --set={newest}",
        "stanza-delete --force",
        "--repo1-retention-full=1 backup --type=full",
        f"repo-put --raw backup/crm/{newest}/backup.manifest < /dev/null",
    ):
        said = lab.server.sh(f"{pgbackrest} {attempt} 2>&1; echo ended with $?")
        assert "ended with 0" not in said, attempt + said
    # Whoever speaks the protocol itself has at most the rights of its server's user.
    lab.keeper.sh(
        f"cd {REPOSITORY}/database; runuser -u postgres -- sh -c 'rm -rf backup/crm archive/crm/*; mv backup/crm backup/x; mv archive/crm/* archive/;"
        " find . -type f -exec truncate -s 0 {} +; find . -exec chmod 777 {} +' 2> /dev/null; true"
    )
    assert lab.keeper.sh(SETS) == before
    assert set(kept.split()) <= set(lab.keeper.sh(f"find {REPOSITORY}/database -type f | sort").split())
    # Of its own files as well: it adds, and that is all.
    was = [one["id"] for one in json.loads(lab.server.sh(f"{RESTIC} snapshots --json"))]
    remove = (
        "import http.client, ssl; context = ssl.create_default_context(cafile='/etc/crm-platform/pki/ca.crt');"
        "context.load_cert_chain('/etc/crm-platform/pki/host.crt', '/etc/crm-platform/pki/host.key');"
        f"asked = http.client.HTTPSConnection('{KEEPER}', 8433, context=context);"
        f"asked.request('DELETE', '/{SERVER}/snapshots/{was[0]}'); print(asked.getresponse().status)"
    )
    assert lab.server.run("python3", "-c", remove).stdout == "403\n"
    assert [one["id"] for one in json.loads(lab.server.sh(f"{RESTIC} snapshots --json"))] == was
    # And nothing of all that has done damage.
    lab.keeper.run("crm-platform-backup", "verify")
    assert lab.problems(lab.keeper) == set()


def test_snapshots_with_a_false_time_do_not_drive_out_the_true_ones(lab):
    lab.keeper.run("crm-platform-backup", "status")
    lab.server.sh(f"{RESTIC} backup --time '2031-01-01 00:00:00' --host {SERVER} /etc/hostname 2>&1")
    assert "forged" in lab.problems(lab.keeper)
    outcome = lab.run("backup_info")
    assert outcome.rc != 0 and "time at which it did not come" in outcome.failure
    forged = [one["message"].split()[1] for one in lab.state(lab.keeper)["problems"] if one["check"] == "forged"]
    lab.keeper.sh(
        f"cd /; RESTIC_PASSWORD=$(crm-platform-backup hand-out {SERVER} | python3 -c 'import json,sys; print(json.load(sys.stdin)[\"key\"])')"
        f" setpriv --reuid=crm-backup --regid=postgres --init-groups restic --no-cache -r {REPOSITORY}/files/{SERVER} forget {' '.join(forged)}"
    )
    assert lab.problems(lab.keeper) == set()


def test_a_dropped_table_comes_back_with_every_acknowledged_row_and_none_after(lab):
    client = lab.crm.login()
    kept = []
    for kind in ("full", "diff", "incr"):
        kept.append(client.create_party(f"Before, {kind}"))
        lab.does("backup", backup_type=kind)
    kept.append(client.create_party("The last one"))
    moment = lab.crm.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
    lost = client.create_party("After the moment")
    lab.crm.sql("DROP TABLE customer.customer CASCADE")
    lab.does("restore", backup_restore_confirm="crm", backup_restore_time=moment)
    client = lab.crm.login()
    assert [client.party_name(one) for one in kept] == ["Before, full", "Before, diff", "Before, incr", "The last one"]
    assert lab.crm.sql(f"SELECT count(*) FROM party_party WHERE id = {lost}") == "0"
    assert lab.crm.sql("SELECT to_regclass('customer.customer') IS NOT NULL") == "t"
    lab.crm.works()
    lab.does("restore_drill")
    lab.server.run("crm-platform-backup", "forget")
    assert lab.problems(lab.server) == lab.problems(lab.keeper) == set()


def test_a_dead_repository_is_told_loses_nothing_and_is_caught_up_with(lab):
    chance = random.Random()
    for dummy in range(KILLS):
        count = int(lab.crm.sql("SELECT count(*) FROM party_party"))
        # The server of the repository dies in the middle of a backup, and stays away.
        lab.keeper.run("systemctl", "start", "--no-block", "crm-platform-backup-full.service")
        time.sleep(chance.uniform(0.3, 3))
        lab.keeper.sh("systemctl kill --signal=KILL pgbackrest crm-platform-backup-files; systemctl stop pgbackrest crm-platform-backup-files")
        party = lab.crm.login().create_party("While the repository is dead")
        assert lab.run("backup_info").rc != 0
        assert "repository" in lab.problems(lab.server)
        lab.keeper.sh("systemctl start pgbackrest crm-platform-backup-files")
        lab.keeper.wait_for(
            "the backup to end",
            lambda: lab.keeper.sh("systemctl is-active crm-platform-backup-full || true").strip() not in ("active", "activating"),
            60,
        )
        lab.does("backup", backup_type="incr")
        assert int(lab.crm.sql("SELECT count(*) FROM party_party")) == count + 1 and lab.crm.login().party_name(party)
        lab.server.wait_for("the log to be caught up with", lambda: lab.problems(lab.server) == set(), 90)
    assert lab.problems(lab.keeper) == set()


def test_a_cut_network_is_told_and_loses_nothing(lab):
    chance = random.Random()
    drop = (
        "nft add table inet cut; nft add chain inet cut input '{ type filter hook input priority -300; }';"
        f" nft add rule inet cut input ip saddr {lab.server.address} drop"
    )
    for dummy in range(KILLS):
        lab.keeper.run("systemctl", "start", "--no-block", "crm-platform-backup-full.service")
        time.sleep(chance.uniform(0.3, 3))
        lab.keeper.sh(drop)
        try:
            lab.crm.works()
            lab.server.wait_for("the host to say so", lambda: "repository" in lab.problems(lab.server), 150)
        finally:
            lab.keeper.sh("nft delete table inet cut")
        lab.keeper.sh("systemctl kill --signal=KILL crm-platform-backup-full; true")
        # The other side may not have seen that its peer is gone, and still hold the lock.
        lab.server.sh("systemd-run --collect --quiet --uid=postgres flock /var/spool/pgbackrest/lock/crm-backup.lock sleep 6")
        lab.does("backup", backup_type="incr")
        lab.server.wait_for("the log to be caught up with", lambda: lab.problems(lab.server) == set(), 120)
    assert lab.problems(lab.keeper) == set()


def test_a_lost_server_is_rebuilt_from_the_repository_alone(lab):
    client = lab.crm.login()
    party = client.create_party("Survives its server")
    data = {"__class__": "bytes", "base64": base64.b64encode(b"signed").decode()}
    attachment = client.call("model.ir.attachment.create", [{"name": "contract", "resource": f"party.party,{party}", "data": data}], {})
    lab.does("backup")
    last = client.create_party("Written after the last backup")
    count, secrets = int(lab.crm.sql("SELECT count(*) FROM party_party")), lab.crm.secrets
    # What was acknowledged a minute ago is in the repository; then the server is gone.
    lab.crm.sql("SELECT pg_switch_wal()")
    lab.server.wait_for(
        "the log to arrive", lambda: lab.crm.sql("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'") == "0", 30
    )
    hosts.engine("kill", SERVER)
    began = time.monotonic()
    lab.does("rebuild", place=SPARE)
    print(f"rebuilt in {time.monotonic() - began:.0f} s")
    there = platforms.Platform(SPARE, "crm.example.test")
    assert there.secrets == secrets
    assert int(there.sql("SELECT count(*) FROM party_party")) == count
    client = there.login()
    assert client.party_name(party) == "Survives its server" and client.party_name(last) == "Written after the last backup"
    found = client.call("model.ir.attachment.read", attachment, ["data"], {})
    assert "signed" in base64.b64decode(found[0]["data"]["base64"]).decode()
    there.works()
    assert lab.problems(lab.spare) == lab.problems(lab.keeper) == set()
    again = lab.run("rebuild", place=SPARE)
    assert again.rc == 0 and not again.changed, again.failure or again.changed
