"""lanes: how many slots each lane gets, of a process's calls or of a rate-limited key. Pure.

Every lane has a reserved share; what it does not use is lent to whoever asks, and comes back as
slots become free. What is reserved for nobody goes to the lane that ranks highest, and a step that
has waited rises: so customers are served first, and nobody is forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

INTERACTIVE: Final = "interactive"
SHARES: Final[Mapping[str, float]] = {
    INTERACTIVE: 0.20,
    "renewal": 0.40,
    "bulk": 0.10,
    "backfill": 0.05,
}
LANES: Final = tuple(SHARES)  # the highest first
AGE: Final = 60.0  # seconds: a step that has waited so long counts as one lane higher
AGES: Final = len(LANES)  # ages that are told apart; the last is that long or longer
ENOUGH: Final = 2 * len(LANES)  # slots of which every lane has one in reserve
_RANKS: Final = {lane: rank for rank, lane in enumerate(LANES)}


@dataclass(frozen=True, slots=True)
class Asking:
    """What a lane wants: ``waiting[n]`` steps have waited for n times AGE, and ``busy`` slots are
    its own already.
    """

    lane: str
    waiting: Sequence[int]
    busy: int = 0

    @property
    def total(self) -> int:
        """How many steps wait."""
        return sum(self.waiting)


def rank(lane: str, age: int = 0) -> tuple[int, bool, int, int]:
    """Where a step stands in the order for slots that are reserved for nobody; the smallest goes
    first. Who has risen as high as interactive comes after those who are in it by right.
    """
    own = _RANKS.get(lane, AGES - 1)
    return max(own - age, 0), lane != INTERACTIVE, -age, own


def reserve(lane: str, width: int) -> int:
    """How many of ``width`` slots are reserved for a lane: its share, and at least one if there are
    enough of them to go round.
    """
    share = SHARES.get(lane, 0.0)
    return max(int(share * width), 1 if share and width >= ENOUGH else 0)


def owed(width: int, asking: Iterable[Asking]) -> dict[str, int]:
    """How many slots of its reserve each lane wants and does not have; lanes that want none are
    left out.
    """
    wanted = {a.lane: min(a.total, reserve(a.lane, width) - a.busy) for a in asking}
    return {lane: slots for lane, slots in wanted.items() if slots > 0}


def allot(
    free: int, width: int, asking: Sequence[Asking], *, advance: bool = False
) -> Counter[str]:
    """How many of ``free`` slots each lane gets: first its reserve, the highest lane first, then by
    rank. With ``advance`` a lane gets its reserve even if others have lent all of it.
    """
    given: Counter[str] = Counter()
    due = owed(width, asking)
    for lane in sorted(due, key=rank):
        given[lane] = due[lane] if advance else min(due[lane], free)
        free -= given[lane]
    groups = []
    for each in asking:
        taken = given[each.lane]
        for age in reversed(range(len(each.waiting))):  # who waits longest has the reserve
            left = max(each.waiting[age] - taken, 0)
            taken -= each.waiting[age] - left
            groups.append((rank(each.lane, age), each.lane, left))
    for _, lane, left in sorted(groups):
        given[lane] += max(min(left, free), 0)
        free -= max(min(left, free), 0)
    return +given


class Slots:
    """The call slots of one process, and which lane each is used by."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._busy: Counter[str] = Counter()
        self.owed = 0  # free slots that follow-ups leave alone: lanes wait for their reserve

    def take(self, lane: str) -> None:
        """One more slot is the lane's."""
        self._busy[lane] += 1

    def give_back(self, lane: str) -> None:
        """One of the lane's slots is free again."""
        self._busy[lane] -= 1

    def recount(self, lanes: Iterable[str]) -> None:
        """A slot is used by each of these lanes, as often as it is named, and no other is."""
        self._busy = Counter(lanes)

    def deal(self, free: int, waiting: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
        """How many of the free slots each lane gets of those that have steps ``waiting`` (by age),
        the highest lane first. From now on ``owed`` is what they lack of their reserve.
        """
        asking = [Asking(lane, ages, self._busy[lane]) for lane, ages in waiting.items()]
        given = allot(free, self._width, asking)
        due = owed(self._width, asking)
        self.owed = sum(max(slots - given[lane], 0) for lane, slots in due.items())
        return sorted(given.items(), key=lambda item: rank(item[0]))
