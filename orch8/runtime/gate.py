"""The gate: rate-limit tokens for a whole batch of calls, right before they are made.

A call whose token comes within a moment is held here; for a longer wait it goes back to Postgres,
into its key's queue. Without Redis nothing passes: the steps stay scheduled.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count

import structlog

from orch8.errors import Orch8Error
from orch8.limits import Grant, Limit, Limiter, LimiterUnavailable, Refusal
from orch8.runtime.preparing import Task
from orch8.runtime.settle import Deferral, Item

log = structlog.get_logger(__name__)

HOLD = 0.25  # seconds: waiting this long here is cheaper than two writes
AWAY = 1.0  # seconds until a step is tried again when Redis is away
BATCH = 256
History = Callable[[str, Limit], Sequence[float]]  # tenant -> ages of its calls, in seconds


class Gate:
    """Decides which calls may go now. Used by the pump's own thread only.

    ``history`` says which calls may have been made in a window that the limiter's server has lost.
    """

    def __init__(self, limiter: Limiter | None, history: History) -> None:
        self._limiter, self._history = limiter, history
        self._held: list[tuple[float, int, Task]] = []
        self._order = count()

    @property
    def held(self) -> int:
        """How many claimed calls wait here for their token."""
        return len(self._held)

    def next_at(self) -> float | None:
        """When (time.monotonic) the first held call may go."""
        return self._held[0][0] if self._held else None

    def admit(self, tasks: Iterable[Task]) -> tuple[list[tuple[Task, Grant]], list[Item]]:
        """The calls that may be made right now with their grants, and those that go back; held
        calls whose time has come are among them.
        """
        ready: list[Task] = []
        while self._held and self._held[0][0] <= time.monotonic():
            ready.append(heapq.heappop(self._held)[2])
        ready.extend(tasks)
        granted: list[tuple[Task, Grant]] = []
        back: list[Item] = []
        for first in range(0, len(ready), BATCH):
            self._ask(ready[first : first + BATCH], granted, back)
        return granted, back

    def release(self, task: Task, grant: Grant) -> None:
        """Tokens of a call that was not made are free again."""
        if self._limiter is None or not grant.tokens:
            return
        try:
            self._limiter.release(task.row.tenant_id, [grant])
        except LimiterUnavailable as problem:  # they stay spent for one window, which is safe
            log.warning("limiter.release_failed", error=str(problem))

    def _restore(self, tenant_id: str, limit: Limit) -> None:
        """A long window whose history the server lost, or never had, is counted from our own."""
        if self._limiter is None:
            return
        try:
            ages = self._history(tenant_id, limit)
            self._limiter.restore(tenant_id, limit, ages)
        except (LimiterUnavailable, Orch8Error) as problem:  # asked again with the next call
            log.warning("limiter.restore_failed", key=limit.key, error=str(problem))
            return
        log.info("limiter.restored", tenant=tenant_id, key=limit.key, calls=len(ages))

    def empty(self) -> list[Item]:
        """Every held call goes back: the process is stopping."""
        held, self._held = self._held, []
        return [Item(task, Deferral()) for _, _, task in held]

    def _acquire(self, tasks: list[Task]) -> list[Grant]:
        if self._limiter is None:
            raise LimiterUnavailable("ORCH8_REDIS_URL is not set")
        return self._limiter.acquire_many([(task.row.tenant_id, task.limits) for task in tasks])

    def _ask(self, tasks: list[Task], granted: list[tuple[Task, Grant]], back: list[Item]) -> None:
        try:
            grants = self._acquire(tasks)
        except LimiterUnavailable as problem:
            log.warning("limiter.away", error=str(problem), steps=len(tasks))
            back.extend(Item(task, Deferral(AWAY)) for task in tasks)
            return
        now = time.monotonic()
        for task, grant in zip(tasks, grants, strict=True):
            if grant.granted:
                granted.append((task, grant))
            elif grant.retry_after <= HOLD:
                heapq.heappush(self._held, (now + grant.retry_after, next(self._order), task))
            else:
                refused = next(limit for limit in task.limits if limit.key == grant.refused_by)
                if grant.refusal is Refusal.REBUILD:
                    self._restore(task.row.tenant_id, refused)
                back.append(Item(task, Deferral(grant.retry_after, refused)))
