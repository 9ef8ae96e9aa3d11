# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection pool that is back at once when PostgreSQL is back.

psycopg's own pool, told to check what it hands out, sleeps 1, 2, 4, 8 ...
seconds for each dead connection that it finds, and waits as long between two
attempts to reconnect. A process that kept some connections from a busy hour
then stalls for up to a minute after a restart of two seconds. Here the check
is made outside: a dead connection is dropped and the next one is tried in the
same instant; and while there is none, a new attempt is made several times a
second.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import typing as t

import psycopg
import psycopg.conninfo
import psycopg_pool

from crm_platform import quiet

logger = logging.getLogger(__name__)

# A waiting client asks anew this often. Asking is what makes the pool try to
# connect again once it has given up.
SLICE = 0.25
# After a failed attempt the pool tries once more, this much later, and then
# gives up: its own delays, which double, never come to play.
RECONNECT = 0.2

# A peer that vanished without a word (power cut, partition) is noticed in
# some 15 seconds. They mean nothing on a local socket.
TCP_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15000,
}

_impatience = threading.local()


@contextlib.contextmanager
def patience(seconds: float) -> t.Iterator[None]:
    """Let this thread wait no longer than this for a connection."""
    before = getattr(_impatience, "seconds", None)
    _impatience.seconds = seconds
    try:
        yield
    finally:
        _impatience.seconds = before


class SteadyPool(psycopg_pool.ConnectionPool):
    """psycopg's pool without its delays; only its public interface is used."""

    # Seconds that getconn waits; Tryton gives no timeout, install() sets it.
    default_timeout = 30.0

    def __init__(self, conninfo: str = "", *, check: t.Any = None, kwargs: dict | None = None, **options: t.Any):
        given = psycopg.conninfo.conninfo_to_dict(conninfo)
        kwargs = {**{name: value for name, value in TCP_OPTIONS.items() if name not in given}, **(kwargs or {})}
        self._own_check = check
        options.setdefault("timeout", self.default_timeout)
        options["reconnect_timeout"] = RECONNECT
        super().__init__(conninfo, check=None, kwargs=kwargs, **options)

    def getconn(self, timeout: float | None = None) -> t.Any:
        """A working connection, or PoolTimeout when the time is up."""
        if timeout is None:
            timeout = self.timeout
        limit = getattr(_impatience, "seconds", None)
        if limit is not None:
            timeout = min(timeout, limit)
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise psycopg_pool.PoolTimeout(f"no connection to the database in {timeout:.1f} s")
            try:
                connection = super().getconn(timeout=min(SLICE, left))
            except psycopg_pool.PoolTimeout:
                continue
            if self._works(connection):
                return connection

    def _works(self, connection: t.Any) -> bool:
        """Whether it answers; one that does not is given back closed."""
        if self._own_check is None:
            return True
        try:
            self._own_check(connection)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is of no use
            logger.info("dropping a dead connection: %s", exc)
            connection.close()
            self.putconn(connection)
            return False
        except BaseException:
            connection.close()
            self.putconn(connection)
            raise
        return True


def insist(step: t.Callable[[], t.Any]) -> t.Any:
    """Do it; when the connection breaks meanwhile, do it again, three times in all."""
    for dummy in range(2):
        try:
            return step()
        except psycopg.OperationalError as exc:
            logger.warning("again, since the database went away: %s", " ".join(str(exc).split()))
    return step()


def install(timeout: float = 30.0) -> None:
    """Make Tryton use this pool; once a process, before it connects.

    The database that Tryton uses by default gets a pool of another class,
    which keeps no connection and needs no help.
    """
    from trytond.backend.postgresql import database

    SteadyPool.default_timeout = timeout
    database.ConnectionPool = SteadyPool
    quiet.install()
