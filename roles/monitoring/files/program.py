# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks after the health of this host: whether it is well, why not, and what to do.

Ends with 0 where all is well, 1 with a warning, 2 where something is critical, 3 where something is not known; 64 and 70 where it could
not look at all. What it looks at is in /etc/crm-platform/health.json, which the role monitoring of crm.platform writes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from library import FILES, whole  # pylint: disable=wrong-import-position
from library.health import history, probe, registry, report  # pylint: disable=wrong-import-position

CONFIG = "/etc/crm-platform/health.json"
ENDS = {registry.SKIPPED: 0, registry.OK: 0, registry.WARNING: 1, registry.CRITICAL: 2, registry.UNKNOWN: 3}
USAGE, BROKEN = 64, 70
# What grows is compared with what was one to two hours ago, and at first with what was half an hour ago: an event is told for a while,
# and a burst is no trend.
APART_SECONDS, LEAST_SECONDS = 3600, 1800


class Arguments(argparse.ArgumentParser):
    """Its 2 would be taken for critical."""

    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def arguments() -> argparse.Namespace:
    parser = Arguments(prog="crm-platform-health", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--area", action="append", choices=registry.AREAS, help="look at this area only, and write nothing; may be repeated")
    parser.add_argument("--no-write", action="store_true", help="write neither history nor metrics")
    parser.add_argument("--config", default=CONFIG, help=argparse.SUPPRESS)
    return parser.parse_args()


def load() -> None:
    """Have the checks register themselves: those that came with this program. What an older one left beside them is not imported."""
    for path in FILES:
        if path.startswith("health/") and not path.endswith("/__init__.py"):
            importlib.import_module("library." + path[: -len(".py")].replace("/", "."))


def read(path: str, kept: str, problems: list) -> dict:
    """A document of an earlier run; {} where there is none, or where it cannot be used."""
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
        found = history.checked(document)
        if "younger" in document:
            found["younger"] = history.checked(document["younger"])
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        told = f"{kept}: {path}: {error}; it is begun anew"
        # The history is read twice.
        if told not in problems:
            problems.append(told)
        return {}


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    whole.write(path, text, 0o644)


def comparable(kept: dict, now: float) -> dict:
    """The earlier look that this one is compared with. One from the future tells that the clock went back."""
    return {} if not kept or 0 <= now - kept["at"] < LEAST_SECONDS else kept


def following(kept: dict, now: float, counters: dict) -> dict:
    """What the next look is compared with: an old one, and a younger one that takes its place when it is old enough."""
    mine = {"at": now, "counters": counters, "series": {}}
    if not kept or now < kept["at"]:
        return mine
    younger = kept.get("younger")
    if younger and now < younger["at"]:
        # The clock was ahead for a while: it would hold the old one until then.
        kept, younger = {name: kept[name] for name in mine}, None
    if now - (younger or kept)["at"] < APART_SECONDS:
        return kept
    return {**(younger or kept), "younger": mine}


def keep(options: dict, host: probe.Host, series: dict, before: dict, results: list, state: str) -> None:
    """The history's values are everybody's; each kind of run has counters of its own, so that none takes another's growth away."""
    if options.get("textfile"):
        write(options["textfile"], history.metrics(results, host.now))
    if not state:
        return
    grown = history.extended(series, host.now, {}, host.series, results)
    write(options["history"], json.dumps({**grown, "at": series.get("at", 0), "counters": series.get("counters", {})}) + "\n")
    write(state, json.dumps(following(before, host.now, host.counters)) + "\n")


def look(options: dict, areas: list, may_write: bool) -> dict:
    problems: list = []
    state = os.path.join(os.path.dirname(options["history"]), "timer.json") if options.get("history") else ""
    before = read(state, "state", problems) if state else {}
    host = probe.Host(options)
    # What happened lately is compared with the timer's own earlier look, a trend also with the day that all runs have kept.
    days = read(options["history"], "history", problems).get("series", {}) if state else {}
    host.previous = {**comparable(before, host.now), "series": days}
    try:
        results, unusable = registry.run(
            host, areas or options.get("areas") or registry.AREAS, options.get("skip") or (), options.get("thresholds"), options.get("time_limit", 5)
        )
    finally:
        host.close()
    if may_write and not areas:
        try:
            # Read as late as possible: a playbook may have written it meanwhile.
            keep(options, host, read(options["history"], "history", problems) if state else {}, before, results, state)
        except OSError as error:
            problems.append(f"the history could not be written: {error}")
    return {"results": results, "summary": registry.summary(results), "problems": problems + unusable}


def main() -> int:
    chosen = arguments()
    # What it writes is read by others, whoever calls it with whatever umask.
    os.umask(0o022)
    try:
        with open(chosen.config, encoding="utf-8") as stream:
            options = json.load(stream)
        load()
        told = look(options, chosen.area or [], not chosen.no_write)
    except Exception as error:  # pylint: disable=broad-except  # Python's own 1 would be taken for a warning
        print(f"crm-platform-health: {type(error).__name__}: {error}", file=sys.stderr)
        return BROKEN
    if chosen.json:
        print(json.dumps(told))
    else:
        shown = report.document(report.gathered({os.uname().nodename: told}), "", "")
        print("\n".join(line for line, dummy in report.lines(shown)))
    return ENDS[told["summary"]["status"]]


if __name__ == "__main__":
    sys.exit(main())
