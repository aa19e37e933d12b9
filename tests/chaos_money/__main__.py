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
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.chaos_money.checker import SHOWN, Finding, last_line, quantile
from tests.chaos_money.counts import Counts
from tests.chaos_money.leg import Leg, run
from tests.chaos_money.points import POINTS

LEG: Final = 250  # kills in one world
QUICK: Final = 20
HORIZON_WAVE: Final = 10  # kills between two days
CONTROL: Final = "before_answer"

console: Final = Console(highlight=False)


@click.command()
@click.option("--point", type=click.Choice(list(POINTS)), help="Only this crash point.")
@click.option("--kills", default=1000, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--quick", is_flag=True, help=f"{QUICK} kills for each point, in one world.")
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
    kills: int,
    quick: bool,
    horizon: bool,
    control: bool,
    fresh: bool,
    ledger: Path,
    seed: int | None,
) -> None:
    """Kill workers at each crash point, then hold the providers' books against the engine."""
    points = [point] if point else list(POINTS)
    kills = QUICK if quick and kills == 1000 else kills
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    console.print(f"{kills} kills for each of {len(points)} points, seed {seed}")
    if control:
        sys.exit(0 if _control(min(kills, 60), seed) else 1)
    if quick:
        leg = Leg(
            dict.fromkeys(points, kills), HORIZON_WAVE if horizon else kills, horizon, seed=seed
        )
        found = _run(leg)
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
            found = _run(leg)[point]
            counts.keep(point, found, seed=leg.seed)
            if not found.holds:
                console.print(f"{point}: the run stops at the first damage", style="red")
                return {each: counts.of(each) for each in points}
    return {each: counts.of(each) for each in points}


def _run(leg: Leg) -> dict[str, Finding]:
    """What came of a leg. Logs and books are kept if there was damage."""
    folder = Path(tempfile.mkdtemp(prefix="orch8-chaos-money-"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        tasks = {at: progress.add_task(f"killing {at}", total=n) for at, n in leg.kills.items()}
        found = run(leg, folder, lambda at: progress.update(tasks[at], advance=1))
    if all(each.holds for each in found.values()):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.print(f"logs and books are kept in {folder}")
    return found


def _control(kills: int, seed: int) -> bool:
    """Whether the checker finds the damage of a read handler that lies, and of missing fences."""
    lied = _run(Leg({CONTROL: kills}, kills, lies=True, seed=seed))[CONTROL]
    click.echo(f"chaos-money-control: lies kills={lied.kills} duplicates={lied.duplicates}")
    open_ = _run(Leg({CONTROL: kills}, kills, fenced=False, seed=seed))[CONTROL]
    click.echo(f"chaos-money-control: no fences kills={open_.kills} overlaps={open_.overlaps}")
    return lied.duplicates > 0 and open_.overlaps > 0


def _tell(point: str, found: Finding) -> None:
    for problem in found.problems[:SHOWN]:
        console.print(f"{point}: {problem}", style="red", markup=False)
    how = ", ".join(f"{count} by {name}" for name, count in found.resolved_by.most_common())
    median, p95 = quantile(found.took, 0.5), quantile(found.took, 0.95)
    console.print(
        f"{point}: {len(found.took)} doubts ({how or 'none'}), to resolution median {median:.1f} s,"
        f" p95 {p95:.1f} s; {found.declined} declined"
    )


if __name__ == "__main__":
    main()
