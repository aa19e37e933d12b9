"""Partitions of months: which there are, made ahead; what holds one back; detaching and dropping.

A month is detached and dropped by the owner of the tables. Making one ahead is a function of the
database that the application's role may call as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from orch8.storage.ids import first_of
from orch8.storage.instances import FIRST
from orch8.storage.months import OWNED, PARTITIONED, Month
from orch8.storage.transaction import Row, Tx

AHEAD: Final = 2  # months after the present one; the function in the database makes as many
MOST: Final = 10_000  # rows that are counted of any one obstacle
_TO: Final = re.compile(r"FROM \((MINVALUE|'[0-9a-f-]{36}')\) TO \('([0-9a-f-]{36})'\)")
_TO_DROP: Final = "Detached by orch8 prune, which drops it when its keys are free."
_TO_KEEP: Final = "Detached by orch8 prune, to be archived and dropped by hand."


@dataclass(frozen=True, slots=True)
class Stored:
    """A month that has partitions, and which ids they take: from ``low`` on, below ``high``. The
    oldest one may take everything before it as well. ``over``: it has ended for more than a day.
    ``instances`` is what the last ANALYZE counted.
    """

    month: Month
    low: UUID
    high: UUID
    over: bool
    instances: int


# -- ahead ---------------------------------------------------------------------------------------
def lacking(tx: Tx) -> list[str]:
    """The tables without a partition for the last of the months ahead."""
    sql = """SELECT t.name FROM unnest(%(tables)s) AS t(name)
             WHERE to_regclass(t.name || to_char(date_trunc('month',
                 clock_timestamp() AT TIME ZONE 'UTC') + %(ahead)s * interval '1 month',
                 '_YYYY_MM')) IS NULL"""
    rows = tx.rows(sql, {"tables": list(PARTITIONED), "ahead": AHEAD})
    return [row.name for row in rows]


def make_ahead(tx: Tx, table: str) -> int:
    """The months to come have their partitions in a table; how many are new. What came before its
    month's partition was there moves into it.
    """
    row = tx.one("SELECT orch8_months_ahead(%(table)s) AS made", {"table": table})
    return 0 if row is None else int(row.made)


def strays(tx: Tx) -> int:
    """How many instances are in no month that has a partition, up to MOST: they came before it was
    made, or from a process whose clock is wrong.
    """
    sql = "SELECT count(*) AS n FROM (SELECT FROM instances_rest LIMIT %(most)s) r"
    row = tx.one(sql, {"most": MOST})
    return 0 if row is None else int(row.n)


# -- what there is -------------------------------------------------------------------------------
def stored(tx: Tx) -> list[Stored]:
    """The months that have partitions, the oldest first."""
    sql = r"""
    SELECT right(c.relname, 7) AS month, pg_get_expr(c.relpartbound, c.oid) AS bound,
        greatest(c.reltuples, 0)::bigint AS instances, clock_timestamp() AS now
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'instances'::regclass AND c.relname ~ '^instances_\d{4}_\d{2}$'
    ORDER BY c.relname LIMIT 1200"""
    return [_stored(row) for row in tx.rows(sql)]


def _stored(row: Row) -> Stored:
    bounds = _TO.search(row.bound)
    assert bounds is not None, row.bound
    low, high = bounds[1].strip("'"), UUID(bounds[2])
    return Stored(
        Month.named(row.month),
        FIRST if low == "MINVALUE" else UUID(low),
        high,
        over=high < first_of(row.now - timedelta(days=1)),
        instances=row.instances,
    )


def leftovers(tx: Tx) -> list[Month]:
    """The months that were detached to be dropped, and that a prune which broke off left behind."""
    sql = r"""
    SELECT right(relname, 7) AS month FROM pg_class
    WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'instances'::regclass)
        AND NOT relispartition AND relname ~ '^instances_\d{4}_\d{2}$'
        AND obj_description(oid, 'pg_class') = %(mark)s
    ORDER BY relname LIMIT 1200"""
    return [Month.named(row.month) for row in tx.rows(sql, {"mark": _TO_DROP})]


# -- what holds a month back ---------------------------------------------------------------------
def obstacles(tx: Tx, month: Stored, age: timedelta) -> dict[str, int]:
    """How many of what keeps a month from being pruned, as far as indexes tell; those there are
    none of are left out, of any one at most MOST are counted.
    """
    return _counted(
        tx, month, age,
        open_instances="instances WHERE {id} AND finished_at IS NULL",
        recently_ended="instances WHERE {id} AND finished_at >= (SELECT orch8_now()) - %(age)s",
        parked_steps="steps WHERE {owner} AND attention IS NOT NULL AND state = 'parked'",
        open_doubts="doubts WHERE {owner} AND resolved_at IS NULL",
        open_incidents="incidents WHERE {owner} AND closed_at IS NULL",
        # The partial index holds the children alone only if the condition says so itself.
        living_parents="instances i WHERE {id} AND parent_instance_id IS NOT NULL AND EXISTS "
        "(SELECT FROM instances p WHERE p.id = i.parent_instance_id AND p.finished_at IS NULL)",
    )  # fmt: skip


def hidden_obstacles(tx: Tx, month: Stored) -> dict[str, int]:
    """As obstacles, of what only reading the whole month tells. It cannot come about later: a step
    begins in an open instance only.
    """
    return _counted(
        tx, month, timedelta(),
        live_steps="steps WHERE {owner} AND state IN ('scheduled', 'running', 'sleeping', "
        "'waiting', 'parked')",
    )  # fmt: skip


def _counted(tx: Tx, month: Stored, age: timedelta, **of: str) -> dict[str, int]:
    mine = "{0} >= %(low)s AND {0} < %(high)s"
    columns = {"id": mine.format("id"), "owner": mine.format("instance_id")}
    counts = ", ".join(
        f"(SELECT count(*) FROM (SELECT FROM {each.format(**columns)} LIMIT %(most)s) r) AS {name}"
        for name, each in of.items()
    )
    params = {"low": month.low, "high": month.high, "age": age, "most": MOST}
    found = tx.rows(f"SELECT {counts}", params)[0]._asdict()
    return {name: count for name, count in found.items() if count}


# -- pruning -------------------------------------------------------------------------------------
def allow(tx: Tx, *, statement: timedelta | None = None, lock: timedelta | None = None) -> None:
    """Statements of this transaction may take, or wait for a lock, that long."""
    for name, limit in (("statement_timeout", statement), ("lock_timeout", lock)):
        if limit is not None:
            milliseconds = f"{limit // timedelta(milliseconds=1)}ms"
            tx.rows("SELECT set_config(%(n)s, %(v)s, true)", {"n": name, "v": milliseconds})


def lock(tx: Tx) -> None:
    """Nobody else uses instances, contexts or steps until the transaction ends, nor is anybody in
    the middle of it. Unavailable if that cannot be had within the lock time-out.
    """
    tx.run(f"LOCK TABLE {', '.join(f'ONLY {table}' for table in OWNED)} IN ACCESS EXCLUSIVE MODE")


def detach(tx: Tx, month: Month, *, keep: bool) -> None:
    """The month's partitions are tables of their own; with ``keep`` they stay when prune is done.
    The tables are locked already.
    """
    for table in OWNED:
        tx.run(f"ALTER TABLE {table} DETACH PARTITION {table}_{month}")
        mark = {"mark": _TO_KEEP if keep else _TO_DROP}
        tx.run(f"COMMENT ON TABLE {table}_{month} IS %(mark)s", mark)


def sweep(tx: Tx, month: Month, after: UUID, limit: int, *, keep: bool) -> UUID | None:
    """The idempotency keys of up to ``limit`` instances of a detached month that come after an id
    are free, and, unless they are to ``keep``, their kept state, signals, traces, waits for events,
    checkpoints and what happened to their tasks are gone. The last of those instances, None if
    there was none.
    """
    gone = {
        "keys_gone": "instance_keys k USING old WHERE k.tenant_id = old.tenant_id "
        "AND k.key = old.idempotency_key AND k.instance_id = old.id"
    }
    if not keep:
        gone["state_gone"] = "instance_state k USING old WHERE k.instance_id = old.id"
        gone["signals_gone"] = "signals g USING old WHERE g.instance_id = old.id"
        gone["events_gone"] = "task_events e USING old WHERE e.instance_id = old.id"
        gone["logs_gone"] = "task_logs l USING old WHERE l.instance_id = old.id"
        gone["waits_gone"] = "event_waits w USING old WHERE w.instance_id = old.id"
        gone["traces_gone"] = "traces t USING old WHERE t.instance_id = old.id"
        gone["checkpoints_gone"] = "checkpoints c USING old WHERE c.instance_id = old.id"
    deletes = "".join(f", {name} AS (DELETE FROM {what})" for name, what in gone.items())
    sql = f"""
    WITH old AS MATERIALIZED (SELECT id, tenant_id, idempotency_key FROM instances_{month}
        WHERE id > %(after)s ORDER BY id LIMIT %(limit)s){deletes}
    SELECT id FROM old ORDER BY id DESC LIMIT 1"""
    row = tx.one(sql, {"after": after, "limit": limit})
    return None if row is None else row.id


def drop(tx: Tx, month: Month) -> None:
    """The tables of a detached month are gone."""
    tx.run(f"DROP TABLE {', '.join(f'{table}_{month}' for table in OWNED)}")
