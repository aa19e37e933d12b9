"""A pull worker: asks orch8 for steps, runs their handlers, tells how they ended."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final, TypeVar
from uuid import uuid4

from orch8.client.bench import Bench, Handler
from orch8.client.caller import NEVER
from orch8.client.connected import Client
from orch8.client.orders import EVERY, Orders
from orch8.client.reports import PATIENCE, Reports
from orch8.client.task import Offer, Task
from orch8.errors import ConfigurationError, Orch8Error

log = logging.getLogger(__name__)

H = TypeVar("H", bound=Handler)

LONGEST_PAUSE: Final = 30.0  # seconds between attempts to reach an orch8 that is away
_SERVERS: Final = 500  # from this status on it is not the worker's fault


class Worker:
    """Does the steps of its handlers, up to ``concurrency`` at a time, each in a thread.

        worker = Worker(Client("http://127.0.0.1:8080"))

        @worker.handler("charge_card")
        def charge_card(task): ...

        worker.run()

    What a handler returns is the step's output. It raises Declined, Refused or TryAgain to say
    what surely happened; any other exception says nothing about the effect, and the step's outcome
    is unknown. A step whose lease was lost is reported all the same: orch8 keeps the report as
    evidence, answers 409, and changes nothing.

    Times are seconds: ``poll_every`` without work, ``heartbeat_every``, ``grace`` in which steps
    under way may end after ``stop``, and ``patience`` in which a report is tried again. ``queue``
    narrows to one queue of each handler; ``version`` is for orch8's list of workers, and for the
    versions that are pinned. ``commands_every`` it looks whether it is told to drain.
    """

    def __init__(
        self,
        client: Client,
        handlers: Mapping[str, Handler] | None = None,
        *,
        worker_id: str | None = None,
        concurrency: int = 8,
        queue: str | None = None,
        version: str | None = None,
        poll_every: float = 0.5,
        heartbeat_every: float = 10.0,
        grace: float = 30.0,
        patience: float = PATIENCE,
        commands_every: float = EVERY,
    ) -> None:
        if concurrency < 1 or poll_every <= 0 or heartbeat_every <= 0:
            raise ConfigurationError("concurrency, poll_every and heartbeat_every must be above 0")
        self.worker_id = worker_id or f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._caller = client.caller
        self._handlers: dict[str, Handler] = dict(handlers or {})
        self._concurrency, self._queue, self._version = concurrency, queue, version
        self._poll_every, self._heartbeat_every = poll_every, heartbeat_every
        self._grace, self._reports = grace, Reports(client.caller, patience)
        self._orders = Orders(client.caller, self.worker_id, self.stop, commands_every)
        self._stopping = False
        # Rung by signal handlers too: unlike an Event's, its lock cannot be held by who is
        # interrupted.
        self._bell: SimpleQueue[None] = SimpleQueue()

    def handler(self, name: str) -> Callable[[H], H]:
        """The function below does the steps of this handler."""

        def register(function: H) -> H:
            self._handlers[name] = function
            return function

        return register

    def run(self) -> None:
        """Steps are done until ``stop``, SIGTERM or SIGINT; then those under way have ended, or
        their grace is over, and orch8 will take them back.

        An orch8 that is away is waited for. Raises the error of an API that refuses to be polled,
        such as Unauthorized, after the steps under way.
        """
        if not self._handlers:
            raise ConfigurationError("the worker has no handler: name one with @worker.handler")
        bench = Bench(self._concurrency, self._reports, self._heartbeat_every, self._ring)
        try:
            with self._stopped_by_signals():
                self._poll_until_stopped(bench)
        finally:
            bench.close(self._grace)

    def stop(self) -> None:
        """No further step is asked for, and ``run`` returns when those under way have ended. May
        be called by a signal handler, and from any thread.
        """
        self._stopping = True
        self._ring()

    def _poll_until_stopped(self, bench: Bench) -> None:
        pause = self._poll_every
        while not self._stopping:
            self._orders.look()
            try:
                found = self._poll(bench)
            except Orch8Error as problem:
                if problem.http_status < _SERVERS and not problem.retryable:
                    raise
                self._wait_for_orch8(problem, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = self._poll_every
            if not found or not bench.free:
                self._rest(_about(self._poll_every))

    def _poll(self, bench: Bench) -> int:
        """How many steps were found and are under way now."""
        found = 0
        names = list(self._handlers)
        random.shuffle(names)  # so that none always comes first when there is little room
        for name in names:
            room = bench.free
            if not room or self._stopping:
                break
            body = {"handler_name": name, "worker_id": self.worker_id, "limit": room}
            body |= {} if self._version is None else {"version": self._version}
            at = "/workers/tasks/poll"
            if self._queue is not None:
                at, body = f"{at}/queue", {**body, "queue_name": self._queue}
            # What a lost answer offered comes back when its lease is over, asked again or not.
            said = self._caller.ask("POST", at, body, repeatable=True, retries=NEVER)
            for offer in Offer.read_all(said):
                bench.begin(Task(offer, self._caller), self._handlers[name])
                found += 1
        return found

    def _wait_for_orch8(self, problem: Orch8Error, pause: float) -> None:
        wait = max(_about(pause), problem.retry_after or 0.0)
        log.warning("orch8: no steps can be asked for (%s); again in %.1f s", problem, wait)
        deadline = time.monotonic() + wait
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            self._rest(left)

    def _ring(self) -> None:
        self._bell.put(None)

    def _rest(self, seconds: float) -> None:
        """Until somebody rings, or for so long."""
        try:
            self._bell.get(timeout=seconds)
            while True:
                self._bell.get_nowait()
        except Empty:
            pass

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop the worker, if it runs in the main thread; then as before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, former in before.items():
                signal.signal(number, signal.SIG_DFL if former is None else former)


def _about(seconds: float) -> float:
    """The seconds give or take a quarter, so that workers do not ask in step."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - spreads callers, hides nothing
