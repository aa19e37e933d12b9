"""Tallies: how often each action is in the audit log, kept so that nobody counts it twice."""

from __future__ import annotations

from collections import Counter
from typing import Final
from uuid import UUID

from orch8.storage.transaction import Tx, dumps

SIGNAL: Final = "signal"  # every signal, whatever its name
LIMITED: Final = "step.limited"  # a step's first wait for a rate limit

# The table in front is one row: it is locked for as long as the entries behind it are counted.
_NEXT: Final = """
WITH next AS (
    SELECT id, CASE WHEN starts_with(action, 'signal.') THEN 'signal'
        WHEN action = 'step.deferred' AND starts_with(reason, 'rate limit ') THEN 'step.limited'
        ELSE action END AS action
    FROM audit_log WHERE id > %(after)s AND id < %(until)s ORDER BY id LIMIT %(most)s)
SELECT action, count(*) AS entries, max(id::text COLLATE "C")::uuid AS last
FROM next GROUP BY action"""


def tally(tx: Tx, until: UUID, most: int) -> dict[str, int]:
    """How often each action is in the audit log: as counted before, and ``most`` further entries
    with ids below ``until``. While another process counts, what it began with.
    """
    was = tx.one("SELECT upto, counts FROM tallies FOR UPDATE SKIP LOCKED")
    if was is None:
        counted = tx.one("SELECT counts FROM tallies")
        return {} if counted is None else dict(counted.counts)
    counts = Counter(was.counts)
    found = tx.rows(_NEXT, {"after": was.upto, "until": until, "most": most})
    if not found:
        return counts
    counts.update({row.action: row.entries for row in found})
    params = {"upto": max(row.last for row in found), "counts": dumps(counts)}
    tx.run("UPDATE tallies SET upto = %(upto)s, counts = %(counts)s", params)
    return counts
