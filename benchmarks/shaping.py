# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How exact the shaper is, what the CRM's users feel of bulk traffic behind it, and what a change of it costs.

Two containers on one bridge, a server that is shaped by the module and a client. All load is between the two and bounded in time.

- Accuracy: one TCP flow in a class of the given rate, out of the server and into it (behind its stand-in). The link counts
  Ethernet frames, so goodput is multiplied by frame/segment. The bar is 1 %. The median of CRM_BENCH_ROUNDS (3).
- Latency: HTTP requests of the class crm (wrk, 4 connections) behind 100 Mbit/s, idle and beside 8 bulk flows: p99 <= 2.5 times
  the idle one behind the same shaper, and 15 times better than behind one queue of the same rate. Bulk keeps its guarantee while
  crm takes all it can.
- Change: 4 flows while the rate changes 5 times: retransmits beyond those of an undisturbed run. The module's way beside
  `tc qdisc del` and `add`, and FireQOS where it runs at all.

KEEP=1 leaves the containers, and the next run takes them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]
import hosts  # noqa: E402
import lab  # noqa: E402
import plays  # noqa: E402
from figures import Row, table  # noqa: E402

SERVER, CLIENT = "crm-qos-bench-server", "crm-qos-bench-client"
ROUNDS, SECONDS = int(os.environ.get("CRM_BENCH_ROUNDS", "3")), int(os.environ.get("CRM_BENCH_SECONDS", "5"))
RATES = (10, 50, 100, 500)
CRM, BULK, FILLER, FLOWS = 8080, 5201, 5202, 8
ONE = [{"name": "all", "guarantee": "100%", "default": True}]
CLASSES = [
    {"name": "crm", "guarantee": "40%", "priority": 1, "matches": [{"ports": [str(CRM), str(FILLER)]}]},
    {"name": "bulk", "guarantee": "30%", "priority": 7, "matches": [{"ports": [str(BULK)]}]},
    {"name": "other", "guarantee": "30%", "priority": 3, "default": True},
]


class Container(hosts.Host):
    def __init__(self, name: str) -> None:  # pylint: disable=super-init-not-called
        self.name = name


SRV, CLI = Container(SERVER), Container(CLIENT)


def install(host: Container, packages: str) -> None:
    apt = "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends"
    host.sh(f"{{ dpkg -s {packages} >/dev/null || {{ apt-get update -qq; {apt} {packages}; }}; }} 2>&1")


def prepare() -> None:
    image = lab.ensure_image("debian12")
    for host, packages in ((SRV, "nftables iperf3 nginx-light"), (CLI, "iperf3 wrk")):
        lab.up(host.name, image, [])
        install(host, packages)
    SRV.write("/etc/nginx/conf.d/bench.conf", f"access_log off; keepalive_requests 1000000; server {{ listen {CRM}; root /srv/bench; }}\n")
    SRV.sh("mkdir -p /srv/bench /etc/crm-bench; head -c 2700 /dev/zero | tr '\\0' x >/srv/bench/small.txt; systemctl restart nginx")
    SRV.sh(f"pkill -x iperf3; iperf3 -s -D -p {BULK}; iperf3 -s -D -p {FILLER}")


def shape(*steps: dict) -> list[str]:
    """One play, a task each; what each did."""
    tasks = [{"name": "Shape", "crm.platform.traffic_shaping": step} for step in steps]
    with tempfile.TemporaryDirectory(prefix="crm-bench-") as folder:
        outcome = plays.run(pathlib.Path(folder), [{"hosts": "all", "gather_facts": False, "tasks": tasks}], plays.inventory(SERVER))
    if outcome.rc:
        raise lab.LabError(outcome.failure or outcome.text[-2000:])
    return [step for task in outcome.tasks for step in task["result"]["steps"]]


def wish(rate: str, classes: list, ingress: str = "") -> dict:
    return {"interfaces": [{"name": "eth0", "rate": rate, "ingress_rate": ingress}], "classes": classes, "directory": "/etc/crm-bench"}


class Flow:
    """iperf3 between the two, out of the server unless told otherwise."""

    def __init__(self, seconds: float, flows: int = 1, port: int = BULK, into: bool = False) -> None:
        words = ["iperf3", "-c", SRV.address, "-p", str(port), "-t", str(seconds), "-O", "1", "-P", str(flows), "-J", *([] if into else ["-R"])]
        self.process = subprocess.Popen(["docker", "exec", CLIENT, *words], stdout=subprocess.PIPE, text=True)

    def end(self) -> tuple[float, int]:
        """(bits per second with the headers of the link, retransmits)"""
        report = json.loads(self.process.communicate()[0])
        if "error" in report:
            raise lab.LabError(f"iperf3: {report['error']}")
        size = report["start"]["tcp_mss_default"]
        rate = report["end"]["sum_received"]["bits_per_second"] * (size + 66) / size
        return rate, report["end"]["sum_sent"]["retransmits"]


def accuracy() -> list[Row]:
    rows = []
    for into in (False, True):
        for rate in RATES:
            shape(wish("10gbit", ONE, f"{rate}mbit") if into else wish(f"{rate}mbit", ONE))
            found = [Flow(SECONDS, into=into).end()[0] / 1e6 for dummy in range(ROUNDS)]
            middle = statistics.median(found)
            what = f"{'into' if into else 'out of'} the server at {rate} Mbit/s"
            print(f"  {what}: {', '.join(f'{one:.2f}' for one in found)}", flush=True)
            rows.append(Row(what, f"{middle:.2f} Mbit/s", f"{rate} Mbit/s", middle / rate, "0.990 to 1.010", abs(middle / rate - 1) <= 0.01))
    return rows


def waiting() -> dict:
    """What wrk says, in milliseconds, and requests a second."""
    text = CLI.sh(f"wrk -t1 -c4 -d{SECONDS} --latency http://{SRV.address}:{CRM}/small.txt")
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    found = {f"p{percent}": float(value) * units[unit] for percent, value, unit in re.findall(r"^ +(\d+)% +([\d.]+)(us|ms|s)$", text, re.MULTILINE)}
    return {**found, "rate": float(re.findall(r"Requests/sec: +([\d.]+)", text)[0])}


def beside_bulk() -> tuple[dict, float]:
    """(waits, bits per second of the bulk)"""
    bulk = Flow(SECONDS + 3, FLOWS)
    time.sleep(2)
    found = waiting()
    return found, bulk.end()[0]


def middle(found: list[dict]) -> dict:
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def latency() -> list[Row]:
    shape(wish("100mbit", ONE))
    fifo = middle([beside_bulk()[0] for dummy in range(ROUNDS)])
    shape(wish("100mbit", CLASSES))
    idle = middle([waiting() for dummy in range(ROUNDS)])
    loads = [beside_bulk() for dummy in range(ROUNDS)]
    loaded = middle([one for one, dummy in loads])
    bulk = statistics.median(rate for dummy, rate in loads) / 1e6
    for what, one in (("idle", idle), (f"beside {FLOWS} flows", loaded), ("beside them in one queue", fifo)):
        print(f"  crm {what}: p50 {one['p50']:.2f}, p99 {one['p99']:.2f} ms, {one['rate']:.0f} requests/s", flush=True)
    shares = []
    for dummy in range(ROUNDS):
        both = Flow(SECONDS, FLOWS), Flow(SECONDS, 4, FILLER)
        shares.append(both[0].end()[0] / 1e6)
        both[1].end()
    share = statistics.median(shares)
    print(f"  bulk beside wrk {bulk:.1f} Mbit/s, beside a full crm {', '.join(f'{one:.2f}' for one in shares)} Mbit/s", flush=True)
    ratio, better, kept = loaded["p99"] / idle["p99"], fifo["p99"] / loaded["p99"], share / 30
    return [
        Row("crm p99 beside bulk / idle", f"{loaded['p99']:.2f} ms", f"{idle['p99']:.2f} ms", ratio, "<= 2.500", ratio <= 2.5),
        Row("one queue's p99 / crm p99", f"{loaded['p99']:.2f} ms", f"{fifo['p99']:.2f} ms", better, ">= 15.000", better >= 15),
        Row("bulk beside a full crm / its guarantee", f"{share:.2f} Mbit/s", "30 Mbit/s", kept, "0.950 to 1.050", abs(kept - 1) <= 0.05),
    ]


def tear_down_and_add(rate: int) -> None:
    """What FireQOS and sqm-scripts do at each start."""
    lines = ["tc qdisc del dev eth0 root", "tc qdisc add dev eth0 root handle 1: htb default 20 r2q 10"]
    lines += [f"tc class add dev eth0 parent 1: classid 1:1 htb rate {rate}mbit ceil {rate}mbit quantum 60000"]
    for minor, share, priority in ((10, 40, 1), (20, 30, 7), (30, 30, 3)):
        lines.append(
            f"tc class add dev eth0 parent 1:1 classid 1:{minor} htb rate {rate * share // 100}mbit ceil {rate}mbit prio {priority} quantum 5000"
        )
        lines.append(f"tc qdisc add dev eth0 parent 1:{minor} handle {minor}: pfifo limit 100")
    SRV.sh("\n".join(lines))


def changed(how: str) -> int:
    """Retransmits of four flows while the rate changes five times."""
    shape(wish("100mbit", CLASSES))
    load = Flow(8, 4)
    time.sleep(1.5)
    rates = (90, 100, 80, 100, 95)
    if how == "module":
        steps = shape(*(wish(f"{rate}mbit", CLASSES) for rate in rates))
        assert len(steps) >= 5 and not any(" del " in step or " root " in step for step in steps), steps
    elif how == "tc":
        for rate in rates:
            tear_down_and_add(rate)
            time.sleep(0.7)
    return load.end()[1]


def fireqos() -> str:
    """Why it cannot be measured here, '' where it runs."""
    install(SRV, "fireqos")
    SRV.write(
        "/etc/firehol/fireqos.conf",
        "interface eth0 world output rate 100Mbit\n"
        f"  class crm commit 40% prio 1\n    match sports {CRM},{FILLER}\n"
        f"  class bulk commit 30% prio 7\n    match sports {BULK}\n  class default commit 30%\n",
    )
    done = SRV.run("fireqos", "start", check=False)
    if done.returncode == 0:
        return ""
    said = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in (done.stdout + done.stderr).splitlines()]
    told = [line for line in said if "FAILED" in line or line.startswith("Error") or "unknown" in line] or said[-1:]
    left = SRV.sh("tc qdisc show dev eth0 root").strip()
    return f"{'; '.join(dict.fromkeys(told))}; left behind: {left}"


def changing() -> list[Row]:
    found = {how: [changed(how) for dummy in range(ROUNDS)] for how in ("nothing", "module", "tc")}
    for how, counts in found.items():
        print(f"  retransmits, {how}: {', '.join(map(str, counts))}", flush=True)
    plain, ours, peer = (statistics.median(found[how]) for how in ("nothing", "module", "tc"))
    caused = max(0, ours - plain)
    rows = [
        Row(
            "retransmits of a change / of tc del, add",
            f"{caused:.0f}",
            f"{max(0, peer - plain):.0f}",
            caused / max(1, peer - plain),
            "= 0",
            caused == 0,
        )
    ]
    why = fireqos()
    print(f"  FireQOS: {why or 'runs here; see its retransmits'}", flush=True)
    if not why:
        load = Flow(8, 4)
        time.sleep(1.5)
        for dummy in range(5):
            SRV.run("fireqos", "start")
        peer = max(0, load.end()[1] - plain)
        rows.append(Row("retransmits of a change / of FireQOS", f"{caused:.0f}", f"{peer:.0f}", caused / max(1, peer), "(shown only)", True))
    else:
        rows.append(Row("retransmits of a change / of FireQOS", f"{caused:.0f}", "does not run", math.nan, "(shown only)", True))
    with contextlib.suppress(AssertionError):
        SRV.run("fireqos", "stop", check=False)
    return rows


def main() -> int:
    lab.ensure_engine()
    if not os.environ.get("KEEP"):
        lab.down([SERVER, CLIENT])
    chosen = sys.argv[1:] or ["accuracy", "latency", "changing"]
    rows: list[Row] = []
    try:
        prepare()
        print(f"  load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before", flush=True)
        for name in chosen:
            rows += {"accuracy": accuracy, "latency": latency, "changing": changing}[name]()
        shape({"state": "absent", "directory": "/etc/crm-bench"})
    finally:
        if not os.environ.get("KEEP"):
            lab.down([SERVER, CLIENT])
    print(f"  load {os.getloadavg()[0]:.1f} after")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
