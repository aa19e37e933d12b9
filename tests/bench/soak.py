"""Half an hour at full load: whether memory grows, and what a transaction that stays open costs.

Drain follows drain. In the middle third somebody reads in a transaction that stays open, so that
nothing which died meanwhile can be cleaned up. Memory is the resident set, every few seconds; its
slope is a straight line through the last two thirds. The samples depend on each other, so the
interval around the slope is too narrow, if anything.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from types import TracebackType
from typing import Final, Self

import click
import psycopg2

from orch8.dev.postgres import ADMIN, EmbeddedPostgres
from tests.bench import cpu
from tests.bench.figures import Figures, Say, common, conditions_of, started
from tests.bench.road import Drain, Road

_EVERY: Final = 10.0  # seconds between two samples of memory
_SEQUENCE: Final = "bench_free"
_CONFIDENT: Final = 1.96  # standard errors around a slope in which it is with 95 %


@dataclass(frozen=True, slots=True)
class Window:
    """One drain: when it began, in minutes, in which phase it was, and how it went."""

    at: float
    phase: str  # before, held, after: the transaction is open in the middle one
    drain: Drain


@dataclass(frozen=True, slots=True)
class Slope:
    """KB per minute, and how much more or less it may be."""

    per_minute: float
    either_way: float


class Memory(threading.Thread):
    """Samples of each process's resident memory, taken while the block runs."""

    def __init__(self, road: Road, every: float) -> None:
        super().__init__(name="memory", daemon=True)
        self.samples: dict[str, list[tuple[float, float]]] = {}  # minutes, KB
        self._road, self._every = road, every
        self._ended = threading.Event()
        self._began = time.monotonic()

    def minutes(self) -> float:
        """How long it has been running."""
        return (time.monotonic() - self._began) / 60

    def run(self) -> None:
        while not self._ended.wait(self._every):
            minutes = self.minutes()
            for process in self._road.world.stack.processes:
                if process.pid and process.name not in {"postgres", "redis"}:
                    kb = cpu.resident([process.pid]) / 1024
                    self.samples.setdefault(process.name, []).append((minutes, kb))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        self._ended.set()
        self.join()


def slope(samples: Sequence[tuple[float, float]]) -> Slope:
    """The straight line through (minutes, KB) by least squares; of fewer than three it is flat."""
    if len(samples) < 3:
        return Slope(0.0, math.inf)
    middle = fmean(at for at, _ in samples)
    level = fmean(kb for _, kb in samples)
    width = sum((at - middle) ** 2 for at, _ in samples)
    rise = sum((at - middle) * (kb - level) for at, kb in samples) / width
    left = sum((kb - level - rise * (at - middle)) ** 2 for at, kb in samples)
    return Slope(rise, _CONFIDENT * math.sqrt(left / (len(samples) - 2) / width))


def last_two_thirds(samples: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The samples after the first third of the time."""
    start = samples[-1][0] / 3
    return [sample for sample in samples if sample[0] >= start]


def measure(
    road: Road, *, minutes: float, held: float, instances: int, every: float = _EVERY,
    say: Say = print,
) -> Figures:  # fmt: skip
    """Drains for so many minutes, ``held`` of them from the first third on beside the open
    transaction; memory was looked at ``every`` so many seconds.
    """
    road.drain(_SEQUENCE, "warm-soak", instances)
    windows: list[Window] = []
    phases = (("before", minutes / 3), ("held", minutes / 3 + held), ("after", minutes))
    with Memory(road, every) as memory:
        for phase, until in phases:
            say(f"{minutes:g} minutes of drains: {phase}")
            with _transaction(road.server, wanted=phase == "held"):
                while not windows or windows[-1].phase != phase or memory.minutes() < until:
                    at, number = memory.minutes(), len(windows)
                    drain = road.drain(_SEQUENCE, f"soak-{number}", instances)
                    windows.append(Window(at, phase, drain))
    conditions = conditions_of(road, minutes=minutes, held=held, instances=instances)
    slopes = {name: slope(last_two_thirds(each)) for name, each in memory.samples.items()}
    samples = {
        "memory_kb": memory.samples,
        "slopes_kb_per_min": {
            name: (each.per_minute, each.either_way) for name, each in slopes.items()
        },
        "windows": [
            {
                "at": w.at, "phase": w.phase, "steps_per_s": w.drain.steps_per_s,
                "steps": w.drain.steps, "cpu_seconds": w.drain.cpu,
            }
            for w in windows
        ],
    }  # fmt: skip
    return Figures("soak", _numbers(windows, slopes), conditions, samples)


def _numbers(windows: Sequence[Window], slopes: dict[str, Slope]) -> dict[str, float]:
    free = median(w.drain.steps_per_s for w in windows if w.phase != "held")
    held = [w.drain.steps_per_s for w in windows if w.phase == "held"]
    last = held[-max(len(held) // 4, 1) :]  # when most lies about that cannot be cleaned up
    numbers = {
        "windows": len(windows), "steps": sum(w.drain.steps for w in windows),
        "free_steps_per_s": free, "held_steps_per_s": median(held),
        "held_ratio": median(held) / free, "held_end_ratio": median(last) / free,
    }  # fmt: skip
    for name, each in sorted(slopes.items()):
        word = name.replace("-", "_")
        numbers[f"{word}_kb_per_min"] = each.per_minute
        numbers[f"{word}_either_way_kb_per_min"] = each.either_way
    return numbers


@contextmanager
def _transaction(server: EmbeddedPostgres, *, wanted: bool) -> Iterator[None]:
    """Somebody has read and not ended the transaction inside the block, if it is ``wanted``."""
    if not wanted:
        yield
        return
    with closing(psycopg2.connect(server.url_for(ADMIN))) as connection:
        connection.set_session(isolation_level="REPEATABLE READ")
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM instances")
            yield
        connection.rollback()


@click.command()
@click.option("--minutes", default=30.0, show_default=True, type=click.FloatRange(0.1, 1440))
@click.option("--held", default=10.0, show_default=True, type=click.FloatRange(0.03, 480))
@click.option("--instances", default=3000, show_default=True, type=click.IntRange(20, 100_000))
@common
def soak(
    *, minutes: float, held: float, instances: int, workers: int, quick: bool, file: Path | None
) -> None:
    """Memory over half an hour, and throughput beside a transaction that stays open."""
    every = _EVERY
    if quick:
        minutes, held, instances, every = 0.1, 0.03, 20, 0.5
    if held > minutes * 2 / 3:
        raise click.BadParameter("must be at most two thirds of --minutes", param_hint="--held")
    with started(workers) as (road, say):
        found = measure(road, minutes=minutes, held=held, instances=instances, every=every, say=say)
    found.tell(file)
