# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm.platform.package_repository on a Debian host, read by the host's own apt."""

from __future__ import annotations

import pytest

DEB = """set -e; cd {place}; mkdir -p tree/DEBIAN
printf '%s\\n' 'Package: tt' 'Version: {version}' 'Architecture: all' 'Maintainer: T <t@example.org>' 'Source-Digest: {digest}' \\
    'Description: test' > tree/DEBIAN/control
dpkg-deb -Znone --build tree tt_{version}_all.deb > /dev/null
"""


@pytest.fixture(scope="module")
def tools(host):
    if host.run("sh", "-c", "command -v apt-ftparchive && command -v gpg", check=False).returncode:
        host.sh("apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends apt-utils gnupg")


@pytest.fixture
def repository(tools, host, place, call):
    """repository(version, ...): publish these versions of package tt, and what else is asked for."""
    common = {"directory": f"{place}/apt", "suite": "stable", "keyring": f"{place}/keyring.gpg", "gnupg_home": f"{place}/key/gnupg"}

    def publish(*versions, options=(), digest="d", **more):
        for version in versions:
            host.sh(DEB.format(place=place, version=version, digest=digest))
        return call("package_repository", {**common, "packages": [f"{place}/tt_{version}_all.deb" for version in versions], **more}, *options)

    publish.apt = lambda: host.sh(
        f"cd {place}; mkdir -p lists/partial; echo 'deb [signed-by={place}/keyring.gpg] file:{place}/apt stable main' > list;"
        f"set -- -o Dir::Etc::sourcelist={place}/list -o Dir::Etc::sourceparts=- -o Dir::State::lists={place}/lists/"
        " -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=;"
        "apt-get \"$@\" update -qq 2>&1; apt-cache \"$@\" madison tt | cut -d'|' -f2 | tr -d ' '"
    ).split()
    return publish


def test_several_versions_stay_available(host, place, repository):
    first = repository("1")
    assert first.rc == 0 and [step.split()[0] for step in first.last["steps"]] == ["key", "keyring", "add", "index"], first.text
    assert repository("2", "10").rc == 0
    assert repository.apt() == ["10", "2", "1"]
    assert not repository("2").last["changed"]
    assert host.stat(f"{place}/key/gnupg") == "directory root:root 700"
    assert host.stat(f"{place}/keyring.gpg") == "regular file root:root 644"
    kept = repository("11", keep=2)
    assert [package["version"] for package in kept.last["packages"]] == ["11", "10"]
    assert repository.apt() == ["11", "10"]


def test_check_mode_says_the_same_and_touches_nothing(host, place, repository):
    checked = repository("1", options=("--check", "--diff"))
    assert checked.rc == 0 and checked.last["changed"] and host.sh(f"ls {place}").split() == ["tree", "tt_1_all.deb"]
    assert repository("1").last["steps"] == checked.last["steps"]
    assert not repository("1", options=("--check",)).last["changed"]


def test_what_a_skipped_task_would_make_counts_in_check_mode_only(place, repository, call):
    options = {"directory": f"{place}/apt", "suite": "stable", "keyring": f"{place}/k", "gnupg_home": f"{place}/g", "packages": [f"{place}/tt_7_all.deb"]}
    checked = call("package_repository", options, "--check")
    assert checked.rc == 0 and [package["version"] for package in checked.last["packages"]] == ["7"]
    assert "no such file" in call("package_repository", options).failure


@pytest.mark.parametrize(
    ("damage", "steps"),
    [
        ("rm {p}/apt/dists/stable/InRelease", ["index"]),
        ("echo x >> {p}/apt/dists/stable/main/binary-amd64/Packages", ["index"]),
        ("sed -i 's/^Suite: .*/Suite: other/' {p}/apt/dists/stable/InRelease", ["index"]),
        ("rm {p}/apt/pool/stable/tt_1_all.deb", ["index"]),
        ("echo > {p}/keyring.gpg", ["keyring"]),
        ("touch {p}/apt/pool/stable/x.deb.staged; mkdir {p}/apt/dists/stable.staged {p}/key/gnupg.staged", ["clean"] * 3),
        ("rm -r {p}/key", ["key", "keyring", "index"]),
    ],
    ids=["unsigned", "index", "signature", "package", "keyring", "leftovers", "key"],
)
def test_damage_is_found_and_mended(host, place, repository, damage, steps):
    assert repository("1", "2").rc == 0
    host.sh(damage.format(p=place))
    assert repository(options=("--check",)).last["changed"]
    mended = repository()
    assert [step.split()[0] for step in mended.last["steps"]] == steps, mended.text
    assert repository.apt() == (["2"] if "pool/stable/tt_1" in damage else ["2", "1"])
    assert not repository().last["changed"]


def test_a_version_has_one_content(place, repository):
    repository("1", digest="a")
    assert "another content" in repository("1", digest="b").failure


def test_a_torn_package_is_refused(host, place, repository):
    repository("1")
    host.sh(f"head -c 300 {place}/tt_1_all.deb > {place}/torn.deb; mv {place}/torn.deb {place}/tt_2_all.deb")
    torn = repository(packages=[f"{place}/tt_2_all.deb"])
    assert "no complete Debian package" in torn.failure
    assert repository.apt() == ["1"]


def test_a_source_is_known_by_its_digest(host, place, repository):
    source = {"package": "tt", "version": "5", "suffix": "~x", "digest": "aaa"}
    assert {name: repository(source=source).last[name] for name in ("version", "published")} == {"version": "5~x", "published": False}
    published = repository("5~x", digest="aaa", source=source, consume=True)
    assert published.last["published"] and host.sh(f"ls {place}").split() == ["apt", "key", "keyring.gpg", "tree"]
    other = repository(source={**source, "digest": "bbb"})
    assert (other.last["version"], other.last["published"], other.last["changed"]) == ("5.2~x", False, False)
