# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run playbooks against throw-away hosts and look at what each task said."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import run_tests  # pylint: disable=wrong-import-position
import yaml  # pylint: disable=wrong-import-position


class Outcome(t.NamedTuple):
    """What a run did: exit code, all it printed, the results of its tasks on the one host, and the recap."""

    rc: int
    text: str
    tasks: list
    stats: dict

    @property
    def last(self) -> dict:
        return self.tasks[-1]["result"]

    @property
    def changed(self) -> list[str]:
        """The tasks (and handlers) that changed something or would."""
        return [task["name"] for task in self.tasks if task["result"].get("changed")]

    @property
    def failure(self) -> str:
        """The message of the task that failed, or of the item of its loop that did."""
        failed = [task["result"] for task in self.tasks if task["result"].get("failed") or task["result"].get("unreachable")]
        failed += [item for item in (failed[-1].get("results", []) if failed else []) if item.get("failed")]
        return str(failed[-1].get("msg", "")) if failed else ""


def inventory(*hosts: str, groups: t.Iterable[str] = ("crm_database", "crm_app", "crm_package"), place: str = "", **variables: t.Any) -> dict:
    """Hosts in these groups; `place` is the container of a host that has another name in the inventory."""
    return {
        "all": {
            "vars": {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3", **variables},
            "children": {group: {"hosts": {host: {"ansible_host": place} if place else {} for host in hosts}} for group in groups},
        }
    }


def command(directory: Path, playbook: str | list, hosts: dict, *options: str) -> list[str]:
    """The ansible-playbook call; files for it are written to the directory."""
    (directory / "inventory.yml").write_text(yaml.safe_dump(hosts, allow_unicode=True), encoding="utf-8")
    if isinstance(playbook, list):
        (directory / "play.yml").write_text(yaml.safe_dump(playbook, allow_unicode=True, sort_keys=False), encoding="utf-8")
        playbook = str(directory / "play.yml")
    return [run_tests.script("ansible-playbook"), "-i", str(directory / "inventory.yml"), playbook, *options]


def environment(directory: Path, collections: Path | None = None) -> dict[str, str]:
    """Structured results on standard output; the collection from the checkout, or installed in a directory."""
    extra = {"ANSIBLE_COLLECTIONS_PATH": str(collections)} if collections else {}
    return run_tests.environment(
        ANSIBLE_HOME=str(directory / "ansible"),
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
        ANSIBLE_PIPELINING="1",
        ANSIBLE_DEPRECATION_WARNINGS="0",
        # Newer releases leave out of a result what the module was given.
        ANSIBLE_INJECT_INVOCATION="1",
        **extra,
    )


def run(directory: Path, playbook: str | list, hosts: dict, *options: str, timeout: float = 1800, collections: Path | None = None) -> Outcome:
    done = subprocess.run(
        command(directory, playbook, hosts, *options),
        cwd=directory,
        env=environment(directory, collections),
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=timeout,
    )
    return parse(done.returncode, done.stdout, done.stderr)


def parse(rc: int, out: str, err: str) -> Outcome:
    try:
        document = json.loads(out[out.index("{\n") :])
    except ValueError:
        return Outcome(rc, out + err, [], {})
    tasks = [
        {"name": task["task"]["name"], "result": result} for play in document["plays"] for task in play["tasks"] for result in task["hosts"].values()
    ]
    return Outcome(rc, out + err, tasks, document["stats"])
