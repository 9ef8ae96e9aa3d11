# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL to ansible-playbook at a random moment; the next run converges.

By default one host, killed several times before it is let finish.
CRM_KILLED_HOSTS=10 has ten fresh hosts, each killed once; every other one is
given the package that was built before, so that more of the moments fall on
what comes after the build. CRM_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import platform_image
import plays
import pytest

HOSTS = int(os.environ.get("CRM_KILLED_HOSTS", "1"))
KILLS = int(os.environ.get("CRM_KILLS", "1" if HOSTS > 1 else "3"))
SEED = int(os.environ.get("CRM_SEED", str(int(time.time()))))
# Seconds that a deployment takes, about.
LONG = int(os.environ.get("CRM_DEPLOY_SECONDS", "180"))


def killed_after(server, seconds):
    """Start a deployment and kill it, with all that it started here. What runs on the host then is cut off or goes on alone."""
    process = subprocess.Popen(
        plays.command(server.directory, "crm.platform.site", server.inventory()),
        cwd=server.directory,
        start_new_session=True,
        env=plays.environment(server.directory, server.collections),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


@pytest.mark.parametrize("number", range(HOSTS))
def test_killed_at_any_moment_the_next_run_converges(make_server, number):
    chance = random.Random(SEED * 100 + number)
    server = make_server(f"kill{number}")
    if number % 2:
        server.variables["crm_package_deb"] = platform_image.ensure(server.collections).package
    if not number:
        stop_with_a_full_disk(server)
    # A run that goes on where another was killed is shorter: the first moments are spread over the whole, later ones less.
    for kill in range(KILLS):
        moment = chance.uniform(3, LONG * (0.95 if HOSTS > 1 else 0.6))
        ended = killed_after(server, moment)
        print(f"seed {SEED}, host {number}, kill {kill} after {moment:.0f} of {LONG} s" + ("" if ended is None else f": had ended with {ended}"))
        if ended is not None:
            break
    done = server.run()
    assert done.rc == 0, f"seed {SEED}: {done.failure}"
    server.platform.works()
    assert server.stale() == []
    again = server.run()
    assert (again.rc, again.changed) == (0, [])


def stop_with_a_full_disk(server):
    """No space for the packages: the run says so, and the deployments that follow start from what is left."""
    place = "/var/cache/apt/archives"
    server.host.run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
    try:
        stopped = server.run()
        assert stopped.rc != 0
        assert "space" in stopped.text
    finally:
        server.host.run("umount", place)
