# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm-platform-backup: saves the platform on this host, proves it by restoring, and tells how it stands.

The role backup of crm.platform installs and configures it (/etc/crm-platform/backup.json). Every command needs root,
prints one JSON object as its last line, and ends with 0 where it succeeded.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

import aside
import attachments
import bring_back
import common
import drill
import follow
import look
import records
import rules
import save


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="crm-platform-backup", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser("setup", help="have repository, key and first backup; what is there stays")
    setup.add_argument("--check", action="store_true", help="only say what is missing")
    setup.add_argument("--base", action="store_true", help="only directories and keys")
    backup = commands.add_parser("backup", help="save the database and the files")
    backup.add_argument("kind", choices=list(rules.KINDS))
    commands.add_parser("status", help="look at everything and write the state file")
    commands.add_parser("drill", help="restore the newest backup beside the live database, and prove it")
    examine = commands.add_parser("examine", help="look through a copy of the cluster as the drill does; it has to be shut down")
    examine.add_argument("directory")
    commands.add_parser("verify", help="read the whole repository and compare its checksums")
    segment = commands.add_parser("set-aside", help="take a damaged segment of the log out of the repository, once a later full set is there")
    segment.add_argument("segment", help="its name, as the verification tells it")
    commands.add_parser("attachments", help="count the attachments of the CRM, and name those that have no file")
    commands.add_parser("follow", help="save the files where attachments came since they were saved last")
    restore = commands.add_parser("restore", help="bring the database back to an earlier state")
    restore.add_argument("--confirm", default="", help="name of the database, as proof that this is meant")
    restore.add_argument("--set", dest="label", default="", help="label of a set; without a target the state at its end")
    restore.add_argument("--time", default="", help="the last moment that is brought back, with its zone")
    restore.add_argument("--lsn", default="", help="the last position in the log that is brought back")
    restore.add_argument("--name", default="", help="a point made with pg_create_restore_point()")
    restore.add_argument("--repository", type=int, choices=(1, 2), default=1, help="2 restores from the second repository")
    restore.add_argument("--timeline", type=int, default=0, help="follow this timeline instead of the newest")
    restore.add_argument("--no-safety-backup", action="store_true", help="do not save what is there first")
    restore.add_argument("--in-place", action="store_true", help="write over the data directory instead of keeping it: needs no room")
    restore.add_argument("--files", action="store_true", help="bring back attachments that are missing, too")
    restore.add_argument("--new-cluster", action="store_true", help="the cluster here was made by a rebuild and holds nothing")
    restore.add_argument("--check", action="store_true", help="only say what would be done")
    restore.add_argument("--detach", action="store_true", help="do not wait for its end; `journalctl -f -t crm-platform-backup` shows it")
    restore.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    recover = commands.add_parser("recover", help="after a restore that was killed: what was live before is live again")
    recover.add_argument("--quiet", action="store_true", help="print no result: where it follows a restore, the last line is that one's")
    commands.add_parser("undo", help="put the data directory back that a restore replaced")
    commands.add_parser("forget", help="remove the data directory that a restore replaced")
    files = commands.add_parser("files", help="bring the newest files back: all of this host, or what is below a path")
    files.add_argument("--path", default="", help="of attachments those that are missing come back, of anything else all")
    files.add_argument("--repository", type=int, choices=(1, 2), default=1, help="2 takes attachments from the second repository")
    hand_out = commands.add_parser("hand-out", help="on a repository's host: the key of a client's files; it is printed")
    hand_out.add_argument("client")
    hand_out.add_argument("--pki", action="store_true", help="and the certificates that it had saved")
    commands.add_parser("expire", help="remove at once what the retention does not keep")
    commands.add_parser("tidy", help="remove what a killed drill left")
    commands.add_parser("exported", help="remember that the repository's key was exported")
    return parser.parse_args()


def bring_files_back(config: dict, path: str, repository: int) -> dict:
    if path and attachments.within(config, path) and not common.keeps_for_others(config):
        return attachments.bring_back(config, path, repository)
    if repository == 2:
        raise rules.BackupError(f"the second repository gives attachments only: --path={config['attachments']}")
    return save.restore_files(config, path)


def stopped(number: int, dummy) -> None:
    """A stopped unit is an interrupted run: what was begun is cleaned up."""
    raise rules.BackupError(f"stopped by {signal.Signals(number).name}")


def say_next(config: dict) -> None:
    """Where the sets are another host's to make, what is live now is in none of them yet. The playbooks have it done."""
    if common.kept_elsewhere(config):
        common.say(f"now a backup has to be taken on {config['peer']['host']}, which this host cannot: crm-platform-backup backup incr")


def main() -> int:
    chosen = arguments()
    try:
        config = common.read_config()
        signal.signal(signal.SIGTERM, stopped)
        if chosen.command == "status":
            save.take_over(config)
            save.catch_up_second(config)
            look.wake_archiver(config)
            drill.tidy(config)
            # Left by a reboot.
            bring_back.recover(config)
            result = look.write(config)
        elif chosen.command == "setup":
            result = save.setup(config, chosen.check, chosen.base)
        elif chosen.command == "backup":
            result = save.backup(config, chosen.kind)
        elif chosen.command == "verify":
            result = save.verify(config)
        elif chosen.command == "drill":
            result = drill.drill(config)
        elif chosen.command == "set-aside":
            result = aside.set_aside(config, chosen.segment)
        elif chosen.command == "attachments":
            found = records.look_through(config)
            result = {"attachments": found, "message": records.told(found)}
        elif chosen.command == "follow":
            result = follow.follow(config)
        elif chosen.command == "expire":
            result = save.expire_now(config)
        elif chosen.command == "tidy":
            result = drill.tidy(config)
        elif chosen.command == "examine":
            result = drill.examine(config, chosen.directory)
        elif chosen.command == "restore":
            if not chosen.here:
                bring_back.refuse_second(config)
            if not (chosen.check or chosen.here):
                return bring_back.as_unit(sys.argv[1:], chosen.detach)
            result = bring_back.restore(config, chosen)
            if not chosen.check:
                say_next(config)
        elif chosen.command == "recover":
            result = bring_back.recover(config)
        elif chosen.command == "undo":
            result = bring_back.undo(config)
            say_next(config)
        elif chosen.command == "forget":
            result = bring_back.forget(config)
        elif chosen.command == "files":
            result = bring_files_back(config, chosen.path, chosen.repository)
        elif chosen.command == "hand-out":
            result = save.hand_out(config, chosen.client, chosen.pki)
        else:
            result = save.exported(config)
    except (rules.BackupError, OSError) as exc:
        print(f"crm-platform-backup: {exc}", file=sys.stderr)
        print(json.dumps({"failed": True, "error": str(exc)}))
        return 1
    if not getattr(chosen, "quiet", False):
        print(json.dumps(result))
    return 1 if result.get("failed") else 0


if __name__ == "__main__":
    sys.exit(main())
