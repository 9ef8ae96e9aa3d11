# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that acts: what the kernel can do, and the running of `tc -batch` and `ip -batch`.

``run(argv, data=None) -> (rc, stdout, stderr)`` runs a command.
"""

from __future__ import annotations

import itertools
import os
import re
import typing as t

from ..nftables import may_unshare
from . import plan as planning
from .live import Live, read
from .model import LEAVES, SHAPERS, ShapingError, ifb_name

# Where the speed of a link is not known (virtual ones, or no cable).
UNKNOWN_LINK = 10**9
PROBE_DEVICE, PROBE_IFB = "crmprobe0", "crmprobe2"

# Prints a word for each thing that the kernel has. $1 is a device of no use to anyone, $2 a name that nobody has.
_PROBE = (
    "if tc qdisc add dev $1 root handle 1: htb default 10 && tc class add dev $1 parent 1: classid 1:10 htb rate 1mbit quantum 1514; then echo htb; "
    + "".join(
        f"tc qdisc add dev $1 parent 1:10 handle 10: {kind}{planning.words(options)} && echo htb+{kind} && tc qdisc del dev $1 parent 1:10; "
        for kind, options in LEAVES.items()
    )
    + "tc qdisc del dev $1 root; fi; tc qdisc add dev $1 root handle 1: cake bandwidth 1mbit diffserv4 && echo cake; "
    "ip link add dev $2 type ifb && ip link set dev $2 up && tc qdisc add dev $1 clsact"
    " && tc filter add dev $1 ingress protocol all pref 1 u32 match u32 0 0 at 0 action mirred egress redirect dev $2 && echo ingress; "
    "tc qdisc del dev $1 clsact; ip link del dev $2; exit 0"
)
_FILE = re.compile(r"^qos-(.+)\.tc$")
# The same name in a network of its own, so that the very lines can be tried.
_REHEARSE = 'ip link add "$1" type veth peer name crmprobe1 || exit 0; exec tc -batch -'


def devices() -> list[str]:
    try:
        return sorted(os.listdir("/sys/class/net"))
    except OSError:
        return []


def default_devices() -> list[str]:
    """The interface of the default route, as a list of one or none. Read without `ip`, which may be missing."""
    try:
        with open("/proc/net/route", encoding="ascii") as stream:
            routes = [line.split() for line in stream.read().splitlines()[1:]]
        with open("/proc/net/ipv6_route", encoding="ascii") as stream:
            routes6 = [line.split() for line in stream.read().splitlines()]
    except OSError:
        routes, routes6 = [], []
    return pick_default(routes, routes6)


def pick_default(routes: t.Sequence, routes6: t.Sequence) -> list[str]:
    """From the words of /proc/net/route and /proc/net/ipv6_route; IPv4 first, the least metric first."""
    found = sorted((int(words[6]), words[0]) for words in routes if len(words) > 7 and words[1] == words[7] == "0" * 8)
    found6 = sorted((int(words[5], 16), words[9]) for words in routes6 if len(words) > 9 and words[1] == "00" and words[9] != "lo")
    return [device for dummy, device in (found or found6)[:1]]


def link_speed(device: str) -> int | None:
    """Bits per second of the link; None where the kernel does not know it."""
    try:
        with open(f"/sys/class/net/{device}/speed", encoding="ascii") as stream:
            speed = int(stream.read())
    except (OSError, ValueError):
        return None
    return speed * 10**6 if speed > 0 else None


class Ability(t.NamedTuple):
    """What the kernel can do."""

    shapers: tuple  # of model.SHAPERS, the best first
    ingress: bool
    reason: str  # why there is none


def probe(run: t.Callable) -> Ability:
    """Try it. Nothing that carries traffic is touched."""
    rc, out, err = run(["unshare", "--net", "sh", "-c", _PROBE, "sh", "lo", PROBE_IFB])
    if rc != 0 and not may_unshare(run):
        rc, out, err = _probe_here(run)
    words = out.split()
    found = tuple(shaper for shaper in SHAPERS if shaper in words)
    why = "the kernel has no queue to put below a class" if "htb" in words else complaint(err)
    return Ability(found, "ingress" in words, "" if found else why)


def _probe_here(run: t.Callable) -> tuple:
    """Without a right to namespaces: on a throw-away stand-in, or where there is none on a pair of devices."""
    made = run(["ip", "link", "add", PROBE_DEVICE, "type", "ifb"])
    if made[0] != 0:
        made = run(["ip", "link", "add", PROBE_DEVICE, "type", "veth", "peer", "name", "crmprobe1"])
    if made[0] != 0:
        return made
    try:
        return run(["sh", "-c", _PROBE, "sh", PROBE_DEVICE, PROBE_IFB])
    finally:
        run(["ip", "link", "del", PROBE_DEVICE])


def rehearse(run: t.Callable, device: str, lines: t.Sequence[str]) -> None:
    """Have the kernel take the whole tree where it shapes nothing."""
    rc, dummy, err = run(["unshare", "--net", "sh", "-c", _REHEARSE, "sh", device], "\n".join(lines) + "\n")
    if rc != 0 and may_unshare(run):
        raise ShapingError(f"{device}: the kernel refuses the classes: {complaint(err)}; nothing was changed")


def apply(run: t.Callable, steps: t.Sequence[planning.Step], device: str) -> None:
    """Run the steps, those of one tool after another in one go; the caller brings back what was there when one fails."""
    for tool, group in itertools.groupby(steps, key=lambda step: step.tool):
        rc, dummy, err = run([tool, "-batch", "-"], "".join(step.line + "\n" for step in group))
        if rc != 0:
            raise ShapingError(f"{device}: {tool} refused a step: {complaint(err)}; what was there before is back")


class Snapshot(t.NamedTuple):
    """An interface and its stand-in as they were."""

    live: Live
    stand_in: Live


def snapshot(run: t.Callable, device: str) -> Snapshot:
    name = ifb_name(device)
    return Snapshot(read(run, device), read(run, name, up=is_up(name)))


def restore(run: t.Callable, before: Snapshot) -> None:
    """Back to the snapshot, step for step, whatever of it fails."""
    device, name = before.live.device, before.stand_in.device
    now = snapshot(run, device)
    steps = []
    if before.stand_in.exists and not now.stand_in.exists:
        steps += [planning.Step(f"link add dev {name} type ifb", "", "ip")]
    if before.stand_in.exists and before.stand_in.up:
        steps += [planning.Step(f"link set dev {name} up", "", "ip")]
    if before.stand_in.exists:
        steps += [planning.Step(line, "") for line in planning.undo(before.stand_in, now.stand_in)]
    if before.live.hook and not now.live.hook:
        steps += [planning.Step(f"qdisc add dev {device} {before.live.hook}", "")]
    wanted = [one for found in before.live.arrival.values() for one in found if isinstance(one, planning.Filter)]
    for group in planning.filter_steps(f"dev {device} ingress", wanted, now.live.arrival):
        steps += group
    if now.live.hook and not before.live.hook:
        steps += [planning.Step(f"qdisc del dev {device} {now.live.hook}", "")]
    if now.stand_in.exists and not before.stand_in.exists:
        steps += [planning.Step(f"link del dev {name}", "", "ip")]
    steps += [planning.Step(line, "") for line in planning.undo(before.live, now.live)]
    for tool, group in itertools.groupby(steps, key=lambda step: step.tool):
        run([tool, "-force", "-batch", "-"], "".join(step.line + "\n" for step in group))
    now = snapshot(run, device)
    lines = planning.refine(before.live, now.live) + planning.refine(before.stand_in, now.stand_in)
    if lines:
        run(["tc", "-force", "-batch", "-"], "".join(line + "\n" for line in lines))


def is_up(device: str) -> bool:
    try:
        with open(f"/sys/class/net/{device}/flags", encoding="ascii") as stream:
            return bool(int(stream.read(), 16) & 1)
    except (OSError, ValueError):
        return False


def has_device_unit(run: t.Callable, unit: str) -> bool:
    """Whether systemd knows the interface; in most containers nobody tells it."""
    return run(["systemctl", "is-active", "--quiet", f"sys-subsystem-net-devices-{unit}.device"])[0] == 0


def complaint(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("Error:")] or lines or ["no reason given"]
    return told[0].rstrip(".")


def persisted_devices(directory: str) -> list[str]:
    """The interfaces whose files boot loads: an earlier run may have shaped them."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(match.group(1) for match in map(_FILE.match, names) if match)
