"""Events: what producers have told, each once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from orch8.storage.ids import first_of
from orch8.storage.transaction import Row, Tx, dumps

PENDING, CONSUMED, EXPIRED = STATES = ("pending", "consumed", "expired")
KEPT_DAYS: Final = 30
SHOWN_DAYS: Final = 1  # that an event is listed as expired, before it is forgotten

_SHOWN: Final = f"""id, tenant_id, event_name, producer_event_id, correlation_key, payload,
    CASE WHEN consumed_by IS NOT NULL THEN '{CONSUMED}'
        WHEN received_at < orch8_now() - interval '{KEPT_DAYS} days' THEN '{EXPIRED}'
        ELSE '{PENDING}' END AS status, consumed_by, received_at"""


def insert(tx: Tx, event: Mapping[str, Any]) -> tuple[UUID, bool]:
    """The event is kept: its id, and whether it was there before, in which case it stays as it was
    then.
    """
    sql = """
    INSERT INTO events (id, tenant_id, event_name, producer_event_id, correlation_key, payload,
        received_at)
    VALUES (%(id)s, %(tenant_id)s, %(event_name)s, %(producer_event_id)s, %(correlation_key)s,
        %(payload)s::jsonb, orch8_now())
    ON CONFLICT (tenant_id, event_name, producer_event_id) DO NOTHING RETURNING id"""
    made = tx.one(sql, {**event, "payload": dumps(event["payload"])})
    if made is not None:
        return made.id, False
    sql = """SELECT id FROM events WHERE tenant_id = %(tenant_id)s AND event_name = %(event_name)s
                 AND producer_event_id = %(producer_event_id)s"""
    return tx.rows(sql, event)[0].id, True


def read(tx: Tx, event_id: UUID, tenant_id: str | None) -> Row | None:
    """The event, if it is there and this tenant's (None: anybody's)."""
    sql = f"""SELECT {_SHOWN} FROM events
              WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)"""
    return tx.one(sql, {"id": event_id, "tenant": tenant_id})


def list_events(tx: Tx, tenant_id: str, status: str | None, limit: int) -> list[Row]:
    """A tenant's events, the newest first; those of one status, if it is named."""
    sql = f"""SELECT * FROM (SELECT {_SHOWN} FROM events WHERE tenant_id = %(tenant)s) shown
              WHERE %(status)s::text IS NULL OR status = %(status)s
              ORDER BY id DESC LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "status": status, "limit": limit})


def forget(tx: Tx, most: int) -> int:
    """Up to ``most`` events that nobody consumed, and that expired a while ago, are forgotten; how
    many. One of them that is told again is new.
    """
    # By their ids, which say when they were made: nothing younger is looked at.
    sql = """DELETE FROM events WHERE id IN (
                 SELECT id FROM events WHERE id < %(before)s AND consumed_by IS NULL
                     AND received_at < orch8_now() - make_interval(days => %(days)s)
                 ORDER BY id LIMIT %(most)s)"""
    days = KEPT_DAYS + SHOWN_DAYS
    before = first_of(datetime.now(UTC) - timedelta(days=days))
    return tx.run(sql, {"before": before, "days": days, "most": most})
