# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The document on standard input: what it may say, checked before anything is touched."""

from __future__ import annotations

import json
import re
import typing as t

from crm_platform.setup import reference

EMAIL = re.compile(r"^[^@\s,;<>\"']+@[^@\s,;<>\"']+$")
# What one list of `currencies` or `countries` may be instead of codes.
ALL = "all"


class DesiredError(Exception):
    """What is wrong with the document, in one line with the cure."""


class Company(t.NamedTuple):
    name: str
    currency: str
    timezone: str | None


class Desired(t.NamedTuple):
    database: str
    modules: tuple[str, ...]
    languages: tuple[str, ...]
    email: str | None
    password: str | None
    company: Company | None
    currencies: tuple[str, ...]
    countries: tuple[str, ...]
    subdivisions: bool


def parse(text: str) -> Desired:
    """Read the JSON document; raise DesiredError for whatever cannot be had."""
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise DesiredError(f"standard input is no JSON document: {exc}") from None
    if not isinstance(document, dict):
        raise DesiredError("standard input has to be one JSON object")
    _known(document, "document", ("database", "modules", "languages", "admin", "company", "currencies", "countries", "subdivisions"))
    admin = _object(document, "admin", ("email", "password"))
    company = _company(_object(document, "company", ("name", "currency", "timezone")))
    modules = list(_strings(document, "modules"))
    # What the rest of the document is stored in.
    modules += [name for name in ("company", "currency", "country") if name not in modules]
    _installed("modules", modules, reference.modules(), "install the package that brings it")
    languages = _strings(document, "languages") or ("en",)
    _installed("languages", languages, reference.languages(), "give a code such as de or pt_BR")
    currencies = _codes(document, "currencies", reference.currencies(), "give ISO 4217 codes such as EUR, or all")
    if company and company.currency not in currencies:
        currencies += (company.currency,)
    return Desired(
        database=_text(document, "database", "the name of the database"),
        modules=tuple(modules),
        languages=languages,
        email=_email(admin.get("email")),
        password=_password(admin.get("password")),
        company=company,
        currencies=currencies,
        countries=_codes(document, "countries", reference.countries(), "give ISO 3166 codes such as DE, or all"),
        subdivisions=_switch(document, "subdivisions"),
    )


def _known(document: dict, name: str, allowed: t.Sequence[str]) -> None:
    unknown = sorted(set(document) - set(allowed))
    if unknown:
        raise DesiredError(f"{name}: {unknown[0]!r} is unknown; known are {', '.join(allowed)}")


def _object(document: dict, name: str, allowed: t.Sequence[str]) -> dict:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DesiredError(f"{name}: give an object with {', '.join(allowed)}")
    _known(value, name, allowed)
    return value


def _text(document: dict, name: str, what: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value.strip() or _unprintable(value):
        raise DesiredError(f"{name} = {value!r}: give {what}")
    return value.strip()


def _unprintable(text: str) -> bool:
    return any(ord(char) < 32 or ord(char) == 127 for char in text)


def _strings(document: dict, name: str) -> tuple[str, ...]:
    value = document.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise DesiredError(f"{name} = {value!r}: give a list of names")
    return tuple(dict.fromkeys(value))


def _switch(document: dict, name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise DesiredError(f"{name} = {value!r}: give true or false")
    return value


def _installed(name: str, wanted: t.Iterable[str], known: t.Collection[str], cure: str) -> None:
    for item in wanted:
        if item not in known:
            raise DesiredError(f"{name}: {item!r} is unknown; {cure}")


def _codes(document: dict, name: str, known: dict[str, t.Any], cure: str) -> tuple[str, ...]:
    if document.get(name) == ALL:
        return tuple(sorted(known))
    if isinstance(document.get(name), str):
        raise DesiredError(f"{name} = {document[name]!r}: {cure}")
    codes = _strings(document, name)
    _installed(name, codes, known, cure)
    return codes


def _company(value: dict) -> Company | None:
    if not value:
        return None
    currency = _text(value, "currency", "an ISO 4217 code such as EUR")
    _installed("company.currency", [currency], reference.currencies(), "give an ISO 4217 code such as EUR")
    timezone = value.get("timezone") or None
    if timezone is not None and not (isinstance(timezone, str) and reference.is_timezone(timezone)):
        raise DesiredError(f"company.timezone = {timezone!r}: give a name such as Europe/Berlin")
    return Company(_text(value, "name", "the company's name"), currency, timezone)


def _email(value: t.Any) -> str | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str) or not EMAIL.match(value) or _unprintable(value):
        raise DesiredError(f"admin.email = {value!r}: give an address such as admin@example.com")
    return value


def _password(value: t.Any) -> str | None:
    if value in (None, ""):
        return None
    if not isinstance(value, str) or _unprintable(value):
        raise DesiredError("admin.password: give text without control characters")
    return value
