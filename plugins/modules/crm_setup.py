#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: crm_setup
short_description: Bring the CRM's database to what is declared
version_added: 0.1.0
description:
  - Initialises the database of the CRM, activates its modules, updates it when the installed package is newer than what
    made its tables, and sees to it that administrator, company, currencies and countries exist.
  - What to do is decided by what the database holds, with one plan that check mode shows and a run executes. A run that
    was killed is finished by the next one, and two runs at a time wait for one another.
  - The administrator's password and e-mail and the company are made once; what users change later is theirs.
    Nothing is ever deleted or deactivated.
options:
  database:
    description: Name of the database, which must exist and belong to the CRM's role.
    type: str
    default: crm
  modules:
    description:
      - Modules to activate, by their names in Tryton; what they depend on is activated with them.
      - C(company), C(country) and C(currency) are always among them.
    type: list
    elements: str
    default: []
  languages:
    description: Codes of the languages in which the CRM is offered, such as V(de) or V(pt_BR).
    type: list
    elements: str
    default: [en]
  admin_email:
    description: E-mail address of the administrator, set while there is none.
    type: str
  admin_password:
    description: Password of the administrator, set while there is none. Needed until then.
    type: str
  company_name:
    description: Name of the company that is made while there is none. Left out, no company is made.
    type: str
  company_currency:
    description: Currency of that company, by its ISO 4217 code.
    type: str
    default: EUR
  company_timezone:
    description: Time zone of that company, such as V(Europe/Berlin).
    type: str
  currencies:
    description: Currencies that have to exist, by their ISO 4217 codes; V(all) alone stands for all of them.
    type: list
    elements: str
    default: []
  countries:
    description: Countries that have to exist, by their ISO 3166 codes of two letters; V(all) alone stands for all of them.
    type: list
    elements: str
    default: []
  subdivisions:
    description: Whether those countries get their states, provinces and the like.
    type: bool
    default: false
  executable:
    description: The command that does it, which the package C(crm-platform) brings.
    type: path
    default: /usr/bin/crm-platform-setup
  user:
    description: User to run it as, who reaches the database as the CRM does.
    type: str
    default: crm-platform
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details:
      - Where the command is not installed yet, or the database cannot be reached, a change is reported,
        since an earlier task would have seen to that.
  diff_mode:
    support: full
  platform:
    platforms: debian
requirements:
  - the package C(crm-platform) on the host
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Have a CRM for a company in Berlin
  crm.platform.crm_setup:
    modules: [party, party_relationship, sale_opportunity]
    languages: [en, de]
    admin_email: admin@example.com
    admin_password: "{{ vault_crm_admin_password }}"
    company_name: Example GmbH
    company_currency: EUR
    company_timezone: Europe/Berlin
    currencies: [EUR, USD]
    countries: [DE, AT, CH]
    subdivisions: true
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    object:
      description: What it is.
      type: str
    before:
      description: How it was.
      type: str
    after:
      description: How it is now.
      type: str
  sample:
    - {object: module sale_opportunity, before: absent, after: activated}
series:
  description: Series of the installed CRM; empty where it is not known.
  returned: always
  type: str
  sample: "8.0"
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import crm_setup as lib
from ansible_collections.crm.platform.plugins.module_utils.programs import LANGUAGE


def main():
    module = AnsibleModule(
        argument_spec={
            "database": {"type": "str", "default": "crm"},
            "modules": {"type": "list", "elements": "str", "default": []},
            "languages": {"type": "list", "elements": "str", "default": ["en"]},
            "admin_email": {"type": "str"},
            "admin_password": {"type": "str", "no_log": True},
            "company_name": {"type": "str"},
            "company_currency": {"type": "str", "default": "EUR"},
            "company_timezone": {"type": "str"},
            "currencies": {"type": "list", "elements": "str", "default": []},
            "countries": {"type": "list", "elements": "str", "default": []},
            "subdivisions": {"type": "bool", "default": False},
            "executable": {"type": "path", "default": "/usr/bin/crm-platform-setup"},
            "user": {"type": "str", "default": "crm-platform"},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = LANGUAGE
    executable = module.params["executable"]
    if not os.path.exists(executable):
        if not module.check_mode:
            module.fail_json(msg=f"executable: {executable} does not exist; install the package crm-platform first")
        outcome = lib.Outcome(True, [], "")
    else:
        command = ["runuser", "-u", module.params["user"], "--", executable] + (["--check"] if module.check_mode else [])
        rc, out, err = module.run_command(command, data=lib.document(module.params), cwd="/")
        try:
            outcome = lib.interpret(rc, out, err, module.check_mode)
        except lib.SetupFailed as exc:
            module.fail_json(msg=str(exc), rc=rc)
    if outcome.warning:
        module.warn(outcome.warning)
    module.exit_json(
        changed=outcome.changed,
        changes=outcome.changes,
        series=outcome.series,
        diff={"before": lib.describe(outcome.changes, "before"), "after": lib.describe(outcome.changes, "after")},
    )


if __name__ == "__main__":
    main()
