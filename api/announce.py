"""Announcing: a lane has new work, told to the workers from a thread that nobody waits for.

It is a courtesy. Whatever goes wrong here costs at most the time until the next tick, so nothing
here ever raises, and a broker that is away is left alone for a second after each failure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import structlog

log = structlog.get_logger(__name__)

CIRCUIT: Final = 1.0  # seconds of rest after a failure
PACE: Final = 0.005  # seconds between two rings: under load one stands for many
BUSY: Final = 0.015  # more for a lane of which the workers have not taken the last message yet
MAX_LANES: Final = 64


class Bell(Protocol):
    """What merges many rings into one message: orch8.limits.Doorbell."""

    def ring(self, lane: str) -> bool:
        """Whether a message must be sent."""

    def clear(self, lane: str) -> bool:
        """The next ring is told to send one."""


class Announcer:
    """Rings for lanes on the leading edge: the first ring goes out at once, those that come while
    it is on its way, or within PACE after it, are one more, or within BUSY more if the workers have
    yet to take the message before. ``publish(lane)`` sends the message and has a short time-out.
    """

    def __init__(
        self, bell: Bell, publish: Callable[[str], None], *, circuit: float = CIRCUIT
    ) -> None:
        self._bell, self._publish, self._circuit = bell, publish, circuit
        self._lanes: set[str] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def __call__(self, lane: str) -> None:
        """The lane is announced soon. Returns at once and never raises."""
        with self._changed:
            if lane in self._lanes or len(self._lanes) >= MAX_LANES:
                return  # the thread will see to it, or is far behind
            self._lanes.add(lane)
            if self._thread is None:
                # Not in the constructor: a server may fork between wiring and serving.
                self._thread = threading.Thread(
                    target=self._serve, name="orch8-announcer", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """The thread ends soon; what was not announced is left to the tick."""
        self._closed.set()
        with self._changed:
            self._changed.notify()

    def _serve(self) -> None:
        while not self._closed.is_set():
            with self._changed:
                while not self._lanes and not self._closed.is_set():
                    self._changed.wait()
                lanes, self._lanes = self._lanes, set()
            told = {lane: self._announce(lane) for lane in sorted(lanes)}
            self._closed.wait(self._circuit if None in told.values() else PACE)
            pending = {lane for lane, sent in told.items() if sent is False}
            with self._changed:
                if pending:
                    self._changed.wait_for(partial(self._others, pending), BUSY)

    def _others(self, pending: set[str]) -> bool:
        return self._closed.is_set() or not self._lanes <= pending

    def _announce(self, lane: str) -> bool | None:
        """Whether a message was sent, None if that failed; False if one is on its way already."""
        if self._closed.is_set():
            return False
        try:
            if not self._bell.ring(lane):
                return False
            self._publish(lane)
        except Exception as problem:  # noqa: BLE001 - of any library; the tick does without us
            log.warning("announce.failed", lane=lane, error=f"{type(problem).__name__}: {problem}")
            self._bell.clear(lane)  # or the next ring would count on a message that never left
            return None
        return True
