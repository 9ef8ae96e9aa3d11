# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The repairs without a host: what is found becomes steps, what is asked for is refused or not."""

from __future__ import annotations

import collections
import os
import re
import types

import pytest
import yaml
from ansible_collections.crm.platform.plugins.module_utils import nftables, postgres
from ansible_collections.crm.platform.plugins.module_utils.health import registry as checks
from ansible_collections.crm.platform.plugins.module_utils.health import system
from ansible_collections.crm.platform.plugins.module_utils.repair import (
    certificates,
    firewall,
    host,
    indexes,
    logins,
    logs,
    registry,
    services,
    shaping,
    slots,
    wraparound,
)
from ansible_collections.crm.platform.plugins.module_utils.shaping import live, model
from ansible_collections.crm.platform.plugins.module_utils.shaping import plan as planning
from ansible_collections.crm.platform.plugins.modules import health_check, health_repair  # noqa: F401  # pylint: disable=unused-import
from conftest import ROOT

NOW = 1_700_000_000
PLAYBOOK = yaml.safe_load((ROOT / "playbooks" / "repair.yml").read_text())[-1]
OPTIONS = {name: spec.get("default") for name, spec in health_repair.argument_spec().items()}
Index = collections.namedtuple("Index", "oid schema name relation relation_name valid exclusion constraint_name definition in_work toast")
Table = collections.namedtuple("Table", "schema name temporary age")
Database = collections.namedtuple("Database", "name open age")
Slot = collections.namedtuple("Slot", "name kind active pid kept")


def planned(repair, found, **options):
    outcome = registry.Outcome()
    outcome.steps = registry.REGISTRY[repair].plan(found, {**OPTIONS, **options}, outcome)
    return outcome


def texts(outcome):
    return [step.text for step in outcome.steps]


def test_a_user_is_let_in_again_by_name():
    wrong = [collections.namedtuple("Wrong", "login wrong")("ann", 6), collections.namedtuple("Wrong", "login wrong")("bob", 1)]
    assert logins.TABLE.startswith("public.")
    assert texts(planned("unlock_logins", wrong, login="ann")) == ["forget the wrong logins of ann"]
    assert not planned("unlock_logins", []).steps and planned("unlock_logins", wrong, login="eve").notes == [
        "eve has no wrong logins; others have: ann (6), bob (1)"
    ]
    with pytest.raises(registry.RepairError, match="login is empty; name the user .* ann \\(6\\), bob \\(1\\)"):
        planned("unlock_logins", wrong)


# -- the registry


def test_checks_and_repairs_name_one_another():
    named = collections.defaultdict(set)
    for one in checks.REGISTRY.values():
        if one.repair:
            named[one.repair].add(one.id)
    assert named == {one.name: set(one.cures) for one in registry.REGISTRY.values()}


def test_module_playbook_and_registry_know_the_same():
    documented = yaml.safe_load(health_repair.DOCUMENTATION)["options"]
    assert health_repair.NAMES == list(PLAYBOOK["vars"]["_repair_what"]) == documented["repairs"]["choices"]
    assert set(health_repair.NAMES) == set(registry.REGISTRY)
    assert OPTIONS["wraparound_percent"] == checks.REGISTRY["db_wraparound"].warning
    table = (ROOT / "docs" / "repair.md").read_text()
    for name in [*health_repair.NAMES, *PLAYBOOK["vars"]["_repair_options"]]:
        assert f"`{name}`" in table, name


def test_a_cure_ends_with_the_command_of_the_repair(monkeypatch):
    monkeypatch.setattr(checks, "REGISTRY", {})
    readings = iter(
        [checks.Reading(95, "bad"), checks.Reading(95, "bad", repair=""), checks.Reading(5, "well"), checks.Reading(None, "?", "unknown")]
    )
    checks.check("full", "system", "%", 80, 90, "look", repair="clear_logs")(lambda dummy: next(readings))  # pylint: disable=unnecessary-lambda

    def run():
        (found,), dummy = checks.run(types.SimpleNamespace())
        return found["repair"], found["cure"]

    assert run() == ("clear_logs", "look; ansible-playbook crm.platform.repair -e repair=clear_logs")
    assert run() == ("", "look"), "this one is not cured by it"
    assert run() == ("", ""), "it is well"
    assert run() == ("", "look"), "what is not known has no repair"


@pytest.fixture(autouse=True)
def titles(monkeypatch):
    """Functions of these tests need no docstring to be checks."""
    register = checks.check

    def check(*arguments, **more):
        def decorate(look):
            look.__doc__ = look.__doc__ or "It is well"
            return register(*arguments, **more)(look)

        return decorate

    monkeypatch.setattr(checks, "check", check)


def test_one_that_fails_takes_no_other_with_it(monkeypatch):
    class Works(registry.Repair):
        name, title, cures = "works", "Works", ("a",)
        done = 0

        def look(self, dummy, outcome):
            return self.done

        def plan(self, found, options, outcome):
            return [] if found else [registry.Step("mend it", "mend", (), "broken", "whole")]

        def do(self, dummy, step, outcome):
            Works.done += 1

    class Breaks(Works):
        name = "breaks"

        def look(self, dummy, outcome):
            raise registry.RepairError("no\nway")

    monkeypatch.setattr(registry, "REGISTRY", {"works": Works(), "breaks": Breaks()})
    on = types.SimpleNamespace(options={})
    shown = registry.run(on, ["breaks", "works", "works"], True)
    assert [one["left"] for one in shown] == [["no way"], []] and Works.done == 0
    done = registry.run(on, ["breaks", "works"], False)
    assert done[1]["steps"] == shown[1]["steps"] == ["mend it"] and Works.done == 1
    assert (done[1]["diff"]["before"], done[1]["diff"]["after"]) == ("broken\n", "whole\n")
    again = registry.run(on, ["works"], False)
    assert not again[0]["changed"] and registry.said(again, False) == ["works: nothing to repair"]


@pytest.mark.parametrize(
    "line, shown",
    [
        ("could not connect to postgresql://crm:s3cret@db/crm", "could not connect to postgresql://crm:***@db/crm"),
        ("password=hunter2 user=crm", "password=*** user=crm"),
        ('"token": "abc.def",', '"token": ***'),
        ("Authorization: Bearer abcdef", "Authorization: ***"),
        ("ALTER ROLE crm PASSWORD 'x y'", "ALTER ROLE crm PASSWORD ***"),
        ("passing 3 of 4", "passing 3 of 4"),
        ("Authorization: Token abcdef", "Authorization: ***"),
        ("PGPASSWORD=abc psql", "PGPASSWORD=*** psql"),
        ("db_password=abc", "db_password=***"),
        ("smtp_password: abc", "smtp_password: ***"),
        ("access_token=abc", "access_token=***"),
        ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
        ('{"password": "a b"}', '{"password": ***'),
        (r'{"password": "a\" b", "user": "c"}', '{"password": *** "user": "c"}'),
        (r"said {\"password\": \"a b\"}", r"said {\"password\": ***"),
        ("password='a b' user=crm", "password=*** user=crm"),
        ('password="a b', "password=***"),
        ("password := abc", "password := ***"),
        ('"Authorization": "Basic a b"', '"Authorization": ***'),
        ("ALTER ROLE crm PASSWORD 'a''b'", "ALTER ROLE crm PASSWORD ***"),
        (r"ALTER ROLE crm PASSWORD E'a\' b' LOGIN", "ALTER ROLE crm PASSWORD *** LOGIN"),
        ("postgresql://u:p@ss@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p/w@h/db", "postgresql://u:***@h/db"),
        ("smtp://me@example.com:abc@mail", "smtp://me@example.com:***@mail"),
        ("https://u:p@h/x?mail=a@b", "https://u:***@h/x?mail=a@b"),
        ('FATAL: password authentication failed for user "crm"', 'FATAL: password authentication failed for user "crm"'),
        ("Failed password for root from 10.0.0.1", "Failed password for root from 10.0.0.1"),
    ],
)
def test_a_line_of_a_log_is_told_without_secrets(line, shown):
    assert host.scrubbed(line) == shown


# -- units


def unit(active="active", sub="running", file="enabled", **more):
    return {"LoadState": "loaded", "ActiveState": active, "SubState": sub, "UnitFileState": file, "Result": "success", **more}


def test_units_that_are_down_are_started_in_order():
    outcome = planned(
        "restart_services",
        {
            "nginx.service": unit("inactive", "dead"),
            "crm-platform-worker.service": unit("failed", "failed", Result="exit-code"),
            "crm-platform.service": unit("activating", "auto-restart", Result="exit-code"),
            "crm-platform-cron.service": unit(),
            "crm-platform-backup-full.timer": unit("inactive", "dead"),
            "crm-platform-backup-full.service": unit("failed", "failed", "static"),
            "frr.service": unit("inactive", "dead", "disabled"),
            "crm-platform-firewall.service": unit("active", "exited"),
            "postgresql@15-main.service": unit("inactive", "dead", "enabled-runtime"),
            "crm-platform-qos.service": unit("activating", "start"),
            "crm-platform-once.service": unit("inactive", "dead", Type="oneshot", RemainAfterExit="no"),
            "pgbackrest.service": unit("inactive", "dead", ConditionResult="no", ConditionTimestampMonotonic="12"),
        },
    )
    assert texts(outcome) == [
        "start postgresql@15-main.service (stopped)",
        "reset-failed and start crm-platform.service (ends again and again: exit-code)",
        "reset-failed and start crm-platform-worker.service (failed: exit-code)",
        "start nginx.service (stopped)",
        "start crm-platform-backup-full.timer (stopped)",
    ]
    assert services.rank("crm-platform-firewall.service") < services.rank("crm-platform.service")


# -- indexes


def index(name, valid=False, definition="d", relation=1, **more):
    given = {"oid": hash((name, relation)), "schema": "s", "relation_name": "s.t", "exclusion": False, "constraint_name": None, "in_work": False}
    return Index(name=name, valid=valid, definition=definition, relation=relation, **{**given, "toast": False, **more})


def test_leftovers_go_and_the_others_are_built():
    found = [
        index("a_ccnew"),
        index("a"),
        index("b", True),
        index("b_ccold3"),
        index("key", constraint_name="key"),
        index("odd_ccnew", definition="e"),
    ]
    assert texts(planned("rebuild_invalid_indexes", found)) == [
        'DROP INDEX CONCURRENTLY "s"."a_ccnew" (left by a build of a that was cut off)',
        'DROP INDEX CONCURRENTLY "s"."b_ccold3" (left by a build of b that was cut off)',
        'REINDEX INDEX CONCURRENTLY "s"."a" (invalid)',
        'REINDEX INDEX CONCURRENTLY "s"."key" (invalid, of the constraint key)',
        'REINDEX INDEX CONCURRENTLY "s"."odd_ccnew" (invalid)',
    ]


@pytest.mark.parametrize(
    "left, others, base",
    [
        (index("a_ccnew"), [index("a", True)], "a"),
        (index("a_ccnew"), [index("a", True, "other")], None),
        (index("a_ccnew"), [index("a", True, relation=2)], None),
        (index("a_ccnew", True), [index("a", True)], None),
        (index("a_ccnew", constraint_name="a"), [index("a", True)], None),
        (index("x" * 57 + "_ccnew"), [index("x" * 63, True)], "x" * 63),
        (index("xy_ccnew"), [index("xyz", True)], None),
        (index("a"), [index("a_ccnew", True)], None),
    ],
)
def test_a_leftover_has_a_twin(left, others, base):
    twin = indexes.leftover_of(left, [left, *others])
    assert (twin.name if twin else None) == base


def test_indexes_that_are_left_alone():
    outcome = planned("rebuild_invalid_indexes", [index("a", in_work=True), index("x", exclusion=True), index("t", toast=True)])
    assert not outcome.steps and len(outcome.notes) == 1 and len(outcome.left) == 2
    assert "REINDEX TABLE s.t" in outcome.left[0]


def test_rows_are_not_quoted():
    error = types.SimpleNamespace(
        pgcode="23505", diag=types.SimpleNamespace(message_primary="could not create unique index", message_detail="Key (email)=(a@b)")
    )
    assert "a@b" not in indexes.explained(error) and "make them unique" in indexes.explained(error)


# -- wraparound

HALF = wraparound.NUMBERS // 2


def test_the_oldest_tables_first():
    found = [
        (Database("crm", True, HALF + 9), [Table("s", "b", False, HALF + 5), Table("s", "temp", True, HALF + 4), Table("s", "young", False, 3)]),
        (Database("postgres", True, HALF + 8), [Table("s", "a", False, HALF + 8)]),
        (Database("template1", True, HALF + 2), [Table("s", "c", False, 7), Table("s", "d", False, 5)]),
        (Database("template0", False, HALF + 1), []),
        (Database("other", True, 5), []),
    ]
    outcome = planned("vacuum_wraparound", found)
    assert [step.what for step in outcome.steps] == [("postgres", "s", "a"), ("crm", "s", "b"), ("template1", "s", "c")]
    assert all(text.startswith("VACUUM (FREEZE) ") for text in texts(outcome)) and "FULL" not in "".join(texts(outcome))
    assert len(outcome.notes) == 2 and any("s.temp" in note for note in outcome.notes)
    assert not planned("vacuum_wraparound", [(Database("crm", True, HALF - 9), [])]).steps


def test_time_that_is_over_ends_it_and_the_next_run_goes_on(monkeypatch):
    clock = iter([0, 0, 9, 11, 11])
    monkeypatch.setattr(wraparound.time, "monotonic", lambda: next(clock))
    one, vacuumed = registry.REGISTRY["vacuum_wraparound"], []
    monkeypatch.setattr(one, "vacuum", lambda dummy, step, seconds, outcome: vacuumed.append((step.text, seconds)))
    monkeypatch.setattr(one, "settle", lambda *dummy: None)
    outcome = registry.Outcome([registry.Step(name, "vacuum") for name in "abc"])
    one.carry_out(types.SimpleNamespace(options={**OPTIONS, "max_seconds": 10}), [], outcome)
    assert vacuumed == [("a", 10), ("b", 1)] and texts(outcome) == ["a", "b"]
    assert outcome.notes == ["max_seconds (10) is over, 1 tables are left; run it again"] and outcome.facts == {"planned": 3, "finished": False}


# -- slots


def test_only_the_named_dead_slot_goes():
    found = [Slot("dead", "physical", False, None, 5 * 1024**2), Slot("alive", "logical", True, 77, 0)]
    assert texts(planned("drop_dead_slot", found, slot="dead", confirm="dead")) == ["drop the physical slot dead, which keeps 5 MiB of WAL"]
    for given, word in [
        ({"slot": "dead", "confirm": ""}, "confirm is empty"),
        (
            {"slot": "", "confirm": ""},
            "slot is empty; name the one to drop in slot and in confirm (-e repair_slot=NAME -e repair_confirm=NAME). Nobody reads dead (keeps 5 MiB of WAL)",
        ),
        ({"slot": "alive", "confirm": "alive"}, "is read by process 77"),
    ]:
        with pytest.raises(registry.RepairError, match=re.escape(word)):
            planned("drop_dead_slot", found, **given)
    assert planned("drop_dead_slot", found, slot="gone", confirm="gone").notes == ["there is no slot gone; nobody reads dead (keeps 5 MiB of WAL)"]
    assert not planned("drop_dead_slot", [], slot="").steps
    assert registry.problems(["drop_dead_slot"], {**OPTIONS, "slot": "a", "confirm": "b"})
    assert isinstance(slots.QUERY, str) and postgres.identifier("a") == '"a"'


# -- firewall

LISTING = "table inet crm_platform {{\n\tchain input {{\n\t\ttype filter hook input priority filter; policy drop;\n\t\t{}\n\t}}\n}}\n"


def ruleset(**more):
    state = nftables.State(LISTING.format("tcp dport 22 accept"))
    return {"content": "x", "live": state, "wanted": state, "unit": {"ActiveState": "active", "UnitFileState": "enabled"}, **more}


def test_the_firewall_is_loaded_where_it_differs():
    assert not planned("restore_firewall", ruleset()).steps
    assert not planned("restore_firewall", None).steps
    (step,) = planned("restore_firewall", ruleset(live=nftables.State(LISTING.format("accept")))).steps
    assert step.verb == "load" and "differs" in step.text and step.before != step.after
    assert [step.verb for step in planned("restore_firewall", ruleset(live=nftables.State(""), unit={})).steps] == ["load", "enable", "start"]
    unsure = planned("restore_firewall", ruleset(wanted=None))
    assert not unsure.steps and unsure.notes
    assert firewall.RULESET.startswith("/etc/")


# -- shaping


def tree_of(kind="htb"):
    if kind == "cake":
        return model.Tree(
            "eth0", "", (), (), {}, (), "cake", (("bandwidth", "100000000bit"), ("diffserv4", ""), ("overhead", "18"), ("mpu", "64"), ("ingress", ""))
        )
    htb = (
        model.HtbClass("1:1", "1:", 10**8, 10**8, 12500, 12500, None, None, 18, 64),
        model.HtbClass("1:10", "1:1", 6 * 10**7, 10**8, 7500, 12500, 1, 7500, 18, 64),
    )
    leaves = (model.Leaf("1:10", "10:", "sfq", (("perturb", "10"),)), model.Leaf("1:20", "20:", "fq_codel", (("limit", "1000"), ("ecn", ""))))
    return model.Tree("eth0", "10", htb, leaves, {}, (model.Filter(10, "ip", ((0, 0x680000, 0xFC0000), (20, 80, 0xFFFF)), "1:10"),))


def test_the_file_that_boot_loads_is_read_back():
    wanted = tree_of()
    (read,) = shaping.trees("\n".join(planning.whole(wanted))).values()
    assert read._replace(names=wanted.names) == wanted


def test_a_root_that_is_cake_is_read_back():
    assert shaping.trees("\n".join(planning.whole(tree_of("cake")))) == {"eth0": tree_of("cake")}


def test_what_differs_is_told():
    text = "\n".join(planning.whole(tree_of()))
    nothing = live.parse("eth0", "qdisc noqueue 0: root refcnt 2\n", "", "")
    assert shaping.differences(text, "eth0", {"eth0": nothing})[0].endswith("there is no shaper")
    assert shaping.differences(text, "eth0", {"eth0": live.parse("eth0", "", "", "")}) == ["eth0 does not exist"]
    found = {"devices": {"eth0": ["a: it differs"], "eth1": []}, "rules": None, "units": dict.fromkeys(
        ["crm-platform-qos.service", "crm-platform-qos-eth0.service", "crm-platform-qos-eth1.service"], "active")}  # fmt: skip
    assert texts(planned("restore_shaping", found)) == ["restart crm-platform-qos-eth0.service (a: it differs)"]
    assert planned("restore_shaping", {"units": {}}).notes


# -- certificates


def test_who_shows_the_old_certificate_reads_it_again():
    def found(changed, active="active"):
        state = {"LoadState": "loaded", "ActiveState": active, "StateChangeTimestamp": changed}
        return {"made": NOW, "units": {"nginx.service": state, "pgbackrest.service": {"LoadState": "not-found"}}, "verbs": certificates.READERS}

    old, new = "Tue 2023-11-14 22:00:00.000000 UTC", "Tue 2023-11-14 23:00:00.000000 UTC"
    assert [step.verb for step in planned("renew_certificates", found(old)).steps] == ["reload"]
    assert not planned("renew_certificates", found(new)).steps
    assert not planned("renew_certificates", found(old, "inactive")).steps
    assert planned("renew_certificates", found(new), renewed=True).steps, "check mode: it would be made"


# -- logs


def log(name, days, size=logs.MIB, directory="/var/log/nginx"):
    return logs.Log(directory, name, size, NOW - days * logs.DAY)


def test_logs_go_by_policy():
    found = {"now": NOW, "rotated": [log("a.log.2.gz", 15), log("a.log.1.gz", 13)], "journals": [log("j", 3, 600 * logs.MIB)]}
    assert texts(planned("clear_logs", found)) == [
        "journalctl --vacuum-size=512M --vacuum-time=30d (600.0 MiB are archived, 512 MiB may stay)",
        "remove /var/log/nginx/a.log.2.gz (1.0 MiB, 15 days old)",
    ]
    assert not planned("clear_logs", {"now": NOW, "rotated": [], "journals": [log("j", 29)]}).steps
    assert "begins 31 days ago" in texts(planned("clear_logs", {"now": NOW, "rotated": [], "journals": [log("j", 31)]}))[0]


@pytest.mark.parametrize("path", ["/var/lib/postgresql", "/var/log/../lib", "/var/log", "/", "/var/logs", "/var/log/a/../../lib"])
def test_nothing_outside_of_the_logs(path):
    (problem,) = registry.problems(["clear_logs"], {**OPTIONS, "log_directories": [path]})
    assert path in problem and "\n" not in problem
    assert not registry.problems(["clear_logs"], OPTIONS)
    assert registry.problems(["clear_logs"], {**OPTIONS, "log_days": 0})


def test_only_packed_plain_files_are_looked_at(tmp_path):
    for name in ("error.log", "error.log.1", "error.log.2.gz", "base.tar"):
        (tmp_path / name).write_text("x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "x.gz").write_text("x")
    (tmp_path / "dir.gz").mkdir()
    os.symlink("/etc/passwd", tmp_path / "link.gz")
    assert [one.name for one in logs.files(str(tmp_path), logs.ROTATED)] == ["error.log.2.gz"]
    assert not logs.remove(str(tmp_path), "link.gz") and (tmp_path / "link.gz").is_symlink()
    assert logs.remove(str(tmp_path), "error.log.2.gz") and not logs.remove(str(tmp_path), "error.log.2.gz")
    assert not logs.files(str(tmp_path / "nothing"), logs.ROTATED)


@pytest.mark.parametrize(
    "name, goes",
    [
        ("access.log.2.gz", True),
        ("postgresql-15-main.log.3.gz", True),
        ("main-backup.log.1.xz", True),
        ("frr.log-20240131.zst", True),
        ("frr.log-2024013107.bz2", True),
        ("frr.log-20240131-2.gz", True),
        ("error.log.gz", True),
        ("dump.sql.gz", False),
        ("dump.sql.1.gz", False),
        ("crm-20240131.gz", False),
        ("base.tar.gz", False),
        ("log.gz", False),
        (".log.gz", False),
        ("access.log.backup.gz", False),
        ("access.log.2.gz.part", False),
        ("catalog.gz", False),
        ("access.log.1.gz\n", False),
    ],
)
def test_only_names_as_logrotate_makes_them(name, goes):
    assert bool(logs.ROTATED.match(name)) == goes


def test_only_the_journals_that_journalctl_clears_are_counted(tmp_path, monkeypatch):
    mine, other = "a" * 32, "b" * 32
    old, new = f"{NOW * 1_000_000:016x}", f"{(NOW + 9) * 1_000_000:016x}"
    for machine in (mine, other, f"{mine}.space"):
        (tmp_path / machine).mkdir()
        (tmp_path / machine / f"system@{'0' * 32}-{'0' * 16}-{old}.journal").write_text("x" * 5000)
        (tmp_path / machine / f"user-1000@{new}-{'c' * 16}.journal~").write_text("x" * 5000)
        (tmp_path / machine / "system.journal").write_text("x")
    (tmp_path / "machine-id").write_text(mine + "\n")
    monkeypatch.setattr(logs, "JOURNALS", (str(tmp_path),))
    monkeypatch.setattr(logs, "MACHINE", str(tmp_path / "machine-id"))
    one, on, outcome = registry.REGISTRY["clear_logs"], types.SimpleNamespace(options={**OPTIONS, "log_directories": []}), registry.Outcome()
    found = one.look(on, outcome)
    assert {each.directory for each in found["journals"]} == {str(tmp_path / mine)}
    assert sorted(each.time for each in found["journals"]) == [NOW, NOW + 9] and not outcome.notes
    assert one.plan(found, OPTIONS, outcome), "they are old"
    assert len(outcome.notes) == 2 and all("journalctl does not clear" in note for note in outcome.notes) and other in outcome.notes[1]
    (tmp_path / "machine-id").unlink()
    assert not one.look(on, outcome)["journals"]


def test_a_link_in_the_place_of_a_directory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    on = types.SimpleNamespace(options={**OPTIONS, "log_directories": [str(tmp_path / "link")]})
    monkeypatch.setattr(logs, "JOURNALS", ())
    with pytest.raises(registry.RepairError, match="leads to"):
        registry.REGISTRY["clear_logs"].look(on, registry.Outcome())
    (tmp_path / "real" / "PG_VERSION").write_text("15")
    on.options["log_directories"] = [str(tmp_path / "real")]
    with pytest.raises(registry.RepairError, match="holds a database"):
        registry.REGISTRY["clear_logs"].look(on, registry.Outcome())


def test_archived_journals_are_told_from_the_live_one():
    begins = f"{NOW * 1_000_000:016x}"
    assert logs.ARCHIVED.match(f"system@{'0' * 32}-{'0' * 16}-{begins}.journal")["begins"] == begins
    assert not logs.ARCHIVED.match("system.journal") and not logs.ARCHIVED.match("user-1000.journal")
    assert system.holds_logs("/var/log/nginx") and not system.holds_logs("/nowhere")
