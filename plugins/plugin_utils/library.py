# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a part of module_utils needs to run where there is no Ansible."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "module_utils"


def files(part: str) -> dict[str, str]:
    """Contents by paths below module_utils, of a package and of all that it imports from beside it.

    Its __init__.py names them, in FILES: what an older version had may still be beside them, and is not to be used.

    :param part: name of the package, such as 'health'.
    """
    waiting = sorted((ROOT / part).glob("*.py"))
    found: dict[str, str] = {"__init__.py": ""}
    if not waiting:
        raise FileNotFoundError(2, "holds no Python", str(ROOT / part))
    while waiting:
        path = waiting.pop()
        name = path.relative_to(ROOT).as_posix()
        if name in found:
            continue
        found[name] = path.read_text(encoding="utf-8")
        if path.parent != ROOT:
            waiting.append(path.parent / "__init__.py")
        for node in ast.walk(ast.parse(found[name])):
            if isinstance(node, ast.ImportFrom) and node.level:
                waiting += _imported(path, node)
    found["__init__.py"] = f"FILES = {sorted(found)!r}\n"
    return dict(sorted(found.items()))


def _imported(path: Path, node: ast.ImportFrom) -> list[Path]:
    """`from ..x import y`: x.py, or x/y.py, or x/__init__.py which holds y."""
    place = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
    wanted = [place.with_suffix(".py")] if node.module else []
    wanted += [place / "__init__.py", *(place / f"{alias.name}.py" for alias in node.names)]
    return [one for one in wanted if one.is_file() and one.is_relative_to(ROOT) and one != ROOT / "__init__.py"]
