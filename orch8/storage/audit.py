"""Reading the audit log and the evidence. They are written with the changes they tell of."""

from __future__ import annotations

from uuid import UUID

from orch8.storage.transaction import Row, Tx


def audit_of(
    tx: Tx, instance_id: UUID, *, after: UUID | None = None, limit: int = 1000
) -> list[Row]:
    """What happened to an instance, the oldest first."""
    sql = """SELECT id, at, actor, action, outcome, reason, node_key, request_id, body
             FROM audit_log
             WHERE instance_id = %(id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
             ORDER BY id LIMIT %(limit)s"""
    return tx.rows(sql, {"id": instance_id, "after": after, "limit": limit})


def evidence_of(tx: Tx, instance_id: UUID, limit: int = 1000) -> list[Row]:
    """What was observed of an instance's calls that did not simply succeed, the oldest first."""
    sql = """SELECT id, at, node_key, epoch, kind, verdict, body FROM evidence
             WHERE instance_id = %(id)s ORDER BY id LIMIT %(limit)s"""
    return tx.rows(sql, {"id": instance_id, "limit": limit})
