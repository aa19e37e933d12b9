"""When a step becomes due: delays, schedules, clock changes, send windows, jitter; all together."""

# ruff: noqa: DTZ001 - local times are wall clocks here
from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.engine.align import Align, aligned
from orch8.engine.calendar import WEEKDAYS as MONDAY_TO_FRIDAY
from orch8.engine.calendar import Roll, Without, from_local
from orch8.engine.duration import Duration
from orch8.engine.timing import (
    Delay,
    Rules,
    Schedule,
    SendWindow,
    admissible,
    closing,
    due_after,
    jittered,
    opening,
)

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
    assert due_after(Delay(HOUR), FRIDAY, BERLIN) == FRIDAY + timedelta(hours=1)


def test_delay_of_days_keeps_the_wall_clock_over_a_clock_change() -> None:
    """A day that has 25 hours is one day."""
    begun = _local("2026-10-24T09:00")
    due = due_after(Delay(Duration(days=1)), begun, BERLIN)
    assert due == _local("2026-10-25T09:00")
    assert due - begun.astimezone(UTC) == timedelta(hours=25)


def test_delay_to_a_local_time_is_read_in_its_own_zone() -> None:
    """Without one it is the instance's."""
    nine = datetime(2026, 12, 1, 9)
    delay = Delay(NO_TIME, at_local=nine, zone=NEW_YORK)
    assert due_after(delay, FRIDAY, BERLIN) == datetime(2026, 12, 1, 14, tzinfo=UTC)
    assert due_after(Delay(NO_TIME, at_local=nine), FRIDAY, BERLIN) == datetime(
        2026, 12, 1, 8, tzinfo=UTC
    )


def test_delay_to_a_time_that_has_passed_is_over_now() -> None:
    """Nothing is due before it began."""
    passed = Delay(NO_TIME, at_local=datetime(2020, 1, 1))
    assert due_after(passed, FRIDAY, BERLIN) == FRIDAY


def test_business_day_delay_on_a_business_day_is_not_moved() -> None:
    """The moment itself is kept."""
    assert due_after(Delay(HOUR, business_days_only=True), FRIDAY, UTC) == FRIDAY + timedelta(
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
    assert due_after(delay, FRIDAY, BERLIN) == _local(expected)


def test_business_day_is_one_of_the_local_calendar() -> None:
    """Late on a Sunday in New York it is Monday in Berlin already."""
    delay = Delay(NO_TIME, business_days_only=True)
    moment = datetime(2026, 11, 23, 1, tzinfo=UTC)
    assert due_after(delay, moment, BERLIN) == moment
    assert due_after(delay, moment, NEW_YORK) == _local("2026-11-23T20:00", NEW_YORK)


def test_calendar_without_a_business_day_is_an_error() -> None:
    """The search is bounded, and nothing is sent on a day that was ruled out."""
    holidays = frozenset(date(2026, 11, 1) + timedelta(days=n) for n in range(1_000))
    delay = Delay(HOUR, business_days_only=True, holidays=holidays)
    with pytest.raises(ValueError, match="no open day within 400 days"):
        due_after(delay, FRIDAY, UTC)


# -- schedules --------------------------------------------------------------------------------
SCHEDULE = Schedule((Duration(days=1), Duration(days=3), Duration(months=1)))


@pytest.mark.parametrize(
    ("iteration", "expected"),
    [
        (1, "2026-03-29T09:00"),
        (2, "2026-03-31T09:00"),
        (3, "2026-04-28T09:00"),
        (9, "2026-04-28T09:00"),
    ],
)
def test_schedule_has_an_offset_for_each_iteration(iteration: int, expected: str) -> None:
    """On the wall clock from the anchor, over a clock change too; the last one repeats."""
    anchor = _local("2026-03-28T09:00")
    assert SCHEDULE.moment(anchor, iteration, BERLIN) == _local(expected)


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


def test_window_that_is_never_open_is_an_error() -> None:
    """Nothing is ever sent outside a window; the search is bounded."""
    with pytest.raises(ValueError, match="does not open within 400 days"):
        opening(SendWindow(time(9), time(9)), FRIDAY, BERLIN)
    weekends = SendWindow(days=frozenset({5, 6}), business_days=True)
    with pytest.raises(ValueError, match="does not open within 400 days"):
        opening(weekends, FRIDAY, BERLIN)


def test_window_on_business_days_is_closed_on_holidays() -> None:
    """A night belongs to the business day on which it begins."""
    calendar = Without(MONDAY_TO_FRIDAY, frozenset({date(2026, 11, 23)}))
    office = SendWindow(business_days=True)
    assert opening(office, _local("2026-11-20T17:00"), BERLIN, calendar) == _local(
        "2026-11-24T09:00"
    )
    night = SendWindow(time(22), time(6), business_days=True)
    early = _local("2026-11-21T05:00")
    assert opening(night, early, BERLIN, calendar) == early
    assert opening(night, _local("2026-11-24T05:00"), BERLIN, calendar) == _local(
        "2026-11-24T22:00"
    )


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


def test_window_closes_at_its_end() -> None:
    """One over midnight on the next day if it began today; outside its hours there is no end."""
    nine_to_five, night = SendWindow(time(9), time(17)), SendWindow(time(22), time(6))
    assert closing(nine_to_five, _local("2026-11-20T09:00"), BERLIN) == _local("2026-11-20T17:00")
    assert closing(nine_to_five, _local("2026-11-20T17:00"), BERLIN) is None
    assert closing(night, _local("2026-11-20T23:00"), BERLIN) == _local("2026-11-21T06:00")
    assert closing(night, _local("2026-11-20T05:59"), BERLIN) == _local("2026-11-20T06:00")
    assert closing(night, _local("2026-11-20T12:00"), BERLIN) is None


def test_window_that_ends_in_a_repeated_hour_closes_after_the_moment() -> None:
    """In the second of two equal hours it is the second end."""
    early = SendWindow(time(0), time(2, 30))
    first = datetime(2026, 10, 25, 0, 10, tzinfo=UTC)  # 02:10 in Berlin, and again an hour later
    for moment in (first, first + timedelta(hours=1)):
        assert closing(early, moment, BERLIN) == moment + timedelta(minutes=20)


@given(
    st.builds(SendWindow, st.times(), st.times()).filter(lambda w: w.start != w.end),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),
    st.sampled_from([BERLIN, NEW_YORK, ZoneInfo("Asia/Kolkata"), ZoneInfo("UTC")]),
)
def test_window_closes_after_it_is_open(window: SendWindow, moment: datetime, zone: tzinfo) -> None:
    """There is an end exactly if it is open, and within a day and an hour."""
    closes = closing(window, moment, zone)
    assert (closes is not None) == (opening(window, moment, zone) == moment)
    assert closes is None or timedelta() < closes - moment <= timedelta(hours=25)


# -- jitter -----------------------------------------------------------------------------------
def test_jitter_follows_the_entropy() -> None:
    """Zero is the earliest, a half is none."""
    rules = Rules(zone=UTC, earliest=FRIDAY)
    hour = FRIDAY + timedelta(hours=1)
    assert jittered(hour, 60, 0, rules) == hour - timedelta(seconds=60)
    assert jittered(hour, 60, 0.5, rules) == hour
    assert jittered(hour, 60, 0.75, rules) == hour + timedelta(seconds=30)


def test_jitter_never_breaks_a_rule() -> None:
    """Where one way is closed it goes the other; where both are, nowhere."""
    opens = _local("2026-11-20T09:00")
    rules = Rules(zone=BERLIN, earliest=opens, window=OFFICE)
    assert jittered(opens, 600, 0, rules) == opens + timedelta(seconds=600)
    minute = Rules(zone=BERLIN, earliest=opens, window=SendWindow(time(9), time(9, 1)))
    assert jittered(opens, 600, 0, minute) == opens


# -- all rules together -----------------------------------------------------------------------
def test_rules_are_applied_until_none_moves_the_moment() -> None:
    """Past the window of a payday: the next morning is no payday, so it is the next payday."""
    payday = Align(days_of_month=frozenset({1, 15}), at=time(0, 5), roll=Roll.PRECEDING)
    rules = Rules(zone=BERLIN, earliest=FRIDAY, align=payday, window=OFFICE)
    assert admissible(_local("2026-12-01T17:00"), rules) == _local("2026-12-15T09:00")


def test_rules_that_exclude_each_other_are_an_error() -> None:
    """Tuesdays are not in a window of Mondays."""
    window = SendWindow(days=frozenset({0}))
    align = Align(weekdays=frozenset({1}), roll=Roll.NONE)
    rules = Rules(zone=BERLIN, earliest=FRIDAY, align=align, window=window)
    with pytest.raises(ValueError, match="inside the send window"):
        admissible(FRIDAY, rules)


CLOCKS = st.times().map(lambda t: t.replace(microsecond=0))
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(
    lambda t: t.replace(tzinfo=UTC)
)
ALIGNS = st.builds(
    Align,
    days_of_month=st.frozensets(st.integers(1, 31), max_size=3),
    weekdays=st.frozensets(st.integers(0, 6), max_size=2),
    at=st.none() | CLOCKS,
    max_shift=st.none() | st.integers(0, 10).map(lambda n: Duration(days=n)),
    roll=st.sampled_from(Roll),
)
WINDOWS = st.builds(
    SendWindow, CLOCKS, CLOCKS, st.frozensets(st.integers(0, 4)), st.booleans()
).filter(lambda w: w.start != w.end)
HOLIDAYS = Without(
    MONDAY_TO_FRIDAY, frozenset({date(2026, 4, 3), date(2026, 4, 6), date(2026, 12, 25)})
)


@given(
    MOMENTS,
    MOMENTS,
    st.none() | ALIGNS,
    st.none() | WINDOWS,
    st.sampled_from([BERLIN, NEW_YORK, ZoneInfo("Asia/Kolkata"), ZoneInfo("UTC")]),
    st.floats(0, 7200),
    st.floats(0, 1, exclude_max=True),
)
def test_due_moment_obeys_every_rule(
    base: datetime,
    earliest: datetime,
    align: Align | None,
    window: SendWindow | None,
    zone: ZoneInfo,
    jitter: float,
    entropy: float,
) -> None:
    """It is never early, it is inside the window, jitter included, and from itself it is itself."""
    rules = Rules(
        zone=zone, earliest=earliest, align=align, align_calendar=HOLIDAYS,
        window=window, window_calendar=HOLIDAYS,
    )  # fmt: skip
    try:
        due = admissible(base, rules)
    except ValueError:
        assert align is not None
        assert window is not None
        return
    shaken = jittered(due, jitter, entropy, rules)
    assert due >= max(base, earliest)
    assert shaken >= earliest
    assert abs(shaken - due) <= timedelta(seconds=jitter)
    for moment in (due, shaken):
        assert admissible(moment, rules) == moment
        assert window is None or opening(window, moment, zone, HOLIDAYS) == moment
        assert align is None or aligned(align, moment, zone, HOLIDAYS) == moment
