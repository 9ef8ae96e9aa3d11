# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue worker, which leaves when its connection to the database dies.

Tryton's own worker keeps the one connection on which it listens for ever: when
it breaks, the process goes round without it and works nothing off, while
systemd sees it running. This one finishes the tasks that it runs and ends with
a status of failure, and systemd starts a fresh one. It also finishes its tasks
when it is told to stop.
"""

from __future__ import annotations

import logging
import signal
import sys
import typing as t
from concurrent.futures.process import BrokenProcessPool

from crm_platform import pool, settings

logger = logging.getLogger("crm_platform.worker")

# "Temporary failure, try again" in sysexits.h.
EXIT_LOST = 75


class ConnectionLost(Exception):
    """The connection that hears of new tasks is gone."""


class Stopper:
    """Ends the process on a signal, but never between taking a task and running it."""

    def __init__(self) -> None:
        self._asked = False
        self._held = False

    def ask(self, *dummy: t.Any) -> None:
        self._asked = True
        if not self._held:
            raise SystemExit(0)

    def hold(self) -> None:
        """From here on a task may be taken; obeys what was asked before."""
        if self._asked:
            raise SystemExit(0)
        self._held = True

    def release(self) -> None:
        """No task is in hand any more; the next hold obeys what was asked since."""
        self._held = False


def watchful(base: type, operational_error: type, stopper: Stopper) -> type:
    """Tryton's queue, with a look at the connection and at the stopper."""

    class Queue(base):  # type: ignore[misc, valid-type]
        def pull(self, name: str | None = None) -> t.Any:
            stopper.hold()
            task_id = None
            try:
                task_id, next_ = super().pull(name)
            except operational_error as exc:
                self._leave_when_lost(exc)
                raise
            finally:
                if not task_id:
                    stopper.release()
            # What came while a connection was waited for is obeyed at once,
            # not after the long wait for news that follows.
            if not task_id:
                stopper.hold()
                stopper.release()
            return task_id, next_

        def run(self, task_id: int) -> t.Any:
            try:
                return super().run(task_id)
            finally:
                # The task is in a process of its own now.
                stopper.release()

        def get_notifications(self) -> t.Any:
            try:
                return super().get_notifications()
            except operational_error as exc:
                self._leave_when_lost(exc)
                raise

        def _leave_when_lost(self, exc: Exception) -> None:
            if self.connection.closed:
                raise ConnectionLost(" ".join(str(exc).split())) from None

    return Queue


def _start_child(options: t.Any, worker: bool = True) -> t.Any:
    """A task's process: the parent decides when it ends, not a signal to the group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return pool.insist(lambda: _tryton_initializer(options, worker))


_tryton_initializer: t.Callable[..., t.Any] = lambda *dummy: None  # noqa: E731 - set in main


def main(arguments: list[str] | None = None) -> int:
    global _tryton_initializer
    settings.prepare("crm-platform-worker")
    chosen = settings.read()

    from trytond import commandline, config

    options = commandline.get_parser_worker().parse_args(arguments)
    options.database_names = options.database_names or [chosen.database]
    options.processes = options.processes or chosen.queue_processes
    config.update_etc(options.configfile)
    commandline.config_log(options)
    pool.install(chosen.task_database_wait)

    import trytond.worker
    from psycopg import OperationalError
    from trytond.pool import Pool

    stopper = Stopper()
    signal.signal(signal.SIGTERM, stopper.ask)
    signal.signal(signal.SIGINT, stopper.ask)
    trytond.worker.Queue = watchful(trytond.worker.Queue, OperationalError, stopper)
    _tryton_initializer = trytond.worker.initializer
    trytond.worker.initializer = _start_child
    Pool.start()
    try:
        trytond.worker.work(options)
    except ConnectionLost as exc:
        logger.error("the connection to the database is lost, a fresh worker has to start: %s", exc)
        return EXIT_LOST
    except OperationalError as exc:
        logger.error("the database does not answer: %s", " ".join(str(exc).split()))
        return EXIT_LOST
    except BrokenProcessPool:
        logger.error("a process of a task was killed, a fresh worker has to start")
        return EXIT_LOST
    # Without [queue] worker = True there is nothing to do, which is an error here.
    logger.error("[queue] worker is not set in %s", ", ".join(filter(None, options.configfile)))
    return 1


if __name__ == "__main__":
    sys.exit(main())
