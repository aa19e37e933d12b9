"""A person decides what became of a step that nobody else can tell of."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from orch8.engine.outcome import Answer, Verdict
from orch8.errors import Conflict, InvalidArgument, NotFound
from orch8.handlers.request import StepRequest
from orch8.runtime.decisions import decide as take
from orch8.runtime.resolve import Decision, Judgement
from tests.support.house import House


class Provider:
    """Says it does not know until it is told to answer; remembers the keys it was sent."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.knows = False

    def __call__(self, request: StepRequest) -> Any:
        self.keys.append(request.idempotency_key)
        if self.knows:
            return {"status": "succeeded"}
        return Answer(Verdict.UNKNOWN, error={"message": "no answer"})


@pytest.fixture
def provider_of_doubt(house: House) -> Provider:
    """The handler ``charge`` of the house."""
    provider = Provider()
    house.handler("charge", provider)
    return provider


def parked(house: House) -> UUID:
    """An instance whose charge is parked, its key being too old to be sent again."""
    instance_id = house.run(
        {"type": "step", "id": "charge", "handler": "charge", "idempotency": {"ttl": "5m"}},
        {"type": "step", "id": "after", "handler": "noop"},
    )
    assert house.step(instance_id).state == "parked"
    return instance_id


def decide(house: House, instance_id: UUID, decision: Decision, **more: Any) -> str:
    """The decision has been taken; the state that the instance shows then."""
    tenant_id = more.pop("tenant_id", None)
    said = {"actor": "ann", "reason": "seen in the dashboard"} | more
    judgement = Judgement(decision=decision, **said)
    with house.office.begin() as tx:
        found = take(house.office, tx, instance_id, "charge", judgement, tenant_id=tenant_id)
    assert found.instance is not None
    return found.instance.state


@pytest.mark.usefixtures("provider_of_doubt")
def test_resolve_adopts_what_happened_as_the_output(house: House) -> None:
    """The person's word is the memo, and the flow goes on behind the step."""
    instance_id = parked(house)
    decide(house, instance_id, Decision.HAPPENED, output={"charge_id": "ch_1"})
    house.work()
    assert house.step(instance_id).output == {"charge_id": "ch_1"}
    assert house.state(instance_id) == "completed"
    assert "step.resolved" in house.actions(instance_id, "charge")


def test_resolve_sends_what_did_not_happen_under_a_new_key(
    house: House, provider_of_doubt: Provider
) -> None:
    """The provider may have forgotten the old key: only a person may say that it did not happen."""
    instance_id = parked(house)
    provider_of_doubt.knows = True
    decide(house, instance_id, Decision.RETRY)
    house.work()
    assert house.state(instance_id) == "completed"
    assert provider_of_doubt.keys[-1] not in provider_of_doubt.keys[:-1]


@pytest.mark.usefixtures("provider_of_doubt")
def test_resolve_may_let_the_step_fail(house: House) -> None:
    """The instance fails for the person's reason."""
    instance_id = parked(house)
    assert decide(house, instance_id, Decision.FAIL) == "failed"
    assert house.instance(instance_id).error["message"] == "seen in the dashboard"


@pytest.mark.usefixtures("provider_of_doubt")
def test_resolve_wants_a_reason_and_a_step_in_doubt(house: House) -> None:
    """Without a reason, for an unknown step, or twice: nothing changes."""
    instance_id = parked(house)
    with pytest.raises(InvalidArgument, match="say how you know"):
        decide(house, instance_id, Decision.FAIL, reason=" ")
    with pytest.raises(NotFound):
        decide(house, instance_id, Decision.FAIL, tenant_id="other")
    assert house.step(instance_id).state == "parked"
    decide(house, instance_id, Decision.HAPPENED)
    with pytest.raises(Conflict, match="only an attempt in doubt"):
        decide(house, instance_id, Decision.RETRY)
