"""stops: where a run halts by itself: its budget of steps is used up, or a block has a breakpoint;
and where it ends: the installation's bound on the steps of an instance. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orch8.blocks.interrupt import SLA
from orch8.engine.events import Event, Exhausted
from orch8.engine.keys import NodeKey, escape_id
from orch8.engine.lifecycle import LIVE
from orch8.engine.outcome import Outcome, Status
from orch8.storage.halts import Halt

if TYPE_CHECKING:
    from orch8.runtime.run import Run
    from orch8.storage.rows import InstanceRow, StepRow

BUDGET: Final = "budget_exceeded"
REASON: Final = "paused_reason"
BREACH: Final = "budget_breach"
MAX_STEPS: Final = "max_steps"
_BREAKPOINTS: Final = "_debug_breakpoints"
_RAN: Final = frozenset({Status.COMPLETED, Status.FAILED})


@dataclass(frozen=True, slots=True)
class Stops:
    """``budget`` steps may have ended when another is entered, else the run is paused; after
    ``most`` it fails (0: never). It is paused before each block in ``breakpoints``, too.
    """

    budget: int | None
    most: int
    breakpoints: frozenset[str]


def stops_of(row: InstanceRow, most: int) -> Stops | None:
    """What stops the run of an instance, None if nothing does."""
    if row.terms is None and row.metadata is None and not most:
        return None
    budget = ((row.terms or {}).get("budget") or {}).get(MAX_STEPS)
    marked = row.metadata.get(_BREAKPOINTS) if isinstance(row.metadata, Mapping) else None
    named = marked if isinstance(marked, list) else ()
    breakpoints = frozenset(escape_id(each) for each in named if isinstance(each, str))
    if budget is None and not most and not breakpoints:
        return None
    return Stops(budget, most, breakpoints)


def ended(run: Run, row: StepRow, outcome: Outcome) -> None:
    """The step counts, if it ran."""
    if outcome.status in _RAN and row.block_id != SLA:
        run.row = run.row.but(executed=(run.row.executed or 0) + 1)


def entered(run: Run, key: NodeKey, stops: Stops) -> list[Event]:
    """A leaf was entered: the run halts before it, if it is to; what follows if it is to end."""
    done = run.row.executed or 0
    if key.block_id == SLA:
        return []
    if stops.most and done >= stops.most:
        message = f"the instance has run {done} steps; the server allows {stops.most}"
        return [Exhausted({"message": message, "code": "too_many_steps"})]
    if stops.budget is not None and done > stops.budget:
        breach = {"limit": MAX_STEPS, "limit_value": stops.budget, "actual": done}
        _halt(run, f"budget: {done} steps ran, {stops.budget} are allowed", {
            REASON: BUDGET, BREACH: breach,
        })  # fmt: skip
    elif key.block_id in stops.breakpoints:
        _halt(run, f"breakpoint at {key.block_id}", {})
    return []


def _halt(run: Run, why: str, marks: Mapping[str, Any]) -> None:
    if run.row.paused_at is not None or run.row.cancelling:
        return
    run.row = run.row.but(paused_at=run.now)
    for row in (*run.entered.values(), *run.touched.values()):
        if row.state in LIVE and row.due_at is not None and row.asking is None:
            row.held_due_at, row.due_at = row.due_at, None
    run.changes.halted.append(Halt(run.row.id, run.now, marks))
    run.audit("instance.paused", "success", reason=why, body=dict(marks) or None)
