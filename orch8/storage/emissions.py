"""Emissions: which instance was started first under the dedupe key of an event, kept for a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from orch8.storage.transaction import Tx

KEPT_DAYS: Final = 30
EVERYBODY: Final = ""  # the scope of a key that all instances of a tenant share

_OLD: Final = f"created_at < orch8_now() - interval '{KEPT_DAYS} days'"


@dataclass(frozen=True)
class Emission:
    """Under this key ``instance_id`` was started. ``scope`` is the instance that emitted the event,
    as a text, or EVERYBODY.
    """

    tenant_id: str
    scope: str
    key: str
    instance_id: UUID
    created_at: datetime


# One part of the statement that writes all changes of a transaction. Of two that emit at once the
# second waits for the first, and then lacks its row. In one order: nobody waits in a circle.
EMIT: Final = """emitted AS (
    INSERT INTO emissions (tenant_id, scope, key, instance_id, created_at)
    SELECT tenant_id, scope, key, instance_id, created_at
    FROM json_to_recordset(%(emitted)s::json) AS r(tenant_id text, scope text, key text,
        instance_id uuid, created_at timestamptz)
    ORDER BY tenant_id, scope, key
    ON CONFLICT (tenant_id, scope, key) DO NOTHING RETURNING instance_id)"""


def emission_rows(emissions: list[Emission]) -> list[dict[str, Any]]:
    """The emissions as that part takes them."""
    return [asdict(each) for each in emissions]


def first_under(tx: Tx, tenant_id: str, scope: str, key: str) -> UUID | None:
    """The instance that was started under the key within the last KEPT_DAYS; an earlier one is
    forgotten.
    """
    mine = "tenant_id = %(tenant)s AND scope = %(scope)s AND key = %(key)s"
    sql = f"""WITH forgotten AS (DELETE FROM emissions WHERE {mine} AND {_OLD})
              SELECT instance_id FROM emissions WHERE {mine} AND NOT {_OLD}"""
    row = tx.one(sql, {"tenant": tenant_id, "scope": scope, "key": key})
    return None if row is None else row.instance_id


def forget(tx: Tx, *, most: int) -> int:
    """Up to ``most`` emissions older than KEPT_DAYS are forgotten; how many."""
    sql = f"""DELETE FROM emissions WHERE ctid IN (
                  SELECT ctid FROM emissions WHERE {_OLD} ORDER BY created_at LIMIT %(most)s
                  FOR UPDATE SKIP LOCKED)"""
    return tx.run(sql, {"most": most})
