"""Fences: at most one step may move money behind each, over all instances of a tenant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from orch8.storage.months import span, within
from orch8.storage.transaction import Row, Tx, dumps


@dataclass(frozen=True, slots=True)
class Hold:
    """A step that wants, or has, a fence. ``node_key`` None: whatever the instance has.

    ``settled``: keep it, though the step has ended, since its customer still has to act.
    ``supersedes``: take it from a step of another instance that only waits for its customer.
    ``after``: the step of the same instance that passes it on, having ended in this transaction.
    """

    tenant_id: str
    fence: str
    instance_id: UUID
    node_key: str | None
    settled: bool = False
    supersedes: bool = False
    after: str | None = None


def take(tx: Tx, holds: Sequence[Hold]) -> set[tuple[str, str, UUID, str | None]]:
    """The steps that have their fence now: it was free, theirs already, or another step's of the
    same instance that has settled or passes it on. Each as (tenant, fence, instance, node key).

    A fence that another transaction is taking is waited for, at most for the lock time-out.
    """
    rows = [
        {
            "n": n, "t": h.tenant_id, "f": h.fence, "i": h.instance_id, "k": h.node_key,
            "s": h.supersedes, "a": h.after,
        }
        for n, h in enumerate(holds)
    ]  # fmt: skip
    taken = tx.rows(_TAKE, {"holds": dumps(rows)})
    return {(row.tenant_id, row.fence, row.instance_id, row.node_key) for row in taken}


# Of several that want one fence, whoever has it comes first, then another step of its instance,
# then who was named first; one statement may write a row only once.
_TAKE = """
WITH r AS MATERIALIZED (SELECT * FROM json_to_recordset(%(holds)s::json)
    AS r(n integer, t text, f text, i uuid, k text, s boolean, a text)),
best AS (
    SELECT DISTINCT ON (r.t, r.f) r.* FROM r
    LEFT JOIN fences f ON (f.tenant_id, f.fence) = (r.t, r.f)
    ORDER BY r.t, r.f, (f.instance_id = r.i AND f.node_key = r.k) DESC NULLS LAST,
        f.instance_id = r.i DESC NULLS LAST, r.n)
INSERT INTO fences AS f (tenant_id, fence, instance_id, node_key, since)
SELECT t, f, i, k, orch8_now() FROM best ORDER BY t, f
ON CONFLICT (tenant_id, fence) DO UPDATE
    SET instance_id = excluded.instance_id, node_key = excluded.node_key, settled = false,
        since = CASE WHEN (f.instance_id, f.node_key) = (excluded.instance_id, excluded.node_key)
            THEN f.since ELSE excluded.since END
    WHERE (f.instance_id = excluded.instance_id
            AND (f.node_key = excluded.node_key OR f.settled
                OR (f.tenant_id, f.fence, f.node_key) IN (SELECT t, r.f, a FROM r)))
        OR (f.settled AND (f.tenant_id, f.fence) IN (SELECT t, r.f FROM r WHERE s))
RETURNING f.tenant_id, f.fence, f.instance_id, f.node_key"""


def release(tx: Tx, holds: Iterable[Hold]) -> None:
    """The steps have let go of their fences, and whoever waits for one of those is due at once; a
    hold that is ``settled`` stays until its customer has acted or its instance ends.
    """
    rows = [
        {"t": h.tenant_id, "f": h.fence, "i": h.instance_id, "k": h.node_key, "s": h.settled}
        for h in holds
    ]
    if rows:
        _change(tx, tx.rows(_RELEASE, {"holds": dumps(rows)}), "due_at = orch8_now()")


def _change(tx: Tx, locked: Sequence[Row], assignment: str) -> int:
    """These rows of steps, which are locked, are changed; how many there were. A statement of its
    own, since one that does not know its instances would be planned to update every month.
    """
    if not locked:
        return 0
    sql = f"""UPDATE steps s SET {assignment}
              FROM json_to_recordset(%(keys)s::json) AS r(i uuid, k text)
              WHERE s.instance_id = r.i AND s.node_key = r.k AND {within("s.instance_id")}"""
    keys = [{"i": row.instance_id, "k": row.node_key} for row in locked]
    return tx.run(sql, {"keys": dumps(keys)} | span(row.instance_id for row in locked))


# A waiting step that somebody has locked is being looked at anyway.
_RELEASE = """
WITH r AS MATERIALIZED (SELECT * FROM json_to_recordset(%(holds)s::json)
    AS r(t text, f text, i uuid, k text, s boolean)),
kept AS (
    UPDATE fences f SET settled = true FROM r
    WHERE r.s AND (f.tenant_id, f.fence, f.instance_id, f.node_key) = (r.t, r.f, r.i, r.k)),
gone AS (
    DELETE FROM fences f USING r
    WHERE NOT r.s AND f.instance_id = r.i
        AND (r.k IS NULL OR (f.tenant_id, f.fence, f.node_key) = (r.t, r.f, r.k))
    RETURNING f.tenant_id, f.fence)
SELECT s.instance_id, s.node_key FROM gone
JOIN steps s ON (s.tenant_id, s.fence) = (gone.tenant_id, gone.fence)
WHERE s.waits_for = 'fence' AND s.state = 'scheduled' AND s.due_at IS NOT NULL
ORDER BY s.created_at LIMIT 100 FOR UPDATE OF s SKIP LOCKED"""


def hurry(tx: Tx, fences: Sequence[tuple[str, str]]) -> int:
    """Attempts in doubt that hold these fences are asked about now, if that is not under way and
    was not done a moment ago: somebody waits for them. That question is none of their schedule.
    """
    sql = """
    SELECT s.instance_id, s.node_key
    FROM json_to_recordset(%(fences)s::json) AS r(t text, f text)
    JOIN fences f ON (f.tenant_id, f.fence) = (r.t, r.f)
    JOIN steps s ON (s.instance_id, s.node_key) = (f.instance_id, f.node_key)
    WHERE s.asking IS NOT NULL AND s.state = 'scheduled' AND s.due_at > orch8_now()
        AND COALESCE((s.progress ->> 'asked_at')::timestamptz, '-infinity')
            < orch8_now() - interval '10 seconds'
    FOR UPDATE OF s SKIP LOCKED"""
    found = tx.rows(sql, {"fences": dumps([{"t": t, "f": f} for t, f in fences])})
    hurried = """COALESCE(s.progress, '{}') || '{"hurried": true}'"""
    return _change(tx, found, f"due_at = orch8_now(), progress = {hurried}")


def holder(tx: Tx, tenant_id: str, fence: str) -> Row | None:
    """Who has a fence: instance_id, node_key, since, settled; None when it is free."""
    sql = """SELECT instance_id, node_key, since, settled FROM fences
             WHERE tenant_id = %(t)s AND fence = %(f)s"""
    return tx.one(sql, {"t": tenant_id, "f": fence})


def held(tx: Tx, tenant_id: str | None, *, limit: int = 100, after: str = "") -> list[Row]:
    """The fences that are taken, by name from after one on, each with how many steps wait."""
    sql = """
    SELECT f.tenant_id, f.fence, f.instance_id, f.node_key, f.since, f.settled,
        (SELECT count(*) FROM steps s WHERE (s.tenant_id, s.fence) = (f.tenant_id, f.fence)
            AND s.waits_for = 'fence' AND s.state = 'scheduled') AS waiting
    FROM fences f WHERE (%(t)s::text IS NULL OR f.tenant_id = %(t)s) AND f.fence > %(after)s
    ORDER BY f.fence, f.tenant_id LIMIT %(limit)s"""
    return tx.rows(sql, {"t": tenant_id, "after": after, "limit": limit})


def waiting(tx: Tx, tenant_id: str, fence: str, *, limit: int = 100) -> list[Row]:
    """The steps that wait for a fence, the longest first: instance_id, node_key, created_at."""
    sql = """SELECT instance_id, node_key, created_at FROM steps
             WHERE (tenant_id, fence) = (%(t)s, %(f)s) AND waits_for = 'fence'
                AND state = 'scheduled' ORDER BY created_at LIMIT %(limit)s"""
    return tx.rows(sql, {"t": tenant_id, "f": fence, "limit": limit})
