# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The customer data model as values: what is declared and what is live are the same classes.

A text is SQL as it stands in a statement, read with the schema in the search
path. What is declared holds the user's words, what is live PostgreSQL's.
"""

from __future__ import annotations

import dataclasses
import typing as t

PRIMARY, UNIQUE, FOREIGN, CHECK, EXCLUDE = "p", "u", "f", "c", "x"
ALWAYS, BY_DEFAULT = "always", "by_default"
ACTIONS = ("no action", "restrict", "cascade", "set null", "set default")


# Options of indexes and views that are switches; PostgreSQL keeps the word that was written.
SWITCHES = ("autosummarize", "buffering", "deduplicate_items", "fastupdate", "security_barrier", "security_invoker")
ON, OFF = ("on", "true", "yes", "1"), ("off", "false", "no", "0")


def storage_value(parameter: str, value: t.Any) -> str:
    """The value of a storage parameter as text; a switch as on or off, in whichever of PostgreSQL's words it is written."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if parameter in SWITCHES:
        return "on" if text.lower() in ON else "off" if text.lower() in OFF else text
    return text


def options_meant(options: t.Iterable) -> dict:
    """{name: value} of a view's options, to be compared: one spelling of each switch, and one that is off is not there."""
    found = {name: storage_value(name, value) for name, value in options}
    return {name: value for name, value in found.items() if not (name in SWITCHES and value == "off")}


@dataclasses.dataclass(frozen=True)
class Column:
    """``collation`` is a name, '' for the type's own; ``comment`` None means: not declared, leave it."""

    name: str
    type: str
    nullable: bool = True
    default: str = ""
    identity: str = ""
    generated: str = ""
    collation: str = ""
    comment: t.Optional[str] = None
    renamed_from: str = ""
    # Name of the sequence that the column owns and takes its default from; '' for none.
    serial: str = ""
    # Options of an identity's sequence; None means: not declared, leave it.
    start: t.Optional[int] = None
    increment: t.Optional[int] = None
    # Live: the default that names the sequence of `serial`.
    serial_default: str = dataclasses.field(default="", compare=False)
    # (default, generated) in the user's words, where these here are PostgreSQL's: what is made is made from them.
    written: tuple = dataclasses.field(default=(), compare=False)


@dataclasses.dataclass(frozen=True)
class Constraint:
    """Primary key, unique, foreign key, check or exclusion; which fields mean something follows from the kind."""

    kind: str
    name: str
    columns: tuple = ()
    expression: str = ""
    target: tuple = ()  # (schema, table) of a foreign key
    target_columns: tuple = ()
    on_delete: str = "no action"
    on_update: str = "no action"
    match_full: bool = False
    deferrable: bool = False
    deferred: bool = False
    no_inherit: bool = False
    nulls_not_distinct: bool = False
    include: tuple = ()  # columns that the index of a key carries
    delete_columns: tuple = ()  # of a foreign key: the only ones that ON DELETE SET NULL or SET DEFAULT sets
    validated: bool = True
    text: str = ""  # of an exclusion constraint
    written: str = dataclasses.field(default="", compare=False)  # the expression in the user's words

    def same(self, other: "Constraint") -> bool:
        """Whether both mean the same, by whatever name, validated or not."""
        return dataclasses.replace(self, name="", validated=True) == dataclasses.replace(other, name="", validated=True)


@dataclasses.dataclass(frozen=True)
class Index:
    """``keys`` as they stand in CREATE INDEX: a name or an expression, with collation, operator class and order."""

    name: str
    keys: tuple
    unique: bool = False
    method: str = "btree"
    where: str = ""
    include: tuple = ()
    storage: tuple = ()  # ((parameter, value), ...), sorted
    nulls_not_distinct: bool = False
    valid: bool = True
    columns: tuple = ()  # live: every column that it depends on
    written: tuple = dataclasses.field(default=(), compare=False)  # (keys, predicate) in the user's words

    def same(self, other: "Index") -> bool:
        """Whether both mean the same, by whatever name, valid or not."""
        return self.meant() == other.meant()

    def meant(self) -> "Index":
        """What is compared: no name, and one spelling of each switch."""
        storage = tuple((name, storage_value(name, value)) for name, value in self.storage)
        return dataclasses.replace(self, name="", valid=True, columns=(), storage=storage)


@dataclasses.dataclass(frozen=True)
class Table:
    """``columns``, ``constraints`` and ``indexes`` are by name, in their order."""

    name: str
    columns: dict = dataclasses.field(default_factory=dict)
    constraints: dict = dataclasses.field(default_factory=dict)
    indexes: dict = dataclasses.field(default_factory=dict)
    partition_by: str = ""
    partition_of: str = ""
    bound: str = ""
    comment: t.Optional[str] = None
    renamed_from: str = ""
    owner: str = ""
    unlogged: bool = False
    # default, full, nothing, or the name of an index; '' means: not declared, leave it.
    replica_identity: str = ""

    @property
    def primary_key(self) -> t.Optional[Constraint]:
        return next((constraint for constraint in self.constraints.values() if constraint.kind == PRIMARY), None)

    def of_kind(self, *kinds: str) -> dict:
        return {name: constraint for name, constraint in self.constraints.items() if constraint.kind in kinds}


@dataclasses.dataclass(frozen=True)
class Enum:
    """An enumerated type; the order of its values is their order."""

    name: str
    values: tuple
    owner: str = ""


@dataclasses.dataclass(frozen=True)
class View:
    """``columns``: ((name, type), ...) as PostgreSQL derives them; empty for a declared one.

    ``options``: ((name, value), ...), sorted; of a declared one '' for the value means: without this option.
    ``whole``: no other option than those may be there, as in a definition.
    """

    name: str
    query: str
    columns: tuple = ()
    owner: str = ""
    options: tuple = ()
    whole: bool = False
    comment: t.Optional[str] = None
    acl: tuple = ()  # ((grantee, privilege, grantable, columns), ...)
    written: str = dataclasses.field(default="", compare=False)  # the query in the user's words

    def options_over(self, live: t.Iterable) -> tuple:
        """The options that it is to have, over those that the live one has."""
        found = {} if self.whole else dict(live)
        for name, value in self.options:
            if value:
                found[name] = value
            else:
                found.pop(name, None)
        return tuple(sorted(found.items()))


@dataclasses.dataclass(frozen=True)
class Schema:
    """Everything of one schema that this collection looks after."""

    name: str
    exists: bool = True
    owner: str = ""
    tables: dict = dataclasses.field(default_factory=dict)
    enums: dict = dataclasses.field(default_factory=dict)
    views: dict = dataclasses.field(default_factory=dict)
    absent: tuple = ()  # declared: names of tables that must not be
    others: dict = dataclasses.field(default_factory=dict)  # live: name -> kind of what is none of these
