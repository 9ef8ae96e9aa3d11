# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin backup_run: a long run is begun once, followed to its end, and shown."""

from __future__ import annotations

import types

import pytest
from ansible_collections.crm.platform.plugins.action import backup_run


@pytest.fixture
def acted(monkeypatch):
    """acted(options, answers, check_mode): (result, what the module was called with, lines shown)"""

    def act(options, answers, check_mode=False):
        calls, shown, answers = [], [], list(answers)

        def execute(module_args, task_vars, wrap_async=False):
            calls.append(module_args)
            return answers.pop(0)

        plugin = backup_run.ActionModule.__new__(backup_run.ActionModule)
        plugin._task = types.SimpleNamespace(args=options, check_mode=check_mode, async_val=0)
        plugin._execute_module = execute
        monkeypatch.setattr(backup_run.ActionBase, "run", lambda self, tmp=None, task_vars=None: {})
        monkeypatch.setattr(backup_run.time, "sleep", lambda seconds: None)
        monkeypatch.setattr(backup_run.display, "display", shown.append)
        return plugin.run(None, {"inventory_hostname": "db"}), calls, shown

    return act


def test_a_long_run_is_followed_to_its_end(acted):
    running = {"unit": "u"}
    later = {"unit": "u", "cursor": "x"}
    result, calls, shown = acted(
        {"action": "backup", "type": "full"},
        [
            {"running": running},
            {"running": later, "lines": ["full backup of the database"]},
            {"changed": True, "run": {"ok": True}, "lines": ["done"]},
        ],
    )
    assert result == {"changed": True, "run": {"ok": True}}
    assert [call.get("follow") for call in calls] == [None, running, later]
    assert all(call["wait"] is False and call["type"] == "full" for call in calls)
    assert [line.strip() for line in shown] == ["db: full backup of the database", "db: done"]


def test_a_run_that_fails_fails_the_task(acted):
    result, dummy, dummy = acted({"action": "drill"}, [{"running": {"unit": "u"}}, {"failed": True, "msg": "the drill failed: rows differ"}])
    assert result["failed"] and result["msg"] == "the drill failed: rows differ"


@pytest.mark.parametrize(
    ("options", "check_mode"), [({"action": "setup"}, False), ({"action": "backup"}, True), ({"action": "hand_out", "client": "a"}, False)]
)
def test_anything_else_is_the_module_itself(acted, options, check_mode):
    result, calls, shown = acted(options, [{"changed": False}], check_mode)
    assert (result, calls, shown) == ({"changed": False}, [options], [])
