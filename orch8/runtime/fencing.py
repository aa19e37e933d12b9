"""Fences at work: of the steps about to move money, those that find another behind their fence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Protocol
from uuid import UUID

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
Taken = tuple[str, str, UUID, str | None]  # tenant, fence, instance, node key
Passed = tuple[str, str, UUID]  # tenant, fence, instance


class Fences(Protocol):
    """Who holds which fence, wherever that is kept."""

    def take(self, holds: Sequence[Hold]) -> set[Taken]:
        """The steps that have their fence now."""

    def holder(self, tenant_id: str, fence: str) -> tuple[UUID, str] | None:
        """The instance and node that hold a fence."""

    def waited_for(self, behind: Sequence[StepRow], entries: Sequence[AuditEntry]) -> None:
        """Steps have begun to wait: attempts in doubt that hold them up are asked about now, and
        the audit log tells of it.
        """


@dataclass(frozen=True, slots=True)
class TxFences:
    """The fences of a database."""

    tx: Tx

    def take(self, holds: Sequence[Hold]) -> set[Taken]:
        """The steps that have their fence once the transaction commits."""
        return fences.take(self.tx, holds)

    def holder(self, tenant_id: str, fence: str) -> tuple[UUID, str] | None:
        """The instance and node that hold a fence."""
        found = fences.holder(self.tx, tenant_id, fence)
        return None if found is None else (found.instance_id, found.node_key)

    def waited_for(self, behind: Sequence[StepRow], entries: Sequence[AuditEntry]) -> None:
        """Whoever holds the steps up is asked about now, and the audit log tells of it."""
        fences.hurry(self.tx, [(row.tenant_id, row.fence or "") for row in behind])
        write(self.tx, Changes(audit=list(entries)))


def stand_back(
    held_by: Fences,
    tasks: Sequence[Task],
    moment: Moment,
    passed: Mapping[Passed, str] = MappingProxyType({}),
) -> list[Task]:
    """Those of the claimed tasks that must not be sent, since another step holds their fence: their
    rows are scheduled again, behind it. One that is not to wait keeps its place among the tasks,
    with its end. Every other task that has a fence holds it once the transaction commits;
    ``passed`` are the fences that steps of this transaction pass on within their instance.
    """
    wanting = [task for task in tasks if task.row.fence is not None and task.sends]
    if not wanting:
        return []
    taken = held_by.take([_hold(task, passed) for task in wanting])
    refused = [task for task in wanting if _named(task.row) not in taken]
    behind = [task for task in refused if task.on_fence is not OnFence.FAIL]
    for task in refused:
        if task.on_fence is OnFence.FAIL:
            task.answer = _taken(held_by, task.row)
    first = [task.row for task in behind if task.row.waits_for != FENCE]
    for task in wanting:
        if task in behind:
            _wait(task.row, moment)
        elif task.row.waits_for == FENCE:
            task.row.waits_for = None
    if first:
        held_by.waited_for(first, [_entry(row) for row in first])
    return behind


def unsend(row: StepRow) -> None:
    """The row's last dispatch was not made: its intent is withdrawn, no attempt used up."""
    row.dispatches -= 1
    if row.dispatches == 0:
        row.first_dispatched_at = row.last_dispatched_at = None
        row.fingerprint = row.request = None


def pass_on(let_go: list[Hold], tasks: Sequence[Task]) -> dict[Passed, str]:
    """The fences that the next step of the same instance wants at once: they are not let go, and
    nobody else is woken for them. By whom each is passed on.
    """
    wanted = {
        (task.row.tenant_id, task.row.fence, task.row.instance_id)
        for task in tasks
        if task.row.fence is not None and task.sends
    }
    passed: dict[Passed, str] = {}
    kept = []
    for hold in let_go:
        at = (hold.tenant_id, hold.fence, hold.instance_id)
        if at in wanted and at not in passed and hold.node_key is not None and not hold.settled:
            passed[at] = hold.node_key
        else:
            kept.append(hold)
    let_go[:] = kept
    return passed


def _hold(task: Task, passed: Mapping[Passed, str]) -> Hold:
    row = task.row
    assert row.fence is not None
    return Hold(
        row.tenant_id,
        row.fence,
        row.instance_id,
        row.node_key,
        supersedes=task.on_fence is OnFence.SUPERSEDE,
        after=passed.get((row.tenant_id, row.fence, row.instance_id)),
    )


def _named(row: StepRow) -> tuple[str, str | None, UUID, str]:
    return row.tenant_id, row.fence, row.instance_id, row.node_key


def _wait(row: StepRow, moment: Moment) -> None:
    row.state, row.waits_for, row.claimed_by = StepState.SCHEDULED, FENCE, None
    unsend(row)
    waited = (moment.at - row.created_at).total_seconds()
    after = min(max(_FIRST_LOOK, waited / 2), _LONGEST_LOOK)
    row.due_at = moment.at + timedelta(seconds=after * moment.rate)


def _entry(row: StepRow) -> AuditEntry:
    return AuditEntry(
        row.tenant_id, ENGINE, "step.fenced", "deferred", row.instance_id, row.node_key,
        reason=f"another step holds the fence {row.fence}"[:500],
    )  # fmt: skip


def _taken(held_by: Fences, row: StepRow) -> Answer:
    assert row.fence is not None
    found = held_by.holder(row.tenant_id, row.fence)
    who = f" by step {found[1]} of instance {found[0]}" if found else ""
    error = {"message": f"the fence {row.fence!r} is held{who}", "code": "fence_taken"}
    return Answer(Verdict.REFUSED, error=error)
