"""Places in flight: which instances of a concurrency key are under way, and who is next in line.

A place is kept from the first claim to the end of the instance. Whoever frees one gives it to the
first in line, in the order in which the instances were created; nobody overtakes. All who change
the places of a key take turns by an advisory lock, and take it before any lock but those of their
own instances and steps, so that nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from orch8.storage.months import span, within
from orch8.storage.transaction import Row, Tx

NEXT: Final = 100  # of a line that are given places at once
LINES: Final = 200  # keys whose lines are served in one go
PLACE: Final = "place"  # what a step waits for whose instance stands in line
PULLED: Final = "pull worker"  # what a pull step waits for when it has its place


@dataclass(frozen=True, slots=True)
class Place:
    """The place that an instance wants, or has, among at most ``most`` of its key at a time."""

    instance_id: UUID
    tenant_id: str
    key: str
    most: int | None


def holders(tx: Tx, ids: Collection[UUID]) -> set[UUID]:
    """Those of the instances that have a place."""
    sql = "SELECT instance_id FROM places WHERE instance_id = ANY(%(ids)s) AND held_at IS NOT NULL"
    return {row.instance_id for row in tx.rows(sql, {"ids": list(ids)})}


def ask(tx: Tx, wanted: Sequence[Place]) -> set[UUID]:
    """Those of the wanted places that are had once the transaction commits; the other instances
    stand in line. Without a bound there is always a place.
    """
    keys = {(place.tenant_id, place.key) for place in wanted}
    _take_turns(tx, keys)
    sql = """
    INSERT INTO places (instance_id, tenant_id, key, most, asked_at, held_at)
    SELECT i, t, k, m, orch8_now(), CASE WHEN m IS NULL THEN orch8_now() END
    FROM unnest(%(ids)s::uuid[], %(tenants)s::text[], %(keys)s::text[], %(mosts)s::integer[])
        AS r(i, t, k, m)
    ON CONFLICT (instance_id) DO NOTHING"""
    ids = [place.instance_id for place in wanted]
    tx.run(
        sql,
        {
            "ids": ids,
            "tenants": [place.tenant_id for place in wanted],
            "keys": [place.key for place in wanted],
            "mosts": [place.most for place in wanted],
        },
    )
    _serve(tx, keys, ids)
    return holders(tx, ids)


def leave(tx: Tx, left: Sequence[Place]) -> None:
    """The instances have no place any more, nor do they stand in line; the next in line go on."""
    if not left:
        return
    keys = {(place.tenant_id, place.key) for place in left}
    _take_turns(tx, keys)
    sql = "DELETE FROM places WHERE instance_id = ANY(%(ids)s)"
    tx.run(sql, {"ids": [place.instance_id for place in left]})
    _serve(tx, keys, ())


def serve(tx: Tx) -> int:
    """Lines have been served, at most LINES of them, whose next one could not be given its place
    when that was freed, since its steps were being changed just then. How many lines.
    """
    sql = """SELECT DISTINCT tenant_id, key FROM places WHERE missed
             ORDER BY tenant_id, key LIMIT %(most)s"""
    keys = [(row.tenant_id, row.key) for row in tx.rows(sql, {"most": LINES})]
    if keys:
        _take_turns(tx, keys)
        sql = """UPDATE places p SET missed = false
                 FROM unnest(%(tenants)s::text[], %(keys)s::text[]) AS r(t, k)
                 WHERE p.tenant_id = r.t AND p.key = r.k AND p.missed"""
        tx.run(sql, _pairs(keys))
        _serve(tx, keys, ())
    return len(keys)


def standing(tx: Tx, instance_id: UUID) -> Row | None:
    """Of an instance with a key: the key, since when it asks, ``held_at``, how many have a place
    (``under_way``) and how many of its line come before it (``ahead``).
    """
    sql = """
    SELECT p.key, p.most, p.asked_at, p.held_at,
        (SELECT count(*) FROM places h WHERE (h.tenant_id, h.key) = (p.tenant_id, p.key)
            AND h.held_at IS NOT NULL) AS under_way,
        (SELECT count(*) FROM places q WHERE (q.tenant_id, q.key) = (p.tenant_id, p.key)
            AND q.held_at IS NULL AND q.instance_id < p.instance_id) AS ahead
    FROM places p WHERE p.instance_id = %(id)s"""
    return tx.one(sql, {"id": instance_id})


def _take_turns(tx: Tx, keys: Iterable[tuple[str, str]]) -> None:
    """Nobody else changes places of these keys before the transaction ends."""
    sql = """
    SELECT pg_advisory_xact_lock(l.h) FROM (
        SELECT DISTINCT hashtextextended('place ' || t || ' ' || k, 0) AS h
        FROM unnest(%(tenants)s::text[], %(keys)s::text[]) AS r(t, k) ORDER BY 1) l"""
    tx.rows(sql, _pairs(keys))


def _serve(tx: Tx, keys: Iterable[tuple[str, str]], own: Collection[UUID]) -> None:
    """Free places are given to the first in line: to those whose steps stand back, which are due
    then, and to ``own``, whose steps the caller is claiming.
    """
    following = [row.instance_id for row in tx.rows(_FOLLOWING, _pairs(keys) | {"own": list(own)})]
    asking = [each for each in following if each in own]
    waiting = [each for each in following if each not in own]
    woken = _wake(tx, waiting, "FOR UPDATE SKIP LOCKED")
    _wake(tx, asking, "FOR UPDATE")  # other steps of theirs, which stood back before
    given = [*asking, *(each for each in waiting if each in woken)]
    missed = [each for each in waiting if each not in woken]
    for ids, assignment in ((given, "held_at = orch8_now()"), (missed, "missed = true")):
        if ids:
            sql = f"UPDATE places SET {assignment} WHERE instance_id = ANY(%(ids)s)"
            tx.run(sql, {"ids": ids})


def _wake(tx: Tx, ids: Sequence[UUID], lock: str) -> set[UUID]:
    """The steps of these instances that stand back are due; of which instances there were any."""
    if not ids:
        return set()
    rows = tx.rows(_WAKE.format(lock=lock), {"ids": list(ids), **span(ids)})
    return {row.instance_id for row in rows}


def _pairs(keys: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    pairs = list(keys)
    return {"tenants": [tenant for tenant, _ in pairs], "keys": [key for _, key in pairs]}


_STANDS_BACK: Final = """s.waits_for = 'place' AND s.state = 'scheduled'
    AND s.due_at IS NULL AND s.held_due_at IS NULL"""
# Who is paused, or has turned to something else, does not hold up those behind.
_FOLLOWING: Final = f"""
SELECT line.instance_id FROM unnest(%(tenants)s::text[], %(keys)s::text[]) AS r(t, k),
LATERAL (SELECT count(*) AS n FROM places h
    WHERE h.tenant_id = r.t AND h.key = r.k AND h.held_at IS NOT NULL) held,
LATERAL (SELECT q.instance_id,
        bool_and(held.n + q.n < q.most) OVER (ORDER BY q.instance_id) AS has_room
    FROM (SELECT p.instance_id, p.most,
            row_number() OVER (ORDER BY p.instance_id) - 1 AS n
        FROM places p WHERE p.tenant_id = r.t AND p.key = r.k AND p.held_at IS NULL
            AND (p.instance_id = ANY(%(own)s::uuid[]) OR EXISTS (
                SELECT FROM steps s WHERE s.instance_id = p.instance_id AND {_STANDS_BACK}))
        ORDER BY p.instance_id LIMIT {NEXT}) q) line
WHERE line.has_room ORDER BY line.instance_id"""
# An instance of which somebody has a step locked is left for the next time. What a step has to
# itself begins with its place: its deadline, and how long it is offered to pull workers.
_WAKE: Final = f"""
WITH back AS (
    SELECT s.instance_id, s.node_key FROM steps s
    WHERE s.instance_id = ANY(%(ids)s::uuid[]) AND {_STANDS_BACK} AND {within("s.instance_id")}),
locked AS MATERIALIZED (
    SELECT s.instance_id, s.node_key FROM steps s
    WHERE s.instance_id = ANY(%(ids)s::uuid[]) AND {_STANDS_BACK} AND {within("s.instance_id")}
    {{lock}}),
whole AS (
    SELECT l.instance_id FROM locked l GROUP BY l.instance_id
    HAVING count(*) = (SELECT count(*) FROM back b WHERE b.instance_id = l.instance_id))
UPDATE steps s SET due_at = orch8_now(), waits_for = CASE WHEN s.pull THEN '{PULLED}' END,
    deadline_at = s.deadline_at + (orch8_now() - p.asked_at),
    expires_at = s.expires_at + (orch8_now() - p.asked_at)
FROM locked l JOIN places p ON p.instance_id = l.instance_id
WHERE l.instance_id IN (SELECT instance_id FROM whole)
    AND s.instance_id = l.instance_id AND s.node_key = l.node_key AND {within("s.instance_id")}
RETURNING s.instance_id"""
