"""Failed instances, each with the step that failed last."""

from __future__ import annotations

from uuid import UUID

from orch8.storage.instances import Filter, narrowed
from orch8.storage.transaction import Row, Tx

# Of what runs after the end, whose ids have a slash, nothing is why an instance failed.
_FAILED = """
SELECT i.id, i.tenant_id, i.state, i.lane,
    COALESCE(q.derived_from, i.sequence_id) AS sequence_id, q.name AS sequence_name,
    q.version AS sequence_version, i.round, i.updated_at, s.block_id, s.handler, s.pull, s.outcome,
    COALESCE(s.error, i.error) AS error
FROM instances i JOIN sequences q ON q.id = i.sequence_id
LEFT JOIN LATERAL (
    SELECT f.block_id, f.handler, f.pull, f.outcome, f.error FROM steps f
    WHERE f.instance_id = i.id AND f.state = 'failed' AND f.block_id NOT LIKE '%%/%%'
    ORDER BY f.finished_at DESC NULLS LAST, f.id DESC LIMIT 1) s ON true"""


def failures(tx: Tx, tenant_id: str | None, *, limit: int) -> list[Row]:
    """The failed instances, the last changed first, with the step that each failed at."""
    where, params = narrowed(Filter(tenant_id=tenant_id, states=("failed",)))
    sql = f"{_FAILED} WHERE {where} ORDER BY i.updated_at DESC, i.id DESC LIMIT %(limit)s"
    return tx.rows(sql, {**params, "limit": limit})


def last_failure(tx: Tx, instance_id: UUID) -> Row | None:
    """An instance, whatever became of it, with the step that failed last."""
    return tx.one(f"{_FAILED} WHERE i.id = %(id)s", {"id": instance_id})
