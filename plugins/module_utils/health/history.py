# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept between two runs: counters of the last one, a value an hour of the last 30 days; and the same as metrics. Pure."""

from __future__ import annotations

import math
import typing as t

from . import registry

KEPT_SECONDS, APART_SECONDS = 30 * 86400, 3600
NUMBERS = {registry.OK: 0, registry.WARNING: 1, registry.CRITICAL: 2, registry.UNKNOWN: 3, registry.SKIPPED: -1}


def checked(document: t.Any) -> dict:
    """The history without what is broken in it; ValueError where this is none."""
    if not isinstance(document, dict) or not _number(document.get("at")):
        raise ValueError("it is no history of health_check")
    for part in ("counters", "series"):
        if not isinstance(document.get(part), dict):
            raise ValueError(f"{part} is missing")
    series = {name: [point for point in points if _point(point)] for name, points in document["series"].items() if isinstance(points, list)}
    return {
        "at": document["at"],
        "counters": {name: value for name, value in document["counters"].items() if _number(value)},
        "series": {name: points for name, points in series.items() if points},
    }


def _number(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _point(value: t.Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_number, value))


def extended(kept: dict, now: float, counters: t.Mapping[str, float], series: t.Mapping[str, float], results: t.Sequence[dict]) -> dict:
    """The history after this run; what a clock that went back left in the future is dropped."""
    found: dict[str, list] = {}
    values = {**series, **{f"status {area}": NUMBERS[status] for area, status in by_area(results).items()}}
    for name in {*kept.get("series", {}), *values}:
        points = [point for point in kept.get("series", {}).get(name, []) if now - KEPT_SECONDS < point[0] < now]
        if name in values and (not points or now - points[-1][0] >= APART_SECONDS):
            points.append([round(now), round(float(values[name]), 3)])
        if points:
            found[name] = points
    # What could not be asked this time is compared next time with what it was.
    return {"at": now, "counters": {**kept.get("counters", {}), **counters}, "series": found}


def by_area(results: t.Sequence[dict]) -> dict[str, str]:
    areas: dict[str, list] = {}
    for one in results:
        areas.setdefault(one["area"], []).append(one["status"])
    return {area: registry.worst(statuses) for area, statuses in areas.items()}


def metrics(results: t.Sequence[dict], now: float) -> str:
    """For node_exporter's textfile collector."""
    limited = [(one, level) for one in results for level in (registry.WARNING, registry.CRITICAL) if one[level] is not None]
    lines = [
        "# HELP crm_platform_health_status How a check went: 0 ok, 1 warning, 2 critical, 3 unknown, -1 skipped.",
        "# TYPE crm_platform_health_status gauge",
        *(f"crm_platform_health_status{{{_labels(one)}}} {NUMBERS[one['status']]}" for one in results),
        "# HELP crm_platform_health_value What a check measured, in its own unit.",
        "# TYPE crm_platform_health_value gauge",
        *(f"crm_platform_health_value{{{_labels(one)}}} {one['value']:.10g}" for one in results if one["value"] is not None),
        "# HELP crm_platform_health_limit From where on a check is a warning or critical, in the unit of its value.",
        "# TYPE crm_platform_health_limit gauge",
        *(f'crm_platform_health_limit{{{_labels(one)},level="{level}"}} {one[level]:.10g}' for one, level in limited),
        "# HELP crm_platform_health_duration_seconds How long the checks of an area took.",
        "# TYPE crm_platform_health_duration_seconds gauge",
        *(
            f'crm_platform_health_duration_seconds{{area="{area}"}} {sum(one["seconds"] for one in results if one["area"] == area):.3f}'
            for area in by_area(results)
        ),
        "# HELP crm_platform_health_run_timestamp_seconds When the checks were run.",
        "# TYPE crm_platform_health_run_timestamp_seconds gauge",
        f"crm_platform_health_run_timestamp_seconds {now:.0f}",
    ]
    return "\n".join(lines) + "\n"


def _labels(one: t.Mapping[str, t.Any]) -> str:
    return f'check="{one["id"]}",area="{one["area"]}"'
