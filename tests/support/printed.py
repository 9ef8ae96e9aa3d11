# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command line that the project prints: in README and guides, in the cures of the health check, in messages."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Where a command may stand in for what the reader has to fill in.
PLACEHOLDERS = {"NAME": "restart_services", "HOST": "crm-server", "DIRECTORY": "/tmp/printed", "SLOT": "slot", "db1": "crm-server", "app2": "crm-server"}
PROGRAMS = ("ansible-playbook", "make", "crm-platform-backup", "crm-platform-health", "systemctl", "journalctl", "docker")
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "roles/*/README.md")
CODE = (
    "plugins/module_utils/**/*.py", "plugins/modules/*.py", "plugins/action/*.py", "roles/*/files/**/*.py", "roles/*/meta/argument_specs.yml",
    "tools/deploy.py",
)  # fmt: skip


class Command(t.NamedTuple):
    """As it is printed, and where: file and line."""

    words: str
    where: str


def lines() -> t.Iterator[tuple[str, str]]:
    """(text, file:line) of what may hold a command: a line of a block or what stands in backticks; in code a string."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            block = False
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                where = f"{path.relative_to(ROOT)}:{number}"
                if line.lstrip().startswith("```"):
                    block = not block
                elif block:
                    yield line.strip().removeprefix("$ "), where
                else:
                    yield from ((text, where) for text in re.findall(r"`([^`]+)`", line))
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                where = f"{path.relative_to(ROOT)}:{number}"
                found = re.findall(r"`([^`]+)`", line)
                found += re.findall(r"(ansible-playbook crm\.platform\.[^\"'`;,)]+)", line)
                yield from ((text, where) for text in found)


def commands() -> list[Command]:
    """Each command once, at the first place that prints it; comments behind them left out."""
    found: dict[str, Command] = {}
    for text, where in lines():
        words = re.sub(r"\s+#\s.*$", "", text).strip()
        if words.split(" ", 1)[0] in PROGRAMS and " " in words and "{" not in words.split("-e", 1)[0] and not words.endswith("\\"):
            found.setdefault(words, Command(words, where))
    return list(found.values())


def filled(words: str) -> str:
    """With a value for each placeholder."""
    for name, value in PLACEHOLDERS.items():
        words = re.sub(rf"(?<![\w/-]){name}(?![\w-])", value, words)
    return words


if __name__ == "__main__":
    for command in commands():
        print(f"{command.where}: {command.words}")
