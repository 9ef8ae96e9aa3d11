# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test's sanity tests on a copy of this checkout.

ansible-test accepts a collection only where it lies in a tree named after it,
and follows no link there; so the files that git knows (and new ones that it
does not ignore) are copied. Arguments are handed on: sanity.py --test pep8
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from run_tests import CACHE, ROOT, script

PIP_BOOTSTRAP = '''\
"""Install pip from the interpreter's own copy: ansible-test would download one."""
import os
import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip", "--upgrade", "--default-pip"], env=dict(os.environ), stdout=subprocess.DEVNULL)
'''


def project_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return sorted({Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()})


def copy_to(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for name in project_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    # A repository of its own: in that of the checkout, .cache is ignored, and ansible-test asks git what to look at.
    subprocess.run(["git", "init", "--quiet"], cwd=target, check=True)
    subprocess.run(["git", "add", "--all", "--force"], cwd=target, check=True)


def lay_pip_bootstrap(home: Path) -> None:
    """Put the script that ansible-test looks for in its cache before it asks the network for it."""
    import ansible_test  # pylint: disable=import-outside-toplevel

    source = Path(next(iter(ansible_test.__path__))) / "_internal" / "python_requirements.py"
    version = re.search(r"pip='([\d.]+)'", source.read_text())
    if not version:
        sys.exit(f"{source.name} of ansible-test does not name its version of pip any more; look there and mend tools/sanity.py")
    script_path = home / ".ansible" / "test" / "cache" / f"get_pip_{version[1].replace('.', '_')}.py"
    script_path.parent.mkdir(parents=True, exist_ok=True)
    script_path.write_text(PIP_BOOTSTRAP)


def main() -> int:
    home = CACHE / "ansible-test"
    tree = home / "tree" / "ansible_collections" / "crm" / "platform"
    copy_to(tree)
    lay_pip_bootstrap(home)
    ignored = sorted((tree / "tests" / "sanity").glob("ignore*.txt"))
    if ignored:
        print(f"sanity: {', '.join(path.name for path in ignored)}: findings are mended here, not ignored", file=sys.stderr)
        return 1
    # Its own HOME: the virtual environments and the pip script stay in .cache.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment.update(HOME=str(home), PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return subprocess.run(
        [script("ansible-test"), "sanity", "--local", "--python", python, "--color", "no", *sys.argv[1:]],
        cwd=tree,
        env=environment,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
