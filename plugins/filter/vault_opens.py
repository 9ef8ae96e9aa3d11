# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vault_opens
short_description: Whether a passphrase opens what Ansible Vault has encrypted
version_added: 0.2.0
description:
  - P(ansible.builtin.unvault#filter) ends the run with what the library says. This filter answers, so that a play can say what to do.
options:
  _input:
    description: The encrypted text.
    type: str
    required: true
  passphrase:
    description: The passphrase.
    type: str
    required: true
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse another passphrase
  ansible.builtin.fail:
    msg: The file was encrypted with another passphrase; give that one
  when: not content | crm.platform.vault_opens(passphrase)
"""

RETURN = r"""
_value:
  description: Whether it does; false for a text that is not encrypted.
  type: bool
"""

from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_bytes
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted

from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def opens(text, passphrase):
    data = to_bytes(plain(text))
    if not is_encrypted(data):
        return False
    try:
        VaultLib([("filter", VaultSecret(to_bytes(plain(passphrase))))]).decrypt(data)
    except AnsibleError:
        return False
    return True


class FilterModule:
    def filters(self):
        return {"vault_opens": opens}
