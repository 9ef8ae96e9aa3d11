#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: How the backups of a host stand
version_added: 0.1.0
description:
  - Asks the repositories, PostgreSQL and systemd, and says which backups there are, how far back and forward one can restore,
    how the last runs and the last drill went, and what is wrong.
  - Needs the role C(crm.platform.backup) on the host.
options:
  refresh:
    description:
      - Look at everything now and write the state file. Otherwise the state file is read, which the host's timer
        writes every ten minutes.
    type: bool
    default: true
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: It never changes anything but the state file, which it leaves alone in check mode.
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
- name: How do the backups stand
  crm.platform.backup_info:
  register: my_backups

- name: Go on only where the newest backup is younger than two hours
  ansible.builtin.assert:
    that: my_backups.state.ok and my_backups.state.database.age < 7200
"""

RETURN = r"""
state:
  description: How the backups stand.
  returned: success
  type: dict
  contains:
    ok:
      description: Whether the backups can be relied on today. A key that nobody has exported is a problem, but no reason for V(false).
      type: bool
    mode:
      description: >-
        C(own) where the host keeps its own repository, C(client) where another one does, C(host) for the one that keeps those of others.
      type: str
    written:
      description: When this was found, in seconds since 1970.
      type: int
    problems:
      description: >-
        What is wrong, each with C(check) (C(age), C(archive), C(damaged), C(drill), C(files), C(forged), C(key), C(repository), C(run), C(space),
        C(timer) or C(verify)) and C(message).
      type: list
      elements: dict
    database:
      description: >-
        Of the database, on its host only. C(sets), oldest first, each with C(label), C(type), C(began), C(ended), C(timeline), C(lsn_from),
        C(lsn_to), C(size) and C(repository_size) in bytes and C(damaged); C(age) and C(age_full), in seconds; C(window), the C(from) and C(to)
        between which a target time may lie; C(archive), the C(first) and C(last) segment of the log; C(archiver), PostgreSQL's own figures.
      type: dict
    files:
      description: The number of C(snapshots) of the files and the C(last) one with C(id) and C(time).
      type: dict
    second:
      description: >-
        Where this host writes a second repository, its C(place), its C(sets) as those of C(database), and the number of snapshots of
        the C(files) of each host; else V(null).
      type: dict
    runs:
      description: The last run of each kind, with C(ok), C(began), C(ended), C(seconds), C(error) and C(result).
      type: dict
    drill:
      description: >-
        The C(last) drill and the C(history) of the last twenty, each with C(ok), C(set), C(rto) (seconds from the start of the restore to
        a login), C(rpo) (seconds of changes that were not in the repository yet), C(tables), C(rows) and C(error).
      type: dict
    space:
      description: C(free) and C(total) bytes and C(percent) used of the file system that holds the repository.
      type: dict
    key_exported:
      description: Whether the repository's key was exported.
      type: bool
    restoring:
      description: Whether a restore is under way, or was killed half-way and could not be taken back.
      type: bool
    kept:
      description: Whether the data directory is still there that a restore has replaced.
      type: bool
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils.programs import LANGUAGE

COMMAND = "/usr/local/sbin/crm-platform-backup"
STATE = "/var/lib/crm-platform/backup/state.json"


def main():
    module = AnsibleModule(argument_spec={"refresh": {"type": "bool", "default": True}}, supports_check_mode=True)
    module.run_command_environ_update = LANGUAGE
    if not os.path.exists(COMMAND):
        module.fail_json(msg=f"{COMMAND} is missing: run the role crm.platform.backup on this host first")
    if module.params["refresh"] and not module.check_mode:
        rc, out, err = module.run_command([COMMAND, "status"])
        if rc:
            module.fail_json(msg=" ".join(err.split()) or f"{COMMAND} status ended with {rc}")
    try:
        with open(STATE, encoding="utf-8") as file:
            state = json.load(file)
    except (OSError, ValueError) as exc:
        module.fail_json(msg=f"{STATE} cannot be read ({exc}): run `{COMMAND} status`")
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
