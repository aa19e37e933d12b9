"""The turns of a rate-limited key: even, shared by lane, none lost, none before another."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orch8.runtime.drain import Drain
from orch8.runtime.lanes import AGES, LANES

OLD = AGES - 1


def line(count: int, age: int = OLD) -> list[int]:
    """So many steps, all of one age."""
    return [count if n == age else 0 for n in range(AGES)]


def test_one_line_has_its_turns_evenly() -> None:
    """The first one at once, each further one as much later; one segment says all of it."""
    drain = Drain({"renewal": line(100_000)}, 0.01, 200)
    assert drain.at("renewal", 1) == 0.0
    assert drain.at("renewal", 100_000) == pytest.approx(999.99)
    assert len(drain.segments) == 1


def test_interactive_steps_do_not_wait_for_a_backlog() -> None:
    """Behind 100,000 renewals at a hundred a second, ten interactive ones go within a second."""
    drain = Drain({"renewal": line(100_000), "interactive": line(10, 0)}, 0.01, 200)
    assert drain.at("interactive", 10) < 2.0
    assert drain.at("renewal", 100_000) == pytest.approx(1000.09, abs=0.02)


def test_lower_lanes_have_their_reserve() -> None:
    """A backlog of renewals leaves bulk its tenth."""
    drain = Drain({"renewal": line(50_000, 0), "bulk": line(100, 0)}, 0.01, 200)
    assert drain.at("bulk", 100) <= 100 * 0.01 / 0.10 + 2.0


def test_without_a_limit_all_go_at_once() -> None:
    """There is nothing to wait for."""
    drain = Drain({"renewal": line(3), "bulk": line(7, 0)}, 0.0, 2000)
    assert drain.at("renewal", 3) == drain.at("bulk", 7) == 0.0


def test_slow_limits_serve_line_after_line() -> None:
    """With one turn an hour there is no reserve: whoever ranks higher goes first."""
    drain = Drain({"bulk": line(2), "interactive": line(2)}, 3600.0, 0)
    assert [drain.at("interactive", n) for n in (1, 2)] == [0.0, 3600.0]
    assert [drain.at("bulk", n) for n in (1, 2)] == [7200.0, 10800.0]


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(LANES),
        st.lists(st.integers(0, 60), min_size=AGES, max_size=AGES).filter(any),
        min_size=1,
    ),
    st.sampled_from([0.01, 0.5, 1.0, 45.0, 3600.0]),
)
def test_turns_use_up_the_pace_and_no_more(lines: dict[str, list[int]], every: float) -> None:
    """Every place has one turn, later than the one before it; at any moment all lanes together have
    had about as many as the pace allows; and with the last turn nothing of it was wasted.
    """
    width = max(int(2.0 / every), 1)
    drain = Drain(lines, every, width)
    times = {
        lane: [drain.at(lane, n + 1) for n in range(sum(ages))] for lane, ages in lines.items()
    }
    for lane, of_lane in times.items():
        assert all(a < b for a, b in itertools.pairwise(of_lane)), lane
        mine = [each for each in drain.segments if each.lane == lane]
        assert [each.first for each in mine] == [1, *(each.until for each in mine[:-1])]
        assert mine[-1].until == len(of_lane) + 1
    merged = sorted(itertools.chain.from_iterable(times.values()))
    for n, at in enumerate(merged):  # lanes share a stretch evenly, each from its beginning on
        assert n - len(LANES) <= at / every + 1e-6 <= n + width + len(LANES)
    assert merged[-1] < len(merged) * every
