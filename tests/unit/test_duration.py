"""Durations: every written form, calendar arithmetic, and refusals that say what to do."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orch8.engine.duration import Duration, parse_duration

BERLIN = ZoneInfo("Europe/Berlin")


def _absolute(**parts: float) -> Duration:
    return Duration(absolute=timedelta(**parts))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5s", _absolute(seconds=5)),
        ("1h30m", _absolute(minutes=90)),
        (" 1h 30m ", _absolute(minutes=90)),
        ("1.5h", _absolute(minutes=90)),
        ("250ms", _absolute(milliseconds=250)),
        ("3d", Duration(days=3)),
        ("2w", Duration(days=14)),
        ("1w2d3h", Duration(days=9, absolute=timedelta(hours=3))),
        ("0s", Duration()),
        ("P3D", Duration(days=3)),
        ("PT5M", _absolute(minutes=5)),
        ("P1M2DT3H", Duration(1, 2, timedelta(hours=3))),
        ("P1Y2W", Duration(12, 14)),
        ("PT0.5S", _absolute(milliseconds=500)),
        (1500, _absolute(milliseconds=1500)),
        (1.5, _absolute(milliseconds=1500)),
        (0, Duration()),
        ({"days": 3, "hours": 1, "months": 1}, Duration(1, 3, timedelta(hours=1))),
        ({"weeks": 1, "minutes": 1.5}, Duration(days=7, absolute=timedelta(seconds=90))),
        ({"seconds": 2, "milliseconds": 5}, _absolute(seconds=2, milliseconds=5)),
        ({"days": 2.0}, Duration(days=2)),
    ],
)
def test_duration_reads_every_form(written: Any, meant: Duration) -> None:
    """Every documented form means what it says."""
    assert parse_duration(written) == meant


def test_duration_float_can_mean_milliseconds() -> None:
    """A float counts milliseconds where the caller says so."""
    assert parse_duration(1500.0, float_is_seconds=False) == parse_duration(1500)


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        (True, "5s"),
        (None, "5s"),
        ([], "list is no duration"),
        ("", "whole milliseconds"),
        ("P", "PT5M"),
        ("PT", "PT5M"),
        ("P1DT", "PT5M"),
        ("5 fortnights", "1h30m"),
        ("5000", "250ms"),
        ("-5s", "5s"),
        ("1.5d", "5s"),
        ({}, "empty object"),
        ({"fortnights": 1}, "use days, hours"),
        ({"days": True}, "must be a number"),
        ({"hours": "1"}, "must be a number"),
        ({"days": 1.5}, "use hours"),
        ({"days": math.nan}, "use hours"),
        ({"hours": math.inf}, "neither negative nor infinite"),
        ({"days": -1}, "neither negative nor infinite"),
        (-1, "negative"),
        (-0.5, "negative"),
        (math.nan, "infinite"),
        (10**30, "hundred years"),
        ("P101Y", "hundred years"),
        ({"days": 36_526}, "hundred years"),
    ],
)
def test_duration_refusal_names_the_way_out(written: Any, advice: str) -> None:
    """What is no duration is refused with the forms that are allowed."""
    with pytest.raises(ValueError, match=advice):
        parse_duration(written)


@pytest.mark.parametrize(
    ("start", "span", "end"),
    [
        # Spring forward on 2026-03-29 at 02:00: a day has 23 hours, 02:30 does not exist.
        ("2026-03-28T12:00:00Z", Duration(days=1), "2026-03-29T11:00:00Z"),
        ("2026-03-28T12:00:00Z", _absolute(hours=24), "2026-03-29T12:00:00Z"),
        ("2026-03-28T01:30:00Z", Duration(days=1), "2026-03-29T01:30:00Z"),
        # Fall back on 2026-10-25 at 03:00: 02:30 happens twice, the first is meant.
        ("2026-10-24T00:30:00Z", Duration(days=1), "2026-10-25T00:30:00Z"),
        ("2026-01-31T12:00:00Z", Duration(months=1), "2026-02-28T12:00:00Z"),
        ("2024-01-31T12:00:00Z", Duration(months=1), "2024-02-29T12:00:00Z"),
        ("2026-12-15T12:00:00Z", Duration(months=1), "2027-01-15T12:00:00Z"),
        ("2026-03-31T10:00:00Z", -Duration(months=1), "2026-02-28T11:00:00Z"),
    ],
)
def test_duration_after_keeps_the_wall_clock(start: str, span: Duration, end: str) -> None:
    """Months and days are counted on the wall clock, hours on the absolute one."""
    assert span.after(datetime.fromisoformat(start), BERLIN) == datetime.fromisoformat(end)


def test_duration_after_answers_in_utc() -> None:
    """The moment after a duration is in UTC, whatever zone it started in."""
    start = datetime(2026, 5, 1, 12, tzinfo=BERLIN)
    assert _absolute(hours=1).after(start, BERLIN).tzinfo is UTC


def test_duration_total_takes_days_for_24_hours() -> None:
    """The nominal length counts a day as 24 hours."""
    assert parse_duration({"days": 1, "seconds": 1}).total_ms() == 86_401_000


def test_duration_total_refuses_months() -> None:
    """A month has no length in milliseconds."""
    with pytest.raises(ValueError, match="use days"):
        Duration(months=1).total_ms()


def test_duration_json_is_milliseconds_or_an_object() -> None:
    """A purely absolute duration is a number, one with calendar parts an object."""
    assert parse_duration("5s").to_json() == 5000
    assert parse_duration("P1M2DT3H").to_json() == {
        "months": 1,
        "days": 2,
        "milliseconds": 10_800_000,
    }
    assert parse_duration("2w").to_json() == {"days": 14}


def test_duration_sums_part_by_part() -> None:
    """Adding two durations adds their parts."""
    assert Duration(1, 2, timedelta(1)) + Duration(1, 1) == Duration(2, 3, timedelta(1))
