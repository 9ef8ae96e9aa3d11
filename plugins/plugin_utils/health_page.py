# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""report.html: the health of the platform as one page without any other file, drawn as SVG by its template."""

from __future__ import annotations

import datetime
import math
import os
import typing as t

import jinja2

from ansible_collections.crm.platform.plugins.module_utils.health import registry

TEMPLATE = os.path.join(os.path.dirname(__file__), "..", "..", "roles", "health_check", "templates")
# The plots, in their order: name in the history, title, unit, divisor.
PLOTS = (
    ("crm_latency_ms", "Answers of the CRM", "ms", 1),
    ("connections", "Connections to the database", "", 1),
    ("crm_queue", "Tasks that wait in the queue", "", 1),
    ("database_bytes", "Size of the database", "MiB", 1024**2),
    ("backup_bytes", "Size of the backups", "MiB", 1024**2),
    ("disk_used_percent", "Fullest file system", "%", 1),
    ("memory_available_percent", "Memory available", "%", 1),
    ("load5", "Load", "", 1),
    ("bans", "Addresses shut out", "", 1),
)
WIDTH, HEIGHT = 320.0, 96.0
DAY = 86400.0


def render(report: t.Mapping[str, t.Any], groups: t.Mapping[str, t.Any]) -> str:
    """The page.

    :param report: see module_utils/health/report.py, ``document``.
    :param groups: what the hosts do: {'crm_app': [host, ...], ...}.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    end = datetime.datetime.strptime(report["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    bad = [
        {**one, "host": name}
        for name, host in report["hosts"].items()
        for one in host["results"]
        if one["status"] in (registry.CRITICAL, registry.UNKNOWN, registry.WARNING)
    ]
    bad.sort(key=lambda one: (-registry.ORDER.index(one["status"]), registry.AREAS.index(one["area"])))
    return environment.get_template("report.html.j2").render(
        report=report,
        findings=bad,
        areas=registry.AREAS,
        marks={"ok": "✓", "warning": "!", "critical": "✕", "unknown": "?", "skipped": "–"},
        words={"ok": "well", "warning": "not quite well", "critical": "in trouble", "unknown": "not fully known", "skipped": "not looked at"},
        order=list(registry.ORDER),
        nodes=nodes(report["hosts"], groups),
        plots={name: plots(host["history"], end) for name, host in report["hosts"].items()},
        status_of=lambda host, area: registry.worst(one["status"] for one in host["results"] if one["area"] == area),
    )


def nodes(hosts: t.Mapping[str, dict], groups: t.Mapping[str, t.Any]) -> list[dict]:
    """The boxes of the picture, a column for each thing that hosts do."""
    columns = (("crm_app", "CRM", ("crm",)), ("crm_database", "Database", ("database", "backup")), ("crm_package", "Packages", ()))
    found = []
    for column, (group, title, areas) in enumerate(columns):
        members = [name for name in groups.get(group, []) if name in hosts]
        for row, name in enumerate(members):
            results = [one["status"] for one in hosts[name]["results"] if one["area"] in (*areas, "system")]
            found.append({"column": column, "row": row, "of": len(members), "host": name, "title": title, "status": registry.worst(results)})
    return found


def plots(history: t.Mapping[str, t.Any], end: float) -> list[dict]:
    """What there are enough values of to be drawn."""
    found = []
    for name, title, unit, divisor in PLOTS:
        points = [(at, value / divisor) for at, value in history.get(name, []) if end - 30 * DAY <= at <= end + DAY]
        if len(points) >= 2:
            found.append({"name": name, "title": title, "unit": unit, **plot(points)})
    return found


def plot(points: t.Sequence[tuple[float, float]]) -> dict:
    """A line and the area below it, in a box of WIDTH by HEIGHT; breaks where nobody looked for a while."""
    first, last = points[0][0], points[-1][0]
    top = ceiling(max(value for dummy, value in points))
    span = max(last - first, 1.0)
    gap = max(3 * 3600.0, 4 * span / len(points))
    parts: list[list] = [[]]
    for number, (at, value) in enumerate(points):
        if number and at - points[number - 1][0] > gap:
            parts.append([])
        parts[-1].append((round(WIDTH * (at - first) / span, 1), round(HEIGHT * (1 - value / top), 1)))
    lines = ["M" + " L".join(f"{x:g} {y:g}" for x, y in part) for part in parts]
    areas = [f"M{part[0][0]:g} {HEIGHT:g} L" + " L".join(f"{x:g} {y:g}" for x, y in part) + f" L{part[-1][0]:g} {HEIGHT:g} Z" for part in parts]
    days = span / DAY
    return {
        "line": " ".join(lines),
        "area": " ".join(areas),
        "top": top,
        "now": points[-1][1],
        "least": min(value for dummy, value in points),
        "most": max(value for dummy, value in points),
        "span": f"{days:.0f} days" if days >= 2 else f"{span / 3600:.0f} hours",
    }


def ceiling(value: float) -> float:
    """1, 2 or 5 times a power of ten, from the value on."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * 1.0000001)
