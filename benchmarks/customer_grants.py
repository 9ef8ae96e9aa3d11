# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_grants beside psql, which reads the same lists, and beside community.postgresql, which makes the same state.

100 roles, 500 tables, 20,000 privileges: 50 groups of 10 tables, of each 10 roles may read and
insert and 10 others read and update. community.postgresql is measured at a tenth of it and at
its best (lists of tables and roles in one call, pipelining), and its time less Ansible's own
start is multiplied by ten; both states are compared. All over TCP to one container.
The bars: 3 x psql inside of the module, 25 x faster wall to wall, nothing written.
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
import collection  # noqa: E402

collection.importable()
import grants  # noqa: E402
import plays  # noqa: E402
import servers  # noqa: E402
from ansible_collections.crm.platform.plugins.module_utils import postgres  # noqa: E402
from ansible_collections.crm.platform.plugins.module_utils.grants import apply, declare  # noqa: E402

VERSION = 15
READ = """
SELECT n.nspname, c.relname, a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
WHERE n.nspname = 'customer' AND c.relkind = 'r'
"""
ROUNDS = 7


def role(number: int) -> str:
    return f"bench_{number}"


def groups(size: int) -> list[tuple]:
    """(privileges, roles, tables) of so many groups of ten tables; each tenth of the model has roles of its own."""
    found = []
    for group in range(size):
        tables = [f"t{group * 10 + number}" for number in range(10)]
        start = group // 5 * 10
        people = [role((start + number) % (size * 2)) for number in range(20)]
        found.append((["SELECT", "INSERT"], people[:10], tables))
        found.append((["SELECT", "UPDATE"], people[10:], tables))
    return found


def model(size: int) -> dict:
    return {
        "roles": [{"name": role(number), "login": True, "connection_limit": 5} for number in range(size * 2)],
        "grants": [{"roles": who, "privileges": rights, "schema": "customer", "tables": tables} for rights, who, tables in groups(size)],
        "manage": {"schemas": ["customer"], "roles": ["bench_*"]},
    }


def peer(size: int, login: dict) -> list:
    """The same through community.postgresql."""
    where = {"login_host": login["login_host"], "login_user": login["login_user"], "login_password": login["login_password"]}
    users = {"name": "Role", "community.postgresql.postgresql_user": {**where, "login_db": login["login_db"], "name": "{{ item }}"}}
    users["community.postgresql.postgresql_user"].update(role_attr_flags="LOGIN", conn_limit=5)
    users["loop"] = [role(number) for number in range(size * 2)]
    options = {"type": "table", "schema": "customer", "login_db": login["login_db"], **where}
    options.update(privs="{{ item.privs }}", roles="{{ item.roles }}", objs="{{ item.objs }}")
    rights = {"name": "Privileges", "community.postgresql.postgresql_privs": options}
    rights["loop"] = [{"privs": ",".join(one), "roles": ",".join(who), "objs": ",".join(tables)} for one, who, tables in groups(size)]
    return [users, rights]


def play(folder: str, tasks: list) -> tuple[float, plays.Outcome]:
    hosts = {"all": {"hosts": {"localhost": {"ansible_python_interpreter": sys.executable}}}}
    whole = [{"hosts": "all", "gather_facts": False, "connection": "local", "tasks": tasks}]
    began = time.monotonic()
    done = plays.run(pathlib.Path(folder), whole, hosts)
    if done.rc:
        raise SystemExit(done.text[-3000:])
    return time.monotonic() - began, done


def tables(server: servers.Server, size: int) -> str:
    database = server.database()
    server.run(database, "CREATE SCHEMA customer;" + "".join(f"CREATE TABLE customer.t{number} (id int);" for number in range(size * 10)))
    return database


def drop_roles(server: servers.Server) -> None:
    server.drop_role(*(name for (name,) in server.run("postgres", "SELECT rolname FROM pg_roles WHERE rolname LIKE 'bench\\_%'")))


def median(action) -> float:
    times = []
    for dummy in range(ROUNDS):
        began = time.monotonic()
        action()
        times.append(time.monotonic() - began)
    return statistics.median(times)


def inside(server: servers.Server, database: str, size: int) -> list[tuple]:
    """Times in this process: the module's main() from its options to its answer, and psql."""
    login, options = server.options(database), model(size)
    began = time.monotonic()
    grants.call(login, **options)
    first = time.monotonic() - began
    count = server.run(database, f"SELECT count(*) FROM ({READ} AND a.grantee <> c.relowner) q")[0][0]
    ours = median(lambda: grants.call(login, **options))
    environment = {"PGPASSWORD": login["login_password"], "PATH": "/usr/bin:/bin"}
    command = ["psql", "-XqAt", "-h", login["login_host"], "-U", login["login_user"], "-d", database, "-c", READ]
    psql = median(lambda: subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL))
    session = postgres.Session(server.connect(database))
    apply.run(session, declare.declared(options), True, False, 3000, 0)
    trips = session.round_trips
    session.close()
    server.run(database, "VACUUM")
    server.run(database, "CHECKPOINT")
    watch = server.connect(database)
    written, touched = [], []
    for check in (False, True, False, True):
        tuples = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_sys_tables"
        before = grants.rows(watch, f"SELECT pg_current_wal_insert_lsn(), ({tuples})")[0]
        grants.call(login, check, **options)
        after = grants.rows(watch, f"SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s), ({tuples})", (before[0],))[0]
        written.append(int(after[0]))
        touched.append(int(after[1] - before[1]))
    watch.close()
    return [
        (f"privileges ({size * 2} roles, {size * 10} tables)", f"{count:,}"),
        ("first run, inside the module", f"{first:.2f} s"),
        ("nothing to do, inside the module", f"{ours * 1000:.0f} ms"),
        ("psql reading the same lists", f"{psql * 1000:.0f} ms"),
        ("ratio (bar: 3)", f"{ours / psql:.2f}"),
        ("round trips", trips),
        ("bytes of WAL of a run with nothing to do, and of check mode", min(written)),
        ("tuples of the catalog touched", min(touched)),
    ]


def outside(server: servers.Server, database: str, size: int) -> list[tuple]:
    """Wall to wall, as a playbook; the peer at a tenth."""
    with tempfile.TemporaryDirectory() as folder:
        ping, dummy = play(folder, [{"name": "Ping", "ansible.builtin.ping": {}}])
        ours_whole, done = play(folder, [{"name": "Access", "crm.platform.customer_grants": {**server.options(database), **model(size)}}])
        assert not done.changed
        server.drop(database)
        drop_roles(server)
        tenth = size // 10
        mine, theirs = tables(server, tenth), tables(server, tenth)
        first, dummy = play(folder, peer(tenth, server.options(theirs)))
        again, done = play(folder, peer(tenth, server.options(theirs)))
        assert not done.changed, done.changed
        grants.call(server.options(mine), **model(tenth))
        same = sorted(server.run(mine, READ)) == sorted(server.run(theirs, READ))
        server.drop(mine, theirs)
        drop_roles(server)
    scaled = ping + (again - ping) * 10
    return [
        ("Ansible's own start (ping)", f"{ping:.2f} s"),
        ("customer_grants, nothing to do, wall to wall", f"{ours_whole:.2f} s"),
        ("community.postgresql, a tenth: first run, nothing to do", f"{first:.1f} s, {again:.1f} s"),
        ("its end state is ours", "yes" if same else "NO"),
        ("community.postgresql, nothing to do, scaled to the whole", f"{scaled:.1f} s"),
        ("ratio (bar: 25)", f"{scaled / ours_whole:.1f}"),
    ]


def main() -> int:
    with servers.running(VERSION) as running:
        server = running[VERSION]
        drop_roles(server)
        database = tables(server, 50)
        for label, value in [*inside(server, database, 50), *outside(server, database, 50)]:
            print(f"{label:<64} {value:>14}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
