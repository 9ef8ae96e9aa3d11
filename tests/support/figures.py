# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks print: ours, the peer's or the limit, and what they are to one another."""

from __future__ import annotations

import typing as t


class Row(t.NamedTuple):
    """A line of the table: our value and the peer's or the limit, what they are to one another, and the bar."""

    what: str
    ours: str
    peer: str
    ratio: float
    limit: str
    met: bool

    def __str__(self) -> str:
        return f"{self.what:42} {self.ours:>24} {self.peer:>24} {self.ratio:8.3f}  {self.limit} {'' if self.met else 'MISSED'}".rstrip()


def table(rows: list[Row]) -> str:
    return "\n".join([f"{'':42} {'ours':>24} {'peer or limit':>24}    ratio  bar", *map(str, rows)])
