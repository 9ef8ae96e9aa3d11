# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How quick customer_schema is: 200 tables, 2,000 columns, 600 indexes and 200 primary keys.

Against PostgreSQL 15 in a container (`tests/support/servers.py`: it does not wait for the disk), which all of them reach over TCP.

- a run with nothing to do, inside the module, beside `pg_dump --schema-only` of the same schema: at most 2 times as long;
  its round trips, with 20 ms of latency too; what it writes
- the first build beside `psql -1 -f` of the same statements, indexes not concurrent: at most 1.3 times as long
- one task of Ansible beside the same state through community.postgresql, of which a tenth is measured: at least 100 times as quick
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]
import lab  # noqa: E402
import servers  # noqa: E402
from run_tests import environment, script  # noqa: E402

from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder  # noqa: E402

_AnsibleCollectionFinder(paths=[environment()["ANSIBLE_COLLECTIONS_PATH"]])._install()

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator  # noqa: E402
from ansible_collections.crm.platform.plugins.module_utils import postgres  # noqa: E402
from ansible_collections.crm.platform.plugins.module_utils.schema import apply, converge, declare, options  # noqa: E402

TABLES, TENTH, TIMES, LATENCY = 200, 20, 5, 0.020


def model(number: int) -> list[dict]:
    """Tables with 10 columns and 3 indexes each, which reference one another."""
    return [table(position) for position in range(number)]


def table(position: int) -> dict:
    name = f"t{position:03}"
    columns = [
        ("id", "bigint", {"identity": "always"}),
        ("name", "varchar(100)", {"nullable": False}),
        ("email", "text", {}),
        ("state", "text", {"nullable": False, "default": "'new'"}),
        ("amount", "numeric(12,2)", {"default": "0"}),
        ("active", "bool", {"nullable": False, "default": "true"}),
        ("extra", "jsonb", {}),
        ("born", "date", {}),
        ("parent", "int8", {}),
        ("at", "timestamptz", {"nullable": False, "default": "now()"}),
    ]
    found: dict = {
        "name": name,
        "columns": [{"name": column, "type": kind, **more} for column, kind, more in columns],
        "primary_key": ["id"],
        "checks": [{"name": f"{name}_state_check", "expression": "state IN ('new', 'open', 'done')"}],
        "indexes": [
            {"name": f"{name}_name", "columns": ["name"]},
            {"name": f"{name}_email", "columns": ["lower(email)"], "unique": True, "where": "email IS NOT NULL"},
            {"name": f"{name}_at", "columns": ["at DESC", "state"]},
        ],
    }
    if position:
        found["foreign_keys"] = [{"name": f"{name}_parent_fkey", "columns": ["parent"], "references": {"table": f"t{position - 1:03}", "columns": ["id"]}}]
    return found


class Ours:
    """The module without Ansible around it: the declaration read, a connection made, the database converged."""

    def __init__(self, server, database: str, tables: list[dict], port: int = 0) -> None:
        self.login = server.options(database)
        if port:
            self.login.update(login_host="127.0.0.1", login_port=port)
        self.round_trips, self.plan = 0, []
        # Ansible's own check of the options is its cost, and part of the tasks that are measured below.
        self.given = ArgumentSpecValidator(options.argument_spec()).validate({**self.login, "tables": tables}).validated_parameters

    def __call__(self, check: bool = False) -> None:
        declared = declare.schema("customer", "", self.given)
        session = postgres.Session(postgres.psycopg2.connect(**postgres.parameters(self.given)))
        worker = converge.Converger(session, declared, "", "customer", "", False, [], apply.Patience(3000, 10, 0))
        self.plan = [step.sql for step in worker.run(check).plan.steps]
        self.round_trips = session.round_trips
        session.close()


def client(server, *words: str) -> float:
    """Seconds that one of PostgreSQL's own programs takes beside the server, over TCP as ours; its text goes nowhere."""
    script = 'began=$EPOCHREALTIME; "$@" >/dev/null || exit 1; echo $began $EPOCHREALTIME'
    login = [f"PGPASSWORD={servers.PASSWORD}", f"PGUSER={servers.USER}", "PGHOST=127.0.0.1"]
    began, ended = server.host.run("env", *login, "bash", "-c", script, "bash", *words).stdout.split()
    return float(ended) - float(began)


def seconds(action: t.Callable, *words, **more) -> float:
    began = time.perf_counter()
    action(*words, **more)
    return time.perf_counter() - began


def dump(server, database: str) -> str:
    return server.dump(database, "--schema=customer")


def row(what: str, ours: float, peer: float, limit: str) -> None:
    print(f"{what:44} {ours * 1000:9.0f} ms {peer * 1000:9.0f} ms   {ours / peer:7.2f}   ({limit})", flush=True)


# --- a run with nothing to do


def no_change(server, database: str, tables: list[dict]) -> None:
    ours = Ours(server, database, tables)
    ours()
    mine, theirs = [], []
    for dummy in range(TIMES):
        mine.append(seconds(ours))
        theirs.append(client(server, "pg_dump", "--schema-only", "--schema=customer", database))
    assert not ours.plan
    row("no change, beside pg_dump --schema-only", statistics.median(mine), statistics.median(theirs), "ratio at most 2")


def written(server, database: str, tables: list[dict]) -> None:
    """Bytes of WAL and numbers of transactions that a run with nothing to do takes, and one that only checks.

    The least of three: the server itself notes the running transactions now and then, in 56 bytes.
    """
    where = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    for check in (False, True):
        found = []
        for dummy in range(3):
            before = server.run(database, where)[0]
            Ours(server, database, tables)(check)
            after = server.run(database, where)[0]
            found.append((int(after[0] - before[0]), after[1] - before[1]))
        size, number = min(found)
        print(f"{'no change, ' + ('check mode' if check else 'a run') + ', writes':44} {size:9} bytes of WAL, {number} transaction numbers   (bar: none)")


# --- latency


def delayed(address: str, ready) -> None:
    """A server in front of the server, which hands everything on after half of the latency."""
    listening = socket.create_server(("127.0.0.1", 0))
    ready.send(listening.getsockname()[1])

    def pump(source: socket.socket, target: socket.socket) -> None:
        waiting: list = []
        arrived = threading.Condition()

        def send() -> None:
            while True:
                with arrived:
                    arrived.wait_for(lambda: waiting)
                    due, data = waiting.pop(0)
                time.sleep(max(0.0, due - time.monotonic()))
                with contextlib.suppress(OSError):
                    if not data:
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.sendall(data)

        threading.Thread(target=send, daemon=True).start()
        data = b"x"
        while data:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            with arrived:
                waiting.append((time.monotonic() + LATENCY / 2, data))
                arrived.notify()

    while True:
        near, dummy = listening.accept()
        far = socket.create_connection((address, 5432))
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def round_trips(server, databases: dict[int, str]) -> None:
    here, there = multiprocessing.Pipe()
    proxy = multiprocessing.get_context("fork").Process(target=delayed, args=(server.address, there), daemon=True)
    proxy.start()
    port = here.recv()
    try:
        for number, database in databases.items():
            ours, near = Ours(server, database, model(number), port), Ours(server, database, model(number))
            near()
            far = statistics.median(seconds(ours) for dummy in range(3))
            here_ = statistics.median(seconds(near) for dummy in range(3))
            print(
                f"{f'no change, {number} tables, at 0 and 20 ms':44} {here_ * 1000:9.0f} ms {far * 1000:9.0f} ms   "
                f"{ours.round_trips} round trips after the login (bar: as many for each number of tables)",
                flush=True,
            )
    finally:
        proxy.terminate()


# --- the first build


def build(server, tables: list[dict]) -> None:
    look = server.database()
    planned = Ours(server, look, tables)
    planned(check=True)
    mine, theirs, dumps = [], [], []
    server.host.write("/tmp/build.sql", "SET search_path TO customer, public;\n" + ";\n".join(planned.plan) + ";\n")
    for dummy in range(TIMES):
        one, other = server.database(), server.database()
        mine.append(seconds(Ours(server, one, tables)))
        theirs.append(client(server, "psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", "/tmp/build.sql", other))
        dumps.append((dump(server, one), dump(server, other)))
        server.drop(one, other)
    server.drop(look)
    assert all(one == other for one, other in dumps), "both are to end alike"
    row(f"first build, {len(planned.plan)} statements, beside psql -1 -f", statistics.median(mine), statistics.median(theirs), "ratio at most 1.3")


# --- as tasks of Ansible


def play(folder: pathlib.Path, tasks: list[dict]) -> float:
    book = [{"name": "Build", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    (folder / "play.yml").write_text(json.dumps(book), encoding="utf-8")
    begin = time.perf_counter()
    done = subprocess.run(
        [script("ansible-playbook"), "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", str(folder / "play.yml")],
        env=environment(ANSIBLE_PIPELINING="1", ANSIBLE_HOME=str(folder / "home")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise lab.LabError(done.stdout[-3000:])
    return time.perf_counter() - begin


def peer_tasks(login: dict, tables: list[dict]) -> list[dict]:
    """The same through community.postgresql: a task a kind, each with a list; keys and checks within the table."""

    def columns(one: dict) -> list[str]:
        found = []
        for column in one["columns"]:
            words = [column["name"], column["type"]]
            words += ["GENERATED ALWAYS AS IDENTITY"] if column.get("identity") else []
            words += [f"DEFAULT {column['default']}"] if column.get("default") else []
            words += [] if column.get("nullable", True) else ["NOT NULL"]
            found.append(" ".join(words))
        found.append("PRIMARY KEY (id)")
        found += [f"CONSTRAINT {check['name']} CHECK ({check['expression']})" for check in one["checks"]]
        for key in one.get("foreign_keys", []):
            found.append(f"CONSTRAINT {key['name']} FOREIGN KEY ({key['columns'][0]}) REFERENCES customer.{key['references']['table']} (id)")
        return found

    indexes = [{"table": one["name"], **index} for one in tables for index in one["indexes"]]
    return [
        {"name": "Schema", "community.postgresql.postgresql_schema": {**login, "name": "customer"}},
        {
            "name": "Tables",
            "community.postgresql.postgresql_table": {**login, "name": "customer.{{ item.name }}", "columns": "{{ item.columns }}"},
            "loop": [{"name": one["name"], "columns": columns(one)} for one in tables],
            "loop_control": {"label": "{{ item.name }}"},
        },
        {
            "name": "Indexes",
            "community.postgresql.postgresql_idx": {
                **login,
                "schema": "customer",
                "table": "{{ item.table }}",
                "name": "{{ item.name }}",
                "columns": "{{ item.columns }}",
                "unique": "{{ item.unique | default(false) }}",
                "cond": "{{ item.where | default(omit) }}",
                "concurrent": False,
            },
            "loop": indexes,
            "loop_control": {"label": "{{ item.name }}"},
        },
    ]


def as_tasks(server) -> None:
    all_of_it, tenth = model(TABLES), model(TENTH)
    big, small, theirs, *others = (server.database() for dummy in range(5))
    try:
        with tempfile.TemporaryDirectory(prefix="crm-bench-") as place:
            folder = pathlib.Path(place)
            start = statistics.median(play(folder, [{"name": "Nothing", "ansible.builtin.meta": "noop"}]) for dummy in range(3))

            def ours(database: str, tables: list[dict]) -> float:
                (folder / "tables.json").write_text(json.dumps(tables), encoding="utf-8")
                given = f"{{{{ lookup('ansible.builtin.file', '{folder}/tables.json') | from_json }}}}"
                return play(folder, [{"name": "Converge", "crm.platform.customer_schema": {**server.options(database), "tables": given}}])

            # The disk under the server makes single builds uneven.
            first = statistics.median([*(ours(one, all_of_it) for one in others), ours(big, all_of_it)])
            again = statistics.median(ours(big, all_of_it) for dummy in range(TIMES))
            ours(small, tenth)
            tasks = peer_tasks(server.options(theirs), tenth)
            peer_first, peer_again = play(folder, tasks), play(folder, tasks)
        assert dump(server, small) == dump(server, theirs), "both are to end alike"
    finally:
        server.drop(big, small, theirs, *others)
    print(f"{'ansible-playbook without a task':44} {start:9.2f} s", flush=True)
    scale = TABLES / TENTH
    for what, one, other in (("built", first, peer_first), ("no change", again, peer_again)):
        scaled = (other - start) * scale + start
        print(
            f"{f'one task beside community.postgresql, {what}':44} {one:9.2f} s  {scaled:9.1f} s    {scaled / one:7.0f} times as quick   "
            f"(at least 100; theirs: {other:.1f} s for a tenth, times {scale:.0f})",
            flush=True,
        )


def main() -> int:
    lab.ensure_engine()
    with servers.running(15) as found:
        server = found[15]
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {'':8} ours       the other    ratio")
        databases = {number: server.database() for number in (1, 50, TABLES)}
        for number, database in databases.items():
            Ours(server, database, model(number))()
        everything = model(TABLES)
        no_change(server, databases[TABLES], everything)
        written(server, databases[TABLES], everything)
        round_trips(server, databases)
        build(server, everything)
        as_tasks(server)
        server.drop(*databases.values())
    return 0


if __name__ == "__main__":
    sys.exit(main())
