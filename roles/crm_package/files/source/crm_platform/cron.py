# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scheduler: Tryton's own, with the steady pool, and failures in the journal.

Tryton runs each round in a process of its own and drops what that raises; a
scheduler whose rounds all fail would look well for ever.
"""

from __future__ import annotations

import logging
import signal
import sys
import typing as t
from concurrent.futures.process import BrokenProcessPool

from crm_platform import pool, settings

logger = logging.getLogger("crm_platform.cron")

# "Temporary failure, try again" in sysexits.h.
EXIT_LOST = 75

# Set in main.
_tryton_run: t.Callable[[str], None] = lambda dummy: None  # noqa: E731
_tryton_initializer: t.Callable[..., t.Any] = lambda *dummy: None  # noqa: E731


def run_logged(database: str) -> None:
    try:
        _tryton_run(database)
    except Exception as exc:  # noqa: BLE001 - the next round starts in a minute
        logger.error("scheduled actions of %s failed, next try in a minute: %s", database, " ".join(str(exc).split()))


def _start_child(options: t.Any, worker: bool = True) -> t.Any:
    # A round that is interrupted is rolled back and due again.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return pool.insist(lambda: _tryton_initializer(options, worker))


def _stop(*dummy: t.Any) -> None:
    raise SystemExit(0)


def main(arguments: list[str] | None = None) -> int:
    global _tryton_run, _tryton_initializer
    settings.prepare("crm-platform-cron")
    chosen = settings.read()

    from trytond import commandline, config

    options = commandline.get_parser_cron().parse_args(arguments)
    options.database_names = options.database_names or [chosen.database]
    options.processes = options.processes or chosen.cron_processes
    config.update_etc(options.configfile)
    commandline.config_log(options)
    pool.install(chosen.database_wait)

    import trytond.cron
    from psycopg import OperationalError
    from trytond.pool import Pool

    _tryton_run, _tryton_initializer = trytond.cron.run_cron, trytond.cron.initializer
    trytond.cron.run_cron, trytond.cron.initializer = run_logged, _start_child
    signal.signal(signal.SIGTERM, _stop)
    Pool.start()
    try:
        trytond.cron.run(options)
    except OperationalError as exc:
        logger.error("the database does not answer: %s", " ".join(str(exc).split()))
        return EXIT_LOST
    except BrokenProcessPool:
        logger.error("a process of the scheduler was killed, a fresh one has to start")
        return EXIT_LOST
    return 0


if __name__ == "__main__":
    sys.exit(main())
