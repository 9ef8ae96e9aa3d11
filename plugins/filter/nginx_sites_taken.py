# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: nginx_sites_taken
short_description: The sites of an nginx that leave before the CRM comes
version_added: 0.2.0
description:
  - Lists them as M(crm.platform.config_files) takes them, each with the place where it is kept.
options:
  _input:
    description: The fact C(nginx_foreign) of M(crm.platform.host_facts).
    type: dict
    required: true
  ports:
    description: The ports that are needed.
    type: list
    elements: int
    required: true
  foreign:
    description: What becomes of the sites of others.
    type: str
    choices: [refuse, keep, replace]
    default: refuse
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Take what is in the way out of it
  crm.platform.config_files:
    files: "{{ ansible_facts.nginx_foreign | crm.platform.nginx_sites_taken([80, 443], 'replace') }}"
"""

RETURN = r"""
_value:
  description: Files that go, each with C(path), C(state) and C(keep).
  type: list
  elements: dict
"""

from ansible_collections.crm.platform.plugins.module_utils import nginx_sites
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def taken(seen, ports, foreign="refuse"):
    files = nginx_sites.taken(plain(seen), [int(port) for port in ports], plain(foreign))
    return [{"path": path, "state": "absent", "keep": f"{nginx_sites.KEPT}/{path.rsplit('/', 1)[-1]}"} for path in files]


class FilterModule:
    def filters(self):
        return {"nginx_sites_taken": taken}
