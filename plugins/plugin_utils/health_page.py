# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""report.html: the health of the platform as one page without any other file, drawn as SVG by its template."""

from __future__ import annotations

import datetime
import math
import os
import re
import typing as t

import jinja2

from ansible_collections.crm.platform.plugins.module_utils.health import history, registry

TEMPLATE = os.path.join(os.path.dirname(__file__), "..", "..", "roles", "health_check", "templates")


class Plot(t.NamedTuple):
    """A series of the history, and the check whose limits are drawn with it."""

    series: str
    title: str
    unit: str = ""
    divisor: float = 1
    check: str = ""


# The plots of a host, in their order.
PLOTS = (
    Plot("crm_latency_ms", "Answers of the CRM", "ms", check="crm_latency"),
    Plot("connections", "Connections to the database"),
    Plot("crm_queue", "Tasks that wait in the queue"),
    Plot("database_bytes", "Size of the database", "GiB", 1024**3),
    Plot("backup_bytes", "Size of the backups", "GiB", 1024**3),
    Plot("disk_used_percent", "Fullest file system", "%", check="disk_space"),
    Plot("memory_available_percent", "Memory available", "%", check="memory_available"),
    Plot("load5", "Load of five minutes"),
    Plot("bans", "Addresses shut out"),
)
# What hosts do: group, title, areas that are its own, series that stands for it. Those that a user's request passes come first.
LANES = (
    ("crm_router", "Routers", ("routing",), "load5"),
    ("crm_app", "CRM", ("crm", "routing"), "crm_latency_ms"),
    ("crm_database", "Database", ("database", "backup"), "connections"),
    ("crm_backup", "Backups", ("backup",), "backup_bytes"),
    ("crm_package", "Packages", (), "load5"),
    ("crm_monitor", "Monitoring", (), "load5"),
)
PATH = ("crm_router", "crm_app", "crm_database", "crm_backup")
COMMON = ("system", "security", "firewall", "qos")
# What a reader wants to know first: check, short title, series.
TILES = (
    ("crm_latency", "Answer of the CRM", "crm_latency_ms"),
    ("db_connections", "Connections in use", "connections"),
    ("disk_space", "Fullest file system", "disk_used_percent"),
    ("backup_age", "Newest backup", "backup_bytes"),
    ("memory_available", "Memory available", "memory_available_percent"),
    ("crm_certificate", "Certificate", ""),
)
BAD = (registry.WARNING, registry.UNKNOWN, registry.CRITICAL)
WIDTH, HEIGHT = 320.0, 96.0
DAY, DAYS = 86400.0, 30
# Pieces of a line, each of them at most two points.
DRAWN = 120


def render(report: t.Mapping[str, t.Any], groups: t.Mapping[str, t.Any]) -> str:
    """The page.

    :param report: see module_utils/health/report.py, ``document``.
    :param groups: what the hosts do: {'crm_app': [host, ...], ...}.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(short=short)
    environment.globals.update(counted=counted)
    end = datetime.datetime.strptime(report["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
    hosts = report["hosts"]
    bad = [{**one, "host": name} for name, host in hosts.items() for one in host["results"] if one["status"] in BAD]
    bad.sort(key=lambda one: (-registry.ORDER.index(one["status"]), registry.AREAS.index(one["area"])))
    return environment.get_template("report.html.j2").render(
        report=report,
        findings=bad,
        areas=registry.AREAS,
        marks={"ok": "✓", "warning": "!", "critical": "✕", "unknown": "?", "skipped": "–"},
        words={"ok": "well", "warning": "not quite well", "critical": "in trouble", "unknown": "not fully known", "skipped": "not looked at"},
        order=list(registry.ORDER),
        lanes=lanes(hosts, groups, end),
        tiles=tiles(hosts, end),
        days=days(hosts, end),
        plots={name: plots(host, end) for name, host in hosts.items()},
        classes={name: classes(host["history"], end) for name, host in hosts.items()},
        anchors={name: f"host-{number}" for number, name in enumerate(hosts)},
        roles={name: [title for group, title, *dummy in LANES if name in groups.get(group, [])] for name in hosts},
        status_of=lambda host, area: registry.worst(one["status"] for one in host["results"] if one["area"] == area),
    )


def short(value: float) -> str:
    """As many digits as a reader needs."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def counted(number: int, status: str) -> str:
    return f"{number} warnings" if status == registry.WARNING and number != 1 else f"{number} {status}"


def lanes(hosts: t.Mapping[str, dict], groups: t.Mapping[str, t.Any], end: float) -> list[dict]:
    """The picture's columns with their boxes; only those that the platform has."""
    found = []
    for group, title, areas, series in LANES:
        boxes = []
        for name in [name for name in groups.get(group, []) if name in hosts]:
            results = [one["status"] for one in hosts[name]["results"] if one["area"] in (*areas, *COMMON)]
            reached = [one["id"] for one in hosts[name]["results"]] != ["host"]
            points = within(hosts[name]["history"].get(series, []), end)
            boxes.append(
                {
                    "host": name,
                    "status": registry.worst(results),
                    "what": summed(results) if reached else "not reached",
                    "reached": reached,
                    "spark": plot(points)["line"] if len(points) >= 2 else "",
                }
            )
        if boxes:
            found.append({"group": group, "title": title, "boxes": boxes, "on_path": group in PATH})
    return found


def summed(statuses: t.Sequence[str]) -> str:
    """The worst of them in a few words."""
    for status in (registry.CRITICAL, registry.UNKNOWN, registry.WARNING):
        if status in statuses:
            more = sum(one in BAD for one in statuses) - statuses.count(status)
            return counted(statuses.count(status), status) + (f", {more} more" if more else "")
    return f"{statuses.count(registry.OK)} checks ok"


def tiles(hosts: t.Mapping[str, dict], end: float) -> list[dict]:
    """The worst value of a few checks over all hosts."""
    found = []
    for check, title, series in TILES:
        known = [(name, one) for name, host in hosts.items() for one in host["results"] if one["id"] == check and one["value"] is not None]
        if not known:
            continue
        least = registry.REGISTRY[check].least if check in registry.REGISTRY else False
        name, one = max(known, key=lambda each: (registry.ORDER.index(each[1]["status"]), -each[1]["value"] if least else each[1]["value"]))
        points = within(hosts[name]["history"].get(series, []), end)
        line = plot(points)["line"] if len(points) >= 2 else ""
        found.append({"title": title, "host": name, "line": line, **{key: one[key] for key in ("value", "unit", "status", "message")}})
    return found


def days(hosts: t.Mapping[str, dict], end: float) -> list[dict]:
    """For each area the worst that any host said on each of the last 30 days; '' where nobody looked."""
    said = {number: status for status, number in history.NUMBERS.items()}
    found = []
    for area in registry.AREAS:
        cells: list[list[str]] = [[] for dummy in range(DAYS)]
        for host in hosts.values():
            for at, number in host["history"].get(f"status {area}", []):
                place = DAYS - 1 - int((end - at) // DAY)
                if 0 <= place < DAYS and int(number) in said:
                    cells[place].append(said[int(number)])
            now = [one["status"] for one in host["results"] if one["area"] == area]
            cells[-1] += now if host["history"] else []
        worst = [registry.worst(cell) if cell else "" for cell in cells]
        if sum(one not in ("", registry.SKIPPED) for one in worst) >= 2:
            counts = [f"{worst.count(status)} days {status}" for status in reversed(registry.ORDER) if worst.count(status)]
            found.append({"area": area, "cells": worst, "text": ", ".join(counts)})
    return found


def within(points: t.Sequence, end: float) -> list[tuple[float, float]]:
    return [(at, value) for at, value in points if end - DAYS * DAY <= at <= end + DAY]


def plots(host: t.Mapping[str, t.Any], end: float) -> list[dict]:
    """What there are enough values of to be drawn."""
    found = []
    limits = {one["id"]: one for one in host["results"]}
    for one in PLOTS:
        points = [(at, value / one.divisor) for at, value in within(host["history"].get(one.series, []), end)]
        if len(points) < 2:
            continue
        drawn = plot(points)
        drawn["limits"] = [
            {"level": level, "y": round(HEIGHT - value / drawn["top"] * HEIGHT, 1)}
            for level in ("warning", "critical")
            for value in [limits.get(one.check, {}).get(level)]
            if value is not None and value <= drawn["top"]
        ]
        unit = one.unit
        if unit == "GiB" and drawn["top"] < 1:
            # A young platform would show zeros only.
            unit, drawn = "MiB", plot([(at, value * 1024) for at, value in points]) | {"limits": []}
        found.append({"name": one.series, "title": one.title, "unit": unit, **drawn})
    return found


def classes(kept: t.Mapping[str, t.Any], end: float) -> list[dict]:
    """For each shaped interface its classes, each in a plot of its own and all on one scale; those with the most traffic first."""
    devices: dict[str, dict] = {}
    for name in sorted(kept):
        match = re.fullmatch(r"qos (\S+) (\S+)", name)
        points = [(at, value / 1e6) for at, value in within(kept[name], end)] if match else []
        if match and len(points) >= 2:
            devices.setdefault(match[1], {})[match[2]] = points
    found = []
    for device, series in devices.items():
        top = ceiling(max(value for points in series.values() for dummy, value in points))
        ordered = sorted(series.items(), key=lambda one: -sum(value for dummy, value in one[1]) / len(one[1]))
        way = f"in through {device.removeprefix('ifb-')}" if device.startswith("ifb-") else f"out through {device}"
        drawn = [{"title": name, "unit": "Mbit/s", "limits": [], **plot(points, top)} for name, points in ordered]
        found.append({"title": f"Classes of traffic {way}", "top": top, "plots": drawn})
    return found


def plot(points: t.Sequence[tuple[float, float]], top: t.Optional[float] = None) -> dict:
    """A line and the area below it, in a box of WIDTH by HEIGHT; breaks where nobody looked for a while."""
    first, last = points[0][0], points[-1][0]
    top = top or ceiling(max(value for dummy, value in points))
    span = max(last - first, 1.0)
    gap = max(3 * 3600.0, 4 * span / len(points))
    pieces: list[list] = [[]]
    for number, (at, value) in enumerate(points):
        if number and at - points[number - 1][0] > gap:
            pieces.append([])
        pieces[-1].append((at, value))
    size = -(-len(points) // DRAWN)
    parts = [
        [(round((at - first) / span * WIDTH, 1), round(HEIGHT - max(0.0, value) / top * HEIGHT, 1)) for at, value in thinned(piece, size)]
        for piece in pieces
    ]
    # One point has no length, and would not be seen.
    parts = [part if len(part) > 1 else [part[0], (part[0][0] + 1, part[0][1])] for part in parts]
    lines = ["M" + " L".join(f"{x:g} {y:g}" for x, y in part) for part in parts]
    areas = [f"M{part[0][0]:g} {HEIGHT:g} L" + " L".join(f"{x:g} {y:g}" for x, y in part) + f" L{part[-1][0]:g} {HEIGHT:g} Z" for part in parts]
    told = span / DAY
    return {
        "line": " ".join(lines),
        "area": " ".join(areas),
        "top": top,
        "now": points[-1][1],
        "least": min(value for dummy, value in points),
        "most": max(value for dummy, value in points),
        "span": f"{told:.0f} days" if told >= 2 else f"{span / 3600:.0f} hours",
        "from": moment(first, span),
        "to": moment(last, span),
    }


def thinned(points: t.Sequence[tuple[float, float]], size: int) -> list[tuple[float, float]]:
    """No more of them than can be told apart: of so many the least and the most, in their order."""
    if size <= 2:
        return list(points)
    found = []
    for start in range(0, len(points), size):
        piece = points[start : start + size]
        found += sorted({min(piece, key=lambda one: one[1]), max(piece, key=lambda one: one[1])})
    return found


def moment(at: float, span: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%d %b" if span >= 2 * DAY else "%d %b %H:%M").lstrip("0")


def ceiling(value: float) -> float:
    """1, 2 or 5 times a power of ten, from the value on."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * 1.0000001)
