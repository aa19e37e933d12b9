"""Which bits may be set where: the least solution of a data-flow problem over numbered points."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_VISITS: Final = 60  # of a point, on average, after which a graph is given up as too tangled


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to the bits on the way from one point to another.

    A bit outside ``keep`` is lost, those of ``add`` are set, and for the first bit of each pair in
    ``turn`` that was set the second is.
    """

    keep: int = -1
    add: int = 0
    turn: tuple[tuple[int, int], ...] = ()

    def after(self, bits: int) -> int:
        """The bits behind the change."""
        result = (bits & self.keep) | self.add
        for was, becomes in self.turn:
            if bits & was:
                result |= becomes
        return result


SAME: Final = Change()
NOTHING: Final = Change(keep=0)


@dataclass(frozen=True, slots=True)
class _Meeting:
    ways: tuple[int, ...]
    inside: int


class Graph:
    """Points with ways between them; a point that no way leads to is never reached."""

    def __init__(self) -> None:
        self._ways: list[list[tuple[int, Change]]] = []
        self._meets_at: dict[int, list[int]] = {}
        self._meetings: dict[int, _Meeting] = {}

    def point(self) -> int:
        """A new point."""
        self._ways.append([])
        return len(self._ways) - 1

    def way(self, start: int, end: int, change: Change = SAME) -> None:
        """One can go from ``start`` to ``end``: the bits of all ways to a point are united."""
        self._ways[start].append((end, change))

    def meeting(self, ways: tuple[int, ...], inside: int) -> int:
        """A new point behind ways that have all been taken.

        Bits in ``inside``, which began on the ways, are united; of the others only those are left
        that no way has lost. It is reached when all of them are.
        """
        end = self.point()
        self._meetings[end] = _Meeting(ways, inside)
        for each in ways:
            self._meets_at.setdefault(each, []).append(end)
        return end

    def solve(self, start: int) -> list[int | None]:
        """The bits that may be set at each point, None where it is not reached.

        Nothing is reached if the graph is so tangled that the answer would cost too much.
        """
        bits: list[int | None] = [None] * len(self._ways)
        bits[start] = 0
        pending, waiting = deque([start]), {start}
        for _ in range(_VISITS * len(self._ways)):
            if not pending:
                return bits
            here = pending.popleft()
            waiting.discard(here)
            for end, came in self._onward(here, bits):
                before = bits[end]
                bits[end] = came if before is None else before | came
                if bits[end] != before and end not in waiting:
                    pending.append(end)
                    waiting.add(end)
        return [None] * len(self._ways)

    def _onward(self, here: int, bits: list[int | None]) -> list[tuple[int, int]]:
        now = bits[here] or 0
        onward = [(end, change.after(now)) for end, change in self._ways[here]]
        for end in self._meets_at.get(here, ()):
            meeting = self._meetings[end]
            came = [bits[each] for each in meeting.ways]
            known = [each for each in came if each is not None]
            if len(known) < len(came):
                continue
            outside, inside = -1, 0
            for each in known:
                outside &= each
                inside |= each
            onward.append((end, (outside & ~meeting.inside) | (inside & meeting.inside)))
        return onward
