#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health_check
short_description: Say whether a host of the platform is well, why not, and what to do
version_added: 0.1.0
description:
  - Runs all checks that make sense on the host - of the database, the CRM, backups, firewall, traffic shaping, routing, system and security -
    and returns one result each, with its value, its limits, a message and a cure.
  - It asks over one connection to each service and changes nothing but its own history.
  - A check that cannot be carried out is V(unknown) and takes no other with it; one that has nothing to look at is V(skipped).
  - The module does not fail because something is wrong; RV(summary.status) tells how bad it is.
options:
  areas:
    description: Which areas are looked at.
    type: list
    elements: str
    choices: [database, crm, backup, firewall, qos, routing, system, security]
    default: [database, crm, backup, firewall, qos, routing, system, security]
  skip:
    description: Ids of checks to leave out. An id that is not known is told in RV(problems).
    type: list
    elements: str
    default: []
  thresholds:
    description:
      - Other limits than the built-in ones, by id of the check, each with V(warning) and V(critical) in the check's unit.
      - V(null) takes a limit away. What cannot be used is told in RV(problems), and the built-in limits hold.
    type: dict
    default: {}
  time_limit:
    description: Seconds that one check may take.
    type: float
    default: 5
  crm:
    description: The CRM on this host, as its users reach it; left out on hosts without.
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
      ca:
        description: File with the certificate of the authority, beside those that the system trusts.
        type: path
      user:
        description: A user who may log in and read parties.
        type: str
        default: admin
      password_file:
        description: File with the user's password.
        type: path
        required: true
      database:
        description: The database in the CRM's addresses.
        type: str
        default: crm
  history:
    description:
      - File in which the values of the last 30 days are kept, at most one of them an hour, and the counters of the last run.
      - Without it checks that compare with the last run are skipped. Nothing is written in check mode.
    type: path
  textfile:
    description: File for node_exporter's textfile collector, written anew in each run; its directory has to be there.
    type: path
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - crm.platform.health
attributes:
  check_mode:
    support: full
    details: Everything is looked at, nothing is written.
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: crm.platform.customer_schema
  - module: crm.platform.customer_grants
  - module: crm.platform.health_repair
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Look at everything on the host
  crm.platform.health_check:
    login_db: crm
    login_unix_socket: /var/run/postgresql
    crm:
      url: https://crm.example.com
      ca: /etc/crm-platform/pki/ca.crt
      password_file: /etc/crm-platform/secrets/admin_password
    history: /var/lib/crm-platform/health/history.json
    thresholds:
      disk_space: {warning: 70, critical: 85}
  register: health

- name: Say what is wrong
  ansible.builtin.debug:
    msg: "{{ health.results | rejectattr('status', 'in', ['ok', 'skipped']) | map(attribute='message') | list }}"
"""

RETURN = r"""
results:
  description: One for each check, in the order of the areas.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Name of the check, for O(skip) and O(thresholds).
      type: str
    area:
      description: Its area.
      type: str
    title:
      description: What it looks at.
      type: str
    status:
      description: V(ok), V(warning), V(critical), V(unknown) or V(skipped).
      type: str
    value:
      description: What was measured, if that is a number.
      type: float
    unit:
      description: Of the value and its limits.
      type: str
    warning:
      description: The limit of V(warning).
      type: float
    critical:
      description: The limit of V(critical).
      type: float
    message:
      description: What was found, in one line.
      type: str
    cure:
      description: What to do, where something is wrong. Where a repair may help, it ends with the command.
      type: str
    repair:
      description: Name of the repair of M(crm.platform.health_repair) that may help, where something is wrong; else empty.
      type: str
    seconds:
      description: How long the check took.
      type: float
  sample:
    - id: disk_space
      area: system
      title: Fullest file system
      status: warning
      value: 84.2
      unit: "%"
      warning: 80
      critical: 92
      message: /var is full to 84 %, 12.1 GiB are left
      cure: du -xh --max-depth=2 /var | sort -h | tail; ansible-playbook crm.platform.repair -e repair=clear_logs
      repair: clear_logs
      seconds: 0.001
summary:
  description: How many checks are how, by status.
  returned: always
  type: dict
  contains:
    status:
      description: The worst status.
      type: str
    checks:
      description: The number of checks.
      type: int
  sample: {ok: 61, warning: 1, critical: 0, unknown: 0, skipped: 9, status: warning, checks: 71}
problems:
  description: What of the options could not be used, and why.
  returned: always
  type: list
  elements: str
history:
  description: The values of the last 30 days by name, each a list of pairs of seconds since 1970 and the value.
  returned: when O(history) is given
  type: dict
seconds:
  description: How long all of it took.
  returned: always
  type: float
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import programs, whole
from ansible_collections.crm.platform.plugins.module_utils.health import (  # noqa: F401  # pylint: disable=unused-import  # they register their checks
    backup,
    crm,
    database,
    firewall,
    history,
    probe,
    qos,
    registry,
    routing,
    security,
    system,
)


def argument_spec():
    crm_options = {
        "url": {"type": "str", "required": True},
        "address": {"type": "str", "default": "127.0.0.1"},
        "ca": {"type": "path"},
        "user": {"type": "str", "default": "admin"},
        "password_file": {"type": "path", "required": True, "no_log": False},
        "database": {"type": "str", "default": "crm"},
    }
    return {
        "areas": {"type": "list", "elements": "str", "choices": list(registry.AREAS), "default": list(registry.AREAS)},
        "skip": {"type": "list", "elements": "str", "default": []},
        "thresholds": {"type": "dict", "default": {}},
        "time_limit": {"type": "float", "default": 5},
        **probe.LOGIN,
        "crm": {"type": "dict", "options": crm_options},
        "history": {"type": "path"},
        "textfile": {"type": "path"},
    }


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    os.umask(programs.UMASK)
    params = module.params
    if params["time_limit"] <= 0:
        module.fail_json(msg=f"time_limit is {params['time_limit']:g}; write a number of seconds above 0, such as 5")
    began = time.monotonic()
    problems = []
    kept = {}
    if params["history"] and os.path.exists(params["history"]):
        try:
            with open(params["history"], encoding="utf-8") as stream:
                kept = history.checked(json.load(stream))
        except (OSError, ValueError) as error:
            problems.append(f"history: {params['history']}: {error}; it is begun anew")
    host = probe.Host(params, kept)
    try:
        results, unusable = registry.run(host, params["areas"], params["skip"], params["thresholds"], params["time_limit"])
    finally:
        host.close()
    kept = history.extended(kept, host.now, host.counters, host.series, results)
    if not module.check_mode:
        try:
            if params["history"]:
                os.makedirs(os.path.dirname(params["history"]), mode=0o755, exist_ok=True)
                whole.write(params["history"], json.dumps(kept) + "\n", 0o644)
            if params["textfile"]:
                whole.write(params["textfile"], history.metrics(results, host.now), 0o644)
        except OSError as error:
            problems.append(f"the history could not be written: {error}")
    module.exit_json(
        changed=False,
        results=results,
        summary=registry.summary(results),
        problems=problems + unusable,
        history=kept.get("series", {}) if params["history"] else {},
        seconds=round(time.monotonic() - began, 3),
    )


if __name__ == "__main__":
    main()
