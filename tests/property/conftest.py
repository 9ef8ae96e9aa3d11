# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make `ansible_collections.crm.platform` importable: it is this checkout."""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis
import hypothesis.configuration
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from run_tests import CACHE, environment

_AnsibleCollectionFinder(paths=[environment()["ANSIBLE_COLLECTIONS_PATH"]])._install()

hypothesis.configuration.set_hypothesis_home_dir(str(CACHE / "hypothesis"))
hypothesis.settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=200,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("house")


import os
import uuid

import psycopg2
import pytest


class Server:
    def __init__(self, uri): self.uri = uri; self.made = []
    def connect(self, database): return psycopg2.connect(self.uri, dbname=database)
    def database(self):
        name = "t" + uuid.uuid4().hex[:10]
        c = psycopg2.connect(self.uri); c.autocommit = True; c.cursor().execute(f"CREATE DATABASE {name}"); c.close(); self.made.append(name)
        return name


@pytest.fixture(params=os.environ.get("CRM_TEST_SERVERS", "").split())
def server(request):
    s = Server(request.param)
    yield s
    c = psycopg2.connect(s.uri); c.autocommit = True
    for n in s.made: c.cursor().execute(f"DROP DATABASE {n} WITH (FORCE)")
