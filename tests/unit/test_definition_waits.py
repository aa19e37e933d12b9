"""Waits as they are written: schedules, alignment, calendars, zones, and what is refused of them."""

# ruff: noqa: E501 - one case, one line
from __future__ import annotations

from datetime import time
from typing import Any

import pytest

from orch8.blocks.step import Step
from orch8.definition import load
from orch8.engine.align import LAST, Align
from orch8.engine.calendar import Roll
from orch8.engine.duration import Duration
from orch8.engine.timing import SendWindow
from tests.support.documents import CHARGE, contract, loaded, only, refusal, seed

WAIT = {"type": "wait", "id": "w", "delay": "1d"}
FOUR_HUNDRED, SHAPE = 400, 422


def wait(**members: Any) -> Step:
    """The step that a wait with these members becomes."""
    block = only({"type": "wait", "id": "w", **members})
    assert isinstance(block, Step)
    return block


def test_schedule_is_offsets_from_an_anchor() -> None:
    """Any spelling of durations, and a template."""
    schedule = wait(schedule={"offsets": ["1d", {"days": 3}], "anchor": "{{data.from}}"}).schedule
    assert schedule is not None
    assert schedule.offsets == (Duration(days=1), Duration(days=3))
    assert schedule.anchor is not None
    assert schedule.anchor.roots == {"data"}


ALIGNS: list[tuple[dict[str, Any], Align]] = [
    (
        {"mode": "payday", "days_of_month": [1, 15, "last"], "at": "00:05", "max_shift": {"days": 3}},
        Align(frozenset({1, 15, LAST}), frozenset(), time(0, 5), Duration(days=3), Roll.PRECEDING),
    ),
    (
        {"mode": "payday", "weekdays": ["fri"], "roll": "none"},
        Align(weekdays=frozenset({4}), roll=Roll.NONE),
    ),
    ({"mode": "weekday", "weekdays": ["Tue", 3]}, Align(weekdays=frozenset({1, 3}), roll=Roll.NONE)),
    ({"mode": "business_day"}, Align(roll=Roll.FOLLOWING)),
]  # fmt: skip


@pytest.mark.parametrize(("given", "align"), ALIGNS)
def test_align_has_three_modes(given: dict[str, Any], align: Align) -> None:
    """Each rolls its own way unless told: wages come before a weekend, weekdays stay."""
    assert wait(delay="1d", align=given).align == align


def test_window_with_a_calendar_is_one_of_business_days() -> None:
    """Naming a calendar says that its closed days do not count."""
    window = wait(send_window={"calendar": "DE"}).send_window
    assert window is not None
    assert window.business_days
    assert window.calendar is not None
    assert wait(send_window={"business_days": True}).send_window == SendWindow(business_days=True)


def test_delay_with_a_calendar_ends_on_a_business_day() -> None:
    """The same for a delay, whose calendar may come from the context."""
    delay = wait(delay={"duration": "3d", "calendar": "{{data.country}}"}).delay
    assert delay is not None
    assert delay.business_days_only
    assert delay.calendar is not None
    assert delay.calendar.roots == {"data"}


def test_long_form_of_a_wait_says_the_same() -> None:
    """The canonical form of a schedule is a step's, and loads again."""
    body = seed(
        {"type": "wait", "schedule": {"offsets": ["1d"]}, "align": {"mode": "business_day"}}
    )
    once = load(body)
    assert load(once.canonical).canonical == once.canonical


@pytest.mark.parametrize(
    ("block", "status", "at", "message", "hint"),
    [
        ({"send_window": {"calendar": "GB-EN"}}, FOUR_HUNDRED, "/send_window/calendar", "no calendar", 'did you mean "GB-ENG"?'),
        ({"delay": {"duration": "1d", "calendar": "Mars"}}, FOUR_HUNDRED, "/delay/calendar", "no calendar 'Mars'", ""),
        ({"align": {"mode": "business_day", "calendar": "USFED"}}, FOUR_HUNDRED, "/align/calendar", "no calendar", "US-FED"),
        ({"send_window": {"calendar": "{{nope.x}}"}}, FOUR_HUNDRED, "/send_window/calendar", "unknown root", ""),
        ({"send_window": {"business_days": False, "calendar": "DE"}}, FOUR_HUNDRED, "/send_window/calendar", "no effect", "true"),
        ({"delay": {"duration": "1d", "business_days_only": False, "calendar": "DE"}}, FOUR_HUNDRED, "/delay/calendar", "no effect", "true"),
        ({"send_window": {"days": ["sat"], "business_days": True}}, FOUR_HUNDRED, "/send_window", "does not open", "more days"),
        ({"send_window": {"days": ["fri"], "calendar": "SA"}}, FOUR_HUNDRED, "/send_window", "does not open", "more days"),
        ({"align": {"mode": "weekday", "weekdays": ["tue"]}, "send_window": {"days": ["mon"]}}, FOUR_HUNDRED, "/send_window", "inside the send window", ""),
        ({"align": {"mode": "payday"}}, FOUR_HUNDRED, "/align/days_of_month", "is required", "last"),
        ({"align": {"mode": "weekday"}}, FOUR_HUNDRED, "/align/weekdays", "is required", "tue"),
        ({"align": {"mode": "business_day", "weekdays": [1]}}, FOUR_HUNDRED, "/align/weekdays", "does not read", "leave it out"),
        ({"align": {"mode": "business_day", "roll": "none"}}, FOUR_HUNDRED, "/align/roll", "has to roll", "leave roll out"),
        ({"align": {"mode": "full_moon"}}, SHAPE, "/align/mode", "must not be", "payday"),
        ({"align": {}}, SHAPE, "/align/mode", "is required", ""),
        ({"align": {"mode": "payday", "days_of_month": [32]}}, FOUR_HUNDRED, "/align/days_of_month/0", "no day of a month", "last"),
        ({"align": {"mode": "payday", "days_of_month": [1], "at": "noon"}}, FOUR_HUNDRED, "/align/at", "no time of day", "09:00"),
        ({"align": {"mode": "payday", "days_of_month": [1], "paydays": 1}}, FOUR_HUNDRED, "/align/paydays", "unknown member", ""),
        ({"schedule": {"offsets": ["1d"]}}, FOUR_HUNDRED, "/schedule", "keep one", ""),
        ({"delay": None, "schedule": {"offsets": []}}, FOUR_HUNDRED, "/schedule/offsets", "not be empty", ""),
        ({"delay": None, "schedule": {"offsets": ["x"]}}, SHAPE, "/schedule/offsets/0", "no duration", ""),
        ({"delay": None, "schedule": {"anchor": "now"}}, SHAPE, "/schedule/offsets", "is required", ""),
        ({"delay": None, "duration": "1d", "schedule": {"offsets": ["1d"]}}, FOUR_HUNDRED, "/schedule", "keep one", ""),
    ],
)  # fmt: skip
def test_wrong_wait_is_refused(
    block: dict[str, Any], status: int, at: str, message: str, hint: str
) -> None:
    """With one problem that names the place and says what to do."""
    got, problems = refusal(seed({**WAIT, **block}))
    assert [each.pointer for each in problems] == [f"/blocks/0{at}"], problems
    assert message in problems[0].message
    assert hint in problems[0].hint
    assert got == status


def test_business_day_that_cannot_roll_back_is_remarked() -> None:
    """A moment only ever moves forward, and whoever writes otherwise is told when publishing."""
    sequence = loaded({**WAIT, "align": {"mode": "business_day", "roll": "preceding"}})
    assert [each.pointer for each in sequence.warnings] == ["/blocks/0/align/roll"]


def test_wait_by_a_schedule_or_alignment_waits() -> None:
    """No remark that it does not."""
    assert loaded({"type": "wait", "schedule": {"offsets": ["1d"]}}).warnings == ()
    assert loaded({"type": "wait", "align": {"mode": "business_day"}}).warnings == ()


# -- the zone of the sequence -----------------------------------------------------------------
def test_zone_may_come_from_the_context() -> None:
    """Then each instance has its own."""
    sequence = loaded(CHARGE, timezone="{{context.data.zone or 'UTC'}}")
    assert sequence.zone is not None
    assert loaded(CHARGE, timezone="Europe/Berlin").zone is None
    assert load(contract({**CHARGE, "id": "a"}, timezone="{{context.data.zone}}")).zone is not None


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ("{{outputs.charge.zone}}", "outputs.charge"),
        ("{{state.zone}}", "state"),
        ("{{nope}}", "unknown root"),
        ("{{context.", "not closed"),
    ],
)
def test_zone_is_read_from_the_context_only(zone: str, message: str) -> None:
    """It must be known when the instance starts."""
    status, problems = refusal(seed(CHARGE, timezone=zone))
    assert [each.pointer for each in problems] == ["/timezone"]
    assert message in problems[0].message
    assert status == FOUR_HUNDRED
