# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lexer keeps every character, and lets no fragment leave its place."""

from __future__ import annotations

import pytest
from ansible_collections.crm.platform.plugins.module_utils.schema import lexer
from hypothesis import given
from hypothesis import strategies as st

PIECES = st.sampled_from(
    [
        "'",
        '"',
        ";",
        "--",
        "/*",
        "*/",
        "(",
        ")",
        "[",
        "]",
        "$$",
        "$a$",
        "E'",
        "\\",
        "a",
        "B",
        " ",
        "\n",
        ",",
        "::",
        "1.5",
        "''",
        '""',
        "é",
        "U&'",
        "%",
        ".",
        "$1",
        "b'0'",
    ]
)
TEXT = st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=30)


@given(TEXT)
def test_tokens_give_the_text_back(text):
    try:
        found = lexer.tokens(text)
    except lexer.SqlError:
        return
    assert "".join(token.text for token in found) == text


@given(TEXT)
def test_a_fragment_cannot_leave_its_place(text):
    """What passes has no semicolon or comment outside of strings, and each of its brackets has its other half."""
    try:
        found = lexer.check_fragment(text)
    except lexer.SqlError:
        return
    assert found and all(token.kind != lexer.COMMENT for token in found)
    outside = "".join(token.text if token.kind not in (lexer.STRING, lexer.QUOTED) else "x" for token in found)
    for word in (";", "--", "/*", "'", '"', "$$"):
        assert word not in outside
    depth = 0
    for letter in outside:
        depth += (letter in "([") - (letter in ")]")
        assert depth >= 0
    assert depth == 0


@given(TEXT, TEXT)
def test_a_fragment_is_the_same_between_brackets(text, after):
    """What follows it in a statement is read as it would be without it."""
    try:
        found = lexer.check_fragment(text)
        rest = lexer.tokens(f" {after}")
    except lexer.SqlError:
        return
    try:
        whole = lexer.tokens(f"({text}) {after}")
    except lexer.SqlError as error:
        assert "two strings in a row" in str(error)
        return
    assert [token.text for token in whole] == ["(", *(token.text for token in found), ")", *(token.text for token in rest)]


@pytest.mark.parametrize(
    "text",
    [
        "'a",
        '"a',
        "a'",
        "a;b",
        "a -- b",
        "a /* b */",
        "(a",
        "a)",
        "[a)",
        "$$a",
        "",
        "  ",
        "E'\\'",
        "e'\\\\\\'",
        "\u00a0E'\\''",
        "a\0b",
        "'a' 'b'",
        "/* /* */",
    ],
)
def test_refused(text):
    with pytest.raises(lexer.SqlError):
        lexer.check_fragment(text)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "'a;b'",
        "'--'",
        '"a;b"',
        "E'\\';'",
        "$$;--$$",
        "$x$ $$ $x$",
        "f(a, (b))",
        "a[1]",
        "'it''s'",
        "a -> 'b'",
        "b'01' || x'1f'",
        "10 % 3",
        "a::text",
    ],
)
def test_accepted(text):
    assert "".join(token.text for token in lexer.check_fragment(text)) == text


@pytest.mark.parametrize(
    "text", ["text", "numeric(10, 2)", "varchar(3)[]", "timestamp(3) with time zone", '"My Type"', "public.st", "int [3]", "double precision"]
)
def test_types(text):
    lexer.check_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "int, b int",
        "int NOT NULL",
        "int DEFAULT 1",
        "text; DROP TABLE x",
        "int CHECK (a > 1)",
        "(int)",
        "'int'",
        "int REFERENCES t",
        'text COLLATE "C"',
        "int = 1",
        "",
    ],
)
def test_no_types(text):
    with pytest.raises(lexer.SqlError):
        lexer.check_type(text)


def test_statements_and_parts():
    assert lexer.statements("a; /* ; */ b -- c;\n; 'd;'; $$;$$") == ["a", "b", "'d;'", "$$;$$"]
    assert lexer.split_top("a, f(b, c), 'd,e', [f, g]") == ["a", "f(b, c)", "'d,e'", "[f, g]"]


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("a > 0 AND b.a > a(1)", {"a": "z"}, "z > 0 AND b.a > a(1)"),
        ("(a)::a", {"a": "Z z"}, '("Z z")::a'),
        ("'a' || \"a\"", {"a": "b"}, "'a' || b"),
        ("a", {}, "a"),
    ],
)
def test_renamed(text, changes, expected):
    assert lexer.renamed(text, changes) == expected
