# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A damaged segment of the log leaves the repository, when nothing newer needs it any more."""

from __future__ import annotations

import os
import pathlib
import shutil

import common
import look
import rules
import save


def archive(config: dict) -> pathlib.Path:
    return pathlib.Path(config["repository"], "database", "archive", config["stanza"])


def place(config: dict) -> str:
    """Where it lies afterwards: no program looks there, and who needs no more of it removes it."""
    return os.path.join(config["repository"], "set-aside")


def set_aside(config: dict, segment: str) -> dict:
    """Take one damaged segment out of the repository, and tell what cannot be brought back without it."""
    if common.kept_elsewhere(config) or not config["policy"]["sets"]:
        where = f"on {config['peer']['host']}; run it there" if common.kept_elsewhere(config) else "of another host"
        raise rules.BackupError(f"the log is {where}")
    try:
        with common.alone(config, "set-aside", save.WAIT):
            path = damaged(config, segment)
            stored, name = path.stat().st_mtime, path.parent.parent.name
            sets = rules.sets_of(common.stanza(config))
            if not rules.later_full(segment, stored, sets):
                raise rules.BackupError(f"no full set was made after {segment}: first `crm-platform-backup backup full`")
            lost, before = rules.lost_without(segment, stored, sets), stored_before(path)
            # Known first: whatever cuts this off, the sets that need it are not taken for whole.
            known = common.remembered(config, "aside.json", {})
            common.remember(config, "aside.json", {**known, name: sorted({*known.get(name, []), segment})})
            target = os.path.join(place(config), name, path.name)
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            shutil.move(path, target)
    finally:
        look.write(config)
    until = rules.utc(lost.until.ended) if lost.until else None
    words = f"from {rules.utc(before) if before else 'the first set'} to {until}, positions {rules.show_lsn(lost.first)} to {rules.show_lsn(lost.last)}"
    common.say(f"{segment} is in {target}; no moment can be brought back {words}")
    for label in lost.unusable:
        common.say(f"{label} cannot be restored any more, since it needs {segment}")
    return {
        "changed": True,
        "segment": segment,
        "place": target,
        "lost": {"from": rules.utc(before) if before else None, "to": until, "lsn_from": rules.show_lsn(lost.first), "lsn_to": rules.show_lsn(lost.last)},
        "unusable": lost.unusable,
        "next": "crm-platform-backup verify",
    }


def damaged(config: dict, segment: str) -> pathlib.Path:
    """The file of a segment that the last verification has named; no other is touched."""
    named = common.remembered(config, "verify.json", {}).get("segments", [])
    for name in named:
        if name.rsplit("/", 1)[-1][:24] == segment:
            path = archive(config) / name
            if path.exists():
                return path
    known = ", ".join(name.rsplit("/", 1)[-1][:24] for name in named if (archive(config) / name).exists())
    raise rules.BackupError(
        f"{segment} is no segment that the last verification found damaged ({known or 'it found none'}): `crm-platform-backup verify` looks"
    )


def stored_before(path: pathlib.Path) -> float | None:
    """When the segment before this one was stored: until then all can be brought back. None where there is none."""
    names = [one for one in path.parent.parent.glob(f"{path.name[:8]}*/*-*") if rules.SEGMENT.fullmatch(one.name) and one.name < path.name]
    return max(names, key=lambda one: one.name).stat().st_mtime if names else None
