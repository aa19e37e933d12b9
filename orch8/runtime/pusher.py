"""pusher: addresses of queues are told of the tasks that are offered in them (CONTRACT 19.7).

Telling is a hint, at most a few times for each offer: the task waits as before, and whoever was
told has to poll for it. A queue whose address is slow holds up no other: each has a loop.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, Final

import orjson
import structlog

from orch8.engine.outcome import Answer, Verdict
from orch8.handlers.classify import Response
from orch8.handlers.http import Call, Caller
from orch8.runtime import tasks
from orch8.runtime.office import Office
from orch8.runtime.postman import signature
from orch8.runtime.tasks import TaskView
from orch8.storage import pushes, routing
from orch8.storage.transaction import Row

log = structlog.get_logger(__name__)

Queue = tuple[str, str]  # tenant, name

LOOPS: Final = 32  # queues that are served at a time
SHARE: Final = 8  # calls in flight for a queue
TIMEOUT: Final = 10.0  # seconds of a call
PAUSES: Final = (0.5, 1.0, 1.5)  # seconds before each further try
HELD: Final = timedelta(seconds=60)  # being sent for this long: its process is gone
LATER: Final = 60.0  # seconds after which a task of a paused instance is looked at again
NEAR: Final = 5.0  # seconds: what is due that soon is waited for
MAX_ANSWER: Final = 64 * 1024
_OK, _REDIRECT = 200, 300


class Pusher:
    """Tells for one process, from threads of its own."""

    def __init__(self, office: Office) -> None:
        self._office, self._caller = office, Caller()
        self._pool = ThreadPoolExecutor(LOOPS * SHARE, "orch8-push")
        self._loops: dict[Queue, threading.Thread] = {}
        self._stopping = threading.Event()

    def go(self) -> None:
        """What is due in any queue is on its way soon. Returns at once."""
        self._loops = {queue: loop for queue, loop in self._loops.items() if loop.is_alive()}
        room = LOOPS - len(self._loops)
        if self._stopping.is_set() or room <= 0:
            return
        with self._office.database.begin() as tx:
            due = [(row.tenant_id, row.queue_name) for row in pushes.due_queues(tx, LOOPS)]
        for queue in [each for each in due if each not in self._loops][:room]:
            loop = threading.Thread(
                target=self._serve, args=queue, name="orch8-pusher", daemon=True
            )
            self._loops[queue] = loop
            loop.start()

    def stop(self, within: float) -> None:
        """Nothing new is sent; calls in flight had ``within`` seconds to be answered."""
        self._stopping.set()
        ends = time.monotonic() + within
        for loop in self._loops.values():
            loop.join(max(ends - time.monotonic(), 0.0))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def round(self, tenant_id: str, queue: str) -> int:
        """Up to a share of what is due in the queue has been sent and settled; how many."""
        with self._office.begin() as tx:
            rows = pushes.claim(tx, tenant_id, queue, HELD, SHARE)
            receiver = routing.receiver(tx, tenant_id, queue) if rows else None
            found = [tasks.offered(self._office, tx, r.instance_id, r.node_key) for r in rows]
        if receiver is None:  # the queue is only polled by now
            found = [None] * len(rows)
        sent = self._pool.map(partial(self._end, receiver), rows, found)
        ends = list(zip(rows, sent, strict=True))
        with self._office.database.begin() as tx:
            pushes.settle(tx, ends)
        return len(rows)

    def _serve(self, tenant_id: str, queue: str) -> None:
        try:
            while not self._stopping.is_set():
                if self.round(tenant_id, queue):
                    continue
                with self._office.database.begin() as tx:
                    wait = pushes.due_in(tx, tenant_id, queue)
                if wait is None or wait > NEAR:
                    return
                self._stopping.wait(wait)
        except Exception:  # the next tick begins anew; what was claimed is due again after HELD
            log.exception("pusher.broke", tenant_id=tenant_id, queue=queue)

    def _end(self, receiver: Row, row: Row, view: TaskView | None) -> float | None:
        """Nothing more to do about a push, or the seconds after which it is tried again."""
        if view is None:  # it was taken meanwhile, or has ended
            return None
        if view.row.held_due_at is not None:
            return LATER
        problem = self._tell(receiver, row, view)
        if problem is None:
            return None
        if row.attempts <= len(PAUSES):
            return PAUSES[row.attempts - 1]
        log.warning("push.given_up", task_id=str(row.task_id), url=receiver.push_url, why=problem)
        return None

    def _tell(self, receiver: Row, row: Row, view: TaskView) -> str | None:
        """The address was sent the task; what went wrong, if it did not answer 2xx."""
        settings = self._office.settings
        body, at = orjson.dumps(body_of(view, row.queue_name)), int(time.time())
        headers = {"Content-Type": "application/json", "X-Orch8-Timestamp": str(at)}
        if receiver.secret:
            headers["X-Orch8-Signature"] = signature(receiver.secret, at, body)
        answer = self._caller.call(
            Call(
                url=receiver.push_url,
                body=body,
                headers=tuple(headers.items()),
                timeout=TIMEOUT,
                connect_timeout=settings.handler_connect_timeout,
                max_response=MAX_ANSWER,
                guard=not settings.allow_internal_urls,
                classify=_taken,
            )
        )
        status = answer.evidence.get("http_status")
        if status is not None:
            return None if _OK <= status < _REDIRECT else f"answered {status}"
        return str((answer.error or {}).get("message"))


def body_of(view: TaskView, queue: str) -> dict[str, Any]:
    """What an address is told of a task. References to credentials are references: who takes the
    task gets what they mean.
    """
    row = view.row
    return {
        "task_id": row.id,
        "instance_id": row.instance_id,
        "block_id": row.block_id,
        "handler_name": row.asking or row.handler,
        "queue_name": queue,
        "params": view.params,
        "context": view.context,
        "attempt": row.failures,
        "timeout_ms": view.timeout_ms,
    }


def _taken(response: Response) -> Answer:
    return Answer(Verdict.SUCCEEDED, evidence=response.evidence)
