# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's lexical rules, as far as needed to know where a piece of SQL ends.

Users write types, expressions and whole definitions as SQL. Before one is put
into a statement it has to be proven that it cannot leave its place there: no
semicolon, no comment, no bracket of the surrounding statement.
https://www.postgresql.org/docs/current/sql-syntax-lexical.html
"""

from __future__ import annotations

import functools
import re
import typing as t

SPACE, COMMENT, WORD, QUOTED, STRING, NUMBER, SYMBOL = "space", "comment", "word", "quoted", "string", "number", "symbol"
OPENING, CLOSING = {"(": ")", "[": "]"}, {")", "]"}
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\n\r\f\v]+)
  | (?P<comment>--[^\r\n]*|/\*)
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')
  | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*")
  | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
  | (?P<symbol>::|[^'"])
    """,
    re.VERBOSE | re.DOTALL,
)


class SqlError(ValueError):
    """What is wrong with a piece of SQL, and what to do about it."""


class Token(t.NamedTuple):
    """``text`` as written; joined, the texts of all tokens are the input."""

    kind: str
    text: str

    @property
    def name(self) -> str:
        """The name that an identifier stands for; '' for all others."""
        if self.kind == WORD:
            return self.text.lower()
        if self.kind == QUOTED:
            return self.text[1:-1].replace('""', '"')
        return ""


def tokens(sql: str) -> list[Token]:
    """SqlError where a string, name or comment has no end."""
    return list(_tokens(sql))


# The same few defaults, types and columns stand in many tables, and each is looked at more than once.
@functools.lru_cache(maxsize=4096)
def _tokens(sql: str) -> tuple[Token, ...]:
    if "\0" in sql:
        raise SqlError("holds a NUL character; leave it out")
    found: list[Token] = []
    position = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        if not match:
            what = "string" if sql[position] == "'" else "quoted name"
            raise SqlError(f"holds a {what} without an end, from {sql[position:position + 20]!r}; close it")
        kind, text = match.lastgroup or "", match.group()
        if text in ("e", "E") and sql[match.end() : match.end() + 1] == "'":
            # To the server this is one string, whose last quote is escaped: it would go on in what comes after.
            raise SqlError(f"holds a string without an end, from {sql[position:position + 20]!r}; close it")
        if text == "/*":
            text, kind = sql[position : _end_of_comment(sql, position)], COMMENT
        elif kind == "dollar":
            end = sql.find(text, match.end())
            if end < 0:
                raise SqlError(f"holds a string without an end, from {text!r}; close it")
            text, kind = sql[position : end + len(text)], STRING
        elif kind == "escaped":
            kind = STRING
        elif kind == "quoted" and text[0] in "uU":
            raise SqlError(f"holds {text!r}; write the character itself in a quoted name")
        # The server joins strings that only a line break parts, and reads all of them as it read the first: E'' or not.
        if kind == STRING and next((token.kind for token in reversed(found) if token.kind != SPACE), "") == STRING:
            raise SqlError(f"holds two strings in a row, at {text[:20]!r}; join them into one")
        found.append(Token(kind, text))
        position += len(text)
    return tuple(found)


def _end_of_comment(sql: str, start: int) -> int:
    """Where the comment that starts here ends; comments nest."""
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(sql, start):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    raise SqlError("holds a comment without an end; close it with */")


def check_fragment(sql: str) -> list[Token]:
    """The tokens of a piece that cannot leave its place in a statement; SqlError for any other."""
    found = tokens(sql)
    expected: list[str] = []
    for token in found:
        if token.kind == COMMENT:
            raise SqlError("holds a comment; leave it out")
        if token.kind != SYMBOL:
            continue
        if token.text == ";":
            raise SqlError("holds a semicolon; write one expression, without it")
        if token.text in OPENING:
            expected.append(OPENING[token.text])
        elif token.text in CLOSING and (not expected or expected.pop() != token.text):
            raise SqlError(f"closes a bracket {token.text!r} that it did not open; balance its brackets")
    if expected:
        raise SqlError(f"lacks {expected[-1]!r} for a bracket that it opens; balance its brackets")
    if all(token.kind == SPACE for token in found):
        raise SqlError("is empty; write an SQL expression, or leave the option out")
    return found


def check_type(sql: str) -> None:
    """SqlError unless it looks like the name of a type: words, dots, sizes in brackets, array brackets."""
    found = check_fragment(sql)
    strange = [
        token.text for token in found if not (token.kind in (SPACE, WORD, QUOTED, NUMBER) or token.text in ("(", ")", "[", "]", ",", ".", "%"))
    ]
    solid = [token for token in found if token.kind != SPACE]
    if len(split_top(sql)) > 1:
        raise SqlError("is no type (it holds a comma outside of brackets); write one such as text, numeric(10,2) or varchar(100)[]")
    if strange or solid[0].kind not in (WORD, QUOTED):
        raise SqlError(f"is no type (at {(strange or [solid[0].text])[0]!r}); write one such as text, numeric(10,2) or varchar(100)[]")
    # What may follow a type in a column's definition is an option of its own.
    for token in solid:
        if token.kind == WORD and token.name in (
            "not",
            "null",
            "default",
            "primary",
            "unique",
            "references",
            "check",
            "collate",
            "constraint",
            "generated",
            "storage",
            "compression",
        ):
            raise SqlError(f"holds {token.text!r}, which is not part of a type; use the option of that name")


def split_top(sql: str, separator: str = ",") -> list[str]:
    """Split where the separator stands outside of brackets and strings; each part is stripped."""
    parts, part, depth = [], [], 0
    for token in tokens(sql):
        if token.kind == SYMBOL and token.text in OPENING:
            depth += 1
        elif token.kind == SYMBOL and token.text in CLOSING:
            depth -= 1
        if token.kind == SYMBOL and token.text == separator and depth == 0:
            parts.append("".join(part).strip())
            part = []
        else:
            part.append(token.text)
    parts.append("".join(part).strip())
    return parts


def statements(sql: str) -> list[str]:
    """The statements of a script, without its comments and semicolons."""
    found: list[list[str]] = [[]]
    for token in tokens(sql):
        if token.kind == SYMBOL and token.text == ";":
            found.append([])
        else:
            found[-1].append(" " if token.kind == COMMENT else token.text)
    return [text for text in ("".join(part).strip() for part in found) if text]


def names(sql: str) -> set[str]:
    """Every name that stands in it: of columns, functions, types; keywords too."""
    return {token.name for token in tokens(sql) if token.name}


def renamed(sql: str, changes: dict[str, str]) -> str:
    """The text as PostgreSQL prints it after columns were renamed (old -> new).

    A name before a bracket is a function's, one after :: or a dot is not a
    column's of this table.
    """
    if not changes:
        return sql
    found, out = tokens(sql), []
    for number, token in enumerate(found):
        before = next((other.text for other in reversed(found[:number]) if other.kind != SPACE), "")
        after = next((other.text for other in found[number + 1 :] if other.kind != SPACE), "")
        new = changes.get(token.name)
        if new is None or before in ("::", ".") or after == "(":
            out.append(token.text)
        else:
            out.append(new if re.fullmatch(r"[a-z_][a-z0-9_$]*", new) else '"' + new.replace('"', '""') + '"')
    return "".join(out)
