# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/postgres_adoption.py: whose PostgreSQL is taken, and which rules stay."""

from __future__ import annotations

import pytest
from ansible_collections.crm.platform.plugins.module_utils import host_facts, postgres_adoption as lib

STOCK = """\
rule # Database administrative login by Unix domain socket
rule local   all             postgres                                peer
rule local   all             all                                     peer
rule host    all             all             127.0.0.1/32            scram-sha-256
rule host    all             all             ::1/128                 scram-sha-256
rule local   replication     all                                     peer
map # MAPNAME       SYSTEM-USERNAME         PG-USERNAME
database postgres
checksums on
"""


def test_a_cluster_without_anything_in_it_is_taken():
    assert lib.problem("15/main", STOCK, False) == ""
    assert lib.problem("15/main", STOCK + "database crm\n", False, ["crm"]) == ""


@pytest.mark.parametrize(
    "more, named",
    [
        ("database otherdb\ndatabase shop\n", "the databases otherdb, shop"),
        ("rule hostssl otherdb other 192.0.2.0/24 scram-sha-256 # theirs\n", "the rules hostssl otherdb other 192.0.2.0/24 scram-sha-256"),
        ("rule local all all trust\n", "the rules local all all trust"),
        ("map people ann other\n", "the rules people ann other"),
    ],
)
def test_what_is_somebody_elses_is_named(more, named):
    said = lib.problem("15/main", STOCK + more, False)
    assert said.startswith("PostgreSQL 15/main was here before this platform and holds") and named in said and "database_adopt" in said
    assert lib.problem("15/main", STOCK + more, True) == ""


def test_without_checksums_nothing_is_taken_over():
    text = STOCK.replace("checksums on", "checksums off") + "database otherdb\n"
    assert "pg_checksums --enable" in lib.problem("15/main", text, True)


def test_a_server_that_does_not_answer_is_not_taken_for_empty():
    assert "does not answer" in lib.problem("15/main", "rule local all all peer\n", True)


def test_the_rules_that_stay_are_read_from_the_copies(tmp_path):
    place = tmp_path / "15" / "main"
    (place / "conf.d").mkdir(parents=True)
    (place / "pg_hba.conf.before-crm-platform").write_text("# a\nlocal  all all   peer\nhost all all 10.0.0.0/8 md5\n")
    assert host_facts.adopted(str(tmp_path)) == {"15/main": {"pg_hba.conf": ["local all all peer", "host all all 10.0.0.0/8 md5"]}}
