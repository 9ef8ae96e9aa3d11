# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus and Alertmanager are told, the program that looks after a host, and the dashboard. promtool has its say in tests/integration."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from ansible_collections.crm.platform.plugins import module_utils
from ansible_collections.crm.platform.plugins.module_utils import health, whole  # noqa: F401  # pylint: disable=unused-import  # for the program
from ansible_collections.crm.platform.plugins.module_utils.health import (  # noqa: F401  # pylint: disable=unused-import  # for the program
    history,
    probe,
    registry,
    report,
)
from ansible_collections.crm.platform.plugins.plugin_utils import alerts, library
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "support"))

import alerting  # pylint: disable=wrong-import-position
import plays  # pylint: disable=wrong-import-position

GIVEN = {
    "interval": 300,
    "jitter": 30,
    "scrape_interval": 30,
    "for_warning": 900,
    "for_critical": 420,
    "retention": "30d",
    "retention_size": "",
    "listen": "",
    "ui_address": "127.0.0.1",
    "skip": [],
    "receivers": [],
    "receiver": "",
    "receiver_critical": "",
    "repeat": "12h",
    "smtp_host": "",
    "smtp_from": "",
    "smtp_user": "",
    "smtp_password": "",
    "smtp_tls": True,
}
OPS = {"name": "ops", "emails": ["ops@example.org"], "webhook": ""}
CHAT = {"name": "chat", "emails": [], "webhook": "https://chat.example.org/hook/s3cret"}
# Of today's room, what there was a day ago.
SHARES = {"steady": 0.9, "filling": 30}
MAIL = {"smtp_host": "mail.example.org:587", "smtp_from": "crm@example.org"}


def rules(**more):
    return [one for group in alerts.rules({**GIVEN, **more})["groups"] for one in group["rules"]]


def test_each_check_has_a_rule_for_each_level():
    found = {(one["alert"], one["labels"]["severity"]) for one in rules()}
    names = [alerts.name_of(one.id) for one in alerts.checks()]
    assert len(names) >= 50 and len(set(names)) == len(names)
    assert {(name, level) for name in names for level in ("warning", "critical")} <= found
    assert {one.id for one in alerts.checks()} == set(registry.REGISTRY)


def test_a_host_without_its_exporter_is_critical():
    """All that it tells of its health goes with it, and what alerted would seem to be well again."""
    found = {one["labels"]["severity"]: one["expr"] for one in rules() if one["alert"] == "CrmExporterDown"}
    assert set(found) == {"warning", "critical"}
    assert found["critical"].startswith('up{job="host"} == 0') and found["warning"].startswith('up{job!="host"} == 0')
    (same,) = [one["equal"] for one in alerts.alertmanager(GIVEN)["inhibit_rules"] if 'severity="critical"' in one["source_matchers"]]
    assert "job" in same, "the database's exporter is another one"


def test_each_alert_of_the_platform_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    wanted = {(one["alert"], one["labels"]["severity"]) for one in alerts.platform_rules(GIVEN)}
    moments = [moment for case in alerting.platform_tests(alerts.rules(GIVEN)) for moment in case["alert_rule_test"]]
    fires = {(one["alertname"], expected["exp_labels"]["severity"]) for one in moments for expected in one["exp_alerts"]}
    assert fires == wanted
    assert {one["alertname"] for one in moments if not one["exp_alerts"]} >= {name for name, dummy in wanted}


def test_two_looks_in_a_row_are_bad_before_anybody_is_called():
    given = yaml.safe_load((ROOT / "roles" / "monitoring" / "defaults" / "main.yml").read_text())
    # Asked once after the second look, and once judged.
    least = given["monitoring_interval"] + given["monitoring_jitter"] + 2 * given["monitoring_scrape_interval"]
    assert least < given["monitoring_for_critical"] < given["monitoring_for_warning"]
    assert {name: value for name, value in alerting.GIVEN.items() if name != "skip" and value != given[f"monitoring_{name}"]} == {}


def test_what_is_skipped_has_none():
    assert "CrmUpdates" in {one["alert"] for one in rules()}
    assert "CrmUpdates" not in {one["alert"] for one in rules(skip=["updates"])}


def test_the_hosts_may_be_late_by_their_jitter():
    (stale,) = [one for one in rules(interval=600, jitter=60) if one["alert"] == "CrmHealthStale"]
    assert stale["expr"].endswith("> 1860")


def test_braces_of_a_check_are_no_template():
    assert alerts.literal("psql -c '{{a}}'") == "psql -c '{{ \"{{\" }}a}}'"


def test_nobody_is_told_without_a_receiver():
    made = alerts.alertmanager(GIVEN)
    assert made["route"]["receiver"] == "nobody" and made["receivers"] == [{"name": "nobody"}] and "global" not in made


def test_receivers():
    made = alerts.alertmanager({**GIVEN, **MAIL, "receivers": [OPS, CHAT], "receiver": "ops", "receiver_critical": "chat"})
    assert made["global"] == {"smtp_smarthost": "mail.example.org:587", "smtp_from": "crm@example.org", "smtp_require_tls": True}
    assert made["route"]["receiver"] == "ops" and made["route"]["routes"] == [{"matchers": ['severity="critical"'], "receiver": "chat"}]
    assert made["receivers"][1:] == [
        {"name": "ops", "email_configs": [{"to": "ops@example.org", "send_resolved": True}]},
        {"name": "chat", "webhook_configs": [{"url": CHAT["webhook"], "send_resolved": True}]},
    ]


def test_the_defaults_are_fine():
    assert not list(alerts.complaints(GIVEN))
    assert not list(
        alerts.complaints({**GIVEN, **MAIL, "receivers": [OPS, CHAT], "receiver": "ops", "listen": "2001:db8::1", "retention_size": "5GB"})
    )


@pytest.mark.parametrize(
    "more, words",
    [
        ({"interval": 5}, "monitoring_interval is 5; allowed are 60 to 3600 seconds"),
        ({"jitter": -1}, "monitoring_jitter is -1"),
        ({"scrape_interval": 0}, "monitoring_scrape_interval is 0"),
        ({"for_critical": -1}, "monitoring_for_critical is -1"),
        ({"retention": "-5d"}, "monitoring_retention is '-5d'; write a number above 0"),
        ({"retention": "0d"}, "monitoring_retention is '0d'"),
        ({"retention": "30d --web.enable-admin-api"}, "monitoring_retention is"),
        ({"retention_size": "much"}, "monitoring_retention_size is 'much'"),
        ({"repeat": "soon"}, "monitoring_repeat is 'soon'"),
        ({"listen": "here"}, "monitoring_listen is 'here', no address"),
        ({"ui_address": "127.0.0.1:80"}, "monitoring_ui_address is"),
        ({"receiver": "ops"}, "monitoring_receiver is 'ops', which monitoring_receivers does not have; there is none"),
        (
            {"receivers": [CHAT], "receiver_critical": "ops"},
            "monitoring_receiver_critical is 'ops', which monitoring_receivers does not have; there is chat",
        ),
        ({"receivers": [OPS, OPS], **MAIL}, "stands there once"),
        ({"receivers": [{**CHAT, "name": "nobody"}]}, "is not nobody"),
        ({"receivers": [{"name": "ops"}]}, "neither emails nor webhook"),
        ({"receivers": [{"name": "ops", "emails": ["ops"]}], **MAIL}, "'ops' is no address"),
        ({"receivers": [{**CHAT, "webhook": "s3cret"}]}, "webhook is no address"),
        ({"receivers": [OPS]}, "monitoring_smtp_host is ''"),
        ({"receivers": [OPS], **MAIL, "smtp_host": "mail.example.org:99999"}, "'mail.example.org:99999'; allowed is a port from 1 to 65535"),
        ({"receivers": [OPS], **MAIL, "smtp_host": "[2001:db8::1]:0"}, "allowed is a port from 1 to 65535"),
        # Also while no receiver has mail yet.
        ({"smtp_host": "mail.example.org:65536"}, "allowed is a port from 1 to 65535"),
        ({"receivers": [{**CHAT, "webhook": "https://chat.example.org:99999/s3cret"}]}, "a port is from 1 to 65535"),
        ({"receivers": [OPS], **MAIL, "smtp_from": "me"}, "monitoring_smtp_from is 'me'"),
        ({"receivers": [OPS], **MAIL, "smtp_password": "s3cret"}, "monitoring_smtp_user and monitoring_smtp_password go together"),
    ],
)
def test_what_cannot_be_is_named_in_one_line_and_no_secret_is_shown(more, words):
    said = next(alerts.complaints({**GIVEN, **more}), "")
    assert words in said and "\n" not in said and "s3cret" not in said


# --- the program, as on a host without Ansible and without anything but Python ---


@pytest.fixture
def program(tmp_path):
    """program(options, argument, ...): the run."""
    for path, content in library.files("health").items():
        target = tmp_path / "library" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    shutil.copy(ROOT / "roles" / "monitoring" / "files" / "program.py", tmp_path)
    config = tmp_path / "health.json"

    def run(options, *arguments):
        if options is not None:
            others = [one.id for one in alerts.checks() if one.id not in ("load", "open_files")]
            given = {
                "thresholds": {"load": {"warning": None, "critical": None}},
                "skip": others,
                "login_db": "",
                "history": str(tmp_path / "kept" / "history.json"),
                "textfile": str(tmp_path / "health.prom"),
            }
            config.write_text(json.dumps({**given, **options}))
        words = [sys.executable, "-ISB", str(tmp_path / "program.py"), "--config", str(config), *arguments]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)

    run.place = tmp_path
    return run


@pytest.mark.parametrize(
    "limits, status",
    [({"warning": 1e9, "critical": None}, 0), ({"warning": 0, "critical": None}, 1), ({"warning": 0, "critical": 0}, 2)],
)
def test_the_program_ends_with_the_worst_status(program, limits, status):
    done = program({"thresholds": {"load": limits}}, "--json")
    assert done.returncode == status, done.stderr
    told = json.loads(done.stdout)
    assert {one["id"]: one["status"] for one in told["results"]}["load"] == ("ok", "warning", "critical")[status]
    assert told["summary"]["checks"] == 2 and told["problems"] == []
    assert f'crm_platform_health_status{{check="load",area="system"}} {status}\n' in (program.place / "health.prom").read_text()


def test_the_program_tells_all_that_the_module_tells(program):
    told = json.loads(program({"skip": []}, "--json", "--no-write", "--area", "qos", "--area", "routing").stdout)
    assert {one["id"] for one in told["results"]} == {one.id for one in alerts.checks() if one.area in ("qos", "routing")}


def test_the_program_leaves_what_an_older_library_had(program):
    (program.place / "library" / "health" / "dropped.py").write_text("raise RuntimeError('it needs what is gone')\n")
    done = program({})
    assert done.returncode == 0, done.stderr


def test_the_library_names_all_that_it_holds():
    found = library.files("health")
    space = {}
    exec(found["__init__.py"], space)  # pylint: disable=exec-used
    assert space["FILES"] == sorted(found) and "health/system.py" in space["FILES"]


def test_the_program_writes_nothing_where_it_should_not(program):
    assert program({}, "--no-write").returncode == 0 and program({}, "--area", "system").returncode == 0
    assert not (program.place / "kept").exists() and not (program.place / "health.prom").exists()


def test_the_table_is_for_people(program):
    done = program({"thresholds": {"load": {"warning": 0, "critical": 0}}})
    assert "CRITICAL  load: load" in done.stdout and "cure  top" in done.stdout


@pytest.mark.parametrize("words, status", [(["--area", "nothing"], 64), (["--much"], 64)])
def test_a_wrong_call_is_no_status(program, words, status):
    assert program({}, *words).returncode == status


def test_a_broken_configuration_is_no_status(program):
    (program.place / "health.json").write_text("{")
    done = program(None)
    assert done.returncode == 70 and len(done.stderr.splitlines()) == 1


def test_the_playbooks_counters_stay(program):
    kept = program.place / "kept"
    kept.mkdir()
    (kept / "history.json").write_text(json.dumps({"at": 5, "counters": {"a": 1}, "series": {"load5": [[1, 1]]}}))
    assert program({}).returncode == 0
    after = json.loads((kept / "history.json").read_text())
    assert after["at"] == 5 and after["counters"] == {"a": 1} and "load5" in after["series"]


@pytest.fixture
def module(monkeypatch):
    """The program as a module, with the library that is here."""
    path = ROOT / "roles" / "monitoring" / "files" / "program.py"
    for name, here in (("library", module_utils), ("library.health", health)):
        monkeypatch.setitem(sys.modules, name, here)
    monkeypatch.setattr(module_utils, "FILES", [], raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("program", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def look(module, tmp_path):
    """look(now): how old that is with which a look compares, by way of the file, as the timer does; None where it compares with nothing."""
    path = str(tmp_path / "timer.json")

    def run(now):
        problems = []
        before = module.read(path, "state", problems)
        assert problems == []
        found = module.comparable(before, now)
        module.write(path, json.dumps(module.following(before, now, {"n": now})))
        assert not found or found["counters"] == {"n": found["at"]}
        return now - found["at"] if found else None

    run.path = tmp_path / "timer.json"
    return run


def test_growth_is_compared_with_what_was_one_to_two_hours_ago(look):
    ages = {now: look(1000 + now) for now in range(0, 86400, 300)}
    assert {age for now, age in ages.items() if now < 1800} == {None}
    assert all(1800 <= age <= 7200 for now, age in ages.items() if now >= 1800)
    assert all(3600 <= age <= 7200 for now, age in ages.items() if now >= 3600)
    assert len(look.path.read_text()) < 300, "it does not grow"


def test_a_clock_that_went_back_is_seen_and_begun_from(look):
    for now in range(90000, 90000 + 3 * 3600, 300):
        look(now)
    assert look(10) < 0, "the check of the clock has to see it"
    assert look(310) is None and look(10 + 1800) == 1800


def test_a_clock_that_was_ahead_for_a_while_does_not_hold_the_base(look):
    look(1000)
    look(1000 + 10**9)
    ages = {now: look(1000 + now) for now in range(300, 6 * 3600, 300)}
    assert all(3600 <= age <= 7200 for now, age in ages.items() if now >= 3600)


def test_a_broken_younger_look_is_told(look, module):
    look.path.write_text(json.dumps({"at": 5, "counters": {}, "series": {}, "younger": {"at": "x"}}))
    problems = []
    assert module.read(str(look.path), "state", problems) == {} and "begun anew" in problems[0]


def test_the_last_day_has_its_say_in_the_forecast_of_the_disk(program):
    """Half of the room went in the last hour, and in the last day none did: that was a backup, and no trend."""
    options = {"skip": [one.id for one in alerts.checks() if one.id != "disk_forecast"]}
    assert program(options).returncode == 0
    state, kept = program.place / "kept" / "timer.json", program.place / "kept" / "history.json"
    before = json.loads(state.read_text())
    rooms = {name[5:]: room for name, room in before["counters"].items() if name.startswith("free ")}
    if not rooms:
        pytest.skip("no file system holds data")
    old = {**before, "at": before["at"] - 3600, "counters": {f"free {place}": room * 2 for place, room in rooms.items()}}
    days = {name: {f"disk_free {place}": [[before["at"] - 80000, room * share]] for place, room in rooms.items()} for name, share in SHARES.items()}
    found = {}
    for name, series in days.items():
        state.write_text(json.dumps(old))
        kept.write_text(json.dumps({"at": 5, "counters": {}, "series": series}))
        found[name] = json.loads(program(options, "--json").stdout)["summary"]["status"]
    assert found == {"steady": "ok", "filling": "critical"}
    kept.unlink()
    state.write_text(json.dumps(old))
    assert program(options).returncode == 2, "without a day the last window alone decides"


def test_a_history_that_is_none_is_told_and_begun_anew(program):
    (program.place / "kept").mkdir()
    (program.place / "kept" / "history.json").write_text("{")
    told = json.loads(program({}, "--json").stdout)
    assert "begun anew" in told["problems"][0]
    assert json.loads((program.place / "kept" / "history.json").read_text())["series"]


# --- what is no longer wanted on a host ---

SYSTEMCTL = """#!/bin/sh
# Of each unit one file: it is there while it runs.
place=$(dirname "$0")
verb=$1; shift
[ "$verb" = show ] || echo "$verb $*" >> "$place/calls"
for one in "$@"; do
    case "$verb $one" in
        show\\ *.*) state=inactive file=disabled; [ -e "$place/$one" ] && state=active file=enabled
            printf 'Id=%s\\nNames=%s\\nLoadState=loaded\\nActiveState=%s\\nUnitFileState=%s\\nNeedDaemonReload=no\\n\\n' "$one" "$one" $state $file;;
        disable\\ *.*|stop\\ *.*) rm -f "$place/$one";;
    esac
done
"""
PACKAGES = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter", "prometheus-postgres-exporter")


@pytest.fixture
def leave(tmp_path, monkeypatch):
    """leave(wanted, ours, option, ..., variable=...): whether the tasks changed something, and what of all four runs then."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "bin" / "systemctl").chmod(0o755)
    mark = yaml.safe_load((ROOT / "roles" / "monitoring" / "vars" / "main.yml").read_text())["_monitoring_mark"]
    for one in PACKAGES:
        (tmp_path / "bin" / f"{one}.service").touch()

    def run(wanted, ours, *words, installed=PACKAGES, **variables):
        for one in installed:
            # Another's is Ansible's as well.
            (tmp_path / one).write_text(f"#\n# Ansible managed\n#\n{mark if one in ours else ''}\nARGS=''\n")
        given = {"_monitoring_packages": wanted, "_monitoring_arguments_directory": str(tmp_path), **variables}
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"ansible_facts": {"packages": {one: [] for one in installed}}},
            "tasks": [
                {"name": "Have", "ansible.builtin.import_role": {"name": "crm.platform.monitoring", "tasks_from": "leave.yml"}},
            ],
        }
        hosts = {"all": {"hosts": {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}}
        done = plays.run(tmp_path, [play], hosts, "-e", json.dumps(given), *words, timeout=60)
        assert done.rc == 0, done.failure or done.text[-2000:]
        return bool(done.changed), {one for one in PACKAGES if (tmp_path / "bin" / f"{one}.service").exists()}

    return run


def test_where_another_host_asks_now_this_one_stops(leave):
    wanted = ["prometheus-node-exporter"]
    checked, running = leave(wanted, PACKAGES, "--check")
    assert checked and running == set(PACKAGES)
    assert leave(wanted, PACKAGES) == (True, set(wanted))
    assert leave(wanted, PACKAGES) == (False, set(wanted))


def test_where_nothing_is_monitored_all_stops_but_what_is_the_administrators(leave):
    ours = [one for one in PACKAGES if one != "prometheus-node-exporter"]
    assert leave(list(PACKAGES), ours, monitoring_enabled=False) == (True, {"prometheus-node-exporter"})


def test_a_host_that_never_had_ours_is_left_alone(leave):
    assert leave([], [], installed=("prometheus", "prometheus-node-exporter")) == (False, set(PACKAGES))


def test_all_that_can_be_stopped_bears_the_mark():
    role = ROOT / "roles" / "monitoring"
    templates = yaml.safe_load((role / "vars" / "main.yml").read_text())["_monitoring_argument_templates"]
    assert sorted(templates) == sorted(PACKAGES)
    assert [name for name in templates.values() if "{{ _monitoring_mark }}" not in (role / "templates" / name).read_text().splitlines()] == []


@pytest.mark.parametrize("name", ["apply", "remove"])
def test_both_ways_stop_what_is_not_wanted(name):
    tasks = yaml.safe_load((ROOT / "roles" / "monitoring" / "tasks" / f"{name}.yml").read_text())
    assert [one["when"] for one in tasks if one.get("ansible.builtin.include_tasks") == "leave.yml"] == ["_monitoring_unwanted | length > 0"]


# --- the dashboard ---

DASHBOARD = json.loads((ROOT / "roles" / "monitoring" / "files" / "grafana-dashboard.json").read_text())


def test_the_dashboard_takes_any_data_source():
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    asked = [*DASHBOARD["panels"], *(each for panel in DASHBOARD["panels"] for each in panel.get("targets", [])), *DASHBOARD["annotations"]["list"]]
    asked += [one for one in variables.values() if one["type"] == "query"]
    assert {one["datasource"]["uid"] for one in asked if one.get("type") != "row"} == {"${datasource}"}
    assert DASHBOARD.get("id") is None


def test_the_dashboards_panels_do_not_cover_one_another():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_dashboard_shows_each_area_of_the_platform():
    titles = {panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"}
    assert titles == {"Platform", "Checks, with their limits", "PostgreSQL", "Network and QoS", "Disk and system"}
