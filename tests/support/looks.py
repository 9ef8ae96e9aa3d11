# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health checks on a host without a playbook: the collection's own code with the module's options, a second a look."""

from __future__ import annotations

import io
import json
import tarfile
import typing as t
from pathlib import Path

import hosts

LIBRARY = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
PLACE = "/usr/local/lib/crm-test-looks"
UTILS = "ansible_collections/crm/platform/plugins/module_utils"
HISTORY = "/var/lib/crm-test-looks/history.json"
# What the module does, as far as it can be seen from outside. Ansible itself is not on the host.
PROGRAM = """
import importlib, json, os, pkgutil, sys
options = json.load(sys.stdin)
name = "ansible_collections.crm.platform.plugins.module_utils.health"
health = importlib.import_module(name)
parts = {one.name: importlib.import_module(f"{name}.{one.name}") for one in pkgutil.iter_modules(health.__path__) if one.name != "report"}
history, registry = parts["history"], parts["registry"]
kept = {}
if os.path.exists(options["history"]):
    kept = history.checked(json.load(open(options["history"])))
host = parts["probe"].Host(options, kept)
try:
    results, problems = registry.run(host, options["areas"], options["skip"], options["thresholds"], options["time_limit"])
finally:
    host.close()
kept = history.extended(kept, host.now, host.counters, host.series, results)
os.makedirs(os.path.dirname(options["history"]), exist_ok=True)
json.dump(kept, open(options["history"], "w"))
print(json.dumps({"results": results, "summary": registry.summary(results), "problems": problems}))
"""
# module_utils/postgres.py wants these two, and nothing here uses them.
ANSIBLE = "class AnsibleModule: pass\ndef missing_required_lib(name, **dummy): return name\n"


class Looks:
    """The checks on one host.

    :param options: those of the module health_check; the history is one of its own, which no timer touches.
    """

    def __init__(self, host: hosts.Host, options: t.Mapping[str, t.Any]) -> None:
        self.host = host
        self.options = {**options, "history": HISTORY, "textfile": None, "login_password": ""}
        self.options.update(login_host=options.get("login_host") or "", skip=options.get("skip") or [], thresholds=options.get("thresholds") or {})
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(LIBRARY, UTILS, filter=lambda one: None if "__pycache__" in one.name else one)
            for name, text in (("look.py", PROGRAM), ("ansible/module_utils/basic.py", ANSIBLE)):
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text.encode()))
        host.sh(f"mkdir -p {PLACE}; rm -f {HISTORY}")
        hosts.subprocess.run(["docker", "exec", "-i", host.name, "tar", "-xC", PLACE, "--no-same-owner"], input=packed.getvalue(), check=True)

    def look(self, thresholds: t.Optional[t.Mapping] = None) -> dict:
        """The results by id."""
        options = {**self.options, "thresholds": {**self.options["thresholds"], **(thresholds or {})}}
        said = self.host.run("env", f"PYTHONPATH={PLACE}", "python3", f"{PLACE}/look.py", input=json.dumps(options))
        found = json.loads(said.stdout)
        assert not found["problems"], found["problems"]
        return {one["id"]: one for one in found["results"]}

    def history(self, change: t.Callable[[dict], None]) -> None:
        """Let the last look have been another one."""
        kept = json.loads(self.host.read(HISTORY))
        change(kept)
        self.host.write(HISTORY, json.dumps(kept))
