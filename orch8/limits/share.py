"""The share: what one process may call while Redis is away, never more than half of it in all.

Each of n live processes grants itself floor(max / 2n) of a window, and as much of what may be in
flight; none where that is 0. Halving leaves room for a process that starts meanwhile and is not
counted yet. A window begins as spent, since nobody knows what the others were granted before; a
window above 60 s is left to Redis, which rebuilds it from the database.

Redis may be back at any moment and knows better than the share, so no refusal sends a call away
for long.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orch8.limits.grant import Grant, Limit, Refusal

MOST_KEYS = 10_000
SOON = 5.0  # seconds after which Redis may be back
LATER = 60.0  # as much as a tenth of an outage, up to this: who cannot be called need not ask often


@dataclass(slots=True)
class _Kept:
    """What this process knows of one key: grants (oldest first), and when each lease runs out."""

    granted_at: deque[float] = field(default_factory=deque)
    leases: dict[str, float] = field(default_factory=dict)


class Share:
    """The windows of one process. Times are time.monotonic() unless another clock is given."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._counter = 0
        self._lost_at: float | None = None
        self.tenants: set[str] = set()  # those who were granted something

    @property
    def in_use(self) -> bool:
        """Whether Redis is away."""
        return self._lost_at is not None

    def lost(self) -> None:
        """Redis is away, if that was not known: every window counts as spent from now on."""
        if self._lost_at is None:
            self._lost_at = self._clock()

    def found(self) -> None:
        """Redis is back, and knows what was granted here."""
        self._lost_at = None
        self.tenants.clear()

    def acquire(self, tenant: str, request: Sequence[Limit], live: int) -> Grant:
        """All tokens of a request or none, as one of ``live`` processes."""
        now = self._clock()
        slack = min((limit.slack for limit in request), default=0.0)
        for limit in request:
            if limit.max is not None and limit.weight > limit.max:
                return Grant(
                    granted=False, tokens=(), granted_at=now, slack=slack,
                    refused_by=limit.key, refusal=Refusal.CLOSED, retry_after=limit.window,
                )  # fmt: skip
        waits = [self._wait(tenant, limit, now, max(live, 1)) for limit in request]
        worst = max(range(len(waits)), key=waits.__getitem__, default=None)
        if worst is not None and waits[worst] > 0:
            refusal = Refusal.FULL if waits[worst] < math.inf else Refusal.AWAY
            return Grant(
                granted=False, tokens=(), granted_at=now, slack=slack,
                refused_by=request[worst].key, refusal=refusal,
                retry_after=self._soon(request[worst], waits[worst], now),
            )  # fmt: skip
        tokens = []
        for limit in request:
            self._counter += 1
            member = f"share.{self._counter}"
            kept = self._of(tenant, limit.key)
            if limit.max is not None:
                kept.granted_at.extend([now] * limit.weight)
            if limit.max_in_flight is not None:
                kept.leases[member] = now + limit.lease
            tokens.append((limit.key, member))
        self.tenants.add(tenant)
        # Redis learns of these calls from the database when it is back, and then that they ended.
        leases = tuple(
            (e.key, e.holder) for e in request if e.max_in_flight is not None and e.holder
        )
        return Grant(granted=True, tokens=tuple(tokens), granted_at=now, slack=slack, leases=leases)

    def give_back(self, tenant: str, grant: Grant) -> None:
        """The call is no longer in flight; its tokens stay spent, even if it was not made."""
        for key, member in grant.tokens:
            kept = self._kept.get((tenant, key))
            if kept is not None:
                kept.leases.pop(member, None)

    def renew(self, tenant: str, grant: Grant, seconds: float) -> None:
        """The call is in flight for so many seconds more at least."""
        for key, member in grant.tokens:
            kept = self._kept.get((tenant, key))
            if kept is not None and member in kept.leases:
                kept.leases[member] = self._clock() + seconds

    @staticmethod
    def owns(grant: Grant) -> bool:
        """Whether a share granted this."""
        return any(member.startswith("share.") for _, member in grant.tokens)

    def _wait(self, tenant: str, limit: Limit, now: float, live: int) -> float:
        """Seconds until the limit might let one more call through; 0: it does, infinity: not before
        Redis is back.
        """
        assert self._lost_at is not None
        kept = self._of(tenant, limit.key)
        wait = 0.0
        if limit.max is not None:
            window = limit.window + limit.slack + limit.calm  # as Redis granted the last tokens
            allowed = limit.max // (2 * live)
            while kept.granted_at and kept.granted_at[0] <= now - window:
                kept.granted_at.popleft()
            if limit.long or limit.weight > allowed:
                return math.inf
            over = len(kept.granted_at) + limit.weight - allowed
            free_at = kept.granted_at[over - 1] + window if over > 0 else now
            wait = max(free_at, self._lost_at + window) - now
        if limit.max_in_flight is not None:
            kept.leases = {each: ends for each, ends in kept.leases.items() if ends > now}
            # Calls that were in flight when Redis went away may be for as long as a lease.
            wait = max(wait, self._lost_at + limit.lease - now)
            if len(kept.leases) >= limit.max_in_flight // (2 * live):
                wait = max(wait, 1.0)
        return wait

    def _soon(self, limit: Limit, wait: float, now: float) -> float:
        """When to ask again: in seconds, or in a minute at most when Redis is away for long."""
        assert self._lost_at is not None
        if wait < math.inf:
            return min(wait, SOON)
        return min(limit.window, max(SOON, min((now - self._lost_at) / 10, LATER)))

    def _of(self, tenant: str, key: str) -> _Kept:
        if len(self._kept) >= MOST_KEYS:
            now = self._clock()
            self._kept = {
                at: kept for at, kept in self._kept.items()
                if (kept.granted_at and kept.granted_at[-1] > now - 60.0) or kept.leases
            }  # fmt: skip
        return self._kept.setdefault((tenant, key), _Kept())
