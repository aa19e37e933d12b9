"""Cron expressions: at which local times something is to happen, and at which moments that is.

Five fields (minute hour day month weekday), six (second first) or seven (year last). Day and
weekday must both hold. Weekdays are 1 (Sunday) to 7 (Saturday), as in Quartz and unlike Unix cron.

No library: none reads seven fields, counts weekdays so and ends a clock change's gap as we must.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199
LONGEST: Final = 400  # characters of an expression
_SECOND: Final = timedelta(seconds=1)
_HOURS: Final = 24
_WEEK: Final = 7
_SHORT: Final = 3  # letters of a name
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field can say. ``names``, whole or short, stand for numbers from ``least`` on."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()


_FIELDS: Final = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 1, _WEEK, _DAYS),
    _Field("year", FIRST_YEAR, LAST_YEAR),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """The local times that an expression names, each field's values in order."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: tuple[int, ...]
    weekdays: frozenset[int]
    years: tuple[int, ...]

    def after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first moment after ``moment`` (both in UTC) that is one of the local times in the
        zone; None if there is none any more.

        A time that a clock change skips happens when the gap ends. One that it repeats happens the
        first time only, unless every hour is named: then it is an interval and goes on.
        """
        local = moment.astimezone(zone)
        start = local.replace(tzinfo=None, fold=0, microsecond=0)
        found = next((at for at in self._moments(start, zone) if at > moment), None)
        if found is None or len(self.hours) < _HOURS:
            return found
        again = self._repeated(moment, start, found, zone)
        return found if again is None else again

    def _moments(self, start: datetime, zone: tzinfo) -> Iterator[datetime]:
        for wall in self._walls(start):
            yield _moment(wall, zone)

    def _repeated(
        self, moment: datetime, start: datetime, before: datetime, zone: tzinfo
    ) -> datetime | None:
        """The first moment after ``moment`` whose local time is there for the second time."""
        gone_back = _offset(moment, zone) - _offset(before, zone)
        for wall in self._walls(start - max(gone_back, timedelta())):
            second = wall.replace(tzinfo=zone, fold=1)
            first = wall.replace(tzinfo=zone, fold=0)
            at = second.astimezone(UTC)
            if at >= before:
                return None
            if at > moment and first.utcoffset() > second.utcoffset():  # type: ignore[operator]
                return at
        return None  # pragma: no cover - a year without a match has ended the search before

    def _walls(self, start: datetime) -> Iterator[datetime]:
        """The local times from ``start`` on, in order."""
        for day in self._dates(start.date()):
            floor = start.time() if day == start.date() else time()
            for hour in self.hours:
                if hour < floor.hour:
                    continue
                for minute in self.minutes:
                    if (hour, minute) < (floor.hour, floor.minute):
                        continue
                    for second in self.seconds:
                        at = time(hour, minute, second)
                        if at >= floor:
                            yield datetime.combine(day, at)

    def _dates(self, start: date) -> Iterator[date]:
        for year in self.years:
            if year < start.year:
                continue
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                weekday, length = monthrange(year, month)
                for day in range(1, length + 1):
                    # monthrange counts from Monday as 0, a cron expression from Sunday as 1.
                    named = (weekday + day) % _WEEK + 1
                    if day in self.days and named in self.weekdays:
                        found = date(year, month, day)
                        if found >= start:
                            yield found


def parse_cron(text: str) -> Cron:
    """The expression's meaning. ValueError names the field that is wrong and what it could be."""
    if len(text) > LONGEST:
        raise ValueError(f"a cron expression has at most {LONGEST} characters")
    parts = text.split()
    match len(parts):
        case 5:
            parts = ["0", *parts, "*"]
        case 6:
            parts = [*parts, "*"]
        case 7:
            pass
        case count:
            raise ValueError(
                f"a cron expression has 5 fields (minute hour day month weekday), 6 (a second "
                f"first) or 7 (a year last), not {count}"
            )
    values = [_values(field, part) for field, part in zip(_FIELDS, parts, strict=True)]
    second, minute, hour, day, month, weekday, year = (tuple(sorted(each)) for each in values)
    return Cron(second, minute, hour, frozenset(day), month, frozenset(weekday), year)


def _values(field: _Field, text: str) -> set[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, slash, pace_text = item.partition("/")
        pace = _number(field, pace_text) if slash else 1
        if pace < 1:
            raise _wrong(field, item, "a step is at least 1")
        low, dash, high = span.partition("-")
        if span in {"*", "?"}:
            first, last = field.least, field.most
        elif dash:
            first, last = _value(field, low), _value(field, high)
        else:
            first = _value(field, low)
            last = field.most if slash else first
        if first > last:
            raise _wrong(field, item, "a range ends where it starts, or later")
        found.update(range(first, last + 1, pace))
    return found


def _value(field: _Field, text: str) -> int:
    for number, name in enumerate(field.names, field.least):
        if text.lower() in {name, name[:_SHORT]}:
            return number
    value = _number(field, text)
    if not field.least <= value <= field.most:
        raise _wrong(field, text, _range(field))
    return value


def _number(field: _Field, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(LAST_YEAR))):
        raise _wrong(field, text, _range(field))
    return int(text)


def _range(field: _Field) -> str:
    if field.name == "weekday":
        return "use SUN to SAT, or 1 (Sunday) to 7 (Saturday)"
    return f"use {field.least} to {field.most}" + (" or names" if field.names else "")


def _wrong(field: _Field, text: str, hint: str) -> ValueError:
    return ValueError(f"the {field.name} {text[:40]!r} is not one: {hint}")


def _moment(wall: datetime, zone: tzinfo) -> datetime:
    """When a local time happens first; when the gap ends, if a clock change skips it."""
    first, second = wall.replace(tzinfo=zone, fold=0), wall.replace(tzinfo=zone, fold=1)
    late, early = first.astimezone(UTC), second.astimezone(UTC)
    if early >= late:  # there once, or twice
        return late
    # Skipped: read with the offset after the change it is before it, and the other way round.
    before = _offset(early, zone)
    while late - early > _SECOND:
        middle = early + (late - early) // 2
        middle = middle.replace(microsecond=0)
        if _offset(middle, zone) == before:
            early = middle
        else:
            late = middle
    return late


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    found = moment.astimezone(zone).utcoffset()
    assert found is not None
    return found
