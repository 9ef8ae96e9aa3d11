# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the benchmarks, one after the other; names choose some of them."""

from __future__ import annotations

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def main() -> int:
    chosen = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run")
    status = 0
    for name in chosen:
        print(f"== {name}", flush=True)
        status |= subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
