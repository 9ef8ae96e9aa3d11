# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/crm_service: the CRM, as its users find it."""

from __future__ import annotations

import http.client
import json
import re
import time

import platforms
import pytest
import tryton


def test_a_user_logs_in_writes_and_reads(client):
    party = client.create_party("Müller & Söhne, Zürich 漢字")
    assert client.party_name(party) == "Müller & Söhne, Zürich 漢字"


def test_a_wrong_password_is_refused(crm):
    with pytest.raises(tryton.Refused, match="HTTP 401"):
        crm.client().login("admin", "wrong")


def test_another_database_is_not_reached(crm):
    other = crm.client()
    other.database = "postgres"
    with pytest.raises(tryton.Refused, match="HTTP 404"):
        other.call("common.db.login", "admin", {"password": "x"}, "en")


def test_company_and_countries_are_there(client):
    assert client.call("model.company.company.search_count", [], 0, None, {}) == 1
    assert client.call("model.country.country.search_count", [], 0, None, {}) > 200
    assert client.call("model.ir.module.search_count", [["state", "=", "activated"]], 0, None, {}) >= 25


def test_the_web_client_and_what_it_loads(crm):
    status, dummy, page = crm.client().request("GET", "/")
    assert status == 200 and b"tryton" in page.lower()
    kept = {}
    for path in re.findall(rb'(?:src|href)="([^":]+\.(?:js|css))"', page):
        status, headers, dummy = crm.client().request("GET", "/" + path.decode().lstrip("./"))
        assert status == 200, path
        kept[path] = headers.get("cache-control", "")
        # What is not kept for a while is asked for with a condition each time, so that an update is seen.
        assert "max-age" in kept[path] or ("no-cache" in kept[path] and "last-modified" in headers), path
    assert len([path for path, how in kept.items() if "max-age" in how]) >= 8


def test_static_files_are_compressed(crm):
    page = crm.client().request("GET", "/")[2]
    largest = max(
        (path.decode().lstrip("./") for path in re.findall(rb'src="([^":]+\.js)"', page)),
        key=lambda path: len(crm.client().request("GET", "/" + path)[2]),
    )
    assert crm.client().request("GET", "/" + largest, headers={"Accept-Encoding": "gzip"})[1].get("content-encoding") == "gzip"


def test_health_proves_the_database(crm):
    assert crm.health()["code"] == 200 and crm.health()["status"] == "ok"
    began = time.monotonic()
    for dummy in range(5):
        crm.health()
    assert (time.monotonic() - began) / 5 < 0.5, "a health check costs no password hash"


def test_headers(crm):
    dummy, headers, dummy = crm.client().request("GET", "/")
    assert int(re.search(r"max-age=(\d+)", headers["strict-transport-security"])[1]) >= 31536000
    assert headers.get("x-content-type-options") == "nosniff"
    assert "x-frame-options" in headers or "frame-ancestors" in headers.get("content-security-policy", "")
    assert not re.search(r"\d", headers.get("server", "")), "the version of nginx is nobody's business"


def test_http_redirects(crm):
    plain = http.client.HTTPConnection(crm.host.address, 80, timeout=10)
    plain.request("GET", "/crm/?x=1", headers={"Host": crm.domain})
    answer = plain.getresponse()
    assert answer.status in (301, 308)
    assert answer.getheader("Location") == f"https://{crm.domain}/crm/?x=1"


@pytest.mark.parametrize(("version", "answered"), [("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_tls_versions(crm, version, answered):
    weak = ("-cipher", "DEFAULT@SECLEVEL=0") if version in ("tls1", "tls1_1") else ()
    done = crm.host.run("openssl", "s_client", "-connect", "127.0.0.1:443", "-servername", crm.domain, f"-{version}", *weak, check=False, input="")
    assert (done.returncode == 0 and "Verify return code" in done.stdout and "Cipher is (NONE)" not in done.stdout) == answered
    if not answered:
        assert "alert protocol version" in done.stderr, "the server refused, not the client"


@pytest.mark.parametrize("cipher", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA", "aNULL:eNULL"])
def test_old_ciphers_are_refused(crm, cipher):
    done = crm.host.run("openssl", "s_client", "-connect", "127.0.0.1:443", "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0", check=False, input="")
    assert done.returncode != 0


def test_a_request_that_is_too_large_is_refused(crm):
    status, dummy, dummy = crm.client().request("POST", "/crm/rpc/", headers={"Content-Length": str(10 * 2**30), "Content-Type": "application/json"})
    assert status == 413


@pytest.mark.parametrize("unit", platforms.UNITS)
def test_units_run_hardened(crm, unit):
    assert crm.unit(unit, "ActiveState", "UnitFileState") == ["active", "enabled"], crm.host.sh(f"journalctl -n 40 --no-pager -u {unit}")
    exposure = json.loads(crm.host.run("systemd-analyze", "security", "--json=short", unit, check=False).stdout)
    text = crm.host.run("systemd-analyze", "security", "--no-pager", unit, check=False).stdout
    level = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", text)[1])
    assert level <= 2.0, (level, exposure)
    process = crm.unit(unit, "MainPID")[0]
    assert re.search(r"^NoNewPrivs:\s+1$", crm.host.read(f"/proc/{process}/status"), re.MULTILINE)
    assert crm.host.sh(f"stat --format %U /proc/{process}") == "crm-platform\n"


def test_the_configuration_is_roots_and_the_services(crm):
    assert crm.host.stat("/etc/crm-platform/crm-platform.conf") == "regular file root:crm-platform 640"


def processes(crm):
    return {unit: crm.unit(unit, "MainPID")[0] for unit in platforms.UNITS}


def work_off(crm, client, party, name):
    """Give the queue worker something to do; fail if it does not do it."""
    script = f"Party = pool.get('party.party')\nParty.__queue__.write([Party({party})], {{'name': {name!r}}})\ntransaction.commit()\n"
    crm.host.run("crm-platform-console", input=script)
    return crm.host.wait_for("the queue worker", lambda: client.party_name(party) == name, 60)


def wait_for_scheduled(crm):
    """Make a monthly action due; fail if the scheduler, which looks each minute, does not run it."""
    number = crm.sql("update ir_cron set next_call = now() - interval '2 days' where method = 'ir.error|clean' returning id")
    # Not a count of the last minutes, which an earlier run leaves when its time is over.
    ran = f"select coalesce(max(id), 0) from ir_cron_log where cron = {number}"
    before = int(crm.sql(ran))
    took = crm.host.wait_for("the scheduler", lambda: int(crm.sql(ran)) > before, 100)
    # Tryton commits what ran before it commits when it runs next.
    crm.host.wait_for("the next call", lambda: crm.sql(f"select next_call > now() from ir_cron where id = {number}") == "t", 10)
    return took


def test_the_queue_is_worked_off(crm, client):
    work_off(crm, client, client.create_party("Queued"), "Worked off")


def test_restart_of_the_crm_restarts_all_of_it(crm):
    before = processes(crm)
    crm.host.run("systemctl", "restart", "crm-platform")
    crm.host.wait_for("the CRM", crm.healthy, 30)
    after = processes(crm)
    assert [unit for unit in before if before[unit] == after[unit] or after[unit] == "0"] == []


def test_postgresql_restarts_under_four_clients(crm, client):
    name = "Found again"
    party = client.create_party(name)
    with tryton.Searchers(client, 4, party, name) as searchers:
        time.sleep(3)
        crm.host.run("systemctl", "restart", "postgresql")
        time.sleep(15)
    print(f"longest gap {searchers.longest_gap:.2f} s, {len(searchers.answers)} answers, {len(searchers.errors)} errors")
    assert searchers.longest_gap <= 5.0, searchers.errors[:3]
    for unit in platforms.UNITS:
        crm.host.wait_for(unit, lambda unit=unit: crm.unit(unit, "ActiveState") == ["active"], 15)
    work_off(crm, client, party, "Worked off after the restart")
    print(f"the scheduler ran what was due after {wait_for_scheduled(crm):.0f} s")
    live = crm.sql("select string_agg(distinct application_name, ' ') from pg_stat_activity where usename = 'crm'")
    assert "crm-platform-web" in live and "crm-platform-worker" in live


def test_postgresql_crashes_under_the_worker(crm, client):
    """All connections break, but no unit is restarted: nothing but the CRM itself can notice."""
    party = client.create_party("Before the crash")
    crm.host.sh("pkill -KILL -f '^postgres: .*checkpointer'")
    crm.host.wait_for("PostgreSQL and the CRM", crm.healthy, 60)
    work_off(crm, client, party, "After the crash of a part")
    crm.host.sh("kill -KILL $(cat /run/postgresql/*-main.pid)")
    crm.host.wait_for("the end of PostgreSQL", lambda: not crm.healthy(), 20)
    crm.host.wait_for("PostgreSQL and the CRM", crm.healthy, 60)
    work_off(crm, client, party, "After the crash")
