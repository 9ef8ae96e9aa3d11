# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies outside of the data directory is refused where it cannot be put aside, and the drill can write nowhere else."""

from __future__ import annotations

import sys

import pytest
from ansible_collections.crm.platform.plugins.module_utils import backup as rules
from conftest import ROOT

# As on a host, where the role puts it beside the others by that name.
sys.modules.setdefault("rules", rules)
sys.path.insert(0, str(ROOT / "roles/backup/files/command"))

import common  # pylint: disable=wrong-import-position
import tablespaces  # pylint: disable=wrong-import-position

ROOT_MOUNT = "20 1 0:18 / / rw,relatime - ext4 /dev/vda rw"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A data directory with a tablespace, and the WAL on another disk."""
    data, space, log = (tmp_path / name for name in ("main", "space", "log"))
    for one in (data / "pg_tblspc", space, log):
        one.mkdir(parents=True)
    (data / "pg_tblspc" / "16384").symlink_to(space)
    (data / "pg_wal").symlink_to(log)
    (tmp_path / "mounts").write_text(ROOT_MOUNT + "\n")
    monkeypatch.setattr(tablespaces, "MOUNTS", str(tmp_path / "mounts"))
    return {"cluster": {"data": str(data)}, "state": str(tmp_path)}


def refused(config, place=None, in_place=False):
    wanted = sorted({*tablespaces.outside(config["cluster"]["data"]), *([str(place)] if place else [])})
    try:
        tablespaces.refuse_unmovable(config, wanted, in_place)
    except rules.BackupError as exc:
        return str(exc)
    return ""


def test_tablespaces_and_wal_of_directories_of_their_own_are_put_aside(cluster, tmp_path):
    assert tablespaces.outside(cluster["cluster"]["data"]) == {str(tmp_path / "space"), str(tmp_path / "log")}
    assert refused(cluster) == ""


@pytest.mark.parametrize("name", ["main", "space", "log"])
def test_a_mount_point_is_refused_though_it_is_of_the_same_disk(cluster, tmp_path, name):
    (tmp_path / "mounts").write_text(f"{ROOT_MOUNT}\n21 20 0:18 /other {tmp_path / name} rw - ext4 /dev/vda rw\n")
    said = refused(cluster)
    assert f"{tmp_path / name} is a mount point" in said and "backup_restore_in_place=true" in said
    assert refused(cluster, in_place=True) == ""


def test_a_link_in_place_of_the_data_directory_is_refused(cluster, tmp_path):
    (tmp_path / "main").rename(tmp_path / "real")
    (tmp_path / "main").symlink_to(tmp_path / "real")
    assert "is a symbolic link" in refused(cluster) and refused(cluster, in_place=True) == ""


def test_other_links_in_it_are_named(cluster, tmp_path):
    (tmp_path / "main" / "log").symlink_to(tmp_path)
    assert "symbolic links log," in refused(cluster)


def test_files_of_somebody_else_are_not_overwritten(cluster, tmp_path):
    place = tmp_path / "theirs"
    place.mkdir()
    assert refused(cluster, place) == ""
    (place / "file").write_text("theirs")
    for in_place in (False, True):
        assert f"{place}, and that holds files of somebody else" in refused(cluster, place, in_place)


def test_what_an_earlier_restore_has_left_is_not_overwritten(cluster, tmp_path):
    (tmp_path / "space.before-restore").mkdir()
    assert "space.before-restore is there" in refused(cluster)


def test_a_tablespace_in_another_directory_of_the_cluster_is_refused(cluster, tmp_path):
    assert "lies inside of" in refused(cluster, tmp_path / "main" / "inner")


def test_the_wal_is_moved_to_where_it_was_and_stays_postgresqls(cluster, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(common, "run", lambda *words: calls.append(words))
    (tmp_path / "main" / "pg_wal").unlink()
    (tmp_path / "main" / "pg_wal" / "archive_status").mkdir(parents=True)
    tablespaces.link_log(cluster, str(tmp_path / "log"))
    assert (tmp_path / "main" / "pg_wal").readlink() == tmp_path / "log" and (tmp_path / "log" / "archive_status").is_dir()
    assert calls == [("chown", "--recursive", "postgres:postgres", str(tmp_path / "log"))]


def test_the_second_postgresql_can_write_nothing_of_the_live_one(cluster, tmp_path):
    scratch, hidden, data = tmp_path / "scratch", tmp_path / "scratch.tablespaces" / "0", str(tmp_path / "main")
    scratch.mkdir()
    text = "\n".join(
        [
            ROOT_MOUNT,
            f"21 20 0:19 / {data} rw,nosuid,relatime - ext4 /dev/vdb rw",
            f"22 20 0:20 / {tmp_path / 'space'} rw - ext4 /dev/vdc rw",
            "23 20 0:21 / /mnt/a\\040b rw,nodev - nfs host:/ rw",
            "24 20 0:22 / /proc rw - proc proc rw",
            "25 20 0:23 / /cdrom ro - iso9660 /dev/sr0 ro",
        ]
    )
    words = tablespaces.shield(cluster, [str(scratch)], {str(tmp_path / "space"): str(hidden)}, text)
    steps = [tuple(words[at : at + 3]) for at in range(0, len(words), 3)]
    assert steps == [
        ("bind", str(scratch), str(scratch)),
        ("bind", str(hidden), str(tmp_path / "space")),
        # Of these the live data, and the WAL beside it, must not be written: it ends where they cannot be locked.
        ("lock", "ro,relatime", "/"),
        ("lock", "ro,nosuid,relatime", data),
        # A mount that holds nothing of it may refuse.
        ("try", "ro,nodev", "/mnt/a b"),
    ]
