# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/foundation: certificates, secrets, and nothing that gives them away."""

from __future__ import annotations


def test_rights_of_what_is_kept(host):
    for path, kind, owner, group, mode in [
        ("/etc/crm-platform", "directory", "root", "root", 0o755),
        ("/etc/crm-platform/secrets", "directory", "root", "root", 0o700),
        ("/etc/crm-platform/pki/ca.crt", "file", "root", "root", 0o644),
        ("/etc/crm-platform/pki/ca.key", "file", "root", "root", 0o600),
        ("/etc/crm-platform/pki/host.crt", "file", "root", "root", 0o644),
        ("/etc/crm-platform/pki/host.key", "file", "root", "ssl-cert", 0o640),
    ]:
        found = host.file(path)
        assert found.is_directory == (kind == "directory") and found.is_file == (kind == "file"), path
        assert (path, found.user, found.group, oct(found.mode)) == (path, owner, group, oct(mode))


def test_the_certificate_is_of_the_internal_authority(host):
    assert host.run("openssl verify -CAfile /etc/crm-platform/pki/ca.crt /etc/crm-platform/pki/host.crt").rc == 0
    names = host.check_output("openssl x509 -noout -ext subjectAltName -in /etc/crm-platform/pki/host.crt")
    assert "DNS:crm.example.test" in names and "DNS:localhost" in names and "IP Address:127.0.0.1" in names


def test_every_secret_is_roots_alone(crm):
    assert crm.secrets
    for name, value in crm.secrets.items():
        assert crm.host.stat(f"/etc/crm-platform/secrets/{name}") == "regular file root:root 600"
        assert len(value) >= 8


def test_no_secret_is_in_a_process_in_the_journal_or_in_a_file_that_all_can_read(crm):
    patterns = "/etc/crm-platform/secrets/.patterns"
    crm.host.write(patterns, "".join(value + "\n" for value in crm.secrets.values()), umask="077")
    try:
        assert crm.host.sh(f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -cFf {patterns}; true") == "0\n"
        assert crm.host.sh(f"journalctl --no-pager --all | grep -cFf {patterns}; true") == "0\n"
        found = crm.host.sh(
            "find / \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o"
            f" -type f -perm -004 -size -50M -print0 | xargs -0r grep -lFf {patterns}; true"
        )
        assert found == ""
        # The search does find them where they are.
        assert crm.host.sh(f"grep -rlFf {patterns} /etc/crm-platform/secrets") != ""
    finally:
        crm.host.run("rm", patterns)


def test_nothing_failed(host):
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""
