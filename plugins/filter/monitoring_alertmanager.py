# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: monitoring_alertmanager
short_description: The configuration of Alertmanager
version_added: 0.1.0
description:
  - Makes C(alertmanager.yml) of the variables of the role C(monitoring). It may hold a password.
options:
  _input:
    description: The variables of the role C(monitoring) without their prefix; its C(_monitoring_given) is all of them.
    type: dict
    required: true
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Write the configuration
  crm.platform.config_files:
    files:
      - path: /etc/prometheus/alertmanager.yml
        content: "{{ _monitoring_given | crm.platform.monitoring_alertmanager | to_nice_yaml }}"
        secret: true
        validate: amtool check-config %s
  no_log: true
"""

RETURN = r"""
_value:
  description: The configuration.
  type: dict
"""

from ansible_collections.crm.platform.plugins.plugin_utils import alerts
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def alertmanager(given):
    return alerts.alertmanager(plain(given))


class FilterModule:
    def filters(self):
        return {"monitoring_alertmanager": alertmanager}
