# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd units are, against what they should be. Pure; nothing is run here."""

from __future__ import annotations

import datetime
import re
import typing as t

PROPERTIES = ("Id", "Names", "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "StateChangeTimestamp")
RUNNING = ("active", "reloading")
STOPPED = ("inactive", "failed")
ENABLED = ("enabled", "enabled-runtime")
# Units without an [Install] section: there is nothing to enable or disable.
FIXED = ("static", "indirect", "generated", "transient", "alias")


class UnitError(Exception):
    """What systemd says cannot be read; one line."""


class Action(t.NamedTuple):
    """One systemctl verb for some units, and why."""

    verb: str
    units: tuple
    reason: str


def parse_show(output: str) -> dict[str, dict[str, str]]:
    """`systemctl show -p ...` of several units -> {name: {property: value}}.

    Every name of a unit (aliases too) is a key, so that a unit is found under
    the name that it was asked for.
    """
    units: dict[str, dict[str, str]] = {}
    for block in output.strip().split("\n\n"):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        names = set(properties.get("Names", "").split()) | {properties.get("Id", "")}
        for name in names - {""}:
            units[name] = properties
    return units


def full_name(name: str) -> str:
    """'nginx' -> 'nginx.service', as systemctl reads it."""
    suffixes = (".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice", ".swap", ".automount", ".scope")
    return name if name.endswith(suffixes) else name + ".service"


def missing(wanted: t.Iterable[dict], live: dict[str, dict[str, str]]) -> list[str]:
    """Names of wanted units that systemd does not know."""
    return [
        unit["name"]
        for unit in wanted
        if unit["state"] != "absent" and live.get(full_name(unit["name"]), {}).get("LoadState", "not-found") in ("not-found", "")
    ]


def changed_at(properties: dict[str, str]) -> float:
    """When the unit last started, stopped or reloaded, in seconds since 1970; 0 for never. UnitError for what is no time.

    :param properties: of one unit, read with ``systemctl show --timestamp=us+utc``.
    """
    text = properties.get("StateChangeTimestamp", "")
    if text in ("", "n/a"):
        return 0.0
    # The name of the weekday comes first, in a language that is not ours to know.
    found = re.fullmatch(r"\S+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)? UTC", text)
    if not found:
        unit = properties.get("Id", "a unit")
        raise UnitError(f"{unit}: StateChangeTimestamp is {text!r}, and not a time as `systemctl show --timestamp=us+utc` prints it")
    moment = datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp() + float(found[2] or 0)


def outdated(unit: dict, properties: dict[str, str], times: dict[str, float]) -> list[str]:
    """Files that were written after the unit last read its configuration.

    :param times: modification times of files, in seconds since 1970.
    """
    since = changed_at(properties)
    if not since or properties.get("ActiveState") not in RUNNING:
        return []
    return [path for path in unit.get("reads") or [] if times.get(path, 0.0) > since]


def plan(
    wanted: t.Iterable[dict],
    live: dict[str, dict[str, str]],
    reload: bool = False,
    times: dict[str, float] | None = None,
) -> list[Action]:
    """The systemctl calls, in order: daemon-reload, enable, disable, start, stop, reload, restart, reset-failed.

    :param wanted: dicts with ``name``, ``state`` (started, stopped, unmanaged, absent),
        ``enabled`` (True, False or None for as it is), ``reads`` (paths) and
        ``refresh`` (restart, reload) for when one of them is newer than the unit.
    :param live: what :func:`parse_show` returned.
    :param reload: ask for daemon-reload even where systemd does not.
    :param times: see :func:`outdated`.
    """
    verbs: dict[str, list[str]] = {"enable": [], "disable": [], "start": [], "stop": [], "reload": [], "restart": [], "reset-failed": []}
    stale = []
    for unit in wanted:
        name = full_name(unit["name"])
        now = live.get(name, {})
        # A unit whose file was away while it ran is remembered as broken.
        if now.get("NeedDaemonReload") == "yes" or now.get("LoadState") in ("error", "bad-setting"):
            stale.append(name)
        file_state = now.get("UnitFileState", "")
        if unit.get("enabled") is True and file_state not in ENABLED + FIXED:
            verbs["enable"].append(name)
        gone = unit["state"] == "absent"
        if (gone or unit.get("enabled") is False) and file_state in ENABLED:
            verbs["disable"].append(name)
        active = now.get("ActiveState", "inactive")
        if unit["state"] == "started" and active not in RUNNING:
            verbs["start"].append(name)
        if (gone or unit["state"] == "stopped") and active not in STOPPED:
            verbs["stop"].append(name)
        # systemd would tell of it for ever.
        if gone and active == "failed":
            verbs["reset-failed"].append(name)
        if unit["state"] == "started" and outdated(unit, now, times or {}):
            verbs[unit.get("refresh") or "restart"].append(name)
    actions = []
    if stale or reload:
        actions.append(Action("daemon-reload", (), "unit files changed on disk" if stale else "asked for"))
    reasons = {"enable": "not enabled", "disable": "enabled", "start": "not running", "stop": "running", "reset-failed": "it has failed"}
    reasons.update(dict.fromkeys(("reload", "restart"), "its files are newer than it"))
    for verb, names in verbs.items():
        if names:
            actions.append(Action(verb, tuple(names), reasons[verb]))
    return actions


def describe(wanted: t.Iterable[dict], live: dict[str, dict[str, str]], after: bool, times: dict[str, float] | None = None) -> str:
    """One side of the diff: a line a unit with its running and enabled state."""
    lines = []
    for unit in wanted:
        now = live.get(full_name(unit["name"]), {})
        active = now.get("ActiveState", "absent")
        enabled = now.get("UnitFileState", "") or "absent"
        if unit["state"] == "absent" and (after or now.get("LoadState", "not-found") == "not-found" and active == "inactive"):
            active = enabled = "absent"
        elif after:
            if unit["state"] == "started":
                active = active if active in RUNNING else "active"
            elif unit["state"] == "stopped":
                active = active if active in STOPPED else "inactive"
            if unit.get("enabled") is True and enabled not in ENABLED + FIXED:
                enabled = "enabled"
            elif unit.get("enabled") is False and enabled in ENABLED:
                enabled = "disabled"
        stale = "" if after else "".join(f", older than {path}" for path in outdated(unit, now, times or {}))
        lines.append(f"{full_name(unit['name'])}: {active}, {enabled}{stale}\n")
    return "".join(lines)
