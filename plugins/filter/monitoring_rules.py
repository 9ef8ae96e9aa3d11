# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_rules
short_description: The alert rules of Prometheus, made of the health checks
version_added: 0.1.0
description:
  - Makes two rules of each check of M(crm.platform.health_check), one for V(warning) and one for V(critical), and some for what a host cannot tell
    of itself, such as that it is down.
  - The rules ask for the outcome that the hosts tell, so that no limit stands in two places.
options:
  _input:
    description:
      - Seconds between two looks of a host's timer (C(interval)) and by which they vary (C(jitter)), seconds that a fault lasts before
        it alerts (C(for_warning), C(for_critical)), and the ids of checks without alerts (C(skip)).
    type: dict
    required: true
seealso:
  - module: crm.platform.health_check
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Write the rules
  crm.platform.config_files:
    files:
      - path: /etc/prometheus/rules.d/crm-platform.yml
        content: "{{ {'interval': 300, 'jitter': 30, 'for_warning': 900, 'for_critical': 420} | crm.platform.monitoring_rules | to_nice_yaml }}"
        validate: promtool check rules %s
"""

RETURN = r"""
_value:
  description: The rules file.
  type: dict
"""

from ansible_collections.crm.platform.plugins.plugin_utils import alerts
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def rules(given):
    return alerts.rules(plain(given))


class FilterModule:
    def filters(self):
        return {"monitoring_rules": rules}
