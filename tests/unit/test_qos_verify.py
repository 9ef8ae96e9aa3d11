# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/qos/files/verify.py: what is opened for a measurement, and closed after it. The measurement itself is tried in tests/integration."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import ROOT

_spec = importlib.util.spec_from_file_location("verify", ROOT / "roles" / "qos" / "files" / "verify.py")
verify = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(verify)

PLAN = {
    "from": "app1",
    "to": "db1",
    "address": "127.0.0.1",
    "source": "2001:db8::1",
    "port": 25200,
    "classes": [{}, {}],
    "firewall": "inet crm_platform",
}


@pytest.fixture
def asked(monkeypatch):
    """The commands, and what nft has: a table with the rules of a run, whose chain `output` is there where the host's egress is filtered."""
    made, chains = [], {"input": "", "output": ""}

    def run(*words, data=None, check=True):
        del check
        made.append(data or " ".join(words))
        return "chain" if "list" in words and words[-1] in chains else ""

    monkeypatch.setattr(verify, "run", run)
    return made, chains


def test_one_is_let_in_and_the_other_out(asked):
    made, chains = asked
    ports = 'tcp dport 25200-25203 accept comment "crm-platform-qos-verify"'
    verify.let_in(PLAN)
    verify.let_out(PLAN)
    assert [line for line in made if "insert" in line] == [
        f"insert rule inet crm_platform input ip6 saddr 2001:db8::1 {ports}\n",
        f"insert rule inet crm_platform output ip daddr 127.0.0.1 {ports}\n",
    ]
    del chains["output"], made[:]
    verify.let_out(PLAN)
    assert not [line for line in made if "insert" in line], "what a host begins itself is not filtered there"


def test_both_are_closed(monkeypatch):
    made = []
    listing = 'tcp dport 25200-25203 accept comment "crm-platform-qos-verify" # handle 7\nct state established accept # handle 8\n'
    monkeypatch.setattr(verify, "run", lambda *words, **dummy: made.append(" ".join(words)) or listing)
    verify.let_pass_no_more(PLAN)
    assert [line for line in made if "delete" in line] == [f"nft delete rule inet crm_platform {chain} handle 7" for chain in ("input", "output")]


def test_a_receiver_that_does_not_listen_is_named():
    with pytest.raises(SystemExit, match="db1 does not let app1 in on 127.0.0.1 port 1 and up"):
        verify.await_receiver({**PLAN, "port": 1}, 0)
