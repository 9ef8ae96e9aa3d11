# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full of logs: archived journals and rotated files go by policy; a live log, and what is no log, never."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import time
import typing as t

from .registry import Repair, RepairError, Step, repair

ROOT = "/var/log"
JOURNALS = ("/var/log/journal", "/run/log/journal")
MACHINE = "/etc/machine-id"
# As logrotate names what it has packed: nobody writes to it any more. Somebody's dump.sql.gz in the same place is no log.
ROTATED = re.compile(r"^.+\.log(?:\.\d{1,4}|-\d{8}(?:\d{2}|-\d{1,4})?)?\.(?:gz|xz|zst|bz2)\Z")
# system@0123...-0000000000000001-0005f0c3d4b5a697.journal: the last is when it begins, in microseconds.
# Of one that was not closed well, system@0005f0c3d4b5a697-0123456789abcdef.journal~, it is the first.
ARCHIVED = re.compile(r"^.+@(?:[0-9a-f]{32}-[0-9a-f]{16}-(?P<begins>[0-9a-f]{16})\.journal|(?P<torn>[0-9a-f]{16})-[0-9a-f]{16}\.journal~)\Z")
MIB = 1024**2
DAY = 86400


@dataclasses.dataclass(frozen=True)
class Log:
    """A file that may go."""

    directory: str
    name: str
    size: int
    time: float  # written last, or for a journal when it begins


def shown(size: float) -> str:
    return f"{size / MIB:.1f} MiB"


@repair("clear_logs", "Remove archived journals and rotated logs by policy", ("disk_forecast", "disk_space"))
class ClearLogs(Repair):
    root = ROOT

    @staticmethod
    def problem(options):
        for name in ("journal_size", "journal_days", "log_days"):
            if options[name] < 1:
                return f"{name} is {options[name]}; give 1 or more"
        for path in options["log_directories"]:
            if os.path.normpath(path) != path.rstrip("/") or not path.startswith(ROOT + "/"):
                return f"log_directories: {path} is not below {ROOT}; only logs are cleared, so take it out"
        return ""

    def look(self, host, outcome):
        found: dict[str, t.Any] = {"journals": [], "foreign": [], "rotated": [], "now": time.time()}
        for path in host.options["log_directories"]:
            real = os.path.realpath(path)
            if real != path.rstrip("/"):
                raise RepairError(f"log_directories: {path} leads to {real} by a link; only what is itself below {ROOT} is cleared, so take it out")
            if os.path.exists(os.path.join(path, "PG_VERSION")):
                raise RepairError(f"log_directories: {path} holds a database; take it out")
            found["rotated"] += files(path, ROTATED)
        own = machine_id()
        for place in JOURNALS:
            for machine in sorted(os.listdir(place)) if os.path.isdir(place) else []:
                path = os.path.join(place, machine)
                if os.path.isdir(path):
                    # journalctl clears those of this machine only: a clone's former id, other machines and namespaces stay.
                    found["journals" if machine == own else "foreign"] += files(path, ARCHIVED)
        return found

    def plan(self, found, options, outcome):
        steps = []
        for directory in sorted({one.directory for one in found.get("foreign", ())}):
            kept = sum(one.size for one in found["foreign"] if one.directory == directory)
            outcome.notes.append(
                f"{directory} holds {shown(kept)} of archived journals that journalctl does not clear here: they are another machine's or a namespace's"
            )
        size, oldest = sum(one.size for one in found["journals"]), min((one.time for one in found["journals"]), default=found["now"])
        why = []
        if size > options["journal_size"] * MIB:
            why.append(f"{shown(size)} are archived, {options['journal_size']} MiB may stay")
        if oldest < found["now"] - options["journal_days"] * DAY:
            why.append(f"the oldest begins {(found['now'] - oldest) / DAY:.0f} days ago, {options['journal_days']} may stay")
        if why:
            text = f"journalctl --vacuum-size={options['journal_size']}M --vacuum-time={options['journal_days']}d ({'; '.join(why)})"
            steps.append(Step(text, "journal", (), f"archived journals: {shown(size)}", "archived journals: within the policy"))
        for one in sorted(found["rotated"], key=lambda each: (each.directory, each.name)):
            if one.time < found["now"] - options["log_days"] * DAY:
                path, age = os.path.join(one.directory, one.name), (found["now"] - one.time) / DAY
                text = f"remove {path} ({shown(one.size)}, {age:.0f} days old)"
                steps.append(Step(text, "remove", (one.directory, one.name, one.size), f"{path}: {shown(one.size)}", ""))
        return steps

    def carry_out(self, host, found, outcome):
        freed = 0
        for step in outcome.steps:
            if step.verb == "journal":
                self.vacuum(host)
                left = sum(one.size for one in self.look(host, outcome)["journals"])
                freed += max(0, sum(one.size for one in found["journals"]) - left)
            elif remove(*step.what[:2]):
                freed += step.what[2]
        outcome.facts["freed_bytes"] = freed
        outcome.notes.append(f"{shown(freed)} are free again")

    @staticmethod
    def vacuum(host) -> None:
        options = host.options
        rc, dummy, err = host.run(["journalctl", f"--vacuum-size={options['journal_size']}M", f"--vacuum-time={options['journal_days']}d"])
        if rc:
            raise RepairError(f"journalctl does not clear: {' '.join(err.split())[-200:]}; see `journalctl --verify`")


def machine_id() -> str:
    """By which journald names this machine's directory; '' where there is none."""
    try:
        with open(MACHINE, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def files(directory: str, pattern: t.Pattern) -> list[Log]:
    """The plain files of a directory whose names fit; nothing below it, and nothing behind a link."""
    found = []
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return []
    for entry in entries:
        match = pattern.match(entry.name)
        if not match:
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            begins = next((text for text in match.groups() if text), "")
            when = min(int(begins, 16) / 1e6, status.st_mtime) if begins else status.st_mtime
            found.append(Log(directory, entry.name, status.st_blocks * 512, when))
    return found


def remove(directory: str, name: str) -> bool:
    """False where it is gone already. By the directory that was looked at: a link that took its place meanwhile leads nowhere."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode):
            return False
        os.unlink(name, dir_fd=place)
    except FileNotFoundError:
        return False
    finally:
        os.close(place)
    return True
