"""When a step becomes due: its delay or schedule, then the rules that the moment must obey.

The rules are applied in turn until none moves the moment any more: not before, align and roll,
send window; jitter comes last and never breaks them. Pure calendar arithmetic: days, weeks and
months are wall-clock time in a zone, hours and less are absolute (CALENDAR rules).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from orch8.engine.align import Align, aligned
from orch8.engine.calendar import (
    SEARCHED_DAYS,
    WEEKDAYS,
    Calendar,
    Roll,
    Without,
    from_local,
    rolled,
)
from orch8.engine.duration import Duration

if TYPE_CHECKING:
    from orch8.engine.expressions import Template


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait this long; then, if asked, for a business day; give or take ``jitter`` seconds."""

    duration: Duration
    business_days_only: bool = False
    jitter: float = 0.0
    holidays: frozenset[date] = frozenset()  # closed as well as the calendar's
    at_local: datetime | None = None  # naive local time to fire at instead of now + duration
    zone: tzinfo | None = None  # for at_local; None is the instance's zone
    calendar: Template | None = None  # the name of one; None is Monday to Friday


@dataclass(frozen=True, slots=True)
class Schedule:
    """In the n-th iteration the n-th offset from ``anchor``, in later ones the last.

    ``anchor`` renders to a timestamp; None or null is when the wait was entered.
    """

    offsets: tuple[Duration, ...]
    anchor: Template | None = None

    def moment(self, anchor: datetime, iteration: int, zone: tzinfo) -> datetime:
        """The moment of an iteration, which counts from 1."""
        return self.offsets[min(iteration, len(self.offsets)) - 1].after(anchor, zone)


@dataclass(frozen=True, slots=True)
class SendWindow:
    """Local hours in which a step may run: from ``start`` up to, not including, ``end``.

    ``end`` before ``start`` wraps over midnight. ``days`` counts from Monday 0; empty is every day.
    ``business_days``: only those that begin on a day on which the calendar is open.
    """

    start: time = time(9)
    end: time = time(17)
    days: frozenset[int] = frozenset()
    business_days: bool = False
    calendar: Template | None = None  # the name of one; None is Monday to Friday


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a moment must obey, with each calendar looked up."""

    zone: tzinfo
    earliest: datetime
    align: Align | None = None
    align_calendar: Calendar = WEEKDAYS
    window: SendWindow | None = None
    window_calendar: Calendar = WEEKDAYS


def due_after(delay: Delay, now: datetime, zone: tzinfo, calendar: Calendar = WEEKDAYS) -> datetime:
    """The moment at which ``delay``, begun at ``now``, is over, without its jitter.

    ValueError or OverflowError if it never is.
    """
    if delay.at_local is not None:
        due = from_local(delay.at_local, delay.zone or zone)
    else:
        due = delay.duration.after(now, zone)
    if delay.business_days_only:
        local = due.astimezone(zone)
        day = rolled(local.date(), Roll.FOLLOWING, Without(calendar, delay.holidays))
        if day != local.date():
            due = from_local(datetime.combine(day, local.time()), zone)
    return max(due, now)


def admissible(moment: datetime, rules: Rules) -> datetime:
    """The first moment from ``moment`` on that obeys the rules; from itself it is itself.

    ValueError if there is none within 400 days.
    """
    moment = max(moment, rules.earliest)
    if rules.align is None and rules.window is None:
        return moment
    last = moment + timedelta(days=SEARCHED_DAYS)
    while moment <= last:  # every turn but the last moves to a later opening or aligned day
        before = moment
        if rules.align is not None:
            moment = aligned(rules.align, moment, rules.zone, rules.align_calendar)
        if rules.window is not None:
            moment = opening(rules.window, moment, rules.zone, rules.window_calendar)
        if moment == before:
            return moment
    raise ValueError(f"no aligned day within {SEARCHED_DAYS} days is inside the send window")


def jittered(moment: datetime, jitter: float, entropy: float, rules: Rules) -> datetime:
    """``moment``, which obeys the rules, give or take up to ``jitter`` seconds; ``entropy`` in
    [0, 1) says how many. Where that would break a rule it goes the other way, or nowhere.
    """
    off = timedelta(seconds=jitter * (2 * entropy - 1))
    for moved in (moment + off, moment - off):
        if admissible(moved, rules) == moved:
            return moved
    return moment


def opening(
    window: SendWindow, moment: datetime, zone: tzinfo, calendar: Calendar = WEEKDAYS
) -> datetime:
    """``moment`` if the window is open then, else its next opening.

    ValueError if there is none within 400 days.
    """
    if _is_open(window, moment.astimezone(zone), calendar):
        return moment
    day = moment.astimezone(zone).date()
    for ahead in range(SEARCHED_DAYS):
        start = from_local(datetime.combine(day + timedelta(days=ahead), window.start), zone)
        if start > moment and _is_open(window, start.astimezone(zone), calendar):
            return start
    raise ValueError(f"the send window does not open within {SEARCHED_DAYS} days of {day}")


def closing(window: SendWindow, moment: datetime, zone: tzinfo) -> datetime | None:
    """When the window closes whose hours ``moment`` is in; None if it is in none."""
    local = moment.astimezone(zone)
    clock, day, wraps = local.time(), local.date(), window.start > window.end
    inside = (clock >= window.start, clock < window.end)
    if not (any(inside) if wraps else all(inside)):
        return None
    if wraps and inside[0]:
        day += timedelta(days=1)
    closes = datetime.combine(day, window.end)
    first = from_local(closes, zone)
    # A clock that goes back shows the end of the window twice.
    return first if first > moment else closes.replace(tzinfo=zone, fold=1).astimezone(UTC)


def _is_open(window: SendWindow, local: datetime, calendar: Calendar) -> bool:
    clock = local.time()
    if window.start <= window.end:
        inside, begun = window.start <= clock < window.end, local.date()
    elif clock >= window.start:
        inside, begun = True, local.date()
    else:
        inside, begun = clock < window.end, local.date() - timedelta(days=1)
    if not inside or (window.days and begun.weekday() not in window.days):
        return False
    return not window.business_days or calendar.is_open(begun)
