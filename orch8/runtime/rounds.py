"""rounds: which keys have a queue, found a page at a time, so that each of them has its turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from orch8.storage import queues
from orch8.storage.queues import Key
from orch8.storage.transaction import Tx

PAGE = 50  # keys that are looked after in one transaction
MOST_KNOWN = 50_000  # keys that are kept in mind; those beyond have their turns all the same


class Rounds:
    """Goes round the keys with a queue, as one process does it. Safe to share between threads."""

    def __init__(
        self, page: int = PAGE, *, most: int = MOST_KNOWN, clock: Callable[[], float] | None = None
    ) -> None:
        self._page, self._most, self._clock = page, most, clock or time.monotonic
        self._lock = threading.Lock()
        self._after: Key | None = None  # the key behind which the next page begins
        self._began_at = 0.0
        self._now: set[Key] = set()  # found in this round so far
        self._before: frozenset[Key] | None = None  # found in the last whole round
        self._took = 0.0

    def next(self, tx: Tx) -> list[Key]:
        """The next keys with a queue, at most a page of them; behind the last come the first."""
        with self._lock:
            if self._after is None:
                self._began_at = self._clock()
            rows = queues.keys(tx, self._after, self._page)
            found = [(row.tenant_id, row.limit_key) for row in rows]
            self._now.update(found[: max(self._most - len(self._now), 0)])
            self._after = found[-1] if len(found) == self._page else None
            if self._after is None:
                self._before, self._now = frozenset(self._now), set()
                self._took = self._clock() - self._began_at
            return found

    @property
    def over(self) -> bool:
        """Whether the last page was the last of its round."""
        return self._after is None

    @property
    def known(self) -> frozenset[Key] | None:
        """The keys that had a queue when they were last looked at; None before one whole round."""
        with self._lock:
            return None if self._before is None else self._before | self._now

    @property
    def took(self) -> float:
        """Seconds from the first page of the last whole round to its last: how long a key waits
        for its next turn, but for the pause between two rounds.
        """
        return self._took
