# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module crm_setup says to the command crm-platform-setup, and what that answers. Pure."""

from __future__ import annotations

import json
import typing as t

# Statuses of the command besides 0: sysexits.h's "temporary failure", here a
# database that cannot be reached, and "configuration error".
UNREACHABLE, MISCONFIGURED = 75, 78
ALL = "all"


class SetupFailed(Exception):
    """The one line with which the command ended."""


class Outcome(t.NamedTuple):
    changed: bool
    changes: list
    series: str
    warning: str = ""


def codes(given: t.Sequence[str]) -> t.Any:
    """``['all']`` is the word for a whole ISO list."""
    return ALL if [code.lower() for code in given] == [ALL] else list(given)


def document(params: t.Mapping[str, t.Any]) -> str:
    """The command's standard input, from the module's options."""
    wanted: dict[str, t.Any] = {
        "database": params["database"],
        "modules": params["modules"],
        "languages": params["languages"],
        "admin": {name: params["admin_" + name] for name in ("email", "password") if params["admin_" + name]},
        "currencies": codes(params["currencies"]),
        "countries": codes(params["countries"]),
        "subdivisions": params["subdivisions"],
    }
    if params["company_name"]:
        wanted["company"] = {
            "name": params["company_name"],
            "currency": params["company_currency"],
            "timezone": params["company_timezone"] or None,
        }
    return json.dumps(wanted)


def interpret(rc: int, out: str, err: str, check: bool) -> Outcome:
    """The command's answer.

    In check mode a database that cannot be reached, or a configuration that
    cannot be read, is what an earlier task would have mended: a change.
    """
    said = " ".join(err.split()) or f"crm-platform-setup ended with status {rc}"
    if rc != 0:
        if check and rc in (UNREACHABLE, MISCONFIGURED):
            return Outcome(True, [], "", f"the state of the CRM's database is unknown: {said}")
        raise SetupFailed(said)
    lines = out.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        return Outcome(answer["changed"], answer["changes"], answer["series"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise SetupFailed(f"crm-platform-setup gave no answer that can be read: {out[-200:]!r} {said}") from None


def describe(changes: t.Iterable[t.Mapping[str, str]], side: str) -> str:
    """One side of the diff, a line for each object that changes."""
    return "".join(f"{change['object']}: {change[side]}\n" for change in changes)
