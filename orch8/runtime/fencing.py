"""Fences at work: of the steps about to move money, those that find another behind their fence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from orch8.blocks.money import OnFence
from orch8.engine.lifecycle import StepState
from orch8.engine.outcome import Answer, Verdict
from orch8.runtime.preparing import Task
from orch8.runtime.run import ENGINE
from orch8.storage import fences
from orch8.storage.changes import Changes, write
from orch8.storage.fences import Hold
from orch8.storage.rows import AuditEntry, Moment, StepRow
from orch8.storage.transaction import Tx

FENCE: Final = "fence"  # what a step waits for that finds another behind its fence
# Whoever lets go of the fence wakes those who wait; this is for a wake-up that crossed with them.
_FIRST_LOOK: Final = 2.0
_LONGEST_LOOK: Final = 60.0


def stand_back(tx: Tx, tasks: Sequence[Task], moment: Moment) -> list[Task]:
    """Those of the claimed tasks that must not be sent, since another step holds their fence: their
    rows are scheduled again, behind it. One that is not to wait keeps its place among the tasks,
    with its end. Every other task that has a fence holds it once the transaction commits.
    """
    wanting = [task for task in tasks if task.row.fence is not None and task.sends]
    if not wanting:
        return []
    held = fences.take(tx, [_hold(task) for task in wanting])
    refused = [task for task in wanting if _named(task.row) not in held]
    behind = [task for task in refused if task.on_fence is not OnFence.FAIL]
    for task in refused:
        if task.on_fence is OnFence.FAIL:
            task.answer = _taken(tx, task.row)
        else:
            _wait(task.row, moment)
    if behind:
        _tell(tx, behind)
    return behind


def _hold(task: Task) -> Hold:
    row = task.row
    assert row.fence is not None
    supersedes = task.on_fence is OnFence.SUPERSEDE
    return Hold(row.tenant_id, row.fence, row.instance_id, row.node_key, supersedes=supersedes)


def _named(row: StepRow) -> tuple[str, str | None, object, str]:
    return row.tenant_id, row.fence, row.instance_id, row.node_key


def _wait(row: StepRow, moment: Moment) -> None:
    row.state, row.waits_for, row.claimed_by = StepState.SCHEDULED, FENCE, None
    unsend(row)
    waited = (moment.at - row.created_at).total_seconds()
    after = min(max(_FIRST_LOOK, waited / 2), _LONGEST_LOOK)
    row.due_at = moment.at + timedelta(seconds=after * moment.rate)


def unsend(row: StepRow) -> None:
    """The row's last dispatch was not made: its intent is withdrawn, no attempt used up."""
    row.dispatches -= 1
    if row.dispatches == 0:
        row.first_dispatched_at = row.last_dispatched_at = None
        row.fingerprint = row.request = None


def _tell(tx: Tx, behind: Sequence[Task]) -> None:
    """Attempts in doubt that hold up others are asked about now; first waits are in the log."""
    fences.hurry(tx, [(t.row.tenant_id, t.row.fence) for t in behind if t.row.fence is not None])
    first = [task.row for task in behind if task.row.epoch == 1]
    if first:
        entries = [
            AuditEntry(
                row.tenant_id, ENGINE, "step.fenced", "deferred", row.instance_id, row.node_key,
                reason=f"another step holds the fence {row.fence}"[:500],
            )
            for row in first
        ]  # fmt: skip
        write(tx, Changes(audit=entries))


def _taken(tx: Tx, row: StepRow) -> Answer:
    assert row.fence is not None
    found = fences.holder(tx, row.tenant_id, row.fence)
    who = f" by step {found.node_key} of instance {found.instance_id}" if found else ""
    error = {"message": f"the fence {row.fence!r} is held{who}", "code": "fence_taken"}
    return Answer(Verdict.REFUSED, error=error)
