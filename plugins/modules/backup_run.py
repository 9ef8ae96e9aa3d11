#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_run
short_description: Back up, restore or prove a host of the platform
version_added: 0.1.0
description:
  - Has the host's own command C(crm-platform-backup) do the work and waits for it.
  - Backups, drills and restores run as units of systemd on the host, so that they come to their end when the
    controller or the connection is lost. Their progress is in the journal of those units.
  - A backup, verification or drill that is asked for while another of its kind is under way begins when that one has ended.
  - Needs the role C(crm.platform.backup) on the host.
options:
  action:
    description:
      - What is done.
      - V(setup) has repository, key, archiving and the first backup. It changes nothing where all of them are there.
      - V(backup) saves the database and the files; V(verify) reads the repositories whole.
      - V(drill) restores the newest backup beside the live database, proves it and removes it.
      - V(restore) brings the database back to an earlier state. V(undo) puts back what a restore has replaced, V(forget) removes that.
      - V(files) brings the files of the host back, or those below O(path).
      - V(exported) remembers that the key was exported.
      - V(hand_out), on the host of a repository, returns the key of the files of O(client). Run the task with C(no_log=true).
    type: str
    required: true
    choices: [setup, backup, verify, drill, restore, undo, forget, files, exported, hand_out]
  base:
    description: With V(setup), have directories and keys only, which the host of a repository needs before its clients come.
    type: bool
    default: false
  client:
    description: With V(hand_out), the inventory name of the host that the key is for.
    type: str
    default: ""
  pki:
    description: With V(hand_out), return the certificates as well that the newest backup of O(client) holds, for a rebuild.
    type: bool
    default: false
  type:
    description: Kind of the backup. What V(incr) and V(diff) build on is made where it is missing.
    type: str
    choices: [full, diff, incr]
    default: incr
  confirm:
    description: For V(restore), the name of the database, as proof that replacing it is meant.
    type: str
    default: ""
  set:
    description: Label of the set to restore from. Without a target the state at the end of that set is restored.
    type: str
    default: ""
  target_time:
    description: The last moment to bring back, with its zone, such as V(2026-01-31 12:30:00+01:00).
    type: str
    default: ""
  target_lsn:
    description: The last position in the log to bring back, such as V(0/3000148).
    type: str
    default: ""
  target_name:
    description: A point in the log that was made with C(pg_create_restore_point).
    type: str
    default: ""
  target_timeline:
    description: Timeline to follow, where that is not the live one, such as into what an earlier restore left behind; V(0) for the live one.
    type: int
    default: 0
  repository:
    description: For V(restore), V(2) takes sets and log from the second repository.
    type: int
    choices: [1, 2]
    default: 1
  safety_backup:
    description: Save what is there before it is replaced.
    type: bool
    default: true
  in_place:
    description: Write over the data directory. Needs no room for a second one, and leaves nothing to put back.
    type: bool
    default: false
  files:
    description: With V(restore), bring attachments back too.
    type: bool
    default: true
  new_cluster:
    description: For a rebuild only. The cluster on the host was just made and is replaced by the one in the repository.
    type: bool
    default: false
  path:
    description: With V(files), only what is below it.
    type: str
    default: ""
  wait:
    description:
      - Wait for the end of a run. The action plugin of the same name sets it to V(false), comes back with O(follow) until the run has ended,
        and shows what the run says meanwhile.
    type: bool
    default: true
  follow:
    description: What RV(running) was, to look at that run again.
    type: dict
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: V(setup) and V(restore) say what they would do.
  diff_mode:
    support: none
  platform:
    platforms: posix
requirements:
  - root
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: A full backup, now
  crm.platform.backup_run:
    action: backup
    type: full

- name: Bring the CRM back to the minute before a mistake
  crm.platform.backup_run:
    action: restore
    confirm: crm
    target_time: "2026-01-31 12:29:59+01:00"
"""

RETURN = r"""
steps:
  description: What V(setup) made, or would make in check mode.
  returned: with O(action=setup)
  type: list
  elements: str
key_exported:
  description: Whether the key of the repository was exported, or is another host's.
  returned: with O(action=setup)
  type: bool
run:
  description: The run with C(ok), C(began), C(ended), C(seconds), C(error) and, with what was made or reached, C(result).
  returned: with O(action=backup), O(action=verify), O(action=drill) and O(action=restore)
  type: dict
running:
  description: A run that is under way, for O(follow).
  returned: with O(wait=false), while the run is under way
  type: dict
lines:
  description: What the run has said since the last look.
  returned: with O(follow)
  type: list
  elements: str
key:
  description: Key of the client's files.
  returned: with O(action=hand_out)
  type: str
files:
  description: The certificates of the client, text by path.
  returned: with O(action=hand_out)
  type: dict
plan:
  description: C(set), C(timeline) and C(options) of a restore.
  returned: in check mode with O(action=restore)
  type: dict
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils.programs import LANGUAGE

COMMAND = "/usr/local/sbin/crm-platform-backup"
STATE = "/var/lib/crm-platform/backup"
SYSLOG = "crm-platform-backup"
RESTORE = "crm-platform-restore.service"


def restore_words(options):
    """The command line of a restore."""
    words = ["restore", "--confirm", options["confirm"]]
    for option, name in (("--set", "set"), ("--time", "target_time"), ("--lsn", "target_lsn"), ("--name", "target_name")):
        if options[name]:
            words.append(f"{option}={options[name]}")
    if options["target_timeline"]:
        words.append(f"--timeline={options['target_timeline']}")
    if options["repository"] != 1:
        words.append(f"--repository={options['repository']}")
    for option, wanted in (
        ("--no-safety-backup", not options["safety_backup"]),
        ("--in-place", options["in_place"]),
        ("--files", options["files"]),
        ("--new-cluster", options["new_cluster"]),
    ):
        if wanted:
            words.append(option)
    return words


def direct(module, *words):
    """Run the command and return what it says; fail with its one line."""
    rc, out, err = module.run_command([COMMAND, *words])
    try:
        said = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        said = {}
    if rc:
        module.fail_json(msg=said.get("error") or " ".join(err.split())[-500:] or f"{COMMAND} {words[0]} ended with {rc}")
    return said


def last_run(kind):
    try:
        with open(os.path.join(STATE, "runs.json"), encoding="utf-8") as file:
            return json.load(file).get(kind, {})
    except (OSError, ValueError):
        return {}


def ask(module, kind, unit, words):
    """What is needed to follow a run; it begins now, or after one of the same unit that is under way, which began before what is to be saved."""
    running = {"kind": kind, "unit": unit, "words": words, "waits": True, "began": int(time.time()), "cursor": ""}
    # A restore is not for later.
    return running if kind != "restore" and active(module, running) else begin(module, running)


def begin(module, running):
    """Start a unit of systemd, which outlives this connection."""
    kind, words = running["kind"], running["words"]
    running = {**running, "waits": False, "began": int(time.time()), "before": last_run(kind).get("began", 0)}
    dummy, said, dummy = module.run_command(["journalctl", "--no-pager", "-n", "0", "--show-cursor", "-t", SYSLOG])
    running["cursor"] = said.partition("-- cursor: ")[2].strip()
    rc, dummy, err = module.run_command(words)
    if rc:
        module.fail_json(msg=f"the {kind} did not begin: {' '.join(err.split())}")
    return running


def active(module, running):
    """Whether the unit is at work, or waits to be."""
    dummy, said, dummy = module.run_command(["systemctl", "show", "--property", "ActiveState,Job", running["unit"]])
    shown = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    return shown.get("ActiveState") in ("active", "activating", "deactivating") or shown.get("Job", "") not in ("", "0")


def progress(module, running):
    """What the run has said since the last look, without the result in its last line."""
    after = ["--after-cursor", running["cursor"]] if running["cursor"] else ["--since", f"@{running['began']}"]
    dummy, said, dummy = module.run_command(["journalctl", "--no-pager", "-o", "cat", "--show-cursor", "-t", SYSLOG, *after])
    text, dummy, cursor = said.partition("-- cursor: ")
    running["cursor"] = cursor.strip() or running["cursor"]
    return [line for line in text.splitlines() if line and not line.startswith(("{", f"{SYSLOG}: ", "-- "))]


def ended(module, running):
    """What the run wrote down; fails with its reason where it did not end well."""
    kind, run = running["kind"], last_run(running["kind"])
    if run.get("began", 0) == running["before"] or run.get("began", 0) < running["began"] - 5:
        run = {}
    if not run.get("ok"):
        dummy, said, dummy = module.run_command(["journalctl", "--no-pager", "-o", "cat", "--since", f"@{running['began'] - 1}", "-t", SYSLOG])
        complaint = [line.split(": ", 1)[1] for line in said.splitlines() if line.startswith(f"{SYSLOG}: ")]
        reason = run.get("error") or (complaint[-1] if complaint else f"it was stopped; `journalctl -t {SYSLOG}` says more")
        module.fail_json(msg=f"the {kind} failed: {reason}", run=run)
    return run


def as_unit(module, kind, unit, words):
    """Have a unit do it; ends the module."""
    options = module.params
    running = options["follow"] or ask(module, kind, unit, words)
    while running["waits"] or active(module, running):
        if running["waits"] and not active(module, running):
            running = begin(module, running)
        if not options["wait"]:
            lines = progress(module, running) if options["follow"] else []
            module.exit_json(changed=True, running=running, lines=lines)
        time.sleep(0.5)
    lines = progress(module, running) if options["follow"] else []
    module.exit_json(changed=True, run=ended(module, running), lines=lines)


def main():
    module = AnsibleModule(
        argument_spec={
            "action": {
                "type": "str",
                "required": True,
                "choices": ["setup", "backup", "verify", "drill", "restore", "undo", "forget", "files", "exported", "hand_out"],
            },
            "base": {"type": "bool", "default": False},
            "client": {"type": "str", "default": ""},
            "pki": {"type": "bool", "default": False},
            "type": {"type": "str", "choices": ["full", "diff", "incr"], "default": "incr"},
            "confirm": {"type": "str", "default": ""},
            "set": {"type": "str", "default": ""},
            "target_time": {"type": "str", "default": ""},
            "target_lsn": {"type": "str", "default": ""},
            "target_name": {"type": "str", "default": ""},
            "target_timeline": {"type": "int", "default": 0},
            "repository": {"type": "int", "choices": [1, 2], "default": 1},
            "safety_backup": {"type": "bool", "default": True},
            "in_place": {"type": "bool", "default": False},
            "files": {"type": "bool", "default": True},
            "new_cluster": {"type": "bool", "default": False},
            "path": {"type": "str", "default": ""},
            "wait": {"type": "bool", "default": True},
            "follow": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = LANGUAGE
    options, action = module.params, module.params["action"]
    if not os.path.exists(COMMAND):
        if module.check_mode and action == "setup":
            module.exit_json(changed=True, steps=["everything: nothing of it is there yet"], key_exported=False)
        module.fail_json(msg=f"{COMMAND} is missing: run the role crm.platform.backup on this host first")
    if action == "setup":
        said = direct(module, "setup", *(["--check"] if module.check_mode else []), *(["--base"] if options["base"] else []))
        module.exit_json(**said)
    if action == "restore" and options["follow"]:
        as_unit(module, "restore", RESTORE, [])
    if action == "restore":
        # What is refused is refused at once, in the words of the command.
        said = direct(module, *restore_words(options), "--check")
        if said["plan"] is None:
            module.exit_json(changed=False, run=last_run("restore"))
        if module.check_mode:
            module.exit_json(changed=True, plan=said["plan"])
        as_unit(module, "restore", RESTORE, [COMMAND, *restore_words(options), "--detach"])
    if action == "hand_out":
        said = direct(module, "hand-out", options["client"], *(["--pki"] if options["pki"] else []))
        module.exit_json(changed=False, **said)
    if module.check_mode:
        module.exit_json(changed=True)
    if action in ("backup", "drill", "verify"):
        unit = f"crm-platform-backup-{options['type'] if action == 'backup' else action}.service"
        as_unit(module, action, unit, ["systemctl", "start", "--no-block", unit])
    words = [action] + (["--path", options["path"]] if action == "files" else [])
    said = direct(module, *words)
    module.exit_json(changed=said.pop("changed", True), **said)


if __name__ == "__main__":
    main()
