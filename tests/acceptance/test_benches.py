"""The benches work: each is run once, small, on one stack; what they measure here means nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import creations, curves, history, model, overhead, soak, timers
from tests.bench.road import STEPS, Road

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A road with one worker and two web processes."""
    settings = {"WEB_CONCURRENCY": "2"}
    road = Road(tmp_path_factory.mktemp("bench"), workers=1, settings=settings)
    with road.world:
        road.publish()
        yield road


def test_creations_are_timed_one_by_one(road: Road) -> None:
    """Each creation of each run has its milliseconds, and both web processes are asked."""
    found = creations.measure(road, instances=60, runs=2, connections=4, webs=2)
    assert [len(run["ms"]) for run in found.samples["runs"]] == [60, 60]
    assert found.numbers["creations_per_s"] > 0
    assert "--workers 2" in found.conditions["api"]


def test_overhead_is_between_the_steps_of_an_instance(road: Road) -> None:
    """Five steps have four gaps, and none of them is negative."""
    found = overhead.measure(road, rate=20.0, seconds=0.5)
    assert found.numbers["steps"] == 10 * STEPS
    assert len(found.samples["overhead_ms"]) == 10 * (STEPS - 1)
    assert min(found.samples["overhead_ms"]) > 0


def test_soak_has_drains_beside_the_open_transaction_and_samples_of_memory(road: Road) -> None:
    """Every phase has a drain, every program of the stack its memory."""
    found = soak.measure(road, minutes=0.02, held=0.005, instances=10, every=0.1)
    assert {window["phase"] for window in found.samples["windows"]} == {"before", "held", "after"}
    assert found.samples["memory_kb"].keys() == {"web", "worker-1", "control", "beat"}
    assert all(kb > 10_000 for each in found.samples["memory_kb"].values() for _, kb in each)


def test_history_lies_in_the_tables_in_the_middle_phase(road: Road) -> None:
    """Every phase is drained; after the last the history is gone."""
    found = history.measure(road, steps=500, drains=1, instances=10)
    assert tuple(found.samples) == history.PHASES
    (left,) = road.world.rows("SELECT count(*) AS count FROM steps")
    assert left["count"] < 500


def test_curves_count_every_step_of_every_load(road: Road) -> None:
    """Points have what their loads promise, with more workers than there were, too."""
    every = {each.name: each for each in curves.curves(curves.QUICK)}
    last = [replace(every[name], loads=every[name].loads[-1:]) for name in ("width", "payload")]
    found = curves.measure(road, [*last, every["workers"]], rounds=1)
    assert [point.x for point in found["workers"]] == [1, 2]
    assert [point.steps for point in found["width"]] == [20]
    assert all(point.worker_us > 0 for each in found.values() for point in each)
    assert road.workers == 1


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores",
)
def test_model_gives_the_cores_back(road: Road) -> None:
    """Every placement has a rate; afterwards this process may use all its cores."""
    before = os.sched_getaffinity(0)
    found = model.measure(road, drains=1, instances=20)
    assert found.samples.keys() == {placement.name for placement in model.PLACEMENTS}
    assert os.sched_getaffinity(0) == before


def test_timers_are_called_once_each_and_never_early(road: Road, tmp_path: Path) -> None:
    """The bench says so itself, or fails; the lag is told, and the file holds every sample."""
    found = timers.measure(road, timers=300, rate=50, seconds=1)
    assert found.numbers["once"] == 50
    assert min(found.samples["lag_ms"]) >= 0
    found.tell(tmp_path / "deep" / "timers.json")
    assert (tmp_path / "deep" / "timers.json").stat().st_size > 1000
