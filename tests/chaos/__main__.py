"""``python -m tests.chaos``: kills processes under a load of dunning instances, then counts.

Most kills hit pump processes forked from a preloaded parent, since those cost next to nothing to
replace; the others hit real Celery workers, the API, the control worker, beat, and, unless
``--no-servers``, Postgres and Redis. Exit status 0 only if no charge was made twice or lost and no
instance is stuck.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orch8.dev.stack import StackOptions
from orch8.testing.ledger import Replay
from tests.chaos import load, verdict
from tests.chaos.forks import Forks
from tests.chaos.victims import Killer, plan, told
from tests.support.stack import QUICK, ProviderProcess, World, until

LANE = "renewal"
WORKERS, WIDTH, TICK = 2, 4, 0.25
FORKS = 5
LATENCY_MS = 300  # of the provider: so that most kills find calls in flight
DRAINED_WITHIN = 180.0  # seconds


@click.command()
@click.option("--kills", default=1000, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--rate", default=8.0, show_default=True, help="Kills per second.")
@click.option("--load", "per_second", default=25.0, show_default=True, help="Instances per second.")
@click.option("--servers/--no-servers", default=True, help="Also kill Postgres and Redis.")
@click.option("--seed", type=int, help="Of the lots that are drawn; told at the start.")
@click.option("--no-keys", is_flag=True, help="The provider ignores idempotency keys: must fail.")
@click.option("--quick", is_flag=True, help="Twenty kills.")
def main(
    *,
    kills: int,
    rate: float,
    per_second: float,
    servers: bool,
    seed: int | None,
    no_keys: bool,
    quick: bool,
) -> None:
    """Kill processes and servers at random, then count the charges."""
    console = Console()
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    kills = 20 if quick else kills
    console.print(f"{kills} kills, {rate:g} a second, seed {seed}", highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="orch8-chaos-"))
    replay = Replay.NONE if no_keys else Replay.FIRST_RESULT
    provider = ProviderProcess(
        folder,
        *("--latency-ms", str(LATENCY_MS), "--seed", str(seed % 2**31), "--replay", replay.name),
    )
    world = World(
        folder,
        provider,
        settings={**QUICK, "ORCH8_LOG_LEVEL": "WARNING"},
        options=StackOptions(workers=WORKERS, width=WIDTH, tick=TICK, durable=True),
    )
    chance = random.Random(seed)
    with world:
        killer, found = _run(world, plan(kills, chance, servers=servers), rate, per_second, chance)
    console.print(f"killed: {', '.join(told(killer.killed))}", highlight=False)
    console.print(
        f"{found.instances} instances, {found.requests} requests, {found.declined} declines; "
        f"{found.kills_in_flight} kills left {found.claims_taken_back} claims in doubt",
        highlight=False,
    )
    for problem in found.problems[: verdict.SHOWN]:
        console.print(problem, style="red", markup=False, highlight=False)
    if not found.holds:
        console.print(f"logs and ledger are kept in {folder}", highlight=False)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(found.last_line(killer.kills))
    sys.exit(0 if found.holds else 1)


def _run(
    world: World[ProviderProcess],
    victims: list[str],
    rate: float,
    per_second: float,
    chance: random.Random,
) -> tuple[Killer, verdict.Verdict]:
    world.publish(load.definition())
    world.handlers.script(*load.HOSTILITY)
    world.client.post("/clock", {"rate": load.CLOCK_RATE})
    feeder = load.Feeder(world, per_second)
    with (
        _progress() as progress,
        Forks(world.stack.env, LANE, FORKS, world.stack.logs / "forks.log") as forks,
    ):
        killer = Killer(world, forks, WORKERS, chance)
        feeder.start()
        task = progress.add_task("killing", total=len(victims))
        for victim in victims:
            time.sleep(min(chance.expovariate(rate), 10 / rate))
            killer.strike(victim)
            progress.update(task, advance=1, description=f"killing  {victim:<14}")
        feeder.stop()
        progress.update(task, description="waiting for the last")
        world.handlers.script(*(r for r in load.HOSTILITY if r["do"] == "decline"))
        _wait_for_the_last(world)
    return killer, verdict.judge(world, feeder.accepted)


def _wait_for_the_last(world: World[ProviderProcess]) -> None:
    """Every instance has come to an end, or has had the time to."""
    try:
        until(lambda: verdict.unfinished(world) == 0, DRAINED_WITHIN, "all end", poll=0.5)
    except AssertionError:
        return  # the verdict tells which are stuck


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )


if __name__ == "__main__":
    main()
