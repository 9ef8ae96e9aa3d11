# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployed server: it works, tells no secret, mends what drifted and comes back from a reboot."""

from __future__ import annotations

import json
import re
import subprocess

import plays
import pytest
import run_tests

CONF = "/etc/crm-platform/crm-platform.conf"
# What somebody did by hand -> what the result of the check has to show for it.
DRIFTS = {
    "the CRM's configuration was edited": (f"echo '# by hand' >> {CONF}", CONF),
    "its rights were widened": ("chmod 644 /etc/crm-platform/secrets/admin_password", "administrator's password"),
    "the queue worker was stopped": ("systemctl stop crm-platform-worker", "start crm-platform-worker"),
    "nginx was disabled": ("systemctl disable nginx", "enable nginx"),
    "nginx's site was edited": (
        "f=$(grep -rl 'ssl_protocols' /etc/nginx/sites-* /etc/nginx/conf.d | head -1); sed -i 's/TLSv1.2/TLSv1 TLSv1.2/' $f",
        "TLSv1.2",
    ),
    "a rule of the firewall was dropped": ("nft delete table inet crm_platform", "crm_platform"),
    "the firewall's file was edited": ("echo '# by hand' >> /etc/crm-platform/firewall.nft", "firewall.nft"),
    "traffic shaping was removed": ("tc qdisc del dev eth0 root", "eth0"),
    "a setting was changed in the database": (
        "runuser -u postgres -- psql -qc \"alter system set work_mem = '123MB'\" && runuser -u postgres -- psql -qc 'select pg_reload_conf()'",
        "work_mem",
    ),
    "pg_hba.conf was opened": (
        "f=$(runuser -u postgres -- psql -XAtqc 'show hba_file'); echo 'host all all 0.0.0.0/0 trust' >> $f; systemctl reload postgresql",
        "pg_hba.conf",
    ),
    "the application became a superuser": ("runuser -u postgres -- psql -qc 'alter role crm superuser'", "Have the CRM's role"),
    "the host's certificate was lost": ("rm /etc/crm-platform/pki/host.crt", "certificate"),
    "the package's source was removed": ("rm $(grep -rl crm-platform /etc/apt/sources.list.d/ | head -1)", "/etc/apt/sources.list.d"),
}


def changes(outcome):
    """Name and result of each task that changed something, as text."""
    return [f"{task['name']} {json.dumps(task['result'], ensure_ascii=False)}" for task in outcome.tasks if task["result"].get("changed")]


def test_it_works(deployed):
    deployed.platform.works()
    assert deployed.stale() == []


def test_a_second_run_changes_nothing(deployed):
    again = deployed.run()
    assert (again.rc, again.changed) == (0, [])


@pytest.mark.parametrize("part", ["foundation", "database", "customer_data", "crm_package", "crm_service", "network"])
def test_a_part_alone_changes_nothing(deployed, part):
    """crm.platform.foundation, crm.platform.database, crm.platform.customer_data, crm.platform.crm_package, crm.platform.crm_service, crm.platform.network."""
    alone = deployed.run(playbook=f"crm.platform.{part}")
    assert (alone.rc, alone.changed) == (0, []), alone.failure


@pytest.mark.parametrize("tag", ["database", "customer_data", "crm_service", "firewall", "verify"])
def test_a_tag_alone_changes_nothing(deployed, tag):
    alone = deployed.run("--tags", tag)
    assert (alone.rc, alone.changed) == (0, []), alone.failure


def test_a_check_of_it_changes_nothing(deployed):
    checked = deployed.run("--check", "--diff")
    assert (checked.rc, checked.changed) == (0, [])


def test_no_secret_is_in_what_ansible_says(deployed, image):
    """Neither in the results of a first run with -vvv and --diff, nor in what a user sees of the next."""
    environment = {**plays.environment(deployed.directory, deployed.collections), "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}
    seen = subprocess.run(
        [run_tests.script("ansible-playbook"), "-i", str(deployed.directory / "inventory.yml"), "crm.platform.site", "-vvv", "--diff"],
        env=environment,
        cwd=deployed.directory,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ).stdout
    told = []
    for name, value in deployed.platform.secrets.items():
        for where, text in (("the first run", image.first.text), ("the second run", seen)):
            if value in text or json.dumps(value)[1:-1] in text or json.dumps(value, ensure_ascii=False)[1:-1] in text:
                told.append(f"{name} in {where}")
    assert told == []
    assert image.first.text.count("module_args") > 20, "the output holds what modules were given"


def test_a_reboot_brings_all_of_it_back(deployed):
    deployed.host.restart()
    took = deployed.host.wait_for("the CRM", deployed.platform.healthy, 90)
    print(f"the CRM answered {took:.1f} s after systemd was up")
    deployed.platform.works()
    assert deployed.host.sh("systemctl list-units --failed --no-legend --plain") == ""
    assert "htb" in deployed.host.sh("tc qdisc show dev eth0")
    assert re.search(r"policy drop", deployed.host.sh("nft list table inet crm_platform"))
    checked = deployed.run("--check")
    assert (checked.rc, checked.changed) == (0, [])


def test_postgresql_comes_back_by_itself_however_long_it_could_not_start(deployed):
    """As on a full disk: more failed starts than systemd would bear by default, then there is room again."""
    data = "/var/lib/postgresql/15/main"
    deployed.host.sh(f"mv {data}/global/pg_control {data}/away; kill -9 $(head -n 1 {data}/postmaster.pid)")
    deployed.host.wait_for("some starts to fail", lambda: int(deployed.platform.unit("postgresql@15-main", "NRestarts")[0]) > 6, 60)
    deployed.host.sh(f"mv {data}/away {data}/global/pg_control")
    deployed.host.wait_for("the CRM to answer", deployed.platform.healthy, 90)
    deployed.platform.works()


def test_a_bad_value_never_takes_the_database_down(deployed):
    """A setting that PostgreSQL refuses: the run fails with its words, and the old server goes on."""
    refused = deployed.run(database_settings={"work_mem": "much"})
    assert refused.rc != 0 and "work_mem" in refused.text
    assert deployed.platform.healthy()
    deployed.platform.works()
    checked = deployed.run("--check")
    assert (checked.rc, checked.changed) == (0, [])


def test_every_drift_is_reported_and_mended(deployed):
    done = {what: deployed.host.run("sh", "-ec", damage, check=False) for what, (damage, dummy) in DRIFTS.items()}
    assert {what: result.stderr for what, result in done.items() if result.returncode} == {}
    checked = deployed.run("--check", "--diff")
    assert checked.rc == 0, checked.failure
    reported = changes(checked)
    assert [what for what, (dummy, sign) in DRIFTS.items() if not any(sign in text for text in reported)] == [], checked.changed
    mended = deployed.run()
    assert mended.rc == 0, mended.failure
    deployed.platform.works()
    assert deployed.stale() == []
    again = deployed.run("--check", "--diff")
    assert (again.rc, again.changed) == (0, [])
    assert deployed.platform.sql("select rolsuper from pg_roles where rolname = 'crm'") == "f"
    assert "TLSv1 " not in deployed.host.sh("grep -rh ssl_protocols /etc/nginx/sites-enabled/ /etc/nginx/conf.d/; true")


@pytest.mark.parametrize("what", DRIFTS)
def test_each_drift_alone(deployed, what, request):
    """One at a time, with the cost of three runs each: pytest -m slow --each-drift."""
    if not request.config.getoption("--each-drift"):
        pytest.skip("asked for with --each-drift")
    damage, sign = DRIFTS[what]
    deployed.host.sh(damage)
    reported = changes(deployed.run("--check", "--diff"))
    assert any(sign in text for text in reported), reported
    assert deployed.run().rc == 0
    assert deployed.run("--check").changed == []
    deployed.platform.works()


def test_a_file_that_outranks_the_roles_settings_is_named(deployed):
    path = "/etc/postgresql/15/main/conf.d/zz-other.conf"
    deployed.host.sh(f"echo 'fsync = off' > {path}; echo 'jit = on' >> {path}; systemctl reload postgresql@15-main; sleep 1")
    deployed.platform.sql("ALTER DATABASE crm SET work_mem = '1MB'")
    try:
        told = deployed.run(playbook="crm.platform.database")
        assert told.rc != 0 and f"jit by {path} line 2" in told.failure and "work_mem by ALTER DATABASE crm" in told.failure, told.failure
        found = json.loads(deployed.host.run("crm-platform-health", "--area", "database", "--json", "--no-write", check=False).stdout)["results"]
        safety = next(one for one in found if one["id"] == "db_safety_settings")
        assert safety["status"] == "critical" and f"fsync is off ({path} line 1)" in safety["message"] and path in safety["cure"]
    finally:
        deployed.host.sh(f"rm {path}; systemctl reload postgresql@15-main")
        deployed.platform.sql("ALTER DATABASE crm RESET work_mem")
