"""Pushes: tasks that the address of their queue is still to be told of.

Times are technical: what an operator does to business time tells nothing earlier or later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from orch8.storage.transaction import Row, Tx, dumps


@dataclass(frozen=True, slots=True)
class Push:
    """A task, and the queue whose address is to be told that it is offered."""

    task_id: UUID
    instance_id: UUID
    node_key: str
    tenant_id: str
    queue_name: str


# One part of the statement that writes all changes of a transaction. What is offered once more is
# told once more.
PUSH: Final = """pushed AS (
    INSERT INTO task_pushes (task_id, instance_id, node_key, tenant_id, queue_name)
    SELECT task_id, instance_id, node_key, tenant_id, queue_name
    FROM json_to_recordset(%(pushed)s::json) AS r(task_id uuid, instance_id uuid, node_key text,
        tenant_id text, queue_name text)
    ON CONFLICT (task_id) DO UPDATE SET queue_name = excluded.queue_name, attempts = 0,
        next_attempt_at = excluded.next_attempt_at)"""


def push_rows(pushes: Iterable[Push]) -> list[dict[str, Any]]:
    """The pushes as that part takes them; of one task the last."""
    names = Push.__slots__
    return list({p.task_id: {n: getattr(p, n) for n in names} for p in pushes}.values())


def due_queues(tx: Tx, limit: int) -> list[Row]:
    """Up to ``limit`` queues, ``tenant_id`` and ``queue_name``, with a task to be told of now."""
    sql = """SELECT q.tenant_id, q.queue_name FROM queue_dispatch q
             WHERE q.mode = 'push' AND EXISTS (SELECT FROM task_pushes p
                 WHERE p.tenant_id = q.tenant_id AND p.queue_name = q.queue_name
                     AND p.next_attempt_at <= clock_timestamp())
             ORDER BY q.updated_at LIMIT %(limit)s"""
    return tx.rows(sql, {"limit": limit})


def forget(tx: Tx, tenant_id: str, queue: str) -> None:
    """Nobody is to be told of the queue's tasks."""
    sql = "DELETE FROM task_pushes WHERE tenant_id = %(tenant)s AND queue_name = %(queue)s"
    tx.run(sql, {"tenant": tenant_id, "queue": queue})


def claim(tx: Tx, tenant_id: str, queue: str, held: timedelta, most: int) -> list[Row]:
    """Up to ``most`` pushes of a queue that are due, the longest due first, with one attempt more.
    They are this process's; after ``held`` they count as lost, and are due again.
    """
    sql = """
    UPDATE task_pushes p SET attempts = attempts + 1,
        next_attempt_at = clock_timestamp() + %(held)s
    FROM (SELECT task_id FROM task_pushes WHERE tenant_id = %(tenant)s AND queue_name = %(queue)s
            AND next_attempt_at <= clock_timestamp()
        ORDER BY next_attempt_at LIMIT %(most)s FOR UPDATE SKIP LOCKED) due
    WHERE p.task_id = due.task_id
    RETURNING p.task_id, p.instance_id, p.node_key, p.tenant_id, p.queue_name, p.attempts"""
    params = {"tenant": tenant_id, "queue": queue, "held": held, "most": most}
    return tx.rows(sql, params)


def due_in(tx: Tx, tenant_id: str, queue: str) -> float | None:
    """In how many seconds the queue's next push is due; None if there is none."""
    sql = """SELECT extract(epoch FROM min(next_attempt_at) - clock_timestamp())::float8 AS wait
             FROM task_pushes WHERE tenant_id = %(tenant)s AND queue_name = %(queue)s"""
    row = tx.one(sql, {"tenant": tenant_id, "queue": queue})
    return None if row is None or row.wait is None else max(row.wait, 0.0)


def settle(tx: Tx, ends: Sequence[tuple[Row, float | None]]) -> None:
    """Each claimed push is gone, or due again after so many seconds; what was offered once more
    meanwhile stays as it is.
    """
    sql = """
    WITH r AS (SELECT * FROM json_to_recordset(%(rows)s::json)
        AS r(task_id uuid, attempts integer, after float8)),
    gone AS (DELETE FROM task_pushes p USING r
        WHERE p.task_id = r.task_id AND p.attempts = r.attempts AND r.after IS NULL)
    UPDATE task_pushes p SET next_attempt_at = clock_timestamp() + r.after * interval '1 second'
    FROM r WHERE p.task_id = r.task_id AND p.attempts = r.attempts AND r.after IS NOT NULL"""
    rows = [
        {"task_id": row.task_id, "attempts": row.attempts, "after": after} for row, after in ends
    ]
    if rows:
        tx.run(sql, {"rows": dumps(rows)})
