"""A span of time: whole months and days on the wall clock, the rest absolute.

Months, weeks and days are steps on the calendar of a time zone (a day may have 23 or 25 hours);
hours and smaller units are absolute. A span is exact to the millisecond.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

MAX_DAYS: Final = 36_525  # a hundred years: longer is a slip of the pen
_MAX_MONTHS: Final = 1_200
_MONTHS_PER_YEAR: Final = 12
_DAYS_PER_WEEK: Final = 7
_DAY_MS: Final = 86_400_000
_MS_PER: Final = {"hours": 3_600_000, "minutes": 60_000, "seconds": 1_000, "milliseconds": 1}
_MILLISECOND: Final = timedelta(milliseconds=1)

_FORMS: Final = (
    'use "5s", "250ms", "1h30m", "3d" or "2w", {"days": 3, "hours": 1}, "P3D" or "PT5M", '
    "or whole milliseconds"
)
_FRACTION: Final = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)"
_WHOLE: Final = r"([0-9]{1,9})"
_SHORT: Final = re.compile(
    rf"(?:{_WHOLE}w)?\s*(?:{_WHOLE}d)?\s*(?:{_FRACTION}h)?\s*(?:{_FRACTION}m)?\s*"
    rf"(?:{_FRACTION}s)?\s*(?:{_FRACTION}ms)?"
)
_SHORT_UNITS: Final = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")
_ISO: Final = re.compile(
    rf"P(?:{_WHOLE}Y)?(?:{_WHOLE}M)?(?:{_WHOLE}W)?(?:{_WHOLE}D)?"
    rf"(?:T(?:{_FRACTION}H)?(?:{_FRACTION}M)?(?:{_FRACTION}S)?)?"
)
_ISO_UNITS: Final = ("years", "months", "weeks", "days", "hours", "minutes", "seconds")
_OBJECT_UNITS: Final = frozenset({"months", *_SHORT_UNITS})


@dataclass(frozen=True, slots=True)
class Duration:
    """Whole ``months`` and ``days`` of the wall clock, then an ``absolute`` rest."""

    months: int = 0
    days: int = 0
    absolute: timedelta = timedelta()

    def after(self, moment: datetime, zone: tzinfo) -> datetime:
        """The moment this much later, in UTC.

        ``moment`` is aware. The end of a month clamps (31 January + 1 month = 28 February), a
        local time that does not exist moves forward by the gap, of a repeated one the first is
        meant. ValueError or OverflowError past the year 9999.
        """
        if not self.months and not self.days:
            return moment.astimezone(UTC) + self.absolute
        wall = _add_months(moment.astimezone(zone).replace(tzinfo=None), self.months)
        wall += timedelta(days=self.days)
        # fold=0 is the first of two equal local times; in a gap it takes the offset of before,
        # which is exactly "forward by the gap".
        return wall.replace(tzinfo=zone, fold=0).astimezone(UTC) + self.absolute

    def total_ms(self) -> int:
        """The length in milliseconds, a day taken as 24 hours; ValueError if it has months."""
        if self.months:
            message = "a month has no fixed length: use days here"
            raise ValueError(message)
        return self.days * _DAY_MS + self.absolute // _MILLISECOND

    def to_json(self) -> int | dict[str, int]:
        """Milliseconds if it is purely absolute, else an object; `parse_duration` reads both."""
        rest = self.absolute // _MILLISECOND
        if not self.months and not self.days:
            return rest
        parts = {"months": self.months, "days": self.days, "milliseconds": rest}
        return {unit: amount for unit, amount in parts.items() if amount}

    def __add__(self, other: Duration) -> Duration:
        return Duration(
            self.months + other.months, self.days + other.days, self.absolute + other.absolute
        )

    def __neg__(self) -> Duration:
        return Duration(-self.months, -self.days, -self.absolute)


def parse_duration(value: Any, *, float_is_seconds: bool = True) -> Duration:
    """The span that a JSON value means.

    Whole numbers are milliseconds; JSON floats are seconds (milliseconds when
    ``float_is_seconds`` is false). Raises ValueError, with the allowed forms, for anything else.
    """
    if isinstance(value, bool) or value is None:
        message = f"{value!r} is no duration: {_FORMS}"
        raise ValueError(message)
    if isinstance(value, int):
        return _from_units({"milliseconds": value}, value)
    if isinstance(value, float):
        return _from_units({"seconds" if float_is_seconds else "milliseconds": value}, value)
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, Mapping):
        return _from_object(value)
    message = f"a {type(value).__name__} is no duration: {_FORMS}"
    raise ValueError(message)


def _from_text(text: str) -> Duration:
    stripped = text.strip()
    for pattern, units in ((_SHORT, _SHORT_UNITS), (_ISO, _ISO_UNITS)):
        match = pattern.fullmatch(stripped)
        if match and any(match.groups()) and not stripped.endswith("T"):
            found = zip(units, match.groups(), strict=True)
            return _from_units({unit: _number(part) for unit, part in found if part}, text)
    message = f"{text[:40]!r} is no duration: {_FORMS}"
    raise ValueError(message)


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)


def _from_object(value: Mapping[Any, Any]) -> Duration:
    if not value:
        message = f"an empty object is no duration: {_FORMS}"
        raise ValueError(message)
    for unit, amount in value.items():
        if unit not in _OBJECT_UNITS:
            known = ", ".join(sorted(_OBJECT_UNITS))
            message = f"{unit!r} is no unit of a duration: use {known}"
            raise ValueError(message)
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            message = f"{unit} must be a number, not {amount!r}"
            raise ValueError(message)  # noqa: TRY004 - one class for all bad input
        if unit not in _MS_PER and amount != int(amount if math.isfinite(amount) else 0):
            message = f"{unit} must be a whole number, as they follow the calendar: use hours"
            raise ValueError(message)
    return _from_units(value, dict(value))


def _from_units(units: Mapping[str, float], shown: Any) -> Duration:
    if not all(math.isfinite(amount) and amount >= 0 for amount in units.values()):
        message = f"a duration is neither negative nor infinite: {shown!r}"
        raise ValueError(message)
    months = int(units.get("months", 0)) + int(units.get("years", 0)) * _MONTHS_PER_YEAR
    days = int(units.get("days", 0)) + int(units.get("weeks", 0)) * _DAYS_PER_WEEK
    rest = sum(round(units.get(unit, 0) * factor) for unit, factor in _MS_PER.items())
    if months > _MAX_MONTHS or days + rest // _DAY_MS > MAX_DAYS:
        message = f"a duration is at most a hundred years: {str(shown)[:60]}"
        raise ValueError(message)
    return Duration(months, days, timedelta(milliseconds=rest))


def _add_months(wall: datetime, months: int) -> datetime:
    if not months:
        return wall
    years, month = divmod(wall.month - 1 + months, _MONTHS_PER_YEAR)
    first = wall.replace(year=wall.year + years, month=month + 1, day=1)
    # From any first of a month, 32 days reach into the next one.
    last = ((first + timedelta(days=32)).replace(day=1) - timedelta(days=1)).day
    return first.replace(day=min(wall.day, last))
