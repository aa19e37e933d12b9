"""The limiter's strictness: four workers, one key, a backlog; judged by the provider's clock.

Two numbers: the most calls that the provider saw in any sliding window, which must never be above
the limit, and the utilisation: the shortest time in which the limit and its slack allow so many
calls, as a share of the time that they took.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.bench import load
from tests.bench.road import CONNECTIONS, Road, sequence
from tests.support.stack import Client

MAX, WINDOW, SLACK = 95, 1.0, 0.02
WORKERS = 4
UTILISATION = 0.95  # at least, on a machine that has nothing else to do


@dataclass(frozen=True, slots=True)
class Strictness:
    """What the provider saw."""

    maximum: int
    calls: int
    peak: int  # calls in the fullest window
    utilisation: float  # at most 1, if the limit was kept

    @property
    def holds(self) -> bool:
        """Whether the limit was kept and at least 95 % of it used."""
        return self.peak <= self.maximum and self.utilisation >= UTILISATION


def measure(folder: Path, backlog: int, maximum: int = MAX) -> Strictness:
    """A backlog of one-step instances has been worked off under ``maximum`` calls per second."""
    road = Road(folder, workers=WORKERS)
    with road.world, closing(Client(road.world.handlers.url)) as handler:
        limit = {"max": maximum, "window_seconds": WINDOW}
        members = {"rate_limit_key": "strict", "rate_limit": limit}
        road.world.publish(sequence("strict", members, steps=1))
        handler.send("PUT", "/record", {})
        keys = [f"strict-{number}" for number in range(backlog)]
        with road.stopped_workers():
            load.create_all(road.world.stack.urls.http, "bench_strict", keys, CONNECTIONS)
        road.wait_drained(60 + 2 * backlog / maximum * (WINDOW + SLACK))
        return judge([at for at, _ in handler.get("/arrivals")], maximum)


def judge(
    arrivals: Sequence[float], maximum: int, window: float = WINDOW, slack: float = SLACK
) -> Strictness:
    """The peak and the utilisation of a series of arrivals, in seconds and ascending."""
    inside: deque[float] = deque()
    peak = 0
    for at in arrivals:
        inside.append(at)
        while inside[0] <= at - window:
            inside.popleft()
        peak = max(peak, len(inside))
    ideal = (len(arrivals) - 1) // maximum * (window + slack)
    return Strictness(maximum, len(arrivals), peak, ideal / max(arrivals[-1] - arrivals[0], 1e-6))
