# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stranger could use: passwords that can be guessed, rights of everybody, secrets that others may read, services without confinement."""

from __future__ import annotations

import os
import re
import stat

from ..grants import scram
from .database import OURS, listed
from .probe import certificate_end
from .registry import CRITICAL, OK, WARNING, Reading, Skipped, check

PKI = "/etc/crm-platform/pki"
SECRETS = "/etc/crm-platform/secrets"
KEYS = ("/etc/crm-platform/pki", "/etc/crm-platform/crm-platform.conf")


@check("sec_passwords", "security", cure="ALTER ROLE NAME PASSWORD '...' (psql: \\password NAME)", source="postgresqltuner")
def passwords(host):
    """No database role has a password that can be guessed"""
    database = host.database
    if not database.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        raise Skipped("only a superuser may look at the passwords")
    guessed, old = [], []
    for name, stored in database.rows("SELECT rolname::text, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL AND rolcanlogin ORDER BY 1"):
        if scram.is_md5(stored):
            old.append(name)
        elif any(scram.matches(word, stored) for word in (name, name[::-1], f"{name}1", "password", "postgres", "changeme")):
            guessed.append(name)
    if guessed:
        return Reading(len(guessed), f"the password of {listed(guessed)} can be guessed", CRITICAL)
    if old:
        return Reading(len(old), f"the password of {listed(old)} is stored as MD5", WARNING)
    return Reading(0, "none can be guessed")


def days_left(host, path):
    """Days until a certificate ends, by openssl, which reads what the services read."""
    return (certificate_end(host.run("openssl", "x509", "-noout", "-enddate", "-in", path)) - host.now) / 86400


@check(
    "sec_certificates",
    "security",
    "days",
    21,
    7,
    "the platform's own is renewed by its repair; put a new one of yours in place of yours",
    "own",
    least=True,
    repair="renew_certificates",
)
def certificates(host):
    """Days that the certificates of this host and of its PostgreSQL are still valid"""
    paths = {PKI + "/host.crt"}
    if host.options.get("login_db"):
        paths.add(host.database.setting("ssl_cert_file"))
    found = {path: days_left(host, path) for path in sorted(paths) if path and os.path.exists(path)}
    if not found:
        raise Skipped("this host has no certificate")
    path = min(found, key=found.__getitem__)
    return Reading(found[path], f"{path} is valid for {found[path]:.0f} days")


@check(
    "sec_authority",
    "security",
    "days",
    180,
    30,
    "plan a day on which every host gets certificates of a new authority: move ca.key and ca.crt away on foundation_ca_host and run crm.platform.site",
    "own",
    least=True,
)
def authority(host):
    """Days that the internal authority is still valid"""
    path = PKI + "/ca.crt"
    if not os.path.exists(path):
        raise Skipped("this host knows no internal authority")
    left = days_left(host, path)
    return Reading(left, f"{path} is valid for {left:.0f} days; every certificate that it signed ends with it")


@check("sec_superusers", "security", cure="ALTER ROLE NAME NOSUPERUSER", source="own")
def superusers(host):
    """Only postgres is a superuser"""
    names = [row[0] for row in host.database.rows("SELECT rolname::text FROM pg_roles WHERE rolsuper AND rolname <> 'postgres' ORDER BY 1")]
    return Reading(len(names), f"{listed(names)} can do everything" if names else "only postgres is", WARNING if names else OK)


@check("sec_public", "security", cure="REVOKE ... FROM PUBLIC, or run crm.platform.customer_data", source="own")
def public(host):
    """Everybody has no right on the customers' data, nor on making tables"""
    rows = host.database.rows(
        "SELECT DISTINCT 'schema ' || quote_ident(n.nspname) FROM pg_namespace n, aclexplode(n.nspacl) a"
        f" WHERE a.grantee = 0 AND (n.nspname = 'customer' OR a.privilege_type = 'CREATE') AND {OURS}"
        " UNION SELECT DISTINCT format('table %I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,"
        " aclexplode(c.relacl) a WHERE a.grantee = 0 AND n.nspname IN ('customer', 'public')"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"
        " UNION SELECT DISTINCT format('columns of %I.%I', n.nspname, c.relname) FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(t.attacl) a WHERE a.grantee = 0 AND n.nspname IN ('customer', 'public') ORDER BY 1"
    )
    names = [row[0] for row in rows]
    return Reading(len(names), f"everybody has rights on {listed(names)}" if names else "everybody has none", CRITICAL if names else OK)


@check("sec_tls", "security", cure="run crm.platform.database", source="own")
def tls(host):
    """No client of the database comes from elsewhere without TLS"""
    if host.database.setting("ssl") == "off":
        return Reading(None, "the server offers no TLS", CRITICAL)
    rows = host.database.rows(
        "SELECT DISTINCT coalesce(a.usename::text, '') || ' from ' || host(a.client_addr) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)"
        " WHERE a.client_addr IS NOT NULL AND NOT s.ssl AND host(a.client_addr) NOT IN ('127.0.0.1', '::1')"
    )
    names = [row[0] for row in rows]
    return Reading(len(names), f"{listed(names)} without TLS" if names else "all come with TLS", WARNING if names else OK)


@check("sec_pg_hba", "security", cure="take the line out of pg_hba.conf, or run crm.platform.database", source="own")
def pg_hba(host):
    """No line of pg_hba.conf lets somebody in without a password"""
    rows = host.database.rows(
        "SELECT line_number, type, auth_method FROM pg_hba_file_rules WHERE error IS NULL AND auth_method IN ('trust', 'password', 'md5', 'ident')"
        " AND NOT (type = 'local' AND auth_method = 'ident') ORDER BY 1"
    )
    if not rows:
        return Reading(0, "every line asks for proof")
    bad = CRITICAL if any(row[2] == "trust" for row in rows) else WARNING
    return Reading(len(rows), "; ".join(f"line {row[0]}: {row[1]} {row[2]}" for row in rows[:3]), bad)


@check("sec_secrets", "security", cure="chown root:root FILE; chmod 0600 FILE; then exchange the secret: somebody may have read it", source="own")
def secrets(host):
    """Only root reads the platform's secrets"""
    if not os.path.isdir(SECRETS):
        raise Skipped("the platform keeps no secrets on this host")
    bad = []
    for directory in (SECRETS, *KEYS):
        for place, dummy, files in (
            os.walk(directory) if os.path.isdir(directory) else [(os.path.dirname(directory), [], [os.path.basename(directory)])]
        ):
            host.left  # pylint: disable=pointless-statement  # the time of the check
            for name in files:
                path = os.path.join(place, name)
                if name.endswith((".crt", ".pem.pub", ".pub")) or not os.path.isfile(path) or os.path.islink(path):
                    continue
                mode = os.stat(path).st_mode
                # Not one is for others; those of the directory of secrets are not for a group either.
                if mode & stat.S_IRWXO or (directory == SECRETS and mode & stat.S_IRWXG) or os.stat(path).st_uid != 0:
                    bad.append(path)
    if bad:
        return Reading(len(bad), f"{listed(bad)} can be read by others", CRITICAL)
    if os.stat(SECRETS).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Reading(
            0, f"others may look into {SECRETS}: the next secret there may be theirs", WARNING, f"chown root:root {SECRETS}; chmod 0700 {SECRETS}"
        )
    return Reading(0, "nobody else does")


@check("sec_exposure", "security", "points", 6, 9, "systemd-analyze security UNIT tells what to confine", "systemd")
def exposure(host):
    """How exposed the least confined unit of the CRM is, of 10"""
    if not host.options.get("crm"):
        raise Skipped("the CRM does not run on this host")
    worst = None
    for unit in ("crm-platform.service", "crm-platform-worker.service", "crm-platform-cron.service"):
        text = host.run("systemd-analyze", "security", "--no-pager", unit, check=False)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
        if found and (worst is None or float(found[1]) > worst[0]):
            worst = (float(found[1]), unit)
    if worst is None:
        raise Skipped("systemd-analyze does not tell")
    return Reading(worst[0], f"{worst[1]} has {worst[0]} of 10 points")


@check("sec_ssh", "security", cure="PermitRootLogin prohibit-password and PasswordAuthentication no in /etc/ssh/sshd_config.d/", source="own")
def ssh(host):
    """Nobody logs in by ssh with a password as root"""
    try:
        text = host.run("sshd", "-T")
    except OSError as error:
        if "privilege separation directory" in str(error):
            # systemd makes it with the service, and with ssh.socket that is not running yet.
            raise Skipped("sshd tells its settings only while it runs: /run/sshd is missing") from None
        raise
    known = dict(line.split(" ", 1) for line in text.lower().splitlines() if " " in line)
    # PAM asks for the password by the keyboard, whatever PasswordAuthentication says; before OpenSSH 8.7 that had another name.
    asks = known.get("usepam") == "yes" and "yes" in (known.get("kbdinteractiveauthentication"), known.get("challengeresponseauthentication"))
    if known.get("permitemptypasswords") == "yes":
        return Reading(None, "empty passwords are let in", CRITICAL)
    if known.get("permitrootlogin") == "yes" and (known.get("passwordauthentication") == "yes" or asks):
        return Reading(None, "root may log in with a password", WARNING)
    return Reading(None, "root needs a key")
