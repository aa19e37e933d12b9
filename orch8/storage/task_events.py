"""Task events: what happened to the tasks of pull workers, for people to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx, dumps

CLAIMED: Final = "claimed"
RECLAIMED: Final = "reclaimed"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"
CANCELLED: Final = "cancelled"
STALE: Final = "stale_mutation_rejected"
EVENTS: Final = (CLAIMED, RECLAIMED, COMPLETED, FAILED, TIMED_OUT, CANCELLED, STALE)
MOST_STALE: Final = 1000  # events of a task after which a worker that is too late adds no more


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One thing that happened to the task, which is a step, under one of its claims."""

    instance_id: UUID
    task_id: UUID
    tenant_id: str
    claim_epoch: int
    event: str
    worker_id: str | None = None
    reason: str | None = None


_INSERT: Final = """
    INSERT INTO task_events (instance_id, task_id, id, tenant_id, claim_epoch, worker_id, event,
        reason)
    SELECT instance_id, task_id, id, tenant_id, claim_epoch, worker_id, event, reason
    FROM json_to_recordset(%(noted)s::json) AS r(instance_id uuid, task_id uuid, id uuid,
        tenant_id text, claim_epoch integer, worker_id text, event text, reason text)"""
# One part of the statement that writes all changes of a transaction.
NOTE: Final = f"noted AS ({_INSERT})"


def event_rows(events: Iterable[TaskEvent]) -> list[dict[str, Any]]:
    """The events as that part takes them, each with an id of its own."""
    names = TaskEvent.__slots__
    return [{"id": uuid7()} | {name: getattr(each, name) for name in names} for each in events]


def note_stale(tx: Tx, event: TaskEvent) -> None:
    """The event is kept, unless the task has MOST_STALE already: who repeats it adds nothing."""
    sql = f"""{_INSERT} WHERE (SELECT count(*) FROM task_events e
        WHERE e.instance_id = r.instance_id AND e.task_id = r.task_id) < %(most)s"""
    tx.run(sql, {"noted": dumps(event_rows([event])), "most": MOST_STALE})


def events_of(tx: Tx, instance_id: UUID, task_id: UUID, limit: int) -> list[Row]:
    """The task's events, the oldest first."""
    sql = """SELECT id, task_id, claim_epoch, worker_id, event, reason, created_at
             FROM task_events WHERE instance_id = %(instance)s AND task_id = %(task)s
             ORDER BY created_at, id LIMIT %(limit)s"""
    return tx.rows(sql, {"instance": instance_id, "task": task_id, "limit": limit})
