"""Queues: what is due in each lane and whose it is; who waits for a rate-limited key.

The age of a waiting step is counted in whole spans of ``age`` seconds of business time, up to
``ages`` - 1. ``waiting`` is how many there are of each age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from orch8.storage.months import span, within
from orch8.storage.steps import EVER
from orch8.storage.transaction import Row, Tx, dumps

Key = tuple[str, str]  # tenant and key
Line = tuple[str, str, str]  # and lane

IN_LINE: Final = 2500  # steps of a key and lane that are looked at: a few more than are admitted
FIRST: Final = 20  # of those, how many are asked what they cost


def due_by_age(
    tx: Tx, lanes: Mapping[str, datetime], most: int, *, age: float, ages: int
) -> list[Row]:
    """How many steps of each ``lane`` are due from a moment on, ``waiting`` by age, and since when
    the ``first`` of them is; of the longest due at most ``most`` are counted, and lanes without any
    are left out.
    """
    sql = f"""
    WITH n AS MATERIALIZED (SELECT orch8_now() AS now)
    SELECT l.lane, {_by_age("d.due_at", ages)} AS waiting, min(d.due_at) AS first
    FROM n, unnest(%(lanes)s, %(since)s::timestamptz[]) AS l(lane, since),
    LATERAL (SELECT s.due_at FROM steps s
        WHERE s.lane = l.lane AND s.due_at >= l.since AND s.due_at <= n.now
        ORDER BY s.due_at LIMIT %(most)s) d
    GROUP BY l.lane"""
    params = {"lanes": list(lanes), "since": list(lanes.values()), "most": most, "age": age}
    return tx.rows(sql, params)


def tenants(
    tx: Tx, lane: str, *, after: str, visits: int, most: int, since: datetime = EVER
) -> list[Row]:
    """Of the next ``visits`` tenants with timed steps in a lane from ``since`` on, in the order of
    their ids from ``after`` on: ``tenant_id``, ``due_at`` of the first, and how many are ``due``,
    counted up to ``most``.
    """
    sql = """
    WITH RECURSIVE t AS (
        (SELECT tenant_id, due_at, 1 AS n FROM steps
         WHERE lane = %(lane)s AND due_at >= %(since)s AND tenant_id > %(after)s
         ORDER BY tenant_id, due_at LIMIT 1)
        UNION ALL
        SELECT x.tenant_id, x.due_at, t.n + 1 FROM t, LATERAL (
            SELECT s.tenant_id, s.due_at FROM steps s
            WHERE s.lane = %(lane)s AND s.due_at >= %(since)s AND s.tenant_id > t.tenant_id
            ORDER BY s.tenant_id, s.due_at LIMIT 1) x
        WHERE t.n < %(visits)s)
    SELECT t.tenant_id, t.due_at, CASE WHEN t.due_at <= orch8_now() THEN (
        SELECT count(*) FROM (SELECT FROM steps s WHERE s.lane = %(lane)s
            AND s.tenant_id = t.tenant_id AND s.due_at >= %(since)s
            AND s.due_at <= (SELECT orch8_now())
            ORDER BY s.due_at LIMIT %(most)s) d) ELSE 0 END AS due
    FROM t ORDER BY t.tenant_id"""
    params = {"lane": lane, "after": after, "visits": visits, "most": most, "since": since}
    return tx.rows(sql, params)


def _by_age(since: str, ages: int) -> str:
    """An array: how many of the rows there are of each age, NULLs left out. The time is ``n.now``,
    since orch8_now() would be asked for every row.
    """

    def bound(n: int) -> str:
        return f"n.now - {n} * %(age)s * interval '1 second'"

    counts = [f"count(*) FILTER (WHERE {since} > {bound(1)})"]
    for n in range(1, ages - 1):
        between = f"{since} <= {bound(n)} AND {since} > {bound(n + 1)}"
        counts.append(f"count(*) FILTER (WHERE {between})")
    counts.append(f"count(*) FILTER (WHERE {since} <= {bound(ages - 1)})")
    return f"ARRAY[{', '.join(counts)}]"


# -- rate-limited keys ---------------------------------------------------------------------------
_UNDER: Final = "COALESCE({0}.progress -> 'deferred_under', {0}.progress -> 'limit')"
_COST: Final = """CASE jsonb_typeof({0}.under -> 'weight') WHEN 'number'
    THEN ({0}.under -> 'weight')::float8 END"""
_OF_THE_FIRST: Final = """
    (array_agg(f.under ORDER BY f.queued_at, f.id))[1] AS deferred_under,
    (array_agg(f.progress ->> 'free_at' ORDER BY f.queued_at, f.id))[1]::timestamptz AS free_at"""
_LANES_OF_KEY: Final = """
    WITH RECURSIVE l AS (
        (SELECT lane FROM steps WHERE tenant_id = {tenant} AND limit_key = {key}
         ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT n.lane FROM l, LATERAL (
            SELECT s.lane FROM steps s WHERE s.tenant_id = {tenant} AND s.limit_key = {key}
                AND s.lane > l.lane ORDER BY s.lane LIMIT 1) n)"""


def keys(tx: Tx, after: Key | None, limit: int) -> list[Row]:
    """The first keys that steps wait for behind ``after`` (tenant and key), or of all: tenant_id,
    limit_key.
    """
    behind = "" if after is None else "AND (tenant_id, limit_key) > (%(tenant)s, %(key)s)"
    sql = f"""
    WITH RECURSIVE k AS (
        (SELECT tenant_id, limit_key FROM steps WHERE limit_key IS NOT NULL {behind}
         ORDER BY tenant_id, limit_key LIMIT 1)
        UNION ALL
        SELECT n.tenant_id, n.limit_key FROM k, LATERAL (
            SELECT s.tenant_id, s.limit_key FROM steps s WHERE s.limit_key IS NOT NULL
                AND (s.tenant_id, s.limit_key) > (k.tenant_id, k.limit_key)
            ORDER BY s.tenant_id, s.limit_key LIMIT 1) n)
    SELECT tenant_id, limit_key FROM k LIMIT %(limit)s"""
    tenant, key = after or (None, None)
    return tx.rows(sql, {"tenant": tenant, "key": key, "limit": limit})


def look_after(tx: Tx, keys: Sequence[Key]) -> list[Key]:
    """The keys whose queues this transaction looks after now, and no other one."""
    sql = """SELECT k.tenant, k.key FROM unnest(%(tenants)s::text[], %(keys)s::text[])
                 AS k(tenant, key)
             WHERE pg_try_advisory_xact_lock(hashtextextended(k.tenant || '/' || k.key, 8))"""
    return [(row.tenant, row.key) for row in tx.rows(sql, _asked(keys))]


def lines(tx: Tx, keys: Sequence[Key], *, age: float, ages: int) -> list[Row]:
    """For each key (``tenant_id``, ``limit_key``) each ``lane`` with steps in its queue, and of the
    first of them: how many are ``admitted`` already, when the ``last`` of those is due, how many
    are ``waiting`` by age (a list), the limit the first was ``deferred_under`` and when that would
    be ``free_at``, the units that FIRST of them ``cost`` on average, and ``now``.
    """
    # One statement for many keys: to plan it, for every month, takes longer than to carry it out.
    sql = f"""
    WITH n AS MATERIALIZED (SELECT orch8_now() AS now)
    SELECT k.tenant_id, k.limit_key, l.lane, q.*, first.*, n.now
    FROM n, unnest(%(tenants)s::text[], %(keys)s::text[]) AS k(tenant_id, limit_key),
    LATERAL ({_LANES_OF_KEY.format(tenant="k.tenant_id", key="k.limit_key")} SELECT lane FROM l) l,
    LATERAL (
        SELECT count(f.due_at) AS admitted, max(f.due_at) AS last,
            {_by_age("f.since", ages)} AS waiting
        FROM (SELECT s.due_at, CASE WHEN s.due_at IS NULL AND s.held_due_at IS NULL
                  AND s.state = 'scheduled' THEN s.queued_at END AS since
              FROM steps s WHERE s.tenant_id = k.tenant_id AND s.limit_key = k.limit_key
                  AND s.lane = l.lane
              ORDER BY s.queued_at, s.id LIMIT %(most)s) f) q,
    LATERAL (
        SELECT {_OF_THE_FIRST}, avg({_COST.format("f")}) AS cost
        FROM (SELECT s.queued_at, s.id, s.progress, {_UNDER.format("s")} AS under
              FROM steps s WHERE s.tenant_id = k.tenant_id AND s.limit_key = k.limit_key
                  AND s.lane = l.lane
              ORDER BY s.queued_at, s.id LIMIT {FIRST}) f) first
    ORDER BY k.tenant_id, k.limit_key, l.lane"""
    return tx.rows(sql, _asked(keys) | {"age": age, "most": IN_LINE})


def queue_state(tx: Tx, tenant_id: str, key: str) -> Row:
    """Of a key's queue, all lanes together: how many are ``admitted`` already, when the ``last`` of
    those is due, the limit the first was ``deferred_under`` and when that would be ``free_at``,
    the units that they ``cost`` on average, and ``now``.
    """
    sql = f"""
    {_LANES_OF_KEY.format(tenant="%(tenant)s", key="%(key)s")}
    SELECT count(f.due_at) AS admitted, max(f.due_at) AS last, {_OF_THE_FIRST},
           avg({_COST.format("f")}) AS cost, orch8_now() AS now
    FROM l, LATERAL (SELECT s.due_at, s.progress, s.queued_at, s.id, {_UNDER.format("s")} AS under
        FROM steps s WHERE s.tenant_id = %(tenant)s AND s.limit_key = %(key)s AND s.lane = l.lane
        ORDER BY s.queued_at, s.id LIMIT %(most)s) f"""
    return tx.one(sql, {"tenant": tenant_id, "key": key, "most": IN_LINE})


def next_in_line(tx: Tx, counts: Mapping[Line, int]) -> list[Row]:
    """The first so many steps of each line that are not admitted, in the order in which they came:
    ``n``, which counts the lines, ``instance_id``, ``node_key`` and the units that each ``cost``s.
    Nobody else admits them while this transaction lasts.
    """
    sql = f"""
    SELECT p.n, s.instance_id, s.node_key, {_COST.format("s")} AS cost
    FROM json_to_recordset(%(lines)s::json)
        AS p(n integer, tenant text, key text, lane text, most integer),
    LATERAL (SELECT w.instance_id, w.node_key, {_UNDER.format("w")} AS under FROM steps w
        WHERE w.tenant_id = p.tenant AND w.limit_key = p.key AND w.lane = p.lane
            AND w.due_at IS NULL AND w.held_due_at IS NULL AND w.state = 'scheduled'
        ORDER BY w.queued_at, w.id LIMIT p.most FOR UPDATE SKIP LOCKED) s"""
    asked = [
        {"n": n, "tenant": tenant, "key": key, "lane": lane, "most": most}
        for n, ((tenant, key, lane), most) in enumerate(counts.items())
    ]
    return tx.rows(sql, {"lines": dumps(asked)}) if asked else []


def admit(tx: Tx, due: Sequence[tuple[Row, datetime]]) -> int:
    """Steps of ``next_in_line`` are due at these moments; how many they were."""
    if not due:
        return 0
    rows = [{"i": row.instance_id, "k": row.node_key, "at": at} for row, at in due]
    # By itself, since a statement that finds its rows would be planned to update every month.
    sql = f"""
    UPDATE steps s SET due_at = r.at
    FROM json_to_recordset(%(rows)s::json) AS r(i uuid, k text, at timestamptz)
    WHERE s.instance_id = r.i AND s.node_key = r.k AND {within("s.instance_id")}"""
    return tx.run(sql, {"rows": dumps(rows)} | span(row.instance_id for row, _ in due))


def _asked(keys: Sequence[Key]) -> dict[str, Any]:
    return {"tenants": [tenant for tenant, _ in keys], "keys": [key for _, key in keys]}
