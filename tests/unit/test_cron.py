"""Cron expressions: what they name, and when that is where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch8.engine.cron import parse_cron

VIENNA, NEW_YORK, LORD_HOWE = (
    ZoneInfo(name) for name in ("Europe/Vienna", "America/New_York", "Australia/Lord_Howe")
)


def at(text: str) -> datetime:
    """A moment, written in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(expression: str, start: str, count: int, zone: ZoneInfo | None = None) -> list[str]:
    """The next moments after one, as local times of the zone with their offsets."""
    cron, moment, found = parse_cron(expression), at(start), []
    for _ in range(count):
        after = cron.after(moment, zone or ZoneInfo("UTC"))
        if after is None:
            break
        found.append(after.astimezone(zone or UTC).strftime("%Y-%m-%d %H:%M:%S %z"))
        moment = after
    return found


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("* * * * *", "2026-03-01 00:01:00"),
        ("*/15 * * * *", "2026-03-01 00:15:00"),
        ("30 9 * * *", "2026-03-01 09:30:00"),
        ("* * * * * *", "2026-03-01 00:00:01"),
        ("5/20 0 0 * * *", "2026-03-01 00:00:05"),
        ("0 0 12 1 1 ? 2030", "2030-01-01 12:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 31 4,5 ?", "2026-05-31 00:00:00"),
        ("0 9 * * MON-FRI", "2026-03-02 09:00:00"),
        ("0 9 * * monday", "2026-03-02 09:00:00"),
        ("0 9 1 JAN,JUL *", "2026-07-01 09:00:00"),
        ("0 0 13 * FRI", "2026-03-13 00:00:00"),
    ],
)
def test_expression_names_times(expression: str, first: str) -> None:
    """In five, six and seven fields; day and weekday must both hold."""
    assert fires(expression, "2026-03-01T00:00:00", 1) == [f"{first} +0000"]


def test_weekday_1_is_sunday() -> None:
    """As in Quartz: a client that says 2-6 means Monday to Friday."""
    sunday = "2026-03-01 00:00:00 +0000"
    assert fires("0 0 * * 1", "2026-02-28T00:00:00", 1) == [sunday]
    assert fires("0 0 * * 7", "2026-02-26T00:00:00", 1) == ["2026-02-28 00:00:00 +0000"]
    named = fires("0 0 * * MON-FRI", "2026-02-28T00:00:00", 9)
    assert fires("0 0 * * 2-6", "2026-02-28T00:00:00", 9) == named


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "5 fields"),
        ("* * *", "not 3"),
        ("60 * * * *", "the minute '60' is not one: use 0 to 59"),
        ("* 24 * * *", "the hour"),
        ("* * 0 * *", "the day"),
        ("* * * 13 *", "the month"),
        ("* * * * 0", "1 \\(Sunday\\) to 7 \\(Saturday\\)"),
        ("* * * * monkey", "the weekday"),
        ("* * * * FRI-MON", "a range"),
        ("*/0 * * * *", "a step"),
        ("-5 * * * *", "the minute"),
        ("1, * * * *", "the minute"),
        ("* * * * * * 1969", "the year"),
        ("٣ * * * *", "the minute"),
        ("* " * 300, "at most 400"),
    ],
)
def test_expression_that_cannot_be_read_names_its_field(expression: str, reason: str) -> None:
    """And says what the field could be."""
    with pytest.raises(ValueError, match=reason):
        parse_cron(expression)


def test_expression_is_read_in_its_zone() -> None:
    """Nine o'clock stays nine o'clock when the clock changes."""
    assert fires("0 9 * * *", "2026-03-28T00:00:00", 3, VIENNA) == [
        "2026-03-28 09:00:00 +0100",
        "2026-03-29 09:00:00 +0200",
        "2026-03-30 09:00:00 +0200",
    ]


def test_time_that_a_clock_change_skips_is_when_the_gap_ends() -> None:
    """02:30 is not there that day; it is 03:00 instead, and 02:30 again the day after."""
    assert fires("30 2 * * *", "2026-03-28T12:00:00", 2, VIENNA) == [
        "2026-03-29 03:00:00 +0200",
        "2026-03-30 02:30:00 +0200",
    ]
    assert fires("15 2 * * *", "2026-10-03T00:00:00", 1, LORD_HOWE) == [
        "2026-10-04 02:30:00 +1100"  # a gap of half an hour
    ]


def test_skipped_times_are_one_fire() -> None:
    """However many of them there are, and also with the time at which the gap ends."""
    assert fires("0,20,40 2,3 * * *", "2026-03-29T00:00:00", 4, VIENNA) == [
        "2026-03-29 03:00:00 +0200",
        "2026-03-29 03:20:00 +0200",
        "2026-03-29 03:40:00 +0200",
        "2026-03-30 02:00:00 +0200",
    ]


def test_time_that_a_clock_change_repeats_happens_once() -> None:
    """The first time: nobody is charged twice because a clock is put back."""
    assert fires("30 1 * * *", "2026-10-31T12:00:00", 2, NEW_YORK) == [
        "2026-11-01 01:30:00 -0400",
        "2026-11-02 01:30:00 -0500",
    ]


def test_interval_goes_on_when_the_clock_is_put_back() -> None:
    """What names every hour happens in the repeated one, too."""
    assert fires("*/30 * * * *", "2026-11-01T05:00:00", 5, NEW_YORK) == [
        "2026-11-01 01:30:00 -0400",
        "2026-11-01 01:00:00 -0500",
        "2026-11-01 01:30:00 -0500",
        "2026-11-01 02:00:00 -0500",
        "2026-11-01 02:30:00 -0500",
    ]


def test_what_never_comes_is_none() -> None:
    """There is no 30th of February, and 2020 is over."""
    start = at("2026-01-01T00:00:00")
    assert parse_cron("0 0 30 2 *").after(start, UTC) is None
    assert parse_cron("0 0 0 1 1 * 2020").after(start, UTC) is None


@given(
    start=st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)),  # noqa: DTZ001 - made UTC below
    expression=st.sampled_from(["*/7 * * * *", "0 * * * *", "15 2,3 * * *", "*/10 1-3 * * SUN"]),
    zone=st.sampled_from([VIENNA, NEW_YORK, LORD_HOWE]),
)
def test_times_go_forward(start: datetime, expression: str, zone: ZoneInfo) -> None:
    """Each is after the one before, and asking a moment earlier finds the same."""
    cron, moments = parse_cron(expression), [start.replace(tzinfo=UTC)]
    for _ in range(20):
        after = cron.after(moments[-1], zone)
        assert after is not None
        moments.append(after)
    assert all(a < b for a, b in pairwise(moments))
    for a, b in pairwise(moments):
        assert cron.after(b - timedelta(microseconds=1), zone) == b
        assert cron.after(a, zone) == b


@given(start=st.datetimes(datetime(2026, 10, 24), datetime(2026, 10, 26)))  # noqa: DTZ001
def test_hours_of_an_interval_are_an_hour_apart(start: datetime) -> None:
    """Whatever the clock on the wall does."""
    cron = parse_cron("0 * * * *")
    first = cron.after(start.replace(tzinfo=UTC), VIENNA)
    assert first is not None
    assert cron.after(first, VIENNA) == first + timedelta(hours=1)
