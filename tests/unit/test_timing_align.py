"""Aligning with paydays, weekdays and business days: months that end, days that roll, shifts."""

# ruff: noqa: DTZ001 - local times are wall clocks here
from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.engine.align import LAST, Align, aligned
from orch8.engine.calendar import WEEKDAYS, Roll, Without, rolled
from orch8.engine.duration import Duration

BERLIN = ZoneInfo("Europe/Berlin")
PAYDAYS = frozenset({1, 15, LAST})
DUNNING = Align(PAYDAYS, at=time(0, 5), max_shift=Duration(days=3), roll=Roll.PRECEDING)


def _local(text: str) -> datetime:
    """A moment by its local time."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-09-29T09:00", "2026-09-30T00:05"),  # the last day of a month of 30
        ("2026-09-30T09:00", "2026-09-30T09:00"),  # it is payday
        ("2026-10-14T09:00", "2026-10-15T00:05"),
        ("2026-10-12T00:05", "2026-10-15T00:05"),  # three days and no more
        ("2026-10-12T00:04", "2026-10-12T00:04"),  # three days and a minute
        ("2026-10-02T09:00", "2026-10-02T09:00"),  # too far away
        ("2026-08-13T09:00", "2026-08-14T00:05"),  # the 15th is a Saturday: wages come on Friday
        ("2026-08-14T09:00", "2026-08-14T09:00"),
        ("2026-08-15T09:00", "2026-08-15T09:00"),  # that payday was yesterday
        ("2027-02-25T09:00", "2027-02-26T00:05"),  # 28 February is a Sunday
        ("2028-02-28T09:00", "2028-02-29T00:05"),  # the last of a leap year's February
    ],
)
def test_payday_is_the_next_one_within_the_shift(moment: str, expected: str) -> None:
    """Rolled back before the weekend, but the moment itself is never moved back."""
    assert aligned(DUNNING, _local(moment), BERLIN, WEEKDAYS) == _local(expected)


def test_day_past_the_end_of_a_month_is_its_last() -> None:
    """The 30th is 28 February, and 30 March again."""
    align = Align(frozenset({30}), roll=Roll.NONE)
    assert aligned(align, _local("2027-02-27T09:00"), BERLIN, WEEKDAYS) == _local(
        "2027-02-28T09:00"
    )
    assert aligned(align, _local("2027-03-28T09:00"), BERLIN, WEEKDAYS) == _local(
        "2027-03-30T09:00"
    )


@pytest.mark.parametrize(
    ("roll", "expected"),
    [
        (Roll.FOLLOWING, "2026-11-02"),
        (Roll.MODIFIED_FOLLOWING, "2026-10-30"),
        (Roll.PRECEDING, "2026-10-30"),
        (Roll.NONE, "2026-10-31"),
    ],
)
def test_closed_day_rolls_as_it_is_told(roll: Roll, expected: str) -> None:
    """31 October 2026 is a Saturday."""
    assert rolled(date(2026, 10, 31), roll, WEEKDAYS) == date.fromisoformat(expected)
    align = Align(frozenset({LAST}), roll=roll)
    found = aligned(align, _local("2026-10-30T09:00"), BERLIN, WEEKDAYS)
    assert found == _local(f"{expected}T09:00")


def test_payday_that_has_rolled_to_today_is_today() -> None:
    """The 15th was a Sunday; on Monday it is payday."""
    align = Align(frozenset({15}), roll=Roll.FOLLOWING)
    monday = _local("2026-11-16T09:00")
    assert aligned(align, monday, BERLIN, WEEKDAYS) == monday


def test_business_day_is_the_next_open_one() -> None:
    """At the same time of day, unless `at` says another."""
    friday, sunday = _local("2026-11-20T09:00"), _local("2026-11-22T09:00")
    assert aligned(Align(), friday, BERLIN, WEEKDAYS) == friday
    assert aligned(Align(), sunday, BERLIN, WEEKDAYS) == _local("2026-11-23T09:00")
    closed = Without(WEEKDAYS, frozenset({date(2026, 11, 23)}))
    at_noon = Align(at=time(12))
    assert aligned(at_noon, sunday, BERLIN, closed) == _local("2026-11-24T12:00")


def test_business_day_is_never_an_earlier_one() -> None:
    """Rolling back before the moment goes on to the next open day."""
    sunday = _local("2026-11-22T09:00")
    for roll in (Roll.PRECEDING, Roll.MODIFIED_FOLLOWING):
        found = aligned(Align(roll=roll), sunday, BERLIN, WEEKDAYS)
        assert found == _local("2026-11-23T09:00")


def test_weekday_is_the_next_of_that_name() -> None:
    """Tuesdays and Thursdays."""
    align = Align(weekdays=frozenset({1, 3}), at=time(6), roll=Roll.NONE)
    assert aligned(align, _local("2026-11-20T09:00"), BERLIN, WEEKDAYS) == _local(
        "2026-11-24T06:00"
    )
    assert aligned(align, _local("2026-11-24T05:00"), BERLIN, WEEKDAYS) == _local(
        "2026-11-24T06:00"
    )


def test_time_that_a_clock_change_skips_is_after_the_gap() -> None:
    """02:30 on 29 March 2026 is 03:30 in Berlin."""
    align = Align(weekdays=frozenset({6}), at=time(2, 30), roll=Roll.NONE)
    found = aligned(align, _local("2026-03-28T09:00"), BERLIN, WEEKDAYS)
    assert found == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_repeated_hour_does_not_move_a_moment_back() -> None:
    """The second 02:30 of that night stays the second."""
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    align = Align(weekdays=frozenset({6}), roll=Roll.NONE)
    assert aligned(align, second, BERLIN, WEEKDAYS) == second


def test_calendar_without_an_open_day_is_an_error() -> None:
    """The search is bounded."""
    closed = Without(WEEKDAYS, frozenset(date(2026, 1, 5) + timedelta(n) for n in range(1_000)))
    with pytest.raises(ValueError, match="no open day within 400 days"):
        aligned(Align(), _local("2026-11-20T09:00"), BERLIN, closed)
    with pytest.raises(ValueError, match="no aligned day within 400 days"):
        aligned(
            Align(frozenset({1}), roll=Roll.PRECEDING), _local("2026-01-05T09:00"), BERLIN, closed
        )


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31)),
    st.frozensets(st.integers(1, 31), min_size=1, max_size=3),
    st.sampled_from(Roll),
)
def test_aligned_moment_is_never_early_and_stays(
    naive: datetime, days: frozenset[int], roll: Roll
) -> None:
    """No earlier aligned moment is passed over: a minute before is aligned with the same."""
    align, moment = Align(days, at=time(0, 5), roll=roll), naive.replace(tzinfo=UTC)
    found = aligned(align, moment, BERLIN, WEEKDAYS)
    assert found >= moment
    assert aligned(align, found, BERLIN, WEEKDAYS) == found
    before = max(moment, found - timedelta(minutes=1))
    assert aligned(align, before, BERLIN, WEEKDAYS) == found
