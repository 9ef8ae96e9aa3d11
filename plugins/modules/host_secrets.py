#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_secrets
short_description: Make secrets once on the host, keep them to root and hand them out again
version_added: 0.1.0
description:
  - For each name, reads the secret from its file in O(directory), or makes a random one and stores it there when there is none.
  - The directory is C(root:root 0700), each file C(root:root 0600); both are put right when they are not.
  - Nothing is kept on the controller, so that a controller that is thrown away after each run loses nothing.
notes:
  - What is returned are the secrets themselves. Run the task with C(no_log=true).
options:
  directory:
    description: Where the secrets live. It is made when it is absent; its parent must exist.
    type: path
    required: true
  secrets:
    description: The secrets.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the secret and of its file; C(a-z), C(0-9), C(_), C(.), C(-).
        type: str
        required: true
      length:
        description: Number of letters and digits of a secret that is made here; 16 or more.
        type: int
        default: 40
      value:
        description:
          - A given secret, used instead of one made here and stored in its place.
          - Any characters but control characters.
        type: str
      keep:
        description:
          - Leave a stored secret although another O(secrets[].value) is given, and warn of it.
          - For what is set only once with it, such as a first password that its owner may have changed since.
        type: bool
        default: false
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: A secret that does not exist yet is returned as a random text that is not stored.
  diff_mode:
    support: partial
    details: Says which secrets change, never their content.
  platform:
    platforms: posix
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Have a password for the database, the same one in every run
  crm.platform.host_secrets:
    directory: /etc/crm-platform/secrets
    secrets:
      - name: database_password
      - name: admin_password
        length: 20
  register: __my_secrets
  no_log: true
"""

RETURN = r"""
secrets:
  description: The secrets by their names.
  returned: success
  type: dict
  sample: {database_password: VALUE_SPECIFIED_IN_NO_LOG_PARAMETER}
changed_secrets:
  description: Names of the secrets that were made, replaced or given back to root.
  returned: success
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import secrets as lib


def prepare_directory(module, directory):
    """Return whether the directory differs; make it right unless in check mode."""
    if not os.path.isdir(directory):
        if not module.check_mode:
            os.mkdir(directory, lib.DIRECTORY_MODE)
            lib.protect(directory, lib.DIRECTORY_MODE)
        return True
    if not lib.rights_differ(directory, lib.DIRECTORY_MODE):
        return False
    if not module.check_mode:
        lib.protect(directory, lib.DIRECTORY_MODE)
    return True


def converge(module, directory, wanted):
    """Return the value of one secret and what had to change ('' for nothing)."""
    path = os.path.join(directory, wanted["name"])
    given, stored = wanted["value"], lib.read(path)
    if stored is not None and given not in (None, stored) and wanted["keep"]:
        module.warn(
            f"{wanted['name']}: another value is given than the one in {path}, which stays: it was set once with that;"
            " change it where it is used, and give the old value or none"
        )
        given = stored
    if stored is None or (given is not None and given != stored):
        value = given if given is not None else lib.generate(wanted["length"])
        if not module.check_mode:
            value = lib.store(path, value, replace=stored is not None)
        return value, "made" if stored is None else "replaced"
    if lib.rights_differ(path, lib.FILE_MODE):
        if not module.check_mode:
            lib.protect(path, lib.FILE_MODE)
        return stored, "rights"
    return stored, ""


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "length": {"type": "int", "default": 40},
                    "value": {"type": "str", "no_log": True},
                    "keep": {"type": "bool", "default": False},
                },
            },
        },
        supports_check_mode=True,
    )
    directory = module.params["directory"]
    try:
        for wanted in module.params["secrets"]:
            lib.check(wanted["name"], wanted["length"], wanted["value"])
        changes = {}
        if prepare_directory(module, directory):
            changes["(directory)"] = "rights"
        values = {}
        for wanted in module.params["secrets"]:
            values[wanted["name"]], change = converge(module, directory, wanted)
            if change:
                changes[wanted["name"]] = change
    except (lib.SecretError, OSError) as exc:
        module.fail_json(msg=str(exc))
    # A given value comes back as it was given, not as asterisks.
    module.no_log_values.clear()
    module.exit_json(
        changed=bool(changes),
        changed_secrets=sorted(changes),
        secrets=values,
        diff={"before": "", "after": "".join(f"{name}: {what}\n" for name, what in sorted(changes.items()))},
        invocation={"module_args": {"directory": directory}},
    )


if __name__ == "__main__":
    main()
