"""Finding the attempt that a word from outside is about."""

from __future__ import annotations

from uuid import UUID

from orch8.storage.transaction import Row, Tx


def by_key(tx: Tx, tenant_id: str, idempotency_key: str) -> list[Row]:
    """The attempts with this key, at most 10: instance_id, node_key, generation. Present attempts
    of what moves money, and earlier ones that were in doubt.
    """
    sql = """
    SELECT instance_id, node_key, generation FROM steps
    WHERE tenant_id = %(t)s AND idempotency_key = %(key)s AND effect IN ('money', 'irrevocable')
    UNION
    SELECT instance_id, node_key, generation FROM doubts
    WHERE tenant_id = %(t)s AND idempotency_key = %(key)s
    ORDER BY instance_id, node_key, generation LIMIT 10"""
    return tx.rows(sql, {"t": tenant_id, "key": idempotency_key})


def by_reference(tx: Tx, tenant_id: str, provider_ref: str) -> list[Row]:
    """As by_key, for the provider's own reference, which only answered attempts have."""
    sql = """SELECT instance_id, node_key, generation FROM steps
             WHERE tenant_id = %(t)s AND provider_ref = %(ref)s
             ORDER BY instance_id, node_key LIMIT 10"""
    return tx.rows(sql, {"t": tenant_id, "ref": provider_ref})


def seen_before(tx: Tx, instance_id: UUID, node_key: str, event_id: str) -> bool:
    """Whether evidence with this event id is kept of the step already."""
    sql = """SELECT 1 FROM evidence WHERE instance_id = %(i)s AND node_key = %(k)s
             AND body ->> 'event_id' = %(event)s LIMIT 1"""
    return tx.one(sql, {"i": instance_id, "k": node_key, "event": event_id}) is not None
