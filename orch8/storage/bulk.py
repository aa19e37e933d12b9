"""Many instances at once: those that a filter means, and moving when their next steps are due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from orch8.storage.instances import LIVE, Filter, narrowed
from orch8.storage.months import span, within
from orch8.storage.transaction import Row, Tx

# Only what was never tried, and waits for its time alone: not a place in a rate limit's queue, not
# the next attempt of a call that may have had an effect, not the clock of the instance itself.
_MOVABLE = """s.state = 'scheduled' AND s.dispatches = 0 AND s.failures = 0
    AND s.limit_key IS NULL AND s.block_id <> '@sla'
    AND COALESCE(s.due_at, s.held_due_at) IS NOT NULL"""


def matching(tx: Tx, wanted: Filter, *, limit: int, after: UUID | None = None) -> list[Row]:
    """``id``, ``state`` and ``lane`` of the instances that a filter means, the oldest first."""
    where, params = narrowed(wanted)
    if after is not None:
        where, params = f"{where} AND i.id > %(after)s", {**params, "after": after}
    sql = f"""SELECT i.id, i.state, i.lane FROM instances i JOIN sequences q ON q.id = i.sequence_id
              WHERE {where} ORDER BY i.id LIMIT %(limit)s"""
    return tx.rows(sql, {**params, "limit": limit})


def set_due(tx: Tx, instance_id: UUID, at: datetime, but: Sequence[str]) -> set[UUID]:
    """What the instance is to do later, it does at this time, the steps of the blocks in ``but``
    left out; their deadlines count from then.
    """
    return _move(tx, [instance_id], "%(at)s::timestamptz", {"at": at}, but)


def shift_due(tx: Tx, ids: Sequence[UUID], seconds: float) -> set[UUID]:
    """What these instances, locked, are to do later, they do so much later, or sooner; the ids of
    those that have something to do at a time.
    """
    later = "COALESCE(s.due_at, s.held_due_at) + make_interval(secs => %(seconds)s)"
    return _move(tx, ids, later, {"seconds": seconds})


def _move(
    tx: Tx, ids: Sequence[UUID], later: str, params: dict[str, object], but: Sequence[str] = ()
) -> set[UUID]:
    # A deadline, and the time in which a pull step is offered, count from the due time.
    by = f"({later} - COALESCE(s.due_at, s.held_due_at))"
    sql = f"""
    UPDATE steps s SET due_at = CASE WHEN s.due_at IS NOT NULL THEN {later} END,
        held_due_at = CASE WHEN s.held_due_at IS NOT NULL THEN {later} END,
        deadline_at = s.deadline_at + {by}, expires_at = s.expires_at + {by}
    FROM instances i WHERE i.id = ANY(%(ids)s) AND s.instance_id = i.id AND {LIVE}
        AND {within("s.instance_id")}
        AND NOT s.block_id = ANY(%(but)s) AND {_MOVABLE}
    RETURNING s.instance_id"""
    if not ids:
        return set()
    given = {**params, "ids": list(ids), "but": list(but), **span(ids)}
    return {row.instance_id for row in tx.rows(sql, given)}
