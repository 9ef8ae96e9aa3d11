# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that is written whole or not at all: somebody may be reading it, and a full disk is not filled further by what was begun."""

from __future__ import annotations

import contextlib
import os


def write(path: str, text: str, mode: int) -> None:
    """Put the text in place of what was there; OSError where it cannot be, and then that is there still.

    :param mode: of the new file, as of open(2): the umask is taken off.
    """
    staged = f"{path}.{os.getpid()}"
    try:
        with open(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(staged, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staged)
        raise
