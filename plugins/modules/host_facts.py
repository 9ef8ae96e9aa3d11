#!/usr/bin/python
# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Read the facts that the platform's roles use, and no more
version_added: 0.1.0
description:
  - Reads what the roles decide by in one short call - system, addresses, memory, processors, disks, user, init and installed packages.
  - The names are those of M(ansible.builtin.setup) and M(ansible.builtin.package_facts), so that a role need not know who gathered them;
    only the packages are simpler, a version for each name.
  - Changes nothing.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: ansible.builtin.setup
  - module: ansible.builtin.package_facts
author:
  - The crm.platform maintainers (@crm-platform)
"""

EXAMPLES = r"""
- name: Know the host
  crm.platform.host_facts:

- name: Say what it is
  ansible.builtin.debug:
    msg: "{{ ansible_facts.distribution }} with {{ ansible_facts.memtotal_mb }} MiB and PostgreSQL {{ ansible_facts.packages['postgresql-15'] | default('-') }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts. They are read as C(ansible_facts.NAME), without the prefix.
  returned: success
  type: dict
  contains:
    ansible_distribution:
      description: Name of the system, beside its C(distribution_version), C(distribution_major_version), C(distribution_release) and C(os_family).
      type: str
      sample: Debian
    ansible_architecture:
      description: What the kernel calls the machine.
      type: str
      sample: x86_64
    ansible_default_ipv4:
      description: C(address) with which the host goes elsewhere, empty without a default route; C(default_ipv6) likewise.
      type: dict
      sample: {address: 192.0.2.10}
    ansible_all_ipv6_addresses:
      description: Addresses of IPv6 but for the loopback's.
      type: list
      elements: str
    ansible_memtotal_mb:
      description: Memory in MiB.
      type: int
    ansible_processor_vcpus:
      description: Number of logical processors.
      type: int
    ansible_devices:
      description: For each block device whether it is C(rotational), V(0) or V(1).
      type: dict
      sample: {sda: {rotational: "0"}}
    ansible_packages:
      description: Versions of the installed packages by name; empty where there is no dpkg.
      type: dict
      sample: {nginx: 1.22.1-9}
    ansible_package_lists:
      description: Whether apt has lists of the packages that there are.
      type: bool
    ansible_postgresql_clusters:
      description: PostgreSQL's clusters that Debian's tools have made to the end.
      type: list
      elements: str
      sample: [15/main]
    ansible_postgresql_foreign:
      description: Of those, the ones that the role C(database) has not configured.
      type: list
      elements: str
      sample: [15/main]
    ansible_postgresql_adopted:
      description: Of clusters that were taken over, the lines of C(pg_hba.conf) and C(pg_ident.conf) as they were before.
      type: dict
      sample: {15/main: {pg_hba.conf: [local all all peer]}}
    ansible_nginx_foreign:
      description:
        - Where the CRM's own site is not there yet, what nginx serves - C(sites), each with C(file), C(ports), C(names), the ports of which it is the
          C(default) server, and whether the package brings it (C(stock)); whether it reads sites-enabled (C(included)); what it C(said) where it
          refuses its own configuration.
        - Empty where the CRM's site is there, or no nginx.
      type: dict
      sample: {included: true, said: "", sites: [{file: /etc/nginx/sites-enabled/shop, ports: [443], names: [shop], default: [], stock: false}]}
    ansible_web_listeners:
      description: Where the CRM's own site is not there yet, the programs that listen on TCP ports.
      type: dict
      sample: {"443": apache2}
    ansible_crm_platform_begun:
      description: Whether the role C(foundation) has run here.
      type: bool
    ansible_user_id:
      description: Who the module runs as, beside the number in C(user_uid).
      type: str
    ansible_service_mgr:
      description: What runs the host.
      type: str
      sample: systemd
    ansible_virtualization_type:
      description: In what the host runs, beside its C(virtualization_role).
      type: str
      sample: docker
"""

import os
import pwd
import socket

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts.system.distribution import DistributionFactCollector
from ansible.module_utils.facts.virtual.linux import LinuxVirtualCollector

from ansible_collections.crm.platform.plugins.module_utils import host_facts as lib, nginx_sites
from ansible_collections.crm.platform.plugins.module_utils.programs import LANGUAGE


def user_name(number):
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def installed(module):
    """Versions of the installed packages, as dpkg itself knows them: it may have been killed amid its files."""
    query = module.get_bin_path("dpkg-query")
    if not query:
        return {}
    dummy, output, dummy = module.run_command([query, "--show", "--showformat", lib.PACKAGE_FORMAT])
    return lib.packages(output)


def web_server(module):
    """What serves here before the CRM does: the facts nginx_foreign and web_listeners."""
    if os.path.lexists(f"{nginx_sites.ENABLED}/{nginx_sites.OURS}"):
        return {}, {}
    nginx, sockets, query = (module.get_bin_path(name, opt_dirs=["/usr/sbin"]) for name in ("nginx", "ss", "dpkg-query"))
    listeners = nginx_sites.listeners(module.run_command([sockets, "-Hltnp"])[1]) if sockets else {}
    if not nginx:
        return {}, listeners
    rc, dump, said = module.run_command([nginx, "-T"])
    if rc != 0:
        return {"included": True, "sites": [], "said": " ".join(said.split())[:300]}, listeners
    conffiles = module.run_command([query, "--show", "--showformat", "${Conffiles}\n", "nginx*"])[1] if query else ""
    return nginx_sites.sites(dump, lib.untouched(conffiles, nginx_sites.files(dump))), listeners


def gather(module):
    ipv4, ipv6 = lib.source_address(socket.AF_INET), lib.source_address(socket.AF_INET6)
    facts = DistributionFactCollector().collect(module=module)
    facts = {name: facts[name] for name in facts if name.startswith("distribution") or name == "os_family"}
    nginx_foreign, web_listeners = web_server(module)
    facts.update(LinuxVirtualCollector().collect(module=module))
    facts.update(
        architecture=os.uname().machine,
        default_ipv4={"address": ipv4} if ipv4 else {},
        default_ipv6={"address": ipv6} if ipv6 else {},
        all_ipv6_addresses=lib.ipv6_addresses(lib.content("/proc/net/if_inet6")),
        memtotal_mb=lib.memory_mb(lib.content("/proc/meminfo")),
        processor_vcpus=lib.processors(lib.content("/proc/cpuinfo")),
        devices=lib.rotation("/sys/block"),
        packages=installed(module),
        package_lists=lib.package_lists("/var/lib/apt/lists"),
        postgresql_clusters=lib.clusters("/etc/postgresql"),
        postgresql_foreign=[name for name in lib.clusters("/etc/postgresql") if not os.path.exists(f"/etc/postgresql/{name}/{lib.OURS}")],
        postgresql_adopted=lib.adopted("/etc/postgresql"),
        nginx_foreign=nginx_foreign,
        web_listeners=web_listeners,
        crm_platform_begun=os.path.isdir(lib.SECRETS),
        user_id=user_name(os.geteuid()),
        user_uid=os.geteuid(),
        # The directory that sd_booted(3) looks for.
        service_mgr="systemd" if os.path.isdir("/run/systemd/system") else lib.content("/proc/1/comm").strip(),
    )
    return facts


def main():
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.run_command_environ_update = LANGUAGE
    module.exit_json(changed=False, ansible_facts={f"ansible_{name}": value for name, value in gather(module).items()})


if __name__ == "__main__":
    main()
