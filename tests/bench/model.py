"""The model of deploy/docs/scale.md, checked on the cores that are here.

The model: each part needs so many CPU microseconds per step, a core gives a million a second, and
the group of cores that is full first sets the rate. The costs are measured with everything on all
cores; then parts are pinned to cores of their own, and the rate is held against the prediction.
Beside them stands what a step writes: bytes of log and of tables, and commits, each with its share
of its instance's creation.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import click

from tests.bench import cpu
from tests.bench.figures import Figures, Say, common, conditions_of, started
from tests.bench.road import Drain, Road

_SEQUENCE: Final = "bench_free"
_MILLION: Final = 1e6  # CPU microseconds that a core gives in a second


@dataclass(frozen=True, slots=True)
class Group:
    """Parts that share some of the cores, by their numbers from 0; no parts: all the others."""

    parts: frozenset[str]
    cores: frozenset[int]


@dataclass(frozen=True, slots=True)
class Placement:
    """Which parts run on which cores."""

    name: str
    groups: Sequence[Group]


_WRITTEN: Final = """
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 AS wal_bytes,
       pg_database_size(current_database())::float8 AS disk_bytes,
       (SELECT sum(xact_commit) FROM pg_stat_database
        WHERE datname = current_database())::float8 AS commits
"""

BOTH, FIRST, SECOND = frozenset({0, 1}), frozenset({0}), frozenset({1})
OTHERS: Final = frozenset[str]()
PLACEMENTS: Final = (
    Placement("all_on_two", (Group(OTHERS, BOTH),)),
    Placement("all_on_one", (Group(OTHERS, FIRST),)),
    Placement(
        "workers_apart", (Group(frozenset({"workers"}), FIRST), Group(OTHERS, SECOND))
    ),
    Placement(
        "postgres_apart", (Group(frozenset({"postgres"}), SECOND), Group(OTHERS, FIRST))
    ),
)  # fmt: skip


def predicted(costs: Mapping[str, float], placement: Placement) -> float:
    """Steps per second when the first group of cores is full; ``costs`` are microseconds per step
    by part.
    """
    named = frozenset[str]().union(*(group.parts for group in placement.groups))
    spent = [
        (sum(us for part, us in costs.items() if part in (group.parts or costs.keys() - named)),
         len(group.cores))
        for group in placement.groups
    ]  # fmt: skip
    return min(_MILLION * cores / us for us, cores in spent if us > 0)


def place(road: Road, placement: Placement, cores: Sequence[int]) -> None:
    """Each thread of the road's parts runs on the cores that the placement says; ``cores`` are
    those that this process may use, and thread and process that come later inherit.
    """
    threads = cpu.threads(road.parts())
    named = frozenset[str]().union(*(group.parts for group in placement.groups))
    for group in placement.groups:
        chosen = {cores[number] for number in group.cores}
        for part in group.parts or threads.keys() - named:
            _pin(threads[part], chosen)


def measure(road: Road, *, drains: int, instances: int, say: Say = print) -> Figures:
    """So many drains in each placement. RuntimeError if there are fewer than two cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise RuntimeError("the model is checked on Linux, on two cores that this process may use")
    found: dict[str, list[Drain]] = {}
    try:
        road.drain(_SEQUENCE, "warm-model", instances)
        before = road.world.rows(_WRITTEN)[0]
        for placement in PLACEMENTS:
            place(road, placement, cores)
            for number in range(drains):
                say(f"{placement.name}: drain {number + 1} of {drains}")
                drain = road.drain(_SEQUENCE, f"{placement.name}-{number}", instances)
                found.setdefault(placement.name, []).append(drain)
        after = road.world.rows(_WRITTEN)[0]
    finally:
        place(road, PLACEMENTS[0], cores)
    costs = costs_of(found[PLACEMENTS[0].name])
    numbers: dict[str, float] = {f"{_word(part)}_us": us for part, us in costs.items()}
    steps = sum(drain.steps for each in found.values() for drain in each)
    numbers |= {f"{name}_per_step": (after[name] - before[name]) / steps for name in after}
    for placement in PLACEMENTS:
        rate = median(d.steady_per_s for d in found[placement.name])
        guess = predicted(costs, placement)
        numbers[f"{placement.name}_predicted_per_s"] = guess
        numbers[f"{placement.name}_steps_per_s"] = rate
        numbers[f"{placement.name}_ratio"] = rate / guess
    samples = {
        name: [
            {"steady_per_s": d.steady_per_s, "steps": d.steps, "cpu_seconds": d.cpu} for d in each
        ]
        for name, each in found.items()
    }
    conditions = conditions_of(road, drains=drains, instances=instances)
    return Figures("model", numbers, conditions, samples)


def costs_of(drains: Iterable[Drain]) -> dict[str, float]:
    """CPU microseconds per step of each part: medians."""
    drains = list(drains)
    parts = sorted({part for drain in drains for part in drain.cpu})
    return {part: median(1e6 * d.cpu.get(part, 0.0) / d.steps for d in drains) for part in parts}


def _pin(threads: Iterable[int], cores: set[int]) -> None:
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(thread, cores)


def _word(part: str) -> str:
    return part.replace(",", "").replace(" ", "_")


@click.command("model")
@click.option("--drains", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option("--instances", default=3000, show_default=True, type=click.IntRange(20, 100_000))
@common
def command(*, drains: int, instances: int, workers: int, quick: bool, file: Path | None) -> None:
    """The model of deploy/docs/scale.md against the rate, parts pinned to cores."""
    drains, instances = (1, 50) if quick else (drains, instances)
    with started(workers) as (road, say):
        found = measure(road, drains=drains, instances=instances, say=say)
    found.tell(file)
