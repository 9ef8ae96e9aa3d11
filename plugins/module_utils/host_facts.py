# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel and dpkg say of a host, read from their texts. Pure but for the three functions that look."""

from __future__ import annotations

import hashlib
import os
import socket
import typing as t

from . import postgres_adoption

# An address of each family that only a default route leads to. Nothing is sent there.
ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
PACKAGE_FORMAT = "${db:Status-Status}\t${Package}\t${Version}\n"


def memory_mb(meminfo: str) -> int:
    """The memory of /proc/meminfo in MiB; 0 where it does not say."""
    for line in meminfo.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name == "MemTotal":
            return int(rest.split()[0]) // 1024
    return 0


def processors(cpuinfo: str) -> int:
    """The number of logical processors of /proc/cpuinfo, 1 where it names none."""
    return max(1, sum(1 for line in cpuinfo.splitlines() if line.partition(":")[0].strip() == "processor"))


def ipv6_addresses(if_inet6: str) -> list[str]:
    """The addresses of /proc/net/if_inet6 but for the loopback's, as one writes them."""
    found = []
    for line in if_inet6.splitlines():
        digits = line.split(maxsplit=1)[0]
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
        if address != "::1":
            found.append(address)
    return found


def packages(listing: str) -> dict[str, str]:
    """Versions of the installed packages by name, from a listing in PACKAGE_FORMAT.

    What dpkg has unpacked and not configured, since it was killed, is not installed.
    """
    rows = (line.split("\t") for line in listing.splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}


def rotation(sys_block: str) -> dict[str, dict[str, str]]:
    """Whether each block device turns: {name: {"rotational": "0" or "1"}}."""
    found = {}
    for name in sorted(os.listdir(sys_block)) if os.path.isdir(sys_block) else []:
        text = content(os.path.join(sys_block, name, "queue", "rotational")).strip()
        if text:
            found[name] = {"rotational": text}
    return found


# What the role foundation makes for the others.
SECRETS = "/etc/crm-platform/secrets"
# What the role database writes first into a cluster's configuration, and its copies of the files that it took over.
OURS = "conf.d/crm-platform.conf"
KEPT = ".before-crm-platform"


def adopted(directory: str) -> dict[str, dict[str, list[str]]]:
    """{cluster: {file: its lines}} of clusters that were taken over: pg_hba.conf and pg_ident.conf as they were before."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in clusters(directory):
        for file in ("pg_hba.conf", "pg_ident.conf"):
            path = os.path.join(directory, name, file + KEPT)
            if os.path.exists(path):
                found.setdefault(name, {})[file] = postgres_adoption.lines(content(path))
    return found


def clusters(place: str) -> list[str]:
    """The PostgreSQL clusters that are complete, as in "15/main": conf.d is the last thing that pg_createcluster makes."""
    found = []
    for version in sorted(os.listdir(place)) if os.path.isdir(place) else []:
        for name in sorted(os.listdir(os.path.join(place, version))) if os.path.isdir(os.path.join(place, version)) else []:
            if os.path.isdir(os.path.join(place, version, name, "conf.d")):
                found.append(f"{version}/{name}")
    return found


def untouched(conffiles: str, paths: t.Iterable[str]) -> list[str]:
    """Those of the files that are as a package brought them, links followed: dpkg's field Conffiles has the sums."""
    sums = {words[0]: words[1] for words in (line.split() for line in conffiles.splitlines()) if len(words) > 1}
    found = []
    for path in paths:
        real = os.path.realpath(path)
        if real in sums and os.path.isfile(real):
            with open(real, "rb") as stream:
                if hashlib.md5(stream.read(), usedforsecurity=False).hexdigest() == sums[real]:
                    found.append(path)
    return found


def package_lists(place: str) -> bool:
    """Whether apt's lists of packages were ever fetched: an image that was made today may have none."""
    return os.path.isdir(place) and any(name.endswith(("_Packages", "_Packages.lz4", "_Packages.xz", "_Packages.gz")) for name in os.listdir(place))


def source_address(family: int) -> t.Optional[str]:
    """The address with which this host goes elsewhere, None where no route leads there."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # A datagram socket only looks up the route.
            probe.connect((ELSEWHERE[family], 9))
            return probe.getsockname()[0]
    except OSError:
        return None


def content(path: str) -> str:
    """The text of a file; nothing where there is none to read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
