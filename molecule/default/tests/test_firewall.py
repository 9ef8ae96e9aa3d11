# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/firewall: what another host can reach, tried at every port."""

from __future__ import annotations

import platforms


def test_a_stranger_sees_three_ports(crm, neighbour):
    assert crm.open_ports(platforms.Container(neighbour)) == platforms.PORTS


def test_more_would_be_seen_without_it(crm, neighbour):
    """The scan is able to find what the firewall hides: a service on a port that nobody declared."""
    service = "import socket; s = socket.create_server(('', 5999)); s.settimeout(60); s.accept()"
    crm.host.run("systemd-run", "--quiet", "--unit=crm-test-undeclared", "python3", "-c", service)
    try:
        crm.host.wait_for("the service", lambda: "5999" in crm.host.sh("ss -Hltn 'sport = :5999'"), 10)
        assert 5999 in crm.open_ports(crm.host)
        assert 5999 not in crm.open_ports(platforms.Container(neighbour))
    finally:
        crm.host.run("systemctl", "stop", "crm-test-undeclared", check=False)


def test_it_is_there_after_a_reboot(host):
    assert host.service("crm-platform-firewall").is_enabled
    assert "policy drop" in host.check_output("nft list table inet crm_platform")
    assert host.run("nft --check --file /etc/crm-platform/firewall.nft").rc == 0
