# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what the hosts said of their health: a table, two files, artifacts for AWX, and an end that tells."""

from __future__ import annotations

import datetime
import json
import os

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.crm.platform.plugins.module_utils.health import registry, report

COLOURS = {registry.OK: "green", registry.WARNING: "yellow", registry.CRITICAL: "red", registry.UNKNOWN: "magenta", registry.SKIPPED: "dark gray"}
display = Display()


class ActionModule(ActionBase):
    """Runs on the controller alone."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset({"hosts", "groups", "directory", "fail_on"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        dummy, given = self.validate_argument_spec(
            argument_spec={
                "hosts": {"type": "dict", "required": True},
                "groups": {"type": "dict", "default": {}},
                "directory": {"type": "str", "default": ""},
                "fail_on": {"type": "str", "choices": list(report.FAIL_ON), "default": "critical"},
            }
        )
        hosts = report.gathered(given["hosts"])
        if not hosts:
            raise AnsibleActionFail("hosts: there is none; put hosts into the groups crm_database, crm_app, crm_package, crm_backup, crm_router or crm_monitor")
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = report.document(hosts, now, self.version())
        for text, status in report.lines(told):
            display.display(text, color=COLOURS.get(status))
        result["files"] = self.write(given["directory"], told, given["groups"]) if given["directory"] else []
        for path in result["files"]:
            display.display(f"written: {path}")
        result.update(changed=False, summary=told["summary"], ansible_stats={"data": report.stats(told), "per_host": False, "aggregate": False})
        if report.fails(told["summary"]["status"], given["fail_on"]):
            result.update(failed=True, msg=f"the platform is {told['summary']['status']}; see the table above")
        return result

    @staticmethod
    def version():
        path = os.path.join(os.path.dirname(__file__), "..", "..", "galaxy.yml")
        try:
            with open(path, encoding="utf-8") as stream:
                return next((line.split(":", 1)[1].strip() for line in stream if line.startswith("version:")), "")
        except OSError:
            return ""

    def write(self, directory, told, groups):
        """report.json and report.html, each whole or as it was."""
        directory = os.path.abspath(os.path.expanduser(directory))
        try:
            os.makedirs(directory, exist_ok=True)
            paths = []
            for name, text in (("report.json", json.dumps(told, indent=1) + "\n"), ("report.html", self.page(told, groups))):
                path = os.path.join(directory, name)
                with open(f"{path}.new", "w", encoding="utf-8") as stream:
                    stream.write(text)
                os.replace(f"{path}.new", path)
                paths.append(path)
            return paths
        except OSError as error:
            raise AnsibleActionFail(
                f"directory: {directory}: {error.strerror}; name one that can be written, or leave health_check_report_dir empty"
            ) from error

    def page(self, told, groups):
        from ansible_collections.crm.platform.plugins.plugin_utils import health_page

        return health_page.render(told, groups)
