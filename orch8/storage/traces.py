"""Traces: what is shown among an instance's outputs beside what its steps put out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orch8.storage.cipher import Cipher
from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx

MOST: Final = 10_000  # of one instance that are read at once


@dataclass(frozen=True, slots=True)
class Trace:
    """One mark: which block it is about, what it says, and, of what is told at one moment, whether
    it comes ``after`` what steps put out.
    """

    instance_id: UUID
    tenant_id: str
    block_id: str
    output: Any
    created_at: datetime
    attempt: int = 0
    after: bool = False


# One part of the statement that writes all changes of a transaction.
TRACE: Final = """traced AS (
    INSERT INTO traces (instance_id, id, tenant_id, block_id, output, attempt, after, created_at)
    SELECT instance_id, id, tenant_id, block_id, output, attempt, after, created_at
    FROM json_to_recordset(%(traced)s::json) AS r(instance_id uuid, id uuid, tenant_id text,
        block_id text, output jsonb, attempt integer, after boolean, created_at timestamptz))"""


def trace_rows(cipher: Cipher, traces: list[Trace]) -> list[dict[str, Any]]:
    """The traces as that part takes them, each with an id of its own."""
    return [_row(cipher, uuid7(), each) for each in traces]


def trace_place(instance_id: UUID, trace_id: UUID) -> str:
    """Where what a trace says is kept."""
    return f"traces/{instance_id}/{trace_id}"


def _row(cipher: Cipher, trace_id: UUID, trace: Trace) -> dict[str, Any]:
    names = ("instance_id", "tenant_id", "block_id", "created_at", "attempt", "after")
    sealed = cipher.seal_value(trace.output, trace_place(trace.instance_id, trace_id))
    return {"id": trace_id, "output": sealed} | {name: getattr(trace, name) for name in names}


def is_traced(tx: Tx, instance_id: UUID, block_id: str) -> bool:
    """Whether the instance has a trace about this block already."""
    sql = "SELECT 1 FROM traces WHERE instance_id = %(id)s AND block_id = %(block)s LIMIT 1"
    return tx.one(sql, {"id": instance_id, "block": block_id}) is not None


def traces_of(tx: Tx, instance_id: UUID, limit: int = MOST) -> list[Row]:
    """The instance's traces, the oldest first."""
    sql = """SELECT id, block_id, output, attempt, after, created_at FROM traces
             WHERE instance_id = %(id)s AND superseded_at IS NULL
             ORDER BY created_at, id LIMIT %(limit)s"""
    rows = tx.rows(sql, {"id": instance_id, "limit": limit})
    return [row._replace(output=_opened(tx, instance_id, row)) for row in rows]


def _opened(tx: Tx, instance_id: UUID, row: Row) -> Any:
    return tx.cipher.open_value(row.output, trace_place(instance_id, row.id))
