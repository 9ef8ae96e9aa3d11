# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/source_tree.py: one digest for the same files, wherever they are."""

from __future__ import annotations

import base64
import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils import source_tree as lib

CONTENTS = st.dictionaries(st.text(alphabet="ab/c", min_size=1, max_size=6), st.binary(max_size=6), max_size=4)


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "text").write_text("x\n")
    return tmp_path


def members(packed):
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed["archive"]))) as opened:
        return {member.name: (member.mode, member.mtime, opened.extractfile(member).read()) for member in opened}


def test_all_files_are_packed_and_programs_are_executable(tree):
    assert members(lib.pack(str(tree))) == {"bin/run": (0o755, 0, b"#!/bin/sh\n"), "text": (0o644, 0, b"x\n")}


def test_times_rights_and_leftovers_do_not_count(tree):
    before = lib.pack(str(tree))
    os.utime(tree / "text", (1, 1))
    os.chmod(tree / "text", 0o600)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "x.pyc").write_text("compiled")
    (tree / ".swp").write_text("editor")
    (tree / "text~").write_text("editor")
    assert lib.pack(str(tree)) == before


@pytest.mark.parametrize("change", [lambda t: (t / "text").write_text("y\n"), lambda t: (t / "text").rename(t / "other"), lambda t: (t / "new").write_text("")])
def test_names_and_contents_count(tree, change):
    before = lib.pack(str(tree))["digest"]
    change(tree)
    assert lib.pack(str(tree))["digest"] != before


@given(CONTENTS, CONTENTS)
def test_two_trees_have_one_digest_only_when_they_are_equal(one, other):
    assert (lib.digest(one) == lib.digest(other)) == (one == other)


def test_what_is_added_does_not_count_for_the_digest(tree, tmp_path_factory):
    path = tmp_path_factory.mktemp("else") / "ca.pem"
    path.write_text("certificate")
    packed = lib.pack(str(tree), {"ca.pem": str(path)})
    assert packed["digest"] == lib.pack(str(tree))["digest"]
    assert members(packed)["ca.pem"][2] == b"certificate"


def test_a_missing_directory_is_named():
    with pytest.raises(NotADirectoryError, match="/nowhere/at/all"):
        lib.pack("/nowhere/at/all")
