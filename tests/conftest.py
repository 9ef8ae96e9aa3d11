# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the tests."""

from __future__ import annotations


def pytest_addoption(parser):
    parser.addoption("--each-drift", action="store_true", help="test every drift alone as well (tests/system)")
