"""The arithmetic of the benches, where no stack is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import click
import pytest

from orch8.definition import load
from tests.bench import curve_chart, curves, limiter, model, report, several
from tests.bench.__main__ import main
from tests.bench.arrivals import fullest, last_windows, most_at_once, utilisation
from tests.bench.figures import Figures, spread
from tests.bench.overhead import gaps
from tests.bench.soak import last_two_thirds, slope

COSTS = {"workers": 200.0, "postgres": 100.0, "redis": 10.0, "handler": 90.0}
CONDITIONS = {
    "cores": 2, "cpu": "a processor", "load_before": 0.5, "postgres": "18", "at": "2026-11-22",
}  # fmt: skip


@dataclass(frozen=True)
class Somewhere:
    """A point of a curve."""

    x: int
    steps_per_s: float
    worker_us: float
    postgres_us: float


def chosen(*words: str) -> list[str]:
    """The words as the group hands them on."""
    context = click.Context(main)
    main.parse_args(context, list(words))
    return [*context._protected_args, *context.args]


def test_command_that_is_not_named_is_the_road() -> None:
    """Options alone belong to the road; a command may stand behind its options."""
    assert chosen() == ["road"]
    assert chosen("--runs", "1") == ["road", "--runs", "1"]
    assert chosen("--quick", "limiter") == ["limiter", "--quick"]


def test_line_has_units_of_one_decimal_and_ratios_of_three() -> None:
    """Programs split the line at blanks and equal signs."""
    numbers = {"due": 3.0, "lag_p50_ms": 1.25, "held_ratio": 0.98765}
    found = Figures("bench", numbers, CONDITIONS).line()
    assert found == "bench: due=3 lag_p50_ms=1.2 held_ratio=0.988"


def test_spread_is_of_the_sorted_values() -> None:
    """The median of three, and the highest as the 99th percentile of so few."""
    found = spread("lag", [3.0, 1.0, 2.0])
    assert found == {"lag_p50_ms": 2.0, "lag_p99_ms": 3.0, "lag_max_ms": 3.0}


def test_gap_is_from_an_answer_to_the_next_arrival_of_the_same_instance() -> None:
    """The handler's own time and other instances are left out."""
    visits = [(0.0, 0.5, "a"), (0.25, 0.5, "b"), (0.75, 1.0, "a"), (2.0, 2.0, "a")]
    assert gaps(visits) == [250.0, 1000.0]


def test_slope_of_a_line_is_exact_and_of_too_few_samples_unknown() -> None:
    """KB per minute, and how sure it is."""
    exact = slope([(0.0, 100.0), (1.0, 102.0), (2.0, 104.0), (3.0, 106.0)])
    assert exact.per_minute == pytest.approx(2.0)
    assert exact.either_way == pytest.approx(0.0, abs=1e-9)
    assert slope([(0.0, 1.0), (1.0, 9.0)]).either_way == math.inf


def test_slope_of_noise_is_not_told_from_zero() -> None:
    """What goes up and down by turns has a wide interval around no slope."""
    found = slope([(float(n), 100.0 + (n % 2) * 10) for n in range(40)])
    assert abs(found.per_minute) < found.either_way


def test_first_third_of_the_time_does_not_count_for_memory() -> None:
    """A process fills its caches first."""
    assert last_two_thirds([(1.0, 5.0), (2.0, 6.0), (3.0, 7.0), (6.0, 8.0)]) == [
        (2.0, 6.0), (3.0, 7.0), (6.0, 8.0),
    ]  # fmt: skip


def test_prediction_is_the_group_of_cores_that_is_full_first() -> None:
    """All on two cores share them; apart, the busier core sets the rate."""
    found = {p.name: model.predicted(COSTS, p) for p in model.PLACEMENTS}
    assert found == {
        "all_on_two": pytest.approx(5000.0), "all_on_one": pytest.approx(2500.0),
        "workers_apart": pytest.approx(5000.0), "postgres_apart": pytest.approx(1e6 / 300),
    }  # fmt: skip


@pytest.mark.parametrize("sizes", [curves.QUICK, curves.LONG], ids=["quick", "long"])
def test_loads_of_every_curve_can_be_published(sizes: curves.Sizes) -> None:
    """The widest and the heaviest are within what a definition may be, and in ascending order."""
    for curve in curves.curves(sizes):
        assert [load_.x for load_ in curve.loads] == sorted(load_.x for load_ in curve.loads)
        for each in curve.loads:
            assert load(dict(each.definition)).index is not None


def test_context_has_about_the_size_that_was_asked_for() -> None:
    """Within a tenth."""
    assert len(curves.text_of(10_000)["data"]["blob"]) == pytest.approx(10_000, rel=0.1)


def test_picture_of_a_curve_is_well_formed_and_names_its_points() -> None:
    """The SVG parses, and shows every x, both costs and the axis."""
    points = [Somewhere(1000, 3000.0, 200.0, 90.0), Somewhere(10_000, 2900.0, 210.0, 95.0)]
    drawn = ET.fromstring(curve_chart.draw("instances & more", points, CONDITIONS))
    words = [each.text for each in drawn.iter() if each.text]
    assert {"1,000", "10,000", "workers", "Postgres", "instances & more"} <= set(words)


def test_fullest_window_counts_units_and_its_end_alone() -> None:
    """A call exactly one window before another is not in its window."""
    assert fullest([], 1.0) == 0
    assert fullest([(0.0, 3), (0.5, 1), (1.0, 2), (1.4, 1)], 1.0) == 4
    assert fullest([(0.0, 3), (0.5, 1), (0.9, 2), (1.4, 1)], 1.0) == 6


def test_backlog_lasted_until_so_many_units_were_still_to_come() -> None:
    """Counted from the end; a series that is too short had none."""
    calls = [(1.0, 3), (2.0, 2), (3.0, 1), (4.0, 1)]
    assert last_windows(calls, 2) == 3.0
    assert last_windows(calls, 3) == 2.0
    assert last_windows(calls, 99) == 1.0


def test_utilisation_is_of_the_units_in_the_spans() -> None:
    """Two seconds at two units a second have room for four, whatever lies between them."""
    calls = [(1.0, 9), (1.5, 2), (2.0, 1), (2.5, 7), (3.5, 1)]
    assert utilisation(calls, [(1.0, 2.0), (3.0, 4.0)], 2.0) == pytest.approx(1.0)
    assert utilisation(calls, [(1.0, 2.0), (4.0, 5.0)], 2.0) == pytest.approx(0.75)


def test_calls_that_follow_each_other_are_not_under_way_at_once() -> None:
    """One that comes when another is answered comes after it."""
    assert most_at_once([(0.0, 1.0), (1.0, 2.0)]) == 1
    assert most_at_once([(0.0, 1.0), (0.5, 2.0), (0.6, 0.7), (1.0, 1.1)]) == 3


def crowd(seconds: float, *, dead: tuple[float, float]) -> list[tuple[float, float]]:
    """Slow calls four at a time, two while a worker is dead."""
    calls = []
    for tenth in range(int(10 * seconds)):
        at = tenth / 10
        if tenth % 4 == 0:
            here = 2 if dead[0] < at < dead[1] else 4
            calls += [(at, at + 0.39)] * here
    return calls


def test_rate_after_a_kill_is_that_of_the_time_when_the_leases_have_run_out() -> None:
    """Before ten calls a second, five without the dead worker's places, then ten again."""
    size = several.Size(at_once=4)
    found = several.seen_places(crowd(60.0, dead=(18.0, 18.0 + several.LEASE)), size, 18.0, 2)
    assert (found.most, found.most_without, found.most_after) == (4, 2, 4)
    assert found.before == pytest.approx(10.0, rel=0.05)
    assert found.without == pytest.approx(5.0, rel=0.1)
    assert found.again == pytest.approx(1.0, rel=0.05)
    leaked = several.seen_places(crowd(60.0, dead=(18.0, 99.0)), size, 18.0, 2)
    assert leaked.most_after == 2
    assert leaked.again == pytest.approx(0.5, rel=0.1)


def test_key_that_two_kinds_of_calls_use_has_the_units_of_both() -> None:
    """A payout costs two units of the account and one of its own endpoint; what did not come after
    the kill is counted apart.
    """
    visits = {
        "charge": [(float(n), n + 0.1, 1 + n % 3) for n in range(40) if n not in (19, 20, 21)],
        "payout": [(n + 0.5, n + 0.6, 2) for n in range(40)],
    }
    size = several.Size(account=5, endpoint=1)
    account, endpoint = several.seen_keys(visits, size, killed_at=18.9)
    assert (account.calls, account.peak) == (77, 5)
    assert account.utilisation == pytest.approx(4 * 1.02 / 5, rel=0.1)
    assert account.lost == pytest.approx(3 * (1 - 2 / 4.9), rel=0.1)
    assert (endpoint.calls, endpoint.peak, endpoint.lost) == (40, 1, pytest.approx(0.0, abs=0.1))


def test_table_of_the_limiter_marks_what_was_missed() -> None:
    """A peak above the limit, a share below what is asked, a rate that did not come back, a step
    that was sent back too often.
    """
    keys = (several.Key("a", 9, 100, 9, 0.99, 0.5), several.Key("b", 3, 50, 4, 0.5, 1.5))
    places = several.Places(12, 12, 2, 10, 12, 30.0, 25.0, 15.0)
    found = several.Several(keys, places, 3, {}, 0.0, 0.5)
    rows = limiter.rows_of_several(found)
    assert [enough for *_, enough in rows] == [
        True, True, True, False, False, False, True, False, False,
    ]  # fmt: skip
    assert limiter.table(rows).row_count == len(rows)


def test_table_of_the_road_marks_what_was_missed() -> None:
    """Half of what pgbench reaches is asked for, and money may cost 15 %."""
    numbers = dict.fromkeys(
        ("steady_steps_per_s", "limited_steps_per_s", "none_steps_per_s", "money_steps_per_s",
         "creations_per_s", "after_answer_p50_ms", "after_answer_p99_ms"), 1.0,
    )  # fmt: skip
    numbers |= {
        "steps_per_s": 6000.0, "ceiling_per_s": 12_001.0, "money_costs_percent": 15.0,
        "start_p50_ms": 9.9, "start_p99_ms": 50.0,
    }  # fmt: skip
    missed = [what for what, _, _, mark in report.rows(numbers) if mark]
    assert missed == ["  steps/s as a share of it", "request -> handler called, p99 ms"]
