"""Sessions: what callers keep about a series of instances, by a key of their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orch8.storage.transaction import Row, Tx, dumps

STATES = ("active", "paused", "completed", "expired")
_SHOWN: Final = "id, tenant_id, session_key, data, state, created_at, updated_at, expires_at"


def insert(
    tx: Tx, session_id: UUID, tenant_id: str, key: str, data: Any, expires_at: datetime | None
) -> Row | None:
    """The new session; None if the tenant has one with this key."""
    sql = f"""INSERT INTO sessions (id, tenant_id, session_key, data, expires_at)
              VALUES (%(id)s, %(tenant)s, %(key)s, %(data)s::jsonb, %(expires_at)s)
              ON CONFLICT (tenant_id, session_key) DO NOTHING RETURNING {_SHOWN}"""
    return tx.one(
        sql,
        {
            "id": session_id, "tenant": tenant_id, "key": key, "data": dumps(data),
            "expires_at": expires_at,
        },
    )  # fmt: skip


def read(tx: Tx, session_id: UUID, tenant_id: str | None) -> Row | None:
    """The session, if it is there and this tenant's (None: anybody's)."""
    sql = f"""SELECT {_SHOWN} FROM sessions
              WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)"""
    return tx.one(sql, {"id": session_id, "tenant": tenant_id})


def by_key(tx: Tx, tenant_id: str, key: str) -> Row | None:
    """The tenant's session with this key."""
    sql = f"SELECT {_SHOWN} FROM sessions WHERE tenant_id = %(tenant)s AND session_key = %(key)s"
    return tx.one(sql, {"tenant": tenant_id, "key": key})


def set_data(tx: Tx, session_id: UUID, data: Any) -> None:
    """The session keeps this, and nothing of what it kept before."""
    sql = """UPDATE sessions SET data = %(data)s::jsonb, updated_at = clock_timestamp()
             WHERE id = %(id)s"""
    tx.run(sql, {"id": session_id, "data": dumps(data)})


def set_state(tx: Tx, session_id: UUID, state: str) -> None:
    """The session is in this state."""
    sql = """UPDATE sessions SET state = %(state)s, updated_at = clock_timestamp()
             WHERE id = %(id)s"""
    tx.run(sql, {"id": session_id, "state": state})
