# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each test runs for both hosts of the scenario; `crm` is the platform of that host, seen from outside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "support"))

import platforms  # pylint: disable=wrong-import-position


def name_of(host):
    """The container of a host of testinfra, whichever way that connects."""
    return host.backend.get_pytest_id().split("://")[-1].split("?")[0]


@pytest.fixture(scope="module")
def crm(host):
    return platforms.Platform(name_of(host), "crm.example.test")


@pytest.fixture(scope="module")
def client(crm):
    return crm.login()


@pytest.fixture(scope="module")
def neighbour(host):
    """The scenario's other host: a machine that belongs to somebody else."""
    here = name_of(host)
    return here.replace("debian12", "debian13") if here.endswith("debian12") else here.replace("debian13", "debian12")


@pytest.fixture
def debian(host):
    return int(host.system_info.release.split(".")[0])
