# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: variables_problem
short_description: Which variables no role reads, though they begin with a role's name
version_added: 0.2.0
description:
  - A misspelt variable does nothing, and nothing says so. This filter names it with the nearest one that is read.
options:
  _input:
    description: Names of variables.
    type: list
    elements: str
    required: true
  known:
    description: Names that the roles read.
    type: list
    elements: str
    required: true
  passed:
    description: Names of others' variables, in which C(*) stands for any characters.
    type: list
    elements: str
    default: []
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse a variable that no role reads
  ansible.builtin.fail:
    msg: "{{ problem }}"
  when: problem is truthy
  vars:
    problem: "{{ ['backup_usr'] | crm.platform.variables_problem(['backup_restore_time']) }}"
"""

RETURN = r"""
_value:
  description: The variables with their nearest ones and the cure, in one line; nothing where all are known.
  type: str
"""

from ansible_collections.crm.platform.plugins.module_utils import inventory
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(names, known, passed=()):
    return inventory.unknown_variables(plain(names), plain(known), plain(passed))


class FilterModule:
    def filters(self):
        return {"variables_problem": problem}
