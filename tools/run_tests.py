# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the project's tests, one line a suite: what it is, how long it took, how it ended.

    run_tests.py lint unit          these two, in this order
    run_tests.py --list             what there is

A suite that fails does not keep the others from running: one run tells all
that is wrong. The log of each is in .cache/log; a failing one is shown, and
what failed in it is told once more at the end: a page that keeps the last
lines of a run tells enough.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import lab

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
COLLECTIONS = CACHE / "collections"
LOGS = CACHE / "log"
# Of a suite that failed, at the end.
TOLD_LINES, TOLD_WIDTH = 40, 400


def script(name: str) -> str:
    """A command of the virtual environment that runs this file."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def environment(**extra: str) -> dict[str, str]:
    """The environment in which Ansible finds this checkout as crm.platform, and nothing of the user's."""
    link = COLLECTIONS / "ansible_collections" / "crm" / "platform"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(os.path.relpath(ROOT, link.parent))
        except FileExistsError:  # a suite beside this one was quicker
            pass
    trusted = lab.trusted_authorities()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {
        **os.environ,
        "PATH": path,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_HOME": str(CACHE / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"SSL_CERT_FILE": trusted} if trusted else {}),
        **extra,
    }


def tool(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "tools" / f"{name}.py"), *arguments]


def pytest(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "--durations=5", *arguments]


SUITES: dict[str, tuple[str, list[str]]] = {
    "lint": ("ansible-lint, yamllint, documentation, words", tool("lint")),
    "sanity": ("ansible-test sanity", tool("sanity")),
    "unit": ("logic and the order of the house", pytest("-n", "auto", "tests/unit")),
    "integration": ("modules in a container, and with PostgreSQL 15 and 17", pytest("-n", "2", "tests/integration", "tests/property")),
    "molecule": ("the whole platform, twice", tool("molecule")),
    "system": ("drift, kill, reboot, bad input", pytest("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--durations=30", "tests/system")),
}
TOGETHER = ("lint", "sanity", "unit")


def busy_seconds() -> float:
    """Seconds of all cores that were not idle since the machine's start (Linux)."""
    try:
        fields = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    except OSError:
        return 0.0
    # user, nice, system, idle, iowait, irq, softirq, steal
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def told(log: str) -> list[str]:
    """The lines of a log that say what failed and why: pytest's and ours."""
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip()[:TOLD_WIDTH] for line in log.splitlines()]
    names = [line for line in lines if re.match(r"FAILED (?!- )|ERROR +\S", line)]
    why = [line for line in lines if re.match(r"E  +\S|fatal: ", line)]
    return list(dict.fromkeys(names + why))[:TOLD_LINES]


def run(name: str, verbose: bool) -> bool:
    what, command = SUITES[name]
    log = LOGS / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    heading = f"==> {name}: {what}"
    print(heading if verbose else f"... {name} begins", flush=True)
    # Suites run side by side, so each says all at its end.
    said = [] if verbose else [heading]
    began, busy = time.monotonic(), busy_seconds()
    if verbose:
        status = subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    else:
        with log.open("w") as stream:
            status = subprocess.run(command, cwd=ROOT, env=environment(), check=False, stdout=stream, stderr=subprocess.STDOUT).returncode
    took = time.monotonic() - began
    share = (busy_seconds() - busy) / max(took, 0.1) / (os.cpu_count() or 1)
    if status and not verbose:
        said.append(log.read_text(errors="replace").rstrip("\n"))
    elif not verbose:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said.append(f"    {last[-1].strip('= ')}" if last else "    (nothing said)")
    print("\n".join([*said, f"    {'FAILED' if status else 'ok'} in {took:.0f} s, cores {share:.0%} busy"]), flush=True)
    return status == 0


def run_all(names: t.Sequence[str], verbose: bool) -> dict[str, bool]:
    """Whether each went well. Those that need no container run side by side: none of them keeps two cores busy."""
    together = [name for name in names if name in TOGETHER and not verbose]
    with concurrent.futures.ThreadPoolExecutor(len(TOGETHER)) as pool:
        ended = dict(zip(together, pool.map(lambda name: run(name, False), together)))
    # One after the other: what is timed in them (a neighbour that is missed, a host that is drained) has no room for more beside it.
    return {**ended, **{name: run(name, verbose) for name in names if name not in together}}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("-v", "--verbose", action="store_true", help="show each suite's output as it comes")
    arguments = parser.parse_args()
    if arguments.list or not arguments.suites:
        for name, (what, _command) in SUITES.items():
            print(f"{name:12} {what}")
        return 0
    unknown = [name for name in arguments.suites if name not in SUITES]
    if unknown:
        parser.error(f"no suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    began = time.monotonic()
    ended = run_all(arguments.suites, arguments.verbose)
    failed = [name for name, good in ended.items() if not good]
    for name in failed if not arguments.verbose else ():
        print(f"--- what failed in {name}", *told((LOGS / f"{name}.log").read_text(errors="replace")), sep="\n    ")
    print(f"{len(ended) - len(failed)} passed, {len(failed)} failed", flush=True)
    print(f"suites: {', '.join(ended)}; {time.monotonic() - began:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
