# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for the tests of the whole platform: each file has its own, so that a failure stays where it is.

``deployed`` is a copy of a server on which the site was run once (tests/support/deployed.py), ``fresh`` a bare one.
The files are spread over pytest's processes, the longest first; with `--dist loadfile` a file's tests stay together, in their order.
CRM_TEST_HOST names a container that an earlier run with CRM_TEST_KEEP=1 has left, to be used in place of a new one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import platform_image  # pylint: disable=wrong-import-position
import platforms  # pylint: disable=wrong-import-position
from backups import PHRASE, QUIET, command, state  # pylint: disable=wrong-import-position

# In this order, whatever is not named after them: first one that needs a deployed server and makes the image, beside it some
# that need none.
ORDER = (
    "test_lifecycle", "test_killed", "test_bad_input", "test_firewall", "test_restore", "test_backup_damage", "test_rebuild", "test_backup",
)  # fmt: skip


def place(item) -> int:
    name = item.path.stem
    return ORDER.index(name) if name in ORDER else len(ORDER)


def pytest_collection_modifyitems(items):
    items.sort(key=place)
    for item in items:
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def collections(tmp_path_factory):
    """The collection as a user has it."""
    return platform_image.install(tmp_path_factory.mktemp("collections"))


@pytest.fixture(scope="session")
def image(collections):
    """What deployed servers are copies of."""
    return platform_image.ensure(collections)


def started(label, request, collections, name=None):
    """A server in a directory of its own; what was kept of an earlier run in place of a new container."""
    directory = request.getfixturevalue("tmp_path_factory").mktemp(label)
    server = platform_image.Server(label, directory, collections, name)
    kept = os.environ.get("CRM_TEST_HOST")
    if kept:
        server.host.name = kept
        server.platform = platforms.Platform(kept, platform_image.DOMAIN)
    try:
        if not kept:
            server.host.create()
        yield server
    finally:
        server.host.remove()


@pytest.fixture(scope="module")
def fresh(request, collections):
    """A host on which nothing was deployed yet."""
    yield from started("fresh", request, collections)


@pytest.fixture(scope="module")
def deployed(request, collections, image):
    """A server with the platform on it, whose CRM answers."""
    for server in started("deployed", request, collections, image.name):
        server.host.sh(QUIET)
        server.host.wait_for("the CRM to answer", server.platform.healthy, 90)
        yield server


@pytest.fixture
def make_server(collections, tmp_path):
    """make_server(label): one more fresh host, removed at the end of the test."""
    made = []

    def make(label):
        made.append(platform_image.Server(label, tmp_path, collections))
        made[-1].host.create()
        return made[-1]

    yield make
    for server in made:
        server.host.remove()


@pytest.fixture(scope="module")
def saved(deployed):
    """A deployed server, the key of its repository exported, a full backup taken."""
    deployed.platform.works()
    outcome = deployed.run(playbook="crm.platform.backup_key", backup_key_passphrase=PHRASE, backup_key_directory=str(deployed.directory))
    assert outcome.rc == 0, outcome.failure
    command(deployed, "backup", "full")
    return deployed


@pytest.fixture
def undone(saved):
    """Whatever a test does to it, the server is well before and after."""
    before = state(saved)
    assert before["ok"] and not before["kept"], before["problems"]
    yield saved
    # Units that a test has killed stay failed until they run again, which is theirs to tell, and not the next test's to find.
    saved.host.sh("systemctl reset-failed 'crm-platform-backup-*' 2> /dev/null || true")
    if state(saved)["kept"]:
        command(saved, "undo")
    assert saved.platform.healthy()
