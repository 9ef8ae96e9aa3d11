# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role is built as CONTRIBUTING.md says; its argument_specs.yml is the one source of what it takes."""

from __future__ import annotations

import re

import pytest
import role_readme
import yaml
from conftest import ROOT

ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if any(path.glob("*/main.yml")))
NEEDED = ("README.md", "defaults/main.yml", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml", "tasks/preflight.yml", "tasks/verify.yml")
PUBLISHED = "foundation/contract/main.yml"
# A fact of the run, not a variable of the inventory: docs/architecture.md lists it with the contract.
HANDED_OUT = ("foundation_secrets",)
TYPES = {"str": str, "path": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict, "raw": object}
MISSING = object()


def load(role, name):
    path = ROOT / "roles" / role / name
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def specs(role):
    return load(role, "meta/argument_specs.yml").get("argument_specs", {})


def options(role):
    """The options of all entry points: they share the defaults."""
    return {name: option for entry in specs(role).values() for name, option in (entry.get("options") or {}).items()}


def templated(value):
    return isinstance(value, str) and "{{" in value


def complaints(name, option, value):
    """Why a value is not what its option says, down to the keys of its dictionaries."""
    kind = option.get("type", "str")
    if templated(value):
        return []
    wrong = isinstance(value, bool) and kind in ("int", "float", "str") or not isinstance(value, TYPES[kind])
    if wrong:
        return [f"{name} is {value!r}, not {kind}"]
    if option.get("choices") and kind != "list" and value not in option["choices"]:
        return [f"{name} is {value!r}, none of {option['choices']}"]
    found = []
    if kind == "list":
        element = {**option, "type": option.get("elements", "raw")}
        for number, item in enumerate(value):
            found += complaints(f"{name}[{number}]", element, item)
    elif kind == "dict" and option.get("options"):
        for key in set(value) - set(option["options"]):
            found.append(f"{name}.{key} is not in the specification")
        for key, inner in option["options"].items():
            if key in value:
                found += complaints(f"{name}.{key}", inner, value[key])
            elif inner.get("required"):
                found.append(f"{name}.{key} is required and missing")
    return found


def walk(named, prefix=""):
    for name, option in named.items():
        yield prefix + name, option
        yield from walk(option.get("options") or {}, f"{prefix}{name}.")


@pytest.fixture(params=ROLES)
def role(request):
    return request.param


def test_there_are_roles():
    assert ROLES


def test_files(role):
    assert [name for name in NEEDED if not (ROOT / "roles" / role / name).exists()] == []


def test_the_table_of_contents_is_short(role):
    text = (ROOT / "roles" / role / "tasks" / "main.yml").read_text()
    assert len(text.splitlines()) < 50
    tasks = yaml.safe_load(text)
    plain = [
        task["name"]
        for task in tasks
        if not {key.rsplit(".", 1)[-1] for key in task} & {"import_tasks", "include_tasks", "import_role", "include_role", "meta"}
    ]
    assert plain == [], "tasks/main.yml only lists other files"


def test_preflight_comes_before_any_change(role):
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text())
    files = [
        value if isinstance(value, str) else value.get("file", value.get("tasks_from", ""))
        for task in tasks
        for key, value in task.items()
        if "_tasks" in key or "_role" in key
    ]
    assert "preflight.yml" in files
    assert set(files[: files.index("preflight.yml")]) <= {"contract.yml", "facts.yml"}


def test_specification_and_defaults_have_the_same_keys(role):
    defaults = load(role, "defaults/main.yml")
    expected = {name for name, option in options(role).items() if not option.get("required") and "default" in option}
    assert set(defaults) == expected


def test_specification_and_defaults_have_the_same_values(role):
    defaults, stated = load(role, "defaults/main.yml"), options(role)
    differ = {}
    for name in set(defaults) & set(stated):
        one, other = defaults[name], stated[name].get("default", MISSING)
        # As text: == would call 1 and True the same.
        if yaml.safe_dump(one) != yaml.safe_dump(other) if other is not MISSING else True:
            differ[name] = (one, other)
    assert differ == {}


def test_defaults_are_of_their_types(role):
    defaults, stated = load(role, "defaults/main.yml"), options(role)
    assert [said for name in set(defaults) & set(stated) for said in complaints(name, stated[name], defaults[name])] == []


def test_every_option_says_its_type_and_what_it_is(role):
    for name, option in walk(options(role)):
        assert option.get("type") in TYPES, f"{name}: type"
        assert option["type"] != "list" or option.get("elements") in TYPES, f"{name}: elements"
        assert option.get("description"), f"{name}: description"
        assert not (option.get("required") and "default" in option), f"{name}: required and a default"


def test_entry_points_say_what_they_do(role):
    assert "main" in specs(role)
    for name, entry in specs(role).items():
        assert entry.get("short_description"), name
        assert entry.get("version_added"), name


def test_every_default_has_its_comment(role):
    lines = (ROOT / "roles" / role / "defaults" / "main.yml").read_text().splitlines()
    bare = [line for number, line in enumerate(lines) if re.match(r"[a-z_]+:", line) and not lines[number - 1].startswith("# ")]
    assert bare == []


def test_names(role):
    assert [name for name in load(role, "defaults/main.yml") if not name.startswith(f"{role}_")] == []
    for path in (ROOT / "roles" / role / "vars").glob("*.yml"):
        names = yaml.safe_load(path.read_text()) or {}
        assert [name for name in names if not name.startswith(f"_{role}_")] == [], path.name
    for path in (ROOT / "roles" / role).rglob("*.yml"):
        registered = re.findall(r"^\s*(?:- )?register:\s*(\S+)", path.read_text(), re.MULTILINE)
        assert [name for name in registered if not name.startswith(f"__{role}_")] == [], path


def expressions(text):
    """What Ansible templates in a file: the {{ }} and {% %}, and the conditions, which are bare."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        inside = re.findall(r"\{\{.*?\}\}|\{%.*?%\}", line)
        if not inside and "name:" not in line and re.match(r"\s*(- |when:|that:|until:|changed_when:|failed_when:)", line):
            inside = [line]
        yield from ((number, expression) for expression in inside)


def test_no_role_reads_the_variables_of_another(role):
    others = [name for name in ROLES if name != role]
    # A variable's name starts where no letter, dot, slash or quote stands before it.
    foreign = re.compile(rf"(?<![\w./'\"-])_{{0,2}}(?:{'|'.join(others)})_[a-z0-9_]+\b")
    found = []
    for path in sorted((ROOT / "roles" / role).rglob("*")):
        name = str(path.relative_to(ROOT / "roles"))
        if not others or not path.is_file() or path.suffix not in (".yml", ".j2") or name == PUBLISHED or path.parent.name in ("meta", "files"):
            continue
        found += [
            f"{name}:{number}: {match[0]}"
            for number, expression in expressions(path.read_text())
            for match in foreign.finditer(expression)
            if match[0] not in HANDED_OUT
        ]
    assert found == []


def test_meta(role):
    info = load(role, "meta/main.yml")["galaxy_info"]
    assert info["license"] == "GPL-3.0-or-later"
    assert str(info["min_ansible_version"]) == "2.17"
    assert [(item["name"], sorted(item["versions"])) for item in info["platforms"]] == [("Debian", ["bookworm", "trixie"])]
    assert not load(role, "meta/main.yml").get("dependencies"), "roles speak through the contract"


def test_templates_say_who_writes_them(role):
    bare = []
    for path in sorted((ROOT / "roles" / role).rglob("*.j2")):
        first = "\n".join(path.read_text().splitlines()[:2])
        # One that starts with a comment of Jinja's becomes no file: it is a text for something else.
        if "ansible_managed" not in first and not first.startswith("{#"):
            bare.append(str(path.relative_to(ROOT)))
    assert bare == []


def test_tags_are_the_roles_own(role):
    tasks = yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text())
    untagged = [task["name"] for task in tasks if not task.get("tags") and "preflight" not in str(task) and "contract" not in str(task)]
    assert untagged == []


def test_the_readme_is_up_to_date(role):
    _readme, now, wanted = role_readme.render(ROOT / "roles" / role)
    assert now == wanted, "run: python tools/role_readme.py"
