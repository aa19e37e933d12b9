"""Behind a fence at most one step may move money at a time, over all instances of a tenant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orch8.engine.outcome import Verdict
from orch8.runtime import evidence
from orch8.runtime.claim import claim
from orch8.runtime.evidence import Standing
from orch8.runtime.run import JANITOR
from orch8.runtime.settle import Deferral, Item, settle
from orch8.runtime.words import Word
from orch8.storage import fences
from orch8.testing.misbehaviour import Do
from tests.support.house import House

MINUTE = timedelta(minutes=1)
FENCE = "invoice:{{context.data.invoice}}"


def charge(**members: Any) -> dict[str, Any]:
    """A charge behind the fence of its invoice; unanswered, it is tried again a long time later."""
    retry = {"max_attempts": 3, "backoff": "1h", "jitter": 0}
    step = {"type": "step", "handler": "charge", "effect": "money", "fence": FENCE, "retry": retry}
    return {**step, **members}


def held(house: House) -> list[tuple[str, str, bool]]:
    """The fences that are taken, by which step, and whether that has ended."""
    with house.office.begin() as tx:
        return [(row.fence, row.node_key, row.settled) for row in fences.held(tx, None)]


def test_fence_is_held_while_a_step_may_be_moving_money_and_free_afterwards(house: House) -> None:
    """From the intent until the answer is known; then whoever comes next may go."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(charge(), data={"invoice": "in_1"})
    assert held(house) == [("invoice:in_1", "charge", False)]
    house.advance(timedelta(hours=1))
    house.work()
    assert house.step(instance_id).state == "completed"
    assert held(house) == []


def test_fence_makes_a_second_instance_wait_for_a_charge_in_doubt(house: House) -> None:
    """A second charge of the same invoice, by whatever instance, is not sent before it is known
    what became of the first; then it follows at once.
    """
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    first = house.run(charge(), data={"invoice": "in_1"})
    second = house.start({"invoice": "in_1"})
    house.work()
    row = house.step(second)
    assert (row.state, row.waits_for, row.dispatches, row.request) == (
        "scheduled",
        "fence",
        0,
        None,
    )
    assert house.state(second) == "scheduled"
    assert "step.fenced" in house.actions(second)
    assert house.totals()["asked"] == 1
    house.advance(timedelta(hours=1))
    house.work()
    assert house.state(first) == house.state(second) == "completed"
    assert house.totals()["charged"] == 2


def test_fences_of_different_invoices_do_not_meet(house: House) -> None:
    """A doubt about one invoice holds up no other."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.run(charge(), data={"invoice": "in_1"})
    other = house.start({"invoice": "in_2"})
    house.work()
    assert house.state(other) == "completed"


def test_fence_lets_an_instance_s_next_charge_follow_in_the_same_commit(house: House) -> None:
    """A step that ends lets go of its fence before the step behind it takes it."""
    house.publish(charge(id="one"), charge(id="two"), charge(id="three"))
    instance_id = house.start({"invoice": "in_1"})
    house.work()
    assert house.state(instance_id) == "completed"
    assert house.totals()["charged"] == 3
    assert held(house) == []
    assert "step.fenced" not in house.actions(instance_id)


def test_fence_keeps_parallel_branches_of_one_instance_apart(house: House) -> None:
    """Two branches with one fence take turns, even within one batch."""
    branches = [[charge(id="left")], [charge(id="right")]]
    instance_id = house.run({"type": "parallel", "branches": branches}, data={"invoice": "in_1"})
    house.advance(MINUTE)
    house.work()
    assert house.state(instance_id) == "completed"
    assert house.totals()["charged"] == 2
    assert house.actions(instance_id).count("step.fenced") == 1


def test_fence_that_is_to_fail_fails_the_second_step(house: House) -> None:
    """on_fence fail: the step fails with who has the fence, and nothing is sent."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.run(charge(), data={"invoice": "in_1"})
    house.publish(charge(on_fence="fail"), name="second")
    second = house.start({"invoice": "in_1"}, name="second")
    house.work()
    assert house.state(second) == "failed"
    error = house.instance(second).error
    assert error["code"] == "fence_taken"
    assert "charge" in error["message"]
    assert house.totals()["asked"] == 1


def test_fence_is_kept_while_the_customer_has_to_act(house: House) -> None:
    """requires_action: the money may still move, so another instance waits; the customer's step
    seen by a webhook, or the end of the instance, frees it.
    """
    house.provider_does(Do.REQUIRES_ACTION)
    wait = {"type": "wait_signal", "id": "acted", "signal": "done"}
    first = house.run(charge(), wait, data={"invoice": "in_1"})
    assert held(house) == [("invoice:in_1", "charge", True)]
    second = house.start({"invoice": "in_1"})
    house.work()
    assert house.step(second).waits_for == "fence"
    house.signal(first, name="done")
    house.work()
    assert house.state(first) == "completed"
    house.advance(MINUTE)
    house.work()
    assert house.step(second).outcome == "succeeded"


def test_fence_of_a_customer_who_has_acted_is_free(house: House) -> None:
    """A word from the provider that the payment succeeded after all lets the next one go."""
    house.provider_does(Do.REQUIRES_ACTION)
    wait = {"type": "wait_signal", "id": "acted", "signal": "done"}
    first = house.run(charge(), wait, data={"invoice": "in_1"})
    key = house.step(first).idempotency_key
    with house.office.begin() as tx:
        word = Word(outcome=Verdict.SUCCEEDED, idempotency_key=key)
        assert (
            evidence.testify(house.office, tx, word, tenant_id="default").state is Standing.AGREES
        )
    assert held(house) == []


def test_fence_of_the_same_instance_is_taken_over_from_a_step_that_waits_for_the_customer(
    house: House,
) -> None:
    """A flow that goes on to a retry without waiting for its customer does not block itself."""
    house.provider_does(Do.REQUIRES_ACTION)
    instance_id = house.run(charge(id="one"), charge(id="two"), data={"invoice": "in_1"})
    assert house.state(instance_id) == "completed"
    assert held(house) == []


def test_fence_is_superseded_only_where_the_customer_has_to_act(house: House) -> None:
    """on_fence supersede takes over from a step that waits for its customer, never from one whose
    outcome is unknown.
    """
    house.provider_does(Do.REQUIRES_ACTION)
    wait = {"type": "wait_signal", "id": "acted", "signal": "done"}
    house.run(charge(), wait, data={"invoice": "in_1"})
    house.publish(charge(on_fence="supersede"), name="second")
    second = house.start({"invoice": "in_1"}, name="second")
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.work()
    assert house.step(second).outcome == "unknown"
    third = house.start({"invoice": "in_1"}, name="second")
    house.work()
    assert house.step(third).waits_for == "fence"


def test_fence_of_a_cancelled_step_is_free(house: House) -> None:
    """A step that is cancelled before it was sent holds up nobody."""
    house.publish(charge())
    instance_id = house.start({"invoice": "in_1"})
    with house.office.begin() as tx:
        (task,) = claim(house.office, tx, "renewal", house.pump.lease.hold(), 1)
    with house.office.begin() as tx:
        settle(house.office, tx, [Item(task, Deferral(60.0))], None)
    assert held(house) == [("invoice:in_1", "charge", False)]
    house.signal(instance_id, "cancel")
    assert house.state(instance_id) == "cancelled"
    assert held(house) == []


def test_fence_that_somebody_waits_for_has_its_doubt_looked_into_at_once(house: House) -> None:
    """Before a later operation on the fence, the read handler is asked, whatever its schedule."""
    house.handler("find_charge", lambda _: {"found": "yes", "outcome": "succeeded"})
    policy = {"policy": "reconcile", "handler": "find_charge", "schedule": ["6h"]}
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    first = house.run(charge(on_unknown=policy), data={"invoice": "in_1"})
    second = house.start({"invoice": "in_1"})
    house.work()
    assert house.step(second).waits_for == "fence"
    house.work(JANITOR)
    assert house.step(first).outcome == "succeeded"
    house.work()
    assert house.step(second).outcome == "succeeded"


def test_fence_outlives_the_process_that_took_it(house: House) -> None:
    """A worker that dies with a charge under way leaves the fence to whoever resolves it."""
    house.publish(charge())
    house.start({"invoice": "in_1"})
    pump = house.another_pump()
    with house.office.begin() as tx:
        assert claim(house.office, tx, "renewal", pump.lease.hold(), 1)
    second = house.start({"invoice": "in_1"})
    house.work()
    assert house.step(second).waits_for == "fence"
    house.lose(pump)
    house.tick()
    house.work()
    house.advance(MINUTE)
    house.work()
    assert house.step(second).outcome == "succeeded"
    assert house.totals()["charged"] == 2
