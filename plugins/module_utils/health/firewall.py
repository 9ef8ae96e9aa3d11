# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall: whether its table is live, and the one that was confirmed."""

from __future__ import annotations

import json
import os
import re
import subprocess

from .. import nftables as nft
from ..nftables_confirm import ROOT as WAITING
from .registry import CRITICAL, OK, WARNING, Reading, Skipped, check

RULESET, TABLE, UNIT = "/etc/crm-platform/firewall.nft", nft.Table("inet", "crm_platform"), "crm-platform-firewall.service"


def runner(host):
    def run(argv, data=None):
        done = subprocess.run(argv, input=data, capture_output=True, text=True, timeout=host.left, check=False, env=nft.environment())
        return done.returncode, done.stdout, done.stderr

    return run


def chains(text: str) -> set[str]:
    return set(re.findall(r"^\s*chain (\S+) \{", text, re.M))


def ruleset(host) -> str:
    try:
        return host.read(RULESET)
    except FileNotFoundError:
        raise Skipped("the platform's firewall is not set up on this host") from None


@check("firewall_table", "firewall", cure=f"nft monitor tells who changes it; systemctl reload {UNIT}", repair="restore_firewall")
def table(host):
    """The firewall's table is the one that was declared"""
    wanted = ruleset(host)
    run = runner(host)
    live = nft.read_live(run, TABLE)
    if not live.listing:
        return Reading(None, f"the table {TABLE} is gone: everything is open", CRITICAL)
    meant = nft.read_wanted(run, TABLE, wanted)
    if meant is None:
        # In a container. An empty table would be there, too, and let everything in; its chains are proved at least.
        gone = sorted(chains(wanted) - chains(live.listing))
        if gone:
            return Reading(None, f"the live table lacks the chains {', '.join(gone[:5])} of {RULESET}", WARNING)
        return Reading(None, "the table is there with its chains, not compared rule by rule: without the right to a network namespace it cannot be")
    if nft.comparable(meant.listing) != nft.comparable(live.listing):
        return Reading(None, f"the live table differs from {RULESET}", WARNING)
    return Reading(None, "the live table is the declared one")


@check("firewall_unit", "firewall", cure=f"systemctl enable --now {UNIT}", repair="restore_firewall")
def unit(host):
    """The firewall comes back after a reboot"""
    ruleset(host)
    state = host.run("systemctl", "is-enabled", UNIT, check=False).strip() or "not there"
    return Reading(None, f"{UNIT} is {state}", OK if state == "enabled" else CRITICAL)


@check("firewall_unconfirmed", "firewall", cure="wait until it is taken back, or run crm.platform.network again")
def unconfirmed(host):
    """No change of the firewall waits for its confirmation"""
    ruleset(host)
    names = [name for name in (os.listdir(WAITING) if os.path.isdir(WAITING) else []) if os.path.exists(os.path.join(WAITING, name, "candidate.nft"))]
    return Reading(len(names), "a change waits for its confirmation" if names else "none waits", WARNING if names else OK)


@check("firewall_bans", "firewall", "addresses", 100, 5000, "nft list table inet crm_platform shows who; a flood is for your provider", "own")
def bans(host):
    """Addresses that are shut out for a while"""
    ruleset(host)
    status, text = host.status("nft", "-j", "list", "table", TABLE.family, TABLE.name)
    if status:
        raise Skipped("there is no table, see firewall_table")
    document = json.loads(text)
    number = sum(
        len(one["set"].get("elem", ()))
        for one in document["nftables"]
        # Debian 12's nft tells in JSON not of every flag of a set.
        if "set" in one and one["set"]["name"].startswith("banned.")
    )
    host.series["bans"] = number
    return Reading(number, f"{number} addresses are shut out")
