"""The webhooks of a pretend provider: what it says about a charge on its own, and how badly."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from orch8.errors import ConfigurationError, InvalidArgument
from orch8.handlers.http import Call, Caller
from orch8.handlers.ssrf import check_headers
from orch8.handlers.wire import sign
from orch8.testing.agenda import Agenda
from orch8.testing.entry import Charge, Ending, Turn
from orch8.testing.misbehaviour import Do, Script, Stage
from orch8.testing.personalities import Facts, Personality

MAX_LOG: Final = 1000
MAX_HEADERS: Final = 32
MAX_BACKOFF: Final = 30.0
_GONE: Final = 410
_TYPES: Final[Mapping[Ending, str]] = {
    Ending.SUCCEEDED: "charge.succeeded",
    Ending.DECLINED: "charge.failed",
    Ending.PENDING: "charge.pending",
    Ending.REQUIRES_ACTION: "charge.requires_action",
}


class Format(StrEnum):
    """What a delivery looks like."""

    EVENT = "event"  # as card providers send it
    ORCH8 = "orch8"  # the body that orch8's POST /attempts/evidence takes; nothing of "pending"


@dataclass(frozen=True, slots=True)
class Target:
    """Where webhooks go. ``secret`` (whsec_) signs them by Standard Webhooks.

    What is not answered with 2xx within ``timeout_ms`` is sent again, ``tries`` times in all, after
    ``backoff_ms``, twice that, and so on up to 30 s.
    """

    url: str
    secret: str | None = None
    format: Format = Format.EVENT
    headers: Mapping[str, str] = field(default_factory=dict)
    source: str = "webhook"
    timeout_ms: float = 5000.0
    tries: int = 8
    backoff_ms: float = 200.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url) if isinstance(self.url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidArgument("url: must be an http or https address, or null for no webhooks")
        if self.secret is not None:
            _check_secret(self.secret)
        if not isinstance(self.source, str) or not self.source:
            raise InvalidArgument("source: must be a name")
        given = self.headers if isinstance(self.headers, Mapping) else {"": None}
        if len(given) > MAX_HEADERS or not all(
            isinstance(word, str) and word for pair in given.items() for word in pair
        ):
            raise InvalidArgument(f"headers: must be an object of texts, at most {MAX_HEADERS}")
        check_headers(given.items())
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidArgument(f"{name}: must be a number, not {value!r}")
            if not low <= value <= high:
                raise InvalidArgument(f"{name}: must be from {low} to {high}")
        if not isinstance(self.tries, int):
            raise InvalidArgument("tries: must be a whole number")

    @classmethod
    def from_json(cls, body: Any) -> Target | None:
        """The target that a JSON object describes; None for one whose url is null."""
        if not isinstance(body, dict) or "url" not in body:
            raise InvalidArgument('url: is missing; send {"url": "http://..."} or {"url": null}')
        known = [f.name for f in fields(cls)]
        for name in body:
            if name not in known:
                raise InvalidArgument(f"{name}: is unknown; there are {', '.join(known)}")
        if body["url"] is None:
            return None
        given = dict(body)
        try:
            given["format"] = Format(given.get("format", Format.EVENT))
        except ValueError:
            words = " or ".join(Format)
            raise InvalidArgument(f"format: must be {words}, not {given['format']!r}") from None
        return cls(**given)


_BOUNDS: Final = (("timeout_ms", 1, 60_000), ("tries", 1, 100), ("backoff_ms", 0, 600_000))


def _check_secret(secret: Any) -> None:
    try:
        sign("", 0, b"", [secret])
    except (ConfigurationError, AttributeError):
        raise InvalidArgument("secret: must be whsec_ followed by base64") from None


@dataclass(frozen=True, slots=True)
class _Event:
    """One word about a charge; it is the same event however often it is sent."""

    event_id: str
    charge: Charge
    turn: Turn

    def body(self, target: Target) -> bytes:
        ending = self.turn.ending
        if target.format is Format.ORCH8:
            word = {
                "idempotency_key": self.charge.key,
                "outcome": ending,
                "provider_ref": self.charge.charge_id,
                "output": self.turn.body,
                "event_id": self.event_id,
                "source": target.source,
            }
            return orjson.dumps(word)
        data = {
            "idempotency_key": self.charge.key,
            "charge_id": self.charge.charge_id,
            "status": "failed" if ending is Ending.DECLINED else ending,
            "outcome": ending,
            "amount": self.charge.amount,
            "currency": self.charge.currency,
        }
        created = round(self.turn.at, 3)
        return orjson.dumps(
            {"id": self.event_id, "type": _TYPES[ending], "created": created, "data": data}
        )


class Webhooks:
    """Says what became of charges to its target, if it has one; safe to use from any thread."""

    def __init__(
        self,
        agenda: Agenda,
        script: Script,
        personality: Personality,
        target: Target | None = None,
    ) -> None:
        self._agenda, self._script, self._personality = agenda, script, personality
        self._caller = Caller()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._log: deque[dict[str, Any]] = deque(maxlen=MAX_LOG)
        self._target = target

    def aim(self, target: Target | None) -> None:
        """Webhooks go there from now on, those that are waiting too; None sends no new ones."""
        with self._lock:
            self._target = target

    def announce(self, charge: Charge) -> None:
        """What has become of a charge just now is on its way, as the script wants it."""
        with self._lock:
            target = self._target
        if target is None:
            return
        rule = self._script.pick(Stage.WEBHOOK, charge.handler, charge.key)
        do = rule.do if rule is not None else None
        if do is Do.WEBHOOK_NEVER:
            self._count("never")
            return
        events = self._events(charge, do)
        if target.format is Format.ORCH8:  # takes only words that settle an attempt
            events = [event for event in events if event.turn.ending is not Ending.PENDING]
        if rule is not None and do is Do.WEBHOOK_DUPLICATE:
            events *= rule.copies
        wait = rule.delay_ms / 1000 if rule is not None else 0.0
        self._count("announced", len(events))
        if not self._agenda.after(wait, partial(self._send_all, events)):
            self._count("given_up", len(events))

    def shown(self) -> dict[str, Any]:
        """The target without its secret, what came of all sends, and the last 1,000 of them.

        ``announced`` = ``delivered`` + ``given_up`` + ``waiting``; ``failed`` counts sends.
        """
        with self._lock:
            target = self._target
            names = ("announced", "delivered", "failed", "given_up", "never")
            counts = {name: self._counts[name] for name in names}
            log = list(self._log)
        counts["waiting"] = counts["announced"] - counts["delivered"] - counts["given_up"]
        aimed = {"url": target.url, "format": target.format} if target is not None else None
        return {"target": aimed, **counts, "sends": log}

    def _events(self, charge: Charge, do: Do | None) -> list[_Event]:
        true = _event(charge, charge.last)
        match do:
            case Do.WEBHOOK_CONTRARY_FIRST:
                return [self._contrary(charge, -0.001), true]
            case Do.WEBHOOK_CONTRARY_LAST:
                return [true, self._contrary(charge, 0.001)]
            case Do.WEBHOOK_OUT_OF_ORDER:
                return [true, self._older(charge)]
        return [true]

    def _contrary(self, charge: Charge, later: float) -> _Event:
        declined = charge.last.ending is Ending.DECLINED
        ending = Ending.SUCCEEDED if declined else Ending.DECLINED
        return self._made_up(charge, ending, later)

    def _older(self, charge: Charge) -> _Event:
        if len(charge.turns) > 1:
            return _event(charge, charge.turns[-2])
        return self._made_up(charge, Ending.PENDING, -0.001)

    def _made_up(self, charge: Charge, ending: Ending, later: float) -> _Event:
        facts = Facts(charge.charge_id, charge.amount, charge.currency)
        _, body = self._personality.tell(ending, facts)
        return _event(charge, Turn(charge.last.at + later, ending, body))

    def _send_all(self, events: list[_Event]) -> None:
        for event in events:
            self._send(event, 1)

    def _send(self, event: _Event, number: int) -> None:
        with self._lock:
            target = self._target
        if target is None:
            self._count("given_up")
            return
        raw = event.body(target)
        stamp = int(time.time())  # of the signature: receivers compare it with their own clock
        headers = [
            ("Content-Type", "application/json"),
            ("webhook-id", event.event_id),
            ("webhook-timestamp", str(stamp)),
            *target.headers.items(),
        ]
        if target.secret is not None:
            signature = sign(event.event_id, stamp, raw, [target.secret])
            headers.append(("webhook-signature", signature))
        call = Call(target.url, body=raw, headers=tuple(headers), timeout=target.timeout_ms / 1000)
        answer = self._caller.call(call)
        status = answer.evidence.get("http_status")
        well = status is not None and 200 <= status < 300  # noqa: PLR2004
        backoff = min(target.backoff_ms / 1000 * 2 ** (number - 1), MAX_BACKOFF)
        again = (
            not well
            and status != _GONE
            and number < target.tries
            and self._agenda.after(backoff, partial(self._send, event, number + 1))
        )
        line = {"event_id": event.event_id, "type": _TYPES[event.turn.ending], "try": number}
        line |= {"key": event.charge.key, "status": status, "at": time.monotonic()}
        with self._lock:
            self._log.append(line)
            self._counts["failed"] += not well
            self._counts["delivered"] += well
            self._counts["given_up"] += not (well or again)

    def _count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number


def _event(charge: Charge, turn: Turn) -> _Event:
    whole = f"{charge.charge_id}/{turn.ending}/{turn.at:.6f}"
    return _Event("evt_" + hashlib.sha256(whole.encode()).hexdigest()[:24], charge, turn)
