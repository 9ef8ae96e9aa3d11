# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nftables_ruleset takes with 5,000 networks, beside the bare `nft -f` that it calls.

One container. Each row is the median of 5, by turns. The module is timed on the host, as Ansible runs it there, without the way to it:
it loads the ruleset into a namespace of its own, compares, checks, arms the way back, applies, and reads what came of it. The bar is 2 s.

- nothing differs: what each run pays.
- another network: the table is emptied and filled.
- another structure: the table is made anew, and 5,000 addresses that are shut out are carried over with the time that they have left.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]
import lab  # noqa: E402
import walls  # noqa: E402

NUMBER, ROUNDS = 5000, 5
PATH = "/etc/crm-platform/firewall.nft"
# One call of the module as Ansible makes it: in a process of its own.
TIMED = """
CALL = (
    "import sys; from ansible.module_utils import basic; basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), 'legacy'; "
    "from ansible_collections.crm.platform.plugins.modules import nftables_ruleset; nftables_ruleset.main()"
)
import json, subprocess, sys, time
sys.path.insert(0, "/root/tree")
cases, rounds = json.load(open("/root/cases.json")), int(sys.argv[1])
found = {}
def module(content, timeout, state="present"):
    given = {"ANSIBLE_MODULE_ARGS": {"path": "%(path)s", "content": content, "confirm_timeout": timeout, "state": state, "token": "bench"}}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CALL], input=json.dumps(given), text=True, capture_output=True, cwd="/root/tree")
    took = time.monotonic() - began
    said = json.loads(done.stdout or json.dumps({"failed": done.stderr}))
    assert not said.get("failed"), said
    return took, said
def nft(content):
    began = time.monotonic()
    subprocess.run(["nft", "-f", "-"], input=content, text=True, check=True)
    return time.monotonic() - began
def add(name, seconds):
    found.setdefault(name, []).append(seconds)
for count in range(rounds):
    module(cases["base"], 0)
    subprocess.run(["nft", "-f", "-"], input=cases["bans"], text=True, check=True)
    add("nothing differs", module(cases["base"], 60)[0])
    for name in ("another network", "another structure"):
        took, said = module(cases[name], 60)
        assert said["changed"] and said["waiting"]
        add(name, took)
        add("confirm", module("", 60, "confirmed")[0])
        if name == "another structure":
            listed = subprocess.run(["nft", "list", "set", "inet", "crm_platform", "banned.ipv4"], capture_output=True, text=True).stdout
            assert listed.count("expires") == %(number)d, listed.count("expires")
    add("bare nft -f", nft(cases["base"]))
print(json.dumps(found))
"""


def rulesets() -> dict[str, str]:
    from ansible_collections.crm.platform.plugins.module_utils import firewall
    from given import given

    networks = [f"10.{n // 250}.{n % 250}.0/25" for n in range(NUMBER // 2)] + [f"2001:db8:{2 * n:x}::/48" for n in range(NUMBER // 2)]
    zones = [{"name": "office", "addresses": networks}]
    more = [{"name": "office", "addresses": networks + ["192.0.2.0/24"]}]
    bans = ", ".join(f"198.{18 + n // 65536}.{n // 256 % 256}.{n % 256} . tcp . 22 expires 9m" for n in range(NUMBER))
    return {
        "base": firewall.ruleset(given(zones=zones)),
        "another network": firewall.ruleset(given(zones=more)),
        "another structure": firewall.ruleset(given(zones=more, forward="drop")),
        "bans": f"add element inet crm_platform banned.ipv4 {{ {bans} }}",
    }


def main() -> int:
    import collection

    collection.importable()
    cases = rulesets()
    lab.ensure_engine()
    host = walls.hosts.Host("bench-firewall", source=walls.image())
    try:
        host.create()
        with tempfile.TemporaryDirectory() as directory:
            tree = pathlib.Path(directory) / "tree"
            for package in (
                "plugins/modules/nftables_ruleset.py",
                "plugins/module_utils/nftables.py",
                "plugins/module_utils/nftables_confirm.py",
                "plugins/module_utils/files.py",
            ):
                target = tree / "ansible_collections" / "crm" / "platform" / package
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text((ROOT / package).read_text())
            import ansible.module_utils

            host.run("mkdir", "-p", "/root/tree/ansible", "/etc/crm-platform")
            walls.hosts.engine("cp", f"{tree}/ansible_collections", f"{host.name}:/root/tree/")
            walls.hosts.engine("cp", str(pathlib.Path(ansible.module_utils.__path__[0])), f"{host.name}:/root/tree/ansible/")
            host.write("/root/tree/ansible/__init__.py", "")
        host.write("/root/cases.json", json.dumps(cases))
        found = json.loads(host.run("python3", "-c", TIMED % {"path": PATH, "number": NUMBER}, str(ROUNDS)).stdout)
    finally:
        host.remove()
    bare = statistics.median(found["bare nft -f"])
    load = pathlib.Path("/proc/loadavg").read_text(encoding="ascii").split()[0]
    print(f"{NUMBER} networks, {NUMBER} addresses shut out; median of {ROUNDS} (least to most); load {load}")
    worst = 0.0
    for name, times in found.items():
        middle = statistics.median(times)
        worst = max(worst, middle if name != "bare nft -f" else 0)
        print(f"{name:18} {middle:6.2f} s ({min(times):.2f} to {max(times):.2f})  {middle / bare:5.1f} x bare nft -f")
    print(f"bar: 2 s; {'met' if worst < 2 else 'MISSED'}")
    return 0 if worst < 2 else 1


if __name__ == "__main__":
    sys.exit(main())
