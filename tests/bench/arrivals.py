"""What a provider's log of calls says of a limit: the fullest window, and how much was used.

Times are in seconds and ascending; a call uses one unit of a limit, or as many as it costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

Arrival = tuple[float, int]  # when a call came, and the units that it used


def fullest(arrivals: Iterable[Arrival], window: float) -> int:
    """The most units of a series of arrivals that lie in any one window."""
    inside: deque[Arrival] = deque()
    held = most = 0
    for at, units in arrivals:
        inside.append((at, units))
        held += units
        while inside[0][0] <= at - window:
            held -= inside.popleft()[1]
        most = max(most, held)
    return most


def utilisation(
    arrivals: Sequence[Arrival], spans: Sequence[tuple[float, float]], per_second: float
) -> float:
    """The share of ``per_second`` units a second that came in these spans of time, the moment at
    which one begins left out.
    """
    seen = sum(units for at, units in arrivals if any(begin < at <= end for begin, end in spans))
    return seen / (per_second * sum(end - begin for begin, end in spans))


def last_windows(arrivals: Sequence[Arrival], units: int) -> float:
    """When so many units of a series of arrivals were still to come: until then there was a
    backlog. The first arrival, if there were not so many.
    """
    left = 0
    for at, cost in reversed(arrivals):
        left += cost
        if left >= units:
            return at
    return arrivals[0][0]


def most_at_once(visits: Iterable[tuple[float, float]]) -> int:
    """The most calls that were under way at a time; each is its arrival and its answer. Who comes
    at the moment of another's answer comes after it.
    """
    moments = sorted(
        change for came, went in visits for change in ((came, 1), (went, -1))
    )  # the answer's -1 sorts before an arrival's 1
    here = most = 0
    for _, change in moments:
        here += change
        most = max(most, here)
    return most
