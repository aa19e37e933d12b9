"""Every block type once, through the real core on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orch8.blocks import BLOCKS
from orch8.testing import Answer, Refused, Simulator, StepRequest, Verdict, takes
from tests.support.documents import seed

START = datetime(2026, 1, 1, 9, tzinfo=UTC)
CASES: dict[str, Callable[[], None]] = {}


def step(name: str, **more: Any) -> dict[str, Any]:
    """A step whose handler and id are ``name``."""
    return {"type": "step", "handler": name, **more}


def called(sim: Simulator) -> list[str]:
    """The handlers in the order of their calls."""
    return [call.handler for call in sim.calls]


def case(block_type: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """The decorated function is the case of a block type."""

    def keep(function: Callable[[], None]) -> Callable[[], None]:
        CASES[block_type] = function
        return function

    return keep


@case("step")
def _step() -> None:
    """A step reads the output of an earlier one."""
    sim = Simulator(
        seed(step("a"), step("b", params={"got": "{{outputs.a.x}}"})), {"a": {"x": 7}, "b": {}}
    )
    sim.start()
    sim.run()
    assert sim.calls[1].params == {"got": 7}


@case("parallel")
def _parallel() -> None:
    """Branches go on side by side; the slowest one ends the block."""
    block = {"type": "parallel", "branches": [[step("a"), step("b")], [step("c")]]}
    sim = Simulator(
        seed(block, step("d")), {"a": takes("2s", {}), "b": {}, "c": takes("5s", {}), "d": {}}
    )
    sim.start()
    sim.run()
    seconds = [(call.handler, (call.at - START).total_seconds()) for call in sim.calls]
    assert seconds == [("a", 0), ("c", 0), ("b", 2), ("d", 5)]


@case("race")
def _race() -> None:
    """The first branch decides; a wait in the other one ends."""
    block = {
        "type": "race",
        "branches": [[step("a")], [{"type": "wait", "delay": "1d"}, step("b")]],
    }
    sim = Simulator(seed(block, step("c")), {"a": takes("2s", {}), "c": {}})
    sim.start()
    sim.run()
    assert called(sim) == ["a", "c"]
    assert sim.now == START + timedelta(seconds=2)


@case("loop")
def _loop() -> None:
    """The body again and again, a pause between, until its output says so."""
    block = {
        "type": "loop", "id": "poll", "until": "{{outputs.a.done}}", "poll_interval": "1h",
        "body": [step("a")],
    }  # fmt: skip
    sim = Simulator(seed(block), {"a": [{"done": False}, {"done": False}, {"done": True}]})
    instance = sim.start()
    sim.run()
    assert [call.step for call in sim.calls] == ["a[0]", "a[1]", "a[2]"]
    assert sim.now == START + timedelta(hours=2)
    assert instance.outputs["a[1]"] == {"done": False}
    assert instance.outputs["a"] == {"done": True}


@case("for_each")
def _for_each() -> None:
    """The body once for each item, two at a time."""
    block = {
        "type": "for_each", "collection": "{{data.ids}}", "item_var": "one", "concurrency": 2,
        "body": [step("a", params={"id": "{{one}}"})],
    }  # fmt: skip
    sim = Simulator(seed(block), {"a": takes("1s", {})})
    sim.start({"data": {"ids": ["x", "y", "z"]}})
    sim.run()
    assert [call.params["id"] for call in sim.calls] == ["x", "y", "z"]
    assert [(call.at - START).total_seconds() for call in sim.calls] == [0, 0, 1]


@case("router")
def _router() -> None:
    """The first route whose condition holds."""
    block = {
        "type": "router",
        "routes": [{"condition": "data.n > 5", "blocks": [step("many")]}],
        "default": [step("few")],
    }
    sim = Simulator(seed(block), {"many": {}, "few": {}})
    for n in (9, 1):
        sim.start({"data": {"n": n}})
    sim.run()
    assert called(sim) == ["many", "few"]


@case("try_catch")
def _try_catch() -> None:
    """The failure is caught and finally runs; the instance completes."""
    block = {"type": "try_catch", "try": [step("a")], "catch": [step("b")], "finally": [step("c")]}
    sim = Simulator(seed(block), {"a": Refused, "b": {}, "c": {}})
    instance = sim.start()
    sim.run()
    assert (called(sim), instance.state) == (["a", "b", "c"], "completed")


@case("saga")
def _saga() -> None:
    """Completed actions are compensated in reverse; then the instance fails."""
    block = {
        "type": "saga",
        "steps": [
            {"id": "one", "action": step("a"), "compensation": step("undo_a")},
            {"id": "two", "action": step("b"), "compensation": step("undo_b")},
            {"id": "three", "action": step("c")},
        ],
    }
    sim = Simulator(seed(block), {"a": {}, "b": {}, "c": Refused, "undo_a": {}, "undo_b": {}})
    instance = sim.start()
    sim.run()
    assert (called(sim), instance.state) == (["a", "b", "c", "undo_b", "undo_a"], "failed")


@case("sub_sequence")
def _sub_sequence() -> None:
    """The child gets the input and its outputs come back; a cancel reaches it."""
    parent = seed(
        {"type": "sub_sequence", "id": "kyc", "sequence": "kyc", "input": {"who": "{{data.who}}"}}
    )
    child = {
        "id": "kyc",
        "blocks": [{"type": "wait", "delay": "1d"}, step("a", params={"who": "{{data.who}}"})],
    }
    sim = Simulator(parent, {"a": {"ok": True}})
    sim.publish(child)
    instance = sim.start({"data": {"who": "ada"}})
    sim.run_for("1h")
    (kyc,) = instance.children
    assert (instance.state, kyc.sequence, kyc.state) == ("waiting", "kyc", "scheduled")
    sim.run()
    assert kyc.calls[0].params == {"who": "ada"}
    assert instance.outputs["kyc"][-1]["output"] == {"ok": True}
    second = sim.start({"data": {"who": "eve"}})
    sim.run_for("1h")
    sim.cancel(second)
    sim.run()
    assert [second.state, second.children[0].state] == ["cancelled", "cancelled"]


@case("ab_split")
def _ab_split() -> None:
    """Each instance takes one variant, all together both."""
    variants = [{"name": n, "weight": 1, "blocks": [step(n)]} for n in ("a", "b")]
    sim = Simulator(
        seed({"type": "ab_split", "id": "which", "variants": variants}), {"a": {}, "b": {}}
    )
    for _ in range(50):
        sim.start()
    sim.run()
    assert set(called(sim)) == {"a", "b"}
    first = sim.instances[0]
    assert first.outputs["which"]["variant"] == first.calls[0].handler


@case("cancellation_scope")
def _cancellation_scope() -> None:
    """What is inside runs to its end even when the instance is cancelled."""
    block = {"type": "cancellation_scope", "blocks": [step("a"), step("b")]}
    sim = Simulator(seed(block, step("c")), {"a": takes("10s", {}), "b": {}})
    instance = sim.start()
    sim.run_for("1s")
    sim.cancel(instance)
    sim.run()
    assert (called(sim), instance.state) == (["a", "b"], "cancelled")


@case("end")
def _end() -> None:
    """The instance finishes under a name, and nothing behind it starts."""
    sim = Simulator(seed(step("a"), {"type": "end", "outcome": "recovered"}, step("b")), {"a": {}})
    instance = sim.start()
    sim.run()
    assert (instance.state, instance.outcome, called(sim)) == ("completed", "recovered", ["a"])


@pytest.mark.parametrize("block_type", sorted(BLOCKS))
def test_block_runs_as_it_does_in_production(block_type: str) -> None:
    """Every type of block that there is has a case, and it holds."""
    CASES[block_type]()


def test_wait_until_a_moment_of_the_data() -> None:
    """A wait ends at the moment that the context names."""
    sim = Simulator(
        seed({"type": "wait", "until": "{{data.trial_end - days(3)}}"}, step("a")), {"a": {}}
    )
    sim.start({"data": {"trial_end": "2026-02-01T00:00:00Z"}})
    sim.run()
    assert sim.calls[0].at == datetime(2026, 1, 29, tzinfo=UTC)


def test_built_ins_need_no_script() -> None:
    """sleep, set_state, get_state, transform, assert and log do what they do in production."""
    sim = Simulator(
        seed(
            step("set_state", params={"key": "n", "value": 4}),
            step("sleep", params={"duration_ms": 90_000}),
            step("get_state", params={"key": "n"}),
            step("transform", params={"twice": "{{outputs.get_state.value * 2}}"}),
            step("assert", params={"condition": "{{outputs.transform.twice == 8}}"}),
            step("log", params={"message": "done"}),
        )
    )
    instance = sim.start()
    sim.run()
    assert instance.state == "completed", instance
    assert (sim.calls, sim.now) == ([], START + timedelta(seconds=90))
    assert instance.outputs["transform"] == {"twice": 8}


def test_start_sequence_starts_and_goes_on() -> None:
    """The other instance is independent of this one."""
    other = {"id": "other", "blocks": [step("b")]}
    sim = Simulator(
        seed(step("start_sequence", params={"sequence": "other"}), step("a")), {"a": {}, "b": {}}
    )
    sim.publish(other)
    sim.start()
    sim.run()
    assert sorted(called(sim)) == ["a", "b"]
    assert [each.sequence for each in sim.instances] == ["t", "other"]


def test_deadline_fails_the_step() -> None:
    """A step that cannot be done before its deadline fails then."""
    flaky = step("a", deadline="1h", retry={"max_attempts": 9, "backoff": "50m"})
    sim = Simulator(seed(flaky), {"a": _unsent})
    instance = sim.start()
    sim.run()
    assert (instance.state, sim.now) == ("failed", START + timedelta(hours=1))
    assert instance.error is not None
    assert instance.error["code"] == "deadline"


def test_rate_limits_are_not_simulated() -> None:
    """A hundred calls under a limit of one are made at once."""
    limited = step("a", rate_limit_key="k", rate_limit={"max": 1, "window_seconds": 60})
    sim = Simulator(seed(limited), {"a": {}})
    for _ in range(100):
        sim.start()
    sim.run()
    assert (len(sim.calls), sim.now) == (100, START)


def _unsent(request: StepRequest) -> Any:
    """The service is away."""
    return Answer(Verdict.NOT_SENT, error={"message": f"{request.handler} is away"})
