# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of checks, the history and the report, without a host."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import re
import socket
import time
import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils import declaration
from ansible_collections.crm.platform.plugins.module_utils.health import (  # noqa: F401  # pylint: disable=unused-import
    backup,
    crm,
    database,
    drift,
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
        ({"disk_spaces": {"warning": 1}}, "write 'disk_space'"),
        ({"disk_space": {"warning": "much"}}, "warning is 'much'"),
        ({"disk_space": {"warning": "nan"}}, "warning is 'nan'"),
        ({"disk_space": {"critical": float("inf")}}, "critical is inf"),
        ({"disk_space": {"critical": []}}, "critical is []"),
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
    assert len(problems) == 1 and problems[0].startswith("health_check_skip: there is no check 'other'; ")
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


def test_a_database_that_hangs_costs_its_time_once(monkeypatch, tmp_path):
    """The CRM's users wait for it, too: the question to the CRM is a brief one then."""
    host = probe.Host({"login_db": "crm", "login_unix_socket": str(tmp_path), "crm": {"url": "https://crm.example.test", "password_file": "/none"}})

    def login(crm):
        while crm.host.left:
            time.sleep(0.01)

    monkeypatch.setattr(probe.Crm, "login", login)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/.s.PGSQL.5432")
        silent.listen(8)
        began = time.monotonic()
        results, dummy = registry.run(
            host, ["database", "crm"], [each.id for each in registry.REGISTRY.values() if each.area == "crm" and each.id != "crm_answers"], seconds=2
        )
        took = time.monotonic() - began
    host.close()
    assert 2 <= took < 3.5
    assert {each["status"] for each in results} == {"critical", "unknown"}
    assert results[-1]["status"] == "critical" and results[-1]["message"] == "crm.example.test does not answer its users; PostgreSQL hangs"


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


def test_what_is_broken_in_a_history_is_left_out_and_the_rest_is_kept():
    series = {"load5": [[NOW - 7200, 1.5], [NOW, "x"], [1], None, [NOW - 3600, 2]], "text": "abc", "none": [], "nan": [[NOW, float("nan")]]}
    found = history.checked({"at": NOW, "counters": {"a": 1, "b": "two", "c": None}, "series": series})
    assert found == {"at": NOW, "counters": {"a": 1}, "series": {"load5": [[NOW - 7200, 1.5], [NOW - 3600, 2]]}}
    kept = history.extended(found, NOW + 9000, {}, {"load5": 3}, [one()])
    assert [value for dummy, value in kept["series"]["load5"]] == [1.5, 2, 3]


def test_apt_is_asked_again_only_where_something_changed(monkeypatch, tmp_path):
    monkeypatch.setattr(system, "APT_LISTS", str(tmp_path))
    monkeypatch.setattr(system, "APT_STATE", ())
    (tmp_path / "debian_InRelease").write_text("")
    said = []

    def look(previous, lines):
        host = probe.Host({}, {"at": time.time() - 60, "counters": previous, "series": {}})
        monkeypatch.setattr(host, "run", lambda *words: said.append(words) or lines)
        return system.updates(host), {**previous, **host.counters}

    waits = "Inst openssl [1] (2 Debian-Security:12/stable-security [amd64])"
    first, kept = look({}, "")
    assert first.value == 0 and len(said) == 1
    assert look(kept, waits)[0].value == 0 and len(said) == 1
    os.utime(tmp_path / "debian_InRelease", (1, 2_000_000))
    found, after = look(kept, waits)
    assert found.status == "warning" and "openssl" in found.message and len(said) == 2
    assert look(after, waits)[0].status == "warning" and len(said) == 3


def test_a_clock_in_the_past_is_told_and_compares_with_nothing(monkeypatch):
    host = probe.Host({}, {"at": time.time() + 86400, "counters": {"oom_kill": 0, "boot": 0}, "series": {"load5": [[time.time() + 80000, 1]]}})
    results, dummy = registry.run(host, ["system"], ["updates", "failed_units"])
    known = {each["id"]: each for each in results}
    assert known["clock"]["status"] == "critical" and "before the last run" in known["clock"]["message"]
    assert known["disk_forecast"]["status"] == "skipped" and known["oom_kills"]["status"] == "skipped"
    kept = history.extended(host.previous, host.now, host.counters, host.series, results)
    assert len(kept["series"]["load5"]) == 1 and kept["at"] == host.now


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_half_of_the_hosts_or_all_of_them_are_not_reached(share):
    hosts = {f"host{number:02}": {"unreachable": True, "msg": "no route"} if number < 20 * share else {"results": [one()]} for number in range(20)}
    told = report_of(**hosts)
    assert told["summary"]["critical"] == 20 * share and len(told["hosts"]) == 20
    text = "\n".join(line for line, dummy in report.lines(told))
    assert text.count("no route") == 20 * share and report.fails(told["summary"]["status"], "critical")
    page = health_page.render(told, {"crm_app": list(hosts)})
    assert page.count("not reached") >= 20 * share and page.count('class="host"') == 20


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
    assert page.count('class="s-critical"') == 2 and page.count('class="s-ok"') == 2, "in the wide picture and in the tall one"


def test_a_plot_breaks_where_nobody_looked():
    points = [(NOW + number * 3600, 1.0) for number in range(10)] + [(NOW + 86400 * 5 + number * 3600, 3.0) for number in range(10)]
    drawn = health_page.plot(points)
    assert drawn["line"].count("M") == 2 and drawn["top"] == 5 and drawn["span"] == "5 days"


@pytest.mark.parametrize("value, top", [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (99, 100), (101, 200), (7e9, 1e10)])
def test_the_scale_ends_at_a_round_number(value, top):
    assert health_page.ceiling(value) == pytest.approx(top)


def test_the_page_of_a_platform_in_trouble(tmp_path):
    health_pictures = importlib.import_module("health_pictures")
    page = health_pictures.page(health_pictures.said(True), health_pictures.GROUPS)
    (tmp_path / "page.html").write_text(page)
    # Every picture says what it shows, to those who do not see it as well.
    svgs = re.findall(r"<svg [^>]*viewBox[^>]*>", page)
    assert all(any(word in svg for word in ("aria-labelledby", "aria-hidden", "x=")) for svg in svgs)
    named = {name for text in re.findall(r'aria-labelledby="([^"]*)"', page) for name in text.split()}
    assert named <= set(re.findall(r'id="([^"]*)"', page))
    assert all(f'id="{place}"' in page for place in re.findall(r'href="#([^"]*)"', page))
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(later - earlier <= 1 for earlier, later in zip(levels, levels[1:]))
    for word in (
        "not reached",
        "No route to host",
        "Classes of traffic out through eth0",
        "The last 30 days",
        "Routers",
        "Monitoring",
        "journalctl -u",
    ):
        assert word in page
    assert page.index("crm-platform-worker.service is not running") < page.index("TABLE customer.customer") < page.index("Hosts and areas")
    assert "http://" not in page and "https://" not in page and "<script" not in page and "src=" not in page
    assert len(page) < 600_000


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return sum(
        weight * (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4) for weight, part in zip((0.2126, 0.7152, 0.0722), parts)
    )


def test_all_text_of_the_page_can_be_read():
    """WCAG AA: a contrast of 4.5 for each colour of text on what it stands on, by day, by night and on paper."""
    template = (pathlib.Path(health_page.TEMPLATE) / "report.html.j2").read_text()
    palettes = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", part)) for part in re.findall(r":root \{(.*?)\}", template, re.S)]
    assert len(palettes) == 3
    pairs = [(text, ground) for text in ("ink", "soft", "line") for ground in ("paper", "card")] + [("ink", "skipped-bg")]
    pairs += [(status, ground) for status in registry.ORDER for ground in ("card", f"{status}-bg")]
    for palette in palettes:
        for text, ground in pairs:
            dark, light = sorted((luminance(palette[text]), luminance(palette[ground])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, palette[text], palette[ground])


@pytest.mark.parametrize("number", [1, 2, 3, 12])
def test_a_platform_of_any_size_is_drawn(number):
    names = [f"host{place}" for place in range(number)]
    told = report_of(**{name: {"results": [one()]} for name in names})
    page = health_page.render(told, {"crm_app": names, "crm_database": names[:1], "crm_backup": names[-1:]})
    assert page.count("<rect") >= 2 * (number + 2) and "There is no history yet" in page


@pytest.mark.parametrize("value, text", [(0, "0"), (182.4, "182"), (34, "34"), (6.404, "6.4"), (12345.6, "12,346"), (0.004, "0"), (100, "100")])
def test_numbers_for_readers(value, text):
    assert health_page.short(value) == text


def test_a_long_line_keeps_its_peaks():
    points = [(NOW + number * 3600, 1.0) for number in range(720)]
    points[333] = (points[333][0], 9.0)
    drawn = health_page.plot(points)
    assert drawn["line"].count("L") < 260 and drawn["line"].count("M") == 1 and drawn["most"] == 9
    assert " 9.6" in drawn["line"], "9 of 10 is 9.6 from the upper edge"


# -- traffic shaping

BATCH = """# Made by crm.platform.traffic_shaping
qdisc replace dev eth0 root handle 2: pfifo limit 1000
qdisc replace dev eth0 root handle 1: htb default 20 r2q 10
class replace dev eth0 parent 1: classid 1:1 htb rate 100000000bit ceil 100000000bit burst 15000 cburst 15000 quantum 60000
class replace dev eth0 parent 1:1 classid 1:10 htb rate 40000000bit ceil 100000000bit burst 15000 cburst 15000 overhead 18 mpu 64 prio 1 quantum 1514
class replace dev eth0 parent 1:1 classid 1:20 htb rate 30000000bit ceil 100000000bit burst 15000 cburst 15000 prio 3 quantum 1514
qdisc replace dev eth0 parent 1:10 handle 10: pfifo limit 100
qdisc replace dev ifb-eth0 root handle 1: htb default 20 r2q 10
class replace dev ifb-eth0 parent 1:1 classid 1:10 htb rate 40000000bit ceil 95000000bit burst 15000 cburst 15000 prio 1 quantum 1514
filter add dev eth0 ingress protocol all pref 49000 u32 match u32 0x00000000 0x00000000 at 0 action mirred egress redirect dev ifb-eth0
"""
STATS = """class htb 1:1 root rate 100Mbit ceil 100Mbit burst 15Kb cburst 15Kb
 Sent 999 bytes 9 pkt (dropped 0, overlimits 5 requeues 0)
 backlog 0b 0p requeues 0
 lended: 1 borrowed: 0 giants: 0

class htb 1:10 parent 1:1 leaf 10: prio 1 rate 40Mbit ceil 100Mbit burst 15Kb cburst 15Kb
 Sent {sent} bytes {packets} pkt (dropped {dropped}, overlimits 7 requeues 0)
 rate 0bit 0pps backlog 4542b {waiting}p requeues 0
 lended: 3 borrowed: 1 giants: 0

class htb 1:20 parent 1:1 prio 3 rate 30Mbit ceil 100Mbit burst 15Kb cburst 15Kb
 Sent 300 bytes {others} pkt (dropped 0, overlimits 0 requeues 0)
 backlog 0b 0p requeues 0
"""


def test_what_boot_shapes_is_read_from_its_file():
    found = qos.parse_declared("eth0", BATCH)
    assert found.kinds == {"eth0": "htb", "ifb-eth0": "htb"} and found.stand_in == "ifb-eth0"
    assert found.classes == {("eth0", "1:10"): (40000000, 18), ("eth0", "1:20"): (30000000, 0), ("ifb-eth0", "1:10"): (40000000, 0)}
    stats = qos.parse_stats(STATS.format(sent=1000, packets=4, dropped=2, waiting=3, others=3))
    assert stats["1:10"] == qos.Class(1000, 4, 2, 7, 3) and stats["1:20"].waiting == 0


class Shaped(probe.Host):
    """A host whose tc tells of one class what the test says, look after look."""

    def __init__(self, *looks, previous=None):
        super().__init__({}, previous)
        self.looks, self.now = list(looks), NOW
        self.once("qos declared", lambda: [qos.parse_declared("eth0", BATCH)])
        self.once("qos names", lambda: {"1:10": "crm", "1:20": "bulk"})

    def run(self, *words, check=True):
        if words[-1] != "eth0":
            return ""
        return STATS.format(**{"others": 3, **(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])})


@pytest.mark.parametrize(
    "looks, status, word",
    [
        ([{"sent": 0, "packets": 0, "dropped": 0, "waiting": 0}], "ok", "no class waits"),
        # 40 Mbit/s are 5 MB a second: of 2 MB in 0.4 s it got all, then a third, each time.
        ([{"sent": 2_400_000 * number, "packets": 10, "dropped": 0, "waiting": 9} for number in range(4)], "ok", "waits"),
        ([{"sent": 700_000 * number, "packets": 10, "dropped": 0, "waiting": 9} for number in range(4)], "critical", "crm on eth0 waits, and got"),
        (
            [{"sent": 0, "packets": 0, "dropped": 0, "waiting": 9}, {"sent": 0, "packets": 0, "dropped": 0, "waiting": 0}],
            "ok",
            "no class waits for long",
        ),
    ],
)
def test_a_class_that_does_not_get_what_it_was_promised(looks, status, word):
    (found,), dummy = registry.run(Shaped(*looks), ["qos"], [name for name in registry.REGISTRY if name != "qos_starved"])
    assert found["status"] == status and word in found["message"]


def test_drops_are_those_of_the_worst_class_and_by_its_name():
    before = {"counters": {}, "at": NOW - 100, "series": {}}
    first = Shaped({"sent": 1000, "packets": 1000, "dropped": 0, "waiting": 0}, previous=before)
    skip = [name for name in registry.REGISTRY if name != "qos_drops"]
    (found,), dummy = registry.run(first, ["qos"], skip)
    assert found["status"] == "skipped"
    second = Shaped(
        {"sent": 5_001_000, "packets": 6000, "dropped": 1500, "waiting": 0, "others": 9000}, previous={**before, "counters": first.counters}
    )
    (found,), dummy = registry.run(second, ["qos"], skip)
    assert found["status"] == "critical" and found["value"] == 30 and "crm on eth0 dropped 1500 of 5000" in found["message"]
    assert second.series["qos eth0 crm"] == 400_000, "bits a second, for the page"


# -- routing


class Router(probe.Host):
    """A host whose commands and files are given; what is not is not there."""

    def __init__(self, commands, files):
        super().__init__({})
        self.commands, self.files, self.asked = commands, files, []

    def read(self, path):  # pylint: disable=arguments-differ
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def status(self, *words, check=False):
        text = " ".join(words)
        self.asked.append(text)
        found = next((answer for start, answer in self.commands.items() if text.startswith(start)), None)
        if found is None or isinstance(found, OSError):
            if check:
                raise found or OSError(f"{text} failed")
            return 1, ""
        return 0, found


def routing_of(monkeypatch, commands, files, name, exists=("/usr/bin/vtysh", routing.CONFIG)):
    monkeypatch.setattr(routing.os.path, "exists", lambda path: path in exists)
    monkeypatch.setattr(routing.time, "sleep", lambda seconds: None)
    (found,), dummy = registry.run(Router(commands, files), ["routing"], [each for each in registry.REGISTRY if each != name])
    return found


DAEMONS = {"/etc/frr/daemons": "zebra=yes\nospfd=yes\nospf6d=no\nbfdd=yes\n"}
ANYCAST = json.dumps({"addresses": ["10.9.9.9"], "port": 443, "path": "/health", "interval": 0.2, "timeout": 1, "fall": 2, "rise": 10})
LO = json.dumps([{"addr_info": [{"local": "127.0.0.1"}, {"local": "10.9.9.9"}]}])
BARE = json.dumps([{"addr_info": [{"local": "127.0.0.1"}]}])


@pytest.mark.parametrize(
    "commands, status, word",
    [
        ({"systemctl is-active": "active", "vtysh -c show daemons": " zebra ospfd bfdd watchfrr staticd\n"}, "ok", "run"),
        ({"systemctl is-active": "active", "vtysh -c show daemons": " zebra watchfrr\n"}, "critical", "ospfd, bfdd do not run"),
        ({"systemctl is-active": "failed"}, "critical", "frr.service is failed"),
    ],
)
def test_the_daemons_of_routing(monkeypatch, commands, status, word):
    found = routing_of(monkeypatch, commands, DAEMONS, "routing_daemons")
    assert found["status"] == status and word in found["message"]


def test_a_daemon_that_is_down_has_no_neighbours(monkeypatch):
    assert routing_of(monkeypatch, {}, DAEMONS, "routing_neighbours")["status"] == "critical"
    assert routing_of(monkeypatch, {}, DAEMONS, "routing_bfd")["status"] == "skipped"
    assert routing_of(monkeypatch, {}, {}, "routing_daemons", ())["status"] == "skipped"


def test_a_host_on_which_routing_was_turned_off_is_not_asked_for_it(monkeypatch):
    """Also where an earlier release left the daemons named. A configuration that somebody has only deleted is missed."""
    assert routing_of(monkeypatch, {}, DAEMONS, "routing_daemons", ("/usr/bin/vtysh",))["status"] == "skipped"
    assert routing_of(monkeypatch, {}, DAEMONS, "routing_daemons", ("/usr/bin/vtysh", routing.SWITCHES))["status"] == "critical"


@pytest.mark.parametrize(
    "well, links, unit, exists, status, word",
    [
        (True, LO, "active", (), "ok", "is announced"),
        (False, BARE, "active", (), "ok", "withdrawn"),
        (False, LO, "active", (), "critical", "though the CRM does not answer"),
        (True, BARE, "active", (), "critical", "is not announced: no answer within 3 s"),
        (True, LO, "failed", (), "critical", "nobody watches"),
        (False, BARE, "inactive", (), "critical", "nobody watches"),
        (True, LO, "active", (routing.DRAINED,), "critical", "though the host is drained"),
    ],
)
def test_the_address_is_announced_if_and_only_if_the_crm_is_well(monkeypatch, well, links, unit, exists, status, word):
    monkeypatch.setattr(routing, "answers", lambda host, config: well)
    files = {routing.ANYCAST: ANYCAST, routing.ANYCAST_STATUS: json.dumps({"reason": "no answer within 3 s"})}
    found = routing_of(monkeypatch, {"systemctl is-active": unit, "ip -json": links}, files, "routing_anycast", exists)
    assert found["status"] == status and word in found["message"]


def route(**more):
    return json.dumps(
        {"10.9.9.9/32": [{"protocol": "ospf", "selected": True, "installed": True, "nexthops": [{"active": True}, {"active": True}], **more}]}
    )


@pytest.mark.parametrize(
    "answer, status, word",
    [
        (route(), "ok", "1 addresses lead to 2 hosts"),
        (route(selected=False), "critical", "announced, and not accepted"),
        ("{}", "critical", "announced by nobody"),
        (None, "skipped", "routing_daemons"),
    ],
)
def test_the_routers_know_a_way_to_the_service_address(monkeypatch, answer, status, word):
    conf = "ip prefix-list crm-accept seq 5 permit 10.9.9.9/32\n"
    conf += "ip prefix-list crm-accept seq 10 permit 10.2.0.0/16 le 24\nip prefix-list crm-accept seq 15 deny any\n"
    commands = {} if answer is None else {"vtysh -c show ip route 10.9.9.9/32 json": answer}
    found = routing_of(monkeypatch, commands, {**DAEMONS, routing.CONFIG: conf}, "routing_service")
    assert found["status"] == status and word in found["message"]


# -- backups


def backup_of(state, name, commands=()):
    host = Router(dict(commands), {})
    host.now = NOW
    host.once("backup", lambda: {"written": NOW, "problems": [], **state})
    (found,), dummy = registry.run(host, ["backup"], [each for each in registry.REGISTRY if each != name])
    return found


def test_what_arrives_at_the_backup_host():
    clients = {"app": {"last": {"time": NOW - 7200}}, "db": {"last": {"time": NOW - 30 * 3600}}}
    found = backup_of({"mode": "host", "clients": clients}, "backup_arrivals")
    assert found["status"] == "warning" and found["value"] == 30 and "db sent" in found["message"]
    assert backup_of({"mode": "host", "clients": {"app": {"last": None}}}, "backup_arrivals")["status"] == "warning"
    assert backup_of({"mode": "own"}, "backup_arrivals")["status"] == "skipped"


def test_the_server_of_the_backup_host():
    enabled = {"systemctl is-enabled": "enabled"}
    found = backup_of({"mode": "host"}, "backup_server", {**enabled, "systemctl is-active": "active\ninactive\n"})
    assert found["status"] == "critical" and "crm-platform-backup-files.service is not running" in found["message"]
    assert "systemctl restart crm-platform-backup-files.service" in found["cure"]
    assert backup_of({"mode": "host"}, "backup_server", {**enabled, "systemctl is-active": "active\nactive\n"})["status"] == "ok"
    assert backup_of({"mode": "own"}, "backup_server")["status"] == "skipped"


def test_what_a_loss_would_cost_and_a_restore_takes():
    waits = {"archiver": {"oldest_waiting_seconds": 4000}}
    assert backup_of({"mode": "own", "database": waits}, "backup_rpo")["status"] == "warning"
    assert backup_of({"mode": "own", "database": {"archiver": None}}, "backup_rpo")["status"] == "skipped"
    assert backup_of({"mode": "own", "drill": {"history": [{"ok": True, "rto": 42, "seconds": 900}]}}, "backup_rto")["value"] == 42
    assert backup_of({"mode": "own", "drill": {"last": None}}, "backup_rto")["status"] == "skipped"


# -- the trend of a disk


@pytest.mark.parametrize(
    "free, before, ago, day, hours",
    [
        (90, 100, 3600, None, 9),  # ten an hour
        (90, 100, 60, None, None),  # a minute is no trend
        (90, 100, 60, (7200, 100), 18),  # and one that the last hours do not show is not believed
        (90, 100, 3600, (7200, 80), float("inf")),  # it was fuller before
        (100, 90, 3600, None, float("inf")),
        (90, None, None, None, None),
        (90, 100, -50, None, None),  # a clock that went back
    ],
)
def test_when_a_disk_is_full(free, before, ago, day, hours):
    series = [[NOW - day[0], day[1]]] if day else []
    assert system.fills_in(free, before, None if ago is None else NOW - ago, series, NOW) == hours


# -- drift


class Declaring:
    """Of a host: a database that is no replica, and one file."""

    def __init__(self, text):
        self.text = text
        self.database = types.SimpleNamespace(value=lambda sql: False)

    def read(self, path):
        if self.text is None:
            raise FileNotFoundError(path)
        return self.text


@pytest.mark.parametrize(
    "text, error, word",
    [(None, registry.Skipped, "no declaration"), ("{", OSError, "cannot be read"), ("[]", OSError, "holds no declaration")],
)
def test_a_declaration_that_is_not_there_or_broken(text, error, word):
    with pytest.raises(error, match=word):
        drift.declared(Declaring(text), drift.SCHEMA)


def test_what_is_kept_of_a_declaration_has_no_secret(tmp_path):
    path = str(tmp_path / "declared.json")
    given = {
        "login_db": "crm",
        "login_password": "secret1",
        "roles": [{"name": "a", "password": "secret2"}],
        "grants": [],
        "lock_timeout": "3s",
        "record": path,
    }
    assert declaration.keep(path, given, True) and not os.path.exists(path)
    assert declaration.keep(path, given, False)
    assert json.loads(open(path, encoding="utf-8").read()) == {"grants": [], "roles": [{"name": "a"}]}
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert not declaration.keep(path, {**given, "login_password": "other", "lock_timeout": "9s"}, False)
    os.chmod(path, 0o644)
    assert declaration.keep(path, given, False) and os.stat(path).st_mode & 0o777 == 0o600
    assert not declaration.keep(None, given, False)
