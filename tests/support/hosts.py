# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away hosts: containers that boot systemd, from the images that tools/lab.py builds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import lab  # pylint: disable=wrong-import-position

BOOT_TIMEOUT = 60


def engine(*words: str, check: bool = True, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(["docker", *words], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words)}: exit code {done.returncode}\n{(done.stdout + done.stderr)[-1500:]}")
    return done


class Host:
    """One container. Its name starts with crm-test, so that what a killed test left is told apart."""

    def __init__(self, label: str, system: str = "debian12", source: str | None = None, hostname: str = "") -> None:
        self.name = f"crm-test-{label}-{uuid.uuid4().hex[:6]}"
        self.hostname = hostname or self.name
        # More of `docker run`, such as what the environment of every process holds.
        self.options: list[str] = []
        self.image = source or f"crm-platform/{system}:base"
        if not source:
            lab.ensure_engine()
            lab.ensure_image(system)

    def create(self) -> "Host":
        lab.up(self.name, self.image, ["--hostname", self.hostname, *self.options])
        return self

    def wait_until_booted(self) -> None:
        self.wait_for(
            "systemd to have booted",
            lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"),
            BOOT_TIMEOUT,
        )

    def wait_for(self, what: str, condition, timeout: float) -> float:
        """Seconds until the condition holds; an assertion where it does not in time."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < timeout, f"{self.name}: waited {timeout:.0f} s for {what}"
            time.sleep(0.3)
        return time.monotonic() - began

    def run(self, *words: str, check: bool = True, **options) -> subprocess.CompletedProcess:
        interactive = ("--interactive",) if "input" in options else ()
        return engine("exec", *interactive, self.name, *words, check=check, **options)

    def sh(self, script: str, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check).stdout

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout

    def stat(self, path: str) -> str:
        """Kind, owner, group and mode, as in `regular file root:root 644`."""
        return self.run("stat", "--format", "%F %U:%G %a", path).stdout.strip()

    def write(self, path: str, text: str, umask: str = "022") -> None:
        self.run("sh", "-c", 'umask "$2"; cat > "$1"', "sh", path, umask, input=text)

    @property
    def address(self) -> str:
        return engine("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self.name).stdout.strip()

    def restart(self) -> None:
        """As a server that is rebooted: everything stops, then init starts anew."""
        engine("stop", "--time", "30", self.name)
        engine("start", self.name)
        self.wait_until_booted()

    def save_as(self, name: str, start: str = "exec /lib/systemd/systemd") -> None:
        """Keep the state as an image, from which copies start with this script."""
        engine("commit", "--change", f"CMD {json.dumps(['/bin/sh', '-c', start])}", self.name, name)

    def remove(self) -> None:
        if os.environ.get("CRM_TEST_KEEP"):
            print(f"kept {self.name}")
            return
        engine("rm", "--force", "--volumes", self.name, check=False)


def image_with(what: str, system: str, recipe: str, wheel: Path | None = None) -> str:
    """Have the image of a system on which a script was run, made where there is none of this script; its name.

    :param wheel: a file that the script finds below /wheel.
    """
    base = lab.ensure_image(system)
    name = f"crm-platform/{system}:{what}-{hashlib.sha256((base + recipe).encode()).hexdigest()[:8]}"
    with lab.alone(f"{system}-{what}"):
        if not engine("images", "-q", name).stdout.strip():
            made = Host(what, system)
            try:
                made.create()
                if wheel:
                    made.run("mkdir", "/wheel")
                    engine("cp", str(wheel), f"{made.name}:/wheel/")
                made.sh(recipe)
                made.save_as(name)
            finally:
                made.remove()
    return name
