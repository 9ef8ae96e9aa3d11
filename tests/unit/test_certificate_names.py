# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/certificate_names.py: for whom a certificate is, and what is said where it is for somebody else."""

from __future__ import annotations

import pytest
from ansible_collections.crm.platform.plugins.module_utils import certificate_names as lib

TEXT = """X509v3 Subject Alternative Name:
    DNS:app1, DNS:CRM.example.org, DNS:*.shop.example.org, IP Address:192.0.2.1, IP Address:0:0:0:0:0:0:0:1
"""


def test_the_names_of_a_certificate():
    assert lib.names(TEXT) == ["app1", "crm.example.org", "*.shop.example.org", "192.0.2.1", "::1"]


@pytest.mark.parametrize(
    ("wanted", "covered"),
    [
        ("crm.example.org", True),
        ("Crm.Example.org", True),
        ("a.shop.example.org", True),
        ("192.0.2.1", True),
        ("::1", True),
        ("shop.example.org", False),
        ("a.b.shop.example.org", False),
        ("new.example.org", False),
        ("192.0.2.2", False),
        ("org", False),
    ],
)
def test_a_name_is_covered_or_not(wanted, covered):
    assert (lib.problem(TEXT, [wanted], "/x.crt", "app1", False) == "") is covered


def test_the_internal_one_is_foundations_to_make():
    said = lib.problem(TEXT, ["new.example.org", "app1"], "/etc/crm-platform/pki/host.crt", "app1", False)
    assert "not new.example.org (foundation_domain" in said and "run crm.platform.foundation first" in said and "\n" not in said


def test_a_given_one_is_the_operators():
    said = lib.problem("", ["crm.example.org"], "/etc/ssl/crm.crt", "app1", True)
    assert said.startswith("crm_service_tls_certificate (/etc/ssl/crm.crt) on app1 names nothing, not crm.example.org") and "put one on the host" in said
