"""prune: instances that ended long ago are deleted with all they own, in small batches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from orch8.storage import retention
from orch8.storage.transaction import Database

BATCH = 500


def prune(
    owner: Database,
    older_than: timedelta,
    *,
    progress: Callable[[int], None],
    limit: int = 1_000_000,
) -> int:
    """Instances that ended more than ``older_than`` ago are gone, as are expired worker rows.

    Returns how many instances. One with an attempt in doubt is never pruned, whatever its age. The
    audit log stays: it has its own retention, by month. Runs as the owner of the tables.
    """
    gone = 0
    while gone < limit:
        with owner.begin() as tx:
            batch = retention.delete_ended(tx, older_than, min(BATCH, limit - gone))
        if not batch:
            break
        gone += batch
        progress(gone)
    with owner.begin() as tx:
        retention.forget_workers(tx)
    return gone
