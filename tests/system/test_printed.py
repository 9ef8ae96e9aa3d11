# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that README, guides, cures and messages print, run as they are printed, each in a shell of its own.

What would destroy runs with --check behind it, `make` with --dry-run. CRM_TEST_PRINTED=all runs each playbook's command; otherwise those
whose playbooks no other test here runs with these options.
"""

from __future__ import annotations

import json
import os
import re
import subprocess

import printed
import pytest
import yaml

# Names of commands in a sentence, and no lines to type.
FRAGMENTS = re.compile(
    r"^(docker kill|systemctl (start|show -p \.\.\.|show --timestamp=us\+utc)|.* -e repair"
    r"|crm-platform-backup (restore|undo|forget|set-aside.*|examine.*))$"
)
# What belongs to a host that keeps the backups of another.
ELSEWHERE = ("crm-platform-backup-files.service",)
# The time that a page made up.
TIME = r"2026-01-31[ T][0-9:]+\+01:00"
# Playbook -> why it is run in check mode only.
CHECKED = {
    "restore": "takes the database back", "restore_undo": "the same", "restore_forget": "removes the database of before", "rebuild": "the same",
    "drain": "one host is the last one", "monitoring_setup": "installs Prometheus", "site": "is run by all other tests",
    "crm_service": "the same", "backup_setup": "the same",
}  # fmt: skip
# What is right to be refused here, and why.
REFUSED = {
    "restore_undo": "no restore is there to be undone",
    "restore_forget": "the same",
    "drain": "the CRM has one host and no routing",
    "rebuild": "there is a database",
    "restore": "a timeline, a second repository, or a time before the first backup",
    "monitoring_setup": "no host monitors",
    "advise": "the directory is not there yet",
    "customer_data": "with purge, as long as its hazards are not allowed",
    "backup_key": "the export that is there has another passphrase",
    "health_check": "a warning fails it where it is told to",
}
QUICK = ("repair=list", "repair=NAME", "advise_directory", "health_check_report_dir", "access_report", "backup_info", "unlock_logins")
COMMANDS = [command for command in printed.commands() if not FRAGMENTS.match(command.words)]
PLAYS = [command for command in COMMANDS if command.words.startswith("ansible-playbook")]
PROGRAMS = ("crm-platform-backup", "crm-platform-health", "systemctl", "journalctl")
ON_HOST = [command for command in COMMANDS if not any(word in command.words for word in ELSEWHERE) and command.words.split()[0] in PROGRAMS]
MADE = [command for command in COMMANDS if command.words.startswith("make")]
ALL = os.environ.get("CRM_TEST_PRINTED") == "all"
SAID = []


@pytest.fixture(scope="module", autouse=True)
def told():
    yield
    print("\n".join([f"{len(SAID)} printed commands were run:", *SAID]))


@pytest.fixture(scope="module")
def shell(saved):
    """A shell as README sets it up, in the checkout."""
    inventory = saved.directory / "printed.yml"
    inventory.write_text(yaml.safe_dump(saved.inventory(), allow_unicode=True), encoding="utf-8")
    (saved.directory / "passphrase.yml").write_text(json.dumps({"backup_key_passphrase": "another phrase"}), encoding="utf-8")

    def run(words):
        script = f". tools/activate; export ANSIBLE_INVENTORY={inventory}; {words}"
        return subprocess.run(["bash", "-c", script], cwd=printed.ROOT, capture_output=True, text=True, timeout=600, check=False)

    return run


@pytest.mark.parametrize("command", MADE, ids=lambda command: command.where)
def test_make(command):
    done = subprocess.run(["bash", "-c", f"{command.words} --dry-run"], cwd=printed.ROOT, capture_output=True, text=True, timeout=60, check=False)
    SAID.append(f"{command.words} --dry-run")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ON_HOST, ids=lambda command: command.where)
def test_on_the_host(saved, command):
    words = printed.filled(command.words)
    # One that follows a journal goes on for ever.
    done = saved.host.run("timeout", "-k", "5", "300" if " -f" not in words else "2", "sh", "-c", words, check=False)
    SAID.append(words)
    # The health command ends as the worst of its checks.
    allowed = (124,) if " -f" in words else (0, 1, 2) if words.startswith("crm-platform-health") else (0,)
    assert done.returncode in allowed, done.stdout + done.stderr
    if words.startswith("systemctl stop"):
        saved.host.run("systemctl", "start", *words.split()[2:], "crm-platform-worker", "crm-platform-cron")
        saved.host.wait_for("the CRM to answer", saved.platform.healthy, 90)


@pytest.mark.parametrize("command", [one for one in PLAYS if ALL or any(word in one.words for word in QUICK)], ids=lambda command: command.where)
def test_a_playbook(saved, shell, command):
    words = printed.filled(command.words).replace("passphrase.yml", str(saved.directory / "passphrase.yml")).replace("inventories/mine", "$ANSIBLE_INVENTORY")
    words = words.replace("/safe/place", str(saved.directory))
    words = re.sub(TIME, saved.host.run("date", "+%Y-%m-%d %H:%M:%S%:z").stdout.strip(), words)
    name = next(word.removeprefix("crm.platform.") for word in words.split() if word.startswith("crm.platform."))
    if name in CHECKED or "allow" in words or "purge" in words:
        words += " --check"
    done = shell(words)
    SAID.append(f"{words} (rc {done.returncode})")
    assert done.returncode == 0 or name in REFUSED, (done.stdout + done.stderr)[-3000:]
    # A refusal is one line of ours, and no trace of a fault in the playbook.
    for trace in ("Traceback", "undefined", "[ERROR]", "caused by"):
        assert trace not in done.stdout + done.stderr, (done.stdout + done.stderr)[-3000:]
