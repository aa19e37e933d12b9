"""What is found wrong with a definition, collected so that all of it is reported at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Final, NoReturn

from orch8.blocks.fields import escape
from orch8.blocks.step import TOO_MANY_LIMITS
from orch8.errors import DefinitionRejected, Problem, Unprocessable

MONEY_MEMBERS: Final = (
    "effect",
    "fence",
    "idempotency",
    "money",
    "on_unknown",
    "outcome_map",
    "provider",
    "rate_limit",
    "rate_limits",
)
UNLIMITED: Final = "unlimited"
_MONEY: Final = "money."
_YOUNG: Final = frozenset({TOO_MANY_LIMITS})  # objections that older versions did not have
_MOST_EDITS: Final = 2
_LONGEST_SUGGESTED: Final = 64  # finding what a longer name resembles would cost more than it helps


@dataclass
class Findings:
    """Problems, which refuse a definition, and warnings, which do not; a bounded number of each.

    With ``strict`` a remark about money, or about a rate limit that is not there, refuses it, too.
    """

    contract: bool
    lenient: bool
    most: int
    strict: bool = False
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    unlisted: int = 0

    def problem(self, problem: Problem) -> None:
        """The definition is refused for this, too; one that was published before, by versions that
        did not object, is let pass.
        """
        if self.lenient and problem.code in _YOUNG:
            self.warn(problem)
        elif len(self.problems) < self.most:
            self.problems.append(problem)
        else:
            self.unlisted += 1

    def warn(self, warning: Problem) -> None:
        """The definition is accepted, unless strictly, and whoever publishes it is told."""
        if self.strict and (warning.code.startswith(_MONEY) or warning.code == UNLIMITED):
            self.problem(replace(warning, shape=True))  # 422
        elif len(self.warnings) < self.most:
            self.warnings.append(warning)

    def unknown_member(self, pointer: str, name: str, known: Collection[str], owner: str) -> None:
        """A member that nobody reads: refused in the seed's form, or when it may be about money."""
        refused = not (self.contract or self.lenient)
        money = next((m for m in MONEY_MEMBERS if near(name, m)), None)
        if len(self.problems if refused or money else self.warnings) >= self.most:
            self.unlisted += refused or money is not None
            return
        meant = closest(name, known)
        hint = f"did you mean {meant}?" if meant else "leave it out"
        if money == name:
            hint = f"{name} belongs on a step"
        shown = name[:_LONGEST_SUGGESTED]
        found = Problem(
            f"{pointer}/{escape(name)}", f"{owner}unknown member {shown!r}", hint, "unknown_member"
        )
        if money is not None or refused:
            self.problem(found)
        else:
            self.warn(found)

    def sorted_warnings(self) -> tuple[Problem, ...]:
        """The warnings in the order of the document."""
        return tuple(sorted(self.warnings, key=_place))

    def refuse(self) -> NoReturn:
        """Raises Unprocessable if any of the problems is one of shape, else DefinitionRejected."""
        problems = sorted(self.problems, key=_place)
        count = len(problems) + self.unlisted
        detail = problems[0].message if problems else "the definition is refused"
        if count > 1:
            detail += f" (and {count - 1} more)"
        shaped = any(each.shape for each in problems)
        raise (Unprocessable if shaped else DefinitionRejected)(detail, errors=problems)


def placed(problems: Iterable[Problem], pointer: str, owner: str = "") -> Iterator[Problem]:
    """The problems of a part, as problems of the whole."""
    for each in problems:
        yield replace(each, pointer=pointer + each.pointer, message=owner + each.message)


def closest(name: str, known: Collection[str]) -> str | None:
    """The known name that ``name`` most resembles, None if it resembles none."""
    if len(name) > _LONGEST_SUGGESTED:
        return None
    return next(iter(get_close_matches(name, known, n=1)), None)


def near(name: str, other: str) -> bool:
    """Whether at most two edits (insert, drop, replace a character) lead from one to the other."""
    if abs(len(name) - len(other)) > _MOST_EDITS:
        return False
    if len(set(name) - set(other)) > _MOST_EDITS:
        return False
    row = list(range(len(other) + 1))
    for i, mine in enumerate(name, 1):
        previous, row = row, [i]
        for j, theirs in enumerate(other, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (mine != theirs)))
    return row[-1] <= _MOST_EDITS


def _place(problem: Problem) -> list[tuple[int, int, str]]:
    parts = problem.pointer.split("/")[1:]
    return [(0, int(p), "") if p.isdecimal() and p.isascii() else (1, 0, p) for p in parts]
