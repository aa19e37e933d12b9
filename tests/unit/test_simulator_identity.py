"""Business keys and correlations in the Simulator."""

from __future__ import annotations

import pytest

from orch8.errors import BusinessKeyTaken, ExpressionError
from orch8.handlers.python import Refused
from orch8.testing import Simulator
from tests.support.documents import seed

KEY = {"key": "dunning:{{data.invoice_id}}"}
WAIT = {"type": "wait_signal", "signal": "paid"}
IN_1 = {"data": {"invoice_id": "in_1"}}


def test_simulated_key_is_taken_and_given_back() -> None:
    """At most one open instance has a key; the next one starts when it has ended."""
    sim = Simulator(seed(WAIT, unique=KEY))
    first = sim.start(IN_1)
    with pytest.raises(BusinessKeyTaken, match=str(first.id)):
        sim.start(IN_1)
    sim.signal(first, "paid")
    sim.run()
    assert first.state == "completed"
    assert sim.start(IN_1).id != first.id
    with pytest.raises(ExpressionError):
        sim.start({"data": {}})


def test_simulated_conflict_gives_the_existing_instance() -> None:
    """With return_existing the open instance stands for the request."""
    sim = Simulator(seed(WAIT, unique={**KEY, "on_conflict": "return_existing"}))
    first = sim.start(IN_1, idempotency_key="k")
    assert sim.start(IN_1).id == first.id
    assert sim.start(IN_1, idempotency_key="k").id == first.id
    assert len(sim.instances) == 1


def test_simulated_lasting_key_stays_and_a_retry_takes_its_own() -> None:
    """With "always" the key is never free again; a retried instance has it already."""
    pay = {"type": "step", "handler": "pay"}
    sim = Simulator(seed(pay, unique={**KEY, "while": "always"}), {"pay": [Refused("no"), {}]})
    first = sim.start(IN_1)
    sim.run()
    assert first.state == "failed"
    with pytest.raises(BusinessKeyTaken):
        sim.start(IN_1)
    sim.retry(first)
    sim.run()
    assert first.state == "completed"


def test_simulated_retry_needs_its_key() -> None:
    """A failed instance cannot go on while another has its key."""
    pay = {"type": "step", "handler": "pay", "when": "data.pay"}
    sim = Simulator(seed(pay, WAIT, unique=KEY), {"pay": [Refused("no")]})
    first = sim.start({"data": {"invoice_id": "in_1", "pay": True}})
    sim.run()
    sim.start(IN_1)
    with pytest.raises(BusinessKeyTaken):
        sim.retry(first)


def test_simulated_child_meets_its_key() -> None:
    """A step whose child's key is taken fails, as it does in production."""
    start = {"type": "step", "handler": "start_sequence",
             "params": {"sequence": "child", "input": {"invoice_id": "in_1"}}}  # fmt: skip
    sim = Simulator(seed(start, {**start, "id": "again"}))
    sim.publish({**seed(WAIT, unique=KEY), "id": "child"})
    parent = sim.start()
    sim.run()
    assert [step.state for step in parent.steps] == ["completed", "failed"]
    assert parent.steps[1].error["code"] == "business_key_taken"


def test_simulated_correlation_finds_open_instances() -> None:
    """Tests find their instances as messages do, while those are open."""
    given = {"invoice_id": "{{data.invoice_id}}", "try": "{{data.try}}"}
    sim = Simulator(seed(WAIT, correlation=given))
    first = sim.start({"data": {"invoice_id": "in_1", "try": 1}})
    second = sim.start({"data": {"invoice_id": "in_1", "try": 2}})
    assert [each.id for each in sim.correlated(invoice_id="in_1")] == [second.id, first.id]
    assert [each.id for each in sim.correlated(invoice_id="in_1", **{"try": 1})] == [first.id]
    sim.update_context(first, {"invoice_id": "in_2"})
    assert [each.id for each in sim.correlated(invoice_id="in_2")] == [first.id]
    sim.cancel(first)
    assert sim.correlated(invoice_id="in_2") == []
    assert sim.correlated(invoice_id=None) == []
