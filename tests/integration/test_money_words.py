"""Words from outside are about one attempt of one tenant, and end no other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orch8.engine.outcome import Verdict
from orch8.errors import Conflict
from orch8.runtime import evidence
from orch8.runtime.claim import claim
from orch8.runtime.decisions import decide
from orch8.runtime.evidence import Standing, Word
from orch8.runtime.resolve import Decision, Judgement
from orch8.testing.misbehaviour import Do
from tests.support.house import LANE, House

HOUR = timedelta(hours=1)
CHARGE = {
    "type": "step", "handler": "charge", "effect": "money",
    "retry": {"max_attempts": 3, "backoff": "1h", "jitter": 0, "on": ["declined"]},
}  # fmt: skip


def tell(
    house: House, outcome: Verdict, *, tenant: str = "default", **more: Any
) -> evidence.Testimony:
    """What a webhook with this outcome comes to."""
    with house.office.begin() as tx:
        return evidence.testify(house.office, tx, Word(outcome=outcome, **more), tenant_id=tenant)


def test_word_about_an_older_attempt_does_not_end_the_present_one(house: House) -> None:
    """The first charge was called declined and turns out to have succeeded, while the outcome of
    the second is unknown: that one stays in doubt, and a person is told.
    """
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(CHARGE)
    first = house.step(instance_id).idempotency_key
    tell(house, Verdict.DECLINED, idempotency_key=first)
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    house.advance(HOUR)
    house.work()
    before = house.step(instance_id)
    assert (before.generation, before.outcome) == (2, "unknown")
    told = tell(house, Verdict.SUCCEEDED, idempotency_key=first)
    assert told.state is Standing.CONTRARY
    after = house.step(instance_id)
    assert (after.state, after.outcome, after.epoch) == ("scheduled", "unknown", before.epoch)
    (incident,) = house.sql("SELECT body FROM incidents")
    assert (incident.body["said"], incident.body["generation"]) == ("succeeded", 1)


def test_word_of_another_tenant_that_names_the_step_is_unmatched(house: House) -> None:
    """Knowing the ids of somebody else's charge is no way to end it."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(CHARGE)
    told = tell(house, Verdict.SUCCEEDED, tenant="other", at=(instance_id, "charge"))
    assert told.state is Standing.UNMATCHED
    assert house.step(instance_id).outcome == "unknown"
    assert len(house.evidence(instance_id)) == 1  # the lost answer, and no word


def test_nobody_decides_while_the_call_is_in_flight(house: House) -> None:
    """A charge in doubt that is being sent again is answered in a moment: until then a person is
    told to wait, and what the person believes changes nothing.
    """
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    instance_id = house.run(CHARGE)
    house.advance(HOUR)
    with house.office.begin() as tx:
        assert claim(house.office, tx, LANE, house.pump.lease.hold(), 1)
    said = Judgement(decision=Decision.FAIL, actor="ann", reason="it is not on the dashboard")
    with house.office.begin() as tx, pytest.raises(Conflict, match="in flight"):
        decide(house.office, tx, instance_id, "charge", said, tenant_id="default")
    assert house.step(instance_id).state == "running"
