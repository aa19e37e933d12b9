"""``python -m tests.bench``: measures the whole road, how strict the limiter is, or how long
customers wait behind a backlog.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from tests.bench import ceiling, interactive, statements, strictness
from tests.bench.conditions import conditions
from tests.bench.report import Results, last_line, show
from tests.bench.road import SEQUENCES, Road

_PREFIX = "orch8-bench-"


@click.command()
@click.argument("what", type=click.Choice(["road", "limiter", "interactive"]), default="road")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--instances", default=3000, show_default=True, type=click.IntRange(10, 100_000))
@click.option("--backlog", default=5000, show_default=True, type=click.IntRange(200, 200_000))
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(5, 3600))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16))
@click.option("--quick", is_flag=True, help="One short run: does it work at all?")
@click.option("--profile", is_flag=True, help="Show the time by thread and statement.")
def main(
    what: str,
    runs: int,
    instances: int,
    backlog: int,
    seconds: int,
    workers: int,
    quick: bool,
    profile: bool,
) -> None:
    """Measure what orch8 does on this machine; see tests/bench/report.py for the words."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        if what == "limiter":
            sys.exit(_limiter(Path(folder), 300 if quick else backlog, console))
        if what == "interactive":
            sys.exit(_interactive(Path(folder), backlog, 10 if quick else seconds, console))
        runs, instances = (1, 300) if quick else (runs, instances)
        results = _road(Path(folder), runs, instances, workers, console)
    show(results, console, profile=profile)
    click.echo(last_line(results.numbers()))


def _road(folder: Path, runs: int, instances: int, workers: int, console: Console) -> Results:
    seconds = 15 if instances >= 1000 else 3
    road = Road(folder, workers=workers)
    results = Results(conditions(road.world.stack.environ, workers))
    with (
        console.status("starting Postgres, Redis, API, workers, beat, handler") as status,
        road.world,
    ):
        server = road.world.stack.postgres
        assert server is not None
        ceiling.prepare(server)
        road.publish()
        status.update("warming up")
        for name in SEQUENCES:
            road.drain(f"bench_{name}", f"warm-{name}", max(instances // 10, 50))
        for run in range(1, runs + 1):
            at = f"run {run} of {runs}: "
            statements.forget(server)
            for name in SEQUENCES:
                status.update(f"{at}{instances} instances, steps: {name}")
                drain = road.drain(f"bench_{name}", f"{name}-{run}", instances)
                results.drains.setdefault(name, []).append(drain)
                if name == "free":
                    results.statements = statements.busiest(server)
            status.update(f"{at}start latency, 20 starts/s for {seconds} s")
            asked, answered = road.start_latencies(f"start-{run}", seconds)
            results.asked.append(asked)
            results.answered.append(answered)
            status.update(f"{at}pgbench, {ceiling.CLIENTS} clients")
            results.ceilings.append(ceiling.measure(server, folder, max(seconds // 3, 2)))
    return results


def _limiter(folder: Path, backlog: int, console: Console) -> int:
    words = f"{strictness.WORKERS} workers, {backlog} calls, {strictness.MAX} per second"
    with console.status(words):
        found = strictness.measure(folder, backlog)
    click.echo(
        f"limiter: calls={found.calls} max={strictness.MAX} peak={found.peak} "
        f"utilisation={found.utilisation:.3f} deferrals={found.deferrals} idle={found.idle:.2f}"
    )
    return 0 if found.holds else 1


def _interactive(folder: Path, backlog: int, seconds: int, console: Console) -> int:
    words = f"{interactive.RATE:g} customers/s for {seconds} s behind {backlog} renewals"
    with console.status(words):
        found = interactive.measure(folder, backlog, seconds)
    p50, p99 = (1000 * interactive.percentile(found.waits, share) for share in (0.5, 0.99))
    click.echo(
        f"interactive: customers={len(found.waits)} p50_ms={p50:.0f} p99_ms={p99:.0f} "
        f"max_ms={1000 * found.waits[-1]:.0f} renewals_per_s={found.renewals_per_s:.1f} "
        f"max={strictness.MAX} peak={found.peak} deferrals={found.deferrals} idle={found.idle:.2f}"
    )
    return 0 if found.holds else 1


if __name__ == "__main__":
    main()
