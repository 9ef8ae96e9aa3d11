# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which database a request is for. Pure."""

from __future__ import annotations

import base64
import binascii

# Paths of Tryton that name no database, and that name it in base64.
UNNAMED = frozenset({"", "rpc"})
ENCODED = frozenset({"avatar", "m", "s"})


def named_database(path: str) -> str | None:
    """The database that a path of Tryton names; None where it names none."""
    head, dummy, rest = path.lstrip("/").partition("/")
    if head in UNNAMED:
        return None
    if head not in ENCODED:
        return head
    token = rest.partition("/")[0].partition("$")[0]
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("utf-8")
    except (binascii.Error, ValueError):
        # Such as /m/empty.gif; what Tryton cannot decode it does not open.
        return None
