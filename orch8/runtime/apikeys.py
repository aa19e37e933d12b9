"""apikeys: keys of tenants are issued, rotated and revoked; whose a secret is."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from orch8.errors import Conflict, NotFound
from orch8.runtime.because import Because
from orch8.storage import apikeys
from orch8.storage.transaction import Row, Tx

OPERATOR: Final = "operator"
CAPABILITIES: Final = (OPERATOR, "worker", "device", "publisher", "approver", "auditor")
ID_BYTES, SECRET_BYTES = 16, 32
_SECRET: Final = "sk_"  # noqa: S105 - what secrets begin with
_SECRET_LENGTH: Final = len(_SECRET) + 2 * SECRET_BYTES


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key. Its secret is known here and to the caller, and is written nowhere."""

    row: Row
    secret: str


def issue(
    tx: Tx, tenant_id: str, because: Because, *, name: str = "",
    capabilities: Sequence[str] = (OPERATOR,), expires_at: datetime | None = None,
) -> Issued:  # fmt: skip
    """The tenant has one more key, which allows these CAPABILITIES until ``expires_at``."""
    issued = _issue(tx, tenant_id, name, capabilities, expires_at)
    _note(tx, issued.row, "api_key.created", because, _facts(issued.row))
    return issued


def rotate(
    tx: Tx, key_id: str, because: Because, *, tenant_id: str | None, overlap: timedelta
) -> Issued:
    """A new key allows what this one does, which ends after ``overlap``. Raises NotFound, and
    Conflict for a key that was revoked.
    """
    old = _found(tx, key_id, tenant_id)
    if old.revoked:
        raise Conflict(f"API key {key_id} was revoked; create another one")
    issued = _issue(tx, old.tenant_id, old.name, old.capabilities, old.expires_at)
    apikeys.end_after(tx, key_id, overlap)
    body = {"replaced_by": issued.row.id, "overlap_seconds": overlap.total_seconds()}
    _note(tx, old, "api_key.rotated", because, body)
    _note(tx, issued.row, "api_key.created", because, _facts(issued.row))
    return issued


def revoke(tx: Tx, key_id: str, because: Because, *, tenant_id: str | None) -> None:
    """The key opens nothing any more, from the next request on. Raises NotFound."""
    row = _found(tx, key_id, tenant_id)
    if not row.revoked:
        apikeys.revoke(tx, key_id)
        _note(tx, row, "api_key.revoked", because, {})


def looks_like_secret(text: str) -> bool:
    """Whether it is worth asking whose secret this is."""
    return len(text) == _SECRET_LENGTH and text.startswith(_SECRET)


def holder(tx: Tx, secret: str) -> Row | None:
    """The key that this is the secret of: id, tenant_id, capabilities; None if it opens nothing."""
    return apikeys.holder(tx, _digest(secret))


def _issue(
    tx: Tx, tenant_id: str, name: str, capabilities: Sequence[str], expires_at: datetime | None
) -> Issued:
    secret = _SECRET + secrets.token_hex(SECRET_BYTES)
    row = apikeys.insert(
        tx, key_id=f"ak_{secrets.token_hex(ID_BYTES)}", tenant_id=tenant_id, name=name,
        capabilities=capabilities, digest=_digest(secret), expires_at=expires_at,
    )  # fmt: skip
    return Issued(row, secret)


def _digest(secret: str) -> bytes:
    # A plain hash is enough: the secret has 256 random bits, so there is nothing to guess.
    return sha256(secret.encode()).digest()


def _found(tx: Tx, key_id: str, tenant_id: str | None) -> Row:
    row = apikeys.lock(tx, key_id, tenant_id)
    if row is None:
        raise NotFound(f"API key {key_id[:60]!r}")
    return row


def _facts(row: Row) -> dict[str, Any]:
    expires_at = None if row.expires_at is None else row.expires_at.isoformat()
    return {"name": row.name, "capabilities": row.capabilities, "expires_at": expires_at}


def _note(tx: Tx, row: Row, action: str, because: Because, body: Mapping[str, Any]) -> None:
    because.note(tx, row.tenant_id, action, {"key": row.id, **body})
