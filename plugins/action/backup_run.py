# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show how a long run of backup_run gets on: the host does it, this asks now and then."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

LONG = ("backup", "drill", "restore", "verify")
display = Display()


class ActionModule(ActionBase):
    """The module, called once to begin and then until the run has ended."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("action") not in LONG or self._task.check_mode or self._task.async_val:
            result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val))
            return result
        said = self._execute_module(module_args={**arguments, "wait": False}, task_vars=task_vars)
        pause = 1.0
        while said.get("running"):
            # Short runs are not made to wait, long ones are not asked all the time.
            time.sleep(pause)
            pause = min(pause * 1.3, 5.0)
            said = self._execute_module(module_args={**arguments, "wait": False, "follow": said["running"]}, task_vars=task_vars)
            for line in said.pop("lines", []):
                display.display(f"{'':11}{task_vars.get('inventory_hostname', '')}: {line}")
        result.update(said)
        return result
