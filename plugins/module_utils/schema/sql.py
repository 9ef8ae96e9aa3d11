# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as SQL. Every name is quoted here; types and expressions come in that lexer.check_* has let pass."""

from __future__ import annotations

import typing as t

from ..postgres import identifier, literal
from . import catalog, lexer, model

SERIALS = {"smallserial": "smallint", "serial": "integer", "bigserial": "bigint", "serial2": "smallint", "serial4": "integer", "serial8": "bigint"}


def names(columns: t.Iterable[str]) -> str:
    return ", ".join(identifier(column) for column in columns)


def column(wanted: model.Column) -> str:
    """As it stands in CREATE TABLE and ADD COLUMN."""
    words = [identifier(wanted.name), wanted.type]
    given, generated = wanted.written or (wanted.default, wanted.generated)
    if wanted.serial:
        # Read back from a live schema: the type is the number's by then.
        words[1] = next((serial for serial, number in SERIALS.items() if number == wanted.type), wanted.type)
    if wanted.collation:
        words.append(f"COLLATE {identifier(wanted.collation)}")
    if wanted.generated:
        words.append(f"GENERATED ALWAYS AS ({generated}) STORED")
    elif wanted.identity:
        words.append(identity(wanted))
    elif wanted.default:
        words.append(f"DEFAULT {default(given)}")
    if not wanted.nullable:
        words.append("NOT NULL")
    return " ".join(words)


def default(expression: str) -> str:
    """As it stands after DEFAULT, where the grammar takes no operator such as AT TIME ZONE without brackets, and a comma would end it."""
    first, *rest = [token for token in lexer.tokens(expression) if token.kind != lexer.SPACE]
    after = " ".join(token.text for token in rest)
    is_call = bool(first.name) and catalog.bare(after) != after
    return expression if is_call or not rest else f"({expression})"


def identity(wanted: model.Column) -> str:
    kind = f"GENERATED {'ALWAYS' if wanted.identity == model.ALWAYS else 'BY DEFAULT'} AS IDENTITY"
    options = [f"{word} {value}" for word, value in (("START WITH", wanted.start), ("INCREMENT BY", wanted.increment)) if value not in (None, 1)]
    return f"{kind} ({' '.join(options)})" if options else kind


def constraint(wanted: model.Constraint, named: bool = True) -> str:
    """As it stands in CREATE TABLE and after ADD."""
    words = [f"CONSTRAINT {identifier(wanted.name)}"] if named and wanted.name else []
    if wanted.kind == model.PRIMARY:
        words.append(f"PRIMARY KEY ({names(wanted.columns)})")
        words.append(include(wanted))
    elif wanted.kind == model.UNIQUE:
        words.append(f"UNIQUE {'NULLS NOT DISTINCT ' if wanted.nulls_not_distinct else ''}({names(wanted.columns)})")
        words.append(include(wanted))
    elif wanted.kind == model.CHECK:
        words.append(f"CHECK ({wanted.written or wanted.expression}){' NO INHERIT' if wanted.no_inherit else ''}")
    elif wanted.kind == model.EXCLUDE:
        words.append(wanted.text)
    else:
        words.append(f"FOREIGN KEY ({names(wanted.columns)}) REFERENCES {identifier(*wanted.target)} ({names(wanted.target_columns)})")
        words.append("MATCH FULL" if wanted.match_full else "")
        words.append(f"ON DELETE {wanted.on_delete.upper()}" if wanted.on_delete != "no action" else "")
        words.append(f"({names(wanted.delete_columns)})" if wanted.delete_columns else "")
        words.append(f"ON UPDATE {wanted.on_update.upper()}" if wanted.on_update != "no action" else "")
    if wanted.kind != model.EXCLUDE:
        words.append(timing(wanted))
    return " ".join(word for word in words if word)


def include(wanted: model.Constraint | model.Index) -> str:
    return f"INCLUDE ({names(wanted.include)})" if wanted.include else ""


def timing(wanted: model.Constraint) -> str:
    if not wanted.deferrable:
        return ""
    return "DEFERRABLE INITIALLY DEFERRED" if wanted.deferred else "DEFERRABLE"


def table(schema: str, wanted: model.Table) -> str:
    """CREATE TABLE with everything but foreign keys, indexes and comments."""
    kind = "CREATE UNLOGGED TABLE" if wanted.unlogged else "CREATE TABLE"
    own = [constraint(one) for one in wanted.of_kind(model.PRIMARY, model.UNIQUE, model.CHECK, model.EXCLUDE).values()]
    if wanted.partition_of:
        inside = f" ({', '.join(own)})" if own else ""
        text = f"{kind} {identifier(schema, wanted.name)} PARTITION OF {identifier(schema, wanted.partition_of)}{inside} {wanted.bound}"
    else:
        lines = [column(one) for one in wanted.columns.values()] + own
        inside = ",\n".join(f"  {line}" for line in lines)
        text = f"{kind} {identifier(schema, wanted.name)} (\n{inside}\n)" if lines else f"{kind} {identifier(schema, wanted.name)} ()"
    return f"{text} PARTITION BY {wanted.partition_by}" if wanted.partition_by else text


def settings(pairs: t.Iterable[tuple[str, str]]) -> str:
    """As they stand between the brackets of WITH and SET."""
    return ", ".join(f"{identifier(name)} = {literal(value)}" for name, value in pairs)


def replica_identity(given: str) -> str:
    """The action of ALTER TABLE for what model.Table has of it."""
    return f"REPLICA IDENTITY {given.upper() if given in ('default', 'full', 'nothing') else f'USING INDEX {identifier(given)}'}"


def alter(schema: str, name: str, action: str) -> str:
    return f"ALTER TABLE {identifier(schema, name)} {action}"


def index(schema: str, table_name: str, wanted: model.Index, concurrently: bool = False, only: bool = False, name: str = "") -> str:
    keys, where = wanted.written or (wanted.keys, wanted.where)
    words = [
        "CREATE UNIQUE INDEX" if wanted.unique else "CREATE INDEX",
        "CONCURRENTLY" if concurrently else "",
        identifier(name or wanted.name),
        f"ON {'ONLY ' if only else ''}{identifier(schema, table_name)}",
        f"USING {identifier(wanted.method)}",
        f"({', '.join(keys)})",
        include(wanted),
        "NULLS NOT DISTINCT" if wanted.nulls_not_distinct else "",
        f"WITH ({settings(wanted.storage)})" if wanted.storage else "",
        f"WHERE {where}" if where else "",
    ]
    return " ".join(word for word in words if word)


def comment(kind: str, name: str, text: t.Optional[str]) -> str:
    """``name`` is quoted already."""
    return f"COMMENT ON {kind} {name} IS {literal(text) if text else 'NULL'}"


def enum(schema: str, wanted: model.Enum) -> str:
    return f"CREATE TYPE {identifier(schema, wanted.name)} AS ENUM ({', '.join(literal(value) for value in wanted.values)})"


def view(schema: str, wanted: model.View, replace: bool = False) -> str:
    given = wanted.options_over(())
    options = f" WITH ({settings(given)})" if given else ""
    return f"CREATE {'OR REPLACE ' if replace else ''}VIEW {identifier(schema, wanted.name)}{options} AS {wanted.written or wanted.query}"
