"""placing: where a step waits until it is called: in a lane of ours, or for a pull worker."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from orch8.engine.lifecycle import StepState
from orch8.runtime import breakers, offering
from orch8.runtime.routes import Kind
from orch8.storage.breakers import WAITING
from orch8.storage.rows import StepRow

if TYPE_CHECKING:
    from orch8.runtime.run import Run


def place(run: Run, row: StepRow, due: datetime) -> None:
    """The step is due then, wherever its handler is reached now."""
    if run.route(row).kind is Kind.PULL:
        offer(run, row, due)
        return
    row.state, row.expires_at, row.lane = StepState.SCHEDULED, None, run.lane(row)
    row.pull = run.route(row).kind is Kind.CELERY
    run.schedule(row, due)


def offer(run: Run, row: StepRow, due: datetime) -> None:
    """The step waits for a pull worker from ``due`` on; or its fallback is called, while its
    handler is left alone.
    """
    until = breakers.held_until(run, row, due)
    if until is None:
        offering.offer(run, row, due)
    elif breakers.fall_back(run, row):
        place(run, row, due)
    else:
        put_off(run, row, until)


def put_off(run: Run, row: StepRow, until: datetime) -> None:
    """The step asks again then; nothing was sent, no attempt used up."""
    breakers.note_wait(run, row)
    row.state, row.waits_for, row.lane = StepState.SCHEDULED, WAITING, run.lane(row)
    row.expires_at = row.deadline_at if row.pull else None
    run.schedule(row, until)


def may_go(run: Run, row: StepRow) -> bool:
    """Whether a due step is called now by whoever has claimed it. If not, it has been put off, or
    offered to the pull workers of its fallback.
    """
    if row.waits_for is None and not run.around.breakers.troubled:  # nearly always
        return True
    if run.route(row).kind is Kind.PULL:  # nobody is called yet: it is offered
        return True
    until = breakers.held_up(run, row)
    if until is None:
        return True
    if not breakers.fall_back(run, row):
        put_off(run, row, until)
        return False
    if run.route(row).kind is Kind.PULL:
        offer(run, row, run.now)
        return False
    return True


def may_be_taken(run: Run, row: StepRow) -> bool:
    """Whether the pull worker that asks for a step may have it. If not, it has been put off, or is
    where its fallback is reached.
    """
    until = breakers.held_up(run, row)
    if until is None:
        return True
    if breakers.fall_back(run, row):
        place(run, row, run.now)
    else:
        put_off(run, row, until)
    return False
