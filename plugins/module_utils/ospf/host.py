# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that looks at the host and acts on it: addresses, kernel switches, FRR.

``run(argv, data=None) -> (rc, stdout, stderr)`` runs a command.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
import typing as t

from .frr import differences, rekey
from .model import OspfError, own_address

FRR_CONF = "/etc/frr/frr.conf"
DAEMONS = "/etc/frr/daemons"
# The end of the names of what somebody else has written and we have replaced.
BEFORE = ".before-crm-platform"
SYSCTL = "/etc/sysctl.d/60-crm-platform-routing.conf"
RELOAD = "/usr/lib/frr/frr-reload.py"
# A daemon that was started a moment ago has not read its configuration yet.
PATIENCE = 15


def addresses(run: t.Callable) -> dict[str, list]:
    """The addresses of each interface, of both families."""
    rc, out, err = run(["ip", "-json", "address", "show"])
    if rc != 0:
        raise OspfError(f"`ip address` failed: {' '.join(err.split())}; install the package iproute2")
    return {
        link["ifname"].split("@")[0]: [own_address(one["local"], one["prefixlen"], one.get("address", "")) for one in link["addr_info"] if "local" in one]
        for link in json.loads(out)
        if link
    }


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def switches(router: bool, holds: bool, six: bool = True, advertised: t.Iterable[str] = ()) -> dict[str, int]:
    """The kernel's switches that routing needs, in the order in which they are set.

    :param six: whether OSPFv3 is spoken: who routes no IPv6 stays a host in it.
    :param advertised: interfaces by which a router of others tells this one its default route.
    """
    # Flows, not only addresses, are spread over the hosts: many users may sit behind one address.
    found = {"net.ipv4.fib_multipath_hash_policy": 1, "net.ipv6.fib_multipath_hash_policy": 1}
    if router:
        found["net.ipv4.ip_forward"] = 1
    if router and six:
        # Who forwards hears no advertisement any more unless told to, and the kernel drops the route at once.
        found.update({accept_ra(interface): 2 for interface in sorted(advertised)})
        found["net.ipv6.conf.all.forwarding"] = 1
    if holds:
        # Nobody on the link may learn that the service address is at this host: a router has to choose.
        found.update({"net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.all.arp_announce": 2})
    return found


def accept_ra(interface: str) -> str:
    """With slashes: the name of an interface may hold dots."""
    return f"net/ipv6/conf/{interface}/accept_ra"


def advertised(run: t.Callable, kept: str) -> list[str]:
    """The interfaces with a default route by router advertisement that the kernel itself listens to, and those of an earlier run.

    :param kept: the file of our switches: a route that is away for a while comes back.
    """
    earlier = re.findall(r"^net/ipv6/conf/(\S+)/accept_ra = 2$", kept, re.M)
    rc, out, dummy = run(["ip", "-6", "-json", "route", "show", "default", "proto", "ra"])
    now = {hop["dev"] for route in json.loads(out or "[]") for hop in (route, *route.get("nexthops", ())) if "dev" in hop} if rc == 0 else set()
    return sorted({name for name in earlier if switch(accept_ra(name)) is not None} | {name for name in now if switch(accept_ra(name)) == 1})


def _switch_path(name: str) -> str:
    return "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))


def switch(name: str) -> int | None:
    """Its value; None where this kernel has no such switch (IPv6 may be off)."""
    text = read(_switch_path(name))
    return int(text) if text is not None and text.strip().isdigit() else None


def set_switch(name: str, value: int) -> None:
    try:
        with open(_switch_path(name), "w", encoding="ascii") as stream:
            stream.write(f"{value}\n")
    except OSError as exc:
        raise OspfError(_fixed(name, value, exc.strerror)) from None


def check_switches(wanted: t.Mapping[str, int]) -> None:
    """Refuse a kernel that may not be changed before anything else is. Root may write everywhere but below a read-only mount."""
    for name, value in wanted.items():
        if switch(name) != value and not os.access(_switch_path(name), os.W_OK):
            raise OspfError(_fixed(name, value, "Read-only file system"))


def _fixed(name: str, value: int, why: str) -> str:
    return f"{name} is {switch(name)} and cannot be set to {value} here ({why}); in a container, let what starts the container set it"


def router_id(conf: str) -> str:
    """The one in FRR's configuration; '' where there is none."""
    match = re.search(r"^ (?:ospf|ospf6) router-id (\S+)$", conf, re.M)
    return match[1] if match else ""


def forwarding() -> dict[int, bool]:
    return {4: switch("net.ipv4.ip_forward") != 0, 6: switch("net.ipv6.conf.all.forwarding") not in (0, None)}


def frr_version(run: t.Callable) -> str:
    """As in `frr version 8.4.4`; '' where FRR is not installed."""
    if not os.path.exists("/usr/bin/vtysh"):
        return ""
    rc, out, dummy = run(["dpkg-query", "--show", "--showformat", "${Version}", "frr"])
    match = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", out) if rc == 0 else None
    return match[1] if match else ""


def active(run: t.Callable) -> bool:
    return run(["systemctl", "is-active", "--quiet", "frr.service"])[0] == 0


def enabled(run: t.Callable) -> bool:
    return run(["systemctl", "is-enabled", "--quiet", "frr.service"])[0] == 0


def systemctl(run: t.Callable, *words: str) -> None:
    # Systemd stops starting what was started thrice in a short time, also by us.
    run(["systemctl", "reset-failed", "frr.service"])
    rc, dummy, err = run(["systemctl", *words, "frr.service"])
    if rc != 0:
        raise OspfError(f"`systemctl {' '.join(words)} frr` failed: {' '.join(err.split())}; `journalctl -u frr` says more")


def running(run: t.Callable) -> str | None:
    """What FRR has in its memory; None where it does not answer."""
    rc, out, dummy = run(["vtysh", "-c", "show running-config"])
    return out if rc == 0 and "Current configuration" in out else None


def alive(run: t.Callable) -> list[str]:
    """The daemons that answer."""
    rc, out, dummy = run(["vtysh", "-c", "show daemons"])
    return out.split() if rc == 0 else []


def validate(run: t.Callable, path: str) -> None:
    rc, out, err = run(["vtysh", "-C", "-f", path])
    if rc != 0:
        # The line that it complains of may hold the key.
        number = re.search(r"line (\d+)", out + err)
        raise OspfError(
            f"FRR refuses {'line ' + number[1] + ' of ' if number else ''}the new {FRR_CONF}, and the old one stays; this is a fault of"
            " crm.platform.ospf_routing or of an FRR that it does not know"
        )


def reload(run: t.Callable, wanted: str) -> None:
    """Have the running FRR take the file, without a restart: neighbours stay."""
    commands = rekey(running(run) or "", wanted)
    before = os.umask(0o077)
    try:
        if commands:
            with tempfile.NamedTemporaryFile("w", prefix="crm-platform-", suffix=".frr") as stream:
                stream.write(commands)
                stream.flush()
                run(["vtysh", "-f", stream.name])
        # To its standard output instead of its log file, which would keep the keys.
        rc, out, err = run(["/usr/bin/python3", RELOAD, "--reload", "--stdout", "--log-level", "error", FRR_CONF])
    finally:
        os.umask(before)
    settle(run, wanted, f"frr-reload.py ended with {rc}" if rc else "")
    del out, err


def settle(run: t.Callable, wanted: str, said: str = "") -> None:
    """Wait until FRR has what it should have."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now = running(run)
        left = differences(now, wanted) if now is not None else ["FRR does not answer"]
        if not left:
            return
        if time.monotonic() > deadline:
            raise OspfError(f"FRR did not take all of the new configuration{f' ({said})' if said else ''}: {'; '.join(left[:4])}")
        time.sleep(0.2)
