"""Instances: locking, reading and listing runs, their contexts and their kept state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from orch8.storage.cipher import CONTEXT
from orch8.storage.months import span, within
from orch8.storage.rows import InstanceRow, Moment
from orch8.storage.transaction import Row, Tx, dumps

Page = tuple[int, tuple[Any, ...] | None]  # how many rows were changed, and where to go on
FIRST = UUID(int=0)  # before every id
INSTANCE_COLUMNS = ", ".join(f"i.{f.name}" for f in fields(InstanceRow))
_NAMES = tuple(f.name for f in fields(InstanceRow))
# What is due or waits is live, and what is live stands in the snapshot of its instance i: so the
# steps that ended long ago, however many, are not looked at.
# As an array, and not as a join, it is a condition of the index, whatever the planner believes
# about how many steps an instance has.
LIVE = "s.node_key = ANY(ARRAY(SELECT jsonb_object_keys(i.snapshot -> 'f')))"
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


def read_now(tx: Tx, ids: Iterable[UUID]) -> tuple[dict[UUID, InstanceRow], Moment]:
    """The instances as they are, not locked, and what time it is."""
    sql = f"SELECT {INSTANCE_COLUMNS}, {CLOCK} FROM instances i WHERE i.id = ANY(%(ids)s)"
    rows = tx.rows(sql, {"ids": list(ids)})
    moment = Moment(rows[0].moment, rows[0].rate) if rows else now(tx)
    return {row.id: instance_of(row) for row in rows}, moment


def instance_by_key(tx: Tx, tenant_id: str, idempotency_key: str) -> InstanceRow | None:
    """The instance that was created under this key, whatever became of it."""
    sql = """SELECT instance_id FROM instance_keys
             WHERE tenant_id = %(tenant)s AND key = %(key)s"""
    found = tx.one(sql, {"tenant": tenant_id, "key": idempotency_key})
    return None if found is None else read_instances(tx, [found.instance_id]).get(found.instance_id)


_HAS_INSTANCE = "EXISTS (SELECT FROM instances i WHERE i.id = k.instance_id)"


def known_keys(tx: Tx, wanted: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the pairs of tenant and idempotency key under which there is an instance."""
    sql = f"""SELECT k.tenant_id, k.key
              FROM unnest(%(tenants)s::text[], %(keys)s::text[]) AS r(t, k)
              JOIN instance_keys k ON k.tenant_id = r.t AND k.key = r.k WHERE {_HAS_INSTANCE}"""
    params = _pairs(wanted)
    return {(row.tenant_id, row.key) for row in tx.rows(sql, params)} if params["keys"] else set()


def free_keys(tx: Tx, wanted: Iterable[tuple[str, str]]) -> int:
    """Those of the pairs of tenant and idempotency key whose instance went with its month are free
    again; how many.

    A key is written with its instance, in one statement. So whoever sees a key without one sees
    that the instance is gone, and not that it is yet to come.
    """
    sql = f"""DELETE FROM instance_keys k
              USING unnest(%(tenants)s::text[], %(keys)s::text[]) AS r(t, k)
              WHERE k.tenant_id = r.t AND k.key = r.k AND NOT {_HAS_INSTANCE}"""
    params = _pairs(wanted)
    return tx.run(sql, params) if params["keys"] else 0


def _pairs(wanted: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    pairs = list(wanted)
    return {"tenants": [pair[0] for pair in pairs], "keys": [pair[1] for pair in pairs]}


def now(tx: Tx) -> Moment:
    """Business time, from the database."""
    row = tx.rows(f"SELECT {CLOCK}")[0]
    return Moment(row.moment, row.rate)


_SHOWN_NAMES = (
    "id", "tenant_id", "namespace", "sequence_id", "state", "cancelling", "attention", "outcome",
    "error", "lane", "priority", "timezone", "metadata", "idempotency_key", "parent_instance_id",
    "round", "created_at", "updated_at", "finished_at", "session_id", "terms",
)  # fmt: skip
# Of an instance with a version of its own, the published one that this is derived from is shown.
_SHOWN_AS = {"sequence_id": "COALESCE(q.derived_from, i.sequence_id) AS sequence_id"}
_VERSIONS = """i.sequence_id = ANY(ARRAY(SELECT v.id FROM sequences v
    WHERE v.id = %(sequence_id)s OR v.derived_from = %(sequence_id)s))"""
_SHOWN = f"""
SELECT {", ".join(_SHOWN_AS.get(name, f"i.{name}") for name in _SHOWN_NAMES)},
    q.name AS sequence_name,
    q.version AS sequence_version, c.body AS context, d.next_fire_at
FROM instances i JOIN sequences q ON q.id = i.sequence_id
LEFT JOIN contexts c ON c.instance_id = i.id AND c.version = i.context_version
LEFT JOIN LATERAL (SELECT min(COALESCE(s.due_at, s.held_due_at)) AS next_fire_at
    FROM steps s
    WHERE s.instance_id = i.id AND {LIVE} AND i.finished_at IS NULL
        AND s.block_id <> '@sla') d ON true
"""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which instances a list shows; what is None does not narrow it."""

    tenant_id: str | None = None
    namespace: str | None = None
    sequence_id: UUID | None = None
    sequence_name: str | None = None
    states: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = None
    idempotency_key: str | None = None
    parent_instance_id: UUID | None = None
    session_id: UUID | None = None


def list_instances(
    tx: Tx, wanted: Filter, *, limit: int, after: tuple[Any, UUID] | None = None, offset: int = 0
) -> list[Row]:
    """Instances with their sequence's name and version and their next due time, the last changed
    first; ``after`` is the (updated_at, id) of the last row seen.
    """
    where, params = narrowed(wanted)
    if after is not None:
        where = f"{where} AND (i.updated_at, i.id) < (%(at)s, %(id)s)"
        params |= {"at": after[0], "id": after[1]}
    sql = f"""{_SHOWN} WHERE {where}
              ORDER BY i.updated_at DESC, i.id DESC LIMIT %(limit)s OFFSET %(offset)s"""
    rows = tx.rows(sql, {**params, "limit": limit, "offset": offset})
    return [_opened(tx, row) for row in rows]


_BY_KEY = """i.id IN (SELECT k.instance_id FROM instance_keys k
    WHERE k.tenant_id = i.tenant_id AND k.key = %(key)s)"""


def narrowed(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """The condition on an instance ``i`` and its sequence ``q`` that a filter stands for, and its
    parameters.
    """
    params: dict[str, Any] = {}
    where = ["true"]
    for condition, name, value in (
        ("i.tenant_id = %(tenant_id)s", "tenant_id", wanted.tenant_id),
        ("i.namespace = %(namespace)s", "namespace", wanted.namespace),
        (_VERSIONS, "sequence_id", wanted.sequence_id),
        ("q.name = %(sequence_name)s", "sequence_name", wanted.sequence_name),
        ("i.state = ANY(%(states)s)", "states", list(wanted.states) or None),
        ("i.metadata @> %(metadata)s::jsonb", "metadata", dict(wanted.metadata or {}) or None),
        (_BY_KEY, "key", wanted.idempotency_key),
        ("i.parent_instance_id = %(parent)s", "parent", wanted.parent_instance_id),
        ("i.session_id = %(session)s", "session", wanted.session_id),
    ):
        if value is not None:
            where.append(condition)
            params[name] = dumps(value) if name == "metadata" else value
    return " AND ".join(where), params


def shown_instance(tx: Tx, instance_id: UUID) -> Row | None:
    """One instance as a list shows it."""
    row = tx.one(_SHOWN + " WHERE i.id = %(id)s", {"id": instance_id})
    return None if row is None else _opened(tx, row)


def _opened(tx: Tx, row: Row) -> Row:
    opened = tx.cipher.open_context(row.id, row.context)
    return row if opened is row.context else row._replace(context=opened)


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
    if not pairs:
        return {}
    sql = f"""SELECT c.instance_id, c.body
              FROM unnest(%(ids)s::uuid[], %(versions)s::integer[]) AS r(i, v)
              JOIN contexts c ON c.instance_id = r.i AND c.version = r.v
              WHERE {within("c.instance_id")}"""
    ids = [pair[0] for pair in pairs]
    rows = tx.rows(sql, {"ids": ids, "versions": [pair[1] for pair in pairs]} | span(ids))
    return {row.instance_id: tx.cipher.open_context(row.instance_id, row.body) for row in rows}


def reseal_contexts(tx: Tx, limit: int, after: tuple[Any, ...] = (FIRST, 0)) -> Page:
    """Of up to ``limit`` contexts that come after a place, those whose data is not sealed with the
    present key are: how many, and the place to go on from, None at the end.
    """
    cipher = tx.cipher
    sql = """SELECT instance_id, version, body FROM contexts
             WHERE (instance_id, version) > (%(i)s, %(v)s)
             ORDER BY instance_id, version LIMIT %(limit)s"""
    rows = tx.rows(sql, {"i": after[0], "v": after[1], "limit": limit})
    sealed = []
    for row in rows:
        context = cipher.open_context(row.instance_id, row.body)
        if "data" in context and not cipher.is_current(row.body["data"], CONTEXT):
            body = cipher.seal_context(row.instance_id, context)
            sealed.append({"i": row.instance_id, "v": row.version, "body": body})
    sql = """UPDATE contexts c SET body = r.body
             FROM json_to_recordset(%(rows)s::json) AS r(i uuid, v integer, body jsonb)
             WHERE c.instance_id = r.i AND c.version = r.v"""
    done = tx.run(sql, {"rows": dumps(sealed)}) if sealed else 0
    return done, (rows[-1].instance_id, rows[-1].version) if len(rows) == limit else None


def read_state(tx: Tx, ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """What set_state kept for these instances."""
    kept: dict[UUID, dict[str, Any]] = {i: {} for i in ids}
    sql = "SELECT instance_id, key, value FROM instance_state WHERE instance_id = ANY(%(ids)s)"
    for row in tx.rows(sql, {"ids": list(kept)}) if kept else ():
        place = state_place(row.instance_id, row.key)
        kept[row.instance_id][row.key] = tx.cipher.open_value(row.value, place)
    return kept


def state_place(instance_id: UUID, key: str) -> str:
    """Where what set_state kept is kept."""
    return f"state/{instance_id}/{key}"


def repoint(tx: Tx, instance_id: UUID, sequence_id: UUID, snapshot: Any) -> None:
    """The instance, which is locked, runs by another version, in which it is at ``snapshot``."""
    sql = """UPDATE instances SET sequence_id = %(sequence)s, snapshot = %(snapshot)s::jsonb
             WHERE id = %(id)s"""
    tx.run(sql, {"id": instance_id, "sequence": sequence_id, "snapshot": dumps(snapshot)})


def instance_of(row: Row) -> InstanceRow:
    """The instance that a row of INSTANCE_COLUMNS holds."""
    made = object.__new__(InstanceRow)
    made.__dict__.update(zip(_NAMES, row, strict=False))  # the columns come first, in this order
    return made
