"""What is sent again is what was sent: another request, or another attempt, has another key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orch8.handlers.python import Refused
from orch8.testing.misbehaviour import Do
from tests.support.house import House

HOUR = timedelta(hours=1)
LATER = {"max_attempts": 3, "backoff": "1h", "jitter": 0}


def test_changed_request_is_not_sent_under_the_same_key(house: House) -> None:
    """A call of unknown outcome whose parameters have changed since: sent again it would be another
    request under a key that the provider knows, so a person looks at it.
    """
    house.provider_does(Do.COMMIT_THEN_HANG_UP)
    params = {"card": "{{context.data.card}}"}
    step = {"type": "step", "handler": "charge", "effect": "external", "params": params}
    instance_id = house.run({**step, "retry": LATER}, data={"card": "pm_1"})
    assert house.step(instance_id).outcome == "unknown"
    house.signal(instance_id, "update_context", payload={"data": {"card": "pm_2"}})
    house.advance(HOUR)
    house.work()
    row = house.step(instance_id)
    assert (row.state, row.attention["reason"]) == ("parked", "request_changed")
    assert house.totals()["asked"] == 1


def test_key_of_one_s_own_must_change_with_the_attempt(house: House) -> None:
    """A declined charge is to be tried again, and its own key comes to the same text: the provider
    would only bring the decline back, so nothing is sent.
    """
    seen: list[Any] = []

    def charge(request: Any) -> Any:
        seen.append(request.idempotency_key)
        return {"outcome": "declined"}

    house.handler("charge", charge)
    step = {
        "type": "step", "handler": "charge", "effect": "money",
        "idempotency": {"key": "order-{{data.n}}"}, "retry": {**LATER, "on": ["declined"]},
    }  # fmt: skip
    instance_id = house.run(step, data={"n": 1})
    house.advance(HOUR)
    house.work()
    assert seen == ["order-1"]
    row = house.step(instance_id)
    assert (row.state, row.error["code"]) == ("failed", "key_reused")


def test_refused_charge_has_a_new_key_when_a_person_retries_it(house: House) -> None:
    """The provider answered: the old key could bring that answer back, whatever has been mended."""
    seen: list[Any] = []

    def charge(request: Any) -> Any:
        seen.append(request.idempotency_key)
        if len(seen) == 1:
            raise Refused("no such customer")
        return {"ok": True}

    house.handler("charge", charge)
    instance_id = house.run({"type": "step", "handler": "charge", "effect": "money"})
    assert house.state(instance_id) == "failed"
    house.retry(instance_id)
    house.work()
    assert house.state(instance_id) == "completed"
    assert len(set(seen)) == 2
