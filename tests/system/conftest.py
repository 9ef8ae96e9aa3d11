# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian 12 server for the tests here, in the order of its life, and another one for what is about backups.

First it is fresh: bad input is refused, a full disk stops a run (test_1_*).
Then the very same host is deployed from the collection's tarball, and has to
withstand drift, reboot and prying eyes (test_2_*). test_3_* has hosts of its own.
With `-n 2` the two servers live side by side; without, one is both.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from xdist import scheduler

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import hosts  # pylint: disable=wrong-import-position
import platforms  # pylint: disable=wrong-import-position
import plays  # pylint: disable=wrong-import-position
import run_tests  # pylint: disable=wrong-import-position

DOMAIN = "crm.example.test"
PASSWORD = "gIven 'pass' \"50%\" @ $HOME é"
SITE = "crm.platform.site"


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.slow)


class Lives(scheduler.LoadScopeScheduling):
    """The tests up to test_4_* go to one process, in their order; those on a server that has its backups to another one.

    What has hosts of its own goes to whichever is done first.
    """

    def _split_scope(self, nodeid):
        name = Path(nodeid.split("::")[0]).name
        return "life" if name < "test_5" else "data" if name.startswith(("test_5", "test_6b")) else "rest"


def pytest_xdist_make_scheduler(config, log):
    return Lives(config, log)


@pytest.fixture(scope="session")
def collections(tmp_path_factory):
    """The collection as a user has it: built, and installed from the tarball with no network."""
    place = tmp_path_factory.mktemp("collections")
    galaxy = [run_tests.script("ansible-galaxy"), "collection"]
    environment = run_tests.environment(ANSIBLE_HOME=str(place / "home"), ANSIBLE_COLLECTIONS_PATH=str(place / "tree"))
    subprocess.run([*galaxy, "build", "--output-path", str(place), str(run_tests.ROOT)], check=True, env=environment, stdout=subprocess.DEVNULL)
    (tarball,) = place.glob("crm-platform-*.tar.gz")
    subprocess.run(
        [*galaxy, "install", "--offline", "--collections-path", str(place / "tree"), str(tarball)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    return place / "tree"


class Server:
    """A host, and the runs of the site against it."""

    def __init__(self, label, directory, collections_):
        self.host, self.directory, self.collections = hosts.Host(label), directory, collections_
        self.platform = platforms.Platform(self.host.name, DOMAIN)
        self.variables = {
            "foundation_domain": DOMAIN,
            "foundation_database_password": "{% raw %}" + PASSWORD + "{% endraw %}",
            "crm_package_ca_bundle": os.environ.get("SSL_CERT_FILE", ""),
            "crm_service_admin_email": "admin@example.test",
            # The whole world is in Molecule's scenario `default`.
            "crm_service_countries": ["DE"],
            "crm_service_currencies": ["EUR"],
            "crm_service_subdivisions": False,
        }

    def inventory(self, **variables):
        return plays.inventory(self.host.name, **{**self.variables, **variables})

    def run(self, *options, playbook=SITE, aside="", **variables):
        """One run; `aside` has its files in a directory of their own, for runs side by side."""
        began = time.monotonic()
        directory = self.directory / aside
        directory.mkdir(exist_ok=True)
        outcome = plays.run(directory, playbook, self.inventory(**variables), *options, collections=self.collections)
        print(f"{playbook} {' '.join(options)}: rc {outcome.rc}, {len(outcome.changed)} changed, {time.monotonic() - began:.0f} s")
        return outcome

    def package(self):
        """The package that was built here, as a file of the controller."""
        (path,) = self.host.sh("find /srv/crm-platform/apt -name 'crm-platform_*.deb'").split()
        hosts.engine("cp", f"{self.host.name}:{path}", str(self.directory))
        return str(self.directory / Path(path).name)

    def stale(self):
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


@pytest.fixture(scope="session")
def fresh(collections, tmp_path_factory):
    """A host on which nothing was deployed yet; with CRM_TEST_HOST the one that an earlier run with CRM_TEST_KEEP has left."""
    server = Server("system", tmp_path_factory.mktemp("system"), collections)
    kept = os.environ.get("CRM_TEST_HOST")
    if kept:
        server.host.name = kept
        server.platform = platforms.Platform(kept, DOMAIN)
    try:
        if not kept:
            server.host.create()
        yield server
    finally:
        server.host.remove()


@pytest.fixture(scope="session")
def deployed(fresh):
    """The same host with the platform on it; the run's whole output is kept."""
    began = time.monotonic()
    fresh.first = fresh.run("-vvv", "--diff")
    fresh.took = time.monotonic() - began
    assert fresh.first.rc == 0, fresh.first.failure or fresh.first.text[-3000:]
    return fresh


@pytest.fixture
def make_server(collections, tmp_path):
    """make_server(label): one more fresh host, removed at the end of the test."""
    made = []

    def make(label):
        made.append(Server(label, tmp_path, collections))
        made[-1].host.create()
        return made[-1]

    yield make
    for server in made:
        server.host.remove()
