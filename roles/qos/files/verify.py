# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each class of a shaped host reaches, and how long its packets wait. Copied to both hosts for the run of qos_verify.yml.

    verify.py open      let the sender in, while this runs     verify.py serve     receive, until stopped
    verify.py measure   send, and print the report as JSON     verify.py clean     have nothing of all that

Each reads the plan, plan.json beside it.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
TABLE = "inet crm_platform_qos_verify"
COMMENT = "crm-platform-qos-verify"
ETHERNET = 14
LOAD_FLOWS = 8
INTERVAL = 0.005


def run(*words: str, data: str | None = None, check: bool = True) -> str:
    done = subprocess.run(words, input=data, text=True, capture_output=True, check=False)
    if done.returncode and check:
        raise SystemExit(f"{' '.join(words[:4])}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def ports(plan: dict, index: int) -> tuple[int, int]:
    """Of a class: where iperf3 listens, and where the echo does."""
    return plan["port"] + 2 * index, plan["port"] + 2 * index + 1


def family(address: str) -> str:
    return "ip6" if ":" in address else "ip"


def last_port(plan: dict) -> int:
    return ports(plan, len(plan["classes"]) - 1)[1]


def let_pass(plan: dict, chain: str, who: str) -> None:
    """One rule before all others of the platform's firewall: a table of our own could not, since the last word is a drop."""
    # What the host begins itself is filtered only where somebody has asked for that.
    if not run("nft", "list", "chain", *plan["firewall"].split(), chain, check=False):
        return
    rule = f'{who} tcp dport {plan["port"]}-{last_port(plan)} accept comment "{COMMENT}"'
    run("nft", "-f", "-", data=f"insert rule {plan['firewall']} {chain} {rule}\n")


def let_pass_no_more(plan: dict) -> None:
    for chain in ("input", "output"):
        listing = run("nft", "-a", "list", "chain", *plan["firewall"].split(), chain, check=False)
        for handle in re.findall(rf'comment "{COMMENT}" # handle (\d+)', listing):
            run("nft", "delete", "rule", *plan["firewall"].split(), chain, "handle", handle, check=False)


# --- the receiver ---


def let_in(plan: dict) -> None:
    let_pass(plan, "input", f'{family(plan["source"])} saddr {plan["source"]}')


def echo(listening: socket.socket) -> None:
    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    while True:
        threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()


def serve(plan: dict) -> None:
    kind = socket.AF_INET6 if family(plan["address"]) == "ip6" else socket.AF_INET
    servers = []
    for index, dummy in enumerate(plan["classes"]):
        bulk, small = ports(plan, index)
        servers.append(subprocess.Popen(["iperf3", "-s", "-B", plan["address"], "-p", str(bulk)], stdout=subprocess.DEVNULL))
        listening = socket.create_server((plan["address"], small), family=kind)
        threading.Thread(target=echo, args=(listening,), daemon=True).start()
    print("ready", flush=True)
    for server in servers:
        server.wait()


# --- the sender ---


def let_out(plan: dict) -> None:
    let_pass(plan, "output", f'{family(plan["address"])} daddr {plan["address"]}')


def await_receiver(plan: dict, patience: float = 20) -> None:
    """Until it listens on the last of its ports."""
    end = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((plan["address"], last_port(plan)), timeout=2).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise SystemExit(
                    f"{plan['to']} does not let {plan['from']} in on {plan['address']} port {plan['port']} and up;"
                    " open these between the two in whatever filters there, or set qos_verify_port"
                ) from None
            time.sleep(0.2)


def sort_by_port(plan: dict) -> None:
    """Puts each class's ports into it, after the platform's own table has had its say."""
    to = f"{family(plan['address'])} daddr {plan['address']}"
    rules = [
        f"oifname \"{plan['device']}\" {to} tcp dport {{ {', '.join(map(str, ports(plan, index)))} }} meta priority set {cls['classid']}"
        for index, cls in enumerate(plan["classes"])
    ]
    lines = ["type filter hook postrouting priority -149; policy accept;", *rules]
    run("nft", "-f", "-", data=f"table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\nchain out {{\n" + "\n".join(lines) + "\n}\n}\n")


def iperf(plan: dict, index: int, seconds: int, flows: int, *more: str) -> subprocess.Popen:
    words = ["iperf3", "-c", plan["address"], "-p", str(ports(plan, index)[0]), "-t", str(seconds), "-O", "1", "-P", str(flows), "-J", *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def reached(plan: dict, process: subprocess.Popen) -> float:
    """Bits per second as the link counts them: with the headers of each packet."""
    report = json.loads(process.communicate()[0] or "{}")
    if "error" in report or "end" not in report:
        raise SystemExit(f"iperf3 to {plan['address']}: {report.get('error', 'no report')}")
    size = report["start"].get("tcp_mss_default") or 1448
    headers = ETHERNET + (40 if family(plan["address"]) == "ip6" else 20) + 32
    return report["end"]["sum_received"]["bits_per_second"] * (size + headers) / size


class Waits:
    """Milliseconds of requests and their answers within a class, one after the other."""

    def __init__(self, plan: dict, index: int, seconds: float) -> None:
        self.times: list[float] = []
        self.plan, self.index, self.seconds = plan, index, seconds
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        with socket.create_connection((self.plan["address"], ports(self.plan, self.index)[1]), timeout=10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                began = time.monotonic()
                connection.sendall(b"?" * 64)
                left = 64
                while left:
                    data = connection.recv(left)
                    if not data:
                        return
                    left -= len(data)
                took = time.monotonic() - began
                self.times.append(took * 1000)
                time.sleep(max(0.0, INTERVAL - took))

    def quantiles(self) -> dict:
        self._thread.join()
        ordered = sorted(self.times) or [math.nan]
        return {f"p{percent}": round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 2) for percent in (50, 99)}


def measure(plan: dict) -> dict:
    let_out(plan)
    await_receiver(plan)
    classes, seconds = plan["classes"], plan["seconds"]
    sort_by_port(plan)
    rows = [{"name": cls["name"], "guarantee": cls["guarantee"], "ceil": cls["ceil"]} for cls in classes]
    for row, waits in zip(rows, [Waits(plan, index, seconds) for index in range(len(classes))]):
        row["idle"] = waits.quantiles()
    for index, row in enumerate(rows):
        row["alone"] = reached(plan, iperf(plan, index, seconds, 1))
    for row, process in list(zip(rows, [iperf(plan, index, seconds, 2) for index in range(len(classes))])):
        row["together"] = reached(plan, process)
    last = max(range(len(classes)), key=lambda index: classes[index]["priority"])
    load = iperf(plan, last, seconds + 1, LOAD_FLOWS)
    time.sleep(1.5)
    waiting = {index: Waits(plan, index, seconds - 0.5) for index in range(len(classes)) if index != last}
    for index, waits in waiting.items():
        rows[index]["loaded"] = waits.quantiles()
    reached(plan, load)
    result = {"classes": rows, "load": classes[last]["name"]}
    if plan["ingress"]:
        default = next(index for index, cls in enumerate(classes) if cls["default"])
        result["ingress"] = {"declared": plan["ingress"], "reached": reached(plan, iperf(plan, default, seconds, 1, "-R"))}
    missed = [row["name"] for row in rows if row["together"] < 0.95 * row["guarantee"]]
    return {**result, "missed": missed, "table": table(result)}


def table(result: dict) -> list[str]:
    """For people."""

    def mbit(bits: float) -> str:
        return f"{bits / 1e6:.1f}"

    lines = [f"{'class':<12} {'ceil':>7} {'alone':>7} {'':>6}  {'guarantee':>9} {'together':>8} {'':>6}  p50/p99 idle  behind {result['load']}"]
    for row in result["classes"]:
        idle, loaded = row["idle"], row.get("loaded")
        lines.append(
            f"{row['name']:<12} {mbit(row['ceil']):>7} {mbit(row['alone']):>7} {row['alone'] / row['ceil']:>6.1%}  "
            f"{mbit(row['guarantee']):>9} {mbit(row['together']):>8} {row['together'] / row['guarantee']:>6.0%}  "
            f"{idle['p50']:.1f}/{idle['p99']:.1f} ms   " + (f"{loaded['p50']:.1f}/{loaded['p99']:.1f} ms" if loaded else "the load")
        )
    if "ingress" in result:
        told = result["ingress"]
        lines.append(f"{'(comes in)':<12} {mbit(told['declared']):>7} {mbit(told['reached']):>7} {told['reached'] / told['declared']:>6.1%}")
    return lines + ["Mbit/s with link-layer headers"]


def clean(plan: dict) -> None:
    run("nft", "delete", "table", *TABLE.split(), check=False)
    let_pass_no_more(plan)
    os.chdir("/")
    shutil.rmtree(HERE, ignore_errors=True)


def main() -> int:
    plan = json.loads((HERE / "plan.json").read_text(encoding="utf-8"))
    if sys.argv[1] == "measure":
        print(json.dumps(measure(plan)))
    else:
        {"open": let_in, "serve": serve, "clean": clean}[sys.argv[1]](plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
