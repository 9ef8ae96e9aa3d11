# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: One line for what changed or took long, with host, step and time
version_added: 0.1.0
description:
  - Prints a line for each task that changed something, took longer than O(slow_seconds) or failed, with the time since the start,
    the host, the role, the task and how long it took. What was fine already passes in silence.
  - On a terminal the task at work is shown on the last line; elsewhere a task that lasts is announced once.
  - A task that fails is told with its message, once; with all of its result where a command's output or a loop's items belong to it.
  - Ends with the recap and the slowest tasks, five at most, of those that took a second or more.
  - With C(-v) or more it is the default callback.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
options:
  slow_seconds:
    description: A task that takes longer is shown even though it changed nothing, in seconds.
    type: float
    default: 5
    ini:
      - section: callback_progress
        key: slow_seconds
    env:
      - name: CRM_PLATFORM_PROGRESS_SLOW_SECONDS
author:
  - The crm.platform maintainers (@crm-platform)
requirements:
  - set as stdout callback in the configuration
"""

import sys
import threading
import time

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as Default


# What a result holds beside its message where the message alone does not tell what went wrong.
DETAILS = {"stdout", "stderr", "module_stdout", "module_stderr", "results"}


def outcome(result):
    """The result's dictionary, host name and task, in any supported release."""
    data = result.result if hasattr(result, "result") else result._result
    host = result.host if hasattr(result, "host") else result._host
    task = result.task if hasattr(result, "task") else result._task
    return data, host.get_name(), task


class CallbackModule(Default):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "crm.platform.progress"

    def __init__(self):
        super().__init__()
        self._begin = self._task_begin = time.monotonic()
        self._title = ""
        self._slowest = []
        self._timer = None
        self._terminal = sys.stdout.isatty()

    # --- what is printed ---

    def _line(self, word, host, seconds, color=None):
        self._clear()
        text = f"{time.monotonic() - self._begin:7.1f} s  {word:<11} {host}  {self._title}"
        if seconds >= 1:
            text += f"  ({seconds:.1f} s)"
        self._display.display(text, color=color)

    def _clear(self):
        if self._terminal:
            sys.stdout.write("\r\033[K")
            sys.stdout.flush()

    def _show_current(self):
        if self._terminal:
            sys.stdout.write(f"\r\033[K{time.monotonic() - self._begin:7.1f} s  ...         {self._title}"[:118])
            sys.stdout.flush()

    def _announce(self):
        self._display.display(f"{time.monotonic() - self._begin:7.1f} s  working     {self._title}")

    def _stop_timer(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, result, word, color):
        data, host, dummy = outcome(result)
        seconds = time.monotonic() - self._task_begin
        self._slowest = sorted(self._slowest + [(seconds, self._title)], reverse=True)[:5]
        if data.get("changed") or seconds > self.get_option("slow_seconds"):
            self._line(word, host, seconds, color)

    @property
    def _verbose(self):
        return self._display.verbosity > 0

    # --- what Ansible calls ---

    def v2_playbook_on_play_start(self, play):
        if self._verbose:
            super().v2_playbook_on_play_start(play)
        else:
            self._play = play  # what the default callback prints a task from

    def _task_start(self, task, prefix=None):
        super()._task_start(task, prefix=prefix)
        self._stop_timer()
        self._task_begin = time.monotonic()
        self._title = " ".join(task.get_name().replace("crm.platform.", "").split())
        if self._verbose:
            return
        self._show_current()
        if not self._terminal:
            self._timer = threading.Timer(self.get_option("slow_seconds"), self._announce)
            self._timer.daemon = True
            self._timer.start()

    def _print_task_banner(self, task):
        if self._verbose:
            super()._print_task_banner(task)

    def v2_runner_on_ok(self, result):
        data, host, task = outcome(result)
        if self._verbose:
            super().v2_runner_on_ok(result)
            return
        changed = bool(data.get("changed"))
        self._finish(result, "changed" if changed else "ok", C.COLOR_CHANGED if changed else C.COLOR_OK)
        if data.get("_ansible_verbose_always") and data.get("msg"):
            lines = data["msg"] if isinstance(data["msg"], list) else [data["msg"]]
            self._clear()
            for line in lines:
                self._display.display(f"{'':11}{line}", color=C.COLOR_CHANGED if changed else C.COLOR_OK)
        if hasattr(self, "_handle_warnings_and_exception"):
            self._handle_warnings_and_exception(result)
        else:
            self._handle_warnings(data)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._stop_timer()
        self._clear()
        if not self._verbose:
            data, host, dummy = outcome(result)
            self._line("failed", host, time.monotonic() - self._task_begin, C.COLOR_ERROR)
            # A message that says it all is shown once, whole, with neither a dump of the result nor the source around the task.
            if data.get("msg") and not ignore_errors and not DETAILS & data.keys():
                self._display.display(f"{'':11}{str(data['msg']).strip()}", color=C.COLOR_ERROR)
                self._handle_warnings(data)
                return
        super().v2_runner_on_failed(result, ignore_errors=ignore_errors)

    def v2_runner_on_unreachable(self, result):
        self._stop_timer()
        self._clear()
        super().v2_runner_on_unreachable(result)

    def v2_runner_on_skipped(self, result):
        if self._verbose:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result):
        if self._verbose:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_skipped(self, result):
        if self._verbose:
            super().v2_runner_item_on_skipped(result)

    def v2_playbook_on_no_hosts_matched(self):
        if self._verbose:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_include(self, included_file):
        if self._verbose:
            super().v2_playbook_on_include(included_file)

    def v2_on_file_diff(self, result):
        self._clear()
        super().v2_on_file_diff(result)

    def v2_playbook_on_stats(self, stats):
        self._stop_timer()
        self._clear()
        super().v2_playbook_on_stats(stats)
        slow = [one for one in self._slowest if one[0] >= 1]
        self._display.display(f"{time.monotonic() - self._begin:.1f} s in all" + ("; the slowest tasks:" if slow else ""))
        for seconds, title in slow:
            self._display.display(f"{seconds:7.1f} s  {title}")
