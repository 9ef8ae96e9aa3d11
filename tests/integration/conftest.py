# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Debian 12 host for all tests of modules, in which each has a directory of its own, and the PostgreSQL servers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from xdist import scheduler

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import collection  # pylint: disable=wrong-import-position
import hosts  # pylint: disable=wrong-import-position
import plays  # pylint: disable=wrong-import-position
import servers  # pylint: disable=wrong-import-position

collection.importable()
server = servers.server
pytest_generate_tests = servers.with_versions
database = servers.database
# In these a host goes through its life, from test to test.
IN_ORDER = ("monitoring", "ospf_routing", "qos", "traffic_shaping", "health_repair")


class Together(scheduler.LoadScopeScheduling):
    """Tests that belong together go to one process; each other test to whichever is free."""

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        return file if Path(file).stem.removeprefix("test_") in IN_ORDER else nodeid


def pytest_xdist_make_scheduler(config, log):
    return Together(config, log)


@pytest.fixture(scope="session")
def host():
    made = hosts.Host("integration")
    try:
        yield made.create()
    finally:
        made.remove()


@pytest.fixture
def place(host, request):
    """An empty directory on the host."""
    path = f"/srv/{request.node.name.translate(str.maketrans('[]/ ', '____'))}"
    host.run("mkdir", path)
    return path


@pytest.fixture
def call(host, tmp_path):
    """call(module, options, ...): one task with one module of the collection."""

    def one(module, options, *arguments, **task):
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Call it", f"crm.platform.{module}": options, **task}]}]
        return plays.run(tmp_path, play, plays.inventory(host.name), *arguments, timeout=120)

    return one
