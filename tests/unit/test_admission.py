"""Admission: the lines of a key's queue share its pace, evenly, and customers do not wait."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orch8.limits import Limit, Usage
from orch8.runtime.admission import (
    AHEAD_OF_PACE,
    HORIZON,
    Line,
    Slots,
    in_force,
    plan_slots,
    turn,
)  # fmt: skip

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
LIMIT = Limit("acquirer", 95, 0.98)  # with its slack 95 in a second
GAP = 1 / 95 / AHEAD_OF_PACE
FULL = int(95 * AHEAD_OF_PACE * HORIZON)


def line(lane: str, *waiting: int, admitted: int = 0, until: float = 0.0) -> Line:
    """``until`` is when the last admitted one is due, in seconds from now."""
    last = NOW + timedelta(seconds=until) if admitted else None
    return Line(lane, [*waiting, *[0] * (4 - len(waiting))], admitted, last)


def seconds(plan: Slots, *costs: float) -> list[float]:
    """From now until each step is due; without costs, if all cost the average."""
    moments = plan.moments(costs or [None] * plan.count)
    return [(moment - NOW).total_seconds() for moment in moments]


def gaps(plan: Slots) -> list[float]:
    return [b - a for a, b in itertools.pairwise(seconds(plan))]


def test_line_alone_is_admitted_at_the_pace_up_to_the_horizon() -> None:
    """A backlog of any size: two seconds of it, one after the other."""
    plan = plan_slots(LIMIT, [line("renewal", 0, 100_000)], NOW)["renewal"]
    assert plan.count == FULL
    assert seconds(plan)[0] == 0
    assert gaps(plan) == pytest.approx([GAP] * (FULL - 1), abs=1e-5)


def test_line_goes_on_behind_those_who_are_admitted() -> None:
    """Half a second later a quarter of the horizon is free, at its end."""
    plan = plan_slots(LIMIT, [line("renewal", 5000, admitted=150, until=1.5)], NOW)["renewal"]
    assert plan.count == FULL - 150
    assert seconds(plan)[0] == pytest.approx(1.5 + GAP, abs=1e-5)


def test_customer_is_due_at_once_behind_any_backlog() -> None:
    """Though the horizon is full of renewals: the reserve is given in advance."""
    full = [line("interactive", 3), line("renewal", 100_000, admitted=FULL, until=2.0)]
    plan = plan_slots(LIMIT, full, NOW)
    assert set(plan) == {"interactive"}
    assert seconds(plan["interactive"])[0] == 0
    assert seconds(plan["interactive"])[-1] < 0.2


def test_lanes_together_keep_to_the_pace() -> None:
    """Every lane gets its share of the horizon, spread over all of it."""
    backlogs = [line(lane, 5000) for lane in ("interactive", "renewal", "bulk", "backfill")]
    plan = plan_slots(LIMIT, backlogs, NOW)
    assert sum(each.count for each in plan.values()) == FULL
    shares = {lane: each.count / FULL for lane, each in plan.items()}
    assert shares == pytest.approx(
        {"interactive": 0.45, "renewal": 0.4, "bulk": 0.1, "backfill": 0.05}, abs=0.02
    )
    for each in plan.values():
        assert seconds(each)[-1] == pytest.approx(HORIZON, abs=0.25)
    in_a_second = sum(at < 1 for each in plan.values() for at in seconds(each))
    assert in_a_second == pytest.approx(95 * AHEAD_OF_PACE, abs=4)


def test_lane_that_was_overtaken_pauses() -> None:
    """What customers got in advance is missing from the next renewals, not added to the pace."""
    lines = [
        line("interactive", 0, admitted=39, until=1.0),
        line("renewal", 5000, admitted=FULL - 10, until=2.0),
    ]
    assert plan_slots(LIMIT, lines, NOW) == {}


def test_nobody_is_admitted_before_there_is_room_at_all() -> None:
    """A limit that is spent for an hour admits nobody; one that is spent for a second, after it."""
    spent = Line("renewal", [10, 0, 0, 0], free_at=NOW + timedelta(hours=1))
    assert plan_slots(LIMIT, [spent], NOW) == {}
    soon = Line("renewal", [10, 0, 0, 0], free_at=NOW + timedelta(seconds=1))
    assert seconds(plan_slots(LIMIT, [soon], NOW)["renewal"])[0] == 1


def test_slow_limit_admits_one_at_a_time() -> None:
    """One an hour is one in the horizon, whoever asks; a customer comes before the others."""
    hourly = Limit("acquirer", 1, 3600)
    lines = [line("renewal", 50), line("interactive", 2)]
    plan = plan_slots(hourly, lines, NOW)
    assert plan.keys() == {"interactive"}
    assert seconds(plan["interactive"]) == [0]
    assert plan_slots(hourly, [line("renewal", 50, admitted=1), line("interactive", 2)], NOW) == {}


def test_heavy_calls_are_admitted_at_a_slower_pace() -> None:
    """A call that costs five units comes a fifth as often."""
    heavy = in_force(LIMIT, Limit("acquirer", 10, weight=5))
    plan = plan_slots(heavy, [line("renewal", 5000)], NOW)["renewal"]
    assert gaps(plan)[0] == pytest.approx(5 * GAP, abs=1e-5)


def test_call_that_costs_more_than_all_does_not_slow_its_key_down() -> None:
    """It is let through to be parked: the pace is at worst one in each window."""
    lowered = Limit("acquirer", 10, 0.98)
    heavy = in_force(lowered, Limit("acquirer", 95, weight=20))
    assert heavy == replace(lowered, weight=20)
    assert turn(heavy) == turn(lowered, 20) == pytest.approx(1.0)


def test_each_call_takes_as_many_turns_as_it_costs() -> None:
    """The pace is that of units, whoever is first in line; nothing costs more than all."""
    light = in_force(LIMIT, Limit("acquirer", 95))
    mixed = plan_slots(light, [line("renewal", 5000)], NOW, cost=2.0)["renewal"]
    assert mixed.count == FULL // 2
    due = seconds(mixed, 1, 3, 2, 500, 1)
    assert due == pytest.approx([n * GAP for n in (0, 1, 4, 6, 101)], abs=1e-5)


def test_calls_in_flight_count_the_same_whatever_they_cost() -> None:
    """Each has one of the places."""
    room = Limit("acquirer", 10, 1.0, 0.0, weight=5, max_in_flight=2)  # two places for a second
    plan = plan_slots(room, [line("renewal", 50)], NOW, cost=3.0)["renewal"]
    each = 0.5 / AHEAD_OF_PACE
    assert seconds(plan, 1, 3, 5) == pytest.approx([0, each, 2 * each], abs=1e-5)


def test_pace_is_the_slower_one_of_window_and_calls_in_flight() -> None:
    """Two at a time that take a second each are two in a second, whatever the window has."""
    slow = Limit("acquirer", 2, 1.0, 0.0, max_in_flight=2)
    quick = Limit("acquirer", 2, 0.01, 0.0, max_in_flight=2)
    assert in_force(LIMIT, slow) == slow
    assert in_force(LIMIT, quick) == LIMIT
    assert in_force(None, quick) == quick
    assert in_force(replace(LIMIT, max=1), replace(slow, max=10, weight=5)) == Limit(
        "acquirer", 1, 0.98, weight=5
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
    assert plan_slots(None, [line("bulk", 3), line("renewal", 1)], NOW) == {
        "bulk": Slots(3, NOW), "renewal": Slots(1, NOW),
    }  # fmt: skip
    assert seconds(Slots(3, NOW)) == [0, 0, 0]
