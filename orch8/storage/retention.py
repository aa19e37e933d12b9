"""Deleting what is over: ended instances and worker processes that are gone."""

from __future__ import annotations

from datetime import timedelta

from orch8.storage.transaction import Tx

# OFFSET 0 keeps the look at an instance's steps and parent one of its own. Joined, each batch reads
# all of `steps`, since the planner takes live ones for rare.
_OLD = """
    SELECT i.id, i.tenant_id, i.idempotency_key FROM instances i
    WHERE i.finished_at < (SELECT orch8_now()) - %(age)s
        AND NOT EXISTS (SELECT FROM steps s WHERE s.instance_id = i.id
            AND s.state IN ('scheduled', 'running', 'sleeping', 'waiting', 'parked') OFFSET 0)
        AND NOT EXISTS (SELECT FROM doubts d
            WHERE d.instance_id = i.id AND d.resolved_at IS NULL)
        AND NOT EXISTS (SELECT FROM incidents n
            WHERE n.instance_id = i.id AND n.closed_at IS NULL)
        AND NOT EXISTS (SELECT FROM instances p
            WHERE p.id = i.parent_instance_id AND p.finished_at IS NULL OFFSET 0)
    ORDER BY i.id LIMIT %(limit)s"""


def delete_ended(tx: Tx, older_than: timedelta, limit: int) -> int:
    """Up to ``limit`` instances that ended that long ago are deleted with their steps, contexts,
    state, signals, checkpoints, traces, waits for events, what happened to their tasks and
    idempotency keys; those with a live step, an open doubt or incident, or a parent that still runs
    stay. How many.
    """
    sql = f"""
    WITH old AS MATERIALIZED ({_OLD} FOR UPDATE OF i SKIP LOCKED),
    keys_gone AS (DELETE FROM instance_keys k USING old WHERE k.tenant_id = old.tenant_id
        AND k.key = old.idempotency_key AND k.instance_id = old.id),
    steps_gone AS (DELETE FROM steps s USING old WHERE s.instance_id = old.id),
    contexts_gone AS (DELETE FROM contexts c USING old WHERE c.instance_id = old.id),
    state_gone AS (DELETE FROM instance_state k USING old WHERE k.instance_id = old.id),
    waits_gone AS (DELETE FROM event_waits w USING old WHERE w.instance_id = old.id),
    traces_gone AS (DELETE FROM traces t USING old WHERE t.instance_id = old.id),
    events_gone AS (DELETE FROM task_events e USING old WHERE e.instance_id = old.id),
    logs_gone AS (DELETE FROM task_logs l USING old WHERE l.instance_id = old.id),
    checkpoints_gone AS (DELETE FROM checkpoints k USING old WHERE k.instance_id = old.id),
    signals_gone AS (DELETE FROM signals g USING old WHERE g.instance_id = old.id)
    DELETE FROM instances i USING old WHERE i.id = old.id"""
    # A few long fan-outs have more rows than are deleted within the time of other statements.
    tx.run("SET LOCAL statement_timeout = '10min'", {})
    return tx.run(sql, {"age": older_than, "limit": limit})


def count_ended(tx: Tx, older_than: timedelta, limit: int) -> int:
    """How many instances delete_ended would delete, counted up to ``limit``."""
    sql = f"SELECT count(*) AS n FROM ({_OLD}) old"
    row = tx.one(sql, {"age": older_than, "limit": limit})
    return 0 if row is None else int(row.n)


def forget_workers(tx: Tx) -> int:
    """Worker processes whose lease ended a day ago and that hold nothing are forgotten."""
    sql = """DELETE FROM workers w WHERE w.lease_until < clock_timestamp() - interval '1 day'
             AND NOT EXISTS (SELECT FROM steps s WHERE s.claimed_by = w.id)"""
    return tx.run(sql)
