"""sessions: what callers keep about a series of instances. It has no effect on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from orch8.errors import AlreadyExists, NotFound, PayloadTooLarge
from orch8.runtime.because import Because
from orch8.storage import sessions
from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx

MOST_BYTES: Final = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class SessionRequest:
    """A session as a caller asks for it."""

    tenant_id: str
    session_key: str
    data: Any = None
    expires_at: datetime | None = None


def create(tx: Tx, request: SessionRequest, because: Because) -> Row:
    """The session is there. Raises AlreadyExists if the tenant has one with this key."""
    _check_size(request.data)
    row = sessions.insert(
        tx, uuid7(), request.tenant_id, request.session_key, request.data, request.expires_at
    )
    if row is None:
        raise AlreadyExists(f"session {request.session_key[:60]!r}")
    _note(tx, row, "session.created", because)
    return row


def found(tx: Tx, session_id: UUID, tenant_id: str | None) -> Row:
    """The session. Raises NotFound if it is not there or another tenant's (None: anybody's)."""
    row = sessions.read(tx, session_id, tenant_id)
    if row is None:
        raise NotFound(f"session {session_id}")
    return row


def found_by_key(tx: Tx, tenant_id: str, key: str) -> Row:
    """The tenant's session with this key. Raises NotFound."""
    row = sessions.by_key(tx, tenant_id, key)
    if row is None:
        raise NotFound(f"session {key[:60]!r}")
    return row


def set_data(
    tx: Tx, session_id: UUID, data: Any, because: Because, *, tenant_id: str | None
) -> None:
    """The session keeps this instead of what it kept. Raises NotFound, and PayloadTooLarge above
    MOST_BYTES.
    """
    row = found(tx, session_id, tenant_id)
    _check_size(data)
    sessions.set_data(tx, session_id, data)
    _note(tx, row, "session.data_replaced", because)


def set_state(
    tx: Tx, session_id: UUID, state: str, because: Because, *, tenant_id: str | None
) -> None:
    """The session is in this state; its instances are not touched. Raises NotFound."""
    row = found(tx, session_id, tenant_id)
    sessions.set_state(tx, session_id, state)
    _note(tx, row, "session.state_changed", because, {"from": row.state, "to": state})


def _check_size(data: Any) -> None:
    size = len(orjson.dumps(data))
    if size > MOST_BYTES:
        raise PayloadTooLarge(f"data has {size} bytes, the limit is {MOST_BYTES}")


def _note(
    tx: Tx, row: Row, action: str, because: Because, more: dict[str, str] | None = None
) -> None:
    because.note(tx, row.tenant_id, action, {"session": str(row.id), **(more or {})})
