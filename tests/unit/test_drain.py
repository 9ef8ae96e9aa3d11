# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/routing/tasks/drain_move.yml: what a router is asked after a host was moved."""

from __future__ import annotations

import os
import shlex
import subprocess

import jinja2
import pytest
import yaml
from conftest import ROOT

OWN = ["172.31.60.12", "fe80::12", "172.17.0.1"]
NEXT = "172.31.60.12 dev eth0 src 172.31.60.2"
BEYOND = "172.31.60.12 via 10.0.0.1 dev eth0 src 10.0.0.2"
THERE, GONE = "10.99.0.1 nhid 9 proto ospf via 172.31.60.12 dev eth0", "10.99.0.1 proto ospf via 172.31.60.11 dev eth0"
# In the place of iproute2: the way to the host, and the route of the address. The bridge of a container engine has the same address everywhere.
IP = """#!/bin/sh
case "$*" in
  *"get 172.17.0.1") echo "local 172.17.0.1 dev lo" ;;
  *"get fe80::12") echo "fe80::12 dev eth0" ;;
  *get*) echo '{way}' ;;
  *show*) echo '{route}' ;;
esac
"""


@pytest.mark.parametrize(
    "drain, way, route, code, said",
    [
        ("undrain", NEXT, THERE, 0, ""),
        ("undrain", NEXT, GONE, 1, "10.99.0.1"),
        ("drain", NEXT, GONE, 0, ""),
        ("drain", NEXT, THERE, 1, "10.99.0.1"),
        ("undrain", BEYOND, GONE, 0, "beyond"),
        ("drain", BEYOND, GONE, 0, "beyond"),
        ("undrain", "RTNETLINK answers: Network is unreachable", GONE, 0, "beyond"),
    ],
)
def test_only_a_router_that_is_next_to_the_host_is_asked_for_its_address(tmp_path, drain, way, route, code, said):
    tasks = yaml.safe_load((ROOT / "roles/routing/tasks/drain_move.yml").read_text())[0]["block"]
    (task,) = [one for one in tasks if one["name"] == "Wait for the routers"]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["quote"] = shlex.quote
    script = environment.from_string(task["ansible.builtin.shell"]["cmd"]).render(
        _routing_states={"app2": {"own": OWN}},
        inventory_hostname="app2",
        crm_platform_routing={"service_addresses": ["10.99.0.1"]},
        _routing_drain=drain,
    )
    for name, text in (("ip", IP.format(way=way, route=route)), ("sleep", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/bash", "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (code, said, "")
