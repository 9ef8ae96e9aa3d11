# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.host_facts on a Debian host: what ansible.builtin.setup and the host itself say."""

from __future__ import annotations

import plays

NAMES = (
    "distribution distribution_version distribution_major_version distribution_release os_family architecture memtotal_mb processor_vcpus"
    " user_uid user_id service_mgr virtualization_type virtualization_role"
).split()


def test_the_same_as_setup(host, tmp_path, call):
    play = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Gather", "ansible.builtin.setup": {}}]}]
    theirs = plays.run(tmp_path, play, plays.inventory(host.name)).last["ansible_facts"]
    ours = call("host_facts", {}).last["ansible_facts"]
    assert {name: ours[f"ansible_{name}"] for name in NAMES} == {name: theirs[f"ansible_{name}"] for name in NAMES}
    for family in ("default_ipv4", "default_ipv6"):
        assert ours[f"ansible_{family}"].get("address") == theirs[f"ansible_{family}"].get("address")
    assert sorted(ours["ansible_all_ipv6_addresses"]) == sorted(theirs["ansible_all_ipv6_addresses"])
    turning = {name: disk["rotational"] for name, disk in theirs["ansible_devices"].items() if disk.get("rotational")}
    assert {name: disk["rotational"] for name, disk in ours["ansible_devices"].items()}.items() >= turning.items()


def test_it_changes_nothing_and_names_the_packages(host, call):
    read = call("host_facts", {}, "--check").last
    assert not read["changed"]
    assert read["ansible_facts"]["ansible_packages"]["dpkg"] == host.sh("dpkg-query -W -f '${Version}' dpkg")


def test_without_an_nginx_there_are_no_sites_of_one(host, call):
    facts = call("host_facts", {}).last["ansible_facts"]
    assert facts["ansible_nginx_foreign"] == {}
    assert sorted(facts["ansible_web_listeners"]) == sorted({line.split()[3].rsplit(":", 1)[1] for line in host.sh("ss -Hltn").splitlines()})
