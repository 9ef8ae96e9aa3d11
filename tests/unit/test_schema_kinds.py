# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes of type keep every value."""

from __future__ import annotations

import pytest
from ansible_collections.crm.platform.plugins.module_utils.schema import kinds
from hypothesis import given
from hypothesis import strategies as st

TYPES = st.sampled_from(
    "smallint;integer;bigint;numeric;numeric(10,2);numeric(12,2);numeric(5);text;character varying;character varying(9);character(3);"
    "timestamp(3) without time zone;timestamp without time zone;timestamp with time zone;jsonb;integer[];real;double precision".split(";")
)


@pytest.mark.parametrize(
    ("old", "new", "keeps"),
    [
        ("character varying(80)", "character varying(120)", True),
        ("character varying(120)", "character varying(80)", False),
        ("character varying(9)", "text", True),
        ("text", "character varying(9)", False),
        ("text", "character varying", True),
        ("numeric(10,2)", "numeric(12,2)", True),
        ("numeric(12,2)", "numeric(10,2)", False),
        ("numeric(10,2)", "numeric(10,4)", False),
        ("numeric(10,2)", "numeric", True),
        ("numeric", "numeric(10,2)", False),
        ("integer", "bigint", True),
        ("bigint", "integer", False),
        ("integer", "numeric(9,0)", False),
        ("integer", "numeric(10,0)", True),
        ("integer", "text", True),
        ("integer", "real", False),
        ("uuid", "text", True),
        ("character(4)", "text", False),
        ("timestamp(3) without time zone", "timestamp(6) without time zone", True),
        ("timestamp(6) without time zone", "timestamp(3) without time zone", False),
        ("timestamp with time zone", "timestamp without time zone", False),
        ("cidr", "inet", True),
        ("inet", "cidr", False),
        ("integer[]", "integer", False),
        ("real", "double precision", True),
        ("jsonb", "text", False),
    ],
)
def test_keeps_values(old, new, keeps):
    assert kinds.keeps_values(old, new) is keeps


@given(TYPES)
def test_a_type_keeps_its_own_values(kind):
    assert kinds.keeps_values(kind, kind)


@given(TYPES, TYPES, TYPES)
def test_what_keeps_values_twice_keeps_them(first, second, third):
    """From one to the next and on is no worse than straight; only text takes what has another spelling by then."""
    if kinds.keeps_values(first, second) and kinds.keeps_values(second, third) and third not in ("text", "character varying"):
        assert kinds.keeps_values(first, third)
