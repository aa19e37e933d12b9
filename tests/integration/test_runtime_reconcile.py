"""An attempt in doubt is found out about by asking: what happened is adopted, what did not is sent
again, and what nobody can tell goes to a person. It is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orch8.handlers.python import TryAgain
from orch8.runtime.run import JANITOR
from orch8.testing.misbehaviour import Do
from tests.support.house import House

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LATER = {"max_attempts": 3, "backoff": "20m", "jitter": 0}
YES = {"found": "yes", "outcome": "succeeded", "provider_ref": "ch_1", "output": {"charge": 7}}


def charge(**members: Any) -> dict[str, Any]:
    """A charge whose outcome is asked for when it is unknown."""
    policy = {"policy": "reconcile", "handler": "find_charge", "schedule": ["30s", "5m", "1h"]}
    money = {"amount": 9900, "currency": "eur"}
    step = {"type": "step", "handler": "charge", "effect": "money", "money": money}
    return {**step, "on_unknown": policy | members.pop("on_unknown", {}), **members}


@pytest.fixture
def asked(house: House) -> list[Any]:
    """The questions that the read handler was asked; it answers what `house.says` holds."""
    questions: list[Any] = []
    house.says = [YES]  # type: ignore[attr-defined]

    def find_charge(request: Any) -> Any:
        questions.append(request)
        says: list[Any] = house.says  # type: ignore[attr-defined]
        answer = says.pop(0) if len(says) > 1 else says[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    house.handler("find_charge", find_charge)
    return questions


def says(house: House, *answers: Any) -> None:
    """From now on the read handler gives these answers, the last one again and again."""
    house.says = list(answers)  # type: ignore[attr-defined]


def ask(house: House, after: timedelta = MINUTE) -> None:
    """Time has passed, and what was due for the janitor then has been asked."""
    house.advance(after)
    house.work(JANITOR)


def doubts(house: House) -> list[tuple[Any, ...]]:
    """Every doubt: how it was resolved, and as what."""
    found = house.sql("SELECT resolved_by, verdict FROM doubts ORDER BY opened_at")
    return [tuple(row) for row in found]


def test_reconcile_adopts_what_happened(house: House, asked: list[Any]) -> None:
    """A charge whose answer was lost is asked about, and its output becomes the step's memo."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(charge())
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.asking) == ("scheduled", "unknown", "find_charge")
    assert house.state(instance_id) == "waiting"
    assert doubts(house) == [(None, None)]
    ask(house)
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.output) == ("completed", "succeeded", {"charge": 7})
    assert (row.provider_ref, row.dispatches) == ("ch_1", 1)
    assert house.totals()["asked"] == 1
    assert doubts(house) == [("reconcile", "succeeded")]


def test_reconcile_tells_the_handler_all_that_is_known(house: House, asked: list[Any]) -> None:
    """Key, request, times and what was seen; under a key of its own, since it is another call."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(charge(params={"x": 1}), data={"customer": "c"})
    row = house.step(instance_id)
    ask(house)
    (question,) = asked
    assert question.attempt["idempotency_key"] == row.idempotency_key
    assert question.attempt["request_sha256"] == row.fingerprint
    assert question.attempt["dispatches"] == 1
    assert question.attempt["first_dispatched_at"] is not None
    assert question.params == {"x": 1}
    assert question.money == {"amount": 9900, "currency": "EUR"}
    assert question.idempotency_key != row.idempotency_key


def test_reconcile_adopts_a_decline(house: House, asked: list[Any]) -> None:
    """A found decline completes the step as one: routers see it like any other."""
    says(house, {"found": "yes", "outcome": "declined", "output": {"code": "no_funds"}})
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(charge())
    ask(house)
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.output) == ("completed", "declined", {"code": "no_funds"})


def test_reconcile_believes_an_absence_only_when_it_is_confirmed(
    house: House, asked: list[Any]
) -> None:
    """What was sent needs its time to arrive and to show: a no counts after that, and twice."""
    says(house, {"found": "no"})
    house.provider_does(Do.HANG_UP)
    instance_id = house.run(charge())
    ask(house)  # too early to mean anything
    assert house.step(instance_id).progress["asked"] == 1
    assert "absent" not in house.step(instance_id).progress
    ask(house, 6 * MINUTE)
    assert house.step(instance_id).progress["absent"] == 1
    ask(house, 6 * MINUTE)
    assert doubts(house) == [("reconcile", "not_happened")]
    row = house.step(instance_id)
    assert (row.state, row.dispatches, row.generation) == ("completed", 2, 1)
    assert house.totals()["charged"] == 1
    assert len(house.keys()) == 1  # the same key: the provider still knows it


def test_reconcile_sends_an_absent_charge_under_a_new_key_when_the_old_one_is_forgotten(
    house: House, asked: list[Any]
) -> None:
    """Past the key's life the same key would be a new request to the provider, so it gets a new
    one, of a new attempt.
    """
    says(house, {"found": "no"})
    house.provider_does(Do.HANG_UP)
    instance_id = house.run(charge(idempotency={"ttl": "30m"}))
    key = house.step(instance_id).idempotency_key
    for _ in range(3):
        ask(house, 20 * MINUTE)
    row = house.step(instance_id)
    assert (row.state, row.generation) == ("completed", 2)
    assert row.idempotency_key != key
    assert house.totals()["charged"] == 1


def test_reconcile_that_never_finds_out_goes_to_a_person(house: House, asked: list[Any]) -> None:
    """When the schedule is over the step is parked, whatever its retry policy: never failed."""
    says(house, {"found": "cannot_tell"}, TryAgain("search is down"), "nonsense")
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(charge(deadline="1h"))
    for _ in range(4):
        ask(house, 3 * HOUR)
    row = house.step(instance_id)
    assert (row.state, row.outcome) == ("parked", "unknown")
    assert row.attention["reason"] == "reconcile_exhausted"
    assert house.instance(instance_id).attention["node_key"] == "charge"
    assert house.totals()["asked"] == 1
    assert doubts(house) == [(None, None)]


def test_reconcile_goes_on_during_a_pause(house: House, asked: list[Any]) -> None:
    """Pausing an instance stops what it does next, not finding out what it has done."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(charge(), {"type": "step", "handler": "notify"})
    house.signal(instance_id, "pause")
    ask(house)
    house.work()
    assert house.step(instance_id).state == "completed"
    assert house.state(instance_id) == "paused"
    assert house.totals()["asked"] == 1


def test_reconcile_resolves_a_cancelled_charge_before_anything_else(
    house: House, asked: list[Any]
) -> None:
    """Cancelling waits until it is known whether the card was charged; then the saga refunds it."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    refund = {"type": "step", "handler": "refund", "id": "refund"}
    saga = {"type": "saga", "steps": [{"action": charge(id="charge"), "compensation": refund}]}
    instance_id = house.run(saga)
    house.signal(instance_id, "cancel")
    house.work()
    assert house.instance(instance_id).cancelling
    assert house.step(instance_id).asking == "find_charge"
    ask(house)
    house.work()
    assert house.state(instance_id) == "cancelled"
    assert house.step(instance_id, "refund").state == "completed"


def test_reconcile_of_a_cancelled_charge_that_did_not_happen_ends_it(
    house: House, asked: list[Any]
) -> None:
    """An absent charge of a cancelled instance is not made after all."""
    says(house, {"found": "no"})
    house.provider_does(Do.HANG_UP)
    instance_id = house.run(charge())
    house.signal(instance_id, "cancel")
    for _ in range(4):
        ask(house, 6 * MINUTE)
    house.work()
    assert house.state(instance_id) == "cancelled"
    assert house.totals()["charged"] == 0


def test_reconcile_is_asked_again_by_whoever_comes_after_a_lost_janitor(
    house: House, asked: list[Any], houses: Callable[..., House]
) -> None:
    """A question whose asker is gone is asked once more; the charge itself is not sent again."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(charge())
    pump = house.another_pump()
    house.advance(MINUTE)
    claim_and_vanish(house, pump, instance_id)
    house.lose(pump)
    house.tick()
    house.work(JANITOR)
    assert house.step(instance_id).state == "completed"
    assert house.totals()["asked"] == 1


def claim_and_vanish(house: House, pump: Any, instance_id: UUID) -> None:
    """The pump has claimed the question about the charge, and nothing more is heard of it."""
    from orch8.runtime.claim import claim  # noqa: PLC0415

    with house.office.begin() as tx:
        (task,) = claim(house.office, tx, JANITOR, pump.lease.hold(), 1)
    assert (task.row.instance_id, task.row.asking) == (instance_id, "find_charge")


def test_reconcile_of_a_lost_claim_asks_before_it_sends(house: House, asked: list[Any]) -> None:
    """With reconcile, a claim that was lost between intent and answer is asked about, not sent."""
    house.provider_does(Do.COMMIT_THEN_TIME_OUT)
    instance_id = send_and_vanish(house)
    house.tick()
    row = house.step(instance_id)
    assert (row.state, row.asking, row.outcome) == ("scheduled", "find_charge", "unknown")
    ask(house)
    assert house.step(instance_id).state == "completed"
    assert house.totals()["charged"] <= 1


def send_and_vanish(house: House) -> UUID:
    """A charge was claimed by a process that is gone since."""
    from orch8.runtime.claim import claim  # noqa: PLC0415

    house.publish(charge())
    instance_id = house.start()
    pump = house.another_pump()
    with house.office.begin() as tx:
        assert claim(house.office, tx, "renewal", pump.lease.hold(), 1)
    house.lose(pump)
    return instance_id


def test_policy_park_leaves_the_doubt_to_a_person_at_once(house: House) -> None:
    """park: neither sent again nor asked about."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run({**charge(), "on_unknown": {"policy": "park"}})
    row = house.step(instance_id)
    assert (row.state, row.attention["reason"]) == ("parked", "outcome_unknown")
    assert doubts(house) == [(None, None)]


def test_policy_retry_then_reconcile_asks_when_the_key_may_be_forgotten(
    house: House, asked: list[Any]
) -> None:
    """The same key is sent while that is safe; past its life the provider is asked instead."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    policy = {"policy": "retry_same_key", "handler": "find_charge", "then": "reconcile"}
    step = {**charge(), "on_unknown": policy, "idempotency": {"ttl": "1h"}, "retry": LATER}
    instance_id = house.run(step)
    assert house.step(instance_id).asking is None
    house.advance(HOUR)  # nobody was there to send it when it was due
    house.work()
    row = house.step(instance_id)
    assert (row.asking, row.dispatches) == ("find_charge", 1)
    ask(house)
    assert house.step(instance_id).state == "completed"
    assert house.totals()["charged"] == 1


def test_frozen_request_is_sent_again_byte_for_byte(house: House) -> None:
    """What moves money is frozen with its intent: a context that changes meanwhile does not change
    what is sent again.
    """
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    step = {
        "type": "step", "handler": "charge", "effect": "money",
        "params": {"card": "{{context.data.card}}"}, "retry": LATER,
    }  # fmt: skip
    instance_id = house.run(step, data={"card": "pm_1"})
    first = house.step(instance_id)
    assert first.request is not None
    house.signal(instance_id, "update_context", payload={"data": {"card": "pm_2"}})
    house.advance(HOUR)
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.dispatches, row.fingerprint) == ("completed", 2, first.fingerprint)
    assert len(house.keys()) == 1
    assert house.totals()["charged"] == 1


def test_provider_that_says_still_at_it_is_asked_again_with_the_same_key(house: House) -> None:
    """A 409 in flight is in progress by the provider's table, whatever the policy: the key is sent
    again until the first request has ended.
    """
    seen: list[Any] = []

    def busy(request: Any) -> Any:
        seen.append(request.idempotency_key)
        if len(seen) < 3:
            return {"outcome": "in_progress"}
        return {"ok": True}

    house.handler("charge", busy)
    step = {**charge(), "on_unknown": {"policy": "park"}}
    step["outcome_map"] = [{"body": {"outcome": "in_progress"}, "outcome": "in_progress"}]
    instance_id = house.run(step)
    for _ in range(4):
        house.advance(10 * MINUTE)
        house.work()
    assert house.step(instance_id).state == "completed"
    assert len(set(seen)) == 1
    assert doubts(house) == [("retry", "succeeded")]
