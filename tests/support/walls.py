# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts behind a firewall and hosts in front of it: bare servers with nftables and sshd on networks of their own."""

from __future__ import annotations

import json
import subprocess
import tempfile
import uuid
from pathlib import Path

import collection
import hosts
import lab
import plays

collection.importable()

from ansible_collections.crm.platform.plugins.module_utils import firewall, nftables  # pylint: disable=wrong-import-position

import given  # pylint: disable=wrong-import-position

TIMEOUT = 30
RECIPE = """
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends nftables openssh-server openssh-client iproute2 python3
mkdir -p /root/.ssh
systemctl enable ssh.service
apt-get clean
rm -rf /var/lib/apt/lists/*
"""
# What the contract publishes, the facts, and the role, as playbooks/plays/network.yml has them.
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Know what the roles publish",
                "ansible.builtin.import_role": {"name": "crm.platform.foundation", "tasks_from": "known.yml"},
            },
            {"name": "Filter", "ansible.builtin.import_role": {"name": "crm.platform.firewall"}},
        ],
    }
]
# Answers with what it is sent, on TCP and UDP, IPv4 and IPv6.
ECHO = r"""
import selectors, socket, sys
tcp, udp = [[int(p) for p in word.split(",") if p] for word in sys.argv[1:3]]
poll = selectors.DefaultSelector()
for port in tcp:
    s = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    s.setblocking(False)
    poll.register(s, 1, "listen")
for port in udp:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", port))
    poll.register(s, 1, "udp")
while True:
    for key, dummy in poll.select():
        try:
            if key.data == "listen":
                c, dummy = key.fileobj.accept()
                poll.register(c, 1, "tcp")
            elif key.data == "udp":
                data, who = key.fileobj.recvfrom(2048)
                key.fileobj.sendto(data, who)
            else:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.sendall(data)
                else:
                    poll.unregister(key.fileobj)
                    key.fileobj.close()
        except OSError:
            if key.data == "tcp":
                poll.unregister(key.fileobj)
                key.fileobj.close()
"""
# Which ports give any sign of life: an open one answers, a closed one that is let through refuses, a dropped one is silent.
SCAN = r"""
import errno, json, resource, select, socket, sys, time
address, first, last, udp, wait = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
step = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 40000) - 100
resource.setrlimit(resource.RLIMIT_NOFILE, (step + 100, step + 100))
found = {"open": [], "refused": [], "udp": []}
for start in range(first, last + 1, step):
    waiting, poll = {}, select.epoll()
    for port in range(start, min(start + step, last + 1)):
        s = socket.socket(family)
        s.setblocking(False)
        code = s.connect_ex((address, port))
        if code in (0, errno.EINPROGRESS):
            waiting[s.fileno()] = (s, port)
            poll.register(s.fileno(), select.EPOLLOUT)
        elif code == errno.ECONNREFUSED:
            found["refused"].append(port)
    end = time.monotonic() + wait
    while waiting and time.monotonic() < end:
        for number, event in poll.poll(max(0, end - time.monotonic())):
            s, port = waiting.pop(number)
            poll.unregister(number)
            code = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code in (0, errno.ECONNREFUSED):
                found["open" if code == 0 else "refused"].append(port)
            s.close()
    for s, port in waiting.values():
        s.close()
asked = []
for port in [int(p) for p in udp.split(",") if p]:
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setblocking(False)
    s.connect((address, port))
    s.send(b"x")
    asked.append((s, port))
time.sleep(0.5)
for s, port in asked:
    try:
        s.recv(10)
        found["udp"].append(port)
    except ConnectionRefusedError:
        found["udp"].append(port)
    except BlockingIOError:
        pass
print(json.dumps({name: sorted(ports) for name, ports in found.items()}))
"""
COMMON_UDP = (7, 53, 67, 68, 69, 111, 123, 137, 161, 389, 443, 500, 514, 520, 1194, 1900, 3478, 3784, 4500, 4789, 5060, 5353, 5999, 11211, 51820)
# So many connections to one port, some at a time: how many came about, and whether the last did.
KNOCK = r"""
import json, socket, sys, errno, select, time
address, port, number, at_once, wait = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
family, made, sent = socket.AF_INET6 if ":" in address else socket.AF_INET, 0, 0
while sent < number:
    waiting, poll = {}, select.epoll()
    for dummy in range(min(at_once, number - sent)):
        s = socket.socket(family)
        s.setblocking(False)
        s.connect_ex((address, port))
        waiting[s.fileno()] = s
        poll.register(s.fileno(), select.EPOLLOUT)
        sent += 1
    end = time.monotonic() + wait
    while waiting and time.monotonic() < end:
        for number_, event in poll.poll(max(0, end - time.monotonic())):
            s = waiting.pop(number_)
            poll.unregister(number_)
            made += s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            s.close()
    for s in waiting.values():
        s.close()
print(json.dumps({"made": made, "sent": sent}))
"""
# What the module does with a ruleset that is handed to it, in the place of a run of the role.
LOAD = r"""
import subprocess, sys
sys.path.insert(0, "/root")
import nftables as nft
def run(argv, data=None):
    done = subprocess.run(argv, input=data, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr
table, text = nft.Table("inet", "crm_platform"), sys.stdin.read()
assert nft.load(run, table, text, nft.read_wanted(run, table, text))
"""


def image(system: str = "debian12") -> str:
    """Have the image with nftables and sshd in it; its name."""
    return hosts.image_with("nftables", system, RECIPE)


class Network:
    """A network of IPv4 and IPv6, in which hosts have the addresses that they are given."""

    def __init__(self, number: int) -> None:
        self.name = f"crm-test-firewall-{uuid.uuid4().hex[:6]}"
        self.ipv4, self.ipv6 = f"172.31.{number}", f"fd00:{number}:"
        hosts.engine("network", "create", "--ipv6", "--subnet", f"{self.ipv4}.0/24", "--subnet", f"{self.ipv6}:/64", self.name)

    def remove(self) -> None:
        hosts.engine("network", "rm", self.name, check=False)


class Wall(hosts.Host):
    """A host of such a network; its last byte is its number in IPv4 and IPv6."""

    def __init__(self, label: str, network: Network, number: int, system: str = "debian12") -> None:
        super().__init__(f"firewall-{label}", system, image(system))
        self.network, self.ipv4, self.ipv6 = network, f"{network.ipv4}.{number}", f"{network.ipv6}:{number}"

    def create(self) -> "Wall":
        options = ["--network", self.network.name, "--ip", self.ipv4, "--ip6", self.ipv6, "--sysctl", "net.ipv6.conf.all.disable_ipv6=0"]
        lab.up(self.name, self.image, options)
        return self

    def join(self, network: Network, number: int) -> None:
        hosts.engine("network", "connect", "--ip", f"{network.ipv4}.{number}", "--ip6", f"{network.ipv6}:{number}", network.name, self.name)

    def python(self, script: str, *words: str, check: bool = True) -> str:
        return self.run("python3", "-c", script, *words, check=check).stdout

    def serve(self, tcp, udp) -> None:
        self.write("/root/echo.py", ECHO)
        self.write(
            "/etc/systemd/system/crm-test-echo.service",
            f"[Service]\nLimitNOFILE=20000\nExecStart=/usr/bin/python3 /root/echo.py {','.join(map(str, tcp))} {','.join(map(str, udp))},\n"
            "[Install]\nWantedBy=multi-user.target\n",
        )
        self.run("systemctl", "enable", "--quiet", "--now", "crm-test-echo")
        self.wait_for("the listeners", lambda: str(tcp[-1]) in self.sh("ss -Hltn"), 10)

    def scan(self, address: str, first: int = 1, last: int = 65535, udp=COMMON_UDP, wait: float = 1.5) -> dict:
        return json.loads(self.python(SCAN, address, str(first), str(last), ",".join(map(str, udp)), str(wait)))

    def knock(self, address: str, port: int, number: int = 1, at_once: int = 500, wait: float = 1.0) -> int:
        """How many of so many connections came about."""
        return json.loads(self.python(KNOCK, address, str(port), str(number), str(at_once), str(wait)))["made"]

    def reaches(self, address: str, port: int) -> bool:
        return self.knock(address, port) == 1

    # The firewall of it

    def table(self, name: str = "inet crm_platform") -> str:
        """Without what rules have put into its sets."""
        return nftables.comparable(self.run("nft", "-s", "list", "table", *name.split(), check=False).stdout)

    def load(self, **more) -> None:
        """A ruleset of the role's library, loaded by the module's, without the role."""
        here = str(Path(nftables.__file__).resolve())
        hosts.engine("cp", here, f"{self.name}:/root/nftables.py")
        base = {"platform_services": [given.SSH, {"name": "crm", "ports": [80, 443]}], "host": self.name, "groups": {}, "my_groups": []}
        self.run("python3", "-c", LOAD, input=firewall.ruleset(given.given(**{**base, **more})))

    def load_confirmed(self) -> None:
        self.run("nft", "-f", "/etc/crm-platform/firewall.nft")

    def table_set(self, name: str, table: str = "inet crm_platform") -> str:
        return self.run("nft", "list", "set", *table.split(), name).stdout

    def state(self) -> dict:
        text = self.sh("cat /var/lib/crm-platform/firewall/state", check=False)
        return dict(line.split("=", 1) for line in text.splitlines())

    def confirmed(self) -> str:
        return self.sh("cat /etc/crm-platform/firewall.nft", check=False)


class Controller:
    """Runs of Ansible over ssh, from this machine to one host."""

    def __init__(self, directory: Path, host: Wall) -> None:
        self.directory, self.host = directory, host
        self.sockets = tempfile.mkdtemp(prefix="crm-fw-")  # a path of a socket is short
        self.key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        host.write("/root/.ssh/authorized_keys", self.key.with_suffix(".pub").read_text(), "077")
        # The contract's directories, which another role makes.
        host.run("mkdir", "-p", "/etc/crm-platform", "/var/lib/crm-platform")

    def inventory(self, **variables) -> dict:
        ours = {
            "ansible_connection": "ssh",
            "ansible_host": self.host.ipv4,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            "ansible_control_path_dir": self.sockets,
            "ansible_timeout": 2,
            "foundation_domain": "crm.example.test",
            "firewall_confirm_timeout": TIMEOUT,
        }
        return plays.inventory(self.host.name, **{**ours, **variables})

    def run(self, *options: str, play=None, **variables) -> plays.Outcome:
        return plays.run(self.directory, play or PLAY, self.inventory(**variables), *options, timeout=180)

    def begin(self, **variables) -> subprocess.Popen:
        """A run that can be killed."""
        return subprocess.Popen(
            plays.command(self.directory, PLAY, self.inventory(**variables)),
            cwd=self.directory,
            start_new_session=True,
            env=plays.environment(self.directory),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ssh(self, command: str = "true", timeout: float = 3) -> bool:
        """Whether a new connection comes about."""
        words = ["ssh", "-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        words += ["-o", "ControlPath=none", "-o", f"ConnectTimeout={int(timeout)}", "-o", "BatchMode=yes", f"root@{self.host.ipv4}", command]
        return subprocess.run(words, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
