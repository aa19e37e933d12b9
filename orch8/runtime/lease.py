"""A process's lease: one row, extended by one statement, covers every claim it holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import UUID

import structlog

from orch8.errors import Orch8Error
from orch8.runtime.office import Office
from orch8.storage import fleet
from orch8.storage.ids import uuid7

log = structlog.get_logger(__name__)


class Lease:
    """This process's incarnation: its id, and until when (time.monotonic) it may send.

    A process that was paused longer than its lease comes back as a new incarnation: what it still
    holds under the old id belongs to whoever takes it back. One that an operator drains never
    comes back: ``drain`` is called when it is told so, ``drained`` once it holds nothing any more.
    """

    def __init__(
        self,
        office: Office,
        node: str,
        lanes: Callable[[], list[str]],
        calls: Callable[[], int],
        *,
        role: str = fleet.WORKER,
        drain: Callable[[], None] = lambda: None,
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        self._office, self._node, self._lanes, self._calls = office, node, lanes, calls
        self._role, self._drain, self._drained = role, drain, drained
        self.draining = self._ended = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.worker_id = uuid7()
        self.sends_until = 0.0

    def hold(self) -> UUID:
        """The id of the present incarnation, enlisted if it was not."""
        with self._lock:
            if time.monotonic() >= self.sends_until and not self.draining:
                self._enlist()
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="orch8-lease", daemon=True)
                self._thread.start()
            return self.worker_id

    def release(self) -> None:
        """The process claims nothing any more; what it still holds is taken back by a tick."""
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join(timeout=5)
        try:
            with self._lock, self._office.begin() as tx:
                fleet.dismiss(tx, self.worker_id)
            self._office.meter.write(self._office.begin, now=True)
        except Orch8Error as problem:  # then its lease ends by itself
            log.warning("lease.not_released", worker_id=str(self.worker_id), error=problem.detail)

    def _enlist(self) -> None:
        began, worker_id = time.monotonic(), uuid7()
        with self._office.begin() as tx:
            lease = self._office.settings.lease
            fleet.enlist(tx, worker_id, self._node, self._lanes(), lease, self._role)
        self.worker_id, self.sends_until = worker_id, began + self._office.settings.lease

    def _beat(self) -> None:
        settings = self._office.settings
        while not self._stop.wait(settings.heartbeat):
            began = time.monotonic()
            try:
                with self._lock, self._office.begin() as tx:
                    calls = self._calls()
                    held = fleet.extend(
                        tx, self.worker_id, self._lanes(), calls, settings.lease,
                        resting=self.draining and not calls,
                    )  # fmt: skip
            except Orch8Error as problem:
                log.warning(
                    "lease.not_extended", worker_id=str(self.worker_id), error=problem.detail
                )
                continue
            if held is None:
                log.warning("lease.lost", worker_id=str(self.worker_id))
                self.sends_until = 0.0
                continue
            self.sends_until = began + settings.lease
            self._office.meter.write(self._office.begin)
            if held.draining and not self.draining:
                log.info("node.draining", worker_id=str(self.worker_id))
                self.draining = True
                self._drain()
            if held.drained and not self._ended:
                log.info("node.drained", worker_id=str(self.worker_id))
                self._ended = True
                self._drained()
