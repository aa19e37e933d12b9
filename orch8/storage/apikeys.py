"""API keys: who may ask, and for which tenant. Of a secret only its SHA-256 is here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from orch8.storage.transaction import Row, Tx

USED_EVERY: Final = 60  # seconds that last_used_at may be behind: a write a minute, not a request

_SHOWN: Final = """id, tenant_id, name, capabilities, created_at, last_used_at, expires_at,
    revoked_at IS NOT NULL AS revoked"""


def insert(
    tx: Tx, *, key_id: str, tenant_id: str, name: str, capabilities: Sequence[str], digest: bytes,
    expires_at: datetime | None,
) -> Row:  # fmt: skip
    """The key exists; its row as ``keys_of`` shows it."""
    sql = f"""
    INSERT INTO api_keys (id, tenant_id, name, capabilities, secret_sha256, expires_at)
    VALUES (%(id)s, %(tenant)s, %(name)s, %(capabilities)s, %(digest)s, %(expires)s)
    RETURNING {_SHOWN}"""
    params = {
        "id": key_id, "tenant": tenant_id, "name": name, "capabilities": list(capabilities),
        "digest": digest, "expires": expires_at,
    }  # fmt: skip
    return tx.one(sql, params)


def holder(tx: Tx, digest: bytes) -> Row | None:
    """The key with this digest, noted as used: id, tenant_id, capabilities. None if there is none,
    it was revoked, or its time is over.
    """
    # Who comes at the same moment notes it too; nobody waits for a note.
    sql = """
    WITH valid AS (
        SELECT id, tenant_id, capabilities, last_used_at FROM api_keys
        WHERE secret_sha256 = %(digest)s AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > clock_timestamp())),
    noted AS (
        UPDATE api_keys k SET last_used_at = clock_timestamp()
        FROM (SELECT k.id FROM api_keys k JOIN valid USING (id)
              WHERE k.last_used_at IS NULL
                  OR k.last_used_at < clock_timestamp() - %(every)s * interval '1 second'
              FOR UPDATE OF k SKIP LOCKED) unnoted
        WHERE k.id = unnoted.id)
    SELECT id, tenant_id, capabilities FROM valid"""
    return tx.one(sql, {"digest": digest, "every": USED_EVERY})


def keys_of(tx: Tx, tenant_id: str, limit: int = 1000) -> list[Row]:
    """A tenant's keys, the revoked ones too, the oldest first."""
    sql = f"""SELECT {_SHOWN} FROM api_keys WHERE tenant_id = %(tenant)s
              ORDER BY created_at, id LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def lock(tx: Tx, key_id: str, tenant_id: str | None) -> Row | None:
    """The key, locked, if it is there and this tenant's (None: anybody's)."""
    sql = f"""SELECT {_SHOWN} FROM api_keys
              WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
              FOR UPDATE"""
    return tx.one(sql, {"id": key_id, "tenant": tenant_id})


def revoke(tx: Tx, key_id: str) -> None:
    """The key opens nothing any more."""
    sql = "UPDATE api_keys SET revoked_at = clock_timestamp() WHERE id = %(id)s"
    tx.run(sql, {"id": key_id})


def end_after(tx: Tx, key_id: str, span: timedelta) -> None:
    """The key opens nothing any more once ``span`` is over, if not earlier."""
    sql = """UPDATE api_keys SET expires_at = LEAST(expires_at, clock_timestamp() + %(span)s)
             WHERE id = %(id)s"""
    tx.run(sql, {"id": key_id, "span": span})
