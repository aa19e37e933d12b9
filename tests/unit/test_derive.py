"""Versions of single instances: their sequence's blocks, and injected ones behind them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from orch8.definition import load
from orch8.errors import InvalidArgument, Problem
from orch8.runtime.derive import derived, injected_of, main_of, placed
from orch8.runtime.library import Published
from orch8.testing import Simulator

STEP = {"type": "step", "handler": "noop"}
CONTRACT = {
    "id": "019a0000-0000-7000-8000-000000000001", "tenant_id": "t", "namespace": "n",
    "name": "s", "version": 3, "created_at": "2026-01-01T00:00:00Z",
    "blocks": [
        {"type": "saga", "id": "g", "steps": [{"id": "one", "action": {**STEP, "id": "a"}}]},
    ],
}  # fmt: skip
SEED: dict[str, Any] = {
    "id": "s", "blocks": [STEP, STEP],
    "interrupts": [{"signal": "stop", "blocks": [STEP]}],
}  # fmt: skip


def published(body: Any) -> Published:
    """The version that a body is."""
    return Published(UUID(int=1), "t", "n", "s", 3, load(body))


def ids(version: Published) -> list[str]:
    """The ids of its outermost list."""
    return [block.id for block in main_of(version.sequence.index).blocks]


@pytest.mark.parametrize("body", [CONTRACT, SEED])
def test_version_is_known_by_what_it_holds(body: Any) -> None:
    """The same blocks make the same version, in whatever steps they came; others another one."""
    base = published(body)
    blocks = [{**STEP, "id": "x"}, {**STEP, "id": "y"}]
    first, both = derived(base, blocks[:1]), derived(base, blocks)
    assert first.row is not None
    assert derived(first.published, blocks).published.id == both.published.id
    assert len({base.id, first.published.id, both.published.id}) == 3
    assert both.published.shown_id == base.shown_id == base.id
    assert (both.published.version, both.published.name) == (3, "s")
    assert [each["id"] for each in injected_of(both.published)] == ["x", "y"]
    assert injected_of(base) == []


def test_blocks_keep_the_names_that_they_were_given() -> None:
    """A block without an id is never renamed by one that is injected, whatever stands where."""
    base = published(SEED)
    assert ids(base) == ["noop", "noop_2"]
    once = derived(base, [STEP, {**STEP, "id": "noop_5"}]).published
    assert ids(once) == ["noop", "noop_2", "noop_4", "noop_5"]
    twice = derived(once, [{**STEP, "id": "noop_6"}, *injected_of(once)]).published
    assert ids(twice) == ["noop", "noop_2", "noop_6", "noop_4", "noop_5"]
    assert twice.sequence.index.keys() >= once.sequence.index.keys()


def test_what_does_not_fit_is_refused_with_its_place() -> None:
    """In the whole list; from there it is told in the caller's own."""
    with pytest.raises(InvalidArgument) as refused:
        derived(published(CONTRACT), [{**STEP, "id": "x"}, {"type": "step", "id": "a"}])
    assert {each.pointer for each in refused.value.errors} == {"/blocks/2/id", "/blocks/2/handler"}
    mine = placed(refused.value.errors, 2, 1)
    assert {each.pointer for each in mine} == {"/blocks/0/id", "/blocks/0/handler"}
    assert not any(each.shape for each in mine)
    others = [Problem(at, "no") for at in ("", "/blocks", "/blocks/9/id", "/unique/2", "/blocks/x")]
    assert placed(others, 2, 1) == others


def test_self_modify_is_simulated() -> None:
    """A later instance of the sequence is as it was."""
    grow = {"type": "step", "id": "grow", "handler": "self_modify",
            "params": {"blocks": [{"type": "step", "id": "x", "handler": "tell"}]}}  # fmt: skip
    sim = Simulator({"id": "s", "blocks": [grow]}, handlers={"tell": {}})
    for count in (1, 2):
        run = sim.start()
        sim.run()
        assert run.state == "completed"
        assert len(sim.calls) == count
