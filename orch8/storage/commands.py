"""Worker commands and version pins: what pull workers are told, and which of them get tasks."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx, dumps

COMMANDS: Final = ("drain", "reload", "ping", "place")
_COMMAND: Final = "id, worker_id, command, payload, created_at"
_PIN: Final = "tenant_id, handler_name, min_version, created_at, updated_at"


def tell(tx: Tx, worker_id: str, command: str, payload: Any) -> Row:
    """The worker finds the command among its own."""
    sql = f"""INSERT INTO worker_commands (id, worker_id, command, payload)
              VALUES (%(id)s, %(worker)s, %(command)s, %(payload)s::jsonb) RETURNING {_COMMAND}"""
    params = {"id": uuid7(), "worker": worker_id, "command": command, "payload": dumps(payload)}
    row = tx.one(sql, params)
    assert row is not None
    return row


def told(tx: Tx, worker_id: str, limit: int = 1000) -> list[Row]:
    """The worker's commands, the oldest first."""
    sql = f"""SELECT {_COMMAND} FROM worker_commands WHERE worker_id = %(worker)s
              ORDER BY id LIMIT %(limit)s"""
    return tx.rows(sql, {"worker": worker_id, "limit": limit})


def forget(tx: Tx, command_id: UUID) -> Row | None:
    """There is no such command any more; what it was, None if there was none."""
    sql = f"DELETE FROM worker_commands WHERE id = %(id)s RETURNING {_COMMAND}"
    return tx.one(sql, {"id": command_id})


def pin(tx: Tx, tenant_id: str, handler: str, min_version: str) -> Row:
    """The tenant's tasks of a handler are for workers of this version or a later one."""
    sql = f"""INSERT INTO version_pins AS p (tenant_id, handler_name, min_version)
              VALUES (%(tenant)s, %(handler)s, %(version)s)
              ON CONFLICT (tenant_id, handler_name) DO UPDATE
                  SET min_version = excluded.min_version, updated_at = clock_timestamp()
              RETURNING {_PIN}"""
    row = tx.one(sql, {"tenant": tenant_id, "handler": handler, "version": min_version})
    assert row is not None
    return row


def pinned(tx: Tx, tenant_id: str, handler: str) -> str | None:
    """The lowest version for a handler's tasks; None if any will do."""
    sql = """SELECT min_version FROM version_pins
             WHERE tenant_id = %(tenant)s AND handler_name = %(handler)s"""
    row = tx.one(sql, {"tenant": tenant_id, "handler": handler})
    return None if row is None else row.min_version


def pins(tx: Tx, tenant_id: str | None, limit: int = 1000) -> list[Row]:
    """The pins of a tenant (None: of all)."""
    sql = f"""SELECT {_PIN} FROM version_pins
              WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
              ORDER BY tenant_id, handler_name LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def unpin(tx: Tx, tenant_id: str, handler: str) -> bool:
    """Any version will do for the handler's tasks; whether there was a pin."""
    sql = "DELETE FROM version_pins WHERE tenant_id = %(tenant)s AND handler_name = %(handler)s"
    return tx.run(sql, {"tenant": tenant_id, "handler": handler}) == 1
