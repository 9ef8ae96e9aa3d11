# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall: whether its table is live, and the one that was confirmed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import typing as t

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


def _words(expressions: list) -> str:
    """A rule in few words, as far as its parts are known here."""
    said = []
    for one in expressions:
        match = one.get("match")
        if match:
            left, right = match.get("left", {}), match.get("right")
            field = left.get("payload", {}).get("field") or left.get("meta", {}).get("key") or left.get("ct", {}).get("key") or "?"
            said.append(f"{field} {json.dumps(right).strip(chr(34))}")
        elif "drop" in one or "reject" in one:
            said.append("drop" if "drop" in one else "reject")
    return " ".join(said)


def _reaches(value: object, ports: t.Container[int]) -> bool:
    """Whether the right side of a match on a port holds one of these; a named set may."""
    if isinstance(value, dict):
        if "range" in value:
            return any(int(value["range"][0]) <= port <= int(value["range"][1]) for port in ports)
        return any(_reaches(one, ports) for one in value.get("set", ())) if "set" in value else False
    return value in ports if isinstance(value, int) else isinstance(value, str) and value.startswith("@")


def foreign_drops(document: dict, own: t.Container[str], ports: t.Collection[int]) -> list[str]:
    """What other tables do to packets that come in for one of our ports; rules for single senders, such as bans, are left out.

    :param document: of `nft -j list ruleset`.
    :param own: names of the platform's tables.
    """
    parts = [one for one in document["nftables"] if next(iter(one.values())).get("table", next(iter(one.values())).get("name")) not in own]
    chains_ = [one["chain"] for one in parts if "chain" in one]
    inward = {(one["family"], one["table"]) for one in chains_ if one.get("hook") in ("ingress", "prerouting", "input")}
    found = []
    for one in chains_:
        if one.get("hook") in ("ingress", "prerouting", "input") and one.get("policy") == "drop":
            found.append(f"table {one['family']} {one['table']}: the policy of chain {one['name']} is drop")
    for rule in (one["rule"] for one in parts if "rule" in one):
        expressions = rule.get("expr", [])
        if (rule["family"], rule["table"]) not in inward or not any("drop" in one or "reject" in one for one in expressions):
            continue
        matches = [one["match"] for one in expressions if "match" in one]
        fields = [match.get("left", {}).get("payload", {}).get("field") for match in matches]
        ports_of = [match["right"] for match, field in zip(matches, fields) if field == "dport"]
        single = any(field in ("saddr", "ether") for field in fields) or any("ct" in match.get("left", {}) for match in matches)
        narrow = any(match.get("left", {}).get("meta", {}).get("key") not in ("iif", "iifname") for match in matches)
        if single or ports_of and not any(_reaches(right, ports) for right in ports_of) or not ports_of and narrow:
            continue
        found.append(f"table {rule['family']} {rule['table']}: chain {rule['chain']}: {_words(expressions)}")
    return found


@check(
    "firewall_foreign",
    "firewall",
    cure="nft -a list ruleset shows the rule and whose table it is; nft delete rule ..., or take it out where it is declared",
    source="own",
)
def foreign(host):
    """No other table keeps the users of the CRM out"""
    if not host.options.get("crm"):
        raise Skipped("the CRM does not run on this host")
    status, text = host.status("nft", "-j", "list", "ruleset")
    if status:
        raise Skipped("nft does not tell its rules")
    found = foreign_drops(json.loads(text), (TABLE.name, "crm_platform_qos"), (80, 443))
    return Reading(len(found), "; ".join(found) or "no other table drops what comes in for the CRM", WARNING if found else OK)


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
