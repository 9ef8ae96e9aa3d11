# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.ospf_routing with the FRR of a Debian host; neighbours that answer are in molecule/network."""

from __future__ import annotations

import os

import hosts
import plays
import pytest

FILES = "/etc/frr/frr.conf /etc/frr/daemons /etc/sysctl.d/60-crm-platform-routing.conf"
KEY = "aKeyOfTheTests01"
# Debian 13 has a newer FRR, with key chains.
SYSTEM = os.environ.get("CRM_OSPF_SYSTEM", "debian12")


@pytest.fixture(scope="module")
def router():
    """A host of its own, with a second interface, and without FRR."""
    made = hosts.Host("ospf", SYSTEM)
    try:
        made.create()
        made.sh("ip link add link0 type veth peer name link1; ip address add 198.51.100.1/24 dev link0; ip link set link0 up; ip link set link1 up")
        yield made
    finally:
        made.remove()


@pytest.fixture
def ask(router, tmp_path):
    """ask(changes, ...): one run of the module."""
    options = {
        "interfaces": [{"name": "link0", "cost": 5, "neighbours": ["198.51.100.2", "fe80::/10"]}],
        "service_addresses": ["192.0.2.10", "2001:db8::10"],
        "hold": True,
        "key": KEY,
    }

    def one(*arguments, **changes):
        task = {"name": "Ask", "crm.platform.ospf_routing": {**options, **changes}}
        return plays.run(tmp_path, [{"hosts": "all", "gather_facts": False, "tasks": [task]}], plays.inventory(router.name), *arguments, timeout=120)

    return one


def state(router):
    return router.sh(f"sha256sum {FILES} 2> /dev/null; systemctl is-active frr; systemctl show --value --property MainPID frr", check=False)


def running(router):
    return router.sh("vtysh -c 'show running-config'")


def test_a_kernel_that_may_not_be_changed_is_refused_before_anything_is_installed(router, ask):
    before = state(router)
    for arguments in (["--check"], []):
        refused = ask(*arguments)
        assert refused.rc != 0 and "cannot be set to 1 here" in refused.failure and state(router) == before
    router.sh("mount -o remount,rw /proc/sys")


def test_a_host_without_frr_is_told_what_would_be_done(router, ask):
    checked = ask("--check", "--diff")
    assert checked.rc == 0 and checked.last["steps"][-1] == "restart frr" and KEY not in checked.text
    refused = ask()
    assert refused.rc != 0 and "install the packages frr and frr-pythontools" in refused.failure
    router.sh("apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends frr frr-pythontools 2>&1")


def test_shown_done_and_left_alone(router, ask):
    checked = ask("--check", "--diff")
    done = ask("--diff")
    assert done.rc == 0 and done.last["steps"] == checked.last["steps"], done.failure
    assert "set net.ipv4.conf.all.arp_ignore=1" in done.last["steps"] and "restart frr" in done.last["steps"]
    assert router.stat("/etc/frr/frr.conf") == "regular file root:frr 640"
    assert "ip ospf cost 5" in running(router) and router.read("/proc/sys/net/ipv4/fib_multipath_hash_policy").strip() == "1"
    again = ask()
    assert again.rc == 0 and again.last["steps"] == [] and not again.last["changed"], again.last


def test_a_change_is_taken_without_a_restart(router, ask):
    process = router.sh("pidof ospfd")
    done = ask("--diff", interfaces=[{"name": "link0", "cost": 9, "area": "2", "neighbours": ["198.51.100.2", "fe80::/10"]}], key="another0ne")
    assert done.rc == 0 and done.last["steps"] == ["write /etc/frr/frr.conf (content)", "reload frr"], done.failure or done.last
    assert "+ interface link0 / ip ospf cost 9" in done.last["differences"] and router.sh("pidof ospfd") == process
    assert "md5 another0ne" in running(router)
    # Neither key is told, by us or by FRR.
    assert KEY not in done.text and "another0ne" not in done.text.replace('"key": "another0ne"', "")
    assert not router.sh(f"grep -rE '{KEY}|another0ne' /var/log || true; journalctl --no-pager | grep -E '{KEY}|another0ne' || true")
    assert ask().last["changed"] and not ask().last["changed"]


@pytest.mark.skipif(SYSTEM == "debian12", reason="its FRR has no key chains")
def test_key_chains(router, ask):
    done = ask(authentication="hmac-sha-256", key="a-longer-key-than-md5-takes")
    assert done.rc == 0 and "authentication key-chain crm" in running(router) and "authentication keychain crm" in running(router), done.failure
    assert not ask(authentication="hmac-sha-256", key="a-longer-key-than-md5-takes").last["changed"]
    assert ask().rc == 0 and "key chain" not in running(router)


def test_a_daemon_that_is_needed_no_more_goes_without_a_restart(router, ask):
    process = router.sh("pidof ospfd")
    less = {"bfd": False, "interfaces": [{"name": "link0", "neighbours": ["198.51.100.2"]}], "service_addresses": ["192.0.2.10"]}
    done = ask(**less)
    assert done.rc == 0 and "restart frr" not in done.last["steps"], done.failure or done.last
    named = router.read("/etc/frr/daemons")
    assert "ospfd=yes" in named and "bfdd=no" in named and "ospf6d=no" in named
    assert not ask(**less).last["changed"] and ask().rc == 0
    assert "bfdd=yes" in router.read("/etc/frr/daemons") and router.sh("pidof ospfd") == process


def test_what_frr_has_written_itself_is_still_ours(router, ask):
    router.sh("vtysh -c 'write memory'")
    assert "Made by crm.platform" not in router.read("/etc/frr/frr.conf")
    done = ask()
    assert done.rc == 0 and [step for step in done.last["steps"] if "frr.conf" in step], done.failure or done.last
    assert not ask().last["changed"]


def test_drift_is_shown_and_mended(router, ask):
    router.sh("vtysh -c 'configure' -c 'interface link0' -c 'ip ospf cost 77' -c 'exit' -c 'router ospf' -c 'default-information originate always'")
    router.sh("echo 0 > /proc/sys/net/ipv4/conf/all/arp_ignore; chmod 644 /etc/frr/frr.conf")
    checked = ask("--check", "--diff")
    assert "- router ospf / default-information originate always" in checked.last["differences"] and "ip ospf cost 77" in running(router)
    mended = ask()
    assert mended.rc == 0 and mended.last["steps"] == checked.last["steps"] and len(mended.last["steps"]) == 3, mended.last
    assert "cost 77" not in running(router) and not ask().last["changed"]


def test_a_dead_frr_is_started_again(router, ask):
    router.sh("systemctl disable --now frr")
    assert ask().last["steps"] == ["enable frr", "restart frr"] and not ask().last["changed"]


def test_bad_input_changes_nothing(router, ask):
    before = state(router)
    for changes, words in (
        ({"interfaces": [{"name": "link9"}]}, ["interfaces: link9", "does not exist", "link0"]),
        ({"interfaces": [{"name": "link0", "neighbours": ["203.0.113.1"]}]}, ["203.0.113.1", "outside its subnet"]),
        ({"key": "seventeen-letters"}, ["key is 17", "16"]),
        ({"key": ""}, ["key is empty"]),
        *([({"authentication": "hmac-sha-256"}, ["has only md5"])] if SYSTEM == "debian12" else []),
        ({"interfaces": []}, ["interfaces is empty"]),
    ):
        refused = ask(**changes)
        assert refused.rc != 0 and [word for word in words if word not in refused.failure] == [] and "\n" not in refused.failure, refused.failure
    assert state(router) == before


def test_removed_cleanly(router, ask):
    done = ask(state="absent")
    assert done.rc == 0 and not router.sh(f"ls {FILES.replace('/etc/frr/daemons ', '')} 2> /dev/null || true")
    assert router.run("systemctl", "is-active", "frr", check=False).stdout == "inactive\n"
    assert not router.sh("grep -E '^(ospfd|ospf6d|bfdd)=yes' /etc/frr/daemons || true")
    assert not ask(state="absent").last["changed"]


def test_what_somebody_else_has_configured_is_left_alone(router, ask):
    router.write("/etc/frr/frr.conf", "frr version 8.4\nrouter bgp 64512\n")
    before = state(router)
    refused = ask()
    assert refused.rc != 0 and "somebody else has written" in refused.failure and state(router) == before
    assert not ask(state="absent").last["changed"] and state(router) == before
    daemons = router.read("/etc/frr/daemons")
    assert ask(foreign="replace").rc == 0 and "bgp" not in running(router)
    assert router.read("/etc/frr/frr.conf.before-crm-platform") == "frr version 8.4\nrouter bgp 64512\n"
    assert router.read("/etc/frr/daemons.before-crm-platform") == daemons
