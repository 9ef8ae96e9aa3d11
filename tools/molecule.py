# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Molecule's scenarios, two at a time, each with directories of its own.

    molecule.py                          all scenarios
    molecule.py default network          these
    molecule.py default -- --destroy never      what follows -- goes to `molecule test`

Molecule's own workers share one state; processes apart from one another do not.
"""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import time
import typing as t

import yaml

from run_tests import CACHE, ROOT, environment, script, tool

AT_A_TIME = 2


def scenarios() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))


def images(names: t.Iterable[str]) -> list[str]:
    """The systems whose base image the scenarios start from, as tools/lab.py names them."""
    found = set()
    for name in names:
        platforms = yaml.safe_load((ROOT / "molecule" / name / "molecule.yml").read_text())["platforms"]
        found |= {platform["image"].split("/")[-1].split(":")[0] for platform in platforms if platform["image"].startswith("crm-platform/")}
    return sorted(found)


def prepare(names: t.Iterable[str]) -> None:
    subprocess.run(tool("lab", "engine"), cwd=ROOT, check=True)
    for system in images(names):
        subprocess.run(tool("lab", "image", system), cwd=ROOT, check=True)


def package(names: t.Iterable[str]) -> str:
    """The Debian package, for the scenarios that take one which is built: all but the one that proves the build."""
    given = os.environ.get("CRM_PACKAGE_DEB", "")
    if given or not any("CRM_PACKAGE_DEB" in (ROOT / "molecule" / name / "molecule.yml").read_text() for name in names):
        return given
    command = [sys.executable, str(ROOT / "tests" / "support" / "platform_image.py"), "package"]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


def run(name: str, options: t.Sequence[str], deb: str) -> tuple[str, int, float, str]:
    own = CACHE / "molecule" / name
    own.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [script("molecule"), "test", "--no-command-borders", "--scenario-name", name, *options],
        cwd=ROOT,
        env=environment(ANSIBLE_HOME=str(own / "ansible"), MOLECULE_EPHEMERAL_DIRECTORY=str(own / "run"), CRM_PACKAGE_DEB=deb),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (own / "log").write_text(done.stdout)
    return name, done.returncode, time.monotonic() - began, done.stdout


def main() -> int:
    words = sys.argv[1:]
    asked, options = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    known = scenarios()
    names = asked or known
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    prepare(names)
    deb = package(names)
    failed = []
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
        for running in concurrent.futures.as_completed([pool.submit(run, name, options, deb) for name in names]):
            name, status, took, text = running.result()
            if status:
                failed.append(name)
                print(text)
            print(f"molecule {name}: {'FAILED' if status else 'ok'} in {took:.0f} s, log in .cache/molecule/{name}/log", flush=True)
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
