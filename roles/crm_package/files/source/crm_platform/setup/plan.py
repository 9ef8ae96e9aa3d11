# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done, from what is wanted, what is there and what is installed. Pure."""

from __future__ import annotations

import typing as t

from crm_platform.setup.desired import Desired
from crm_platform.setup.facts import Facts


# The assistant that Tryton opens for the administrator asks for languages,
# modules, users and a company, which are declared here, and for a chart of
# accounts, which a CRM does not need to begin with. Its other steps stay.
ASSISTANT = frozenset({"ir", "res", "company", "account"})


class PlanError(Exception):
    """Why it cannot be done, in one line with the cure."""


class Change(t.NamedTuple):
    """One line of the report."""

    object: str
    before: str
    after: str


class Plan(t.NamedTuple):
    """What `apply` executes, and the report that check mode prints."""

    changes: tuple[Change, ...] = ()
    initialise: bool = False
    update: tuple[str, ...] = ()  # modules to activate or bring up to date
    languages: tuple[str, ...] = ()
    password: bool = False
    email: bool = False
    currencies: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    subdivisions: tuple[str, ...] = ()  # of these countries
    company: bool = False
    assistant: tuple[str, ...] = ()  # modules whose steps are taken


def _number(series: str) -> tuple[int, ...]:
    return tuple(int(part) for part in series.split("."))


def _refuse(desired: Desired, facts: Facts, installed: dict[str, str], series: str, length: int) -> None:
    if facts.series and _number(facts.series) > _number(series):
        raise PlanError(
            f"the database holds series {facts.series}, the installed package is {series}:"
            " a database cannot go back; install the package again that it was updated by, or restore a backup"
        )
    lost = sorted(name for name, state in facts.modules.items() if state == "activated" and name not in installed)
    if lost:
        raise PlanError(f"the database uses the module {lost[0]}, which the installed package does not have; install one that has it")
    if facts.admin_password:
        return
    if desired.password is None:
        raise PlanError("admin.password is not given and the administrator has none yet; give one")
    if len(desired.password.encode("utf-8")) < length:
        raise PlanError(f"admin.password is too short; give {length} characters or more")
    if desired.password.lower() in {"admin", "administrator", (desired.email or "").lower()}:
        raise PlanError("admin.password is the administrator's name or address; give another one")


def make(
    desired: Desired,
    facts: Facts,
    installed: dict[str, str],
    subdivided: t.Container[str],
    password_length: int = 8,
) -> Plan:
    """The plan; empty when the database is as wanted.

    :param installed: name to version of the server ('trytond') and its modules.
    :param subdivided: the countries for which subdivisions are known.
    """
    server = installed["trytond"]
    series = ".".join(server.split(".")[:2])
    here = {**installed, "ir": server, "res": server}
    _refuse(desired, facts, here, series, password_length)
    changes: list[Change] = []

    initialise = not facts.initialised
    if initialise:
        changes.append(Change(f"database {desired.database}", "empty", f"Tryton {series}"))
    active = {name for name, state in facts.modules.items() if state == "activated"}
    missing = tuple(sorted({*desired.modules, "ir", "res"} - active))
    changes += [Change(f"module {name}", "absent", "activated") for name in missing]
    stale = _stale(facts, active, here, series)
    changes += [Change(f"module {name}", old, new) for name, old, new in stale]
    languages = tuple(code for code in desired.languages if code not in facts.languages)
    changes += [Change(f"language {code}", "absent", "translated") for code in languages if code != "en"]
    update = {*missing, *(name for name, dummy, dummy in stale)}
    # A language has to be read by every module that has been active before.
    if [code for code in languages if code != "en"] and active:
        update.add("ir")

    password = not facts.admin_password
    if password:
        changes.append(Change("password of the administrator", "absent", "set"))
    email = desired.email is not None and not facts.admin_email
    if email:
        changes.append(Change("e-mail of the administrator", "absent", str(desired.email)))
    currencies = tuple(code for code in desired.currencies if code not in facts.currencies)
    changes += [Change(f"currency {code}", "absent", "present") for code in currencies]
    countries = tuple(code for code in desired.countries if code not in facts.countries)
    changes += [Change(f"country {code}", "absent", "present") for code in countries]
    parted = ()
    if desired.subdivisions:
        parted = tuple(code for code in desired.countries if code in subdivided and code not in facts.subdivided)
        changes += [Change(f"subdivisions of {code}", "absent", "present") for code in parted]
    company = desired.company is not None and not facts.companies
    if company and desired.company:
        changes.append(Change(f"company {desired.company.name}", "absent", "present"))
    assistant = tuple(sorted((facts.assistant | (set() if active else ASSISTANT)) & ASSISTANT))
    if assistant:
        changes.append(Change("assistant of the first login", "open", "done"))
    return Plan(
        changes=tuple(changes),
        initialise=initialise,
        update=tuple(sorted(update)),
        languages=languages,
        password=password,
        email=email,
        currencies=currencies,
        countries=countries,
        subdivisions=parted,
        company=company,
        assistant=assistant,
    )


def _stale(facts: Facts, active: set[str], here: dict[str, str], series: str) -> list[tuple[str, str, str]]:
    """Modules whose tables another version made: (name, before, after)."""
    if not active:
        return []
    server = here["trytond"]
    if facts.series != series:
        # `ir` stands for all: each module depends on it.
        return [("ir", f"series {facts.series or 'unknown'}", f"series {series}")]
    if facts.versions is None:
        return [("ir", "unknown version", server)]
    before = {**facts.versions, "ir": facts.versions.get("trytond", "unknown"), "res": facts.versions.get("trytond", "unknown")}
    if before["ir"] != server:
        return [("ir", before["ir"], server)]
    return [
        (name, before.get(name, "unknown"), here[name]) for name in sorted(active) if before.get(name, "unknown") != here[name]
    ]
