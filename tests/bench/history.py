"""Throughput with a long history: the same drains on empty tables, on full ones, on empty ones.

The history is a real finished instance, multiplied with its contexts, steps and audit entries and
spread over the days before. The CPU per step is compared beside the rate, since a busy machine
moves the rate more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import mean, median
from typing import Final

import click

from tests.bench.figures import Figures, Say, common, conditions_of, started
from tests.bench.multiply import Multiplier
from tests.bench.road import STEPS, Drain, Road

_AGE: Final = timedelta(days=14)
_SEQUENCE: Final = "bench_free"
PHASES: Final = ("empty", "full", "again")


def measure(road: Road, *, steps: int, drains: int, instances: int, say: Say = print) -> Figures:
    """Each phase had so many drains, the middle one beside at least ``steps`` finished steps."""
    found: dict[str, list[Drain]] = {}
    with Multiplier(road.server) as multiplier:
        for phase in PHASES:
            if phase == "full":
                _fill(road, multiplier, steps, say)
            else:
                multiplier.empty()
            say(f"{phase}: warming up")
            road.drain(_SEQUENCE, f"warm-{phase}", max(instances // 3, 20))
            for number in range(drains):
                say(f"{phase}: drain {number + 1} of {drains}")
                drain = road.drain(_SEQUENCE, f"{phase}-{number}", instances)
                found.setdefault(phase, []).append(drain)
    conditions = conditions_of(road, steps=steps, drains=drains, instances=instances)
    samples = {
        phase: [
            {"steps_per_s": d.steps_per_s, "steps": d.steps, "cpu_seconds": d.cpu} for d in each
        ]
        for phase, each in found.items()
    }
    return Figures("history", _numbers(found, steps), conditions, samples)


def _fill(road: Road, multiplier: Multiplier, steps: int, say: Say) -> None:
    template = road.world.begin(_SEQUENCE)
    road.world.ended(template)
    with multiplier.filling():
        multiplier.multiply(
            template, -(-steps // STEPS), age=_AGE,
            progress=lambda done: say(f"{done * STEPS} of {steps} finished steps"),
        )  # fmt: skip
        say("vacuuming")


def _numbers(found: dict[str, list[Drain]], steps: int) -> dict[str, float]:
    rates = {phase: median(d.steps_per_s for d in each) for phase, each in found.items()}
    cost = {
        part: {phase: _cost(each, part) for phase, each in found.items()}
        for part in ("workers", "postgres")
    }
    return {
        "finished_steps": steps,
        **{f"{phase}_steps_per_s": rate for phase, rate in rates.items()},
        "ratio": rates["full"] / mean((rates["empty"], rates["again"])),
        **{f"worker_{phase}_us": us for phase, us in cost["workers"].items()},
        **{f"postgres_{phase}_us": us for phase, us in cost["postgres"].items()},
    }


def _cost(drains: Sequence[Drain], part: str) -> float:
    """CPU microseconds of a part per step: the median."""
    return median(1e6 * d.cpu.get(part, 0.0) / d.steps for d in drains)


@click.command()
@click.option("--steps", default=10_000_000, show_default=True, type=click.IntRange(1000, 10**9))
@click.option("--drains", default=5, show_default=True, type=click.IntRange(1, 100))
@click.option("--instances", default=3000, show_default=True, type=click.IntRange(20, 100_000))
@common
def history(
    *, steps: int, drains: int, instances: int, workers: int, quick: bool, file: Path | None
) -> None:
    """Throughput beside millions of finished steps."""
    if quick:
        steps, drains, instances = 5000, 1, 50
    with started(workers) as (road, say):
        found = measure(road, steps=steps, drains=drains, instances=instances, say=say)
    found.tell(file)
