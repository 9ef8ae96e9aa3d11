# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.package_repository on a Debian host, with apt as its client."""

from __future__ import annotations

import pytest

KEYRING = "/usr/share/keyrings/crm-test.gpg"


@pytest.fixture(scope="module")
def tools(host):
    host.sh("apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends apt-utils gnupg >/dev/null")


@pytest.fixture
def build(host, place, tools):
    """build(version): a small package."""

    def one(version):
        control = f"Package: crm-test\\nVersion: {version}\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n"
        host.sh(
            f"d={place}/build; rm -rf $d; mkdir -p $d/DEBIAN; printf '{control}' > $d/DEBIAN/control; dpkg-deb -b $d {place}/crm-test_{version}_all.deb >/dev/null"
        )
        return f"{place}/crm-test_{version}_all.deb"

    return one


@pytest.fixture
def publish(place, call):
    def one(*packages, options=(), **more):
        return call(
            "package_repository",
            {
                "directory": f"{place}/apt",
                "suite": "bookworm",
                "keyring": KEYRING,
                "gnupg_home": f"{place}/gnupg",
                "packages": list(packages),
                **more,
            },
            *options,
        )

    return one


@pytest.fixture
def client(host, place):
    """What apt knows of the package, from this repository alone."""
    source = "/etc/apt/sources.list.d/crm-test.sources"
    host.write(source, f"Types: deb\nURIs: file:{place}/apt\nSuites: bookworm\nComponents: main\nSigned-By: {KEYRING}\n")

    def versions():
        alone = f"-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::SourceList={source}"
        host.sh(f"apt-get update -qq --error-on=any {alone}")
        return [line.split("|")[1].strip() for line in host.sh("apt-cache madison crm-test").splitlines()]

    yield versions
    host.run("rm", source)


def test_published_once_and_found_by_apt(host, place, build, publish, client):
    one = build("1.0")
    checked = publish(one, options=("--check",))
    assert checked.rc == 0 and checked.last["changed"], checked.text
    assert host.run("test", "-e", f"{place}/apt", check=False).returncode == 1
    done = publish(one)
    assert done.rc == 0 and done.last["changed"], done.text
    assert client() == ["1.0"]
    assert not publish(one).last["changed"]
    assert publish(build("1.1")).rc == 0
    assert client() == ["1.1", "1.0"]
    assert host.stat(f"{place}/gnupg") == "directory root:root 700"


def test_what_is_damaged_is_found_and_mended(place, host, build, publish, client):
    publish(build("1.0"))
    release = f"{place}/apt/dists/bookworm/InRelease"
    for damage in (f"sed -i 's/^Suite:.*/Suite: other/' {release}", f"rm {place}/apt/dists/bookworm/main/*/Packages", f"echo x > {KEYRING}"):
        host.sh(damage)
        assert publish(options=("--check",)).last["changed"], damage
        assert publish().rc == 0
        assert not publish().last["changed"]
    assert client() == ["1.0"]


def test_what_is_no_package_is_refused_and_nothing_published(host, place, publish, tools):
    host.write(f"{place}/broken.deb", "x")
    refused = publish(f"{place}/broken.deb")
    assert refused.rc != 0 and "broken.deb" in refused.failure and "\n" not in refused.failure
