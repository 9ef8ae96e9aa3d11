# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/firewall: what another host can reach, tried at every port."""

from __future__ import annotations

import platforms


def test_a_stranger_sees_three_ports(crm, neighbour):
    assert crm.open_ports(platforms.Container(neighbour)) == platforms.PORTS


def test_more_would_be_seen_without_it(crm):
    """The scan is able to find what the firewall hides: from the host itself more is open."""
    assert crm.open_ports(crm.host) > platforms.PORTS


def test_it_is_there_after_a_reboot(host):
    assert host.service("crm-platform-firewall").is_enabled
    assert "policy drop" in host.check_output("nft list table inet crm_platform")
    assert host.run("nft --check --file /etc/crm-platform/firewall.nft").rc == 0
