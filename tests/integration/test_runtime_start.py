"""start: an instance exists once, or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orch8.errors import (
    IdempotencyMismatch,
    InvalidArgument,
    NotFound,
    Orch8Error,
    PayloadTooLarge,
    Unprocessable,
)
from tests.support.house import House

CHARGE = {"type": "step", "handler": "charge"}


def test_start_writes_instance_step_context_and_audit(house: House) -> None:
    """A new instance is scheduled, its first step is due, its context kept, its story begun."""
    house.publish(CHARGE)
    made = house.request({"amount": 1}, idempotency_key="k")
    assert not made.deduplicated
    row = house.instance(made.instance.id)
    assert (row.state, row.lane, row.round) == ("scheduled", "renewal", 1)
    step = house.step(row.id)
    assert step.state == "scheduled"
    assert step.due_at is not None
    assert house.sql("SELECT body FROM contexts")[0].body["data"] == {"amount": 1}
    assert house.actions(row.id) == ["instance.created"]


def test_start_makes_one_instance_of_a_key_whoever_asks_at_once(house: House) -> None:
    """Sixteen threads with the same key get the same instance, and one of them made it."""
    house.publish(CHARGE)
    with ThreadPoolExecutor(16) as pool:
        office = house.another_office
        offices = [office() for _ in range(4)]
        del office
        asked = [pool.submit(house.request, {"n": 1}, idempotency_key="k") for _ in range(16)]
        results = [each.result() for each in asked]
        del offices
    assert len({result.instance.id for result in results}) == 1
    assert [result.deduplicated for result in results].count(False) == 1
    assert house.sql("SELECT count(*) AS n FROM instances")[0].n == 1
    assert house.sql("SELECT count(*) AS n FROM steps")[0].n == 1


def test_start_refuses_another_body_under_the_same_key(house: House) -> None:
    """A key stands for one request: another body is a 422, unless the caller does not mind."""
    house.publish(CHARGE)
    first = house.start({"n": 1}, idempotency_key="k")
    with pytest.raises(IdempotencyMismatch) as refused:
        house.start({"n": 2}, idempotency_key="k")
    assert refused.value.http_status == 422
    assert house.request({"n": 2}, idempotency_key="k", strict_key=False).instance.id == first


REFUSED: list[tuple[dict[str, Any], type[Orch8Error]]] = [
    ({"name": "nobody"}, NotFound),
    ({"name": "0192b5a8-0000-7000-8000-000000000000"}, NotFound),
    ({"version": 7}, NotFound),
    ({"tenant_id": "other"}, NotFound),
    ({"data": {"blob": "x" * 262_144}}, PayloadTooLarge),
    ({"timezone": "Mars/Olympus"}, InvalidArgument),
    ({"timezone": "../etc/passwd"}, InvalidArgument),
    ({"priority": "Urgent"}, Unprocessable),
    ({"data": {"amount": "ten"}}, Unprocessable),
    ({"data": {}}, Unprocessable),
    ({"context": None}, Unprocessable),
    ({"idempotency_key": "a\x00b"}, InvalidArgument),
]


@pytest.mark.parametrize(("asked", "error"), REFUSED)
def test_start_writes_nothing_when_it_refuses(
    house: House, asked: dict[str, Any], error: type[Orch8Error]
) -> None:
    """A request that cannot be carried out leaves no row behind."""
    amount = {
        "type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}},
    }  # fmt: skip
    house.publish(CHARGE, input_schema=amount)
    with pytest.raises(error):
        house.start(**({"data": {"amount": 1}, "idempotency_key": "k"} | asked))
    for table in ("instances", "steps", "contexts"):
        assert house.sql(f"SELECT count(*) AS n FROM {table}")[0].n == 0
    assert house.start({"amount": 1}, idempotency_key="k")


def test_start_takes_the_newest_version_that_is_not_deprecated(house: House) -> None:
    """A name means its newest version, a number just that one, and an id just itself."""
    first = house.publish(CHARGE)
    second = house.publish(CHARGE, CHARGE)
    assert (first.version, second.version) == (1, 2)
    assert house.publish(CHARGE, CHARGE).id == second.id
    assert house.instance(house.start()).sequence_id == second.id
    assert house.instance(house.start(version=1)).sequence_id == first.id
    assert house.instance(house.start(name=str(first.id))).sequence_id == first.id


def test_start_may_be_for_later(house: House) -> None:
    """next_fire_at holds the first step back; priority and time zone are the instance's own."""
    house.publish(CHARGE)
    later = house.advance()
    later = later.replace(year=later.year + 1)
    instance_id = house.start(next_fire_at=later, priority="High", timezone="Europe/Vienna")
    row = house.instance(instance_id)
    assert (row.lane, row.timezone) == ("interactive", "Europe/Vienna")
    assert house.step(instance_id).due_at == later
