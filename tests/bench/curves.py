"""What a step costs, against one thing that grows: a curve for each, as JSON and as a picture.

Every point is a load that is worked off completely, on tables that held nothing but its history:
one instance is started over HTTP, then multiplied, while the workers stand still. Costs are CPU
microseconds per step; they move less than the rate on a machine that has other things to do.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import uuid4

import click
import orjson

from tests.bench import cpu, curve_chart
from tests.bench.figures import Figures, Say, common, conditions_of, started
from tests.bench.multiply import Multiplier
from tests.bench.road import STEPS, Road, sequence
from tests.support.stack import creation, until

_SLOWEST: Final = 100.0  # steps per second with which a load is still waited for
_AGE: Final = timedelta(days=14)
_BRANCHES: Final = 250  # of one block parallel; more of them stand in several
_WARM: Final = 200  # instances; after them every worker has imported all that it needs
_READY: Final = 60.0  # seconds in which a worker process has enlisted
_DONE: Final = """
SELECT count(*) AS steps, extract(epoch FROM max(finished_at) - min(finished_at))::float8 AS seconds
FROM steps WHERE instance_id >= %s AND state = 'completed' AND handler NOT LIKE '@%%'
"""
_ENLISTED: Final = """
SELECT EXISTS (SELECT FROM workers WHERE node LIKE %s AND lease_until > clock_timestamp()) AS yes
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What is worked off at the point ``x``: so many instances of so many steps each."""

    x: int
    definition: Mapping[str, Any]
    instances: int
    steps: int = STEPS
    context: Any = None  # None: the one of the seed's own creation call
    history: int = 0  # finished instances of five steps that lie in the tables
    workers: int | None = None  # None: as many as run


@dataclass(frozen=True, slots=True)
class Point:
    """What the load at ``x`` came to: medians over its rounds; microseconds are per step."""

    x: int
    steps: int  # of one round
    steps_per_s: float
    worker_us: float
    postgres_us: float
    redis_us: float

    @property
    def cost_us(self) -> float:
        """Workers and Postgres together."""
        return self.worker_us + self.postgres_us


@dataclass(frozen=True, slots=True)
class Curve:
    """What grows, and the loads of its points."""

    name: str
    title: str  # of the x axis
    loads: Sequence[Load]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How far the curves go: ``size`` instances of five steps at a point, unless it says more."""

    size: int
    counts: Sequence[int]  # of instances in a backlog, and in the history
    widths: Sequence[int] = (1, 10, 100, 1000)
    payloads: Sequence[int] = (100, 1000, 10_000, 100_000)
    workers: Sequence[int] = (1, 2, 4)


QUICK: Final = Sizes(20, (10, 100), widths=(1, 10), payloads=(100, 1000), workers=(1, 2))
USUAL: Final = Sizes(3000, (1000, 10_000, 100_000))
LONG: Final = replace(USUAL, counts=(1000, 10_000, 100_000, 1_000_000))


def curves(sizes: Sizes) -> list[Curve]:
    """Every curve, so far."""
    size = sizes.size
    plain, one = sequence("curve", {}), sequence("one", {}, steps=1)
    return [
        Curve(
            "backlog", "instances of one step that are due at once",
            [Load(n, one, n, 1) for n in sizes.counts],
        ),
        Curve(
            "history", "finished instances of five steps in the tables",
            [Load(n, plain, size, history=n) for n in sizes.counts],
        ),
        Curve(
            "width", "steps of an instance that are under way at a time",
            [Load(n, wide(n), max(size // n, 2), n) for n in sizes.widths],
        ),
        Curve(
            "payload", "bytes of the context, and of each output",
            [
                Load(n, sequence(f"payload_{n}", {"handler": f"bytes-{n}"}),
                     max(min(size, 10_000 * size // n), 5), context=text_of(n))
                for n in sizes.payloads
            ],
        ),
        Curve(
            "workers", "worker processes",
            [Load(n, plain, size, workers=n) for n in sizes.workers],
        ),
    ]  # fmt: skip


def wide(width: int) -> dict[str, Any]:
    """A sequence of so many single steps at once, in blocks parallel of at most 250 branches."""
    steps = [{"type": "step", "handler": f"s{n + 1}"} for n in range(width)]
    blocks = [
        {"type": "parallel", "branches": [[step] for step in steps[at : at + _BRANCHES]]}
        for at in range(0, width, _BRANCHES)
    ]
    block = blocks[0] if len(blocks) == 1 else {
        "type": "parallel", "branches": [[each] for each in blocks]
    }  # fmt: skip
    return {"id": f"bench_wide_{width}", "blocks": [block]}


def text_of(size: int) -> dict[str, Any]:
    """A context of about so many bytes, which no compression makes smaller by much."""
    raw = random.Random(size).randbytes(size * 3 // 4)
    return {"data": {"blob": base64.b64encode(raw).decode()}}


def measure(
    road: Road, wanted: Iterable[Curve], *, rounds: int, say: Say = print
) -> dict[str, list[Point]]:
    """The points of each curve; every load was worked off once before the rounds that count."""
    found: dict[str, list[Point]] = {}
    road.drain("bench_free", "warm-curves", _WARM)
    with Multiplier(road.server) as multiplier:
        for curve in wanted:
            before = road.workers
            for load in curve.loads:
                say(f"{curve.name}: {load.x} {curve.title}")
                found.setdefault(curve.name, []).append(_point(road, multiplier, load, rounds))
            employ(road, before)
    return found


def employ(road: Road, workers: int) -> None:
    """So many worker processes run, and those that are new have worked.

    The others stand still meanwhile, so that there is something left to work on.
    """
    for number in range(workers + 1, road.workers + 1):
        road.world.stack.stop_worker(number)
    road.workers = min(road.workers, workers)
    for number in range(road.workers + 1, workers + 1):
        with road.stopped_workers():
            road.world.stack.start_worker(number)
            road.world.begin("bench_free")
            until(
                lambda name=f"w{number}@%": road.world.rows(_ENLISTED, (name,))[0]["yes"],
                _READY, f"worker {number} has enlisted", poll=0.2,
            )  # fmt: skip
        road.workers = number
    road.wait_drained()


def _point(road: Road, multiplier: Multiplier, load: Load, rounds: int) -> Point:
    multiplier.empty()
    name = road.world.publish(load.definition)
    if load.workers is not None:
        employ(road, load.workers)
    if load.history:
        template = road.world.begin("bench_free")
        road.world.ended(template)
        with multiplier.filling():
            multiplier.multiply(template, load.history, age=_AGE)
    _round(road, multiplier, name, load, instances=max(load.instances // 4, 1))
    found = [_round(road, multiplier, name, load, instances=load.instances) for _ in range(rounds)]
    middle = (median(column) for column in zip(*found, strict=True))
    return Point(load.x, load.steps * load.instances, *middle)


def _round(
    road: Road, multiplier: Multiplier, name: str, load: Load, *, instances: int
) -> tuple[float, float, float, float]:
    """Steps per second; microseconds per step of the workers, Postgres and Redis."""
    body = creation(str(uuid4())) | ({} if load.context is None else {"context": load.context})
    steps = load.steps * instances
    with road.stopped_workers():
        template = road.world.client.post(f"/sequences/{name}/instances", body)["id"]
        multiplier.multiply(template, instances - 1)
        before = cpu.look(road.parts())
    road.wait_drained(60 + steps / _SLOWEST)
    used = cpu.look(road.parts()).since(before)
    (done,) = road.world.rows(_DONE, (template,))
    if done["steps"] != steps:
        raise RuntimeError(f"{steps} steps were to be done, {done['steps']} are")
    per_step = (1e6 * used.get(part, 0.0) / steps for part in ("workers", "postgres", "redis"))
    worker, postgres, redis = per_step
    return steps / max(done["seconds"], 1e-3), worker, postgres, redis


@click.command("curves")
@click.option("--only", multiple=True, help="Only this curve; may be said again.")
@click.option(
    "--long", is_flag=True, help="Up to 1,000,000 instances: twenty minutes, some 10 GB of disk."
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option(
    "--folder", default=Path("build/curves"), show_default=True,
    type=click.Path(file_okay=False, path_type=Path), help="Where the pictures and points go.",
)  # fmt: skip
@common
def command(
    *, only: tuple[str, ...], long: bool, rounds: int, folder: Path, workers: int, quick: bool,
    file: Path | None,
) -> None:  # fmt: skip
    """What a step costs, against one thing that grows."""
    sizes = QUICK if quick else LONG if long else USUAL
    rounds = 1 if quick else rounds
    every = curves(sizes)
    wanted = [curve for curve in every if not only or curve.name in only]
    if not wanted:
        names = ", ".join(curve.name for curve in every)
        raise click.BadParameter(f"there are {names}", param_hint="--only")
    with started(workers) as (road, say):
        found = measure(road, wanted, rounds=rounds, say=say)
        conditions = conditions_of(road, rounds=rounds, **asdict(sizes))
    folder.mkdir(parents=True, exist_ok=True)
    for curve in wanted:
        points = found[curve.name]
        (folder / f"{curve.name}.svg").write_text(
            curve_chart.draw(curve.title, points, conditions), encoding="utf-8"
        )
        kept = {"title": curve.title, "points": list(map(asdict, points)), "conditions": conditions}
        (folder / f"{curve.name}.json").write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
    numbers = {f"{name}_ratio": each[-1].cost_us / each[0].cost_us for name, each in found.items()}
    samples = {name: list(map(asdict, each)) for name, each in found.items()}
    Figures("curves", numbers, conditions, samples).tell(file)
