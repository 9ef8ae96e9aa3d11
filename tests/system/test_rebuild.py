# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lost repository, and a lost server."""

from __future__ import annotations

import base64
import json
import time

import hosts
import platforms
import plays
from backups import COMMAND, PHRASE, REPOSITORY, command, parties, problems


def test_a_lost_repository_is_begun_anew_where_that_is_meant(undone):
    count = parties(undone)
    # After a restore the timeline is not the first one.
    command(undone, "restore", "--confirm", "crm")
    command(undone, "forget")
    undone.host.sh(f"rm -rf {REPOSITORY}")
    outcome = undone.run(playbook="crm.platform.backup_setup")
    assert outcome.rc != 0 and "since.json" in outcome.failure
    undone.host.sh("rm /var/lib/crm-platform/backup/since.json")
    outcome = undone.run(playbook="crm.platform.backup_setup")
    assert outcome.rc == 0, outcome.failure
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
    # One that came after the last saving of the files, and whose row is in the log.
    late = client.call("model.ir.attachment.create", [{"name": "too late", "resource": f"party.party,{party}", "data": data}], {})
    undone.platform.sql("SELECT pg_switch_wal()")
    undone.host.sh("runuser -u postgres -- pgbackrest --stanza=crm check")
    count, secrets = parties(undone), undone.platform.secrets
    spare = make_server("spare")
    hosts.engine("cp", f"{undone.host.name}:{REPOSITORY}", str(undone.directory / "repository"))
    spare.host.run("mkdir", "-p", "/var/backups")
    hosts.engine("cp", str(undone.directory / "repository"), f"{spare.host.name}:{REPOSITORY}")
    spare.host.sh("chown -R 0:0 /var/backups")
    # The same server to the inventory, at another place.
    inventory = undone.inventory(place=spare.host.name, backup_key_passphrase=PHRASE, backup_key_directory=str(undone.directory))
    began = time.monotonic()
    outcome = plays.run(spare.directory, "crm.platform.rebuild", inventory, collections=spare.collections)
    print(f"rebuilt in {time.monotonic() - began:.0f} s")
    # All is done, and what has no file is counted and named.
    assert outcome.rc != 0 and f"1 attachment without a file: too late of party.party,{party} (ir.attachment,{late[0]})" in outcome.failure, outcome.failure
    there = platforms.Platform(spare.host.name, undone.platform.domain)
    assert there.secrets == secrets
    assert int(there.sql("SELECT count(*) FROM party_party")) == count
    client = there.login()
    assert client.party_name(party) == "Survives its server"
    found = client.call("model.ir.attachment.read", attachment, ["data"], {})
    assert "signed" in base64.b64decode(found[0]["data"]["base64"]).decode()
    there.works()
    # The cure that is told: what no backup has is deleted in the CRM, and the same command ends well.
    client.call("model.ir.attachment.delete", late, {})
    outcome = plays.run(spare.directory, "crm.platform.rebuild", inventory, collections=spare.collections)
    assert outcome.rc == 0, outcome.failure
    again = plays.run(spare.directory, "crm.platform.rebuild", inventory, collections=spare.collections)
    assert again.rc == 0 and not again.changed, again.failure or again.changed
    assert json.loads(spare.host.run(COMMAND, "drill").stdout.splitlines()[-1])["ok"]
