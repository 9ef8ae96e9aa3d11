# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is installed and what the ISO lists say, read from files, nothing imported.

Importing trytond and its modules takes seconds; their names and versions stand
in the file system.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import pathlib
import re
import typing as t

DIST_INFO = re.compile(r"^(?P<name>.+)-(?P<version>[^-]+)\.dist-info$")

# Minor units other than two (ISO 4217), and the signs that people know.
DIGITS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}
SYMBOLS = {
    "BRL": "R$", "CHF": "CHF", "CNY": "¥", "CZK": "Kč", "DKK": "kr", "EUR": "€", "GBP": "£", "HUF": "Ft",
    "ILS": "₪", "INR": "₹", "JPY": "¥", "KRW": "₩", "NGN": "₦", "NOK": "kr", "PHP": "₱", "PLN": "zł",
    "RUB": "₽", "SEK": "kr", "THB": "฿", "TRY": "₺", "UAH": "₴", "USD": "$", "VND": "₫",
}  # fmt: skip


def _package(name: str) -> pathlib.Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"{name} is not installed beside this program")
    return pathlib.Path(list(spec.submodule_search_locations)[0])


@functools.cache
def versions() -> dict[str, str]:
    """{'trytond': '8.0.12', 'party': '8.0.4', ...} of what is installed."""
    found = {}
    for path in _package("trytond").parent.glob("trytond*.dist-info"):
        match = DIST_INFO.match(path.name)
        if match:
            name = match["name"].lower().replace("-", "_")
            found[name.removeprefix("trytond_")] = match["version"]
    return found


def series(version: str | None = None) -> str:
    """'8.0' of '8.0.12'; without an argument, of the installed server."""
    return ".".join((version or versions()["trytond"]).split(".")[:2])


@functools.cache
def modules() -> frozenset[str]:
    """Names of the modules that can be activated."""
    return frozenset({path.parent.name for path in _package("trytond").glob("modules/*/tryton.cfg")} | {"ir", "res"})


@functools.cache
def languages() -> frozenset[str]:
    """Codes of the languages into which Tryton is translated."""
    return frozenset({path.stem for path in _package("trytond").glob("ir/locale/*.po")} | {"en"})


@functools.cache
def _iso(name: str) -> list[dict[str, str]]:
    path = _package("pycountry") / "databases" / f"iso{name}.json"
    with path.open(encoding="utf-8") as handle:
        return json.load(handle)[name]


def countries() -> dict[str, dict[str, str]]:
    """ISO 3166-1 by two letters."""
    return {entry["alpha_2"]: entry for entry in _iso("3166-1")}


def subdivisions(codes: t.Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """ISO 3166-2 of these countries; a country without any is left out."""
    wanted = set(codes)
    found: dict[str, list[dict[str, str]]] = {}
    for entry in _iso("3166-2"):
        country = entry["code"].partition("-")[0]
        if country in wanted:
            found.setdefault(country, []).append(entry)
    return found


def currencies() -> dict[str, dict[str, str]]:
    """ISO 4217 by three letters."""
    return {entry["alpha_3"]: entry for entry in _iso("4217")}


def is_timezone(name: str) -> bool:
    """Whether the time zone database knows it."""
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError):
        return False
    return True


def translator(domain: str, language: str) -> t.Callable[[str], str] | None:
    """A function that translates names of an ISO list; None where there are no translations."""
    import gettext

    try:
        catalogue = gettext.translation(domain, str(_package("pycountry") / "locales"), languages=[language])
    except OSError:
        return None
    return catalogue.gettext
