# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the table of variables of each role's README.md from its meta/argument_specs.yml.

role_readme.py              write them
role_readme.py --check      write nothing; fail and name the README.md that is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
# A default that is longer is not read in a cell of a table, but where it stands.
LONGEST = 200
BEGIN = "<!-- argument_specs:begin -->"
END = "<!-- argument_specs:end -->"
HEAD = "| Variable | Type | Default | What it is |\n| --- | --- | --- | --- |\n"
# Ansible's documentation markup -> markdown. What has no counterpart becomes code.
MARKUP = re.compile(r"\b(?:[CVOPE]|RV|FQCN)\(((?:[^()\\]|\\.|\([^()]*\))*)\)")
MARKUP_LINK = re.compile(r"\bL\(([^,()]+),\s*([^()\s]+)\)")
MARKUP_MODULE = re.compile(r"\bM\(([\w.]+)\)")
MARKUP_ITALIC = re.compile(r"\bI\(([^()]+)\)")
MARKUP_BOLD = re.compile(r"\bB\(([^()]+)\)")


class ReadmeError(Exception):
    """A role that cannot be documented; the message says why."""


def prose(text: str | list[str]) -> str:
    """A description (text, or a list of sentences) as one cell of a table."""
    joined = " ".join(" ".join(text if isinstance(text, list) else [text]).split())
    joined = MARKUP.sub(lambda match: "`" + match[1].replace("\\", "") + "`", joined)
    joined = MARKUP_LINK.sub(r"[\1](\2)", joined)
    joined = MARKUP_MODULE.sub(r"`\1`", joined)
    joined = MARKUP_ITALIC.sub(r"*\1*", joined)
    joined = MARKUP_BOLD.sub(r"**\1**", joined)
    return joined.replace("|", "\\|")


def code(value: t.Any) -> str:
    """A value as it is written in an inventory."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split()) if value != "" else '""'
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", "\\|")


def type_of(option: dict) -> str:
    kind = option.get("type", "str")
    return f"list of {option['elements']}" if kind == "list" and option.get("elements") else kind


def rows(options: dict, prefix: str = "") -> t.Iterator[str]:
    """One row an option; the keys of a dictionary follow it, named below it."""
    for name, option in options.items():
        full = f"{prefix}{name}"
        if option.get("required"):
            default = "**required**"
        elif "default" in option:
            default = code(option["default"])
            if len(default) > LONGEST:
                default = "[defaults](defaults/main.yml)"
        else:
            default = "none"
        about = prose(option.get("description", ""))
        if option.get("choices"):
            about += " One of " + ", ".join(code(choice) for choice in option["choices"]) + "."
        yield f"| `{full}` | {type_of(option)} | {default} | {about} |\n"
        if option.get("options"):
            step = "[]." if option.get("type") == "list" else "."
            yield from rows(option["options"], full + step)


def table(specs: dict) -> str:
    """The text that belongs between the markers."""
    parts = []
    for entry, spec in specs.items():
        if entry != "main":
            parts.append(f"### Entry point `{entry}`\n\n{prose(spec.get('short_description', ''))}\n")
        options = spec.get("options") or {}
        if options:
            parts.append(HEAD + "".join(rows(options)))
        elif entry == "main":
            parts.append("This role has no variables.\n")
    return "\n".join(parts)


def render(role: Path) -> tuple[Path, str, str]:
    """README.md of a role, its text now, and the text it should have."""
    readme = role / "README.md"
    if not readme.exists():
        raise ReadmeError(f"{readme.relative_to(ROOT)} is missing; write a title, two sentences and the two markers")
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ReadmeError(f"{readme.relative_to(ROOT)} needs {BEGIN} and, after it, {END}, each once")
    head, rest = text.split(BEGIN)
    return readme, text, f"{head}{BEGIN}\n\n{table(specs)}\n{END}{rest.split(END)[1]}"


def roles() -> list[Path]:
    return sorted(path.parent.parent for path in ROOT.glob("roles/*/meta/argument_specs.yml"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a README.md is out of date")
    check = parser.parse_args().check
    wrong = []
    for role in roles():
        try:
            readme, now, wanted = render(role)
        except ReadmeError as error:
            wrong.append(str(error))
            continue
        if now == wanted:
            continue
        if check:
            wrong.append(f"{readme.relative_to(ROOT)} is out of date; run: python tools/role_readme.py")
        else:
            readme.write_text(wanted)
            print(f"wrote {readme.relative_to(ROOT)}")
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
