#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health_report
short_description: Show what the hosts said of their health
version_added: 0.1.0
description:
  - Shows one table for all hosts, what is wrong and what to do, in colour on a terminal.
  - Writes C(report.json) and C(report.html) where a directory is given, and sets the artifacts C(health_status), C(health_summary) and
    C(health_findings) of a job in AWX.
  - Fails where the worst status is as bad as O(fail_on) or worse. Ansible takes no artifacts from a task that fails; where they are wanted
    then, too, override that with C(failed_when) and fail in the next task by RV(bad), as the role does.
  - Works on the controller.
options:
  hosts:
    description: For each host what M(crm.platform.health_check) returned, an empty dictionary where it was not reached.
    type: dict
    required: true
  groups:
    description: What the hosts do, for the picture; as RV(ignore:crm_platform_groups) of the role foundation.
    type: dict
    default: {}
  directory:
    description: Where the two files go; empty for none.
    type: str
    default: ""
  fail_on:
    description: The least status that is a failure.
    type: str
    choices: [warning, unknown, critical, never]
    default: critical
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: The report is written in check mode too; no host is changed.
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: crm.platform.health_check
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Show how the platform is, and fail where something is wrong
  crm.platform.health_report:
    hosts: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='health', default={}))) }}"
    directory: /tmp/health
    fail_on: warning
  run_once: true
"""

RETURN = r"""
summary:
  description: How many checks are how on all hosts, and the worst of it in C(status).
  returned: always
  type: dict
  sample: {ok: 61, warning: 1, critical: 0, unknown: 0, skipped: 9, status: warning, checks: 71}
bad:
  description: Whether the worst status is as bad as O(fail_on) or worse.
  returned: always
  type: bool
files:
  description: What was written.
  returned: always
  type: list
  elements: str
"""
