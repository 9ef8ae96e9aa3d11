# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/deploy.py: ports that cannot be had are refused before anything is built."""

from __future__ import annotations

import socket

import deploy
import lab
import pytest


@pytest.fixture(autouse=True)
def no_container(monkeypatch):
    monkeypatch.setattr(deploy, "published", lambda name: {})


@pytest.mark.parametrize(
    "https, http, words",
    [
        (22222222, 8080, "HTTPS_PORT is 22222222; give a port from 1 to 65535"),
        (8443, 0, "HTTP_PORT is 0; give a port from 1 to 65535"),
        (8443, 8443, "HTTPS_PORT and HTTP_PORT are both 8443; give two ports"),
    ],
)
def test_ports_that_are_none(https, http, words):
    with pytest.raises(lab.LabError, match=words):
        deploy.check_ports("crm-local", https, http)


def test_another_port_than_that_of_the_container_is_refused(monkeypatch):
    monkeypatch.setattr(deploy, "published", lambda name: {443: 8443, 80: 8080})
    deploy.check_ports("crm-local", 8443, 8080)
    with pytest.raises(lab.LabError, match=r"HTTPS_PORT is 9443, and the container crm-local was made with 8443.*make destroy"):
        deploy.check_ports("crm-local", 9443, 8080)


def test_a_port_in_use():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(lab.LabError, match=f"HTTP_PORT: port {port} of this machine is in use"):
            deploy.check_ports("crm-local", 1 if port != 1 else 2, port)
