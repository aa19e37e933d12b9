"""Tasks: steps that are, or were, offered to pull workers, as lists and counts for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from orch8.storage import steps
from orch8.storage.rows import StepRow
from orch8.storage.transaction import Row, Tx

STATES: Final = ("pending", "claimed", "completed", "failed")
# Lists look at so many of the newest tasks, by the index of pull steps, which costs others nothing.
WINDOW: Final = 50_000

# A step that was answered "pending" waits for word and is nobody else's: it is claimed still.
_STATE: Final = """CASE
    WHEN s.state = 'completed' THEN 'completed'
    WHEN s.state IN ('failed', 'cancelled', 'parked') THEN 'failed'
    WHEN s.state = 'running' AND s.worker IS NOT NULL THEN 'claimed'
    WHEN s.state = 'waiting' AND s.due_at IS NULL AND s.held_due_at IS NULL THEN 'claimed'
    ELSE 'pending' END"""
_NEWEST: Final = """(SELECT * FROM steps p WHERE p.pull AND NOT starts_with(p.handler, 'celery:')
    ORDER BY p.id DESC LIMIT %(window)s) s"""
_OF: Final = "(%(tenant)s::text IS NULL OR s.tenant_id = %(tenant)s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks are wanted; None leaves a member open."""

    tenant_id: str | None = None
    states: tuple[str, ...] | None = None
    handler: str | None = None
    worker_id: str | None = None
    queue: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """The row of a task, and which of STATES it is in."""

    row: StepRow
    state: str


def newest(tx: Tx, wanted: TaskFilter, *, limit: int, offset: int) -> list[Listed]:
    """The wanted ones among the WINDOW newest tasks, the newest first."""
    sql = f"""
    SELECT s.instance_id, s.node_key, {_STATE} AS shown FROM {_NEWEST} WHERE {_OF}
        AND (%(states)s::text[] IS NULL OR {_STATE} = ANY(%(states)s))
        AND (%(handler)s::text IS NULL OR COALESCE(s.asking, s.handler) = %(handler)s)
        AND (%(worker)s::text IS NULL OR s.worker = %(worker)s)
        AND (%(queue)s::text IS NULL OR (starts_with(s.lane, 'pull/')
            AND split_part(s.lane, '/', 4) = %(queue)s))
    ORDER BY s.id DESC LIMIT %(limit)s OFFSET %(offset)s"""
    params = {
        "window": WINDOW, "tenant": wanted.tenant_id, "handler": wanted.handler,
        "states": None if wanted.states is None else list(wanted.states),
        "worker": wanted.worker_id, "limit": limit, "offset": offset,
        "queue": None if wanted.queue is None else quote(wanted.queue, safe=""),
    }  # fmt: skip
    found = tx.rows(sql, params)
    rows = steps.read_steps(tx, [(each.instance_id, each.node_key) for each in found])
    by_key = {(row.instance_id, row.node_key): row for row in rows}
    keys = ((each.instance_id, each.node_key, each.shown) for each in found)
    return [Listed(by_key[i, k], shown) for i, k, shown in keys if (i, k) in by_key]


def counts(tx: Tx, tenant_id: str | None) -> list[Row]:
    """How many of the WINDOW newest tasks are in each ``state``, by ``handler``."""
    sql = f"""SELECT COALESCE(s.asking, s.handler) AS handler, {_STATE} AS state, count(*) AS n
              FROM {_NEWEST} WHERE {_OF} GROUP BY 1, 2 ORDER BY 1, 2"""
    return tx.rows(sql, {"window": WINDOW, "tenant": tenant_id})


def in_flight(tx: Tx, tenant_id: str | None) -> list[Row]:
    """How many tasks each worker has: ``tenant_id``, ``worker_id``, ``n``."""
    sql = f"""SELECT s.tenant_id, s.worker AS worker_id, count(*) AS n FROM steps s
              WHERE s.pull AND s.lease_until IS NOT NULL AND s.worker IS NOT NULL AND {_OF}
              GROUP BY 1, 2 ORDER BY 2, 1"""
    return tx.rows(sql, {"tenant": tenant_id})
