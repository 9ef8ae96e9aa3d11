# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The build tools of the package: only verified files, and only those that the web client loads; units and locks in order."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import re
import tarfile

import pytest
from conftest import ROOT

SOURCE = ROOT / "roles" / "crm_package" / "files" / "source"
UNITS = sorted((SOURCE / "debian").glob("*.service"))
spec = importlib.util.spec_from_file_location("web_client", SOURCE / "tools" / "web_client.py")
web = importlib.util.module_from_spec(spec)
spec.loader.exec_module(web)

PAGE = """<link rel="icon" href="images/i.png"><script type="text/javascript" src="node_modules/dep/dist/d.js"></script>
<link rel="stylesheet" href="dist/c.css" media="screen"/><script src="custom.js"></script>"""
SHEET = 'a {src: url("../node_modules/dep/fonts/f.woff?#iefix") format("x"); background: url(data:image/png;base64,AA==)}'


def packages(**changes):
    client = {
        "index.html": PAGE.encode(), "dist/c.css": SHEET.encode(), "images/i.png": b"i", "images/LICENSE": b"l",
        "locale/de.json": b"{}", "locale/de.po": b"", "src/s.js": b"", "LICENSE": b"gpl",
    }
    dep = {"dist/d.js": b"d", "dist/other.js": b"o", "fonts/f.woff": b"f", "LICENSE.txt": b"mit", "package.json": b"{}"}
    return {"tryton-sao": client, "dep": {**dep, **changes}}


def test_only_what_the_client_loads_is_laid_out():
    root, licences = web.select(packages(), {"custom.js": b"ours"})
    assert sorted(root) == [
        "custom.js", "dist/c.css", "images/i.png", "index.html", "locale/de.json", "node_modules/dep/dist/d.js", "node_modules/dep/fonts/f.woff",
    ]
    assert sorted(licences) == ["dep/LICENSE.txt", "tryton-sao/LICENSE", "tryton-sao/images/LICENSE"]
    assert root["custom.js"] == b"ours"


def test_a_file_that_nobody_has_ends_the_build():
    wanting = packages()
    del wanting["dep"]["fonts/f.woff"]
    with pytest.raises(web.BuildError, match="fonts/f.woff"):
        web.select(wanting, {})


@pytest.fixture
def tarballs(tmp_path):
    lock = {}
    for name, files in packages().items():
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as opened:
            for path, content in files.items():
                member = tarfile.TarInfo("package/" + path)
                member.size = len(content)
                opened.addfile(member, io.BytesIO(content))
        (tmp_path / f"{name}-1.0.tgz").write_bytes(packed.getvalue())
        lock[name] = {"version": "1.0", "integrity": "sha512-" + base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()}
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    return tmp_path


def build(place):
    return web.main([str(place / "lock.json"), str(place), str(place / "www"), str(place / "licences")])


def test_verified_packages_become_the_web_root(tarballs):
    assert build(tarballs) == 0
    assert (tarballs / "www" / "node_modules" / "dep" / "dist" / "d.js").read_bytes() == b"d"


def test_a_tampered_package_ends_the_build(tarballs, capsys):
    path = tarballs / "dep-1.0.tgz"
    path.write_bytes(path.read_bytes() + b"\0")
    assert build(tarballs) == 1
    assert "the lock says" in capsys.readouterr().err
    assert not (tarballs / "www").exists()


def test_a_weak_hash_is_no_lock(tarballs, capsys):
    lock = json.loads((tarballs / "lock.json").read_text())
    lock["dep"]["integrity"] = "sha1-xxx"
    (tarballs / "lock.json").write_text(json.dumps(lock))
    assert build(tarballs) == 1
    assert "only sha512" in capsys.readouterr().err


def test_the_lock_of_the_web_client_is_whole():
    lock = json.loads((SOURCE / "web" / "packages.json").read_text())
    assert web.CLIENT in lock
    for name, entry in lock.items():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry["integrity"]), name
        assert re.fullmatch(r"\d+\.\d+\.\d+", entry["version"]), name
    copyright_text = (SOURCE / "debian" / "copyright").read_text()
    assert [name for name in lock if name != web.CLIENT and f"node_modules/{name}/" not in copyright_text] == []


@pytest.mark.parametrize("path", sorted((SOURCE / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_every_python_package_is_locked_by_hash(path):
    blocks = [block for block in re.split(r"\n(?=[a-z])", path.read_text()) if block.strip()]
    assert blocks
    assert [block.split()[0] for block in blocks if not re.match(r"[a-z0-9.-]+==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n?)+\Z", block)] == []


def test_the_locks_hold_all_that_is_asked_for_and_of_tryton_one_series():
    asked = re.findall(r"^([a-z0-9-]+)", (SOURCE / "requirements" / "crm-platform.in").read_text(), re.MULTILINE)
    for path in (SOURCE / "requirements").glob("python*.txt"):
        locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE))
        assert [name for name in asked if name not in locked] == []
        assert {version.rsplit(".", 1)[0] for name, version in locked.items() if name.startswith(("trytond", "proteus"))} == {"8.0"}
        assert not {"email-validator", "dnspython"} & set(locked)
        head = (SOURCE / "debian" / "changelog").read_text().splitlines()[0]
        assert head.startswith(f"crm-platform ({locked['trytond']}+")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_come_back_and_take_the_common_part(unit):
    text = unit.read_text()
    assert text.count("\n@COMMON@\n") == 1
    assert "StartLimitIntervalSec=0" in text and "Restart=always" in text
    if unit.name != "crm-platform.service":
        assert "PartOf=crm-platform.service" in text and "WantedBy=crm-platform.service" in text
        assert unit.name in (SOURCE / "debian" / "crm-platform.service").read_text()


def test_each_lintian_override_is_justified():
    text = (SOURCE / "debian" / "crm-platform.lintian-overrides").read_text()
    groups = [group.splitlines() for group in text.split("\n\n")[1:]]
    assert groups and all(group[0].startswith("# ") and group[-1].startswith("crm-platform: ") for group in groups)


def test_no_conffile_and_every_script_ends_on_errors():
    for name in ("postinst", "prerm", "postrm"):
        assert "set -e" in (SOURCE / "debian" / name).read_text()
    assert "/etc/" not in "".join(line for line in (SOURCE / "debian" / "rules").read_text().splitlines() if "$(ROOT)" in line)
