# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a configuration file before it goes live: `python -m crm_platform.checkconf FILE`."""

from __future__ import annotations

import sys
import urllib.parse

from crm_platform import settings

# Numbers and switches that Tryton reads with getint and getboolean: a typo
# there shows only when the first request comes.
NUMBERS = {
    "web": ("num_proxies", "cache_timeout"),
    "database": ("minconn", "maxconn", "timeout", "retry"),
    "request": ("max_size", "max_size_authenticated", "timeout"),
    "cache": ("clean_timeout", "select_timeout"),
    "session": ("max_age", "timeout", "max_attempt"),
    "password": ("length",),
}
SWITCHES = {"database": ("list",), "queue": ("worker",)}


def complaints(path: str) -> list[str]:
    """Everything that is wrong with the file."""
    try:
        parser = settings.parse(path)
        chosen = settings.read(path)
    except settings.SettingsError as exc:
        return [str(exc)]
    found = []
    try:
        uri = settings.conninfo(parser, chosen.database)
    except settings.SettingsError as exc:
        found.append(str(exc))
    else:
        found += _check_uri(uri)
    for section, names in NUMBERS.items():
        for name in names:
            text = parser.get(section, name, fallback="0")
            if not text.isascii() or not text.isdigit():
                found.append(f"[{section}] {name} = {text!r}: write a whole number")
    for section, names in SWITCHES.items():
        for name in names:
            try:
                parser.getboolean(section, name, fallback=True)
            except ValueError:
                found.append(f"[{section}] {name}: write True or False")
    if parser.get("database", "default_name", fallback="template1") == chosen.database:
        found.append(f"[database] default_name = {chosen.database}: name another one, the default one gets no connection pool")
    return found


def _check_uri(uri: str) -> list[str]:
    """Whether libpq understands it; its message may hold the password and is not shown."""
    import psycopg
    import psycopg.conninfo

    try:
        psycopg.conninfo.conninfo_to_dict(uri)
        dummy = urllib.parse.urlsplit(uri).port
    except (psycopg.Error, ValueError):
        return ["[database] uri: libpq does not understand it; percent-encode user and password"]
    return []


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m crm_platform.checkconf FILE", file=sys.stderr)
        return 2
    found = complaints(sys.argv[1])
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
