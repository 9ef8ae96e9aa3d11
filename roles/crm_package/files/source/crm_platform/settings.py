# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one configuration file, as the processes of this package read it.

Tryton reads its own sections of the same file. The section [platform] holds
what Tryton knows nothing about: which database, how many processes.
"""

from __future__ import annotations

import configparser
import os
import pathlib
import typing as t
import urllib.parse

DEFAULT_PATH = "/etc/crm-platform/crm-platform.conf"


class SettingsError(Exception):
    """What is wrong with the file, in one line with the cure."""


class Settings(t.NamedTuple):
    """Section [platform]; the defaults fit a small server."""

    database: str = "crm"
    bind: str = "unix:/run/crm-platform/web.sock"
    workers: int = 2
    threads: int = 4
    # A worker process leaves after this many requests, so that a slow leak
    # never grows; 0 keeps it for ever.
    max_requests: int = 10000
    # Seconds that a request may go on once the service was told to stop.
    graceful_timeout: int = 30
    worker_tmp_dir: str = "/dev/shm"
    access_log: bool = False
    # Processes that work off the queue, and that run scheduled actions.
    queue_processes: int = 1
    cron_processes: int = 1
    # Seconds that a request, and that a background task, waits for the
    # database to come back before it fails.
    database_wait: int = 30
    task_database_wait: int = 300


# Where each number has to lie.
RANGES = {
    "workers": (1, 256),
    "threads": (1, 256),
    "max_requests": (0, 10_000_000),
    "graceful_timeout": (1, 3600),
    "queue_processes": (1, 64),
    "cron_processes": (1, 64),
    "database_wait": (1, 600),
    "task_database_wait": (1, 86400),
}


def prepare(name: str) -> str:
    """Name this process for PostgreSQL and Tryton; return the file's path.

    Must come before the first import of trytond, which reads both variables
    while it is imported.
    """
    os.environ.setdefault("TRYTOND_CONFIG", DEFAULT_PATH)
    os.environ.setdefault("TRYTOND_APPNAME", name)
    return os.environ["TRYTOND_CONFIG"]


def parse(path: str | None = None) -> configparser.ConfigParser:
    """The whole file, with nothing interpolated, as Tryton reads it."""
    path = path or os.environ.get("TRYTOND_CONFIG", DEFAULT_PATH)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(pathlib.Path(path).read_text(encoding="utf-8"), source=path)
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read ({exc.strerror}); let group crm-platform read it") from None
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: {' '.join(str(exc).split())}") from None
    return parser


def _value(section: t.Mapping[str, str], name: str, default: t.Any) -> t.Any:
    text = section.get(name)
    if text is None:
        return default
    text = text.strip()
    if isinstance(default, bool):
        states = configparser.ConfigParser.BOOLEAN_STATES
        if text.lower() not in states:
            raise SettingsError(f"[platform] {name} = {text!r}: write true or false")
        return states[text.lower()]
    if isinstance(default, int):
        low, high = RANGES[name]
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise SettingsError(f"[platform] {name} = {text!r}: write a whole number from {low} to {high}")
        return int(text)
    if not text:
        raise SettingsError(f"[platform] {name} is empty: leave the line out or give a value")
    return text


def read(path: str | None = None) -> Settings:
    """Section [platform] with its defaults.

    What it does not know it passes over, as Tryton does with its sections: a
    file for a newer package must not stop an older one, or its upgrade.
    """
    parser = parse(path)
    section = parser["platform"] if parser.has_section("platform") else {}
    defaults = Settings()._asdict()
    return Settings(**{name: _value(section, name, default) for name, default in defaults.items()})


def conninfo(parser: configparser.ConfigParser, database: str) -> str:
    """The URI with which libpq reaches one database, as Tryton makes it."""
    uri = parser.get("database", "uri", fallback="")
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme not in ("postgresql", "postgres"):
        raise SettingsError("[database] uri has to begin with postgresql://")
    return parts._replace(scheme="postgresql", path="/" + urllib.parse.quote(database, safe="")).geturl()
