# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that acts: what the kernel can do, and the running of `tc -batch`.

``run(argv, data=None) -> (rc, stdout, stderr)`` runs a command.
"""

from __future__ import annotations

import os
import re
import typing as t

from ..nftables import may_unshare
from . import plan as planning
from .live import Live
from .model import LEAVES, ShapingError

# Where the speed of a link is not known (virtual ones, or no cable).
UNKNOWN_LINK = 10**9
PROBE_DEVICE = "crmprobe0"

# Prints 'htb' and the first leaf that the kernel has. $1 is a device of no use to anyone.
_PROBE = (
    "tc qdisc add dev $1 root handle 1: htb default 10"
    " && tc class add dev $1 parent 1: classid 1:10 htb rate 1mbit quantum 1514 && echo htb || exit 0; "
    + "".join(
        "tc qdisc add dev $1 parent 1:10 handle 10: {0} {1} && echo {0} && exit 0; ".format(
            kind, " ".join(f"{name} {value}" for name, value in options)
        )
        for kind, options in LEAVES.items()
    )
    + "exit 0"
)
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


def link_speed(device: str) -> int:
    """Bits per second of the link, as far as the kernel knows."""
    try:
        with open(f"/sys/class/net/{device}/speed", encoding="ascii") as stream:
            speed = int(stream.read())
    except (OSError, ValueError):
        return UNKNOWN_LINK
    return speed * 10**6 if speed > 0 else UNKNOWN_LINK


def probe(run: t.Callable) -> tuple[bool, str, str]:
    """(can shape, the leaf to take, why not). Nothing that carries traffic is touched."""
    rc, out, err = run(["unshare", "--net", "sh", "-c", _PROBE, "sh", "lo"])
    if rc != 0 and not may_unshare(run):
        rc, out, err = _probe_here(run)
    words = out.split()
    if words[:1] != ["htb"]:
        return False, "", complaint(err)
    leaf = next((word for word in words[1:] if word in LEAVES), "")
    return (True, leaf, "") if leaf else (False, "", "the kernel has no queue to put below a class")


def _probe_here(run: t.Callable) -> tuple:
    """Without a right to namespaces: on a throw-away pair of devices."""
    made = run(["ip", "link", "add", PROBE_DEVICE, "type", "veth", "peer", "name", "crmprobe1"])
    if made[0] != 0:
        return made
    try:
        return run(["sh", "-c", _PROBE, "sh", PROBE_DEVICE])
    finally:
        run(["ip", "link", "del", PROBE_DEVICE])


def rehearse(run: t.Callable, device: str, lines: t.Sequence[str]) -> None:
    """Have the kernel take the whole tree where it shapes nothing."""
    rc, dummy, err = run(["unshare", "--net", "sh", "-c", _REHEARSE, "sh", device], "\n".join(lines) + "\n")
    if rc != 0 and may_unshare(run):
        raise ShapingError(f"{device}: the kernel refuses the classes: {complaint(err)}; nothing was changed")


def apply(run: t.Callable, lines: t.Sequence[str], live: Live) -> None:
    """Run the lines; when one fails, bring back what was there."""
    rc, dummy, err = run(["tc", "-batch", "-"], "\n".join(lines) + "\n")
    if rc != 0:
        restore(run, live)
        raise ShapingError(f"{live.device}: tc refused a step: {complaint(err)}; what was there before is back")


def restore(run: t.Callable, live: Live) -> None:
    run(["tc", "-force", "-batch", "-"], "\n".join(planning.undo(live)) + "\n")


def complaint(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("Error:")] or lines or ["no reason given"]
    return told[0].rstrip(".")


def persisted_devices(path: str) -> list[str]:
    """The interfaces of the file that boot loads: they may have been shaped by an earlier run."""
    try:
        with open(path, encoding="utf-8") as stream:
            return sorted(set(re.findall(r"^qdisc replace dev (\S+) root ", stream.read(), re.MULTILINE)))
    except OSError:
        return []
