# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web application: Tryton's, for one database, with a health address.

gunicorn loads `application`. Before a request reaches Tryton,
  - GET /health is answered here: it reads a row of the CRM through the same
    pool as everybody, and costs no session and no password hash;
  - any other database's name is unknown. Tryton would connect to whatever
    name a stranger writes into the path, and wait for it;
  - a login while the database is away is answered with 503, as every other
    request is, not with 404; and no 503 shows a client what PostgreSQL said,
    which may be a path of the server;
  - a file whose sender's session has ended is answered with 401, at which the
    client asks for the password and sends it again, not with 400;
  - the models are loaded once, by whoever comes first. Tryton's own way to do
    that reads the list of all databases, which this role may not see.
"""

from __future__ import annotations

import logging
import threading
import typing as t

from crm_platform import pool, settings
from crm_platform.gate import answer, named_database, pass_on

settings.prepare("crm-platform-web")
chosen = settings.read()

import trytond.application  # noqa: E402 - reads what prepare() has set
import trytond.cache  # noqa: E402
import trytond.config  # noqa: E402
import trytond.protocols.dispatcher  # noqa: E402
from trytond import __series__, backend  # noqa: E402
from trytond.pool import Pool  # noqa: E402
from trytond.transaction import Transaction  # noqa: E402

logger = logging.getLogger("crm_platform.wsgi")

HEALTH_PATH = "/health"
# Two waits (for a connection, for the answer) that together stay below 3 s.
HEALTH_WAIT = 1.4
HEALTH_QUERY = (
    "SELECT series, (SELECT count(*) FROM ir_module WHERE state = 'activated')"
    " FROM ir_configuration ORDER BY id LIMIT 1"
)


class Application:
    """What gunicorn calls."""

    def __init__(self, inner: t.Callable[..., t.Any], database: str):
        self._inner, self._database = inner, database
        self._lock = threading.Lock()

    def __call__(self, environ: dict, start_response: t.Callable) -> t.Any:
        path = environ.get("PATH_INFO", "")
        if path == HEALTH_PATH:
            return self._health(environ, start_response)
        name = named_database(path)
        if name not in (None, self._database):
            return answer(environ, start_response, "404 Not Found", {"error": "no such database"})
        try:
            self.load()
        except Exception as exc:  # noqa: BLE001 - down, or not set up yet
            logger.error("the models of %s cannot be loaded: %s", self._database, " ".join(str(exc).split()))
            return answer(environ, start_response, "503 Service Unavailable", {"error": "database unavailable"})
        limits = tuple(trytond.config.getint("request", name) for name in ("max_size", "max_size_authenticated"))
        return pass_on(self._inner, environ, start_response, self._database, limits)

    def load(self) -> None:
        """Load the models of the activated modules, unless they are loaded.

        Tryton drops them when another process has activated a module.
        """
        with self._lock:
            if self._loaded():
                return
            with Transaction().start(self._database, 0, readonly=True):
                Pool(self._database).init()

    def _loaded(self) -> bool:
        # Asking for the pool of a database makes an empty one, which counts as
        # one of the list.
        return self._database in Pool.database_list() and any(True for dummy in Pool(self._database).iterobject())

    def preload(self) -> None:
        """Load the models in a process that will fork: leaves no connection and no thread."""
        try:
            self.load()
        finally:
            trytond.cache.Cache.drop(self._database)
            backend.Database(self._database).close()

    def _health(self, environ: dict, start_response: t.Callable) -> t.Any:
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return answer(environ, start_response, "405 Method Not Allowed", {"error": "use GET"})
        status, report = self._examine()
        return answer(environ, start_response, status, report)

    def _examine(self) -> tuple[str, dict[str, t.Any]]:
        report: dict[str, t.Any] = {"status": "unavailable", "database": self._database, "series": None}
        try:
            series, modules = self._read()
        except Exception as exc:  # noqa: BLE001 - the answer is the same
            logger.info("health: %s", " ".join(str(exc).split()))
            return "503 Service Unavailable", report
        report.update(series=series, modules=modules)
        if series != __series__:
            report["status"] = "needs update"
            return "503 Service Unavailable", report
        report["status"] = "ok"
        return "200 OK", report

    def _read(self) -> tuple[str, int]:
        database = backend.Database(self._database)
        with pool.patience(HEALTH_WAIT):
            connection = database.get_connection(readonly=True)
        try:
            connection.execute(f"SET LOCAL statement_timeout = {int(HEALTH_WAIT * 1000)}")
            row = connection.execute(HEALTH_QUERY).fetchone()
            connection.rollback()
        except BaseException:
            # Whatever state it is in, nobody else should get it.
            connection.close()
            raise
        finally:
            database.put_connection(connection)
        if row is None:
            raise LookupError("the database is not set up")
        return row


def list_databases(dummy: t.Any, *more: t.Any) -> list[str]:
    """What the login form offers: the one there is, which it then fills in."""
    if not trytond.config.getboolean("database", "list"):
        trytond.protocols.dispatcher.abort(trytond.protocols.dispatcher.HTTPStatus.FORBIDDEN)
    return [chosen.database]


pool.install(chosen.database_wait)
trytond.protocols.dispatcher.db_list = list_databases
application = Application(trytond.application.app, chosen.database)
