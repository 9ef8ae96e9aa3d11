# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host: disks and their trend, memory, load, units, clock, updates."""

from __future__ import annotations

import errno
import glob
import os
import re
import socket
import struct
import time
import types
import typing as t
import zlib

from .registry import CRITICAL, OK, WARNING, Reading, Skipped, TimeOver, check

GIB = 1024**3
RESOLVER = "/etc/resolv.conf"
# File systems that hold no data of this host, or are full by their nature.
NO_DISKS = {"tmpfs", "devtmpfs", "squashfs", "iso9660", "overlay-ro", "nsfs", "proc", "sysfs", "cgroup2", "autofs", "fuse.lxcfs", "ramfs", "efivarfs"}
# Their server may hang, and whoever asks waits for it in the kernel, where no signal wakes him: another process asks.
NETWORK = {"nfs", "nfs4", "cifs", "smb3"}
NETWORK_SECONDS = 1
# Cannot be written by their nature.
READ_ONLY = {"erofs", "udf"}


def mounts(host):
    """(directory, numbers as of os.statvfs, whether it is read-only unasked) of each file system that holds data, once a device."""
    return host.once("mounts", lambda: _mounts(host))[0]


def silent(host):
    """{directory: what it says instead of numbers}"""
    return host.once("mounts", lambda: _mounts(host))[1]


def _mounts(host):
    found, bad, seen = [], {}, set()
    on_purpose = _read_only_on_purpose(host)
    for line in host.read("/proc/self/mounts").splitlines():
        device, place, kind, options = line.split()[:4]
        if kind in NO_DISKS or (kind, device) in seen or not (device.startswith("/") or kind in ("overlay", "zfs", "btrfs", "nfs", "nfs4")):
            continue
        place = unescaped(place)
        if kind not in NETWORK and os.path.isfile(place):
            continue
        try:
            numbers = _asked(host, place) if kind in NETWORK else os.statvfs(place)
        except TimeOver:
            bad[place] = "does not answer"
            continue
        except OSError as error:
            # A mount that another one hides, and one that is not for us.
            if kind in NETWORK or error.errno not in (errno.ENOENT, errno.EACCES, errno.ENOTDIR):
                bad[place] = f"cannot be asked ({error.strerror or error})"
            continue
        if numbers.f_blocks:
            seen.add((kind, device))
            found.append((place, numbers, "ro" in options.split(",") and place not in on_purpose and kind not in NETWORK | READ_ONLY))
    return found, bad


def unescaped(place: str) -> str:
    """A directory as /proc/self/mounts and fstab write it: a blank is \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), place)


def _asked(host, place: str):
    deadline = host.deadline
    host.deadline = min(deadline, time.monotonic() + NETWORK_SECONDS)
    try:
        numbers = host.run("stat", "--file-system", "--format=%b %f %a %S %c %d", place).split()
    finally:
        host.deadline = deadline
    names = ("f_blocks", "f_bfree", "f_bavail", "f_frsize", "f_files", "f_favail")
    return types.SimpleNamespace(**dict(zip(names, map(int, numbers))))


def _read_only_on_purpose(host) -> set:
    try:
        lines = [line.split() for line in host.read("/etc/fstab").splitlines()]
    except OSError:
        return set()
    return {unescaped(words[1]) for words in lines if len(words) > 3 and not words[0].startswith("#") and "ro" in words[3].split(",")}


def used(numbers) -> float:
    """Per cent, as df counts: what only root may use is no room."""
    taken = numbers.f_blocks - numbers.f_bfree
    return 100 * taken / max(1, taken + numbers.f_bavail)


def holds_logs(place: str) -> bool:
    """Whether clearing logs makes room on this file system."""
    try:
        return place.startswith("/var/log/") or os.stat(place).st_dev == os.stat("/var/log").st_dev
    except OSError:
        return False


def memory(host) -> dict:
    return host.once("memory", lambda: {line.split(":")[0]: int(line.split()[1]) for line in host.read("/proc/meminfo").splitlines()})


@check("disk_space", "system", "%", 80, 92, "du -xh --max-depth=2 DIRECTORY | sort -h | tail", "pgmonitor", repair="clear_logs")
def disk_space(host):
    """Fullest file system"""
    found = [(used(numbers), place, numbers) for place, numbers, readonly in mounts(host) if not readonly]
    if not found:
        raise Skipped("no file system holds data")
    share, place, numbers = max(found, key=lambda one: one[0])
    host.series["disk_used_percent"] = share
    left = numbers.f_bavail * numbers.f_frsize / GIB
    cure = f"du -xh --max-depth=2 {place} | sort -h | tail"
    return Reading(share, f"{place} is full to {share:.0f} %, {left:.1f} GiB are left", cure=cure, repair=None if holds_logs(place) else "")


@check(
    "disk_forecast",
    "system",
    "h",
    72,
    12,
    "du -xh --max-depth=2 DIRECTORY | sort -h | tail; make the disk larger",
    "awesome-prometheus-alerts, earlier",
    least=True,
    repair="clear_logs",
)
def disk_forecast(host):
    """Hours until a file system is full, as it grew since the last runs"""
    soonest, looked = None, False
    at = host.previous.get("at")
    for place, numbers, readonly in mounts(host):
        if readonly:
            continue
        free = numbers.f_bavail * numbers.f_frsize
        before = host.previous.get("counters", {}).get(f"free {place}")
        host.counters[f"free {place}"] = host.series[f"disk_free {place}"] = free
        hours = fills_in(free, before, at, host.previous.get("series", {}).get(f"disk_free {place}", []), host.now)
        looked = looked or hours is not None
        if hours is not None and (soonest is None or hours < soonest[0]):
            soonest = (hours, place)
    if not looked:
        raise Skipped("there is no earlier run to compare with, or it was only a moment ago")
    if soonest[0] > 24 * 365:
        return Reading(24 * 365, "no file system is filling")
    return Reading(soonest[0], f"{soonest[1]} is full in {soonest[0]:.0f} hours if it goes on so", repair=None if holds_logs(soonest[1]) else "")


def fills_in(free: float, before: t.Optional[float], at: t.Optional[float], series: t.Sequence, now: float) -> t.Optional[float]:
    """Hours, infinite where it does not fill, None where too little is known.

    A backup or an import of some minutes is no trend. Where it is known how the last day went, that has to say so as well as the last
    run; where it is not, the last run has to be half an hour ago.

    :param before: room at the last run, at ``at``.
    :param series: pairs of time and room.
    """
    day = next((point for point in series if 3600 <= now - point[0] <= 86400), None)
    seconds = now - at if before is not None and at is not None else 0
    if seconds <= 0 or (day is None and seconds < 1800):
        return None
    found = [(before - free, seconds)] + ([(day[1] - free, now - day[0])] if day else [])
    return max(free / lost * passed / 3600 if lost > 0 else float("inf") for lost, passed in found)


@check("disk_inodes", "system", "%", 80, 90, "find DIRECTORY -xdev -type d -size +1M", "awesome-prometheus-alerts")
def disk_inodes(host):
    """Files of the file system with the most of what it can hold"""
    found = [(100 * (1 - numbers.f_favail / numbers.f_files), place) for place, numbers, dummy in mounts(host) if numbers.f_files]
    if not found:
        raise Skipped("no file system counts its files")
    return Reading(max(found)[0], f"{max(found)[1]} holds {max(found)[0]:.0f} % of the files that it can")


@check("disk_readonly", "system", cure="dmesg | tail; fsck it after a reboot")
def disk_readonly(host):
    """Every disk answers, and can be written"""
    if silent(host):
        place = next(iter(silent(host)))
        return Reading(
            len(silent(host)),
            "; ".join(f"{one} {what}" for one, what in silent(host).items()),
            CRITICAL,
            f"dmesg | tail; look after the server of {place}, or umount -fl {place}",
        )
    bad = [
        place
        for place, dummy, readonly in mounts(host)
        if readonly and not place.startswith(("/boot", "/etc/", "/usr", "/run", "/sys", "/proc", "/snap"))
    ]
    return Reading(len(bad), f"{', '.join(bad)} can only be read" if bad else "all can be written", CRITICAL if bad else OK)


@check("memory_available", "system", "%", 10, 4, "ps aux --sort=-rss | head; give the host more memory", "pgmonitor, tighter", least=True)
def memory_available(host):
    """Memory that is free or can be freed"""
    known = memory(host)
    share = 100 * known["MemAvailable"] / known["MemTotal"]
    host.series["memory_available_percent"] = share
    return Reading(share, f"{known['MemAvailable'] / 1024:.0f} of {known['MemTotal'] / 1024:.0f} MiB are available")


@check("swap", "system", "%", 60, 90, "ps aux --sort=-rss | head; give the host more memory", "pgmonitor")
def swap(host):
    """Swap in use"""
    known = memory(host)
    if not known.get("SwapTotal"):
        raise Skipped("the host has no swap")
    share = 100 * (known["SwapTotal"] - known["SwapFree"]) / known["SwapTotal"]
    return Reading(share, f"{share:.0f} % of the swap are in use")


@check("oom_kills", "system", cure="journalctl -k | grep -i 'out of memory'; give the host more memory", source="pgmonitor")
def oom_kills(host):
    """Processes that the kernel ended for want of memory"""
    number = next((float(line.split()[1]) for line in host.read("/proc/vmstat").splitlines() if line.startswith("oom_kill ")), None)
    if number is None:
        raise Skipped("the kernel does not count them")
    grown = host.rate("oom_kill", number)
    if grown is None:
        raise Skipped("there is no earlier run to compare with")
    return Reading(grown[0], f"{grown[0]:.0f} since the last run", CRITICAL if grown[0] else OK)


@check("database_boot", "system", cure="systemctl enable postgresql")
def database_boot(host):
    """PostgreSQL starts at the next boot, too"""
    if not host.options.get("login_db"):
        raise Skipped("there is no database on this host")
    state = host.run("systemctl", "is-enabled", "postgresql.service", check=False).strip()
    if not state:
        raise Skipped("systemd knows no postgresql.service")
    if state not in ("enabled", "static"):
        return Reading(1, "postgresql.service will not start at the next boot", CRITICAL)
    for path in glob.glob("/etc/postgresql/*/main/start.conf"):
        words = [line.split("#", 1)[0].strip() for line in host.read(path).splitlines()]
        if "manual" in words or "disabled" in words:
            return Reading(1, f"PostgreSQL will not start at the next boot: {path} says so", CRITICAL, f"write auto into {path}")
    return Reading(0, "postgresql.service starts at boot")


@check("load", "system", "per core", 2, 4, "top; ps aux --sort=-%cpu | head", "pgmonitor")
def load(host):
    """Load of the last five minutes for each core"""
    cores = os.cpu_count() or 1
    value = float(host.read("/proc/loadavg").split()[1])
    host.series["load5"] = value
    return Reading(value / cores, f"load {value:.2f} on {cores} cores")


@check("pressure", "system", "%", 40, 80, "iostat -x 1; iotop: see who reads and writes", "own")
def pressure(host):
    """Time in which work stood still for the disk, of five minutes"""
    try:
        line = next(line for line in host.read("/proc/pressure/io").splitlines() if line.startswith("full"))
    except (OSError, StopIteration):
        raise Skipped("the kernel does not measure it") from None
    value = float(dict(word.split("=") for word in line.split()[1:])["avg300"])
    return Reading(value, f"work stood still for the disk in {value:.1f} % of the time")


@check(
    "failed_units",
    "system",
    cure="systemctl status UNIT; journalctl -u UNIT; systemctl reset-failed UNIT",
    source="awesome-prometheus-alerts",
    repair="restart_services",
)
def failed_units(host):
    """Units of systemd that failed"""
    lines = host.run("systemctl", "list-units", "--state=failed", "--no-legend", "--plain", "--no-pager").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    if not names:
        return Reading(0, "none failed", OK)
    bad = CRITICAL if any(name.startswith("crm-platform") for name in names) else WARNING
    ours = [name for name in names if name.startswith(("crm-platform", "postgresql", "nginx", "pgbackrest", "frr"))]
    # The repair starts what is to run always. What a timer starts is run again by hand.
    lasting = bool(ours) and any(line.startswith("enabled") for line in host.run("systemctl", "is-enabled", *ours, check=False).splitlines())
    cure = f"systemctl status {names[0]}" if lasting or not ours else f"journalctl -u {ours[0]} -n 50; systemctl start {ours[0]}"
    return Reading(len(names), f"{', '.join(names)} failed", bad, cure, None if lasting else "")


@check("clock", "system", cure="timedatectl; chronyc tracking; open NTP to the time servers", source="awesome-prometheus-alerts")
def clock(host):
    """The clock is set by a time server and does not go back"""
    before = host.previous.get("at")
    if before and host.now < before - 1:
        return Reading(host.now - before, f"the clock is {before - host.now:.0f} s before the last run's", CRITICAL)
    if host.run("systemd-detect-virt", "--container", check=False).strip() not in ("none", ""):
        raise Skipped("the clock of a container is its host's")
    state = host.run("timedatectl", "show", "-p", "NTPSynchronized", "--value").strip()
    return Reading(None, "the clock is synchronised" if state == "yes" else "no time server sets the clock", OK if state == "yes" else WARNING)


# Who are the name servers of the root: any server has an answer to it, if only a refusal. RFC 1035, 4.1.
NAME_QUERY = struct.pack(">HHHHHH", 0x6372, 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack(">HH", 2, 1)


def answers_names(address: str, seconds: float) -> bool:
    """Whether a name server answers at all."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.settimeout(seconds)
            plain.connect((address, 53))
            plain.send(NAME_QUERY)
            return plain.recv(4096)[:2] == NAME_QUERY[:2]
    except OSError:
        return False


@check("name_server", "system", cure="resolvectl status or cat /etc/resolv.conf; ping the server that it names", source="own")
def name_server(host):
    """A name server answers"""
    lines = (line.split() for line in host.read(RESOLVER).splitlines())
    servers = [words[1].split("%")[0] for words in lines if words[:1] == ["nameserver"] and len(words) > 1][:3]
    if not servers:
        raise Skipped(f"{RESOLVER} names no server")
    # The resolver of the C library asks them in this order, too.
    there = next((server for server in servers if answers_names(server, min(1.5, host.left / len(servers)))), "")
    if there:
        return Reading(None, f"{there} answers")
    return Reading(None, f"none of {', '.join(servers)} answers: no mail, no updates, no repository by its name", WARNING)


@check("conntrack", "system", "%", 80, 95, "sysctl net.netfilter.nf_conntrack_max; see who opens so many connections", "awesome-prometheus-alerts")
def conntrack(host):
    """Connections that the firewall remembers, of what it can"""
    try:
        have, most = (float(host.read(f"/proc/sys/net/netfilter/nf_conntrack_{name}")) for name in ("count", "max"))
    except OSError:
        raise Skipped("the kernel remembers none") from None
    return Reading(100 * have / most, f"{have:.0f} of {most:.0f}")


APT_LISTS, APT_STATE = "/var/lib/apt/lists", ("/var/lib/dpkg/status", "/etc/apt", "/etc/apt/preferences.d")


@check("updates", "system", cure="apt-get update && apt-get upgrade; a reboot where the kernel is among them")
def updates(host):
    """Security updates that wait"""
    try:
        names = [name for name in os.listdir(APT_LISTS) if name.endswith(("_Packages", "_InRelease", "_Release"))]
        changed = [os.stat(os.path.join(APT_LISTS, name)).st_mtime for name in names]
        newest = max(changed)
    except (OSError, ValueError):
        raise Skipped("apt has no lists of packages on this host") from None
    age = (host.now - newest) / 86400
    # apt works for a second, and for many on a busy host: it is not asked again for the same lists, packages and settings.
    changed += [os.stat(path).st_mtime for path in APT_STATE if os.path.exists(path)]
    state = round(sum(changed), 3)
    ask = host.previous.get("counters", {}).get("updates_none") != state
    if ask:
        lines = host.run("apt-get", "-s", "-o", "Debug::NoLocking=true", "dist-upgrade").splitlines()
        names = [line.split()[1] for line in lines if line.startswith("Inst ") and "security" in line.lower()]
        if names:
            return Reading(len(names), f"{len(names)} wait: {', '.join(names[:3])}", WARNING)
    host.counters["updates_none"] = state
    if age > 14:
        return Reading(0, f"the lists of packages are {age:.0f} days old", WARNING, "apt-get update; see apt-daily.timer")
    return Reading(0, f"none waits; the lists are {age:.1f} days old")


@check("reboot_required", "system", cure="reboot in a quiet hour", source="own")
def reboot_required(host):
    """No update waits for a reboot"""
    if not os.path.exists("/run/reboot-required"):
        # Debian makes that mark only with unattended-upgrades.
        newer = newer_kernel(os.uname().release, os.listdir("/boot") if os.path.isdir("/boot") else [])
        return Reading(1, f"the kernel {newer} is installed, {os.uname().release} runs", WARNING) if newer else Reading(0, "none does")
    try:
        names = host.read("/run/reboot-required.pkgs").split()
    except OSError:
        names = []
    return Reading(1, f"{', '.join(sorted(set(names))[:3]) or 'an update'} waits for a reboot", WARNING)


def newer_kernel(running: str, files: t.Iterable[str]) -> str:
    """The newest of those in /boot of the same flavour, where the running one is older; '' where it is not."""

    def parts(release: str) -> tuple:
        match = re.match(r"([\d.+~-]*\d)-?(\D.*)?$", release)
        return ([int(number) for number in re.findall(r"\d+", match.group(1))], match.group(2) or "") if match else ([], "")

    flavour = parts(running)[1]
    same = [name[len("vmlinuz-") :] for name in files if name.startswith("vmlinuz-") and parts(name[len("vmlinuz-") :])[1] == flavour]
    newest = max(same, key=lambda one: parts(one)[0], default="")
    return newest if newest and parts(newest)[0] > parts(running)[0] else ""


@check("uptime", "system", cure="journalctl -b -1 -e tells what was before")
def uptime(host):
    """The host did not start again since the last run"""
    seconds = float(host.read("/proc/uptime").split()[0])
    # Not by the clock, which jumps where it is set and where a virtual machine was paused.
    boot, before = zlib.crc32(host.read("/proc/sys/kernel/random/boot_id").encode()), host.previous.get("counters", {}).get("boot_id")
    host.counters["boot_id"] = boot
    if before is not None and boot != before:
        return Reading(seconds, f"it started again {seconds / 3600:.1f} hours ago", WARNING)
    return Reading(seconds, f"it runs for {seconds / 86400:.1f} days")


@check("open_files", "system", "%", 70, 90, "ls /proc/*/fd | wc -l; raise fs.file-max", "own")
def open_files(host):
    """Open files, of what the kernel allows"""
    have, free, most = map(float, host.read("/proc/sys/fs/file-nr").split())
    return Reading(100 * (have - free) / most, f"{have - free:.0f} of {most:.0f}")


@check("network_errors", "system", "%", 1, 5, "ip -s link; exchange cable, port or driver", "awesome-prometheus-alerts")
def network_errors(host):
    """Packets that an interface lost to errors, since the last run"""
    packets = errors = 0.0
    for line in host.read("/proc/net/dev").splitlines()[2:]:
        name, numbers = line.split(":", 1)
        if name.strip() != "lo":
            fields = list(map(float, numbers.split()))
            packets += fields[1] + fields[9]
            errors += fields[2] + fields[10]
    grown, lost = host.rate("packets", packets), host.rate("packet_errors", errors)
    if grown is None or lost is None or grown[0] < 1000:
        raise Skipped("there is too little traffic since the last run")
    return Reading(100 * lost[0] / grown[0], f"{lost[0]:.0f} of {grown[0]:.0f} packets")
