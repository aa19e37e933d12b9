"""The Simulator and a real house come to the same rows and the same audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from orch8.config import Settings
from orch8.handlers.python import Function, Refused, TryAgain
from orch8.handlers.request import StepRequest
from orch8.testing import SimInstance, Simulator
from tests.support.documents import seed
from tests.support.house import House

COMPARED = (
    "node_key", "handler", "effect", "state", "epoch", "generation", "dispatches", "failures",
    "crashes", "idempotency_key", "outcome", "output", "error", "waits_for",
)  # fmt: skip


class Pair:
    """The same sequence in both, with the same handlers."""

    def __init__(
        self, house: House, blocks: list[Any], make: Callable[[], dict[str, Function]]
    ) -> None:
        self.house = house
        mine, theirs = make(), make()
        for name, function in theirs.items():
            house.handler(name, function)
        settings = replace(Settings(), key_secret=house.settings.key_secret)
        self.sim = Simulator(seed(*blocks), mine, settings=settings)
        house.publish(*blocks)
        self.real: UUID = house.start({"n": 3}, idempotency_key="k")
        self.simulated: SimInstance = self.sim.start(
            {"data": {"n": 3}, "config": {}}, idempotency_key="k"
        )
        self.passes(timedelta())

    def passes(self, span: timedelta) -> None:
        """Time passes in both."""
        if span:
            self.house.advance(span)
        self.house.work()
        self.sim.run_for(span + timedelta(seconds=3 if not span else 0))

    def compare(self) -> None:
        """Both tell the same."""
        assert self.simulated.state == self.house.state(self.real)
        real = [told(row) for row in self.house.steps(self.real).values()]
        assert [told(row) for row in self.simulated.steps] == real
        assert [e.action for e in self.simulated.timeline] == self.house.actions(self.real)


def told(row: Any) -> dict[str, Any]:
    """What is compared of a row."""
    values = {name: getattr(row, name) for name in COMPARED}
    if row.handler in ("wait", "wait_signal", "sleep"):
        values["output"] = None  # it names moments
    return values


def step(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "step", "handler": name, **more}


def counting(fails: dict[str, list[Any]]) -> Callable[[], dict[str, Function]]:
    """Handlers that raise what is listed for them, one after the other, and then succeed."""

    def make() -> dict[str, Function]:
        left = {name: list(each) for name, each in fails.items()}

        def handler(request: StepRequest) -> Any:
            turn = left[request.handler]
            if turn:
                raise turn.pop(0)
            return {"step": request.step, "asked": request.params}

        return dict.fromkeys(fails, handler)

    return make


def test_dunning_is_the_same(house: House) -> None:
    """Retries, waits over days and a failure in the end."""
    blocks = [
        step("charge", retry={"max_attempts": 2, "backoff": "1s"}, effect="money"),
        {"type": "wait", "delay": {"days": 3}},
        step(
            "remind", effect="notify", params={"n": "{{data.n}}", "was": "{{outputs.charge.step}}"}
        ),
        {"type": "wait", "delay": {"days": 30}},
        step("downgrade"),
    ]
    answers = {"charge": [TryAgain("busy")], "remind": [], "downgrade": [Refused("no")]}
    pair = Pair(house, blocks, counting(answers))
    for days in (3, 30):
        pair.compare()
        pair.passes(timedelta(days=days))
    pair.compare()
    assert pair.simulated.state == "failed"
    house.retry(pair.real)
    pair.sim.retry(pair.simulated)
    pair.passes(timedelta())
    pair.compare()
    assert pair.simulated.state == "completed"


def test_blocks_are_the_same(house: House) -> None:
    """Composites, with a signal, a pause and a compensation."""
    blocks = [
        {"type": "parallel", "branches": [[step("a", id="p1")], [step("a", id="p2")]]},
        {"type": "for_each", "collection": [1, 2, 3], "item_var": "i",
         "body": [step("a", id="each", params={"i": "{{i}}"})]},
        {"type": "wait_signal", "id": "word", "signal": "go"},
        {"type": "try_catch", "try": [{"type": "saga", "steps": [
            {"id": "one", "action": step("a", id="do"), "compensation": step("a", id="undo")},
            {"id": "two", "action": step("b")}]}], "catch": [step("a", id="caught")]},
        {"type": "wait", "id": "day", "delay": "1d"},
        step("a", id="last"),
    ]  # fmt: skip
    pair = Pair(house, blocks, counting({"a": [], "b": [Refused("no")]}))
    pair.compare()
    house.signal(pair.real, name="go", payload={"x": 1})
    pair.sim.signal(pair.simulated, "go", {"x": 1})
    pair.passes(timedelta())
    pair.compare()
    house.signal(pair.real, "pause")
    pair.sim.pause(pair.simulated)
    pair.passes(timedelta(days=2))
    pair.compare()
    house.signal(pair.real, "resume")
    pair.sim.resume(pair.simulated)
    pair.passes(timedelta())
    pair.compare()
    assert pair.simulated.state == "completed"


def test_cancel_is_the_same(house: House) -> None:
    """A cancel during a wait, with a shielded part."""
    blocks = [
        step("a", id="first"),
        {"type": "try_catch", "try": [{"type": "wait", "delay": "1d"}],
         "finally": [step("a", id="last")]},
    ]  # fmt: skip
    pair = Pair(house, blocks, counting({"a": []}))
    house.signal(pair.real, "cancel")
    pair.sim.cancel(pair.simulated)
    pair.passes(timedelta())
    pair.compare()
    assert pair.simulated.state == "cancelled"
