"""The outbox: events that receivers are to be told, and what came of each delivery.

Times are technical: what an operator does to business time delivers nothing earlier or later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from orch8.storage.ids import first_of, uuid7
from orch8.storage.transaction import Row, Tx, dumps

PENDING: Final = "pending"
IN_FLIGHT: Final = "in_flight"
PARKED: Final = "parked"
_COLUMNS: Final = """id, tenant_id, url, event_type, instance_id, payload, attempts, last_error,
    created_at, status, next_attempt_at, claimed_at"""
_LISTED: Final = """id, tenant_id, url, event_type, instance_id, delivered, error_class,
    jsonb_array_length(attempts) AS attempts, created_at, updated_at"""

# A part of the statement that writes what is told of.
TELL: Final = """told AS (
    INSERT INTO outbox (id, tenant_id, url, event_type, instance_id, payload)
    SELECT id, tenant_id, url, event_type, instance_id, payload
    FROM json_to_recordset(%(told)s::json) AS r(id uuid, tenant_id text, url text,
        event_type text, instance_id uuid, payload json))"""


@dataclass(frozen=True, slots=True)
class Notice:
    """An event, and one receiver that is to be told of it."""

    tenant_id: str
    url: str
    event_type: str
    instance_id: UUID
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of sending ``row`` once. ``retry_after``, in seconds: it is sent again then; None,
    and not delivered: it is parked.
    """

    row: Row
    delivered: bool
    http_status: int | None = None
    error: str | None = None
    error_class: str | None = None
    elapsed_ms: float = 0.0
    retry_after: float | None = None


def notice_rows(notices: Iterable[Notice]) -> list[dict[str, Any]]:
    """The rows of TELL: each notice is a delivery with an id of its own."""
    return [
        {
            "id": uuid7(), "tenant_id": n.tenant_id, "url": n.url, "event_type": n.event_type,
            "instance_id": n.instance_id, "payload": n.payload,
        }
        for n in notices
    ]  # fmt: skip


def claim_due(tx: Tx, url: str, held: timedelta, most: int) -> list[Row]:
    """Up to ``most`` events that are due at ``url``, those that are longest due first. They are in
    flight; after ``held`` they count as lost, and are due again.
    """
    sql = f"""
    UPDATE outbox o SET status = 'in_flight', attempts = attempts + 1,
        claimed_at = clock_timestamp(), next_attempt_at = clock_timestamp() + %(held)s
    FROM (SELECT id FROM outbox WHERE url = %(url)s AND next_attempt_at <= clock_timestamp()
        ORDER BY next_attempt_at LIMIT %(most)s FOR UPDATE SKIP LOCKED) due
    WHERE o.id = due.id RETURNING {_COLUMNS.replace("id,", "o.id,", 1)}"""
    return tx.rows(sql, {"url": url, "held": held, "most": most})


def claim_one(tx: Tx, row_id: UUID, held: timedelta) -> Row | None:
    """The event is in flight, due or not; None if it is in flight already, or gone."""
    sql = f"""
    UPDATE outbox SET status = 'in_flight', attempts = attempts + 1,
        claimed_at = clock_timestamp(), next_attempt_at = clock_timestamp() + %(held)s
    WHERE id = %(id)s AND status <> 'in_flight' RETURNING {_COLUMNS}"""
    return tx.one(sql, {"id": row_id, "held": held})


def due_in(tx: Tx, url: str) -> float | None:
    """In how many seconds the next event is due at ``url``; None if there is none."""
    sql = """SELECT extract(epoch FROM min(next_attempt_at) - clock_timestamp())::float8 AS wait
             FROM outbox WHERE url = %(url)s AND next_attempt_at IS NOT NULL"""
    row = tx.one(sql, {"url": url})
    return None if row is None or row.wait is None else max(row.wait, 0.0)


def settle(tx: Tx, attempts: Sequence[Attempt]) -> None:
    """What was delivered is gone from the outbox, the rest is due again or parked; each attempt is
    in its delivery's history. An attempt under an old claim changes nothing but that.
    """
    rows = [
        {
            "id": a.row.id, "tenant_id": a.row.tenant_id, "url": a.row.url,
            "event_type": a.row.event_type, "instance_id": a.row.instance_id,
            "number": a.row.attempts, "delivered": a.delivered, "error": a.error,
            "error_class": a.error_class, "retry_after": a.retry_after,
            "attempt": {
                "attempt": a.row.attempts, "at": a.row.claimed_at, "delivered": a.delivered,
                "http_status": a.http_status, "error": a.error, "error_class": a.error_class,
                "elapsed_ms": a.elapsed_ms,
            },
        }
        for a in attempts
    ]  # fmt: skip
    if rows:
        tx.run(_SETTLE, {"rows": dumps(rows)})


_SETTLE: Final = """
WITH r AS (SELECT * FROM json_to_recordset(%(rows)s::json) AS r(id uuid, tenant_id text, url text,
        event_type text, instance_id uuid, number integer, delivered boolean, error text,
        error_class text, retry_after float8, attempt jsonb)),
gone AS (DELETE FROM outbox o USING r WHERE o.id = r.id AND r.delivered),
kept AS (
    UPDATE outbox o SET last_error = r.error, claimed_at = NULL,
        status = CASE WHEN r.retry_after IS NULL THEN 'parked' ELSE 'pending' END,
        next_attempt_at = clock_timestamp() + r.retry_after * interval '1 second'
    FROM r WHERE o.id = r.id AND NOT r.delivered
        AND o.status = 'in_flight' AND o.attempts = r.number)
INSERT INTO deliveries AS d (id, tenant_id, url, event_type, instance_id, delivered, error_class,
    attempts)
SELECT id, tenant_id, url, event_type, instance_id, delivered, error_class,
    jsonb_build_array(attempt) FROM r
ON CONFLICT (id) DO UPDATE SET attempts = d.attempts || excluded.attempts,
    delivered = d.delivered OR excluded.delivered, error_class = excluded.error_class,
    updated_at = clock_timestamp()"""


def listed(tx: Tx, tenant_id: str | None, most: int) -> list[Row]:
    """What is in the outbox, the oldest first."""
    sql = f"""SELECT {_COLUMNS} FROM outbox
              WHERE (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
              ORDER BY id LIMIT %(most)s"""
    return tx.rows(sql, {"tenant": tenant_id, "most": most})


def read(tx: Tx, row_id: UUID, tenant_id: str | None) -> Row | None:
    """One event in the outbox."""
    sql = f"""SELECT {_COLUMNS} FROM outbox WHERE id = %(id)s
              AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)"""
    return tx.one(sql, {"id": row_id, "tenant": tenant_id})


def delete(tx: Tx, row_id: UUID) -> None:
    """The event is never sent again."""
    tx.run("DELETE FROM outbox WHERE id = %(id)s", {"id": row_id})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries are wanted; None leaves a member open."""

    tenant_id: str | None = None
    url: str | None = None
    event_type: str | None = None
    delivered: bool | None = None
    error_class: str | None = None


def deliveries(tx: Tx, wanted: DeliveryFilter, most: int) -> list[Row]:
    """The deliveries that were attempted at least once, the newest event first."""
    sql = f"""SELECT {_LISTED} FROM deliveries
              WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
                  AND (%(url)s::text IS NULL OR url = %(url)s)
                  AND (%(event_type)s::text IS NULL OR event_type = %(event_type)s)
                  AND (%(delivered)s::boolean IS NULL OR delivered = %(delivered)s)
                  AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s)
              ORDER BY id DESC LIMIT %(most)s"""
    names = DeliveryFilter.__slots__
    return tx.rows(sql, {name: getattr(wanted, name) for name in names} | {"most": most})


def delivery(tx: Tx, delivery_id: UUID, tenant_id: str | None) -> Row | None:
    """One delivery with its ``timeline``: its attempts, the oldest first."""
    sql = f"""SELECT {_LISTED}, attempts AS timeline FROM deliveries WHERE id = %(id)s
              AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)"""
    return tx.one(sql, {"id": delivery_id, "tenant": tenant_id})


def forget(tx: Tx, older_than: timedelta, most: int) -> int:
    """Up to ``most`` deliveries of older events that wait for nobody are forgotten; how many."""
    sql = """DELETE FROM deliveries WHERE id IN (
                 SELECT d.id FROM deliveries d WHERE d.id < %(before)s
                     AND NOT EXISTS (SELECT FROM outbox o WHERE o.id = d.id)
                 ORDER BY d.id LIMIT %(most)s)"""
    return tx.run(sql, {"before": first_of(datetime.now(UTC) - older_than), "most": most})
