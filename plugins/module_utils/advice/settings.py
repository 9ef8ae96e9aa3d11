# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: against what the host's size asks for, and against what the server's own counters say."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..postgres import identifier, literal
from .model import MIB, Advice

# Settings that follow from memory, cores and disk, and what each is for.
SIZED = {
    "shared_buffers": "PostgreSQL's own cache",
    "effective_cache_size": "what the planner takes to be cached",
    "maintenance_work_mem": "building indexes and VACUUM",
    "work_mem": "each sort and hash before it goes to the disk",
    "random_page_cost": "what the planner takes a random read to cost",
    "effective_io_concurrency": "reads at a time",
    "max_worker_processes": "background processes",
    "max_parallel_workers": "parallel workers in all",
    "max_parallel_workers_per_gather": "parallel workers a statement",
    "max_parallel_maintenance_workers": "parallel workers of a maintenance",
}
UNITS = {
    "": 1,
    "B": 1,
    "kB": 1024,
    "MB": MIB,
    "GB": 1024 * MIB,
    "TB": 1024 * 1024 * MIB,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86400,
}
# A tenth more or less is no difference worth a change.
TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True)
class Setting:
    """A line of pg_settings."""

    name: str
    value: str
    unit: str
    source: str


@dataclasses.dataclass(frozen=True)
class Counters:
    """Of the server since its statistics began: ``days`` ago."""

    days: float
    checkpoints_timed: int = 0
    checkpoints_requested: int = 0
    temporary_bytes: float = 0.0
    wal_bytes: t.Optional[float] = None


@dataclasses.dataclass(frozen=True)
class Changed:
    """A table whose dead rows stay."""

    schema: str
    name: str
    live: int
    dead: int
    vacuum: str
    """When it was vacuumed last; '' where it never was."""


def amount(text: t.Any, unit: str = "") -> t.Optional[float]:
    """'512MB' or '65536' in blocks ('8kB') -> bytes, seconds or the number; None for what is no number."""
    match = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if not match:
        return None
    number, own = float(match.group(1)), match.group(2)
    if own:
        return number * UNITS[own] if own in UNITS else None
    factor = re.fullmatch(r"(\d*)([A-Za-z]*)", unit)
    if not factor or factor.group(2) not in UNITS:
        return None
    return number * float(factor.group(1) or 1) * UNITS[factor.group(2)]


def shown(setting: Setting) -> str:
    """As a person would write it."""
    value = amount(setting.value, setting.unit)
    if value is None or not setting.unit.endswith("B"):
        return setting.value + (setting.unit if setting.unit and not setting.unit.endswith("B") else "")
    for name in ("GB", "MB", "kB"):
        if value >= UNITS[name] and value % UNITS[name] == 0:
            return f"{value / UNITS[name]:.0f}{name}"
    return f"{value:.0f}B"


def change(name: str, value: t.Any) -> tuple[str, dict]:
    """(SQL, variables of the inventory): the platform's next run takes back what ALTER SYSTEM set beside it."""
    return f"ALTER SYSTEM SET {identifier(name)} = {literal(str(value))}", {"database_settings": {name: value}}


def sized(settings: t.Mapping[str, Setting], expected: t.Mapping[str, t.Any]) -> list[Advice]:
    """What differs from the host's size."""
    given = []
    for name, purpose in SIZED.items():
        if name not in expected or name not in settings:
            continue
        have, want = amount(settings[name].value, settings[name].unit), amount(expected[name], settings[name].unit)
        if have is None or want is None or abs(have - want) <= TOLERANCE * max(abs(want), 1e-9):
            continue
        sql, declaration = change(name, expected[name])
        times = max(have, want) / max(min(have, want), 1e-9)
        given.append(
            Advice(
                "setting",
                name,
                f"{purpose}: it is {shown(settings[name])}, and the host's size asks for {expected[name]}",
                times,
                "times",
                sql,
                declaration,
                (
                    f"the value comes from another place than the configuration: {settings[name].source}"
                    if settings[name].source in ("database", "user", "database user", "command line")
                    else ""
                ),
            )
        )
    return given


def loaded(settings: t.Mapping[str, Setting], counters: Counters) -> list[Advice]:
    """What the counters say."""
    given = []
    checkpoints = counters.checkpoints_timed + counters.checkpoints_requested
    size = settings.get("max_wal_size")
    early: float = counters.checkpoints_requested
    if size and counters.wal_bytes is not None:
        # Backups and CREATE DATABASE ask for some, too; one for WAL comes after half of max_wal_size at the earliest.
        early = min(early, counters.wal_bytes // (0.5 * (amount(size.value, size.unit) or 1)))
    if size and checkpoints >= 10 and early > 0.2 * checkpoints:
        part = 100 * early / checkpoints
        sql, declaration = change(size.name, f"{2 * (amount(size.value, size.unit) or 0) / MIB:.0f}MB")
        given.append(
            Advice(
                "setting",
                size.name,
                f"{early:.0f} of {checkpoints} checkpoints came early because {shown(size)} of WAL were full",
                part,
                "% of the checkpoints",
                sql,
                declaration,
                "the disk of the WAL needs the room",
            )
        )
    memory = settings.get("work_mem")
    daily = counters.temporary_bytes / max(counters.days, 1)
    if memory and daily > 1024 * MIB:
        sql, declaration = change(memory.name, f"{2 * (amount(memory.value, memory.unit) or 0) / MIB:.0f}MB")
        given.append(
            Advice(
                "setting",
                memory.name,
                f"statements wrote {daily / MIB:,.0f} MiB a day to temporary files: their sorts do not fit into {shown(memory)}",
                daily / MIB,
                "MiB a day",
                sql,
                declaration,
                "each of max_connections may take it several times; for a single role: ALTER ROLE ... SET work_mem",
            )
        )
    return given


def dead(found: t.Sequence[Changed]) -> list[Advice]:
    """Tables that autovacuum does not keep up with."""
    given = []
    for one in found:
        if one.dead < 10_000 or one.dead < 0.2 * (one.live + one.dead):
            continue
        name = identifier(one.schema, one.name)
        given.append(
            Advice(
                "autovacuum",
                name,
                f"{one.dead:,} of {one.live + one.dead:,} rows are dead, and it was {'vacuumed last ' + one.vacuum if one.vacuum else 'never vacuumed'}",
                one.dead,
                "dead rows",
                f"ALTER TABLE {name} SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)",
                note="an old transaction or a replication slot may be what keeps them: see db_longest_query and db_replication_slots",
            )
        )
    return given
