"""How often a stranger may ask: a bound for each second, kept by each web process for itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable


class Throttle:
    """Counts what came in the current second; safe to share between threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._second = 0
        self._counts: Counter[Hashable] = Counter()
        self._lock = threading.Lock()

    def admits(self, who: Hashable, now: float) -> bool:
        """Whether this is not more than ``most`` from ``who`` in the second of ``now``."""
        with self._lock:
            if int(now) != self._second:
                self._second = int(now)
                self._counts.clear()
            self._counts[who] += 1
            return self._counts[who] <= self.most
