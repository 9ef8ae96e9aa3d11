#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: package_repository
short_description: Keep a signed apt repository that holds several versions of its packages
version_added: 0.1.0
description:
  - Publishes Debian packages in a directory that apt reads with C(file:) or, served by a web server, with C(https:).
  - The signing key is made once, on the host, and stays with root. Its public half is kept in a keyring file for the clients.
  - Several versions of a package stay available, so that pinning and downgrades work.
  - The signed index is replaced in one step, as the last one. A client never sees half of a change, and what a run that was
    killed left behind is removed by the next one.
  - Damage is found and mended; a package without its entry in the index, an index whose parts or signature are wrong.
options:
  directory:
    description: Directory of the repository. It is made where it is missing.
    type: path
    required: true
  suite:
    description: Suite of the packages, by convention the code name of the distribution.
    type: str
    required: true
  packages:
    description: Paths, on the host, of packages to publish. Packages that are published already stay published.
    type: list
    elements: path
    default: []
  consume:
    description: Remove the files of I(packages) once they are published.
    type: bool
    default: false
  keep:
    description: How many versions of each package and architecture stay, the newest ones; V(0) keeps all.
    type: int
    default: 0
  keyring:
    description: File for the public key, in the binary form that C(Signed-By) takes.
    type: path
    required: true
  gnupg_home:
    description: Directory of the signing key, kept to root.
    type: path
    required: true
  signer:
    description: Name of the signing key, used when it is made.
    type: str
    default: crm.platform package repository
  label:
    description: Origin and label of the repository, for pinning by C(release o=).
    type: str
    default: crm.platform
  source:
    description:
      - A source of which the package may have been built. The answer, I(version) and I(published), tells whether
        it was, and which version it has or is to get.
      - Packages say of which source they were built in their control field C(Source-Digest).
    type: dict
    suboptions:
      package:
        description: Name of the package.
        type: str
        required: true
      version:
        description: Version of the source, without I(suffix).
        type: str
        required: true
      suffix:
        description: End of the version that tells distributions apart.
        type: str
        default: ""
      digest:
        description: Digest of the source.
        type: str
        required: true
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details: Packages that are not there yet, because the task that makes them was skipped, count as published.
  diff_mode:
    support: full
  platform:
    platforms: debian
requirements:
  - apt-utils
  - gnupg
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Look whether this source was published
  crm.platform.package_repository:
    directory: /srv/crm-platform/apt
    suite: bookworm
    keyring: /usr/share/keyrings/crm-platform-archive-keyring.gpg
    gnupg_home: /etc/crm-platform/repository/gnupg
    source:
      package: crm-platform
      version: 8.0.12+1
      suffix: ~deb12
      digest: 6d5f807e23db210bc254a28be2d6759a0f5f5d99
  register: __my_repository

- name: Publish a package, and keep the five newest versions
  crm.platform.package_repository:
    directory: /srv/crm-platform/apt
    suite: bookworm
    keyring: /usr/share/keyrings/crm-platform-archive-keyring.gpg
    gnupg_home: /etc/crm-platform/repository/gnupg
    packages:
      - /var/tmp/crm-platform_8.0.12+1~deb12_amd64.deb
    keep: 5
"""

RETURN = r"""
packages:
  description: What the suite holds, the newest version first; in check mode what it would hold.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the package.
      type: str
      returned: always
    version:
      description: Its version.
      type: str
      returned: always
    architecture:
      description: Its architecture.
      type: str
      returned: always
    digest:
      description: Digest of its source, empty where it does not say.
      type: str
      returned: always
steps:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: ["add /var/tmp/crm-platform_8.0.12+1~deb12_amd64.deb", "index signed index"]
version:
  description: The version that I(source) was published as, or the one that it is to get.
  returned: when I(source) is given
  type: str
  sample: 8.0.12+1~deb12
published:
  description: Whether I(source) is published.
  returned: when I(source) is given
  type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crm.platform.plugins.module_utils import programs, repository as lib


def wanted_packages(module, state, layout):
    """The packages to publish by their paths."""
    wanted = {}
    for path in module.params["packages"]:
        if not os.path.exists(path):
            if module.check_mode:
                # By the name that it would have; its content cannot be known.
                name, version, rest = (os.path.basename(path).removesuffix(".deb").split("_") + ["", ""])[:3]
                wanted[path] = lib.Package(name, version, rest, "")
                continue
            raise lib.RepositoryError(f"packages: {path}: there is no such file on the host; correct the path")
        package = lib.read_deb(path)
        published = os.path.join(layout.pool, package.file_name)
        if package.file_name in state.pool and lib.sha256(path) != lib.sha256(published):
            raise lib.RepositoryError(
                f"packages: {path}: version {package.version} is published with another content; give the package a new version"
            )
        wanted[path] = package
    return wanted


def answer(source, packages):
    """`version` and `published` of a source, or nothing where none was given."""
    if source is None:
        return {}
    named = [package for package in packages if package.name == source["package"]]
    version, published = lib.version_for(source["version"], source["suffix"], source["digest"], named)
    return {"version": version, "published": published}


def converge(module, layout):
    params = module.params
    state = lib.survey(layout)
    wanted = wanted_packages(module, state, layout)
    steps = lib.plan(state, wanted, params["keep"])
    if steps and not module.check_mode:
        architecture = lib.run("dpkg", "--print-architecture").strip()
        lib.Publisher(layout, params["label"], params["signer"], architecture).apply(steps, wanted)
    if params["consume"] and not module.check_mode:
        for path in wanted:
            os.unlink(path)
    removed = {step.subject for step in steps if step.kind == "remove"}
    held = {**state.pool, **{package.file_name: package for package in wanted.values()}}
    return steps, lib.newest_first(package for name, package in held.items() if name not in removed)


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "suite": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "path", "default": []},
            "consume": {"type": "bool", "default": False},
            "keep": {"type": "int", "default": 0},
            "keyring": {"type": "path", "required": True, "no_log": False},
            "gnupg_home": {"type": "path", "required": True},
            "signer": {"type": "str", "default": "crm.platform package repository"},
            "label": {"type": "str", "default": "crm.platform"},
            "source": {
                "type": "dict",
                "options": {
                    "package": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "suffix": {"type": "str", "default": ""},
                    "digest": {"type": "str", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    os.umask(programs.UMASK)
    params = module.params
    layout = lib.Layout(params["directory"], params["suite"], params["gnupg_home"], params["keyring"])
    try:
        if module.check_mode:
            steps, packages = converge(module, layout)
        else:
            with lib.lock(params["directory"]):
                steps, packages = converge(module, layout)
    except (lib.RepositoryError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=bool(steps),
        steps=[f"{step.kind} {step.subject}" for step in steps],
        packages=[package._asdict() for package in packages],
        diff={"before": "", "after": "".join(f"{step.kind} {step.subject}\n" for step in steps)},
        **answer(params["source"], packages),
    )


if __name__ == "__main__":
    main()
