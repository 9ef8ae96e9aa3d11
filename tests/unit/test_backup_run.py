# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A long run is begun once by the module backup_run, followed to its end, and shown by the action plugin of the same name."""

from __future__ import annotations

import functools
import json
import types

import pytest
from ansible_collections.crm.platform.plugins.action import backup_run
from ansible_collections.crm.platform.plugins.modules import backup_run as module_file


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


class Ended(Exception):
    """What the module ended with."""


class Host:
    """Stands for the module and for its host, on which one unit runs as often as it is told to end."""

    def __init__(self, runs, **params):
        self.params = {"follow": None, "wait": True, **params}
        self.runs, self.active, self.calls, self.looks = runs, False, [], 0

    def run_command(self, words):
        self.calls.append(list(words))
        if words[:2] == ["systemctl", "show"]:
            # A run takes two looks.
            self.looks += 1
            if self.active and self.looks % 3 == 0:
                self.end()
            return 0, f"ActiveState={'activating' if self.active else 'inactive'}\nJob=0\n", ""
        if words[:2] == ["systemctl", "start"]:
            self.active = True
        return 0, "", ""

    def end(self):
        self.active = False
        known = json.loads(self.runs.read_text()) if self.runs.exists() else {"backup": {"began": 1000}}
        self.runs.write_text(json.dumps({"backup": {"ok": True, "began": known["backup"]["began"] + 1000, "result": {}}}))

    def exit_json(self, **result):
        raise Ended(result)

    def fail_json(self, **result):
        raise Ended({"failed": True, **result})


@pytest.fixture
def host(tmp_path, monkeypatch):
    """host(option=...), whose clock goes as its runs do."""
    monkeypatch.setattr(module_file, "STATE", str(tmp_path))
    monkeypatch.setattr(module_file.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(module_file.time, "time", lambda: 1000.0)
    return functools.partial(Host, tmp_path / "runs.json")


def starts(one):
    return len([words for words in one.calls if words[:2] == ["systemctl", "start"]])


UNIT = ("backup", "x.service", ["systemctl", "start", "--no-block", "x.service"])


def test_a_run_that_is_asked_for_while_another_goes_on_follows_it(host):
    one = host()
    one.active = True
    with pytest.raises(Ended) as ended:
        module_file.as_unit(one, *UNIT)
    # The first one, which ended with 2000, has begun too early.
    assert ended.value.args[0]["run"]["began"] == 3000 and starts(one) == 1


def test_the_action_is_told_of_it_and_comes_back(host):
    one, follow, seen = host(wait=False), None, []
    one.active = True
    for dummy in range(20):
        one.params["follow"] = follow
        with pytest.raises(Ended) as ended:
            module_file.as_unit(one, *UNIT)
        follow = ended.value.args[0].get("running")
        if follow is None:
            break
        seen.append(follow["waits"])
    assert ended.value.args[0]["run"]["began"] == 3000 and starts(one) == 1
    assert seen == sorted(seen, reverse=True) and set(seen) == {True, False}


def test_a_run_with_nothing_before_it_begins_at_once(host):
    one = host()
    with pytest.raises(Ended) as ended:
        module_file.as_unit(one, *UNIT)
    assert ended.value.args[0]["run"]["began"] == 2000 and starts(one) == 1
