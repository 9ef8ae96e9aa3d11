#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Put a set of configuration files in place, all of them or none
version_added: 0.1.0
description:
  - Compares a list of files, directories and links with what is on the host and changes only what differs,
    in one call for the whole set.
  - New contents are written beside their targets and checked by I(validate) of each file before the first live file
    is touched. They are then moved into place, each in one atomic step.
  - When one of the set's I(validate) commands fails afterwards, every file is put back as it was, and the module fails
    with what the command said. A service therefore never reads half of a set.
  - A run that was killed leaves at most hidden files ending in C(.crm-staged), which the next run removes.
options:
  files:
    description:
      - The files, in the order in which they are made. List a directory before what lives in it.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      state:
        description: What has to stand there. A directory is removed only when it is empty.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description:
          - The whole text of the file, stored as UTF-8. Needed for V(file).
          - It is not logged.
        type: str
      target:
        description: What the link points to. Needed for V(link).
        type: str
      owner:
        description: Owner, a name or a number.
        type: str
        default: root
      group:
        description: Group, a name or a number.
        type: str
        default: root
      mode:
        description: Octal rights as quoted text, by default V(0644) for a file and V(0755) for a directory.
        type: str
      secret:
        description: Leave the content out of the diff.
        type: bool
        default: false
      keep:
        description:
          - Absolute path of a copy of the file or link that is replaced or removed; a number is added where another one is there already.
          - Its directory is made where it is missing.
        type: path
        version_added: 0.2.0
      validate:
        description:
          - A command that accepts the new file, C(%s) standing for its path; it is run without a shell.
          - It is not run in check mode, where nothing is written.
        type: str
  validate:
    description:
      - Commands, each run without a shell, that accept the set once it is in place.
      - They are run only when something changed.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Configure nginx, and leave the old configuration if nginx refuses the new one
  crm.platform.config_files:
    files:
      - path: /etc/nginx/sites-available/crm
        content: "{{ lookup('ansible.builtin.template', 'crm.conf.j2') }}"
      - path: /etc/nginx/sites-enabled/crm
        state: link
        target: /etc/nginx/sites-available/crm
      - path: /etc/nginx/sites-enabled/default
        state: absent
    validate:
      - nginx -t

- name: A file with a secret, checked before it goes live
  crm.platform.config_files:
    files:
      - path: /etc/crm-platform/crm-platform.conf
        content: "{{ lookup('ansible.builtin.template', 'crm-platform.conf.j2') }}"
        group: crm-platform
        mode: "0640"
        secret: true
        validate: crm-platform-checkconf %s
"""

RETURN = r"""
changed_paths:
  description: Paths that were changed, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: [/etc/nginx/sites-available/crm]
kept:
  description: Of what was replaced or removed, the copies that I(keep) asks for, by path.
  returned: always
  type: dict
  sample: {/etc/nginx/sites-enabled/default: /etc/nginx/before-crm-platform/default}
reasons:
  description: For each changed path what differed, out of V(state), V(content), V(mode), V(owner), V(group), V(target).
  returned: always
  type: dict
  sample: {/etc/nginx/sites-available/crm: [content]}
"""

import shlex

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils.files import (
    STATES,
    FilesError,
    Transaction,
    kept,
    normalise_all,
    plan,
)
from ansible_collections.crm.platform.plugins.module_utils.programs import LANGUAGE


def run_validation(module, command, path=None):
    """Run one command; return its complaint, or None when it accepts."""
    words = [word.replace("%s", path) if path else word for word in shlex.split(command)]
    rc, out, err = module.run_command(words)
    if rc == 0:
        return None
    said = " ".join((err or out).split()) or f"exit code {rc}"
    return f"`{command}` refused it: {said}"


def apply(module, steps):
    """Stage, validate, commit, validate the set; raise FilesError with all put back."""
    transaction = Transaction(steps)
    try:
        transaction.stage()
        for step in steps:
            staged, command = transaction.staged_path(step.path), step.spec.get("validate")
            complaint = run_validation(module, command, staged) if staged and command else None
            if complaint:
                raise FilesError(f"files: {step.path}: {complaint}; nothing was replaced, correct the variable behind it")
        transaction.commit()
        for command in module.params["validate"]:
            complaint = run_validation(module, command)
            if complaint:
                raise FilesError(f"validate: {complaint}; all files were put back as they were")
    except BaseException:
        transaction.rollback()
        raise


def main():
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {"type": "str", "choices": list(STATES), "default": "file"},
                    "content": {"type": "str", "no_log": True},
                    "target": {"type": "str"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "str"},
                    "keep": {"type": "path"},
                    "secret": {"type": "bool", "default": False, "no_log": False},
                    "validate": {"type": "str"},
                },
            },
            "validate": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = LANGUAGE
    try:
        steps = plan(normalise_all(module.params["files"]))
        copies = kept(steps)
        if steps and not module.check_mode:
            apply(module, steps)
    except (FilesError, OSError) as exc:
        module.fail_json(msg=str(exc))
    # The content is known to be no_log, yet the diff has to show it where it
    # is no secret: what was registered for censoring is dropped again.
    module.no_log_values.clear()
    module.exit_json(
        changed=bool(steps),
        changed_paths=[step.path for step in steps],
        kept=copies,
        reasons={step.path: list(step.reasons) for step in steps},
        diff=[
            {"before_header": step.path, "after_header": step.path, "before": step.before, "after": step.after}
            for step in steps
        ],
        # exit_json adds the arguments; the contents must not ride along.
        invocation={"module_args": {"files": [f["path"] for f in module.params["files"]]}},
    )


if __name__ == "__main__":
    main()
