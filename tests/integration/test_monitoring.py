# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/monitoring on one host that has the database and asks itself: what its operator sees, and who would be called."""

from __future__ import annotations

import json
import urllib.parse

import alerting
import hosts
import plays
import pytest
import servers
import yaml
from ansible_collections.crm.platform.plugins.plugin_utils import alerts

ROLES = plays.ROOT / "roles"
PG = "/etc/postgresql/15/main"
FILES = "/etc/prometheus/prometheus.yml /etc/prometheus/rules.d/crm-platform.yml /etc/prometheus/alertmanager.yml /etc/default/prometheus*"
SECRET = "not for the log"
STATUS = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3, "skipped": -1}
VARIABLES = {
    "foundation_domain": "crm.example.test",
    "monitoring_scrape_interval": 10,
    "monitoring_for_critical": 0,
    "monitoring_receivers": [
        {"name": "ops", "emails": ["ops@example.org"]},
        {"name": "chat", "webhook": f"http://127.0.0.1:9/{SECRET.replace(' ', '-')}"},
    ],
    "monitoring_receiver": "ops",
    "monitoring_receiver_critical": "chat",
    "monitoring_smtp_host": "127.0.0.1:25",
    "monitoring_smtp_from": "crm@example.org",
    "monitoring_smtp_user": "crm",
    "monitoring_smtp_password": SECRET,
}
NOBODY = 'up{host="elsewhere"}'
KNOWN = {"name": "Know the host", "ansible.builtin.import_role": {"name": "crm.platform.foundation", "tasks_from": "known.yml"}}
ROLE = [
    {
        "hosts": "crm_monitor",
        "gather_facts": False,
        "tasks": [KNOWN, {"name": "Monitor", "ansible.builtin.import_role": {"name": "crm.platform.monitoring"}}],
    }
]
# What the roles foundation and database leave, with the latter's own templates.
BEFORE = [
    {
        "hosts": "crm_monitor",
        "gather_facts": False,
        "vars": {"database_hba": [], "database_ident": [], "_database_clients": [], "_database_adopted": {}},
        "tasks": [
            KNOWN,
            {
                "name": "Have what others have made",
                "crm.platform.config_files": {
                    "files": [
                        {"path": "/etc/crm-platform", "state": "directory"},
                        {"path": "/var/lib/crm-platform", "state": "directory"},
                        # What tells the role's own cluster from somebody else's.
                        {"path": f"{PG}/conf.d/crm-platform.conf", "content": "", "owner": "postgres", "group": "postgres"},
                        *(
                            {
                                "path": f"{PG}/{name}",
                                "content": "{{ lookup('ansible.builtin.template', '%s') }}" % (ROLES / "database" / "templates" / f"{name}.j2"),
                                "owner": "postgres",
                                "group": "postgres",
                            }
                            for name in ("pg_hba.conf", "pg_ident.conf")
                        ),
                    ]
                },
            },
            {"name": "Have them read", "ansible.builtin.command": "systemctl reload postgresql@15-main", "changed_when": True},
            {"name": "Have the database", "ansible.builtin.command": "runuser -u postgres -- createdb crm", "changed_when": True},
        ],
    }
]


def inventory(host, **variables):
    """The host, and one that is not there: it has the CRM, and nobody answers."""
    made = plays.inventory(host.name, groups=("crm_database", "crm_package", "crm_monitor"), **{**VARIABLES, **variables})
    made["all"]["children"]["crm_app"] = {"hosts": {"elsewhere": {"foundation_address": "192.0.2.9"}}}
    return made


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A host with the role on it, and what the first runs said."""
    made = hosts.Host("monitoring", source=servers.image("debian12"))
    place = tmp_path_factory.mktemp("monitoring")
    try:
        made.create().sh("(apt-get update -qq; apt-get install -qq -y --no-install-recommends python3-psycopg2) >/dev/null 2>&1")
        before = plays.run(place, BEFORE, inventory(made), timeout=120)
        assert before.rc == 0, before.failure or before.text[-3000:]
        made.checked = plays.run(place, ROLE, inventory(made), "--check", "--diff", timeout=300)
        made.untouched = made.sh("ls /usr/bin/crm-platform-health /usr/bin/prometheus* /etc/systemd/system/crm-platform-health* 2>/dev/null; true")
        made.done = plays.run(place, ROLE, inventory(made), "--diff", "-vvv", timeout=300)
        assert made.done.rc == 0, made.done.failure or made.done.text[-3000:]
        yield made
    finally:
        made.remove()


@pytest.fixture
def run(watched, tmp_path):
    """run(option, ..., variable=...)"""
    return lambda *options, playbook=ROLE, **variables: plays.run(tmp_path, playbook, inventory(watched, **variables), *options, timeout=300)


def get(host, address):
    return host.sh(f"python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' '{address}'")


def asked(host, expression):
    """What Prometheus answers: a list of (labels, value)."""
    answer = get(host, f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(expression)}")
    return [(one["metric"], float(one["value"][1])) for one in json.loads(answer)["data"]["result"]]


def firing(host):
    found = json.loads(get(host, "http://127.0.0.1:9093/api/v2/alerts"))
    return {(one["labels"]["alertname"], one["labels"]["severity"], one["receivers"][0]["name"]) for one in found}


def live(host):
    return host.sh(f"sha256sum {FILES}; systemctl show -p ActiveEnterTimestamp,ActiveState prometheus prometheus-alertmanager")


def test_the_role_is_shown_done_and_left_alone(run, watched):
    assert watched.checked.rc == 0, watched.checked.failure or watched.checked.text[-3000:]
    assert watched.checked.changed and watched.untouched == ""
    again = run()
    assert again.rc == 0 and again.changed == [], (again.changed, again.failure)


def test_no_secret_is_shown(watched):
    assert SECRET not in watched.done.text and SECRET.replace(" ", "-") not in watched.done.text
    assert watched.stat("/etc/prometheus/alertmanager.yml") == "regular file root:prometheus 640"
    assert watched.stat("/etc/crm-platform/health.json") == "regular file root:root 600"
    assert SECRET in watched.read("/etc/prometheus/alertmanager.yml")
    assert SECRET not in watched.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '")


def test_the_exporters_listen_for_this_host_only(watched):
    listening = watched.sh("ss -Htln | awk '{print $4}'").split()
    found = {one for one in listening if one.rsplit(":", 1)[1] in ("9100", "9187", "9090", "9093", "9094")}
    assert found == {f"127.0.0.1:{port}" for port in (9100, 9187, 9090, 9093)}


def test_prometheus_sees_the_host_and_its_database(watched):
    # Each target has a moment of its own in the interval, and who does not answer is known only after the limit.
    seen = ("crm_platform_health_status", "pg_up", NOBODY)
    watched.wait_for("Prometheus to have asked", lambda: all(asked(watched, one) for one in seen), 120)
    told = {labels["check"]: labels["host"] for labels, dummy in asked(watched, "crm_platform_health_status")}
    assert set(told) == {one.id for one in alerts.checks()} and set(told.values()) == {watched.name}
    assert asked(watched, "pg_up")[0][1] == 1 and asked(watched, "pg_stat_database_numbackends")
    (up,) = asked(watched, NOBODY)
    assert up[1] == 0
    role = watched.sh("runuser -u postgres -- psql -XAtc \"SELECT rolsuper, rolpassword IS NULL FROM pg_authid WHERE rolname = 'crm_monitor'\"")
    assert role.strip() == "f|t"
    assert (
        "permission denied"
        in watched.run("runuser", "-u", "prometheus", "--", "psql", "-XU", "crm_monitor", "postgres", "-c", "TABLE pg_authid", check=False).stderr
    )


def test_the_unit_sees_what_root_sees(watched):
    direct = json.loads(watched.run("crm-platform-health", "--json", "--no-write", check=False).stdout)
    watched.run("systemctl", "start", "crm-platform-health")
    seen = watched.read("/var/lib/prometheus/node-exporter/crm_platform_health.prom")
    # These change from one moment to the next on a busy machine.
    steady = [one for one in direct["results"] if one["id"] not in ("load", "pressure", "updates")]
    differ = {one["id"]: one["message"] for one in steady if f'{{check="{one["id"]}",area="{one["area"]}"}} {STATUS[one["status"]]}\n' not in seen}
    assert differ == {} and [one for one in steady if one["status"] == "unknown"] == [] and direct["problems"] == []
    assert {one["id"]: one["status"] for one in steady}["disk_readonly"] == "ok" and {one["id"]: one["status"] for one in steady}["db_up"] == "ok"
    exposure = watched.sh("systemd-analyze security --no-pager crm-platform-health.service | tail -1", check=False)
    print(exposure)
    assert float(exposure.split(":")[1].split()[0]) < 6


def test_a_fault_calls_the_right_one(run, watched):
    changed = run(
        health_check_thresholds={"load": {"warning": 0, "critical": 0}, "open_files": {"warning": 0, "critical": None}}, monitoring_for_warning=0
    )
    assert changed.rc == 0, changed.failure
    watched.run("systemctl", "start", "crm-platform-health")
    wanted = {("CrmLoad", "critical", "chat"), ("CrmOpenFiles", "warning", "ops")}
    print(watched.wait_for("Alertmanager to know", lambda: wanted <= firing(watched), 240))


def test_promtool_accepts_all_and_each_alert_does_what_it_should(watched):
    rules = alerts.rules(alerting.GIVEN)
    dashboard = json.loads((ROLES / "monitoring" / "files" / "grafana-dashboard.json").read_text())
    names = {"host": ".*", "area": ".*", "check": "load", "__rate_interval": "5m"}
    asks = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for name, value in names.items():
        asks = [one.replace(f"${name}", value) for one in asks]
    panels = {"groups": [{"name": "panels", "rules": [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(asks)]}]}
    for name, document in (("rules", rules), ("tests", alerting.unit_tests(rules, "rules.yml")), ("panels", panels)):
        watched.write(f"/tmp/{name}.yml", yaml.safe_dump(document, sort_keys=False))
    assert f"{sum(len(group['rules']) for group in rules['groups'])} rules found" in watched.sh("promtool check rules /tmp/rules.yml")
    assert "SUCCESS" in watched.sh("promtool check rules /tmp/panels.yml")
    assert watched.sh("promtool check metrics < /var/lib/prometheus/node-exporter/crm_platform_health.prom 2>&1") == ""
    assert "SUCCESS" in watched.run("promtool", "test", "rules", "/tmp/tests.yml", check=False).stdout


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"monitoring_retention": "-5d"}, "monitoring_retention is '-5d'; write a number above 0 and h, d, w or y, such as 30d"),
        ({"monitoring_interval": "soon"}, "monitoring_interval"),
    ],
)
def test_bad_input_changes_nothing(run, watched, variables, words):
    before = live(watched)
    refused = run(**variables)
    assert refused.rc != 0 and words in refused.failure + str(refused.last), refused.text[-2000:]
    assert refused.changed == [] and live(watched) == before and SECRET not in refused.text


def test_the_whole_is_checked_first(run, watched):
    before = live(watched)
    refused = run("--limit", watched.name, playbook="crm.platform.monitoring_setup", monitoring_receiver="somebody", foundation_memory_min_mb=1)
    assert "monitoring_receiver is 'somebody', which monitoring_receivers does not have; there is ops, chat" in refused.failure, refused.text[-2000:]
    assert refused.changed == [] and live(watched) == before


def test_what_prometheus_refuses_does_not_come_into_force(run, watched):
    watched.write("/etc/prometheus/rules.d/own.yml", "groups: [{name: mine, rules: [{alert: Mine, expr: 'up =='}]}]\n")
    before = live(watched)
    refused = run(monitoring_scrape_interval=20)
    watched.run("rm", "/etc/prometheus/rules.d/own.yml")
    assert refused.rc != 0 and "promtool check config" in refused.failure, refused.text[-2000:]
    assert live(watched) == before and "ActiveState=active" in before


def test_the_end(run, watched):
    gone = run(monitoring_enabled=False)
    assert gone.rc == 0, gone.failure or gone.text[-2000:]
    assert run(monitoring_enabled=False).changed == []
    units = "crm-platform-health.timer prometheus prometheus-alertmanager prometheus-node-exporter prometheus-postgres-exporter"
    assert set(watched.run("systemctl", "is-active", *units.split(), check=False).stdout.split()) == {"inactive"}
    assert watched.sh("ls /usr/bin/crm-platform-health /var/lib/prometheus/node-exporter/crm_platform_health.prom 2>/dev/null; true") == ""
