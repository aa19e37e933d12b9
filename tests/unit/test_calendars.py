"""Calendars by name, against days that are easily got wrong."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest

from orch8.blocks.calendars import calendar_named, closest_calendar


def _is_open(name: str, day: str) -> bool:
    calendar = calendar_named(name)
    assert calendar is not None
    return calendar.is_open(date.fromisoformat(day))


@pytest.mark.parametrize(
    ("day", "is_open"),
    [
        ("2026-07-03", True),  # the Fourth is on Saturday: the country has Friday off, the Fed not
        ("2027-06-18", True),
        ("2027-12-24", True),
        ("2027-12-31", True),
        ("2027-07-05", False),  # on Sunday: both have Monday off
        ("2026-11-26", False),
        ("2026-11-27", True),
        ("2026-07-04", False),
        ("2026-07-05", False),
    ],
)
def test_fed_is_open_on_the_friday_before_a_saturdays_holiday(day: str, *, is_open: bool) -> None:
    """A holiday on Saturday closes nothing, one on Sunday closes Monday."""
    assert _is_open("US-FED", day) == is_open


def test_country_is_not_its_central_bank() -> None:
    """The United States have Friday, 3 July 2026, off."""
    assert not _is_open("US", "2026-07-03")


def test_target_closes_on_six_days_a_year() -> None:
    """New Year, Good Friday, Easter Monday, 1 May, 25 and 26 December; no national holiday."""
    calendar = calendar_named("TARGET")
    assert calendar is not None
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    closed = [f"{day:%m-%d}" for day in days if day.weekday() < 5 and not calendar.is_open(day)]
    assert closed == ["01-01", "04-03", "04-06", "05-01", "12-25"]  # 26 December is a Saturday
    assert _is_open("TARGET", "2025-10-03")
    assert not _is_open("DE", "2025-10-03")


def test_part_of_a_country_has_its_own_holidays() -> None:
    """England makes up for Boxing Day on Monday, and does not have Scotland's 2 January."""
    assert not _is_open("GB-ENG", "2026-12-28")
    assert _is_open("GB-ENG", "2026-01-02")
    assert not _is_open("GB-SCT", "2026-01-02")
    assert (_is_open("DE", "2026-01-06"), _is_open("DE-BY", "2026-01-06")) == (True, False)


def test_weekend_is_that_of_the_country() -> None:
    """Friday and Saturday in Saudi Arabia."""
    assert not _is_open("SA", "2026-11-20")
    assert _is_open("SA", "2026-11-22")


def test_name_is_read_in_any_case() -> None:
    """A country's code is not always written in capitals."""
    assert calendar_named("gb-eng") == calendar_named("GB-ENG")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("USFED", "US-FED"), ("TARGET2", "TARGET"), ("GB-EN", "GB-ENG"), ("?" * 5000, None)],
)
def test_name_of_no_calendar_is_none(name: str, meant: str | None) -> None:
    """The one it resembles is told."""
    assert calendar_named(name) is None
    assert closest_calendar(name) == meant


def test_calendar_answers_threads_alike() -> None:
    """Who asks while a year is being read waits for all of it, or reads it, too."""
    calendar = calendar_named("FR")
    assert calendar is not None
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(calendar.is_open, [date(2031, 7, 14)] * 64))
    assert answers == [False] * 64


def test_calendars_are_loaded_by_who_names_one() -> None:
    """Importing the blocks costs nothing of it."""
    code = "import sys, orch8.definition; sys.exit('holidays' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
