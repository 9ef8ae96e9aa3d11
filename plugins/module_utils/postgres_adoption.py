# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL cluster that was there before this platform: what is in it, and which of its rules stay. Pure."""

from __future__ import annotations

import typing as t

# What every cluster has.
OWN_DATABASES = ("postgres", "template0", "template1")
# As pg_createcluster writes them: type, database, user, address. Ours take their place.
STOCK = {
    ("local", "all", "postgres", ""),
    ("local", "all", "all", ""),
    ("host", "all", "all", "127.0.0.1/32"),
    ("host", "all", "all", "::1/128"),
    ("local", "replication", "all", ""),
    ("host", "replication", "all", "127.0.0.1/32"),
    ("host", "replication", "all", "::1/128"),
}
STOCK_METHODS = ("peer", "scram-sha-256", "md5")


def lines(text: str) -> list[str]:
    """The lines of a pg_hba.conf or pg_ident.conf, without comments."""
    return [" ".join(words) for words in (line.split("#", 1)[0].split() for line in text.splitlines()) if words]


def rules(text: str) -> list[str]:
    """The lines that somebody has added to what pg_createcluster writes."""
    found = []
    for line in lines(text):
        words = line.split()
        address = words[3] if words[0] != "local" and len(words) > 3 else ""
        if tuple(words[:3]) + (address,) not in STOCK or words[-1] not in STOCK_METHODS:
            found.append(line)
    return found


def contents(text: str) -> dict[str, t.Any]:
    """What the look at a cluster printed: `databases`, `checksums`, `rules`, `maps`; no checksums where the server did not answer.

    :param text: lines of a kind, a blank and what was found: database, checksums, rule, map.
    """
    found: dict[str, t.Any] = {"databases": [], "checksums": "", "rules": [], "maps": []}
    for line in text.splitlines():
        kind, dummy, rest = line.partition(" ")
        if kind == "database" and rest not in OWN_DATABASES:
            found["databases"].append(rest)
        elif kind == "checksums":
            found["checksums"] = rest
        elif kind == "rule":
            found["rules"] += rules(rest)
        elif kind == "map":
            found["maps"] += rules(rest)
    return found


def problem(cluster: str, text: str, adopt: bool, mine: t.Sequence[str] = ()) -> str:
    """Why a cluster of somebody else's is not taken; '' where it is empty, or adopted.

    :param cluster: such as 15/main.
    :param mine: databases of this platform, which a run that was cut off may have made.
    """
    found = contents(text)
    others = [name for name in found["databases"] if name not in mine]
    if not found["checksums"]:
        return f"PostgreSQL {cluster} was here before this platform and does not answer, so what is in it is not known: start it, or drop the cluster"
    held = [f"the databases {', '.join(others)}"] if others else []
    held += [f"the rules {'; '.join(found['rules'] + found['maps'])}"] if found["rules"] or found["maps"] else []
    if not held:
        return ""
    if not adopt:
        return (
            f"PostgreSQL {cluster} was here before this platform and holds {' and '.join(held)}: choose another host, or set database_adopt=true"
            " to take it over, which keeps databases and rules, sets the server's settings and restarts it"
        )
    if found["checksums"] != "on":
        return (
            f"PostgreSQL {cluster} has no data checksums, without which damage is not found: stop it, run `pg_checksums --enable` on its data"
            " directory, start it, and run again"
        )
    return ""
