"""Alarms: when to look whether a step takes longer than its sequence promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orch8.storage.transaction import Tx, dumps


@dataclass(frozen=True, slots=True)
class Alarm:
    """The step of a node, whose time counts from ``since``, is looked at at ``due_at``."""

    instance_id: UUID
    node_key: str
    since: datetime
    due_at: datetime


# One part of the statement that writes all changes of a transaction.
ARM: Final = """armed AS (
    INSERT INTO alarms (instance_id, node_key, since, due_at)
    SELECT instance_id, node_key, since, due_at FROM json_to_recordset(%(alarms)s::json)
        AS r(instance_id uuid, node_key text, since timestamptz, due_at timestamptz)
    ON CONFLICT (instance_id, node_key) DO UPDATE
        SET since = excluded.since, due_at = excluded.due_at)"""


def alarm_rows(alarms: Sequence[Alarm]) -> list[dict[str, Any]]:
    """The alarms as that part takes them."""
    names = ("instance_id", "node_key", "since", "due_at")
    return [{name: getattr(each, name) for name in names} for each in alarms]


def due(tx: Tx, limit: int) -> list[Alarm]:
    """Up to ``limit`` alarms that are due, the oldest first, locked; those that somebody else is
    taking are passed over.
    """
    sql = """SELECT instance_id, node_key, since, due_at FROM alarms
             WHERE due_at <= (SELECT orch8_now())
             ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""
    return [Alarm(*row) for row in tx.rows(sql, {"limit": limit})]


def done(tx: Tx, alarms: Sequence[Alarm]) -> None:
    """These alarms are gone."""
    sql = """DELETE FROM alarms a USING json_to_recordset(%(alarms)s::json)
                 AS r(instance_id uuid, node_key text)
             WHERE a.instance_id = r.instance_id AND a.node_key = r.node_key"""
    if alarms:
        tx.run(sql, {"alarms": dumps(alarm_rows(alarms))})
