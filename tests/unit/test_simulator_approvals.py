"""Steps that wait for an answer, in a simulation: people answer by signal, nobody tells events."""

from __future__ import annotations

from typing import Any

from orch8.testing import Simulator
from tests.support.documents import seed

GATED = {
    "type": "step", "id": "pay", "handler": "charge",
    "wait_for_input": {"timeout": "2d", "choices": [{"label": "Go", "value": "go"}]},
}  # fmt: skip
EVENTS = {
    "type": "step", "id": "paid", "handler": "wait_for_event",
    "params": {"events": ["a", "b"], "correlation_key": "in_1"},
}  # fmt: skip


def simulated(*blocks: Any) -> Simulator:
    """A simulation of these blocks."""
    return Simulator(seed(*blocks), handlers={"charge": [{}]})


def test_answer_lets_the_call_be_made() -> None:
    """Once, and not before."""
    sim = simulated(GATED)
    instance = sim.start({"data": {"amount": 900}})
    sim.run_for("1d")
    assert (instance.state, sim.calls) == ("waiting", [])
    sim.signal(instance, "human_input:pay", {"value": "stop"})
    sim.run_for("1h")
    assert (instance.state, sim.calls) == ("waiting", [])
    sim.signal(instance, "human_input:pay", {"value": "go"})
    sim.run()
    assert (instance.state, len(sim.calls)) == ("completed", 1)


def test_time_that_is_up_fails_the_step() -> None:
    """On the virtual clock."""
    sim = simulated(GATED)
    instance = sim.start({})
    sim.run()
    assert (instance.state, sim.calls) == ("failed", [])
    assert (sim.now - instance.row.created_at).days == 2


def test_wait_for_events_is_answered_by_a_person() -> None:
    """Since nobody tells events here; its output says that none came."""
    sim = simulated(EVENTS)
    instance = sim.start({})
    sim.run()
    assert instance.state == "waiting"
    sim.signal(instance, "human_input:paid", {"value": "yes"})
    sim.run()
    assert instance.state == "completed"
    output = instance.outputs["paid"]
    assert (output["satisfied"], output["waiting_for"], output["all"]) == (False, ["a", "b"], [])
