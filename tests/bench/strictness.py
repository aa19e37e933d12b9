"""The limiter's strictness: eight workers, one key, a backlog; judged by the provider's clock.

Two numbers: the most calls that the provider saw in any sliding window, which must never be above
the limit, and the utilisation: calls seen by the provider / (time * max / (window + slack)), while
there was a backlog: from one window after the first call, whose tokens come in a burst, until two
windows of calls were left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.bench import load
from tests.bench.arrivals import fullest, last_windows, utilisation
from tests.bench.road import CONNECTIONS, Road, sequence
from tests.support.stack import Client

MAX, WINDOW, SLACK = 95, 1.0, 0.02
WORKERS = 8
UTILISATION = 0.98  # at least, on a machine that has nothing else to do


@dataclass(frozen=True, slots=True)
class Strictness:
    """What the provider saw."""

    maximum: int
    calls: int
    peak: int  # calls in the fullest window
    utilisation: float  # about 1 at most, if the limit was kept
    deferrals: int = 0  # the most that one step was sent back to its queue
    idle: float = 0.0  # share of the machine's time that nobody used meanwhile


def measure(folder: Path, backlog: int, maximum: int = MAX, slack: float = SLACK) -> Strictness:
    """A backlog of one-step instances has been worked off under ``maximum`` calls per second, each
    of which may take ``slack`` seconds from its token to the provider.
    """
    road = Road(folder, workers=WORKERS)
    with road.world, closing(Client(road.world.handlers.url)) as handler:
        road.world.client.put("/rate-limits/strict", window(maximum, slack))
        road.world.publish(sequence("strict", {"rate_limit_key": "strict"}, steps=1))
        handler.send("PUT", "/record", {})
        keys = [f"strict-{number}" for number in range(backlog)]
        with road.stopped_workers():
            load.create_all(road.world.stack.urls.http, "bench_strict", keys, CONNECTIONS)
        began, idle = time.monotonic(), idle_seconds()
        road.wait_drained(60 + 2 * backlog / maximum * (WINDOW + slack))
        spare = (idle_seconds() - idle) / (time.monotonic() - began) / (os.cpu_count() or 1)
        (found,) = road.world.rows("SELECT max(deferrals) AS most FROM steps")
        arrivals = [at for at, _ in handler.get("/arrivals")]
        busy = under_backlog(arrivals, maximum, slack)
        return Strictness(
            maximum, len(arrivals), peak(arrivals), busy, deferrals=found["most"], idle=spare
        )


def window(maximum: int, slack: float) -> dict[str, float]:
    """The body that states a limit of so many calls a window."""
    return {"max": maximum, "window_seconds": WINDOW, "slack_seconds": slack}


def peak(arrivals: Sequence[float], window: float = WINDOW) -> int:
    """The most of a series of arrivals, in seconds and ascending, that lie in any one window."""
    return fullest([(at, 1) for at in arrivals], window)


def under_backlog(arrivals: Sequence[float], maximum: int, slack: float = SLACK) -> float:
    """The share of the limit that a series of arrivals used while there was a backlog."""
    calls = [(at, 1) for at in arrivals]
    period = WINDOW + slack
    span = arrivals[0] + period, last_windows(calls, 2 * maximum)
    return utilisation(calls, [span], maximum / period)


def idle_seconds() -> float:
    """For how many seconds the machine's cores have been idle since it was started; 0 where that is
    not told.
    """
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return 0.0
    return int(first.split()[4]) / os.sysconf("SC_CLK_TCK")
