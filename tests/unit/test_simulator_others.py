"""Instances that tell, ask and start each other, in a simulation."""

from __future__ import annotations

from typing import Any

import pytest

from orch8.errors import NotFound
from orch8.testing import Simulator, http
from tests.support.documents import seed

WAIT = {"type": "wait_signal", "id": "paid", "signal": "paid"}


def step(handler: str, **params: Any) -> dict[str, Any]:
    """A step that is called after its handler."""
    return {"type": "step", "id": handler, "handler": handler, "params": params}


def named(name: str, *blocks: Any) -> dict[str, Any]:
    """A definition under a name."""
    return {"id": name, "blocks": list(blocks)}


def test_signal_goes_from_one_instance_to_another() -> None:
    """The step ends when it is there; the wait has its payload."""
    sim = Simulator(named("waits", WAIT))
    other = sim.start()
    told = {"custom": "paid"}
    sim.publish(named("tells", step(
        "send_signal", instance_id=str(other.id), signal_type=told, payload={"n": 1})))  # fmt: skip
    teller = sim.start(sequence="tells")
    sim.run()
    assert (teller.state, other.state) == ("completed", "completed")
    assert teller.outputs["send_signal"]["signal_id"]
    assert other.outputs["paid"]["payload"] == {"n": 1}


@pytest.mark.parametrize(("kind", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_control_goes_from_one_instance_to_another(kind: str, state: str) -> None:
    """It does what it does when a person sends it."""
    sim = Simulator(named("waits", WAIT))
    other = sim.start()
    sim.publish(named("tells", step("send_signal", instance_id=str(other.id), signal_type=kind)))
    teller = sim.start(sequence="tells")
    sim.run()
    assert (teller.state, other.state) == ("completed", state)


def test_signal_to_nobody_fails_its_step() -> None:
    """As does one to an instance that has ended."""
    sim = Simulator(named("ends", step("noop")))
    ended = sim.start()
    sim.run()
    for to in (str(ended.id), "01890000-0000-7000-8000-000000000000"):
        sim.publish(named("tells", step("send_signal", instance_id=to, signal_type="pause")))
        teller = sim.start(sequence="tells")
        sim.run()
        assert teller.state == "failed"


def test_instance_looks_at_another() -> None:
    """At its state, its context, and where it is."""
    sim = Simulator(named("waits", WAIT))
    other = sim.start({"data": {"n": 1}, "config": {}})
    sim.run()
    sim.publish(named("asks", step("query_instance", instance_id=str(other.id))))
    asker = sim.start(sequence="asks")
    sim.run()
    seen = asker.outputs["query_instance"]
    assert (seen["found"], seen["state"], seen["current_node"]) == (True, "waiting", "paid")
    assert seen["context"]["data"] == {"n": 1}


def test_event_starts_the_sequence_of_a_trigger() -> None:
    """Once under a key, for thirty days."""
    event = step("emit_event", trigger_slug="go", data={"n": 2}, dedupe_key="k",
                 dedupe_scope="tenant")  # fmt: skip
    sim = Simulator(named("emits", event))
    sim.publish(named("kept", step("noop")))
    sim.trigger("go", "kept")
    first, second = sim.start(), sim.start()
    sim.run()
    told = [each.outputs["emit_event"] for each in (first, second)]
    assert [each["deduped"] for each in told] == [False, True]
    assert told[0]["instance_id"] == told[1]["instance_id"]
    sim.run_for("31d")
    third = sim.start()
    sim.run()
    assert third.outputs["emit_event"]["deduped"] is False
    with pytest.raises(NotFound):
        sim.trigger("go", "nothing")


def test_event_without_a_trigger_fails_its_step() -> None:
    """Nothing is started."""
    sim = Simulator(named("emits", step("emit_event", trigger_slug="go")))
    emitter = sim.start()
    sim.run()
    assert (emitter.state, len(sim.instances)) == ("failed", 1)


def test_tool_is_scripted() -> None:
    """Like every call."""
    sim = Simulator(
        seed({**step("tool_call", url="https://tool.example.com"), "effect": "read"}),
        {"tool_call": http(200, {"tool_name": "t", "result": 1, "status": 200})},
    )
    caller = sim.start()
    sim.run()
    assert caller.outputs["tool_call"]["result"] == 1
