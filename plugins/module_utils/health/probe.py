# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the checks look at a host: files, commands, one connection to the database, one to the CRM; each within the check's time."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import select
import socket
import ssl
import subprocess
import time
import typing as t

from .. import postgres, programs
from .registry import Skipped, TimeOver

try:
    import psycopg2.extensions
except ImportError:
    psycopg2 = None


# The options of the modules that look and repair; described in doc_fragments/health.py.
LOGIN = {
    "login_db": {"type": "str", "default": ""},
    "login_unix_socket": {"type": "str", "default": ""},
    "login_host": {"type": "str", "default": ""},
    "login_port": {"type": "int", "default": 5432},
    "login_user": {"type": "str", "default": "postgres"},
    "login_password": {"type": "str", "default": "", "no_log": True},
}
# All that postgres.parameters asks for.
CONNECTION = {
    **{name: option["default"] for name, option in LOGIN.items()},
    **{"ssl_mode": "prefer", "ca_cert": None, "ssl_cert": None, "ssl_key": None, "connect_params": {}},
}


# Load of a core at which an answer that is late says nothing of who answers.
OVERLOAD = 4


def certificate_end(said: str) -> float:
    """Seconds since 1970 at which a certificate ends, of what `openssl x509 -noout -enddate` prints."""
    return float(ssl.cert_time_to_seconds(said.strip().split("=", 1)[1]))


class Host:
    """One host in one run.

    :param options: the module's options.
    :param previous: what the last run kept: {'at': seconds since 1970, 'counters': {...}, 'series': {...}}.
    """

    def __init__(self, options: t.Mapping[str, t.Any], previous: t.Optional[dict] = None) -> None:
        self.options, self.previous = {**CONNECTION, **options}, previous or {}
        self.deadline = time.monotonic() + 5
        self.now = time.time()
        self.counters: dict[str, float] = {}
        self.series: dict[str, float] = {}
        self._kept: dict[str, t.Any] = {}
        self._database: t.Any = None
        self._web: t.Any = None

    @property
    def left(self) -> float:
        """Seconds that the running check still has."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeOver
        return left

    def overload(self) -> str:
        """What the last minute's load says where it explains an answer that is late; '' where it does not."""
        cores = os.cpu_count() or 1
        try:
            value = float(self.read("/proc/loadavg").split()[0])
        except (OSError, ValueError, IndexError):
            return ""
        return f"the load is {value:.1f} on {cores} cores" if value / cores >= OVERLOAD else ""

    def once(self, name: str, look: t.Callable[[], t.Any]) -> t.Any:
        """What several checks need and one asks for."""
        if name not in self._kept:
            self._kept[name] = look()
        return self._kept[name]

    # -- files and commands

    @staticmethod
    def read(path: str) -> str:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def run(self, *words: str, check: bool = True) -> str:
        """Standard output of a command; OSError where it does not succeed, TimeOver where it does not end."""
        return self.status(*words, check=check)[1]

    def status(self, *words: str, check: bool = False) -> tuple[int, str]:
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.left,
                check=False,
                env={"PATH": path, **programs.LANGUAGE},
            )
        except subprocess.TimeoutExpired:
            raise TimeOver from None
        except FileNotFoundError:
            raise Skipped(f"{words[0]} is not installed") from None
        if check and done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[:300]
            raise OSError(f"{words[0]} ended with status {done.returncode}: {said}")
        return done.returncode, done.stdout

    # -- what changed since the last run

    def rate(self, name: str, value: float) -> t.Optional[tuple[float, float]]:
        """(growth since the last run, seconds since then); None without one, after a restart, and where the clock went back."""
        self.counters[name] = value
        before, at = self.previous.get("counters", {}).get(name), self.previous.get("at")
        if before is None or at is None or value < before or self.now <= at:
            return None
        return value - before, self.now - at

    # -- the database

    @property
    def database(self) -> "Database":
        """The connection that all of the checks share; Skipped on hosts without."""
        if not self.options.get("login_db"):
            raise Skipped("there is no database on this host")
        if self._database is None:
            self._database = Database(self)
        return self._database.usable()

    @property
    def database_hangs(self) -> bool:
        """It is here, was asked in this run, and did not answer in time."""
        return self._database is not None and self._database.hangs

    # -- the CRM

    @property
    def crm(self) -> "Crm":
        if not (self.options.get("crm") or {}).get("url"):
            raise Skipped("the CRM does not run on this host")
        if self._web is None:
            self._web = Crm(self, self.options["crm"])
        return self._web

    def close(self) -> None:
        if self._database is not None:
            self._database.close()


class Database:
    """One connection. A server that does not answer costs one check its time; those that follow are told at once."""

    def __init__(self, host: Host) -> None:
        self.host, self.session, self.trouble = host, None, ""
        self.hangs, self._apart = False, False

    def _connect(self) -> postgres.Session:
        given = {**postgres.parameters(self.host.options), "connect_timeout": max(2, int(self.host.left))}
        return postgres.Session(psycopg2.connect(**given))

    def usable(self) -> "Database":
        if self.trouble:
            # The cause was told by the check that met it first.
            raise OSError("not known while PostgreSQL takes no connection; see db_up")
        if self.session is None:
            if psycopg2 is None:
                raise OSError("Python's psycopg2 is missing: install python3-psycopg2")
            psycopg2.extensions.set_wait_callback(self._wait)
            try:
                self.session = self._connect()
                # Less than the check has: the server ends one slow query before we give up the connection that all of them share.
                whole = int(800 * float(self.host.options.get("time_limit") or 5))
                self.session.run(
                    "SET default_transaction_read_only = on;"
                    f" SET statement_timeout = {max(whole, 100)}; SET lock_timeout = {max(min(whole // 2, 1000), 50)}"
                )
            except TimeOver:
                self._gone()
                raise
            except psycopg2.Error as error:
                self.trouble = f"no connection to the database: {postgres.one_line(error)}"
                raise OSError(self.trouble) from None
        return self

    def _gone(self) -> None:
        self.trouble, self.hangs = "PostgreSQL did not answer in time", True

    @contextlib.contextmanager
    def apart(self) -> t.Iterator[postgres.Session]:
        """A connection for what sets its own limits; where it hangs, the other checks go on with theirs."""
        self._apart, session = True, None
        try:
            session = self._connect()
            yield session
        except psycopg2.Error as error:
            raise OSError(postgres.one_line(error)) from None
        finally:
            self._apart = False
            if session is not None:
                session.close()

    def _wait(self, connection: t.Any) -> None:
        """What psycopg2 does while the server has nothing to say: wait, but not for ever."""
        while True:
            state = connection.poll()
            if state == psycopg2.extensions.POLL_OK:
                return
            reading = [connection.fileno()] if state == psycopg2.extensions.POLL_READ else []
            writing = [] if reading else [connection.fileno()]
            try:
                ready = select.select(reading, writing, [], self.host.left)
            except TimeOver:
                ready = ((), (), ())
            if not any(ready):
                if not self._apart:
                    self._gone()
                raise TimeOver

    def rows(self, sql: str, values: t.Optional[t.Sequence] = None) -> list:
        return self.session.rows(sql, values)

    def row(self, sql: str, values: t.Optional[t.Sequence] = None) -> t.Any:
        return self.rows(sql, values)[0]

    def value(self, sql: str, values: t.Optional[t.Sequence] = None) -> t.Any:
        return self.row(sql, values)[0]

    def setting(self, name: str) -> str:
        known = self.host.once("settings", lambda: {row[0]: row[1] for row in self.rows("SELECT name, setting FROM pg_settings")})
        return known[name]

    def has(self, relation: str) -> bool:
        return self.value("SELECT to_regclass(%s) IS NOT NULL", (relation,))

    def close(self) -> None:
        if psycopg2 is not None:
            psycopg2.extensions.set_wait_callback(None)
        if self.session is not None:
            self.session.close()


class _Connection(http.client.HTTPSConnection):
    """HTTPS to this host, under the name that its certificate carries."""

    def __init__(self, name: str, address: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(name, timeout=timeout, context=context)
        self.name, self.address, self.tls = name, address, context

    def connect(self) -> None:
        plain = socket.create_connection((self.address, 443), self.timeout)
        self.sock = self.tls.wrap_socket(plain, server_hostname=self.name)


# Of a password that was refused: when its file was written, and when that was.
REFUSED, REFUSED_AT = "crm_refused_password", "crm_refused_at"
AGAIN_SECONDS = 6 * 3600


class Refused(OSError):
    """The CRM is well enough to refuse a login; `locked` where it lets nobody in by that name for a while."""

    def __init__(self, message: str, locked: bool = False) -> None:
        super().__init__(message)
        self.locked = locked


class HttpError(OSError):
    """An answer other than 200."""

    def __init__(self, method: str, status: int) -> None:
        super().__init__(f"{method}: HTTP {status}")
        self.status = status


class Crm:
    """Tryton through nginx, as a user reaches it.

    :param given: url, address, ca, user, password_file, database.
    """

    def __init__(self, host: Host, given: t.Mapping[str, t.Any]) -> None:
        self.host, self.given = host, given
        self.name = given["url"].split("//", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0]
        self.address = given.get("address") or "127.0.0.1"
        self.authorization = ""
        self.trouble = ""

    def context(self, verify: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.given.get("ca") and os.path.exists(self.given["ca"]):
            context.load_verify_locations(self.given["ca"])
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def request(self, method: str, path: str, body: t.Optional[str] = None, verify: bool = True) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        connection = _Connection(self.name, self.address, self.context(verify), self.host.left)
        try:
            with self._reaching():
                connection.connect()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except socket.timeout:
            raise TimeOver from None
        finally:
            connection.close()

    @contextlib.contextmanager
    def _reaching(self) -> t.Iterator[None]:
        """A web server that does not even greet costs one check its time; those that follow are told at once."""
        if self.trouble:
            raise OSError(self.trouble)
        try:
            yield
        except (socket.timeout, TimeOver):
            self.trouble = f"{self.name} did not answer in time"
            raise TimeOver from None

    def certificate(self) -> bytes:
        """The certificate that the CRM shows, in DER, valid or not."""
        with self._reaching(), socket.create_connection((self.address, 443), self.host.left) as plain:
            with self.context(False).wrap_socket(plain, server_hostname=self.name) as secure:
                return secure.getpeercert(True) or b""

    def call(self, method: str, *parameters: t.Any) -> t.Any:
        body = json.dumps({"id": 1, "method": method, "params": parameters})
        status, answer = self.request("POST", f"/{self.given['database']}/rpc/", body)
        if status != 200:
            raise HttpError(method, status)
        document = json.loads(answer)
        if document.get("error"):
            raise OSError(f"{method}: {str(document['error'])[:200]}")
        return document["result"]

    def login(self) -> None:
        password = self.host.read(self.given["password_file"]).rstrip("\n")
        user = self.given["user"]
        self._spare(user)
        try:
            answer = self.call("common.db.login", user, {"password": password}, "en")
        except HttpError as error:
            if error.status == 401:
                answer = None
            elif error.status == 429:
                said = f"it has locked {user} after several wrong logins (HTTP 429), and lets nobody in by that name for a while"
                raise Refused(said, True) from None
            else:
                raise
        if not answer:
            # Each more would count as an attempt to break in, and lock the user in the end.
            self.host.counters[REFUSED] = self._password_written()
            self.host.counters[REFUSED_AT] = self.host.now
            raise Refused(f"it refuses the login of {user}")
        self.authorization = "Session " + base64.b64encode(f"{user}:{answer[0]}:{answer[1]}".encode()).decode()

    def _password_written(self) -> float:
        try:
            return os.stat(self.given["password_file"]).st_mtime
        except OSError:
            return 0.0

    def _user_changed(self, user: str, since: float) -> bool:
        """Whether somebody has changed the user in the CRM; False where the database is another host's."""
        try:
            sql = "SELECT count(*) FROM public.res_user WHERE login = %s AND write_date > to_timestamp(%s) AT TIME ZONE 'UTC'"
            return bool(self.host.database.value(sql, (user, since)))
        except (OSError, Skipped, TimeOver):
            return False

    def _spare(self, user: str) -> None:
        """Refused without a try, where the same password was refused within hours."""
        known = self.host.previous.get("counters", {})
        at = known.get(REFUSED_AT, 0.0)
        if known.get(REFUSED) == self._password_written() and 0 <= self.host.now - at < AGAIN_SECONDS and not self._user_changed(user, at):
            self.host.counters.update({REFUSED: known[REFUSED], REFUSED_AT: at})
            raise Refused(f"it refused the login of {user} {(self.host.now - at) / 60:.0f} minutes ago, and the password kept here is still the same")

    def logout(self) -> None:
        self.call("common.db.logout")
        self.authorization = ""
