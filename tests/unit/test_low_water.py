"""Low water: looks for due steps do not begin among those that are long gone, and miss nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orch8.runtime.low_water import CHEAP, MARGIN, REST, SELDOM, LowWater
from orch8.storage.steps import EVER

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LANE = "renewal"


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def look(
    water: LowWater, clock: Clock, first: datetime | None = None, *, took: float = 0.0,
    seen: bool = True,
) -> datetime:  # fmt: skip
    """From where a look began that found this and took so many seconds."""
    with water.look(LANE) as made:
        clock.now += took
        made.first, made.seen = first, seen
    return made.since


def test_cheap_looks_are_whole_looks() -> None:
    """Without a transaction that stays open nothing is ever passed over."""
    clock = Clock()
    water = LowWater(clock=clock)
    assert [look(water, clock, NOON, took=CHEAP / 2) for _ in range(3)] == [EVER] * 3


def test_look_after_a_costly_one_begins_a_little_below_what_that_found() -> None:
    """And the next where that one found something, if it was higher."""
    clock = Clock()
    water = LowWater(clock=clock)
    later = NOON + timedelta(minutes=1)
    assert look(water, clock, NOON, took=0.1) == EVER
    assert look(water, clock, later) == NOON - MARGIN
    assert look(water, clock, NOON) == later - MARGIN
    assert look(water, clock) == water.since(LANE) == later - MARGIN


def test_whole_looks_take_a_hundredth_of_the_time() -> None:
    """A look of a tenth of a second is followed by another ten seconds after it began."""
    clock = Clock()
    water = LowWater(clock=clock)
    look(water, clock, NOON, took=0.1)
    clock.now += 0.1 * REST - 0.1 - 0.001
    assert look(water, clock, NOON) == NOON - MARGIN
    clock.now += 0.001
    assert look(water, clock, NOON) == EVER


def test_whole_look_comes_in_any_case() -> None:
    """However costly they are: work below the mark waits for SELDOM seconds at the most."""
    clock = Clock()
    water = LowWater(clock=clock)
    look(water, clock, NOON, took=5.0)
    clock.now += SELDOM - 5.0
    assert look(water, clock, NOON) == EVER


def test_whole_look_that_finds_something_lower_lowers_the_mark() -> None:
    """What was given back is due again, and the looks that follow see it too."""
    clock = Clock()
    water = LowWater(clock=clock)
    earlier = NOON - timedelta(minutes=5)
    look(water, clock, NOON, took=0.1)
    clock.now += SELDOM
    assert look(water, clock, earlier, took=0.1) == EVER
    assert look(water, clock, earlier) == earlier - MARGIN


def test_look_at_a_part_of_the_lane_does_not_raise_the_mark() -> None:
    """It cannot tell that nothing lower is due; a whole one of a part lowers the mark all the
    same.
    """
    clock = Clock()
    water = LowWater(clock=clock)
    look(water, clock, NOON, took=0.1)
    look(water, clock, NOON + timedelta(hours=1), seen=False)
    assert water.since(LANE) == NOON - MARGIN
    clock.now += SELDOM
    look(water, clock, NOON - timedelta(hours=1), took=0.1, seen=False)
    assert water.since(LANE) == NOON - timedelta(hours=1) - MARGIN


def test_look_that_breaks_counts_as_a_look() -> None:
    """One that ran into its time-out is not repeated at once."""
    clock = Clock()
    water = LowWater(clock=clock)
    look(water, clock, NOON)

    def times_out() -> None:
        with water.look(LANE):
            clock.now += 5.0
            raise TimeoutError

    with pytest.raises(TimeoutError):
        times_out()
    assert look(water, clock) == NOON - MARGIN


def test_lanes_have_marks_of_their_own() -> None:
    """A backlog of one does not hide what another has."""
    clock = Clock()
    water = LowWater(clock=clock)
    look(water, clock, NOON, took=0.1)
    with water.look("bulk") as other:
        assert other.since == EVER
