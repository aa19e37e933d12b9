"""sweep: what is only kept for a time is forgotten after it, a bounded number at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from orch8.storage import emissions
from orch8.storage.transaction import Tx

EVERY: Final = 300.0  # seconds between looks (CONTRACT 36)
MOST: Final = 1000  # rows of one kind at a look
# Each forgets up to so many rows that are old, and says how many they were.
SWEEPS: Final[tuple[Callable[[Tx, int], int], ...]] = (emissions.forget_old,)


class Sweep:
    """Looks now and then; of more than MOST old rows the rest waits for the next look."""

    def __init__(self) -> None:
        self._looked_at = float("-inf")

    def look(self, begin: Callable[[], AbstractContextManager[Tx]]) -> int:
        """Unless it was looked a moment ago: what is old is forgotten; how many rows."""
        if time.monotonic() - self._looked_at < EVERY:
            return 0
        self._looked_at = time.monotonic()
        gone = 0
        for forget in SWEEPS:
            with begin() as tx:
                gone += forget(tx, MOST)
        return gone
