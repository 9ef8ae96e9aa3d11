# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A ruleset that is taken back by the host itself unless it is confirmed in time.

What is confirmed is the file that boot loads. A change waits in a directory
below /run, which a reboot empties, and a timer of systemd loads the confirmed
file over it. Who renames the candidate first has it: the confirmation, or the
timer. Where a change came to is in the state file, for people and for the
next run. Commands go through ``run``, as in nftables.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import time
import typing as t

from .nftables import NftError, Table, check, comparable, complaint, read_live, restore_statements, statements

# Root's alone: a service's runtime directory would be its user's, and go when it stops.
ROOT = "/run/crm-platform-firewall"
SHORTEST, LONGEST = 5, 3600
CONFIRMED, WAITING, ROLLED_BACK = "confirmed", "waiting", "rolled_back"
# The directory of the change and the state file; runs with no help but the shell's and nft's.
ROLLBACK = """
cd "$1" && mv candidate.nft taken-back.nft || exit 0
nft -f rollback.nft || nft -f fallback.nft || exit
mkdir -p "${2%/*}" &&
printf 'state=rolled_back\\nsince=%s\\ntoken=%s\\nwhy=%s\\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$3" "nobody confirmed the change within $4 s" > "$2.new" &&
mv "$2.new" "$2"
"""


class Waiting(t.NamedTuple):
    """A change that is live and not confirmed."""

    unit: str
    token: str
    deadline: float  # of the monotonic clock
    timeout: int
    connection: str  # over which it was applied, '' where that cannot be told
    digest: str  # of the table as it was listed after it was loaded

    def left(self, now: float) -> int:
        return max(0, math.ceil(self.deadline - now))


def check_timeout(seconds: int) -> None:
    if seconds and not SHORTEST <= seconds <= LONGEST:
        raise NftError(f"confirm_timeout: {seconds} is not allowed; give {SHORTEST} to {LONGEST} seconds, or 0 to apply without a way back")


def digest(listing: str) -> str:
    return hashlib.sha256(comparable(listing).encode()).hexdigest()


def connection_id(pid: int | None = None, proc: str = "/proc") -> str:
    """The sshd processes above this one: alike in two calls that share a connection, '' where there is none."""
    found, pid = [], pid or os.getpid()
    while pid > 1:
        try:
            with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as stream:
                text = stream.read()
        except OSError:
            break
        name, dummy, rest = text[text.index("(") + 1 :].rpartition(")")
        fields = rest.split()
        if name.startswith("sshd"):
            found.append(f"{pid}:{fields[19]}")
        pid = int(fields[1])
    return " ".join(found)


class Change:
    """The change of one table: armed, confirmed, or found waiting."""

    def __init__(self, run: t.Callable, table: Table, path: str, state_file: str, root: str = ROOT) -> None:
        self.run, self.table, self.path, self.state_file = run, table, path, state_file
        name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{table.family}_{table.name}")
        self.place, self.unit = os.path.join(root, name), f"nftables-rollback-{name}"

    def file(self, name: str) -> str:
        return os.path.join(self.place, name)

    # What there is

    def confirmed(self) -> str | None:
        """The ruleset that boot loads; None before the first."""
        try:
            with open(self.path, encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def state(self) -> dict[str, str]:
        """What the state file says: state, since, token, why; empty where there is none."""
        try:
            with open(self.state_file, encoding="utf-8") as stream:
                return dict(line.rstrip("\n").split("=", 1) for line in stream if "=" in line)
        except OSError:
            return {}

    def waiting(self, patience: float = 10) -> Waiting | None:
        """The change that waits. One whose timer is gone waits no more; one that is being taken back is waited for."""
        end = time.monotonic() + patience
        while os.path.isdir(self.place) and (os.path.exists(self.file("candidate.nft")) or self.active("service")):
            if self.active("timer"):
                try:
                    with open(self.file("waiting.json"), encoding="utf-8") as stream:
                        return Waiting(**json.load(stream))
                except (OSError, ValueError, TypeError):
                    return Waiting(self.unit, "", time.monotonic(), 0, "", "")
            if not self.active("service") or time.monotonic() > end:
                break
            time.sleep(0.1)
        return None

    def active(self, kind: str) -> bool:
        rc, out, dummy = self.run(["systemctl", "show", "--property=ActiveState", "--value", f"{self.unit}.{kind}"])
        return rc == 0 and out.strip() in ("active", "activating", "deactivating")

    def refuse_another(self) -> None:
        waiting = self.waiting()
        if waiting:
            raise NftError(
                f"table: {self.table}: a change waits for its confirmation, and {waiting.unit}.timer takes it back in"
                f" {waiting.left(time.monotonic())} s; run again after that, or now after `systemctl start {waiting.unit}.service`"
            )

    def note_lost(self) -> None:
        """A change that waited and is no more: a reboot has ended it, before the unit that says so was there."""
        state = self.state()
        if state.get("state") == WAITING and self.waiting() is None:
            self.say(ROLLED_BACK, state.get("token", ""), "the host was started anew, or the timer stopped, before the change was confirmed")

    # What is done

    def rollback(self) -> tuple[str, str]:
        """(what takes the table back to what is confirmed, the same without the contents of dynamic sets)."""
        rc, live, dummy = self.run(["nft", "list", "table", self.table.family, self.table.name])
        live = live if rc == 0 else ""
        text = self.confirmed()
        if text is None and not live:
            return statements(self.table), statements(self.table)
        if text is not None:
            plain = statements(self.table) + text
            kept = plain + "\n" + restore_statements(self.table, live, live)
            for one in (kept, plain):
                with contextlib.suppress(NftError):
                    check(self.run, one)
                    return one, plain
        # No file, or one that was spoilt by hand: what is live lets us in at least.
        plain = statements(self.table) + live
        check(self.run, plain)
        return plain, plain

    def arm(self, content: str, timeout: int, token: str) -> Waiting:
        """Have the host take the change back after that many seconds. The change itself comes after."""
        kept, plain = self.rollback()
        os.makedirs(os.path.dirname(self.place), mode=0o700, exist_ok=True)
        os.makedirs(self.place, mode=0o700, exist_ok=True)
        waiting = Waiting(self.unit, token, time.monotonic() + timeout, timeout, connection_id(), "")
        for name, text in (("rollback.sh", ROLLBACK), ("rollback.nft", kept), ("fallback.nft", plain), ("candidate.nft", content)):
            write(self.file(name), text)
        self.note(waiting)
        self.say(WAITING, token, f"{self.unit}.timer takes the change back {timeout} s after this")
        self.stop()
        argv = ["systemd-run", "--quiet", "--collect", f"--unit={self.unit}", f"--on-active={timeout}s", "--timer-property=AccuracySec=100ms"]
        argv += ["--property=Type=oneshot", f"--description=Take back the unconfirmed change of the table {self.table}"]
        argv += ["/bin/sh", self.file("rollback.sh"), self.place, self.state_file, token, str(timeout)]
        rc, dummy, err = self.run(argv)
        if rc != 0:
            self.forget()
            raise NftError(
                f"confirm_timeout: systemd does not arm the way back of table {self.table} ({complaint(err)}); nothing was changed."
                " Boot the host with systemd, or give 0 to apply without a way back"
            )
        return waiting

    def applied(self, waiting: Waiting, listing: str = "") -> None:
        """Note how the kernel lists it, so that nothing else is confirmed."""
        self.note(waiting._replace(digest=digest(listing or read_live(self.run, self.table).listing)))

    def note(self, waiting: Waiting) -> None:
        write(self.file("waiting.json"), json.dumps(waiting._asdict()))

    def disarm(self, why: str, token: str) -> None:
        """The change did not come about, or needs no confirmation."""
        self.claim()
        self.stop()
        self.say(CONFIRMED, token, why)
        self.forget()

    def claim(self) -> bool:
        """Have the candidate; False where the timer was first."""
        try:
            os.rename(self.file("candidate.nft"), self.file("confirmed.nft"))
            return True
        except FileNotFoundError:
            return False

    def stop(self) -> None:
        self.run(["systemctl", "stop", f"{self.unit}.timer"])

    def forget(self) -> None:
        for name in ("candidate.nft", "confirmed.nft", "rollback.nft", "fallback.nft", "rollback.sh", "waiting.json", "taken-back.nft"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.file(name))
        with contextlib.suppress(OSError):
            os.rmdir(self.place)

    def say(self, state: str, token: str, why: str) -> None:
        os.makedirs(os.path.dirname(self.state_file), mode=0o755, exist_ok=True)
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write(self.state_file, f"state={state}\nsince={since}\ntoken={token}\nwhy={why}\n")

    def may_confirm(self, token: str, fresh: bool) -> Waiting | None:
        """What waits, if it is this that may be confirmed now; None where it was before."""
        waiting, state = self.waiting(), self.state()
        if waiting is None:
            if not token or (state.get("state"), state.get("token")) == (CONFIRMED, token):
                return None
            if state.get("token") != token:
                raise Unknown(f"table: {self.table}: there is no such change to be confirmed; see {self.state_file}")
            raise TakenBack(f"table: {self.table}: the change was taken back: {state.get('why')}")
        if token and waiting.token != token:
            raise NftError(f"table: {self.table}: another change waits than the one to be confirmed; see {self.state_file}")
        if fresh and waiting.connection and waiting.connection == connection_id():
            raise SameConnection(
                f"table: {self.table}: the confirmation came over the connection that applied the change, which proves nothing;"
                " let Ansible reset it; or set ControlMaster=no in ssh_args, with Ansible's address in firewall_controllers,"
                " since each task is a new connection then, which the limit on ssh counts"
            )
        if waiting.digest != digest(read_live(self.run, self.table).listing):
            raise NftError(
                f"table: {self.table}: what is live is not what waits for confirmation; {waiting.unit}.timer takes it back in"
                f" {waiting.left(time.monotonic())} s, run again after that"
            )
        return waiting


class TakenBack(NftError):
    """Too late: the host went back to what was confirmed."""


class Unknown(NftError):
    """A change that this host never saw."""


class SameConnection(NftError):
    """The confirmation has not shown that the host can still be reached."""


def write(path: str, text: str) -> None:
    """All or nothing, and on the disk: a reboot may come at any time."""
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(f"{path}.new", path)
