"""Long fan-outs on a real stack: what an item costs, by how many there are.

Each shape runs in growing sizes, one instance at a time. A flat road shows the same microseconds
per item in each line of a shape, whatever the size.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import psycopg2

from orch8.dev.postgres import EmbeddedPostgres
from tests.bench import cpu, statements
from tests.bench.figures import PREFIX
from tests.bench.road import Road
from tests.bench.statements import Statement
from tests.support.stack import TERMINAL, Client

SMALLEST: Final = 100  # items of the first size that is measured
_STEP: Final = 10  # from one size to the next
_LOOK: Final = 0.5  # seconds between two looks at the instance
_WITHIN: Final = 3600.0
_MAX_CONTEXT: Final = 8 * 1024 * 1024  # 100,000 items do not fit into the default
_ITEM_ONLY: Final = {"data": {"fields": ["item"]}}  # else each call carries the whole collection

# A look costs two index look-ups, whatever the size of the instance.
_STATE: Final = """
SELECT state, octet_length(snapshot::text) AS snapshot FROM instances WHERE id = %s"""
_COUNTED: Final = """
SELECT (SELECT count(*) FROM steps WHERE instance_id = %(id)s AND state = 'completed'
            AND handler <> '@memo') AS items,
       (SELECT count(*) FROM instances WHERE parent_instance_id = %(id)s
            AND state = 'completed') AS children"""


@dataclass(frozen=True, slots=True)
class Shape:
    """A for_each of one block: what it is called, and how many at a time."""

    name: str
    concurrency: int
    body: Mapping[str, Any]
    children: bool = False

    def definition(self) -> dict[str, Any]:
        """The sequence, which takes its items from ``context.data.items``."""
        block = {
            "type": "for_each", "id": "each", "collection": "{{context.data.items}}",
            "max_iterations": 100_000, "concurrency": self.concurrency, "body": [dict(self.body)],
        }  # fmt: skip
        return {"id": f"fanout_{self.name}", "blocks": [block]}


_TRANSFORM: Final = {
    "type": "step", "id": "item", "handler": "transform", "params": {"n": "{{item}}"},
}  # fmt: skip
_LEAF: Final = {
    "type": "step", "id": "leaf", "handler": "transform", "params": {"n": "{{context.data.n}}"},
}  # fmt: skip
_CALL: Final = {
    "type": "step", "id": "item", "handler": "s1", "effect": "none",
    "params": {"n": "{{item}}"}, "context_access": _ITEM_ONLY,
}  # fmt: skip
_CHILD: Final = {
    "type": "sub_sequence", "id": "item", "sequence_name": "fanout_child",
    "input": {"n": "{{item}}"},
}  # fmt: skip
SHAPES: Final = (
    Shape("builtin_1", 1, _TRANSFORM),
    Shape("builtin_50", 50, _TRANSFORM),
    Shape("call_1", 1, _CALL),
    Shape("call_50", 50, _CALL),
    Shape("call_1000", 1000, _CALL),
    Shape("child_50", 50, _CHILD, children=True),
    Shape("child_1000", 1000, _CHILD, children=True),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One instance from its creation to its end: microseconds of CPU per item, bytes, seconds."""

    shape: str
    items: int
    seconds: float
    workers_us: float
    postgres_us: float
    rss_before: int
    rss_after: int
    snapshot: int
    busiest: tuple[Statement, ...]  # of Postgres, if it counts them

    def line(self) -> str:
        """The measurement as one line of text."""
        mib = 1 << 20
        return (
            f"{self.shape:<11} items={self.items:<7} items/s={self.items / self.seconds:<7.0f} "
            f"worker={self.workers_us:.0f} us/item postgres={self.postgres_us:.0f} us/item "
            f"rss={self.rss_before / mib:.0f}->{self.rss_after / mib:.0f} MiB "
            f"snapshot<={self.snapshot} B"
        )


def measure(
    folder: Path, *, items: int, children: int, workers: int, shapes: Iterable[str] = ()
) -> Iterator[Measured]:
    """Every shape in sizes up to ``items``, or ``children`` for those of sub-sequences."""
    wanted = set(shapes)
    road = Road(
        folder,
        workers=workers,
        settings={"ORCH8_MAX_CONTEXT_BYTES": str(_MAX_CONTEXT)},
    )
    with road.world:
        road.world.publish({"id": "fanout_child", "blocks": [_LEAF]})
        for shape in SHAPES:
            if wanted and shape.name not in wanted:
                continue
            road.world.publish(shape.definition())
            _run(road, shape, SMALLEST)  # the first of a kind fills the caches of the processes
            for size in sizes(children if shape.children else items):
                yield _run(road, shape, size)


def sizes(most: int) -> list[int]:
    """``most`` and what is ten, a hundred ... times smaller, ascending, but none too small."""
    found = [most]
    while found[0] >= SMALLEST * _STEP * _STEP:
        found.insert(0, found[0] // _STEP)
    return found


def _run(road: Road, shape: Shape, size: int) -> Measured:
    """An instance of ``size`` items has completed. RuntimeError if an item is missing."""
    parts, server = road.parts(), road.world.stack.postgres
    assert server is not None
    with suppress(psycopg2.Error):  # the extension may be missing
        statements.forget(server)
    watched = parts["workers"], parts["postgres"]
    before, rss_before = [cpu.spent(each) for each in watched], cpu.resident(parts["workers"])
    began = time.monotonic()
    with closing(Client(road.world.stack.urls.http, timeout=60.0)) as client:
        body = {"context": {"data": {"items": list(range(size))}}}
        instance_id = client.post(f"/sequences/fanout_{shape.name}/instances", body)["id"]
    snapshot = _wait(road, instance_id)
    seconds = time.monotonic() - began
    used = [1e6 * (cpu.spent(each) - ago) for each, ago in zip(watched, before, strict=True)]
    (counted,) = road.world.rows(_COUNTED, {"id": instance_id})
    if counted["items"] != size or counted["children"] != (size if shape.children else 0):
        raise RuntimeError(f"{shape.name} of {size} items came to {counted}")
    return Measured(
        shape.name, size, seconds, used[0] / size, used[1] / size,
        rss_before, cpu.resident(parts["workers"]), snapshot, _busiest(server),
    )  # fmt: skip


def _busiest(server: EmbeddedPostgres) -> tuple[Statement, ...]:
    with suppress(psycopg2.Error):
        return tuple(statements.busiest(server))
    return ()


def _wait(road: Road, instance_id: str) -> int:
    """The instance has completed; the largest snapshot that was seen, in bytes."""
    largest, deadline = 0, time.monotonic() + _WITHIN
    while True:
        (row,) = road.world.rows(_STATE, (instance_id,))
        largest = max(largest, row["snapshot"])
        if row["state"] == "completed":
            return largest
        if row["state"] in TERMINAL or time.monotonic() > deadline:
            raise RuntimeError(f"instance {instance_id} is {row['state']}")
        time.sleep(_LOOK)


@click.command("fanout")
@click.option("--items", default=100_000, show_default=True, type=click.IntRange(100, 100_000))
@click.option("--children", default=10_000, show_default=True, type=click.IntRange(100, 100_000))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 16))
@click.option("--shape", "shapes", multiple=True, type=click.Choice([s.name for s in SHAPES]))
@click.option("--quick", is_flag=True, help="One short run: does it work at all?")
@click.option("--profile", is_flag=True, help="Show the time by statement.")
def command(
    *, items: int, children: int, workers: int, shapes: tuple[str, ...], quick: bool, profile: bool
) -> None:
    """What an item of a long fan-out costs, by how many there are."""
    items, children = (1000, 100) if quick else (items, children)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        for measured in measure(
            Path(folder), items=items, children=children, workers=workers, shapes=shapes
        ):
            click.echo(measured.line())
            for each in measured.busiest if profile else ():
                click.echo(f"    {each.ms:9.0f} ms {each.calls:7} calls  {each.text}")
