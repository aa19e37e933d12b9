"""Several limits at once, with costs and calls at a time, and a worker that is killed amid them.

Three backlogs are worked off by eight workers at the same time: charges, which cost one to three
units of the account; payouts, which cost two units of the account and one of an endpoint with a
limit of its own; and slow calls, of which only so many may be under way at a time. In the middle
a worker is killed with -9 that has slow calls in flight. All is judged by the provider's clock.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from tests.bench.arrivals import Arrival, fullest, last_windows, most_at_once, utilisation
from tests.bench.road import Road, sequence
from tests.bench.strictness import SLACK, WINDOW, WORKERS, idle_seconds, window
from tests.support.stack import Client, World, until

CHARGE_COSTS: Final = (1, 2, 3)
PAYOUT_COST: Final = 2  # at the account; one at the endpoint
SLOW_SECONDS: Final = 0.4
TIMEOUT: Final = 2.0  # of a slow call
LEASE: Final = TIMEOUT + 10.0  # how long a slow call that nobody ends holds its place
FULL_RATE: Final = 0.95  # of the rate before the kill is full again, once the leases ran out
LOST: Final = 1.0  # windows of calls that a kill may cost: tokens were taken for what never left
_DISTURBED: Final = 3  # windows after the kill in which that shows
_SETTLE: Final = 1.0  # seconds after which a rate is what it is
_BATCH: Final = 500
_ROUNDS: Final = 3  # times the length of the backlog in which it must be gone

Visit = tuple[float, float, int]  # when a call came and was answered, and what it cost

_CLAIMED = """
SELECT w.node, array_agg(s.id::text) AS steps FROM steps s JOIN workers w ON w.id = s.claimed_by
WHERE s.handler = %s AND s.state = 'running' GROUP BY w.node ORDER BY count(*) DESC
"""
_NAMES = "SELECT id::text AS id, idempotency_key AS name FROM instances"


@dataclass(frozen=True, slots=True)
class Size:
    """How much: the limits, for about how many seconds there is a backlog, and when the kill is."""

    account: int = 95
    endpoint: int = 24
    at_once: int = 12
    seconds: float = 60.0
    kill_after: float = 18.0
    slack: float = SLACK

    @property
    def period(self) -> float:
        """Seconds in which each window may be used up once."""
        return WINDOW + self.slack

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind are as much work as the seconds allow."""
        payouts = self.endpoint * self.seconds / self.period
        left = self.account * self.seconds / self.period - PAYOUT_COST * payouts
        return {
            "charge": int(left * len(CHARGE_COSTS) / sum(CHARGE_COSTS)),
            "payout": int(payouts),
            "slow": int(self.at_once / SLOW_SECONDS * self.seconds),
        }


# Beside other tests a call may be late by more than the usual slack.
QUICK: Final = Size(account=40, endpoint=10, at_once=6, seconds=24.0, kill_after=5.0, slack=0.25)


@dataclass(frozen=True, slots=True)
class Key:
    """What the provider saw of one limited key."""

    name: str
    maximum: int
    calls: int
    peak: int  # units in the fullest window
    utilisation: float  # under backlog, but for the windows after the kill
    lost: float  # windows of calls that did not come after the kill


@dataclass(frozen=True, slots=True)
class Places:
    """What the provider saw of the calls of which only so many may be under way."""

    at_once: int
    most: int  # under way at a time
    held: int  # by the worker that was killed, when it was
    most_without: int  # under way at a time, of those that came while the dead worker held places
    most_after: int  # and of those that came when its leases had run out
    before: float  # calls a second until the kill
    without: float  # calls a second while the dead worker's leases lasted
    after: float  # calls a second once they had run out

    @property
    def again(self) -> float:
        """The rate after the kill as a share of that before it."""
        return self.after / self.before


@dataclass(frozen=True, slots=True)
class Several:
    """What the provider saw, and the most that one step was sent back to its queue. Visits are
    more than instances, where a call that was lost with its worker was repeated.
    """

    keys: Sequence[Key]
    places: Places
    deferrals: int
    visits: Mapping[str, Sequence[Visit]]  # by kind
    killed_at: float  # on the same clock
    idle: float  # share of the machine's time that nobody used meanwhile


def measure(folder: Path, size: Size) -> Several:
    """The three backlogs have been worked off, and a worker was killed meanwhile."""
    road = Road(folder, workers=WORKERS)
    with road.world, closing(Client(road.world.handlers.url, timeout=60.0)) as handler:
        world = road.world
        world.client.put("/rate-limits/account", window(size.account, size.slack))
        world.client.put("/rate-limits/account:payouts", window(size.endpoint, size.slack))
        for definition in definitions(size):
            world.publish(definition)
        handler.send("PUT", "/record", {})
        with road.stopped_workers():
            create(world.client, size.counts)
        began, idle = time.monotonic(), idle_seconds()
        time.sleep(size.kill_after)
        dead, held = until(lambda: _stopped(world), LEASE, "a worker has slow calls in flight")
        killed_at = time.monotonic()
        world.kill(dead)
        road.wait_drained(_ROUNDS * size.seconds + 2 * LEASE)
        spare = (idle_seconds() - idle) / (time.monotonic() - began) / (os.cpu_count() or 1)
        (found,) = world.rows("SELECT max(deferrals) AS most FROM steps")
        names = {row["id"]: row["name"] for row in world.rows(_NAMES)}
        visits: dict[str, list[Visit]] = {}
        for came, went, instance_id in handler.get("/visits"):
            kind, cost, _ = names[instance_id].split("-")
            visits.setdefault(kind, []).append((came, went, int(cost)))
    return Several(
        seen_keys(visits, size, killed_at),
        seen_places([(came, went) for came, went, _ in visits["slow"]], size, killed_at, held),
        found["most"], visits, killed_at, spare,
    )  # fmt: skip


def definitions(size: Size) -> list[dict[str, Any]]:
    """The sequences of the three kinds, of one step each."""
    payout = [{"key": "account", "cost": PAYOUT_COST}, {"key": "account:payouts"}]
    kinds: dict[str, dict[str, Any]] = {
        "charge": {"rate_limits": [{"key": "account", "cost": "{{context.data.cost}}"}]},
        "payout": {"rate_limits": payout},
        "slow": {
            "handler": _slow(), "max_in_flight": size.at_once, "timeout": f"{TIMEOUT:g}s",
            "effect": "none",
        },
    }  # fmt: skip
    return [sequence(name, {"effect": "none", **own}, steps=1) for name, own in kinds.items()]


def create(client: Client, counts: Mapping[str, int]) -> None:
    """So many of each kind exist, mixed evenly, each named after its kind and what it costs."""
    listed = client.get("/sequences")["items"]
    ids = {each["name"].removeprefix("bench_"): each["id"] for each in listed}
    order = sorted(
        (number / count, kind, number) for kind, count in counts.items() for number in range(count)
    )
    bodies = []
    for _, kind, number in order:
        cost = CHARGE_COSTS[number % len(CHARGE_COSTS)] if kind == "charge" else PAYOUT_COST
        bodies.append({
            "sequence_id": ids[kind], "tenant_id": "default", "namespace": "default",
            "idempotency_key": f"{kind}-{cost}-{number}", "context": {"data": {"cost": cost}},
        })  # fmt: skip
    for first in range(0, len(bodies), _BATCH):
        client.post("/instances/batch", {"instances": bodies[first : first + _BATCH]})


def seen_keys(
    visits: Mapping[str, Sequence[Visit]], size: Size, killed_at: float
) -> tuple[Key, ...]:
    """What the provider saw of the account and of the endpoint.

    Each had a backlog as long as there was one of the calls that need it alone.
    """
    charges = [(came, cost) for came, _, cost in visits["charge"]]
    payouts = [(came, 1) for came, _, _ in visits["payout"]]
    account = sorted([*charges, *((came, cost) for came, _, cost in visits["payout"])])
    return (
        _key("account", size.account, size.period, account, charges, killed_at),
        _key("account:payouts", size.endpoint, size.period, payouts, payouts, killed_at),
    )


def seen_places(
    visits: Sequence[tuple[float, float]], size: Size, killed_at: float, held: int
) -> Places:
    """What the provider saw of the slow calls."""
    came = [at for at, _ in visits]
    freed = killed_at + LEASE + _SETTLE
    end = last_windows([(at, 1) for at in came], 2 * size.at_once)

    def most(begin: float, until_: float) -> int:
        return most_at_once((at, went) for at, went in visits if begin < at <= until_)

    def rate(begin: float, until_: float) -> float:
        return sum(begin < at <= until_ for at in came) / (until_ - begin)

    return Places(
        size.at_once, most_at_once(visits), held,
        # The oldest of its calls was in flight for a time-out when it was killed, at most.
        most(killed_at, killed_at + LEASE - TIMEOUT), most(freed, end),
        rate(came[0] + _SETTLE, killed_at),
        rate(killed_at + _SETTLE, killed_at + LEASE - _SETTLE),
        rate(freed, end) if end > freed + _SETTLE else 0.0,
    )  # fmt: skip


def _key(
    name: str, maximum: int, period: float, all_: Sequence[Arrival], own: Sequence[Arrival],
    killed_at: float,
) -> Key:  # fmt: skip
    calm_again = killed_at + _DISTURBED * period
    spans = [
        (all_[0][0] + period, killed_at),
        (calm_again, max(last_windows(own, 2 * maximum), calm_again)),
    ]
    used = utilisation(all_, spans, maximum / period)
    disturbed = utilisation(all_, [(killed_at, calm_again)], maximum / period)
    lost = _DISTURBED * (1 - disturbed)
    return Key(name, maximum, len(all_), fullest(all_, WINDOW), used, lost)


def _stopped(world: World[Any]) -> tuple[str, int] | None:
    """A worker that stands still (SIGSTOP) amid slow calls, and how many places it holds; None if
    there was none that does.
    """
    for node in [row["node"] for row in world.rows(_CLAIMED, (_slow(),))]:
        name = "worker-" + node.partition("@")[0].removeprefix("w")
        world.kill(name, signal.SIGSTOP)
        claimed = {row["node"]: row["steps"] for row in world.rows(_CLAIMED, (_slow(),))}
        if held := _places_of(world, claimed.get(node, [])):
            return name, held
        world.kill(name, signal.SIGCONT)
    return None


def _places_of(world: World[Any], steps: Sequence[str]) -> int:
    """How many leases of calls in flight these steps hold in Redis."""
    with redis.Redis.from_url(world.stack.urls.redis, socket_timeout=5.0) as server:
        held = [name for key in server.scan_iter("*:held:*") for name in server.zrange(key, 0, -1)]
    return sum(name.decode().partition("/")[0] in steps for name in held)


def _slow() -> str:
    return f"wait-{1000 * SLOW_SECONDS:.0f}"
