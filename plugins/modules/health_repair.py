#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health_repair
short_description: Cure by name what a check of the platform's health has found
version_added: 0.1.0
description:
  - Carries out the named repairs on one host, one after another. Each looks first and does only what is needed; where nothing is, it says so.
  - Check mode shows the very steps that a run carries out.
  - V(restart_services) starts units of the platform that are down and enabled, after a C(reset-failed) where they failed, and waits until they
    run and the CRM answers at C(/health). One that fails again is told with the last lines of its journal, without passwords.
  - V(rebuild_invalid_indexes) builds invalid indexes anew with C(REINDEX INDEX CONCURRENTLY), those of constraints too, and drops what builds
    that were cut off have left.
  - V(vacuum_wraparound) freezes the oldest tables, the worst first, until no database is above O(wraparound_percent), or O(max_seconds) is over.
    Never C(VACUUM FULL).
  - V(drop_dead_slot) drops the replication slot O(slot), if nobody reads it and O(confirm) is its name.
  - V(restore_firewall) loads the ruleset that was confirmed last, in one transaction, and compares it with the kernel's own list.
  - V(restore_shaping) has the units put back the classes of traffic that differ from what boot loads.
  - V(renew_certificates) has the services read the host's certificate again that have not since it was made. The playbook
    C(crm.platform.repair) makes it before that, by the role C(crm.platform.foundation).
  - V(clear_logs) removes this machine's archived journals above O(journal_size) or older than O(journal_days), and packed logs older than
    O(log_days), as logrotate names them, C(NAME.log.2.gz) or C(NAME.log-20240131.gz), with C(.xz), C(.zst) and C(.bz2) as well.
    Never a log that is written to, no other packed file, and nothing outside of C(/var/log).
  - V(unlock_logins) forgets the wrong logins of O(login), so that the CRM lets that user in again. Without a name it says who has some.
  - A repair that was killed can be run again.
options:
  repairs:
    description: What to repair, in this order.
    type: list
    elements: str
    required: true
    choices:
      - restart_services
      - rebuild_invalid_indexes
      - vacuum_wraparound
      - drop_dead_slot
      - restore_firewall
      - restore_shaping
      - renew_certificates
      - clear_logs
      - unlock_logins
  slot:
    description: The replication slot of V(drop_dead_slot).
    type: str
    default: ""
  confirm:
    description: The name of O(slot) once more, since a slot that was dropped does not come back.
    type: str
    default: ""
  login:
    description: The user of the CRM whom V(unlock_logins) lets in again.
    type: str
    default: ""
  max_seconds:
    description: Seconds that V(vacuum_wraparound) may take. What is left is done by the next run.
    type: int
    default: 3600
  wraparound_percent:
    description: Share of the transaction numbers from which a table is too old. The default is the limit of the check V(db_wraparound).
    type: float
    default: 50
  lock_timeout:
    description: Seconds that a statement waits for a lock; others wait behind it.
    type: int
    default: 10
  wait:
    description: Seconds that started units, and the CRM, get until they are there.
    type: int
    default: 60
  certificate:
    description: The host's certificate.
    type: path
    default: /etc/crm-platform/pki/host.crt
  renewed:
    description: Whether it was or would be made anew, so that all that show it have to read it, whenever they did last.
    type: bool
    default: false
  journal_size:
    description: MiB of archived journals that may stay.
    type: int
    default: 512
  journal_days:
    description: Days after which an archived journal goes.
    type: int
    default: 30
  log_days:
    description: Days after which a packed log goes.
    type: int
    default: 14
  log_directories:
    description: Where packed logs are, not below them. Only what is below C(/var/log) is allowed.
    type: list
    elements: path
    default: [/var/log/crm-platform, /var/log/frr, /var/log/nginx, /var/log/pgbackrest, /var/log/postgresql]
  crm:
    description: The CRM on this host; left out on hosts without.
    type: dict
    suboptions:
      url:
        description: Its address, as in V(https://crm.example.com).
        type: str
        required: true
      address:
        description: Where to connect to instead of asking the DNS for the name.
        type: str
        default: 127.0.0.1
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - crm.platform.health
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
requirements:
  - systemd as the running init system, for V(restart_services), V(restore_firewall), V(restore_shaping) and V(renew_certificates)
  - psycopg2 (Debian package python3-psycopg2), for the repairs of the database
notes:
  - The module fails where a repair did not help; the message says what is left and what to do. Other repairs are carried out nevertheless.
seealso:
  - module: crm.platform.health_check
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Start what is down, and build invalid indexes anew
  crm.platform.health_repair:
    repairs: [restart_services, rebuild_invalid_indexes]
    login_db: crm
    login_unix_socket: /var/run/postgresql
    crm:
      url: https://crm.example.com

- name: Drop a slot that nobody reads any more
  crm.platform.health_repair:
    repairs: [drop_dead_slot]
    login_db: crm
    login_unix_socket: /var/run/postgresql
    slot: old_replica
    confirm: old_replica

- name: Freeze the oldest tables, for half an hour at most
  crm.platform.health_repair:
    repairs: [vacuum_wraparound]
    login_db: crm
    login_unix_socket: /var/run/postgresql
    max_seconds: 1800
"""

RETURN = r"""
repairs:
  description: One for each of O(repairs).
  returned: always
  type: list
  elements: dict
  contains:
    repair:
      description: Its name.
      type: str
    title:
      description: What it does.
      type: str
    cures:
      description: Ids of the checks of M(crm.platform.health_check) that it cures.
      type: list
      elements: str
    changed:
      description: Whether there was something to repair.
      type: bool
    steps:
      description: What was done, or would be in check mode.
      type: list
      elements: str
    left:
      description: What could not be repaired, and what to do. The module fails where there is any.
      type: list
      elements: str
    notes:
      description: What is worth to know.
      type: list
      elements: str
    facts:
      description:
        - Numbers of the repair. C(freed_bytes) of V(clear_logs); C(before) and C(after), the age by database, C(planned), the number of
          tables, and C(finished), whether all of them were done, of V(vacuum_wraparound); C(digest) of V(restore_firewall).
      type: dict
  sample:
    - repair: rebuild_invalid_indexes
      title: Build invalid indexes anew, beside the work
      cures: [db_invalid_indexes]
      changed: true
      steps: ['REINDEX INDEX CONCURRENTLY "customer"."customer_email" (invalid)']
      left: []
      notes: []
      facts: {}
said:
  description: The same in lines for people.
  returned: always
  type: list
  elements: str
  sample: ["restart_services: nothing to repair"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils.health.probe import CONNECTION, LOGIN
from ansible_collections.crm.platform.plugins.module_utils.repair import (  # noqa: F401  # pylint: disable=unused-import  # they register their repairs
    certificates,
    firewall,
    indexes,
    logins,
    logs,
    registry,
    services,
    shaping,
    slots,
    wraparound,
)
from ansible_collections.crm.platform.plugins.module_utils.repair.host import Host

NAMES = [
    "restart_services",
    "rebuild_invalid_indexes",
    "vacuum_wraparound",
    "drop_dead_slot",
    "restore_firewall",
    "restore_shaping",
    "renew_certificates",
    "clear_logs",
    "unlock_logins",
]
LOGS = ["/var/log/crm-platform", "/var/log/frr", "/var/log/nginx", "/var/log/pgbackrest", "/var/log/postgresql"]


def argument_spec():
    crm_options = {"url": {"type": "str", "required": True}, "address": {"type": "str", "default": "127.0.0.1"}}
    return {
        "repairs": {"type": "list", "elements": "str", "required": True, "choices": NAMES},
        "slot": {"type": "str", "default": ""},
        "confirm": {"type": "str", "default": ""},
        "login": {"type": "str", "default": ""},
        "max_seconds": {"type": "int", "default": 3600},
        "wraparound_percent": {"type": "float", "default": 50},
        "lock_timeout": {"type": "int", "default": 10},
        "wait": {"type": "int", "default": 60},
        "certificate": {"type": "path", "default": "/etc/crm-platform/pki/host.crt"},
        "renewed": {"type": "bool", "default": False},
        "journal_size": {"type": "int", "default": 512},
        "journal_days": {"type": "int", "default": 30},
        "log_days": {"type": "int", "default": 14},
        "log_directories": {"type": "list", "elements": "path", "default": LOGS},
        **LOGIN,
        "crm": {"type": "dict", "options": crm_options},
    }


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    for name in ("max_seconds", "lock_timeout", "wait"):
        if params[name] < 1:
            module.fail_json(msg=f"{name} is {params[name]}; give a number of seconds from 1 on")
    problems = registry.problems(params["repairs"], params)
    if problems:
        module.fail_json(msg=problems[0])
    host = Host({**CONNECTION, **params})
    try:
        results = registry.run(host, params["repairs"], module.check_mode)
    finally:
        host.close()
    diff = [one.pop("diff") for one in results]
    answer = {
        "changed": any(one["changed"] for one in results),
        "repairs": results,
        "said": registry.said(results, module.check_mode),
        "diff": [one for one in diff if one["before"] or one["after"]],
    }
    left = [f"{one['repair']}: {text}" for one in results for text in one["left"]]
    if left:
        module.fail_json(msg="; ".join(left), **answer)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
