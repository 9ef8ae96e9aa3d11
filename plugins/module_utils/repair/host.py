# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the repairs reach a host: commands, connections to the database that may change it, and the CRM."""

from __future__ import annotations

import re
import subprocess
import time
import typing as t

from .. import nftables, postgres, programs
from ..health.probe import Crm
from .registry import RepairError

try:
    import psycopg2
except ImportError:
    psycopg2 = None

# With \\ and doubled quotes inside; one that does not end goes on to the line's end.
_QUOTED = r"""'(?:[^'\\]|\\.?|'')*'?|"(?:[^"\\]|\\.?|"")*"?"""
# What a log line may hold and nobody else may read.
_SECRETS = (
    # To the last @ before the host, since a password may hold some; the second is for one with a slash.
    (re.compile(r"(://[^\s:/]*):(?:[^\s/?#]*|\S+)@"), r"\1:***@"),
    # The word may be a part of one, as in PGPASSWORD and AWS_SECRET_ACCESS_KEY.
    (
        re.compile(
            r"(?i)((?:pass|secret|token|authorization|(?:api|access|private)[_-]?key)[\w-]{0,64}[\\\"']*\s*[=:]+>?\s*)"
            rf"(?:(?:bearer|basic|digest|session|token)\s+)?(?:{_QUOTED}|[^\s'\"])+"
        ),
        r"\1***",
    ),
    (re.compile(rf"(?i)(identified by|password)\s+(?:E|U&)?(?:{_QUOTED})"), r"\1 ***"),
)


def scrubbed(line: str) -> str:
    """A line of a log, short and without secrets."""
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    return " ".join(line.split())[:240]


class Host:
    """One host in one run.

    :param options: the module's options.
    """

    def __init__(self, options: t.Mapping[str, t.Any]) -> None:
        self.options = options
        self.sessions: dict[str, postgres.Session] = {}
        self.left = 10.0  # seconds for one question to the CRM

    @staticmethod
    def run(argv: t.Sequence[str], data: t.Optional[str] = None, seconds: float = 120) -> tuple[int, str, str]:
        """(exit code, standard output, standard error), as nftables.py and the shaping want their commands run."""
        try:
            done = subprocess.run(
                list(argv),
                input=data if data is not None else "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
                env={**nftables.environment(), **programs.LANGUAGE},
            )
        except FileNotFoundError:
            return 127, "", f"{argv[0]} is not installed"
        except subprocess.TimeoutExpired:
            return 124, "", f"{argv[0]} did not end within {seconds:g} s"
        return done.returncode, done.stdout, done.stderr

    def journal(self, unit: str, lines: int = 4) -> str:
        """The last lines of a unit's journal, in one."""
        dummy, out, dummy = self.run(["journalctl", "--no-pager", "-n", str(lines), "-o", "cat", "-u", unit])
        return " | ".join(scrubbed(line) for line in out.splitlines() if line.strip()) or "its journal is empty"

    # -- the database

    @property
    def has_database(self) -> bool:
        return bool(self.options.get("login_db"))

    def session(self, database: str = "") -> postgres.Session:
        """A connection to this database, or to the CRM's, which ends its statement where this process ends."""
        database = database or self.options["login_db"]
        if database not in self.sessions:
            if psycopg2 is None:
                raise RepairError("Python's psycopg2 is missing: install python3-psycopg2")
            given = postgres.parameters({**self.options, "login_db": database})
            try:
                session = postgres.Session(psycopg2.connect(**{"connect_timeout": 10, **given}))
            except psycopg2.Error as error:
                raise RepairError(
                    f"login_db: no connection to {database}: {postgres.one_line(error)}; `-e repair=restart_services` starts PostgreSQL where it is down"
                ) from None
            if session.value("SELECT pg_is_in_recovery()"):
                raise RepairError(f"login_db: the server of {database} is a replica and cannot be changed; name its primary")
            if session.version >= 14:
                session.settings(client_connection_check_interval="2s")
            self.sessions[database] = session
        return self.sessions[database]

    # -- the CRM

    def crm_complaint(self) -> str:
        """Why the CRM does not answer; '' where it does. Its certificate is not this question's."""
        try:
            status, dummy = Crm(self, self.options["crm"]).request("GET", "/health", verify=False)
        except Exception as error:  # pylint: disable=broad-except  # whatever it is, it is no answer
            return f"{type(error).__name__}: {error}"
        return "" if status == 200 else f"HTTP {status}"

    def wait_for(self, condition: t.Callable[[], bool], seconds: float, pause: float = 0.3) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(pause)
        return True

    def close(self) -> None:
        for session in self.sessions.values():
            session.close()
