"""The mind of a pretend payment provider: what one request comes to, without any socket."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from orch8.handlers.wire import verify
from orch8.testing.ledger import Ledger, Standing
from orch8.testing.misbehaviour import Do, Rule, Script

MAX_SILENCE: Final = 30.0
_BEFORE: Final = frozenset({Do.RATE_LIMIT, Do.UNAVAILABLE, Do.FAIL_BEFORE, Do.HANG_UP})
_CHARGES: Final = frozenset(
    {
        Do.SUCCEED,
        Do.FAIL_AFTER,
        Do.COMMIT_THEN_HANG_UP,
        Do.COMMIT_THEN_TIME_OUT,
        Do.COMMIT_THEN_GARBLE,
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler endpoint was asked."""

    handler: str
    key: str
    subject: str
    fingerprint: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back; status 0 closes the connection, after ``silence`` seconds at most."""

    status: int
    body: Any = None
    retry_after: str | None = None
    replayed: bool = False
    silence: float = 0.0


class Acquirer:
    """Answers requests by its script and writes them into its ledger.

    ``latency`` is in seconds; with any ``secrets`` (whsec_), a request that none of them signed is
    answered 401. Setting ``stopping`` ends every pause.
    """

    def __init__(
        self,
        ledger: Ledger,
        script: Script,
        *,
        latency: float = 0.0,
        secrets: Sequence[str] = (),
    ) -> None:
        self.ledger = ledger
        self.script = script
        self.stopping = threading.Event()
        self._latency = latency
        self._secrets = tuple(secrets)

    def answer(self, handler: str, headers: Mapping[str, str], raw: bytes) -> Reply:
        """The reply to one request of a handler; the ledger knows about it. Header names: small."""
        if self._secrets and not verify(headers, raw, self._secrets):
            return Reply(401, error("bad_signature", "none of the secrets signed this request"))
        request = _read(handler, headers, raw)
        if request is None:
            return Reply(400, error("bad_request", "the body must be a JSON object"))
        if not self.ledger.arrive(request.handler, request.key, request.subject):
            return Reply(507, error("ledger_full", "start the provider with a fresh ledger"))
        rule = self.script.pick(request.handler, request.key)
        if rule.do in _BEFORE:
            self._pause(rule)
            return _before(rule)
        return self._by_key(request, rule)

    def _by_key(self, request: Request, rule: Rule) -> Reply:
        standing = self.ledger.begin(request.key, request.fingerprint)
        if standing is Standing.BUSY:
            message = "a request with this key is in flight"
            return Reply(409, error("idempotency_key_in_use", message))
        if standing is Standing.MISMATCH:
            return Reply(400, error("idempotency_error", "this key had other parameters"))
        if standing is Standing.STORED:
            status, body = self.ledger.replay(request.key)
            return _after(rule, Reply(status, body, replayed=True))
        return self._execute(request, rule)

    def _execute(self, request: Request, rule: Rule) -> Reply:
        stored: tuple[int, Any] | None = None
        try:
            self._pause(rule)
            status, body = _result(request, rule)
            if rule.do in _CHARGES:
                self.ledger.charge(request.key)
            elif rule.do in (Do.DECLINE, Do.DECLINE_402):
                self.ledger.decline(request.key)
            keep_error = rule.do is Do.FAIL_AFTER and rule.store_error
            stored = _SERVER_ERROR if keep_error else (status, body)
            if rule.do is Do.REFUSE:
                stored = None  # a refused request is not kept: it may come back corrected
        finally:
            self.ledger.end(request.key, stored)
        return _after(rule, Reply(status, body))

    def _pause(self, rule: Rule) -> None:
        self.stopping.wait(self._latency + rule.delay_ms / 1000)


_SERVER_ERROR: Final = (500, {"error": {"code": "api_error", "message": "something went wrong"}})


def error(code: str, message: str) -> dict[str, Any]:
    """An error body as card providers write it."""
    return {"error": {"code": code, "message": message}}


def _read(handler: str, headers: Mapping[str, str], raw: bytes) -> Request | None:
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    key = headers.get("idempotency-key") or body.get("idempotency_key")
    if not isinstance(key, str) or not key:
        key = f"none-{time.monotonic_ns()}"  # no key, no protection: each request is its own
    subject = f"{body.get('instance_id', key)}/{body.get('step', handler)}"
    wanted = orjson.dumps([handler, body.get("params")], option=orjson.OPT_SORT_KEYS)
    return Request(handler, key, subject, hashlib.sha256(wanted).hexdigest(), body)


def _result(request: Request, rule: Rule) -> tuple[int, Any]:
    charge_id = "ch_" + hashlib.sha256(request.key.encode()).hexdigest()[:24]
    amount, currency = _money(request.body)
    base = {"charge_id": charge_id, "amount": amount, "currency": currency}
    table: dict[Do, tuple[int, dict[str, Any]]] = {
        Do.DECLINE: (200, {"status": "failed", "decline_code": "insufficient_funds"}),
        Do.DECLINE_402: (
            402,
            {"status": "failed", **error("card_declined", "Your card was declined.")},
        ),
        Do.PENDING: (202, {"status": "processing", "outcome": "pending"}),
        Do.REQUIRES_ACTION: (200, {"status": "requires_action", "outcome": "requires_action"}),
        Do.REFUSE: (422, error("parameter_invalid", "a parameter is wrong")),
    }
    status, more = table.get(rule.do, (200, {"status": "succeeded"}))
    if rule.do is Do.DECLINE:
        more = {**more, "outcome": "declined"}
    return status, {**base, **more, **(rule.body or {})}


def _money(body: dict[str, Any]) -> tuple[Any, Any]:
    context = body.get("context")
    data = context.get("data") if isinstance(context, dict) else None
    for place in (body.get("params"), data, context):
        if isinstance(place, dict):
            amount = place.get("amount_cents", place.get("amount"))
            if amount is not None:
                return amount, place.get("currency")
    return None, None


def _before(rule: Rule) -> Reply:
    if rule.do is Do.HANG_UP:
        return Reply(0)
    if rule.do is Do.RATE_LIMIT:
        return Reply(429, error("rate_limit", "too many requests"), rule.retry_after)
    if rule.do is Do.UNAVAILABLE:
        return Reply(503, error("unavailable", "down for a moment"), rule.retry_after)
    return Reply(*_SERVER_ERROR)


def _after(rule: Rule, reply: Reply) -> Reply:
    if rule.do is Do.COMMIT_THEN_HANG_UP:
        return Reply(0)
    if rule.do is Do.COMMIT_THEN_TIME_OUT:
        return Reply(0, silence=MAX_SILENCE)
    if rule.do is Do.COMMIT_THEN_GARBLE:
        return Reply(200, b"<html><body>gateway: response lost</body></html>")
    if rule.do is Do.FAIL_AFTER:
        return Reply(*_SERVER_ERROR)
    return reply
