# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_ruleset
short_description: The nftables ruleset of a host
version_added: 0.2.0
description:
  - Writes what the role C(firewall) was given as one nftables table, which C(nft -f) loads over the one that is there.
options:
  _input:
    description: The variables of the role C(firewall), and what it knows of the platform; its C(_firewall_given) is all of it.
    type: dict
    required: true
seealso:
  - module: crm.platform.nftables_ruleset
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Have the firewall as declared
  crm.platform.nftables_ruleset:
    path: /etc/crm-platform/firewall.nft
    content: "{{ _firewall_given | crm.platform.firewall_ruleset }}"
"""

RETURN = r"""
_value:
  description: The ruleset.
  type: str
"""

from ansible_collections.crm.platform.plugins.module_utils import firewall
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def ruleset(given):
    return firewall.ruleset(plain(given))


class FilterModule:
    def filters(self):
        return {"firewall_ruleset": ruleset}
