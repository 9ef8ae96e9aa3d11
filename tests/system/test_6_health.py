# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of a deployed server: no false alarm, and each fault that is made turns its own check, with a cure.

The playbook, health_check on the host and health_report on the controller, as a user runs them.
"""

from __future__ import annotations

import json

import pytest

PLAYBOOK = "crm.platform.health_check"
PSQL = "runuser -u postgres -- psql -qXd crm -c"
# What is done to the server, how it is taken back, and what has to be told of it.
FAULTS = {
    "worker stopped": ("systemctl stop crm-platform-worker", "systemctl start crm-platform-worker", {"crm_units": "critical"}),
    "web stopped": (
        "systemctl stop crm-platform",
        "systemctl start crm-platform",
        {"crm_units": "critical", "crm_answers": "critical", "crm_latency": "skipped"},
    ),
    "secret for all": (
        "chmod 644 /etc/crm-platform/secrets/admin_password",
        "chmod 600 /etc/crm-platform/secrets/admin_password",
        {"sec_secrets": "critical"},
    ),
    "firewall flushed": (
        "nft delete table inet crm_platform",
        "systemctl restart crm-platform-firewall",
        {"firewall_table": "critical", "firewall_bans": "skipped"},
    ),
    "firewall changed": (
        "nft insert rule inet crm_platform input tcp dport 9999 accept",
        "systemctl restart crm-platform-firewall",
        {"firewall_table": "warning"},
    ),
    "weak password": (f"{PSQL} \"CREATE ROLE weak LOGIN PASSWORD 'weak'\"", f'{PSQL} "DROP ROLE weak"', {"sec_passwords": "critical"}),
    "superuser": (f'{PSQL} "CREATE ROLE strong SUPERUSER"', f'{PSQL} "DROP ROLE strong"', {"sec_superusers": "warning"}),
    "rights of everybody": (
        f'{PSQL} "GRANT SELECT ON customer.customer TO PUBLIC"',
        f'{PSQL} "REVOKE SELECT ON customer.customer FROM PUBLIC"',
        {"sec_public": "critical"},
    ),
    "disabled trigger": (
        f'{PSQL} "ALTER TABLE party_party DISABLE TRIGGER ALL"',
        f'{PSQL} "ALTER TABLE party_party ENABLE TRIGGER ALL"',
        {"db_disabled_triggers": "warning"},
    ),
    "slot without a reader": (
        f"{PSQL} \"SELECT pg_create_physical_replication_slot('lost', true)\"",
        f"{PSQL} \"SELECT pg_drop_replication_slot('lost')\"",
        {"db_replication_slots": "critical"},
    ),
    "broken settings": (
        "echo 'work_mem = much' > /etc/postgresql/15/main/conf.d/zz.conf",
        "rm /etc/postgresql/15/main/conf.d/zz.conf",
        {"db_config_files": "critical"},
    ),
    "unit that failed": ("systemd-run --unit=fails --wait false; true", "systemctl reset-failed fails.service", {"failed_units": "warning"}),
    "full disk": (
        "mkdir -p /srv/small && truncate -s 8M /tmp/small.img && mkfs.ext4 -q /tmp/small.img && mount -o loop /tmp/small.img /srv/small"
        " && head -c 6500000 /dev/zero > /srv/small/full",
        "umount /srv/small; rm -rf /srv/small /tmp/small.img",
        {"disk_space": "critical"},
    ),
}


def look(server, fail_on="never", **variables):
    """(statuses by id, the run)."""
    directory = server.directory / "health"
    outcome = server.run(playbook=PLAYBOOK, health_check_report_dir=str(directory), health_check_fail_on=fail_on, **variables)
    report = json.loads((directory / "report.json").read_text())
    results = [one for host in report["hosts"].values() for one in host["results"]]
    return {one["id"]: one for one in results}, outcome


def bad(found):
    return {name: one["status"] for name, one in found.items() if one["status"] not in ("ok", "skipped")}


@pytest.fixture(scope="module")
def well(deployed):
    """A first run, with which the later ones compare; the repository of the tests is not signed by anybody's clock."""
    deployed.run(playbook="crm.platform.site")
    deployed.run(playbook="crm.platform.backup_key", backup_key_passphrase="a passphrase of the tests", backup_key_directory=str(deployed.directory))
    deployed.host.sh("crm-platform-backup backup full")
    look(deployed)
    return deployed


def test_a_platform_that_is_well(well):
    for dummy in range(3):
        found, outcome = look(well, "warning")
        assert not bad(found), bad(found)
        assert outcome.rc == 0
    assert sum(one["status"] == "ok" for one in found.values()) >= 50
    page = (well.directory / "health" / "report.html").read_text()
    assert "The platform is well" in page and "<script" not in page


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_turns_its_own_check_and_no_other(well, fault):
    make, take_back, told = FAULTS[fault]
    if fault == "full disk" and not well.host.sh("ls /dev/loop0 2>/dev/null || true").strip():
        pytest.skip("the container has no loop devices")
    before, dummy = look(well)
    assert not bad(before), bad(before)
    well.host.sh(make)
    try:
        found, outcome = look(well, "warning")
    finally:
        well.host.sh(take_back)
    assert outcome.rc != 0
    assert {name: one["status"] for name, one in found.items() if one["status"] != before[name]["status"]} == told
    for name in told:
        if told[name] != "skipped":
            assert found[name]["cure"] and found[name]["message"]


def test_options_that_cannot_be_used_do_not_stop_the_report(well):
    found, outcome = look(well, health_check_thresholds={"disk_space": {"warning": "much"}, "nobody": {"warning": 1}}, health_check_skip=["nothing"])
    assert outcome.rc == 0 and len(found) >= 50
    assert all(word in outcome.text for word in ("warning is 'much'", "no check 'nobody'", "no check 'nothing'"))


def test_thresholds_of_ones_own(well):
    found, outcome = look(well, "critical", health_check_thresholds={"load": {"warning": 0, "critical": 0}})
    assert found["load"]["status"] == "critical" and outcome.rc != 0
