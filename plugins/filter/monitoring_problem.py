# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_problem
short_description: What is wrong with the variables of the monitoring
version_added: 0.1.0
description:
  - Reads what the role C(monitoring) was given, so that a mistake in the inventory is named before anything is changed on any host.
  - The answer shows no password and no address of a webhook.
options:
  _input:
    description: The variables of the role C(monitoring) without their prefix; its C(_monitoring_given) is all of them.
    type: dict
    required: true
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse what cannot be
  ansible.builtin.fail:
    msg: "{{ problem }}"
  when: problem is truthy
  vars:
    problem: "{{ _monitoring_given | crm.platform.monitoring_problem }}"
"""

RETURN = r"""
_value:
  description: The first mistake with its cure, or nothing.
  type: str
"""

from ansible_collections.crm.platform.plugins.plugin_utils import alerts
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(given):
    return next(iter(alerts.complaints(plain(given))), "")


class FilterModule:
    def filters(self):
        return {"monitoring_problem": problem}
