# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backups of a deployed server, as its own command tells them."""

from __future__ import annotations

import json

COMMAND = "crm-platform-backup"
PHRASE = "a passphrase of the tests"
REPOSITORY = "/var/backups/crm-platform"
DATA = "/var/lib/postgresql/15/main"

# The timers are active and do not fire: a copy of a server that was shut down would make up for what it has missed, in the middle of a test.
QUIET = """
for name in full diff incr drill verify attachments; do
  [ -e /etc/systemd/system/crm-platform-backup-$name.timer ] || continue
  mkdir -p /run/systemd/system/crm-platform-backup-$name.timer.d
  printf '[Timer]\\nOnCalendar=\\nOnCalendar=yearly\\nPersistent=false\\n' > /run/systemd/system/crm-platform-backup-$name.timer.d/quiet.conf
done
systemctl daemon-reload
systemctl try-restart 'crm-platform-backup-*.timer'
"""


def command(server, *words, check=True):
    """What the command says in its last line, and whether it succeeded."""
    done = server.host.run(COMMAND, *words, check=False)
    said = json.loads(done.stdout.splitlines()[-1])
    if check:
        assert done.returncode == 0, said
    return said


def state(server):
    return command(server, "status")


def health(server, check):
    """One check of the health check's area backup."""
    found = json.loads(server.host.run("crm-platform-health", "--area", "backup", "--json", "--no-write", check=False).stdout)["results"]
    return next(one for one in found if one["id"] == check)


def problems(server):
    return {one["check"] for one in state(server)["problems"]}


def problems_kept(server):
    """As the state file tells them, which whoever watches reads."""
    return {one["check"] for one in json.loads(server.host.read("/var/lib/crm-platform/backup/state.json"))["problems"]}


def now(server):
    return server.platform.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")


def parties(server):
    return int(server.platform.sql("SELECT count(*) FROM party_party"))
