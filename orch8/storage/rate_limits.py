"""Stated rate limits: what operators and published versions say, and what of that holds.

Of a key's window and of its calls in flight, each by itself, the operator's holds, else the
smallest of the versions that are not deprecated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from orch8.errors import Conflict
from orch8.storage.transaction import Row, Tx, dumps

OPERATOR: Final = "operator"
MOST_KEYS: Final = 20_000  # of one tenant
MOST_SHOWN: Final = 10_000


class Stated(NamedTuple):
    """What one source says of a key: a window, calls in flight, or both."""

    key: str
    maximum: int | None
    window: float | None
    slack: float
    max_in_flight: int | None


_STATED: Final = """
    SELECT l.tenant_id, l.key, l.source, l.max, l.window_seconds, l.slack_seconds, l.max_in_flight
    FROM rate_limits l WHERE (l.source = 'operator'
        OR l.source IN (SELECT q.id::text FROM sequences q WHERE NOT q.deprecated)) {mine}"""


def put(
    tx: Tx, tenant_id: str, source: str, limits: Sequence[Stated], *, most: int = MOST_KEYS
) -> None:
    """The limits of these keys, as this source states them. Raises Conflict when a tenant would
    have a limit for more than ``most`` keys.
    """
    sql = """
    INSERT INTO rate_limits
        (tenant_id, key, source, max, window_seconds, slack_seconds, max_in_flight)
    SELECT %(tenant)s, r.k, %(source)s, r.m, r.w, r.s, r.f
    FROM json_to_recordset(%(rows)s::json)
        AS r(k text, m integer, w double precision, s double precision, f integer)
    ON CONFLICT (tenant_id, key, source) DO UPDATE SET max = excluded.max,
        window_seconds = excluded.window_seconds, slack_seconds = excluded.slack_seconds,
        max_in_flight = excluded.max_in_flight, updated_at = clock_timestamp()"""
    if not limits:
        return
    rows = [dict(zip("kmwsf", each, strict=True)) for each in limits]
    tx.run(sql, {"tenant": tenant_id, "source": source, "rows": dumps(rows)})
    if _keys(tx, tenant_id, most + 1) > most:
        raise Conflict(
            f"the tenant {tenant_id!r} has limits for {most} keys, and more are not kept; take "
            "back those that are not used any more, or state the limit in the step, with a "
            "template as its key"
        )


def _keys(tx: Tx, tenant_id: str, most: int) -> int:
    """For how many keys of a tenant there is a limit, counted up to ``most``."""
    stated = _STATED.format(mine="AND l.tenant_id = %(tenant)s")
    sql = f"""SELECT count(*) AS found FROM (
        SELECT FROM ({stated}) s GROUP BY key LIMIT %(most)s) k"""
    row = tx.one(sql, {"tenant": tenant_id, "most": most})
    assert row is not None
    return int(row.found)


def delete(tx: Tx, tenant_id: str, key: str) -> bool:
    """The operator's limit of a key is gone, the inline ones hold again; whether there was one."""
    sql = """DELETE FROM rate_limits
             WHERE tenant_id = %(tenant)s AND key = %(key)s AND source = 'operator'"""
    return tx.run(sql, {"tenant": tenant_id, "key": key}) == 1


def changed_by(tx: Tx) -> int:
    """A number that is another one whenever other limits may be stated than before."""
    row = tx.one("SELECT txid FROM rate_limit_changes")
    return 0 if row is None else int(row.txid)


def in_force(tx: Tx, tenant_id: str | None = None, key: str | None = None) -> list[Row]:
    """What holds for each key, of one tenant or one key if asked: tenant_id, key, max,
    window_seconds, slack_seconds, max_in_flight. As many as are stated, which ``put`` bounds.
    """
    mine, params = _mine(tenant_id, key)
    sql = f"""
    WITH stated AS MATERIALIZED ({_STATED.format(mine=mine)})
    SELECT tenant_id, key, w.max, w.window_seconds, w.slack_seconds, f.max_in_flight
    FROM (SELECT DISTINCT ON (tenant_id, key) * FROM stated WHERE max IS NOT NULL
          ORDER BY tenant_id, key, source <> 'operator', max / window_seconds, source) w
    FULL JOIN (SELECT DISTINCT ON (tenant_id, key) tenant_id, key, max_in_flight FROM stated
          WHERE max_in_flight IS NOT NULL
          ORDER BY tenant_id, key, source <> 'operator', max_in_flight) f USING (tenant_id, key)"""
    return tx.rows(sql, params)


def stated(
    tx: Tx, tenant_id: str | None = None, key: str | None = None, limit: int = MOST_SHOWN
) -> list[Row]:
    """Every stated limit that may hold, with its ``source``: an operator's, or an inline one of a
    version that is not deprecated. Each says how many there are in all (``total``).
    """
    mine, params = _mine(tenant_id, key)
    sql = f"""SELECT s.*, count(*) OVER () AS total FROM ({_STATED.format(mine=mine)}) s
              ORDER BY tenant_id, key, source LIMIT %(limit)s"""
    return tx.rows(sql, params | {"limit": limit})


def _mine(tenant_id: str | None, key: str | None) -> tuple[str, dict[str, Any]]:
    mine = "" if tenant_id is None else "AND l.tenant_id = %(tenant)s"
    mine += "" if key is None else " AND l.key = %(key)s"
    return mine, {"tenant": tenant_id, "key": key}
