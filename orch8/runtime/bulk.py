"""bulk: one verb for every instance that a filter means, the oldest first.

Each instance is changed in a transaction of its own: one lock at a time, so that thousands are
never held while one of them is being settled, and one that refuses holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from orch8.engine.lifecycle import ENDED, InstanceState
from orch8.errors import InvalidArgument, Orch8Error
from orch8.runtime import transition
from orch8.runtime.because import Because
from orch8.runtime.office import Office
from orch8.runtime.retry import again
from orch8.runtime.signal import SignalRequest, change, deliver
from orch8.storage import bulk, instances
from orch8.storage.changes import Changes, write
from orch8.storage.instances import Filter
from orch8.storage.rows import AuditEntry, InstanceRow, Moment
from orch8.storage.transaction import Tx

MOST: Final = 10_000  # instances that one request may change
CHUNK: Final = 500  # instances whose due times one statement moves
SHOWN: Final = 20  # failures that are told one by one
BATCH_ACTION: Final = "batch_action"  # the audit log's word, once for each instance


class Action(StrEnum):
    """What can be done with many instances."""

    RETRY = "retry"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a verb came to: how many instances the filter meant, and what became of them. ``more``:
    there are others, beyond the limit. ``errors``: the first failures, by instance.
    """

    matched: int = 0
    applied: int = 0
    skipped: int = 0
    failed: int = 0
    more: bool = False
    lanes: tuple[str, ...] = ()
    errors: tuple[tuple[UUID, str], ...] = ()


Verb = Callable[[Tx, InstanceRow, Moment], bool]


def set_states(office: Office, wanted: Filter, state: str, because: Because) -> Bulk:
    """Each instance that may be given the state is on its way to it; the others are skipped."""

    def verb(tx: Tx, row: InstanceRow, moment: Moment) -> bool:
        if state not in transition.SETTABLE[row.state]:
            return False
        transition.move(office, tx, row, moment, state, because)
        return True

    return _each(office, wanted, MOST, verb)


def reschedule(office: Office, wanted: Filter, seconds: float, because: Because) -> Bulk:
    """What the scheduled instances are to do at a time, they do so many seconds later, or sooner;
    in all of them or in none.
    """
    scheduled = replace(wanted, states=(InstanceState.SCHEDULED,))
    if wanted.states and InstanceState.SCHEDULED not in wanted.states:
        return Bulk()
    with office.begin() as tx:
        rows = bulk.matching(tx, scheduled, limit=MOST + 1)
        more, rows, moved = len(rows) > MOST, rows[:MOST], set[UUID]()
        for first in range(0, len(rows), CHUNK):
            ids = [row.id for row in rows[first : first + CHUNK]]
            locked, _ = instances.lock_instances(tx, ids)
            due = [i for i, row in locked.items() if row.state == InstanceState.SCHEDULED]
            moved |= (shifted := bulk.shift_due(tx, due, seconds))
            entries = [_rescheduled(locked[i], seconds, because) for i in sorted(shifted)]
            write(tx, Changes(audit=entries))
    lanes = tuple({row.lane for row in rows if row.id in moved})
    return Bulk(len(rows), len(moved), len(rows) - len(moved), more=more, lanes=lanes)


def act(
    office: Office, wanted: Filter, action: Action, because: Because, *,
    limit: int, signal_type: str | None = None, payload: Any = None, dry_run: bool = False,
) -> Bulk:  # fmt: skip
    """The action is taken on up to ``limit`` instances, and the audit log of each has one entry for
    it; those that it makes no sense for are skipped. With ``dry_run`` they are only counted.
    """
    if action is Action.SIGNAL and not signal_type:
        raise InvalidArgument("signal_type is required for the action signal")

    def verb(tx: Tx, row: InstanceRow, moment: Moment) -> bool:
        if not _FITS[action](row):
            return False
        more = {"action": action.value, "from_state": row.state}
        if action is Action.RETRY:
            change(office, tx, row, moment, lambda run: again(run, actor=because.actor,
                reason=because.reason, request_id=because.request_id, noted_as=BATCH_ACTION,
                more=more))  # fmt: skip
            return True
        deliver(office, tx, row, moment, SignalRequest(
            control=None if action is Action.SIGNAL else action.value,
            name=signal_type or "", payload=payload, actor=because.actor, reason=because.reason,
            request_id=because.request_id, noted_as=BATCH_ACTION, more=more,
        ))  # fmt: skip
        return True

    return _each(office, wanted, limit, verb, dry_run=dry_run)


def _each(office: Office, wanted: Filter, limit: int, verb: Verb, *, dry_run: bool = False) -> Bulk:
    with office.begin() as tx:
        found = bulk.matching(tx, wanted, limit=limit + 1)
    more, found = len(found) > limit, found[:limit]
    if dry_run:
        return Bulk(len(found), more=more)
    applied, lanes, errors = 0, set[str](), list[tuple[UUID, str]]()
    for each in found:
        try:
            with office.begin() as tx:
                locked, moment = instances.lock_instances(tx, [each.id])
                row = locked.get(each.id)
                done = row is not None and verb(tx, row, moment)
        except Orch8Error as problem:
            if problem.retryable:
                raise
            errors.append((each.id, problem.detail))
            continue
        if done:
            applied += 1
            lanes.add(each.lane)
    return Bulk(
        len(found), applied, len(found) - applied - len(errors), len(errors), more,
        tuple(sorted(lanes)), tuple(errors[:SHOWN]),
    )  # fmt: skip


def _rescheduled(row: InstanceRow, seconds: float, because: Because) -> AuditEntry:
    return AuditEntry(
        row.tenant_id, because.actor, "instance.rescheduled", "success", row.id,
        sequence_id=row.sequence_id, reason=because.reason, request_id=because.request_id,
        body={"offset_secs": seconds},
    )  # fmt: skip


_FITS: Final[Mapping[Action, Callable[[InstanceRow], bool]]] = {
    Action.RETRY: lambda row: row.state == InstanceState.FAILED,
    Action.PAUSE: lambda row: row.state not in ENDED and row.state != InstanceState.PAUSED,
    Action.RESUME: lambda row: row.paused_at is not None,
    Action.CANCEL: lambda row: row.state not in ENDED and not row.cancelling,
    Action.SIGNAL: lambda row: row.state not in ENDED,
}
