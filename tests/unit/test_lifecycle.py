"""The lives of instances and steps, as the tables say them."""

from __future__ import annotations

import pytest

from orch8.engine.lifecycle import (
    ENDED,
    INSTANCE_MOVES,
    LIVE,
    OPEN,
    STEP_MOVES,
    IllegalMove,
    InstanceState,
    Moves,
    StepState,
    check,
)


def test_every_state_has_its_moves() -> None:
    """No state is left out, and none leads to a state that there is not."""
    for moves, states in ((INSTANCE_MOVES, set(InstanceState)), (STEP_MOVES, set(StepState))):
        assert set(moves) == states
        assert set().union(*moves.values()) == states
    assert (set(InstanceState), set()) == (OPEN | ENDED, OPEN & ENDED)


@pytest.mark.parametrize("state", sorted(set(StepState) - LIVE))
def test_step_that_ended_never_moves_again(state: StepState) -> None:
    """Its output is a memo: no crash, retry or late answer brings it back."""
    assert STEP_MOVES[state] == frozenset()


def test_instance_goes_on_only_from_failed() -> None:
    """A retry goes on where it failed; what completed or was cancelled is over."""
    assert [state for state in sorted(ENDED) if INSTANCE_MOVES[state]] == [InstanceState.FAILED]


@pytest.mark.parametrize(
    ("moves", "before", "after"),
    [
        (STEP_MOVES, StepState.COMPLETED, StepState.RUNNING),
        (STEP_MOVES, StepState.PARKED, StepState.RUNNING),
        (INSTANCE_MOVES, InstanceState.COMPLETED, InstanceState.SCHEDULED),
    ],
)
def test_illegal_move_is_refused_by_name(moves: Moves, before: str, after: str) -> None:
    """A bug shows itself before it is written; staying is always legal."""
    with pytest.raises(IllegalMove, match=f"^step it cannot go from {before} to {after}$"):
        check(moves, before, after, "step", "it")
    check(moves, before, before, "step", "it")
