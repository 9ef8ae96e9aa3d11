#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ospf_routing
short_description: Speak OSPFv2 and OSPFv3 with FRR, to declared neighbours and about declared addresses
version_added: 0.1.0
description:
  - Writes the configuration of FRR, and compares it with the file and with what the running FRR has in its memory.
  - A configuration that FRR's own check refuses replaces nothing. One that is taken is applied without a restart, so that
    neighbours stay; FRR is restarted only where one of its daemons has to be added. One that is needed no more is not started
    again, and runs without a configuration until FRR's next restart.
  - An interface is passive (its network is told, nobody is listened to) unless neighbours are declared on it. An IPv4 neighbour
    has OSPFv2 spoken there, an IPv6 one OSPFv3.
  - Of what is learned, only the service addresses and O(accept) get into the kernel's table.
  - Sets the kernel's switches that belong to it (spreading by flow, forwarding on routers, silence about service addresses). IPv6 is
    forwarded only where OSPFv3 is spoken; where a router has its own default route by router advertisement it goes on listening
    (C(accept_ra=2)). O(state=absent) removes the file that sets them at boot, and leaves them as they are until then.
options:
  state:
    description:
      - V(absent) stops FRR, where its configuration is from this module, and removes what the module wrote.
      - A configuration that FRR itself has written since (C(write memory)) is known by the names in it.
    type: str
    choices: [present, absent]
    default: present
  interfaces:
    description: Links that OSPF knows. At least one, unless O(state=absent).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the interface. It has to exist.
        type: str
        required: true
      area:
        description: Its area, a number or four with dots.
        type: str
        default: 0.0.0.0
      cost:
        description: Its cost, 1 to 65535. FRR takes it from the speed of the link when it is not given.
        type: int
      network:
        description: Kind of the link.
        type: str
        choices: [broadcast, point-to-point]
        default: broadcast
      priority:
        description:
          - Turn in the election of the link's designated router, V(0) for never, up to V(255).
          - V(10) on routers and V(0) on other hosts when it is not given.
        type: int
      neighbours:
        description:
          - Addresses or networks from which OSPF is expected. IPv4 ones lie in the interface's subnet, IPv6 ones in V(fe80::/10).
          - That nobody else is heard is the packet filter's to see to.
        type: list
        elements: str
        default: []
  service_addresses:
    description: Addresses that several hosts hold and each announces, without a length. They may not lie in the network of a link.
    type: list
    elements: str
    default: []
  hold:
    description: Announce those of O(service_addresses) that are on the loopback interface. Putting them there is another's job.
    type: bool
    default: false
  router:
    description: Forward packets, and be ready to be the designated router.
    type: bool
    default: false
  accept:
    description:
      - Prefixes besides the service addresses that may get into the kernel's table, exactly as given.
      - V(198.51.100.0/22 le 24) lets in its parts too, down to that length. A default route has to be given as V(0.0.0.0/0) or V(::/0).
    type: list
    elements: str
    default: []
  router_id:
    description:
      - Four numbers with dots. Empty keeps the current one while it is an address of an interface with neighbours, else takes the lowest of them.
    type: str
    default: ""
  authentication:
    description:
      - How neighbours prove who they are. V(hmac-sha-256) needs FRR 10 (Debian 13); V(md5) is all that the one of Debian 12 has,
        and there for OSPFv2 only.
    type: str
    choices: [none, md5, hmac-sha-256]
    default: md5
  key:
    description:
      - The key that all hosts of a link share; up to 16 characters with V(md5), 63 with V(hmac-sha-256); no blanks, no C(?).
      - In a file that root and FRR alone can read; in no diff, no log and no list of processes.
    type: str
  key_id:
    description: Number of the key, 1 to 255.
    type: int
    default: 1
  hello_interval:
    description: Seconds between two hellos.
    type: int
    default: 1
  dead_interval:
    description: Seconds without a hello after which a neighbour is gone.
    type: int
    default: 4
  bfd:
    description: Watch neighbours with BFD as well, which notices within a second.
    type: bool
    default: true
  bfd_interval:
    description: Milliseconds between two packets of BFD, 10 to 60000.
    type: int
    default: 300
  bfd_multiplier:
    description: Packets lost in a row after which a neighbour is gone, 2 to 255.
    type: int
    default: 3
  graceful_restart:
    description: Seconds for which neighbours keep the routes of a host whose FRR restarts in an orderly way; V(0) has them drop those.
    type: int
    default: 60
  foreign:
    description: What becomes of a configuration of FRR that somebody else has written. V(replace) keeps copies of it as C(*.before-crm-platform).
    type: str
    choices: [refuse, replace]
    default: refuse
  variable_prefix:
    description: Put before the names of options in error messages. A role gives that of its variables.
    type: str
    default: ""
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Where FRR is not installed yet, the options are checked and everything is reported as a change.
  diff_mode:
    support: full
    details: Without the key.
  platform:
    platforms: posix
requirements:
  - frr and frr-pythontools, Debian's packages of FRR 8.4 or later
  - ip (Debian package iproute2)
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: A router between the clients and the application hosts
  crm.platform.ospf_routing:
    router: true
    key: "{{ ospf_key }}"
    service_addresses: [192.0.2.10]
    interfaces:
      - name: eth0
        neighbours: [198.51.100.11, 198.51.100.12]
      - name: eth1

- name: An application host, which announces the service address while it has it
  crm.platform.ospf_routing:
    hold: true
    key: "{{ ospf_key }}"
    service_addresses: [192.0.2.10]
    accept: [203.0.113.0/24]
    interfaces:
      - name: eth0
        neighbours: [198.51.100.1]
"""

RETURN = r"""
steps:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: ["write /etc/frr/frr.conf (content)", "reload frr"]
differences:
  description: What the running FRR lacked or had beyond what is wanted, with every key hidden.
  returned: always
  type: list
  elements: str
  sample: ["+ interface eth0 / ip ospf cost 20"]
"""

import os
import socket

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import files, nftables
from ansible_collections.crm.platform.plugins.module_utils.ospf import frr, host, model


class Routing:
    """Wanted and present state: read once, planned once, then applied."""

    def __init__(self, module):
        self.module, self.params = module, module.params
        self.run = nftables.runner(module)
        self.version = host.frr_version(self.run)
        self.conf, self.daemons = host.read(host.FRR_CONF) or "", host.read(host.DAEMONS) or ""
        self.switches, self.missing, self.text, self.file_steps, self.differences = {}, [], "", [], []

    def variable(self, option):
        return self.params["variable_prefix"] + option

    def plan(self):
        """The steps, in order."""
        if self.params["state"] == "absent":
            return self.plan_absent()
        if not self.params["interfaces"]:
            raise model.OspfError(f"{self.variable('interfaces')} is empty; list the interface that leads to the neighbours, or ask for state absent")
        current = host.router_id(self.conf) if frr.is_ours(self.conf) else ""
        wanted = model.parse(self.params, host.addresses(self.run), self.variable, current)
        if self.params["foreign"] == "refuse" and frr.is_foreign(self.conf):
            raise model.OspfError(
                f"{host.FRR_CONF} holds a configuration that somebody else has written; move it away, or set {self.variable('foreign')} to replace"
            )
        if wanted.authentication == "hmac-sha-256" and self.version and int(self.version.split(".", maxsplit=1)[0]) < 10:
            raise model.OspfError(
                f"{self.variable('authentication')} is hmac-sha-256, and FRR {self.version} of this host has only md5; take md5 on all hosts of the link"
            )
        if wanted.authentication != "none" and not self.params["key"] and not self.module.check_mode:
            raise model.OspfError(
                f"{self.variable('key')} is empty, and {self.variable('authentication')} is {wanted.authentication}; give a key, or take none"
            )
        six = wanted.speaks(6)
        advertised = host.advertised(self.run, host.read(host.SYSCTL) or "") if wanted.router and six else []
        switches = host.switches(wanted.router, wanted.holds, six, advertised)
        self.switches = {name: value for name, value in switches.items() if host.switch(name) is not None}
        host.check_switches(self.switches)
        forwarding = host.forwarding()
        if wanted.router:
            forwarding = {4: True, 6: six or forwarding[6]}
        self.text = frr.render(wanted, self.params["key"] or "", socket.gethostname(), ".".join((self.version or "8.4").split(".")[:2]), forwarding)
        on = frr.wanted_daemons(wanted)
        specs = [
            self.daemons_spec(on),
            {"path": host.FRR_CONF, "content": self.text, "owner": "root", "group": "frr", "mode": "0640", "secret": True},
            {"path": host.SYSCTL, "content": self.sysctl(), "owner": "root", "group": "root", "mode": "0644"},
        ]
        if frr.is_foreign(self.conf):
            specs[:2] = [{**spec, "keep": spec["path"] + host.BEFORE} for spec in specs[:2]]
        self.file_steps = self.plan_files(specs)
        steps = [f"keep {path} as {copy}" for path, copy in files.kept(self.file_steps).items()]
        steps += [f"write {step.path} ({', '.join(step.reasons)})" for step in self.file_steps]
        steps += [f"set {name}={value}" for name, value in self.switches.items() if host.switch(name) != value]
        if not self.version:
            return [*steps, "enable frr", "restart frr"]
        self.missing = sorted(set(on) - set(host.alive(self.run)))
        now = host.running(self.run)
        self.differences = frr.differences(now or "", self.text)
        if not host.enabled(self.run):
            steps.append("enable frr")
        if self.missing or now is None:
            steps.append("restart frr")
        elif self.differences:
            steps.append("reload frr")
        return steps

    def plan_files(self, specs):
        """As files.plan does; before the package is there its group is not either."""
        if not self.version:
            specs = [{**spec, "owner": "root", "group": "root"} if "content" in spec else spec for spec in specs]
        return files.plan(files.normalise_all(specs))

    def sysctl(self):
        lines = ["# Made by crm.platform.ospf_routing; what is changed here by hand is undone by the next run."]
        return "".join(f"{line}\n" for line in lines + [f"{name} = {value}" for name, value in self.switches.items()])

    def plan_absent(self):
        if not frr.is_ours(self.conf):
            return []
        specs = [{"path": host.SYSCTL, "state": "absent"}]
        # Else whoever starts FRR for something else starts these, too.
        specs += [self.daemons_spec(())] if self.daemons else []
        self.file_steps = self.plan_files([*specs, {"path": host.FRR_CONF, "state": "absent"}])
        steps = ["stop frr"] if host.active(self.run) else []
        steps += ["disable frr"] if host.enabled(self.run) else []
        return steps + [f"{'write' if step.spec['state'] == 'file' else 'remove'} {step.path}" for step in self.file_steps]

    def daemons_spec(self, on):
        return {"path": host.DAEMONS, "content": frr.daemons_file(self.daemons, on), "owner": "frr", "group": "frr", "mode": "0640"}

    def apply(self, steps):
        if self.params["state"] == "present" and not self.version:
            raise model.OspfError("FRR is not installed; install the packages frr and frr-pythontools first")
        if self.params["state"] == "absent":
            # What says that it is ours goes last, so that a run that was killed is finished by the next.
            for step in steps:
                if step in ("stop frr", "disable frr"):
                    host.systemctl(self.run, step.split()[0])
        transaction = files.Transaction(self.file_steps)
        try:
            transaction.stage()
            staged = transaction.staged_path(host.FRR_CONF)
            if staged and self.params["state"] == "present":
                host.validate(self.run, staged)
            # First what may fail.
            for name, value in self.switches.items():
                if host.switch(name) != value:
                    host.set_switch(name, value)
            transaction.commit()
            self.take(steps)
        except BaseException:
            transaction.rollback()
            if self.file_steps and self.params["state"] == "present" and frr.is_ours(self.conf):
                self.give_back()
            raise

    def take(self, steps):
        if "enable frr" in steps:
            host.systemctl(self.run, "enable")
        if "restart frr" in steps:
            host.systemctl(self.run, "restart")
            host.settle(self.run, self.text)
        elif "reload frr" in steps:
            host.reload(self.run, self.text)

    def give_back(self):
        """The files are the old ones again; FRR has to have them too, or else nobody can help it."""
        try:
            host.reload(self.run, self.conf)
        except model.OspfError as exc:
            self.module.warn(f"the old configuration could not be brought back: {exc}")

    def diff(self):
        parts = [{"before_header": step.path, "after_header": step.path, "before": step.before, "after": step.after} for step in self.file_steps]
        if self.differences:
            kept = [line[2:] for line in self.differences if line.startswith("- ")], [line[2:] for line in self.differences if line.startswith("+ ")]
            parts.append(
                {
                    "before_header": "running FRR",
                    "after_header": "wanted FRR",
                    "before": "".join(f"{line}\n" for line in kept[0]),
                    "after": "".join(f"{line}\n" for line in kept[1]),
                }
            )
        return parts


def arguments():
    interface = {
        "name": {"type": "str", "required": True},
        "area": {"type": "str", "default": "0.0.0.0"},
        "cost": {"type": "int"},
        "network": {"type": "str", "choices": list(model.NETWORKS), "default": "broadcast"},
        "priority": {"type": "int"},
        "neighbours": {"type": "list", "elements": "str", "default": []},
    }
    return {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "interfaces": {"type": "list", "elements": "dict", "default": [], "options": interface},
        "service_addresses": {"type": "list", "elements": "str", "default": []},
        "hold": {"type": "bool", "default": False},
        "router": {"type": "bool", "default": False},
        "accept": {"type": "list", "elements": "str", "default": []},
        "router_id": {"type": "str", "default": ""},
        "authentication": {"type": "str", "choices": list(model.AUTHENTICATIONS), "default": "md5"},
        "key": {"type": "str", "no_log": True},
        "key_id": {"type": "int", "default": 1, "no_log": False},
        "hello_interval": {"type": "int", "default": 1},
        "dead_interval": {"type": "int", "default": 4},
        "bfd": {"type": "bool", "default": True},
        "bfd_interval": {"type": "int", "default": 300},
        "bfd_multiplier": {"type": "int", "default": 3},
        "graceful_restart": {"type": "int", "default": 60},
        "foreign": {"type": "str", "choices": ["refuse", "replace"], "default": "refuse"},
        "variable_prefix": {"type": "str", "default": ""},
    }


def main():
    module = AnsibleModule(argument_spec=arguments(), supports_check_mode=True)
    os.environ["PATH"] = nftables.environment()["PATH"]
    routing = Routing(module)
    try:
        steps = routing.plan()
        if steps and not module.check_mode:
            routing.apply(steps)
    except (model.OspfError, files.FilesError, OSError) as exc:
        module.fail_json(msg=" ".join(str(exc).split()))
    module.exit_json(changed=bool(steps), steps=steps, differences=routing.differences, diff=routing.diff())


if __name__ == "__main__":
    main()
