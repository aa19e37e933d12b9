"""Triggers: names under which others start instances of a sequence; their secrets are sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orch8.storage.transaction import Row, Tx, dumps

_COLUMNS: Final = """slug, tenant_id, namespace, sequence_name, version, trigger_type, secret,
    config, enabled, created_at, updated_at"""


def insert(tx: Tx, trigger: Mapping[str, Any]) -> Row | None:
    """The trigger exists; None, and nothing, if there is one of this slug."""
    sql = f"""
    INSERT INTO triggers (slug, tenant_id, namespace, sequence_name, version, trigger_type, secret,
        config)
    VALUES (%(slug)s, %(tenant_id)s, %(namespace)s, %(sequence_name)s, %(version)s,
        %(trigger_type)s, %(secret)s, %(config)s::jsonb)
    ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"""
    secret = trigger["secret"]
    sealed = None if secret is None else tx.cipher.seal(secret, _place(trigger["slug"]))
    return tx.one(sql, {**trigger, "config": dumps(trigger["config"]), "secret": sealed})


def read(tx: Tx, slug: str, tenant_id: str | None) -> Row | None:
    """The trigger with its secret, if it is there and this tenant's (None: anybody's)."""
    sql = f"""SELECT {_COLUMNS} FROM triggers
              WHERE slug = %(slug)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)"""
    row = tx.one(sql, {"slug": slug, "tenant": tenant_id})
    if row is None or row.secret is None:
        return row
    return row._replace(secret=tx.cipher.open(row.secret, _place(slug)))


def list_triggers(tx: Tx, tenant_id: str | None, limit: int) -> list[Row]:
    """A tenant's triggers (None: everybody's) by slug, their secrets sealed as they are kept."""
    sql = f"""SELECT {_COLUMNS} FROM triggers
              WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
              ORDER BY slug LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def delete(tx: Tx, slug: str) -> None:
    """There is no trigger of this slug."""
    tx.run("DELETE FROM triggers WHERE slug = %(slug)s", {"slug": slug})


def reseal(tx: Tx, limit: int) -> int:
    """Up to ``limit`` secrets that were not are sealed with the present key; how many."""
    sql = """SELECT slug, secret FROM triggers WHERE NOT starts_with(secret, %(mark)s)
             ORDER BY slug LIMIT %(limit)s FOR UPDATE"""
    rows = tx.rows(sql, {"mark": tx.cipher.mark(), "limit": limit})
    for row in rows:
        secret = tx.cipher.open(row.secret, _place(row.slug))
        sealed = tx.cipher.seal(secret, _place(row.slug))
        sql = "UPDATE triggers SET secret = %(secret)s WHERE slug = %(slug)s"
        tx.run(sql, {"secret": sealed, "slug": row.slug})
    return len(rows)


def _place(slug: str) -> str:
    return f"triggers/{slug}/secret"
