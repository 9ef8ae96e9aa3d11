# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repair is, and how those that were asked for are carried out.

A repair is a class with a decorator:

    @repair("drop_dead_slot", "Drop a replication slot that nobody reads", ("db_replication_slots",))
    class DropDeadSlot(Repair):
        ...

``look`` reads what there is, ``plan`` makes steps of it and is pure, ``do``
carries out one of them, ``settle`` sees whether it helped. Check mode ends
after ``plan``, so what it shows is what a run does. Nothing to repair is no
steps. All options are looked at before anything is changed.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .. import nftables, postgres


class RepairError(Exception):
    """What stands in the way, and the cure, in one line."""


class Step(t.NamedTuple):
    """One thing to do. ``text`` is shown; ``verb`` and ``what`` are for ``do``; ``before`` and ``after`` for the diff."""

    text: str
    verb: str
    what: tuple = ()
    before: str = ""
    after: str = ""


@dataclasses.dataclass
class Outcome:
    """What came of one repair. ``left`` is what it could not cure and makes it fail; ``notes`` is worth to know."""

    steps: list[Step] = dataclasses.field(default_factory=list)
    left: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    facts: dict[str, t.Any] = dataclasses.field(default_factory=dict)


class Repair:
    """The order is that of the calls."""

    name = title = ""
    cures: tuple = ()

    @staticmethod
    def problem(dummy_options: t.Mapping[str, t.Any]) -> str:
        """Why the options cannot be used, with the cure; '' where they can."""
        return ""

    def look(self, host: t.Any, outcome: Outcome) -> t.Any:
        """What there is."""
        raise NotImplementedError

    def plan(self, found: t.Any, options: t.Mapping[str, t.Any], outcome: Outcome) -> list[Step]:
        """The steps; pure. What it notices goes to the outcome."""
        raise NotImplementedError

    def do(self, host: t.Any, step: Step, outcome: Outcome) -> None:
        """One step. RepairError ends the repair; ``outcome.left`` does not."""
        raise NotImplementedError

    def settle(self, host: t.Any, found: t.Any, outcome: Outcome) -> None:
        """See whether it helped; called where there were steps."""

    def carry_out(self, host: t.Any, found: t.Any, outcome: Outcome) -> None:
        for step in outcome.steps:
            self.do(host, step, outcome)
        self.settle(host, found, outcome)


REGISTRY: dict[str, Repair] = {}


def repair(name: str, title: str, cures: tuple) -> t.Callable:
    """Register a class as the repair of this name, which cures these checks."""

    def register(made: type) -> type:
        if name in REGISTRY:
            raise ValueError(f"{name}: twice")
        made.name, made.title, made.cures = name, title, cures
        REGISTRY[name] = made()
        return made

    return register


def problems(names: t.Iterable[str], options: t.Mapping[str, t.Any]) -> list[str]:
    """What of the options stands in the way, before anything is looked at."""
    return [said for said in (REGISTRY[name].problem(options) for name in names) if said]


def run(host: t.Any, names: t.Iterable[str], check_mode: bool) -> list[dict]:
    """A result for each repair, in the order in which they were asked for; one that fails takes no other with it."""
    results = []
    for name in dict.fromkeys(names):
        one, outcome, failure = REGISTRY[name], Outcome(), ""
        try:
            found = one.look(host, outcome)
            outcome.steps = one.plan(found, host.options, outcome)
            if outcome.steps and not check_mode:
                one.carry_out(host, found, outcome)
        except (RepairError, postgres.PostgresError, nftables.NftError, OSError) as error:
            failure = str(error)
        except postgres.DatabaseError as error:
            failure = postgres.one_line(error)
        left = outcome.left + ([" ".join(failure.split())] if failure else [])
        results.append(
            {
                "repair": name,
                "title": one.title,
                "cures": list(one.cures),
                "changed": bool(outcome.steps),
                "steps": [step.text for step in outcome.steps],
                "left": left,
                "notes": outcome.notes,
                "facts": outcome.facts,
                "diff": {
                    "before_header": f"{name} (as it is)",
                    "after_header": f"{name} (repaired)",
                    "before": "".join(f"{step.before}\n" for step in outcome.steps if step.before),
                    "after": "".join(f"{step.after}\n" for step in outcome.steps if step.after),
                },
            }
        )
    return results


def said(results: t.Sequence[dict], check_mode: bool) -> list[str]:
    """The lines that a person reads."""
    lines = []
    for one in results:
        would = "would " if check_mode else ""
        lines += [f"{one['repair']}: {would}{text}" for text in one["steps"]]
        if not one["steps"] and not one["left"]:
            lines.append(f"{one['repair']}: nothing to repair")
        lines += [f"{one['repair']}: {text}" for text in one["notes"]]
        lines += [f"{one['repair']}: NOT REPAIRED: {text}" for text in one["left"]]
    return lines
