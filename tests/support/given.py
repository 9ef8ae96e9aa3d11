# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles/firewall hands to its library on the first of two hosts, with the defaults of its variables."""

from __future__ import annotations

import typing as t

SSH = {"name": "ssh", "group": "all", "protocol": "tcp", "ports": [22], "from": ["any"]}
DATABASE = {"name": "postgresql", "group": "crm_database", "protocol": "tcp", "ports": [5432], "from": ["crm_app", "crm_database"]}
REPOSITORY = {"name": "repository", "group": "crm_package", "protocol": "tcp", "ports": [8081], "from": ["crm_app"]}


def given(**more: t.Any) -> dict:
    return {
        "table": "inet crm_platform",
        "host": "one",
        "groups": {"all": ["one", "two"], "crm_app": ["one", "two"], "crm_database": ["one"], "crm_package": ["two"], "ungrouped": []},
        "my_groups": ["all", "crm_app", "crm_database"],
        "addresses": {"one": "192.0.2.1", "two": "192.0.2.2"},
        "interfaces": ["lo", "eth0", "eth1"],
        "platform_services": [SSH, DATABASE],
        "all_platform_services": [SSH, DATABASE, REPOSITORY],
        "neighbours": [],
        "service_addresses": [],
        "ssh_port": 22,
        "over_ssh": True,
        "services": [],
        "zones": [],
        "controllers": [],
        "controller_port": 0,
        "policy": "drop",
        "forward": "untouched",
        "egress_policy": "accept",
        "egress": [],
        "antispoofing": "strict",
        "asymmetric_interfaces": [],
        "ssh_rate_limit": "30/minute",
        "ban_time": "10m",
        "ping_rate": "20/second",
        "log": True,
        "log_rate": "10/minute",
        "confirm_timeout": 30,
        **more,
    }
