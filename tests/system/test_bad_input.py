# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong stops the run before any change, in one line that names the cure."""

from __future__ import annotations

import concurrent.futures

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
    "a port beyond the last one": ({"foundation_url": "https://crm.example.org:99999"}, ["foundation_url", "1 to 65535"]),
    "a short password": ({"foundation_database_password": "short"}, ["foundation_database_password", "8 characters"]),
    "a password with a line break": ({"foundation_database_password": "long enough\nbut broken"}, ["foundation_database_password", "line break"]),
    "a certificate without its key": ({"database_tls_certificate": "/etc/ssl/certs/x.pem"}, ["database_tls_certificate", "database_tls_key"]),
    "a setting that is none": ({"database_settings": {"Work-Mem": "4MB"}}, ["database_settings", "Work-Mem"]),
    "TLS turned off": ({"database_settings": {"ssl": "off"}}, ["database_settings", "ssl"]),
    "a certificate that is not there": ({"database_tls_certificate": "/no/x.crt", "database_tls_key": "/no/x.key"}, ["/no/x.crt", "cannot be read"]),
    "a certificate that ends": ({"database_tls_certificate": "/tmp/old.crt", "database_tls_key": "/tmp/old.key"}, ["/tmp/old.crt", "expired"]),
    "a certificate with another's key": ({"database_tls_certificate": "/tmp/good.crt", "database_tls_key": "/tmp/old.key"}, ["/tmp/old.key", "fit"]),
    "a package that is not there": ({"crm_package_deb": "/no/crm-platform_8.0_all.deb"}, ["crm_package_deb", "exists on the controller"]),
    "certificates to trust that are none": ({"crm_package_ca_bundle": "/etc/hostname"}, ["crm_package_ca_bundle", "/etc/hostname", "PEM"]),
    "an index with credentials": (
        {"crm_package_pip_index_url": "https://ann:secret@index.example.org/"},
        ["crm_package_pip_index_url", "no credentials"],
    ),
    "a service open to nobody known": (
        {"firewall_services": [{"name": "x", "ports": ["99999"], "sources": ["any"]}]},
        ["firewall_services", "99999"],
    ),
    "a range that is reversed": ({"firewall_services": [{"name": "x", "ports": ["90-80"]}]}, ["firewall_services", "90-80", "80-90"]),
    "a network that is none": ({"firewall_zones": [{"name": "x", "addresses": ["192.0.2.0/33"]}]}, ["firewall_zones", "192.0.2.0/33"]),
    "an interface that is not there": ({"firewall_zones": [{"name": "x", "interfaces": ["eth9"]}]}, ["firewall_zones", "eth9", "eth0"]),
    "a limit that is none": ({"firewall_ssh_rate_limit": "often"}, ["firewall_ssh_rate_limit", "often", "10/minute"]),
    "classes that guarantee too much": (
        {"qos_classes": [{"name": name, "guarantee": "60%", "priority": 1, "default": name == "crm"} for name in ("ssh", "crm", "database", "bulk")]},
        ["qos_classes", "24gbit"],
    ),
    "an e-mail address that is none": ({"crm_service_admin_email": "nobody"}, ["crm_service_admin_email", "nobody", "such as"]),
    "a short password of the administrator": ({"crm_service_admin_password": "short"}, ["crm_service_admin_password", "crm_service_password_length"]),
    "a front certificate without its key": ({"crm_service_tls_certificate": "/tmp/good.crt"}, ["crm_service_tls_certificate", "crm_service_tls_key"]),
    "a front certificate that ends": (
        {"crm_service_tls_certificate": "/tmp/old.crt", "crm_service_tls_key": "/tmp/old.key"},
        ["crm_service_tls_certificate", "/tmp/old.crt"],
    ),
    "more processes than the memory carries": ({"crm_service_workers": 250}, ["crm_service_workers", "250", "MiB"]),
    "a currency that is none": ({"crm_service_company_currency": "Euro"}, ["crm_service_company_currency", "Euro"]),
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
    # In /tmp, which is gone after a reboot: certificates to be given.
    for name, days in (("good", 30), ("old", 1)):
        fresh.host.sh(f"cd /tmp; openssl req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.crt -subj /CN={name} -days {days} 2>&1")
    return traces(fresh.host)


def refused(outcome, *words):
    message = outcome.failure
    assert outcome.rc != 0, "it was not refused"
    assert [word for word in words if word not in message] == [], message or outcome.text[-2000:]
    # A wrong type is refused by Ansible itself, in two lines.
    assert "\n" not in message.strip().removeprefix("Validation of arguments failed:\n"), message


@pytest.fixture(scope="module")
def outcomes(fresh, before):
    """All wrong runs, a few at a time, of the checks that begin each playbook: what they let pass would be deployed here."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        runs = {
            what: pool.submit(fresh.run, playbook="crm.platform.preflight", aside=what.replace(" ", "-"), **variables)
            for what, (variables, dummy) in WRONG.items()
        }
    return {what: running.result() for what, running in runs.items()}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_variable(outcomes, what):
    refused(outcomes[what], *WRONG[what][1])


def test_wrong_variables_left_no_trace(fresh, before, outcomes):
    assert all(not outcome.changed for outcome in outcomes.values())
    assert traces(fresh.host) == before


def test_the_site_begins_with_the_checks(fresh, before):
    variables, words = WRONG["a port out of range"]
    refused(fresh.run(**variables), *words)
    assert traces(fresh.host) == before


def test_no_root(fresh, before):
    refused(fresh.run(ansible_user="daemon", ansible_become=False, ansible_remote_tmp="/tmp/.ansible-daemon"), "root", "ansible_become")
    assert traces(fresh.host) == before


@pytest.mark.parametrize("playbook", ["site", "restore"])
def test_two_database_hosts(fresh, playbook):
    inventory = fresh.inventory()
    inventory["all"]["children"]["crm_database"]["hosts"]["second"] = {"foundation_address": "192.0.2.9"}
    outcome = plays.run(fresh.directory, f"crm.platform.{playbook}", inventory, "--limit", fresh.name, collections=fresh.collections)
    refused(outcome, "crm_database", "second", "one database host")


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
