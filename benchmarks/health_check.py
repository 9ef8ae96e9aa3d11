# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What looking at a host's health takes, of time and of the database, beside check_postgres doing its share of the same checks.

One container with the whole platform, and CRM_BENCH_TABLES (2,000) tables of 200 rows with three indexes each in the CRM's database. Both
run on the host, by turns, and each row is the median of 5. Ours is the module in a process of its own, as Ansible calls it, without
the way to the host; it logs in to the CRM, asks apt, and so on.

- All checks of the host: the bar is 2 s of wall.
- The database's time: the processor time of the server's processes that end with the run (user and system, from the postmaster's account
  of its children), so what connecting and planning take counts, too. The timer looks every 5 minutes; the share is of one core in these
  5 minutes, however idle the others are. The bar is 1 %. The sum of the statements' times by pg_stat_statements is shown beside it.
- check_postgres makes one process and one connection a check, so it is compared with our area of the database, in time and in the
  database's time, for as many checks as it has.
- A service that hangs: the CRM's web process, nginx, or all of PostgreSQL is stopped as it is (SIGSTOP), or a table is locked by
  somebody who does not go on. The bar is what a look takes without, and one time limit more.

KEEP=1 leaves the container, and the next run takes it.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]
import hosts  # noqa: E402
import lab  # noqa: E402
import platforms  # noqa: E402
import plays  # noqa: E402
from figures import Row, table  # noqa: E402

NAME, DOMAIN = "crm-bench-health", "crm.example.test"
TABLES = int(os.environ.get("CRM_BENCH_TABLES", "2000"))
ROUNDS, INTERVAL, LIMIT = 5, 300, 5
# What check_postgres has of our checks, by its actions.
ACTIONS = (
    "connection",
    "backends",
    "txn_idle",
    "query_time",
    "locks",
    "txn_wraparound",
    "autovac_freeze",
    "archive_ready",
    "wal_files",
    "hitratio",
    "commitratio",
    "last_analyze",
    "bloat",
    "sequence",
    "prepared_txns",
    "disabled_triggers",
)
# How to make it hang and go on, and how many services hang: the CRM waits for its database.
HANGS = {
    "the CRM's web processes stopped": ("systemctl kill -s STOP crm-platform.service", "systemctl kill -s CONT crm-platform.service"),
    "nginx stopped": ("systemctl kill -s STOP nginx.service", "systemctl kill -s CONT nginx.service"),
    "PostgreSQL stopped": ("systemctl kill -s STOP postgresql@15-main.service", "systemctl kill -s CONT postgresql@15-main.service"),
    "a table locked by somebody": (
        "systemd-run --quiet --unit=bench-lock runuser -u postgres -- psql -Xd crm -c"
        " 'BEGIN; LOCK bench.t1 IN ACCESS EXCLUSIVE MODE; REINDEX TABLE bench.t1; SELECT pg_sleep(600)'; sleep 2",
        "systemctl stop bench-lock.service",
    ),
}
# On the host: our module and check_postgres by turns, as root, who is postgres in the database.
TIMED = """
CALL = (
    "import sys; from ansible.module_utils import basic; basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), 'legacy'; "
    "from ansible_collections.crm.platform.plugins.modules import health_check; health_check.main()"
)
import json, os, subprocess, sys, time
options, actions, rounds = json.load(open("/root/options.json")), json.loads(sys.argv[1]), int(sys.argv[2])
master = int(open("/var/lib/postgresql/15/main/postmaster.pid").readline())
def used():
    # User and system time of its children that have ended.
    fields = open(f"/proc/{master}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
def timed(action):
    before, began = used(), time.monotonic()
    said = action()
    took = time.monotonic() - began
    time.sleep(0.3)
    return {"wall": took, "database": used() - before, "said": said}
def module(**more):
    given = {"ANSIBLE_MODULE_ARGS": {**options, **more}}
    done = subprocess.run([sys.executable, "-c", CALL], input=json.dumps(given), text=True, capture_output=True, cwd="/root/tree")
    said = json.loads(done.stdout or json.dumps({"failed": done.stderr}))
    assert not said.get("failed"), said
    return said
def peer():
    ended = {}
    for name in actions:
        words = ["check_postgres", f"--action={name}", "--host=/var/run/postgresql", "--dbname=crm", "--dbuser=postgres", "--timeout=30"]
        ended[name] = subprocess.run(words, capture_output=True, text=True).returncode
    return ended
cases = {"all": module, "database": lambda: module(areas=["database"])}
if actions:
    cases["check_postgres"] = peer
found = {name: [] for name in cases}
for count in range(rounds):
    for name, action in cases.items():
        found[name].append(timed(action))
print(json.dumps(found))
"""


def deploy(platform: platforms.Platform) -> None:
    lab.up(NAME, lab.ensure_image("debian12"), [])
    # The last thing that a run of the site writes.
    if platform.host.run("test", "-e", "/var/lib/crm-platform/backup/since.json", check=False).returncode:
        variables = {"foundation_domain": DOMAIN, "crm_service_admin_email": "admin@example.test", "crm_package_ca_bundle": lab.trusted_authorities()}
        with tempfile.TemporaryDirectory(prefix="crm-bench-") as folder:
            outcome = plays.run(pathlib.Path(folder), "crm.platform.site", plays.inventory(NAME, **variables))
        if outcome.rc:
            raise lab.LabError(outcome.failure or outcome.text[-3000:])
    platform.host.sh(
        "command -v check_postgres >/dev/null || { apt-get update -qq && apt-get install -qq --no-install-recommends check-postgres; } 2>&1"
    )


def fill(platform: platforms.Platform) -> None:
    statements = "".join(
        f"CREATE TABLE bench.t{n} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b text);\n"
        f"INSERT INTO bench.t{n} (a, b) SELECT g % 10, 'row ' || g FROM generate_series(1, 200) g;\n"
        f"CREATE INDEX ON bench.t{n} (a); CREATE INDEX ON bench.t{n} (b);\n"
        for n in range(1, TABLES + 1)
    )
    script = f"DROP SCHEMA IF EXISTS bench CASCADE;\nCREATE SCHEMA bench;\nSET synchronous_commit = off;\n{statements}ANALYZE;\n"
    # To drop so many takes a lock on each.
    if platform.sql("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'bench' AND relkind = 'r'") != str(
        TABLES
    ):
        hosts.engine("exec", "-i", NAME, "runuser", "-u", "postgres", "--", "psql", "-qXd", "crm", "-v", "ON_ERROR_STOP=1", input=script)


def carry(platform: platforms.Platform) -> None:
    """The module and what it imports to the host, and its options as the role gives them."""
    import ansible.module_utils

    host = platform.host
    host.sh("rm -rf /root/tree; mkdir -p /root/tree/ansible /root/tree/ansible_collections/crm/platform/plugins/modules")
    hosts.engine("cp", str(pathlib.Path(ansible.module_utils.__path__[0])), f"{NAME}:/root/tree/ansible/")
    host.write("/root/tree/ansible/__init__.py", "")
    target = "/root/tree/ansible_collections/crm/platform/plugins"
    hosts.engine("cp", str(ROOT / "plugins" / "module_utils"), f"{NAME}:{target}/")
    hosts.engine("cp", str(ROOT / "plugins" / "modules" / "health_check.py"), f"{NAME}:{target}/modules/")
    options = {
        "login_db": "crm",
        "login_unix_socket": "/var/run/postgresql",
        "time_limit": LIMIT,
        "crm": {"url": f"https://{DOMAIN}", "ca": "/etc/crm-platform/pki/ca.crt", "password_file": "/etc/crm-platform/secrets/admin_password"},
        "history": "/var/lib/crm-platform/health/bench.json",
    }
    host.write("/root/options.json", json.dumps(options))
    host.write("/root/timed.py", TIMED)


def look(platform: platforms.Platform, rounds: int, *actions: str) -> dict:
    return json.loads(platform.host.run("python3", "/root/timed.py", json.dumps(actions), str(rounds)).stdout)


def middle(found: list[dict], what: str) -> float:
    return statistics.median(one[what] for one in found)


def looking(platform: platforms.Platform) -> tuple[list[Row], float]:
    look(platform, 1)
    platform.sql("SELECT pg_stat_statements_reset()")
    # Only ours and this: the CRM has a role of its own.
    found = look(platform, ROUNDS)
    statements = float(
        platform.sql("SELECT sum(total_exec_time) / 1000 FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid WHERE rolname = 'postgres'")
    )
    beside = look(platform, ROUNDS, *ACTIONS)
    both = [*found["all"], *beside["all"]]
    wall, used = middle(both, "wall"), statistics.mean(one["database"] for one in both)
    ours, peer = beside["database"], beside["check_postgres"]
    results = both[-1]["said"]["results"]
    slowest = sorted(results, key=lambda one: -one["seconds"])[:8]
    print("  the slowest: " + ", ".join(f"{one['id']} {1000 * one['seconds']:.0f} ms" for one in slowest))
    print("  not ok: " + ", ".join(f"{one['id']} {one['status']}" for one in results if one["status"] not in ("ok", "skipped")))
    print(f"  {both[-1]['said']['summary']}")
    checks = len(ours[-1]["said"]["results"])
    # Half of these runs were of the area of the database alone; its statements are all but those of a few checks.
    share, part = used / INTERVAL, statements / (2 * ROUNDS)
    unknown = [name for name, code in peer[-1]["said"].items() if code == 3]
    print(f"  check_postgres: {len(ACTIONS)} checks{', not known: ' + ', '.join(unknown) if unknown else ''}")
    fair = middle(ours, "wall") / checks
    fair_peer = middle(peer, "wall") / len(ACTIONS)
    mine, theirs = (statistics.mean(one["database"] for one in runs) for runs in (ours, peer))
    rows = [
        Row(f"all {len(results)} checks of the host", f"{wall:.2f} s", "2.00 s", wall / 2, "<= 1.00", wall <= 2),
        Row("share of a core of the database, 5 minutes", f"{1000 * used:.0f} ms {100 * share:.3f} %", "1 %", 100 * share, "<= 1.00", share <= 0.01),
        Row(
            "  statements alone, by pg_stat_statements",
            f"{1000 * part:.0f} ms {100 * part / INTERVAL:.3f} %",
            "1 %",
            100 * part / INTERVAL,
            "<= 1.00",
            part <= 3,
        ),
        Row("  database's time in the wall of a run", f"{1000 * used:.0f} ms", f"{1000 * wall:.0f} ms", used / wall, "(shown only)", True),
        Row(
            f"{checks} checks / check_postgres' {len(ACTIONS)}",
            f"{middle(ours, 'wall'):.2f} s",
            f"{middle(peer, 'wall'):.2f} s",
            middle(ours, "wall") / middle(peer, "wall"),
            "<= 1.00",
            middle(ours, "wall") <= middle(peer, "wall"),
        ),
        Row("  a check", f"{1000 * fair:.0f} ms", f"{1000 * fair_peer:.0f} ms", fair / fair_peer, "<= 1.00", fair <= fair_peer),
        Row("  database's time", f"{1000 * mine:.0f} ms", f"{1000 * theirs:.0f} ms", mine / theirs, "<= 1.00", mine <= theirs),
    ]
    return rows, wall


def hanging(platform: platforms.Platform, wall: float) -> list[Row]:
    rows = []
    for what, (make, mend) in HANGS.items():
        platform.host.sh(make)
        try:
            (found,) = look(platform, 1)["all"]
        finally:
            platform.host.sh(mend)
        told = [one["id"] for one in found["said"]["results"] if one["status"] in ("unknown", "critical")]
        print(f"  {what}: {len(told)} not known or critical: {', '.join(told[:6])}{' ...' if len(told) > 6 else ''}")
        limit = wall + LIMIT
        rows.append(Row(what, f"{found['wall']:.2f} s", f"{limit:.2f} s", found["wall"] / limit, "<= 1.00", found["wall"] <= limit))
        platform.host.wait_for("the CRM to answer again", platform.healthy, 60)
    return rows


def main() -> int:
    lab.ensure_engine()
    platform = platforms.Platform(NAME, DOMAIN)
    if not os.environ.get("KEEP"):
        lab.down([NAME])
    try:
        deploy(platform)
        fill(platform)
        carry(platform)
        print(f"  {TABLES} tables; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before", flush=True)
        rows, wall = looking(platform)
        rows += hanging(platform, wall)
    finally:
        if not os.environ.get("KEEP"):
            lab.down([NAME])
    print(f"  load {os.getloadavg()[0]:.1f} after")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
