"""Checkpoints: what operators and workers note about an instance."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orch8.storage.transaction import Row, Tx, dumps


def insert(tx: Tx, checkpoint_id: UUID, instance_id: UUID, tenant_id: str, data: Any) -> None:
    """The checkpoint is kept."""
    sql = """INSERT INTO checkpoints (instance_id, id, tenant_id, checkpoint_data)
             VALUES (%(instance)s, %(id)s, %(tenant)s, %(data)s::jsonb)"""
    tx.run(
        sql,
        {
            "instance": instance_id, "id": checkpoint_id, "tenant": tenant_id,
            "data": dumps(tx.cipher.seal_value(data, checkpoint_place(instance_id, checkpoint_id))),
        },
    )  # fmt: skip


def newest(tx: Tx, instance_id: UUID, limit: int) -> list[Row]:
    """The instance's checkpoints, the newest first."""
    sql = """SELECT id, instance_id, checkpoint_data, created_at FROM checkpoints
             WHERE instance_id = %(id)s ORDER BY id DESC LIMIT %(limit)s"""
    return [_opened(tx, row) for row in tx.rows(sql, {"id": instance_id, "limit": limit})]


def prune(tx: Tx, instance_id: UUID, keep: int) -> int:
    """All but the newest ``keep`` checkpoints of the instance are gone; how many."""
    sql = """DELETE FROM checkpoints c USING (
                 SELECT id FROM checkpoints WHERE instance_id = %(instance)s
                 ORDER BY id DESC OFFSET %(keep)s) old
             WHERE c.instance_id = %(instance)s AND c.id = old.id"""
    return tx.run(sql, {"instance": instance_id, "keep": keep})


def checkpoint_place(instance_id: UUID, checkpoint_id: UUID) -> str:
    """Where what a checkpoint says is kept."""
    return f"checkpoints/{instance_id}/{checkpoint_id}"


def _opened(tx: Tx, row: Row) -> Row:
    place = checkpoint_place(row.instance_id, row.id)
    return row._replace(checkpoint_data=tx.cipher.open_value(row.checkpoint_data, place))
