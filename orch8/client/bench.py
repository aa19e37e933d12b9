"""The steps that a worker has under way: their threads, their heartbeats and how they end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from orch8.client.reports import Reports
from orch8.client.task import Task
from orch8.errors import LeaseLost, Orch8Error

log = logging.getLogger(__name__)

Handler = Callable[[Task], Any]


class Bench:
    """Room for ``size`` steps. ``freed()`` is called whenever one has ended, by its thread."""

    def __init__(
        self, size: int, reports: Reports, heartbeat_every: float, freed: Callable[[], None]
    ) -> None:
        self._size, self._reports, self._every, self._freed = size, reports, heartbeat_every, freed
        self._changed = threading.Condition()
        self._held: dict[tuple[str, int], Task] = {}
        self._closed = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="orch8-heartbeats", daemon=True)
        self._beats.start()

    @property
    def free(self) -> int:
        """For how many further steps there is room."""
        with self._changed:
            return self._size - len(self._held)

    def begin(self, task: Task, handler: Handler) -> None:
        """The step is under way in a thread of its own, and its lease is extended until it ends."""
        with self._changed:
            self._held[self._key(task)] = task
        # A daemon: a handler that never returns must not keep the process from ending.
        name = f"orch8-{task.offer.handler_name}"
        threading.Thread(target=self._work, args=(task, handler), name=name, daemon=True).start()

    def close(self, grace: float) -> None:
        """Every step has ended, or the grace (seconds) is over: orch8 takes back what is left when
        its lease is over, which nobody extends any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._held, grace)
            left = [task.offer.id for task in self._held.values()]
        if left:
            log.warning("orch8: left under way, for orch8 to take back: %s", ", ".join(left))
        self._closed.set()
        self._beats.join()

    def _work(self, task: Task, handler: Handler) -> None:
        try:
            try:
                output = handler(task)
            except BaseException as problem:
                log.info("orch8: step %s raised", task.offer.id, exc_info=problem)
                self._reports.raised(task.dispatch, problem)
            else:
                self._reports.complete(task.dispatch, output)
        finally:
            with self._changed:
                del self._held[self._key(task)]
                self._changed.notify_all()
            self._freed()

    def _beat(self) -> None:
        due = time.monotonic() + self._every
        while not self._closed.wait(max(due - time.monotonic(), 0.0)):
            due = time.monotonic() + self._every
            with self._changed:
                held = [task for task in self._held.values() if not task.lost]
            for task in held:
                try:
                    task.heartbeat()
                except LeaseLost:
                    continue  # it is in the log, and the handler can see it
                except Orch8Error as problem:
                    log.warning("orch8: step %s: no heartbeat: %s", task.offer.id, problem)

    @staticmethod
    def _key(task: Task) -> tuple[str, int]:
        """A step that was lost may come again while its handler still runs: another claim."""
        return task.offer.id, task.offer.claim_epoch
