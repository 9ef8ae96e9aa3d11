# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server on which crm.platform.site was run once, kept as an image from which copies start in seconds.

The image's name follows from the collection's files, the variables and the base image, so that a change makes a new image.
Beside the image, in .cache/deployed, are the output of the run (run.json) and the Debian package that was built.

    platform_image.py package     print the path of the package, deploying first where there is none
    CRM_TEST_DEPLOYED=NAME  start copies of this image instead; the package and the output of its run are not known then
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import hosts
import lab
import platforms
import plays
import run_tests

# The host's name to itself and to the inventory, which a copy keeps; copies differ in their container's name only.
NAME = "crm-server"
DOMAIN = "crm.example.test"
PASSWORD = "gIven 'pass' \"50%\" @ $HOME é"
SITE = "crm.platform.site"
# Every copy has this address beside that of its container, so that certificates and rules of the first fit the others.
ADDRESS = "198.51.100.10"
# A directory of an image's layer cannot be renamed (EXDEV), which a restore does: the first start makes it the container's own.
OWN = "/var/lib/postgresql /var/backups /var/lib/crm-platform"
START = (
    f"for d in {OWN}; do if [ -e $d ] && [ ! -e $d.own ]; then cp -a $d $d.copy && rm -rf $d && mv $d.copy $d && touch $d.own; fi; done;"
    f" ip address replace {ADDRESS}/32 dev eth0; exec /lib/systemd/systemd"
)
CACHE = run_tests.CACHE / "deployed"
KEPT = 2
# What a deployment is made of; whatever else is in the checkout cannot change it.
SOURCES = ("galaxy.yml", "meta", "playbooks", "plugins", "roles", "requirements.txt")


def variables() -> dict[str, t.Any]:
    """The inventory's variables: little data, and values that break whatever does not quote."""
    return {
        "foundation_address": ADDRESS,
        "foundation_domain": DOMAIN,
        "foundation_database_password": "{% raw %}" + PASSWORD + "{% endraw %}",
        "crm_package_ca_bundle": os.environ.get("SSL_CERT_FILE", ""),
        "crm_service_admin_email": "admin@example.test",
        # The whole world is in Molecule's scenario `default`.
        "crm_service_countries": ["DE"],
        "crm_service_currencies": ["EUR"],
        "crm_service_subdivisions": False,
    }


class Server:
    """A host, and the runs of playbooks against it."""

    def __init__(self, label: str, directory: Path, collections: Path, image: str | None = None) -> None:
        self.name = NAME
        self.host = hosts.Host(label, source=image, hostname=NAME)
        self.directory, self.collections = directory, collections
        self.platform = platforms.Platform(self.host.name, DOMAIN)
        self.variables = variables()

    def inventory(self, place: str = "", **more: t.Any) -> dict:
        """With `place` the server is that container to the playbooks."""
        return plays.inventory(NAME, place=place or self.host.name, **{**self.variables, **more})

    def run(self, *options: str, playbook: str = SITE, aside: str = "", **more: t.Any) -> plays.Outcome:
        """One run; `aside` has its files in a directory of their own, for runs side by side."""
        began = time.monotonic()
        directory = self.directory / aside
        directory.mkdir(exist_ok=True)
        outcome = plays.run(directory, playbook, self.inventory(**more), *options, collections=self.collections)
        print(f"{playbook} {' '.join(options)}: rc {outcome.rc}, {len(outcome.changed)} changed, {time.monotonic() - began:.0f} s")
        return outcome

    def stale(self) -> list[str]:
        """Services that still run with what was there before their files changed."""
        found = []
        if self.platform.sql("select string_agg(name, ' ') from pg_settings where pending_restart"):
            found.append("postgresql: settings wait for a restart")
        if self.platform.sql("select count(*) from pg_file_settings where error is not null") != "0":
            found.append("postgresql: settings with errors")
        newest = {"nginx: worker": "/etc/nginx", "crm-platform": "/etc/crm-platform/crm-platform.conf"}
        for process, files in newest.items():
            changed = float(self.host.sh(f"find -L {files} -type f -printf '%T@\\n' | sort -n | tail -1"))
            pattern = re.escape(process) if process.startswith("nginx") else "/usr/lib/crm-platform/venv"
            started = self.host.sh(f"for p in $(pgrep -f '^[^ ]*{pattern}'); do stat --format %Y /proc/$p; done | sort -n | tail -1").strip()
            if not started or float(started) + 1 < changed:
                found.append(f"{process}: started at {started or 'no time'}, its files changed at {changed:.0f}")
        return found


@dataclasses.dataclass(frozen=True)
class Image:
    """What copies start from; the run that made it, and how many seconds that took."""

    name: str
    package: str
    first: plays.Outcome
    took: float


def install(place: Path) -> Path:
    """The collection as a user has it, built and installed from the tarball with no network; where to find it."""
    galaxy = [run_tests.script("ansible-galaxy"), "collection"]
    environment = run_tests.environment(ANSIBLE_HOME=str(place / "home"), ANSIBLE_COLLECTIONS_PATH=str(place / "tree"))
    subprocess.run([*galaxy, "build", "--output-path", str(place), str(run_tests.ROOT)], check=True, env=environment, stdout=subprocess.DEVNULL)
    (tarball,) = place.glob("crm-platform-*.tar.gz")
    command = [*galaxy, "install", "--offline", "--collections-path", str(place / "tree"), str(tarball)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return place / "tree"


def key(base: str) -> str:
    """Of all that goes into the image."""
    found = hashlib.sha256(json.dumps([base, START, variables()]).encode())
    for source in SOURCES:
        top = run_tests.ROOT / source
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(f"{path.relative_to(run_tests.ROOT)} {path.stat().st_mode & 0o111} ".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def ensure(collections: Path | None = None) -> Image:
    """The image, made where there is none; one process makes it, and the others wait."""
    given = os.environ.get("CRM_TEST_DEPLOYED")
    if given:
        lab.ensure_engine()
        return Image(given, "", plays.Outcome(0, "", [], {}), 170.0)
    base = lab.ensure_image("debian12")
    tag = key(base)
    name, place = f"crm-platform/debian12:deployed-{tag}", CACHE / tag
    with lab.alone("deployed"):
        if not (place / "run.json").exists() or not hosts.engine("images", "-q", name).stdout.strip():
            make(name, place, collections)
            forget(name)
    kept = json.loads((place / "run.json").read_text())
    (package,) = place.glob("crm-platform_*.deb")
    return Image(name, str(package), plays.Outcome(*kept["outcome"]), kept["took"])


def make(name: str, place: Path, collections: Path | None) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as directory:
        server = Server("first", Path(directory), collections or install(Path(directory)))
        try:
            server.host.create()
            server.host.run("ip", "address", "replace", f"{ADDRESS}/32", "dev", "eth0")
            began = time.monotonic()
            first = server.run("-vvv", "--diff")
            took = time.monotonic() - began
            assert first.rc == 0, first.failure or first.text[-3000:]
            (built,) = server.host.sh("find /srv/crm-platform/apt -name 'crm-platform_*.deb'").split()
            hosts.engine("cp", f"{server.host.name}:{built}", str(place))
            # As a server that is shut down: every service has ended in its own way.
            hosts.engine("stop", "--time", "60", server.host.name)
            server.host.save_as(name, START)
        finally:
            server.host.remove()
    (place / "run.json").write_text(json.dumps({"outcome": first, "took": took}), encoding="utf-8")


def forget(newest: str) -> None:
    """Remove the images of states of the checkout that are long gone; a copy that still runs keeps its own."""
    listed = hosts.engine("images", "--filter", "reference=crm-platform/debian12:deployed-*", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    for old in [one for one in listed if one != newest][KEPT - 1 :]:
        hosts.engine("rmi", old, check=False)
        shutil.rmtree(CACHE / old.rsplit("-", 1)[1], ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:] != ["package"]:
        sys.exit(__doc__)
    print(ensure().package)
