"""postman: events in the outbox are delivered to their receivers, again if need be, then parked.

At least once and in no order: a receiver leaves out what it had before by the delivery's id. One
that is slow or away holds up nobody else: each address has a loop, and calls, of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import orjson
import structlog

from orch8.config import Settings
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import BadGateway, Conflict, NotFound
from orch8.handlers.classify import Response
from orch8.handlers.http import Call, Caller
from orch8.runtime.because import Because
from orch8.runtime.notices import receivers
from orch8.runtime.office import Office
from orch8.storage import buckets, outbox
from orch8.storage.outbox import Attempt
from orch8.storage.transaction import Row, Tx

log = structlog.get_logger(__name__)

PARALLEL: Final = 64  # calls in flight, in all
TIMEOUT: Final = 10.0  # seconds of a call
RETRIES: Final = 3
FIRST_PAUSE: Final = 0.5  # seconds; doubled each time
HELD: Final = timedelta(seconds=60)  # in flight for this long: its process is gone
MOST_ATTEMPTS: Final = 100  # by whomever
NEAR: Final = 5.0  # seconds: what is due that soon is waited for
MAX_ANSWER: Final = 64 * 1024
SENT, FAILED, PARKED = (f"orch8_webhooks_{what}" for what in ("sent", "failed", "parked"))
_TRY_LATER: Final = frozenset({408, 429})
_OK, _REDIRECT, _CLIENT, _SERVER = 200, 300, 400, 500


class Postman:
    """Delivers for one process, from threads of its own."""

    def __init__(self, office: Office) -> None:
        self._office, self._caller = office, Caller()
        self._urls = receivers(office.settings)
        self._share = PARALLEL // max(len(self._urls), 1)
        self._pool = ThreadPoolExecutor(PARALLEL, "orch8-post")
        self._loops: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()

    def go(self) -> None:
        """What is due at any receiver is on its way soon. Returns at once; without receivers
        nothing is asked.
        """
        for url in self._urls:
            loop = self._loops.get(url)
            if self._stopping.is_set() or (loop is not None and loop.is_alive()):
                continue
            self._loops[url] = threading.Thread(
                target=self._serve, args=(url,), name="orch8-postman", daemon=True
            )
            self._loops[url].start()

    def stop(self, within: float) -> None:
        """Nothing new is sent; calls in flight had ``within`` seconds to be answered."""
        self._stopping.set()
        ends = time.monotonic() + within
        for loop in self._loops.values():
            loop.join(max(ends - time.monotonic(), 0.0))
        self._pool.shutdown(wait=False, cancel_futures=True)

    def round(self, url: str) -> int:
        """Up to a share of what is due at the receiver has been sent and settled; how many."""
        with self._office.database.begin() as tx:
            rows = outbox.claim_due(tx, url, HELD, self._share)
        if rows:
            carry = partial(attempt, self._caller, self._office.settings)
            attempts = list(self._pool.map(carry, rows))
            _settle(self._office, attempts)
        return len(rows)

    def _serve(self, url: str) -> None:
        try:
            while not self._stopping.is_set():
                if self.round(url):
                    continue
                with self._office.database.begin() as tx:
                    wait = outbox.due_in(tx, url)
                if wait is None or wait > NEAR:
                    return
                self._stopping.wait(wait)
        except Exception:  # the next tick begins anew; what was claimed is due again after HELD
            log.exception("postman.broke", url=url)


def redeliver(
    office: Office, caller: Caller, row_id: UUID, because: Because, *, tenant_id: str | None
) -> UUID:
    """The event has been sent once more, now, and was taken; the id of its delivery.

    NotFound if it is not in the outbox; Conflict if it is on its way, or was sent MOST_ATTEMPTS
    times; BadGateway if the receiver did not take it: then it is parked.
    """
    with office.database.begin() as tx:
        known = found(tx, row_id, tenant_id)
        if known.attempts >= MOST_ATTEMPTS:
            raise Conflict(f"the event was sent {known.attempts} times; delete it")
        row = outbox.claim_one(tx, row_id, HELD)
        if row is None:
            raise Conflict("the event is on its way right now; try again shortly")
        _note(tx, row, "webhook.redelivered", because)
    came = attempt(caller, office.settings, row, alone=True)
    _settle(office, [came])
    if not came.delivered:
        raise BadGateway(f"the receiver did not take it: {came.error}")
    return row_id


def drop(tx: Tx, row_id: UUID, because: Because, *, tenant_id: str | None) -> None:
    """The event is not sent any more. Raises NotFound."""
    row = found(tx, row_id, tenant_id)
    outbox.delete(tx, row_id)
    _note(tx, row, "webhook.deleted", because)


def found(tx: Tx, row_id: UUID, tenant_id: str | None) -> Row:
    """The event in the outbox. Raises NotFound."""
    row = outbox.read(tx, row_id, tenant_id)
    if row is None:
        raise NotFound(f"event {row_id} is not in the outbox; it was delivered, or never there")
    return row


def attempt(caller: Caller, settings: Settings, row: Row, *, alone: bool = False) -> Attempt:
    """What came of sending the claimed event once. It is not tried again by itself if ``alone``."""
    if not alone and row.attempts > RETRIES + 1:
        message = "the processes that sent it were lost, one after the other"
        return Attempt(row, delivered=False, error=message, error_class="lost")
    answer = caller.call(
        Call(
            url=row.url,
            body=body_of(row),
            headers=tuple(headers_of(row, settings, int(time.time())).items()),
            timeout=TIMEOUT,
            connect_timeout=settings.handler_connect_timeout,
            max_response=MAX_ANSWER,
            guard=not settings.allow_internal_urls,
            classify=_taken,
        )
    )
    return _judged(row, answer, alone=alone)


def body_of(row: Row) -> bytes:
    """The bytes that are sent, the same in every attempt."""
    return orjson.dumps(row.payload)


def headers_of(row: Row, settings: Settings, at: int) -> dict[str, str]:
    """The headers that go with the event; ``at`` is in Unix seconds. The signature is the hex
    HMAC-SHA256 of ``<at>.<body>``, so that neither can be changed alone.
    """
    headers = {
        "Content-Type": "application/json",
        "X-Orch8-Delivery-Id": str(row.id),
        "X-Orch8-Timestamp": str(at),
    }
    if settings.webhook_secret:
        content = f"{at}.".encode() + body_of(row)
        digest = hmac.digest(settings.webhook_secret.encode(), content, hashlib.sha256).hex()
        headers["X-Orch8-Signature"] = f"sha256={digest}"
    return headers


def _settle(office: Office, attempts: Sequence[Attempt]) -> None:
    counts: Counter[tuple[str, float]] = Counter()
    for each in attempts:
        counts[SENT if each.delivered else FAILED, buckets.LAST] += 1
        counts[PARKED, buckets.LAST] += not each.delivered and each.retry_after is None
    with office.database.begin() as tx:
        outbox.settle(tx, attempts)
        buckets.add(tx, counts)


def _taken(response: Response) -> Answer:
    return Answer(Verdict.SUCCEEDED, evidence=response.evidence)


def _judged(row: Row, answer: Answer, *, alone: bool) -> Attempt:
    """Taken is what was answered 2xx, whatever the body. A redirect is not followed and not taken:
    the receiver has moved. What would be refused the same way again is parked at once.
    """
    evidence: Mapping[str, Any] = answer.evidence
    status = evidence.get("http_status")
    error, again = None, answer.verdict is not Verdict.REFUSED
    if status is not None:
        error = None if _OK <= status < _REDIRECT else f"the receiver answered {status}"
        again = status >= _SERVER or status < _OK or status in _TRY_LATER
    elif answer.error is not None:
        error = str(answer.error.get("message"))
    if error is None:
        kind = None
    else:
        kind = f"http_{status // 100}xx" if status else str((answer.error or {}).get("code"))
    retry = error is not None and again and not alone and row.attempts <= RETRIES
    return Attempt(
        row,
        delivered=error is None,
        http_status=status,
        error=error,
        error_class=kind,
        elapsed_ms=float(evidence.get("elapsed_ms") or 0.0),
        retry_after=FIRST_PAUSE * 2 ** (row.attempts - 1) if retry else None,
    )


def _note(tx: Tx, row: Row, action: str, because: Because) -> None:
    body = {"delivery": str(row.id), "event_type": row.event_type, "url": row.url}
    because.note(tx, row.tenant_id, action, {**body, "instance_id": str(row.instance_id)})
