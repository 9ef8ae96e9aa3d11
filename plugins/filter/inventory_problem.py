# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_problem
short_description: Why an inventory has no host for a playbook
version_added: 0.2.0
description:
  - A playbook whose host patterns match nothing does nothing and ends well. This filter turns such a run into an error.
options:
  _input:
    description: The variable C(groups), each group of the inventory with its hosts.
    type: dict
    required: true
  wanted:
    description: Groups of which at least one has to hold a host; an empty list stands for each group of the platform.
    type: list
    elements: str
    required: true
  limit:
    description: The hosts to which C(--limit) restricts the run; all, where it is none.
    type: raw
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse an inventory without a database host
  ansible.builtin.fail:
    msg: "{{ problem }}"
  when: problem is truthy
  vars:
    problem: "{{ groups | crm.platform.inventory_problem(['crm_database']) }}"
"""

RETURN = r"""
_value:
  description: What was looked for and what the inventory has, in one line; nothing where a host was found.
  type: str
"""

from ansible_collections.crm.platform.plugins.module_utils import inventory
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(groups, wanted, limit=None):
    return inventory.problem(plain(groups), plain(wanted), None if limit is None else plain(limit))


class FilterModule:
    def filters(self):
        return {"inventory_problem": problem}
