# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/host_facts.py: what the kernel and dpkg say, in the roles' words."""

from __future__ import annotations

import ipaddress
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils import host_facts as lib


def test_memory_in_mib():
    assert lib.memory_mb("MemTotal:        8046564 kB\nMemFree:  1 kB\n") == 7857
    assert lib.memory_mb("") == 0


def test_processors():
    assert lib.processors("processor\t: 0\nmodel name\t: processor of a kind\n\nprocessor\t: 1\n") == 2
    assert lib.processors("") == 1


def test_this_host_has_memory_and_processors():
    assert lib.memory_mb(lib.content("/proc/meminfo")) > 100
    assert lib.processors(lib.content("/proc/cpuinfo")) == os.cpu_count()


@given(st.lists(st.ip_addresses(v=6), max_size=5))
def test_addresses_but_for_the_loopback(addresses):
    table = "".join(f"{int(address):032x} 02 40 00 80     eth0\n" for address in addresses)
    read = [ipaddress.ip_address(text) for text in lib.ipv6_addresses(table)]
    assert read == [address for address in addresses if not address.is_loopback]


def test_only_what_is_installed_counts():
    listing = "installed\tnginx\t1.22.1-9\nunpacked\tcrm-platform\t8.0\nconfig-files\told\t1\nnot-installed\tnever\t\n\n"
    assert lib.packages(listing) == {"nginx": "1.22.1-9"}


def test_disks(tmp_path):
    for name, text in (("sda", "1\n"), ("vda", "0\n"), ("strange", None)):
        (tmp_path / name / "queue").mkdir(parents=True)
        if text:
            (tmp_path / name / "queue" / "rotational").write_text(text)
    assert lib.rotation(str(tmp_path)) == {"sda": {"rotational": "1"}, "vda": {"rotational": "0"}}
    assert lib.rotation(str(tmp_path / "absent")) == {}


def test_clusters_that_are_complete(tmp_path):
    (tmp_path / "15" / "main" / "conf.d").mkdir(parents=True)
    (tmp_path / "17" / "killed").mkdir(parents=True)
    (tmp_path / "stray").write_text("")
    assert lib.clusters(str(tmp_path)) == ["15/main"]
    assert lib.clusters(str(tmp_path / "absent")) == []


@pytest.mark.parametrize(
    "names, there",
    [([], False), (["lock", "partial"], False), (["deb.example.org_debian_dists_bookworm_main_binary-amd64_Packages", "lock"], True)],
)
def test_an_image_may_have_no_lists_of_packages(tmp_path, names, there):
    for name in names:
        (tmp_path / name).touch()
    assert lib.package_lists(str(tmp_path)) is there and not lib.package_lists(str(tmp_path / "none"))


def test_a_source_address_is_one_or_none():
    for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
        address = lib.source_address(family)
        assert address is None or ipaddress.ip_address(address).version == version
