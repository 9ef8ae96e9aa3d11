# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which somebody else's services were there first: nothing of them is overwritten or removed without a word."""

from __future__ import annotations

import pytest

PREPARE = """
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends nginx chrony > /dev/null
"""
SHOP = "server { listen 80; server_name shop.example.test; }\n"


@pytest.fixture(scope="module")
def taken(fresh):
    fresh.host.sh(PREPARE)
    return fresh


def checked(server, **variables):
    outcome = server.run(playbook="crm.platform.preflight", **variables)
    assert outcome.changed == [] and "\n" not in outcome.failure, outcome.failure
    return outcome


def test_debians_own_page_is_in_nobodys_way(taken):
    assert checked(taken).rc == 0


def test_another_clock_is_not_removed(taken):
    outcome = checked(taken, foundation_time_sync="enabled")
    assert outcome.rc != 0 and "chrony" in outcome.failure and "foundation_time_sync" in outcome.failure


def test_a_site_with_a_name_of_its_own(taken):
    taken.host.write("/etc/nginx/sites-enabled/shop", SHOP)
    outcome = checked(taken)
    assert outcome.rc != 0
    assert [word for word in ("/etc/nginx/sites-enabled/shop", "port 80", "=keep", "=replace") if word not in outcome.failure] == [], outcome.failure
    assert checked(taken, crm_service_foreign_sites="keep").rc == 0
    assert checked(taken, crm_service_foreign_sites="replace").rc == 0


def test_a_page_of_debian_that_somebody_has_changed(taken):
    taken.host.sh("rm /etc/nginx/sites-enabled/shop; echo '# mine' >> /etc/nginx/sites-available/default")
    outcome = checked(taken, crm_service_foreign_sites="keep")
    assert outcome.rc != 0 and "/etc/nginx/sites-enabled/default" in outcome.failure and "default server" in outcome.failure


def test_a_configuration_that_nginx_refuses(taken):
    taken.host.write("/etc/nginx/sites-enabled/shop", "nonsense;\n")
    outcome = checked(taken, crm_service_foreign_sites="replace")
    assert outcome.rc != 0 and "refuses its own configuration" in outcome.failure and "nonsense" in outcome.failure


def test_another_program_on_a_port(taken):
    taken.host.sh("apt-get purge -qq nginx nginx-common > /dev/null; rm -rf /etc/nginx; systemd-run --unit crm-test-web python3 -m http.server 443")
    taken.host.wait_for("the other web server", lambda: "443" in taken.host.sh("ss -Hltn"), 10)
    outcome = checked(taken)
    assert outcome.rc != 0 and "(port 443) listens on" in outcome.failure and "python3" in outcome.failure
