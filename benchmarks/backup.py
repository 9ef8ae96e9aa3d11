# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a full backup and a restore take beside PostgreSQL's own tools, and what the CRM's users feel of a backup.

One container with the whole platform, and CRM_BENCH_GB (2) of data that halve when compressed. Everything is in the page cache,
ours and the peer take turns, and each row is the median of 3. Throughput counts the bytes of the data directory.

- Full backup: pgBackRest as the role configures and calls it, beside `pg_basebackup` with zstd on the server, to the same file
  system. Both check the pages, wait for the log to be archived, and fsync. Ours encrypts as well. The bar is 0.8.
- Restore: the drill's call, beside `tar -I zstd -x` of the very same files. pgBackRest fsyncs each file, tar none: the bar of 0.8
  is against tar and an fsync of each file, and tar alone is shown, too.
- The CRM: reads over HTTPS at a fixed rate, with and without the unit of the full backup running all the time. A request's time
  begins when it was due, so what had to wait for its turn counts. The bar is twice the 99th percentile.

KEEP=1 leaves the container, and the next run takes it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import socket
import statistics
import sys
import tempfile
import threading
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]
import lab  # noqa: E402
import platforms  # noqa: E402
import plays  # noqa: E402
import tryton  # noqa: E402
from figures import Row, table  # noqa: E402

NAME, DOMAIN = "crm-bench-backup", "crm.example.test"
SIZE = float(os.environ.get("CRM_BENCH_GB", "2")) * 1e9
ROUNDS, RATE, WINDOW = 3, 30, 20
BIN, DATA, REPOSITORY = "/usr/lib/postgresql/15/bin", "/var/lib/postgresql/15/main", "/var/backups/crm-platform/database"
# /tmp is memory in these containers; this is beside the data directory and the repository.
PLACE = "/var/lib/postgresql/crm-bench"
AS_POSTGRES = "setpriv --reuid=postgres --regid=postgres --init-groups"
# As roles/backup/files/command/common.py calls it.
PGBACKREST = f"{AS_POSTGRES} pgbackrest --stanza=crm --log-level-console=warn"
UNIT = "crm-platform-backup-full.service"
# A kilobyte each: a third is noise, a quarter hexadecimal, the rest words. No row is long enough for PostgreSQL to compress it.
NOISE = " || ".join(f"sha512(('{letter}' || g)::bytea)" for letter in "abcde")
ROWS = f"""
SELECT g::bigint, {NOISE}, encode(sha512(('x' || g)::bytea) || sha512(('y' || g)::bytea), 'hex'),
       format('Customer %s asked on day %s for an offer of %s pieces, to be delivered to %s Street %s in the %sth district; ',
              g, g % 365, g % 977, g % 89, g % 211, g % 23) || repeat('please call back in the afternoon. ', 8)
  FROM generate_series(1, {int(SIZE / 1000)}) g
"""


def deploy(platform: platforms.Platform) -> None:
    lab.up(NAME, lab.ensure_image("debian12"), [])
    # The last thing that a run of the site writes.
    if platform.host.run("test", "-e", "/var/lib/crm-platform/backup/since.json", check=False).returncode == 0:
        return
    variables = {"foundation_domain": DOMAIN, "crm_service_admin_email": "admin@example.test", "crm_package_ca_bundle": lab.trusted_authorities()}
    with tempfile.TemporaryDirectory(prefix="crm-bench-") as folder:
        outcome = plays.run(pathlib.Path(folder), "crm.platform.site", plays.inventory(NAME, **variables))
    if outcome.rc:
        raise lab.LabError(outcome.failure or outcome.text[-3000:])


def prepare(platform: platforms.Platform) -> None:
    """Have the data, and nothing else that runs or waits: no timer, no segment of the log, no dirty page."""
    host = platform.host
    host.sh("systemctl stop 'crm-platform-backup-*.timer'; command -v zstd >/dev/null || { apt-get update -qq && apt-get install -qq zstd; } 2>&1")
    # The platform lets nobody replicate, and pg_basebackup has to.
    host.sh("cd /etc/postgresql/15/main; grep -q '^local replication' pg_hba.conf || echo 'local replication postgres peer' >>pg_hba.conf")
    host.sh(f"{AS_POSTGRES} {BIN}/pg_ctl -D {DATA} reload")
    psql = f"{AS_POSTGRES} psql -XqAt -v ON_ERROR_STOP=1 -d crm"
    host.sh(
        # Frozen as they are written: no second writing of each page later.
        f"""set -e; cd /; {psql} -c 'DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench'
        {psql} -c "COPY ({ROWS}) TO STDOUT (FORMAT binary)" |
        {psql} -1 -c 'CREATE TABLE bench.filling (id bigint, noise bytea, hex text, words text) WITH (autovacuum_enabled = off)' \\
               -c 'COPY bench.filling FROM STDIN (FORMAT binary, FREEZE)'"""
    )
    host.sh(f"{PGBACKREST} --archive-timeout=600 check; {psql} -c CHECKPOINT; mkdir -p {PLACE}; chown postgres: {PLACE}")


def timed(platform: platforms.Platform, command: str, before: str) -> float:
    """Seconds of a command, after what has to be made ready for it; nobody's writing is left over from what ran before."""
    platform.host.sh(f"set -e; cd {PLACE}; {before}; sync")
    began = time.monotonic()
    platform.host.sh(f"cd {PLACE}; {command}")
    return time.monotonic() - began


def newest(platform: platforms.Platform) -> dict:
    return json.loads(platform.host.sh(f"{PGBACKREST} --output=json info"))[0]["backup"][-1]


def speed(size: int, seconds: float) -> str:
    return f"{seconds:6.2f} s {size / seconds / 1e6:6.0f} MB/s"


def compare(what: str, size: int, ours: list[float], peer: list[float]) -> Row:
    middle, other = statistics.median(ours), statistics.median(peer)
    print(f"  {what}: ours {', '.join(f'{one:.2f}' for one in ours)} s; peer {', '.join(f'{one:.2f}' for one in peer)} s", flush=True)
    return Row(what, speed(size, middle), speed(size, other), other / middle, ">= 0.80", other / middle >= 0.8)


def saving(platform: platforms.Platform) -> Row:
    base = f"{AS_POSTGRES} {BIN}/pg_basebackup -h /var/run/postgresql -D base -Ft --compress=server-zstd:3 -X none -c fast"
    # Marks of the log's archiver come and go meanwhile.
    warm, ours, peer = f"rm -rf base; cat $(find {DATA} -type f) >/dev/null 2>&1 || true", [], []
    for dummy in range(ROUNDS):
        ours.append(timed(platform, f"{PGBACKREST} --type=full backup", warm))
        peer.append(timed(platform, base, warm))
    made = newest(platform)["info"]
    tar = int(platform.host.sh(f"stat -c %s {PLACE}/base/base.tar.zst"))
    print(
        f"  {made['size'] / 1e6:.0f} MB; {made['repository']['delta'] / 1e6:.0f} MB in the repository, {tar / 1e6:.0f} MB by pg_basebackup",
        flush=True,
    )
    return compare("full backup / pg_basebackup", made["size"], ours, peer)


def restoring(platform: platforms.Platform) -> list[Row]:
    made = newest(platform)
    size, label = made["info"]["size"], made["label"]
    again = "rm -rf scratch tree; install -d -o postgres -g postgres -m 700 scratch tree spool"
    # As roles/backup/files/command/drill.py calls it, with a spool of its own; the target only says how far the log is replayed later.
    restore = f"{PGBACKREST} --set={label} --pg1-path={PLACE}/scratch --type=immediate --target-action=promote --archive-mode=off restore"
    restore = f"PGBACKREST_SPOOL_PATH={PLACE}/spool {restore}"
    timed(platform, restore, again)
    platform.host.sh(f"cd {PLACE}; {AS_POSTGRES} tar -C scratch -I 'zstd -3' -cf scratch.tar.zst .")
    warm, ours, bare, synced = f"{again}; cat scratch.tar.zst $(find {REPOSITORY}/backup/crm/{label} -type f) >/dev/null", [], [], []
    for dummy in range(ROUNDS):
        bare.append(timed(platform, f"{AS_POSTGRES} tar -C tree -I zstd -xf scratch.tar.zst", warm))
        # Begins with the file system's queue empty, like ours.
        synced.append(timed(platform, f"{AS_POSTGRES} tar -C tree -I zstd -xf scratch.tar.zst && find tree -type f -exec sync {{}} +", warm))
        ours.append(timed(platform, restore, warm))
    rows = [compare("restore / tar -I zstd, fsync", size, ours, synced), compare("  the same / without an fsync", size, ours, bare)]
    return [rows[0], rows[1]._replace(limit="(shown only)", met=True)]


class Connection(tryton.Connection):
    """Sends at once: Nagle's algorithm would hold each body back for up to 40 ms, and hide what a backup costs."""

    def connect(self) -> None:
        super().connect()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Backups:
    """Full backups by their unit, one after the other, from before the body begins until after it has ended."""

    def __init__(self, platform: platforms.Platform) -> None:
        self.host, self.seconds, self._stopped = platform.host, [], threading.Event()
        self._thread = threading.Thread(target=self._save, daemon=True)

    def __enter__(self) -> "Backups":
        self._thread.start()
        self.host.wait_for("the backup to begin", lambda: self.host.run("pgrep", "-f", "pgbackrest.*--type=full", check=False).returncode == 0, 30)
        return self

    def __exit__(self, *dummy: t.Any) -> None:
        self._stopped.set()
        self._thread.join()

    def _save(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            self.host.run("systemctl", "start", UNIT)
            self.seconds.append(time.monotonic() - began)


def processors() -> float:
    """Seconds that all cores together have worked, for whomever: where others are at work as well, times tell little."""
    user, nice, system, dummy, dummy, *interrupts = map(int, pathlib.Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def arrivals(read: t.Callable[[], t.Any]) -> list[float]:
    """Seconds of each request from the moment at which it was due; one that fails is never answered."""

    def one(due: float) -> float:
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            read()
        except Exception as error:  # whatever it was, a user had no answer
            print(f"  {error}", flush=True)
            return math.inf
        return time.monotonic() - due

    first = time.monotonic() + 0.5
    with concurrent.futures.ThreadPoolExecutor(4 * RATE) as pool:
        return list(pool.map(one, [first + number / RATE for number in range(RATE * WINDOW)]))


def answering(platform: platforms.Platform) -> list[Row]:
    tryton.Connection = Connection
    client = platform.login()
    for number in range(20):
        client.create_party(f"Customer {number}")

    def read() -> None:
        assert len(client.call("model.party.party.search_read", [], 0, 20, None, ["name", "code", "active"], {})) == 20

    arrivals(read)
    times: dict[str, list[float]] = {"without": [], "with": []}
    used, runs = dict.fromkeys(times, 0.0), []
    for name in ROUNDS * list(times):
        with Backups(platform) if name == "with" else contextlib.nullcontext() as backups:
            began = processors()
            times[name] += arrivals(read)
            used[name] += (processors() - began) / ROUNDS / WINDOW
        runs += backups.seconds if backups else []
    print(f"  {len(runs)} backups by the unit, the files included, of {min(runs):.1f} to {max(runs):.1f} s")
    for name, taken in times.items():
        taken.sort()
        slow = f"{sum(one > 0.5 for one in taken)} took more than 0.5 s, {sum(map(math.isinf, taken))} failed, longest {taken[-1] * 1000:.0f} ms"
        print(f"  {name} a backup: {len(taken)} reads, {slow}; {used[name]:.1f} cores busy")
    rows = []
    for percent, limit in ((50, math.inf), (99, 2.0)):
        without, with_ = (taken[math.ceil(len(taken) * percent / 100) - 1] * 1000 for taken in times.values())
        text = f"<= {limit:.2f}" if limit < math.inf else "(shown only)"
        rows.append(
            Row(f"reads in a backup / none, p{percent}", f"{with_:.1f} ms", f"{without:.1f} ms", with_ / without, text, with_ <= limit * without)
        )
    return rows


def main() -> int:
    lab.ensure_engine()
    platform = platforms.Platform(NAME, DOMAIN)
    if not os.environ.get("KEEP"):
        lab.down([NAME])
    try:
        deploy(platform)
        prepare(platform)
        print(f"  load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before", flush=True)
        # The other two free gigabytes; a hypervisor that takes such memory back stops the whole machine for it, for as long as a tenth of a second.
        answered = answering(platform)
        rows = [saving(platform), *restoring(platform), *answered]
    finally:
        if not os.environ.get("KEEP"):
            lab.down([NAME])
    print(f"  load {os.getloadavg()[0]:.1f} after")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
