"""offering: a step becomes a task that pull workers can take; what happens to it is noted.

Values only: rows and changes of a run.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from orch8.blocks.step import Step
from orch8.engine.lifecycle import StepState
from orch8.runtime.routes import pull_lane, queue_of
from orch8.storage.pushes import Push
from orch8.storage.task_events import TaskEvent

if TYPE_CHECKING:
    from orch8.runtime.run import Run
    from orch8.storage.rows import StepRow

PULLED: Final = "pull worker"  # what an offered step waits for
MOST_REASON: Final = 500


def offer(run: Run, row: StepRow, due: datetime) -> None:
    """The step waits for a pull worker from ``due`` on, until its time-out or deadline. Until it is
    due it waits where all steps of its instance do: a pull lane holds only what can be taken.
    """
    if due > run.now:
        row.state, row.waits_for, row.lane = StepState.SCHEDULED, None, run.lane(row)
        row.expires_at = row.deadline_at if row.pull else None
        run.schedule(row, due)
        return
    block = run.block(row)
    assert isinstance(block, Step)
    queue = None
    if row.asking is None:
        queue = run.around.queues.choose(row.tenant_id, row.handler, block.queue_name)
    row.pull, row.waits_for, row.state = True, PULLED, StepState.WAITING
    row.lane = pull_lane(row.tenant_id, row.asking or row.handler, queue)
    ends = [row.deadline_at] if row.deadline_at else []
    if block.timeout is not None:
        ends.append(due + timedelta(seconds=block.timeout))
    row.expires_at = min(ends, default=None)
    run.schedule(row, due)
    tell(run, row)


def tell(run: Run, row: StepRow) -> None:
    """The address of the queue in which the step is offered, if it has one, will be told."""
    queue = queue_of(row.lane)
    if queue is not None and run.around.queues.tells(row.tenant_id, queue):
        push = Push(row.id, row.instance_id, row.node_key, row.tenant_id, queue)
        run.changes.pushed.append(push)


def note(run: Run, row: StepRow, event: str, reason: str | None = None) -> None:
    """It will be known that this happened to the task. Tasks of the user's own Celery are none."""
    if not row.handler.startswith("celery:"):
        run.changes.noted.append(event_of(row, event, reason))


def event_of(row: StepRow, event: str, reason: str | None = None) -> TaskEvent:
    """What happened to the task under its present claim."""
    return TaskEvent(
        row.instance_id, row.id, row.tenant_id, row.epoch, event, row.worker,
        None if reason is None else reason[:MOST_REASON],
    )  # fmt: skip
