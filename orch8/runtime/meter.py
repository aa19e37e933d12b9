"""meter: what a worker process counts and times; it is added up in Postgres every few seconds.

Nobody scrapes a worker process. What one counted since it wrote last is lost with it.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final

import structlog

from orch8.errors import Orch8Error
from orch8.storage import buckets
from orch8.storage.buckets import LAST, SUM
from orch8.storage.transaction import Tx

log = structlog.get_logger(__name__)

EVERY: Final = 5.0  # seconds between two writings
CLAIMED: Final = "orch8_instances_claimed"
TICK: Final = "orch8_tick_duration_seconds"
STEP: Final = "orch8_step_duration_seconds"
BOUNDS: Final[Mapping[str, tuple[float, ...]]] = {
    TICK: (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, LAST),
    STEP: (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, LAST),
}


class Meter:
    """Counts for one process, from any thread."""

    def __init__(self) -> None:
        self._amounts = _nothing()
        self._mutex = threading.Lock()
        self._written_at = time.monotonic()

    def claimed(self, count: int) -> None:
        """So many more claims of an instance's steps were made."""
        with self._mutex:
            self._amounts[CLAIMED, LAST] += count

    def called(self, seconds: float) -> None:
        """A call of a step took so long."""
        self._observe(STEP, seconds)

    def ticked(self, seconds: float) -> None:
        """A tick took so long."""
        self._observe(TICK, seconds)

    def write(self, begin: Callable[[], AbstractContextManager[Tx]], *, now: bool = False) -> None:
        """What was counted is added up in the database, unless that was done a moment ago; with
        ``now`` in any case. What cannot be written is written the next time.
        """
        if not now and time.monotonic() - self._written_at < EVERY:
            return
        self._written_at = time.monotonic()
        with self._mutex:
            amounts, self._amounts = self._amounts, _nothing()
        if not amounts:
            return
        try:
            with begin() as tx:
                buckets.add(tx, amounts)
        except Orch8Error as problem:
            log.warning("meter.not_written", error=problem.detail)
            with self._mutex:
                for at, amount in amounts.items():
                    self._amounts[at] += amount

    def _observe(self, metric: str, seconds: float) -> None:
        bounds = BOUNDS[metric]
        bound = bounds[bisect_left(bounds, seconds)]
        with self._mutex:
            self._amounts[metric, bound] += 1
            self._amounts[metric, SUM] += seconds


def _nothing() -> defaultdict[tuple[str, float], float]:
    return defaultdict(float)
