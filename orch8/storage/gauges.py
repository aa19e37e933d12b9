"""What monitoring asks for: backlog per lane, doubts, parked steps; counted with a bound."""

from __future__ import annotations

from orch8.storage.transaction import Row, Tx

MOST = 10_000  # rows counted of any one lane
LANES = 500


def backlog(tx: Tx) -> list[Row]:
    """For each lane with timed steps: ``lane``, how many are ``due``, ``oldest_seconds`` late."""
    sql = """
    WITH RECURSIVE l AS (
        (SELECT lane FROM steps WHERE due_at IS NOT NULL ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT n.lane FROM l, LATERAL (SELECT s.lane FROM steps s WHERE s.due_at IS NOT NULL
            AND s.lane > l.lane ORDER BY s.lane LIMIT 1) n)
    SELECT l.lane, count(d.due_at) AS due,
        COALESCE(extract(epoch FROM orch8_now() - min(d.due_at)), 0)::float8 AS oldest_seconds
    FROM (SELECT lane FROM l LIMIT %(lanes)s) l LEFT JOIN LATERAL (
        SELECT s.due_at FROM steps s WHERE s.lane = l.lane AND s.due_at <= (SELECT orch8_now())
        ORDER BY s.due_at LIMIT %(most)s) d ON true
    GROUP BY l.lane ORDER BY l.lane"""
    return tx.rows(sql, {"lanes": LANES, "most": MOST})


def doubts(tx: Tx) -> list[Row]:
    """For each provider with attempts in doubt: ``provider``, how many, ``oldest_seconds``; counted
    up to MOST in all. A step that names no provider has the provider "none".
    """
    sql = """
    SELECT COALESCE(provider, 'none') AS provider, count(*) AS doubts,
        extract(epoch FROM clock_timestamp() - min(opened_at))::float8 AS oldest_seconds
    FROM (SELECT provider, opened_at FROM doubts WHERE resolved_at IS NULL LIMIT %(most)s) d
    GROUP BY 1 ORDER BY doubts DESC, 1 LIMIT %(lanes)s"""
    return tx.rows(sql, {"most": MOST, "lanes": LANES})


def resolutions(tx: Tx) -> list[Row]:
    """How doubts were resolved since there is a table of them: ``resolved_by`` and how many."""
    sql = """SELECT resolved_by, count(*) AS doubts FROM doubts WHERE resolved_at IS NOT NULL
             GROUP BY resolved_by ORDER BY resolved_by LIMIT %(lanes)s"""
    return tx.rows(sql, {"lanes": LANES})


def needing_people(tx: Tx) -> Row:
    """How much waits for a person: ``incidents`` that are open, and steps that are ``parked``;
    each counted up to MOST.
    """
    sql = """
    SELECT (SELECT count(*) FROM (SELECT FROM incidents WHERE closed_at IS NULL
                LIMIT %(most)s) n) AS incidents,
        (SELECT count(*) FROM (SELECT FROM steps WHERE attention IS NOT NULL AND state = 'parked'
                LIMIT %(most)s) s) AS parked"""
    return tx.one(sql, {"most": MOST})


def lanes(tx: Tx, prefix: str) -> list[str]:
    """The lanes with timed steps whose names begin with ``prefix``, at most LANES of them."""
    sql = """
    WITH RECURSIVE l AS (
        (SELECT s.lane FROM steps s WHERE s.due_at IS NOT NULL AND s.lane >= %(prefix)s
         ORDER BY s.lane LIMIT 1)
        UNION ALL
        SELECT n.lane FROM l, LATERAL (SELECT s.lane FROM steps s WHERE s.due_at IS NOT NULL
            AND s.lane > l.lane ORDER BY s.lane LIMIT 1) n
        WHERE starts_with(l.lane, %(prefix)s))
    SELECT lane FROM l WHERE starts_with(lane, %(prefix)s) LIMIT %(lanes)s"""
    return [row.lane for row in tx.rows(sql, {"prefix": prefix, "lanes": LANES})]
