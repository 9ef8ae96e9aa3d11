# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/routing/files/anycast.py: when a host has the service addresses, and by which commands."""

from __future__ import annotations

import importlib.util
import http.server
import json
import threading

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

_spec = importlib.util.spec_from_file_location("anycast", ROOT / "roles" / "routing" / "files" / "anycast.py")
anycast = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(anycast)


def hear(judge, *answers):
    return [judge.hear(answer) for answer in answers]


def test_it_starts_down_and_needs_good_answers_in_a_row():
    assert hear(anycast.Judge(2, 3), "good", "good", "bad", "good", "good", "good") == [False, False, False, False, False, True]


def test_one_bad_answer_is_a_doubt_and_two_are_enough():
    judge = anycast.Judge(2, 1)
    assert hear(judge, "good", "bad", "good", "bad", "bad") == [True, True, True, True, False]


def test_silence_counts_at_once():
    assert hear(anycast.Judge(5, 1), "good", "silence") == [True, False]


@given(st.lists(st.sampled_from(["good", "bad", "silence"])), st.integers(1, 5), st.integers(1, 5))
def test_whatever_comes_it_follows_the_last_answers(answers, fall, rise):
    judge = anycast.Judge(fall, rise)
    hear(judge, *answers)
    assert hear(judge, *["bad"] * fall)[-1] is False
    assert hear(judge, *["good"] * rise)[-1] is True


def test_a_drained_host_announces_nothing_however_well_it_is():
    assert anycast.state_of(True, True) == "drained"
    assert [anycast.state_of(False, good) for good in (True, False)] == ["announced", "withdrawn"]


def test_a_doubt_is_settled_within_a_second():
    # The longest way from the last good answer to the second bad one.
    assert anycast.pause("announced", "good", 0.2) + anycast.pause("announced", "bad", 0.2) <= 0.3


def test_commands():
    assert anycast.ip_commands(["192.0.2.10"], "announce") == "address replace 192.0.2.10/32 dev lo\n"
    assert anycast.ip_commands(["2001:db8:0::10"], "announce") == "address replace 2001:db8::10/128 dev lo preferred_lft 0 nodad\n"
    assert anycast.ip_commands(["192.0.2.10"], "withdraw") == "address del 192.0.2.10/32 dev lo\n"
    assert anycast.ip_commands(["192.0.2.10"], "hold").startswith("route replace local 192.0.2.10/32 dev lo table local")


def test_what_is_sent_on_ends_by_itself():
    rules = anycast.pass_on_rules(["192.0.2.10", "2001:db8::10"], "198.51.100.11", 60)
    assert "192.0.2.10 timeout 60s" in rules and "dup to 198.51.100.11 drop" in rules and "2001" not in rules
    assert "dup" not in anycast.pass_on_rules(["192.0.2.10"], "198.51.100.11", 0)


def test_to_an_ipv6_address_nothing_is_sent_on_and_nothing_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(anycast, "CONFIG", str(tmp_path / "config"))
    (tmp_path / "config").write_text(json.dumps({"addresses": ["2001:db8::10"]}))
    monkeypatch.setattr(anycast.subprocess, "run", lambda *dummy, **more: pytest.fail("nothing is to be run"))
    words = ["crm-platform-anycast", "pass-on", "--to", "2001:db8::11", "--seconds"]
    monkeypatch.setattr(anycast.sys, "argv", [*words, "60"])
    anycast.main()
    ended = []
    monkeypatch.setattr(anycast.subprocess, "run", lambda words, **more: ended.append(words) or anycast.subprocess.CompletedProcess(words, 0, "", ""))
    monkeypatch.setattr(anycast.sys, "argv", [*words, "0"])
    anycast.main()
    assert ended == [["/usr/sbin/nft", "-f", "-"]]


def test_an_address_that_is_configured_no_more_goes_with_the_others(monkeypatch, tmp_path):
    """The program that had it was killed, or the configuration was changed meanwhile."""
    done = []

    def run(words, **more):
        done.append(" ".join(words[1:]) + " " + more.get("input", ""))
        return anycast.subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(anycast.subprocess, "run", run)
    monkeypatch.setattr(anycast.time, "sleep", lambda dummy: None)
    monkeypatch.setattr(anycast, "STATUS", str(tmp_path / "status"))
    (tmp_path / "status").write_text(json.dumps({"state": "announced", "addresses": ["192.0.2.9", "192.0.2.10", "2001:db8::9"]}))
    anycast.withdraw({"addresses": ["192.0.2.10"]})
    text = "\n".join(done)
    assert [text.count(f"address del {one}") for one in ("192.0.2.9/32", "192.0.2.10/32", "2001:db8::9/128")] == [1, 1, 1]
    # Routes of ours, whatever they are for.
    assert [line.strip() for line in done if "flush" in line] == [f"-{family} route flush table local proto 205" for family in (4, 6)]
    (tmp_path / "status").write_text("{")
    assert anycast.all_addresses(["192.0.2.10"]) == ["192.0.2.10"]


def test_the_mark_outlives_and_the_status_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(anycast, "MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(anycast, "STATUS", str(tmp_path / "status"))
    assert anycast.status()["state"] == "withdrawn" and not anycast.status()["drained"]
    (tmp_path / "status").write_text(json.dumps({"state": "announced", "reason": "", "since": 1, "addresses": []}))
    assert anycast.move(True, 0.1) == {**anycast.status(), "changed": True, "ok": False}
    (tmp_path / "status").write_text(json.dumps({"state": "drained", "reason": "", "since": 1, "addresses": []}))
    assert anycast.move(True, 0.1)["changed"] is False and anycast.status()["drained"]
    moved = anycast.move(False, 0.1)
    assert moved["changed"] and not moved["ok"] and not anycast.status()["drained"]


@pytest.fixture
def server(monkeypatch):
    """Answers as it is told: a status, or after a while."""
    told = {"status": 200, "wait": 0.0}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):  # pylint: disable=invalid-name
            threading.Event().wait(told["wait"])
            self.send_response(told["status"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *dummy):
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    plain = anycast.http.client.HTTPConnection
    monkeypatch.setattr(anycast.http.client, "HTTPSConnection", lambda host, port, timeout, context: plain(host, port, timeout=timeout))
    yield told, listening.server_address[1]
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_answers(server):
    told, port = server
    asker = anycast.Asker(port, "/health", 0.3)
    assert asker.ask() == ("good", "")
    told["status"] = 503
    assert asker.ask() == ("bad", "HTTP 503")
    told.update(status=200, wait=1)
    assert asker.ask()[0] == "silence"
    told["wait"] = 0
    assert asker.ask()[0] == "good"
    asker.close()


def test_a_kept_connection_that_the_server_has_ended_is_no_bad_answer(server):
    dummy, port = server
    asker = anycast.Asker(port, "/health", 1)
    assert asker.ask()[0] == "good"
    asker.connection.sock.shutdown(2)
    assert asker.ask()[0] == "good"
    asker.close()


def test_nobody_there_is_a_bad_answer():
    assert anycast.Asker(1, "/health", 1).ask()[0] == "bad"
