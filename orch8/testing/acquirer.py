"""The mind of a pretend payment provider: what one request comes to, without any socket."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import orjson

from orch8.handlers.wire import verify
from orch8.testing.agenda import Agenda
from orch8.testing.entry import Charge, Ending, Turn
from orch8.testing.ledger import Ledger, Standing
from orch8.testing.misbehaviour import Becomes, Do, Rule, Script, Stage
from orch8.testing.personalities import Facts, Personality
from orch8.testing.replies import MAX_SILENCE, Reply, error
from orch8.testing.search import Search, sought
from orch8.testing.webhooks import Webhooks

SEARCHES: Final = "find_"  # a handler with a name that begins so looks for charges
_BEFORE: Final = frozenset({Do.RATE_LIMIT, Do.UNAVAILABLE, Do.FAIL_BEFORE, Do.HANG_UP})
_ENDINGS: Final[Mapping[Do, Ending]] = {
    Do.SUCCEED: Ending.SUCCEEDED,
    Do.FAIL_AFTER: Ending.SUCCEEDED,
    Do.COMMIT_THEN_HANG_UP: Ending.SUCCEEDED,
    Do.COMMIT_THEN_TIME_OUT: Ending.SUCCEEDED,
    Do.COMMIT_THEN_GARBLE: Ending.SUCCEEDED,
    Do.DECLINE: Ending.DECLINED,
    Do.DECLINE_402: Ending.DECLINED,
    Do.PENDING: Ending.PENDING,
    Do.REQUIRES_ACTION: Ending.REQUIRES_ACTION,
}
_ENDS: Final[Mapping[Becomes, Ending]] = {
    Becomes.SUCCEED: Ending.SUCCEEDED,
    Becomes.DECLINE: Ending.DECLINED,
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler endpoint was asked; ``attempt`` is the subject with its generation."""

    handler: str
    key: str
    subject: str
    attempt: str
    fingerprint: str
    amount: Any
    currency: Any


class Acquirer:
    """Answers requests by its script and writes them into its ledger.

    ``latency`` is in seconds; with any ``secrets`` (whsec_), a request that none of them signed is
    answered 401. Setting ``stopping`` ends every pause.
    """

    def __init__(
        self,
        ledger: Ledger,
        script: Script,
        personality: Personality,
        *,
        webhooks: Webhooks,
        search: Search,
        agenda: Agenda,
        latency: float = 0.0,
        secrets: Sequence[str] = (),
    ) -> None:
        self.ledger, self.script, self.webhooks, self.search = ledger, script, webhooks, search
        self.stopping = threading.Event()
        self._personality, self._agenda = personality, agenda
        self._latency = latency
        self._secrets = tuple(secrets)

    def answer(self, handler: str, headers: Mapping[str, str], raw: bytes) -> Reply:
        """The reply to one request of a handler; the ledger knows about it. Header names: small."""
        if self._secrets and not verify(headers, raw, self._secrets):
            return Reply(401, error("bad_signature", "none of the secrets signed this request"))
        if handler.startswith(SEARCHES):
            key = sought(raw)
            if key is None:
                return Reply(400, error("bad_request", "attempt.idempotency_key: is missing"))
            return self.find(handler, key)
        request = _read(handler, headers, raw, self._personality.header)
        if request is None:
            return Reply(400, error("bad_request", "the body must be a JSON object"))
        if not self.ledger.arrive(request.handler, request.key, request.subject):
            return Reply(507, error("ledger_full", "start the provider with a fresh ledger"))
        rule = self.script.pick(Stage.CALL, request.handler, request.key) or Rule()
        if rule.do in _BEFORE and not rule.store_error:
            self._pause(rule)
            return self._before(rule)
        return self._by_key(request, rule)

    def find(self, handler: str, key: str) -> Reply:
        """What the search says of a key, by the name that it was called with."""
        rule, delay = self.search.delay(handler, key)
        self.stopping.wait(self._latency + delay)
        return self.search.answer(key, rule)

    def _by_key(self, request: Request, rule: Rule) -> Reply:
        match self.ledger.begin(request.key, request.fingerprint):
            case Standing.BUSY:
                return self._personality.busy
            case Standing.MISMATCH:
                return self._personality.mismatch
            case Standing.STORED:
                status, body = self.ledger.replay(request.key)
                return self._after(rule, Reply(status, body, self._personality.replayed))
            case Standing.EXISTS:
                self.ledger.replay(request.key)
                return self._after(rule, self._personality.exists(self.ledger.latest(request.key)))
            case Standing.NEW:
                return self._execute(request, rule)

    def _execute(self, request: Request, rule: Rule) -> Reply:
        stored: tuple[int, Any] | None = None
        charge: Charge | None = None
        try:
            self._pause(rule)
            ending = _ENDINGS.get(rule.do)
            if ending is None:
                reply = self._without_effect(rule)
            else:
                status, body = self._told(request, rule, ending)
                charge = Charge(
                    body["charge_id"],
                    request.key,
                    request.handler,
                    request.attempt,
                    request.amount,
                    request.currency,
                    (Turn(self.ledger.now(), ending, body),),
                )
                reply = Reply(status, body)
            if rule.store_error:
                stored = (
                    self._personality.server_error.status,
                    self._personality.server_error.body,
                )
            elif charge is not None:  # a refused request is not kept: it may come back corrected
                stored = (reply.status, reply.body)
        finally:
            self.ledger.end(request.key, stored, charge)
        if charge is not None:
            self.webhooks.announce(charge)
            if rule.becomes is not None:
                become = partial(self._become, charge, _ENDS[rule.becomes])
                self._agenda.after(rule.becomes_ms / 1000, become)
        return self._after(rule, reply)

    def _told(self, request: Request, rule: Rule, ending: Ending) -> tuple[int, dict[str, Any]]:
        charge_id = self.ledger.new_id(request.key)
        facts = Facts(charge_id, request.amount, request.currency, rule.decline_code)
        if rule.do is Do.DECLINE_402:
            told = error(rule.decline_code or "card_declined", "Your card was declined.")
            status, body = 402, {**facts.base(), "status": "failed", **told}
        else:
            status, body = self._personality.tell(ending, facts)
        return status, {**body, **(rule.body or {}), "charge_id": charge_id}

    def _without_effect(self, rule: Rule) -> Reply:
        if rule.do is not Do.REFUSE:
            return self._personality.server_error
        refused = self._personality.refused
        return Reply(refused.status, {**refused.body, **(rule.body or {})})

    def _become(self, charge: Charge, ending: Ending) -> None:
        facts = Facts(charge.charge_id, charge.amount, charge.currency)
        _, body = self._personality.tell(ending, facts)
        self.webhooks.announce(self.ledger.turn(charge.charge_id, ending, body))

    def _before(self, rule: Rule) -> Reply:
        match rule.do:
            case Do.HANG_UP:
                return Reply(0)
            case Do.RATE_LIMIT:
                told, status = error("rate_limit", "too many requests"), 429
            case Do.UNAVAILABLE:
                told, status = error("unavailable", "down for a moment"), 503
            case _:
                return self._personality.server_error
        return Reply(status, told, {"Retry-After": rule.retry_after})

    def _after(self, rule: Rule, reply: Reply) -> Reply:
        match rule.do:
            case Do.COMMIT_THEN_HANG_UP:
                return Reply(0)
            case Do.COMMIT_THEN_TIME_OUT:
                return Reply(0, silence=MAX_SILENCE)
            case Do.COMMIT_THEN_GARBLE:
                return Reply(200, b"<html><body>gateway: response lost</body></html>")
            case Do.FAIL_AFTER:
                return self._personality.server_error
        return reply

    def _pause(self, rule: Rule) -> None:
        seconds = self._latency + rule.delay_ms / 1000
        if seconds > 0:
            self.stopping.wait(seconds)


def _read(handler: str, headers: Mapping[str, str], raw: bytes, header: str) -> Request | None:
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    key = headers.get(header) or headers.get("idempotency-key") or body.get("idempotency_key")
    if not isinstance(key, str) or not key:
        key = f"none-{time.monotonic_ns()}"  # no key, no protection: each request is its own
    subject = f"{body.get('instance_id', key)}/{body.get('step', handler)}"
    wanted = orjson.dumps([handler, body.get("params")], option=orjson.OPT_SORT_KEYS)
    return Request(
        handler,
        key,
        subject,
        f"{subject}#{body.get('generation', 1)}",
        hashlib.sha256(wanted).hexdigest(),
        *_money(body),
    )


def _money(body: dict[str, Any]) -> tuple[Any, Any]:
    context = body.get("context")
    data = context.get("data") if isinstance(context, dict) else None
    for place in (body.get("params"), data, context):
        if isinstance(place, dict):
            amount = place.get("amount_cents", place.get("amount"))
            if amount is not None:
                return amount, place.get("currency")
    return None, None
