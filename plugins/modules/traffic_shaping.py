#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: traffic_shaping
short_description: Keep the classes of traffic of one or more interfaces
version_added: 0.1.0
description:
  - Gives each named class of traffic a guaranteed rate and a ceiling (HTB), a fair queue of its own, and a DSCP mark.
  - Shapes what goes out, and where O(ingress_rate) is given what comes in, which waits behind a stand-in (IFB).
  - Reads what the kernel has and changes only what differs, in place, without tearing the shaper down.
  - Tries on a device of no use to anyone what the kernel can do, and takes the first of HTB with C(cake), C(fq_codel), C(sfq) or
    C(pfifo) as the queues of its classes, and of C(cake) alone, which keeps an order by DSCP but no guarantees. RV(shaper) says which.
    Where it has none of them, nothing is shaped, and the module says so.
  - Outgoing packets are put into classes by an nftables table of its own, so that IPv4 and IPv6 are told alike. Other tables are left
    alone. Incoming ones are by filters (u32) for ports, addresses and DSCP.
  - A new tree is rehearsed in a network namespace first. When a step fails all the same, what was there before is brought back.
  - All of it is written to files, which units load at boot with C(tc -batch) and C(nft -f).
options:
  state:
    description: Whether the interfaces are shaped.
    type: str
    choices: [present, absent]
    default: present
  interfaces:
    description: The interfaces whose traffic is shaped. Empty takes the one of the default route.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the interface.
        type: str
        required: true
      rate:
        description: Rate of its link, by default O(rate). Percent are of the speed that the kernel knows.
        type: str
      ingress_rate:
        description: Rate of what comes in, by default O(ingress_rate). Percent are of its O(interfaces[].rate); V(none) leaves it alone.
        type: str
      overhead:
        description: Bytes that its link adds to each packet, by default O(overhead).
        type: int
      mpu:
        description: The least bytes that a packet takes on its link, by default O(mpu).
        type: int
  rate:
    description:
      - Rate of the link in V(kbit), V(mbit) or V(gbit), counted with link-layer headers, or in percent of the speed that the kernel knows.
      - V(auto) takes that speed, or V(1gbit) where the kernel knows none (virtio), which is warned of.
    type: str
    default: auto
  ingress_rate:
    description:
      - Rate of what comes in, as O(rate), or in percent of it. Empty or V(none) leaves what comes in alone.
      - What comes in has passed the narrow place already. It can only be made to wait so that its senders slow down,
        so give nine tenths of what the line carries.
    type: str
    default: ""
    version_added: 0.1.0
  overhead:
    description:
      - Bytes that the link adds to each packet beside the Ethernet header, such as V(8) for PPPoE.
      - Counted once for each packet that the queue sees; with segmentation offload that may be a train of them.
    type: int
    default: 0
    version_added: 0.1.0
  mpu:
    description: The least bytes that a packet takes on the link, such as V(64).
    type: int
    default: 0
    version_added: 0.1.0
  qdisc:
    description: What shapes. V(auto) takes the first that the kernel has, in the order of the choices.
    type: str
    choices: [auto, htb+cake, htb+fq_codel, htb+sfq, htb+pfifo, cake]
    default: auto
    version_added: 0.1.0
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
          users:
            description: Accounts of this host whose processes send them, as names or numbers. Only for what goes out.
            type: list
            elements: str
            default: []
            version_added: 0.1.0
  reserved:
    description: Classes that may be without anything that matches them, since services to come name them.
    type: list
    elements: str
    default: []
    version_added: 0.1.0
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
    description:
      - What to do about a shaper that somebody else has set on an interface, and where what comes in is shaped, about filters for it.
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
    description: Directory of the files C(qos.nft) and, for each interface, C(qos-INTERFACE.tc), which units load at boot.
    type: path
    default: /etc/crm-platform
  unit:
    description: Name before the C(-) of the units that load the files of an interface; those of interfaces no longer shaped are told.
    type: str
    default: crm-platform-qos
    version_added: 0.1.0
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
  - tc and ip (Debian package iproute2)
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
        ingress_rate: 90%
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
          - users: [backup]
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
shaper:
  description: What was picked, empty where tc is not installed yet.
  returned: always
  type: str
  sample: htb+fq_codel
available:
  description: All that could have been picked, the best first.
  returned: always
  type: list
  elements: str
  sample: [htb+fq_codel, htb+pfifo]
leaf:
  description: The queue of each class, empty where tc is not installed yet or cake shapes alone.
  returned: always
  type: str
  sample: fq_codel
rates:
  description: For each interface the rate of its link.
  returned: always
  type: dict
  sample: {eth0: 100mbit}
links:
  description:
    - For each interface its C(device), its C(ifb) (the stand-in, empty where what comes in is left alone), its name in units of
      systemd (C(unit)), whether systemd has such a unit (C(bound)), its rates in bits per second (C(rate), C(ingress)), and its C(classes)
      with C(name), C(classid), C(guarantee), C(ceil) (bits per second), C(priority) and C(default).
  returned: always
  type: list
  elements: dict
stale_units:
  description: Names of units of interfaces that are no longer shaped.
  returned: always
  type: list
  elements: str
steps:
  description: What was done, or would be in check mode.
  returned: always
  type: list
  elements: str
"""

import glob
import os
import pwd

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import files
from ansible_collections.crm.platform.plugins.module_utils import nftables as nft
from ansible_collections.crm.platform.plugins.module_utils.shaping import classify, host, live, model, plan

HEADER = "# Made by crm.platform.traffic_shaping; what is changed here by hand is undone by the next run.\n"
NOTHING = ("", "none", "off", "false")


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
        self.ruleset_path = os.path.join(self.params["directory"], "qos.nft")
        self.installed = all(module.get_bin_path(tool) for tool in ("tc", "ip", "nft"))
        self.ability, self.shaper = host.Ability((), True, ""), ""
        self.links, self.trees, self.arriving, self.ruleset = {}, {}, {}, ""
        self.classes, self.bound, self.guesses = (), {}, []
        self.check_wishes()

    @property
    def supported(self):
        return not self.present or not self.installed or bool(self.ability.shapers)

    def variable(self, option):
        return self.params["variable_prefix"] + option

    def batch_path(self, device):
        return os.path.join(self.params["directory"], f"qos-{device}.tc")

    def check_wishes(self):
        """Everything that can be said of the options without the kernel."""
        if not self.present:
            return
        variable = self.variable("classes")
        self.classes = model.parse_classes(variable, self.params["classes"])
        self.services = classify.parse_services(self.variable("services"), variable, self.params["services"], self.classes)
        named = [service.traffic_class for service in self.services] + self.params["reserved"]
        model.check_reached(variable, self.classes, named)
        present = host.devices()
        listed = self.params["interfaces"] or [{"name": device} for device in host.default_devices()]
        for spec in listed:
            name = model.parse_interface(self.variable("interfaces"), spec["name"])
            if name in self.links:
                raise model.ShapingError(f"{self.variable('interfaces')}: {name} is listed twice; keep one of the two")
            if name not in present:
                stand_ins = [model.ifb_name(device) for device in present]
                found = ", ".join(device for device in present if device != "lo" and device not in stand_ins)
                raise model.ShapingError(f"{self.variable('interfaces')}: {name} does not exist here; there are {found}")
            self.links[name] = self.link(name, spec)
        if not self.links:
            raise model.ShapingError(
                f"{self.variable('interfaces')}: none is given, and there is no default route to tell; name at least one, such as eth0"
            )
        for link in self.links.values():
            if link.device in [other.ifb for other in self.links.values()]:
                raise model.ShapingError(f"{self.variable('interfaces')}: {link.device} is the stand-in of another; name that one alone")
        self.plant("htb+pfifo")

    def link(self, device, spec):
        """An interface with its rates; what it does not say itself is said for all."""

        def told(option):
            own = spec.get(option) not in (None, "")
            return f"{self.variable('interfaces')}: {device}: {option}" if own else self.variable(option), (
                spec[option] if own else self.params[option]
            )

        known = host.link_speed(device)
        speed = known or host.UNKNOWN_LINK
        variable, rate = told("rate")
        if known is None and (rate == "auto" or str(rate).strip().endswith("%")):
            self.guesses.append(
                f"{variable}: {rate} of a link whose speed is not known: {device} is taken to carry {model.format_rate(speed)}, and nothing leaves it"
                " faster than that allows. Set it to what the line carries."
            )
        rate = speed if rate == "auto" else model.parse_rate(variable, rate, speed)
        variable, ingress = told("ingress_rate")
        if str(ingress).strip().lower() in NOTHING:
            ingress = 0
        else:
            ingress = rate if ingress == "auto" else model.parse_rate(variable, ingress, rate)
        return model.Link(device, rate, ingress, model.parse_size(*told("overhead"), 256), model.parse_size(*told("mpu"), 256))

    def plant(self, shaper):
        variable = self.variable("classes")
        self.trees = {device: model.build_tree(variable, link, self.classes, shaper) for device, link in self.links.items()}
        filters = classify.filters(self.classes, self.services)
        self.arriving = {
            device: model.build_tree(variable, link, self.classes, shaper, filters, ingress=True)
            for device, link in self.links.items()
            if link.ingress
        }

    def pick(self):
        """What shapes here, of what the kernel has."""
        self.ability = host.probe(self.run)
        if not self.ability.shapers:
            return
        wanted = self.params["qdisc"]
        if wanted not in ("auto",) + self.ability.shapers:
            raise model.ShapingError(
                f"{self.variable('qdisc')}: this kernel has no {wanted}; it has {', '.join(self.ability.shapers)}, so give one of these or auto"
            )
        self.shaper = self.ability.shapers[0] if wanted == "auto" else wanted
        if self.shaper == "cake":
            self.module.warn("cake shapes alone here: it sorts by DSCP and keeps no guarantees, for which the kernel needs HTB (sch_htb).")
        if not self.ability.ingress and any(link.ingress for link in self.links.values()):
            if self.params["required"]:
                raise model.ShapingError(
                    f"{self.variable('ingress_rate')}: this kernel cannot shape what comes in; give it the modules ifb, cls_u32 and act_mirred,"
                    " or leave this empty"
                )
            self.module.warn("What comes in is not shaped: this kernel lacks ifb, cls_u32 or act_mirred.")
            self.links = {device: link._replace(ingress=0) for device, link in self.links.items()}
        self.plant(self.shaper)

    def known_users(self):
        """The classes with users as numbers, without those that this host does not have; only a check may go on without.

        By name, one account that was removed later would keep nft from loading all rules at boot.
        """
        classes = []
        for cls in self.classes:
            matches = []
            for match in cls.matches:
                numbers = {user: number(user) for user in match.users}
                missing = [user for user in match.users if not numbers[user]]
                if missing and not self.module.check_mode:
                    raise model.ShapingError(
                        f"{self.variable('classes')}: {cls.name}: users: {', '.join(missing)} does not exist here; make the account first, or correct the name"
                    )
                users = tuple(dict.fromkeys(found for found in numbers.values() if found))
                if missing:
                    self.module.warn(f"{self.variable('classes')}: {cls.name}: users: {', '.join(missing)} does not exist here yet.")
                if users or not missing:
                    matches.append(match._replace(users=users))
            classes.append(cls._replace(matches=tuple(matches)))
        return tuple(classes)

    def read(self):
        """Ask the kernel: what it can, and what it has."""
        self.before, self.live_rules, self.wanted_rules = {}, nft.State(""), nft.State("")
        shaped = host.persisted_devices(self.params["directory"])
        if self.installed:
            if self.present:
                self.pick()
                if not self.supported:
                    return
                self.bound = {device: host.has_device_unit(self.run, model.unit_name(device)) for device in self.links}
            # A stand-in tells of a run that was killed before it wrote its files.
            present = host.devices()
            shaped += [device for device in present if model.ifb_name(device) in present and device not in shaped]
            for device in list(self.links) + shaped:
                if device not in self.before:
                    self.before[device] = host.snapshot(self.run, device)
            self.live_rules = nft.read_live(self.run, self.table)
        self.orphans = [device for device in shaped if device not in self.links]
        contents = {os.path.join(self.params["directory"], old): "" for old in ("qos.tc", "qos-off.tc")}
        contents.update((self.batch_path(device), "") for device in self.orphans)
        contents[self.ruleset_path] = ""
        if self.present:
            self.ruleset = HEADER + classify.ruleset(str(self.table), self.links, self.known_users(), self.services)
            contents[self.ruleset_path] = self.ruleset
            for device, link in self.links.items():
                trees = [self.trees[device]] + ([self.arriving[device]] if link.ingress else [])
                contents[self.batch_path(device)] = text(plan.boot(link, trees))
            if self.installed:
                self.wanted_rules = nft.read_wanted(self.run, self.table, self.ruleset)
        self.file_steps = files.plan(files.normalise_all(self.file_spec(path, content) for path, content in contents.items()))

    def file_spec(self, path, content):
        if not content:
            return {"path": path, "state": "absent"}
        return {"path": path, "content": content, "owner": "root", "group": "root", "mode": "0644"}

    def steps(self):
        """{device: steps}"""
        steps = {}
        for device, tree in self.trees.items():
            link = self.links[device]
            before = self.before.get(device) or host.Snapshot(live.parse(device, "", "", ""), live.parse(link.ifb, "", "", ""))
            self.check_foreign(link, tree, before)
            steps[device] = plan.plan(tree, before.live)
            if link.ingress:
                steps[device] += plan.plan_ingress(link, self.arriving[device], before.live, before.stand_in)
            else:
                steps[device] += plan.plan_no_ingress(device, before.live, before.stand_in)
        for device in self.orphans:
            before = self.before.get(device)
            if not before:
                continue
            steps[device] = plan.plan_no_ingress(device, before.live, before.stand_in)
            if before.live.root and before.live.root.handle == model.ROOT:
                steps[device] += [plan.Step(line, "it is no longer shaped") for line in plan.off([device])]
        return {device: lines for device, lines in steps.items() if lines}

    def check_foreign(self, link, tree, before):
        if self.params["foreign"] != "refuse":
            return
        variable, root = self.variable("interfaces"), before.live.root
        if plan.is_foreign(before.live) and plan.rebuild_reason(tree, before.live):
            raise model.ShapingError(
                f"{variable}: {link.device} is shaped by somebody else ({root.kind} {root.handle}); remove that, or allow it to be replaced"
            )
        foreign = plan.foreign_arrival(before.live) if link.ingress else []
        if foreign:
            raise model.ShapingError(
                f"{variable}: {link.device} has filters of somebody else for what comes in (pref {', '.join(map(str, foreign))});"
                " remove them, or allow them to be replaced"
            )

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

    def apply(self, steps, rules_step):
        if not self.installed and self.present:
            raise model.ShapingError("tc, ip or nft is not installed; install the packages iproute2 and nftables first")
        for device in self.links:
            for tree in (self.trees[device], self.arriving.get(device)):
                if tree and any(f" {tree.device} " in step.line for step in steps.get(device, ())):
                    host.rehearse(self.run, tree.device, plan.whole(tree))
        transaction = files.Transaction(self.file_steps)
        touched, loaded = [], False
        try:
            transaction.stage()
            for device, lines in steps.items():
                touched.append(device)
                host.apply(self.run, lines, device)
            loaded = bool(rules_step)
            if rules_step and self.present:
                nft.check(self.run, self.ruleset)
                nft.load(self.run, self.table, self.ruleset, self.wanted_rules)
            elif rules_step:
                nft.remove(self.run, self.table)
            transaction.commit()
        except BaseException:
            transaction.rollback()
            for device in touched:
                host.restore(self.run, self.before[device])
            if loaded and self.live_rules.exists:
                nft.load(self.run, self.table, f"table {self.table}\ndelete table {self.table}\n{self.live_rules.listing}", self.live_rules)
            elif loaded:
                nft.remove(self.run, self.table)
            raise

    def diff(self, steps):
        names = {cls.classid: cls.name for cls in self.classes}
        parts = []
        for device in steps:
            now, wanted, link = "", "", self.links.get(device)
            if device in self.before:
                before = self.before[device]
                now = plan.describe_live(before.live, names) + (plan.describe_live(before.stand_in, names) if before.stand_in.exists else "")
            if link:
                wanted = plan.describe_tree(self.trees[device], [classify.redirect(link)] if link.ingress else [])
                wanted += plan.describe_tree(self.arriving[device]) if link.ingress else ""
            parts.append({"before_header": f"{device} now", "after_header": f"{device} wanted", "before": now, "after": wanted})
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
        links = [self.describe(link) for link in self.links.values()]
        prefix = self.params["unit"] + "-"
        units = [os.path.basename(path)[: -len(".service")] for path in sorted(glob.glob(f"/etc/systemd/system/{glob.escape(prefix)}*.service"))]
        return {
            "supported": self.supported,
            "reason": self.ability.reason,
            "shaper": self.shaper,
            "available": list(self.ability.shapers),
            "leaf": self.shaper.partition("+")[2],
            "rates": {device: model.format_rate(link.rate) for device, link in self.links.items()},
            "links": links,
            "stale_units": [unit for unit in units if unit not in [prefix + link["unit"] for link in links]],
        }

    def describe(self, link):
        classes = []
        for spec, cls in zip(self.classes, self.trees[link.device].classes[1:]):
            classes.append(
                {"name": spec.name, "classid": cls.classid, "guarantee": cls.rate, "ceil": cls.ceil, "priority": cls.prio, "default": spec.default}
            )
        return {
            "device": link.device,
            "ifb": link.ifb if link.ingress else "",
            "unit": model.unit_name(link.device),
            "bound": self.bound.get(link.device, False),
            "rate": link.rate,
            "ingress": link.ingress,
            "classes": classes,
        }


def number(user):
    """Of the account, as text; '' where there is none."""
    if user.isdigit():
        return user
    try:
        return str(pwd.getpwnam(user).pw_uid)
    except KeyError:
        return ""


def converge(module):
    shaping = Shaping(module)
    shaping.read()
    if not shaping.supported:
        reason = shaping.ability.reason
        if module.params["required"]:
            raise model.ShapingError(
                f"{shaping.variable('required')}: true, and this kernel cannot shape ({reason});"
                " give it the modules sch_htb and sch_fq_codel, or set this to false"
            )
        module.warn(f"Nothing is shaped: this kernel has no HTB ({reason}). The CRM works without.")
        return dict(shaping.facts(), changed=False, steps=[])
    for guess in shaping.guesses:
        module.warn(guess)
    device_steps, rules_step = shaping.steps(), shaping.rules_step()
    steps = [f"{step.tool} {step.line} ({step.reason})" for lines in device_steps.values() for step in lines]
    steps += [rules_step] if rules_step else []
    steps += [("write " if step.spec["state"] == "file" else "remove ") + step.path for step in shaping.file_steps]
    if steps and not module.check_mode:
        shaping.apply(device_steps, rules_step)
    return dict(shaping.facts(), changed=bool(steps), steps=steps, diff=shaping.diff(device_steps) if steps else [])


def main():
    match = {
        "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
        "ports": {"type": "list", "elements": "str", "default": []},
        "addresses": {"type": "list", "elements": "str", "default": []},
        "dscp": {"type": "list", "elements": "str", "default": []},
        "users": {"type": "list", "elements": "str", "default": []},
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
    interface = {
        "name": {"type": "str", "required": True},
        "rate": {"type": "str"},
        "ingress_rate": {"type": "str"},
        "overhead": {"type": "int"},
        "mpu": {"type": "int"},
    }
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "interfaces": {"type": "list", "elements": "dict", "default": [], "options": interface},
            "rate": {"type": "str", "default": "auto"},
            "ingress_rate": {"type": "str", "default": ""},
            "overhead": {"type": "int", "default": 0},
            "mpu": {"type": "int", "default": 0},
            "qdisc": {"type": "str", "choices": ["auto", *model.SHAPERS], "default": "auto"},
            "classes": {"type": "list", "elements": "dict", "default": [], "options": traffic_class},
            "reserved": {"type": "list", "elements": "str", "default": []},
            "services": {"type": "list", "elements": "dict", "default": [], "options": service},
            "foreign": {"type": "str", "choices": ["replace", "refuse"], "default": "replace"},
            "required": {"type": "bool", "default": False},
            "table": {"type": "str", "default": "inet crm_platform_qos"},
            "directory": {"type": "path", "default": "/etc/crm-platform"},
            "unit": {"type": "str", "default": "crm-platform-qos"},
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
