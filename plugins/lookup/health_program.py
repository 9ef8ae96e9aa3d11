# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: health_program
short_description: The files of the health checks, for a host without Ansible
version_added: 0.1.0
description:
  - Returns the checks of M(crm.platform.health_check) and all that they import, so that a program on a host judges with the same code as the module.
options:
  _terms:
    description: Not used.
    type: list
    elements: str
    default: []
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Name the files
  ansible.builtin.debug:
    msg: "{{ query('crm.platform.health_program') | map(attribute='path') | list }}"
"""

RETURN = r"""
_list:
  description: The files.
  type: list
  elements: dict
  contains:
    path:
      description: Path below the directory of the library.
      type: str
    content:
      description: Its text.
      type: str
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.crm.platform.plugins.plugin_utils import library


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return [{"path": path, "content": content} for path, content in library.files("health").items()]
        except OSError as exc:
            raise AnsibleLookupError(f"health_program: {exc.filename}: {exc.strerror}; install the collection anew") from None
