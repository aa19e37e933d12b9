"""Processes and their leases; handlers' addresses; pull workers; keys without a limit."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from orch8.storage.transaction import Row, Tx

WORKER, API = "worker", "api"  # roles: a web process has a row, too, and claims nothing


def enlist(
    tx: Tx, worker_id: UUID, node: str, lanes: list[str], lease: float, role: str = WORKER
) -> None:
    """A process is known and holds a lease of ``lease`` seconds."""
    sql = """INSERT INTO workers (id, node, role, lanes, lease_until)
             VALUES (%(id)s, %(node)s, %(role)s, %(lanes)s,
                 clock_timestamp() + %(lease)s * interval '1 second')"""
    tx.run(sql, {"id": worker_id, "node": node, "role": role, "lanes": lanes, "lease": lease})


def extend(
    tx: Tx, worker_id: UUID, lanes: list[str], calls: int, lease: float, *, resting: bool = False
) -> Row | None:
    """The lease of a process, and with it every claim it holds, is extended: whether it is
    ``draining``, and whether it is ``drained``, as one is that claims nothing any more
    (``resting``) and holds nothing. None when the lease is lost already.
    """
    sql = """UPDATE workers w SET lanes = %(lanes)s, calls = %(calls)s,
                 heartbeat_at = clock_timestamp(),
                 lease_until = clock_timestamp() + %(lease)s * interval '1 second',
                 drained_at = CASE WHEN %(resting)s AND NOT EXISTS (
                     SELECT FROM steps s WHERE s.claimed_by = w.id)
                     THEN COALESCE(drained_at, clock_timestamp()) END
             WHERE id = %(id)s AND lease_until > clock_timestamp()
             RETURNING draining_at IS NOT NULL AS draining, drained_at IS NOT NULL AS drained"""
    params = {
        "id": worker_id, "lanes": lanes, "calls": calls, "lease": lease, "resting": resting,
    }  # fmt: skip
    return tx.one(sql, params)


def drain(tx: Tx, node_id: UUID) -> Row | None:
    """The process is to claim nothing any more, which it learns with its next heartbeat: its
    ``node`` and whether this is ``news``. None if there is no such process.
    """
    sql = """UPDATE workers w SET draining_at = COALESCE(w.draining_at, clock_timestamp())
             FROM (SELECT id, draining_at FROM workers WHERE id = %(id)s FOR UPDATE) was
             WHERE w.id = was.id RETURNING w.node, was.draining_at IS NULL AS news"""
    return tx.one(sql, {"id": node_id})


def dismiss(tx: Tx, worker_id: UUID) -> None:
    """A worker process that holds nothing is forgotten; one that holds something is expired, so
    that a tick takes its claims back.
    """
    sql = """WITH idle AS (DELETE FROM workers w WHERE w.id = %(id)s AND NOT EXISTS (
                 SELECT FROM steps s WHERE s.claimed_by = w.id) RETURNING id)
             UPDATE workers SET lease_until = '-infinity'
             WHERE id = %(id)s AND NOT EXISTS (SELECT FROM idle)"""
    tx.run(sql, {"id": worker_id})


def lost_workers(tx: Tx, limit: int) -> list[Row]:
    """Worker processes whose lease is over, locked; one that another tick works on is left out."""
    sql = """SELECT id, node FROM workers WHERE lease_until < clock_timestamp()
             ORDER BY lease_until LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""
    return tx.rows(sql, {"limit": limit})


def fleet(tx: Tx, limit: int = 1000) -> list[Row]:
    """Every known worker process: id, node, lanes, started_at, lease_until, calls, alive."""
    sql = """SELECT id, node, lanes, started_at, lease_until, calls,
                 lease_until > clock_timestamp() AS alive
             FROM workers WHERE role = 'worker' ORDER BY started_at, id LIMIT %(limit)s"""
    return tx.rows(sql, {"limit": limit})


def nodes(tx: Tx, limit: int = 1000) -> list[Row]:
    """Every known process, web processes too: id, node, role, lanes, calls, started_at,
    heartbeat_at, draining_at, drained_at, alive.
    """
    sql = """SELECT id, node, role, lanes, calls, started_at, heartbeat_at, draining_at, drained_at,
                 lease_until > clock_timestamp() AS alive
             FROM workers ORDER BY started_at, id LIMIT %(limit)s"""
    return tx.rows(sql, {"limit": limit})


# -- handlers ------------------------------------------------------------------------------------
def put_handler(
    tx: Tx, tenant_id: str, name: str, *, url: str | None, effect: str | None, timeout: float | None
) -> Row:
    """Where a tenant's handler is reached, and what it may do."""
    sql = """INSERT INTO handlers (tenant_id, name, url, effect, timeout)
             VALUES (%(tenant)s, %(name)s, %(url)s, %(effect)s, %(timeout)s)
             ON CONFLICT (tenant_id, name) DO UPDATE SET url = excluded.url,
                 effect = excluded.effect, timeout = excluded.timeout,
                 updated_at = clock_timestamp()
             RETURNING tenant_id, name, url, effect, timeout, updated_at"""
    row = tx.one(
        sql, {"tenant": tenant_id, "name": name, "url": url, "effect": effect, "timeout": timeout}
    )
    assert row is not None
    return row


def delete_handler(tx: Tx, tenant_id: str, name: str) -> bool:
    """The handler's address is forgotten; whether there was one."""
    sql = "DELETE FROM handlers WHERE tenant_id = %(tenant)s AND name = %(name)s"
    return tx.run(sql, {"tenant": tenant_id, "name": name}) == 1


def handlers(tx: Tx, tenant_id: str | None = None, limit: int = 10_000) -> list[Row]:
    """The registered handlers."""
    sql = """SELECT tenant_id, name, url, effect, timeout, updated_at FROM handlers
             WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
             ORDER BY tenant_id, name LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


# -- pull workers --------------------------------------------------------------------------------
def seen_pull_worker(
    tx: Tx, tenant_id: str, worker_id: str, handler: str, queue: str | None, version: str | None
) -> None:
    """A pull worker has polled for a handler."""
    sql = """INSERT INTO pull_workers (tenant_id, worker_id, handlers, queues, version)
             VALUES (%(tenant)s, %(worker)s, ARRAY[%(handler)s],
                 CASE WHEN %(queue)s::text IS NULL THEN '{}'::text[] ELSE ARRAY[%(queue)s] END,
                 %(version)s)
             ON CONFLICT (tenant_id, worker_id) DO UPDATE SET last_seen_at = clock_timestamp(),
                 version = excluded.version,
                 handlers = ARRAY(SELECT DISTINCT
                     unnest(pull_workers.handlers || excluded.handlers) LIMIT 200),
                 queues = ARRAY(SELECT DISTINCT
                     unnest(pull_workers.queues || excluded.queues) LIMIT 200)"""
    tx.run(
        sql,
        {
            "tenant": tenant_id,
            "worker": worker_id,
            "handler": handler,
            "queue": queue,
            "version": version,
        },
    )


def pull_workers(tx: Tx, tenant_id: str | None, limit: int = 1000) -> list[Row]:
    """The pull workers that have polled, the last seen first."""
    sql = """SELECT tenant_id, worker_id, handlers, queues, version, last_seen_at FROM pull_workers
             WHERE %(tenant)s::text IS NULL OR tenant_id = %(tenant)s
             ORDER BY last_seen_at DESC LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})


def live_pull_workers(tx: Tx, tenant_id: str, seconds: float, limit: int = 1000) -> list[Row]:
    """The tenant's pull workers that polled in the last ``seconds``: worker_id, handlers, queues,
    version, last_seen_at.
    """
    sql = """SELECT worker_id, handlers, queues, version, last_seen_at FROM pull_workers
             WHERE tenant_id = %(tenant)s
                 AND last_seen_at > clock_timestamp() - %(seconds)s * interval '1 second'
             ORDER BY last_seen_at DESC LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "seconds": seconds, "limit": limit})


# -- rate limits ---------------------------------------------------------------------------------
UNLIMITED_KEPT = 1000  # keys of a tenant
UNLIMITED_DAYS = 7


def count_unlimited(tx: Tx, calls: Sequence[tuple[str, str, int]]) -> None:
    """So many more calls, by tenant and key, were made without a limit. Of each tenant the first
    UNLIMITED_KEPT keys of the last UNLIMITED_DAYS days are kept.
    """
    old = """DELETE FROM unlimited_keys
             WHERE last_at < clock_timestamp() - %(days)s * interval '1 day'"""
    tx.run(old, {"days": UNLIMITED_DAYS})
    sql = """INSERT INTO unlimited_keys AS u (tenant_id, key, calls)
             SELECT r.tenant, r.key, r.calls FROM
                 unnest(%(tenants)s::text[], %(keys)s::text[], %(calls)s::bigint[])
                     AS r(tenant, key, calls)
             WHERE EXISTS (SELECT FROM unlimited_keys k
                     WHERE k.tenant_id = r.tenant AND k.key = r.key)
                 OR (SELECT count(*) FROM unlimited_keys k WHERE k.tenant_id = r.tenant) < %(most)s
             ON CONFLICT (tenant_id, key) DO UPDATE SET calls = u.calls + excluded.calls,
                 last_at = clock_timestamp()"""
    tenants, keys, counts = zip(*calls, strict=True)
    params = {"tenants": list(tenants), "keys": list(keys), "calls": list(counts)}
    tx.run(sql, params | {"most": UNLIMITED_KEPT})


def unlimited(tx: Tx, tenant_id: str | None, limit: int = UNLIMITED_KEPT) -> list[Row]:
    """The keys that steps are called with without a limit, the busiest first: tenant_id, key,
    calls, first_at, last_at. One for which there is a limit by now is left out.
    """
    sql = """SELECT u.tenant_id, u.key, u.calls, u.first_at, u.last_at FROM unlimited_keys u
             WHERE (%(tenant)s::text IS NULL OR u.tenant_id = %(tenant)s)
                 AND NOT EXISTS (SELECT FROM rate_limits l WHERE l.tenant_id = u.tenant_id
                     AND l.key = u.key AND (l.source = 'operator' OR EXISTS (
                         SELECT FROM sequences q WHERE q.id::text = l.source AND NOT q.deprecated)))
             ORDER BY u.calls DESC, u.tenant_id, u.key LIMIT %(limit)s"""
    return tx.rows(sql, {"tenant": tenant_id, "limit": limit})
