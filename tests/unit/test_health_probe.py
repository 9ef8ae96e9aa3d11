# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the checks reach services that hang."""

from __future__ import annotations

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
