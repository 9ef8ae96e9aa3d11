# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""customer_schema against real servers: a table of cases, and one runner that asks the same of each.

old -> check mode (nothing is written) -> refused without the hazards -> the
run (executes what check mode showed, keeps every row) -> the schema is as a
fresh one -> a second run finds nothing and writes nothing -> nor does it where
nothing is remembered, nor with the same model written the other way.
"""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
import schema_cases
import schema_cases_parts
import schema_cases_views
import schemas
import servers
import yaml
from ansible_collections.crm.platform.plugins.module_utils import postgres
from ansible_collections.crm.platform.plugins.module_utils.schema import converge, declare, steps
from schema_cases import ROLES, Case

REFUSALS = (postgres.PostgresError, declare.DeclarationError, steps.PlanError)


@pytest.fixture(scope="session")
def places(server):
    """Two databases of a server: one that is converged, one for what it has to look like; and the roles that cases name."""
    there = {row[0] for row in server.run("postgres", "SELECT rolname FROM pg_roles")}
    for role in set(ROLES) - there:
        server.role("LOGIN", role)
    names = {"live": server.database(), "fresh": server.database()}
    found = {"live": server.connect(names["live"]), "eyes": server.connect(names["live"]), "fresh": server.connect(names["fresh"])}
    yield found
    for connection in found.values():
        connection.close()
    server.drop(*names.values())
    server.drop_role(*ROLES)


@dataclasses.dataclass
class Bench:
    """A case on a server, in one of the two ways to write what is desired."""

    live: t.Any
    fresh: t.Any
    case: Case
    desired: dict

    def converge(self, check: bool = False, allow: t.Collection[str] = (), desired: dict | None = None) -> schemas.Run:
        schemas.ask(self.live, "SET TimeZone = 'UTC'")
        if self.case.role:
            schemas.ask(self.live, f"SET ROLE {self.case.role}")
        return schemas.run(self.live, desired or self.desired, check, allow, keep=True)


def prepare(connection, *scripts: str) -> None:
    schemas.clean(connection)
    schemas.ask(connection, "CREATE SCHEMA customer; SET search_path TO customer, public; SET TimeZone = 'UTC'")
    for script in scripts:
        if script:
            schemas.ask(connection, script)


def written(case: Case, way: str) -> dict:
    """The module's options, with the model as YAML or as SQL."""
    chosen = yaml.safe_load(case.new) or {}
    if way == "sql":
        chosen = {key: value for key, value in chosen.items() if key not in ("tables", "enums", "views")}
        chosen["definition"] = case.ddl
    return chosen


def ways(case: Case) -> list[str]:
    """SQL has no renames, and shares with YAML all that comes after it is read."""
    if not case.new or not yaml.safe_load(case.new).keys() & {"tables", "enums", "views"}:
        return ["sql"]
    says_more = "renamed_from" in case.new or "state: absent" in case.new or case.yaml_only
    return ["yaml"] if says_more or not case.ddl else ["yaml", "sql"]


CASES = [*schema_cases.CASES, *schema_cases_parts.CASES, *schema_cases_views.CASES]


def named(cases: t.Iterable[Case]) -> list:
    return [pytest.param(case, id=case.name.replace(" ", "_")) for case in cases]


@pytest.mark.parametrize("case", named(CASES))
def test_case(places, case):
    tried(places, case, ways(case)[0])


@pytest.mark.parametrize("server", [max(servers.DEBIAN)], indirect=True)
@pytest.mark.parametrize("case", named([case for case in CASES if len(ways(case)) > 1][::4]))
def test_case_as_sql(server, places, case):
    """Some of those that can be written both ways, on the newest server alone: only the reading differs."""
    tried(places, case, "sql")


def tried(places, case: Case, way: str) -> None:
    bench, eyes = Bench(places["live"], places["fresh"], case, written(case, way)), places["eyes"]
    prepare(eyes, case.around, case.old, case.rows)
    for action in case.actions:
        action(eyes)
    schemas.ask(eyes, "SET search_path TO customer, public")
    (refused if case.error else converged)(bench, eyes)


def refused(bench: Bench, eyes) -> None:
    """Nothing is changed and one line says what is wrong, in check mode and for real."""
    before, rows = schemas.fingerprint(eyes), schemas.rows(eyes)
    for check in (True, False):
        if check and bench.case.unseen:
            continue
        with pytest.raises(REFUSALS) as caught:
            bench.converge(check, bench.case.allow)
        text = str(caught.value)
        assert "\n" not in text
        for words in (bench.case.error,) if isinstance(bench.case.error, str) else bench.case.error:
            assert words in text
        assert bench.case.partly or schemas.fingerprint(eyes) == before
        assert schemas.rows(eyes) == rows


def converged(bench: Bench, eyes) -> None:
    case = bench.case
    before, rows = schemas.fingerprint(eyes), schemas.rows(eyes)
    planned = bench.converge(check=True, allow=case.allow)
    print(planned)
    assert schemas.fingerprint(eyes) == before, "check mode wrote to the catalog"
    assert not set(planned.sql) & set(planned.ran)
    assert planned.hazards == set(case.allow)
    if case.plan is not None:
        assert_plan(planned, case.plan)
    if case.allow:
        for check in (True, False):
            with pytest.raises(converge.Hazardous) as caught:
                bench.converge(check)
            assert set(case.allow) == {hazard for hazard in steps.HAZARDS if f"{hazard}: " in str(caught.value)}
            assert schemas.fingerprint(eyes) == before, "a refused run wrote to the catalog"
        assert schemas.rows(eyes) == rows
    done = bench.converge(allow=case.allow)
    assert done.shown == planned.shown
    assert not done.warnings
    executed, place = ";\n".join(done.ran), 0
    for step in done.steps:
        place = executed.find(step.sql, place)
        assert place >= 0, f"not executed, or in another order: {step.sql}"
        place += len(step.sql)
    assert_rows(rows, schemas.rows(eyes), case)
    if not case.name_free:
        assert schemas.describe(eyes) == fresh(bench)
    assert all(any(words in step.reason for step in planned.steps) for words in case.reasons)
    if case.undeclared is not None:
        assert planned.undeclared == list(case.undeclared)
    for question, answer in case.proofs:
        assert [tuple(row) for row in schemas.ask(eyes, question)] == answer, question
    assert_nothing_left(bench, eyes)


def assert_plan(planned: schemas.Run, expected: t.Sequence[str]) -> None:
    found = [" ".join(sql.split()) for sql in planned.sql]
    assert len(found) == len(expected), found
    for sql, words in zip(found, expected):
        assert words in sql


def assert_nothing_left(bench: Bench, eyes) -> None:
    before = schemas.fingerprint(eyes)
    again = bench.converge(allow=bench.case.allow)
    assert str(again) == "\n".join(f"undeclared {name}" for name in again.undeclared)
    assert schemas.fingerprint(eyes) == before, "a run that had nothing to do wrote to the catalog"
    schemas.ask(eyes, "DROP SCHEMA IF EXISTS customer_schema CASCADE")
    for way in ways(bench.case):
        bare = bench.converge(check=True, desired=written(bench.case, way))
        assert (way, bare.sql, bare.warnings) == (way, [], [])
        if way == ("sql" if "definition" in bench.desired else "yaml"):
            assert bare.undeclared == again.undeclared


def fresh(bench: Bench) -> list[str]:
    """The schema as it looks where nothing was before: made by psycopg2 where the case tells how, else by the module."""
    case = bench.case
    prepare(bench.fresh, case.around)
    if case.ddl:
        schemas.ask(bench.fresh, case.ddl)
    elif case.new and not case.empty:
        schemas.run(bench.fresh, bench.desired, keep=True)
    if case.beside:
        schemas.ask(bench.fresh, "SET search_path TO customer, public; " + case.beside)
    return schemas.describe(bench.fresh)


def assert_rows(before: dict, after: dict, case: Case) -> None:
    """Each table that stays has its rows, and each column that stays its values."""
    tables, columns = {}, {}
    for table in (yaml.safe_load(case.new) or {}).get("tables") or []:
        tables[table["name"]] = table.get("renamed_from")
        columns.update({(table["name"], column["name"]): column.get("renamed_from") for column in table.get("columns") or []})
    for table, found in after.items():
        old = before.get(table) or before.get(tables.get(table) or table)
        for column, values in found.items() if old else ():
            was = column if column in old else columns.get((table, column))
            if was in old and (table, column) not in case.other_values:
                assert sorted(map(repr, values)) == sorted(map(repr, old[was])), f"values of {table}.{column}"
