#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: traffic_shaping
short_description: Keep the classes of outgoing traffic of one or more interfaces
version_added: 0.1.0
description:
  - Gives each named class of traffic a guaranteed rate and a ceiling (HTB), a fair queue of its own, and a DSCP mark.
  - Reads what the kernel has and changes only what differs, in place, without tearing the shaper down.
  - Tries on a device of no use to anyone what the kernel can do, and takes the first of C(fq_codel), C(sfq) and C(pfifo) for
    the queues. Where it has no HTB, nothing is shaped, and the module says so.
  - Packets are put into classes by an nftables table of its own, so that IPv4 and IPv6 are told alike. Other tables are left alone.
  - A new tree is rehearsed in a network namespace first. When a step fails all the same, what was there before is brought back.
  - All of it is written to files, which a unit loads at boot with C(tc -batch) and C(nft -f).
options:
  state:
    description: Whether the interfaces are shaped.
    type: str
    choices: [present, absent]
    default: present
  interfaces:
    description: The interfaces whose outgoing traffic is shaped. Empty takes the one of the default route.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the interface.
        type: str
        required: true
      rate:
        description: Rate of its link, by default O(rate).
        type: str
  rate:
    description:
      - Rate of the link in V(kbit), V(mbit) or V(gbit), counted with link-layer headers.
      - V(auto) takes the speed of the interface, or V(1gbit) where the kernel does not know it.
    type: str
    default: auto
  classes:
    description: The classes. Their guarantees together must fit into the link. Needed for V(present).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the class.
        type: str
        required: true
      guarantee:
        description: Rate that the class always gets, such as V(20mbit) or V(40%).
        type: str
        required: true
      ceil:
        description: Rate that it can reach when others leave theirs.
        type: str
        default: 100%
      priority:
        description: Turn in which it borrows what others leave, V(0) first, V(7) last.
        type: int
        default: 3
      default:
        description: Whether it takes what matches no class. Exactly one class does.
        type: bool
        default: false
      dscp:
        description: Mark for its packets, such as V(af31) or V(cs1). Left as it is when not given.
        type: str
      matches:
        description: Packets that belong to it besides those of O(services); looked at before them, in the order of the classes.
        type: list
        elements: dict
        default: []
        suboptions:
          protocol:
            description: Protocol of the ports.
            type: str
            choices: [tcp, udp]
            default: tcp
          ports:
            description: Ports or ranges, of this host or of the peer.
            type: list
            elements: str
            default: []
          addresses:
            description: Addresses or networks of the peer.
            type: list
            elements: str
            default: []
          dscp:
            description: Marks that the application has set, as names or numbers.
            type: list
            elements: str
            default: []
  services:
    description: Services and the class of their traffic.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the service.
        type: str
        required: true
      protocol:
        description: Protocol of the ports.
        type: str
        choices: [tcp, udp]
        default: tcp
      ports:
        description: Ports on which it listens.
        type: list
        elements: str
        required: true
      traffic_class:
        description: Class of its traffic.
        type: str
        required: true
      served:
        description: Whether this host listens, so that its answers belong to the class.
        type: bool
        default: true
      addresses:
        description: Other hosts that listen, so that requests to them belong to the class.
        type: list
        elements: str
        default: []
  foreign:
    description: What to do about a shaper that somebody else has set on an interface.
    type: str
    choices: [replace, refuse]
    default: replace
  required:
    description: Fail where the kernel cannot shape, instead of warning.
    type: bool
    default: false
  table:
    description: Family and name of the nftables table.
    type: str
    default: inet crm_platform_qos
  directory:
    description: Directory of the files C(qos.tc) and C(qos.nft), which a unit loads at boot, and C(qos-off.tc) for its end.
    type: path
    default: /etc/crm-platform
  variable_prefix:
    description: Put before the names of options in error messages. A role gives that of its variables.
    type: str
    default: ""
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Where tc or nft is not installed yet, the variables are checked and everything is reported as a change.
  diff_mode:
    support: full
  platform:
    platforms: posix
requirements:
  - tc (Debian package iproute2)
  - nft (Debian package nftables)
notes:
  - tc rounds what it prints, so that a rate that differs by less than a thousandth is taken as equal.
  - Where the host allows no network namespaces, nothing is rehearsed, what the kernel can do is tried on a throw-away pair of
    devices, and of the nftables table only the file and whether it is there are compared.
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Keep the CRM quick while backups run
  crm.platform.traffic_shaping:
    interfaces:
      - name: eth0
        rate: 100mbit
    classes:
      - name: crm
        guarantee: 60%
        priority: 1
        dscp: af31
      - name: other
        guarantee: 30%
        default: true
      - name: bulk
        guarantee: 10mbit
        priority: 7
        matches:
          - ports: [873]
    services:
      - name: crm
        ports: [80, 443]
        traffic_class: crm
"""

RETURN = r"""
supported:
  description: Whether the kernel can shape. Taken as true where tc is not installed yet.
  returned: always
  type: bool
reason:
  description: Why it cannot.
  returned: always
  type: str
leaf:
  description: The queue that was picked, empty where tc is not installed yet.
  returned: always
  type: str
  sample: fq_codel
rates:
  description: For each interface the rate of its link.
  returned: always
  type: dict
  sample: {eth0: 100mbit}
steps:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import files
from ansible_collections.crm.platform.plugins.module_utils import nftables as nft
from ansible_collections.crm.platform.plugins.module_utils.shaping import classify, host, live, model, plan

HEADER = "# Made by crm.platform.traffic_shaping; what is changed here by hand is undone by the next run.\n"


def text(lines):
    return HEADER + "".join(line + "\n" for line in lines)


class Shaping:
    """Wanted and present state of the host: read once, planned once, then applied."""

    def __init__(self, module):
        self.module = module
        self.run = nft.runner(module)
        self.params = module.params
        self.present = self.params["state"] == "present"
        self.table = nft.Table.parse(self.params["table"])
        self.batch_path, self.off_path, self.ruleset_path = (
            os.path.join(self.params["directory"], name) for name in ("qos.tc", "qos-off.tc", "qos.nft")
        )
        self.installed = all(module.get_bin_path(tool) for tool in ("tc", "nft"))
        self.supported, self.leaf, self.reason = True, "", ""
        self.trees, self.ruleset = [], ""
        self.check_wishes()

    def variable(self, option):
        return self.params["variable_prefix"] + option

    def check_wishes(self):
        """Everything that can be said of the options without the kernel."""
        if not self.present:
            return
        variable = self.variable("classes")
        self.classes = model.parse_classes(variable, self.params["classes"])
        self.services = classify.parse_services(self.variable("services"), variable, self.params["services"], self.classes)
        self.links = {}
        present = host.devices()
        for spec in self.params["interfaces"] or [{"name": device} for device in host.default_devices()]:
            name = model.parse_interface(self.variable("interfaces"), spec["name"])
            if name in self.links:
                raise model.ShapingError(f"{self.variable('interfaces')}: {name} is listed twice; keep one of the two")
            if name not in present:
                found = ", ".join(device for device in present if device != "lo")
                raise model.ShapingError(f"{self.variable('interfaces')}: {name} does not exist here; there are {found}")
            self.links[name] = self.link_rate(name, spec.get("rate"))
        if not self.links:
            raise model.ShapingError(
                f"{self.variable('interfaces')}: none is given, and there is no default route to tell; name at least one, such as eth0"
            )
        self.plant("pfifo")

    def link_rate(self, device, rate):
        variable = f"{self.variable('interfaces')}: {device}: rate" if rate else self.variable("rate")
        rate = rate or self.params["rate"]
        return host.link_speed(device) if rate == "auto" else model.parse_rate(variable, rate)

    def plant(self, leaf):
        variable = self.variable("classes")
        self.trees = [model.build_tree(variable, device, link, self.classes, leaf) for device, link in self.links.items()]

    def read(self):
        """Ask the kernel: what it can, and what it has."""
        self.live, self.live_rules, self.wanted_rules = {}, nft.State(""), nft.State("")
        shaped = host.persisted_devices(self.batch_path)
        if self.installed:
            if self.present:
                self.supported, self.leaf, self.reason = host.probe(self.run)
                if not self.supported:
                    return
                self.plant(self.leaf)
            for device in [tree.device for tree in self.trees] + shaped:
                self.live.setdefault(device, live.read(self.run, device))
            self.live_rules = nft.read_live(self.run, self.table)
        self.orphans = [device for device in shaped if device not in [tree.device for tree in self.trees]]
        batch = off = ""
        if self.present:
            self.ruleset = HEADER + classify.ruleset(str(self.table), self.links, self.classes, self.services)
            batch = text(line for tree in self.trees for line in plan.whole(tree))
            off = text(plan.off(self.links))
            if self.installed:
                self.wanted_rules = nft.read_wanted(self.run, self.table, self.ruleset)
        contents = {self.batch_path: batch, self.off_path: off, self.ruleset_path: self.ruleset}
        self.file_steps = files.plan(files.normalise_all(self.file_spec(path, content) for path, content in contents.items()))

    def file_spec(self, path, content):
        if not self.present:
            return {"path": path, "state": "absent"}
        return {"path": path, "content": content, "owner": "root", "group": "root", "mode": "0644"}

    def tc_steps(self):
        """{device: steps}"""
        steps = {}
        for tree in self.trees:
            present = self.live.get(tree.device) or live.parse(tree.device, "", "", "")
            if self.params["foreign"] == "refuse" and plan.is_foreign(present) and plan.rebuild_reason(tree, present):
                raise model.ShapingError(
                    f"{self.variable('interfaces')}: {tree.device} is shaped by somebody else ({present.root.kind} {present.root.handle});"
                    " remove that, or allow it to be replaced"
                )
            steps[tree.device] = plan.plan(tree, present)
        for device in self.orphans:
            present = self.live.get(device)
            if present and present.classes:
                steps[device] = [plan.Step(line, "it is no longer shaped") for line in plan.off([device])]
        return {device: lines for device, lines in steps.items() if lines}

    def rules_step(self):
        if not self.present:
            return f"delete table {self.table}" if self.live_rules.exists else None
        if not self.live_rules.exists:
            return f"load table {self.table} (it is absent)"
        if self.wanted_rules is None:
            # No right to namespaces: the file stands in for the live table.
            changed = any(step.path == self.ruleset_path for step in self.file_steps)
            return f"load table {self.table} (its file differs)" if changed else None
        if nft.comparable(self.live_rules.listing) != nft.comparable(self.wanted_rules.listing):
            return f"load table {self.table} (it differs)"
        return None

    def apply(self, tc_steps, rules_step):
        if not self.installed and self.present:
            raise model.ShapingError("tc or nft is not installed; install the packages iproute2 and nftables first")
        for tree in self.trees:
            if tree.device in tc_steps:
                host.rehearse(self.run, tree.device, plan.whole(tree))
        transaction = files.Transaction(self.file_steps)
        touched = []
        try:
            transaction.stage()
            for device, steps in tc_steps.items():
                touched.append(device)
                host.apply(self.run, [step.line for step in steps], self.live[device])
            if rules_step and self.present:
                nft.check(self.run, self.ruleset)
                nft.load(self.run, self.table, self.ruleset, self.wanted_rules)
            elif rules_step:
                nft.remove(self.run, self.table)
            transaction.commit()
        except BaseException:
            transaction.rollback()
            for device in touched:
                host.restore(self.run, self.live[device])
            raise

    def diff(self, tc_steps):
        parts = []
        for device in tc_steps:
            names = {cls.classid: cls.name for cls in self.classes} if self.present else {}
            tree = next((tree for tree in self.trees if tree.device == device), None)
            parts.append(
                {
                    "before_header": f"{device} now",
                    "after_header": f"{device} wanted",
                    "before": plan.describe_live(self.live[device], names) if device in self.live else "",
                    "after": plan.describe_tree(tree) if tree else "",
                }
            )
        wanted = self.wanted_rules.listing if self.wanted_rules else ""
        parts.append(
            {
                "before_header": f"live table {self.table}",
                "after_header": f"wanted table {self.table}",
                "before": nft.comparable(self.live_rules.listing) if self.wanted_rules else "",
                "after": nft.comparable(wanted) if wanted or not self.wanted_rules else self.ruleset,
            }
        )
        return parts + [
            {"before_header": step.path, "after_header": step.path, "before": step.before, "after": step.after} for step in self.file_steps
        ]

    def facts(self):
        rates = {tree.device: model.format_rate(tree.classes[0].rate) for tree in self.trees}
        return {"supported": self.supported, "reason": self.reason, "leaf": self.leaf, "rates": rates}


def converge(module):
    shaping = Shaping(module)
    shaping.read()
    if not shaping.supported:
        if module.params["required"]:
            raise model.ShapingError(
                f"{shaping.variable('required')}: true, and this kernel cannot shape ({shaping.reason});"
                " give it the modules sch_htb and sch_fq_codel, or set this to false"
            )
        module.warn(f"Nothing is shaped: this kernel has no HTB ({shaping.reason}). The CRM works without.")
        return dict(shaping.facts(), changed=False, steps=[])
    tc_steps, rules_step = shaping.tc_steps(), shaping.rules_step()
    steps = [f"tc {step.line} ({step.reason})" for lines in tc_steps.values() for step in lines]
    steps += [rules_step] if rules_step else []
    steps += [("write " if shaping.present else "remove ") + step.path for step in shaping.file_steps]
    if steps and not module.check_mode:
        shaping.apply(tc_steps, rules_step)
    return dict(shaping.facts(), changed=bool(steps), steps=steps, diff=shaping.diff(tc_steps) if steps else [])


def main():
    match = {
        "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
        "ports": {"type": "list", "elements": "str", "default": []},
        "addresses": {"type": "list", "elements": "str", "default": []},
        "dscp": {"type": "list", "elements": "str", "default": []},
    }
    traffic_class = {
        "name": {"type": "str", "required": True},
        "guarantee": {"type": "str", "required": True},
        "ceil": {"type": "str", "default": "100%"},
        "priority": {"type": "int", "default": 3},
        "default": {"type": "bool", "default": False},
        "dscp": {"type": "str"},
        "matches": {"type": "list", "elements": "dict", "default": [], "options": match},
    }
    service = {
        "name": {"type": "str", "required": True},
        "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
        "ports": {"type": "list", "elements": "str", "required": True},
        "traffic_class": {"type": "str", "required": True},
        "served": {"type": "bool", "default": True},
        "addresses": {"type": "list", "elements": "str", "default": []},
    }
    interface = {"name": {"type": "str", "required": True}, "rate": {"type": "str"}}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "interfaces": {"type": "list", "elements": "dict", "default": [], "options": interface},
            "rate": {"type": "str", "default": "auto"},
            "classes": {"type": "list", "elements": "dict", "default": [], "options": traffic_class},
            "services": {"type": "list", "elements": "dict", "default": [], "options": service},
            "foreign": {"type": "str", "choices": ["replace", "refuse"], "default": "replace"},
            "required": {"type": "bool", "default": False},
            "table": {"type": "str", "default": "inet crm_platform_qos"},
            "directory": {"type": "path", "default": "/etc/crm-platform"},
            "variable_prefix": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        result = converge(module)
    except (model.ShapingError, nft.NftError, files.FilesError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
