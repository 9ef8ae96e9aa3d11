# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts said of their health, as text, as a document, as numbers for AWX. Pure."""

from __future__ import annotations

import textwrap
import typing as t

from . import registry

MARKS = {registry.OK: "ok", registry.WARNING: "WARNING", registry.CRITICAL: "CRITICAL", registry.UNKNOWN: "UNKNOWN", registry.SKIPPED: "skipped"}
FAIL_ON = ("warning", "unknown", "critical", "never")
WIDTH = 132


def gathered(hosts: t.Mapping[str, t.Any]) -> dict[str, dict]:
    """Host -> results, problems, summary and history, whatever became of its task.

    :param hosts: host -> what its task returned, {} where it never ran.
    """
    found = {}
    for name, said in hosts.items():
        said = said if isinstance(said, dict) else {}
        results = said.get("results")
        if not isinstance(results, list) or not results:
            reason = said.get("msg") or ("the host was not reached" if said.get("unreachable") or not said else "no check was run")
            results = [
                {
                    "id": "host",
                    "area": "system",
                    "title": "The host can be looked at",
                    "status": registry.CRITICAL,
                    "value": None,
                    "unit": "",
                    "warning": None,
                    "critical": None,
                    "message": " ".join(str(reason).split())[:300],
                    "cure": f"ansible -m ping {name}",
                    "seconds": 0,
                }
            ]
        found[name] = {
            "results": results,
            "problems": list(said.get("problems", [])),
            "history": said.get("history", {}),
            "seconds": said.get("seconds", 0),
            "summary": registry.summary(results),
        }
    return found


def document(hosts: t.Mapping[str, dict], now: str, version: str) -> dict:
    """report.json."""
    everything = [one for host in hosts.values() for one in host["results"]]
    return {"schema": 1, "time": now, "version": version, "summary": registry.summary(everything), "hosts": dict(hosts)}


def lines(report: t.Mapping[str, t.Any]) -> list[tuple[str, str]]:
    """(text, status) of the table: a line for each area of each host, what is wrong below it."""
    hosts = report["hosts"]
    width = max([4, *map(len, hosts)])
    found = [(f"{'HOST':{width}}  {'AREA':9}  {'STATUS':8}  WHAT", "")]
    for name, host in hosts.items():
        for area in registry.AREAS:
            results = [one for one in host["results"] if one["area"] == area]
            if not results:
                continue
            status = registry.worst(one["status"] for one in results)
            bad = [one for one in results if one["status"] in (registry.WARNING, registry.CRITICAL, registry.UNKNOWN)]
            bad.sort(key=lambda one: -registry.ORDER.index(one["status"]))
            looked = sum(one["status"] != registry.SKIPPED for one in results)
            what = f"{len(bad)} of {looked} checks" if bad else f"{looked} checks" if looked else results[0]["message"]
            found.append((f"{name:{width}}  {area:9}  {MARKS[status]:8}  {what}", status))
            for one in bad:
                told = f"{one['id']}: {one['message']}{limits(one)}"
                found += [
                    (f"{'':{width}}  {MARKS[one['status']] if not number else '':>9}  {text}", one["status"])
                    for number, text in enumerate(wrapped(told, width))
                ]
                if one["cure"]:
                    found += [(f"{'':{width}}  {'' if number else 'cure':>9}  {text}", "") for number, text in enumerate(wrapped(one["cure"], width))]
        found += [(f"{'':{width}}  {'note':>9}  {text}", registry.WARNING) for problem in host["problems"] for text in wrapped(problem, width)]
    counts = report["summary"]
    told = ", ".join(
        f"{counts[status]} {status}"
        for status in (registry.CRITICAL, registry.UNKNOWN, registry.WARNING, registry.OK, registry.SKIPPED)
        if counts[status]
    )
    found.append((f"{MARKS[counts['status']]}: {told}; {len(hosts)} hosts", counts["status"]))
    return found


def wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(40, WIDTH - width - 13), break_on_hyphens=False) or [""]


def limits(one: t.Mapping[str, t.Any]) -> str:
    if one["value"] is None or (one["warning"] is None and one["critical"] is None):
        return ""
    told = ", ".join(f"{level} at {one[level]:g}" for level in ("warning", "critical") if one[level] is not None)
    return f" ({one['value']:g} {one['unit']}; {told})"


def fails(status: str, fail_on: str) -> bool:
    return fail_on != "never" and registry.ORDER.index(status) >= registry.ORDER.index(fail_on)


def stats(report: t.Mapping[str, t.Any]) -> dict:
    """What AWX keeps as artifacts of the job."""
    bad = [
        {"host": name, **{key: one[key] for key in ("id", "status", "message", "cure")}}
        for name, host in report["hosts"].items()
        for one in host["results"]
        if one["status"] in (registry.WARNING, registry.CRITICAL, registry.UNKNOWN)
    ]
    return {"health_status": report["summary"]["status"], "health_summary": report["summary"], "health_findings": bad}
