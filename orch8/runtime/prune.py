"""prune: what ended long ago is gone: whole months at once, the rest in small batches of rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from orch8.errors import Unavailable
from orch8.runtime.because import Because
from orch8.runtime.cluster import INSTALLATION
from orch8.storage import derived, partitions, retention
from orch8.storage.instances import FIRST
from orch8.storage.months import Month
from orch8.storage.partitions import Stored
from orch8.storage.transaction import Database

log = structlog.get_logger(__name__)

BATCH: Final = 500  # instances whose rows are deleted in one transaction
SWEPT: Final = 2000  # instances of a detached month whose keys are freed in one transaction
# While a month is detached everybody waits for that, so it waits only this long for them itself.
LOCK_WAIT: Final = timedelta(milliseconds=250)
LOCK_TRIES: Final = 40
LOCK_PAUSE: Final = 0.5  # seconds between tries, in which the work goes on
LOOK_TIMEOUT: Final = timedelta(minutes=10)  # for reading a whole month
GONE, KEPT, READY, HELD = "gone", "detached", "ready", "held"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a month: ``gone``, ``detached`` (it is kept as tables of its own), ``ready``
    (it would be gone, were this not a trial) or ``held`` back ``by`` so many of each obstacle.
    """

    month: Month
    fate: str
    instances: int = 0  # about how many
    by: dict[str, int] = field(default_factory=dict)


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
            if batch:
                _note(older_than).note(tx, INSTALLATION, "instances.pruned", {"instances": batch})
        if not batch:
            break
        gone += batch
        progress(gone)
    with owner.begin() as tx:
        retention.forget_workers(tx)
        derived.forget_unused(tx, older_than)
    return gone


def prune_months(
    owner: Database, older_than: timedelta, *, keep: bool = False, trial: bool = False
) -> list[Fate]:
    """Each month in which everything ended more than ``older_than`` ago and is resolved is dropped,
    or, with ``keep``, detached; with a ``trial`` nothing happens. What became of each month that is
    over, the oldest first. Runs as the owner of the tables.
    """
    with owner.begin() as tx:
        over = [month for month in partitions.stored(tx) if month.over]
        begun = [] if trial else partitions.leftovers(tx)
    for left in begun:
        _finish(owner, left, keep=False)
    return [_prune(owner, month, older_than, keep=keep, trial=trial) for month in over]


def _prune(
    owner: Database, month: Stored, older_than: timedelta, *, keep: bool, trial: bool
) -> Fate:
    with owner.begin() as tx:
        partitions.allow(tx, statement=LOOK_TIMEOUT)
        by = partitions.obstacles(tx, month, older_than)
        if not by:
            by = partitions.hidden_obstacles(tx, month)
    if by:
        return Fate(month.month, HELD, month.instances, by)
    if trial:
        return Fate(month.month, READY, month.instances)
    by = _detach(owner, month, older_than, keep=keep)
    if by:
        return Fate(month.month, HELD, month.instances, by)
    _finish(owner, month.month, keep=keep)
    return Fate(month.month, KEPT if keep else GONE, month.instances)


def _detach(owner: Database, month: Stored, older_than: timedelta, *, keep: bool) -> dict[str, int]:
    """The month is detached and the audit log tells of it, or what holds it back after all."""
    because = _note(older_than)
    for attempt in range(LOCK_TRIES):
        try:
            with owner.begin() as tx:
                partitions.allow(tx, lock=LOCK_WAIT)
                partitions.lock(tx)
                # What the first look found may have changed, for instance by a retry.
                by = partitions.obstacles(tx, month, older_than)
                if not by:
                    partitions.detach(tx, month.month, keep=keep)
                    body = {
                        "month": str(month.month), "instances": month.instances, "kept": keep,
                    }  # fmt: skip
                    because.note(tx, INSTALLATION, "month.pruned", body)
                return by
        except Unavailable as problem:
            log.info("prune.waits", month=str(month.month), attempt=attempt, why=problem.detail)
            time.sleep(LOCK_PAUSE)
    return {"transactions_in_the_way": 1}


def _finish(owner: Database, month: Month, *, keep: bool) -> None:
    """What a detached month leaves behind elsewhere is gone, and so are its tables unless kept.

    Keys are free before: one that is asked for meanwhile is freed then (runtime/start.py).
    """
    after = FIRST
    while True:
        with owner.begin() as tx:
            last = partitions.sweep(tx, month, after, SWEPT, keep=keep)
        if last is None:
            break
        after = last
    if not keep:
        with owner.begin() as tx:
            partitions.drop(tx, month)


def _note(older_than: timedelta) -> Because:
    return Because(actor="prune", reason=f"ended more than {older_than} ago")
