# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check is, how its value is judged, and how all of them are run so that none harms another.

A check is a function with a decorator:

    @check("disk_space", "system", unit="%", warning=70, critical=85, cure="df -h; remove what is not needed", source="pgmonitor")
    def disk_space(host):
        return Reading(91, "/var is full to 91 %")

It asks ``host`` (probe.Host) and returns a Reading, or None where all is well
without a value. It raises Skipped where it has nothing to look at. Any other
exception, and the end of its time, make it ``unknown`` and no more.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import signal
import threading
import time
import typing as t

OK, WARNING, CRITICAL, UNKNOWN, SKIPPED = "ok", "warning", "critical", "unknown", "skipped"
# From the best to the worst; what is not known is worse than a warning, since it may be anything.
ORDER = (SKIPPED, OK, WARNING, UNKNOWN, CRITICAL)
REPAIR = "ansible-playbook crm.platform.repair -e repair"
AREAS = ("database", "crm", "backup", "firewall", "qos", "routing", "system", "security")


class Skipped(Exception):
    """There is nothing to look at on this host; the reason."""


class TimeOver(Exception):
    """A check took longer than it may."""


class HealthError(Exception):
    """An option that cannot be used: what, and the cure."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was found. ``status`` only where the value alone does not tell, ``at_least`` where it does not tell all: the worse of both counts.

    ``cure`` and ``repair`` where they depend on what was found.
    """

    value: t.Optional[float]
    message: str
    status: str = ""
    cure: str = ""
    repair: t.Optional[str] = None
    at_least: str = OK


@dataclasses.dataclass(frozen=True)
class Check:
    """``warning`` and ``critical`` are limits that a value has to stay below, or above where ``least`` is set."""

    id: str
    area: str
    look: t.Callable
    unit: str
    warning: t.Optional[float]
    critical: t.Optional[float]
    cure: str
    source: str
    least: bool
    title: str
    repair: str = ""


REGISTRY: dict[str, Check] = {}


def check(
    name: str,
    area: str,
    unit: str = "",
    warning: t.Optional[float] = None,
    critical: t.Optional[float] = None,
    cure: str = "",
    source: str = "own",
    least: bool = False,
    repair: str = "",
) -> t.Callable:
    """Register a function as the check of this name; its docstring is the title. ``repair`` names the one that may cure it."""

    def register(look: t.Callable) -> t.Callable:
        if name in REGISTRY or area not in AREAS:
            raise ValueError(f"{name}: twice, or no area {area}")
        title = (look.__doc__ or "").strip().splitlines()[0].rstrip(".")
        REGISTRY[name] = Check(name, area, look, unit, warning, critical, cure, source, least, title, repair)
        return look

    return register


def judge(value: float, warning: t.Optional[float], critical: t.Optional[float], least: bool) -> str:
    """The worst level first: a value beyond both limits is critical."""
    for limit, status in ((critical, CRITICAL), (warning, WARNING)):
        if limit is not None and (value <= limit if least else value >= limit):
            return status
    return OK


def worst(statuses: t.Iterable[str]) -> str:
    return max(statuses, key=ORDER.index, default=SKIPPED)


def limits(overrides: t.Mapping[str, t.Any]) -> tuple[dict[str, tuple], list[str]]:
    """(id -> (warning, critical), what of the overrides cannot be used): the report has to come nevertheless."""
    found = {one.id: (one.warning, one.critical) for one in REGISTRY.values()}
    problems = []
    for name, given in overrides.items():
        known = REGISTRY.get(name)
        if known is None:
            problems.append(f"health_check_thresholds: there is no check {name!r}; {_meant(name)}")
            continue
        if known.warning is None and known.critical is None:
            problems.append(f"health_check_thresholds: {name}: it is right or wrong and has no limits; take it out, or list it in health_check_skip")
            continue
        values = {"warning": known.warning, "critical": known.critical}
        wrong = ""
        for level, value in (given if isinstance(given, dict) else {"?": given}).items():
            number = _number(value)
            if level not in values:
                wrong = f"{level!r} is no level; write warning and critical"
            elif value is not None and (number is None or number < 0):
                wrong = f"{level} is {value!r}; write a number from 0 on, in {known.unit or 'its unit'}"
            else:
                values[level] = number
            if wrong:
                break
        if not wrong and None not in values.values() and (values["critical"] > values["warning"]) == known.least:
            if values["critical"] != values["warning"]:
                wrong = f"critical {values['critical']:g} comes before warning {values['warning']:g}; exchange them"
        if wrong:
            problems.append(f"health_check_thresholds: {name}: {wrong}. The defaults are used")
        else:
            found[name] = (values["warning"], values["critical"])
    return found, problems


def _meant(name: str) -> str:
    close = difflib.get_close_matches(name, REGISTRY, 1)
    return f"write {close[0]!r}" if close else "report.json has the ids of all"


def _number(value: t.Any) -> t.Optional[float]:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def run(
    host: t.Any,
    areas: t.Collection[str] = AREAS,
    skip: t.Collection[str] = (),
    overrides: t.Optional[t.Mapping[str, t.Any]] = None,
    seconds: float = 5,
) -> tuple[list[dict], list[str]]:
    """(results in the order of areas and ids, what could not be used of the options).

    :param host: see probe.Host; ``host.deadline`` is set for each check.
    :param seconds: how long one check may take.
    """
    known, problems = limits(overrides or {})
    problems += [f"health_check_skip: there is no check {name!r}; {_meant(name)}" for name in skip if name not in REGISTRY]
    results = []
    for one in sorted(REGISTRY.values(), key=lambda each: (AREAS.index(each.area), each.id)):
        if one.area not in areas or one.id in skip:
            continue
        warning, critical = known[one.id]
        began = time.monotonic()
        reading = _look(one, host, seconds)
        status = reading.status
        if not status:
            judged = judge(reading.value, warning, critical, one.least) if reading.value is not None else OK
            status = worst([judged, reading.at_least])
        results.append(
            {
                "id": one.id,
                "area": one.area,
                "title": one.title,
                "status": status,
                "value": round(reading.value, 3) if reading.value is not None else None,
                "unit": one.unit,
                "warning": warning,
                "critical": critical,
                "message": " ".join(reading.message.split()),
                "cure": _cure(one, reading, status) if status in (WARNING, CRITICAL, UNKNOWN) else "",
                "repair": _repair(one, reading, status),
                "seconds": round(time.monotonic() - began, 3),
            }
        )
    return results, problems


def _look(one: Check, host: t.Any, seconds: float) -> Reading:
    """One check, which ends in time and whose faults stay its own."""
    host.deadline = time.monotonic() + seconds
    try:
        with _alarm(seconds + 0.5):
            return one.look(host) or Reading(None, one.title)
    except Skipped as reason:
        return Reading(None, str(reason), SKIPPED)
    except TimeOver:
        return Reading(None, f"no answer within {seconds:g} s", UNKNOWN, f"find out what hangs; {one.cure}" if one.cure else "find out what hangs")
    except Exception as error:  # pylint: disable=broad-except  # one broken check must not take the others with it
        return Reading(None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", UNKNOWN, one.cure)


def _repair(one: Check, reading: Reading, status: str) -> str:
    """The repair of the platform's that may help. What could not be looked at has none."""
    if status not in (WARNING, CRITICAL):
        return ""
    return one.repair if reading.repair is None else reading.repair


def _cure(one: Check, reading: Reading, status: str) -> str:
    """What to do; the command of a repair comes last."""
    repair = _repair(one, reading, status)
    return "; ".join(part for part in (reading.cure or one.cure, f"{REPAIR}={repair}" if repair else "") if part)


class _alarm:
    """Raise TimeOver in the main thread where something waits past its own limit."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.usable = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> None:
        if self.usable:
            self.before = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *dummy: t.Any) -> None:
        if self.usable:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)

    @staticmethod
    def _ring(dummy: int, dummy_frame: t.Any) -> None:
        raise TimeOver


def summary(results: t.Sequence[dict]) -> dict:
    """How many are how, and the worst, for one host or all of them."""
    counts = {status: sum(one["status"] == status for one in results) for status in ORDER}
    return {**counts, "status": worst(one["status"] for one in results), "checks": len(results)}
