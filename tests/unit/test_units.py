# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/units.py: which systemctl calls make units be as they should."""

from __future__ import annotations

import pytest
import run_tests
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils import programs, units as lib

SHOWN = """\
Id=nginx.service
Names=nginx.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=no

Id=ssh.service
Names=ssh.service sshd.service
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
NeedDaemonReload=yes

Id=ghost.service
Names=ghost.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
NeedDaemonReload=no
"""


def want(name, state="started", enabled=None):
    return {"name": name, "state": state, "enabled": enabled}


def test_a_unit_is_found_under_each_of_its_names():
    live = lib.parse_show(SHOWN)
    assert live["sshd.service"] is live["ssh.service"]
    assert lib.missing([want("nginx"), want("sshd"), want("ghost"), want("unheard-of.timer")], live) == ["ghost", "unheard-of.timer"]


@pytest.mark.parametrize(
    ("name", "full"),
    [("nginx", "nginx.service"), ("a.timer", "a.timer"), ("postgresql@15-main", "postgresql@15-main.service"), ("x.y", "x.y.service")],
)
def test_a_name_is_read_as_systemctl_reads_it(name, full):
    assert lib.full_name(name) == full


def test_what_is_right_is_left_alone():
    assert lib.plan([want("nginx", enabled=True)], lib.parse_show(SHOWN)) == []


def test_what_differs_is_done_in_order_and_in_one_call_a_verb():
    actions = lib.plan([want("nginx", "stopped", False), want("ssh", "started", True), want("ghost", "started", True)], lib.parse_show(SHOWN))
    assert [(action.verb, action.units) for action in actions] == [
        ("daemon-reload", ()),
        ("enable", ("ssh.service", "ghost.service")),
        ("disable", ("nginx.service",)),
        ("start", ("ssh.service", "ghost.service")),
        ("stop", ("nginx.service",)),
    ]


@pytest.mark.parametrize("file_state", ["static", "generated", "alias", "indirect"])
def test_a_unit_without_install_section_is_not_enabled_again_and_again(file_state):
    live = {"x.service": {"ActiveState": "active", "UnitFileState": file_state}}
    assert lib.plan([want("x", enabled=True)], live) == []


def test_a_failed_unit_is_started_and_counts_as_stopped():
    live = {"x.service": {"ActiveState": "failed"}}
    assert [action.verb for action in lib.plan([want("x")], live)] == ["start"]
    assert lib.plan([want("x", "stopped")], live) == []


def test_what_shall_be_gone_is_stopped_disabled_and_forgotten():
    live = lib.parse_show(SHOWN)
    live["x.timer"] = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
    live["x.service"] = {"LoadState": "loaded", "ActiveState": "failed", "UnitFileState": "static"}
    wanted = [want(name, "absent") for name in ("x.timer", "x.service", "ghost")]
    assert lib.missing(wanted, live) == []
    actions = lib.plan(wanted, live)
    assert [(action.verb, action.units) for action in actions] == [
        ("disable", ("x.timer",)),
        ("stop", ("x.timer",)),
        ("reset-failed", ("x.service",)),
    ]
    gone = [want("ghost", "absent")]
    assert (
        lib.plan(gone, live) == []
        and lib.describe(gone, live, after=False) == lib.describe(gone, live, after=True) == "ghost.service: absent, absent\n"
    )


ACTIVE = st.sampled_from(["active", "inactive", "failed", "reloading"])
FILE = st.sampled_from(["enabled", "disabled", "static", "masked", ""])
UNITS = st.fixed_dictionaries({name: st.tuples(ACTIVE, FILE) for name in ("a.service", "b.timer", "c.socket")})
WANTED = st.lists(
    st.builds(
        want,
        st.sampled_from(["a", "b.timer", "c.socket"]),
        st.sampled_from(["started", "stopped", "unmanaged"]),
        st.sampled_from([True, False, None]),
    ),
    unique_by=lambda unit: unit["name"],
)


def apply(actions, live):
    """What systemd would do, as far as the plan relies on it."""
    for action in actions:
        for name in action.units:
            unit = live.setdefault(name, {})
            unit.update(
                {
                    "enable": {"UnitFileState": "enabled"},
                    "disable": {"UnitFileState": "disabled"},
                    "start": {"ActiveState": "active"},
                    "stop": {"ActiveState": "inactive"},
                }[action.verb]
            )
    return live


@given(units=UNITS, wanted=WANTED)
def test_once_done_there_is_nothing_left_to_do(units, wanted):
    live = {name: {"ActiveState": active, "UnitFileState": file} for name, (active, file) in units.items()}
    after = lib.describe(wanted, live, after=True)
    actions = lib.plan(wanted, live)
    assert bool(actions) == (lib.describe(wanted, live, after=False) != after)
    live = apply(actions, live)
    assert lib.plan(wanted, live) == []


@pytest.mark.parametrize("day", ["Mon", "Mo", "Pzt", "月"])
def test_the_language_of_the_weekday_does_not_matter(day):
    properties = {"StateChangeTimestamp": f"{day} 2026-11-30 21:00:00.250000 UTC", "ActiveState": "active"}
    assert lib.changed_at(properties) == 1796072400.25
    assert lib.outdated({"reads": ["/a", "/b"]}, properties, {"/a": 1796072401.0, "/b": 1796072399.0}) == ["/a"]


@pytest.mark.parametrize("text", ["", "n/a"])
def test_a_unit_that_never_ran_has_no_time(text):
    assert lib.changed_at({"StateChangeTimestamp": text}) == 0.0


def test_a_time_that_cannot_be_read_is_an_error():
    with pytest.raises(lib.UnitError, match="nginx.service: StateChangeTimestamp is 'yesterday'"):
        lib.changed_at({"Id": "nginx.service", "StateChangeTimestamp": "yesterday"})


def test_programs_are_run_in_one_language():
    assert programs.LANGUAGE == {"LC_ALL": "C.UTF-8"}
    for path in (run_tests.ROOT / "plugins/modules").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "module.run_command(" not in text or "module.run_command_environ_update = LANGUAGE" in text, path.name
