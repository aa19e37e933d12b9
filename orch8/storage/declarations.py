"""Declarations: what callers declared by kind and name, and nothing here acts upon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orch8.storage.transaction import Row, Tx, dumps

_COLUMNS: Final = "kind, tenant_id, name, body, created_at, updated_at"
_INSERT: Final = """INSERT INTO declarations AS d (kind, tenant_id, name, body)
    VALUES (%(kind)s, %(tenant)s, %(name)s, %(body)s::jsonb)
    ON CONFLICT (kind, tenant_id, name)"""


def insert(tx: Tx, kind: str, tenant_id: str, name: str, body: Mapping[str, Any]) -> Row | None:
    """The new declaration; None if the tenant has one of this kind and name."""
    sql = f"{_INSERT} DO NOTHING RETURNING {_COLUMNS}"
    return tx.one(sql, _params(kind, tenant_id, name) | {"body": dumps(body)})


def put(tx: Tx, kind: str, tenant_id: str, name: str, body: Mapping[str, Any]) -> Row:
    """The declaration, instead of the one that the tenant had of this kind and name."""
    sql = f"""{_INSERT} DO UPDATE SET body = excluded.body, updated_at = clock_timestamp()
              RETURNING {_COLUMNS}"""
    return tx.one(sql, _params(kind, tenant_id, name) | {"body": dumps(body)})


def merge(tx: Tx, row: Row, members: Mapping[str, Any]) -> Row:
    """The declaration with these members instead of what it had under their names."""
    sql = f"""UPDATE declarations SET body = body || %(body)s::jsonb,
                  updated_at = clock_timestamp()
              WHERE kind = %(kind)s AND tenant_id = %(tenant)s AND name = %(name)s
              RETURNING {_COLUMNS}"""
    return tx.one(sql, _params(row.kind, row.tenant_id, row.name) | {"body": dumps(members)})


def delete(tx: Tx, row: Row) -> None:
    """The declaration is gone."""
    sql = """DELETE FROM declarations
             WHERE kind = %(kind)s AND tenant_id = %(tenant)s AND name = %(name)s"""
    tx.run(sql, _params(row.kind, row.tenant_id, row.name))


def named(tx: Tx, kind: str, name: str, tenant_id: str | None) -> list[Row]:
    """The declarations of this kind and name, of a tenant (None: of all), at most two of them;
    locked.
    """
    sql = f"""SELECT {_COLUMNS} FROM declarations
              WHERE kind = %(kind)s AND name = %(name)s
                  AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
              ORDER BY tenant_id LIMIT 2 FOR UPDATE"""
    return tx.rows(sql, _params(kind, tenant_id, name))


def listed(tx: Tx, kind: str, tenant_id: str | None, limit: int) -> list[Row]:
    """A tenant's declarations of this kind (None: everybody's), by name."""
    sql = f"""SELECT {_COLUMNS} FROM declarations
              WHERE kind = %(kind)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
              ORDER BY name, tenant_id LIMIT %(limit)s"""
    return tx.rows(sql, {"kind": kind, "tenant": tenant_id, "limit": limit})


def _params(kind: str, tenant_id: str | None, name: str) -> dict[str, Any]:
    return {"kind": kind, "tenant": tenant_id, "name": name}
