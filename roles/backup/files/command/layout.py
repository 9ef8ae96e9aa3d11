# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a cluster's layout on the disk keeps it from being restored beside the live one: refused before anything is touched.

A tablespace is a path in the cluster's own catalog and WAL. A second PostgreSQL that reads either writes into the live one's files there.
"""

from __future__ import annotations

import json
import os

import common
import rules

# statfs(2): f_type of overlayfs.
OVERLAY = "0x794c7630"


def tablespaces(data: str) -> dict[str, str]:
    """{number: path} of the tablespaces of a data directory."""
    place = os.path.join(data, "pg_tblspc")
    try:
        names = sorted(os.listdir(place))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name: os.readlink(os.path.join(place, name)) if os.path.islink(os.path.join(place, name)) else "" for name in names}


def refuse_tablespaces(config: dict, data: str = "") -> None:
    """BackupError where the live cluster, or another one, has a tablespace of its own."""
    said = rules.tablespace_problem(tablespaces(data or config["cluster"]["data"]), data or config["cluster"]["data"])
    if said:
        raise rules.BackupError(said)


def refuse_set(config: dict, label: str, repository: int = 1) -> None:
    """BackupError where a backup set holds a tablespace, which pgBackRest would restore to the path that it had."""
    shown = json.loads(common.pgbackrest(config, "info", f"--set={label}", "--output=json", repository=repository).stdout)
    found = [one for stanza in shown for one in stanza.get("backup", []) for one in one.get("tablespace") or []]
    if found:
        named = ", ".join(f"{one['name']} ({one['destination']})" for one in found)
        raise rules.BackupError(f"the set {label} holds the tablespace {named} and cannot be restored: choose a set from after it was dropped")


def refuse_place(config: dict) -> None:
    """BackupError where the data directory cannot be put aside by renaming, or WAL lies outside it."""
    data = config["cluster"]["data"]
    why = ""
    if os.path.islink(data):
        why = f"is a link to {os.path.realpath(data)}"
    elif os.path.ismount(data):
        why = "is a mount point"
    elif os.stat(data).st_dev != os.stat(os.path.dirname(data)).st_dev or not movable(data):
        why = "lies on another file system than its parent, or in a layer of an overlay"
    if why:
        raise rules.BackupError(
            f"{data} {why} and cannot be put aside: give backup_restore_in_place=true to write over the data, which keeps no way back"
        )


def refuse_linked_wal(config: dict) -> None:
    """BackupError where pg_wal is a link: pgBackRest would make it a directory on the disk of the data."""
    wal = os.path.join(config["cluster"]["data"], "pg_wal")
    if os.path.islink(wal):
        raise rules.BackupError(
            f"{wal} is a link to {os.path.realpath(wal)}, which a restore would replace by a directory: stop PostgreSQL, move WAL into"
            f" a directory {wal}, start PostgreSQL and restore then"
        )


def movable(data: str) -> bool:
    """Whether directories here can be renamed. In a lower layer of an overlay they cannot; only a try tells."""
    if common.run("stat", "--file-system", "--format=0x%t", data).stdout.strip() != OVERLAY:
        return True
    # PostgreSQL keeps nothing there that has to last.
    place = os.path.join(data, "pg_stat_tmp")
    try:
        os.rename(place, place + ".crm-platform")
        os.rename(place + ".crm-platform", place)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
