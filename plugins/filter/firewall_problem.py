# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_problem
short_description: What is wrong with the variables of the firewall
version_added: 0.2.0
description:
  - Reads what the role C(firewall) was given, so that a mistake in the inventory is named before anything is changed on any host.
  - What only the kernel knows, C(nft) finds before the ruleset is loaded.
options:
  _input:
    description: The variables of the role C(firewall), and what it knows of the platform; its C(_firewall_given) is all of it.
    type: dict
    required: true
seealso:
  - module: crm.platform.nftables_ruleset
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse what cannot be
  ansible.builtin.fail:
    msg: "{{ problem }}"
  when: problem is truthy
  vars:
    problem: "{{ _firewall_given | crm.platform.firewall_problem }}"
"""

RETURN = r"""
_value:
  description: The first mistake with its cure, or nothing.
  type: str
"""

from ansible_collections.crm.platform.plugins.module_utils import firewall
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(given):
    return next(iter(firewall.complaints(plain(given))), "")


class FilterModule:
    def filters(self):
        return {"firewall_problem": problem}
