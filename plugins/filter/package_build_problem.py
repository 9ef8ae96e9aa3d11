# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: package_build_problem
short_description: Why the package of the CRM could not be built
version_added: 0.2.0
description:
  - Finds the cause among the lines of pip, npm, make and dpkg, and the variable or the setting that cures it.
options:
  _input:
    description: The end of what the build said.
    type: str
    required: true
  log:
    description: The file on the host that holds all of it.
    type: str
    required: true
  host:
    description: The host that built.
    type: str
    required: true
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Say why the package could not be built
  ansible.builtin.fail:
    msg: "{{ built.stdout | crm.platform.package_build_problem('/var/log/crm-platform-package.log', inventory_hostname) }}"
  when: built.rc != 0
"""

RETURN = r"""
_value:
  description: What failed, the likely cause, the cure and the log, in one line.
  type: str
"""

from ansible_collections.crm.platform.plugins.module_utils import package_build
from ansible_collections.crm.platform.plugins.plugin_utils.plain import plain


def problem(text, log, host):
    return package_build.problem(plain(text), plain(log), plain(host))


class FilterModule:
    def filters(self):
        return {"package_build_problem": problem}
