"""flights: calls in flight as a pace, so that who waits for places is admitted as for tokens."""

from __future__ import annotations

from typing import Final

from orch8.limits import Limit
from orch8.limits.grant import MAX_LEASE

TOOK: Final = 0.5  # seconds that a call is thought to take before one was measured
_SHORTEST: Final = 0.01


def pace(key: str, places: int, took: float | None, bound: int, weight: int) -> Limit:
    """So many calls at a time, each of which takes so many seconds, as a limit: that many in the
    time of one. ``bound`` is how many there may be at best; ``weight`` is what a call costs the
    key's window, if it has one, so that both paces compare.
    """
    time = min(max(took or TOOK, _SHORTEST), MAX_LEASE)
    return Limit(key, places * weight, time, 0.0, weight, max_in_flight=bound)
