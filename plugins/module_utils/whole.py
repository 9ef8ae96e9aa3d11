# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that is written whole or not at all: somebody may be reading it, and a full disk is not filled further by what was begun."""

from __future__ import annotations

import contextlib
import os


def write(path: str, text: str, mode: int) -> None:
    """Put the text in place of what was there; OSError where it cannot be, and then that is there still.

    :param mode: of the new file, whatever the umask is.
    """
    staged = f"{path}.{os.getpid()}"
    try:
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(staged, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        raise
