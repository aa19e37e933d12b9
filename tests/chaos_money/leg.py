"""One leg of the campaign: a fresh world, waves of deaths, then peace, then the checker."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from orch8.dev.stack import StackOptions
from tests.chaos_money.checker import Finding, check
from tests.chaos_money.fleet import Berth, Fleet
from tests.chaos_money.history import history
from tests.chaos_money.payments import (
    ALONE,
    ANNOUNCED,
    DECLINES,
    HOSTILITY,
    KEYED,
    KINDS,
    PROVIDERS,
    READ_BACK,
    THEN_ASKED,
    WEBHOOK,
    WORK,
    Feeder,
    Kind,
    open_instances,
)
from tests.support.stack import QUICK, Client, ProviderProcess, World, until

JANITOR = "janitor"
HORIZON: Final = 25 * 3600  # seconds: a key is kept for 24 hours
_LATENCY_MS: Final = 20
_WIDTH: Final = 2
_SETTINGS: Final = {
    **QUICK,
    "ORCH8_LEASE_SECS": "3",  # 2 may be lost by a process that only waits for its turn
    "ORCH8_LOG_LEVEL": "WARNING",
    "ORCH8_ALLOW_INTERNAL_URLS": "1",
}
_RESTS_WITHIN: Final = 420.0  # seconds for everything to find its end after the last death
_ARRIVED: Final = 0.5  # seconds after which whatever a dead process has sent is with the provider

# So that processes are killed while calls are in flight, and the janitor has work.
_SILENT: Final = {"do": "commit_then_time_out", "chance": 0.25}
_DOUBTFUL: Final = ({"do": "commit_then_hang_up", "chance": 0.3}, {"do": "hang_up", "chance": 0.2})
_SLOW_SEARCH: Final = {"do": "search_cannot_tell", "chance": 0.3, "delay_ms": 300}
_MORE: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "before_answer": (_SILENT,),
    "in_janitor": (_SLOW_SEARCH, *_DOUBTFUL),
}
_PASSAGES: Final = {"before_answer": 2, "in_janitor": 3}


@dataclass(frozen=True, slots=True)
class Leg:
    """What one world goes through: so many deaths at each point, in waves of ``wave``.

    ``beyond_horizon``: after each wave, and before anybody is back at work, a day and an hour pass.
    For the control runs: without ``fenced`` nothing is behind a fence, with ``lies`` the read
    handlers find nothing, and ``key_ttl`` is what the steps say of keys, whatever is true.
    """

    kills: Mapping[str, int]
    wave: int = 1000
    beyond_horizon: bool = False
    fenced: bool = True
    lies: bool = False
    key_ttl: str | None = None
    seed: int = 0


def run(leg: Leg, folder: Path, on_kill: Callable[[str], None]) -> dict[str, Finding]:
    """What came of the leg, by point; the world is gone, its logs are in the folder. ``on_kill`` is
    told the point of each death.
    """
    chance = random.Random(leg.seed)
    with (
        _world(folder, leg) as (world, providers),
        Fleet(world.stack.env, world.stack.logs / "fleet.log") as fleet,
    ):
        killed: dict[str, int] = {}
        begun: dict[str, int] = {}
        for point, kills in leg.kills.items():
            _script(providers, point, lies=leg.lies)
            feeder = Feeder(world, _kinds(point), point, chance)
            feeder.start()
            killed[point] = 0
            while killed[point] < kills:
                wave = min(leg.wave, kills - killed[point])
                killed[point] += fleet.kill(wave, _berths(point), partial(on_kill, point))
                if leg.beyond_horizon:
                    _pass_the_horizon(world, providers)
            feeder.stop()
            begun[point] = feeder.begun
        _script(providers, None, lies=leg.lies)
        fleet.work([Berth(0, WORK, 8), Berth(1, ALONE, 8)])
        _wait_for_rest(world, providers["tells"])
        fleet.rest()
        past = history(world, providers)
    return {
        point: check(past, point, killed[point], begun[point], beyond_horizon=leg.beyond_horizon)
        for point in killed
    }


@contextlib.contextmanager
def _world(
    folder: Path, leg: Leg
) -> Iterator[tuple[World[ProviderProcess], dict[str, ProviderProcess]]]:
    """A stack without workers, and the providers that its handlers lead to."""
    with ExitStack() as ends:
        providers = {}
        for name, options in PROVIDERS.items():
            own = folder / name
            own.mkdir(parents=True)
            more = ("--latency-ms", str(_LATENCY_MS), "--seed", str(leg.seed % 2**31))
            providers[name] = ProviderProcess(own, *options, *more)
        for name in ("reads", "tells"):
            ends.enter_context(providers[name])
        world = ends.enter_context(
            World(
                folder,
                providers["keys"],
                settings=_SETTINGS,
                options=StackOptions(workers=0, tick=0.25, durable=False),
            )
        )
        for kind in KINDS.values():
            for handler in (kind.handler, f"find_{kind.name}"):
                _put(
                    world.stack.urls.http, f"/handlers/{handler}", url=providers[kind.provider].url
                )
            world.publish(kind.definition(fenced=leg.fenced, key_ttl=leg.key_ttl))
        target = f"{world.stack.urls.http}/attempts/evidence"
        _put(providers["tells"].url, "/webhooks", url=target, format="orch8")
        yield world, providers


def _kinds(point: str) -> Sequence[Kind]:
    """What is paid while processes die at a point: where a call may die between its claim and its
    sending, a webhook alone is no way out, since nobody would send it.
    """
    if point == "in_janitor":
        return (READ_BACK, READ_BACK, WEBHOOK, THEN_ASKED)
    mix = (KEYED, THEN_ASKED, READ_BACK, WEBHOOK)
    return mix if point == "before_send" else (*mix, ANNOUNCED)


def _berths(point: str) -> list[Berth]:
    passages = _PASSAGES.get(point, 10)
    if point == "in_janitor":
        doomed = [Berth(number, JANITOR, _WIDTH, point, passages) for number in range(4)]
        return [*doomed, Berth(8, WORK, _WIDTH)]
    doomed = [Berth(number, WORK, _WIDTH, point, passages) for number in range(4)]
    alone = [] if point == "before_send" else [Berth(8, ALONE, 1, point, 2)]
    return doomed + alone


def _script(providers: Mapping[str, ProviderProcess], point: str | None, *, lies: bool) -> None:
    """The providers misbehave as they do at this point; without one they only decline."""
    first = ({"do": "search_miss"},) if lies else ()
    for name, provider in providers.items():
        more = (DECLINES,) if point is None else (*_MORE.get(point, ()), *HOSTILITY[name])
        provider.script(*first, *more)


def _put(base: str, path: str, **body: Any) -> None:
    with contextlib.closing(Client(base)) as client:
        reply = client.send("PUT", path, body)
    assert reply.status == 200, reply.body


def _pass_the_horizon(
    world: World[ProviderProcess], providers: Mapping[str, ProviderProcess]
) -> None:
    """A day and an hour have passed for the engine, and then for the providers: in this order, a
    key is never older for them than it is for the engine.
    """
    time.sleep(_ARRIVED)
    world.client.post("/clock", {"advance": {"hours": HORIZON // 3600}})
    for provider in providers.values():
        with contextlib.closing(Client(provider.url)) as client:
            ahead = client.get("/clock")["now"] - time.time() + HORIZON
        _put(provider.url, "/clock", offset_seconds=ahead)


def _wait_for_rest(world: World[ProviderProcess], teller: ProviderProcess) -> None:
    """Nothing goes on by itself any more, or has had the time to; the checker tells what does."""

    def at_rest() -> bool:
        with contextlib.closing(Client(teller.url)) as client:
            told = client.get("/webhooks")["waiting"] == 0
        return told and open_instances(world) == 0

    with contextlib.suppress(AssertionError):
        until(lambda: at_rest() and at_rest(), _RESTS_WITHIN, "all are at rest", poll=0.25)
