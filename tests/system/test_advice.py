# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is advised for a deployed server, as a user asks for it."""

from __future__ import annotations

import json

import yaml

PLAYBOOK = "crm.platform.advise"
WRITTEN = ["Have the directory", "Write the advice"]


def test_advice_is_shown_and_written_and_nothing_else_changes(deployed):
    directory = deployed.directory / "advice"
    shown = deployed.run("--check", playbook=PLAYBOOK)
    assert shown.rc == 0 and not shown.changed and not directory.exists(), shown.failure
    outcome = deployed.run(playbook=PLAYBOOK, advise_directory=str(directory))
    assert outcome.rc == 0 and outcome.changed == WRITTEN, outcome.failure
    told = json.loads((directory / "advice.json").read_text())
    assert not told["problems"] and told["explained"] > 0
    # The role has set what the host's size asks for.
    assert not [one for one in told["advice"] if one["kind"] == "setting"]
    assert yaml.safe_load((directory / "advice.yml").read_text()) == told["declaration"]
    statements = [line for line in (directory / "advice.sql").read_text().splitlines() if line and not line.startswith("--")]
    assert statements == [one["sql"] + ";" for one in told["advice"] if one["sql"] and not one["declaration"]]


def test_a_setting_that_does_not_fit_is_told_as_a_declaration(deployed):
    deployed.platform.sql("ALTER SYSTEM SET work_mem = '64kB'")
    deployed.platform.sql("SELECT pg_reload_conf()")
    try:
        outcome = deployed.run(playbook=PLAYBOOK, advise_areas=["settings"])
    finally:
        deployed.platform.sql("ALTER SYSTEM RESET work_mem")
        deployed.platform.sql("SELECT pg_reload_conf()")
    (found,) = [task["result"]["advice"] for task in outcome.tasks if "advice" in task["result"]]
    assert [list(one["declaration"]["database_settings"]) for one in found] == [["work_mem"]]
