"""Months: which ids are of which month, and the bounds that spare a statement all other months.

Ids are UUIDv7, so a month (UTC) is a range of ids. `instances`, `steps` and `contexts` have a
partition for each. Statements are planned anew each time, and what they do not say about the month
costs planning time for every partition there is: so whoever knows the instances says `within`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from orch8.storage.ids import first_of, made_at

# Everything that belongs to an instance and goes with its month.
OWNED: Final = ("instances", "contexts", "steps")
PARTITIONED: Final = (*OWNED, "audit_log")
_NAME: Final = re.compile(r"(\d{4})_(\d{2})")


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A month of the calendar in UTC. ``low`` is its first id, ``high`` the first one after it."""

    year: int
    number: int

    @property
    def low(self) -> UUID:
        """The smallest id that can be made in the month."""
        return first_of(datetime(self.year, self.number, 1, tzinfo=UTC))

    @property
    def high(self) -> UUID:
        """The smallest id that can be made after the month."""
        return self.next.low

    @property
    def next(self) -> Month:
        """The month after."""
        return self.later(1)

    def later(self, months: int) -> Month:
        """The month that comes so many months after this one; before it, if negative."""
        year, number = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(year, number + 1)

    def __str__(self) -> str:
        return f"{self.year:04}_{self.number:02}"

    @classmethod
    def of(cls, made: UUID) -> Month:
        """The month in which an id was made."""
        return cls.at(made_at(made))

    @classmethod
    def at(cls, moment: datetime) -> Month:
        """The month of a moment."""
        there = moment.astimezone(UTC)
        return cls(there.year, there.month)

    @classmethod
    def named(cls, name: str) -> Month:
        """The month that ``str`` made this text of; ValueError if it is none."""
        found = _NAME.fullmatch(name)
        if found is None or not 1 <= int(found[2]) <= 12:  # noqa: PLR2004
            raise ValueError(f"{name!r} is no month; write it as 2026_11")
        return cls(int(found[1]), int(found[2]))


def within(*columns: str) -> str:
    """The condition that these columns, which hold ids of instances, are of the months of `span`.

    It changes no answer: it is there for the planner, which then looks at no other partition. ALL
    keeps it from more: of BETWEEN it thinks, as long as a month was not analyzed, that it leaves
    next to nothing, and reads the whole month by it instead of looking up the few rows meant.
    """
    return " AND ".join(
        f"{c} >= ALL (ARRAY[%(low)s]) AND {c} <= ALL (ARRAY[%(high)s])" for c in columns
    )


def span(ids: Iterable[UUID]) -> dict[str, UUID]:
    """The parameters of `within`: the bounds of the months from that of the smallest id to that of
    the greatest. There must be at least one.

    Whole months: of bounds inside of one the planner would think they leave next to nothing, and
    read everything between them instead of looking up the few rows that are meant.
    """
    mine = [each.int >> _GRAIN for each in ids]
    return _bounds(min(mine), max(mine))


# So many bits less make ids of some five hours alike, and nearly every call the same as another.
_GRAIN: Final = 80 + 24


# What a caller takes for an id may be any: the calendar of Python ends with the year 9999.
_END: Final = Month(9999, 12)


@lru_cache(maxsize=4096)
def _bounds(low: int, high: int) -> dict[str, UUID]:
    # Five hours may reach over the end of a month: their first and last ids decide.
    first, last = low << _GRAIN, ((high + 1) << _GRAIN) - 1
    after = 1 << 128 if last >= _END.low.int else Month.of(UUID(int=last)).high.int
    begin = _END if first >= _END.low.int else Month.of(UUID(int=first))
    return {"low": begin.low, "high": UUID(int=after - 1)}
