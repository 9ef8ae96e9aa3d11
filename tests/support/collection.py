# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make `ansible_collections.crm.platform` importable for tests that call its libraries: it is this checkout."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import run_tests  # pylint: disable=wrong-import-position


@functools.cache
def importable() -> None:
    _AnsibleCollectionFinder(paths=[run_tests.environment()["ANSIBLE_COLLECTIONS_PATH"]])._install()
