# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action nftables_ruleset: what is asked of the host, in which order, over which connection."""

from __future__ import annotations

import types

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.crm.platform.plugins.action import nftables_ruleset as lib

WAITING = {"changed": True, "steps": ["load"], "waiting": {"token": "t", "unit": "u", "left": 0.05}}


class Connection:
    """Counts how often it was made anew."""

    def __init__(self, transport="ssh"):
        self.transport, self.resets = transport, 0
        self._shell = types.SimpleNamespace(tmpdir=None)

    def reset(self):
        self.resets += 1


@pytest.fixture
def act(monkeypatch):
    """act(answers, ...): the result, the calls, the connection. An answer that is an exception is raised."""

    def run(answers, check=False, transport="ssh", wrap=0, **arguments):
        action = object.__new__(lib.ActionModule)
        task = types.SimpleNamespace(args={"path": "/x", "content": "rules", **arguments}, check_mode=check, async_val=wrap)
        action._task, action._connection, calls = task, Connection(transport), []

        def execute(module_args=None, **_more):
            calls.append(module_args)
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return dict(answer)

        monkeypatch.setattr(lib.ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
        monkeypatch.setattr(action, "_execute_module", execute, raising=False)
        # A clock of its own: nobody waits, and nothing is tried a million times meanwhile.
        clock = [0.0]
        monkeypatch.setattr(lib, "time", types.SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda seconds: clock.append(clock.pop() + seconds)))
        return action.run(task_vars={}), calls, action._connection

    return run


def test_what_changes_nothing_takes_one_call(act):
    result, calls, connection = act([{"changed": False, "steps": []}])
    assert result == {"changed": False, "steps": []} and len(calls) == 1 and connection.resets == 0


def test_a_change_is_confirmed_over_a_new_connection(act):
    result, calls, connection = act([WAITING, {"changed": True, "confirmed": True}])
    assert result == {"changed": True, "steps": ["load"], "confirmed": True}
    assert connection.resets == 1
    assert calls[1] == {"path": "/x", "state": "confirmed", "token": calls[0]["token"], "fresh": True}


def test_over_a_connection_that_no_ruleset_cuts_off_too(act):
    assert act([WAITING, {"confirmed": True}], transport="local")[1][1]["fresh"] is False


def test_it_is_tried_until_the_host_answers(act):
    gone = AnsibleConnectionFailure("gone")
    result, calls, connection = act([WAITING, gone, gone, {"confirmed": True}])
    assert result["confirmed"] and len(calls) == 4 and connection.resets == 3


def test_cut_off(act):
    """The host answers again when it has gone back, and says so."""
    gone = AnsibleConnectionFailure("gone")
    result, dummy, dummy = act([WAITING, gone, {"failed": True, "rolled_back": True, "msg": "taken back"}], confirm_timeout=20)
    assert result["failed"] and result["rolled_back"] and not result["changed"]
    assert "cut the controller off: no new connection within 20 s" in result["msg"] and "\n" not in result["msg"]


@pytest.mark.parametrize("seconds, words", [(12, "the host is slow"), (1, "cut the controller off"), (None, "cut the controller off")])
def test_a_slow_host_is_no_lock_out(act, monkeypatch, seconds, words):
    """What a connection takes with the old rules tells the one from the other."""
    taken_back = {"failed": True, "rolled_back": True, "msg": "taken back"}
    if seconds is not None:
        monkeypatch.setattr(lib.ActionModule, "make_anew", lambda self: lib.time.sleep(seconds))
    answers = [WAITING, taken_back, AnsibleConnectionFailure("gone") if seconds is None else taken_back]
    result, calls, dummy = act(answers, confirm_timeout=20)
    assert result["rolled_back"] and len(calls) == 3
    assert words in result["msg"] and "firewall_confirm_timeout" in result["msg"] and "\n" not in result["msg"]
    assert seconds != 12 or "takes 12 s with the old rules, too; raise confirm_timeout (firewall_confirm_timeout) above 24" in result["msg"]


def test_cut_off_for_good(act):
    result, dummy, dummy = act([WAITING, AnsibleConnectionFailure("gone")])
    assert result["failed"] and "does not answer" in result["msg"] and "rolled_back" not in result, "nobody knows"


def test_what_the_host_refuses_is_passed_on(act):
    result, dummy, dummy = act([WAITING, {"failed": True, "msg": "another change waits"}])
    assert result["failed"] and result["msg"] == "another change waits"


def test_a_lost_answer(act, monkeypatch):
    lost = AnsibleConnectionFailure("lost")
    assert act([lost, {"confirmed": True}])[0] == {"changed": True, "confirmed": True}
    with pytest.raises(AnsibleConnectionFailure):
        act([lost, {"failed": True, "unknown": True, "msg": "no such change"}])
    with pytest.raises(AnsibleConnectionFailure):
        act([lost], confirm_timeout=0)
    monkeypatch.setattr(lib.ActionModule, "seconds", staticmethod(lambda timeout: 0.01 if timeout else 0))
    with pytest.raises(AnsibleConnectionFailure):
        act([lost])


def test_check_mode_and_other_states_are_the_modules_alone(act):
    for more in ({"check": True}, {"state": "absent"}, {"state": "confirmed"}):
        dummy, calls, connection = act([{"changed": True}], **more)
        assert len(calls) == 1 and "token" not in calls[0] and connection.resets == 0


def test_async_cannot_be_confirmed(act):
    with pytest.raises(lib.AnsibleError, match="remove async, or set confirm_timeout to 0"):
        act([{"changed": True}], wrap=10)
    assert act([{"changed": True}], wrap=10, confirm_timeout=0)[0] == {"changed": True}
