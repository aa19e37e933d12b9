"""A call that the limiter cannot judge, or that no wait helps, is settled alone: those that were
claimed with it go on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from uuid import UUID

import pytest

from orch8.limits import Grant
from orch8.runtime.decisions import decide
from orch8.runtime.gate import Gate
from orch8.runtime.preparing import Task
from orch8.runtime.publish import publish
from orch8.runtime.registry import put_limit
from orch8.runtime.resolve import Decision, Judgement
from orch8.runtime.settle import Item
from tests.support.house import House, until

LIMIT = {"max": 5, "window_seconds": 0.5}
CHARGE = {
    "type": "step", "handler": "charge", "effect": "money", "rate_limit_key": "neighbours",
    "rate_limit": LIMIT,
}  # fmt: skip
COSTLY = {**CHARGE, "rate_limit": {**LIMIT, "cost": "{{data.cost}}"}}


@pytest.fixture(autouse=True)
def ready(house: House) -> Iterator[None]:
    """The limiter's server is known and no window is spent: a new one counts as spent at first."""
    house.handler("noop-call", lambda _request: {})
    house.run({**CHARGE, "handler": "noop-call", "rate_limit_key": "warm"}, name="warm")
    yield
    house.sql("DELETE FROM rate_limits WHERE source = 'operator'")


def send_again(house: House, instance_id: UUID) -> None:
    """A person has seen that it was not sent, and wants it sent."""
    judgement = Judgement(decision=Decision.RETRY, actor="ann", reason="the limit is raised")
    with house.office.begin() as tx:
        decide(house.office, tx, instance_id, "charge", judgement, tenant_id=None)


def test_tenant_with_braces_is_limited_like_any_other(house: House) -> None:
    """Its calls are made, and those that were claimed with them."""
    tenants = ("a}b{c", "default")
    for tenant in tenants:
        house.publish(CHARGE, tenant=tenant)
    ids = [house.start(tenant_id=tenant) for tenant in tenants]
    house.work()
    assert [house.state(each) for each in ids] == ["completed"] * 2


def test_step_with_more_limits_than_can_be_asked_for_is_parked_alone(house: House) -> None:
    """Its version was published before that was refused; a person is told what is wrong."""
    many = [{"key": f"k{n}", **LIMIT} for n in range(16)]
    body = {"id": "many", "blocks": [{**CHARGE, "rate_limits": many}]}
    with house.office.begin() as tx:
        publish(house.office, tx, body, tenant_id=None, actor="test", lenient=True)
    house.publish(CHARGE)
    bad, good = house.start(name="many"), house.start()
    house.work()
    assert house.state(good) == "completed"
    row = house.step(bad)
    assert (row.state, row.dispatches, row.claimed_by, row.outcome) == ("parked", 0, None, None)
    assert row.attention is not None
    assert row.attention["reason"] == "cannot_limit"
    assert "at most 16 limits, not 17" in row.attention["why"]
    assert house.totals()["charged"] == 1


def test_call_that_costs_more_than_max_is_parked_alone(house: House) -> None:
    """No wait helps it: it is told to people, and those behind it are not held up."""
    house.publish(COSTLY)
    bad, good = house.start({"cost": 20}), house.start({"cost": 1})
    house.work()
    assert house.state(good) == "completed"
    row = house.step(bad)
    assert (row.state, row.limit_key, row.queued_at, row.dispatches) == ("parked", None, None, 0)
    assert row.attention is not None
    assert row.attention["reason"] == "over_limit"
    assert row.attention["why"].startswith("its cost 20 is more than max 5 of the rate limit")
    assert house.instance(bad).attention is not None
    assert house.sql("SELECT 1 FROM doubts WHERE instance_id = %s", bad) == []
    assert house.totals()["charged"] == 1


def test_call_that_was_parked_for_its_cost_is_sent_once_max_is_raised(house: House) -> None:
    """A person has it sent again: once, and with the key that it had."""
    house.publish(COSTLY)
    instance_id = house.start({"cost": 20})
    house.work()
    key = house.step(instance_id).idempotency_key
    with house.office.begin() as tx:
        put_limit(tx, "neighbours", tenant_id="default", maximum=50, window=0.5, actor="ann")
    house.office = house.another_office()
    house.pump = house.another_pump(house.office)
    send_again(house, instance_id)
    house.work()
    assert house.state(instance_id) == "completed"
    (charge,) = house.keys()
    assert charge["key"] == key


def test_max_that_is_lowered_below_the_cost_of_who_waits_holds_up_nobody(house: House) -> None:
    """Those who cost too much now leave the queue; those behind them are called."""
    hourly = {"max": 6, "window_seconds": 3600, "cost": "{{data.cost}}"}
    house.publish({**CHARGE, "rate_limit_key": "lowered", "rate_limit": hourly})
    house.start({"cost": 6})
    house.work()
    ids = [house.start({"cost": cost}) for cost in (6, 6, 1, 1)]
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: all(house.step(each).deferrals for each in ids))
    with house.office.begin() as tx:
        put_limit(tx, "lowered", tenant_id="default", maximum=3, window=0.5, actor="ann")
    done = ["waiting", "waiting", "completed", "completed"]
    until(lambda: house.tick() and (house.work(), [house.state(e) for e in ids])[1] == done)
    thread.join(30)
    assert [house.step(each).deferrals for each in ids[:2]] == [1, 1]


def test_claims_that_break_on_their_way_are_taken_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks behind the commit of a claim, no claim stays with a process that has nothing
    on its way for it; nor do its slots.
    """
    house.publish(CHARGE)
    ids = [house.start() for _ in range(10)]
    whole, broken = Gate.admit, threading.Event()

    def breaks(gate: Gate, tasks: Iterable[Task]) -> tuple[list[tuple[Task, Grant]], list[Item]]:
        came = whole(gate, tasks)
        if came[0] and not broken.is_set():
            broken.set()
            raise RuntimeError("the road is closed")
        return came

    monkeypatch.setattr(Gate, "admit", breaks)
    house.work()
    until(
        lambda: (
            house.tick() and (house.work(), [house.state(e) for e in ids])[1] == ["completed"] * 10
        )
    )
    assert broken.is_set()
    assert set(house.pump._slots._busy.values()) <= {0}
    assert sum(house.step(each).crashes for each in ids) > 0
    assert house.totals()["charged"] == 10
