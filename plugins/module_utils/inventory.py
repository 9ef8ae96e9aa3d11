# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an inventory has a host for a playbook, and whether its variables are read. Pure."""

from __future__ import annotations

import difflib
import fnmatch
import typing as t

GROUPS = ("crm_database", "crm_app", "crm_package", "crm_backup", "crm_router", "crm_monitor")
# Ansible's own, in every inventory.
BUILT_IN = ("all", "ungrouped")


def problem(groups: dict[str, t.Sequence[str]], wanted: t.Sequence[str], limit: t.Sequence[str] | None = None) -> str:
    """One line that names the groups that were looked for and those of the inventory; '' where one of them holds a host.

    :param groups: hosts by group, as in Ansible's variable ``groups``.
    :param wanted: groups, one of which has to hold a host; none stands for each group of the platform.
    :param limit: hosts that ``--limit`` leaves; None without it.
    """
    wanted = wanted or GROUPS
    hosts = {host for group in wanted for host in groups.get(group, ())}
    if limit is not None and hosts:
        if hosts & set(limit):
            return ""
        return (
            f"--limit leaves no host of {listed(wanted)}, on which this playbook works; the inventory has {', '.join(sorted(hosts))}. "
            "Name one of them, or leave --limit out"
        )
    if hosts:
        return ""
    there = [group for group in groups if group not in BUILT_IN]
    if not any(groups.get(group) for group in ("all", *there)):
        return f"The inventory has no host; this playbook needs one in {listed(wanted)}. Check the path after -i, such as inventories/single"
    near = [
        f"{group} (misspelt {match[0]}?)"
        for group in there
        if group not in GROUPS and (match := difflib.get_close_matches(group, GROUPS, 1, 0.7) or [name for name in GROUPS if group.startswith(name)])
    ]
    known = [group for group in there if not any(one.startswith(f"{group} ") for one in near)]
    return (
        f"The inventory has no host in {listed(wanted)}; its groups are {', '.join(near + sorted(known)) or 'none'}. "
        "Put a host into one of the groups that this playbook needs"
    )


def listed(names: t.Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def unknown_variables(names: t.Iterable[str], known: t.Collection[str], passed: t.Sequence[str] = ()) -> str:
    """One line that names each variable that no role reads, with the nearest one that is read; '' where there is none.

    :param passed: patterns of variables that belong to something else of the same inventory.
    """
    for pattern in passed:
        if not pattern.strip("*?"):
            return f"foundation_foreign_variables: {pattern!r} passes every variable; name the beginning at least, such as backup_user or firewall_allowed_*"
    hidden = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in passed)]
    if hidden:
        return f"foundation_foreign_variables: its patterns match {', '.join(sorted(hidden)[:3])}, which the platform reads; write them narrower"
    unknown = [name for name in sorted(set(names) - set(known)) if not any(fnmatch.fnmatchcase(name, pattern) for pattern in passed)]
    if not unknown:
        return ""
    near = {name: difflib.get_close_matches(name, sorted(known), 1, 0.7) for name in unknown}
    said = ", ".join(f"{name} ({near[name][0]}?)" if near[name] else name for name in unknown)
    return (
        f"Unknown option {said}: no role of crm.platform reads it. Correct the name, or remove it;"
        f" where it belongs to something else of this inventory, list it in foundation_foreign_variables: [{', '.join(unknown)}]"
    )
