# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/repository.py: versions as dpkg orders them, and the plan from what there is to what is wanted."""

from __future__ import annotations

import functools
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils import repository as lib
from ansible_collections.crm.platform.plugins.module_utils.repository import Package, State, Step

VERSIONS = [
    "0~", "0", "1~deb12", "1~deb13", "1", "1+b1", "1.0", "1.2~deb12", "2~", "2", "8.0.9", "8.0.12+1~deb12", "8.0.12+1.2~deb12",
    "8.0.12+1.10~deb12", "8.0.12+2~deb12", "8.0.13", "10", "1:0.1",
]
VERSION = st.from_regex(r"\A([0-9]:)?[0-9][0-9a-zA-Z.+~]{0,8}(-[0-9a-zA-Z.+~]{1,4})?\Z")


def sign(number):
    return (number > 0) - (number < 0)


def test_known_versions_are_in_their_order():
    assert sorted(reversed(VERSIONS), key=functools.cmp_to_key(lib.compare)) == VERSIONS
    assert all(lib.compare(low, high) < 0 < lib.compare(high, low) for low, high in zip(VERSIONS, VERSIONS[1:]))


@given(VERSION, VERSION)
def test_order_is_an_order(one, other):
    assert lib.compare(one, one) == 0
    assert sign(lib.compare(one, other)) == -sign(lib.compare(other, one))


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is not installed")
@settings(max_examples=60)
@given(VERSION, VERSION)
def test_order_is_that_of_dpkg(left, right):
    said = [subprocess.run(["dpkg", "--compare-versions", left, relation, right], check=False).returncode == 0 for relation in ("lt", "eq", "gt")]
    assert said == [sign(lib.compare(left, right)) == wanted for wanted in (-1, 0, 1)]


def package(version, digest="", architecture="amd64", name="crm-platform"):
    return Package(name, version, architecture, digest)


@pytest.mark.parametrize(
    ("digest", "published", "answer"),
    [
        ("aa", [], ("1~deb12", False)),
        ("aa", [package("1~deb12", "aa")], ("1~deb12", True)),
        ("bb", [package("1~deb12", "aa")], ("1.2~deb12", False)),
        ("cc", [package("1~deb12", "aa"), package("1.2~deb12", "bb")], ("1.3~deb12", False)),
        ("aa", [package("1~deb12", "aa"), package("1.2~deb12", "bb")], ("1~deb12", True)),
        ("aa", [package("1~deb12", "aa"), package("1.2~deb12", "aa")], ("1.2~deb12", True)),
        ("aa", [package("0~deb12", "xx")], ("1~deb12", False)),
    ],
)
def test_a_source_keeps_its_version_and_a_changed_one_gets_a_new_one(digest, published, answer):
    assert lib.version_for("1", "~deb12", digest, published) == answer


@given(st.lists(st.sampled_from("abcdef"), max_size=8))
def test_each_new_source_gets_a_higher_version(digests):
    published = []
    for digest in digests:
        version, known = lib.version_for("8.0.12+1", "~deb12", digest, published)
        assert known == (digest in {item.digest for item in published})
        if not known:
            assert all(lib.compare(version, item.version) > 0 for item in published)
            published.append(package(version, digest))


def test_an_epoch_is_no_part_of_the_file_name():
    assert package("1:2.0+3").file_name == "crm-platform_2.0+3_amd64.deb"


def test_control_files_are_read_by_paragraphs():
    text = "Package: a\nVersion: 1\nDescription: x\n more: not a field\n\n\nPackage: b\nVersion:  2 \n"
    assert [(f["Package"], f["Version"]) for f in lib.stanzas(text)] == [("a", "1"), ("b", "2")]
    assert list(lib.stanzas("")) == []


# --- the plan ---


def state(*versions, has_key=True, keyring=True, index=True, leftovers=()):
    pool = {item.file_name: item for item in map(package, versions)}
    return State(has_key, keyring, pool, tuple(leftovers), index)


def test_nothing_to_do():
    assert lib.plan(state("1"), {}, 0) == []
    assert lib.plan(state("1"), {"/x.deb": package("1")}, 0) == []


def test_a_new_host_gets_key_and_keyring_only():
    assert [step.kind for step in lib.plan(state(has_key=False, keyring=False), {}, 0)] == ["key", "keyring"]


def test_a_package_is_added_before_the_index_is_written():
    assert lib.plan(state("1"), {"/x.deb": package("2")}, 0) == [Step("add", "/x.deb"), Step("index", "signed index")]


def test_the_oldest_go_and_other_architectures_do_not_count():
    have = state("1", "9", "10")
    other = package("0", architecture="arm64")
    have = have._replace(pool={**have.pool, other.file_name: other})
    steps = lib.plan(have, {"/x.deb": package("11")}, 2)
    assert [step.subject for step in steps if step.kind == "remove"] == ["crm-platform_9_amd64.deb", "crm-platform_1_amd64.deb"]
    assert [step.kind for step in steps] == ["add", "remove", "remove", "index"]


def test_what_is_asked_for_stays_be_it_old():
    assert [step.kind for step in lib.plan(state("2", "3"), {"/x.deb": package("1")}, 2)] == ["add", "index"]
    assert lib.plan(state("1", "2", "3"), {"/x.deb": package("1")}, 2) == []


@pytest.mark.parametrize(
    ("have", "kinds"),
    [
        (state("1", index=False), ["index"]),
        (state("1", keyring=False), ["keyring"]),
        (state("1", leftovers=["/r/pool/b/x.deb.staged"]), ["clean"]),
        (state("1", has_key=False, keyring=False, index=False), ["key", "keyring", "index"]),
    ],
)
def test_damage_is_mended(have, kinds):
    assert [step.kind for step in lib.plan(have, {}, 0)] == kinds


@given(st.lists(st.sampled_from(VERSIONS), unique=True), st.lists(st.sampled_from(VERSIONS), unique=True, max_size=3), st.integers(0, 4))
def test_a_plan_that_was_carried_out_leaves_nothing_to_do_but_the_limit(have, wanted, keep):
    before = state(*have)
    asked = {f"/{number}": package(version) for number, version in enumerate(wanted)}
    pool = dict(before.pool)
    for step in lib.plan(before, asked, keep):
        if step.kind == "add":
            pool[asked[step.subject].file_name] = asked[step.subject]
        elif step.kind == "remove":
            del pool[step.subject]
    assert lib.plan(before._replace(pool=pool), asked, keep) == []
    assert all(item.file_name in pool for item in asked.values())
