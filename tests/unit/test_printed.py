# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that README, guides, cures and messages print: names, options and quotes are right. tests/system/test_printed.py runs them."""

from __future__ import annotations

import functools
import importlib
import json
import shlex

import printed
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.splitter import parse_kv
from ansible.template import Templar, trust_as_template
from ansible_collections.crm.platform.plugins.module_utils.health import registry

COMMANDS = printed.commands()
PLAYS = [one for one in COMMANDS if one.words.startswith("ansible-playbook ") and " shows " not in one.words and not one.words.endswith("repair -e repair")]
REPAIRS = yaml.safe_load((printed.ROOT / "playbooks/repair.yml").read_text())[-1]["vars"]


@functools.cache
def known() -> set[str]:
    """Variables that a role documents."""
    found = set()
    for path in printed.ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            found |= set(entry.get("options") or {})
    return found


def variables(given: str) -> dict:
    """What -e hands over, as ansible-playbook reads it."""
    if given.startswith("@"):
        return {}
    if given.startswith("{"):
        return json.loads(given)
    return parse_kv(given)


def test_there_is_much_to_look_at():
    assert len(COMMANDS) >= 60 and len(PLAYS) >= 30


@pytest.mark.parametrize("command", PLAYS, ids=lambda command: command.where)
def test_a_playbook_and_its_variables(command):
    words = shlex.split(printed.filled(command.words))
    (name,) = [word.removeprefix("crm.platform.") for word in words if word.startswith("crm.platform.")]
    path = printed.ROOT / "playbooks" / f"{name}.yml"
    assert path.exists(), command
    given = [words[number + 1] for number, word in enumerate(words[:-1]) if word in ("-e", "--extra-vars")]
    for text in given:
        found = variables(text)
        assert "_raw_params" not in found, f"{command}: {found['_raw_params']!r} is outside the quotes"
        unknown = [variable for variable in found if variable not in known() and variable not in path.read_text()]
        assert not unknown, f"{command}: nobody reads {unknown}"


@pytest.mark.parametrize("given", [*REPAIRS["_repair_what"], ",".join(REPAIRS["_repair_what"]), "clear_logs, clear_logs", "a_b\nclear_logs"])
def test_names_of_repairs_as_text(given):
    names = trust_as_template(REPAIRS["_repair_names"])
    found = Templar(loader=DataLoader(), variables={"_repair_given": given}).template(names)
    assert list(found) == given.replace(",", " ").split()


def test_a_cure_names_repairs_that_there_are():
    importlib.import_module("ansible_collections.crm.platform.plugins.modules.health_check")
    named = {check.repair for check in registry.REGISTRY.values() if check.repair}
    assert named and named <= set(REPAIRS["_repair_what"])
    assert registry.REPAIR == "ansible-playbook crm.platform.repair -e repair"
