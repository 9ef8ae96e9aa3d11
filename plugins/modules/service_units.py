#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_units
short_description: Keep a set of systemd units running, stopped, enabled, and no older than their files
version_added: 0.1.0
description:
  - Reads the state of all named units with one C(systemctl show) and acts only on those that differ.
  - Reloads systemd's configuration where a unit file has changed on disk, or was removed.
  - Restarts or reloads a running unit when one of the files that it reads was written after it last started or reloaded.
    That is seen on the host, so that it also happens when the run that wrote the file was killed before its handlers.
options:
  units:
    description: The units, in the order in which they are started.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the unit; C(.service) may be left out.
        type: str
        required: true
      state:
        description:
          - Whether it runs. V(unmanaged) looks at O(units[].enabled) only.
          - V(absent) is for units that O(units[].content) has made. They are stopped and disabled, and their files in C(/etc/systemd/system) removed.
        type: str
        choices: [started, stopped, unmanaged, absent]
        default: started
      enabled:
        description: Whether it starts at boot. Left as it is when not given.
        type: bool
      content:
        description:
          - Text of the unit file, written to C(/etc/systemd/system) as C(root:root 0644).
          - Without it the unit is one that a package brings.
        type: str
      reads:
        description: Files that the unit reads when it starts or reloads. Those that do not exist are passed over.
        type: list
        elements: path
        default: []
      refresh:
        description: What is done with a running unit when one of O(units[].reads) is newer than it.
        type: str
        choices: [restart, reload]
        default: restart
  daemon_reload:
    description: Reload systemd's configuration even where no unit asks for it.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: A unit that does not exist yet is reported as a change, since an earlier task would have installed it.
  diff_mode:
    support: full
  platform:
    platforms: posix
requirements:
  - systemd as the running init system
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Keep the CRM and its front running, now and after a reboot
  crm.platform.service_units:
    units:
      - name: crm-platform
        enabled: true
      - name: nginx
        enabled: true
        reads: [/etc/nginx/sites-available/crm]
        refresh: reload
      - name: apache2
        state: stopped
        enabled: false
"""

RETURN = r"""
written:
  description: Unit files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/crm-platform-firewall.service]
removed:
  description: Unit files that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
actions:
  description: The C(systemctl) calls that were made, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["start nginx.service"]
journal:
  description: The last lines of the journal of the units that did not start.
  returned: when a unit did not start
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import files, units as lib
from ansible_collections.crm.platform.plugins.module_utils.programs import LANGUAGE

SYSTEM_UNITS = "/etc/systemd/system"


def written_specs(wanted):
    """The unit files that are given with their texts."""
    return [
        {"path": f"{SYSTEM_UNITS}/{lib.full_name(unit['name'])}", "content": unit["content"], "owner": "root", "group": "root", "mode": "0644"}
        for unit in wanted
        if unit["content"] is not None and unit["state"] != "absent"
    ]


def removed_specs(wanted):
    return [{"path": f"{SYSTEM_UNITS}/{lib.full_name(unit['name'])}", "state": "absent"} for unit in wanted if unit["state"] == "absent"]


def change_unit_files(module, specs):
    """Return the steps to the unit files; take them unless in check mode."""
    steps = files.plan(files.normalise_all(specs))
    if module.check_mode:
        return steps
    transaction = files.Transaction(steps)
    try:
        transaction.stage()
        transaction.commit()
    except BaseException:
        transaction.rollback()
        raise
    return steps


def read_units(module, wanted):
    names = [lib.full_name(unit["name"]) for unit in wanted]
    command = ["systemctl", "show", "--no-pager", "--timestamp=us+utc", "--property", ",".join(lib.PROPERTIES), "--"] + names
    rc, out, err = module.run_command(command)
    if rc != 0:
        module.fail_json(msg=f"units: systemd does not answer ({' '.join(err.split())}); boot the host with systemd first")
    return lib.parse_show(out)


def modification_times(wanted):
    times = {}
    for path in {path for unit in wanted for path in unit["reads"]}:
        try:
            times[path] = os.stat(path).st_mtime
        except OSError:
            continue
    return times


def run_action(module, action):
    rc, dummy, err = module.run_command(["systemctl", action.verb, *action.units])
    if rc == 0:
        return
    journal = []
    for unit in action.units:
        dummy, out, dummy = module.run_command(["journalctl", "--no-pager", "-n", "10", "-o", "cat", "-u", unit])
        journal += [f"{unit}: {line}" for line in out.splitlines()]
    module.fail_json(
        msg=f"units: `systemctl {action.verb} {' '.join(action.units)}` failed: {' '.join(err.split())}",
        journal=journal,
    )


def main():
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "state": {"type": "str", "choices": ["started", "stopped", "unmanaged", "absent"], "default": "started"},
                    "enabled": {"type": "bool"},
                    "content": {"type": "str"},
                    "reads": {"type": "list", "elements": "path", "default": []},
                    "refresh": {"type": "str", "choices": ["restart", "reload"], "default": "restart"},
                },
            },
            "daemon_reload": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = LANGUAGE
    wanted = module.params["units"]
    try:
        written = change_unit_files(module, written_specs(wanted))
    except (files.FilesError, OSError) as exc:
        module.fail_json(msg=str(exc))
    live = read_units(module, wanted)
    absent = lib.missing(wanted, live)
    if absent and not module.check_mode:
        module.fail_json(msg=f"units: systemd knows no unit {', '.join(absent)}; install what brings it, or correct the name")
    times = modification_times(wanted)
    try:
        actions = lib.plan(wanted, live, module.params["daemon_reload"] or bool(written), times)
    except lib.UnitError as exc:
        module.fail_json(msg=f"units: {exc}")
    if not module.check_mode:
        for action in actions:
            run_action(module, action)
    try:
        # What runs is stopped by its file.
        removed = change_unit_files(module, removed_specs(wanted))
    except (files.FilesError, OSError) as exc:
        module.fail_json(msg=str(exc))
    if removed:
        actions.append(lib.Action("daemon-reload", (), "unit files removed"))
        if not module.check_mode:
            run_action(module, actions[-1])
            # A run that was stopped has failed for systemd; it knows none of them where all ended well.
            module.run_command(["systemctl", "reset-failed", *(os.path.basename(step.path) for step in removed)])
    result = {
        "changed": bool(actions or written),
        "written": [step.path for step in written],
        "removed": [step.path for step in removed],
        "actions": [" ".join((action.verb,) + action.units) for action in actions],
        "diff": {
            "before": "".join(step.before for step in written + removed) + lib.describe(wanted, live, after=False, times=times),
            "after": "".join(step.after for step in written + removed) + lib.describe(wanted, live, after=True),
        },
    }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
