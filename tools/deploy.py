# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the CRM up on an inventory, and say where it is.

    deploy.py inventories/local           a container on this machine, made here
    deploy.py inventories/single          real servers over ssh
    deploy.py --destroy inventories/local

What follows `--` goes to ansible-playbook, such as `-- --check --diff`.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import lab

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Of ansible.cfg, too.
DEFAULT = "inventories/local"
BIN = ROOT / ".cache" / "venv" / "bin"


class Phases:
    """Names each phase as it begins, and how long it took as it ends."""

    def __init__(self, total: int) -> None:
        self.total, self.count, self.times = total, 0, []

    def run(self, title, function, *arguments):
        self.count += 1
        lab.say(f"[{self.count}/{self.total}] {title}")
        begin = time.monotonic()
        result = function(*arguments)
        self.times.append((title, time.monotonic() - begin))
        lab.say(f"      done in {self.times[-1][1]:.1f} s")
        return result


def inventory_hosts(inventory: str) -> dict:
    """Variables of the inventory's hosts by name."""
    command = [str(BIN / "ansible-inventory"), "-i", inventory, "--list"]
    result = subprocess.run(command, text=True, capture_output=True, check=False, cwd=ROOT)
    if result.returncode:
        raise lab.LabError(f"the inventory {inventory} cannot be read: {result.stderr.strip().splitlines()[-1]}")
    data = json.loads(result.stdout)
    variables = data["_meta"]["hostvars"]
    members = set()
    for group in data.values():
        members.update(group.get("hosts", []))
    if not members:
        raise lab.LabError(f"the inventory {inventory} names no host; see inventories/single for one that does")
    return {name: variables.get(name, {}) for name in sorted(members)}


def containers(hosts: dict) -> list:
    return [name for name, variables in hosts.items() if variables.get("ansible_connection") == "community.docker.docker"]


def published(name: str) -> dict:
    """{port of the container: port of this machine} of a container that exists; {} where there is none."""
    if not lab.engine_answers():
        return {}
    shown = lab.run("docker", "inspect", "-f", "{{json .HostConfig.PortBindings}}", name, quiet=True)
    if shown.returncode:
        return {}
    return {int(port.split("/")[0]): int(bound[0]["HostPort"]) for port, bound in (json.loads(shown.stdout) or {}).items() if bound}


def check_ports(name: str, https: int, http: int) -> None:
    """Refuse ports that cannot be had, before anything is built."""
    given = {"HTTPS_PORT": https, "HTTP_PORT": http}
    for variable, port in given.items():
        if not 1 <= port <= 65535:
            raise lab.LabError(f"{variable} is {port}; give a port from 1 to 65535")
    if https == http:
        raise lab.LabError(f"HTTPS_PORT and HTTP_PORT are both {https}; give two ports")
    bound = published(name)
    for variable, port, inside in (("HTTPS_PORT", https, 443), ("HTTP_PORT", http, 80)):
        if bound and bound.get(inside) != port:
            raise lab.LabError(
                f"{variable} is {port}, and the container {name} was made with {bound.get(inside)}; Docker cannot change that. Give {bound.get(inside)},"
                " or remove the container with all its data (`make destroy`) first"
            )
        if not bound:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    raise lab.LabError(f"{variable}: port {port} of this machine is in use; choose another with HTTPS_PORT= or HTTP_PORT=")


def start_container(name: str, image: str, https: int, http: int) -> None:
    lab.up(name, image, ["--publish", f"127.0.0.1:{https}:443", "--publish", f"127.0.0.1:{http}:80"])


def play(inventory: str, variables: dict, rest: list) -> None:
    command = [str(BIN / "ansible-playbook"), "-i", inventory, "crm.platform.site"]
    if variables:
        command += ["--extra-vars", json.dumps(variables)]
    result = subprocess.run(command + rest, check=False, cwd=ROOT)
    if result.returncode:
        raise lab.LabError("the playbook failed; its last messages say why. Mend that and run the same command again")


def environment() -> None:
    os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    os.environ["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    os.environ.setdefault("ANSIBLE_FORCE_COLOR", "1" if sys.stdout.isatty() else "0")


def summary(inventory: str, local: list, url: str, phases: Phases) -> None:
    where = f"docker exec {local[0]}" if local else "sudo"
    lab.say("")
    lab.say(f"  The CRM answers at   {url}")
    if local:
        lab.say("                       (your browser warns: the certificate is by the platform's own authority)")
    lab.say("  User                 admin")
    lab.say(f"  Password             {where} cat /etc/crm-platform/secrets/admin_password" + ("" if local else "   (on the host of crm_app)"))
    export = "" if inventory == DEFAULT else f"export ANSIBLE_INVENTORY={pathlib.Path(inventory).resolve()}; "
    lab.say(f"  Check its health     . tools/activate; {export}ansible-playbook crm.platform.health_check")
    if local:
        lab.say("  Look inside          docker exec -it " + local[0] + " bash")
        lab.say("  Remove it all        make destroy")
    lab.say("")
    lab.say("  " + ", ".join(f"{title.lower()} {seconds:.1f} s" for title, seconds in phases.times))


def deploy(inventory: str, https: int, http: int, rest: list) -> None:
    hosts = inventory_hosts(inventory)
    local = containers(hosts)
    phases = Phases(4 if local else 1)
    variables: dict = {}
    if local:
        check_ports(local[0], https, http)
        phases.run("Container engine", lab.ensure_engine)
        image = phases.run("Image", lab.ensure_image, "debian12")
        phases.run("Container", start_container, local[0], image, https, http)
        if https != 8443:
            variables["foundation_url"] = f"https://localhost:{https}"
        bundle = lab.trusted_authorities()
        if bundle:
            variables["crm_package_ca_bundle"] = bundle
    phases.run("Platform (crm.platform.site)", play, inventory, variables, rest)
    first = next(iter(hosts.values()))
    url = variables.get("foundation_url") or first.get("foundation_url") or f"https://{first.get('foundation_domain', next(iter(hosts)))}"
    summary(inventory, local, url, phases)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inventory")
    parser.add_argument("--destroy", action="store_true", help="remove the containers of the inventory")
    parser.add_argument("--https-port", type=int, default=8443)
    parser.add_argument("--http-port", type=int, default=8080)
    parser.add_argument("rest", nargs="*", help="arguments of ansible-playbook, after --")
    arguments = parser.parse_args()
    environment()
    try:
        if arguments.destroy:
            local = containers(inventory_hosts(arguments.inventory))
            if not local:
                raise lab.LabError(f"{arguments.inventory} holds real servers; this command removes containers only")
            if lab.engine_answers():
                lab.down(local)
            lab.say(f"  removed {', '.join(local)}")
        else:
            deploy(arguments.inventory, arguments.https_port, arguments.http_port, arguments.rest)
    except lab.LabError as exc:
        print(f"\ndeploy: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndeploy: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
