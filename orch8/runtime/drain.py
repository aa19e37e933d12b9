"""drain: when each place in the lines of a rate-limited key has its turn. Pure.

The lanes share every stretch of the pace as admission lets them (runtime/lanes.py), so the turns of
a lane are evenly spaced until a line ends or its steps have aged.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from orch8.runtime.lanes import AGE, AGES, Asking, allot

MOST_STRETCHES: Final = 5000  # a line that is still not empty then goes on as it did last
_SAME: Final = 1e-6  # relative: two moments that differ by no more are one


@dataclass(frozen=True, slots=True)
class Segment:
    """From the place ``first`` (which counts from 1) up to, not including, ``until``, turns of a
    lane come ``every`` seconds, beginning ``begin`` seconds from the first turn of all.
    """

    lane: str
    first: int
    until: int
    begin: float
    every: float


class Drain:
    """Whose turn is when. ``lines`` are, by lane, how many wait by age; a turn comes ``every``
    seconds, and ``width`` of them are shared out at a time.
    """

    def __init__(self, lines: Mapping[str, Sequence[int]], every: float, width: int) -> None:
        self._left = {lane: list(ages) for lane, ages in lines.items()}
        self.lengths = {lane: sum(ages) for lane, ages in lines.items()}
        self._done = dict.fromkeys(lines, 0)
        self._of: dict[str, list[Segment]] = {lane: [] for lane in lines}
        self._clock = 0.0
        for _ in range(MOST_STRETCHES):
            if not self._share_out(every, max(width, 1)):
                return
        for lane, segments in self._of.items():
            segments[-1:] = [
                replace(s, until=s.until + sum(self._left[lane])) for s in segments[-1:]
            ]

    @property
    def segments(self) -> list[Segment]:
        """Every lane's segments, in the order of their places."""
        return [each for segments in self._of.values() for each in segments]

    def at(self, lane: str, place: int) -> float:
        """The turn of a place in a lane's line, in seconds from the first turn of all."""
        segments = self._of[lane]
        found = segments[max(bisect_right(segments, place, key=attrgetter("first")) - 1, 0)]
        return found.begin + (place - found.first) * found.every

    def _share_out(self, every: float, width: int) -> bool:
        """One more stretch in which all lanes keep their shares is known; False if all have had
        their turn.
        """
        given = allot(width, width, [Asking(lane, ages) for lane, ages in self._left.items()])
        if not given:
            return False
        span = given.total() * every
        times = self._times(given, span)
        for lane, share in given.items():
            first = self._done[lane] + 1
            self._done[lane] += times * share
            self._add(Segment(lane, first, self._done[lane] + 1, self._clock, span / share))
            _take(self._left[lane], times * share)
        before = int(self._clock / AGE)
        self._clock += times * span
        for _ in range(min(int(self._clock / AGE) - before, AGES)):
            for ages in self._left.values():
                ages[:] = [0, *ages[:-2], sum(ages[-2:])]
        return True

    def _times(self, given: Mapping[str, int], span: float) -> int:
        """How often the same shares are given: until a line's oldest have gone, or all have aged.

        Those who are as old as can be do not age any more.
        """
        oldest = (
            next(waiting for waiting in reversed(self._left[lane]) if waiting) // share
            for lane, share in given.items()
        )
        times = min(oldest)
        if span and any(any(ages[:-1]) for ages in self._left.values()):
            times = min(times, int((AGE - self._clock % AGE) / span))
        return max(times, 1)

    def _add(self, segment: Segment) -> None:
        segments = self._of[segment.lane]
        if segments and segments[-1].every == segment.every:
            last = segments[-1]
            continued = last.begin + (segment.first - last.first) * last.every
            if abs(continued - segment.begin) <= _SAME * (1.0 + segment.begin):
                segments[-1] = replace(last, until=segment.until)
                return
        segments.append(segment)


def _take(ages: list[int], count: int) -> None:
    """So many of a line have gone, the oldest first."""
    for age in reversed(range(len(ages))):
        gone = min(ages[age], count)
        ages[age] -= gone
        count -= gone
