"""The lives of instances and steps, as the tables say them."""

from __future__ import annotations

import pytest

from orch8.engine.lifecycle import (
    ENDED,
    INSTANCE_MOVES,
    LIVE,
    OPEN,
    ROUND_MOVES,
    STEP_MOVES,
    IllegalMove,
    InstanceState,
    Moves,
    StepState,
    check,
    check_instance,
)


def test_every_state_has_its_moves() -> None:
    """No state is left out, and none leads to a state that there is not."""
    for moves, states in ((INSTANCE_MOVES, set(InstanceState)), (STEP_MOVES, set(StepState))):
        assert set(moves) == states
        assert set().union(*moves.values()) == states
    assert (set(InstanceState), set()) == (OPEN | ENDED, OPEN & ENDED)


@pytest.mark.parametrize("state", sorted(set(StepState) - LIVE))
def test_step_that_ended_never_moves_again(state: StepState) -> None:
    """Its output is a memo: no crash, retry or late answer brings it back. At a person's word it
    becomes history.
    """
    assert STEP_MOVES[state] <= {StepState.SUPERSEDED}


def test_instance_that_ended_goes_on_only_in_another_round() -> None:
    """Which nothing but a person's word begins, and never in a pause."""
    assert not any(INSTANCE_MOVES[state] for state in ENDED)
    assert ROUND_MOVES.keys() == ENDED | {InstanceState.PAUSED}
    assert all(moves == (OPEN | ENDED) - {InstanceState.PAUSED} for moves in ROUND_MOVES.values())
    check_instance("completed", "scheduled", "it", another_round=True)
    with pytest.raises(IllegalMove, match=r"^instance it cannot go from completed to scheduled$"):
        check_instance("completed", "scheduled", "it", another_round=False)


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
