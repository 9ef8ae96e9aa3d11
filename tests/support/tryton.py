# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CRM as a client sees it: Tryton's JSON-RPC over HTTPS, with the certificate checked."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
import time
import typing as t


class Refused(Exception):
    """An answer that is no result: the HTTP status, or the error that Tryton told."""


class Connection(http.client.HTTPSConnection):
    """HTTPS to an address, under the name that the certificate carries."""

    def __init__(self, address: str, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(name, 443, timeout=timeout, context=context)
        self._address, self._name, self._tls = address, name, context

    def connect(self) -> None:
        plain = socket.create_connection((self._address, 443), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)


class Client:
    """One user of the CRM."""

    def __init__(self, address: str, name: str, authority: str, database: str = "crm", timeout: float = 30) -> None:
        self.address, self.name, self.database, self.timeout = address, name, database, timeout
        self.context = ssl.create_default_context(cadata=authority)
        self.authorization = ""

    def request(self, method: str, path: str, body: str | None = None, headers: dict | None = None) -> tuple[int, dict, bytes]:
        connection = Connection(self.address, self.name, self.context, self.timeout)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def call(self, method: str, *parameters: t.Any) -> t.Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        body = json.dumps({"id": 1, "method": method, "params": parameters})
        status, dummy, answer = self.request("POST", f"/{self.database}/rpc/", body, headers)
        if status != 200:
            raise Refused(f"{method}: HTTP {status}: {answer[:300]!r}")
        document = json.loads(answer)
        if document.get("error"):
            raise Refused(f"{method}: {document['error']}")
        return document["result"]

    def login(self, user: str, password: str) -> "Client":
        user_id, token, *dummy = self.call("common.db.login", user, {"password": password}, "en")
        self.authorization = "Session " + base64.b64encode(f"{user}:{user_id}:{token}".encode()).decode()
        return self

    def create_party(self, name: str) -> int:
        (party,) = self.call("model.party.party.create", [{"name": name}], {})
        return party

    def party_name(self, party: int) -> str:
        return self.call("model.party.party.read", [party], ["name"], {})[0]["name"]


class Searchers:
    """Clients that search without a pause; tells the longest time in which none was answered rightly."""

    def __init__(self, client: Client, count: int, party: int, name: str) -> None:
        self.client, self.count, self.party, self.name = client, count, party, name
        self.answers: list[float] = []
        self.errors: list[str] = []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._search, daemon=True) for dummy in range(count)]

    def __enter__(self) -> "Searchers":
        for thread in self._threads:
            thread.start()
        while len(self.answers) < self.count and not self.errors:
            time.sleep(0.05)
        return self

    def __exit__(self, *dummy: t.Any) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(self.client.timeout + 5)

    def _search(self) -> None:
        while not self._stopped.is_set():
            try:
                found = self.client.call("model.party.party.search", [["name", "=", self.name]], 0, 5, None, {})
                if self.party in found:
                    self.answers.append(time.monotonic())
                else:
                    self.errors.append(f"wrong answer {found}")
            except (Refused, OSError, http.client.HTTPException) as error:
                self.errors.append(str(error))
            self._stopped.wait(0.1)

    @property
    def longest_gap(self) -> float:
        times = sorted(self.answers)
        return max((later - earlier for earlier, later in zip(times, times[1:])), default=float("inf"))
