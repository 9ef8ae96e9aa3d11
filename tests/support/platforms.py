# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployed one-server platform: what its users and its operator can see of it."""

from __future__ import annotations

import functools
import json

import hosts
import tryton

PORTS = {22, 80, 443}
UNITS = ("crm-platform.service", "crm-platform-worker.service", "crm-platform-cron.service")
SECRETS = "/etc/crm-platform/secrets"
# Connects to every port at once, thousands at a time; a port that drops is one that never answers.
SCAN = """
import errno, resource, select, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
address, opened = sys.argv[1], []
for start in range(1, 65536, 16000):
    waiting, poll = {}, select.epoll()
    for port in range(start, min(start + 16000, 65536)):
        s = socket.socket()
        s.setblocking(False)
        if s.connect_ex((address, port)) in (0, errno.EINPROGRESS):
            waiting[s.fileno()] = (s, port)
            poll.register(s.fileno(), select.EPOLLOUT)
    end = time.monotonic() + 2
    while waiting and time.monotonic() < end:
        for number, event in poll.poll(max(0, end - time.monotonic())):
            s, port = waiting.pop(number)
            poll.unregister(number)
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                opened.append(port)
            s.close()
    for s, port in waiting.values():
        s.close()
print(*sorted(opened))
"""


class Container(hosts.Host):
    """A host that somebody else made."""

    def __init__(self, name: str) -> None:  # pylint: disable=super-init-not-called
        self.name, self.image = name, ""


class Platform:
    """The platform on one container."""

    def __init__(self, name: str, domain: str) -> None:
        self.host, self.domain = Container(name), domain

    @functools.cached_property
    def authority(self) -> str:
        return self.host.read("/etc/crm-platform/pki/ca.crt")

    @functools.cached_property
    def secrets(self) -> dict[str, str]:
        """The real values, to look for where they must not be."""
        names = self.host.run("find", SECRETS, "-type", "f", "-not", "-name", ".*").stdout.split()
        return {name.removeprefix(f"{SECRETS}/"): self.host.read(name).removesuffix("\n") for name in names}

    def client(self, timeout: float = 30) -> tryton.Client:
        return tryton.Client(self.host.address, self.domain, self.authority, timeout=timeout)

    def login(self) -> tryton.Client:
        return self.client().login("admin", self.secrets["admin_password"])

    def health(self) -> dict:
        status, dummy, body = self.client(10).request("GET", "/health")
        return {"code": status, **json.loads(body)}

    def healthy(self) -> bool:
        try:
            return self.health()["code"] == 200
        except (OSError, ValueError):
            return False

    def sql(self, query: str, database: str = "crm") -> str:
        return self.host.run("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", query).stdout.strip()

    def unit(self, name: str, *properties: str) -> list[str]:
        shown = self.host.run("systemctl", "show", "--property", ",".join(properties), name).stdout
        values = dict(line.split("=", 1) for line in shown.splitlines())
        return [values[name] for name in properties]

    def open_ports(self, seen_from: hosts.Host) -> set[int]:
        return set(map(int, seen_from.run("python3", "-c", SCAN, self.host.address).stdout.split()))

    def works(self) -> None:
        """A user logs in, writes something down and reads it back."""
        client = self.login()
        party = client.create_party("Proof that it works")
        assert client.party_name(party) == "Proof that it works"
        client.call("model.party.party.delete", [party], {})
