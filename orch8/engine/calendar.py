"""Local days: which are open for business, where the others roll, and when a local time happens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final, Protocol

SEARCHED_DAYS: Final = 400  # a calendar that has no such day in over a year has none
_SATURDAY: Final = 5


class Calendar(Protocol):
    """Knows on which days business is done."""

    def is_open(self, day: date) -> bool:
        """Whether business is done on that day."""


@dataclass(frozen=True, slots=True)
class Weekdays:
    """Open from Monday to Friday."""

    def is_open(self, day: date) -> bool:
        """Whether it is no Saturday or Sunday."""
        return day.weekday() < _SATURDAY


@dataclass(frozen=True, slots=True)
class Without:
    """Another calendar that is also closed on some days."""

    calendar: Calendar
    closed: frozenset[date]

    def is_open(self, day: date) -> bool:
        """Whether the other calendar is open and the day is none of those."""
        return day not in self.closed and self.calendar.is_open(day)


WEEKDAYS: Final = Weekdays()


class Roll(StrEnum):
    """Where a closed day goes: to the open day after it, before it, after it unless that is in the
    next month, or nowhere.
    """

    FOLLOWING = "following"
    PRECEDING = "preceding"
    MODIFIED_FOLLOWING = "modified_following"
    NONE = "none"


def rolled(day: date, roll: Roll, calendar: Calendar) -> date:
    """The day itself if ``calendar`` is open, else the one that ``roll`` puts in its place.

    ValueError if there is no open day within 400 days.
    """
    match roll:
        case Roll.NONE:
            return day
        case Roll.PRECEDING:
            return _open_from(day, calendar, -1)
        case Roll.FOLLOWING:
            return _open_from(day, calendar, 1)
    following = _open_from(day, calendar, 1)
    return following if following.month == day.month else _open_from(day, calendar, -1)


def from_local(naive: datetime, zone: tzinfo) -> datetime:
    """The UTC moment of a local time: one that a clock change skips moves forward by the gap, one
    that it repeats is the first.
    """
    # With fold=0 zoneinfo reads a skipped time with the offset before the gap, which lands after
    # it by the gap's width, and a repeated time as its first occurrence: both what we want.
    return naive.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _open_from(day: date, calendar: Calendar, pace: int) -> date:
    for ahead in range(SEARCHED_DAYS):
        found = day + timedelta(days=ahead * pace)
        if calendar.is_open(found):
            return found
    raise ValueError(f"the calendar has no open day within {SEARCHED_DAYS} days of {day}")
