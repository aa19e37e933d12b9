"""Aligning: a moment moves forward to the next payday, weekday or business day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from orch8.engine.calendar import SEARCHED_DAYS, Calendar, Roll, from_local, rolled

if TYPE_CHECKING:
    from orch8.engine.duration import Duration
    from orch8.engine.expressions import Template

LAST: Final = 31  # of a day of the month: days past the end of a month mean its last one
_ROLLED_FROM: Final = 31  # no calendar stays closed for a month


@dataclass(frozen=True, slots=True)
class Align:
    """Aligned are the days of the month and of the week (Monday 0) that are named, every day if
    none is; each rolls to a day on which the calendar is open.

    ``at`` is the local time of day on an aligned day, None that of the moment itself. A shift
    longer than ``max_shift`` is not made.
    """

    days_of_month: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    at: time | None = None
    max_shift: Duration | None = None
    roll: Roll = Roll.FOLLOWING
    calendar: Template | None = None


def aligned(align: Align, moment: datetime, zone: tzinfo, calendar: Calendar) -> datetime:
    """The first moment from ``moment`` on, never before it, that is on an aligned day and not
    earlier there than ``at``; ``moment`` itself if that is too far away.

    ValueError if there is no aligned day within 400 days.
    """
    local = moment.astimezone(zone)
    today = local.date()
    looks_back = _ROLLED_FROM if align.roll not in (Roll.PRECEDING, Roll.NONE) else 0
    for ahead in range(-looks_back, SEARCHED_DAYS):
        named = today + timedelta(days=ahead)
        if not _is_named(align, named):
            continue
        day = rolled(named, align.roll, calendar)
        if day < today:
            continue
        found = max(moment, from_local(datetime.combine(day, align.at or local.time()), zone))
        near = align.max_shift is None or found <= align.max_shift.after(moment, zone)
        return found if near else moment
    raise ValueError(f"there is no aligned day within {SEARCHED_DAYS} days of {today}")


def _is_named(align: Align, day: date) -> bool:
    if not align.days_of_month and not align.weekdays:
        return True
    if day.weekday() in align.weekdays or day.day in align.days_of_month:
        return True
    is_last = (day + timedelta(days=1)).day == 1
    return is_last and any(each > day.day for each in align.days_of_month)
