# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""module_utils/files.py: a set of files is put in place as a whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.crm.platform.plugins.module_utils import files as lib

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}
NAMES = ("a", "b", "c", "d")


def spec(path, **options):
    return {"path": str(path), "content": None, "target": None, "mode": None, "secret": False, **ME, **options}


def steps_for(*specs):
    return lib.plan(lib.normalise_all(specs))


def snapshot(root):
    """Everything that can be told of a directory, to compare before with after."""
    seen = {}
    for path in sorted(Path(root).rglob("*")):
        info = path.lstat()
        rights = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        if path.is_symlink():
            seen[str(path)] = ("link", os.readlink(path))
        elif path.is_dir():
            seen[str(path)] = ("directory", rights)
        else:
            seen[str(path)] = ("file", rights, path.read_bytes())
    return seen


def carry_out(steps):
    transaction = lib.Transaction(steps)
    transaction.stage()
    transaction.commit()
    return transaction


# --- what is refused, and how it is said ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "etc/x", "content": ""}, "absolute path"),
        ({"path": "/etc/../x", "content": ""}, "absolute path"),
        ({"path": "/etc//x", "content": ""}, "absolute path"),
        ({"path": "/etc/x"}, "needs content"),
        ({"path": "/etc/x", "state": "link"}, "needs target"),
        ({"path": "/etc/x", "content": "", "mode": "644x"}, "octal"),
        ({"path": "/etc/x", "content": "", "mode": "99"}, "octal"),
        ({"path": "/etc/x", "content": "", "mode": "17777"}, "octal"),
        ({"path": "/etc/x", "content": "", "mode": "-644"}, "octal"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path(options, said):
    with pytest.raises(lib.FilesError, match=said) as refused:
        lib.normalise_all([spec(**options)])
    assert options["path"] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_path_stands_in_a_set_once():
    with pytest.raises(lib.FilesError, match="twice"):
        lib.normalise_all([spec("/etc/x", content="1"), spec("/etc/x/", state="directory")])


def test_a_file_does_not_replace_a_directory(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(lib.FilesError, match="is a directory"):
        steps_for(spec(tmp_path / "x", content=""))


def test_a_directory_with_content_is_not_removed(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").write_text("")
    with pytest.raises(lib.FilesError, match="empty it"):
        steps_for(spec(tmp_path / "x", state="absent"))


@pytest.mark.parametrize("who", ["owner", "group"])
def test_an_unknown_owner_is_named_and_nothing_stays(tmp_path, who):
    before = snapshot(tmp_path)
    transaction = lib.Transaction(steps_for(spec(tmp_path / "x", content="", **{who: "nobody-of-that-name"})))
    with pytest.raises(lib.FilesError, match="nobody-of-that-name"):
        transaction.stage()
    transaction.rollback()
    assert snapshot(tmp_path) == before


def test_a_missing_parent_is_named(tmp_path):
    transaction = lib.Transaction(steps_for(spec(tmp_path / "no" / "x", content="")))
    with pytest.raises(lib.FilesError, match="there is no directory"):
        transaction.stage()


# --- what is done ---


def test_modes_and_contents(tmp_path):
    wanted = [
        spec(tmp_path / "d", state="directory", mode="0750"),
        spec(tmp_path / "d" / "plain", content="grüße\n"),
        spec(tmp_path / "d" / "key", content="k", mode="0600"),
        spec(tmp_path / "link", state="link", target="d/plain"),
    ]
    assert [step.reasons for step in steps_for(*wanted)] == [("state",)] * 4
    carry_out(steps_for(*wanted))
    assert (tmp_path / "link").read_text(encoding="utf-8") == "grüße\n"
    assert [oct((tmp_path / name).stat().st_mode & 0o7777) for name in ("d", "d/plain", "d/key")] == ["0o750", "0o644", "0o600"]
    assert steps_for(*wanted) == []


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / "x").symlink_to("precious")
    carry_out(steps_for(spec(tmp_path / "x", content="new")))
    assert (tmp_path / "precious").read_text() == "old"
    assert (tmp_path / "x").read_text() == "new" and not (tmp_path / "x").is_symlink()


def test_a_planted_link_at_the_staged_name_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("old")
    os.symlink(tmp_path / "precious", lib._staged_name(str(tmp_path / "x")))
    carry_out(steps_for(spec(tmp_path / "x", content="new")))
    assert (tmp_path / "precious").read_text() == "old"


def test_only_the_mode_differs(tmp_path):
    carry_out(steps_for(spec(tmp_path / "x", content="same")))
    (tmp_path / "x").chmod(0o666)
    (step,) = steps_for(spec(tmp_path / "x", content="same"))
    assert step.reasons == ("mode",) and step.before != step.after


def test_the_live_file_is_untouched_until_commit(tmp_path):
    (tmp_path / "x").write_text("live")
    transaction = lib.Transaction(steps_for(spec(tmp_path / "x", content="new")))
    transaction.stage()
    assert (tmp_path / "x").read_text() == "live"
    assert Path(transaction.staged_path(str(tmp_path / "x"))).read_text() == "new"
    transaction.discard()
    assert os.listdir(tmp_path) == ["x"]


@given(old=st.text(min_size=8), new=st.text(min_size=8))
def test_the_diff_of_a_secret_tells_that_it_changed_and_never_what_it_is(old, new):
    assume(old != new and not any(c in "\r\ud800" for c in old + new))
    with tempfile.TemporaryDirectory() as root:
        path = os.path.join(root, "x")
        try:
            carry_out(steps_for(spec(path, content=old)))
            (step,) = steps_for(spec(path, content=new, secret=True))
        except UnicodeEncodeError:
            assume(False)
        shown = step.before + step.after
        assert step.before != step.after
        assert not any(line in shown for line in (old, new) if len(line.strip()) > 7 and line not in "(secret content, changed)")


# --- all or nothing ---

FILES = st.fixed_dictionaries({"state": st.just("file"), "content": st.text(alphabet="xyz\n", max_size=4), "mode": st.sampled_from(["0644", "0600"])})
LINKS = st.fixed_dictionaries({"state": st.just("link"), "target": st.sampled_from(NAMES)})
ABSENT = st.just({"state": "absent"})
DIRECTORIES = st.fixed_dictionaries({"state": st.just("directory"), "mode": st.sampled_from(["0755", "0700"])})
SETS = st.dictionaries(st.sampled_from(NAMES), st.one_of(FILES, LINKS, ABSENT, DIRECTORIES))


def lay(root, wanted):
    return lib.normalise_all([spec(os.path.join(root, name), **options) for name, options in wanted.items()])


def planned(root, wanted):
    try:
        return lib.plan(lay(root, wanted))
    except lib.FilesError:  # such as a file where a directory stands: refused before any change
        assume(False)
        raise


@given(first=SETS, second=SETS)
def test_a_second_run_has_nothing_to_do(first, second):
    with tempfile.TemporaryDirectory() as root:
        carry_out(planned(root, first))
        carry_out(planned(root, second))
        assert lib.plan(lay(root, second)) == []
        assert not [name for name in os.listdir(root) if name.endswith(lib.STAGED_SUFFIX)]


@given(first=SETS, second=SETS)
def test_planning_changes_nothing(first, second):
    with tempfile.TemporaryDirectory() as root:
        carry_out(planned(root, first))
        before = snapshot(root)
        planned(root, second)
        assert snapshot(root) == before


@given(first=SETS, second=SETS)
def test_a_rollback_puts_everything_back(first, second):
    with tempfile.TemporaryDirectory() as root:
        carry_out(planned(root, first))
        before = snapshot(root)
        carry_out(planned(root, second)).rollback()
        assert snapshot(root) == before


class Stop(OSError):
    """Stands for a disk that fails, at a call of our choice."""


def failing_at(number):
    """os, whose number-th changing call raises."""
    count = {"left": number}

    class Os:
        def __getattr__(self, name):
            real = getattr(os, name)
            if name not in ("replace", "symlink", "mkdir", "rmdir", "chmod", "chown", "open", "fsync"):
                return real

            def call(*args, **kwargs):
                count["left"] -= 1
                if count["left"] == 0:
                    raise Stop
                return real(*args, **kwargs)

            return call

    return Os()


@given(first=SETS, second=SETS, number=st.integers(1, 12))
def test_whatever_call_fails_everything_is_put_back(first, second, number):
    with tempfile.TemporaryDirectory() as root:
        carry_out(planned(root, first))
        steps = planned(root, second)
        before = snapshot(root)
        transaction = lib.Transaction(steps)
        lib.os = failing_at(number)
        try:
            transaction.stage()
            transaction.commit()
        except Stop:
            lib.os = os
            transaction.rollback()
            assert snapshot(root) == before
        finally:
            lib.os = os


@given(first=SETS, second=SETS, number=st.integers(1, 12))
def test_after_a_kill_the_next_run_converges(first, second, number):
    with tempfile.TemporaryDirectory() as root:
        carry_out(planned(root, first))
        steps = planned(root, second)
        transaction = lib.Transaction(steps)
        lib.os = failing_at(number)
        try:
            transaction.stage()
            transaction.commit()
        except Stop:  # and nobody is left to roll anything back
            pass
        finally:
            lib.os = os
        carry_out(lib.plan(lay(root, second)))
        assert lib.plan(lay(root, second)) == []


# --- what is kept of what is replaced or removed ---


def test_a_copy_of_what_goes_is_kept_and_taken_back_with_the_rest(tmp_path):
    (tmp_path / "conf").write_text("theirs")
    (tmp_path / "conf").chmod(0o600)
    (tmp_path / "link").symlink_to("conf")
    specs = [
        spec(tmp_path / "conf", state="file", content="ours", keep=str(tmp_path / "before" / "conf")),
        spec(tmp_path / "link", state="absent", keep=str(tmp_path / "before" / "link")),
        spec(tmp_path / "new", state="file", content="ours", keep=str(tmp_path / "before" / "new")),
    ]
    before = snapshot(tmp_path)
    steps = steps_for(*specs)
    assert lib.kept(steps) == {str(tmp_path / name): str(tmp_path / "before" / name) for name in ("conf", "link")}
    assert snapshot(tmp_path) == before
    transaction = carry_out(steps)
    copy = tmp_path / "before" / "conf"
    assert copy.read_text() == "theirs" and stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert os.readlink(tmp_path / "before" / "link") == "conf" and not (tmp_path / "before" / "new").exists()
    transaction.rollback()
    assert snapshot(tmp_path) == before


def test_a_copy_is_never_overwritten(tmp_path):
    place, copy = tmp_path / "conf", tmp_path / "conf.before"
    for number, text in enumerate(("first", "second", "first")):
        place.write_text(text)
        steps = steps_for(spec(place, state="absent", keep=str(copy)))
        assert lib.kept(steps) == {str(place): str(copy) + (".1" if number == 1 else "")}
        carry_out(steps)
    assert copy.read_text() == "first" and (tmp_path / "conf.before.1").read_text() == "second"
