# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests for promtool, made of the checks: a value goes the whole way, from the check's judgement through the metrics to the alert.

What is expected is said by what a check means (a value beyond its limit), not by the rules.
"""

from __future__ import annotations

import re

import collection

collection.importable()

# pylint: disable=wrong-import-position
from ansible_collections.crm.platform.plugins.module_utils.health import history, registry
from ansible_collections.crm.platform.plugins.plugin_utils import alerts

GIVEN = {"interval": 300, "jitter": 30, "for_warning": 900, "for_critical": 420, "skip": []}
PHASES = ("ok", "warning", "critical")
# Minutes of each phase, and when in it an alert that holds has fired.
LONG, FIRED = 30, 20
HOST = "crm-1"


def reading(one, phase: str):
    """A value that means the phase; where no value does, the check says so itself. None where the check cannot come there."""
    if one.warning is None and one.critical is None:
        return registry.Reading(None, "said so", phase)
    limit = {"warning": one.warning, "critical": one.critical}.get(phase)
    if phase == "ok":
        near = one.warning if one.warning is not None else one.critical
        return registry.Reading(near * 1.01 + 1 if one.least else near * 0.5, "well")
    return None if limit is None else registry.Reading(limit, "beyond")


def told(phase: str) -> dict[str, float]:
    """What a host tells where all of its checks are in a phase: series -> value."""
    results = []
    for one in alerts.checks():
        found = reading(one, phase) or reading(one, "ok")
        kept = registry.REGISTRY[one.id]
        registry.REGISTRY[one.id] = registry.dataclasses.replace(one, look=lambda host, found=found: found)
        try:
            results += registry.run(_Nothing(), areas=[one.area], skip=set(registry.REGISTRY) - {one.id})[0]
        finally:
            registry.REGISTRY[one.id] = kept
    series = {}
    for line in history.metrics(results, 0).splitlines():
        found = re.fullmatch(r"(crm_platform_health_(?:status|value))\{(.*)\} (\S+)", line)
        if found:
            series[f'{found[1]}{{{found[2]},host="{HOST}"}}'] = float(found[3])
    return series


class _Nothing:
    """A host at which nobody looks."""


def expected(one, phase: str) -> list[dict]:
    found = reading(one, phase)
    if phase == "ok" or found is None:
        return []
    value = "" if found.value is None else f"{found.value:.4g}" + (f" {one.unit}" if one.unit else "")
    return [
        {
            "exp_labels": {"severity": phase, "check": one.id, "area": one.area, "host": HOST},
            "exp_annotations": {"summary": f"{HOST}: {one.title}", "cure": one.cure, "value": value},
        }
    ]


def check_tests() -> dict:
    """All checks on one host go from ok to warning, to critical and back."""
    phases = [*PHASES, "ok"]
    values = [told(phase) for phase in phases]
    names = sorted({name for phase in values for name in phase})
    return {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": " ".join(f"{phase[name]:.10g}x{LONG - 1}" if name in phase else f"_x{LONG}" for phase in values)}
            for name in names
        ],
        "alert_rule_test": [
            {
                "eval_time": f"{number * LONG + FIRED}m",
                "alertname": "Crm" + one.id.title().replace("_", ""),
                "exp_alerts": expected(one, phase),
            }
            for number, phase in enumerate(phases)
            for one in alerts.checks()
        ],
    }


def _platform(series: dict, name: str, moments: dict, labels: dict, annotations: dict) -> dict:
    return {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}] if fires else []}
            for minute, fires in moments.items()
        ],
    }


def platform_tests(rules: dict) -> list[dict]:
    """What a host cannot tell of itself. The cures are taken from the rules: they are words, not behaviour."""
    cures = {(one["alert"], one["labels"]["severity"]): one["annotations"]["cure"] for one in rules["groups"][0]["rules"]}
    host, database = f'up{{job="host",host="{HOST}"}}', f'up{{job="database",host="{HOST}"}}'
    looked, status = (
        f'crm_platform_health_run_timestamp_seconds{{host="{HOST}"}}',
        f'crm_platform_health_status{{check="a",area="system",host="{HOST}"}}',
    )

    def case(name, series, moments, summary, severity="warning", **labels):
        given = {"severity": severity, "host": HOST, **labels}
        # Where nothing fires, none is looked at.
        cure = cures.get((name, severity), "").replace("{{ $labels.area }}", "system")
        return _platform(series, name, moments, given, {"summary": f"{HOST}: {summary}", "cure": cure})

    return [
        case("CrmHostDown", {host: "1x9 0x20", database: "1x9 0x20"}, {5: 0, 11: 0, 15: 1}, "nothing on the host answers Prometheus", "critical"),
        case("CrmHostDown", {host: "0x20", database: "1x20"}, {15: 0}, ""),
        case("CrmExporterDown", {host: "1x40", database: "1x9 0x30"}, {5: 0, 13: 0, 20: 1}, "the exporter database does not answer", job="database"),
        case(
            "CrmExporterDown",
            {host: "1x9 0x30", database: "1x40"},
            {5: 0, 11: 0, 15: 1},
            "the exporter host does not answer, and nothing is known of the host's health",
            "critical",
            job="host",
        ),
        case("CrmExporterDown", {host: "0x40", database: "0x40"}, {20: 0}, ""),
        case("CrmDatabaseExporterBlind", {f'pg_up{{host="{HOST}"}}': "1x9 0x30"}, {5: 0, 20: 1}, "the exporter does not come into the database"),
        # The last look was at the beginning of the time, fifteen minutes and a half ago.
        case("CrmHealthStale", {looked: "0x60"}, {10: 0, 15: 0, 20: 1}, "nobody looked after the health of the host for 20m 0s", "critical"),
        case("CrmHealthStale", {looked: "0+300x60"}, {20: 0}, ""),
        case("CrmHealthMissing", {host: "1x60"}, {10: 0, 20: 1}, "the host tells nothing of its health", "critical", job="host"),
        case("CrmHealthMissing", {host: "1x60", looked: "0x60"}, {20: 0}, ""),
        case("CrmHealthMissing", {host: "0x60"}, {20: 0}, ""),
        # What one look finds holds until the next, at most interval and jitter.
        case("CrmLoad", {status.replace('"a"', '"load"'): "0x9 2x5 0x30"}, {15: 0, 16: 0, 17: 0, 18: 0}, "", "critical"),
        case("CrmHealthUnknown", {status: "0x9 3x40"}, {5: 0, 20: 0, 30: 1}, "the check a cannot be carried out", check="a", area="system"),
        case(
            "CrmTextfileError",
            {f'node_textfile_scrape_error{{host="{HOST}"}}': "0x9 1x40"},
            {5: 0, 20: 1},
            "the exporter cannot read a file of /var/lib/prometheus/node-exporter",
        ),
    ]


def unit_tests(rules: dict, rules_file: str) -> dict:
    return {"rule_files": [rules_file], "evaluation_interval": "1m", "tests": [check_tests(), *platform_tests(rules)]}
