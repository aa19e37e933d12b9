"""Signals: the inbox of each instance. A signal that comes early stays until a wait consumes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from orch8.storage.instances import FIRST, Page
from orch8.storage.transaction import Row, Tx, dumps


def insert_signal(
    tx: Tx,
    *,
    signal_id: UUID,
    tenant_id: str,
    instance_id: UUID,
    name: str,
    payload: Any,
    actor: str,
    dedupe_key: str | None,
    received_at: datetime,
    consumed_by: str | None = None,
) -> UUID | None:
    """None when the signal is in the inbox now, else the id of the earlier one with its key.

    ``consumed_by`` is given for signals that act at once (pause, cancel): they are only kept.
    """
    sql = """
    INSERT INTO signals (id, tenant_id, instance_id, name, payload, actor, dedupe_key, received_at,
        consumed_at, consumed_by)
    VALUES (%(id)s, %(tenant)s, %(instance)s, %(name)s, %(payload)s::jsonb, %(actor)s,
        %(dedupe)s, %(at)s,
        CASE WHEN %(by)s::text IS NULL THEN NULL ELSE %(at)s::timestamptz END, %(by)s)
    ON CONFLICT (instance_id, dedupe_key) DO NOTHING RETURNING id"""
    sealed = tx.cipher.seal_json(payload, _place(signal_id))
    row = tx.one(
        sql,
        {
            "id": signal_id, "tenant": tenant_id, "instance": instance_id, "name": name,
            "payload": dumps(sealed), "actor": actor, "dedupe": dedupe_key, "at": received_at,
            "by": consumed_by,
        },
    )  # fmt: skip
    if row is not None:
        return None
    sql = "SELECT id FROM signals WHERE instance_id = %(i)s AND dedupe_key = %(k)s"
    earlier = tx.one(sql, {"i": instance_id, "k": dedupe_key})
    found: UUID = earlier.id  # type: ignore[union-attr]  # the conflict was with this very row
    return found


def open_signals(tx: Tx, instance_id: UUID, limit: int = 1000) -> list[Row]:
    """Signals that no wait has consumed, the oldest first."""
    sql = """SELECT id, instance_id, name, payload, actor, received_at FROM signals
             WHERE instance_id = %(id)s AND consumed_at IS NULL
             ORDER BY id LIMIT %(limit)s"""
    return [_opened(tx, row) for row in tx.rows(sql, {"id": instance_id, "limit": limit})]


def signals_of(tx: Tx, instance_id: UUID, limit: int = 1000) -> list[Row]:
    """What was sent to an instance, the oldest first."""
    sql = """SELECT id, name, payload, actor, received_at, consumed_at, consumed_by FROM signals
             WHERE instance_id = %(id)s ORDER BY id LIMIT %(limit)s"""
    return [_opened(tx, row) for row in tx.rows(sql, {"id": instance_id, "limit": limit})]


def target(tx: Tx, instance_id: UUID, dedupe_key: str) -> Row | None:
    """``tenant_id`` and ``state`` of an instance, and the ``signal_id`` of the signal that it has
    under this key; None if there is no such instance.
    """
    sql = """SELECT i.tenant_id, i.state, (SELECT s.id FROM signals s
                 WHERE s.instance_id = i.id AND s.dedupe_key = %(key)s) AS signal_id
             FROM instances i WHERE i.id = %(id)s"""
    return tx.one(sql, {"id": instance_id, "key": dedupe_key})


def reseal(tx: Tx, limit: int, after: tuple[Any, ...] = (FIRST,)) -> Page:
    """As instances.reseal_contexts, of the payloads."""
    cipher = tx.cipher
    sql = "SELECT id, payload FROM signals WHERE id > %(id)s ORDER BY id LIMIT %(limit)s"
    rows = tx.rows(sql, {"id": after[0], "limit": limit})
    sealed = [
        {"id": row.id, "payload": cipher.seal_json(_opened(tx, row).payload, _place(row.id))}
        for row in rows
        if not cipher.is_current(row.payload)
    ]
    sql = """UPDATE signals s SET payload = r.payload
             FROM json_to_recordset(%(rows)s::json) AS r(id uuid, payload jsonb)
             WHERE s.id = r.id"""
    done = tx.run(sql, {"rows": dumps(sealed)}) if sealed else 0
    return done, (rows[-1].id,) if len(rows) == limit else None


def _opened(tx: Tx, row: Row) -> Row:
    payload = tx.cipher.open_json(row.payload, _place(row.id))
    return row if payload is row.payload else row._replace(payload=payload)


def _place(signal_id: UUID) -> str:
    return f"signals/{signal_id}"
