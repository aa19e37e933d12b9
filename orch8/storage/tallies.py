"""Tallies: how often each action is in the audit log, kept so that nobody counts it twice."""

from __future__ import annotations

from collections import defaultdict
from typing import Final
from uuid import UUID

from orch8.storage.buckets import LAST
from orch8.storage.transaction import Tx, dumps

SIGNAL: Final = "signal"  # every signal, whatever its name
LIMITED: Final = "step.limited"  # a step's first wait for a rate limit

ENDS: Final = ("instance.completed", "instance.failed", "instance.cancelled")
LASTED: Final = "lasted"
LASTED_BOUNDS: Final = (
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0,
    604_800.0, 2_592_000.0,
)  # fmt: skip

# The table in front is one row: it is locked for as long as the entries behind it are counted.
_NEXT: Final = """
WITH next AS (
    SELECT id, CASE WHEN starts_with(action, 'signal.') THEN 'signal'
        WHEN action = 'step.deferred' AND starts_with(reason, 'rate limit ') THEN 'step.limited'
        ELSE action END AS action,
        -- An instance's id says when it was made: its first 48 bits are milliseconds.
        CASE WHEN action = ANY(%(ends)s) THEN greatest(extract(epoch FROM at)::float8
            - ('x' || substr(translate(instance_id::text, '-', ''), 1, 12))::bit(48)::bigint
                / 1000.0::float8, 0) END AS lasted
    FROM audit_log WHERE id > %(after)s AND id < %(until)s ORDER BY id LIMIT %(most)s)
SELECT action, width_bucket(lasted, %(bounds)s::float8[]) AS bucket, count(*) AS entries,
    sum(lasted) AS lasted, max(id::text COLLATE "C")::uuid AS last
FROM next GROUP BY 1, 2"""


def tally(tx: Tx, until: UUID, most: int) -> dict[str, float]:
    """How often each action is in the audit log: as counted before, and ``most`` further entries
    with ids below ``until``. While another process counts, what it began with.

    Under ``lasted(<bound>)`` how many instances ended within so many seconds, and in no fewer;
    under LASTED the seconds of all.
    """
    was = tx.one("SELECT upto, counts FROM tallies FOR UPDATE SKIP LOCKED")
    if was is None:
        counted = tx.one("SELECT counts FROM tallies")
        return {} if counted is None else dict(counted.counts)
    counts: defaultdict[str, float] = defaultdict(float, was.counts)
    params = {
        "after": was.upto, "until": until, "most": most, "ends": list(ENDS),
        "bounds": list(LASTED_BOUNDS),
    }  # fmt: skip
    found = tx.rows(_NEXT, params)
    if not found:
        return counts
    for row in found:
        counts[row.action] += row.entries
        if row.bucket is not None:
            counts[lasted((*LASTED_BOUNDS, LAST)[row.bucket])] += row.entries
            counts[LASTED] += row.lasted
    params = {"upto": max(row.last for row in found), "counts": dumps(counts)}
    tx.run("UPDATE tallies SET upto = %(upto)s, counts = %(counts)s", params)
    return counts


def lasted(bound: float) -> str:
    """Under which name those are counted that lasted at most so many seconds."""
    return f"{LASTED}({bound})"
