"""Routing rules and the modes of queues: where tasks are offered, and whom that is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx

MODES: Final = ("poll", "push")
MOST: Final = 10_000
_RULE: Final = """id, tenant_id, handler_name, match_queue, queue_override, priority, enabled,
    created_at"""
_QUEUE: Final = """tenant_id, queue_name, mode, push_url, secret IS NOT NULL AS has_secret,
    created_at, updated_at"""


def insert_rule(tx: Tx, rule: Mapping[str, Any]) -> Row:
    """There is one more rule."""
    sql = f"""INSERT INTO routing_rules (id, tenant_id, handler_name, match_queue, queue_override,
                  priority, enabled)
              VALUES (%(id)s, %(tenant_id)s, %(handler_name)s, %(match_queue)s, %(queue_override)s,
                  %(priority)s, %(enabled)s) RETURNING {_RULE}"""
    row = tx.one(sql, {"match_queue": None, **rule, "id": uuid7()})
    assert row is not None
    return row


def rules(tx: Tx, tenant_id: str | None = None, limit: int = MOST) -> list[Row]:
    """The rules of a tenant (None: of all) in the order in which they are asked: the greatest
    priority first, then the oldest.
    """
    sql = f"""SELECT {_RULE} FROM routing_rules
              WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
              ORDER BY priority DESC, id LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def rule(tx: Tx, rule_id: UUID, tenant_id: str | None) -> Row | None:
    """The rule, if it is there and this tenant's (None: anybody's)."""
    sql = f"""SELECT {_RULE} FROM routing_rules
              WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)"""
    return tx.one(sql, {"id": rule_id, "tenant": tenant_id})


def delete_rule(tx: Tx, rule_id: UUID) -> None:
    """There is no such rule."""
    tx.run("DELETE FROM routing_rules WHERE id = %(id)s", {"id": rule_id})


def put_queue(tx: Tx, queue: Mapping[str, Any]) -> Row:
    """The queue has this mode, address and secret, and nothing of what it had before."""
    sql = f"""INSERT INTO queue_dispatch AS q (tenant_id, queue_name, mode, push_url, secret)
              VALUES (%(tenant_id)s, %(queue_name)s, %(mode)s, %(push_url)s, %(secret)s)
              ON CONFLICT (tenant_id, queue_name) DO UPDATE SET mode = excluded.mode,
                  push_url = excluded.push_url, secret = excluded.secret,
                  updated_at = clock_timestamp()
              RETURNING {_QUEUE}"""
    given = {"push_url": None, "secret": None, **queue}
    place = _place(given["tenant_id"], given["queue_name"])
    secret = given["secret"]
    sealed = None if secret is None else tx.cipher.seal(secret, place)
    row = tx.one(sql, {**given, "secret": sealed})
    assert row is not None
    return row


def queues(tx: Tx, tenant_id: str | None = None, limit: int = MOST) -> list[Row]:
    """The queues of a tenant (None: of all) that something is said about, without their secrets."""
    sql = f"""SELECT {_QUEUE} FROM queue_dispatch
              WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
              ORDER BY tenant_id, queue_name LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def receiver(tx: Tx, tenant_id: str, queue: str) -> Row | None:
    """``push_url`` and ``secret``, as it is sent, of a queue whose tasks are told."""
    sql = """SELECT push_url, secret FROM queue_dispatch
             WHERE tenant_id = %(tenant)s AND queue_name = %(queue)s AND mode = 'push'"""
    row = tx.one(sql, {"tenant": tenant_id, "queue": queue})
    if row is None or row.secret is None:
        return row
    return row._replace(secret=tx.cipher.open(row.secret, _place(tenant_id, queue)))


def delete_queue(tx: Tx, tenant_id: str, queue: str) -> bool:
    """Nothing is said about the queue; whether there was."""
    sql = "DELETE FROM queue_dispatch WHERE tenant_id = %(tenant)s AND queue_name = %(queue)s"
    return tx.run(sql, {"tenant": tenant_id, "queue": queue}) == 1


def reseal(tx: Tx, limit: int) -> int:
    """Up to ``limit`` secrets that were not are sealed with the present key; how many."""
    sql = """SELECT tenant_id, queue_name, secret FROM queue_dispatch
             WHERE NOT starts_with(secret, %(mark)s)
             ORDER BY tenant_id, queue_name LIMIT %(limit)s FOR UPDATE"""
    rows = tx.rows(sql, {"mark": tx.cipher.mark(), "limit": limit})
    for row in rows:
        place = _place(row.tenant_id, row.queue_name)
        sql = """UPDATE queue_dispatch SET secret = %(secret)s
                 WHERE tenant_id = %(tenant)s AND queue_name = %(queue)s"""
        sealed = tx.cipher.seal(tx.cipher.open(row.secret, place), place)
        tx.run(sql, {"secret": sealed, "tenant": row.tenant_id, "queue": row.queue_name})
    return len(rows)


def _place(tenant_id: str, queue: str) -> str:
    return f"queue_dispatch/{tenant_id}/{queue}/secret"
