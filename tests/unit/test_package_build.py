# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/package_build.py: what a build that failed is put down to. The texts are what pip, npm and make have printed."""

from __future__ import annotations

import pytest
from ansible_collections.crm.platform.plugins.module_utils import package_build as lib

LOG = "/var/log/crm-platform-package.log"
PIP_CERTIFICATE = """\
WARNING: Retrying (Retry(total=4, connect=None, read=None, redirect=None, status=None)) after connection broken by \
'SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate \
chain (_ssl.c:992)'))': /simple/argon2-cffi/
ERROR: Could not find a version that satisfies the requirement argon2-cffi==25.1.0 (from versions: none)
ERROR: No matching distribution found for argon2-cffi==25.1.0
make: *** [debian/rules:45: build/venv.done] Error 1
"""
NPM_CERTIFICATE = """\
npm error code DEPTH_ZERO_SELF_SIGNED_CERT
npm error request to https://registry.example.org/tryton-sao failed, reason: self-signed certificate
make: *** [debian/rules:75: build/web.done] Error 1
"""
UNRESOLVED = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at"
    " 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/argon2-cffi/\n"
    "ERROR: No matching distribution found for argon2-cffi==25.1.0\n"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PIP_CERTIFICATE, ["package index of pip", "does not trust", "crm_package_ca_bundle"]),
        (NPM_CERTIFICATE, ["registry of npm", "does not trust", "crm_package_ca_bundle"]),
        (UNRESOLVED, ["package index of pip", "cannot be resolved", "DNS"]),
        (UNRESOLVED.replace("[Errno -3] Temporary failure in name resolution", "[Errno 111] Connection refused"), ["cannot be reached", "route"]),
        ("npm error code ENOTFOUND\nnpm error network request to https://registry.example.org/d3 failed\n", ["registry of npm", "resolved"]),
        ("npm error code ECONNREFUSED\n", ["registry of npm", "cannot be reached", "crm_package_npm_registry"]),
        ("npm error code E401\nnpm error Incorrect or missing password.\n", ["registry of npm", "login", "credentials"]),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n", ["index of pip", "what was locked"]),
        ("web client: d3-7.9.2.tgz: its sha512 is x, the lock says y\n", ["registry of npm", "what was locked"]),
        ("ERROR: No matching distribution found for lxml==6.0.2\n", ["index of pip", "lacks a version", "crm_package_pip_index_url"]),
        ("npm error code E404\nnpm error 404 Not Found - GET https://registry.example.org/d3\n", ["registry of npm", "lacks a version"]),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", ["disk is full", "make room"]),
        ("/var/cache/crm-platform/package has 12 MiB free, the build needs 900; make room\n", ["disk is full"]),
        ("Killed\nmake: *** [debian/rules:45: build/venv.done] Error 137\n", ["memory"]),
        ("\nanother build has been under way", ["another build", "half an hour"]),
        ("E: crm-platform: unstripped-binary-or-object [x.so]\n", ["lintian", "crm_package_lintian"]),
        ("fetch and verify: 20 s\ndpkg-gencontrol: error: bad line\nmake: *** [debian/rules:1: binary] Error 2\n", ["dpkg-gencontrol: error: bad line"]),
        ("", ["it said nothing"]),
    ],
)
def test_one_line_says_what_failed_why_and_the_cure(text, words):
    said = lib.problem(text, LOG, "app1")
    assert said.startswith("The package could not be built on app1: ") and LOG in said and "\n" not in said
    assert [word for word in words if word not in said] == [], said


def test_a_full_disk_is_not_put_down_to_what_it_breaks():
    said = lib.problem("OSError: [Errno 28] No space left on device\n" + PIP_CERTIFICATE, LOG, "app1")
    assert "disk is full" in said and "ca_bundle" not in said


def test_words_that_nobody_knows_are_cut_short():
    assert len(lib.problem("x" * 5000, LOG, "app1")) < 400
