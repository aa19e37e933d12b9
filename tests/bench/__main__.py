"""``python -m tests.bench [COMMAND]``: what orch8 does on this machine; if not told what, the road.

Each command ends with a line of figures for programs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from tests.bench import (
    ceiling,
    creations,
    curves,
    fanout,
    history,
    interactive,
    latency,
    limiter,
    model,
    overhead,
    soak,
    statements,
    strictness,
    timers,
)
from tests.bench.conditions import conditions
from tests.bench.figures import PREFIX
from tests.bench.report import Results, last_line, show
from tests.bench.road import SEQUENCES, Road


class Benches(click.Group):
    """The commands; the one that is named may stand anywhere, and ``road`` need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The words with the command in front."""
        at = next((n for n, word in enumerate(args) if word in self.commands), None)
        if at is not None:
            args = [args[at], *args[:at], *args[at + 1 :]]
        elif "--help" not in args:
            args = ["road", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Benches)
def main() -> None:
    """Measure what orch8 does on this machine."""


@main.command()
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--instances", default=3000, show_default=True, type=click.IntRange(10, 100_000))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16))
@click.option("--quick", is_flag=True, help="One short run: does it work at all?")
@click.option("--profile", is_flag=True, help="Show the time by thread and statement.")
def road(*, runs: int, instances: int, workers: int, quick: bool, profile: bool) -> None:
    """Throughput, start latency and their ceiling; see tests/bench/report.py for the words."""
    console = Console()
    runs, instances = (1, 300) if quick else (runs, instances)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        results = _road(Path(folder), runs, instances, workers, console)
    show(results, console, profile=profile)
    click.echo(last_line(results.numbers()))


@main.command("interactive")
@click.option("--backlog", default=100_000, show_default=True, type=click.IntRange(200, 200_000))
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(5, 3600))
def behind(*, backlog: int, seconds: int) -> None:
    """How long customers wait behind a backlog of the same key."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        sys.exit(_interactive(Path(folder), backlog, seconds, Console()))


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


for command in (
    creations.creations,
    curves.command,
    fanout.command,
    history.history,
    latency.latency,
    limiter.limiter,
    model.command,
    overhead.overhead,
    soak.soak,
    timers.timers,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
