# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate_names_problem
short_description: Why a certificate is not for the name of the CRM
version_added: 0.2.0
description:
  - Compares the alternative names of a certificate, which are all that browsers look at, with the names under which users come.
options:
  _input:
    description: What C(openssl x509 -noout -ext subjectAltName) printed; nothing where the certificate cannot be read.
    type: str
    required: true
  wanted:
    description: Names or addresses that it has to be for.
    type: list
    elements: str
    required: true
  certificate:
    description: Its path.
    type: str
    required: true
  host:
    description: The host that it is on.
    type: str
    required: true
  given:
    description: Whether it is the operator's own.
    type: bool
    default: false
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse a certificate for another name
  ansible.builtin.fail:
    msg: "{{ problem }}"
  when: problem is truthy
  vars:
    problem: "{{ seen.stdout | crm.platform.certificate_names_problem(['crm.example.org'], '/etc/ssl/crm.crt', inventory_hostname, true) }}"
"""

RETURN = r"""
_value:
  description: What the certificate names, what it does not, and the cure, in one line; nothing where it names all.
  type: str
"""

from ansible_collections.crm.platform.plugins.module_utils import certificate_names
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(text, wanted, certificate, host, given=False):
    return certificate_names.problem(plain(text), plain(list(wanted)), plain(certificate), plain(host), bool(given))


class FilterModule:
    def filters(self):
        return {"certificate_names_problem": problem}
