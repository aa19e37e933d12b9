"""Claims of pull workers: each has a lease of its own, which the worker's heartbeats extend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from orch8.storage.rows import StepRow
from orch8.storage.steps import mark_claimed
from orch8.storage.transaction import Tx, dumps


def mark_pulled(tx: Tx, rows: Iterable[StepRow], lease: float) -> None:
    """waiting -> running: the rows, locked by take_pull, belong to their workers for ``lease``
    seconds.
    """
    pulled = list(rows)
    mark_claimed(tx, pulled)
    sql = """UPDATE steps SET lease_until = clock_timestamp() + %(lease)s * interval '1 second'
             WHERE id = ANY(%(ids)s) AND pull"""
    if pulled:
        tx.run(sql, {"lease": lease, "ids": [row.id for row in pulled]})


def extend_pull(tx: Tx, row: StepRow, lease: float, progress: Any) -> bool:
    """The worker's lease is extended, and its checkpoint kept if it sent one; False when the claim
    has changed hands.
    """
    sql = """UPDATE steps SET lease_until = clock_timestamp() + %(lease)s * interval '1 second',
                 progress = COALESCE(COALESCE(progress, '{}') || %(progress)s::jsonb, progress)
             WHERE id = %(id)s AND pull AND epoch = %(epoch)s AND state = %(state)s"""
    kept = None if progress is None else dumps(tx.cipher.seal_progress(row, progress))
    params = {
        "lease": lease, "progress": kept, "id": row.id, "epoch": row.epoch, "state": row.state,
    }  # fmt: skip
    return tx.run(sql, params) == 1


def size(value: Any) -> int:
    """Bytes of a value as JSON."""
    return len(dumps(value))


def offer_to_push(tx: Tx, lane: str) -> int:
    """waiting -> scheduled: what waits in a handler's pull lane, in whatever queue, and that no
    worker has, goes to its instance's lane, since the handler has an address now.
    """
    waiting = "s.due_at IS NOT NULL", "s.due_at IS NULL AND s.waits_for = 'place'"
    return sum(tx.run(_OFFER.format(waits=each), {"lane": lane}) for each in waiting)


# Two statements, since each has an index of its own.
_OFFER: Final = """
UPDATE steps s SET lane = i.lane, state = 'scheduled', pull = false,
    waits_for = CASE WHEN s.waits_for = 'place' THEN 'place' END, expires_at = NULL
FROM instances i
WHERE i.id = s.instance_id AND {waits} AND s.state IN ('waiting', 'scheduled')
    AND (s.lane = %(lane)s OR (s.lane >= %(lane)s || '/' AND s.lane < %(lane)s || '0'))"""
