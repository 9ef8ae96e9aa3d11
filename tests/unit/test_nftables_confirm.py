# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/nftables_confirm.py: armed, confirmed, taken back; and what must not be confirmed."""

from __future__ import annotations

import os
import subprocess

import pytest
from test_nftables import LIVE, TABLE, WANTED, Shell

from ansible_collections.crm.platform.plugins.module_utils import nftables as nft
from ansible_collections.crm.platform.plugins.module_utils import nftables_confirm as lib

ACTIVE, GONE = (0, "active\n", ""), (0, "inactive\n", "")
LISTED = ("list table", (0, LIVE, ""))


@pytest.fixture
def make(tmp_path):
    """make(answers...): the change of the table, below a directory of its own."""

    def one(*answers):
        return lib.Change(Shell(*answers), TABLE, str(tmp_path / "confirmed.nft"), str(tmp_path / "state" / "state"), str(tmp_path / "run"))

    return one


def armed(change, token="a", timeout=30):
    waiting = change.arm("new rules\n", timeout, token)
    change.applied(waiting)
    return waiting


@pytest.mark.parametrize("seconds", [-1, 1, 4, 3601])
def test_a_timeout_that_is_none(seconds):
    with pytest.raises(nft.NftError, match=f"confirm_timeout: {seconds} is not allowed; give 5 to 3600"):
        lib.check_timeout(seconds)


def test_timeouts():
    for seconds in (0, 5, 30, 3600):
        lib.check_timeout(seconds)


def test_armed_before_anything_is_applied(make):
    change = make(LISTED, ("systemctl show", ACTIVE))
    armed(change)
    lines = [line for line, data in change.run.calls]
    (timer,) = [line for line in lines if line.startswith("systemd-run")]
    assert "--on-active=30s" in timer and "AccuracySec=100ms" in timer and change.unit in timer
    assert "new rules" in open(change.file("candidate.nft"), encoding="utf-8").read()
    assert change.state()["state"] == "waiting" and change.state()["token"] == "a"
    waiting = change.waiting()
    assert waiting.token == "a" and 28 < waiting.left(lib.time.monotonic()) <= 30


def test_the_way_back_is_to_what_boot_loads_with_those_who_are_shut_out(make, tmp_path):
    (tmp_path / "confirmed.nft").write_text("confirmed rules\n")
    kept, plain = make(LISTED).rollback()
    assert plain == nft.statements(TABLE, "confirmed rules\n")
    assert kept.startswith(plain) and "add element inet crm_platform banned { 198.51.100.1 expires" in kept


def test_before_the_first_the_way_back_is_to_no_table(make):
    change = make(("list table", (1, "", "No such file or directory")))
    assert change.rollback() == (nft.statements(TABLE), nft.statements(TABLE))


def test_a_spoilt_file_is_no_way_back(make, tmp_path):
    (tmp_path / "confirmed.nft").write_text("nonsense\n")
    change = make(LISTED)
    answer = change.run
    change.run = lambda argv, data=None: (1, "", "Error: syntax") if data and "nonsense" in data else answer(argv, data)
    assert change.rollback() == (nft.statements(TABLE, LIVE),) * 2


def test_another_is_refused_while_one_waits(make):
    change = make(LISTED, ("systemctl show", ACTIVE))
    change.refuse_another()
    armed(change)
    with pytest.raises(nft.NftError) as refused:
        change.refuse_another()
    text = str(refused.value)
    assert f"{change.unit}.timer takes it back in 30 s" in text and "systemctl start" in text and "\n" not in text


def test_one_whose_timer_is_gone_waits_no_more(make):
    change = make(LISTED, ("systemctl show", GONE))
    armed(change)
    assert change.waiting() is None
    change.refuse_another()


def test_a_reboot_before_there_was_a_unit_to_say_so(make):
    change = make(LISTED, ("systemctl show", GONE))
    armed(change)
    change.forget()
    change.note_lost()
    assert (change.state()["state"], change.state()["token"]) == ("rolled_back", "a")
    change.say(lib.CONFIRMED, "b", "it was")
    change.note_lost()
    assert change.state()["state"] == "confirmed"


def test_one_that_is_being_taken_back_is_waited_for(make):
    change = make(LISTED, (".timer", GONE), (".service", ACTIVE), (".service", ACTIVE), (".service", GONE))
    armed(change)
    os.unlink(change.file("candidate.nft"))
    assert change.waiting() is None


def test_without_systemd_nothing_is_applied(make):
    change = make(LISTED, ("systemd-run", (1, "", "System has not been booted with systemd")))
    with pytest.raises(nft.NftError, match="does not arm .* nothing was changed.* give 0"):
        change.arm("new rules\n", 30, "a")
    assert not os.path.exists(change.place)


def test_confirmed(make):
    change = make(LISTED, ("systemctl show", ACTIVE))
    armed(change)
    assert change.may_confirm("a", False).token == "a"
    assert change.claim() and not change.claim()
    change.say(lib.CONFIRMED, "a", "it was")
    change.forget()
    assert not os.path.exists(change.place)
    assert change.may_confirm("a", False) is None, "the answer may be lost, and the question come again"


def test_too_late(make):
    change = make(LISTED, ("systemctl show", GONE))
    armed(change)
    os.unlink(change.file("candidate.nft"))
    with pytest.raises(lib.TakenBack):
        change.may_confirm("a", False)


def test_a_change_that_was_never_here(make):
    change = make(LISTED, ("systemctl show", GONE))
    with pytest.raises(lib.Unknown):
        change.may_confirm("a", False)
    assert change.may_confirm("", False) is None


def test_another_change_is_not_confirmed(make):
    change = make(LISTED, ("systemctl show", ACTIVE))
    armed(change)
    with pytest.raises(nft.NftError, match="another change waits"):
        change.may_confirm("b", False)


def test_what_is_live_by_now_is_not_confirmed(make):
    change = make(LISTED, ("systemctl show", ACTIVE))
    armed(change)
    change.run = Shell(("list table", (0, WANTED.replace("22", "23"), "")), ("systemctl show", ACTIVE))
    with pytest.raises(nft.NftError, match="what is live is not what waits"):
        change.may_confirm("a", False)


def test_the_same_connection_proves_nothing(make, monkeypatch):
    change = make(LISTED, ("systemctl show", ACTIVE))
    monkeypatch.setattr(lib, "connection_id", lambda: "10:1 20:2")
    armed(change)
    with pytest.raises(lib.SameConnection, match="proves nothing"):
        change.may_confirm("a", True)
    assert change.may_confirm("a", False), "a local connection has none of its own"
    monkeypatch.setattr(lib, "connection_id", lambda: "10:1 30:3")
    assert change.may_confirm("a", True)


def test_connections_are_told_apart_by_their_sshd(tmp_path):
    for pid, name, parent in ((1, "systemd", 0), (10, "sshd", 1), (20, "sshd-session", 10), (30, "sudo", 20), (40, "a) (b", 30)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} " + "0 " * 17 + f"{pid * 100} 0\n")
    assert lib.connection_id(40, str(tmp_path)) == "20:2000 10:1000"
    assert lib.connection_id(41, str(tmp_path)) == ""


@pytest.fixture
def shell(tmp_path):
    """Run the script of the timer with an nft that notes what it loads, and fails on what is to fail."""
    place, tools = tmp_path / "place", tmp_path / "bin"
    place.mkdir()
    tools.mkdir()
    (tools / "nft").write_text(f'#!/bin/sh\n[ "$2" != "$FAILS" ] && echo "$2" >> {tmp_path}/loaded\n')
    (tools / "nft").chmod(0o755)

    def run(fails="", candidate=True):
        for name in ("rollback.nft", "fallback.nft") + (("candidate.nft",) if candidate else ()):
            (place / name).write_text("rules")
        environment = {"PATH": f"{tools}:{os.environ['PATH']}", "FAILS": fails}
        words = ["sh", "-c", lib.ROLLBACK, "sh", str(place), str(tmp_path / "new" / "state"), "token", "30"]
        subprocess.run(words, check=True, env=environment, stderr=subprocess.DEVNULL)
        loaded = (tmp_path / "loaded").read_text().split() if (tmp_path / "loaded").exists() else []
        state = (tmp_path / "new" / "state").read_text() if (tmp_path / "new" / "state").exists() else ""
        return loaded, state

    return run


def test_the_timer_takes_the_change_back_and_says_so(shell):
    loaded, state = shell()
    assert loaded == ["rollback.nft"]
    assert state.startswith("state=rolled_back\nsince=2") and "token=token\nwhy=nobody confirmed the change within 30 s\n" in state


def test_the_timer_goes_without_contents_that_cannot_be_loaded(shell):
    assert shell(fails="rollback.nft")[0] == ["fallback.nft"]


def test_the_timer_leaves_what_was_confirmed(shell):
    assert shell(candidate=False) == ([], "")
