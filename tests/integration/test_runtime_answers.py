"""What a handler's answer leads to: done, again, in doubt, failed. Nothing is charged twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orch8.handlers.python import Refused, TryAgain
from orch8.testing.misbehaviour import Do, Rule
from tests.support.house import House

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOTIFY = {"type": "step", "handler": "notify"}


def charge(**members: Any) -> dict[str, Any]:
    """A step that waits an hour before it tries again."""
    retry = {"max_attempts": 3, "backoff": "1h", "jitter": 0}
    return {"type": "step", "handler": "charge", "retry": retry, **members}


def test_answer_that_failed_safely_is_tried_again_under_the_same_key(house: House) -> None:
    """A counted failure waits for its back-off in business time, and keeps the attempt's key."""
    house.provider_does(Do.RATE_LIMIT)
    instance_id = house.run(charge())
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.failures) == ("scheduled", "failed_safe", 1)
    assert house.state(instance_id) == "scheduled"
    house.advance(timedelta(minutes=59))
    house.work()
    assert house.totals()["asked"] == 1
    house.advance(timedelta(minutes=2))
    house.work()
    assert house.state(instance_id) == "completed"
    assert (house.totals()["asked"], house.totals()["keys"]) == (2, 1)
    assert "step.retry" in house.actions(instance_id)


def test_answer_that_fails_too_often_fails_the_step(house: House) -> None:
    """max_attempts bounds the answered failures in all; then the instance has failed."""
    house.provider_does(Rule(Do.RATE_LIMIT, retry_after="0"))
    instance_id = house.run(charge())
    for _ in range(4):
        house.advance(DAY)
        house.work()
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.failures, row.dispatches) == ("failed", "failed_safe", 2, 3)
    assert house.state(instance_id) == "failed"
    assert house.instance(instance_id).error["status"] == 429


def test_answer_with_a_non_retryable_code_fails_at_once(house: House) -> None:
    """A code that the policy names ends the step at the first failure."""

    def odd(request: Any) -> Any:
        raise TryAgain("no", code="card_stolen")

    house.handler("charge", odd)
    retry = {"max_attempts": 5, "backoff": "1h", "non_retryable_codes": ["card_stolen"]}
    instance_id = house.run(charge(retry=retry))
    assert (house.step(instance_id).state, house.step(instance_id).dispatches) == ("failed", 1)


def test_answer_that_refuses_fails_the_step(house: House) -> None:
    """What surely had no effect and never will is not tried again."""
    house.provider_does(Rule(Do.REFUSE))
    instance_id = house.run(charge(), NOTIFY)
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.error["status"]) == ("failed", "refused", 422)
    assert house.state(instance_id) == "failed"
    assert "notify" not in house.steps(instance_id)


def test_answer_that_declines_completes_the_step(house: House) -> None:
    """A decline is an answer: the step completes, and its outcome can be asked for."""
    house.provider_does(Rule(Do.DECLINE_402, handler="charge"))
    router = {
        "type": "router",
        "routes": [{"condition": "{{outputs.charge.outcome == 'declined'}}", "blocks": [NOTIFY]}],
    }
    instance_id = house.run(charge(), router)
    row = house.step(instance_id)
    assert (row.state, row.outcome) == ("completed", "declined")
    assert house.step(instance_id, "notify").state == "completed"


def test_answer_that_declines_is_tried_with_a_new_key_if_asked_to(house: House) -> None:
    """`on: [declined]` makes each try a new attempt: the old key would replay the decline."""
    house.provider_does(Do.DECLINE)
    retry = {"max_attempts": 3, "backoff": "1h", "on": ["declined"]}
    instance_id = house.run(charge(retry=retry))
    house.advance(DAY)
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.generation) == ("completed", "succeeded", 2)
    assert [(k["declined"], k["charged"]) for k in house.keys("charge")] == [(1, 0), (0, 1)]


@pytest.mark.parametrize(
    "deed",
    [
        Do.FAIL_BEFORE, Do.FAIL_AFTER, Do.HANG_UP, Do.COMMIT_THEN_HANG_UP, Do.COMMIT_THEN_GARBLE,
        Do.COMMIT_THEN_TIME_OUT,
    ],
)  # fmt: skip
def test_answer_that_says_nothing_is_asked_for_again_under_the_same_key(
    house: House, deed: Do
) -> None:
    """An unknown outcome uses up no attempt; the key brings the truth, and one charge."""
    house.provider_does(deed)
    instance_id = house.run(charge(timeout="1s", retry={"max_attempts": 1, "backoff": "1h"}))
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.failures) == ("scheduled", "unknown", 0)
    assert [e.verdict for e in house.evidence(instance_id)] == ["unknown"]
    house.advance(2 * HOUR)
    house.work()
    assert house.step(instance_id).state == "completed"
    totals = house.totals()
    assert (totals["keys"], totals["charged"], totals["asked"]) == (1, 1, 2)


def test_answer_in_doubt_never_becomes_a_failure(house: House) -> None:
    """Refusals of later dispatches say nothing about the first one, which may have charged."""
    house.provider_does(Do.COMMIT_THEN_HANG_UP, Rule(Do.RATE_LIMIT, times=3, retry_after="3600"))
    instance_id = house.run(charge(retry={"max_attempts": 2, "backoff": "1h"}))
    for _ in range(3):
        house.advance(2 * HOUR)
        house.work()
        row = house.step(instance_id)
        assert (row.state, row.outcome, row.failures) == ("scheduled", "unknown", 0)
    house.advance(2 * HOUR)
    house.work()
    assert house.step(instance_id).state == "completed"
    assert (house.totals()["charged"], house.totals()["keys"]) == (1, 1)


def test_answer_that_stays_unknown_parks_when_the_key_is_too_old(house: House) -> None:
    """The key is sent only while the provider surely knows it; then a person has to look."""
    house.provider_does(Rule(Do.FAIL_BEFORE))
    instance_id = house.run(charge(idempotency={"ttl": "10h"}))
    for _ in range(30):
        house.advance(HOUR)
        house.work()
    row = house.step(instance_id)
    assert (row.state, row.outcome) == ("parked", "unknown")
    assert row.attention["reason"] == "key_too_old"  # between its planning and its turn
    assert house.state(instance_id) == "waiting"
    assert house.instance(instance_id).attention["reason"] == "key_too_old"
    assert house.totals()["keys"] == 1
    sent = row.dispatches
    assert 3 < sent < 100
    house.advance(10 * DAY)
    house.work()
    assert house.step(instance_id).dispatches == sent


def test_answer_unknown_of_a_reading_step_is_a_failure(house: House) -> None:
    """What has no effect is counted and simply made again."""
    house.provider_does(Rule(Do.FAIL_BEFORE))
    instance_id = house.run(charge(effect="read"))
    for _ in range(3):
        house.advance(DAY)
        house.work()
    row = house.step(instance_id)
    assert (row.state, row.failures, row.dispatches) == ("failed", 2, 3)


def test_answer_that_the_schema_refuses_is_in_doubt(house: House) -> None:
    """A charge whose output is not what it must be is neither done nor failed."""
    schema = {"required": ["receipt"]}
    instance_id = house.run(charge(output_schema=schema))
    row = house.step(instance_id)
    assert (row.state, row.outcome) == ("scheduled", "unknown")
    reading = house.run(charge(output_schema=schema, effect="read"), name="u")
    assert house.step(reading).outcome == "failed"


def test_answer_of_nobody_is_not_sent(house: House) -> None:
    """Without a connection nothing was sent: it counts as a failure and is tried again."""
    house.office = house.another_office(handler_url="http://127.0.0.1:9")
    house.pump = house.another_pump()
    instance_id = house.run(charge())
    row = house.step(instance_id)
    assert (row.state, row.outcome, row.failures) == ("scheduled", "not_sent", 1)


def test_answer_pending_waits_for_word(house: House) -> None:
    """A payment that is processing is neither repeated nor forgotten."""
    house.provider_does(Rule(Do.PENDING))
    instance_id = house.run(charge())
    row = house.step(instance_id)
    assert (row.state, row.waits_for, row.due_at) == ("waiting", "pending", None)
    house.advance(2 * DAY)
    house.work()
    assert house.totals()["asked"] == 1
    assert house.state(instance_id) == "waiting"


def test_answer_names_its_own_pause(house: House) -> None:
    """Retry-After is obeyed, also when it is longer than the policy's wait."""
    house.provider_does(Rule(Do.UNAVAILABLE, times=1, retry_after="1800"))
    instance_id = house.run(charge(retry={"max_attempts": 3, "backoff": "1s"}))
    now = house.advance()
    due = house.step(instance_id).due_at
    assert due is not None
    assert timedelta(minutes=25) < due - now <= timedelta(minutes=30)


def test_answer_with_an_error_reaches_retry_if(house: House) -> None:
    """retry_if sees the error of the failure and decides."""
    house.handler("charge", refuse)
    retry = {"max_attempts": 5, "backoff": "1h", "on": ["refused"],
             "retry_if": "{{context.data._error.code == 'soft'}}"}  # fmt: skip
    instance_id = house.run(charge(retry=retry), data={"code": "soft"})
    assert house.step(instance_id).state == "scheduled"
    assert house.step(house.run(charge(retry=retry), data={"code": "hard"})).state == "failed"


def refuse(request: Any) -> Any:
    raise Refused("no", code=request.context["data"]["code"])


def test_answer_is_not_asked_for_when_the_key_may_be_forgotten(house: House) -> None:
    """A wait beyond the key's life would make the next dispatch a second charge: it is parked."""
    house.provider_does(Do.FAIL_AFTER)
    instance_id = house.run(charge(retry={"max_attempts": 1, "backoff": "30d"}))
    assert house.step(instance_id).attention["reason"] == "outcome_unknown"
    house.advance(31 * DAY)
    house.work()
    assert house.totals()["asked"] == 1
