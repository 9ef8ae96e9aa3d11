# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/crm_package: the package, and the repository that it comes from."""

from __future__ import annotations

import re


def test_it_comes_from_the_signed_repository(host):
    policy = host.check_output("apt-cache policy crm-platform")
    installed, candidate = re.findall(r"(?:Installed|Candidate): (\S+)", policy)
    assert installed == candidate != "(none)"
    assert "/srv/crm-platform/apt" in policy or ":8081" in policy


def test_apt_trusts_no_other_key_for_it(host):
    sources = host.check_output("grep -rl crm-platform /etc/apt/sources.list.d/").split()
    assert len(sources) == 1
    text = host.file(sources[0]).content_string
    assert "Signed-By: /usr/share/keyrings/crm-platform-archive-keyring.gpg" in text
    assert "trusted" not in text.lower()
    keyring = "--no-default-keyring --keyring /usr/share/keyrings/crm-platform-archive-keyring.gpg"
    assert host.run(f"gpg --homedir $(mktemp -d) {keyring} --verify $(find /srv/crm-platform/apt -name InRelease)").rc == 0


def test_a_changed_repository_is_refused(crm):
    release = crm.host.sh("find /srv/crm-platform/apt -name InRelease").strip()
    crm.host.run("cp", "-a", release, "/root/InRelease")
    try:
        crm.host.run("sed", "-i", "s/^Origin:.*/Origin: somebody else/", release)
        update = crm.host.run("apt-get", "update", "--error-on=any", check=False)
        assert update.returncode != 0 and "signature verification" in update.stderr
    finally:
        crm.host.run("cp", "-a", "/root/InRelease", release)
        crm.host.run("apt-get", "update")


def test_every_file_is_as_it_was_packed(host):
    assert (
        host.run("dpkg --verify crm-platform").stdout.replace(" c ", "") == "" or "/etc/crm-platform" in host.run("dpkg --verify crm-platform").stdout
    )


def test_nothing_from_npm_is_on_the_server(host):
    assert not host.package("npm").is_installed and not host.package("nodejs").is_installed


def test_it_holds_the_interpreter_of_its_distribution(host, debian):
    depends = host.check_output("dpkg-query --show --showformat='${Depends}' crm-platform")
    assert {12: "python3 (<< 3.12)", 13: "python3 (<< 3.14)"}[debian] in depends
