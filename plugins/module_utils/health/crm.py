# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CRM: what its users feel (login, answers, certificate), and what they do not see yet (queue, scheduled tasks)."""

from __future__ import annotations

import email.utils
import http.client
import subprocess
import time

from ..units import parse_show
from .probe import Refused, certificate_end
from .registry import CRITICAL, OK, WARNING, Reading, Skipped, TimeOver, check

UNITS = ("crm-platform.service", "crm-platform-worker.service", "crm-platform-cron.service")
CONFIGURATION, SERVICE_USER = "/etc/crm-platform/crm-platform.conf", "crm-platform"
ATTACHMENTS = "/var/lib/crm-platform/data"
# For a login and a search where it is known that the database hangs.
BRIEF_SECONDS = 0.3


@check("crm_units", "crm", cure="journalctl -u UNIT -n 50; systemctl restart UNIT", repair="restart_services")
def units(host):
    """The CRM's units run"""
    if not host.options.get("crm"):
        raise Skipped("the CRM does not run on this host")
    states = host.run("systemctl", "is-active", *UNITS, "nginx.service", check=False).split()
    down = [unit for unit, state in zip([*UNITS, "nginx.service"], states) if state != "active"]
    if down:
        return Reading(
            len(down),
            f"{', '.join(down)} {'is' if len(down) == 1 else 'are'} not running",
            CRITICAL,
            f"journalctl -u {down[0]} -n 50; systemctl restart {down[0]}",
        )
    return Reading(0, "web, worker, cron and nginx run")


@check("crm_boot", "crm", cure="systemctl enable UNIT")
def boot(host):
    """The CRM's units start at the next boot, too"""
    if not host.options.get("crm"):
        raise Skipped("the CRM does not run on this host")
    units_ = [*UNITS, "nginx.service"]
    live = parse_show(host.run("systemctl", "show", "--property", "Id,UnitFileState", *units_, check=False))
    # What is enabled for this boot only is gone after the next.
    lasting = ("enabled", "static", "alias", "indirect", "generated")
    off = [unit for unit in units_ if live.get(unit, {}).get("UnitFileState") not in lasting]
    if off:
        return Reading(len(off), f"{', '.join(off)} will not start at the next boot", CRITICAL, f"systemctl enable {' '.join(off)}")
    return Reading(0, "web, worker, cron and nginx start at boot")


@check("crm_attachments", "crm", cure="see owner and mount of the directory: namei -l PATH; findmnt -T PATH")
def attachments(host):
    """The CRM can write attachments"""
    if not host.options.get("crm"):
        raise Skipped("the CRM does not run on this host")
    path = next(
        (line.split("=", 1)[1].strip() for line in host.read(CONFIGURATION).splitlines() if line.split("=", 1)[0].strip() == "path"),
        ATTACHMENTS,
    )
    user = ("setpriv", f"--reuid={SERVICE_USER}", f"--regid={SERVICE_USER}", "--clear-groups")
    if host.status(*user, "test", "-d", path, "-a", "-w", path, "-a", "-x", path)[0]:
        return Reading(1, f"{SERVICE_USER} cannot write to {path}, so no attachment can be saved", CRITICAL, f"namei -l {path}; findmnt -T {path}")
    return Reading(0, f"{path} can be written")


@check("crm_answers", "crm", cure="journalctl -u crm-platform -n 50; tail /var/log/nginx/error.log", repair="restart_services")
def answers(host):
    """A user can log in over HTTPS and read a record"""
    crm = host.crm
    if host.database_hangs:
        # The CRM waits for it, too, and what hangs is to cost its time once.
        host.deadline = min(host.deadline, time.monotonic() + BRIEF_SECONDS)
    try:
        crm.login()
        began = time.perf_counter()
        crm.call("model.party.party.search", [], 0, 1, None, {})
        host.once("crm latency", lambda: 1000 * (time.perf_counter() - began))
        crm.logout()
    except TimeOver:
        if host.database_hangs:
            return Reading(None, f"{crm.name} does not answer its users; PostgreSQL hangs", CRITICAL, "see db_up", "")
        # Its users wait, too: this is no doubt about the check.
        why = host.overload()
        if why:
            return Reading(None, f"{crm.name} does not answer its users in time: {why}", CRITICAL, "see load for what takes the processors", "")
        return Reading(None, f"{crm.name} does not answer its users in time", CRITICAL)
    except Refused as error:
        return Reading(
            None,
            f"{crm.name} answers, but {error}",
            WARNING,
            "wait until the CRM lets the user in again, or ansible-playbook crm.platform.repair -e repair=unlock_logins -e repair_login=NAME;"
            " crm_failed_logins tells who tries"
            if error.locked
            else f"write the user's password of today into {crm.given['password_file']}, for root only",
            "",
        )
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Reading(None, f"{crm.name}: {error}", CRITICAL)
    return Reading(None, f"{crm.name} answers a user")


@check("crm_latency", "crm", "ms", 500, 2000, "see db_slow_statements, load and memory; crm_service_workers")
def latency(host):
    """Time of a search by a user"""
    if not host.options.get("crm"):
        raise Skipped("the CRM does not run on this host")

    def none():
        raise Skipped("the CRM did not answer, see crm_answers")

    value = host.once("crm latency", none)
    host.series["crm_latency_ms"] = value
    return Reading(value, f"a search took {value:.0f} ms")


@check("crm_workers", "crm", cure="systemctl restart crm-platform.service; the journal says why a worker ended")
def workers(host):
    """The web processes are there and do not start over and over"""
    if not host.options.get("crm"):
        raise Skipped("the CRM does not run on this host")
    values = dict(
        line.split("=", 1) for line in host.run("systemctl", "show", "-p", "NRestarts,TasksCurrent,ActiveState", UNITS[0]).splitlines() if "=" in line
    )
    grown = host.rate("crm_restarts", float(values.get("NRestarts") or 0))
    if grown and grown[0] > 0:
        return Reading(grown[0], f"the CRM was started again {grown[0]:.0f} times by itself since the last run", WARNING)
    return Reading(0, f"{values.get('TasksCurrent', '?')} tasks, no restart since the last run")


@check(
    "crm_certificate",
    "crm",
    "days",
    21,
    7,
    "put a new one of yours in place; the platform's own is renewed by its repair",
    least=True,
    repair="renew_certificates",
)
def certificate(host):
    """Days that the certificate is still valid"""
    crm = host.crm
    done = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-enddate"], input=crm.certificate(), capture_output=True, timeout=host.left, check=False
    )
    if done.returncode:
        raise OSError("openssl does not read the certificate")
    ends = certificate_end(done.stdout.decode())
    return Reading((ends - host.now) / 86400, f"{crm.name}: valid until {email.utils.formatdate(ends, usegmt=True)}")


def _tryton(host):
    if not host.database.has("ir_queue"):
        raise Skipped("the CRM's tables are not in this database")
    return host.database


@check("crm_queue", "crm", "s", 600, 3600, "systemctl restart crm-platform-worker; its journal names the task that fails", "own")
def queue(host):
    """Age of the oldest task that waits in the queue"""
    number, age = _tryton(host).row(
        "SELECT count(*), coalesce(extract(epoch FROM (now() AT TIME ZONE 'UTC') - min(coalesce(scheduled_at, enqueued_at))), 0)::float8 FROM ir_queue"
        " WHERE dequeued_at IS NULL AND coalesce(scheduled_at, enqueued_at) <= now() AT TIME ZONE 'UTC'"
    )
    host.series["crm_queue"] = number
    return Reading(age, f"{number} tasks wait")


@check(
    "crm_queue_stuck",
    "crm",
    "h",
    6,
    24,
    "runuser -u postgres -- psql -d crm -c 'SELECT id, name FROM ir_queue WHERE dequeued_at IS NOT NULL AND finished_at IS NULL';"
    " systemctl restart crm-platform-worker",
    "own",
)
def queue_stuck(host):
    """Age of the oldest task that was taken from the queue and not finished"""
    number, age = _tryton(host).row(
        "SELECT count(*), coalesce(extract(epoch FROM (now() AT TIME ZONE 'UTC') - min(dequeued_at)) / 3600, 0)::float8 FROM ir_queue"
        " WHERE dequeued_at IS NOT NULL AND finished_at IS NULL"
    )
    return Reading(age, f"{number} tasks were begun and not finished" + (f", the first {age:.0f} hours ago" if number else ""))


@check(
    "crm_queue_length",
    "crm",
    "tasks",
    1000,
    10000,
    "see what fills it: SELECT name, count(*) FROM ir_queue WHERE dequeued_at IS NULL GROUP BY 1",
    "own",
)
def queue_length(host):
    """Tasks that wait in the queue"""
    number = _tryton(host).value("SELECT count(*) FROM ir_queue WHERE dequeued_at IS NULL")
    return Reading(number, f"{number} tasks wait")


@check("crm_cron", "crm", "s", 1800, 7200, "systemctl restart crm-platform-cron; its journal names the task that fails", "own")
def cron(host):
    """How late the latest scheduled task is"""
    rows = _tryton(host).rows(
        "SELECT method, extract(epoch FROM (now() AT TIME ZONE 'UTC') - next_call)::float8 FROM ir_cron"
        " WHERE active AND next_call IS NOT NULL ORDER BY next_call LIMIT 1"
    )
    if not rows:
        return Reading(0, "no task is scheduled")
    method, late = rows[0]
    return Reading(max(0.0, late), f"{method} is late by {late:.0f} s" if late > 0 else f"{method} is next, in {-late:.0f} s")


@check("crm_tasks", "crm", "tasks", 1, 3, "journalctl -u crm-platform-cron has the error of each", "own")
def tasks(host):
    """Scheduled tasks that fail each time they run"""
    # A run that succeeds leaves a row in the log; one that fails only moves on to the next time. The log is kept for a month, so tasks
    # that are due less than weekly are not judged, nor those that were switched on long after they were made.
    rows = _tryton(host).rows(
        "SELECT method, extract(epoch FROM now_ - ended)::float8 / 3600 FROM ("
        "SELECT c.method, now() AT TIME ZONE 'UTC' AS now_,"
        " coalesce(max(l.ended), CASE WHEN c.create_date > (now() AT TIME ZONE 'UTC') - interval '20 days' THEN c.create_date END) AS ended,"
        " c.interval_number * CASE c.interval_type WHEN 'minutes' THEN interval '1 minute' WHEN 'hours' THEN interval '1 hour'"
        " WHEN 'days' THEN interval '1 day' WHEN 'weeks' THEN interval '7 days' END AS every"
        " FROM public.ir_cron c LEFT JOIN public.ir_cron_log l ON l.cron = c.id"
        " WHERE c.active AND c.next_call > now() AT TIME ZONE 'UTC' GROUP BY c.id) AS tasks"
        " WHERE every <= interval '7 days' AND ended < now_ - 2.5 * every - interval '1 hour' ORDER BY 2 DESC"
    )
    named = ", ".join(f"{method} (not for {hours:.0f} hours)" for method, hours in rows[:3])
    return Reading(len(rows), f"without success: {named}" if rows else "each has succeeded when it was due")


@check(
    "crm_failed_logins",
    "crm",
    "logins",
    50,
    500,
    "see who tries: SELECT login, ip_address, count(*) FROM res_user_login_attempt GROUP BY 1, 2; narrow the firewall",
    "own",
    repair="unlock_logins",
)
def failed_logins(host):
    """Failed logins within a day"""
    number = _tryton(host).value("SELECT count(*) FROM res_user_login_attempt WHERE create_date > (now() AT TIME ZONE 'UTC') - interval '1 day'")
    return Reading(number, f"{number} failed logins within a day")


@check("crm_version", "crm", cure="crm.platform.site installs what the repository has")
def version(host):
    """The CRM is the newest of the repository"""
    if not host.options.get("crm"):
        raise Skipped("the CRM does not run on this host")
    lines = dict(line.strip().split(": ", 1) for line in host.run("apt-cache", "policy", "crm-platform").splitlines() if ": " in line)
    have, newest = lines.get("Installed", "(none)"), lines.get("Candidate", "(none)")
    if have == "(none)":
        return Reading(None, "the package crm-platform is not installed", CRITICAL)
    return Reading(None, f"{have} is installed" + (f", {newest} is in the repository" if have != newest else ""), OK if have == newest else WARNING)
