"""interceptors: what a sequence leaves among its outputs around attempts, signals and ends.

They call nobody. What they leave is what stands in the definition, as it stands there, written by
the transaction that settles what it is about: a crash before that leaves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from orch8.blocks.step import Step
from orch8.engine.keys import unescape_id
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import Outcome, Status
from orch8.storage.rows import StepRow

if TYPE_CHECKING:
    from orch8.runtime.run import Run

PREFIX: Final = "_interceptor:"
_AT_END: Final = {Status.COMPLETED: "on_complete", Status.FAILED: "on_failure"}


def attempted(run: Run, row: StepRow) -> None:
    """An attempt of a step is over, whatever it came to: what is left before and after it. Nothing
    is left of a step that never had its turn. Called before the row shows the end.
    """
    block = run.index.get(row.block_id)
    if not isinstance(block, Step) or "@" in block.id or not _began(row):
        return
    given, name = run.published.sequence.interceptors, unescape_id(block.id)
    if "before_step" in given:
        at = _began_at(run, row)
        run.trace(f"{PREFIX}before:{name}", given["before_step"], attempt=row.failures, at=at)
    if "after_step" in given:
        run.trace(f"{PREFIX}after:{name}", given["after_step"], attempt=row.failures, after=True)


def signalled(run: Run, name: str | None, control: str | None, payload: Any) -> None:
    """A signal has taken effect: what is left of it, with the signal itself."""
    given = run.published.sequence.interceptors
    if "on_signal" not in given:
        return
    signal = {"signal_type": control or {"custom": name}, "payload": payload}
    params = given["on_signal"]
    whole = params if isinstance(params, Mapping) else {"_params": params}
    run.trace(f"{PREFIX}on_signal", {**whole, "_signal": signal})


def ended(run: Run, outcome: Outcome) -> None:
    """The instance has ended: what is left of that."""
    name = _AT_END.get(outcome.status, "")
    given = run.published.sequence.interceptors
    if name in given:
        run.trace(f"{PREFIX}{name}", given[name], after=True)


def _began(row: StepRow) -> bool:
    return row.state != StepState.SCHEDULED or row.dispatches > 0


def _began_at(run: Run, row: StepRow) -> datetime:
    """When the attempt began: as its call was sent, or else as the step was entered if it had to
    wait for something.
    """
    if row.last_dispatched_at is not None:
        return min(row.last_dispatched_at, run.now)
    return run.now if row.progress is None and not row.pull else row.created_at
