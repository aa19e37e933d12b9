"""Credentials: the secrets that calls carry. What is secret in a row is sealed for that row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from orch8.storage.transaction import Row, Tx

SECRETS: Final = ("value", "refresh_token")
_MEMBERS: Final = (
    "name", "kind", "value", "enabled", "expires_at", "refresh_url", "refresh_token", "description",
)  # fmt: skip
_SHOWN: Final = """id, tenant_id, name, kind, enabled, expires_at, refresh_url,
    refresh_token IS NOT NULL AS has_refresh_token, description, created_at, updated_at"""


def insert(tx: Tx, credential_id: str, tenant_id: str, given: Mapping[str, Any]) -> Row | None:
    """The credential is kept, its secrets sealed; its row without them. None: its id is taken."""
    sql = f"""
    INSERT INTO credentials (id, tenant_id, name, kind, value, refresh_token, refresh_url,
        description, expires_at)
    VALUES (%(id)s, %(tenant)s, %(name)s, %(kind)s, %(value)s, %(refresh_token)s, %(refresh_url)s,
        %(description)s, %(expires_at)s)
    ON CONFLICT (id) DO NOTHING RETURNING {_SHOWN}"""
    members = {name: given.get(name) for name in _MEMBERS}
    sealed = members | _sealed(tx, credential_id, given)
    return tx.one(sql, {"id": credential_id, "tenant": tenant_id, **sealed})


@dataclass(frozen=True, slots=True)
class Renewable:
    """An oauth2 credential whose token is to be renewed, with its secrets, as it was at
    ``updated_at``.
    """

    id: str
    tenant_id: str
    value: str = field(repr=False)
    refresh_token: str = field(repr=False)
    refresh_url: str
    updated_at: datetime
    failures: int


def update(
    tx: Tx, credential_id: str, given: Mapping[str, Any], *, seen: datetime | None = None
) -> Row | None:
    """The members that are given are kept instead of what was there; the row without secrets. None,
    and nothing has changed, if it was changed since it was ``seen``.
    """
    names = [name for name in _MEMBERS if name in given]
    assigned = "".join(f"{name} = %({name})s, " for name in names)
    sql = f"""UPDATE credentials SET {assigned}updated_at = clock_timestamp(),
                  renewal_due_at = NULL, renewal_failures = 0
              WHERE id = %(id)s AND (%(seen)s::timestamptz IS NULL OR updated_at = %(seen)s)
              RETURNING {_SHOWN}"""
    sealed = _sealed(tx, credential_id, given)
    return tx.one(sql, {**given, **sealed, "id": credential_id, "seen": seen})


def claim_renewable(tx: Tx, soon: timedelta, held: timedelta, most: int) -> list[Renewable]:
    """Up to ``most`` oauth2 credentials that end ``soon``, those that end first; nobody else gets
    them for as long as they are ``held``.
    """
    sql = """
    UPDATE credentials c SET renewal_due_at = clock_timestamp() + %(held)s
    FROM (SELECT id FROM credentials
        WHERE kind = 'oauth2' AND enabled AND refresh_url IS NOT NULL
            AND refresh_token IS NOT NULL AND expires_at < clock_timestamp() + %(soon)s
            AND COALESCE(renewal_due_at, '-infinity') <= clock_timestamp()
        ORDER BY expires_at, id LIMIT %(most)s FOR UPDATE SKIP LOCKED) due
    WHERE c.id = due.id
    RETURNING c.id, c.tenant_id, c.value, c.refresh_token, c.refresh_url, c.updated_at,
        c.renewal_failures"""
    return [
        Renewable(
            row.id,
            row.tenant_id,
            tx.cipher.open(row.value, _place(row.id, "value")),
            tx.cipher.open(row.refresh_token, _place(row.id, "refresh_token")),
            row.refresh_url,
            row.updated_at,
            row.renewal_failures,
        )
        for row in tx.rows(sql, {"soon": soon, "held": held, "most": most})
    ]


def not_renewed(tx: Tx, due: Renewable, pause: timedelta) -> None:
    """The credential, unless it was changed meanwhile, is not renewed again before the pause is
    over.
    """
    sql = """UPDATE credentials SET renewal_failures = renewal_failures + 1,
                 renewal_due_at = clock_timestamp() + %(pause)s
             WHERE id = %(id)s AND updated_at = %(seen)s"""
    tx.run(sql, {"id": due.id, "seen": due.updated_at, "pause": pause})


def credentials_of(tx: Tx, tenant_id: str | None, limit: int) -> list[Row]:
    """A tenant's credentials (None: everybody's) without their secrets, by id."""
    sql = f"""SELECT {_SHOWN} FROM credentials
              WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
              ORDER BY id LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def read(tx: Tx, credential_id: str, tenant_id: str | None, *, lock: bool = False) -> Row | None:
    """The credential without its secrets, if it is there and this tenant's (None: anybody's)."""
    sql = f"""SELECT {_SHOWN} FROM credentials
              WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
              {"FOR UPDATE" if lock else ""}"""
    return tx.one(sql, {"id": credential_id, "tenant": tenant_id})


def delete(tx: Tx, credential_id: str) -> None:
    """The credential is gone."""
    tx.run("DELETE FROM credentials WHERE id = %(id)s", {"id": credential_id})


def values(tx: Tx, tenant_id: str, ids: Iterable[str]) -> dict[str, str]:
    """The secrets, opened, of those of a tenant's credentials that are there and enabled, by id."""
    sql = """SELECT id, value FROM credentials
             WHERE id = ANY(%(ids)s) AND tenant_id = %(tenant)s AND enabled"""
    rows = tx.rows(sql, {"ids": list(ids), "tenant": tenant_id})
    return {row.id: tx.cipher.open(row.value, _place(row.id, "value")) for row in rows}


def reseal(tx: Tx, limit: int) -> int:
    """Up to ``limit`` credentials that were not are sealed with the present key; how many."""
    mark = tx.cipher.mark()
    sql = """SELECT id, value, refresh_token FROM credentials
             WHERE NOT starts_with(value, %(mark)s) OR NOT starts_with(refresh_token, %(mark)s)
             ORDER BY id LIMIT %(limit)s FOR UPDATE"""
    rows = tx.rows(sql, {"mark": mark, "limit": limit})
    for row in rows:
        opened = {
            name: tx.cipher.open(text, _place(row.id, name))
            for name in SECRETS
            if (text := getattr(row, name)) is not None
        }
        sql = """UPDATE credentials SET value = %(value)s, refresh_token = %(refresh_token)s
                 WHERE id = %(id)s"""
        tx.run(sql, {"refresh_token": None, **_sealed(tx, row.id, opened), "id": row.id})
    return len(rows)


def _sealed(tx: Tx, credential_id: str, given: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: tx.cipher.seal(given[name], _place(credential_id, name))
        for name in SECRETS
        if given.get(name) is not None
    }


def _place(credential_id: str, name: str) -> str:
    return f"credentials/{credential_id}/{name}"
