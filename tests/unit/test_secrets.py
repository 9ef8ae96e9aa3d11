# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/secrets.py: made once, kept to root, read back unchanged."""

from __future__ import annotations

import os
import stat
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils import secrets as lib

AWKWARD = 'it\'s "50 %" @ $HOME + ünïcödé #;\\ 密'
TEXT = st.text(alphabet=st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc")), min_size=1)


@pytest.mark.parametrize(
    ("name", "length", "value", "said"),
    [
        ("../shadow", 40, None, "name"),
        ("a/b", 40, None, "name"),
        ("", 40, None, "name"),
        (".hidden", 40, None, "name"),
        ("Admin", 40, None, "name"),
        ("x\n", 40, None, "name"),
        ("short", 15, None, "16 or more"),
        ("empty", 40, "", "empty"),
        ("line", 40, "a\nb", "line break"),
        ("bell", 40, "a\x07b", "control character"),
    ],
)
def test_a_wrong_secret_is_refused_in_one_line(name, length, value, said):
    with pytest.raises(lib.SecretError, match=said) as refused:
        lib.check(name, length, value)
    assert "\n" not in str(refused.value)


def test_a_refusal_does_not_tell_the_value():
    with pytest.raises(lib.SecretError) as refused:
        lib.check("name", 40, "hush\nhush")
    assert "hush" not in str(refused.value)


@given(length=st.integers(16, 200))
def test_a_made_secret_needs_no_quotes_anywhere(length):
    value = lib.generate(length)
    assert len(value) == length and value.isascii() and value.isalnum()
    lib.check("name", length, value)


def test_no_two_are_alike():
    assert len({lib.generate(16) for dummy in range(500)}) == 500


@given(value=TEXT | st.just(AWKWARD))
def test_what_is_stored_is_read_back(value):
    lib.check("name", 40, value)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "name")
        lib.store(path, value)
        assert lib.read(path) == value
        lib.store(path, "another one")
        assert lib.read(path) == "another one"
        assert os.listdir(directory) == ["name"]
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_none_yet_and_an_empty_file_mean_make_one(tmp_path):
    assert lib.read(str(tmp_path / "none")) is None
    (tmp_path / "empty").write_text("")
    assert lib.read(str(tmp_path / "empty")) is None


def test_what_a_kill_left_staged_is_no_obstacle(tmp_path):
    (tmp_path / ".name.crm-staged").symlink_to("/nowhere")
    lib.store(str(tmp_path / "name"), "value")
    assert lib.read(str(tmp_path / "name")) == "value"
    assert os.listdir(tmp_path) == ["name"]
