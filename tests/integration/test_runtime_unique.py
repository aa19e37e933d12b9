"""unique and correlation: by what an instance is known from its start to its end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from orch8.errors import BusinessKeyTaken, ExpressionError, IdempotencyMismatch, Orch8Error
from orch8.handlers.python import Refused
from orch8.handlers.request import StepRequest
from orch8.runtime.start import StartResult
from tests.support.house import House

KEY = "dunning:{{context.data.invoice_id}}"
WAIT = {"type": "wait_signal", "signal": "paid"}
RETURN = {"key": KEY, "on_conflict": "return_existing"}
IN_1 = {"invoice_id": "in_1"}


def keys(house: House) -> list[tuple[str, Any]]:
    """The business keys that are taken, and by whom."""
    rows = house.sql("SELECT key, instance_id FROM business_keys ORDER BY key")
    return [(row.key, row.instance_id) for row in rows]


def test_second_open_instance_is_refused(house: House) -> None:
    """The error names the key and the instance that has it, and nothing is written."""
    house.publish(WAIT, unique={"key": KEY})
    first = house.start(IN_1)
    with pytest.raises(BusinessKeyTaken) as refused:
        house.start(IN_1)
    assert (refused.value.http_status, refused.value.code) == (409, "business_key_taken")
    assert refused.value.extra == {"instance_id": str(first), "business_key": "dunning:in_1"}
    assert str(first) in refused.value.detail
    for table in ("instances", "steps", "contexts"):
        assert house.sql(f"SELECT count(*) AS n FROM {table}")[0].n == 1
    assert house.start({"invoice_id": "in_2"}) != first


def test_existing_instance_is_returned(house: House) -> None:
    """With return_existing the request gives the open instance, whatever else it says."""
    house.publish(WAIT, unique=RETURN)
    first = house.start(IN_1)
    again = house.request({**IN_1, "more": 1}, priority="High")
    assert (again.instance.id, again.deduplicated, again.lanes) == (first, True, ())
    assert house.sql("SELECT count(*) AS n FROM instances")[0].n == 1


def test_key_holds_over_all_sequences_and_versions(house: House) -> None:
    """Whatever sequence renders the same key meets the same instance; another tenant does not."""
    house.publish(WAIT, unique=RETURN)
    first = house.start(IN_1)
    house.publish(WAIT, {"type": "step", "handler": "noop"}, unique=RETURN)
    house.publish(WAIT, name="other", unique={"key": KEY, "on_conflict": "fail"})
    house.publish(WAIT, name="theirs", tenant="acme", unique={"key": KEY})
    assert house.start(IN_1) == first
    with pytest.raises(BusinessKeyTaken):
        house.start(IN_1, name="other")
    assert house.start(IN_1, name="theirs", tenant_id="acme") != first


def test_one_of_many_who_ask_at_once_makes_the_instance(house: House) -> None:
    """Sixteen threads with the same business key get the same instance, and one made it."""
    house.publish(WAIT, unique=RETURN)
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(house.request, IN_1) for _ in range(32)]
        results = [each.result() for each in asked]
    assert len({result.instance.id for result in results}) == 1
    assert [result.deduplicated for result in results].count(False) == 1
    assert house.sql("SELECT count(*) AS n FROM instances")[0].n == 1
    assert house.sql("SELECT count(*) AS n FROM steps")[0].n == 1


def test_many_who_ask_at_once_are_refused_cleanly(house: House) -> None:
    """With fail one of many makes the instance; every other is told who has the key."""
    house.publish(WAIT, unique={"key": KEY})

    def ask() -> StartResult | Orch8Error:
        try:
            return house.request(IN_1)
        except Orch8Error as problem:
            return problem

    with ThreadPoolExecutor(16) as pool:
        results = [each.result() for each in [pool.submit(ask) for _ in range(32)]]
    made = [each for each in results if isinstance(each, StartResult)]
    assert len(made) == 1
    refused = [each for each in results if isinstance(each, BusinessKeyTaken)]
    assert len(refused) == 31
    assert {each.extra["instance_id"] for each in refused} == {str(made[0].instance.id)}


@pytest.mark.parametrize("ending", ["completes", "fails", "is cancelled"])
def test_key_is_free_when_the_instance_ends(house: House, ending: str) -> None:
    """However an instance ends, the next one can have its key."""

    def refuse(request: StepRequest) -> Any:
        raise Refused("no")

    house.handler("refuse", refuse)
    blocks = [WAIT, {"type": "step", "handler": "refuse"}] if ending == "fails" else [WAIT]
    house.publish(*blocks, unique={"key": KEY})
    first = house.start(IN_1)
    house.work()
    if ending == "is cancelled":
        house.signal(first, "cancel")
    else:
        house.signal(first, name="paid")
    house.work()
    assert house.state(first) in ("completed", "failed", "cancelled")
    assert keys(house) == []
    assert house.start(IN_1) != first


def test_lasting_key_is_never_free_again(house: House) -> None:
    """With "always" the key stays the instance's when it has ended, even when it is pruned."""
    house.publish({"type": "step", "handler": "noop"}, unique={**RETURN, "while": "always"})
    first = house.start(IN_1)
    house.work()
    assert house.state(first) == "completed"
    assert house.start(IN_1) == first
    house.sql("DELETE FROM instances")
    with pytest.raises(BusinessKeyTaken, match="for good"):
        house.start(IN_1)


def test_retry_takes_the_key_again(house: House) -> None:
    """A failed instance is retried with its key, unless somebody else has it meanwhile."""
    answers: list[Any] = [Refused("no"), Refused("no"), {}]

    def charge(request: StepRequest) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    house.handler("pay", charge)
    pay = {"type": "step", "handler": "pay"}
    house.publish(pay, unique={"key": KEY})
    house.publish(WAIT, name="other", unique={"key": KEY})
    first = house.start(IN_1)
    house.work()
    assert house.state(first) == "failed"
    other = house.start(IN_1, name="other")
    with pytest.raises(BusinessKeyTaken) as refused:
        house.retry(first)
    assert refused.value.extra["instance_id"] == str(other)
    assert (house.state(first), house.instance(first).round) == ("failed", 1)
    house.signal(other, "cancel")
    house.retry(first)
    assert keys(house) == [("dunning:in_1", first)]
    house.work()
    assert (house.state(first), keys(house)) == ("failed", [])
    house.retry(first)
    house.work()
    assert (house.state(first), keys(house)) == ("completed", [])


def test_retry_of_a_lasting_key_is_no_conflict(house: House) -> None:
    """An instance does not stand in its own way."""
    answers: list[Any] = [Refused("no"), {}]

    def charge(request: StepRequest) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    house.handler("pay", charge)
    house.publish({"type": "step", "handler": "pay"}, unique={"key": KEY, "while": "always"})
    first = house.start(IN_1)
    house.work()
    house.retry(first)
    house.work()
    assert (house.state(first), keys(house)) == ("completed", [("dunning:in_1", first)])


def test_idempotency_key_goes_first(house: House) -> None:
    """The same request again gives its own instance, and a misuse of the key is told, even while
    the business key is taken.
    """
    house.publish(WAIT, unique={"key": KEY})
    first = house.start(IN_1, idempotency_key="k")
    assert house.request(IN_1, idempotency_key="k").instance.id == first
    with pytest.raises(IdempotencyMismatch):
        house.start({**IN_1, "n": 2}, idempotency_key="k")
    with pytest.raises(BusinessKeyTaken):
        house.start(IN_1, idempotency_key="k2")
    house.signal(first, "cancel")
    assert house.request(IN_1, idempotency_key="k").instance.id == first
    assert house.start(IN_1, idempotency_key="k2") != first


@pytest.mark.parametrize("data", [{}, {"invoice_id": None}, {"invoice_id": ""}, {"invoice_id": {}}])
def test_key_with_a_missing_part_is_refused(house: House, data: dict[str, Any]) -> None:
    """Instances without an invoice do not all share one key."""
    house.publish(WAIT, unique=RETURN)
    with pytest.raises(ExpressionError, match=r"needs context\.data\.invoice_id") as refused:
        house.start(data)
    assert refused.value.http_status == 400
    assert keys(house) == []


def test_key_that_is_too_long_is_refused(house: House) -> None:
    """A key has at most 255 characters."""
    house.publish(WAIT, unique={"key": "{{data.a}}{{data.a}}"})
    with pytest.raises(ExpressionError, match="400 characters"):
        house.start({"a": "x" * 200})


def test_instance_that_ends_at_once_keeps_no_key(house: House) -> None:
    """What ends in the transaction that creates it leaves no key behind."""
    house.publish({**WAIT, "when": "false"}, unique={"key": KEY})
    first = house.start(IN_1)
    assert (house.state(first), keys(house)) == ("completed", [])


START = {"type": "step", "handler": "start_sequence",
         "params": {"sequence": "child", "input": {"invoice_id": "in_1"}}}  # fmt: skip


def test_start_sequence_fails_when_the_key_is_taken(house: House) -> None:
    """The step fails with a code of its own, and names who has the key."""
    house.publish(WAIT, name="child", unique={"key": KEY})
    first = house.start(IN_1, name="child")
    parent = house.run(START)
    step = house.step(parent, "start_sequence")
    assert (step.state, step.error["code"]) == ("failed", "business_key_taken")
    assert step.error["details"]["instance_id"] == str(first)
    assert house.state(parent) == "failed"


def test_start_sequence_gives_the_existing_instance(house: House) -> None:
    """With return_existing the instance that has the key is the one that the step started."""
    house.publish(WAIT, name="child", unique=RETURN)
    first = house.start(IN_1, name="child")
    parent = house.run(START)
    expected = {"instance_id": str(first), "sequence": "child", "deduplicated": True}
    assert house.step(parent, "start_sequence").output == expected


def test_two_starts_of_one_transaction_make_one_instance(house: House) -> None:
    """Steps that are carried out together see each other's instances."""
    house.publish(WAIT, name="child", unique=RETURN)
    parent = house.run({"type": "parallel", "branches": [[START], [START]]})
    outputs = [row.output for row in house.steps(parent).values() if row.handler[0] != "@"]
    assert len({each["instance_id"] for each in outputs}) == 1
    assert [each.get("deduplicated") for each in outputs] == [None, True]


def test_sub_sequence_never_adopts_an_instance(house: House) -> None:
    """Somebody else's instance is nobody's child: the step fails even with return_existing."""
    house.publish(WAIT, name="child", unique=RETURN)
    house.start(IN_1, name="child")
    parent = house.run({"type": "sub_sequence", "id": "sub", "sequence": "child", "input": IN_1})
    assert house.step(parent, "sub").error["code"] == "business_key_taken"


def test_child_gives_its_key_back(house: House) -> None:
    """A child's key is taken with its parent's step and free again at its end."""
    house.publish(WAIT, name="child", unique={"key": KEY})
    parent = house.run({"type": "sub_sequence", "id": "sub", "sequence": "child", "input": IN_1})
    [(key, child)] = keys(house)
    assert (key, house.instance(child).parent_instance_id) == ("dunning:in_1", parent)
    house.signal(child, name="paid")
    house.work()
    assert (house.state(parent), keys(house)) == ("completed", [])


def test_child_whose_key_has_a_missing_part_fails_its_step(house: House) -> None:
    """A parent is told in its step what its child lacks."""
    house.publish(WAIT, name="child", unique={"key": KEY})
    parent = house.run({"type": "sub_sequence", "id": "sub", "sequence": "child", "input": {}})
    assert "needs context.data.invoice_id" in house.step(parent, "sub").error["message"]


def test_many_parents_at_once_make_one_child(house: House) -> None:
    """Whichever parent is first has the child; no other breaks, and none is parked."""
    house.publish(WAIT, name="child", unique={"key": KEY})
    house.publish(START, name="parent")
    parents = [house.start(name="parent") for _ in range(12)]
    pumps = [house.pump, house.another_pump(), house.another_pump()]
    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(pump.work, "renewal") for pump in pumps]:
            each.result()
    house.work()
    states = [house.state(parent) for parent in parents]
    assert sorted(states) == ["completed"] + ["failed"] * 11
    assert len(keys(house)) == 1


def test_retry_correlates_again(house: House) -> None:
    """Messages find an instance while it is open, and again while it is retried."""

    def found() -> list[str]:
        return [row.value for row in house.sql("SELECT value FROM correlations")]

    answers: list[Any] = [Refused("no"), {}]

    def pay(request: StepRequest) -> Any:
        assert found() == ["in_1"]
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    house.handler("pay", pay)
    house.publish({"type": "step", "handler": "pay"}, correlation={"i": "{{data.invoice_id}}"})
    first = house.start(IN_1)
    house.work()
    assert (house.state(first), found()) == ("failed", [])
    house.retry(first)
    assert found() == ["in_1"]
    house.work()
    assert (house.state(first), found()) == ("completed", [])


def test_correlation_that_cannot_be_evaluated_stops_nothing(house: House) -> None:
    """What cannot be compared correlates with nothing: the instance runs all the same."""
    broken = {"a": "{{data.invoice_id - 1}}", "b": "{{data.long}}", "c": "{{data.ok}}"}
    house.publish(WAIT, correlation=broken)
    house.start({**IN_1, "long": "x" * 256, "ok": True})
    rows = house.sql("SELECT name, value FROM correlations")
    assert [(row.name, row.value) for row in rows] == [("c", "true")]


def test_paused_and_sleeping_instances_keep_their_key(house: House) -> None:
    """An instance is open until it ends, whatever it waits for."""
    house.publish({"type": "wait", "duration": "5d"}, unique={"key": KEY})
    first = house.start(IN_1)
    house.work()
    house.signal(first, "pause")
    house.advance(timedelta(days=3))
    with pytest.raises(BusinessKeyTaken):
        house.start(IN_1)
