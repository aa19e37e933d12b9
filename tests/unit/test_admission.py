"""Admission: the lines of a key's queue share its pace, evenly, and customers do not wait."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orch8.limits import Limit, Usage
from orch8.runtime.admission import AHEAD_OF_PACE, HORIZON, Line, in_force, slots

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
LIMIT = Limit("acquirer", 95, 0.98)  # with its slack 95 in a second
GAP = 1 / 95 / AHEAD_OF_PACE
FULL = int(95 * AHEAD_OF_PACE * HORIZON)


def line(lane: str, *waiting: int, admitted: int = 0, until: float = 0.0) -> Line:
    """``until`` is when the last admitted one is due, in seconds from now."""
    last = NOW + timedelta(seconds=until) if admitted else None
    return Line(lane, [*waiting, *[0] * (4 - len(waiting))], admitted, last)


def seconds(plan: list[datetime]) -> list[float]:
    return [(moment - NOW).total_seconds() for moment in plan]


def gaps(plan: list[datetime]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(seconds(plan))]


def test_line_alone_is_admitted_at_the_pace_up_to_the_horizon() -> None:
    """A backlog of any size: two seconds of it, one after the other."""
    plan = slots(LIMIT, [line("renewal", 0, 100_000)], NOW)["renewal"]
    assert len(plan) == FULL
    assert seconds(plan)[0] == 0
    assert gaps(plan) == pytest.approx([GAP] * (FULL - 1), abs=1e-5)


def test_line_goes_on_behind_those_who_are_admitted() -> None:
    """Half a second later a quarter of the horizon is free, at its end."""
    plan = slots(LIMIT, [line("renewal", 5000, admitted=150, until=1.5)], NOW)["renewal"]
    assert len(plan) == FULL - 150
    assert seconds(plan)[0] == pytest.approx(1.5 + GAP, abs=1e-5)


def test_customer_is_due_at_once_behind_any_backlog() -> None:
    """Though the horizon is full of renewals: the reserve is given in advance."""
    full = [line("interactive", 3), line("renewal", 100_000, admitted=FULL, until=2.0)]
    plan = slots(LIMIT, full, NOW)
    assert set(plan) == {"interactive"}
    assert seconds(plan["interactive"])[0] == 0
    assert seconds(plan["interactive"])[-1] < 0.2


def test_lanes_together_keep_to_the_pace() -> None:
    """Every lane gets its share of the horizon, spread over all of it."""
    backlogs = [line(lane, 5000) for lane in ("interactive", "renewal", "bulk", "backfill")]
    plan = slots(LIMIT, backlogs, NOW)
    assert sum(map(len, plan.values())) == FULL
    shares = {lane: len(moments) / FULL for lane, moments in plan.items()}
    assert shares == pytest.approx(
        {"interactive": 0.45, "renewal": 0.4, "bulk": 0.1, "backfill": 0.05}, abs=0.02
    )
    for moments in plan.values():
        assert seconds(moments)[-1] == pytest.approx(HORIZON, abs=0.25)
    every = sorted(itertools.chain(*plan.values()))
    in_a_second = sum(moment < NOW + timedelta(seconds=1) for moment in every)
    assert in_a_second == pytest.approx(95 * AHEAD_OF_PACE, abs=4)


def test_lane_that_was_overtaken_pauses() -> None:
    """What customers got in advance is missing from the next renewals, not added to the pace."""
    lines = [
        line("interactive", 0, admitted=39, until=1.0),
        line("renewal", 5000, admitted=FULL - 10, until=2.0),
    ]
    assert slots(LIMIT, lines, NOW) == {}


def test_nobody_is_admitted_before_there_is_room_at_all() -> None:
    """A limit that is spent for an hour admits nobody; one that is spent for a second, after it."""
    spent = Line("renewal", [10, 0, 0, 0], free_at=NOW + timedelta(hours=1))
    assert slots(LIMIT, [spent], NOW) == {}
    soon = Line("renewal", [10, 0, 0, 0], free_at=NOW + timedelta(seconds=1))
    assert seconds(slots(LIMIT, [soon], NOW)["renewal"])[0] == 1


def test_slow_limit_admits_one_at_a_time() -> None:
    """One an hour is one in the horizon, whoever asks; a customer comes before the others."""
    hourly = Limit("acquirer", 1, 3600)
    lines = [line("renewal", 50), line("interactive", 2)]
    assert slots(hourly, lines, NOW) == {"interactive": [NOW]}
    assert slots(hourly, [line("renewal", 50, admitted=1), line("interactive", 2)], NOW) == {}


def test_heavy_calls_are_admitted_at_a_slower_pace() -> None:
    """A call that costs five units comes a fifth as often."""
    heavy = in_force(LIMIT, Limit("acquirer", 10, weight=5))
    plan = slots(heavy, [line("renewal", 5000)], NOW)["renewal"]
    assert gaps(plan)[0] == pytest.approx(5 * GAP, abs=1e-5)


def test_call_that_costs_more_than_all_does_not_slow_its_key_down() -> None:
    """It is let through to be parked: the pace is at worst one in each window."""
    lowered = Limit("acquirer", 10, 0.98)
    assert in_force(lowered, Limit("acquirer", 95, weight=20)) == replace(lowered, weight=10)


def test_pace_is_the_slower_one_of_window_and_calls_in_flight() -> None:
    """Two at a time that take a second each are two in a second, whatever the window has."""
    slow = Limit("acquirer", 2, 1.0, 0.0, max_in_flight=2)
    quick = Limit("acquirer", 2, 0.01, 0.0, max_in_flight=2)
    assert in_force(LIMIT, slow) == slow
    assert in_force(LIMIT, quick) == LIMIT
    assert in_force(None, quick) == quick
    assert in_force(replace(LIMIT, max=1), replace(slow, max=10, weight=5)) == Limit(
        "acquirer", 1, 0.98
    )


def test_room_that_was_cut_is_won_back_in_the_time_of_its_calls() -> None:
    """A backlog of that moment does not go at the pace of that moment for ever."""
    cut = Limit("acquirer", 2, 0.5, 0.0, max_in_flight=8)
    rooms = [in_force(None, cut, since) for since in (0.0, 0.4, 1.0, 2.5, 99.0)]
    assert [limit.max for limit in rooms if limit] == [2, 2, 4, 7, 8]
    assert in_force(Limit("acquirer", None, max_in_flight=3), cut, 99.0) == replace(
        cut, max=3, max_in_flight=3
    )


def test_pace_of_the_calls_in_flight_is_that_of_the_moment() -> None:
    """What Redis tells of them now, whatever it told the first in line; if it knows how long they
    take.
    """
    cut = Limit("acquirer", 2, 0.5, 0.0, max_in_flight=8)
    usage = Usage(used=0, max=None, free_at=0.0, in_flight=8, room=8, turning=5, took=0.25)
    assert in_force(None, cut, usage=usage) == replace(cut, max=5, window=0.25)
    assert in_force(None, cut, usage=replace(usage, took=None)) == cut
    assert in_force(replace(LIMIT, max=1), cut, usage=usage) == replace(LIMIT, max=1)


def test_bound_that_was_edited_is_the_pace_of_who_waits_already() -> None:
    """Who was refused one at a time goes at the pace of ten once ten may be in flight."""
    one = Limit("acquirer", 1, 0.5, 0.0, max_in_flight=1)
    ten = Limit("acquirer", None, max_in_flight=10)
    assert in_force(ten, one) == replace(one, max=10, max_in_flight=10)


def test_queue_without_a_limit_is_let_go() -> None:
    """Nobody waits for a limit that is no more."""
    assert slots(None, [line("bulk", 3), line("renewal", 1)], NOW) == {
        "bulk": [NOW] * 3, "renewal": [NOW],
    }  # fmt: skip
