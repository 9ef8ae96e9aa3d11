# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Use the web client as a user does: log in, open the list of parties, keep a picture.

    screenshot.py https://localhost:8443 PASSWORD_FILE docs/images/party-list.png

Needs Debian's chromium and chromium-driver, spoken to in the WebDriver protocol.
"""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ENTER = "\ue007"
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1280,800", "--ignore-certificate-errors",
]  # fmt: skip


class Browser:
    """One session of a headless Chromium."""

    def __init__(self, port: int, profile: str) -> None:
        self.base = f"http://127.0.0.1:{port}"
        options = {"args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True, "goog:chromeOptions": options}}})
        self.base += f"/session/{answer['sessionId']}"

    def call(self, method: str, path: str, body: dict | None = None) -> t.Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def find(self, selector: str, seconds: float = 30) -> str:
        """The first visible element that an XPath names; waits for it."""
        deadline = time.monotonic() + seconds
        while True:
            for element in self.call("POST", "/elements", {"using": "xpath", "value": selector}):
                identity = element[ELEMENT]
                with contextlib.suppress(urllib.error.HTTPError):
                    if self.call("GET", f"/element/{identity}/displayed"):
                        return identity
            if time.monotonic() > deadline:
                raise LookupError(f"the page shows no {selector}")
            time.sleep(0.3)

    def click(self, selector: str) -> None:
        self.call("POST", f"/element/{self.find(selector)}/click", {})

    def double_click(self, selector: str) -> None:
        moves = [
            {"type": "pointerMove", "duration": 50, "origin": {ELEMENT: self.find(selector)}, "x": 0, "y": 0},
            *({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp") * 2),
        ]
        self.call("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": moves}]})

    def type(self, selector: str, text: str) -> None:
        self.call("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def picture(self) -> bytes:
        return base64.b64decode(self.call("GET", "/screenshot"))

    def close(self) -> None:
        self.call("DELETE", "")


@contextlib.contextmanager
def browser() -> t.Iterator[Browser]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="crm-browser-", ignore_cleanup_errors=True) as profile:
        driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for dummy in range(50):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.2)
            page = Browser(port, profile)
            try:
                yield page
            finally:
                page.close()
        finally:
            driver.terminate()
            driver.wait()


def party_list(page: Browser, url: str, password: str) -> bytes:
    """Log in as admin, open Party / Parties, return the picture of it."""
    page.open(url)
    page.type("//input[@id='login']", "admin")
    page.click("//button[@type='submit' and @title='Login']")
    page.type("//input[@id='ask-dialog-entry']", password + ENTER)
    # The menu's entry unfolds; below it stands the list of the same name.
    entries = "//*[@id='menu']//*[normalize-space(text())='Parties']"
    page.double_click(f"({entries})[1]")
    page.double_click(f"({entries})[2]")
    page.find("//*[@id='tablist']//*[contains(., 'Parties')]")
    time.sleep(2)  # the rows arrive after the heads
    return page.picture()


def available() -> bool:
    return bool(shutil.which("chromedriver") and shutil.which("chromium"))


def main() -> int:
    url, secret, target = sys.argv[1:4]
    with browser() as page:
        picture = party_list(page, url, pathlib.Path(secret).read_text(encoding="utf-8").strip())
    pathlib.Path(target).write_bytes(picture)
    print(f"{target}: {len(picture)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
