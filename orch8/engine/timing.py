"""When a step becomes due: delay, then not_before, then the send window. Pure calendar arithmetic.

Days, weeks and months are wall-clock time in a zone, hours and less are absolute (CALENDAR rules).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from orch8.engine.duration import Duration

_MAX_CLOSED_DAYS = 16  # one day a week, and a clock change may skip it once
_MAX_SKIPPED_DAYS = 400  # a calendar that has no open day in over a year has none


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait this long; then, if asked, for a business day; give or take ``jitter`` seconds."""

    duration: Duration
    business_days_only: bool = False
    jitter: float = 0.0
    holidays: frozenset[date] = frozenset()
    at_local: datetime | None = None  # naive local time to fire at instead of now + duration
    zone: tzinfo | None = None  # for at_local; None is the instance's zone


@dataclass(frozen=True, slots=True)
class SendWindow:
    """Local hours in which a step may run: from ``start`` up to, not including, ``end``.

    ``end`` before ``start`` wraps over midnight. ``days`` counts from Monday 0; empty is every day.
    """

    start: time = time(9)
    end: time = time(17)
    days: frozenset[int] = frozenset()


def due_after(delay: Delay, now: datetime, zone: tzinfo, entropy: float) -> datetime:
    """The moment at which ``delay``, begun at ``now``, is over; ``entropy`` in [0, 1) picks the
    jitter.
    """
    if delay.at_local is not None:
        due = from_local(delay.at_local, delay.zone or zone)
    else:
        due = delay.duration.after(now, zone)
    if delay.business_days_only:
        due = _next_business_moment(due, zone, delay.holidays)
    if delay.jitter:
        due += timedelta(seconds=delay.jitter * (2 * entropy - 1))
    return max(due, now)


def opening(window: SendWindow, moment: datetime, zone: tzinfo) -> datetime:
    """``moment`` if the window is open then, else its next opening."""
    local = moment.astimezone(zone)
    if _is_open(window, local):
        return moment
    day = local.date()
    for ahead in range(_MAX_CLOSED_DAYS):
        start = from_local(datetime.combine(day + timedelta(days=ahead), window.start), zone)
        if start > moment and _is_open(window, start.astimezone(zone)):
            return start
    return moment  # a window that never opens is refused when publishing


def from_local(naive: datetime, zone: tzinfo) -> datetime:
    """The UTC moment of a local time: one that a clock change skips moves forward by the gap, one
    that it repeats is the first.
    """
    # With fold=0 zoneinfo reads a skipped time with the offset before the gap, which lands after
    # it by the gap's width, and a repeated time as its first occurrence: both what we want.
    return naive.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _is_open(window: SendWindow, local: datetime) -> bool:
    clock = local.time()
    if window.start <= window.end:
        inside, belongs_to = window.start <= clock < window.end, local.date()
    elif clock >= window.start:
        inside, belongs_to = True, local.date()
    else:
        inside, belongs_to = clock < window.end, local.date() - timedelta(days=1)
    return inside and (not window.days or belongs_to.weekday() in window.days)


def _next_business_moment(moment: datetime, zone: tzinfo, holidays: frozenset[date]) -> datetime:
    local = moment.astimezone(zone)
    for ahead in range(_MAX_SKIPPED_DAYS):
        day = local.date() + timedelta(days=ahead)
        if day.weekday() < 5 and day not in holidays:  # noqa: PLR2004 - Monday to Friday
            return from_local(datetime.combine(day, local.time()), zone) if ahead else moment
    return moment
