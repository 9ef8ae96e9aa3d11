# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the server, how it is taken back, and what has to be told of it.

Where a fault needs days, hours or thousands to count, the limit is lower: what is looked at stays the real thing.
"""

from __future__ import annotations

import dataclasses
import shlex
import typing as t

WARNING, CRITICAL, UNKNOWN, SKIPPED = "warning", "critical", "unknown", "skipped"
BACKUPS, REPOSITORY, PKI = "/var/lib/crm-platform/backup", "/var/backups/crm-platform", "/etc/crm-platform/pki"
STATUS = "crm-platform-backup status > /dev/null || true"


@dataclasses.dataclass(frozen=True)
class Fault:
    """``make`` and ``back`` are scripts for the shell, or functions that get the lab.

    :param told: the status of each check that is not ok any more, or is skipped where it was not.
    :param limits: thresholds for this look.
    :param patience: seconds that it may take until it shows, as where a neighbour has to be missed first.
    """

    make: t.Union[str, t.Callable]
    back: t.Union[str, t.Callable]
    told: dict
    limits: dict = dataclasses.field(default_factory=dict)
    patience: float = 0


def sql(*statements: str, database: str = "crm") -> str:
    """Each statement is a transaction."""
    return f"runuser -u postgres -- psql -qXd {database} -v ON_ERROR_STOP=1 " + " ".join(f"-c {shlex.quote(one)}" for one in statements)


def setting(name: str, value: str) -> tuple[str, str]:
    """ALTER SYSTEM, and back."""
    reload = "SELECT pg_reload_conf()"
    there = f"until [ \"$({sql('SHOW ' + name)} -At)\" != \"$before\" ]; do sleep 0.05; done"
    make = f'before="$({sql("SHOW " + name)} -At)"; {sql(f"ALTER SYSTEM SET {name} = {value}", reload)} > /dev/null; {there}'
    return make, f'before="$({sql("SHOW " + name)} -At)"; {sql(f"ALTER SYSTEM RESET {name}", reload)} > /dev/null; {there}'


def session(name: str, *statements: str) -> str:
    """A client that says this and then nothing."""
    said = " ".join(f"{one};" for one in statements)
    client = f"(echo {shlex.quote(said)}; exec sleep 600) | env PGAPPNAME=fault psql -qXd crm"
    return f"systemd-run --quiet --collect --unit=fault-{name} --uid=postgres sh -c {shlex.quote(client)}"


# Until the CRM answers again.
ANSWERS = (
    "until python3 -c \"import ssl, urllib.request as r; r.urlopen('https://127.0.0.1/health', context=ssl._create_unverified_context())\" 2> /dev/null;"
    " do sleep 0.2; done"
)
ENDED = f"{sql('''SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fault' ''')} > /dev/null; systemctl stop 'fault-*'"


def table(name: str, rows: int) -> str:
    return f"CREATE TABLE public.{name} WITH (autovacuum_enabled = off) AS SELECT n AS a FROM generate_series(1, {rows}) n"


def edited(place: str, change: str) -> str:
    """A file of JSON, `x`, after a statement of Python."""
    program = f"import json, sys; x = json.load(open(sys.argv[1])); {change}; json.dump(x, open(sys.argv[1], 'w'))"
    return f"cp -p {place} /run/fault.json; python3 -c {shlex.quote(program)} {place}"


def put_back(place: str) -> str:
    return f"mv /run/fault.json {place}"


def certificate(days: str) -> tuple[str, str]:
    """The server's certificate, ending at another time; nginx shows it."""
    make = (
        f"cd {PKI}; cp -p host.crt /run/fault.crt; openssl x509 -x509toreq -copy_extensions copyall -in host.crt -signkey host.key -out /run/fault.csr"
        f" 2> /dev/null; openssl x509 -req -copy_extensions copyall -in /run/fault.csr -CA ca.crt -CAkey ca.key -set_serial 99 -days {days}"
        " -out /run/new.crt 2> /dev/null; cat /run/new.crt > host.crt; systemctl reload nginx; sleep 0.3"
    )
    return make, f"cat /run/fault.crt > {PKI}/host.crt; systemctl reload nginx; sleep 0.3"


def small_disk(options: str, then: str, place: str = "/srv/fault") -> str:
    """A file system that is looked at and holds little: what a container can have instead of a disk."""
    return (
        f"mkdir -p /run/fault {place}; mount -t tmpfs -o {options} fault /run/fault; mkdir /run/fault/lower /run/fault/upper /run/fault/work;"
        f" mount -t overlay fault -o lowerdir=/run/fault/lower,upperdir=/run/fault/upper,workdir=/run/fault/work {place}; {then}"
    )


NO_SMALL_DISK = "umount /srv/fault; umount /run/fault; rmdir /srv/fault /run/fault"


def repository(package: str, label: str) -> str:
    """A repository of packages with one that is newer than ours."""
    entry = (
        f"Package: {package}\\nVersion: 99:99\\nArchitecture: all\\nMaintainer: nobody <nobody@example.test>\\nFilename: ./none.deb\\nSize: 1\\n"
        f"SHA256: {64 * '0'}\\nDescription: none\\n\\n"
    )
    release = f"Origin: {label}\\nLabel: {label}\\nSuite: {label}\\nCodename: {label}\\n"
    return (
        f"mkdir -p /srv/fault; printf '{entry}' > /srv/fault/Packages; printf '{release}' > /srv/fault/Release;"
        " echo 'deb [trusted=yes] file:/srv/fault ./' > /etc/apt/sources.list.d/fault.list;"
        " apt-get update -qq -o Dir::Etc::sourcelist=sources.list.d/fault.list -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"
    )


NO_REPOSITORY = "rm -rf /srv/fault /etc/apt/sources.list.d/fault.list /var/lib/apt/lists/*srv_fault*"
# All that confines a unit, taken away.
LOOSE = "[Service]\\nUser=root\\n" + "".join(
    f"{one}\\n"
    for one in (
        "CapabilityBoundingSet=~",
        "SystemCallFilter=",
        "RestrictAddressFamilies=",
        "SystemCallArchitectures=",
        *(
            f"{name}=no"
            for name in (
                "NoNewPrivileges ProtectSystem ProtectHome ProtectClock ProtectControlGroups ProtectHostname ProtectKernelLogs ProtectKernelModules"
                " ProtectKernelTunables PrivateDevices PrivateTmp PrivateUsers RestrictNamespaces RestrictRealtime RestrictSUIDSGID LockPersonality"
                " MemoryDenyWriteExecute RemoveIPC"
            ).split()
        ),
        "ProtectProc=default",
        "ProcSubset=all",
        "IPAddressDeny=",
        "UMask=0022",
    )
)
LOOSE_FILE = "/run/systemd/system/crm-platform-cron.service.d/zz-fault.conf"


def failed_login(lab: t.Any) -> None:
    """A stranger who guesses."""
    try:
        lab.crm.client().login("nobody", "a guess")
    except Exception:  # pylint: disable=broad-except  # Tryton's answer to it is none of a login
        return
    raise AssertionError("a stranger is let in")


def clock_goes_back(lab: t.Any) -> None:
    """The last look was in what is the future now."""
    lab.looks.history(lambda kept: kept.update(at=kept["at"] + 3600))


def fills_quickly(lab: t.Any) -> None:
    """Empty an hour ago, and a third full now."""
    lab.server.sh(small_disk("size=30m", "true"))
    lab.look()
    lab.looks.history(lambda kept: kept.update(at=kept["at"] - 3600))
    lab.server.sh("head -c 10000000 /dev/zero > /srv/fault/log")


def router(make: str, back: str) -> tuple[t.Callable, t.Callable]:
    return lambda lab: lab.router.sh(make), lambda lab: lab.router.sh(back)


def deadlock() -> str:
    """Two who take the same two locks in different orders; one of them is told so."""
    one, two = (
        sql(f"SELECT pg_advisory_xact_lock({first}); SELECT pg_sleep(0.4); SELECT pg_advisory_xact_lock({second})")
        for first, second in ((1, 2), (2, 1))
    )
    return f"({one}) > /dev/null 2>&1 & ({two}) > /dev/null 2>&1; wait"


FULL_OF_CLIENTS = """
import time, psycopg2
kept = [psycopg2.connect(dbname="crm", application_name="fault")]
ask = kept[0].cursor()
ask.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
there = ask.fetchone()[0]
kept += [psycopg2.connect(dbname="crm", application_name="fault") for dummy in range(91 - there)]
open("/tmp/fault-connected", "w").close()
time.sleep(600)
"""
MANY_CLIENTS = (
    f"systemd-run --quiet --collect --unit=fault-clients --uid=postgres python3 -c {shlex.quote(FULL_OF_CLIENTS)};"
    " until [ -e /tmp/fault-connected ]; do sleep 0.1; done"
)

DATABASE = {
    "idle in transaction": Fault(
        session("idle", "BEGIN", "SELECT 1") + "; sleep 0.8",
        ENDED,
        {"db_idle_in_transaction": WARNING},
        {"db_idle_in_transaction": {"warning": 0.5}},
        patience=5,
    ),
    "idle in transaction for long": Fault(
        session("idle", "BEGIN", "SELECT 1") + "; sleep 0.8",
        ENDED,
        {"db_idle_in_transaction": CRITICAL},
        {"db_idle_in_transaction": {"warning": 0.2, "critical": 0.5}},
        patience=5,
    ),
    "long query": Fault(
        session("long", "SELECT pg_sleep(500)") + "; sleep 0.8",
        ENDED,
        {"db_longest_query": WARNING},
        {"db_longest_query": {"warning": 0.5}},
        patience=5,
    ),
    "lock wait": Fault(
        session("holds", "SELECT pg_advisory_lock(3)") + "; sleep 0.3; " + session("waits", "SELECT pg_advisory_lock(3)") + "; sleep 0.8",
        ENDED,
        {"db_lock_waits": CRITICAL},
        {"db_lock_waits": {"warning": 0.2, "critical": 0.5}},
        patience=5,
    ),
    "deadlock": Fault(deadlock(), "true", {"db_deadlocks": WARNING}, {"db_deadlocks": {"warning": 1}}),
    "transactions that are taken back": Fault(
        f"yes 'BEGIN; SELECT txid_current(); ROLLBACK;' | head -n 1500 | {sql('SELECT 1').partition(' -c ')[0]} > /dev/null",
        "true",
        {"db_rollbacks": CRITICAL},
    ),
    "prepared transaction": Fault(
        sql("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'fault'") + " > /dev/null; sleep 0.8",
        sql("ROLLBACK PREPARED 'fault'"),
        {"db_prepared_transactions": WARNING},
        {"db_prepared_transactions": {"warning": 0.5}},
    ),
    "connections near the limit": Fault(MANY_CLIENTS, ENDED + "; rm /tmp/fault-connected", {"db_connections": CRITICAL}),
    "invalid index": Fault(
        sql("CREATE UNIQUE INDEX CONCURRENTLY fault ON ir_model ((1))") + " 2> /dev/null || true",
        sql("DROP INDEX fault"),
        {"db_invalid_indexes": WARNING},
    ),
    "the same index twice": Fault(
        sql(table("fault", 60_000), "CREATE INDEX fault_1 ON fault (a)", "CREATE INDEX fault_2 ON fault (a)"),
        sql("DROP TABLE fault"),
        {"db_duplicate_indexes": WARNING},
    ),
    "large table without an index": Fault(
        sql(table("fault", 120_000), "DO $$ BEGIN FOR n IN 1..1001 LOOP PERFORM a FROM fault LIMIT 1; END LOOP; END $$", "ANALYZE fault"),
        sql("DROP TABLE fault"),
        {"db_missing_indexes": WARNING},
    ),
    "dead rows": Fault(
        sql(table("fault", 20_000), "DELETE FROM fault WHERE a > 6000", "ANALYZE fault"), sql("DROP TABLE fault"), {"db_dead_tuples": CRITICAL}
    ),
    "old statistics": Fault(
        sql(table("fault", 30_000)), sql("DROP TABLE fault"), {"db_vacuum_age": WARNING}, {"db_vacuum_age": {"warning": 0.00001, "critical": None}}
    ),
    "sequence near its end": Fault(
        sql("CREATE SEQUENCE public.fault AS smallint", "SELECT setval('fault', 32000)") + " > /dev/null",
        sql("DROP SEQUENCE fault"),
        {"db_sequences": CRITICAL},
    ),
    "slow statement": Fault(
        " ".join(f"(yes 'SELECT pg_sleep(0.05);' | head -n 25 | {sql('SELECT 1').partition(' -c ')[0]} > /dev/null) &" for dummy in range(4))
        + " wait",
        sql("SELECT pg_stat_statements_reset(userid, dbid, queryid) FROM pg_stat_statements WHERE query LIKE '%pg_sleep%'") + " > /dev/null",
        {"db_slow_statements": WARNING},
        {"db_slow_statements": {"warning": 45}},
    ),
    "temporary files": Fault(
        sql("SET work_mem = '64kB'; SELECT count(*) FROM (SELECT * FROM generate_series(1, 200000) n ORDER BY random()) x") + " > /dev/null",
        "true",
        {"db_temporary_files": WARNING},
        {"db_temporary_files": {"warning": 0.001}},
    ),
    "customers' table changed by hand": Fault(
        sql("ALTER TABLE customer.customer ALTER COLUMN name DROP NOT NULL"),
        sql("ALTER TABLE customer.customer ALTER COLUMN name SET NOT NULL"),
        {"db_schema_drift": WARNING},
    ),
    "rights changed by hand": Fault(
        sql("REVOKE SELECT ON customer.customer FROM crm_analyst"),
        sql("GRANT SELECT ON customer.customer TO crm_analyst"),
        {"db_grants_drift": WARNING},
    ),
    "disabled trigger": Fault(
        sql("ALTER TABLE party_party DISABLE TRIGGER ALL"), sql("ALTER TABLE party_party ENABLE TRIGGER ALL"), {"db_disabled_triggers": WARNING}
    ),
    "unproven foreign key": Fault(
        sql("ALTER TABLE party_party ADD CONSTRAINT fault FOREIGN KEY (create_uid) REFERENCES res_user (id) NOT VALID"),
        sql("ALTER TABLE party_party DROP CONSTRAINT fault"),
        {"db_disabled_triggers": WARNING},
    ),
    "slot without a reader": Fault(
        sql("SELECT pg_create_physical_replication_slot('fault', true)") + " > /dev/null",
        sql("SELECT pg_drop_replication_slot('fault')"),
        {"db_replication_slots": CRITICAL},
    ),
    "archive_command fails": Fault(
        setting("archive_command", "'false'")[0] + f"; {sql('SELECT pg_switch_wal() FROM (SELECT txid_current()) x')} > /dev/null;"
        f" until {sql('SELECT 1 / (last_failed_time > coalesce(last_archived_time, stats_reset))::int FROM pg_stat_archiver')} > /dev/null 2>&1;"
        f" do sleep 0.1; done; {STATUS}",
        setting("archive_command", "'false'")[1] + f"; {sql('SELECT txid_current()', 'SELECT pg_switch_wal()')} > /dev/null;"
        f" until {sql('SELECT 1 / (last_failed_time < last_archived_time)::int FROM pg_stat_archiver')} > /dev/null 2>&1; do sleep 0.1; done; {STATUS}",
        {"db_archive": CRITICAL, "backup_archive": CRITICAL},
    ),
    "setting that waits for a restart": Fault(
        sql("ALTER SYSTEM SET max_connections = 101", "SELECT pg_reload_conf()") + " > /dev/null; sleep 0.3",
        sql("ALTER SYSTEM RESET max_connections", "SELECT pg_reload_conf()") + " > /dev/null; sleep 0.3",
        {"db_pending_restart": WARNING},
    ),
    "setting from another file": Fault(
        f"echo 'jit = on' > /etc/postgresql/15/main/conf.d/zz.conf; {sql('SELECT pg_reload_conf()')} > /dev/null; sleep 0.3",
        f"rm /etc/postgresql/15/main/conf.d/zz.conf; {sql('SELECT pg_reload_conf()')} > /dev/null; sleep 0.3",
        {"db_outranked_settings": WARNING},
    ),
    "broken settings": Fault(
        "echo 'work_mem = much' > /etc/postgresql/15/main/conf.d/zz.conf", "rm /etc/postgresql/15/main/conf.d/zz.conf", {"db_config_files": CRITICAL}
    ),
    "broken pg_hba.conf": Fault(
        "echo nonsense >> /etc/postgresql/15/main/pg_hba.conf", "sed -i '$d' /etc/postgresql/15/main/pg_hba.conf", {"db_config_files": CRITICAL}
    ),
    "no autovacuum": Fault(*setting("autovacuum", "off"), {"db_safety_settings": CRITICAL}),
    "much WAL": Fault(*setting("max_wal_size", "'32MB'"), {"db_wal_size": WARNING}, {"db_wal_size": {"warning": 100, "critical": 10000}}),
    "another collation": Fault(
        sql("UPDATE pg_database SET datcollversion = 'older' WHERE datname = 'crm'"),
        sql("UPDATE pg_database SET datcollversion = pg_database_collation_actual_version(oid) WHERE datname = 'crm'"),
        {"db_collation": CRITICAL},
    ),
    "damaged block": Fault(
        sql("CREATE DATABASE fault STRATEGY file_copy", database="postgres")
        + f'; file="$({sql("SELECT pg_relation_filepath($$pg_description$$)", database="fault")} -At)";'
        ' printf damage | dd of="/var/lib/postgresql/15/main/$file" bs=1 seek=7000 conv=notrunc status=none;'
        f" {sql('SELECT count(*) FROM pg_description', database='fault')} > /dev/null 2>&1 || true",
        sql("DROP DATABASE fault", database="postgres"),
        {"db_checksums": CRITICAL},
    ),
    "PostgreSQL started again": Fault(
        f"systemctl restart postgresql@15-main; systemctl restart crm-platform crm-platform-worker crm-platform-cron; {ANSWERS}",
        "true",
        {"db_restart": WARNING},
    ),
}

SECURITY = {
    "weak password": Fault(sql("CREATE ROLE fault LOGIN PASSWORD 'fault'"), sql("DROP ROLE fault"), {"sec_passwords": CRITICAL}),
    "password as MD5": Fault(
        sql("SET password_encryption = md5; CREATE ROLE fault LOGIN PASSWORD 'not to be guessed'"), sql("DROP ROLE fault"), {"sec_passwords": WARNING}
    ),
    "superuser": Fault(sql("CREATE ROLE fault SUPERUSER"), sql("DROP ROLE fault"), {"sec_superusers": WARNING}),
    "rights of everybody": Fault(
        sql("GRANT SELECT ON customer.customer TO PUBLIC"),
        sql("REVOKE SELECT ON customer.customer FROM PUBLIC"),
        {"sec_public": CRITICAL, "db_grants_drift": WARNING},
    ),
    "everybody makes tables": Fault(
        sql("GRANT CREATE ON SCHEMA public TO PUBLIC"), sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC"), {"sec_public": CRITICAL}
    ),
    "no TLS": Fault(*setting("ssl", "off"), {"sec_tls": CRITICAL, "db_config_files": CRITICAL}),
    "pg_hba.conf lets in": Fault(
        "echo 'host all all 192.0.2.1/32 trust' >> /etc/postgresql/15/main/pg_hba.conf",
        "sed -i '$d' /etc/postgresql/15/main/pg_hba.conf",
        {"sec_pg_hba": CRITICAL},
    ),
    "secret for all": Fault(
        "chmod 644 /etc/crm-platform/secrets/admin_password", "chmod 600 /etc/crm-platform/secrets/admin_password", {"sec_secrets": CRITICAL}
    ),
    "directory of the secrets for all": Fault("chmod 755 /etc/crm-platform/secrets", "chmod 700 /etc/crm-platform/secrets", {"sec_secrets": WARNING}),
    "secret of somebody else": Fault(
        "chown postgres /etc/crm-platform/secrets/admin_password", "chown root /etc/crm-platform/secrets/admin_password", {"sec_secrets": CRITICAL}
    ),
    "the authority's key for all": Fault(f"chmod 644 {PKI}/ca.key", f"chmod 600 {PKI}/ca.key", {"sec_secrets": CRITICAL}),
    "unit without confinement": Fault(
        f"mkdir -p {LOOSE_FILE.rsplit('/', 1)[0]}; printf '{LOOSE}' > {LOOSE_FILE}; systemctl daemon-reload",
        f"rm {LOOSE_FILE}; systemctl daemon-reload",
        {"sec_exposure": CRITICAL},
    ),
    "root by password": Fault(
        "printf 'PermitRootLogin yes\\nPasswordAuthentication yes\\n' > /etc/ssh/sshd_config.d/00-fault.conf",
        "rm /etc/ssh/sshd_config.d/00-fault.conf",
        {"sec_ssh": WARNING},
    ),
    "empty passwords": Fault(
        "echo 'PermitEmptyPasswords yes' > /etc/ssh/sshd_config.d/00-fault.conf", "rm /etc/ssh/sshd_config.d/00-fault.conf", {"sec_ssh": CRITICAL}
    ),
}

CRM = {
    "worker stopped": Fault("systemctl stop crm-platform-worker", "systemctl start crm-platform-worker", {"crm_units": CRITICAL}),
    "cron stopped": Fault("systemctl stop crm-platform-cron", "systemctl start crm-platform-cron", {"crm_units": CRITICAL}),
    # The CRM's address goes with either, in order, and whoever watches it.
    "web stopped": Fault(
        "systemctl stop crm-platform",
        f"systemctl start crm-platform crm-platform-worker crm-platform-cron; {ANSWERS}",
        {"crm_units": CRITICAL, "crm_answers": CRITICAL, "crm_latency": SKIPPED, "routing_anycast": CRITICAL},
    ),
    "nginx stopped": Fault(
        "systemctl stop nginx",
        f"systemctl start nginx crm-platform-anycast; {ANSWERS}",
        {"crm_units": CRITICAL, "crm_answers": CRITICAL, "crm_latency": SKIPPED, "routing_anycast": CRITICAL, "crm_certificate": UNKNOWN},
    ),
    "web killed": Fault(f"systemctl kill --signal=KILL crm-platform; sleep 0.5; {ANSWERS}", "true", {"crm_workers": WARNING}),
    "queue that stands": Fault(
        "systemctl kill --signal=STOP crm-platform-worker; "
        + sql("INSERT INTO ir_queue (name, data, enqueued_at) VALUES ('fault', '{}', (now() AT TIME ZONE 'UTC') - interval '2 hours')"),
        sql("DELETE FROM ir_queue WHERE name = 'fault'") + "; systemctl kill --signal=CONT crm-platform-worker",
        {"crm_queue": CRITICAL},
    ),
    "task that was begun and never finished": Fault(
        sql("INSERT INTO ir_queue (name, data, enqueued_at, dequeued_at) SELECT 'fault', '{}', t, t FROM (SELECT now() - interval '2 days' AS t) x"),
        sql("DELETE FROM ir_queue WHERE name = 'fault'"),
        {"crm_queue_stuck": CRITICAL},
    ),
    "scheduled task that never succeeds": Fault(
        sql("UPDATE ir_cron SET create_date = '2020-01-01', next_call = now() + interval '1 hour' WHERE method = 'ir.queue|clean'")
        + "; "
        + sql("UPDATE ir_cron_log SET ended = '2020-01-01' WHERE cron = (SELECT id FROM ir_cron WHERE method = 'ir.queue|clean')"),
        # A slow host has logged a run of the task by now: its row goes too, or the task stays one that last succeeded in 2020.
        sql("DELETE FROM ir_cron_log WHERE ended = '2020-01-01'") + "; " + sql("UPDATE ir_cron SET create_date = now() WHERE method = 'ir.queue|clean'"),
        {"crm_tasks": WARNING},
    ),
    "web not started at boot": Fault("systemctl disable crm-platform", "systemctl enable crm-platform", {"crm_boot": CRITICAL}),
    "attachments that cannot be written": Fault(
        "chown root: /var/lib/crm-platform/data; chmod 755 /var/lib/crm-platform/data",
        "chown crm-platform: /var/lib/crm-platform/data; chmod 700 /var/lib/crm-platform/data",
        {"crm_attachments": CRITICAL},
    ),
    "PostgreSQL not started at boot": Fault("systemctl disable postgresql", "systemctl enable postgresql", {"database_boot": CRITICAL}),
    "scheduled tasks that are late": Fault(
        "systemctl kill --signal=STOP crm-platform-cron; "
        + sql("UPDATE ir_cron SET next_call = '2020-01-01' WHERE id = (SELECT min(id) FROM ir_cron WHERE active)"),
        # Without a time the CRM finds one.
        sql("UPDATE ir_cron SET next_call = NULL WHERE next_call = '2020-01-01'") + "; systemctl kill --signal=CONT crm-platform-cron",
        {"crm_cron": CRITICAL},
    ),
    "failed login": Fault(
        failed_login, sql("DELETE FROM res_user_login_attempt"), {"crm_failed_logins": WARNING}, {"crm_failed_logins": {"warning": 1}}
    ),
    "certificate that ends soon": Fault(*certificate("15"), {"crm_certificate": WARNING, "sec_certificates": WARNING}),
    "certificate that ends now": Fault(*certificate("5"), {"crm_certificate": CRITICAL, "sec_certificates": CRITICAL}),
    "certificate that ended": Fault(
        *certificate("-1"), {"crm_certificate": CRITICAL, "sec_certificates": CRITICAL, "crm_answers": CRITICAL, "crm_latency": SKIPPED}
    ),
    "newer CRM in the repository": Fault(repository("crm-platform", "fault"), NO_REPOSITORY, {"crm_version": WARNING}),
}

BACKUP = {
    "timer of the backups stopped": Fault(
        f"systemctl stop crm-platform-backup-incr.timer; {STATUS}",
        f"systemctl start crm-platform-backup-incr.timer; {STATUS}",
        {"backup_runs": CRITICAL},
    ),
    "backups that tell nothing": Fault(edited(f"{BACKUPS}/state.json", "x['written'] -= 5 * 3600"), STATUS, {"backup_state": WARNING}),
    "backups that told nothing for long": Fault(edited(f"{BACKUPS}/state.json", "x['written'] -= 13 * 3600"), STATUS, {"backup_state": CRITICAL}),
    "old backup": Fault(edited(f"{BACKUPS}/state.json", "x['database']['age'] += 30 * 3600"), STATUS, {"backup_age": WARNING}),
    "very old backup": Fault(
        edited(f"{BACKUPS}/state.json", "x['database']['age'] += 250 * 3600; x['database']['age_full'] += 250 * 3600"),
        STATUS,
        {"backup_age": CRITICAL, "backup_full_age": CRITICAL},
    ),
    "drill overdue": Fault(
        edited(f"{BACKUPS}/since.json", "x['time'] -= 9 * 86400") + f"; {STATUS}",
        f"{put_back(f'{BACKUPS}/since.json')}; {STATUS}",
        {"backup_drill": CRITICAL},
    ),
    "no backup of the files": Fault(
        f"mv {REPOSITORY}/files/snapshots /run/fault; mkdir {REPOSITORY}/files/snapshots; {STATUS}",
        f"rmdir {REPOSITORY}/files/snapshots; mv /run/fault {REPOSITORY}/files/snapshots; {STATUS}",
        {"backup_files": CRITICAL},
    ),
    "lost repository": Fault(
        f"mv {REPOSITORY}/database/backup /run/fault; {STATUS}",
        f"mv /run/fault {REPOSITORY}/database/backup; {STATUS}",
        {"backup_damage": CRITICAL, "backup_age": CRITICAL, "backup_full_age": CRITICAL},
    ),
    "damaged backup": Fault(
        f'file="$(find {REPOSITORY}/database/backup/crm/2* -type f -size +100k | head -n 1)"; echo "$file" > /run/fault.name; cp -p "$file" /run/fault.kept;'
        ' printf damage | dd of="$file" bs=1 seek=50000 conv=notrunc status=none; crm-platform-backup verify > /dev/null 2>&1 || true',
        'cp -p /run/fault.kept "$(cat /run/fault.name)"; crm-platform-backup verify > /dev/null 2>&1',
        {"backup_damage": CRITICAL, "backup_runs": CRITICAL},
    ),
    "full repository": Fault(
        f"head -c 1G /dev/zero > {REPOSITORY}/fault 2> /dev/null; {STATUS}", f"rm {REPOSITORY}/fault; {STATUS}", {"backup_space": CRITICAL}
    ),
    "key that only this host has": Fault(
        f"mv {BACKUPS}/exported.json /run/fault; {STATUS}", f"mv /run/fault {BACKUPS}/exported.json; {STATUS}", {"backup_key": WARNING}
    ),
}

NETWORK = {
    "name server that is gone": Fault(
        "cp /etc/resolv.conf /run/fault-resolv; echo nameserver 192.0.2.53 > /etc/resolv.conf",
        "cat /run/fault-resolv > /etc/resolv.conf; rm /run/fault-resolv",
        {"name_server": WARNING},
    ),
    "firewall flushed": Fault(
        "nft delete table inet crm_platform", "systemctl restart crm-platform-firewall", {"firewall_table": CRITICAL, "firewall_bans": SKIPPED}
    ),
    "firewall changed": Fault(
        "nft insert rule inet crm_platform input tcp dport 9999 accept", "systemctl restart crm-platform-firewall", {"firewall_table": WARNING}
    ),
    "firewall not at boot": Fault(
        "systemctl disable -q crm-platform-firewall", "systemctl enable -q crm-platform-firewall", {"firewall_unit": CRITICAL}
    ),
    "firewall that nobody confirmed": Fault(
        "mkdir -p /run/crm-platform-firewall/inet_crm_platform; touch /run/crm-platform-firewall/inet_crm_platform/candidate.nft",
        "rm -r /run/crm-platform-firewall/inet_crm_platform",
        {"firewall_unconfirmed": WARNING},
    ),
    "table of somebody else that shuts the CRM's users out": Fault(
        "nft add table inet fault; nft add chain inet fault input '{ type filter hook input priority 10; }';"
        " nft add rule inet fault input iifname eth0 tcp dport 443 drop",
        "nft delete table inet fault",
        {"firewall_foreign": WARNING},
    ),
    "somebody shut out": Fault(
        "nft add element inet crm_platform banned.ipv4 '{ 192.0.2.7 . tcp . 22 }'",
        "nft flush set inet crm_platform banned.ipv4",
        {"firewall_bans": WARNING},
        {"firewall_bans": {"warning": 1}},
    ),
    "shaper deleted": Fault("tc qdisc del dev eth0 root", "systemctl restart crm-platform-qos-eth0", {"qos_qdisc": CRITICAL}),
    "class deleted": Fault(
        "tc class del dev eth0 $(tc class show dev eth0 | grep leaf | head -n 1 | cut -d' ' -f 3 | sed 's/^/classid /')",
        "systemctl restart crm-platform-qos-eth0",
        {"qos_qdisc": CRITICAL},
    ),
    # Nothing comes in then, from neighbours neither.
    "shaper of what comes in deleted": Fault(
        "ip link del ifb-eth0",
        "systemctl restart crm-platform-qos-eth0",
        {"qos_ingress": CRITICAL, "routing_neighbours": CRITICAL, "routing_bfd": SKIPPED},
        patience=30,
    ),
    "traffic not sorted": Fault("nft delete table inet crm_platform_qos", "systemctl restart crm-platform-qos", {"qos_rules": CRITICAL}),
    "neighbour dead": Fault(
        *router("systemctl stop frr", "systemctl start frr"), {"routing_neighbours": CRITICAL, "routing_bfd": SKIPPED}, patience=15
    ),
    "neighbour with another key": Fault(
        *router(
            "vtysh -c 'show running-config' | grep message-digest-key > /run/fault.key;"
            " vtysh -c 'configure' -c 'interface eth0' -c 'no ip ospf message-digest-key 1' -c 'ip ospf message-digest-key 1 md5 an0therKey'",
            "vtysh -c 'configure' -c 'interface eth0' -c 'no ip ospf message-digest-key 1' -c \"$(cat /run/fault.key)\"",
        ),
        {"routing_neighbours": CRITICAL, "routing_bfd": SKIPPED},
        patience=15,
    ),
    "BFD down": Fault(
        *router(
            "nft add table inet fault; nft add chain inet fault input '{ type filter hook input priority -300; }';"
            " nft add rule inet fault input udp dport 3784 drop",
            "nft delete table inet fault",
        ),
        {"routing_bfd": CRITICAL},
        patience=15,
    ),
    "FRR stopped": Fault(
        "systemctl stop frr",
        "systemctl start frr",
        {"routing_daemons": CRITICAL, "routing_neighbours": CRITICAL, "routing_bfd": SKIPPED},
        patience=15,
    ),
    "nobody watches the CRM": Fault("systemctl stop crm-platform-anycast", "systemctl start crm-platform-anycast", {"routing_anycast": CRITICAL}),
    "forgotten drain": Fault(
        "touch -d '2 days ago' /var/lib/crm-platform/anycast-drained",
        "rm /var/lib/crm-platform/anycast-drained",
        {"routing_anycast": WARNING},
        patience=5,
    ),
    "full table of connections": Fault(
        "python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        " most = int(open('/proc/sys/net/netfilter/nf_conntrack_max').read());"
        " [s.sendto(b'', ('172.31.70.2', 20000 + n)) for n in range(most * 12 // 1000)]\"",
        "true",
        {"conntrack": WARNING},
        {"conntrack": {"warning": 1}},
    ),
}

SYSTEM = {
    "full disk": Fault(small_disk("size=8m", "head -c 7800000 /dev/zero > /srv/fault/log"), NO_SMALL_DISK, {"disk_space": CRITICAL}),
    "disk nearly full": Fault(small_disk("size=8m", "head -c 7200000 /dev/zero > /srv/fault/log"), NO_SMALL_DISK, {"disk_space": WARNING}),
    "disk that fills": Fault(fills_quickly, NO_SMALL_DISK, {"disk_forecast": CRITICAL}),
    "too many files": Fault(
        small_disk("size=8m,nr_inodes=100", "(for n in $(seq 200); do touch /srv/fault/$n; done) 2> /dev/null || true"),
        NO_SMALL_DISK,
        {"disk_inodes": CRITICAL},
    ),
    "disk that cannot be written": Fault(small_disk("size=8m", "mount -o remount,ro /srv/fault"), NO_SMALL_DISK, {"disk_readonly": CRITICAL}),
    "unit that failed": Fault("systemd-run -q --unit=fails --wait false; true", "systemctl reset-failed fails", {"failed_units": WARNING}),
    "unit of the platform that failed": Fault(
        "systemd-run -q --unit=crm-platform-fails --wait false; true", "systemctl reset-failed crm-platform-fails", {"failed_units": CRITICAL}
    ),
    "reboot that waits": Fault(
        "touch /run/reboot-required; echo linux-image > /run/reboot-required.pkgs", "rm /run/reboot-required*", {"reboot_required": WARNING}
    ),
    "security update that waits": Fault(repository("base-files", "Debian-Security"), NO_REPOSITORY, {"updates": WARNING}),
    "clock that went back": Fault(
        clock_goes_back, "true", {"clock": CRITICAL, "oom_kills": SKIPPED, "db_deadlocks": SKIPPED, "db_temporary_files": SKIPPED}
    ),
    "process ended for want of memory": Fault(
        "systemd-run -q --wait -p MemoryMax=20M -p MemorySwapMax=0 python3 -c 'x = bytearray(100_000_000)'; systemctl reset-failed; true",
        "true",
        {"oom_kills": CRITICAL},
    ),
}

FAULTS = {**DATABASE, **SECURITY, **CRM, **BACKUP, **NETWORK, **SYSTEM}
