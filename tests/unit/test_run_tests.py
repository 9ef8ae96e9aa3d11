# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/run_tests.py: what is told at the end of a run that failed."""

from __future__ import annotations

import run_tests

LOG = """
>       assert 1 == 2
E       assert 1 == 2

\x1b[31mERROR   \x1b[0m Verifier tests failed
tests/test_a.py:1: AssertionError
FAILED tests/test_a.py::test_one - assert 1 == 2
FAILED - RETRYING: [localhost]: Wait for deletion (300 retries left).
fatal: [server]: FAILED! => {"msg": "no"}
E       assert 1 == 2
"""


def test_the_names_come_first_and_each_line_once():
    assert run_tests.told(LOG) == [
        "ERROR    Verifier tests failed",
        "FAILED tests/test_a.py::test_one - assert 1 == 2",
        "E       assert 1 == 2",
        'fatal: [server]: FAILED! => {"msg": "no"}',
    ]


def test_little_is_told_of_much():
    told = run_tests.told("\n".join(f"FAILED {n} {'x' * 1000}" for n in range(1000)))
    assert len(told) == run_tests.TOLD_LINES and max(map(len, told)) == run_tests.TOLD_WIDTH
