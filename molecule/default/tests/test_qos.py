# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/qos: traffic classes on the interface to the outside."""

from __future__ import annotations

import json
import re


def test_interactive_goes_before_bulk(host):
    disciplines = json.loads(host.check_output("tc -json qdisc show dev eth0"))
    assert [item["kind"] for item in disciplines if item.get("root")] == ["htb"]
    leaves = {item["kind"] for item in disciplines if not item.get("root")}
    assert leaves and leaves <= {"fq_codel", "sfq", "pfifo", "pfifo_fast", "bfifo"}
    # Without -json, which tc of Debian 12 does not heed for classes.
    classes = host.check_output("tc class show dev eth0").splitlines()
    assert len({re.search(r" prio (\d+) ", line)[1] for line in classes if " leaf " in line}) >= 4


def test_it_is_there_after_a_reboot(host):
    assert host.service("crm-platform-qos").is_enabled
