"""Claims of charges: what was sent under an old one, and what is not sent at all."""

from __future__ import annotations

import time
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

from orch8.engine.outcome import Answer, Verdict
from orch8.runtime import evidence
from orch8.runtime.claim import claim
from orch8.runtime.crew import Crew
from orch8.runtime.evidence import Word
from orch8.runtime.preparing import Task
from orch8.runtime.pump import Pump
from orch8.runtime.settle import Deferral, Item, settle
from orch8.testing.misbehaviour import Do, Rule
from tests.support.house import LANE, House

HOUR = timedelta(hours=1)
DECLINES = {"max_attempts": 3, "backoff": "1h", "jitter": 0, "on": ["declined"]}
CHARGE: dict[str, Any] = {
    "type": "step", "handler": "charge", "effect": "money", "on_unknown": {"policy": "park"},
    "retry": DECLINES,
}  # fmt: skip


def take(house: House, pump: Pump) -> Task:
    """The one due step is claimed by the pump's process, and not called."""
    with house.office.begin() as tx:
        (task,) = claim(house.office, tx, LANE, pump.lease.hold(), 8)
    return task


def test_late_answer_of_an_attempt_that_was_given_up_is_an_incident(house: House) -> None:
    """A charge was called declined and made anew; then the worker of the first comes back and says
    that it succeeded. That is not the new one's answer: a person has to know of two charges.
    """
    house.publish(CHARGE)
    instance_id = house.start()
    lost = house.another_pump()
    old = take(house, lost)
    house.lose(lost)
    house.tick()
    with house.office.begin() as tx:
        word = Word(outcome=Verdict.DECLINED, idempotency_key=old.row.idempotency_key)
        evidence.testify(house.office, tx, word, tenant_id="default")
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.advance(HOUR)
    house.work()
    row = house.step(instance_id)
    assert (row.generation, row.state, row.outcome) == (2, "parked", "unknown")
    with house.office.begin() as tx:
        settle(house.office, tx, [Item(old, Answer(Verdict.SUCCEEDED, {"id": "ch_1"}))], None)
    row = house.step(instance_id)
    assert (row.generation, row.state, row.outcome) == (2, "parked", "unknown")
    (incident,) = house.sql("SELECT kind, body FROM incidents")
    assert (incident.kind, incident.body["said"]) == ("contrary_evidence", "succeeded")


def test_function_is_not_called_after_the_lease(house: House) -> None:
    """A call that waited for a thread until its claim was no longer its own is given back unsent,
    whoever would have made it: a handler in Python has no wire that could check once more.
    """
    called: list[Any] = []
    house.handler("charge", called.append)
    house.publish(CHARGE)
    house.start()
    task = take(house, house.another_pump())
    handed: SimpleQueue[Item] = SimpleQueue()
    crew = Crew(house.settings, lambda item, _: handed.put(item), None)
    crew.start(1)
    crew.put(task, None, time.monotonic() - 1)
    assert isinstance(handed.get(timeout=10).came, Deferral)
    crew.dismiss()
    assert called == []


def test_provider_that_keeps_no_keys_is_not_sent_to_twice(house: House) -> None:
    """Where nothing is replayed, the same key is no protection: a lost answer is for a person."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    policy = {"policy": "retry_same_key", "then": "park"}
    step = {**CHARGE, "on_unknown": policy, "idempotency": {"replay": "none"}}
    instance_id = house.run(step)
    house.advance(HOUR)
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.attention["reason"]) == ("parked", "outcome_unknown")
    assert house.totals()["asked"] == 1


def test_key_is_as_old_as_its_first_dispatch(house: House) -> None:
    """Sending a key again makes it no younger: the provider keeps it from the first time on."""
    house.provider_does(Rule(Do.COMMIT_THEN_HANG_UP, times=2))
    retry = {"max_attempts": 3, "backoff": "20m", "jitter": 0}
    step = {"type": "step", "handler": "charge", "effect": "money", "retry": retry}
    instance_id = house.run({**step, "idempotency": {"ttl": "10h"}})
    first = house.step(instance_id)
    assert first.first_dispatched_at == first.last_dispatched_at
    house.advance(HOUR)
    house.work()
    row = house.step(instance_id)
    assert row.dispatches > 1
    assert row.first_dispatched_at == first.first_dispatched_at
    assert row.last_dispatched_at - row.first_dispatched_at >= HOUR
