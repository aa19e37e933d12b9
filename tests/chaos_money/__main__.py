"""``python -m tests.chaos_money``: kills workers at each line where money could move twice.

For every crash point at least so many real processes are killed with SIGKILL, over as many runs as
it takes; then the providers' books are held against the engine's word. Exit status 0 only if no
charge was made twice or lost, every doubt was resolved, and nobody had to look.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.chaos_money.checker import SHOWN, Finding, last_line, quantile
from tests.chaos_money.counts import Counts
from tests.chaos_money.leg import Leg, run
from tests.chaos_money.points import POINTS

KILLS, QUICK_KILLS, CONTROL_KILLS = 1000, 20, 40  # for each point
LEG: Final = 350  # kills in one world
HORIZON_WAVE: Final = 10  # kills between two days
CONTROL: Final = "before_answer"

console: Final = Console(highlight=False)


@click.command()
@click.option("--point", type=click.Choice(list(POINTS)), help="Only this crash point.")
@click.option(
    "--kills", type=click.IntRange(1, 1_000_000), help=f"For each point, {KILLS} unless said."
)
@click.option(
    "--quick", is_flag=True, help=f"All points in one world, {QUICK_KILLS} kills each; not kept."
)
@click.option("--horizon", is_flag=True, help="Keys grow too old while calls are in doubt.")
@click.option("--control", is_flag=True, help="Break the safety: the checker must find damage.")
@click.option("--fresh", is_flag=True, help="Forget what earlier runs have counted.")
@click.option(
    "--ledger",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build/chaos-money"),
    show_default=True,
    help="The folder in which the counts are kept.",
)
@click.option("--seed", type=int, help="Of the lots that are drawn; told at the start.")
def main(
    *,
    point: str | None,
    kills: int | None,
    quick: bool,
    horizon: bool,
    control: bool,
    fresh: bool,
    ledger: Path,
    seed: int | None,
) -> None:
    """Kill workers at each crash point, then hold the providers' books against the engine."""
    points = [point] if point else list(POINTS)
    kills = kills or (CONTROL_KILLS if control else QUICK_KILLS if quick else KILLS)
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    named = CONTROL if control else ", ".join(points)
    console.print(f"{kills} kills each, seed {seed}: {named}")
    if control:
        sys.exit(0 if _control(kills, seed) else 1)
    if quick:
        wave = HORIZON_WAVE if horizon else kills
        found = _run(Leg(dict.fromkeys(points, kills), wave, horizon, seed=seed))
    else:
        name = "horizon.jsonl" if horizon else "counts.jsonl"
        found = _campaign(points, kills, Counts(ledger / name, fresh=fresh), seed, horizon=horizon)
    for each in points:
        _tell(each, found[each])
    for each in points:
        click.echo(last_line(each, found[each], beyond_horizon=horizon))
    sys.exit(0 if all(found[each].holds for each in points) else 1)


def _campaign(
    points: Sequence[str], kills: int, counts: Counts, seed: int, *, horizon: bool
) -> dict[str, Finding]:
    """Leg after leg until every point has its kills; what was found by this run and before."""
    for point in points:
        while (left := kills - counts.of(point).kills) > 0:
            wave = HORIZON_WAVE if horizon else LEG
            leg = Leg({point: min(left, LEG)}, wave, horizon, seed=seed + left)
            began = time.monotonic()
            found = _run(leg)[point]
            counts.keep(point, found, seed=leg.seed, seconds=round(time.monotonic() - began))
            if not found.holds:
                console.print(f"{point}: the run stops at the first damage", style="red")
                return {each: counts.of(each) for each in points}
    return {each: counts.of(each) for each in points}


def _run(leg: Leg, *, keeps: bool = True) -> dict[str, Finding]:
    """What came of a leg. If there was damage, its logs and books are kept for whoever looks."""
    folder = Path(tempfile.mkdtemp(prefix="orch8-chaos-money-"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        tasks = {at: progress.add_task(f"killing {at}", total=n) for at, n in leg.kills.items()}
        try:
            found = run(leg, folder, lambda at: progress.update(tasks[at], advance=1))
        except KeyboardInterrupt:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    if not keeps or all(each.holds for each in found.values()):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.print(f"logs and books are kept in {folder}")
    return found


def _control(kills: int, seed: int) -> bool:
    """Whether the checker finds the damage when one part of the safety is taken away at a time."""
    sound = Leg({CONTROL: kills}, HORIZON_WAVE, seed=seed)
    lies = _run(replace(sound, lies=True), keeps=False)[CONTROL]
    click.echo(f"chaos-money-control: lying read handlers, duplicates={lies.duplicates}")
    open_ = _run(replace(sound, fenced=False), keeps=False)[CONTROL]
    click.echo(f"chaos-money-control: no fences, overlaps={open_.overlaps}")
    old = _run(replace(sound, key_ttl="10d", beyond_horizon=True), keeps=False)[CONTROL]
    click.echo(f"chaos-money-control: keys thought to last, duplicates={old.duplicates}")
    return bool(lies.duplicates and open_.overlaps and old.duplicates)


def _tell(point: str, found: Finding) -> None:
    for problem in found.problems[:SHOWN]:
        console.print(f"{point}: {problem}", style="red", markup=False, soft_wrap=True)
    how = ", ".join(f"{count} by {name}" for name, count in found.resolved_by.most_common())
    median, p95 = quantile(found.took, 0.5), quantile(found.took, 0.95)
    console.print(
        f"{point}: {len(found.took)} doubts ({how or 'none'}), to resolution median {median:.1f} s,"
        f" p95 {p95:.1f} s; {found.declined} declined",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
