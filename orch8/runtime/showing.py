"""The state that an instance shows, and why a person should look at it. Values only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from orch8.engine.lifecycle import InstanceState, StepState
from orch8.engine.outcome import Status
from orch8.engine.scope import StepRef
from orch8.runtime.sla import shown_leaves

if TYPE_CHECKING:
    from orch8.runtime.run import Run

WIDE: Final = 16  # an instance with more live leaves is shown as running without asking each
_ENDS: Final = {
    Status.FAILED: InstanceState.FAILED,
    Status.CANCELLED: InstanceState.CANCELLED,
    Status.COMPLETED: InstanceState.COMPLETED,
    Status.SKIPPED: InstanceState.COMPLETED,
}
_AT_WORK: Final = frozenset({StepState.RUNNING, StepState.SLEEPING})
_AWAITED: Final = frozenset({StepState.WAITING, StepState.PARKED})


def ends_now(run: Run) -> bool:
    """Whether the instance ends in this transaction."""
    retried = run.row.round != run.base.round
    return run.snapshot.outcome is not None and (retried or run.base.finished_at is None)


def shown(run: Run) -> tuple[InstanceState, Any]:
    """The state (paused or what it is held as, else running, else waiting, else scheduled) and the
    attention of the first parked step, if any. Raises NeedsValues when a live leaf's row is not
    loaded.
    """
    outcome = run.snapshot.outcome
    if outcome is not None:
        return _ENDS[outcome.status], None
    leaves = shown_leaves(run.index, run.snapshot.frames)
    paused = run.row.paused_at is not None
    held = InstanceState(run.row.paused_as or InstanceState.PAUSED)
    if len(leaves) > WIDE:
        return held if paused else InstanceState.RUNNING, run.row.attention
    here = {**run.touched, **run.entered}
    run.known.require(StepRef(key) for key in leaves if key not in here)
    rows = [here.get(key) or run.known.get(StepRef(key)) for key in leaves]
    parked = next((row for row in rows if row.attention is not None), None)
    attention = None if parked is None else {**parked.attention, "node_key": parked.node_key}
    if paused:
        return held, attention
    # What a pull worker has is waited for, whether it was taken or not (CONTRACT 10.1), and so is
    # what became of an attempt in doubt, whoever is being asked.
    states = {
        StepState.WAITING
        if row.asking or (row.pull and row.state == StepState.RUNNING)
        else row.state
        for row in rows
    }
    if states & _AT_WORK:
        return InstanceState.RUNNING, attention
    return InstanceState.WAITING if states & _AWAITED else InstanceState.SCHEDULED, attention
