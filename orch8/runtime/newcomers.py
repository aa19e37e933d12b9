"""newcomers: who goes first at the gate, and who joins a key's queue without asking for a token.

While a key has a queue, a call that was not in it joins it and does not overtake those who wait.
Interactive calls ask first and join last. Where there are any, the others leave them a part of each
window, since what was spent in a burst comes back only when the window has passed: newcomers all of
the customers' share, those from the queue half of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from orch8.limits import Limit
from orch8.limits.limiter import LOG_MAX
from orch8.runtime.lanes import INTERACTIVE, SHARES
from orch8.runtime.preparing import Task

Key = tuple[str, str]  # tenant and key

STANDS = 2.0  # seconds for which a queue is believed to stand that nobody has seen since
KEEPS = 60.0  # seconds for which a key counts as one that customers call
OFTEN = 2  # deferrals after which a call goes before the others of the queue, and not back
HOLD = 0.25  # seconds: waiting this long at the gate is cheaper than two writes
PATIENT = 1.5  # seconds that customers wait at the gate, and who was sent back often in a crowd
CROWD = 64  # calls that are held there
LAST = 5.0  # seconds that who was sent back often waits else: places of the dead are missed late
LENT = 0.5  # of the customers' share
BURSTS = 10.0  # seconds: above this a window may be used up in a burst, whoever has it waits anyway
NEW = 3  # the place of a newcomer
MOST_KEYS = 10_000


class Newcomers:
    """What one process knows of the queues of keys. Used by the pump's own thread only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stands: dict[Key, tuple[float, float]] = {}  # until when, and when it has room again
        self._customers: dict[Key, float] = {}  # until when their share is kept

    def place(self, task: Task) -> int:
        """Where a call stands at the gate; the smallest is asked for first."""
        if task.row.lane == INTERACTIVE:
            return 0
        if task.row.queued_at is None:
            return NEW
        return 1 if task.row.deferrals >= OFTEN else 2

    def arrive(self, task: Task) -> tuple[float, Limit] | None:
        """The call is new at the gate: whose queue it joins unasked, with the seconds until that
        key has room; None if it asks.
        """
        now, tenant_id = self._clock(), task.row.tenant_id
        if task.row.lane == INTERACTIVE:
            if len(self._customers) >= MOST_KEYS:
                self._customers.clear()
            self._customers.update(((tenant_id, k.key), now + KEEPS) for k in task.limits)
        elif task.row.queued_at is None:
            for limit in task.limits:
                until, free_at = self._stands.get((tenant_id, limit.key), (0.0, 0.0))
                if now < until:
                    return max(free_at - now, 0.0), limit
        return None

    def patience(self, task: Task, held: int) -> float:
        """For how many seconds a call waits at the gate, where so many are held, rather than in its
        key's queue.
        """
        place = self.place(task)
        if place > 1:
            return HOLD
        return LAST if place == 1 and held < CROWD else PATIENT

    def asks(self, task: Task) -> tuple[Limit, ...]:
        """The limits under which a call asks for its tokens; those from a queue come evenly."""
        place = self.place(task)
        limits = task.limits
        if task.row.queued_at is not None and task.row.lane != INTERACTIVE:
            limits = tuple(replace(limit, even=limit.window <= BURSTS) for limit in limits)
        if place <= 1:
            return limits
        share = SHARES[INTERACTIVE] * (1 if place == NEW else LENT)
        return tuple(self._left(task.row.tenant_id, limit, share) for limit in limits)

    def refused(self, tenant_id: str, key: str, retry_after: float) -> None:
        """The key's window is full, and a call goes into its queue."""
        if len(self._stands) >= MOST_KEYS:
            self._stands.clear()
        now = self._clock()
        self._stands[tenant_id, key] = now + STANDS, now + retry_after

    def stand(self, queues: Collection[Key]) -> None:
        """These are all the queues there are right now."""
        until = self._clock() + STANDS
        self._stands = {
            at: (until, free_at) for at, (_, free_at) in self._stands.items() if at in queues
        }

    def _left(self, tenant_id: str, limit: Limit, share: float) -> Limit:
        kept = self._customers.get((tenant_id, limit.key), 0.0) > self._clock()
        if not kept or limit.max is None or limit.long or limit.max > LOG_MAX:
            return limit
        left = limit.max - int(limit.max * share)
        return limit if limit.weight > left else replace(limit, max=left)
