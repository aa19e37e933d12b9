"""What a pretend provider does later by itself: actions run at their time by a few threads."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import Final

THREADS: Final = 4
MAX_WAITING: Final = 100_000


class Agenda:
    """Runs actions after a time. Its threads begin with the first action and end with ``close``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._threads: list[threading.Thread] = []
        self._count = 0
        self._closed = False

    def after(self, seconds: float, action: Callable[[], None]) -> bool:
        """The action will be run; False when the agenda is full or closed, and it will not."""
        with self._changed:
            if self._closed or len(self._waiting) >= MAX_WAITING:
                return False
            self._count += 1
            heapq.heappush(self._waiting, (time.monotonic() + seconds, self._count, action))
            if not self._threads:
                self._threads = [
                    threading.Thread(target=self._work, name=f"agenda-{n}", daemon=True)
                    for n in range(THREADS)
                ]
                for thread in self._threads:
                    thread.start()
            self._changed.notify()
            return True

    def close(self, timeout: float) -> None:
        """Nothing more is begun, and what was begun has ended or ``timeout`` seconds are over."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (action := self._next()) is not None:
            action()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                wait = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(wait)
            return None
