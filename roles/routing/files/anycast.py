# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""crm-platform-anycast: this host has the CRM's service addresses while its own CRM answers.

The role routing of crm.platform installs and configures it (/etc/crm-platform/anycast.json). OSPF announces an address that is
on the loopback interface; so to put it there is to announce it, and to take it away is to withdraw it. A second entry, a local
route, has the host answer for the address a little longer: what was under way when it was withdrawn ends well.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time

CONFIG = "/etc/crm-platform/anycast.json"
# There while the host is drained; it outlives a reboot.
MARK = "/var/lib/crm-platform/anycast-drained"
STATUS = "/run/crm-platform-anycast/status.json"
TABLE = "ip crm_platform_anycast"
# Of our local routes, so that they are told from the kernel's own.
PROTOCOL = "205"


class Judge:
    """Believes the CRM is down after `fall` bad answers in a row, and up again after `rise` good ones. Silence counts at once."""

    def __init__(self, fall: int, rise: int) -> None:
        self.fall, self.rise = fall, rise
        self.good = False
        self.streak = 0

    def hear(self, answer: str) -> bool:
        """`answer` is good, bad or silence; whether it is up is returned."""
        if (answer == "good") == self.good:
            self.streak = 0
            return self.good
        self.streak += 1
        if self.streak >= (self.fall if self.good else self.rise) or (self.good and answer == "silence"):
            self.good, self.streak = not self.good, 0
        return self.good


def state_of(drained: bool, good: bool) -> str:
    return "drained" if drained else "announced" if good else "withdrawn"


def pause(state: str, answer: str, interval: float) -> float:
    """Seconds until the next question: a doubt is settled sooner."""
    return interval / 4 if state == "announced" and answer != "good" else interval


class Asker:
    """Asks the health address over one connection that is kept."""

    def __init__(self, port: int, path: str, timeout: float) -> None:
        self.port, self.path, self.timeout = port, path, timeout
        self.context = ssl.create_default_context()
        # The host asks itself; whom the certificate names is for its users to check.
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.connection: http.client.HTTPSConnection | None = None

    def ask(self) -> tuple[str, str]:
        """(good, bad or silence; why)"""
        kept = self.connection is not None
        try:
            return self._ask()
        except TimeoutError:
            self.close()
            return "silence", f"no answer within {self.timeout:g} s"
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            # The server may have ended a connection that was kept, as it does when it is reloaded.
            return self.ask() if kept else ("bad", str(exc) or type(exc).__name__)

    def _ask(self) -> tuple[str, str]:
        if self.connection is None:
            self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=self.timeout, context=self.context)
        self.connection.request("GET", self.path, headers={"Host": "localhost"})
        answer = self.connection.getresponse()
        answer.read()
        if answer.will_close:
            self.close()
        return ("good", "") if answer.status == 200 else ("bad", f"HTTP {answer.status}")

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def ip_commands(addresses: list[str], verb: str) -> str:
    """For `ip -batch`. hold means the local route, announce and withdraw the address."""
    lines = []
    for text in addresses:
        address = ipaddress.ip_address(text)
        family = f"-{address.version}"
        host = f"{address}/{address.max_prefixlen}"
        # Not preferred: nothing of this host goes out under it by itself.
        life = " preferred_lft 0 nodad" if address.version == 6 else ""
        lines.append(
            {
                "hold": f"{family} route replace local {host} dev lo table local proto {PROTOCOL} metric 4096",
                "announce": f"{family} address replace {host} dev lo{life}",
                "withdraw": f"{family} address del {host} dev lo",
            }[verb]
        )
    return "".join(f"{line.removeprefix('-4 ').removeprefix('-6 ')}\n" for line in lines)


def ip(addresses: list[str], verb: str) -> str:
    """Do it; what went wrong is returned. To take away what is not there is no error."""
    said = []
    for version in (4, 6):
        own = [text for text in addresses if ipaddress.ip_address(text).version == version]
        if own:
            done = subprocess.run(
                ["/usr/sbin/ip", f"-{version}", "-force", "-batch", "-"], input=ip_commands(own, verb), capture_output=True, text=True, check=False
            )
            if done.returncode and verb in ("hold", "announce"):
                said.append(" ".join(done.stderr.split()))
    return "; ".join(said)


def release() -> None:
    """Answer for no address any more, also for one that has left the configuration."""
    for version in (4, 6):
        words = ["/usr/sbin/ip", f"-{version}", "route", "flush", "table", "local", "proto", PROTOCOL]
        subprocess.run(words, capture_output=True, check=False)


def all_addresses(addresses: list[str]) -> list[str]:
    """Those that are configured, and those that a program that was killed may have left, though they are configured no more."""
    try:
        with open(STATUS, encoding="utf-8") as stream:
            return list(dict.fromkeys([*addresses, *json.load(stream)["addresses"]]))
    except (OSError, ValueError, LookupError):
        return addresses


def on_loopback(addresses: list[str]) -> bool:
    """Whether every one of them is on lo: somebody may have taken one away by hand."""
    done = subprocess.run(["/usr/sbin/ip", "-json", "address", "show", "dev", "lo"], capture_output=True, text=True, check=False)
    try:
        found = {one.get("local") for one in json.loads(done.stdout)[0]["addr_info"]}
    except (ValueError, LookupError):
        return False
    return {str(ipaddress.ip_address(text)) for text in addresses} <= found


def notify(text: str) -> None:
    """Tell systemd."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode(), "\0" + place[1:] if place.startswith("@") else place)


def write(path: str, text: str) -> None:
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(f"{path}.new", path)


def read_config() -> dict:
    with open(CONFIG, encoding="utf-8") as stream:
        return json.load(stream)


def run(config: dict) -> None:
    addresses = config["addresses"]
    asker = Asker(config["port"], config["path"], config["timeout"])
    judge = Judge(config["fall"], config["rise"])

    def stop(*dummy: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    state, looked = "", time.monotonic()
    try:
        ip(all_addresses(addresses), "withdraw")
        release()
        problem = ip(addresses, "hold")
        if problem:
            sys.exit(f"the host cannot answer for {', '.join(addresses)}: {problem}")
        notify("READY=1")
        while True:
            drained = os.path.exists(MARK)
            answer, why = asker.ask()
            wanted = state_of(drained, judge.hear(answer))
            if wanted == "announced" and state == wanted and time.monotonic() - looked > 2:
                looked = time.monotonic()
                state = state if on_loopback(addresses) else ""
            if wanted != state:
                problem = ip(addresses, "announce" if wanted == "announced" else "withdraw")
                reason = problem or (why if wanted == "withdrawn" else "")
                print(f"{wanted}: {', '.join(addresses)}{f' ({reason})' if reason else ''}", flush=True)
                state = "" if problem else wanted
                write(STATUS, json.dumps({"state": wanted, "reason": reason, "since": time.time(), "addresses": addresses}) + "\n")
            notify(f"WATCHDOG=1\nSTATUS={wanted}")
            time.sleep(pause(wanted, answer, config["interval"]))
    finally:
        ip(addresses, "withdraw")


def withdraw(config: dict) -> None:
    """When the program has ended, in whatever way."""
    ip(all_addresses(config["addresses"]), "withdraw")
    # Until the routers have heard of it.
    time.sleep(0.5)
    release()


def status() -> dict:
    try:
        with open(STATUS, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        found = {"state": "withdrawn", "reason": "crm-platform-anycast.service does not run", "since": None, "addresses": []}
    return {**found, "drained": os.path.exists(MARK)}


def own_addresses() -> list[str]:
    """As the routers know this host: those of its links, the link-local ones too."""
    done = subprocess.run(["/usr/sbin/ip", "-json", "address", "show"], capture_output=True, text=True, check=False)
    try:
        return [one["local"] for link in json.loads(done.stdout) if link and link["ifname"] != "lo" for one in link["addr_info"] if "local" in one]
    except (ValueError, LookupError):
        return []


def connections(addresses: list[str]) -> int:
    """Established ones to a service address."""
    found = 0
    for address in addresses:
        done = subprocess.run(["/usr/bin/ss", "-Hnt", "state", "established", "src", address], capture_output=True, text=True, check=False)
        found += len(done.stdout.splitlines())
    return found


def finish(timeout: float) -> int:
    """Wait for the connections to the service addresses to end; how many are left."""
    deadline = time.monotonic() + timeout
    while True:
        left = connections(status()["addresses"])
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.1)


def move(out: bool, timeout: float) -> dict:
    """Drain or undrain; returns when it is so, or with what stands in the way."""
    before = os.path.exists(MARK)
    if out:
        write(MARK, "")
    elif before:
        os.unlink(MARK)
    deadline = time.monotonic() + timeout
    # With the unit off there is nothing to wait for when draining: the address is not there.
    accepted = ("drained", "withdrawn") if out else ("announced",)
    while status()["state"] not in accepted and time.monotonic() < deadline:
        time.sleep(0.05)
    now = status()
    return {**now, "changed": before != out, "ok": now["state"] in accepted}


def on_link(target: str) -> bool:
    """Whether it can be sent to directly. Sending on is for IPv4."""
    if ":" in target:
        return False
    done = subprocess.run(["/usr/sbin/ip", "route", "get", target], capture_output=True, text=True, check=False)
    return done.returncode == 0 and " via " not in done.stdout


def pass_on_rules(addresses: list[str], target: str, seconds: int) -> str:
    """Packets that start no connection and belong to none of this host's."""
    services = [text for text in addresses if ipaddress.ip_address(text).version == 4]
    rules = f"table {TABLE}\ndelete table {TABLE}\n"
    if seconds and services:
        # The elements go after their time, should nobody end it.
        elements = ", ".join(f"{text} timeout {seconds}s" for text in services)
        rules += (
            f"table {TABLE} {{\n"
            f"  set passed {{ type ipv4_addr; flags timeout; elements = {{ {elements} }}; }}\n"
            "  chain prerouting {\n"
            "    type filter hook prerouting priority mangle; policy accept;\n"
            "    ip daddr != @passed accept\n"
            "    ct state established,related accept\n"
            # Of connections that are older than their tracking.
            "    socket wildcard 0 accept\n"
            f"    tcp flags & syn == 0 dup to {target} drop\n"
            "  }\n}\n"
        )
    return rules


def pass_on(config: dict, target: str, seconds: int) -> None:
    """Send on to `target` what belongs to connections that this host does not know: they are that one's. 0 ends it.

    A router that has changed its mind sends packets of open connections here, and the host would cut them off.
    """
    done = subprocess.run(
        ["/usr/sbin/nft", "-f", "-"], input=pass_on_rules(config["addresses"], target, seconds), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"nft: {' '.join(done.stderr.split())}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="crm-platform-anycast", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="ask the CRM, and have its address or not; what the unit starts")
    commands.add_parser("withdraw", help="take the address away; what the unit ends with")
    commands.add_parser("status", help="print how it stands, as JSON")
    for name, what in (
        ("drain", "withdraw the address until undrain, also after a reboot"),
        ("undrain", "have the address again when the CRM answers"),
    ):
        commands.add_parser(name, help=what).add_argument("--timeout", type=float, default=10, help="seconds to wait for it")
    finishing = commands.add_parser("finish", help="wait for open connections to end, and print how many are left")
    finishing.add_argument("--timeout", type=float, default=30, help="the longest wait, in seconds")
    passing = commands.add_parser("pass-on", help="send on what belongs to another host's connections")
    passing.add_argument("--to", required=True, help="address of that host on this link")
    passing.add_argument("--seconds", type=int, required=True, help="for how long; 0 ends it")
    arguments = parser.parse_args()
    if arguments.command == "status":
        found = status()
        print(json.dumps({**found, "connections": connections(found["addresses"]), "own": own_addresses()}))
        return
    if arguments.command == "finish":
        print(finish(arguments.timeout))
        return
    if arguments.command in ("drain", "undrain"):
        moved = move(arguments.command == "drain", arguments.timeout)
        print(json.dumps(moved))
        sys.exit(0 if moved["ok"] else 1)
    config = read_config()
    if arguments.command == "run":
        run(config)
    elif arguments.command == "withdraw":
        withdraw(config)
    elif not arguments.seconds:
        pass_on(config, "", 0)
    elif on_link(arguments.to):
        # Beyond a router it would only come back here.
        pass_on(config, str(ipaddress.IPv4Address(arguments.to)), arguments.seconds)


if __name__ == "__main__":
    main()
