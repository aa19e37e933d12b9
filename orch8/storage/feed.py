"""Reading what is new: of a tenant, in the audit log; of an instance, while it is followed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from orch8.storage.ids import first_of
from orch8.storage.transaction import Row, Tx

MOST_STEPS: Final = 10_000
# Ids are made right before their rows, by the clock of a process: an hour is far more than clocks
# differ. It keeps months out that were read long ago.
_SKEW: Final = timedelta(hours=1)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)

# A row is written at some moment of its transaction and seen after its end. So nothing is shown
# that is younger than the oldest open transaction: whatever that still writes comes after it.
_UNTIL: Final = """
SELECT least(now(), min(xact_start)) AS moment FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"""

_NEXT: Final = """
SELECT id, tenant_id, at, actor, action, outcome, reason, instance_id, node_key, request_id, body
FROM audit_log
WHERE tenant_id = %(tenant)s AND at < %(until)s AND id >= %(first)s
    AND (%(at)s::timestamptz IS NULL OR (at, id) > (%(at)s, %(id)s))
    AND instance_id IS NOT NULL AND NOT starts_with(action, 'signal.')
ORDER BY at, id LIMIT %(most)s"""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a tenant's feed: behind the entry with this time and id."""

    at: datetime
    id: UUID


def next_changes(tx: Tx, tenant_id: str, after: Position | None, most: int) -> list[Row]:
    """Up to ``most`` entries of the tenant's audit log about instances, in the order of their times
    and ids, from ``after`` on; custom signals are left out. No entry ever appears before one that
    was shown.
    """
    until = tx.one(_UNTIL)
    assert until is not None
    params = {
        "tenant": tenant_id, "until": until.moment, "most": most,
        "at": after and after.at, "id": after and after.id,
        "first": first_of(max(after.at, _EARLIEST) - _SKEW) if after else UUID(int=0),
    }  # fmt: skip
    return tx.rows(_NEXT, params)


def where_it_is(tx: Tx, instance_id: UUID, *, with_snapshot: bool) -> Row | None:
    """The ``state`` of an instance, its ``sequence_id``, the node keys of its steps that have ended
    and, if it is asked for, its ``snapshot``, as of one moment; None if there is no such instance.
    """
    sql = """SELECT i.state, i.sequence_id, CASE WHEN %(whole)s THEN i.snapshot END AS snapshot,
                 ARRAY(SELECT s.node_key FROM steps s WHERE s.instance_id = i.id
                 AND s.finished_at IS NOT NULL ORDER BY s.finished_at, s.id LIMIT %(most)s) AS ended
             FROM instances i WHERE i.id = %(id)s"""
    params = {"id": instance_id, "most": MOST_STEPS, "whole": with_snapshot}
    return tx.one(sql, params)
