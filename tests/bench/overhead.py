"""What the engine adds to a step at low load, the handler's own time left out.

For two steps that follow each other in an instance it is the time from the handler's answer to the
first until the arrival of the second at the handler, both by the handler's clock. So it holds all
that is not the handler: both ways on the wire, reading the answer, the transition and its commit
to disk, the claim of the next step, its request. The handler measures its own time from a call's
arrival until its answer is handed to the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

import click

from tests.bench import load
from tests.bench.figures import Figures, common, conditions_of, spread, started
from tests.bench.road import LATENCY_RATE, STEPS, Road
from tests.support.stack import Client

_SEQUENCE: Final = "bench_free"
_WARM: Final = 100

Visit = tuple[float, float, str]  # arrival, answer, instance; seconds of one clock


def gaps(visits: Iterable[Visit]) -> list[float]:
    """Milliseconds from the answer of each step to the arrival of the next of its instance."""
    answered: dict[str, float] = {}
    found: list[float] = []
    for arrived_at, answered_at, instance_id in visits:
        if instance_id in answered:
            found.append(1000 * (arrived_at - answered[instance_id]))
        answered[instance_id] = answered_at
    return found


def measure(road: Road, *, rate: float, seconds: float) -> Figures:
    """``rate`` instances of five steps were started each second. RuntimeError if a step's call is
    missing or came twice.
    """
    road.drain(_SEQUENCE, "warm-overhead", _WARM)
    with closing(Client(road.world.handlers.url, timeout=60.0)) as handler:
        handler.send("PUT", "/record", {})
        url = road.world.stack.urls.http
        made = load.create_paced(url, _SEQUENCE, "low", rate, seconds)
        road.wait_drained()
        visits: list[Visit] = [(at, end, of) for at, end, of in handler.get("/visits")]
    if len(visits) != STEPS * len(made):
        raise RuntimeError(f"{len(made)} instances of {STEPS} steps made {len(visits)} calls")
    added, own = gaps(visits), [1e6 * (end - at) for at, end, _ in visits]
    numbers = {
        "starts_per_s": rate, "steps": len(visits), **spread("overhead", added),
        "handler_p50_us": median(own),
    }  # fmt: skip
    conditions = conditions_of(road, rate=rate, seconds=seconds)
    return Figures("overhead", numbers, conditions, {"overhead_ms": added, "handler_us": own})


@click.command()
@click.option("--rate", default=LATENCY_RATE, show_default=True, type=click.FloatRange(0.1, 1000))
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(0.5, 3600))
@common
def overhead(*, rate: float, seconds: float, workers: int, quick: bool, file: Path | None) -> None:
    """What the engine adds to a step at low load."""
    seconds = 2.0 if quick else seconds
    with started(workers) as (road, say):
        say(f"{rate:g} starts a second for {seconds:g} s")
        found = measure(road, rate=rate, seconds=seconds)
    found.tell(file)
