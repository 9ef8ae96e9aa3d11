# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random models against real servers. Each run tries the same ones, so that a failure comes again."""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis
import hypothesis.configuration

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import collection  # pylint: disable=wrong-import-position
import run_tests  # pylint: disable=wrong-import-position
import servers  # pylint: disable=wrong-import-position

collection.importable()
server = servers.server
pytest_generate_tests = servers.with_versions

hypothesis.configuration.set_hypothesis_home_dir(str(run_tests.CACHE / "hypothesis"))
hypothesis.settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("house")
