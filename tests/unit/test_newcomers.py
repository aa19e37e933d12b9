"""Newcomers: nobody overtakes a key's queue but customers, for whom a share of it is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orch8.limits import Limit
from orch8.runtime.newcomers import CROWD, HOLD, KEEPS, LAST, PATIENT, STANDS, Newcomers
from orch8.runtime.preparing import Task
from orch8.runtime.routes import Kind, Route
from orch8.storage.ids import uuid7
from orch8.storage.rows import StepRow

LIMIT = Limit("acquirer", 95)
ROUTE = Route(Kind.PUSH, "charge", "http://localhost")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def newcomers(clock: Clock) -> Newcomers:
    return Newcomers(clock)


def task(
    lane: str = "renewal",
    *limits: Limit,
    queued: bool = False,
    deferrals: int = 0,
    tenant: str = "t",
) -> Task:
    row = StepRow(
        uuid7(), "charge", uuid7(), tenant, "charge", "charge", "money", "running", lane, NOW,
        queued_at=NOW if queued else None, deferrals=deferrals,
    )  # fmt: skip
    return Task(row, ROUTE, limits=limits or (LIMIT,))


def test_newcomer_joins_the_queue_that_a_refusal_has_begun(
    newcomers: Newcomers, clock: Clock
) -> None:
    """It is told when there is room, and asks again once nobody has seen the queue for a while."""
    assert newcomers.arrive(task()) is None
    newcomers.refused("t", "acquirer", 0.8)
    clock.now += 0.5
    assert newcomers.arrive(task()) == (pytest.approx(0.3), LIMIT)
    clock.now += STANDS
    assert newcomers.arrive(task()) is None


def test_queue_stands_for_as_long_as_it_is_seen(newcomers: Newcomers, clock: Clock) -> None:
    """Whoever admits steps from queues sees which there are; one that is not is over."""
    newcomers.refused("t", "acquirer", 0.8)
    for _ in range(10):
        clock.now += 0.5
        newcomers.stand({("t", "acquirer"), ("t", "other")})
    assert newcomers.arrive(task()) == (0.0, LIMIT)
    assert newcomers.arrive(task("renewal", Limit("other", 5))) is None
    newcomers.stand(set())
    assert newcomers.arrive(task()) is None


def test_queue_is_joined_by_newcomers_of_its_key_only(newcomers: Newcomers) -> None:
    """Customers ask, who was in the queue asks, other keys and tenants are not concerned."""
    newcomers.refused("t", "acquirer", 0.8)
    assert newcomers.arrive(task("interactive")) is None
    assert newcomers.arrive(task(queued=True)) is None
    assert newcomers.arrive(task("renewal", Limit("other", 5))) is None
    assert newcomers.arrive(task(tenant="another")) is None
    both = task("bulk", Limit("other", 5), LIMIT)
    assert newcomers.arrive(both) == (pytest.approx(0.8), LIMIT)


def test_customers_are_asked_for_first_and_newcomers_last(newcomers: Newcomers) -> None:
    """Between them the queue; in it those who were sent back more than once."""
    calls = [
        task("interactive"), task(queued=True, deferrals=2), task(queued=True, deferrals=1), task(),
    ]  # fmt: skip
    assert [newcomers.place(call) for call in calls] == [0, 1, 2, 3]


def test_nobody_goes_back_a_third_time_for_want_of_patience(newcomers: Newcomers) -> None:
    """Who was sent back twice waits at the gate for some seconds; in a crowd no longer than
    customers do.
    """
    assert newcomers.patience(task("interactive"), 0) == PATIENT
    assert newcomers.patience(task(queued=True, deferrals=2), CROWD - 1) == LAST
    assert newcomers.patience(task(queued=True, deferrals=2), CROWD) == PATIENT
    assert newcomers.patience(task(queued=True, deferrals=1), 0) == HOLD
    assert newcomers.patience(task(), 0) == HOLD


def test_share_of_customers_is_kept_where_there_are_any(newcomers: Newcomers, clock: Clock) -> None:
    """A fifth of the window is not for newcomers of other lanes, a tenth not for their queue; all
    of it is theirs if no customer came for long.
    """
    assert newcomers.asks(task()) == (LIMIT,)
    customer = task("interactive")
    newcomers.arrive(customer)
    assert newcomers.asks(task()) == (replace(LIMIT, max=76),)
    assert newcomers.asks(customer) == (LIMIT,)
    assert newcomers.asks(task(queued=True)) == (replace(LIMIT, max=86, even=True),)
    assert newcomers.asks(task(queued=True, deferrals=2)) == (replace(LIMIT, even=True),)
    clock.now += KEEPS + 1
    assert newcomers.asks(task()) == (LIMIT,)


def test_calls_from_a_queue_come_evenly_where_that_costs_but_a_moment(
    newcomers: Newcomers,
) -> None:
    """A burst would come back in every window; customers and long windows may have theirs."""
    short, long = Limit("s", 95, 10.0), Limit("l", 5, 60.0)
    assert newcomers.asks(task("renewal", short, long, queued=True)) == (
        replace(short, even=True),
        long,
    )
    assert newcomers.asks(task("interactive", short, queued=True)) == (short,)


@pytest.mark.parametrize(
    "limit",
    [
        Limit("k", 1000, 3600),
        Limit("k", 5000),
        Limit("k", None, max_in_flight=3),
        Limit("k", 10, weight=9),
    ],
)
def test_share_is_kept_only_where_it_costs_nothing_but_a_moment(
    newcomers: Newcomers, limit: Limit
) -> None:
    """Not of long windows, which it would lie idle in; not of buckets, which do not hold bursts;
    not where a call would never fit beside it.
    """
    newcomers.arrive(task("interactive", limit))
    assert newcomers.asks(task("renewal", limit)) == (limit,)
