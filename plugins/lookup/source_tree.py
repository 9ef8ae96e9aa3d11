# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: source_tree
short_description: A directory of the controller, as one text and with its digest
version_added: 0.1.0
description:
  - Packs a directory into one text, for a task that needs the whole of it on a host. Copying it file by file takes a second a file.
  - The digest depends on the paths and contents of the files only, not on owners, times or rights, nor on what Python compiled.
    It is the same wherever the directory was checked out or unpacked.
options:
  _terms:
    description: Directories.
    type: list
    elements: path
    required: true
  add:
    description: Files of the controller to put beside those of the directory, by their names there. They do not count for the digest.
    type: dict
    default: {}
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Unpack a directory on the host
  ansible.builtin.shell:
    cmd: base64 -d | tar -xzC /var/tmp/source
    stdin: "{{ lookup('crm.platform.source_tree', role_path ~ '/files/source').archive }}"
"""

RETURN = r"""
_list:
  description: For each directory its digest and its content.
  type: list
  elements: dict
  contains:
    digest:
      description: 40 hexadecimal digits.
      type: str
    archive:
      description: The files as a compressed tar, in Base64. A file with C(#!) is executable.
      type: str
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.crm.platform.plugins.module_utils import source_tree as lib


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return [lib.pack(term, self.get_option("add")) for term in terms]
        except OSError as exc:
            raise AnsibleLookupError(f"source_tree: {exc.filename}: {exc.strerror}; correct the path") from None
