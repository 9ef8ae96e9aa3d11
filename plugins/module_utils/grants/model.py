# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access as values: roles, memberships, rights, policies. What is declared and what is live are of the same kinds.

Rights are PostgreSQL's one-letter forms (``r`` for SELECT), so that an object's
access control list is compared as it is stored. PUBLIC is the grantee ``public``,
which no role can be named.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import typing as t

PUBLIC = "public"
DATABASE, SCHEMA, TABLE, COLUMN, SEQUENCE, FUNCTION, TYPE = "database", "schema", "table", "column", "sequence", "function", "type"
KINDS = (DATABASE, SCHEMA, TABLE, SEQUENCE, FUNCTION, TYPE)
LETTERS = {
    "SELECT": "r",
    "INSERT": "a",
    "UPDATE": "w",
    "DELETE": "d",
    "TRUNCATE": "D",
    "REFERENCES": "x",
    "TRIGGER": "t",
    "MAINTAIN": "m",
    "EXECUTE": "X",
    "USAGE": "U",
    "CREATE": "C",
    "CONNECT": "c",
    "TEMPORARY": "T",
}
NAMES = {letter: name for name, letter in LETTERS.items()}
RIGHTS = {
    DATABASE: "CcT",
    SCHEMA: "CU",
    TABLE: "rawdDxtm",
    COLUMN: "rawx",
    SEQUENCE: "rwU",
    FUNCTION: "X",
    TYPE: "U",
}
MAINTAIN_SINCE = 17
# Memberships are rows of their own, with a grantor and more options, since this version.
GRANTORS_SINCE = 16
# Letters of pg_default_acl, and the word of ALTER DEFAULT PRIVILEGES.
DEFAULT_KINDS = {"r": TABLE, "S": SEQUENCE, "f": FUNCTION, "T": TYPE, "n": SCHEMA}
COMMANDS = {"*": "all", "r": "select", "a": "insert", "w": "update", "d": "delete"}


class AccessError(ValueError):
    """What is wrong with which option of which object, and what to do about it, in one line."""


def rights(kind: str, version: int) -> str:
    """The letters of all rights on such an object."""
    letters = RIGHTS[kind]
    return letters if version >= MAINTAIN_SINCE else letters.replace("m", "")


def names(letters: t.Iterable[str]) -> list[str]:
    """The names of rights, always in the same order."""
    return [name for name, letter in LETTERS.items() if letter in letters]


class Object(t.NamedTuple):
    """Something with an access control list.

    ``schema`` is '' for databases and schemas; ``name`` of a function is its name
    and the types of its arguments as PostgreSQL prints them: ``f(integer, text)``.
    """

    kind: str
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.schema}.{self.name}" if self.schema else f"{self.kind} {self.name}"


class Entry(t.NamedTuple):
    """One aclitem: what ``grantor`` gave ``grantee``; ``options`` is the part that may be handed on."""

    grantee: str
    grantor: str
    rights: frozenset
    options: frozenset


_ITEM = re.compile(r'(?P<grantee>"(?:[^"]|"")*"|[^"=]*)=(?P<rights>[a-zA-Z*]*)/(?P<grantor>"(?:[^"]|"")*"|.*)', re.DOTALL)


@functools.lru_cache(maxsize=None)
def parse_item(text: str) -> Entry:
    """An aclitem as PostgreSQL prints it: ``crm_app=ar*/crm``; without a name before the sign it is PUBLIC's."""
    match = _ITEM.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no aclitem")
    pairs = re.findall(r"([a-zA-Z])(\*?)", match["rights"])
    return Entry(
        _unquoted(match["grantee"]) or PUBLIC,
        _unquoted(match["grantor"]),
        frozenset(letter for letter, dummy in pairs),
        frozenset(letter for letter, star in pairs if star),
    )


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


@dataclasses.dataclass
class Thing:
    """A live object. ``acl`` is what holds: the built-in default where nothing was ever granted."""

    owner: str
    acl: tuple = ()
    relkind: str = ""
    oid: int = 0
    # Made by an extension, which says who may use it, or a template of databases.
    extension: bool = False
    # The table whose column takes its values from this sequence: its owner is the sequence's.
    belongs_to: t.Optional[Object] = None
    enabled: bool = False
    forced: bool = False


@dataclasses.dataclass(frozen=True)
class Role:
    """A live role. ``password`` is the stored verifier, None where there is none."""

    name: str
    superuser: bool = False
    login: bool = False
    inherit: bool = True
    createdb: bool = False
    createrole: bool = False
    replication: bool = False
    bypassrls: bool = False
    connection_limit: int = -1
    valid_until: str = "infinity"
    password: t.Optional[str] = None
    comment: str = ""


ATTRIBUTES = ("login", "inherit", "createdb", "createrole", "replication", "bypassrls", "connection_limit", "valid_until")


class Membership(t.NamedTuple):
    """``member`` is in ``role``; before version 16 all but ``admin`` are the member's own matter."""

    role: str
    member: str
    grantor: str = ""
    admin: bool = False
    inherit: bool = True
    set: bool = True


@dataclasses.dataclass(frozen=True)
class Policy:
    """``using`` and ``check`` are SQL; '' for none. ``trees`` are the live ones' parse trees."""

    name: str
    command: str = "all"
    roles: tuple = (PUBLIC,)
    using: str = ""
    check: str = ""
    permissive: bool = True
    trees: tuple = ("", "")


class Dependency(t.NamedTuple):
    """Why a role cannot simply be dropped. ``database`` is '' for what all databases share."""

    role: str
    database: str
    kind: str  # owner, acl, policy or other
    here: bool
    what: str
    count: int
    catalog: str = ""


@dataclasses.dataclass
class Server:
    """Whom we act as, and what that role may do."""

    version: int
    database: str
    user: str
    session_user: str
    superuser: bool
    createrole: bool
    bootstrap: str = "postgres"
    passwords: bool = True  # may we read the stored verifiers
    iterations: int = 4096
    # Roles whose rights we have: their objects are ours to grant on.
    acts_as: frozenset = frozenset()


@dataclasses.dataclass
class Live:
    """What the catalog says, as far as it was asked."""

    server: Server
    roles: dict = dataclasses.field(default_factory=dict)  # name -> Role
    memberships: set = dataclasses.field(default_factory=set)
    settings: dict = dataclasses.field(default_factory=dict)  # (role, database or '') -> {name: value}
    objects: dict = dataclasses.field(default_factory=dict)  # Object -> Thing
    columns: dict = dataclasses.field(default_factory=dict)  # Object -> {column: acl}
    defaults: dict = dataclasses.field(default_factory=dict)  # (owner, schema or '', letter) -> acl
    policies: dict = dataclasses.field(default_factory=dict)  # Object -> {name: Policy}
    dependencies: list = dataclasses.field(default_factory=list)
    known_settings: dict = dataclasses.field(default_factory=dict)  # lower name -> (name, context)
    # What the server says of words of the declaration: a time, a function's signature, the parse tree of a condition.
    times: dict = dataclasses.field(default_factory=dict)  # text -> (as printed, whether it is over)
    signatures: dict = dataclasses.field(default_factory=dict)  # (schema, text) -> signature
    trees: dict = dataclasses.field(default_factory=dict)  # (Object, text) -> tree


# --- what is declared ---


@dataclasses.dataclass(frozen=True)
class MemberOf:
    """None: not given."""

    role: str
    admin: bool = False
    inherit: t.Optional[bool] = None
    set: t.Optional[bool] = None


@dataclasses.dataclass(frozen=True)
class DeclaredRole:
    """Of the attributes only those given are here; ``member_of`` and ``settings`` are None where not given."""

    name: str
    place: str
    present: bool = True
    comment: t.Optional[str] = None
    password: t.Optional[str] = None
    attributes: dict = dataclasses.field(default_factory=dict, hash=False)
    settings: t.Optional[dict] = dataclasses.field(default=None, hash=False)
    member_of: t.Optional[tuple] = None
    reassign_to: str = ""


@dataclasses.dataclass(frozen=True)
class Target:
    """What a grant or an ownership is about. ``names`` None: all of the schema; ``columns`` are (table, column)."""

    kind: str
    schema: str = ""
    names: t.Optional[tuple] = ()
    columns: tuple = ()


@dataclasses.dataclass(frozen=True)
class DeclaredGrant:
    """``rights`` None: all that there are."""

    place: str
    roles: tuple
    rights: t.Optional[frozenset]
    target: Target
    grant_option: bool = False
    future: bool = False
    owners: tuple = ()


@dataclasses.dataclass(frozen=True)
class DeclaredOwner:
    place: str
    owner: str
    target: Target


@dataclasses.dataclass(frozen=True)
class DeclaredRows:
    """Row security of one table."""

    place: str
    schema: str
    table: str
    enabled: bool
    forced: bool
    policies: dict = dataclasses.field(hash=False)


class Patterns:
    """Names with * and ?; one that starts with ! takes names out again."""

    def __init__(self, patterns: t.Iterable[str] = ()) -> None:
        self.patterns = tuple(patterns)
        self._wanted = [self._compiled(one) for one in self.patterns if not one.startswith("!")]
        self._unwanted = [self._compiled(one[1:]) for one in self.patterns if one.startswith("!")]

    @staticmethod
    def _compiled(pattern: str) -> t.Pattern:
        parts = [".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern]
        return re.compile("".join(parts), re.DOTALL)

    def __contains__(self, name: str) -> bool:
        return any(one.fullmatch(name) for one in self._wanted) and not any(one.fullmatch(name) for one in self._unwanted)

    def __bool__(self) -> bool:
        return bool(self._wanted)


def is_system_role(name: str) -> bool:
    return name.startswith("pg_")


def is_system_schema(name: str) -> bool:
    return name.startswith("pg_") or name == "information_schema"


@dataclasses.dataclass
class Bounds:
    """Inside of them the declaration is the whole truth. PostgreSQL's own schemas and roles are always outside."""

    schemas: Patterns = dataclasses.field(default_factory=Patterns)
    databases: Patterns = dataclasses.field(default_factory=Patterns)
    roles: Patterns = dataclasses.field(default_factory=Patterns)

    def schema(self, name: str) -> bool:
        return not is_system_schema(name) and name in self.schemas

    def database(self, name: str) -> bool:
        return name in self.databases

    def role(self, name: str) -> bool:
        return not is_system_role(name) and name in self.roles

    def object(self, thing: Object) -> bool:
        if thing.kind == DATABASE:
            return self.database(thing.name)
        return self.schema(thing.schema or thing.name)


@dataclasses.dataclass
class Declared:
    """The whole declaration, its shape checked, not yet compared with a server."""

    roles: dict = dataclasses.field(default_factory=dict)  # name -> DeclaredRole
    grants: list = dataclasses.field(default_factory=list)
    ownership: list = dataclasses.field(default_factory=list)
    row_security: list = dataclasses.field(default_factory=list)
    bounds: Bounds = dataclasses.field(default_factory=Bounds)

    def schemas(self) -> set[str]:
        """The schemas that are spoken of."""
        targets = [one.target for one in [*self.grants, *self.ownership]]
        found = {target.schema for target in targets if target.schema}
        found |= {name for target in targets if target.kind == SCHEMA for name in target.names or ()}
        return found | {rows.schema for rows in self.row_security}


class Step(t.NamedTuple):
    """One statement of the plan. ``secret`` is what is executed where ``sql`` hides a verifier."""

    sql: str
    reason: str
    object: str
    hazards: tuple = ()
    secret: str = ""
    # The schema in which a policy's names are looked up.
    path: str = ""
    # (role, schema): in whose name it is done, and where that one has to be able to look.
    by: tuple = ()

    def shown(self) -> dict:
        told = {"sql": self.sql, "reason": self.reason, "object": self.object}
        return {**told, "hazards": list(self.hazards)} if self.hazards else told


@dataclasses.dataclass
class Plan:
    """What to do, in order; ``beyond`` is what is not as declared and not ours to change."""

    steps: list = dataclasses.field(default_factory=list)
    warnings: list = dataclasses.field(default_factory=list)
    beyond: list = dataclasses.field(default_factory=list)
