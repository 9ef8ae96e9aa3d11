# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the system and the CRM where a host is not as one expects it to be."""

from __future__ import annotations

import errno
import http.client
import os
import socket
import threading
import time
import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils.health import crm, probe, registry, system

NUMBERS = types.SimpleNamespace(f_blocks=100, f_bfree=50, f_bavail=50, f_frsize=4096, f_files=10, f_favail=5)


def looked(monkeypatch, mounts, asked=None, fstab="", seconds=2):
    """The checks of the disks, on a host with these mounts."""
    files = {"/proc/self/mounts": mounts, "/etc/fstab": fstab}
    host = probe.Host({})
    monkeypatch.setattr(host, "read", lambda path: files[path])
    monkeypatch.setattr(os, "statvfs", asked or (lambda place: NUMBERS))
    disks = ("disk_space", "disk_readonly")
    skip = [one for one in registry.REGISTRY if one not in disks]
    results, dummy = registry.run(host, ["system"], skip, seconds=seconds)
    return {one["id"]: one for one in results}


def test_a_share_that_hangs_is_told_and_stops_no_look(monkeypatch):
    """What a dead NFS server does to whoever asks: nothing comes back."""
    monkeypatch.setattr(probe.Host, "run", lambda host, *words, check=True: probe.Host.status(host, "sleep", "30")[1])
    monkeypatch.setattr(system, "NETWORK_SECONDS", 0.3)
    began = time.monotonic()
    found = looked(monkeypatch, "/dev/sda1 / ext4 rw 0 0\nnas:/share /srv/share nfs4 rw,hard 0 0\n")
    assert time.monotonic() - began < 2
    assert found["disk_readonly"]["status"] == "critical" and "/srv/share does not answer" in found["disk_readonly"]["message"]
    assert found["disk_space"]["status"] == "ok"


def test_a_share_that_answers_is_measured(monkeypatch):
    monkeypatch.setattr(probe.Host, "run", lambda host, *words, check=True: "100 10 5 4096 10 5\n")
    found = looked(monkeypatch, "nas:/share /srv/share nfs4 ro,hard 0 0\n")
    assert found["disk_space"]["status"] == "critical" and found["disk_readonly"]["status"] == "ok"


def test_a_disk_that_answers_with_an_error_is_told(monkeypatch):
    def asked(place):
        raise OSError(errno.EIO if place == "/srv" else errno.ENOENT, os.strerror(errno.EIO))

    found = looked(monkeypatch, "/dev/sda1 /srv ext4 rw 0 0\n/dev/sda2 /hidden ext4 rw 0 0\n", asked)
    assert found["disk_readonly"]["status"] == "critical"
    assert "/srv cannot be asked" in found["disk_readonly"]["message"] and "hidden" not in found["disk_readonly"]["message"]


@pytest.mark.parametrize("fstab, status", [("", "critical"), ("/dev/sdb1 /srv/my\\040archive ext4 ro,noatime 0 2\n", "ok")])
def test_a_disk_may_be_read_only_where_fstab_says_so(monkeypatch, fstab, status):
    found = looked(monkeypatch, "/dev/sdb1 /srv/my\\040archive ext4 ro,noatime 0 0\n", fstab=fstab)
    assert found["disk_readonly"]["status"] == status


def test_a_directory_with_any_name_is_found():
    assert system.unescaped("/srv/Müller\\040\\134x") == "/srv/Müller \\x"


@pytest.mark.parametrize(
    "running, files, newer",
    [
        ("6.1.0-18-amd64", ["vmlinuz-6.1.0-18-amd64", "vmlinuz-6.1.0-9-amd64"], ""),
        ("6.1.0-9-amd64", ["vmlinuz-6.1.0-18-amd64", "vmlinuz-6.1.0-9-amd64", "config-6.1.0-20-amd64"], "6.1.0-18-amd64"),
        ("6.1.0-9-cloud-amd64", ["vmlinuz-6.1.0-18-amd64", "vmlinuz-6.1.0-9-cloud-amd64"], ""),
        ("6.12.30+deb13-amd64", ["vmlinuz-6.12.38+deb13-amd64"], "6.12.38+deb13-amd64"),
        ("6.8.0", [], ""),
        ("", ["vmlinuz-6.1.0-18-amd64"], ""),
    ],
)
def test_a_kernel_that_waits_for_a_reboot(running, files, newer):
    assert system.newer_kernel(running, files) == newer


@pytest.mark.parametrize("before, status", [(None, "ok"), ("same", "ok"), (1, "warning")])
def test_a_reboot_is_told_by_its_mark_and_not_by_the_clock(before, status):
    host = probe.Host({})
    system.uptime(host)
    host.previous = {"at": host.now - 300, "counters": {"boot_id": host.counters["boot_id"] if before == "same" else before}}
    assert (system.uptime(host).status or "ok") == status


@pytest.mark.parametrize("state, repair", [("enabled", None), ("static", ""), ("transient", "")])
def test_a_failed_unit_names_the_repair_only_where_it_starts_it(state, repair):
    host = types.SimpleNamespace(run=lambda *words, check=True: state if "is-enabled" in words else "crm-platform-backup-full.service x failed")
    found = system.failed_units(host)
    assert found.status == "critical" and found.repair == repair
    assert ("systemctl start" in found.cure) == (repair == "")


@pytest.mark.parametrize(
    "error, status, words",
    [
        (registry.TimeOver(), "critical", "does not answer its users"),
        (http.client.BadStatusLine("x"), "critical", "x"),
        (ValueError("no JSON"), "critical", "no JSON"),
        (probe.Refused("it refuses the login of admin"), "warning", "answers, but it refuses the login of admin"),
        (probe.HttpError("model.party.party.search", 500), "critical", "HTTP 500"),
    ],
)
def test_what_its_users_get_is_no_doubt_about_the_check(monkeypatch, error, status, words):
    def login(dummy):
        raise error

    monkeypatch.setattr(probe.Crm, "login", login)
    monkeypatch.setattr(probe.Host, "overload", lambda host: "")
    found = crm.answers(probe.Host({"crm": {"url": "https://crm.example.test", "password_file": "/none"}}))
    assert found.status == status and words in found.message
    assert found.repair == ("" if status == "warning" else None)


def test_a_name_server_answers_or_not():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def connect(plain, place, original=socket.socket.connect):
        original(plain, (place[0], server.getsockname()[1]))

    def answer():
        asked, whom = server.recvfrom(512)
        server.sendto(asked[:2] + b"\x81\x85" + asked[4:], whom)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        thread = threading.Thread(target=answer)
        thread.start()
        assert system.answers_names("127.0.0.1", 2)
        thread.join()
        assert not system.answers_names("127.0.0.1", 0.1)
    server.close()
    assert not system.answers_names("127.0.0.1", 0.1)
