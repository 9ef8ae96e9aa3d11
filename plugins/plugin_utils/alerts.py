# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus and Alertmanager are told, made of the checks themselves. Pure.

A host judges its own values, with its own limits, and tells the outcome (module_utils/health/history.py). The rules ask for that outcome
and know no limit: what alerts is what the health check calls a warning or critical, on each host.
"""

from __future__ import annotations

import importlib
import ipaddress
import pkgutil
import re
import typing as t
import urllib.parse

from ansible_collections.crm.platform.plugins.module_utils import health
from ansible_collections.crm.platform.plugins.module_utils.health import history, registry

LEVELS = (registry.WARNING, registry.CRITICAL)
# In a series name, "host" is the name in the inventory: an address says nothing to who is called at night.
NOBODY = "nobody"
_DURATION = re.compile(r"[1-9][0-9]*(h|d|w|y)")
_SIZE = re.compile(r"([1-9][0-9]*(MB|GB|TB))?")
_MAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
_URL = re.compile(r"https?://[^\s/]+(/\S*)?")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_PLACE = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")


def checks() -> list[registry.Check]:
    """All checks that there are, in the order of their areas."""
    for found in pkgutil.iter_modules(health.__path__):
        importlib.import_module(f"{health.__name__}.{found.name}")
    return sorted(registry.REGISTRY.values(), key=lambda one: (registry.AREAS.index(one.area), one.id))


def name_of(check: str) -> str:
    """'disk_space' -> 'CrmDiskSpace'."""
    return "Crm" + "".join(word[:1].upper() + word[1:] for word in check.split("_"))


def literal(text: str) -> str:
    """A text that Prometheus' templates leave as it is."""
    return text.replace("{{", '{{ "{{" }}')


def value_of(one: registry.Check) -> str:
    """A template for the value at the time of the alert; nothing where the check has none."""
    asked = f"printf \"crm_platform_health_value{{check='{one.id}',host='%s'}}\" $labels.host | query"
    return f'{{{{ with {asked} }}}}{{{{ . | first | value | printf "%.4g" }}}}{literal(f" {one.unit}" if one.unit else "")}{{{{ end }}}}'


def rule(name: str, expression: str, seconds: int, severity: str, summary: str, cure: str, **labels: str) -> dict:
    return {
        "alert": name,
        "expr": expression,
        **({"for": f"{seconds}s"} if seconds else {}),
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": f"{{{{ $labels.host }}}}: {summary}", "cure": cure},
    }


def check_rules(one: registry.Check, given: t.Mapping[str, t.Any]) -> list[dict]:
    """A rule a level. Any check can come to either: one with limits may find something that its value does not tell."""
    found = []
    for level in LEVELS:
        expression = f'crm_platform_health_status{{check="{one.id}"}} == {history.NUMBERS[level]}'
        made = rule(name_of(one.id), expression, given[f"for_{level}"], level, literal(one.title), literal(one.cure))
        made["annotations"]["value"] = value_of(one)
        found.append(made)
    return found


def platform_rules(given: t.Mapping[str, t.Any]) -> list[dict]:
    """What a host cannot tell of itself."""
    stale = 3 * given["interval"] + given["jitter"]
    return [
        rule(
            "CrmHostDown",
            "max by (host) (up) == 0",
            120,
            "critical",
            "nothing on the host answers Prometheus",
            "ping the host; systemctl status prometheus-node-exporter; see that the firewall lets this host in",
        ),
        # All that the host tells of its health goes with it: what alerted would seem to be well again.
        rule(
            "CrmExporterDown",
            'up{job="host"} == 0 unless on (host) (max by (host) (up) == 0)',
            120,
            "critical",
            "the exporter {{ $labels.job }} does not answer, and nothing is known of the host's health",
            "systemctl status prometheus-node-exporter; journalctl -u prometheus-node-exporter -n 50",
        ),
        rule(
            "CrmExporterDown",
            'up{job!="host"} == 0 unless on (host) (max by (host) (up) == 0)',
            300,
            "warning",
            "the exporter {{ $labels.job }} does not answer",
            "systemctl status 'prometheus-*exporter'; journalctl -u 'prometheus-*exporter' -n 50",
        ),
        rule(
            "CrmDatabaseExporterBlind",
            "pg_up == 0",
            300,
            "warning",
            "the exporter does not come into the database",
            "journalctl -u prometheus-postgres-exporter -n 50; run crm.platform.monitoring_setup",
        ),
        rule(
            "CrmHealthStale",
            f"time() - crm_platform_health_run_timestamp_seconds > {stale}",
            0,
            "critical",
            "nobody looked after the health of the host for {{ $value | humanizeDuration }}",
            "systemctl status crm-platform-health.timer crm-platform-health.service; journalctl -u crm-platform-health -n 50",
        ),
        rule(
            "CrmHealthMissing",
            'up{job="host"} == 1 unless on (host) crm_platform_health_run_timestamp_seconds',
            stale,
            "critical",
            "the host tells nothing of its health",
            "crm-platform-health; systemctl list-timers crm-platform-health.timer; run crm.platform.monitoring_setup",
        ),
        rule(
            "CrmHealthUnknown",
            f"crm_platform_health_status == {history.NUMBERS[registry.UNKNOWN]}",
            given["for_warning"],
            "warning",
            "the check {{ $labels.check }} cannot be carried out",
            "crm-platform-health --area {{ $labels.area }} --no-write tells why",
        ),
        rule(
            "CrmTextfileError",
            "node_textfile_scrape_error > 0",
            300,
            "warning",
            "the exporter cannot read a file of /var/lib/prometheus/node-exporter",
            "journalctl -u prometheus-node-exporter -n 50; remove or mend the file",
        ),
    ]


def rules(given: t.Mapping[str, t.Any]) -> dict:
    """The rules file.

    :param given: interval and jitter of the hosts' timer, for_warning and for_critical, in seconds; skip, ids of checks without alerts.
    """
    skipped = set(given.get("skip") or ())
    groups = [{"name": "crm-platform", "rules": platform_rules(given)}]
    for area in registry.AREAS:
        found = [made for one in checks() if one.area == area and one.id not in skipped for made in check_rules(one, given)]
        if found:
            groups.append({"name": f"crm-platform-{area}", "rules": found})
    return {"groups": groups}


def alertmanager(given: t.Mapping[str, t.Any]) -> dict:
    """alertmanager.yml.

    :param given: receivers (name, emails, webhook), receiver, receiver_critical, repeat, smtp_host, smtp_from, smtp_user, smtp_password, smtp_tls.
    """
    mail = any(one.get("emails") for one in given["receivers"])
    settings = {}
    if mail:
        settings = {"smtp_smarthost": given["smtp_host"], "smtp_from": given["smtp_from"], "smtp_require_tls": given["smtp_tls"]}
        if given["smtp_user"]:
            settings.update(smtp_auth_username=given["smtp_user"], smtp_auth_password=given["smtp_password"])
    routes = [{"matchers": ['severity="critical"'], "receiver": given["receiver_critical"]}] if given["receiver_critical"] else []
    return {
        **({"global": settings} if settings else {}),
        "route": {
            "receiver": given["receiver"] or NOBODY,
            "group_by": ["host", "severity"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": given["repeat"],
            **({"routes": routes} if routes else {}),
        },
        # Of a host that is down nobody has to hear that its exporters are down, too; nor of a warning what is critical.
        "inhibit_rules": [
            {"source_matchers": ['alertname="CrmHostDown"'], "target_matchers": ['alertname!="CrmHostDown"'], "equal": ["host"]},
            {"source_matchers": ['severity="critical"'], "target_matchers": ['severity="warning"'], "equal": ["host", "alertname", "job"]},
        ],
        "receivers": [{"name": NOBODY}] + [_receiver(one) for one in given["receivers"]],
    }


def _receiver(one: t.Mapping[str, t.Any]) -> dict:
    mails = [{"to": to, "send_resolved": True} for to in one.get("emails") or []]
    hooks = [{"url": one["webhook"], "send_resolved": True}] if one.get("webhook") else []
    return {"name": one["name"], **({"email_configs": mails} if mails else {}), **({"webhook_configs": hooks} if hooks else {})}


def complaints(given: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """What of the variables cannot be: variable, value, what is allowed. A value that may be a secret is not shown."""
    for name, least, most, what in (
        ("interval", 60, 3600, "seconds between two looks"),
        ("jitter", 0, 600, "seconds"),
        ("scrape_interval", 10, 300, "seconds between two questions"),
        ("for_warning", 0, 86400, "seconds"),
        ("for_critical", 0, 86400, "seconds"),
    ):
        if not least <= given[name] <= most:
            yield f"monitoring_{name} is {given[name]}; allowed are {least} to {most} {what}"
    if not _DURATION.fullmatch(given["retention"]):
        yield f"monitoring_retention is {given['retention']!r}; write a number above 0 and h, d, w or y, such as 30d"
    if not _SIZE.fullmatch(given["retention_size"]):
        yield f"monitoring_retention_size is {given['retention_size']!r}; write a number above 0 and MB, GB or TB, such as 10GB, or leave it empty"
    if not _DURATION.fullmatch(given["repeat"]):
        yield f"monitoring_repeat is {given['repeat']!r}; write a number above 0 and h, d, w or y, such as 12h"
    for name in ("listen", "ui_address"):
        if given[name] and not _is_address(given[name]):
            yield f"monitoring_{name} is {given[name]!r}, no address; write one of the host's, such as 127.0.0.1, or 0.0.0.0 for all"
    yield from _receiver_complaints(given)


def _receiver_complaints(given: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    names = [one["name"] for one in given["receivers"]]
    for number, one in enumerate(given["receivers"]):
        if not _NAME.fullmatch(one["name"]) or one["name"] == NOBODY or names.count(one["name"]) > 1:
            yield (
                f"monitoring_receivers[{number}] is named {one['name']!r}; a name is of letters, digits, '_', '.' and '-', stands there once,"
                f" and is not {NOBODY}"
            )
        if not one.get("emails") and not one.get("webhook"):
            yield f"monitoring_receivers: {one['name']} has neither emails nor webhook; give one of the two"
        for mail in one.get("emails") or []:
            if not _MAIL.fullmatch(mail):
                yield f"monitoring_receivers: {one['name']}: {mail!r} is no address; write one such as ops@example.org"
        if one.get("webhook") and not (_URL.fullmatch(one["webhook"]) and _has_port(one["webhook"])):
            yield (
                f"monitoring_receivers: {one['name']}: webhook is no address; it begins with https:// or http://, has no blanks,"
                " and a port is from 1 to 65535"
            )
    for name in ("receiver", "receiver_critical"):
        if given[name] and given[name] not in names:
            there = ", ".join(names) or "none"
            yield f"monitoring_{name} is {given[name]!r}, which monitoring_receivers does not have; there is {there}"
    mails = any(one.get("emails") for one in given["receivers"])
    place = _PLACE.fullmatch(given["smtp_host"])
    if not place and (mails or given["smtp_host"]):
        yield f"monitoring_smtp_host is {given['smtp_host']!r}; receivers with emails need host and port, such as mail.example.org:587"
    if place and not 1 <= int(place["port"]) <= 65535:
        yield f"monitoring_smtp_host is {given['smtp_host']!r}; allowed is a port from 1 to 65535, such as mail.example.org:587"
    if mails:
        if not _MAIL.fullmatch(given["smtp_from"]):
            yield f"monitoring_smtp_from is {given['smtp_from']!r}; receivers with emails need an address such as crm@example.org"
        if bool(given["smtp_user"]) != bool(given["smtp_password"]):
            yield "monitoring_smtp_user and monitoring_smtp_password go together; give both, or neither"


def _has_port(url: str) -> bool:
    """Whether the port is one, where the address names any."""
    try:
        return urllib.parse.urlsplit(url).port != 0
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
