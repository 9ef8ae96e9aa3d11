# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/qos: traffic classes on the interface to the outside."""

from __future__ import annotations

import json


def test_interactive_goes_before_bulk(host):
    disciplines = json.loads(host.check_output("tc -json qdisc show dev eth0"))
    assert [item["kind"] for item in disciplines if item.get("root")] == ["htb"]
    leaves = {item["kind"] for item in disciplines if not item.get("root")}
    assert leaves and leaves <= {"fq_codel", "sfq", "pfifo", "pfifo_fast", "bfifo"}
    classes = json.loads(host.check_output("tc -json class show dev eth0"))
    assert len({item.get("prio") for item in classes if item.get("leaf")}) > 1 or len(classes) > 2


def test_it_is_there_after_a_reboot(host):
    units = host.check_output("systemctl list-unit-files --state=enabled --no-legend")
    assert "qos" in units
