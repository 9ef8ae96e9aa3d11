# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New attachments are saved soon after they came, between the backups."""

from __future__ import annotations

import fcntl
import os
import time

import common
import rules
import save


def newer(config: dict, since: float) -> bool:
    """Whether there are files that came, or were changed, since then. One that has gone is no reason to save."""
    root = config["attachments"]
    if not os.path.isdir(root):
        return False
    # A file may be stamped by the clock's last tick.
    words = ("find", root, "-path", "*/.crm-platform-restore", "-prune", "-o", "-type", "f", "-newerct", f"@{since - 1:.3f}", "-print", "-quit")
    return bool(common.run(*words).stdout.strip())


def follow(config: dict) -> dict:
    """Save the files where there are new attachments. It waits for no other run: a drill may take hours, and restic has locks of its own."""
    if not (config["policy"]["files"] and config["crm"]):
        return {"changed": False}
    with open(common.state_path(config, "lock-follow"), "a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # The run that has it began too early for the newest ones; the next is soon.
            return {"changed": False}
        known = common.remembered(config, "followed.json", {})
        if not newer(config, known.get("saved", 0)):
            return {"changed": False}
        began = time.time()
        try:
            result = save.save_files(config, "incr")
        except (rules.BackupError, OSError, ValueError) as exc:
            common.remember(config, "followed.json", {**known, "error": str(exc), "since": known.get("since") or int(began)})
            raise
    return {"changed": True, **result}
