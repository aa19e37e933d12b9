"""How long the queues of rate-limited keys are, and who may come too late in them.

Unlike what admission reads (orch8/storage/queues.py), this is about whole lines, and their ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from orch8.storage.transaction import Row, Tx, dumps

MOST_KEYS = 10_000  # with a queue that are looked at
MOST_OF_KEY = 10_000  # steps of one key that are counted where there may be many keys
MOST_STEPS = 200_000  # of one key that are counted
MOST_BLOCKS = 500  # of which steps of one key are


def keys(
    tx: Tx, tenant_id: str | None = None, key: str | None = None, limit: int = MOST_KEYS
) -> list[Row]:
    """The keys that steps wait for, narrowed to a tenant or a key, those with the longest queue
    first: tenant_id, limit_key, how many are ``waiting``, counted up to MOST_OF_KEY.
    """
    mine = "" if tenant_id is None else "AND s.tenant_id = %(tenant)s"
    mine += "" if key is None else " AND s.limit_key = %(key)s"
    sql = f"""
    WITH RECURSIVE k AS (
        (SELECT s.tenant_id, s.limit_key FROM steps s WHERE s.limit_key IS NOT NULL {mine}
         ORDER BY s.tenant_id, s.limit_key LIMIT 1)
        UNION ALL
        SELECT n.tenant_id, n.limit_key FROM k, LATERAL (
            SELECT s.tenant_id, s.limit_key FROM steps s WHERE s.limit_key IS NOT NULL {mine}
                AND (s.tenant_id, s.limit_key) > (k.tenant_id, k.limit_key)
            ORDER BY s.tenant_id, s.limit_key LIMIT 1) n)
    SELECT k.tenant_id, k.limit_key, w.waiting FROM (SELECT * FROM k LIMIT %(limit)s) k, LATERAL (
        SELECT count(*) AS waiting FROM (SELECT FROM steps s WHERE s.tenant_id = k.tenant_id
            AND s.limit_key = k.limit_key LIMIT %(most)s) q) w
    ORDER BY w.waiting DESC, k.tenant_id, k.limit_key"""
    return tx.rows(sql, {"tenant": tenant_id, "key": key, "limit": limit, "most": MOST_OF_KEY})


def lengths(tx: Tx, tenant_id: str, key: str, *, age: float, ages: int) -> list[Row]:
    """By ``lane``: how many steps wait for a key and are not admitted yet, by age (``in_line``, a
    list), how many are ``admitted`` and when the ``last`` of those is due, and how many stand aside
    while their instance is ``paused``; counted up to MOST_STEPS. Ages are as in ``queues.lines``.
    """
    by_age = ", ".join(f"count(*) FILTER (WHERE age = {n})" for n in range(ages))
    sql = f"""
    SELECT lane, ARRAY[{by_age}] AS in_line, count(due_at) AS admitted, max(due_at) AS last,
        count(held_due_at) AS paused
    FROM (SELECT lane, due_at, held_due_at, CASE WHEN due_at IS NULL AND held_due_at IS NULL THEN
              LEAST(floor(extract(epoch FROM orch8_now() - queued_at) / %(age)s), %(ages)s - 1) END
              AS age
          FROM steps WHERE tenant_id = %(tenant)s AND limit_key = %(key)s
              AND state = 'scheduled' LIMIT %(most)s) q
    GROUP BY lane ORDER BY lane"""
    params = {"tenant": tenant_id, "key": key, "age": age, "ages": ages, "most": MOST_STEPS}
    return tx.rows(sql, params)


# The last of each line, since they are the first to be late: `place` counts from the front.
_TAILS = """
line AS (SELECT * FROM json_to_recordset(%(lines)s::json) AS l(lane text, length bigint)),
tail AS MATERIALIZED (
    SELECT t.*, line.length + 1 - count(*) FILTER (WHERE t.due_at IS NULL) OVER (
        PARTITION BY t.lane ORDER BY t.queued_at DESC, t.id DESC ROWS UNBOUNDED PRECEDING) AS place
    FROM line, LATERAL (
        SELECT instance_id, node_key, block_id, lane, id, queued_at, deadline_at, due_at FROM steps
        WHERE tenant_id = %(tenant)s AND limit_key = %(key)s AND lane = line.lane
            AND held_due_at IS NULL AND state = 'scheduled'
        ORDER BY queued_at DESC, id DESC LIMIT %(most)s) t)"""


def blocks(
    tx: Tx, tenant_id: str, key: str, lines: Mapping[str, int], most: int
) -> list[tuple[UUID, str]]:
    """The blocks of the last ``most`` steps in each line, each with its sequence's version."""
    sql = f"""WITH {_TAILS}
    SELECT DISTINCT i.sequence_id, t.block_id FROM tail t JOIN instances i ON i.id = t.instance_id
    LIMIT %(blocks)s"""
    params = _tails(tenant_id, key, lines, most) | {"blocks": MOST_BLOCKS}
    return [(row.sequence_id, row.block_id) for row in tx.rows(sql, params)]


# The clock of a run is a step of its own (orch8/blocks/interrupt.py), found by its node key.
_PERHAPS_LATE = f"""WITH {_TAILS},
segment AS (SELECT * FROM json_to_recordset(%(segments)s::json)
    AS g(lane text, first bigint, until bigint, begin double precision, every double precision)),
windowed AS (SELECT * FROM json_to_recordset(%(windowed)s::json) AS w(sequence uuid, block text)),
turn AS (
    SELECT t.*, CASE WHEN t.due_at IS NOT NULL THEN greatest(t.due_at, orch8_now())
        ELSE %(begin)s + (g.begin + (t.place - g.first) * g.every) * interval '1 second' END AS at
    FROM tail t LEFT JOIN segment g ON t.due_at IS NULL AND g.lane = t.lane
        AND t.place >= g.first AND t.place < g.until),
timed AS (
    SELECT t.*, i.sequence_id, i.timezone, c.at AS sla_at, w.block IS NOT NULL AS windowed
    FROM turn t JOIN instances i ON i.id = t.instance_id
    LEFT JOIN windowed w ON w.sequence = i.sequence_id AND w.block = t.block_id
    LEFT JOIN LATERAL (
        SELECT min(COALESCE(s.due_at, s.held_due_at)) AS at FROM steps s
        WHERE i.sequence_id = ANY(%(clocked)s::uuid[]) AND s.instance_id = t.instance_id
            AND s.node_key >= '@sla' AND s.node_key < '@slb' AND s.block_id = '@sla'
            AND s.finished_at IS NULL) c ON true)
SELECT instance_id, node_key, block_id, lane, queued_at, deadline_at, sla_at, at AS turn_at,
    sequence_id, timezone
FROM timed WHERE at IS NOT NULL AND (windowed OR least(deadline_at, sla_at) < at)
ORDER BY at, instance_id"""


def perhaps_late(
    tx: Tx, tenant_id: str, key: str, lines: Mapping[str, int], most: int, *,
    begin: datetime, segments: Iterable[Any], windowed: Sequence[tuple[UUID, str]],
    clocked: Sequence[UUID],
) -> list[Row]:  # fmt: skip
    """Of the last ``most`` steps in each line those whose turn comes after their ``deadline_at`` or
    the ``sla_at`` of their run, and those of a ``windowed`` block; by their turns.

    ``lines`` are, by lane, how many are not admitted yet. ``segments`` (lane, first place, until
    place, seconds from ``begin``, seconds between turns) tell their turns by their place in the
    lane's line. Only runs of the ``clocked`` sequences have an SLA.
    """
    names = ("lane", "first", "until", "begin", "every")
    params = _tails(tenant_id, key, lines, most) | {
        "begin": begin, "clocked": list(clocked),
        "segments": dumps([dict(zip(names, each, strict=True)) for each in segments]),
        "windowed": dumps([{"sequence": s, "block": b} for s, b in windowed]),
    }  # fmt: skip
    return tx.rows(_PERHAPS_LATE, params)


def _tails(tenant_id: str, key: str, lines: Mapping[str, int], most: int) -> dict[str, Any]:
    told = [{"lane": lane, "length": length} for lane, length in lines.items()]
    return {"tenant": tenant_id, "key": key, "most": most, "lines": dumps(told)}
