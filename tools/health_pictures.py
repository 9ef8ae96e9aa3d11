# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health report of a made-up platform, and pictures of it.

    health_pictures.py DIRECTORY

writes docs/images/health-report*.png into the directory, and the pages that they show. Needs Debian's chromium and poppler-utils.
The platform has six hosts, some of them unwell and one that is not reached; pages of one that is well and of a single host are made too.
"""

from __future__ import annotations

import math
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import collection  # pylint: disable=wrong-import-position

collection.importable()

# pylint: disable=wrong-import-position
from ansible_collections.crm.platform.plugins.module_utils.health import (
    backup,
    crm,
    database,
    firewall,
    qos,
    registry,
    report,
    routing,
    security,
    system,
)
from ansible_collections.crm.platform.plugins.plugin_utils import health_page

MODULES = (backup, crm, database, firewall, qos, routing, security, system)
NOW = 1_767_337_200  # 2026-01-02 07:00 UTC
GIB = 1024.0**3
GROUPS = {
    "all": ["crm-router", "crm-app1", "crm-app2", "crm-db", "crm-backup", "crm-tools"],
    "crm_router": ["crm-router"],
    "crm_app": ["crm-app1", "crm-app2"],
    "crm_database": ["crm-db"],
    "crm_backup": ["crm-backup"],
    "crm_package": ["crm-tools"],
    "crm_monitor": ["crm-tools"],
}
COMMON = ("firewall", "system", "security")
AREAS = {
    "crm-router": ("routing", *COMMON),
    "crm-app1": ("crm", "qos", "routing", "backup", *COMMON),
    "crm-app2": ("crm", "qos", "routing", "backup", *COMMON),
    "crm-db": ("database", "backup", "qos", *COMMON),
    "crm-backup": ("backup", *COMMON),
    "crm-tools": COMMON,
}
# What a check of a host that is well says, where a reader would miss it.
SAID: dict[str, tuple] = {
    "crm_answers": (None, "crm.example.com answers a user"),
    "crm_latency": (182, "a search took 182 ms"),
    "crm_certificate": (54.2, "crm.example.com: valid until Wed, 25 Feb 2026 12:00:00 GMT"),
    "db_connections": (34.0, "33 of 97 connections are in use"),
    "disk_space": (47.0, "/ is full to 47 %, 21.2 GiB are left"),
    "memory_available": (52.0, "4160 of 8000 MiB are available"),
    "backup_age": (6.4, "6.4 hours old, 16 sets"),
    "db_up": (None, "PostgreSQL 15.14 answers"),
}
UNWELL = {
    ("crm-db", "db_longest_query"): (
        "warning",
        5212,
        "process 41872 of reports has run for 5212 s: SELECT c.name, sum(i.total_amount) FROM account_invoice i JOIN",
        "SELECT pg_cancel_backend(41872)",
    ),
    ("crm-db", "disk_space"): (
        "warning",
        83.6,
        "/var/lib/postgresql is full to 84 %, 19.7 GiB are left",
        "du -xh --max-depth=2 /var/lib/postgresql | sort -h | tail",
    ),
    ("crm-db", "db_grants_drift"): (
        "warning",
        1,
        "TABLE customer.customer: intern has SELECT, which is not declared",
        "ansible-playbook crm.platform.customer_data --check --diff shows each statement; without --check it does them",
    ),
    ("crm-app2", "crm_units"): (
        "critical",
        1,
        "crm-platform-worker.service is not running",
        "journalctl -u crm-platform-worker.service -n 50; systemctl restart crm-platform-worker.service",
    ),
    ("crm-app2", "qos_drops"): (
        "warning",
        6.1,
        "bulk on eth0 dropped 5201 of 85264 packets and had to wait 61022 times",
        "tc -s class show dev DEVICE; raise qos_rate, or the class's guarantee in qos_classes",
    ),
    ("crm-app1", "updates"): (
        "warning",
        3,
        "3 wait: openssl, libssl3, linux-image-amd64",
        "apt-get update && apt-get upgrade; a reboot where the kernel is among them",
    ),
    ("crm-app1", "sec_exposure"): (
        "unknown",
        None,
        "no answer within 5 s",
        "find out what hangs; systemd-analyze security UNIT tells what to confine",
    ),
}


def series(seed: str, level: float, daily: float = 0.0, trend: float = 0.0, noise: float = 0.1, gap: bool = False, peak: float = 1.0) -> list:
    """A value an hour for 30 days: busy at noon on weekdays, with a trend over all of it."""
    chance, found = random.Random(seed), []
    for hour in range(720):
        at = NOW - (719 - hour) * 3600
        day = time.gmtime(at)
        if gap and 300 < hour < 342:
            continue
        busy = max(0.0, math.sin((day.tm_hour - 7) / 11 * math.pi)) if 7 <= day.tm_hour <= 18 else 0.0
        busy *= 0.2 if day.tm_wday >= 5 else 1.0
        spike = peak if chance.random() > 0.994 else 1.0
        value = (level + daily * busy + trend * hour / 720) * (1 + chance.uniform(-noise, noise)) * spike
        found.append([at, round(max(0.0, value), 3)])
    return found


def history(name: str, unwell: bool) -> dict:
    areas = AREAS[name]
    found = {
        "load5": series(name + "load", 0.3, 1.4, 0, 0.2, False, 1.8),
        "memory_available_percent": series(name + "memory", 62, -14, -4, 0.03),
        "disk_used_percent": [
            [at, min(100, value)] for at, value in series(name + "disk", 44 if name != "crm-db" else 58, 0, 25 if name == "crm-db" else 3, 0.004)
        ],
    }
    if "crm" in areas:
        found.update(crm_latency_ms=series(name + "latency", 118, 90, 10, 0.18, name == "crm-app2", 2.4), bans=series(name + "bans", 2, 4, 0, 0.7))
    if "database" in areas:
        found.update(
            connections=series(name + "c", 14, 28, 0, 0.15),
            crm_queue=series(name + "q", 1, 14, 0, 0.6),
            database_bytes=series(name + "b", 21 * GIB, 0, 4.4 * GIB, 0.0005),
        )
    if name in ("crm-db", "crm-backup"):
        found["backup_bytes"] = [[at, value - (at % 604800) / 604800 * 2 * GIB] for at, value in series(name + "s", 16 * GIB, 0, 4 * GIB, 0.002)]
    if "qos" in areas:
        for number, (kind, level) in enumerate((("crm", 6e6), ("backup", 2e6), ("bulk", 3e6), ("ssh", 1e5))):
            found[f"qos eth0 {kind}"] = series(f"{name}{kind}", level / 3, level * 2.4 if kind != "backup" else 0, 0, 0.3)
            if kind == "backup":
                found[f"qos eth0 {kind}"] = [
                    [at, 38e6 * (0.9 + number / 50) if time.gmtime(at).tm_hour in (1, 2) else value / 8] for at, value in found["qos eth0 backup"]
                ]
    chance = random.Random(name)
    for area in areas:
        marks = {hour for hour in range(720) if chance.random() > 0.9995}
        found[f"status {area}"] = [
            [at, (2 if hour % 3 == 0 else 1) if hour in marks or (hour - 1) in marks or (hour - 2) in marks else 0]
            for hour, at in enumerate(NOW - (719 - hour) * 3600 for hour in range(720))
        ]
    if not unwell:
        return found
    if name == "crm-app2":
        found["status crm"][-2:] = [[at, 2] for at, dummy in found["status crm"][-2:]]
    return found


def result(check: registry.Check, host: str, unwell: bool) -> dict:
    value, message = SAID.get(check.id, (None, "it is well"))
    status, cure = "ok", ""
    if check.area == "backup" and host.startswith("crm-app") and check.id not in ("backup_state", "backup_files", "backup_runs"):
        status, value, message = "skipped", None, "another host answers for it"
    if unwell and (host, check.id) in UNWELL:
        status, value, message, cure = UNWELL[host, check.id]
    return {
        "id": check.id,
        "area": check.area,
        "title": check.title,
        "status": status,
        "value": value,
        "unit": check.unit,
        "warning": check.warning,
        "critical": check.critical,
        "message": message,
        "cure": cure,
        "seconds": 0.004,
    }


def said(unwell: bool) -> dict[str, t.Any]:
    """Host -> what health_check returned there."""
    found: dict[str, t.Any] = {}
    for name in GROUPS["all"]:
        if unwell and name == "crm-tools":
            found[name] = {"unreachable": True, "msg": "Failed to connect to the host via ssh: connect to host 10.0.0.16 port 22: No route to host"}
            continue
        checks = sorted(registry.REGISTRY.values(), key=lambda one: (registry.AREAS.index(one.area), one.id))
        results = [result(one, name, unwell) for one in checks if one.area in AREAS[name]]
        found[name] = {"results": results, "history": history(name, unwell), "seconds": 1.212, "problems": []}
    return found


def page(hosts: dict, groups: dict) -> str:
    return health_page.render(report.document(report.gathered(hosts), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW)), "1.0.0"), groups)


def chromium(profile: str, *words: str) -> None:
    subprocess.run(
        ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", f"--user-data-dir={profile}", *words],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )


def main() -> int:
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    one = {group: ["crm-db"] for group in ("all", "crm_app", "crm_database", "crm_package")}
    pages = {"unwell": (said(True), GROUPS), "well": (said(False), GROUPS), "single": ({"crm-db": said(False)["crm-db"]}, one)}
    for name, (hosts, groups) in pages.items():
        (target / f"{name}.html").write_text(page(hosts, groups), encoding="utf-8")
    place = (target / "unwell.html").resolve().as_uri()
    with tempfile.TemporaryDirectory(prefix="crm-browser-", ignore_cleanup_errors=True) as profile:
        chromium(profile, f"--screenshot={target / 'health-report.png'}", "--window-size=1280,1560", place)
        # A window of a browser is never as narrow as a phone: the page is shown in frames of that width, three parts of it side by side.
        frames = "".join(
            f'<iframe src="{place}{part}" style="border:6px solid #18202b;border-radius:28px;width:402px;height:856px;margin:10px"></iframe>'
            for part in ("", "#wrong", "#host-2")
        )
        phone = target / "phone.html"
        phone.write_text(f'<body style="margin:0;background:#c9d0d8;display:flex">{frames}', encoding="utf-8")
        chromium(
            profile, f"--screenshot={target / 'health-report-phone.png'}", "--window-size=1266,876", "--allow-file-access-from-files", phone.as_uri()
        )
        chromium(profile, f"--print-to-pdf={target / 'print.pdf'}", "--no-pdf-header-footer", place)
    subprocess.run(["pdftoppm", "-png", "-r", "80", str(target / "print.pdf"), str(target / "print")], check=True)
    (target / "print-1.png").rename(target / "health-report-print.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
