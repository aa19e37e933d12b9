"""Reading the audit log and the evidence. They are written with the changes they tell of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from orch8.storage.ids import first_of
from orch8.storage.transaction import Row, Tx


def audit_of(
    tx: Tx, instance_id: UUID, *, after: UUID | None = None, limit: int = 1000
) -> list[Row]:
    """What happened to an instance, the oldest first."""
    sql = """SELECT id, at, actor, action, outcome, reason, node_key, request_id, body
             FROM audit_log
             WHERE instance_id = %(id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
             ORDER BY id LIMIT %(limit)s"""
    return tx.rows(sql, {"id": instance_id, "after": after, "limit": limit})


def newest_of(tx: Tx, instance_id: UUID, limit: int) -> list[Row]:
    """What happened to an instance last, the newest first."""
    sql = """SELECT id, at, actor, action, outcome, reason, node_key, request_id, body
             FROM audit_log WHERE instance_id = %(id)s ORDER BY id DESC LIMIT %(limit)s"""
    return tx.rows(sql, {"id": instance_id, "limit": limit})


def evidence_of(tx: Tx, instance_id: UUID, limit: int = 1000) -> list[Row]:
    """What was observed of an instance's calls that did not simply succeed, the oldest first."""
    sql = """SELECT id, at, node_key, epoch, kind, verdict, body FROM evidence
             WHERE instance_id = %(id)s ORDER BY id LIMIT %(limit)s"""
    return tx.rows(sql, {"id": instance_id, "limit": limit})


def call_ages(tx: Tx, tenant_id: str, key: str, window: float, most: int) -> list[float]:
    """How many seconds ago the units of a rate-limit key were used by calls that were answered in
    the last ``window`` seconds, the newest first, at most ``most``. A call that came to nothing may
    be among them, and a step that was answered twice counts twice.
    """
    # Ids are made by the processes' clocks: a minute's difference to the database's is allowed for.
    since = first_of(datetime.now(UTC) - timedelta(seconds=window + 60))
    sql = """
    SELECT extract(epoch FROM clock_timestamp() - at)::float8 AS age,
        (body -> 'limits' ->> %(key)s)::integer AS units
    FROM audit_log WHERE id >= %(since)s AND tenant_id = %(tenant)s AND body -> 'limits' ? %(key)s
        AND action NOT IN ('step.deferred', 'step.cancelled')
    ORDER BY id DESC LIMIT %(most)s"""
    rows = tx.rows(sql, {"tenant": tenant_id, "since": since, "most": most, "key": key})
    ages = [max(row.age, 0.0) for row in rows for _ in range(row.units) if row.age < window]
    return sorted(ages)[:most]


def calls_in_flight(
    tx: Tx, tenant_id: str, key: str, but: Sequence[UUID], most: int = 10_000
) -> list[Row]:
    """The claimed steps with a rate-limit key, those in ``but`` left out: ``id``, ``epoch`` and the
    ``units`` that each uses.
    """
    sql = """SELECT id, epoch, (progress -> 'uses' ->> %(key)s)::integer AS units FROM steps
             WHERE claimed_by IS NOT NULL AND tenant_id = %(tenant)s
                 AND progress -> 'uses' ? %(key)s AND NOT id = ANY(%(but)s::uuid[])
             LIMIT %(most)s"""
    params = {"tenant": tenant_id, "key": key, "but": list(but), "most": most}
    return tx.rows(sql, params)
