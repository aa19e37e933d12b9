"""A claimed step as its handler gets it, and the lease under which it is held."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orch8.client.caller import Caller, Retries
from orch8.client.paths import path
from orch8.client.reading import Answer
from orch8.client.reports import Dispatch
from orch8.errors import Conflict, LeaseLost, NotFound

log = logging.getLogger(__name__)

QUICK: Final = Retries(most=1, patience=5.0)  # of a heartbeat: the next one is due soon
SOON: Final = 5.0  # seconds for its answer, so that one that is lost does not hold up the others
_ENDED: Final = (LeaseLost, NotFound)


@dataclass(frozen=True, kw_only=True)
class Offer(Answer):
    """What polling answers about one step."""

    id: str
    instance_id: str
    block_id: str
    node_key: str
    handler_name: str
    params: Any
    context: Mapping[str, Any] | None
    outputs: Any
    attempt: int
    idempotency_key: str | None
    timeout_ms: int | None
    worker_id: str
    claim_epoch: int
    checkpoint_seq: int
    dispatch: int = 1
    queue_name: str | None = None
    resume_checkpoint: Any = None


class Task:
    """One step to do: what it is given, and ``heartbeat``.

    ``idempotency_key`` goes to the provider: it is the same however often the attempt is sent.
    """

    def __init__(self, offer: Offer, caller: Caller) -> None:
        self._offer, self._caller = offer, caller
        self._seq = offer.checkpoint_seq
        self._mutex = threading.Lock()
        self._lost = threading.Event()
        timeout = offer.timeout_ms
        self._until = None if timeout is None else time.monotonic() + timeout / 1000

    @property
    def offer(self) -> Offer:
        """Everything that the API said of the step."""
        return self._offer

    @property
    def params(self) -> Any:
        """The step's parameters, rendered."""
        return self._offer.params

    @property
    def data(self) -> Mapping[str, Any]:
        """The ``data`` of the instance's context."""
        found = (self._offer.context or {}).get("data")
        return found if isinstance(found, dict) else {}

    @property
    def outputs(self) -> Any:
        """The outputs of earlier steps that the step refers to."""
        return self._offer.outputs

    @property
    def idempotency_key(self) -> str:
        """The key of the attempt."""
        return self._offer.idempotency_key or ""

    @property
    def attempt(self) -> int:
        """How many attempts failed before, from 0."""
        return self._offer.attempt

    @property
    def checkpoint(self) -> Any:
        """What the last heartbeat kept, here or in the worker that had the step before; or None."""
        return self._offer.resume_checkpoint

    @property
    def remaining(self) -> float | None:
        """The seconds until the step's time-out, not below 0; None if it has none."""
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    @property
    def lost(self) -> bool:
        """Whether another dispatch has the step by now: what this one comes to is evidence only."""
        return self._lost.is_set()

    @property
    def dispatch(self) -> Dispatch:
        """What a report about the step speaks of."""
        return Dispatch(self._offer.id, self._offer.claim_epoch, self._offer.worker_id)

    def heartbeat(self, progress: Any = None) -> None:
        """The lease is extended; ``progress`` (JSON, 256 KiB at most) is kept for whoever takes the
        step over. Raises LeaseLost if another has it: stop, and do no more harm.
        """
        with self._mutex:
            if self.lost:
                raise LeaseLost
            try:
                self._beat(progress)
            except _ENDED as problem:
                self._lost.set()
                log.warning("orch8: step %s is not this worker's any more", self._offer.id)
                raise LeaseLost(str(problem)) from problem

    def _beat(self, progress: Any) -> None:
        if progress is None:
            self._seq = self._say({})
            return
        try:
            self._seq = self._say({"checkpoint": progress, "checkpoint_seq": self._seq})
        except LeaseLost:
            raise
        except Conflict:  # an earlier one was kept, and its answer lost: ask for the number
            self._seq = self._say({})
            self._seq = self._say({"checkpoint": progress, "checkpoint_seq": self._seq})

    def _say(self, more: Mapping[str, Any]) -> int:
        to = self.dispatch
        body = {"worker_id": to.worker_id, "claim_epoch": to.epoch, **more}
        at = path("workers", "tasks", to.step_id, "heartbeat")
        said = self._caller.ask("POST", at, body, repeatable=True, retries=QUICK, timeout=SOON)
        return int(said["checkpoint_seq"])
