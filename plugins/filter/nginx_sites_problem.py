# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nginx_sites_problem
short_description: Why the web server of a host is not ours to configure
version_added: 0.2.0
description:
  - Reads what M(crm.platform.host_facts) saw of an nginx, or of another program on the same ports, that was there before this platform.
options:
  _input:
    description: The fact C(nginx_foreign).
    type: dict
    required: true
  listening:
    description: The fact C(web_listeners).
    type: dict
    required: true
  ports:
    description: The ports that are needed.
    type: list
    elements: int
    required: true
  names:
    description: The names under which nginx is to answer.
    type: list
    elements: str
    required: true
  host:
    description: The host.
    type: str
    required: true
  variable:
    description: The variable that lets sites pass; empty where there is none.
    type: str
    default: ""
  foreign:
    description: Its value.
    type: str
    choices: [refuse, keep, replace]
    default: refuse
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse the web server of somebody else
  ansible.builtin.fail:
    msg: "{{ problem }}"
  when: problem is truthy
  vars:
    problem: >-
      {{ ansible_facts.nginx_foreign | crm.platform.nginx_sites_problem(ansible_facts.web_listeners, [80, 443], ['crm.example.org'],
         inventory_hostname, 'crm_service_foreign_sites', crm_service_foreign_sites) }}
"""

RETURN = r"""
_value:
  description: What is in the way, and the cure, in one line; nothing where nothing is.
  type: str
"""

from ansible_collections.crm.platform.plugins.module_utils import nginx_sites
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(seen, listening, ports, names, host, variable="", foreign="refuse"):
    return nginx_sites.problem(
        plain(seen), plain(listening), [int(port) for port in ports], plain(list(names)), plain(host), plain(variable), plain(foreign)
    )


class FilterModule:
    def filters(self):
        return {"nginx_sites_problem": problem}
