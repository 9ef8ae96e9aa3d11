# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can be found wrong without running anything. Needs no network.

Each check runs even when one before it failed; what failed is said at the end.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import typing as t

from run_tests import ROOT, environment, script, tool
from sanity import project_files

# Who may be linked to. An address that is not here is a finding: it keeps
# mirrors, package indexes and somebody's own servers out of the product, which
# has to work with whatever the user's clients are set up for.
KNOWN_HOSTS = (
    "ansible.readthedocs.io",
    "creativecommons.org",
    "discuss.tryton.org",
    "docs.ansible.com",
    "docs.tryton.org",
    "example.com",
    "example.net",
    "example.org",
    "fsf.org",
    "keepachangelog.com",
    "localhost",
    "nginx.org",
    "semver.org",
    "www.debian.org",
    "www.fsf.org",
    "www.gnu.org",
    "www.netfilter.org",
    "www.postgresql.org",
    "www.tryton.org",
    "www.w3.org",
    "wiki.debian.org",
)
RESERVED = re.compile(r"(^|\.)(example|test|invalid|localhost|internal|lan)(\.(com|net|org))?$|^[\d.]+$|^[^.]+$")
ADDRESS = re.compile(r"\bhttps?://([A-Za-z0-9][A-Za-z0-9.-]*)")
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}")
HOME = re.compile(r"(?<![\w.~}-])/(?:home|Users)/[a-z][\w.-]*/")
SKIPPED_RULES = re.compile(r"#\s*" + "no" + r"qa\b|^\s*(skip|warn)_list:", re.MULTILINE)
TEXT_LIMIT = 1_000_000
# Directories that every machine has: a checkout in one of them makes its name no secret.
COMMON = ("/", "/tmp", "/var/tmp", "/srv", "/root", "/home", "/opt", "/mnt", "/usr/src")


def words() -> list[str]:
    """What must not be in a file of the project, as `path:line: finding`."""
    findings = []
    here = [f"{ROOT}/"]
    if str(ROOT.parent) not in COMMON:
        here.append(f"{ROOT.parent}/")
    for name in project_files():
        path = ROOT / name
        if path.is_symlink() or path.stat().st_size > TEXT_LIMIT or name.name == "LICENSE":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue

        def found(position: int, what: str, text: str = text, name: t.Any = name) -> None:
            findings.append(f"{name}:{text.count(chr(10), 0, position) + 1}: {what}")

        for root in here:
            position = text.find(root)
            if position >= 0:
                found(position, f"names this machine's own path {root}; paths start at the project's root")
        for match in HOME.finditer(text):
            found(match.start(), f"names somebody's home directory {match[0]}")
        for match in ADDRESS.finditer(text):
            host = match[1].rstrip(".").lower()
            if host not in KNOWN_HOSTS and not RESERVED.search(host):
                found(match.start(), f"links to {host}, which KNOWN_HOSTS in tools/lint.py does not list")
        for match in PRIVATE_KEY.finditer(text):
            found(match.start(), "holds a private key")
        for match in SKIPPED_RULES.finditer(text) if name.suffix in (".yml", ".yaml", ".j2") or name.name.startswith(".") else ():
            found(match.start(), "skips a rule of a linter; mend what the rule found")
    return findings


def check_words() -> int:
    findings = words()
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


def command(*words_: str) -> t.Callable[[], int]:
    return lambda: subprocess.run(words_, cwd=ROOT, env=environment(), check=False).returncode


def shell_scripts() -> list[str]:
    return [
        str(name)
        for name in project_files()
        if name.suffix == ".sh" or (ROOT / name).open("rb").read(32).startswith((b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash"))
    ]


def check_shell() -> int:
    files = [name for name in shell_scripts() if not name.endswith(".j2")]
    if not files or not shutil.which("shellcheck"):
        print("nothing to look at" if not files else f"shellcheck is not installed; {len(files)} scripts were not looked at")
        return 0
    return subprocess.run(["shellcheck", "--severity=warning", *files], cwd=ROOT, check=False).returncode


CHECKS: dict[str, t.Callable[[], int]] = {
    "words": check_words,
    "README tables": command(*tool("role_readme", "--check")),
    "yamllint": command(script("yamllint"), "--strict", "."),
    "ansible-lint": command(script("ansible-lint"), "--offline", "--nocolor", "-q"),
    "plugin documentation": command(script("antsibull-docs"), "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", "."),
    "changelog": command(script("antsibull-changelog"), "lint"),
    "shellcheck": check_shell,
}


def main() -> int:
    asked = sys.argv[1:] or list(CHECKS)
    unknown = [name for name in asked if name not in CHECKS]
    if unknown:
        print(f"no check {', '.join(unknown)}; there are {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    failed = []
    for name in asked:
        print(f"--> {name}", flush=True)
        if CHECKS[name]():
            failed.append(name)
    print(f"lint: {', '.join(failed)} failed" if failed else f"lint: {len(asked)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
