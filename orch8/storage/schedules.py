"""Schedules: which sequence is started when, what is due, and which of its runs are open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orch8.storage.transaction import Row, Tx, dumps

_SHOWN: Final = """id, tenant_id, namespace, sequence_id, cron_expr, timezone, enabled, metadata,
    overlap_policy, skipped_fires, last_skipped_at, last_triggered_at, next_fire_at, created_at,
    updated_at"""


def insert(tx: Tx, schedule: Mapping[str, Any]) -> Row:
    """The schedule exists; its row as it is shown. Its creation is ``at``."""
    sql = f"""
    INSERT INTO schedules (id, tenant_id, namespace, sequence_id, cron_expr, timezone, enabled,
        metadata, overlap_policy, next_fire_at, created_at, updated_at)
    VALUES (%(id)s, %(tenant_id)s, %(namespace)s, %(sequence_id)s, %(cron_expr)s, %(timezone)s,
        %(enabled)s, %(metadata)s::jsonb, %(overlap_policy)s, %(next_fire_at)s, %(at)s, %(at)s)
    RETURNING {_SHOWN}"""
    return tx.one(sql, {**schedule, "metadata": dumps(schedule["metadata"])})


def update(tx: Tx, schedule: Mapping[str, Any]) -> Row:
    """The schedule is as stated from now on; a fire that was put off is forgotten."""
    sql = f"""
    UPDATE schedules SET cron_expr = %(cron_expr)s, timezone = %(timezone)s, enabled = %(enabled)s,
        metadata = %(metadata)s::jsonb, overlap_policy = %(overlap_policy)s,
        next_fire_at = %(next_fire_at)s, put_off_slot = NULL, updated_at = %(at)s
    WHERE id = %(id)s
    RETURNING {_SHOWN}"""
    return tx.one(sql, {**schedule, "metadata": dumps(schedule["metadata"])})


def delete(tx: Tx, schedule_id: UUID) -> None:
    """The schedule is gone; what it started goes on."""
    tx.run("DELETE FROM schedules WHERE id = %(id)s", {"id": schedule_id})


def read(tx: Tx, schedule_id: UUID, tenant_id: str | None, *, lock: bool = False) -> Row | None:
    """The schedule, if it is there and this tenant's (None: anybody's)."""
    sql = f"""SELECT {_SHOWN} FROM schedules
              WHERE id = %(id)s AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)"""
    return tx.one(sql + " FOR UPDATE" * lock, {"id": schedule_id, "tenant": tenant_id})


def list_schedules(tx: Tx, tenant_id: str | None, limit: int) -> list[Row]:
    """A tenant's schedules (None: everybody's), the oldest first."""
    sql = f"""SELECT {_SHOWN} FROM schedules
              WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
              ORDER BY id LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def due(tx: Tx, limit: int) -> list[Row]:
    """Schedules to look at, the longest due first. ``slot`` is the time that they fire for, and
    ``now`` is business time.
    """
    sql = f"""SELECT {_SHOWN}, COALESCE(put_off_slot, next_fire_at) AS slot, orch8_now() AS now
              FROM schedules WHERE enabled AND next_fire_at <= orch8_now()
              ORDER BY next_fire_at LIMIT %(limit)s"""
    return tx.rows(sql, {"limit": limit})


def hold(tx: Tx, schedule: Row) -> bool:
    """The schedule is locked; False if it was changed or looked at since ``schedule`` was read."""
    sql = """SELECT id FROM schedules WHERE id = %(id)s AND enabled
                 AND next_fire_at = %(seen)s AND updated_at = %(updated)s
             FOR UPDATE"""
    return tx.one(sql, _seen(schedule, None)) is not None


def open_runs(tx: Tx, schedule_id: UUID, ended: Sequence[str], limit: int) -> list[UUID]:
    """The instances of the schedule that have not ended, the oldest first; the others are no
    longer kept as its runs.
    """
    sql = """DELETE FROM schedule_runs r WHERE r.schedule_id = %(id)s AND NOT EXISTS (
                 SELECT FROM instances i
                 WHERE i.id = r.instance_id AND NOT i.state = ANY(%(ended)s))"""
    tx.run(sql, {"id": schedule_id, "ended": list(ended)})
    sql = """SELECT instance_id FROM schedule_runs WHERE schedule_id = %(id)s
             ORDER BY instance_id LIMIT %(limit)s"""
    return [row.instance_id for row in tx.rows(sql, {"id": schedule_id, "limit": limit})]


def fired(tx: Tx, schedule: Row, instance_id: UUID, next_at: datetime | None) -> bool:
    """The instance is a run of the schedule, which is next due at ``next_at``; False, and nothing,
    if the schedule is no longer as ``schedule`` was read.
    """
    sql = """
    WITH moved AS (
        UPDATE schedules SET last_triggered_at = %(now)s, next_fire_at = %(next)s,
            put_off_slot = NULL
        WHERE id = %(id)s AND next_fire_at = %(seen)s AND updated_at = %(updated)s
        RETURNING id)
    INSERT INTO schedule_runs (schedule_id, instance_id)
    SELECT id, %(instance)s FROM moved
    ON CONFLICT DO NOTHING RETURNING schedule_id"""
    return tx.one(sql, {**_seen(schedule, next_at), "instance": instance_id}) is not None


def skipped(tx: Tx, schedule: Row, next_at: datetime | None) -> bool:
    """One more time of the schedule has passed without an instance. False as with fired."""
    sql = """
    UPDATE schedules SET skipped_fires = skipped_fires + 1, last_skipped_at = %(now)s,
        next_fire_at = %(next)s, put_off_slot = NULL
    WHERE id = %(id)s AND next_fire_at = %(seen)s AND updated_at = %(updated)s"""
    return tx.run(sql, _seen(schedule, next_at)) > 0


def put_off(tx: Tx, schedule: Row, next_at: datetime) -> bool:
    """The same time of the schedule is tried again at ``next_at``. False as with fired."""
    sql = """
    UPDATE schedules SET next_fire_at = %(next)s, put_off_slot = %(slot)s
    WHERE id = %(id)s AND next_fire_at = %(seen)s AND updated_at = %(updated)s"""
    return tx.run(sql, {**_seen(schedule, next_at), "slot": schedule.slot}) > 0


def _seen(schedule: Row, next_at: datetime | None) -> dict[str, Any]:
    return {
        "id": schedule.id, "seen": schedule.next_fire_at, "updated": schedule.updated_at,
        "now": schedule.now, "next": next_at,
    }  # fmt: skip
