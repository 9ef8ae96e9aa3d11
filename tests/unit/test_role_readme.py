# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/role_readme.py: argument_specs as a table."""

from __future__ import annotations

import pytest
import role_readme


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("Either V(on) or C(off).", "Either `on` or `off`."),
        (["First.", "Second."], "First. Second."),
        ("a | b\n  and c", "a \\| b and c"),
        (
            "See L(the manual,https://docs.example.org/x) and M(crm.platform.config_files).",
            "See [the manual](https://docs.example.org/x) and `crm.platform.config_files`.",
        ),
        ("C(systemctl (re)start), I(soon), B(now)", "`systemctl (re)start`, *soon*, **now**"),
    ],
)
def test_prose(text, cell):
    assert role_readme.prose(text) == cell


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("", '`""`'),
        (5, "`5`"),
        (True, "`true`"),
        ([], "`[]`"),
        (["a", 1], '`["a", 1]`'),
        ("{{ a | b }}", "`{{ a \\| b }}`"),
        ("ä", "`ä`"),
        ("a`b", "``a`b``"),
    ],
)
def test_code(value, cell):
    assert role_readme.code(value) == cell


def test_table():
    text = role_readme.table(
        {
            "main": {
                "options": {
                    "x_ports": {
                        "type": "list",
                        "elements": "dict",
                        "default": [],
                        "description": "Ports.",
                        "options": {"port": {"type": "int", "required": True, "description": "Number."}},
                    },
                    "x_mode": {"type": "str", "choices": ["a", "b"], "description": "Mode."},
                }
            },
            "other": {"short_description": "Do less", "options": {}},
        }
    )
    assert text == (
        role_readme.HEAD
        + "| `x_ports` | list of dict | `[]` | Ports. |\n"
        + "| `x_ports[].port` | int | **required** | Number. |\n"
        + "| `x_mode` | str | none | Mode. One of `a`, `b`. |\n"
        + "\n### Entry point `other`\n\nDo less\n"
    )


def test_text_around_the_markers_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(role_readme, "ROOT", tmp_path)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "argument_specs.yml").write_text("argument_specs: {main: {options: {}}}\n")
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n{role_readme.BEGIN}\nold\n{role_readme.END}\nfoot\n")
    dummy, now, wanted = role_readme.render(tmp_path)
    assert now != wanted
    assert wanted.startswith(f"# Title\n{role_readme.BEGIN}\n\n") and wanted.endswith(f"\n{role_readme.END}\nfoot\n") and "old" not in wanted
    readme.write_text(wanted)
    assert role_readme.render(tmp_path)[1:] == (wanted, wanted)


@pytest.mark.parametrize("text", ["", f"{role_readme.BEGIN}\n", f"{role_readme.END}{role_readme.BEGIN}", 2 * f"{role_readme.BEGIN}{role_readme.END}"])
def test_markers_that_do_not_fit_are_named(tmp_path, monkeypatch, text):
    monkeypatch.setattr(role_readme, "ROOT", tmp_path)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "argument_specs.yml").write_text("argument_specs: {main: {options: {}}}\n")
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(role_readme.ReadmeError, match="README.md needs"):
        role_readme.render(tmp_path)
