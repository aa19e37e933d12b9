"""firing: schedules that are due start their instances, each time of a schedule at most one.

An instance is named after its schedule and the time it stands for, so a crash between creating it
and moving the schedule on, or a second tick at the same moment, creates none again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from orch8.engine.lifecycle import ENDED
from orch8.errors import Orch8Error
from orch8.runtime.office import Office
from orch8.runtime.schedules import Overlap, read_times
from orch8.runtime.signal import cancel
from orch8.runtime.start import StartRequest, start
from orch8.storage import schedules
from orch8.storage.changes import Changes, write
from orch8.storage.rows import AuditEntry
from orch8.storage.transaction import Row, Tx

log = structlog.get_logger(__name__)

PER_TICK: Final = 100  # schedules
MOST_RUNS: Final = 1000  # open instances of one schedule that are cancelled at a time
AGAIN: Final = timedelta(seconds=5)


def fire_due(office: Office) -> int:
    """Every schedule that is due has started its instance, or has done what it does instead while
    an earlier one is open; how many instances are new.

    What was missed while nobody looked is one fire. One schedule's trouble is nobody else's.
    """
    with office.begin() as tx:
        rows = schedules.due(tx, PER_TICK)
    new = 0
    for row in rows:
        try:
            new += _fire(office, row)
        except Orch8Error as problem:
            log.warning("cron.postponed", schedule=str(row.id), error=problem.detail)
        except Exception:
            log.exception("cron.broke", schedule=str(row.id))
            _put_off(office, row)
    return new


def _fire(office: Office, row: Row) -> bool:
    with office.begin() as tx:
        if not schedules.hold(tx, row):
            return False
        runs = schedules.open_runs(tx, row.id, sorted(ENDED), MOST_RUNS)
    if runs and row.overlap_policy == Overlap.SKIP:
        return _pass_over(office, row, f"instance {runs[0]} is open")
    if runs and row.overlap_policy == Overlap.BUFFER_ONE:
        return _put_off(office, row)
    if row.overlap_policy == Overlap.CANCEL_PREVIOUS:
        for run in runs:
            cancel(office, run, actor=_actor(row), reason=f"the fire of {_text(row.slot)}")
    return _start(office, row)


def _start(office: Office, row: Row) -> bool:
    request = StartRequest(
        sequence=str(row.sequence_id),
        tenant_id=row.tenant_id,
        namespace=row.namespace,
        context={"data": {}, "config": {}},
        idempotency_key=f"cron:{row.id}:{_text(row.slot)}",
        timezone=row.timezone,
        metadata={**(row.metadata or {}), "cron_schedule_id": str(row.id)},
        actor=_actor(row),
        strict_key=False,
    )
    try:
        result = start(office, request)
    except Orch8Error as problem:
        if problem.retryable:
            raise
        return _pass_over(office, row, problem.detail, outcome="failure")
    return _move_on(office, row, result.instance.id) and not result.deduplicated


def _move_on(office: Office, row: Row, instance_id: UUID) -> bool:
    with office.begin() as tx:
        moved = schedules.fired(tx, row, instance_id, _next(row))
        if moved:
            _note(tx, row, "cron.fired", "success", instance_id=instance_id)
    return moved


def _pass_over(office: Office, row: Row, reason: str, *, outcome: str = "success") -> bool:
    """No instance stands for this time; the audit log says why."""
    with office.begin() as tx:
        if schedules.skipped(tx, row, _next(row)):
            _note(tx, row, "cron.skipped", outcome, reason=reason)
    return False


def _put_off(office: Office, row: Row) -> bool:
    """The same time is tried again soon."""
    with office.begin() as tx:
        schedules.put_off(tx, row, row.now + AGAIN)
    return False


def _next(row: Row) -> datetime | None:
    return read_times(row.cron_expr, row.timezone).after(row.now)


def _note(tx: Tx, row: Row, action: str, outcome: str, **more: Any) -> None:
    entry = AuditEntry(
        row.tenant_id, _actor(row), action, outcome, sequence_id=row.sequence_id,
        body={"schedule": str(row.id), "slot": _text(row.slot)}, **more,
    )  # fmt: skip
    write(tx, Changes(audit=[entry]))


def _actor(row: Row) -> str:
    return f"cron:{row.id}"


def _text(slot: datetime) -> str:
    return slot.astimezone(UTC).isoformat().replace("+00:00", "Z")
