# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: postgres_adoption_problem
short_description: Why a PostgreSQL cluster of somebody else's is not taken over
version_added: 0.2.0
description:
  - Reads what the role C(database) saw in a cluster that it did not make, so that nothing of somebody else's is overwritten without a word.
options:
  _input:
    description: What was seen, lines of a kind (database, checksums, rule, map) and a value.
    type: str
    required: true
  cluster:
    description: The cluster, such as C(15/main).
    type: str
    required: true
  adopt:
    description: Whether the cluster is to be taken over.
    type: bool
    required: true
  mine:
    description: Databases of the platform.
    type: list
    elements: str
    default: []
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Refuse the PostgreSQL of somebody else
  ansible.builtin.fail:
    msg: "{{ problem }}"
  when: problem is truthy
  vars:
    problem: "{{ seen.stdout | crm.platform.postgres_adoption_problem('15/main', false, ['crm']) }}"
"""

RETURN = r"""
_value:
  description: The databases and rules that are there, and the cure, in one line; nothing where the cluster is empty or adopted.
  type: str
"""

from ansible_collections.crm.platform.plugins.module_utils import postgres_adoption
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(text, cluster, adopt, mine=()):
    return postgres_adoption.problem(plain(cluster), plain(text), bool(adopt), plain(list(mine)))


class FilterModule:
    def filters(self):
        return {"postgres_adoption_problem": problem}
