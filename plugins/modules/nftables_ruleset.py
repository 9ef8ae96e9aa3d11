#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nftables_ruleset
short_description: Keep one nftables table, live and on disk, as its ruleset says, without locking anybody out
version_added: 0.1.0
description:
  - Compares one table of the live ruleset, and the file that boot loads, with the wanted ruleset.
  - The wanted ruleset is first loaded into a network namespace of its own. What the kernel lists there is compared with
    what it lists live, so that a rule dropped or added by hand is seen however it was written. Counters are ignored.
  - A change is applied and then confirmed over a B(new) connection, by the action of the same name on the controller. Until that a timer
    of systemd waits on the host, which takes the change back after O(confirm_timeout). It needs no controller. The file that boot loads is
    written with the confirmation, so that a reboot takes the change back too. An established connection passes most rulesets and proves
    nothing, so the action resets it first; the module refuses a confirmation that comes over the one that applied the change.
  - Nothing is confirmed, and no time is lost, where nothing differs or where the wanted ruleset is the one that boot loads already.
  - The table is replaced in one transaction. Where its structure stays (base chains with their hooks and priorities, other chains, sets with
    their types and flags), it is emptied and filled, and its dynamic sets stay untouched. Else it is made anew, and the elements that
    rules put into its dynamic sets are carried over, with the time that they have left, into sets of the same name and type.
  - Other tables are never touched; a ruleset that makes another one, or flushes all, is refused.
  - A ruleset that nft refuses leaves both the live table and the file as they were.
options:
  table:
    description: Family and name of the table.
    type: str
    default: inet crm_platform
  state:
    description:
      - V(present) has the table and the file as O(content) says, V(absent) has neither.
      - V(confirmed) confirms the change that waits, as the action does; for a controller that was cut off in between.
    type: str
    choices: [present, absent, confirmed]
    default: present
  content:
    description:
      - The whole ruleset, as C(nft -f) reads it. Needed for V(present).
      - Begin it with C(table) and C(delete table) of the same name, so that the unit that loads it at boot can load it again.
    type: str
  path:
    description: File that keeps the confirmed ruleset for the unit that loads it at boot.
    type: path
    required: true
  mode:
    description: Octal rights of the file, as quoted text.
    type: str
    default: "0640"
  confirm_timeout:
    description:
      - Seconds after which the host takes a change back that nobody has confirmed, from V(5) to V(3600).
      - With V(0) a change is applied without a way back.
    type: int
    default: 30
  state_file:
    description:
      - File that says where the last change came to. It holds lines C(state=), which is V(confirmed), V(waiting) or V(rolled_back),
        C(since=), C(token=) and C(why=).
    type: path
    default: /var/lib/crm-platform/firewall/state
  token:
    description: Name of the change, so that a confirmation fits it. The action makes one up.
    type: str
    default: ""
  fresh:
    description: With V(confirmed), refuse when the connection is the one that applied the change. The action sets it where there is one.
    type: bool
    default: false
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Where nft is not installed yet, everything is reported as a change.
  diff_mode:
    support: full
  platform:
    platforms: posix
requirements:
  - nft (Debian package nftables)
  - unshare (Debian package util-linux)
  - systemd as the running init system, unless O(confirm_timeout) is V(0)
notes:
  - Where the host allows no namespaces, the comparison needs a load. A run then loads the ruleset and compares before with
    after; check mode compares only the file and whether the table exists, and says so in a warning.
  - While a change waits, another one is refused, and the message names the unit of the timer, the seconds that are left, and the cure.
  - The unit is C(nftables-rollback-inet_crm_platform) for the table C(inet crm_platform). Starting its service takes the change back at once.
  - Without the action (C(async), or another tool that calls the module) nobody confirms. Set O(confirm_timeout) to V(0) there.
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Have the firewall as declared, and go back by itself if that cuts us off
  crm.platform.nftables_ruleset:
    table: inet crm_platform
    path: /etc/crm-platform/firewall.nft
    content: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
    confirm_timeout: 60

- name: Confirm what a run that was cut off has left
  crm.platform.nftables_ruleset:
    state: confirmed
    path: /etc/crm-platform/firewall.nft

- name: Remove it, and nothing else
  crm.platform.nftables_ruleset:
    table: inet crm_platform
    path: /etc/crm-platform/firewall.nft
    state: absent
"""

RETURN = r"""
steps:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["load table inet crm_platform (it differs)", "write /etc/crm-platform/firewall.nft"]
confirmed:
  description: Whether a change was confirmed over a new connection.
  returned: when a change had to be confirmed
  type: bool
rolled_back:
  description: Whether the host took the change back.
  returned: when a change was not confirmed
  type: bool
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import files, programs
from ansible_collections.crm.platform.plugins.module_utils import nftables as nft
from ansible_collections.crm.platform.plugins.module_utils import nftables_confirm as confirm


class Ruleset:
    """The table and its file: read once, planned once, then applied."""

    def __init__(self, module):
        self.module = module
        self.run = nft.runner(module)
        self.table = nft.Table.parse(module.params["table"])
        self.content = module.params["content"] or ""
        self.present = module.params["state"] == "present"
        self.change = confirm.Change(self.run, self.table, module.params["path"], module.params["state_file"])
        self.installed = module.get_bin_path("nft") is not None
        if self.installed:
            self.change.refuse_another()
            if not module.check_mode:
                self.change.note_lost()
        self.live = nft.read_live(self.run, self.table) if self.installed else nft.State("")
        self.wanted = nft.State("")
        if self.installed and self.present:
            self.wanted = nft.read_wanted(self.run, self.table, self.content)
        self.file_steps = files.plan(files.normalise_all([self.file_spec()]))

    def file_spec(self):
        if not self.present:
            return {"path": self.module.params["path"], "state": "absent"}
        rights = {"owner": "root", "group": "root", "mode": self.module.params["mode"]}
        return dict(rights, path=self.module.params["path"], content=self.content)

    def table_step(self):
        """Why the live table has to change, or None."""
        if not self.present:
            return f"delete table {self.table}" if self.live.exists else None
        if not self.live.exists:
            return f"load table {self.table} (it is absent)"
        if self.wanted is None:
            return None
        if nft.comparable(self.live.listing) != nft.comparable(self.wanted.listing):
            return f"load table {self.table} (it differs)"
        return None

    def needs_confirmation(self):
        """What boot loads anyway was confirmed when it was written."""
        return self.present and self.module.params["confirm_timeout"] > 0 and self.change.confirmed() != self.content

    def apply(self, step):
        """Load or remove the table; what waits for its confirmation, if something does."""
        if not self.present:
            nft.remove(self.run, self.table)
            return None
        nft.check(self.run, self.content)
        token = self.module.params["token"] or "by hand"
        waiting = None
        if self.needs_confirmation():
            waiting = self.change.arm(self.content, self.module.params["confirm_timeout"], token)
        try:
            if not nft.load(self.run, self.table, self.content, self.wanted):
                self.module.warn(f"The contents of the dynamic sets of table {self.table} could not be carried over.")
            if waiting:
                self.change.applied(waiting, self.wanted.listing if self.wanted else "")
        except BaseException:
            if waiting:
                self.change.disarm("nft did not load the last change", token)
            raise
        return waiting

    def write_file(self):
        replace(self.file_steps)

    def diff(self):
        before, after = nft.comparable(self.live.listing), self.content
        if self.wanted is not None and self.installed:
            after = nft.comparable(self.wanted.listing)
        live = {"before_header": f"live table {self.table}", "after_header": f"wanted table {self.table}"}
        live.update(before=before, after=after if self.present else "")
        return [live] + [
            {"before_header": step.path, "after_header": step.path, "before": step.before, "after": step.after} for step in self.file_steps
        ]


def replace(steps, between=None):
    """Write the files; ``between`` is called when all that can fail has been done."""
    transaction = files.Transaction(steps)
    try:
        transaction.stage()
        if between:
            between()
        transaction.commit()
    except BaseException:
        transaction.rollback()
        raise


def converge(module):
    confirm.check_timeout(module.params["confirm_timeout"])
    ruleset = Ruleset(module)
    step = ruleset.table_step()
    unsure = ruleset.present and ruleset.installed and ruleset.wanted is None
    waiting = None
    if not module.check_mode:
        if ruleset.present and not ruleset.installed:
            raise nft.NftError("nft is not installed; install the package nftables first")
        if step or unsure:
            waiting = ruleset.apply(step)
        if unsure and not step:
            after = nft.read_live(ruleset.run, ruleset.table)
            if nft.comparable(after.listing) != nft.comparable(ruleset.live.listing):
                step = f"load table {ruleset.table} (it differed)"
            elif waiting:
                ruleset.change.disarm("the last change made no difference", waiting.token)
                waiting = None
        if ruleset.file_steps and not waiting:
            ruleset.write_file()
        if not ruleset.present:
            ruleset.change.forget()
    elif unsure and not step:
        module.warn(f"No right to make a network namespace: check mode compared only the file of table {ruleset.table}.")
    verb = "write" if ruleset.present else "remove"
    steps = ([step] if step else []) + [f"{verb} {file_step.path}" for file_step in ruleset.file_steps]
    result = {"changed": bool(steps), "steps": steps, "diff": ruleset.diff() if steps else []}
    if waiting:
        result["waiting"] = {"token": waiting.token, "unit": waiting.unit, "left": waiting.left(time.monotonic())}
    return result


def confirmed(module):
    """Confirm what waits: it becomes what boot loads, and the timer has nothing left to do."""
    run = nft.runner(module)
    table = nft.Table.parse(module.params["table"])
    change = confirm.Change(run, table, module.params["path"], module.params["state_file"])
    waiting = change.may_confirm(module.params["token"], module.params["fresh"])
    if waiting is None:
        return {"changed": False, "steps": [], "confirmed": True}
    steps = [f"write {module.params['path']}"]
    if not module.check_mode:
        rights = {"owner": "root", "group": "root", "mode": module.params["mode"]}
        with open(change.file("candidate.nft"), encoding="utf-8") as stream:
            spec = dict(rights, path=module.params["path"], content=stream.read())

        def claim():
            if not change.claim():
                raise confirm.TakenBack(f"table: {table}: the change was taken back: nobody confirmed it in time")

        replace(files.plan(files.normalise_all([spec])), claim)
        change.say(confirm.CONFIRMED, waiting.token, "the change was confirmed over a new connection")
        change.stop()
        change.forget()
    return {"changed": True, "steps": steps, "confirmed": True}


def main():
    module = AnsibleModule(
        argument_spec={
            "table": {"type": "str", "default": "inet crm_platform"},
            "state": {"type": "str", "choices": ["present", "absent", "confirmed"], "default": "present"},
            "content": {"type": "str"},
            "path": {"type": "path", "required": True},
            "mode": {"type": "str", "default": "0640"},
            "confirm_timeout": {"type": "int", "default": 30},
            "state_file": {"type": "path", "default": "/var/lib/crm-platform/firewall/state"},
            "token": {"type": "str", "default": "", "no_log": False},
            "fresh": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("content",))],
        supports_check_mode=True,
    )
    os.umask(programs.UMASK)
    try:
        result = confirmed(module) if module.params["state"] == "confirmed" else converge(module)
    except confirm.TakenBack as exc:
        module.fail_json(msg=str(exc), rolled_back=True)
    except confirm.Unknown as exc:
        module.fail_json(msg=str(exc), unknown=True)
    except confirm.SameConnection as exc:
        module.fail_json(msg=str(exc), same_connection=True)
    except (nft.NftError, files.FilesError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
