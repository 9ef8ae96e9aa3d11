# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/repository.py: order of versions, what to publish and what to remove."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils import repository as lib

ORDERED = ["1~", "1~~a", "1.0~rc1", "1.0~rc1-1", "1.0", "1.0-0", "1.0-1", "1.0-1+b1", "1.0+git1", "1.0.1~deb12", "1.0.1", "1.0.10", "1.0a", "2:0.1"]
VERSIONS = st.builds(
    lambda epoch, upstream, revision: f"{epoch}{upstream}{revision}",
    st.sampled_from(["", "", "1:", "02:"]),
    st.from_regex(r"[0-9][0-9a-c.+~]{0,5}", fullmatch=True),
    st.sampled_from(["", "", "-1", "-1~deb12", "-0", "-1.2"]),
)


def package(version, digest="", name="crm-platform", architecture="amd64"):
    return lib.Package(name, version, architecture, digest)


def sign(number):
    return (number > 0) - (number < 0)


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not here")
@settings(max_examples=60)
@given(left=VERSIONS, right=VERSIONS)
def test_versions_are_ordered_as_dpkg_orders_them(left, right):
    relation = {-1: "lt", 0: "eq", 1: "gt"}[sign(lib.compare(left, right))]
    assert subprocess.run(["dpkg", "--compare-versions", left, relation, right], check=False, stderr=subprocess.DEVNULL).returncode == 0


def test_a_tilde_is_older_and_numbers_count():
    assert [item.version for item in lib.newest_first(map(package, ORDERED[2:3] + ORDERED[4:5] + ORDERED[10:12]))] == [
        "1.0.10",
        "1.0.1",
        "1.0",
        "1.0~rc1",
    ]


@given(left=VERSIONS, right=VERSIONS)
def test_the_order_has_two_sides(left, right):
    assert sign(lib.compare(left, right)) == -sign(lib.compare(right, left))


def test_an_epoch_is_no_part_of_the_file_name():
    assert package("2:1.0-1").file_name == "crm-platform_1.0-1_amd64.deb"


def test_a_source_that_is_published_keeps_its_version():
    published = [package("8.0.12+1~deb12", "old"), package("8.0.12+1.2~deb12", "new")]
    assert lib.version_for("8.0.12+1", "~deb12", "old", published) == ("8.0.12+1~deb12", True)
    assert lib.version_for("8.0.12+1", "~deb12", "new", published) == ("8.0.12+1.2~deb12", True)


@given(count=st.integers(0, 15))
def test_each_new_source_is_newer_than_the_last(count):
    published = []
    for number in range(count):
        version, known = lib.version_for("8.0.12+1", "~deb12", f"digest{number}", published)
        assert not known
        assert all(lib.compare(version, item.version) > 0 for item in published)
        published.append(package(version, f"digest{number}"))


def empty(**changes):
    state = {"has_key": True, "keyring_is_current": True, "pool": {}, "leftovers": (), "index_is_current": True}
    return lib.State(**{**state, **changes})


def pool(*versions):
    return {item.file_name: item for item in map(package, versions)}


def test_what_is_right_is_left_alone():
    assert lib.plan(empty(pool=pool("1", "2")), {"/x.deb": package("2")}, 10) == []


def test_a_new_repository_gets_key_keyring_package_and_index_in_this_order():
    steps = lib.plan(empty(has_key=False, keyring_is_current=False, leftovers=("/pool/x.staged",)), {"/x.deb": package("1")}, 10)
    assert [step.kind for step in steps] == ["clean", "key", "keyring", "add", "index"]


def test_a_damaged_index_is_written_anew():
    assert [step.kind for step in lib.plan(empty(index_is_current=False), {}, 10)] == ["index"]


@given(versions=st.sets(st.integers(1, 20)), new=st.integers(1, 25), keep=st.integers(0, 5))
def test_only_the_oldest_leave_and_never_what_was_asked_for(versions, new, keep):
    wanted = {"/new.deb": package(str(new))}
    steps = lib.plan(empty(pool=pool(*map(str, versions))), wanted, keep)
    removed = {step.subject.split("_")[1] for step in steps if step.kind == "remove"}
    left = {str(number) for number in versions | {new}} - removed
    assert str(new) in left
    assert not keep or len(left) <= keep + 1
    assert all(int(old) < int(kept) for old in removed for kept in left - {str(new)})
    assert keep or not removed


def test_control_fields():
    text = "Package: a\nVersion: 1\nDescription: short\n long\nSource-Digest: abc\n\n\nPackage: b\n"
    assert [lib.as_package(fields) for fields in lib.stanzas(text)] == [lib.Package("a", "1", "", "abc"), lib.Package("b", "", "", "")]


def test_a_command_that_is_not_there_is_named():
    with pytest.raises(lib.RepositoryError, match="is not installed"):
        lib.run("crm-no-such-command")
