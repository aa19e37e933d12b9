"""Waits for events: what each wants, which events it has, and the turn that everybody takes.

Whoever begins a wait and whoever tells an event take turns at its tenant and correlation key. So
either the wait sees the event or the event's producer sees the wait, and no two have one event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from orch8.blocks.wait_for_event import Wanted
from orch8.storage.events import KEPT_DAYS
from orch8.storage.transaction import Row, Tx, dumps

MOST_WAITS: Final = 1000  # of one correlation key that an event is offered to
MOST_PENDING: Final = 1000  # events of one correlation key that a wait looks through


@dataclass(frozen=True, slots=True)
class EventWait:
    """A step's wait. ``closed``: it takes no more events."""

    id: UUID
    tenant_id: str
    instance_id: UUID
    node_key: str
    wanted: Wanted
    closed: bool = False


@dataclass(frozen=True, slots=True)
class WaitOver:
    """A step whose wait is over: it went on without more events, or else (``given_up``) it ended,
    and what the wait had is free for others.
    """

    instance_id: UUID
    node_key: str
    given_up: bool


# Parts of the statement that writes all changes of a transaction.
_BEGIN: Final = """waits_begun AS (
    INSERT INTO event_waits (id, tenant_id, instance_id, node_key, event_names, correlation_key,
        join_by, needed, closed_at)
    SELECT id, tenant_id, instance_id, node_key, event_names, correlation_key, join_by, needed,
        CASE WHEN closed THEN clock_timestamp() END
    FROM json_to_recordset(%(waits)s::json) AS r(id uuid, tenant_id text, instance_id uuid,
        node_key text, event_names text[], correlation_key text, join_by text, needed integer,
        closed boolean))"""
_TAKE: Final = """events_taken AS (
    UPDATE events e SET consumed_by = r.wait_id
    FROM json_to_recordset(%(taken)s::json) AS r(id uuid, wait_id uuid)
    WHERE e.id = r.id AND e.consumed_by IS NULL)"""
_END: Final = """waits_over AS (
    UPDATE event_waits w SET closed_at = clock_timestamp()
    FROM json_to_recordset(%(waits_over)s::json)
        AS r(instance_id uuid, node_key text, given_up boolean)
    WHERE w.instance_id = r.instance_id AND w.node_key = r.node_key AND w.closed_at IS NULL
    RETURNING w.id, r.given_up),
events_freed AS (
    UPDATE events e SET consumed_by = NULL FROM waits_over w
    WHERE w.given_up AND e.consumed_by = w.id)"""


def parts(
    begun: Sequence[EventWait], taken: Sequence[tuple[UUID, UUID]], over: Sequence[WaitOver]
) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """The parts of that statement that waits need: each with the name of its parameter and its
    rows. ``taken`` are events, each with its wait.
    """
    if begun:
        yield _BEGIN, "waits", _begun_rows(begun)
    if taken:
        yield _TAKE, "taken", _taken_rows(taken)
    if over:
        names = ("instance_id", "node_key", "given_up")
        rows = [{name: getattr(each, name) for name in names} for each in over]
        yield _END, "waits_over", rows


def _taken_rows(taken: Iterable[tuple[UUID, UUID]]) -> list[dict[str, Any]]:
    return [{"id": event_id, "wait_id": wait_id} for event_id, wait_id in taken]


def _begun_rows(waits: Iterable[EventWait]) -> list[dict[str, Any]]:
    return [
        {
            "id": w.id, "tenant_id": w.tenant_id, "instance_id": w.instance_id,
            "node_key": w.node_key, "event_names": list(w.wanted.names),
            "correlation_key": w.wanted.correlation_key, "join_by": w.wanted.join,
            "needed": w.wanted.count, "closed": w.closed,
        }
        for w in waits
    ]  # fmt: skip


_PLACE: Final = "hashtextextended(tenant_id || chr(31) || correlation_key, 26)"


def take_turns(tx: Tx, keys: Iterable[tuple[str, str]]) -> None:
    """Until the transaction ends it is this one's turn at these tenants and correlation keys. All
    are taken at once and in one order, so that nobody waits for each other in a circle.
    """
    sql = f"""SELECT pg_advisory_xact_lock(place) FROM (
                  SELECT DISTINCT {_PLACE} AS place
                  FROM json_to_recordset(%(keys)s::json) AS r(tenant_id text, correlation_key text)
                  ORDER BY place OFFSET 0) AS places"""
    tx.rows(sql, {"keys": _keys(keys)})


def try_turn(tx: Tx, tenant_id: str, correlation_key: str) -> bool:
    """Whether it is this transaction's turn; it does not wait for it."""
    sql = f"""SELECT pg_try_advisory_xact_lock({_PLACE}) AS mine
              FROM json_to_recordset(%(keys)s::json) AS r(tenant_id text, correlation_key text)"""
    return bool(tx.rows(sql, {"keys": _keys([(tenant_id, correlation_key)])})[0].mine)


def _keys(keys: Iterable[tuple[str, str]]) -> str:
    return dumps([{"tenant_id": tenant, "correlation_key": key} for tenant, key in keys])


_OPEN: Final = """event_waits w
    JOIN (SELECT DISTINCT tenant_id, correlation_key
          FROM json_to_recordset(%(keys)s::json) AS k(tenant_id text, correlation_key text)) k
        ON k.tenant_id = w.tenant_id AND k.correlation_key = w.correlation_key
    WHERE w.closed_at IS NULL"""


def waiting(tx: Tx, keys: Iterable[tuple[str, str]]) -> list[UUID]:
    """The instances that wait for events of these tenants and correlation keys."""
    sql = f"SELECT DISTINCT w.instance_id AS id FROM {_OPEN} LIMIT {MOST_WAITS}"
    return [row.id for row in tx.rows(sql, {"keys": _keys(keys)})]


def open_waits(
    tx: Tx, keys: Iterable[tuple[str, str]], instances: Sequence[UUID]
) -> list[tuple[EventWait, list[str]]]:
    """The open waits of these instances, the oldest first, each with the names of the events that
    it has. The caller has the turn, and the instances' locks.
    """
    sql = f"""SELECT w.*, ARRAY(SELECT e.event_name FROM events e WHERE e.consumed_by = w.id
                  ORDER BY e.id) AS matched
              FROM {_OPEN} AND w.instance_id = ANY(%(instances)s) ORDER BY w.id"""
    rows = tx.rows(sql, {"keys": _keys(keys), "instances": list(instances)})
    return [(_wait(row), row.matched) for row in rows]


def take(tx: Tx, taken: Sequence[tuple[UUID, UUID]], closed: Sequence[UUID]) -> None:
    """Each event of ``taken`` belongs to its wait; the ``closed`` waits have all that they want."""
    tx.run(f"WITH {_TAKE} SELECT", {"taken": dumps(_taken_rows(taken))})
    if closed:
        sql = "UPDATE event_waits SET closed_at = clock_timestamp() WHERE id = ANY(%(ids)s)"
        tx.run(sql, {"ids": list(closed)})


def pending(tx: Tx, tenant_id: str, correlation_key: str, names: Sequence[str]) -> list[Row]:
    """Events that nobody has consumed yet, the oldest first."""
    sql = f"""SELECT id, event_name, producer_event_id, payload FROM events
              WHERE tenant_id = %(tenant)s AND correlation_key = %(key)s AND consumed_by IS NULL
                  AND event_name = ANY(%(names)s)
                  AND received_at >= orch8_now() - interval '{KEPT_DAYS} days'
              ORDER BY id LIMIT {MOST_PENDING}"""
    return tx.rows(sql, {"tenant": tenant_id, "key": correlation_key, "names": list(names)})


def wait_of(tx: Tx, instance_id: UUID, node_key: str) -> tuple[EventWait, list[Row]] | None:
    """A step's wait with the events that it has, the oldest first; None if it has begun none."""
    sql = "SELECT * FROM event_waits WHERE instance_id = %(i)s AND node_key = %(k)s"
    row = tx.one(sql, {"i": instance_id, "k": node_key})
    if row is None:
        return None
    sql = """SELECT id, event_name, producer_event_id, payload FROM events
             WHERE consumed_by = %(wait)s ORDER BY id"""
    return _wait(row), tx.rows(sql, {"wait": row.id})


def consumers(tx: Tx, event_ids: Sequence[UUID]) -> dict[UUID, tuple[UUID, bool]]:
    """Of the events that were consumed: by which wait, and whether that takes no more."""
    sql = """SELECT e.id, e.consumed_by, w.closed_at IS NOT NULL OR w.id IS NULL AS closed
             FROM events e LEFT JOIN event_waits w ON w.id = e.consumed_by
             WHERE e.id = ANY(%(ids)s) AND e.consumed_by IS NOT NULL"""
    return {row.id: (row.consumed_by, row.closed) for row in tx.rows(sql, {"ids": list(event_ids)})}


def _wait(row: Row) -> EventWait:
    wanted = Wanted(tuple(row.event_names), row.correlation_key, row.join_by, row.needed)
    closed = row.closed_at is not None
    return EventWait(row.id, row.tenant_id, row.instance_id, row.node_key, wanted, closed)
