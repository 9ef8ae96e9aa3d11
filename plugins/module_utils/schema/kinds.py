# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes of a column's type keep every value. Whether the table is rewritten is asked of PostgreSQL instead."""

from __future__ import annotations

import re
import typing as t

_TYPE = re.compile(r"(?P<base>[^(\[]+?)\s*(?:\((?P<sizes>[\d,\s-]+)\))?(?P<zone> with(?:out)? time zone)?(?P<array>(?:\[\])*)\Z")
_WHOLE = ("smallint", "integer", "bigint")
# Digits before the point that a whole number may have.
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_TIMES = ("timestamp", "time", "interval")


class Kind(t.NamedTuple):
    """A type as format_type prints it, taken apart."""

    base: str
    sizes: tuple
    array: str


def kind(text: str) -> Kind:
    match = _TYPE.match(text)
    if not match:
        return Kind(text, (), "")
    sizes = tuple(int(size) for size in match.group("sizes").split(",")) if match.group("sizes") else ()
    return Kind(match.group("base") + (match.group("zone") or ""), sizes, match.group("array"))


def keeps_values(old: str, new: str) -> bool:
    """Whether every value of the old type is the same value in the new one."""
    before, after = kind(old), kind(new)
    if before.array != after.array:
        return False
    if before.base == after.base:
        return _wider(before, after)
    if before.base in _WHOLE:
        if after.base in _WHOLE:
            return _WHOLE.index(after.base) > _WHOLE.index(before.base)
        if after.base == "numeric":
            return _room(after) >= _DIGITS[before.base]
    if after.base == "text" or (after.base == "character varying" and not after.sizes):
        # character pads with blanks that text would keep or lose; all others have one spelling.
        return before.base not in ("character", "bytea", "xml", "json", "jsonb")
    return (before.base, after.base) in (("text", "character varying"), ("real", "double precision"), ("cidr", "inet")) and not after.sizes


def _room(number: Kind) -> float:
    if not number.sizes:
        return float("inf")
    return number.sizes[0] - (number.sizes[1] if len(number.sizes) > 1 else 0)


def _wider(before: Kind, after: Kind) -> bool:
    if before.sizes == after.sizes:
        return True
    if before.base == "numeric":
        if not after.sizes:
            return True
        if not before.sizes:
            return False
        scale = [sizes[1] if len(sizes) > 1 else 0 for sizes in (before.sizes, after.sizes)]
        return scale[1] >= scale[0] and _room(after) >= _room(before)
    if before.base in ("character varying", "bit varying") or before.base.startswith(_TIMES):
        return not after.sizes or (bool(before.sizes) and after.sizes[0] >= before.sizes[0])
    return False
