# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that boot systemd, for the embedded default and for the tests.

    lab.py engine                 have a container engine that answers
    lab.py image debian12 ...     have the base image of a distribution
    lab.py up NAME [options]      start a container of it and wait for systemd
    lab.py down NAME ...          remove containers
    lab.py address NAME           print a container's address

Needs Python's standard library only, so that it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import typing as t

CACHE = pathlib.Path(__file__).resolve().parent.parent / ".cache"
RELEASES = {"debian12": "bookworm", "debian13": "trixie"}
# What a server installed by Debian's installer has, and the base image lacks.
PACKAGES = [
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
]
# systemd wants to mount, nftables and tc to configure; nothing runs privileged.
RUN_OPTIONS = [
    "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW", "--cap-add", "SYS_PTRACE",
    "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
    "--tmpfs", "/run", "--tmpfs", "/tmp", "--shm-size", "1g",
    "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--stop-signal", "SIGRTMIN+3",
]  # fmt: skip


# Where pip, curl and others look for the authorities to trust.
CA_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


class LabError(Exception):
    """What is missing and what to do about it, in one line."""


def run(*command: str, quiet: bool = False, timeout: float | None = None, **options) -> subprocess.CompletedProcess:
    """Run a command; LabError with its last words when it fails."""
    result = subprocess.run(command, text=True, capture_output=True, check=False, timeout=timeout, **options)
    if result.returncode and not quiet:
        words = (result.stderr or result.stdout).strip().splitlines()
        raise LabError(f"`{' '.join(command[:4])} ...` failed: {words[-1] if words else result.returncode}")
    return result


def say(text: str) -> None:
    print(text, flush=True)


def trusted_authorities() -> str:
    """The bundle that this machine trusts, '' for none: a fresh container knows no company's own authority."""
    paths = [os.environ.get(name, "") for name in CA_VARIABLES]
    paths += ["/etc/ssl/certs/ca-certificates.crt", ssl.get_default_verify_paths().openssl_cafile]
    return next((path for path in paths if path and os.path.isfile(path)), "")


def engine_answers() -> bool:
    return bool(shutil.which("docker")) and run("docker", "info", quiet=True).returncode == 0


def is_debian() -> bool:
    try:
        return "ID=debian" in pathlib.Path("/etc/os-release").read_text(encoding="utf-8").split()
    except OSError:
        return False


def install(*packages: str) -> None:
    """Install Debian packages on this machine, which has to be ours to change."""
    names = " ".join(packages)
    if os.geteuid() != 0 or not is_debian():
        raise LabError(f"{names} is missing here, and only root on Debian can have it installed: install it, or name a server with INVENTORY=")
    say(f"  installing {names}")
    run("apt-get", "update", "-qq")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, env=environment)


def forget_dead_engine() -> None:
    """Remove what an engine that was killed left: its number may be another process's by now."""
    for path, name in (("/var/run/docker.pid", "dockerd"), ("/var/run/docker/containerd/containerd.pid", "containerd")):
        try:
            number = pathlib.Path(path).read_text(encoding="utf-8").strip()
        except OSError:
            continue
        try:
            alive = pathlib.Path("/proc", number, "comm").read_text(encoding="utf-8").strip() == name
        except OSError:
            alive = False
        if not alive:
            pathlib.Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(what: str) -> t.Iterator[None]:
    """Of those that run side by side one does it, and the others wait."""
    with open(pathlib.Path(tempfile.gettempdir()) / f"crm-platform-{what}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_engine() -> None:
    """Have a Docker engine that answers: start it, after installing it where it is missing."""
    if engine_answers():
        return
    with alone("engine"):
        if not engine_answers():
            start_engine()


def start_engine() -> None:
    """LabError where the engine does not answer after 30 s."""
    if not shutil.which("dockerd"):
        install("docker.io", "iptables")
    say("  starting the container engine")
    if pathlib.Path("/run/systemd/system").is_dir():
        run("systemctl", "start", "docker")
    else:
        forget_dead_engine()
        CACHE.mkdir(exist_ok=True)
        with open(CACHE / "dockerd.log", "ab") as log:
            subprocess.Popen(["dockerd"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    for dummy in range(60):
        if engine_answers():
            return
        time.sleep(0.5)
    raise LabError(f"the container engine does not answer after 30 s; see {CACHE / 'dockerd.log'} or `journalctl -u docker`")


def image_name(distribution: str) -> str:
    """Name of the base image; the tag follows what is in it."""
    recipe = hashlib.sha256(" ".join([distribution, *PACKAGES]).encode()).hexdigest()[:8]
    return f"crm-platform/{distribution}:{recipe}"


def ensure_image(distribution: str) -> str:
    """Have the base image, tagged `base` as well, and the engine that runs it; return its name."""
    if distribution not in RELEASES:
        raise LabError(f"there is no image {distribution!r}; there are {', '.join(sorted(RELEASES))}")
    ensure_engine()
    name = image_name(distribution)
    with alone(distribution):
        if not run("docker", "images", "-q", name).stdout.strip():
            say(f"  building the image of {distribution}")
            official = f"debian:{distribution.removeprefix('debian')}"
            if run("docker", "pull", "-q", official, quiet=True, timeout=300).returncode == 0:
                build_from_registry(official, name)
            else:
                bootstrap(RELEASES[distribution], name)
    run("docker", "tag", name, f"crm-platform/{distribution}:base")
    return name


def build_from_registry(official: str, name: str) -> None:
    dockerfile = (
        f"FROM {official}\n"
        "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "
        f"{' '.join(PACKAGES)} && apt-get clean && rm -rf /var/lib/apt/lists/*\n"
        'ENV container=docker\nCMD ["/lib/systemd/systemd"]\n'
    )
    run("docker", "build", "-q", "-t", name, "-", input=dockerfile)


def bootstrap(release: str, name: str) -> None:
    """Where no container registry is reachable: from the Debian archive."""
    if not shutil.which("mmdebstrap"):
        install("mmdebstrap")
    with tempfile.TemporaryDirectory(prefix="crm-lab-") as folder:
        archive = os.path.join(folder, "root.tar")
        run("mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(PACKAGES)}", release, archive)
        run("docker", "import", "-c", 'CMD ["/lib/systemd/systemd"]', "-c", "ENV container=docker", archive, name)


def up(name: str, image: str, options: list[str]) -> None:
    """Start the container, or what is left of it, and wait until systemd is up."""
    state = run("docker", "inspect", "-f", "{{.State.Running}}", name, quiet=True).stdout.strip()
    if not state:
        run("docker", "run", "--detach", "--name", name, "--hostname", name, *RUN_OPTIONS, *options, image)
    elif state == "false":
        run("docker", "start", name)
    for dummy in range(120):
        status = run("docker", "exec", name, "systemctl", "is-system-running", quiet=True).stdout.strip()
        if status in ("running", "degraded"):
            return
        time.sleep(0.5)
    raise LabError(f"systemd in {name} is not up after 60 s; see `docker logs {name}`")


def down(names: list[str]) -> None:
    for name in names:
        run("docker", "rm", "--force", "--volumes", name, quiet=True)


def address(name: str) -> str:
    return run("docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", name).stdout.split()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("engine")
    image = commands.add_parser("image")
    image.add_argument("distributions", nargs="+", choices=sorted(RELEASES))
    start = commands.add_parser("up")
    start.add_argument("name")
    start.add_argument("--distribution", default="debian12", choices=sorted(RELEASES))
    start.add_argument("--image", help="use this image instead of the distribution's base")
    start.add_argument("--publish", action="append", default=[], help="as in docker run")
    start.add_argument("--network", help="as in docker run")
    stop = commands.add_parser("down")
    stop.add_argument("names", nargs="+")
    commands.add_parser("address").add_argument("name")
    arguments = parser.parse_args()
    try:
        if arguments.command == "down":
            if engine_answers():
                down(arguments.names)
            return 0
        ensure_engine()
        if arguments.command == "image":
            for distribution in arguments.distributions:
                say(ensure_image(distribution))
        elif arguments.command == "up":
            options = [word for publish in arguments.publish for word in ("--publish", publish)]
            options += ["--network", arguments.network] if arguments.network else []
            up(arguments.name, arguments.image or ensure_image(arguments.distribution), options)
        elif arguments.command == "address":
            say(address(arguments.name))
    except (LabError, OSError, subprocess.TimeoutExpired) as exc:
        print(f"lab: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
