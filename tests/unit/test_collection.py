# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a whole: what is in its tarball, that all of it is tested, that it agrees with itself."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import lint
import pytest
import yaml
from conftest import ROOT
from run_tests import environment, script
from sanity import project_files

GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
FOR_USERS = {
    "CHANGELOG.rst",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "inventories",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
MAY_BE = {"CONTRIBUTING.md", "tests/.gitkeep"}
TEST_TEXT = "\n".join(
    f"{name}\n" + (ROOT / name).read_text(encoding="utf-8")
    for name in project_files()
    if name.parts[0] in ("tests", "molecule") and name.suffix in (".py", ".yml", ".j2") and name.name not in ("test_collection.py", "test_roles.py")
)


@pytest.fixture(scope="module")
def tarball(tmp_path_factory):
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [script("ansible-galaxy"), "collection", "build", "--output-path", str(target), str(ROOT)],
        check=True,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    (path,) = target.iterdir()
    with tarfile.open(path) as opened:
        return path.name, {member.name: member for member in opened.getmembers()}


def test_the_tarball_is_named_after_version(tarball):
    assert tarball[0] == f"crm-platform-{GALAXY['version']}.tar.gz"


def test_the_tarball_holds_only_what_a_user_needs(tarball):
    top = {name.split("/")[0] for name in tarball[1]}
    assert top - FOR_USERS - MAY_BE == set()


def test_the_tarball_holds_all_that_a_user_needs(tarball):
    top = {name.split("/")[0] for name in tarball[1]}
    assert FOR_USERS - top == set()
    shipped = set(tarball[1])
    missing = [str(name) for name in project_files() if name.parts[0] in ("meta", "playbooks", "plugins", "roles") and str(name) not in shipped]
    assert missing == []


def test_the_tarball_holds_nothing_that_git_does_not_know(tarball):
    known = {str(name) for name in project_files()}
    stray = [name for name, member in tarball[1].items() if member.isfile() and name not in known and name not in ("MANIFEST.json", "FILES.json")]
    assert stray == []


def test_the_tarball_has_no_large_file(tarball):
    assert {name: member.size for name, member in tarball[1].items() if member.size > 2_000_000} == {}


def test_links_of_the_shipped_pages_lead_somewhere():
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]:
        if not page.exists():
            broken.append(f"{page.name} is missing")
            continue
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" not in target and not target.startswith(("#", "mailto:")) and not (page.parent / target.split("#")[0]).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def names(pattern):
    return sorted(path.stem if path.is_file() else path.name for path in ROOT.glob(pattern) if not path.name.startswith("_"))


@pytest.mark.parametrize("module", names("plugins/modules/*.py"))
def test_each_module_has_a_test(module):
    assert re.search(rf"\b{module}\b", TEST_TEXT)


@pytest.mark.parametrize("library", names("plugins/module_utils/*.py"))
def test_each_library_has_a_test(library):
    assert re.search(rf"module_utils(\.{library}\b| import .*\b{library}\b)", TEST_TEXT)


@pytest.mark.parametrize("role", names("roles/*"))
def test_each_role_has_a_test(role):
    assert re.search(rf"crm\.platform\.{role}\b|\broles/{role}\b|/test_{role}\.py", TEST_TEXT)


def imported(playbook):
    """The playbooks that one imports, by their names below playbooks/."""
    return re.findall(r"import_playbook: (?:crm\.platform\.)?([\w/]+)", (ROOT / "playbooks" / f"{playbook}.yml").read_text())


def runs(playbook):
    """A playbook and those that it imports, and they in turn."""
    return {playbook}.union(*(runs(name) for name in imported(playbook)))


@pytest.mark.parametrize("part", names("playbooks/plays/*.yml"))
def test_a_part_alone_is_checked_first(part):
    assert [name for name in imported(part) if name != "checks/hosts"] == ["preflight", f"plays/{part}"]


def test_the_site_is_checked_once_and_has_every_part():
    first, *rest = imported("site")
    assert first == "preflight"
    assert sorted(rest) == [f"plays/{part}" for part in names("playbooks/plays/*.yml")]


@pytest.mark.parametrize("playbook", names("playbooks/*.yml"))
def test_each_playbook_has_a_test(playbook):
    tested = [name for name in names("playbooks/*.yml") if re.search(rf"playbooks/{name}\.yml|crm\.platform\.{name}\b", TEST_TEXT)]
    assert any(playbook in runs(name) for name in tested)


def test_modules_are_in_the_action_group():
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]
    assert sorted(groups["crm"]) == names("plugins/modules/*.py")


def test_modules_are_of_the_version_that_brought_them():
    for path in ROOT.glob("plugins/modules/*.py"):
        assert re.search(r"^version_added: ['\"]?\d+\.\d+\.\d+['\"]?$", path.read_text(), re.MULTILINE), path.name


def test_files_with_code_carry_the_licence():
    bare = []
    for name in project_files():
        if name.suffix == ".py" and name.parts[0] in ("plugins", "tests", "tools", "benchmarks"):
            text = (ROOT / name).read_text()
            if text.strip() and "SPDX-License-Identifier: GPL-3.0-or-later" not in "\n".join(text.splitlines()[:6]):
                bare.append(str(name))
    assert bare == []
    assert "Version 3, 29 June 2007" in (ROOT / "LICENSE").read_text()
    assert GALAXY["license"] == ["GPL-3.0-or-later"]


def test_the_changelog_is_of_this_version():
    """Until the first release there is none; then the newest one is what galaxy.yml says."""
    text = (ROOT / "CHANGELOG.rst").read_text()
    released = re.findall(r"^v(\d+\.\d+\.\d+)\n=+$", text, re.MULTILINE)
    assert not released or released[0] == GALAXY["version"]
    fragments = sorted((ROOT / "changelogs" / "fragments").glob("*.yml"))
    assert fragments or released


def test_the_collections_that_it_needs_are_those_that_the_requirements_bring():
    """`ansible` brings them; each has to be in the range that galaxy.yml asks for."""
    from ansible.galaxy.dependency_resolution.versioning import meets_requirements  # pylint: disable=import-outside-toplevel
    from ansible_collections import __path__ as places  # pylint: disable=import-outside-toplevel

    for name, asked in GALAXY["dependencies"].items():
        manifest = name.replace(".", "/") + "/MANIFEST.json"
        found = [
            yaml.safe_load((Path(place) / manifest).read_text())["collection_info"]["version"]
            for place in places
            if (Path(place) / manifest).exists()
        ]
        assert found, name
        assert meets_requirements(found[0], asked), (name, found[0], asked)


def test_each_dependency_is_used_and_each_used_collection_is_a_dependency():
    used = set()
    for name in project_files():
        if name.parts[0] in ("roles", "playbooks") and name.suffix == ".yml" and "files" not in name.parts:
            used |= set(
                re.findall(r"^\s*(?:- )?((?!ansible\.builtin|crm\.platform)[a-z_]+\.[a-z_]+)\.[a-z_]+:", (ROOT / name).read_text(), re.MULTILINE)
            )
    assert used == set(GALAXY["dependencies"])


def test_requirements_are_pinned_with_hashes():
    for stem in ("requirements", "requirements-dev"):
        text = (ROOT / f"{stem}.txt").read_text()
        blocks = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
        loose = [
            block.split()[0]
            for block in blocks
            if block.strip() and not block.startswith("--") and ("==" not in block or "--hash=sha256:" not in block)
        ]
        assert loose == [], stem


# --- the linter of words itself ---


@pytest.fixture
def one_file(tmp_path, monkeypatch):
    def look(text):
        (tmp_path / "x.yml").write_text(text)
        monkeypatch.setattr(lint, "ROOT", tmp_path)
        monkeypatch.setattr(lint, "project_files", lambda: [Path("x.yml")])
        return lint.words()

    return look


@pytest.mark.parametrize(
    "text",
    [
        "see https" + "://mirror.somewhere.dev/x",
        "in /ho" + "me/ann/checkout/x",
        "- x  # no" + "qa: yaml",
        "ski" + "p_list:\n",
        "-----BEGIN EC PRIVATE " + "KEY-----\n" + "A" * 64 + "\n",
    ],
)
def test_words_that_do_not_belong_are_found(one_file, text):
    assert len(one_file("fine\n" + text)) == 1


def test_the_checkouts_own_path_is_found(one_file, tmp_path):
    assert "this machine's own path" in one_file(f"run {tmp_path}/tool")[0]


@pytest.mark.parametrize(
    "text",
    [
        "https://crm.example.org:8443/x",
        "https://docs.ansible.com/x",
        "http://127.0.0.1:8000/",
        "https://{{ foundation_domain }}/",
        "ssh root@host",
        "/etc/crm-platform",
    ],
)
def test_words_that_belong_are_not(one_file, text):
    assert one_file(text) == []
