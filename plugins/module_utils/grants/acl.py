# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From one access control list to another: which rights to take and to give, in which order. Pure.

PostgreSQL keeps who gave each right. A superuser and the members of the owner
act as the owner, so what somebody else handed on can only be taken by taking
the option from that one, with CASCADE. Who has the option by way of a
membership too keeps what was handed on; a superuser takes that in the name of
the one who gave it. Every operation is played through on a copy of the list as
the server would do it, so that what a CASCADE takes too is known and given
back.
https://www.postgresql.org/docs/current/ddl-priv.html
"""

from __future__ import annotations

import typing as t

from .model import COLUMN, RIGHTS, Entry

# grantee -> (rights, those of them with the grant option)
Wanted = t.Dict[str, t.Tuple[frozenset, frozenset]]
EMPTY: tuple = (frozenset(), frozenset())


class Operation(t.NamedTuple):
    """A GRANT or REVOKE of one right, on the whole object (column '') or a column."""

    give: bool
    letter: str
    grantee: str
    option: bool = False  # give: with the option; take: the option alone
    cascade: bool = False
    column: str = ""
    # In whose name, where that is not the actor.
    by: str = ""


def nobody(role: str) -> t.Collection[str]:
    """For those that are not members of any role."""
    return ()


def changed_owner(acl: t.Sequence[Entry], old: str, new: str) -> tuple:
    """What ALTER ... OWNER TO makes of a list: the new owner takes the old one's place, and what becomes double is merged."""
    merged: dict = {}
    for entry in acl:
        key = (new if entry.grantee == old else entry.grantee, new if entry.grantor == old else entry.grantor)
        rights, options = merged.get(key, EMPTY)
        merged[key] = (rights | entry.rights, options | entry.options)
    return tuple(Entry(grantee, grantor, *both) for (grantee, grantor), both in merged.items())


def held(acl: t.Iterable[Entry]) -> Wanted:
    """Who has what, whoever gave it."""
    found: dict = {}
    for entry in acl:
        rights, options = found.get(entry.grantee, EMPTY)
        found[entry.grantee] = (rights | entry.rights, options | entry.options)
    return found


class Rights:
    """A list that can be changed: (grantee, grantor, letter) -> grant option.

    :param behind: the roles whose rights a role has by membership.
    """

    def __init__(self, acl: t.Iterable[Entry], owner: str, behind: t.Callable[[str], t.Collection[str]] = nobody) -> None:
        self.owner, self.behind = owner, behind
        self.given = {(entry.grantee, entry.grantor, letter): letter in entry.options for entry in acl for letter in entry.rights}

    def has(self, grantee: str, letter: str) -> bool:
        return any(who == grantee and what == letter for who, dummy, what in self.given)

    def has_option(self, grantee: str, letter: str) -> bool:
        if grantee == self.owner:
            return True
        return any(option for (who, dummy, what), option in self.given.items() if who == grantee and what == letter)

    def keeps(self, grantee: str, letter: str) -> bool:
        """Whether a CASCADE stops at this role, which still has the option, be it by a membership."""
        return any(self.has_option(role, letter) for role in (grantee, *self.behind(grantee)))

    def copy(self) -> "Rights":
        other = Rights((), self.owner, self.behind)
        other.given = dict(self.given)
        return other

    def give(self, letter: str, grantee: str, grantor: str, option: bool) -> None:
        key = (grantee, grantor, letter)
        self.given[key] = self.given.get(key, False) or option

    def take(self, letter: str, grantee: str, grantor: str, option_only: bool = False) -> list:
        """As REVOKE ... CASCADE by this grantor; the keys of what others lost by it."""
        key = (grantee, grantor, letter)
        if key not in self.given:
            return []
        had = self.given[key]
        if option_only:
            self.given[key] = False
        else:
            del self.given[key]
        lost = []
        if had and not self.keeps(grantee, letter):
            for other in [one for one in self.given if one[1] == grantee and one[2] == letter]:
                if other in self.given:
                    lost += [other, *self.take(letter, other[0], grantee)]
        return lost

    def first_step(self, actor: str, grantor: str, letter: str) -> str:
        """To whom the actor gave the option that this grantor has by way of others; '' where there is no way."""
        reached, seen = [grantor], {grantor}
        while reached:
            current = reached.pop()
            for (who, giver, what), option in self.given.items():
                if who == current and what == letter and option:
                    if giver == actor:
                        return current
                    if giver not in seen:
                        seen.add(giver)
                        reached.append(giver)
        return ""

    def entries(self) -> tuple:
        found: dict = {}
        for (grantee, grantor, letter), option in self.given.items():
            rights, options = found.get((grantee, grantor), EMPTY)
            found[(grantee, grantor)] = (rights | {letter}, options | ({letter} if option else frozenset()))
        return tuple(Entry(grantee, grantor, *both) for (grantee, grantor), both in found.items())


def is_as_wanted(acl: t.Sequence[Entry], owner: str, wanted: Wanted, full: frozenset) -> bool:
    """The short way for the usual case: every right is from the owner and none differs.

    :param full: what the owner has by itself.
    """
    found, owners = {}, frozenset()
    for entry in acl:
        if entry.grantor != owner:
            return False
        if entry.grantee == owner:
            owners = entry.rights
        else:
            found[entry.grantee] = (entry.rights, entry.options)
    return owners >= full and found == ({who: both for who, both in wanted.items() if who != owner} if owner in wanted else wanted)


class Converge:
    """The operations that make one object's list, and those of its columns, what is wanted.

    :param exact: whether what a grantee has beyond what is wanted is to be taken.
    :param actor: whom PostgreSQL takes for the grantor of what we do: the owner, or ourselves with grant options.
    :param behind: see Rights.
    :param may_be: whether we can act as this role, and PostgreSQL then takes it for the grantor.
    """

    def __init__(
        self,
        acl: t.Iterable[Entry],
        owner: str,
        actor: str,
        exact: t.Callable[[str], bool],
        columns: t.Optional[dict] = None,
        behind: t.Callable[[str], t.Collection[str]] = nobody,
        may_be: t.Callable[[str], bool] = lambda role: False,
    ) -> None:
        self.owner, self.actor, self.exact, self.behind, self.may_be = owner, actor, exact, behind, may_be
        self.lists = {"": Rights(acl, owner, behind)}
        for column, entries in (columns or {}).items():
            self.lists[column] = Rights(entries, owner, behind)
        self.operations: list[Operation] = []
        # (grantee, grantor, letter, column) that cannot be taken by us
        self.stuck: list[tuple] = []

    def run(self, wanted: t.Dict[str, Wanted], full: frozenset) -> list[Operation]:
        """``wanted`` by column, '' for the whole object."""
        goals: dict = {}
        for column, rights in self.lists.items():
            goal = {(who, letter): letter in options for who, (letters, options) in wanted.get(column, {}).items() for letter in letters}
            for (who, dummy, letter), option in rights.given.items():
                # What is outside of the bounds stays, also where a CASCADE would take it along.
                if who == self.owner or not self.exact(who):
                    goal[(who, letter)] = goal.get((who, letter), False) or (option and who != self.owner)
            goals[column] = goal
        for column in set(wanted) - set(self.lists):
            self.lists[column] = Rights((), self.owner, self.behind)
            goals[column] = {(who, letter): letter in options for who, (letters, options) in wanted[column].items() for letter in letters}
        if self.exact(self.owner):
            goals[""].update({(self.owner, letter): goals[""].get((self.owner, letter), False) for letter in full})
        for column in sorted(self.lists):
            self._take(column, goals[column])
        for column in sorted(self.lists):
            self._give(column, goals[column])
        return self.operations

    def _excess(self, column: str, goal: dict) -> list[tuple]:
        """(grantee, grantor, letter, option alone) of what is too much; what the actor gave comes first."""
        found = []
        for (who, grantor, letter), option in self.lists[column].given.items():
            if who == self.owner:
                continue
            if (who, letter) not in goal:
                found.append((who, grantor, letter, False))
            elif option and not goal[(who, letter)]:
                found.append((who, grantor, letter, True))
        found = [one for one in found if (*one[:3], column) not in self.stuck]
        return sorted(found, key=lambda one: (one[1] != self.actor, one))

    def _take(self, column: str, goal: dict) -> None:
        rights = self.lists[column]
        while True:
            excess = self._excess(column, goal)
            if not excess:
                return
            who, grantor, letter, option = excess[0]
            if grantor == self.actor:
                self._revoke(column, letter, who, option)
                continue
            step = rights.first_step(self.actor, grantor, letter)
            reached = self._is_reached(rights, step, who, grantor, letter)
            if step and reached:
                self._revoke(column, letter, step, True)
            elif self.actor == self.owner and reached:
                # The grantor's own option is gone, or stands on the whole table: give one here, and take it with all that hangs on it.
                self._grant(column, letter, grantor, True)
                self._revoke(column, letter, grantor, (grantor, letter) in goal)
            elif self.actor == self.owner and self.may_be(grantor):
                lent = not any(self.lists[name].has_option(grantor, letter) for name in ("", column))
                if lent:
                    self._grant(column, letter, grantor, True)
                self._revoke(column, letter, who, option, grantor)
                if lent:
                    self._revoke(column, letter, grantor, (grantor, letter) in goal)
            if (who, grantor, letter) in rights.given and (not option or rights.given[(who, grantor, letter)]):
                self.stuck.append((who, grantor, letter, column))
            else:
                # What hung on this one may be within reach now.
                self.stuck = [one for one in self.stuck if one[3] != column]

    def _is_reached(self, rights: Rights, step: str, who: str, grantor: str, letter: str) -> bool:
        """Whether a CASCADE gets as far as what this grantor gave: from this role on, or from an option that the grantor is given for it."""
        trial = rights.copy()
        if not step:
            trial.give(letter, grantor, self.actor, True)
        trial.take(letter, step or grantor, self.actor, True)
        return (who, grantor, letter) not in trial.given

    def _give(self, column: str, goal: dict) -> None:
        rights = self.lists[column]
        for (who, letter), option in sorted(goal.items()):
            if not rights.has(who, letter) or (option and not rights.has_option(who, letter)):
                self._grant(column, letter, who, option)

    def _grant(self, column: str, letter: str, who: str, option: bool) -> None:
        self.lists[column].give(letter, who, self.actor, option)
        self.operations.append(Operation(True, letter, who, option, False, column))

    def _revoke(self, column: str, letter: str, who: str, option: bool, by: str = "") -> None:
        lost = self.lists[column].take(letter, who, by or self.actor, option)
        if not column and letter in RIGHTS[COLUMN]:
            # REVOKE on a table takes the same from each of its columns.
            for name, rights in self.lists.items():
                if name:
                    lost += rights.take(letter, who, by or self.actor, option)
        self.operations.append(Operation(False, letter, who, option, bool(lost), column, by))


def defaults(acl: t.Iterable[Entry], owner: str, wanted: Wanted, exact: t.Callable[[str], bool]) -> tuple[Wanted, Wanted, Wanted]:
    """(take, take the option alone, give) of one list of default privileges, where all is given by the owner."""
    live = {who: both for who, both in held(acl).items() if who != owner}
    take: dict = {}
    options: dict = {}
    give: dict = {}
    for who, (rights, granted) in live.items():
        goal, goal_options = wanted.get(who, EMPTY)
        if exact(who):
            if rights - goal:
                take[who] = (rights - goal, frozenset())
            if (granted & goal) - goal_options:
                options[who] = ((granted & goal) - goal_options, frozenset())
    for who, (goal, goal_options) in wanted.items():
        rights, granted = live.get(who, EMPTY)
        missing = (goal - rights) | (goal_options - granted)
        if missing and who != owner:
            give[who] = (missing, missing & goal_options)
    return take, options, give
