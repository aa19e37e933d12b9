"""Servers, workers and beat go away in mid-flight: nothing is lost and nothing is done twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from orch8.dev import programs
from tests.support.stack import ProviderProcess, World, until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("stack")]

BATCH = 20
WITHIN = 40.0
AWAY = 10.0  # seconds
PROCESSES = ("postgres", "redis", "web", "worker-1", "worker-2", "control", "beat")
FIVE = {
    "id": "five_steps",
    "blocks": [
        {"type": "step", "handler": name} for name in ("one", "two", "three", "four", "five")
    ],
}
SHORT_WAIT = {
    "id": "short_wait",
    "blocks": [
        {"type": "step", "handler": "before"},
        {"type": "step", "handler": "wait", "delay": "1s"},
        {"type": "step", "handler": "after"},
    ],
}
SLOW = {"handler": "one", "do": "succeed", "delay_ms": 1000}


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World[ProviderProcess]]) -> World[ProviderProcess]:
    """A stack of two workers, which come back when they end."""
    world = make_world()
    world.publish(FIVE)
    world.publish(SHORT_WAIT)
    return world


@pytest.fixture(autouse=True)
def whole(world: World[ProviderProcess]) -> Iterator[None]:
    """Every test begins with all processes running, and its effects happened exactly once."""
    world.handlers.script()
    until(lambda: all(map(world.pid, PROCESSES)), 30.0, lambda: world.stack.processes)
    yield
    totals = world.handlers.totals()
    assert (totals["duplicates"], totals["charged_twice"]) == (0, 0), totals
    assert totals["charged"] == totals["keys"], totals


def test_redis_flushed_and_restarted_loses_nothing(world: World[ProviderProcess]) -> None:
    """The broker's messages and the limiter's tokens vanish; what is due is announced again."""
    ids = begin_all(world, "payment_dunning")
    redis = world.stack.redis
    assert redis is not None
    redis.flush()
    redis.kill()
    redis.restart()
    redis.flush()
    ids += begin_all(world, "five_steps")
    all_complete(world, ids)


def test_postgres_restarted_loses_nothing(world: World[ProviderProcess]) -> None:
    """Answers that arrive while the database is away are kept and settled when it is back."""
    world.handlers.script(SLOW)
    ids = begin_all(world, "five_steps")
    until(lambda: asked(world, "one") >= 1, WITHIN, "calls are in flight")
    postgres = world.stack.postgres
    assert postgres is not None
    postgres.kill()
    postgres.restart()
    all_complete(world, ids)


def test_beat_away_for_ten_seconds_loses_nothing(world: World[ProviderProcess]) -> None:
    """New instances and short timers need no tick; a lost claim waits for the next one."""
    with away(world, "beat") as gone_at:
        fresh = begin_all(world, "short_wait")
        all_complete(world, fresh)
        world.handlers.script(SLOW)
        before = asked(world, "one")
        ids = begin_all(world, "five_steps")
        until(lambda: asked(world, "one") > before, WITHIN, "calls are in flight")
        for number in (1, 2):
            world.kill(f"worker-{number}")
        until(lambda: time.monotonic() - gone_at > AWAY, AWAY + 1, "ten seconds pass")
        lost = world.rows("SELECT count(*) AS n FROM steps WHERE claimed_by IS NOT NULL")
        assert lost[0]["n"] > 0
    all_complete(world, ids)


def test_two_beats_do_no_harm(world: World[ProviderProcess]) -> None:
    """Each tick is sent twice, and each step is done once."""
    folder = world.stack.data / "second-beat"
    folder.mkdir()
    ordinary = programs.beat(folder, world.stack.env)
    second = replace(ordinary, command=replace(ordinary.command, name="beat-2"), restart=False)
    world.stack.add(second)
    try:
        all_complete(world, begin_all(world, "payment_dunning") + begin_all(world, "five_steps"))
        assert world.pid("beat-2") is not None
    finally:
        world.stack._supervision().stop("beat-2")  # the stack has no verb for it


def test_worker_stopped_in_mid_call_keeps_the_answer(world: World[ProviderProcess]) -> None:
    """SIGTERM lets calls in flight answer and settles them: none is sent a second time."""
    world.handlers.script(SLOW)
    before = asked(world, "one")
    ids = begin_all(world, "five_steps", 4)
    until(lambda: asked(world, "one") == before + 4, WITHIN, "calls are in flight")
    pids = {n: world.pid(f"worker-{n}") for n in (1, 2)}
    for number in pids:
        world.kill(f"worker-{number}", signal.SIGTERM)
    until(
        lambda: all(world.pid(f"worker-{n}") != pid for n, pid in pids.items()), WITHIN, "they end"
    )
    all_complete(world, ids)
    assert asked(world, "one") == before + 4
    crashes = world.rows(
        "SELECT sum(crashes) AS n FROM steps WHERE instance_id = ANY(%s::uuid[])", (ids,)
    )
    assert crashes[0]["n"] == 0


def test_nodes_are_told_apart_and_stand_in_for_each_other(world: World[ProviderProcess]) -> None:
    """Two workers with --hostname are two nodes; what one leaves behind, the other finishes."""
    world.handlers.script({**SLOW, "delay_ms": 200})
    ids: list[str] = []

    def both() -> bool:
        ids.extend(begin_all(world, "five_steps", 4))
        nodes = world.rows("SELECT DISTINCT split_part(node, '@', 1) AS node FROM workers")
        return {row["node"] for row in nodes} >= {"w1", "w2"}

    until(both, WITHIN, "both nodes have worked", poll=0.1)
    world.kill("worker-1")
    all_complete(world, ids)


def begin_all(world: World[ProviderProcess], sequence: str, count: int = BATCH) -> list[str]:
    """That many instances have been started."""
    return [world.begin(sequence) for _ in range(count)]


def all_complete(world: World[ProviderProcess], ids: Sequence[str]) -> None:
    """Every instance has completed."""
    statement = """
        SELECT id, state, attention, error FROM instances
        WHERE id = ANY(%s::uuid[]) AND state <> 'completed'
    """
    until(
        lambda: not world.rows(statement, (list(ids),)),
        WITHIN,
        lambda: world.rows(statement, (list(ids),)),
        poll=0.2,
    )


def asked(world: World[ProviderProcess], handler: str) -> int:
    """How many requests for the handler the provider has seen."""
    return sum(e["asked"] for e in world.handlers.entries() if e["handler"] == handler)


@contextmanager
def away(world: World[ProviderProcess], name: str) -> Iterator[float]:
    """The process stands still inside the block, which knows since when (monotonic)."""
    world.kill(name, signal.SIGSTOP)
    try:
        yield time.monotonic()
    finally:
        world.kill(name, signal.SIGCONT)
