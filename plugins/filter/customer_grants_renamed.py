# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: customer_grants_renamed
short_description: Column grants that follow the columns' new names
version_added: 0.2.0
description:
  - Takes the O(crm.platform.customer_grants#module:grants) of M(crm.platform.customer_grants) and writes the new names of tables and
    columns into them that the data model gives with C(renamed_from), so that a rename stands in one place.
  - Policies are expressions and stay as they are.
positional: _input, schema, tables
options:
  _input:
    description: Grants.
    type: list
    elements: dict
    required: true
  schema:
    description: Schema of the tables.
    type: str
    required: true
  tables:
    description: The data model, as in M(crm.platform.customer_schema).
    type: list
    elements: dict
    required: true
seealso:
  - module: crm.platform.customer_grants
  - module: crm.platform.customer_schema
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Grant on telephone, which was phone
  ansible.builtin.debug:
    msg: "{{ grants | crm.platform.customer_grants_renamed('customer', tables) }}"
  vars:
    tables: [{name: customer, columns: [{name: telephone, renamed_from: phone}]}]
    grants: [{roles: [crm_support], privileges: [SELECT], schema: customer, columns: {customer: [phone]}}]
"""

RETURN = r"""
_value:
  description: The grants.
  type: list
  elements: dict
"""

from ansible_collections.crm.platform.plugins.module_utils.schema.extend import renamed_in_grants


class FilterModule:
    def filters(self):
        return {"customer_grants_renamed": renamed_in_grants}
