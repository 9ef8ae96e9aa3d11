# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running parts of the package: pool, journal and queue worker, with the database and Tryton played."""

from __future__ import annotations

import logging
import sys
import threading
import types

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "roles/crm_package/files/source"))


class OperationalError(Exception):
    pass


class PoolTimeout(OperationalError):
    pass


class Connection:
    def __init__(self, alive=True):
        self.alive, self.closed = alive, False

    def close(self):
        self.closed = True


class BasePool:
    """psycopg's, as far as its public interface is used."""

    stock: list = []

    def __init__(self, conninfo, *, check, kwargs, timeout, reconnect_timeout, **options):
        self.check, self.kwargs, self.timeout, self.reconnect_timeout, self.options = check, kwargs, timeout, reconnect_timeout, options
        self.asked, self.given_back = [], []

    def getconn(self, timeout=None):
        self.asked.append(timeout)
        got = self.stock.pop(0) if self.stock else None
        if got is None:
            self.clock.now += timeout
            raise PoolTimeout()
        return got

    def putconn(self, connection):
        assert connection.closed
        self.given_back.append(connection)


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def runtime(monkeypatch):
    """The package's modules, on top of a driver that is played."""
    driver = types.ModuleType("psycopg")
    driver.OperationalError = OperationalError
    driver.conninfo = types.ModuleType("psycopg.conninfo")
    driver.conninfo.conninfo_to_dict = lambda text: dict(part.split("=", 1) for part in text.split())
    pools = types.ModuleType("psycopg_pool")
    pools.ConnectionPool, pools.PoolTimeout = BasePool, PoolTimeout
    for name, module in (("psycopg", driver), ("psycopg.conninfo", driver.conninfo), ("psycopg_pool", pools)):
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("pool", "quiet", "worker"):
        monkeypatch.delitem(sys.modules, f"crm_platform.{name}", raising=False)
    import crm_platform

    for name in ("pool", "quiet", "worker"):
        monkeypatch.delattr(crm_platform, name, raising=False)
    from crm_platform import pool, quiet, worker

    clock = Clock()
    monkeypatch.setattr(pool, "time", clock)
    monkeypatch.setattr(BasePool, "clock", clock, raising=False)
    return types.SimpleNamespace(pool=pool, quiet=quiet, worker=worker, clock=clock)


def check(connection):
    if not connection.alive:
        raise OperationalError("gone")


@pytest.fixture
def steady(runtime):
    made = runtime.pool.SteadyPool("host=db", check=check, min_size=1, max_size=8)
    made.stock = []
    return made


def test_dead_connections_cost_no_time(runtime, steady):
    dead, alive = [Connection(alive=False) for dummy in range(20)], Connection()
    steady.stock = [*dead, alive]
    assert steady.getconn() is alive
    assert steady.given_back == dead
    assert runtime.clock.now == Clock.now, "nothing was waited for"


def test_it_asks_again_and_again_while_there_is_none(runtime, steady):
    alive = Connection()
    steady.stock = [None] * 8 + [alive]
    assert steady.getconn() is alive
    assert max(steady.asked) <= 0.5
    assert runtime.clock.now - Clock.now == pytest.approx(8 * runtime.pool.SLICE)


def test_it_gives_up_in_the_end(runtime, steady):
    with pytest.raises(PoolTimeout, match="30.0 s"):
        steady.getconn()
    assert runtime.clock.now - Clock.now == pytest.approx(30.0)


def test_the_callers_time_counts(runtime, steady):
    with pytest.raises(PoolTimeout):
        steady.getconn(timeout=3)
    assert runtime.clock.now - Clock.now == pytest.approx(3)


def test_patience_ends(runtime, steady):
    with runtime.pool.patience(1.5):
        with pytest.raises(PoolTimeout):
            steady.getconn()
    assert runtime.clock.now - Clock.now == pytest.approx(1.5)
    steady.stock = [None] * 10 + [Connection()]
    steady.getconn()


def test_patience_is_this_threads(runtime, steady):
    steady.stock, got = [None] * 10 + [Connection()], []
    with runtime.pool.patience(0.1):
        thread = threading.Thread(target=lambda: got.append(steady.getconn()))
        thread.start()
        thread.join()
    assert got


def test_an_interrupted_check_loses_no_connection(runtime):
    def interrupted(dummy):
        raise KeyboardInterrupt

    steady = runtime.pool.SteadyPool("", check=interrupted)
    steady.stock = [Connection()]
    with pytest.raises(KeyboardInterrupt):
        steady.getconn()
    assert len(steady.given_back) == 1


def test_the_base_neither_checks_nor_waits_long(steady):
    assert steady.check is None
    assert steady.reconnect_timeout <= 0.5


def test_a_silent_peer_is_noticed(runtime):
    kwargs = runtime.pool.SteadyPool("host=db tcp_user_timeout=1").kwargs
    assert kwargs["keepalives_idle"] + kwargs["keepalives_interval"] * kwargs["keepalives_count"] <= 20
    assert "tcp_user_timeout" not in kwargs, "what the URI says counts"


def test_it_insists(runtime):
    left = [OperationalError("one"), OperationalError("two")]

    def step():
        if left:
            raise left.pop()
        return "done"

    assert runtime.pool.insist(step) == "done"


def test_it_insists_three_times(runtime):
    tries = []

    def step():
        tries.append(1)
        raise OperationalError("away")

    with pytest.raises(OperationalError):
        runtime.pool.insist(step)
    assert len(tries) == 3


def record(message, *args, exc=None):
    return logging.LogRecord("x", logging.WARNING, "x", 1, message, args, (type(exc), exc, None) if exc else None)


def test_one_line_of_a_kind(runtime):
    now = [0.0]
    quiet = runtime.quiet.QuietFilter(interval=30, clock=lambda: now[0])
    assert [quiet.filter(record("error %s", number)) for number in range(50)] == [True] + [False] * 49
    assert quiet.filter(record("another"))
    now[0] = 31
    last = record("error %s", 51)
    assert quiet.filter(last)
    assert last.getMessage() == "error 51 (and 49 more like it)"


def test_a_lost_connection_is_no_traceback(runtime):
    lost = record("listener on '%s' crashed", "crm", exc=OperationalError("server\nclosed"))
    assert runtime.quiet.TerseFilter().filter(lost)
    assert (lost.getMessage(), lost.exc_info) == ("listener on 'crm' crashed: server closed", None)


def test_another_crash_stays_one(runtime):
    crash = record("crashed", exc=ValueError("why"))
    assert runtime.quiet.TerseFilter().filter(crash)
    assert crash.exc_info


def test_calming_twice_is_calming_once(runtime, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda event: None)
    for dummy in range(2):
        runtime.quiet.install()
    assert sum(type(item).__name__ == "QuietFilter" for item in logging.getLogger("psycopg.pool").filters) >= 1
    hook = threading.excepthook
    runtime.quiet.install()
    assert threading.excepthook is hook


class Queue:
    """Tryton's: a list of what each pull does."""

    def __init__(self, *steps):
        self.steps, self.ran, self.connection = list(steps), [], Connection()

    def pull(self, name=None):
        step = self.steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step() if callable(step) else step

    def run(self, task_id):
        self.ran.append(task_id)
        return "future"

    def get_notifications(self):
        return self.pull()


@pytest.fixture
def watched(runtime):
    stopper = runtime.worker.Stopper()

    def make(*steps):
        queue = runtime.worker.watchful(Queue, OperationalError, stopper)(*steps)
        return queue

    return types.SimpleNamespace(make=make, stopper=stopper, lost=runtime.worker.ConnectionLost)


@pytest.mark.parametrize("call", ["pull", "get_notifications"])
def test_the_worker_leaves_when_its_connection_is_closed(watched, call):
    queue = watched.make(OperationalError("server closed\nthe connection"))
    queue.connection.close()
    with pytest.raises(watched.lost, match="^server closed the connection$"):
        getattr(queue, call)()


@pytest.mark.parametrize("call", ["pull", "get_notifications"])
def test_an_error_on_a_living_connection_is_trytons_matter(watched, call):
    with pytest.raises(OperationalError):
        getattr(watched.make(OperationalError("deadlock")), call)()


def test_a_stop_waits_until_the_task_that_was_taken_runs(watched):
    def taken():
        watched.stopper.ask()  # the signal comes while the statement is under way
        return 7, None

    queue = watched.make(taken, (8, None))
    assert queue.pull() == (7, None)
    assert queue.run(7) == "future"
    with pytest.raises(SystemExit) as ended:
        queue.pull()
    assert ended.value.code == 0
    assert queue.ran == [7]


def test_a_stop_with_no_task_in_hand_is_obeyed_at_once(watched):
    def nothing():
        watched.stopper.ask()
        return None, None

    with pytest.raises(SystemExit):
        watched.make(nothing).pull()


def test_a_stop_while_waiting_is_obeyed_at_once(watched):
    watched.make((None, 5)).pull()
    with pytest.raises(SystemExit):
        watched.stopper.ask()


def test_a_stop_after_an_error_is_obeyed_at_once(watched):
    queue = watched.make(OperationalError("away"))
    with pytest.raises(OperationalError):
        queue.pull()
    with pytest.raises(SystemExit):
        watched.stopper.ask()
