# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Executes a plan with Tryton's own models.

Each step is one transaction of its own, so that a run that was killed leaves
nothing half-made: the next one reads what is there and plans the rest.
"""

from __future__ import annotations

import time
import typing as t
from decimal import Decimal

from crm_platform import pool
from crm_platform.setup import catalogue, reference
from crm_platform.setup.desired import Desired
from crm_platform.setup.plan import Plan

# A transaction that collided with the running CRM is tried again.
TRIES = 6


class Applier:
    """Tryton, loaded for one database."""

    def __init__(self, desired: Desired):
        # Imported here: this is what takes seconds.
        pool.install()
        catalogue.install()
        from trytond import backend
        from trytond.pool import Pool

        self.desired = desired
        self._backend, self._pool = backend, Pool
        self._loaded = False

    def update(self, plan: Plan) -> None:
        """Make the tables, activate and update modules, load translations."""
        database = self._backend.Database(self.desired.database)
        if not database.test():
            database.init()
        if plan.update:
            self._again(lambda: self._pool(self.desired.database).init(
                update=list(plan.update), lang=self._languages(plan), activatedeps=True))
            self._loaded = True

    def _languages(self, plan: Plan) -> list[str]:
        """What to load translations of: the main language, those in use, those wanted."""
        from sql import Literal, Table
        from trytond import config
        from trytond.transaction import Transaction

        lang = Table("ir_lang")
        with Transaction().start(self.desired.database, 0, readonly=True) as transaction:
            cursor = transaction.connection.cursor()
            cursor.execute(*lang.select(lang.code, where=lang.translatable == Literal(True)))
            used = {code for (code,) in cursor}
        return sorted({config.get("database", "language"), *used, *self.desired.languages})

    def fill(self, plan: Plan) -> None:
        """Everything that is a record."""
        if not self._loaded:
            self._again(lambda: self._pool(self.desired.database).init())
        self._do(lambda: self._configure(plan))
        if plan.password or plan.email:
            self._do(lambda: self._administrator(plan))
        if plan.currencies:
            self._do(lambda: self._currencies(plan.currencies))
        if plan.countries:
            self._do(lambda: self._countries(plan.countries))
        for codes in _portions(plan.subdivisions, 25):
            self._do(lambda codes=codes: self._subdivisions(codes))
        if plan.company:
            self._do(self._company)
        if plan.assistant:
            self._do(lambda: self._assistant(plan.assistant))
        new = [code for code in plan.languages if code != "en"]
        if new:
            self._do(lambda: self._translate_all(new))
        if plan.languages:
            self._do(lambda: self._mark_languages(plan.languages))

    # One transaction each

    def _configure(self, plan: Plan) -> None:
        from trytond import __series__, config

        configuration = self._get("ir.configuration")(1)
        if plan.initialise or not configuration.series:
            configuration.series = __series__
            configuration.language = config.get("database", "language")
            configuration.save()

    def _admin(self) -> t.Any:
        from trytond.transaction import inactive_records

        data = self._get("ir.model.data")
        with inactive_records():
            return self._get("res.user")(data.get_id("res", "user_admin"))

    def _administrator(self, plan: Plan) -> None:
        admin = self._admin()
        if plan.email:
            admin.email = self.desired.email
        if plan.password:
            admin.password = self.desired.password
        admin.save()

    def _currencies(self, codes: t.Sequence[str]) -> None:
        known = reference.currencies()
        values = []
        for code in codes:
            digits = reference.DIGITS.get(code, 2)
            values.append({
                "code": code,
                "name": _clean(known[code]["name"]),
                "numeric_code": known[code]["numeric"],
                "symbol": reference.SYMBOLS.get(code),
                "digits": digits,
                "rounding": Decimal(1).scaleb(-digits),
            })
        records = self._get("currency.currency").create(values)
        self._translate("currency.currency", "iso4217", records, {r.code: known[r.code]["name"] for r in records})

    def _countries(self, codes: t.Sequence[str]) -> None:
        # Tryton's own tables of regions and of who belongs to which union.
        from trytond.modules.country.scripts.import_countries import ORGANIZATIONS, REGION2PARENT

        known = reference.countries()
        regions = {region.code_numeric: region.id for region in self._get("country.region").search([])}
        unions = {union.code: union.id for union in self._get("country.organization").search([])}
        values = []
        for code in codes:
            entry = known[code]
            members = [
                {"organization": unions[union], "from_date": start, "to_date": end}
                for union, members in ORGANIZATIONS.items()
                if union in unions
                for start, end in members.get(code, ())
            ]
            values.append({
                "code": code,
                "code3": entry["alpha_3"],
                "code_numeric": entry["numeric"],
                "name": _clean(entry["name"]),
                "region": regions.get(REGION2PARENT.get(entry["numeric"])),
                "members": [("create", members)],
            })
        records = self._get("country.country").create(values)
        self._translate("country.country", "iso3166-1", records, {r.code: known[r.code]["name"] for r in records})

    def _subdivisions(self, codes: t.Sequence[str]) -> None:
        Country, Subdivision = self._get("country.country"), self._get("country.subdivision")
        countries = {country.code: country.id for country in Country.search([("code", "in", list(codes))])}
        types = {key for key, dummy in Subdivision.type.selection}
        entries = [entry for listed in reference.subdivisions(codes).values() for entry in listed]
        records = Subdivision.create([
            {
                "code": entry["code"],
                "name": _clean(entry["name"]),
                "country": countries[entry["code"].partition("-")[0]],
                "type": entry["type"].lower() if entry["type"].lower() in types else None,
            }
            for entry in entries
        ])
        by_code = {record.code: record for record in records}
        children: dict[str, list[t.Any]] = {}
        for entry in entries:
            if entry.get("parent"):
                parent = entry["parent"] if "-" in entry["parent"] else f"{entry['code'].partition('-')[0]}-{entry['parent']}"
                children.setdefault(parent, []).append(by_code[entry["code"]])
        writes = [part for parent, kids in children.items() if parent in by_code for part in (kids, {"parent": by_code[parent].id})]
        if writes:
            Subdivision.write(*writes)
        self._translate("country.subdivision", "iso3166-2", records, {entry["code"]: entry["name"] for entry in entries})

    def _company(self) -> None:
        wanted = self.desired.company
        assert wanted is not None
        Company, Employee, Party = self._get("company.company"), self._get("company.employee"), self._get("party.party")
        if Company.search([], limit=1):
            return
        currency, = self._get("currency.currency").search([("code", "=", wanted.currency)], limit=1)
        admin = self._admin()
        party, person = Party.create([{"name": wanted.name}, {"name": admin.name or "Administrator"}])
        company, = Company.create([{"party": party.id, "currency": currency.id, "timezone": wanted.timezone}])
        employee, = Employee.create([{"party": person.id, "company": company.id}])
        self._get("res.user").write([admin], {
            "companies": [("add", [company.id])],
            "company": company.id,
            "employees": [("add", [employee.id])],
            "employee": employee.id,
        })

    def _assistant(self, modules: t.Sequence[str]) -> None:
        entries = self._get("ir.model.data").search([
            ("model", "=", "ir.module.config_wizard.item"), ("module", "in", list(modules)), ("db_id", "!=", None),
        ])
        Item = self._get("ir.module.config_wizard.item")
        Item.write(Item.browse([entry.db_id for entry in entries]), {"state": "done"})

    def _translate_all(self, languages: t.Sequence[str]) -> None:
        """A language that came later: also for the lists that are there already."""
        for model, domain, known in (
            ("currency.currency", "iso4217", {code: e["name"] for code, e in reference.currencies().items()}),
            ("country.country", "iso3166-1", {code: e["name"] for code, e in reference.countries().items()}),
        ):
            records = [record for record in self._get(model).search([]) if record.code in known]
            self._translate(model, domain, records, known, languages)
        Subdivision = self._get("country.subdivision")
        records = Subdivision.search([])
        listed = reference.subdivisions({record.country.code for record in records})
        known = {entry["code"]: entry["name"] for entries in listed.values() for entry in entries}
        self._translate("country.subdivision", "iso3166-2", [r for r in records if r.code in known], known, languages)

    def _translate(
        self, model: str, domain: str, records: t.Sequence[t.Any], names: dict[str, str], languages: t.Sequence[str] | None = None
    ) -> None:
        """Names of ISO lists in the wanted languages, where there is a translation."""
        from trytond.transaction import Transaction

        Model = self._get(model)
        for language in languages or self.desired.languages:
            translate = reference.translator(domain, language) if language != "en" else None
            if translate is None or not records:
                continue
            writes: list[t.Any] = []
            for record in records:
                name = translate(names[record.code])
                if name != names[record.code]:
                    writes += [[record], {"name": _clean(name)}]
            if writes:
                with Transaction().set_context(language=language):
                    Model.write(*writes)

    def _mark_languages(self, languages: t.Sequence[str]) -> None:
        Lang = self._get("ir.lang")
        found = Lang.search([("code", "in", list(languages))])
        Lang.write(found, {"translatable": True})

    # Helpers

    def _get(self, model: str) -> t.Any:
        return self._pool(self.desired.database).get(model)

    def _again(self, step: t.Callable[[], t.Any]) -> None:
        """Run it, and run it again when the running CRM got in its way."""
        from trytond.backend import DatabaseOperationalError

        for attempt in range(1, TRIES + 1):
            try:
                return step()
            except DatabaseOperationalError:
                if attempt == TRIES:
                    raise
                time.sleep(0.5 * attempt)

    def _do(self, step: t.Callable[[], t.Any]) -> None:
        from trytond.transaction import Transaction, TransactionError

        extras: dict[str, t.Any] = {}

        def once() -> None:
            while True:
                with Transaction().start(self.desired.database, 0, context={"_skip_warnings": True}, **extras) as transaction:
                    try:
                        step()
                    except TransactionError as exc:
                        transaction.rollback()
                        exc.fix(extras)
                        continue
                    return

        self._again(once)


def _portions(items: t.Sequence[str], size: int) -> t.Iterator[t.Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _clean(name: str) -> str:
    from trytond.tools import remove_forbidden_chars

    return remove_forbidden_chars(name)
