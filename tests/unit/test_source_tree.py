# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/source_tree.py: the same content has the same digest, any other has another."""

from __future__ import annotations

import base64
import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils import source_tree as lib

TREES = st.dictionaries(st.text(alphabet="ab/", min_size=1, max_size=4), st.binary(max_size=4), max_size=4)


@given(one=TREES, other=TREES)
def test_the_digest_tells_trees_apart(one, other):
    assert (lib.digest(one) == lib.digest(other)) == (one == other)


@given(tree=TREES)
def test_the_order_does_not_matter_to_the_digest(tree):
    assert lib.digest(dict(reversed(tree.items()))) == lib.digest(tree)


def lay(root):
    for name, content in {
        "build": b"#!/bin/sh\n",
        "debian/control": b"Source: x\n",
        "x.pyc": b"",
        "debian/x~": b"",
        ".hidden": b"",
        "__pycache__/x": b"",
    }.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def test_what_python_and_editors_leave_is_not_packed(tmp_path):
    lay(tmp_path)
    assert list(lib.files(str(tmp_path))) == ["build", "debian/control"]


def test_the_archive_depends_on_the_contents_alone(tmp_path):
    lay(tmp_path)
    first = lib.pack(str(tmp_path))
    os.utime(tmp_path / "build", (1, 1))
    (tmp_path / "build").chmod(0o600)
    assert lib.pack(str(tmp_path)) == first
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(first["archive"]))) as opened:
        assert {member.name: (member.mode, member.mtime, member.uid) for member in opened} == {
            "build": (0o755, 0, 0),
            "debian/control": (0o644, 0, 0),
        }


def test_files_that_are_added_are_no_part_of_the_digest(tmp_path):
    lay(tmp_path)
    (tmp_path / ".bundle").write_text("x")
    more = lib.pack(str(tmp_path), add={"ca.crt": str(tmp_path / ".bundle")})
    assert more["digest"] == lib.pack(str(tmp_path))["digest"]
    assert more["archive"] != lib.pack(str(tmp_path))["archive"]


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(NotADirectoryError):
        lib.files(str(tmp_path / "no"))
