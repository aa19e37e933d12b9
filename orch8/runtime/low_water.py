"""low water: the due time below which nothing of a lane is due, where looks for due steps begin.

An index keeps the entries of steps that were taken for as long as a transaction is open that could
still see them. They lie below what is due now, and a look that begins at the bottom wades through
all of them. So it begins a little below what was the first to be due when somebody last looked.

What is due below that all the same, since it was committed late or given back, is found by whole
looks. Every look is a whole one while they are cheap, which they are unless somebody keeps a
transaction open; else they are made as often as they take a hundredth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orch8.storage.steps import EVER

CHEAP: Final = 0.010  # seconds that a whole look may take without being put off
REST: Final = 100  # times as long as a whole look took nobody makes another
SELDOM: Final = 30.0  # seconds within which there is one in any case
MARGIN: Final = timedelta(seconds=2)  # commits that come so late are seen by every look


@dataclass(slots=True)
class Look:
    """A look at a lane's due steps from ``since`` on. Whoever looks states the ``first`` due time
    that was found, and whether all that was due from ``since`` on would have been ``seen``.
    """

    since: datetime
    first: datetime | None = None
    seen: bool = True


@dataclass(slots=True)
class _Mark:
    since: datetime = EVER
    whole_at: float = float("-inf")


class LowWater:
    """What one process knows of its lanes. Threads may share it: at worst they look too low."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: dict[str, _Mark] = {}

    def since(self, lane: str) -> datetime:
        """From where the lane's due steps were looked at last, or a little higher."""
        return self._mark(lane).since

    @contextmanager
    def look(self, lane: str) -> Iterator[Look]:
        """The block is a look at the lane: a whole one if it is time for that."""
        mark, began = self._mark(lane), self._clock()
        whole = began >= mark.whole_at
        look = Look(EVER if whole else mark.since)
        try:
            yield look
        finally:
            if whole:
                took = self._clock() - began
                rest = REST * took if took > CHEAP else 0.0
                mark.whole_at = began + min(rest, SELDOM)
        if look.first is None:
            return
        below = look.first - MARGIN
        if whole and below < mark.since:
            mark.since = below
        elif look.seen:
            mark.since = max(below, mark.since)

    def _mark(self, lane: str) -> _Mark:
        return self._marks.setdefault(lane, _Mark())
