# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply a ruleset and confirm it over a new connection: the host takes back what cuts its controller off."""

from __future__ import annotations

import secrets
import time

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase

# Connections that a ruleset can cut off.
CUT_OFF = ("ssh", "paramiko", "paramiko_ssh", "smart")
# After the host has gone back, for a connection that is made once more; less where nobody knows whether it was ever reached.
GRACE, UNANSWERED = 60, 10
# The part of the window that one connection may take before it is called slow: a confirmation may need two.
SLOW = 0.5


class ActionModule(ActionBase):
    """The module, called a second time where it has changed the live table."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        timeout = arguments.get("confirm_timeout", 30)
        if self._task.async_val and not self._task.check_mode and str(timeout) != "0" and arguments.get("state", "present") == "present":
            raise AnsibleError(
                "nftables_ruleset confirms over a new connection, which async does not allow; remove async, or set confirm_timeout to 0"
            )
        if self._task.check_mode or arguments.get("state", "present") != "present" or self._task.async_val:
            result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val))
            return result
        token = secrets.token_hex(8)
        began = time.monotonic()
        try:
            said = self._execute_module(module_args={**arguments, "token": token}, task_vars=task_vars)
        except AnsibleConnectionFailure:
            if not self.seconds(timeout):
                raise
            # The ruleset may have cut the answer off. If the host never got so far, it knows no such change, and the error stands.
            said = self.confirm(arguments, token, task_vars, began + self.seconds(timeout), UNANSWERED)
            if said is None or said.get("unknown"):
                raise
            result.update({"changed": True, **said})
            return result
        waiting = said.pop("waiting", None)
        if waiting:
            answer = self.confirm(arguments, token, task_vars, time.monotonic() + waiting["left"])
            said.update(answer or {"failed": True, "msg": self.lost(timeout)})
            said.pop("unknown", None)
        result.update(said)
        return result

    @staticmethod
    def seconds(timeout):
        try:
            return int(timeout)
        except (TypeError, ValueError):
            return 30

    @staticmethod
    def unreachable(timeout, pace):
        """Why nobody confirmed in time. How long a connection takes under the old rules tells a slow host from a lock-out.

        :param pace: the seconds of a new connection and a call after the rollback; None where it failed.
        """
        if pace is not None and pace >= timeout * SLOW:
            return (
                f"the host is slow, so that the change was not confirmed within {timeout} s, and was taken back: a new connection takes"
                f" {pace:.0f} s with the old rules, too; raise confirm_timeout (firewall_confirm_timeout) above {max(2 * pace, timeout):.0f},"
                " or run again when the host has less to do"
            )
        told = "" if pace is None else f"; with the old rules it takes {pace:.1f} s"
        return (
            f"the ruleset cut the controller off: no new connection within {timeout} s{told}, so the host took it back by itself and is as it was;"
            " let in the address that Ansible comes from, then run again; where the host was merely slow, raise confirm_timeout"
            " (firewall_confirm_timeout)"
        )

    @staticmethod
    def lost(timeout):
        return (
            f"the change was applied, and the host does not answer since, also not {GRACE} s after its {timeout} s were over and it should have"
            " taken the change back; look at it on its console, beginning with the state file"
        )

    def confirm(self, arguments, token, task_vars, end, grace=None):
        """What becomes of the change: tried until the host has either confirmed it or gone back. None where nobody answers."""
        asked = {name: arguments[name] for name in ("table", "path", "mode", "state_file") if name in arguments}
        asked.update(state="confirmed", token=token, fresh=self._connection.transport in CUT_OFF)
        end += GRACE if grace is None else grace
        while time.monotonic() < end:
            try:
                self.make_anew()
                said = self._execute_module(module_args=asked, task_vars=task_vars)
            except AnsibleError:
                time.sleep(0.5)
                continue
            if said.get("rolled_back"):
                message = self.unreachable(self.seconds(arguments.get("confirm_timeout", 30)), self.pace(asked, task_vars))
                return {"failed": True, "rolled_back": True, "changed": False, "msg": message}
            if said.get("failed"):
                return {"failed": True, "msg": said.get("msg", "the change was not confirmed"), "unknown": said.get("unknown", False)}
            return {"confirmed": True}
        return None

    def pace(self, asked, task_vars):
        """The seconds that a new connection and a call take; None where that fails."""
        began = time.monotonic()
        try:
            self.make_anew()
            self._execute_module(module_args=asked, task_vars=task_vars)
        except AnsibleError:
            return None
        return time.monotonic() - began

    def make_anew(self):
        """The next command makes a connection of its own: one that is open passes nearly any ruleset."""
        if type(self._connection).reset is not ConnectionBase.reset:
            self._connection.reset()
