"""Words from outside about an attempt: the first conclusive one wins, a contrary one is looked at
by a person, and nothing that is recorded is ever overwritten.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import InvalidArgument
from orch8.runtime import evidence
from orch8.runtime.claim import claim
from orch8.runtime.evidence import Standing
from orch8.runtime.settle import Item, settle
from orch8.runtime.words import Word
from orch8.testing.misbehaviour import Do, Rule
from tests.support.house import House

HOUR = timedelta(hours=1)


def charge(**members: Any) -> dict[str, Any]:
    """A charge that, unanswered, is tried again a long time later."""
    retry = {"max_attempts": 3, "backoff": "1h", "jitter": 0}
    return {"type": "step", "handler": "charge", "effect": "money", "retry": retry, **members}


def doubtful(house: House, **members: Any) -> UUID:
    """An instance whose charge was made, and the answer lost."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    return house.run(charge(**members))


def tell(house: House, outcome: Verdict, **more: Any) -> evidence.Testimony:
    """What a webhook with this outcome comes to."""
    with house.office.begin() as tx:
        return evidence.testify(
            house.office, tx, Word(outcome=outcome, **more), tenant_id="default"
        )


def incidents(house: House) -> list[Any]:
    """The bodies of all incidents."""
    return [row.body for row in house.sql("SELECT body FROM incidents ORDER BY id")]


def test_word_resolves_a_doubt_at_once(house: House) -> None:
    """A webhook that correlates by key ends the step with its output; nothing is sent again."""
    instance_id = doubtful(house)
    key = house.step(instance_id).idempotency_key
    told = tell(
        house, Verdict.SUCCEEDED, idempotency_key=key, provider_ref="ch_1", output={"id": "ch_1"}
    )
    assert (told.state, told.instance_id, told.node_key) == ("resolved", instance_id, "charge")
    row = house.step(instance_id)
    assert (row.state, row.output, row.provider_ref) == ("completed", {"id": "ch_1"}, "ch_1")
    house.advance(HOUR)
    house.work()
    assert house.totals()["asked"] == 1
    found = house.sql("SELECT resolved_by, verdict FROM doubts")
    assert [tuple(each) for each in found] == [("webhook", "succeeded")]


def test_word_resolves_a_parked_step(house: House) -> None:
    """Parked does not mean that only a person may say what happened."""
    instance_id = doubtful(house, on_unknown={"policy": "park"})
    assert house.step(instance_id).state == "parked"
    tell(house, Verdict.DECLINED, at=(instance_id, "charge"), output={"code": "no_funds"})
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.attention) == ("completed", "declined", None)
    assert house.state(instance_id) == "completed"


def test_word_beats_an_answer_that_is_still_on_its_way(house: House) -> None:
    """A webhook may come before the reply: the step goes on, and the reply agrees as evidence."""
    house.publish(charge())
    instance_id = house.start()
    pump = house.another_pump()
    with house.office.begin() as tx:
        (task,) = claim(house.office, tx, "renewal", pump.lease.hold(), 1)
    tell(house, Verdict.SUCCEEDED, idempotency_key=task.row.idempotency_key, output={"by": "hook"})
    assert house.step(instance_id).output == {"by": "hook"}
    with house.office.begin() as tx:
        settle(house.office, tx, [Item(task, Answer(Verdict.SUCCEEDED, {"by": "reply"}))], None)
    assert house.step(instance_id).output == {"by": "hook"}
    assert [row.kind for row in house.evidence(instance_id)] == ["webhook", "late_answer"]
    assert incidents(house) == []


def test_word_that_was_told_before_is_seen(house: House) -> None:
    """Webhooks come more than once; the event's id makes the second one harmless."""
    instance_id = doubtful(house)
    key = house.step(instance_id).idempotency_key
    for expected in (Standing.RESOLVED, Standing.SEEN):
        told = tell(house, Verdict.SUCCEEDED, idempotency_key=key, event_id="evt_1")
        assert told.state is expected
    assert len(house.evidence(instance_id)) == 2  # the lost answer, and the one word


def test_word_that_contradicts_what_is_recorded_is_an_incident(house: House) -> None:
    """The first conclusive word stands; the contrary one is kept, shown, and acted on by nobody."""
    instance_id = doubtful(house)
    key = house.step(instance_id).idempotency_key
    tell(house, Verdict.DECLINED, idempotency_key=key)
    told = tell(house, Verdict.SUCCEEDED, idempotency_key=key, provider_ref="ch_9")
    assert told.state is Standing.CONTRARY
    (body,) = incidents(house)
    assert (body["recorded"], body["said"]) == ("declined", "succeeded")
    assert house.step(instance_id).outcome == "declined"
    assert "incident.contrary_evidence" in house.actions(instance_id)


def test_word_about_an_attempt_that_was_given_up_is_an_incident(house: House) -> None:
    """A charge that was declined and made anew under another key, and then turns out to have
    succeeded the first time, is two charges: a person has to know at once.
    """
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    retry = {"max_attempts": 3, "backoff": "1h", "jitter": 0, "on": ["declined", "unknown"]}
    instance_id = house.run(charge(retry=retry))
    key = house.step(instance_id).idempotency_key
    tell(house, Verdict.DECLINED, idempotency_key=key)
    assert house.step(instance_id).generation == 2
    house.advance(HOUR)
    house.work()
    assert house.step(instance_id).outcome == "succeeded"
    told = tell(house, Verdict.SUCCEEDED, idempotency_key=key)
    assert told.state is Standing.CONTRARY
    assert incidents(house)[0]["recorded"] == "not_happened"


def test_word_that_agrees_is_kept_and_changes_nothing(house: House) -> None:
    """The usual case: the reply came, and the webhook says the same."""
    instance_id = house.run(charge())
    key = house.step(instance_id).idempotency_key
    told = tell(house, Verdict.SUCCEEDED, idempotency_key=key)
    assert told.state is Standing.AGREES
    assert [row.kind for row in house.evidence(instance_id)] == ["webhook"]


def test_word_about_nothing_known_is_unmatched(house: House) -> None:
    """Another system's payment is none of ours; neither is another tenant's."""
    instance_id = doubtful(house)
    assert tell(house, Verdict.SUCCEEDED, idempotency_key="nope").state is Standing.UNMATCHED
    assert tell(house, Verdict.SUCCEEDED, provider_ref="ch_0").state is Standing.UNMATCHED
    with house.office.begin() as tx:
        key = house.step(instance_id).idempotency_key
        word = Word(outcome=Verdict.SUCCEEDED, idempotency_key=key)
        assert (
            evidence.testify(house.office, tx, word, tenant_id="other").state is Standing.UNMATCHED
        )


def test_word_that_says_nothing_certain_is_refused(house: House) -> None:
    """Pending or unknown resolves nothing, so telling it is a mistake that is named."""
    with pytest.raises(InvalidArgument, match="says nothing certain"):
        tell(house, Verdict.PENDING, idempotency_key="k")
    with pytest.raises(InvalidArgument, match="name the attempt"):
        tell(house, Verdict.SUCCEEDED)


def test_word_that_it_failed_ends_the_step_as_failed(house: House) -> None:
    """The provider says that it surely did not happen, and the policy tries no more."""
    instance_id = doubtful(house, retry={"max_attempts": 1, "backoff": "1h"})
    tell(house, Verdict.FAILED, idempotency_key=house.step(instance_id).idempotency_key)
    assert house.step(instance_id).state == "failed"
    assert house.state(instance_id) == "failed"


def test_late_answer_of_a_worker_that_lost_its_lease_resolves_the_doubt(house: House) -> None:
    """A worker that wakes up after its claim was taken back still knows how its call ended."""
    house.publish(charge(on_unknown={"policy": "park"}))
    instance_id = house.start()
    pump = house.another_pump()
    with house.office.begin() as tx:
        (task,) = claim(house.office, tx, "renewal", pump.lease.hold(), 1)
    house.lose(pump)
    house.tick()
    assert house.step(instance_id).state == "parked"
    with house.office.begin() as tx:
        settle(house.office, tx, [Item(task, Answer(Verdict.SUCCEEDED, {"ok": True}))], None)
    assert house.step(instance_id).output == {"ok": True}
    found = house.sql("SELECT resolved_by, verdict FROM doubts")
    assert [tuple(each) for each in found] == [("late_answer", "succeeded")]


def test_late_answer_that_contradicts_a_person_is_an_incident(house: House) -> None:
    """A person said that it did not happen; then the worker comes back and says that it did."""
    house.publish(charge(on_unknown={"policy": "park"}))
    instance_id = house.start()
    pump = house.another_pump()
    with house.office.begin() as tx:
        (task,) = claim(house.office, tx, "renewal", pump.lease.hold(), 1)
    house.lose(pump)
    house.tick()
    tell(house, Verdict.FAILED, at=(instance_id, "charge"), source="person")
    assert house.step(instance_id).state == "failed"
    with house.office.begin() as tx:
        settle(house.office, tx, [Item(task, Answer(Verdict.SUCCEEDED, {"ok": True}))], None)
    assert house.step(instance_id).state == "failed"
    assert incidents(house)[0]["said"] == "succeeded"


def test_signal_that_a_step_says_tells_of_it_resolves_its_doubt(house: House) -> None:
    """on_unknown.signals: what a signal of that name means for the attempt; its payload is the
    output, and a wait for the signal gets it as well.
    """
    tells = {"policy": "park", "signals": {"payment.failed": "declined"}}
    instance_id = doubtful(house, on_unknown=tells)
    house.signal(instance_id, name="payment.failed", payload={"code": "expired_card"})
    row = house.step(instance_id)
    assert (row.state, row.outcome) == ("completed", "declined")
    assert row.output == {"code": "expired_card"}
    found = house.sql("SELECT resolved_by, verdict FROM doubts")
    assert [tuple(each) for each in found] == [("signal", "declined")]


def test_signal_with_the_key_of_an_attempt_resolves_its_doubt(house: House) -> None:
    """A payload that names the key and the outcome needs no member in the definition."""
    instance_id = doubtful(house)
    key = house.step(instance_id).idempotency_key
    told = {"idempotency_key": key, "outcome": "succeeded", "output": {"id": 1}}
    house.signal(instance_id, name="whatever", payload=told)
    assert house.step(instance_id).output == {"id": 1}


def test_signal_about_another_attempt_changes_nothing(house: House) -> None:
    """A key that is another's, or two attempts that could be meant, resolve neither."""
    tells = {"policy": "park", "signals": {"payment.failed": "declined"}}
    instance_id = doubtful(house, on_unknown=tells)
    house.signal(instance_id, name="payment.failed", payload={"idempotency_key": "another"})
    assert house.step(instance_id).state == "parked"
    house.provider_does(Rule(Do.COMMIT_THEN_HANG_UP))
    branches = [[charge(id="a", on_unknown=tells)], [charge(id="b", on_unknown=tells)]]
    both = house.run({"type": "parallel", "branches": branches}, name="two")
    house.signal(both, name="payment.failed")
    assert {row.state for row in house.steps(both).values()} == {"parked"}
