"""A step's compensation is a note in the contract's form, and refused in the seed's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orch8.definition import load
from tests.support.documents import CHARGE, contract, refusal, seed


def step(**compensation: Any) -> dict[str, Any]:
    """A step with this compensation."""
    return {**CHARGE, "id": "a", "compensation": {"handler": "undo", **compensation}}


def test_note_is_kept_and_said_to_be_no_more() -> None:
    """Whoever publishes it learns that nothing runs it."""
    sequence = load(contract(step(depends_on=["b", "c"], verification="manual")))
    assert "not_executed" in {each.code for each in sequence.warnings}
    assert sequence.canonical["blocks"][0]["compensation"]["depends_on"] == ["b", "c"]


@pytest.mark.parametrize("depends_on", [["a"], ["b", "b"]])
def test_dependency_on_itself_or_twice_is_refused(depends_on: list[str]) -> None:
    """At its place."""
    _, (problem,) = refusal(contract(step(depends_on=depends_on)))
    assert problem.pointer == f"/blocks/0/compensation/depends_on/{len(depends_on) - 1}"


def test_seed_form_says_what_to_write_instead() -> None:
    """A saga undoes steps."""
    status, (problem,) = refusal(seed(step()))
    assert (status, problem.code, problem.pointer) == (400, "not_yet", "/blocks/0/compensation")
    assert "saga" in problem.hint


def test_longest_run_has_two_names() -> None:
    """One of them is needed in the seed's form, where an SLA can do more than alert."""
    blocks = {"type": "step", "id": "a", "handler": "noop"}
    for name in ("max_duration", "max_runtime"):
        assert "@sla" in load(seed(blocks, sla={name: "1h"})).index
        assert "@sla" in load(contract(blocks, sla={name: 1000})).index
    assert "@sla" not in load(contract(blocks, sla={})).index
    status, (problem,) = refusal(seed(blocks, sla={}))
    assert (status, problem.pointer) == (422, "/sla/max_duration")


def test_longest_step_needs_no_longest_run() -> None:
    """It has no clock of its own: each step that is entered is looked at later."""
    blocks = {"type": "step", "id": "a", "handler": "noop"}
    for form in (seed, contract):
        index = load(form(blocks, sla={"max_step_runtime": 1500})).index
        assert "@sla" not in index
        assert index.root.longest_step == timedelta(milliseconds=1500)
    assert load(contract(blocks, sla={})).index.root.longest_step is None
