# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/database: PostgreSQL, as the application and as a stranger find it."""

from __future__ import annotations

import pytest


def login(crm, password, *options):
    """What psql says to a login of the application's role over TCP."""
    return crm.host.run(
        "env", f"PGPASSWORD={password}", "psql", "-XAtq", f"host=localhost user=crm dbname=crm {' '.join(options)}", "-c", "select 'in'", check=False
    )


def test_the_distributions_version(crm, debian):
    assert crm.sql("show server_version_num")[:2] == {12: "15", 13: "17"}[debian]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("password_encryption", "scram-sha-256"),
        ("ssl", "on"),
        ("ssl_min_protocol_version", "TLSv1.2"),
    ],
)
def test_settings(crm, setting, value):
    assert crm.sql(f"show {setting}") == value


def test_libraries_and_slow_statements(crm):
    assert {"pg_stat_statements", "auto_explain"} <= set(crm.sql("show shared_preload_libraries").replace(" ", "").split(","))
    assert int(crm.sql("select count(*) from pg_stat_statements")) > 0
    assert crm.sql("select setting::int > 0 from pg_settings where name = 'log_min_duration_statement'") == "t"


def test_the_application_owns_its_database_and_no_more(crm):
    assert crm.sql("select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls from pg_roles where rolname = 'crm'") == "f|f|f|f|f"
    assert crm.sql("select pg_get_userbyid(datdba) from pg_database where datname = 'crm'") == "crm"
    assert crm.sql("select count(*) from pg_roles where rolsuper and rolname <> 'postgres'") == "0"
    assert crm.sql("select rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolname = 'crm'") == "t"


def test_a_login_with_tls_and_the_password(crm):
    done = login(crm, crm.secrets["database_password"], "sslmode=verify-full", "sslrootcert=/etc/crm-platform/pki/ca.crt")
    assert done.stdout == "in\n", done.stderr


def test_a_login_without_tls_is_refused(crm):
    done = login(crm, crm.secrets["database_password"], "sslmode=disable")
    assert done.returncode == 2 and "no encryption" in done.stderr


def test_a_wrong_password_is_refused(crm):
    done = login(crm, "wrong", "sslmode=require")
    assert done.returncode == 2 and "password authentication failed" in done.stderr


def test_a_md5_password_is_refused(crm):
    stored = crm.sql("select rolpassword from pg_authid where rolname = 'crm'")
    try:
        crm.sql("set password_encryption = 'md5'; alter role crm password 'weakly-kept'")
        done = login(crm, "weakly-kept", "sslmode=require")
        assert done.returncode == 2 and "password authentication failed" in done.stderr
    finally:
        crm.sql(f"alter role crm password '{stored}'")
    assert login(crm, crm.secrets["database_password"], "sslmode=require").stdout == "in\n"


def test_pg_hba_lists_only_what_is_needed(crm):
    methods = set(crm.sql("select auth_method from pg_hba_file_rules").split())
    assert methods <= {"peer", "scram-sha-256", "reject"}
    assert crm.sql("select count(*) from pg_hba_file_rules where error is not null") == "0"
    assert crm.sql("select count(*) from pg_hba_file_rules where type in ('host', 'hostnossl') and auth_method <> 'reject'") == "0"


def test_no_setting_waits_for_a_restart(crm):
    assert crm.sql("select string_agg(name, ' ') from pg_settings where pending_restart") == ""


def test_the_cluster_starts_with_the_host(host, debian):
    version = {12: 15, 13: 17}[debian]
    assert host.service(f"postgresql@{version}-main").is_running
    assert host.service("postgresql").is_enabled
