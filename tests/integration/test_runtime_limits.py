"""Rate limits: steps over the limit queue up in Postgres and are admitted in their order."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from contextlib import closing
from datetime import timedelta
from uuid import UUID

import pytest

from orch8.handlers.python import RateLimited, TryAgain
from orch8.limits import Limit, Limiter
from orch8.runtime.admission import AHEAD_OF_PACE
from orch8.runtime.claim import claim_now
from orch8.runtime.gate import Gate
from orch8.runtime.office import LIMITS_REFRESH
from orch8.runtime.registry import delete_limit, put_limit
from orch8.runtime.settle import Deferral
from orch8.runtime.standing import Standing
from orch8.storage import fleet, queued, steps
from orch8.storage.ids import uuid7
from orch8.testing.misbehaviour import Do, Rule
from tests.support.house import LANE, House, until

LIMIT = {"max": 5, "window_seconds": 0.5}
CHARGE = {"type": "step", "handler": "charge", "rate_limit_key": "acquirer", "rate_limit": LIMIT}


@pytest.fixture(autouse=True)
def ready(house: House) -> None:
    """The limiter's server is known and no window is spent: a new one counts as spent at first."""
    warm = {"type": "step", "handler": "noop-call", "rate_limit_key": "warm", "rate_limit": LIMIT}
    house.handler("noop-call", lambda _request: {})
    house.run(warm, name="warm")


def test_limit_holds_at_the_provider_whatever_the_backlog(house: House) -> None:
    """Thirty steps of a limit of five: all are called, never more than five in a window."""
    house.publish(CHARGE)
    ids = [house.start() for _ in range(30)]
    pumps = [house.pump, house.another_pump()]
    threads = [threading.Thread(target=pump.work, args=(LANE,)) for pump in pumps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(house.state(each) for each in ids) == {"completed": 30}
    # The provider's own clock reads late on a busy machine: a window a little shorter than stated.
    assert house.provider.ledger.peak(0.45, "charge") <= 5
    rows = [house.step(each) for each in ids]
    assert {(row.failures, row.crashes, row.dispatches) for row in rows} == {(0, 0, 1)}
    assert {row.limit_key for row in rows} == {None}
    deferred = [house.actions(each).count("step.deferred") for each in ids]
    assert set(deferred) <= {0, 1}
    assert sum(deferred) >= 10


def test_limit_admits_in_the_order_of_the_queue(house: House) -> None:
    """Whoever waits longest becomes due first, the others one by one at the key's pace."""
    hourly = {"max": 1, "window_seconds": 3600}
    house.publish({**CHARGE, "rate_limit_key": "orderly", "rate_limit": hourly})
    started = [house.start() for _ in range(13)]
    thread = threading.Thread(target=house.work)
    thread.start()

    def deferred() -> list[UUID]:
        return [each for each in started if house.step(each).deferrals]

    until(lambda: len(deferred()) >= 12)  # the other one is called, unless its token was lost
    house.pump.wind_down(1.0)
    thread.join(20)
    house.sql("UPDATE steps SET due_at = NULL")
    with house.office.begin() as tx:
        put_limit(tx, "orderly", tenant_id="default", maximum=40, window=9.98, actor="test")
    house.office = house.another_office()  # one that has not read the old limit
    eight_are_due = "SELECT 1 FROM steps WHERE due_at IS NOT NULL OFFSET 7"
    until(lambda: house.tick() and house.sql(eight_are_due))
    rows = sorted(map(house.step, deferred()), key=lambda row: (row.queued_at, row.id))
    dues = [row.due_at for row in rows]
    admitted = [due for due in dues if due is not None]
    assert dues == admitted + [None] * (len(rows) - 8)
    gaps = [(b - a).total_seconds() for a, b in itertools.pairwise(admitted)]
    assert gaps == pytest.approx([0.25 / AHEAD_OF_PACE] * 7, abs=0.001)


def test_limit_of_the_operator_wins_at_once(house: House) -> None:
    """An edited limit holds for the steps that wait already; without it the inline one does."""
    hourly = {"max": 1, "window_seconds": 3600}
    house.publish({**CHARGE, "rate_limit_key": "edited", "rate_limit": hourly})
    ids = [house.start() for _ in range(5)]
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: len([each for each in ids if house.step(each).deferrals]) == 4)
    with house.office.begin() as tx:
        (waiting,) = queued.keys(tx)
        assert (waiting.limit_key, waiting.waiting) == ("edited", 4)
        put_limit(tx, "edited", tenant_id="default", maximum=100, window=1.0, actor="test")
    until(lambda: [house.tick() and house.state(each) for each in ids] == ["completed"] * 5)
    thread.join(30)
    with house.office.begin() as tx:
        delete_limit(tx, "edited", tenant_id="default", actor="test")


def test_edited_limit_is_known_to_every_process_within_a_second(house: House) -> None:
    """A process that has just read the old limit looks again when half a second has passed."""
    office = house.another_office()
    key = ("default", "known")

    def stated() -> int | None:
        with office.begin() as tx:
            found = office.limits(tx).stated.get(key)
        return None if found is None else found.max

    assert stated() is None
    with house.office.begin() as tx:
        put_limit(tx, "known", tenant_id="default", maximum=7, window=1.0, actor="test")
    office._limits_read_at -= LIMITS_REFRESH
    assert (stated(), LIMITS_REFRESH) == (7, 0.5)
    with house.office.begin() as tx:
        delete_limit(tx, "known", tenant_id="default", actor="test")


def test_call_at_the_gate_obeys_a_limit_that_was_set_meanwhile(house: House) -> None:
    """A customer waits for a token of the step's own limit. The operator states an hourly one, and
    with the next look at the limits the call goes back unsent, to be claimed under that.
    """
    own = {"rate_limit_key": "held", "rate_limit": {"max": 1, "window_seconds": 1.2}}
    house.publish({**CHARGE, **own})
    for _ in range(2):
        house.start(lane="interactive")
    office = house.another_office()
    with closing(Limiter(house.settings.redis_url)) as limiter:
        gate = Gate(limiter, Standing(office))
        claimed, _ = claim_now(office, "interactive", uuid7(), 2, steps.take_due)
        granted, back = gate.admit(claimed)
        assert (len(granted), back, gate.held) == (1, [], 1)
        with house.office.begin() as tx:
            put_limit(tx, "held", tenant_id="default", maximum=1, window=3600.0, actor="test")
        office._limits_read_at -= LIMITS_REFRESH
        granted, back = until(lambda: any(found := gate.admit(())) and found)
    assert granted == []
    assert [item.came for item in back] == [Deferral()]


def test_limit_queue_is_not_held_up_by_what_was_cancelled(house: House) -> None:
    """A cancelled step leaves its queue, and those behind it move up."""
    own = {"rate_limit_key": "cancelled", "rate_limit": {"max": 1, "window_seconds": 3600}}
    house.publish({**CHARGE, **own})
    ids = [house.start() for _ in range(5)]
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: sum(house.step(each).deferrals > 0 for each in ids) == 4)  # one is let through
    house.pump.wind_down(1.0)
    thread.join(20)
    *cancelled, last = (each for each in ids if house.step(each).deferrals)
    for each in cancelled:
        house.signal(each, "cancel")
    assert {house.state(each) for each in cancelled} == {"cancelled"}
    assert {house.step(each).limit_key for each in cancelled} == {None}
    with house.office.begin() as tx:
        put_limit(tx, "cancelled", tenant_id="default", maximum=100, window=1.0, actor="test")
    house.pump = house.another_pump()
    until(lambda: house.tick() and (house.work() or house.state(last) == "completed"))
    assert house.totals()["charged"] == 2


def test_limit_key_may_come_from_the_data(house: House) -> None:
    """Each merchant has its own allowance; one that is spent does not hold up another."""
    order: list[str] = []
    house.handler("charge", lambda request: order.append(request.context["data"]["merchant"]))
    own = {"rate_limit_key": "m:{{data.merchant}}", "rate_limit": {"max": 1, "window_seconds": 0.5}}
    house.publish({**CHARGE, **own})
    for merchant in "aaabc":
        house.start({"merchant": merchant})
    house.work()
    assert sorted(order[:3]) == ["a", "b", "c"]
    assert order[3:] == ["a", "a"]


def test_limit_without_a_number_does_not_limit(house: House) -> None:
    """A key that nobody states a limit for is no obstacle."""
    instance_id = house.run({"type": "step", "handler": "charge", "rate_limit_key": "unheard-of"})
    assert house.state(instance_id) == "completed"


def test_limit_of_a_long_window_holds_after_redis_has_lost_it(house: House) -> None:
    """A new key begins at once; a forgotten one is counted from the audit log, and stays spent."""
    limit = {"max": 3, "window_seconds": 3600}
    house.publish({**CHARGE, "rate_limit_key": "hourly", "rate_limit": limit})
    ids = [house.start() for _ in range(3)]
    house.work()
    assert [house.state(each) for each in ids] == ["completed"] * 3
    house.redis.flush()
    more = [house.start() for _ in range(2)]
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: min(house.step(each).deferrals for each in more) >= 1)
    house.pump.wind_down(1.0)
    thread.join(20)
    assert house.totals()["charged"] == 3
    assert [house.step(each).deferrals for each in more] == [1, 1]  # nobody asks again in vain


def test_limit_of_a_long_window_has_room_again_after_a_loss(house: House) -> None:
    """What was called before counts, and no more than that."""
    limit = {"max": 5, "window_seconds": 3600}
    house.publish({**CHARGE, "rate_limit_key": "hourly-2", "rate_limit": limit})
    for flushed in (False, True):
        if flushed:
            house.redis.flush()
        ids = [house.start() for _ in range(2)]
        house.work()
        assert [house.state(each) for each in ids] == ["completed"] * 2


def test_limit_of_a_long_window_counts_its_own_key_only(house: House) -> None:
    """After a loss a key is charged with its own calls, by their cost, not with the tenant's."""
    limit = {"max": 6, "window_seconds": 3600, "cost": "{{data.cost}}"}
    house.publish({**CHARGE, "rate_limit_key": "hourly-3", "rate_limit": limit})
    house.publish({**CHARGE, "rate_limit_key": "hourly-4", "rate_limit": limit}, name="other")
    for cost in (1, 3):
        house.start({"cost": cost})
    house.start({"cost": 6}, name="other")
    house.work()
    house.redis.flush()
    last = house.start({"cost": 2})
    house.work()
    assert house.state(last) == "completed"
    full = house.start({"cost": 1})
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: house.step(full).deferrals)
    house.pump.wind_down(1.0)
    thread.join(20)
    assert house.totals()["charged"] == 4


class Crowd:
    """A handler that knows how many of its calls are in flight, and lets them go when told."""

    def __init__(self, *, leave: bool = True) -> None:
        self.here = self.most = 0
        self.door = threading.Event()
        self._lock = threading.Lock()
        if leave:
            self.door.set()

    def __call__(self, _request: object) -> dict[str, object]:
        """The call of one step."""
        with self._lock:
            self.here += 1
            self.most = max(self.most, self.here)
        assert self.door.wait(30)
        threading.Event().wait(0.02)  # long enough for others to come in meanwhile
        with self._lock:
            self.here -= 1
        return {}


def test_calls_in_flight_are_bounded_for_all_workers_together(house: House) -> None:
    """Twenty steps, two pumps of eight threads, never more than three calls at a time."""
    crowd = Crowd()
    house.handler("crowd", crowd)
    house.publish({"type": "step", "handler": "crowd", "max_in_flight": 3})
    ids = [house.start() for _ in range(20)]
    pumps = [house.pump, house.another_pump()]
    threads = [threading.Thread(target=pump.work, args=(LANE,)) for pump in pumps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(house.state(each) for each in ids) == {"completed": 20}
    assert crowd.most == 3
    assert {house.step(each, "crowd").dispatches for each in ids} == {1}


def test_call_without_a_time_out_keeps_its_place(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function takes as long as it takes: whatever the step's time-out, no other comes in."""
    monkeypatch.setattr("orch8.runtime.preparing.LEASE_MARGIN", 1.0)
    crowd = Crowd(leave=False)
    house.handler("crowd", crowd)
    house.publish({"type": "step", "handler": "crowd", "max_in_flight": 1, "timeout": "100ms"})
    ids = [house.start() for _ in range(3)]
    pumps = [house.pump, house.another_pump()]
    threads = [threading.Thread(target=pump.work, args=(LANE,)) for pump in pumps]
    for thread in threads:
        thread.start()
    until(lambda: crowd.here == 1)
    begun = time.monotonic()
    until(lambda: crowd.most > 1 or time.monotonic() > begun + 2.5)  # twice its lease
    assert (crowd.here, crowd.most) == (1, 1)
    crowd.door.set()
    until(lambda: [house.tick() and house.state(each) for each in ids] == ["completed"] * 3)
    for thread in threads:
        thread.join(30)
    assert crowd.most == 1


def test_calls_in_flight_are_known_after_redis_has_lost_them(house: House) -> None:
    """A flushed server is told by Postgres what is in flight: nobody comes in before they leave."""
    crowd = Crowd(leave=False)
    house.handler("crowd", crowd)
    house.publish({"type": "step", "handler": "crowd", "max_in_flight": 2, "timeout": "2s"})
    ids = [house.start() for _ in range(2)]
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: crowd.here == 2)
    house.redis.flush()
    ids += [house.start() for _ in range(2)]
    other = threading.Thread(target=house.another_pump().work, args=(LANE,))
    other.start()
    until(lambda: sum(bool(house.step(each, "crowd").deferrals) for each in ids) == 2)
    assert crowd.most == 2
    crowd.door.set()
    until(lambda: [house.tick() and house.state(each) for each in ids] == ["completed"] * 4)
    for each in (thread, other):
        each.join(30)
    assert crowd.most == 2


def test_refused_call_costs_no_attempt_and_stops_its_key_for_everybody(house: House) -> None:
    """A 429 with Retry-After blocks the key; the call keeps its key and is made again later."""
    house.publish(
        {**CHARGE, "retry": {"max_attempts": 1}, "rate_limit": {"max": 50, "window_seconds": 0.5}}
    )
    house.provider_does(Rule(Do.RATE_LIMIT, times=1, retry_after="2"))
    first = house.start()
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: "step.resend" in house.actions(first))
    second = house.start()
    house.work()  # the pump at work is poked
    until(lambda: house.step(second).deferrals)
    row = house.step(first)
    assert (row.failures, row.outcome) == (0, "failed_safe")
    until(lambda: [house.tick() and house.state(e) for e in (first, second)] == ["completed"] * 2)
    thread.join(30)
    assert house.step(first).dispatches == 2
    assert house.step(first).idempotency_key == row.idempotency_key
    assert house.totals()["charged"] == 2


def test_refused_call_is_not_spared_for_ever(house: House) -> None:
    """After a day of refusals they count, and the step fails as its retry policy says."""
    house.publish(
        {**CHARGE, "retry": {"max_attempts": 1}, "rate_limit": {"max": 50, "window_seconds": 0.5}}
    )
    house.provider_does(Rule(Do.RATE_LIMIT, retry_after="1"))
    instance_id = house.start()
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: "step.resend" in house.actions(instance_id))
    house.advance(timedelta(hours=25))
    until(lambda: house.tick() and house.state(instance_id) == "failed")
    thread.join(30)
    row = house.step(instance_id)
    assert (row.failures, row.outcome) == (0, "failed_safe")
    assert row.dispatches >= 2
    assert house.totals()["charged"] == 0


def test_function_that_was_refused_for_the_limit_says_so(house: House) -> None:
    """RateLimited costs no attempt and stops the key for everybody; TryAgain is a failure."""
    raised: list[Exception] = [RateLimited("full", after=1.5), TryAgain("busy", after=0.1)]

    def refuse(_request: object) -> object:
        if raised:
            raise raised.pop(0)
        return {"paid": True}

    house.handler("sdk", refuse)
    limit = {"max": 50, "window_seconds": 0.5}
    retry = {"max_attempts": 2, "backoff": "0.1s"}
    step = {"type": "step", "handler": "sdk", "rate_limit_key": "sdk", "rate_limit": limit}
    house.publish({**step, "retry": retry})
    instance_id = house.start()
    thread = threading.Thread(target=house.work)
    thread.start()
    until(lambda: "step.resend" in house.actions(instance_id))
    with closing(Limiter(house.settings.redis_url)) as limiter:
        assert limiter.peek("default", Limit("sdk", 50, 0.5)).blocked > 0
    until(lambda: house.tick() and house.state(instance_id) == "completed")
    thread.join(30)
    row = house.step(instance_id, "sdk")
    assert (row.dispatches, row.failures) == (3, 1)


def test_cost_that_is_no_number_fails_the_step_unsent(house: House) -> None:
    """The error says what came and what was wanted."""
    limit = {"max": 6, "window_seconds": 1, "cost": "{{data.cost}}"}
    instance_id = house.run({**CHARGE, "rate_limit": limit}, data={"cost": "three"})
    assert house.state(instance_id) == "failed"
    assert "whole number from 1 to 100" in house.step(instance_id).error["message"]
    assert house.keys() == []


def test_key_without_a_limit_is_counted_and_shown(house: House) -> None:
    """What runs unlimited is listed until somebody states a limit."""
    house.run({"type": "step", "handler": "charge", "rate_limit_key": "unheard-of"})
    with house.office.begin() as tx:
        (found,) = fleet.unlimited(tx, "default")
        assert (found.key, found.calls) == ("unheard-of", 1)
        put_limit(tx, "unheard-of", tenant_id="default", max_in_flight=5, actor="test")
        assert fleet.unlimited(tx, "default") == []
