# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of checks, the history and the report, without a host."""

from __future__ import annotations

import json
import time
import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils.health import (  # noqa: F401  # pylint: disable=unused-import
    backup,
    crm,
    database,
    firewall,
    history,
    probe,
    qos,
    registry,
    report,
    routing,
    security,
    system,
)
from ansible_collections.crm.platform.plugins.plugin_utils import health_page

NOW = 1_700_000_000


def one(status="ok", area="system", **more):
    return {
        "id": "a",
        "area": area,
        "title": "A",
        "status": status,
        "value": None,
        "unit": "",
        "warning": None,
        "critical": None,
        "message": "m",
        "cure": "",
        "seconds": 0,
        **more,
    }


@pytest.fixture
def only(monkeypatch):
    """Register checks that are the only ones."""
    monkeypatch.setattr(registry, "REGISTRY", {})
    return registry.check


@pytest.mark.parametrize(
    "value, warning, critical, least, status",
    [
        (95, 70, 90, False, "critical"),
        (90, 70, 90, False, "critical"),
        (70, 70, 90, False, "warning"),
        (69.9, 70, 90, False, "ok"),
        (5, 21, 7, True, "critical"),
        (20, 21, 7, True, "warning"),
        (22, 21, 7, True, "ok"),
        (1e9, None, None, False, "ok"),
        (5, 1, None, False, "warning"),
    ],
)
def test_the_worst_level_comes_first(value, warning, critical, least, status):
    assert registry.judge(value, warning, critical, least) == status


def test_there_are_enough_checks_and_each_says_what_to_do():
    assert len(registry.REGISTRY) >= 50
    for each in registry.REGISTRY.values():
        assert each.title and each.cure and each.source, each.id
        if each.warning is not None and each.critical is not None:
            assert (each.critical < each.warning) == each.least, each.id


@pytest.mark.parametrize(
    "given, word",
    [
        ({"nothing": {"warning": 1}}, "there is no check 'nothing'"),
        ({"disk_space": {"warning": "much"}}, "warning is 'much'"),
        ({"disk_space": {"critical": -1}}, "critical is -1"),
        ({"disk_space": {"warning": True}}, "warning is True"),
        ({"disk_space": {"warning": 99}}, "exchange them"),
        ({"crm_certificate": {"warning": 3}}, "exchange them"),
        ({"disk_space": {"worst": 3}}, "'worst' is no level"),
        ({"disk_space": 80}, "is no level"),
        ({"db_up": {"warning": 1}}, "has no limits"),
    ],
)
def test_limits_that_cannot_be_used_are_told_and_the_defaults_hold(given, word):
    found, problems = registry.limits(given)
    assert len(problems) == 1 and word in problems[0]
    assert found["disk_space"] == (80, 92)


def test_limits_of_ones_own():
    found, problems = registry.limits({"disk_space": {"warning": "50", "critical": None}})
    assert not problems and found["disk_space"] == (50.0, None)


def test_a_broken_check_is_unknown_and_harms_no_other(only):
    @only("broken", "system", cure="mend it")
    def broken(host):
        """It breaks"""
        return 1 / 0

    @only("hangs", "system")
    def hangs(host):
        """It hangs"""
        time.sleep(30)

    @only("nothing", "system")
    def nothing(host):
        """Nothing to look at"""
        raise registry.Skipped("not here")

    @only("well", "system", "%", 50, 90)
    def well(host):
        """It is well"""
        return registry.Reading(12.34567, "all\nis well")

    began = time.monotonic()
    results, problems = registry.run(types.SimpleNamespace(), seconds=0.2, skip=["other"])
    assert time.monotonic() - began < 5
    assert {each["id"]: each["status"] for each in results} == {"broken": "unknown", "hangs": "unknown", "nothing": "skipped", "well": "ok"}
    known = {each["id"]: each for each in results}
    assert known["broken"]["message"].startswith("ZeroDivisionError") and known["broken"]["cure"] == "mend it"
    assert known["well"]["message"] == "all is well" and known["well"]["value"] == 12.346 and known["well"]["cure"] == ""
    assert problems == ["health_check_skip: there is no check 'other'"]
    assert registry.summary(results)["status"] == "unknown"


def test_a_hanging_command_ends_with_the_time_of_its_check(only):
    @only("command", "system")
    def command(host):
        """A command"""
        host.run("sleep", "30")

    began = time.monotonic()
    (found,), dummy = registry.run(probe.Host({}), seconds=0.3)
    assert found["status"] == "unknown" and time.monotonic() - began < 3


def test_a_database_that_is_not_there_costs_one_check_its_time(tmp_path):
    host = probe.Host({"login_db": "crm", "login_unix_socket": str(tmp_path), "login_host": "", "login_port": 5432, "login_user": "postgres",
                       "login_password": "", "ssl_mode": "prefer", "ca_cert": None, "ssl_cert": None, "ssl_key": None, "connect_params": {}})  # fmt: skip
    results, dummy = registry.run(host, ["database"], seconds=3)
    host.close()
    assert {each["status"] for each in results} == {"critical", "unknown"}
    assert [each["id"] for each in results if each["status"] == "critical"] == ["db_up"]


def test_rates_need_an_earlier_run_and_a_clock_that_goes_on():
    host = probe.Host({}, {"at": NOW - 60, "counters": {"a": 5, "b": 50}})
    host.now = NOW
    assert host.rate("a", 11) == (6, 60)
    assert host.rate("b", 1) is None, "a counter that began anew"
    assert host.rate("c", 1) is None
    host.now = NOW - 120
    assert host.rate("a", 20) is None, "a clock that went back"


def test_the_history_keeps_a_value_an_hour_for_thirty_days():
    kept: dict = {}
    for number in range(0, 40 * 86400, 1200):
        kept = history.extended(kept, NOW + number, {"c": number}, {"load5": 1.5}, [one()])
    points = kept["series"]["load5"]
    assert 700 <= len(points) <= 721
    assert all(later[0] - earlier[0] >= 3600 for earlier, later in zip(points, points[1:]))
    back = history.extended(kept, NOW, {}, {"load5": 2}, [one()])
    assert back["series"]["load5"] == [[NOW, 2.0]] and back["counters"] == {"c": kept["counters"]["c"]}


@pytest.mark.parametrize("text", ["[]", "{}", '{"at": "x"}', '{"at": 1, "counters": {}}'])
def test_what_is_no_history(text):
    with pytest.raises(ValueError):
        history.checked(json.loads(text))


def test_the_metrics_are_whole():
    text = history.metrics([one(value=2.5), one("critical", "crm", id="b")], NOW)
    assert 'crm_platform_health_status{check="b",area="crm"} 2\n' in text
    assert 'crm_platform_health_value{check="a",area="system"} 2.5\n' in text
    assert text.endswith(f"crm_platform_health_run_timestamp_seconds {NOW}\n")


def report_of(**hosts):
    return report.document(report.gathered(hosts), "2026-01-02T03:04:05Z", "1.0")


def test_a_host_that_was_not_reached_is_in_the_report():
    told = report_of(well={"results": [one()]}, gone={"unreachable": True, "msg": "no route"}, never={})
    assert told["summary"]["status"] == "critical" and told["summary"]["critical"] == 2
    text = "\n".join(line for line, dummy in report.lines(told))
    assert "no route" in text and "was not reached" in text and "ansible -m ping gone" in text
    assert [each["host"] for each in report.stats(told)["health_findings"]] == ["gone", "never"]


def test_the_table_shows_value_limits_and_cure():
    found = one("warning", value=84.25, unit="%", warning=80, critical=92, message="it is full", cure="make room")
    lines = [line for line, dummy in report.lines(report_of(one={"results": [found, one(id="b")], "problems": ["a note"]}))]
    assert any("WARNING" in line and "a: it is full (84.25 %; warning at 80, critical at 92)" in line for line in lines)
    assert any("cure  make room" in line for line in lines) and any("note  a note" in line for line in lines)
    assert lines[-1] == "WARNING: 1 warning, 1 ok; 1 hosts"


@pytest.mark.parametrize(
    "status, fail_on, fails",
    [
        ("warning", "critical", False),
        ("unknown", "critical", False),
        ("unknown", "warning", True),
        ("critical", "critical", True),
        ("critical", "never", False),
        ("ok", "warning", False),
    ],
)
def test_what_fails_the_playbook(status, fail_on, fails):
    assert report.fails(status, fail_on) is fails


def test_the_page_holds_all_and_nothing_foreign():
    points = [[NOW - number * 3600, number % 7] for number in range(200, 0, -1)]
    bad = one("critical", "crm", message="<script>alert(1)</script>", cure="a & b", value=3.0, critical=2)
    told = report_of(one={"results": [one(), bad], "history": {"load5": points, "connections": points[:1]}})
    told["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW))
    page = health_page.render(told, {"crm_app": ["one"], "crm_database": ["one", "elsewhere"]})
    assert "&lt;script&gt;" in page and "<script" not in page and "a &amp; b" in page
    assert "http://" not in page and "https://" not in page and "src=" not in page
    assert page.count("<figure>") == 1 and "in trouble" in page
    assert page.count('<g class="s-critical">') == 1 and page.count('<g class="s-ok">') == 1


def test_a_plot_breaks_where_nobody_looked():
    points = [(NOW + number * 3600, 1.0) for number in range(10)] + [(NOW + 86400 * 5 + number * 3600, 3.0) for number in range(10)]
    drawn = health_page.plot(points)
    assert drawn["line"].count("M") == 2 and drawn["top"] == 5 and drawn["span"] == "5 days"


@pytest.mark.parametrize("value, top", [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (99, 100), (101, 200), (7e9, 1e10)])
def test_the_scale_ends_at_a_round_number(value, top):
    assert health_page.ceiling(value) == pytest.approx(top)
