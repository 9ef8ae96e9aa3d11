# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attachments that the database names, and those among them whose files are missing."""

from __future__ import annotations

import configparser
import json
import os
import typing as t

import common
import rules

# Numbers, files and times, without the names: these are asked for where they are told.
ROWS = """
SELECT id, file_id, extract(epoch FROM greatest(create_date, write_date))::bigint FROM ir_attachment
 WHERE type = 'data' AND coalesce(file_id, '') <> '' ORDER BY id"""
NAMES = "SELECT id, json_build_array(name, resource)::text FROM ir_attachment WHERE id IN ({}) ORDER BY id"
# Names that are told, and written down.
TOLD = 1000
# Where the database is on another host, the CRM's own way to it.
ASK = """
import sys
from crm_platform import settings
settings.prepare("backup")
from trytond import config
config.update_etc()
from trytond import backend
connection = backend.Database(sys.argv[1]).connect().get_connection(readonly=True)
cursor = connection.cursor()
cursor.execute(sys.stdin.read())
for row in cursor:
    print(*row, sep="|")
"""
PYTHON = "/usr/lib/crm-platform/venv/bin/python"


class Row(t.NamedTuple):
    """An attachment that is a file."""

    number: int
    file: str
    # When it was added or changed, in seconds since 1970.
    time: int


def ask(config: dict, query: str, columns: int, socket: str = "") -> list[list[str]]:
    """Answer of the CRM's database: rows of columns, of which only the last may hold a |."""
    if config["policy"]["database"]:
        text = common.psql(config, query, socket)
    else:
        environment = {"TRYTOND_CONFIG": config["crm"], "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
        words = ("setpriv", "--reuid=crm-platform", "--regid=crm-platform", "--init-groups", PYTHON, "-c", ASK, config["database"])
        text = common.run(*words, text=query, env=environment).stdout
    return [line.split("|", columns - 1) for line in text.splitlines() if line.count("|") >= columns - 1]


def rows(config: dict, socket: str = "") -> list[Row] | None:
    """All of them; None where the database does not tell."""
    try:
        return [Row(int(number), file, int(moment or 0)) for number, file, moment in ask(config, ROWS, 3, socket)]
    except (rules.BackupError, OSError):
        return None


def names(config: dict, found: list[Row], socket: str = "") -> list[str]:
    """What a user calls them, and where they are attached; of the first thousand."""
    if not found:
        return []
    answer = ask(config, NAMES.format(", ".join(str(one.number) for one in found[:TOLD])), 2, socket)
    return [named(number, *json.loads(text)) for number, text in answer]


def named(number: str, name: str | None, resource: str | None) -> str:
    return f"{' '.join((name or 'one without a name').split())} of {resource or 'nothing'} (ir.attachment,{number})"


def path_of(config: dict, row: Row) -> str:
    """Where the CRM has the file."""
    settings = configparser.RawConfigParser(strict=False)
    settings.read(config["crm"] or [], encoding="utf-8")
    prefix = settings.get("attachment", "store_prefix", fallback="") or config["database"]
    return os.path.join(config["attachments"], prefix, row.file[:2], row.file[2:4], row.file)


def paths(config: dict, found: list[Row]) -> dict[str, Row]:
    """{path: the attachment}"""
    if not found:
        return {}
    root = os.path.dirname(os.path.dirname(os.path.dirname(path_of(config, found[0]))))
    return {os.path.join(root, one.file[:2], one.file[2:4], one.file): one for one in found}


def missing(config: dict) -> dict[str, Row]:
    """{path: the attachment} of those whose files are not there."""
    found = rows(config) if config["crm"] else None
    return {path: one for path, one in paths(config, found or []).items() if not os.path.exists(path)}


def look_through(config: dict) -> dict | None:
    """How many there are, and which of them have no file; None where the CRM is not on this host, or the database does not tell."""
    found = rows(config) if config["crm"] else None
    if found is None:
        return None
    # What is not mounted is missing as a whole.
    lost = [one for path, one in paths(config, found).items() if not os.path.exists(path)]
    try:
        return {"rows": len(found), "without_file": len(lost), "missing": names(config, lost)}
    except (rules.BackupError, OSError, ValueError):
        return None


def told(found: dict | None) -> str:
    """In one line, with the cure; '' where all is well."""
    if not found or not found["without_file"]:
        return ""
    return f"{rules.attachments_named(found['without_file'], found['missing'], 'without a file')}; {rules.CURE_ATTACHMENTS}"


def compare(config: dict, saved: dict, moment: float, socket: str) -> dict | None:
    """Attachments of a restored database against what a snapshot of the files holds: those that it lacks, and how many are too new to be in it.

    :param saved: {path: anything}
    :param moment: when the snapshot was begun
    """
    found = rows(config, socket) if config["crm"] else None
    if found is None:
        return None
    lacking = [one for path, one in paths(config, found).items() if path not in saved]
    # A long transaction writes the file when it has begun for a while.
    lost = [one for one in lacking if one.time < moment - rules.ATTACHMENT_SAVED]
    return {"rows": len(found), "not_saved": len(lost), "newer": len(lacking) - len(lost), "missing": names(config, lost, socket)}
