"""keeping: which calls in flight hold leases of their keys, and when those have to be renewed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from orch8.limits import Grant
from orch8.runtime.preparing import Task


@dataclass(slots=True)
class Kept:
    """One call in flight; its leases are renewed from ``due_at`` (time.monotonic) on."""

    tenant_id: str
    grant: Grant
    lease: float  # seconds
    due_at: float


class Keeping:
    """The calls of one process that hold leases. Used by the pump's own thread only."""

    def __init__(self) -> None:
        self._calls: dict[tuple[UUID, int], Kept] = {}
        self._next_at = math.inf  # none is due before

    def begin(self, task: Task, grant: Grant) -> None:
        """The call is in flight, with leases."""
        lease = max(limit.lease for limit in task.limits)
        kept = Kept(task.row.tenant_id, grant, lease, grant.granted_at + lease / 2)
        self._calls[task.claim] = kept
        self._next_at = min(self._next_at, kept.due_at)

    def end(self, task: Task) -> None:
        """The call is in flight no more."""
        self._calls.pop(task.claim, None)

    def due(self, now: float) -> list[Kept]:
        """The calls of whose leases half has passed; most do not take so long."""
        if now < self._next_at:
            return []
        self._next_at = min((kept.due_at for kept in self._calls.values()), default=math.inf)
        return [kept for kept in self._calls.values() if kept.due_at <= now]

    def renewed(self, calls: Iterable[Kept], now: float) -> None:
        """The leases of these calls last from now on."""
        for kept in calls:
            kept.due_at = now + kept.lease / 2
