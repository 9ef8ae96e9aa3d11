# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A part alone on a deployed server: what depends on another part is looked at before any change, and what fails says why in one line."""

from __future__ import annotations

import base64
import json

import pytest
import tryton

NEW = "new.example.test"
LIMIT = 2
SITE = "/etc/nginx/sites-enabled/crm-platform"
SHOP = "server { listen 443 ssl default_server; server_name shop.example.test; ssl_certificate /tmp/x.crt; ssl_certificate_key /tmp/x.key; }\n"
INDEX = """
cd /tmp && openssl req -x509 -newkey rsa:2048 -nodes -keyout x.key -out x.crt -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1,DNS:{name} -days 30
rm -rf /srv/crm-platform/apt /var/cache/crm-platform/package
systemd-run --unit crm-test-index openssl s_server -quiet -accept 8444 -cert /tmp/x.crt -key /tmp/x.key -www
"""


def refused(outcome, *words):
    message = outcome.failure
    assert outcome.rc != 0 and outcome.changed == [], (outcome.changed, message)
    assert [word for word in words if word not in message] == [] and "\n" not in message.strip(), message or outcome.text[-2000:]


def files(deployed):
    return deployed.host.sh("find /etc -type f -o -type l | xargs stat --format '%n %Z' | sort")


def test_a_new_name_that_the_certificate_does_not_have(deployed):
    before = files(deployed)
    refused(deployed.run(playbook="crm.platform.crm_service", foundation_domain=NEW), "host.crt", NEW, "crm.platform.foundation", "crm.platform.site")
    assert files(deployed) == before


def test_a_new_port_that_the_database_does_not_have(deployed):
    before = files(deployed)
    refused(deployed.run(playbook="crm.platform.crm_service", foundation_database_port=5433), "5433", "foundation_database_port", "crm.platform.site")
    assert files(deployed) == before


def test_the_check_of_a_new_name_on_the_whole_site_is_not_refused(deployed):
    checked = deployed.run("--check", foundation_domain=NEW)
    assert checked.rc == 0, checked.failure


def test_a_given_certificate_for_another_name(deployed):
    deployed.host.sh(INDEX.format(name="other.example.test"))
    given = {"crm_service_tls_certificate": "/tmp/x.crt", "crm_service_tls_key": "/tmp/x.key"}
    refused(deployed.run(playbook="crm.platform.crm_service", **given), "/tmp/x.crt", "other.example.test", deployed.platform.domain, "foundation_domain")


def test_an_index_with_a_certificate_by_an_authority_of_its_own(deployed):
    deployed.variables["crm_package_ca_bundle"], kept = "", deployed.variables["crm_package_ca_bundle"]
    done = deployed.run(playbook="crm.platform.crm_package", crm_package_pip_index_url="https://127.0.0.1:8444/simple")
    deployed.variables["crm_package_ca_bundle"] = kept
    log = "/var/log/crm-platform-package.log"
    assert done.rc != 0 and "crm_package_ca_bundle" in done.failure and log in done.failure and "\n" not in done.failure, done.failure
    assert deployed.host.stat(log) == "regular file root:root 600" and "CERTIFICATE_VERIFY_FAILED" in deployed.host.read(log)


def attach(client, size):
    """As Tryton's own client sends a file, with line breaks."""
    data = {"__class__": "bytes", "base64": base64.encodebytes(b"\xff" * size).decode()}
    values = {"name": "file", "type": "data", "data": data, "resource": "party.party,1"}
    body = json.dumps({"id": 7, "method": "model.ir.attachment.create", "params": [[values], {}]})
    headers = {"Content-Type": "application/json", "Authorization": client.authorization}
    status, dummy, answer = client.request("POST", "/crm/rpc/", body, headers)
    return status, answer


def test_a_file_over_the_limit_is_refused_in_words_that_name_it(deployed):
    done = deployed.run(playbook="crm.platform.crm_service", crm_service_file_max_mb=LIMIT)
    assert done.rc == 0, done.failure
    client = deployed.platform.login()
    status, answer = attach(client, LIMIT * 2**20)
    assert status == 200 and json.loads(answer).get("result"), answer[:300]
    status, answer = attach(client, (LIMIT + 2) * 2**20)
    told = json.loads(answer)
    assert status == 413 and told["file_max_mb"] == LIMIT and f"{LIMIT} MB" in told["error"]
    # The web client shows these words.
    status, dummy, script = client.request("GET", "/custom.js")
    assert status == 200 and b"413" in script
    # Whose session has ended has to log in and can send it again; Tryton itself says 413.
    client.authorization = "Session " + base64.b64encode(b"admin:1:0000").decode()
    assert attach(client, LIMIT * 2**20)[0] == 401


@pytest.fixture
def before_us(deployed):
    """Sites of somebody else on port 443, and Debian's own page, before the CRM's is there."""
    deployed.host.sh(INDEX.split("rm -rf", maxsplit=1)[0].format(name="shop.example.test"))
    deployed.host.write("/etc/nginx/sites-available/shop", SHOP)
    deployed.host.sh(f"cd /etc/nginx/sites-enabled && rm {SITE} && ln -s ../sites-available/shop shop && ln -s /etc/nginx/sites-available/default default")
    return deployed


def test_sites_of_somebody_else_are_refused_or_taken_out_with_a_copy(before_us):
    before = files(before_us)
    refused(before_us.run(playbook="crm.platform.crm_service"), "sites-enabled/shop", "443", "crm_service_foreign_sites=replace")
    assert files(before_us) == before
    done = before_us.run(playbook="crm.platform.crm_service", crm_service_foreign_sites="replace")
    assert done.rc == 0, done.failure
    assert before_us.host.sh("ls /etc/nginx/sites-enabled /etc/nginx/before-crm-platform").split() == [
        "/etc/nginx/before-crm-platform:", "default", "shop", "/etc/nginx/sites-enabled:", "crm-platform",
    ]  # fmt: skip
    assert before_us.host.sh("cat /etc/nginx/before-crm-platform/shop") == SHOP
    said = " ".join(str(task["result"]) for task in done.tasks if "taken out of the way" in task["name"])
    assert "/etc/nginx/sites-enabled/shop" in said and "/etc/nginx/sites-enabled/default" in said
    before_us.host.wait_for("the CRM to answer", before_us.platform.healthy, 30)
    again = before_us.run(playbook="crm.platform.crm_service")
    assert (again.rc, again.changed) == (0, []), again.failure


def test_the_cure_of_a_new_name(deployed):
    for part in ("foundation", "crm_service"):
        done = deployed.run(playbook=f"crm.platform.{part}", foundation_domain=NEW)
        assert done.rc == 0, done.failure
        # Foundation alone says what is left to do.
        said = [task["result"].get("msg", "") for task in done.tasks if "take up the new names" in task["name"]]
        assert (part == "foundation") == any("run crm.platform.crm_service as well" in one for one in said)
    there = tryton.Client(deployed.host.address, NEW, deployed.platform.authority).request("GET", "/health")
    assert there[0] == 200
