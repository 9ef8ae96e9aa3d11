#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nftables_ruleset
short_description: Keep one nftables table, live and on disk, as its ruleset says
version_added: 0.1.0
description:
  - Compares one table of the live ruleset, and the file that boot loads, with the wanted ruleset.
  - The wanted ruleset is first loaded into a network namespace of its own. What the kernel lists there is compared with
    what it lists live, so that a rule dropped or added by hand is seen however it was written. Counters are ignored.
  - The table is replaced in one transaction, and the elements that rules put into its dynamic sets are carried over.
    Other tables are never touched; a ruleset that makes another one is refused.
  - A ruleset that nft refuses leaves both the live table and the file as they were.
options:
  table:
    description: Family and name of the table.
    type: str
    default: inet crm_platform
  state:
    description: Whether the table and the file exist.
    type: str
    choices: [present, absent]
    default: present
  content:
    description:
      - The whole ruleset, as C(nft -f) reads it. Needed for V(present).
      - It has to be loadable over a table that is already there. Begin it with C(table) and C(delete table) of the same name.
    type: str
  path:
    description: File that keeps the ruleset for the unit that loads it at boot.
    type: path
    required: true
  mode:
    description: Octal rights of the file, as quoted text.
    type: str
    default: "0640"
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
notes:
  - Where the host allows no namespaces, the comparison needs a load. A run then loads the ruleset and compares before with
    after; check mode compares only the file and whether the table exists, and says so in a warning.
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Have the firewall as declared
  crm.platform.nftables_ruleset:
    table: inet crm_platform
    path: /etc/crm-platform/firewall.nft
    content: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"

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
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import files
from ansible_collections.crm.platform.plugins.module_utils import nftables as nft


class Ruleset:
    """The table and its file: read once, planned once, then applied."""

    def __init__(self, module):
        self.module = module
        self.run = nft.runner(module)
        self.table = nft.Table.parse(module.params["table"])
        self.content = module.params["content"] or ""
        self.present = module.params["state"] == "present"
        self.installed = module.get_bin_path("nft") is not None
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

    def apply(self, step):
        if not self.present:
            nft.remove(self.run, self.table)
        elif step or self.wanted is None:
            nft.check(self.run, self.content)
            if not nft.load(self.run, self.table, self.content, self.wanted):
                self.module.warn(f"The contents of the dynamic sets of table {self.table} could not be carried over.")

    def write_file(self):
        transaction = files.Transaction(self.file_steps)
        try:
            transaction.stage()
            transaction.commit()
        except BaseException:
            transaction.rollback()
            raise

    def diff(self):
        before, after = nft.comparable(self.live.listing), self.content
        if self.wanted is not None and self.installed:
            after = nft.comparable(self.wanted.listing)
        live = {"before_header": f"live table {self.table}", "after_header": f"wanted table {self.table}"}
        live.update(before=before, after=after if self.present else "")
        return [live] + [
            {"before_header": step.path, "after_header": step.path, "before": step.before, "after": step.after} for step in self.file_steps
        ]


def converge(module):
    ruleset = Ruleset(module)
    step = ruleset.table_step()
    unsure = ruleset.present and ruleset.installed and ruleset.wanted is None
    if not module.check_mode:
        if ruleset.present and not ruleset.installed:
            raise nft.NftError("nft is not installed; install the package nftables first")
        if step or unsure:
            ruleset.apply(step)
        if unsure and not step:
            after = nft.read_live(ruleset.run, ruleset.table)
            if nft.comparable(after.listing) != nft.comparable(ruleset.live.listing):
                step = f"load table {ruleset.table} (it differed)"
        if ruleset.file_steps:
            ruleset.write_file()
    elif unsure and not step:
        module.warn(f"No right to make a network namespace: check mode compared only the file of table {ruleset.table}.")
    verb = "write" if ruleset.present else "remove"
    steps = ([step] if step else []) + [f"{verb} {file_step.path}" for file_step in ruleset.file_steps]
    return {"changed": bool(steps), "steps": steps, "diff": ruleset.diff() if steps else []}


def main():
    module = AnsibleModule(
        argument_spec={
            "table": {"type": "str", "default": "inet crm_platform"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "content": {"type": "str"},
            "path": {"type": "path", "required": True},
            "mode": {"type": "str", "default": "0640"},
        },
        required_if=[("state", "present", ("content",))],
        supports_check_mode=True,
    )
    try:
        result = converge(module)
    except (nft.NftError, files.FilesError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
