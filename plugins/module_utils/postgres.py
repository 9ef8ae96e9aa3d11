# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session with PostgreSQL: connecting, quoting, transactions, locks that are waited for a little and asked for again."""

from __future__ import annotations

import contextlib
import random
import re
import time
import traceback
import typing as t
import zlib

try:
    from ansible.module_utils.basic import AnsibleModule, missing_required_lib
except ImportError:
    # On a host without Ansible, where crm-platform-health reads this file, nobody makes modules.
    AnsibleModule = object

    def missing_required_lib(library):
        return f"Python's {library} is missing"


from . import declaration

try:
    import psycopg2
    import psycopg2.extensions
    import psycopg2.extras

    PSYCOPG2_ERROR = None
    DatabaseError = psycopg2.Error
except ImportError:
    # Said by ``connect``, so that the other modules can be read without the driver.
    PSYCOPG2_ERROR = traceback.format_exc()
    DatabaseError = Exception

OLDEST, NEWEST = 13, 18
NAME_BYTES = 63
# Options that are one dictionary with lists in it.
NESTED = ("references", "manage", "primary_key_options")
ADVISORY_CLASS = 0x43524D  # "CRM": the first half of our advisory locks' keys.
# Somebody else was in the way; asking again may succeed.
LOCK_NOT_AVAILABLE, QUERY_CANCELED, DEADLOCK, SERIALIZATION, INTERNAL = "55P03", "57014", "40P01", "40001", "XX000"
UNITS = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "": 1}


class PostgresError(Exception):
    """What is wrong and what to do about it, in one line."""


class Busy(PostgresError):
    """A lock was not to be had in time, as often as it was asked for."""


def check_lists(options: t.Any, lists: dict, error: type, where: str = "") -> None:
    """Refuse a string where a list belongs: Ansible would split it at its commas in silence.

    :param lists: option -> None where its elements may be anything, or the same for the options of its elements. An option that is one
        dictionary, and no list of them, is named in ``NESTED``.
    :param error: what to raise.
    """
    for option, inner in lists.items():
        value = options.get(option) if isinstance(options, dict) else None
        if value is None:
            continue
        place = f"{where}{option}"
        if option in NESTED and isinstance(value, dict):
            check_lists(value, inner, error, f"{place}: ")
            continue
        if not isinstance(value, (list, tuple)):
            shown = "a dictionary" if isinstance(value, dict) else repr(value)
            raise error(f"{place} is {shown}, not a list; write it as [{value if isinstance(value, str) else '...'}]")
        for number, element in enumerate(value):
            if inner is not None and not isinstance(element, dict):
                raise error(f"{place}[{number}] is {element!r}; write it as a dictionary of its options, such as {{name: ...}}")
            if inner is not None:
                name = element.get("name")
                check_lists(element, inner, error, f"{place}[{number}]{f' ({name})' if name else ''}: ")


def duration(given: dict, option: str, error: type) -> int:
    """Milliseconds."""
    try:
        return milliseconds(given[option])
    except ValueError as problem:
        raise error(f"{option}: {problem}") from None


def count(given: dict, option: str, error: type) -> int:
    if given[option] < 0:
        raise error(f"{option} is {given[option]}; write a number from 0 on")
    return given[option]


class Declared(AnsibleModule):
    """A module that can still see what the user wrote, before Ansible made lists of strings."""

    declared: dict = {}

    def _load_params(self):
        super()._load_params()
        self.params = null_named(self.params)
        self.declared = dict(self.params)


def null_named(options: t.Any) -> t.Any:
    """With a key ``null``, which YAML reads as nothing, by a name with which Ansible's complaint about it can be understood."""
    if isinstance(options, list):
        return [null_named(one) for one in options]
    if isinstance(options, dict):
        return {
            "null (which YAML reads as nothing: write nullable)" if key in (None, "None", "null") else key: null_named(value)
            for key, value in options.items()
        }
    return options


def argument_spec() -> dict:
    """The options of doc_fragments/postgres.py."""
    return {
        "login_db": {"type": "str", "required": True, "aliases": ["db"]},
        "login_host": {"type": "str", "default": "", "aliases": ["host"]},
        "login_unix_socket": {"type": "str", "default": "", "aliases": ["unix_socket"]},
        "login_port": {"type": "int", "default": 5432, "aliases": ["port"]},
        "login_user": {"type": "str", "default": "postgres", "aliases": ["login"]},
        "login_password": {"type": "str", "default": "", "no_log": True},
        "ssl_mode": {"type": "str", "default": "prefer", "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"]},
        "ca_cert": {"type": "path", "aliases": ["ssl_rootcert"]},
        "ssl_cert": {"type": "path"},
        "ssl_key": {"type": "path", "no_log": False},
        "connect_params": {"type": "dict", "default": {}},
        "session_role": {"type": "str"},
    }


def parameters(options: dict) -> dict:
    """Module options -> keyword arguments of psycopg2.connect; those that are empty are left to libpq."""
    host = options["login_host"]
    if options["login_unix_socket"] and host in ("", "localhost"):
        host = options["login_unix_socket"]
    named = {
        "dbname": options["login_db"],
        "host": host,
        "port": options["login_port"],
        "user": options["login_user"],
        "password": options["login_password"],
        "sslmode": options["ssl_mode"],
        "sslrootcert": options["ca_cert"],
        "sslcert": options["ssl_cert"],
        "sslkey": options["ssl_key"],
        "application_name": "crm.platform",
    }
    given = {name: value for name, value in named.items() if value not in ("", None)}
    return {**given, **(options["connect_params"] or {})}


def connect(module: AnsibleModule) -> "Session":
    """A session as the module's options ask for it, or the module fails."""
    if PSYCOPG2_ERROR:
        module.fail_json(msg=missing_required_lib("psycopg2"), exception=PSYCOPG2_ERROR)
    options = module.params
    try:
        session = Session(psycopg2.connect(**parameters(options)))
    except psycopg2.Error as error:
        module.fail_json(
            msg=f"cannot connect to the database {options['login_db']} as {options['login_user']}: {one_line(error)}; "
            "check login_db, login_host, login_unix_socket, login_port, login_user and login_password"
        )
    if session.version < OLDEST:
        module.fail_json(msg=f"the server is PostgreSQL {session.version}; {OLDEST} to {NEWEST} are supported: upgrade it")
    if session.version > NEWEST:
        module.warn(f"the server is PostgreSQL {session.version}; this module was tested with {OLDEST} to {NEWEST}")
    if options["session_role"]:
        try:
            session.run(f"SET ROLE {identifier(options['session_role'])}")
        except psycopg2.Error as error:
            module.fail_json(
                msg=f"session_role: {options['login_user']} cannot act as {options['session_role']}: {one_line(error)}; "
                f"name a role that {options['login_user']} is a member of"
            )
    return session


def one_line(error: BaseException) -> str:
    """The server's message, detail and hint, in one line."""
    told = getattr(error, "diag", None)
    parts = [told.message_primary, told.message_detail, told.message_hint] if told is not None else []
    text = ". ".join(part.rstrip(".") for part in parts if part) or str(error)
    return " ".join(text.split())


def identifier(*names: str) -> str:
    """Quoted, and joined by dots: identifier('a', 'b"c') -> "a"."b""c"."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """A string constant, right under any setting of standard_conforming_strings."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def name_problem(name: t.Any) -> str:
    """Why this is no name of a database object; '' where it is one."""
    if not isinstance(name, str) or not name:
        return "is empty: give it a name"
    if "\0" in name:
        return "holds a NUL character: leave it out"
    length = len(name.encode())
    if length > NAME_BYTES:
        return f"has {length} bytes, and PostgreSQL keeps {NAME_BYTES}: shorten it"
    return ""


def milliseconds(text: str) -> int:
    """'3s' or '500ms', as PostgreSQL reads a time; plain numbers are milliseconds. ValueError for others."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(text))
    if not match or match.group(2) not in UNITS:
        raise ValueError(f"{text!r} is no time; write a number with {', '.join(filter(None, UNITS))}, such as 3s")
    return int(float(match.group(1)) * UNITS[match.group(2)])


def backoff(attempt: int) -> float:
    """Seconds to wait before the next attempt: doubling from a quarter of a second to five, half of it by chance."""
    return min(0.25 * 2**attempt, 5) * random.uniform(0.5, 1)


def record(module: AnsibleModule) -> bool:
    """Keep what was declared where the option `record` says; whether that changed a file, or would."""
    try:
        return declaration.keep(module.params["record"], module.params, module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"record: {module.params['record']}: {error.strerror}; the database is as declared, name a file that can be written")
    return False


class Session:
    """One connection. Statements run at once (autocommit) unless inside ``transaction``."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.connection.autocommit = True
        self.version = connection.server_version // 10000
        self.round_trips = 0
        # Quoting relies on the first; the second and third keep what the catalog prints the same for everybody.
        self.run(
            "SET standard_conforming_strings = on; SET quote_all_identifiers = off; SET DateStyle = 'ISO, MDY'; "
            "SET IntervalStyle = 'postgres'; SET client_min_messages = 'warning'; SET extra_float_digits = 1"
        )

    def run(self, sql: str, values: t.Optional[t.Sequence] = None) -> None:
        self.round_trips += 1
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)

    def rows(self, sql: str, values: t.Optional[t.Sequence] = None) -> list:
        """Every row, as tuples that have names."""
        self.round_trips += 1
        with self.connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def value(self, sql: str, values: t.Optional[t.Sequence] = None) -> t.Any:
        """The first column of the first row, None where there is none."""
        rows = self.rows(sql, values)
        return rows[0][0] if rows else None

    def settings(self, local: bool = False, **settings: str) -> None:
        """Set parameters of the server, for the session or the running transaction."""
        chosen = ", ".join("set_config(%s, %s, %s)" for dummy in settings)
        self.run(f"SELECT {chosen}", [word for name, value in settings.items() for word in (name, str(value), local)])

    @contextlib.contextmanager
    def transaction(self, mode: str = "", keep: bool = True) -> t.Iterator[None]:
        """BEGIN and COMMIT, ROLLBACK after an exception or where nothing is to be kept."""
        self.run(f"BEGIN {mode}")
        try:
            yield
        except BaseException:
            with contextlib.suppress(psycopg2.Error):
                self.run("ROLLBACK")
            raise
        self.run("COMMIT" if keep else "ROLLBACK")

    def patiently(self, action: t.Callable[[], t.Any], retries: int, codes: t.Container[str], what: str) -> t.Any:
        """Do it, and again after a pause where one of these errors says that somebody was in the way."""
        for attempt in range(retries + 1):
            try:
                return action()
            except psycopg2.Error as error:
                if error.pgcode not in codes:
                    raise
                if attempt == retries:
                    raise Busy(
                        f"{what}: a lock was not to be had in {retries + 1} attempts ({one_line(error)}); "
                        "run again when less is going on, or raise lock_timeout or lock_retries"
                    ) from error
            time.sleep(backoff(attempt))
        return None

    @contextlib.contextmanager
    def exclusively(self, what: str, patience: float) -> t.Iterator[None]:
        """Hold the advisory lock of this name; PostgresError where another run keeps it longer than this many seconds."""
        key = (ADVISORY_CLASS, zlib.crc32(what.encode()) - 2**31)
        end = time.monotonic() + patience
        while not self.value("SELECT pg_try_advisory_lock(%s, %s)", key):
            if time.monotonic() > end:
                raise Busy(f"another run works on {what} since more than {patience:.0f} s: wait until it has ended, and run again")
            time.sleep(0.2)
        try:
            yield
        finally:
            with contextlib.suppress(psycopg2.Error):
                self.run("SELECT pg_advisory_unlock(%s, %s)", key)

    def close(self) -> None:
        with contextlib.suppress(psycopg2.Error):
            self.connection.close()
