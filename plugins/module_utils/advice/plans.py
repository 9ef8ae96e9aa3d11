# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans of statements: which tables are read from end to end for a few rows, and which index would spare that."""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t

from ..postgres import NAME_BYTES, identifier
from ..schema import lexer

EQUAL, RANGE, NULL = "equal", "range", "null"
# Below this share of a table's rows an index is quicker than reading all of it.
SELECTIVE = 0.1
MOST_COLUMNS = 3
# What PostgreSQL assumes of a limit that it does not know, and of a column without statistics.
RANGE_SHARE, UNKNOWN_DISTINCT = 1 / 3, 200.0
# Those have no order, so no btree.
UNORDERED = {"json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "aclitem", "xid"}
FLIPPED = {"=": "=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
FUNCTIONS = ("lower", "upper")


@dataclasses.dataclass(frozen=True)
class Condition:
    """``column OPERATOR something`` in a filter.

    :param function: lower or upper where it is that of the column.
    :param cast: the type to which the column is cast; '' without.
    """

    column: str
    kind: str
    function: str = ""
    cast: str = ""


@dataclasses.dataclass(frozen=True)
class Scan:
    """A table that a plan reads from end to end."""

    schema: str
    table: str
    cost: float
    rows: float
    conditions: tuple[Condition, ...]


@dataclasses.dataclass(frozen=True)
class Column:
    """``distinct`` as in pg_stats: below zero it is a share of the rows; None where the table was never analysed."""

    number: int
    type: str
    distinct: t.Optional[float] = None
    nulls: float = 0.0


@dataclasses.dataclass(frozen=True)
class Table:
    """What the catalog knows of one."""

    oid: int
    schema: str
    name: str
    rows: float
    pages: float
    columns: t.Mapping[str, Column]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An index that might help. ``keys`` as they stand in CREATE INDEX, ``columns`` as (column, function)."""

    schema: str
    table: str
    columns: tuple[tuple[str, str], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"{function}({identifier(name)})" if function else identifier(name) for name, function in self.columns)

    def sql(self, name: str = "", concurrently: bool = False) -> str:
        words = f"CREATE INDEX{' CONCURRENTLY' if concurrently else ''}{' ' + identifier(name) if name else ''}"
        return f"{words} ON {identifier(self.schema, self.table)} USING btree ({', '.join(self.keys)})"

    def name(self, taken: t.Container[str]) -> str:
        """As the platform names its indexes; short enough for PostgreSQL, and not one that is there."""
        plain = "_".join(["idx", self.table, *(f"{name}_{function}" if function else name for name, function in self.columns)])
        if len(plain.encode()) <= NAME_BYTES and plain not in taken:
            return plain
        mark = "_" + hashlib.sha256("\0".join([self.schema, self.table, *self.keys]).encode()).hexdigest()[:8]
        return plain.encode()[: NAME_BYTES - len(mark)].decode(errors="ignore") + mark

    def declaration(self, name: str) -> dict:
        """For customer_schema, which quotes what is a column's name itself."""
        columns = [f"{function}({identifier(column)})" if function else column for column, function in self.columns]
        return {"crm_customer_tables": [{"name": self.table, "indexes": [{"name": name, "columns": columns}]}]}


def explainable(sql: str) -> str:
    """The one statement that EXPLAIN takes; '' for all others: nothing of a stored text may become a second statement."""
    try:
        found = [token for token in lexer.tokens(sql) if token.kind not in (lexer.SPACE, lexer.COMMENT)]
    except lexer.SqlError:
        return ""
    if found and found[-1].text == ";":
        found = found[:-1]
    if not found or found[0].name not in ("select", "with", "update", "delete", "insert") or any(token.text == ";" for token in found):
        return ""
    return sql.strip().rstrip("; \n")


def parameters(sql: str) -> int:
    """The highest n of $n."""
    found = lexer.tokens(sql)
    pairs = zip(found, found[1:])
    return max((int(after.text) for token, after in pairs if token.text == "$" and after.text.isdigit()), default=0)


def nodes(plan: t.Mapping[str, t.Any]) -> t.Iterator[t.Mapping[str, t.Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def scans(plan: t.Mapping[str, t.Any]) -> list[Scan]:
    """Of EXPLAIN (VERBOSE, FORMAT JSON)'s plan; VERBOSE names schemas, and each column with its table's alias."""
    found = []
    for node in nodes(plan):
        if node["Node Type"] == "Seq Scan" and node.get("Filter"):
            conditions = tuple(filtered(node["Filter"], node["Alias"]))
            if conditions:
                found.append(Scan(node["Schema"], node["Relation Name"], node["Total Cost"], node["Plan Rows"], conditions))
    return found


def uses(plan: t.Mapping[str, t.Any], index: str) -> bool:
    return any(node.get("Index Name") == index for node in nodes(plan))


# -- filters, as the server prints them


def filtered(text: str, alias: str) -> t.Iterator[Condition]:
    """The conditions of a filter that an index can serve; what is not understood is left out."""
    try:
        words = [token for token in lexer.tokens(text) if token.kind != lexer.SPACE]
    except lexer.SqlError:
        return
    for part in _conjuncts(words):
        found = _condition(part, alias)
        if found is not None:
            yield found


def _bare(words: list) -> list:
    """Without the brackets around all of it."""
    while len(words) > 1 and words[0].text == "(" and _closing(words, 0) == len(words) - 1:
        words = words[1:-1]
    return words


def _closing(words: list, start: int) -> int:
    depth = 0
    for number in range(start, len(words)):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(words[number].text, 0)
        if depth == 0:
            return number
    return len(words)


def _top(words: list) -> t.Iterator[tuple[int, t.Any]]:
    """(place, token) of those outside of brackets."""
    place = 0
    while place < len(words):
        yield place, words[place]
        place = _closing(words, place) + 1 if words[place].text in ("(", "[") else place + 1


def _conjuncts(words: list) -> list[list]:
    words = _bare(words)
    cuts = [place for place, token in _top(words) if token.kind == lexer.WORD and token.name == "and"]
    if not cuts:
        return [words]
    parts = [words[first + 1 : last] for first, last in zip([-1, *cuts], [*cuts, len(words)])]
    return [one for part in parts for one in _conjuncts(part)]


def _condition(words: list, alias: str) -> t.Optional[Condition]:
    words = _bare(words)
    if len(words) > 2 and [token.name for token in words[-2:]] == ["is", "null"]:
        return _column(words[:-2], alias, NULL)
    signs = [place for place, token in _top(words) if token.kind == lexer.SYMBOL and token.text in "<>=!~+-*/%^&|#@`?"]
    if not signs:
        return None
    first = last = signs[0]
    while last + 1 in signs:
        last += 1
    operator, left, right = "".join(token.text for token in words[first : last + 1]), words[:first], words[last + 1 :]
    if operator not in FLIPPED or not left or not right:
        return None
    if not _mentions(right, alias):
        if right[0].name in ("any", "all"):
            return _column(left, alias, EQUAL) if operator == "=" and right[0].name == "any" else None
        return _column(left, alias, EQUAL if operator == "=" else RANGE)
    if not _mentions(left, alias):
        return _column(right, alias, EQUAL if operator == "=" else RANGE)
    return None


def _mentions(words: list, alias: str) -> bool:
    return any(token.name == alias and after.text == "." for token, after in zip(words, words[1:]))


def _column(words: list, alias: str, kind: str) -> t.Optional[Condition]:
    cast = function = ""
    words = _bare(words)
    places = [place for place, token in _top(words) if token.text == "::"]
    if places:
        cast = " ".join(token.text for token in words[places[0] + 1 :])
        words = _bare(words[: places[0]])
    if (
        len(words) > 3
        and words[0].kind == lexer.WORD
        and words[0].name in FUNCTIONS
        and words[1].text == "("
        and _closing(words, 1) == len(words) - 1
    ):
        if cast:
            return None
        function = words[0].name
        inner = _column(words[2:-1], alias, kind)
        return dataclasses.replace(inner, function=function) if inner and not inner.function else None
    if len(words) == 3 and words[0].name == alias and words[1].text == "." and words[2].name:
        return Condition(words[2].name, kind, function, cast)
    return None


def plain(expression: str) -> list[str]:
    """An expression without brackets and casts to text, to know it again however the server prints it."""
    words = [token.name or token.text for token in lexer.tokens(expression) if token.kind != lexer.SPACE and token.text not in ("(", ")")]
    pairs = zip(words, ["", *words])
    return [word for word, before in pairs if word != "::" and (before, word) != ("::", "text")]


# -- which index


def candidate(scan: Scan, table: Table) -> t.Optional[tuple[Candidate, float]]:
    """(the index for this scan, the share of the rows that it would find); None where reading all rows is as well."""
    usable = {}
    for one in scan.conditions:
        column = table.columns.get(one.column)
        if column is None or column.type in UNORDERED:
            continue
        # The server reads a varchar as text without a change of its value; any other cast is another value.
        if one.cast and (one.cast, column.type) != ("text", "varchar"):
            continue
        key = (one.column, one.function)
        if key not in usable or one.kind != RANGE:
            usable[key] = one
    exact = sorted(((share(one, table), key) for key, one in usable.items() if one.kind != RANGE), key=lambda pair: pair[0])
    ranges = [(RANGE_SHARE, key) for key, one in usable.items() if one.kind == RANGE]
    chosen = (exact[:MOST_COLUMNS] + ranges[:1])[:MOST_COLUMNS] if exact else ranges[:1]
    found = 1.0
    for part, dummy in chosen:
        found *= part
    # The planner knows more than the columns alone where a constant stands in the statement.
    if table.rows > 0 and scan.rows / table.rows < found and len(chosen) == len(scan.conditions):
        found = scan.rows / table.rows
    if not chosen or found > SELECTIVE:
        return None
    return Candidate(scan.schema, scan.table, tuple(key for dummy, key in chosen)), found


def share(one: Condition, table: Table) -> float:
    """Of the table's rows, those that one value selects."""
    column = table.columns[one.column]
    if one.kind == NULL:
        return max(column.nulls, 1 / max(table.rows, 1))
    distinct = column.distinct
    if distinct is None or distinct == 0:
        distinct = UNKNOWN_DISTINCT
    elif distinct < 0:
        distinct = -distinct * table.rows
    return (1 - column.nulls) / max(distinct, 1)


def estimate(scan: Scan, whole: float, rows: float, random_page_cost: float) -> float:
    """The cost of the plan with the index, where nobody can ask the planner: a page for each row, and the way down the tree."""
    after = 4 * random_page_cost + rows * (random_page_cost + 0.02)
    return max(whole - scan.cost + after, after) if after < scan.cost else whole


@dataclasses.dataclass(frozen=True)
class Use:
    """What a candidate does for one statement."""

    statement: str
    before: float
    after: float
    seconds: float
    """Spent in a day, before."""
    measured: bool

    @property
    def gain(self) -> float:
        return self.seconds * (1 - self.after / self.before) if self.before > 0 else 0


def merged(found: t.Mapping[Candidate, list[Use]]) -> dict[Candidate, list[Use]]:
    """An index serves also the statements that want only its first columns."""
    kept: dict[Candidate, list[Use]] = {}
    for one in sorted(found, key=lambda each: -len(each.columns)):
        longer = next(
            (other for other in kept if (other.schema, other.table) == (one.schema, one.table) and other.columns[: len(one.columns)] == one.columns),
            None,
        )
        kept.setdefault(longer or one, []).extend(found[one])
    return kept
