# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal that stays readable while the database is away.

Each process of the CRM tries to reconnect several times a second and has
threads that only listen; left alone, an outage of a minute writes thousands of
lines, most of them tracebacks that say the same.
"""

from __future__ import annotations

import logging
import threading
import time
import typing as t

import psycopg

# One line of a kind in this many seconds.
INTERVAL = 30.0
POOL_LOGGER = "psycopg.pool"
# They log the end of their connection as a crash; the next request starts
# them anew.
LISTENERS = ("trytond.cache", "trytond.bus")


class QuietFilter(logging.Filter):
    """Lets one record of a kind through in INTERVAL seconds, with a count of the others."""

    def __init__(self, interval: float = INTERVAL, clock: t.Callable[[], float] = time.monotonic):
        super().__init__()
        self._interval, self._clock = interval, clock
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        key, now = (str(record.msg), record.levelno), self._clock()
        with self._lock:
            last, held = self._seen.get(key, (None, 0))
            if last is not None and now - last < self._interval:
                self._seen[key] = (last, held + 1)
                return False
            self._seen[key] = (now, 0)
        if held:
            record.msg = f"{record.msg} (and {held} more like it)"
        return True


class TerseFilter(logging.Filter):
    """Says in one line that a connection was lost, where a traceback would say no more."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, psycopg.OperationalError):
            record.msg = f"{record.getMessage()}: {' '.join(str(error).split())}"
            record.args, record.exc_info, record.exc_text = (), None, None
        return True


def _once(logger: logging.Logger, kind: type[logging.Filter]) -> None:
    if not any(isinstance(item, kind) for item in logger.filters):
        logger.addFilter(kind())


def install() -> None:
    """Calm the journal; calling it again changes nothing."""
    _once(logging.getLogger(POOL_LOGGER), QuietFilter)
    for name in LISTENERS:
        _once(logging.getLogger(name), TerseFilter)
    if not getattr(threading.excepthook, "crm_platform", False):
        threading.excepthook = _quiet_hook(threading.excepthook)


def _quiet_hook(before: t.Callable[[t.Any], t.Any]) -> t.Callable[[t.Any], t.Any]:
    def hook(event: t.Any) -> None:
        # The thread has logged it before it raised it.
        if not issubclass(event.exc_type, psycopg.OperationalError):
            before(event)

    hook.crm_platform = True  # type: ignore[attr-defined]
    return hook
