# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attachments that are missing come back; what is there is never touched, whatever restic does where it writes."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import types

import pytest
from ansible_collections.crm.platform.plugins.module_utils import backup as rules
from conftest import ROOT

sys.modules.setdefault("rules", rules)
sys.path.insert(0, str(ROOT / "roles/backup/files/command"))

import attachments  # pylint: disable=wrong-import-position
import common  # pylint: disable=wrong-import-position
import records  # pylint: disable=wrong-import-position


class Saved:
    """A snapshot, and restic, which writes where it is told to and empties what it finds there."""

    def __init__(self, root, monkeypatch):
        self.root, self.files, self.damaged, self.restores = root, {}, set(), []
        # {snapshot: files} of earlier ones.
        self.earlier: dict[str, dict] = {}
        self.finds: list[tuple] = []
        (root.parent / "state").mkdir()
        root.mkdir()
        self.config = {"attachments": str(root), "state": str(root.parent / "state"), "name": "h", "second": {}, "mode": "own", "crm": ""}
        monkeypatch.setattr(common, "restic", self.restic)

    def path(self, name):
        return f"{self.root}/{name}"

    def restic(self, config, *words, check=True, **more):
        if "ls" in words:
            assert words[-2:] == ("latest", str(self.root))
            lines = [{"struct_type": "snapshot", "id": "abc"}]
            directories = {str(self.root), *(str(one) for name in self.files for one in pathlib.Path(self.path(name)).parents)}
            me = {"uid": os.getuid(), "gid": os.getgid(), "struct_type": "node"}
            lines += [{"type": "dir", "path": one, "mode": 2**31 + 0o750, **me} for one in sorted(directories)]
            lines += [{"type": "file", "path": self.path(name), "size": len(text), "mode": 0o640, **me} for name, text in self.files.items()]
            return types.SimpleNamespace(returncode=0, stdout="\n".join(map(json.dumps, lines)), stderr="")
        if "find" in words:
            self.finds.append(words[words.index("--host") + 2 :])
            hits = {one: [{"path": self.path(name), "size": 1} for name in files if os.path.basename(name) in words] for one, files in self.earlier.items()}
            answer = [{"matches": found, "hits": len(found), "snapshot": one} for one, found in hits.items() if found]
            return types.SimpleNamespace(returncode=0, stdout=json.dumps(answer), stderr="")
        assert words[:2] == ("--no-lock", "restore")
        files = self.files if words[2] == "abc" else self.earlier[words[2]]
        target, included = words[words.index("--target") + 1], [words[place + 1] for place, word in enumerate(words) if word == "--include"]
        assert os.stat(target).st_mode & 0o777 == 0o700
        self.restores.append(included)
        failed = False
        for name, text in files.items():
            if any(f"{self.path(name)}/".startswith(f"{one}/") for one in included):
                path = pathlib.Path(target + self.path(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text[: len(text) // 2] if name in self.damaged else text)
                failed = failed or name in self.damaged
        return types.SimpleNamespace(returncode=int(failed), stdout="", stderr="Fatal: hash does not match" if failed else "")


@pytest.fixture
def saved(tmp_path, monkeypatch):
    return Saved(tmp_path / "data", monkeypatch)


def test_what_is_there_stays_and_what_is_missing_comes_back(saved):
    saved.files = {"crm/ab/cd/one": "first", "crm/ab/ef/two": "second", "crm/gh/three": "third"}
    (saved.root / "crm" / "ab" / "cd").mkdir(parents=True)
    live = saved.root / "crm" / "ab" / "cd" / "one"
    live.write_text("live and good")
    before = os.stat(live)
    assert attachments.fill(saved.config) == 2
    assert live.read_text() == "live and good" and os.stat(live).st_ino == before.st_ino and os.stat(live).st_mtime_ns == before.st_mtime_ns
    assert (saved.root / "crm/ab/ef/two").read_text() == "second" and (saved.root / "crm/gh/three").read_text() == "third"
    assert oct(os.stat(saved.root / "crm/ab/ef").st_mode & 0o777) == "0o750"
    # Only what is missing is fetched, and nothing is left of the place where it was.
    assert saved.restores == [[saved.path("crm/ab/ef/two"), saved.path("crm/gh/three")]]
    assert os.listdir(saved.config["state"]) == [] and attachments.fill(saved.config) == 0


def test_below_a_path_alone(saved):
    saved.files = {"crm/a": "1", "crm/ab": "2", "other/a": "3"}
    assert attachments.fill(saved.config, saved.path("crm/a")) == 1
    assert os.listdir(saved.root) == ["crm"] and os.listdir(saved.root / "crm") == ["a"]
    assert attachments.within(saved.config, str(saved.root)) and attachments.within(saved.config, f"{saved.root}/crm/")
    assert not attachments.within(saved.config, f"{saved.root}.old") and not attachments.within(saved.config, f"{saved.root}/../x")


def test_a_new_server_has_all_of_them_in_one_go(saved, monkeypatch):
    monkeypatch.setattr(attachments, "CHUNK", 3)
    saved.files = {f"crm/{number:02}": "text" for number in range(10)}
    os.rmdir(saved.root)
    assert attachments.fill(saved.config) == 10
    assert saved.restores == [[str(saved.root)]] and len(os.listdir(saved.root / "crm")) == 10
    assert oct(os.stat(saved.root).st_mode & 0o777) == "0o750"
    for number in range(4):
        os.remove(saved.root / f"crm/{number:02}")
    # And of a few, a few at a time.
    assert attachments.fill(saved.config) == 4
    assert [len(one) for one in saved.restores[1:]] == [3, 1]


def test_one_that_is_damaged_keeps_no_other_away_and_comes_not_by_half(saved):
    saved.files = {f"crm/{number}": "text" for number in range(9)}
    saved.damaged = {"crm/4"}
    with pytest.raises(rules.BackupError, match=r"missing 1 could not be had: .*crm/4: Fatal: hash does not match") as failure:
        attachments.fill(saved.config)
    assert "\n" not in str(failure.value)
    assert sorted(os.listdir(saved.root / "crm")) == ["0", "1", "2", "3", "5", "6", "7", "8"]


def test_no_link_of_the_crm_leads_out(saved, tmp_path):
    saved.files = {"crm/a": "1", "crm2/a": "2"}
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", saved.root / "crm")
    with pytest.raises(rules.BackupError, match="crm/a"):
        attachments.fill(saved.config)
    assert os.listdir(tmp_path / "elsewhere") == [] and (saved.root / "crm2/a").read_text() == "2"


def test_what_the_newest_backup_has_not_any_more_comes_from_an_earlier_one(saved, monkeypatch):
    saved.files = {"crm/aa/bb/aabb-1": "newest"}
    saved.earlier = {"old": {"crm/cc/dd/ccdd-2": "deleted since", "crm/ee/ff/eeff-3": "not wanted"}, "older": {"crm/cc/dd/ccdd-2": "deleted since"}}
    lost = {saved.path(name): None for name in ("crm/cc/dd/ccdd-2", "crm/00/11/0011-4")}
    monkeypatch.setattr(records, "missing", lambda config: {path: one for path, one in lost.items() if not os.path.exists(path)})
    saved.root.chmod(0o751)
    assert attachments.fill(saved.config) == 2
    assert (saved.root / "crm/cc/dd/ccdd-2").read_text() == "deleted since" and not (saved.root / "crm/ee").exists()
    # No newer backup tells the rights of its directory: those of the one above are the CRM's.
    assert oct(os.stat(saved.root / "crm/cc/dd").st_mode & 0o777) == oct(os.stat(saved.root / "crm").st_mode & 0o777)
    # What no backup has is asked for once more, and harms nothing.
    assert attachments.fill(saved.config) == 0 and saved.finds[-1] == ("0011-4",)
    del lost[saved.path("crm/00/11/0011-4")]
    finds = len(saved.finds)
    assert attachments.fill(saved.config) == 0 and len(saved.finds) == finds


def test_all_that_cannot_be_had_are_named(saved):
    saved.files = {f"crm/{number}": "text" for number in range(9)}
    saved.damaged = set(saved.files) - {"crm/0"}
    with pytest.raises(rules.BackupError, match="missing 8 could not be had: 8: ") as failure:
        attachments.fill(saved.config)
    assert all(f"crm/{number}: Fatal" in str(failure.value) for number in range(1, 9))


def test_no_room_is_told_before(saved, monkeypatch):
    saved.files = {"crm/a": "1"}
    monkeypatch.setattr(attachments.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=0))
    with pytest.raises(rules.BackupError, match="make room"):
        attachments.fill(saved.config)
    assert saved.restores == []


def test_what_a_pattern_would_mean_is_meant_as_it_is():
    assert attachments.literal(r"/data/a*b?[c]\d") == r"/data/a\*b\?\[c]\\d"
