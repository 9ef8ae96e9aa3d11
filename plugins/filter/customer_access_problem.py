# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: customer_access_problem
short_description: What is wrong with a declared access to customer data
version_added: 0.2.0
description:
  - Reads the options of M(crm.platform.customer_grants) as the module would, without a database, so that a mistake
    in the inventory is named before anything is changed on any host.
  - What only PostgreSQL knows, such as whether a role exists, the module finds before it changes anything.
options:
  _input:
    description: Options of the module. Those of the connection may be left out.
    type: dict
    required: true
seealso:
  - module: crm.platform.customer_grants
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse what cannot be
  ansible.builtin.assert:
    that: problem is falsy
    fail_msg: "{{ problem }}"
  vars:
    problem: "{{ {'grants': grants} | crm.platform.customer_access_problem }}"
"""

RETURN = r"""
_value:
  description: The first mistake with its cure, or nothing.
  type: str
"""

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.crm.platform.plugins.module_utils.grants import declare, options
from ansible_collections.crm.platform.plugins.module_utils.grants.model import AccessError
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(given):
    given = plain(given)
    try:
        options.check_lists(given)
        result = ArgumentSpecValidator(options.argument_spec()).validate({"login_db": "", **given})
        if result.error_messages:
            return result.error_messages[0]
        options.patience(result.validated_parameters)
        declare.declared(result.validated_parameters)
    except AccessError as error:
        return str(error)
    return ""


class FilterModule:
    def filters(self):
        return {"customer_access_problem": problem}
