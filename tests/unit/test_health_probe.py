# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the checks reach services that hang."""

from __future__ import annotations

import os
import socket
import time

import pytest
from ansible_collections.crm.platform.plugins.module_utils.health import probe, registry


def test_a_web_server_that_hangs_costs_one_time_limit(monkeypatch):
    """The kernel takes the connection, and nobody greets."""
    real = socket.create_connection
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(probe.socket, "create_connection", lambda dummy, *more: real(silent.getsockname(), *more))
        host = probe.Host({"crm": {"url": "https://crm.example.com", "database": "crm"}})
        host.deadline = time.monotonic() + 0.3
        with pytest.raises(registry.TimeOver):
            host.crm.call("common.db.login")
        host.deadline = time.monotonic() + 60
        began = time.monotonic()
        for again in (host.crm.certificate, lambda: host.crm.call("common.db.login")):
            with pytest.raises(OSError, match="crm.example.com did not answer in time"):
                again()
        assert time.monotonic() - began < 10


class Answers(probe.Crm):
    """As Tryton was seen to answer: 401 for a wrong password, 429 after several of them."""

    def __init__(self, host, given, status):
        super().__init__(host, given)
        self.status, self.asked = status, 0

    def request(self, method, path, body=None, verify=True):
        self.asked += 1
        return self.status, b'{"result": [1, "key"]}' if self.status == 200 else b""


def login(tmp_path, status, previous=None):
    (tmp_path / "password").write_text("secret\n")
    os.utime(tmp_path / "password", (1000, 1000))
    host = probe.Host({}, previous)
    given = {"url": "https://crm.example.test", "database": "crm", "user": "admin", "password_file": str(tmp_path / "password")}
    crm = Answers(host, given, status)
    try:
        crm.login()
        return "", crm.asked, host.counters
    except OSError as error:
        return f"{type(error).__name__}: {error}", crm.asked, host.counters


def test_a_refused_password_is_told_as_that_and_not_tried_at_every_look(tmp_path):
    said, asked, counters = login(tmp_path, 401)
    assert said == "Refused: it refuses the login of admin" and asked == 1
    said, asked, counters = login(tmp_path, 401, {"counters": counters})
    assert "minutes ago" in said and said.startswith("Refused") and asked == 0
    # The look after that knows it too, another password is tried, and after some hours the same one.
    assert login(tmp_path, 401, {"counters": counters})[1] == 0
    assert login(tmp_path, 200, {"counters": {**counters, probe.REFUSED: 999.0}})[:2] == ("", 1)
    assert login(tmp_path, 200, {"counters": {**counters, probe.REFUSED_AT: counters[probe.REFUSED_AT] - 7 * 3600}})[:2] == ("", 1)


def test_a_locked_user_is_not_a_crm_that_is_down(tmp_path):
    said, asked, dummy = login(tmp_path, 429)
    assert said.startswith("Refused: it has locked admin after several wrong logins") and asked == 1


def test_a_server_error_is_one(tmp_path):
    assert login(tmp_path, 503)[0] == "HttpError: common.db.login: HTTP 503"


def test_load_is_named_where_it_explains_a_late_answer(monkeypatch):
    monkeypatch.setattr(probe.os, "cpu_count", lambda: 2)
    for text, said in (("9.31 4 2 1/1 1", "the load is 9.3 on 2 cores"), ("7.9 1 1 1/1 1", ""), ("", "")):
        monkeypatch.setattr(probe.Host, "read", staticmethod(lambda path, text=text: text))
        assert probe.Host({}).overload() == said
