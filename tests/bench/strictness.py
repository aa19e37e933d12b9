"""The limiter's strictness: four worker processes, one key, a backlog; judged by the provider's clock.

Two numbers: the most calls that the provider saw in any sliding window, which must never be above
the limit, and the rate in the steady part as a share of max / (window + slack).
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


@dataclass(frozen=True, slots=True)
class Strictness:
    """What the provider saw."""

    calls: int
    peak: int  # calls in the fullest window
    utilisation: float  # of max / (window + slack), without the first and the last window

    @property
    def holds(self) -> bool:
        """Whether the limit was kept and at least 95 % of it used."""
        return self.peak <= MAX and self.utilisation >= 0.95


def measure(folder: Path, backlog: int) -> Strictness:
    """A backlog of one-step instances has been worked off under the limit."""
    road = Road(folder, workers=WORKERS)
    with road.world, closing(Client(road.world.handlers.url)) as handler:
        road.world.publish(sequence("strict", steps=1, limit=MAX))
        handler.send("PUT", "/record", {})
        keys = [f"strict-{number}" for number in range(backlog)]
        with road.stopped_workers():
            load.create_all(road.world.stack.urls.http, "strict", keys, CONNECTIONS)
        road.wait_drained(60 + 2 * backlog / MAX * (WINDOW + SLACK))
        return judge([at for at, _ in handler.get("/arrivals")])


def judge(arrivals: Sequence[float], window: float = WINDOW, slack: float = SLACK) -> Strictness:
    """The peak and the utilisation of a series of arrivals, in seconds and ascending."""
    inside: deque[float] = deque()
    peak = 0
    for at in arrivals:
        inside.append(at)
        while inside[0] <= at - window:
            inside.popleft()
        peak = max(peak, len(inside))
    first, last = arrivals[0] + window + slack, arrivals[-1] - window - slack
    steady = sum(first <= at < last for at in arrivals)
    ideal = MAX / (window + slack) * (last - first)
    return Strictness(len(arrivals), peak, steady / ideal if ideal > 0 else 0.0)
