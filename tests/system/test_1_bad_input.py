# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong stops the run before any change, in one line that names the cure."""

from __future__ import annotations


import plays
import pytest

# Variables, and what the one line has to hold: the variable, its value, what is allowed.
WRONG = {
    "an unknown option": ({"database_max_conections": 50}, ["database_max_conections", "Correct the name"]),
    "a wrong type": ({"database_max_connections": "many"}, ["database_max_connections", "int"]),
    "a port out of range": ({"foundation_database_port": 70000}, ["foundation_database_port", "70000", "65535"]),
    "no port for ssh": ({"foundation_ssh_ports": []}, ["foundation_ssh_ports", "1 to 65535"]),
    "too little memory": ({"foundation_memory_min_mb": 10_000_000}, ["foundation_memory_min_mb", "10000000", "MiB"]),
    "more memory than there is": ({"database_memory_mb": 10_000_000}, ["database_memory_mb", "10000000"]),
    "too little disk": ({"foundation_disk_min_mb": 100_000_000}, ["foundation_disk_min_mb", "Make room"]),
    "a domain that is none": ({"foundation_domain": "crm_.example..org"}, ["foundation_domain", "crm_.example..org", "such as"]),
    "an address that is none": ({"foundation_url": "ftp://crm"}, ["foundation_url", "https://"]),
    "a short password": ({"foundation_database_password": "short"}, ["foundation_database_password", "8 characters"]),
    "a password with a line break": ({"foundation_database_password": "long enough\nbut broken"}, ["foundation_database_password", "line break"]),
    "a certificate without its key": ({"database_tls_certificate": "/etc/ssl/certs/x.pem"}, ["database_tls_certificate", "database_tls_key"]),
    "a setting that is none": ({"database_settings": {"Work-Mem": "4MB"}}, ["database_settings", "Work-Mem"]),
    "TLS turned off": ({"database_settings": {"ssl": "off"}}, ["database_settings", "ssl"]),
    "a group that is none": ({"foundation_group": "nowhere"}, ["foundation_group", "nowhere"]),
    "certificates that end before they start": ({"foundation_certificate_days": 10}, ["foundation_certificate_days", "10"]),
}


def traces(host):
    """All that a run could leave on a host: files, packages, units. What Ansible itself leaves is not counted."""
    passing = ("/proc", "/sys", "/dev", "/run", "/tmp", "/root/.ansible", "/var/log", "/var/lib/systemd", "/var/cache/ldconfig")
    prune = " -o ".join([f"-path {path}" for path in passing] + ["-name '*pkgcache.bin'", "-name __pycache__"])
    return host.sh(
        f"find / \\( {prune} \\) -prune -o -type f -printf '%p %s %m %T@\\n' | sort; dpkg-query --show; systemctl list-unit-files --no-legend"
    )


@pytest.fixture(scope="module")
def before(fresh):
    return traces(fresh.host)


def refused(outcome, *words):
    message = outcome.failure
    assert outcome.rc != 0, "it was not refused"
    assert [word for word in words if word not in message] == [], message or outcome.text[-2000:]
    # A wrong type is refused by Ansible itself, in two lines.
    assert "\n" not in message.strip().removeprefix("Validation of arguments failed:\n"), message


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_variable(fresh, before, what):
    variables, words = WRONG[what]
    refused(fresh.run(**variables), *words)
    assert traces(fresh.host) == before


def test_no_root(fresh, before):
    refused(fresh.run(ansible_user="daemon", ansible_become=False, ansible_remote_tmp="/tmp/.ansible-daemon"), "root", "ansible_become")
    assert traces(fresh.host) == before


def test_a_host_that_is_not_there(fresh):
    outcome = plays.run(fresh.directory, "crm.platform.site", plays.inventory("crm-test-nobody-here"))
    assert outcome.rc != 0 and "crm-test-nobody-here" in outcome.text


def test_an_unsupported_distribution(fresh, make_server):
    old = make_server("old")
    old.host.sh("sed -i 's/12/11/; s/bookworm/bullseye/' /etc/os-release; echo 11.9 > /etc/debian_version")
    unchanged = traces(old.host)
    refused(old.run(), "Debian 11", "Debian 12", "Debian 13")
    assert traces(old.host) == unchanged
    assert fresh.host.name != old.host.name


def test_check_mode_on_a_fresh_host(fresh, before):
    checked = fresh.run("--check", "--diff")
    assert checked.rc == 0, checked.failure or checked.text[-3000:]
    assert len(checked.changed) > 5
    assert traces(fresh.host) == before


def test_a_disk_that_is_full_half_way(fresh):
    """No space for the packages: the run says so, and the deployment that follows in test_2 starts from what is left."""
    place = "/var/cache/apt/archives"
    fresh.host.run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
    try:
        stopped = fresh.run()
        assert stopped.rc != 0
        assert "space" in stopped.text
    finally:
        fresh.host.run("umount", place)
