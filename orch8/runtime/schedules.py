"""schedules: a sequence is started by the clock; schedules are created, changed and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from orch8.blocks.local import zone_named
from orch8.engine.cron import Cron, parse_cron
from orch8.errors import Forbidden, InvalidArgument, NotFound, Problem
from orch8.runtime.because import Because
from orch8.runtime.office import Office
from orch8.storage import instances, schedules
from orch8.storage.ids import uuid7
from orch8.storage.transaction import Row, Tx

MOST_FIRES: Final = 50


class Overlap(StrEnum):
    """What a fire does while an earlier run of the schedule is open: starts beside it, passes over,
    waits for its end, or cancels it.
    """

    ALLOW = "allow"
    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    CANCEL_PREVIOUS = "cancel_previous"


@dataclass(frozen=True, kw_only=True)
class ScheduleRequest:
    """When which version of a sequence is to be started. ``cron_expr`` is read in the time zone."""

    tenant_id: str
    namespace: str
    sequence_id: UUID
    cron_expr: str
    timezone: str = "UTC"
    metadata: Mapping[str, Any] | None = None
    enabled: bool = True
    overlap_policy: Overlap = Overlap.ALLOW


def create(office: Office, tx: Tx, request: ScheduleRequest, because: Because) -> Row:
    """The sequence is started at these times from now on. Raises NotFound or Forbidden for the
    sequence, and InvalidArgument for an expression or a zone that cannot be read.
    """
    times = read_times(request.cron_expr, request.timezone)
    published, moment = office.library.standing_now(tx, request.sequence_id)
    if published.tenant_id != request.tenant_id:
        raise Forbidden(f"sequence {request.sequence_id} is another tenant's")
    row = schedules.insert(
        tx,
        {
            "id": uuid7(),
            "tenant_id": request.tenant_id,
            "namespace": request.namespace,
            "sequence_id": request.sequence_id,
            **_stated(request),
            "next_fire_at": _first(times, moment.at, enabled=request.enabled),
            "at": moment.at,
        },
    )
    _note(tx, row, "cron.created", because)
    return row


def change(
    tx: Tx, schedule_id: UUID, members: Mapping[str, Any], because: Because, *,
    tenant_id: str | None,
) -> Row:  # fmt: skip
    """The schedule has these members from now on, and is next due at the first of its times from
    now; one that was put off is forgotten. Raises NotFound, and InvalidArgument as create does.
    """
    row = found(tx, schedule_id, tenant_id, lock=True)
    asked = {**row._asdict(), **members}
    times = read_times(asked["cron_expr"], asked["timezone"])
    moment = instances.now(tx)
    next_at = _first(times, moment.at, enabled=asked["enabled"])
    changed = schedules.update(tx, {**asked, "next_fire_at": next_at, "at": moment.at})
    _note(tx, changed, "cron.updated", because)
    return changed


def delete(tx: Tx, schedule_id: UUID, because: Because, *, tenant_id: str | None) -> None:
    """The schedule starts nothing any more; what it has started goes on. Raises NotFound."""
    row = found(tx, schedule_id, tenant_id, lock=True)
    schedules.delete(tx, schedule_id)
    _note(tx, row, "cron.deleted", because)


def next_fires(
    tx: Tx, schedule_id: UUID, count: int, *, tenant_id: str | None
) -> tuple[str, list[datetime]]:
    """The zone of the schedule and its next times, as many as there still are. Raises NotFound."""
    row = found(tx, schedule_id, tenant_id)
    times = read_times(row.cron_expr, row.timezone)
    fires: list[datetime] = []
    at = times.after(instances.now(tx).at)
    while at is not None and len(fires) < min(count, MOST_FIRES):
        fires.append(at)
        at = times.after(at)
    return row.timezone, fires


def found(tx: Tx, schedule_id: UUID, tenant_id: str | None, *, lock: bool = False) -> Row:
    """The schedule. Raises NotFound if it is not there or another tenant's (None: anybody's)."""
    row = schedules.read(tx, schedule_id, tenant_id, lock=lock)
    if row is None:
        raise NotFound(f"cron schedule {schedule_id}")
    return row


@dataclass(frozen=True, slots=True)
class Times:
    """An expression in its zone."""

    cron: Cron
    zone: Any

    def after(self, moment: datetime) -> datetime | None:
        """The first time after ``moment``; None if there is none any more."""
        return self.cron.after(moment, self.zone)


def read_times(cron_expr: str, timezone: str) -> Times:
    """What an expression means in a zone. Raises InvalidArgument naming what cannot be read."""
    try:
        cron = parse_cron(cron_expr)
    except ValueError as error:
        raise InvalidArgument(
            f"cron_expr: {error}", errors=[Problem("/cron_expr", str(error))]
        ) from None
    zone = zone_named(timezone)
    if zone is None:
        reason = f"{timezone[:60]!r} is no time zone"
        hint = "use an IANA name such as Europe/Vienna"
        raise InvalidArgument(
            f"timezone: {reason}; {hint}", errors=[Problem("/timezone", reason, hint)]
        )
    return Times(cron, zone)


def _first(times: Times, now: datetime, *, enabled: bool) -> datetime | None:
    first = times.after(now)
    if first is None:
        reason = "names no time that is still to come"
        raise InvalidArgument(
            f"cron_expr {reason}", errors=[Problem("/cron_expr", reason, "check day and month")]
        )
    return first if enabled else None


def _stated(request: ScheduleRequest) -> dict[str, Any]:
    return {
        "cron_expr": request.cron_expr,
        "timezone": request.timezone,
        "enabled": request.enabled,
        "metadata": request.metadata,
        "overlap_policy": request.overlap_policy,
    }


def _note(tx: Tx, row: Row, action: str, because: Because) -> None:
    next_at = None if row.next_fire_at is None else row.next_fire_at.isoformat()
    body = {
        "schedule": str(row.id), "sequence_id": str(row.sequence_id), "cron_expr": row.cron_expr,
        "timezone": row.timezone, "enabled": row.enabled, "overlap_policy": row.overlap_policy,
        "next_fire_at": next_at,
    }  # fmt: skip
    because.note(tx, row.tenant_id, action, body)
