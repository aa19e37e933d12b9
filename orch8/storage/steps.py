"""Steps: finding due rows, claiming them, reading them under a lock."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from orch8.blocks.for_each import ITEMS
from orch8.engine.keys import NodeKey
from orch8.engine.scope import OutputRef
from orch8.storage.cipher import output_place
from orch8.storage.instances import FIRST, LIVE, Page
from orch8.storage.kept import LOCK_CLAIMS, MARK_CLAIMED
from orch8.storage.months import span, within
from orch8.storage.rows import StepRow, with_outcome
from orch8.storage.transaction import Row, Tx, dumps

_NAMES = tuple(f.name for f in fields(StepRow))
_COLUMNS = ", ".join(f"s.{name}" for name in _NAMES)

EVER: Final = datetime(1, 1, 1, tzinfo=UTC)  # before anything was due
_DUE = "s.due_at >= %(since)s AND s.due_at <= (SELECT orch8_now())"

_TAKE_DUE = f"""
SELECT {_COLUMNS} FROM steps s WHERE s.lane = %(lane)s AND {_DUE}
ORDER BY s.due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""

_TAKE_TURNS = f"""
SELECT d.* FROM json_each_text(%(turns)s::json) AS t(tenant_id, turns),
LATERAL (SELECT {_COLUMNS} FROM steps s
    WHERE s.lane = %(lane)s AND s.tenant_id = t.tenant_id AND {_DUE}
    ORDER BY s.due_at LIMIT t.turns::integer FOR UPDATE SKIP LOCKED) d
ORDER BY d.due_at"""

_READ = f"""
SELECT {_COLUMNS} FROM json_to_recordset(%(keys)s::json) AS r(i uuid, k text)
JOIN steps s ON s.instance_id = r.i AND s.node_key = r.k
WHERE {within("s.instance_id")}"""


def take_due(tx: Tx, lane: str, limit: int, since: datetime = EVER) -> list[StepRow]:
    """Up to ``limit`` rows of a lane that are due, from ``since`` on, the longest due first,
    locked; rows that somebody else is taking are passed over.
    """
    params = {"lane": lane, "limit": limit, "since": since}
    return [_step(tx, row) for row in tx.rows(_TAKE_DUE, params)]


def take_turns(
    tx: Tx, lane: str, turns: Mapping[str, int], since: datetime = EVER
) -> list[StepRow]:
    """As take_due, of each tenant as many rows as it has turns."""
    params = {"lane": lane, "turns": dumps(turns), "since": since}
    return [_step(tx, row) for row in tx.rows(_TAKE_TURNS, params)]


def due(tx: Tx, lane: str, limit: int, since: datetime) -> list[Row]:
    """``id`` and ``due_at`` of the rows that take_due would find; nothing is locked or changed."""
    sql = f"""SELECT s.id, s.due_at FROM steps s WHERE s.lane = %(lane)s AND {_DUE}
              ORDER BY s.due_at LIMIT %(limit)s"""
    return tx.rows(sql, {"lane": lane, "limit": limit, "since": since})


def next_due(tx: Tx, lanes: Mapping[str, datetime]) -> Row:
    """When the lanes' next row is due, of each lane from a moment on: ``at`` (None: never) and
    ``now``, both business time.
    """
    sql = """SELECT min(d.at) AS at, orch8_now() AS now
             FROM unnest(%(lanes)s, %(since)s::timestamptz[]) AS l(lane, since),
             LATERAL (SELECT due_at AS at FROM steps WHERE lane = l.lane AND due_at >= l.since
                      ORDER BY due_at LIMIT 1) d"""
    return tx.one(sql, {"lanes": list(lanes), "since": list(lanes.values())})


def mark_claimed(tx: Tx, rows: Iterable[StepRow]) -> None:
    """scheduled -> running: the rows, locked by take_due, carry their new epoch, claimer and
    intent. Their instances are shown as running, unless they wait for a pull worker.
    """
    columns = (
        "state", "due_at", "epoch", "claimed_by", "worker", "lease_until", "dispatches",
        "idempotency_key", "fingerprint", "first_dispatched_at", "context_version", "limit_key",
        "queued_at", "pull", "waits_for", "fence", "last_dispatched_at", "money",
    )  # fmt: skip
    claimed = [
        {c: row.__dict__[c] for c in columns}
        | {
            "i": row.instance_id,
            "k": row.node_key,
            "request": encoded(row.request),
            "progress": tx.cipher.seal_progress(row, row.progress),
        }
        for row in rows
    ]
    if not claimed:
        return
    tx.run(MARK_CLAIMED, {"rows": dumps(claimed)} | span(each["i"] for each in claimed))


def set_aside(tx: Tx, row: StepRow, attention: Any) -> bool:
    """scheduled -> parked: the row, and with it its instance, shows what is wrong; False when it
    has changed since it was read.
    """
    sql = f"""
    WITH aside AS (
        UPDATE steps SET state = 'parked', due_at = NULL, limit_key = NULL, queued_at = NULL,
            attention = %(why)s::jsonb
        WHERE instance_id = %(i)s AND node_key = %(k)s AND epoch = %(epoch)s AND state = %(state)s
        RETURNING instance_id)
    UPDATE instances i SET state = 'waiting', updated_at = orch8_now(),
        attention = %(why)s::jsonb || jsonb_build_object('node_key', %(k)s)
    FROM aside WHERE i.id = aside.instance_id AND {within("i.id")}"""
    params = {
        "i": row.instance_id, "k": row.node_key, "epoch": row.epoch, "state": row.state,
        "why": dumps(attention), **span([row.instance_id]),
    }  # fmt: skip
    return tx.run(sql, params) == 1


def read_steps(tx: Tx, keys: Iterable[tuple[UUID, NodeKey | str]]) -> list[StepRow]:
    """The rows of these nodes; a node without a row is left out."""
    params = _wanted(keys)
    return [_step(tx, row) for row in tx.rows(_READ, params)] if params else []


def _wanted(keys: Iterable[tuple[UUID, NodeKey | str]]) -> dict[str, Any]:
    """The parameters of _READ, none if there are no keys."""
    wanted = [(instance_id, str(key)) for instance_id, key in keys]
    if not wanted:
        return {}
    return {"keys": dumps([{"i": i, "k": k} for i, k in wanted])} | span(i for i, _ in wanted)


def lock_claims(tx: Tx, keys: Sequence[tuple[UUID, str]]) -> list[Row]:
    """The instances of these nodes, locked in the order of their ids so that two batches never wait
    for each other in a circle, and of each node what its claim is: ``n`` is its place in ``keys``,
    ``step_epoch``, ``step_claimed_by`` and ``step_state`` are its row's, ``moment`` and ``rate``
    the clock's, the rest is the instance. Only the first node of an instance brings its snapshot,
    which is large when much of it is live.
    """
    if not keys:
        return []
    seen: set[UUID] = set()
    wanted = []
    for n, (i, k) in enumerate(keys):
        wanted.append({"n": n, "i": i, "k": k, "first": i not in seen})
        seen.add(i)
    return tx.rows(LOCK_CLAIMS, {"keys": dumps(wanted)} | span(seen))


def lock_steps(tx: Tx, keys: Iterable[tuple[UUID, NodeKey | str]]) -> list[StepRow]:
    """As read_steps, and the rows are locked. The caller holds their instances' locks already."""
    params = _wanted(keys)
    sql = _READ + " ORDER BY s.instance_id, s.node_key FOR UPDATE OF s"
    return [_step(tx, row) for row in tx.rows(sql, params)] if params else []


def step_by_id(tx: Tx, step_id: UUID) -> StepRow | None:
    """The row of a step, by the id that pull workers know it under."""
    row = tx.one(f"SELECT {_COLUMNS} FROM steps s WHERE s.id = %(id)s AND s.pull", {"id": step_id})
    return None if row is None else _step(tx, row)


def steps_of(
    tx: Tx, instance_id: UUID, *, limit: int = 1000, offset: int = 0, pages: bool = True,
    outer_first: bool = False,
) -> list[StepRow]:  # fmt: skip
    """The rows of one instance in the order in which they were entered, ``offset`` left out; unless
    ``pages``, the items of for_each blocks are, too. If there are too many, those outside of loops
    are kept with ``outer_first``.
    """
    order = "cardinality(s.path), s.id" if outer_first else "s.id"
    sql = f"""SELECT {_COLUMNS} FROM steps s WHERE s.instance_id = %(id)s
                  AND (%(pages)s OR s.handler <> '@memo' OR s.block_id NOT LIKE '%%' || %(items)s)
              ORDER BY {order} LIMIT %(limit)s OFFSET %(offset)s"""
    params = {
        "id": instance_id, "limit": limit, "offset": offset, "pages": pages, "items": ITEMS,
    }  # fmt: skip
    found = [_step(tx, row) for row in tx.rows(sql, params)]
    return sorted(found, key=attrgetter("id")) if outer_first else found


def first_steps(tx: Tx, ids: Iterable[UUID], limit: int) -> dict[UUID, list[StepRow]]:
    """As steps_of, of several instances, up to ``limit`` rows of each."""
    found: dict[UUID, list[StepRow]] = {each: [] for each in ids}
    # In the order of the primary key, which the planner follows whatever it believes about how many
    # steps an instance has: beside a long fan-out it would rather read the whole table for each.
    sql = f"""SELECT {_COLUMNS} FROM unnest(%(ids)s::uuid[]) AS r(id), LATERAL (
                  SELECT * FROM steps f WHERE f.instance_id = r.id
                  ORDER BY f.instance_id, f.node_key LIMIT %(limit)s) s ORDER BY s.id"""
    for row in tx.rows(sql, {"ids": list(found), "limit": limit}) if found else ():
        found[row.instance_id].append(_step(tx, row))
    for instance_id, rows in found.items():
        if len(rows) == limit:  # perhaps not all, and not the first
            found[instance_id] = steps_of(tx, instance_id, limit=limit)
    return found


def silent_pulls(tx: Tx, limit: int, *, among: Sequence[UUID] | None = None) -> list[StepRow]:
    """Pull steps whose worker let its lease pass, or that nobody completed in time; not locked.
    With ``among`` only those of these ids.
    """
    mine = "true" if among is None else "s.id = ANY(%(among)s)"
    sql = f"""
    (SELECT {_COLUMNS} FROM steps s WHERE s.pull AND s.lease_until < clock_timestamp()
        AND {mine} LIMIT %(limit)s)
    UNION ALL
    (SELECT {_COLUMNS} FROM steps s WHERE s.pull AND s.expires_at <= (SELECT orch8_now())
        AND s.held_due_at IS NULL AND s.waits_for IS DISTINCT FROM 'place' AND {mine}
        LIMIT %(limit)s)"""
    found = tx.rows(sql, {"limit": limit, "among": None if among is None else list(among)})
    return [_step(tx, row) for row in found]


def take_pull(tx: Tx, lane: str, limit: int, *, exact: bool) -> list[StepRow]:
    """Up to ``limit`` pull steps of a handler that wait for a worker, the oldest first, locked;
    with ``exact`` only those without a queue of their own, or of just this queue.
    """
    sql = f"""
    SELECT {_COLUMNS} FROM steps s
    WHERE (s.lane = %(lane)s OR (
            NOT %(exact)s AND s.lane >= %(lane)s || '/' AND s.lane < %(lane)s || '0'))
        AND s.due_at <= (SELECT orch8_now())
    ORDER BY s.due_at, s.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""
    found = tx.rows(sql, {"lane": lane, "limit": limit, "exact": exact})
    return sorted((_step(tx, row) for row in found), key=attrgetter("id"))


_LIVE_OF = f"instances i WHERE i.id = %(i)s AND s.instance_id = i.id AND {LIVE}"


def hold_due(tx: Tx, instance_id: UUID) -> int:
    """The instance's due times are held: nothing of it is claimed until they are released."""
    sql = f"""UPDATE steps s SET held_due_at = COALESCE(due_at, orch8_now()), due_at = NULL
              FROM {_LIVE_OF} AND (
                      due_at IS NOT NULL OR limit_key IS NOT NULL OR waits_for = 'place')
                  AND held_due_at IS NULL AND asking IS NULL"""
    return tx.run(sql, {"i": instance_id})


def release_due(tx: Tx, instance_id: UUID) -> int:
    """The instance's held due times hold again; those that passed meanwhile are due now."""
    sql = f"""UPDATE steps s SET due_at = greatest(held_due_at, orch8_now()), held_due_at = NULL
              FROM {_LIVE_OF} AND held_due_at IS NOT NULL"""
    return tx.run(sql, {"i": instance_id})


def waiting_for(tx: Tx, instance_id: UUID, what: str) -> list[str]:
    """The nodes of an instance that wait for something."""
    sql = f"""SELECT s.node_key FROM steps s, {_LIVE_OF} AND s.waits_for = %(w)s
              AND s.state IN ('waiting', 'scheduled')"""
    return [row.node_key for row in tx.rows(sql, {"i": instance_id, "w": what})]


def first_live(tx: Tx, instance_id: UUID) -> str | None:
    """The block of the step that an instance has been at for longest; None if it is at none."""
    sql = f"""SELECT s.block_id FROM steps s, {_LIVE_OF} AND position('@' IN s.block_id) = 0
                  AND s.state IN ('scheduled', 'running', 'sleeping', 'waiting', 'parked')
              ORDER BY s.id LIMIT 1"""
    row = tx.one(sql, {"i": instance_id})
    return None if row is None else str(row.block_id)


def claimed_by(tx: Tx, worker_id: UUID, limit: int) -> list[tuple[UUID, str]]:
    """Up to ``limit`` nodes that a worker process holds."""
    sql = """SELECT instance_id, node_key FROM steps WHERE claimed_by = %(worker)s
             ORDER BY instance_id LIMIT %(limit)s"""
    return [
        (row.instance_id, row.node_key)
        for row in tx.rows(sql, {"worker": worker_id, "limit": limit})
    ]


# -- outputs -------------------------------------------------------------------------------------
# Both read by the primary key: an instance may have a hundred thousand steps. The keys of a block's
# iterations stand together, so the last of them are looked for among these alone.
_EXACT = f"""
SELECT r.n, s.node_key, s.output, s.outcome, s.path, s.created_at, s.finished_at
FROM json_to_recordset(%(refs)s::json) AS r(n integer, i uuid, k text)
JOIN steps s ON s.instance_id = r.i AND s.node_key = r.k
WHERE s.state = 'completed' AND {within("s.instance_id")} ORDER BY s.round"""
_LATEST = f"""
SELECT r.n, o.node_key, o.output, o.outcome, o.path, o.created_at, o.finished_at
FROM json_to_recordset(%(refs)s::json) AS r(n integer, i uuid, first text, behind text),
LATERAL (
    SELECT s.node_key, s.output, s.outcome, s.path, s.created_at, s.finished_at FROM steps s
    WHERE s.instance_id = r.i AND s.node_key >= r.first AND s.node_key < r.behind
        AND s.state = 'completed' AND {within("s.instance_id")}
    ORDER BY s.path DESC, s.round DESC LIMIT 1) o"""


def read_outputs(
    tx: Tx, wanted: Sequence[tuple[UUID, OutputRef, int]]
) -> list[tuple[Any, tuple[int, ...]]]:
    """What each reference (instance, reference, the instance's newest round) means, in order: the
    output, None if there is none, and its path.

    An object without an ``outcome``, ``started_at`` or ``finished_at`` of its own gets the step's,
    so that expressions can ask for it.
    """
    found: list[tuple[Any, tuple[int, ...]]] = [(None, ())] * len(wanted)
    exact: list[dict[str, Any]] = []
    latest: list[dict[str, Any]] = []
    for n, (instance_id, ref, rounds) in enumerate(wanted):
        if ref.exact:
            keys = (NodeKey(ref.block_id, ref.path, r) for r in range(1, rounds + 1))
            exact += [{"n": n, "i": instance_id, "k": str(key)} for key in keys]
        else:
            begin = f"{ref.block_id}[{''.join(f'{index},' for index in ref.path)}"
            behind = begin[:-1] + chr(ord(begin[-1]) + 1)
            latest.append({"n": n, "i": instance_id, "first": begin, "behind": behind})
    for sql, refs in ((_EXACT, exact), (_LATEST, latest)):
        if not refs:
            continue
        for row in tx.rows(sql, {"refs": dumps(refs)} | span(ref["i"] for ref in refs)):
            output = row.output
            if isinstance(output, str):
                place = output_place(wanted[row.n][0], row.node_key)
                output = tx.cipher.open_value(output, place)
            seen = with_outcome(output, row.outcome, row.created_at, row.finished_at)
            found[row.n] = seen, tuple(row.path)
    return found


def encoded(request: bytes | None) -> str | None:
    """A request's bytes as JSON recordsets carry them."""
    return None if request is None else base64.b64encode(request).decode()


def reseal_requests(tx: Tx, limit: int, after: tuple[Any, ...] = (FIRST, "")) -> Page:
    """As instances.reseal_contexts, of the requests that are kept with intents."""
    cipher = tx.cipher
    sql = """SELECT instance_id, node_key, idempotency_key, request FROM steps
             WHERE (instance_id, node_key) > (%(i)s, %(k)s)
             ORDER BY instance_id, node_key LIMIT %(limit)s"""
    rows = tx.rows(sql, {"i": after[0], "k": after[1], "limit": limit})
    sealed = [
        {"i": row.instance_id, "k": row.node_key, "was": encoded(row.request),
         "request": encoded(cipher.seal_request(row, cipher.open_request(row)))}
        for row in rows
        if row.request is not None and not bytes(row.request).startswith(cipher.mark().encode())
    ]  # fmt: skip
    # One that a worker has written meanwhile is left for the next time.
    sql = """UPDATE steps s SET request = decode(r.request, 'base64')
             FROM json_to_recordset(%(rows)s::json) AS r(i uuid, k text, request text, was text)
             WHERE s.instance_id = r.i AND s.node_key = r.k
                 AND s.request = decode(r.was, 'base64')"""
    done = tx.run(sql, {"rows": dumps(sealed)}) if sealed else 0
    return done, (rows[-1].instance_id, rows[-1].node_key) if len(rows) == limit else None


def _step(tx: Tx, row: Row) -> StepRow:
    made = object.__new__(StepRow)
    made.__dict__.update(zip(_NAMES, row, strict=True))
    made.path = tuple(made.path)
    if made.request is not None:
        made.request = bytes(made.request)
    tx.cipher.open_step(made)
    return made
