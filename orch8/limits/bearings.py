"""Bearings: what time it must be at the limiter's server, by this process's own clock.

Wall clocks are set, and a server whose clock steps would end every window early, or none for hours.
Time passes alike everywhere, so whoever has heard from the server knows between which moments its
next script runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from orch8.limits.connection import SOCKET_TIMEOUT

MICROSECONDS = 1_000_000
ON_THE_ROAD = SOCKET_TIMEOUT  # seconds from asking to the script; what comes later was given up
DRIFT = 0.001  # of the time that has passed: how much two clocks may differ
MOST_TENANTS = 10_000
UNKNOWN = ("-", "-")


class Bearings:
    """By tenant, when its state was last heard of. ``clock`` is time.monotonic() but in tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._heard: dict[str, tuple[int, float, float]] = {}

    def heard(self, tenant: str, at: int, asked_at: float) -> None:
        """The tenant's state had the time ``at`` (microseconds) between ``asked_at`` and now."""
        if len(self._heard) >= MOST_TENANTS:
            self._heard.clear()
        self._heard[tenant] = (at, asked_at, self.clock())

    def bounds(self, tenant: str) -> tuple[str | int, str | int]:
        """Between which times (microseconds) a script that is sent now runs; "-" if that is
        not known.
        """
        known = self._heard.get(tenant)
        if known is None:
            return UNKNOWN
        at, asked_at, heard_at = known
        now = self.clock()
        least = at + int((now - heard_at) * (1 - DRIFT) * MICROSECONDS)
        most = at + int(((now - asked_at) * (1 + DRIFT) + ON_THE_ROAD) * MICROSECONDS)
        return least, most
