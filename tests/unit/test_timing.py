"""When a step becomes due: delays, business days, clock changes and send windows."""

# ruff: noqa: DTZ001 - local times are wall clocks here
from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.engine.duration import Duration
from orch8.engine.timing import Delay, SendWindow, due_after, from_local, opening

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
FRIDAY = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
HOUR = Duration(absolute=timedelta(hours=1))
NO_TIME = Duration()


def _local(text: str, zone: tzinfo = BERLIN) -> datetime:
    """A moment by its local time."""
    return datetime.fromisoformat(text).replace(tzinfo=zone)


# -- delays -----------------------------------------------------------------------------------
def test_delay_is_over_after_its_duration() -> None:
    """Hours are absolute."""
    assert due_after(Delay(HOUR), FRIDAY, BERLIN, 0.5) == FRIDAY + timedelta(hours=1)


def test_delay_of_days_keeps_the_wall_clock_over_a_clock_change() -> None:
    """A day that has 25 hours is one day."""
    begun = _local("2026-10-24T09:00")
    due = due_after(Delay(Duration(days=1)), begun, BERLIN, 0)
    assert due == _local("2026-10-25T09:00")
    assert due - begun.astimezone(UTC) == timedelta(hours=25)


def test_delay_to_a_local_time_is_read_in_its_own_zone() -> None:
    """Without one it is the instance's."""
    nine = datetime(2026, 12, 1, 9)
    delay = Delay(NO_TIME, at_local=nine, zone=NEW_YORK)
    assert due_after(delay, FRIDAY, BERLIN, 0) == datetime(2026, 12, 1, 14, tzinfo=UTC)
    assert due_after(Delay(NO_TIME, at_local=nine), FRIDAY, BERLIN, 0) == datetime(
        2026, 12, 1, 8, tzinfo=UTC
    )


def test_delay_to_a_time_that_has_passed_is_over_now() -> None:
    """Nothing is due before it began."""
    passed = Delay(NO_TIME, at_local=datetime(2020, 1, 1))
    assert due_after(passed, FRIDAY, BERLIN, 0) == FRIDAY


def test_business_day_delay_on_a_business_day_is_not_moved() -> None:
    """The moment itself is kept."""
    assert due_after(Delay(HOUR, business_days_only=True), FRIDAY, UTC, 0) == FRIDAY + timedelta(
        hours=1
    )


@pytest.mark.parametrize(
    ("days", "holidays", "expected"),
    [
        (1, (), "2026-11-23T11:30"),
        (2, (), "2026-11-23T11:30"),
        (1, ("2026-11-23",), "2026-11-24T11:30"),
        (3, ("2026-11-23", "2026-11-24"), "2026-11-25T11:30"),
    ],
)
def test_business_day_delay_moves_past_weekends_and_holidays(
    days: int, holidays: tuple[str, ...], expected: str
) -> None:
    """To the same local time of the next business day."""
    delay = Delay(
        Duration(days=days),
        business_days_only=True,
        holidays=frozenset(map(date.fromisoformat, holidays)),
    )
    assert due_after(delay, FRIDAY, BERLIN, 0) == _local(expected)


def test_business_day_is_one_of_the_local_calendar() -> None:
    """Late on a Sunday in New York it is Monday in Berlin already."""
    delay = Delay(NO_TIME, business_days_only=True)
    moment = datetime(2026, 11, 23, 1, tzinfo=UTC)
    assert due_after(delay, moment, BERLIN, 0) == moment
    assert due_after(delay, moment, NEW_YORK, 0) == _local("2026-11-23T20:00", NEW_YORK)


def test_calendar_without_a_business_day_moves_nothing() -> None:
    """The search is bounded."""
    holidays = frozenset(date(2026, 11, 1) + timedelta(days=n) for n in range(1_000))
    delay = Delay(HOUR, business_days_only=True, holidays=holidays)
    assert due_after(delay, FRIDAY, UTC, 0) == FRIDAY + timedelta(hours=1)


@given(st.floats(0, 1, exclude_max=True), st.floats(0.1, 3600))
def test_jitter_stays_in_its_bounds(entropy: float, jitter: float) -> None:
    """Give or take that many seconds, and never before now."""
    delay = Delay(Duration(absolute=timedelta(hours=2)), jitter=jitter)
    off = due_after(delay, FRIDAY, UTC, entropy) - FRIDAY - timedelta(hours=2)
    assert abs(off) <= timedelta(seconds=jitter)
    assert due_after(Delay(NO_TIME, jitter=jitter), FRIDAY, UTC, entropy) >= FRIDAY


def test_jitter_follows_the_entropy() -> None:
    """Zero is the earliest, a half is none."""
    delay = Delay(HOUR, jitter=60)
    hour = FRIDAY + timedelta(hours=1)
    assert due_after(delay, FRIDAY, UTC, 0) == hour - timedelta(seconds=60)
    assert due_after(delay, FRIDAY, UTC, 0.5) == hour


# -- local times ------------------------------------------------------------------------------
def test_local_time_that_a_clock_change_skips_moves_forward_by_the_gap() -> None:
    """02:30 does not exist on that Sunday in Berlin: it is 03:30."""
    skipped = datetime(2026, 3, 29, 2, 30)
    assert from_local(skipped, BERLIN) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_local_time_that_a_clock_change_repeats_is_the_first() -> None:
    """02:30 is there twice on that Sunday in Berlin."""
    twice = datetime(2026, 10, 25, 2, 30, fold=1)
    assert from_local(twice, BERLIN) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


# -- send windows -----------------------------------------------------------------------------
OFFICE = SendWindow(time(9), time(17))
WEEKDAYS = SendWindow(time(9), time(17), frozenset(range(5)))
NIGHT = SendWindow(time(22), time(6), frozenset({4}))  # begins on Fridays


@pytest.mark.parametrize(
    ("window", "moment", "expected"),
    [
        (OFFICE, "2026-11-20T09:00", None),
        (OFFICE, "2026-11-20T16:59:59", None),
        (OFFICE, "2026-11-20T08:59", "2026-11-20T09:00"),
        (OFFICE, "2026-11-20T17:00", "2026-11-21T09:00"),
        (WEEKDAYS, "2026-11-20T17:00", "2026-11-23T09:00"),
        (WEEKDAYS, "2026-11-21T12:00", "2026-11-23T09:00"),
        (NIGHT, "2026-11-20T22:00", None),
        (NIGHT, "2026-11-21T05:59", None),
        (NIGHT, "2026-11-21T06:00", "2026-11-27T22:00"),
        (NIGHT, "2026-11-20T05:00", "2026-11-20T22:00"),
        (NIGHT, "2026-11-22T03:00", "2026-11-27T22:00"),
    ],
)
def test_window_opens_at_its_next_start(
    window: SendWindow, moment: str, expected: str | None
) -> None:
    """Its end is outside; a night belongs to the day it begins on."""
    assert opening(window, _local(moment), BERLIN) == _local(expected or moment)


def test_window_that_a_clock_change_skips_opens_on_the_next_such_day() -> None:
    """Half an hour at two on Sundays: on one Sunday a year there is none."""
    window = SendWindow(time(2), time(2, 30), frozenset({6}))
    assert opening(window, _local("2026-03-28T12:00"), BERLIN) == _local("2026-04-05T02:00")
    assert opening(window, _local("2026-03-23T12:00"), BERLIN) == _local("2026-04-05T02:00")


def test_window_that_is_never_open_moves_nothing() -> None:
    """Such a window is refused when publishing; here it must not loop."""
    assert opening(SendWindow(time(9), time(9)), FRIDAY, BERLIN) == FRIDAY


@given(
    st.builds(
        SendWindow,
        st.times().map(lambda t: t.replace(microsecond=0)),
        st.times().map(lambda t: t.replace(microsecond=0)),
        st.frozensets(st.integers(0, 6)),
    ).filter(lambda w: w.start != w.end and w.start.hour not in (1, 2, 3)),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    st.sampled_from([BERLIN, NEW_YORK, ZoneInfo("Asia/Kolkata"), ZoneInfo("UTC")]),
)
def test_window_is_open_at_its_opening(window: SendWindow, naive: datetime, zone: ZoneInfo) -> None:
    """And at the opening nothing is moved any further."""
    moment = naive.replace(tzinfo=UTC)
    opened = opening(window, moment, zone)
    assert opened >= moment
    assert opening(window, opened, zone) == opened
    assert opened == moment or opened.astimezone(zone).time() == window.start
