# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.service_units on a Debian host."""

from __future__ import annotations

import uuid

import pytest


@pytest.fixture
def unit(host):
    """A service of our own, known to systemd, stopped and disabled."""
    name = f"crm-test-{uuid.uuid4().hex[:6]}"
    host.write(f"/etc/systemd/system/{name}.service", "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n")
    host.run("systemctl", "daemon-reload")
    yield name
    host.run("systemctl", "disable", "--now", name, check=False)


def state(host, name):
    return (
        host.run("systemctl", "is-active", name, check=False).stdout.strip(),
        host.run("systemctl", "is-enabled", name, check=False).stdout.strip(),
    )


def test_started_and_enabled_shown_done_and_left_alone(host, unit, call):
    wanted = {"units": [{"name": unit, "enabled": True}]}
    checked = call("service_units", wanted, "--check", "--diff")
    assert checked.last["changed"] and state(host, unit) == ("inactive", "disabled")
    done = call("service_units", wanted, "--diff")
    assert done.rc == 0 and done.last["actions"] == checked.last["actions"] == [f"enable {unit}.service", f"start {unit}.service"]
    assert done.last["diff"] == checked.last["diff"]
    assert state(host, unit) == ("active", "enabled")
    process = host.run("systemctl", "show", "--value", "--property", "MainPID", unit).stdout
    assert not call("service_units", wanted).last["changed"]
    assert host.run("systemctl", "show", "--value", "--property", "MainPID", unit).stdout == process, "it was restarted"


def test_stopped_and_disabled(host, unit, call):
    host.run("systemctl", "enable", "--now", unit)
    done = call("service_units", {"units": [{"name": unit, "state": "stopped", "enabled": False}]})
    assert done.rc == 0 and state(host, unit) == ("inactive", "disabled")
    assert not call("service_units", {"units": [{"name": unit, "state": "stopped", "enabled": False}]}).last["changed"]


def test_unmanaged_is_left_as_it_is(host, unit, call):
    assert call("service_units", {"units": [{"name": unit, "state": "unmanaged", "enabled": True}]}).last["changed"]
    assert state(host, unit) == ("inactive", "enabled")


def test_absent_is_stopped_and_removed(host, unit, call):
    host.run("systemctl", "enable", "--now", unit)
    wanted = {"units": [{"name": unit, "state": "absent"}, {"name": "crm-test-nothing", "state": "absent"}]}
    path = f"/etc/systemd/system/{unit}.service"
    checked = call("service_units", wanted, "--check", "--diff")
    assert checked.last["removed"] == [path] and state(host, unit) == ("active", "enabled")
    done = call("service_units", wanted, "--diff")
    assert done.rc == 0 and done.last["actions"] == checked.last["actions"] == [f"disable {unit}.service", f"stop {unit}.service", "daemon-reload"]
    assert done.last["diff"] == checked.last["diff"]
    assert host.sh(f"ls {path} 2>/dev/null; systemctl show --value --property LoadState {unit}").strip() == "not-found"
    assert not call("service_units", wanted, "--diff").last["changed"]


def test_a_changed_unit_file_is_read_again(host, unit, call):
    call("service_units", {"units": [{"name": unit}]})
    host.sh(f"sleep 1; echo '# more' >> /etc/systemd/system/{unit}.service")
    done = call("service_units", {"units": [{"name": unit}]})
    assert done.last["actions"] == ["daemon-reload"]
    assert not call("service_units", {"units": [{"name": unit}]}).last["changed"]


def test_a_unit_that_is_not_there(call):
    wanted = {"units": [{"name": "crm-test-nothing"}]}
    checked = call("service_units", wanted, "--check")
    assert checked.rc == 0 and checked.last["changed"]
    refused = call("service_units", wanted)
    assert refused.rc != 0 and "crm-test-nothing" in refused.failure and "\n" not in refused.failure


def test_a_unit_that_does_not_start_says_why(host, call):
    host.write("/etc/systemd/system/crm-test-broken.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo no fuel in the tank; exit 3'\n")
    host.run("systemctl", "daemon-reload")
    refused = call("service_units", {"units": [{"name": "crm-test-broken"}]})
    assert refused.rc != 0 and "crm-test-broken" in refused.failure
    assert any("no fuel in the tank" in line for line in refused.last["journal"])
