"""Retrying a failed instance: rounds, keys, and what is never called again."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.errors import InvalidArgument
from orch8.handlers.python import Refused
from orch8.testing.misbehaviour import Do, Rule
from tests.support.house import House

CHARGE = {"type": "step", "handler": "charge"}
NOTIFY = {"type": "step", "handler": "notify"}
ONCE = {**CHARGE, "retry": {"max_attempts": 1, "backoff": "1h"}}


def test_retry_goes_on_where_it_failed(house: House) -> None:
    """What completed is not called again; the failed step is entered in the next round."""
    house.provider_does(Rule(Do.RATE_LIMIT, handler="charge", times=1))
    instance_id = house.run(NOTIFY, ONCE, {"type": "step", "handler": "after"})
    assert house.state(instance_id) == "failed"
    row = house.retry(instance_id)
    assert (row.state, row.round, row.finished_at, row.error) == ("scheduled", 2, None, None)
    house.work()
    rows = house.steps(instance_id)
    assert list(rows) == ["notify", "charge", "charge~2", "after~2"]
    assert {key: each.state for key, each in rows.items()} == {
        "notify": "completed", "charge": "failed", "charge~2": "completed", "after~2": "completed",
    }  # fmt: skip
    assert house.state(instance_id) == "completed"
    assert len(house.keys("notify")) == 1
    assert "instance.retried" in house.actions(instance_id)


def test_retry_keeps_the_key_of_an_attempt_without_effect(house: House) -> None:
    """After a safe failure the same attempt is made again, so its key is the same."""
    house.provider_does(Do.RATE_LIMIT)
    instance_id = house.run(ONCE)
    house.retry(instance_id)
    house.work()
    rows = house.steps(instance_id)
    assert rows["charge"].idempotency_key == rows["charge~2"].idempotency_key
    assert len(house.keys()) == 1


def test_retry_may_fail_again_and_again(house: House) -> None:
    """Each retry is a round; one that keeps failing can be retried as often as one likes."""
    house.provider_does(Rule(Do.REFUSE))
    instance_id = house.run(CHARGE)
    for _ in range(4):
        house.retry(instance_id)
        house.work()
        assert house.state(instance_id) == "failed"
    house.provider_does()
    house.retry(instance_id)
    house.work()
    assert house.state(instance_id) == "completed"
    assert house.instance(instance_id).round == 6
    assert house.totals()["charged"] == 1


def test_retry_reads_outputs_of_earlier_rounds(house: House) -> None:
    """A step of the second round sees what the first round completed, and the newest of each."""
    seen: list[Any] = []

    def see(request: Any) -> Any:
        seen.append(request.params["id"])
        if len(seen) == 1:
            raise Refused("not yet")
        return {}

    house.handler("see", see)
    step = {"type": "step", "handler": "see", "params": {"id": "{{outputs.charge.charge_id}}"}}
    instance_id = house.run(CHARGE, step)
    house.retry(instance_id)
    house.work()
    assert house.state(instance_id) == "completed"
    assert len(seen) == 2
    assert seen[0] == seen[1] is not None


@pytest.mark.parametrize("end", ["completed", "cancelled", "scheduled"])
def test_retry_is_for_failed_instances_only(house: House, end: str) -> None:
    """Nothing else can be retried."""
    house.publish(CHARGE)
    instance_id = house.start()
    if end == "completed":
        house.work()
    elif end == "cancelled":
        house.signal(instance_id, "cancel")
    with pytest.raises(InvalidArgument, match=f"current state: {end}"):
        house.retry(instance_id)
