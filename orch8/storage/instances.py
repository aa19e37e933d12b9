"""Instances: locking, reading and listing runs, their contexts and their kept state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from orch8.storage.rows import InstanceRow, Moment
from orch8.storage.transaction import Row, Tx, dumps

INSTANCE_COLUMNS = ", ".join(f"i.{f.name}" for f in fields(InstanceRow))
_NAMES = tuple(f.name for f in fields(InstanceRow))
CLOCK = "orch8_now() AS moment, COALESCE((SELECT c.rate FROM dev_clock c), 1) AS rate"


def lock_instances(tx: Tx, ids: Iterable[UUID]) -> tuple[dict[UUID, InstanceRow], Moment]:
    """The instances, locked in the order of their ids so that two batches never wait for each other
    in a circle, and what time it is. One that does not exist is left out.
    """
    sql = f"""SELECT {INSTANCE_COLUMNS}, {CLOCK} FROM instances i WHERE i.id = ANY(%(ids)s)
              ORDER BY i.id FOR UPDATE OF i"""
    rows = tx.rows(sql, {"ids": list(ids)})
    moment = Moment(rows[0].moment, rows[0].rate) if rows else now(tx)
    return {row.id: instance_of(row) for row in rows}, moment


def read_instances(tx: Tx, ids: Iterable[UUID]) -> dict[UUID, InstanceRow]:
    """The instances as they are, not locked."""
    sql = f"SELECT {INSTANCE_COLUMNS}, {CLOCK} FROM instances i WHERE i.id = ANY(%(ids)s)"
    return {row.id: instance_of(row) for row in tx.rows(sql, {"ids": list(ids)})}


def instance_by_key(tx: Tx, tenant_id: str, idempotency_key: str) -> InstanceRow | None:
    """The instance that was created under this key, whatever became of it."""
    sql = f"""SELECT {INSTANCE_COLUMNS}, {CLOCK} FROM instances i
              WHERE i.tenant_id = %(tenant)s AND i.idempotency_key = %(key)s"""
    row = tx.one(sql, {"tenant": tenant_id, "key": idempotency_key})
    return None if row is None else instance_of(row)


def now(tx: Tx) -> Moment:
    """Business time, from the database."""
    row = tx.rows(f"SELECT {CLOCK}")[0]
    return Moment(row.moment, row.rate)


_SHOWN_NAMES = (
    "id", "tenant_id", "namespace", "sequence_id", "state", "cancelling", "attention", "outcome",
    "error", "lane", "priority", "timezone", "metadata", "idempotency_key", "parent_instance_id",
    "round", "created_at", "updated_at", "finished_at",
)  # fmt: skip
_SHOWN = f"""
SELECT {", ".join(f"i.{name}" for name in _SHOWN_NAMES)}, q.name AS sequence_name,
    q.version AS sequence_version, c.body AS context, d.next_fire_at
FROM instances i JOIN sequences q ON q.id = i.sequence_id
LEFT JOIN contexts c ON c.instance_id = i.id AND c.version = i.context_version
LEFT JOIN LATERAL (SELECT min(COALESCE(s.due_at, s.held_due_at)) AS next_fire_at FROM steps s
    WHERE s.instance_id = i.id AND i.finished_at IS NULL AND s.block_id <> '@sla') d ON true
"""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which instances a list shows; what is None does not narrow it."""

    tenant_id: str | None = None
    namespace: str | None = None
    sequence_id: UUID | None = None
    sequence_name: str | None = None
    states: tuple[str, ...] = ()
    metadata: Mapping[str, str] | None = None
    idempotency_key: str | None = None
    parent_instance_id: UUID | None = None


def list_instances(
    tx: Tx, wanted: Filter, *, limit: int, after: tuple[Any, UUID] | None = None, offset: int = 0
) -> list[Row]:
    """Instances with their sequence's name and version and their next due time, the last changed
    first; ``after`` is the (updated_at, id) of the last row seen.
    """
    where = ["true"]
    for condition, value in (
        ("i.tenant_id = %(tenant_id)s", wanted.tenant_id),
        ("i.namespace = %(namespace)s", wanted.namespace),
        ("i.sequence_id = %(sequence_id)s", wanted.sequence_id),
        ("q.name = %(sequence_name)s", wanted.sequence_name),
        ("i.state = ANY(%(states)s)", wanted.states or None),
        ("i.metadata @> %(metadata)s::jsonb", wanted.metadata or None),
        ("i.idempotency_key = %(idempotency_key)s", wanted.idempotency_key),
        ("i.parent_instance_id = %(parent)s", wanted.parent_instance_id),
        ("(i.updated_at, i.id) < (%(at)s, %(id)s)", after),
    ):
        if value is not None:
            where.append(condition)
    sql = f"""{_SHOWN} WHERE {" AND ".join(where)}
              ORDER BY i.updated_at DESC, i.id DESC LIMIT %(limit)s OFFSET %(offset)s"""
    return tx.rows(
        sql,
        {
            "tenant_id": wanted.tenant_id, "namespace": wanted.namespace,
            "sequence_id": wanted.sequence_id, "sequence_name": wanted.sequence_name,
            "states": list(wanted.states), "metadata": dumps(dict(wanted.metadata or {})),
            "idempotency_key": wanted.idempotency_key,
            "parent": wanted.parent_instance_id, "at": after and after[0], "id": after and after[1],
            "limit": limit, "offset": offset,
        },
    )  # fmt: skip


def shown_instance(tx: Tx, instance_id: UUID) -> Row | None:
    """One instance as a list shows it."""
    return tx.one(_SHOWN + " WHERE i.id = %(id)s", {"id": instance_id})


class _Shown(SimpleNamespace):
    """A row of _SHOWN that did not come from the database."""

    def _asdict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def shown_now(
    row: InstanceRow, *, sequence: tuple[str, int], context: Any, next_fire_at: datetime | None
) -> Row:
    """An instance that was just written, as shown_instance would read it."""
    name, version = sequence
    return _Shown(
        **{name: row.__dict__[name] for name in _SHOWN_NAMES},
        sequence_name=name,
        sequence_version=version,
        context=context,
        next_fire_at=next_fire_at,
    )


def read_contexts(tx: Tx, wanted: Iterable[tuple[UUID, int]]) -> dict[UUID, Any]:
    """The contexts of these instances at these versions."""
    pairs = list(wanted)
    sql = """SELECT c.instance_id, c.body
             FROM unnest(%(ids)s::uuid[], %(versions)s::integer[]) AS r(i, v)
             JOIN contexts c ON c.instance_id = r.i AND c.version = r.v"""
    rows = (
        tx.rows(sql, {"ids": [p[0] for p in pairs], "versions": [p[1] for p in pairs]})
        if pairs
        else []
    )
    return {row.instance_id: row.body for row in rows}


def read_state(tx: Tx, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """What set_state kept for these instances."""
    kept: dict[UUID, dict[str, Any]] = {i: {} for i in ids}
    sql = "SELECT instance_id, key, value FROM instance_state WHERE instance_id = ANY(%(ids)s)"
    for row in tx.rows(sql, {"ids": list(kept)}) if kept else ():
        kept[row.instance_id][row.key] = row.value
    return kept


def instance_of(row: Row) -> InstanceRow:
    """The instance that a row of INSTANCE_COLUMNS holds."""
    made = object.__new__(InstanceRow)
    made.__dict__.update(zip(_NAMES, row, strict=False))  # the columns come first, in this order
    return made
