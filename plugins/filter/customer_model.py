# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: customer_model
short_description: A customer data model with what an organisation adds to it
version_added: 0.2.0
description:
  - Lays tables over tables, by their names, for the O(crm.platform.customer_schema#module:tables) of
    M(crm.platform.customer_schema). So an inventory holds what it adds, and not a copy of what is there.
  - A table that both have keeps its columns, keys, checks and indexes, and gets those that are added. An entry of the same name
    is changed in what is given; one with C(renamed_from) takes the place of the one that had this name, in the keys and
    indexes of the table too. Other tables are appended.
positional: _input, more
options:
  _input:
    description: Tables.
    type: list
    elements: dict
    required: true
  more:
    description: Tables, or parts of them, that are laid over.
    type: list
    elements: dict
    required: true
seealso:
  - module: crm.platform.customer_schema
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: The table with one more column
  ansible.builtin.debug:
    msg: "{{ tables | crm.platform.customer_model([{'name': 'customer', 'columns': [{'name': 'region', 'type': 'text'}]}]) }}"
"""

RETURN = r"""
_value:
  description: The tables.
  type: list
  elements: dict
"""

from ansible_collections.crm.platform.plugins.module_utils.schema.extend import extended


class FilterModule:
    def filters(self):
        return {"customer_model": extended}
