"""What an answer says of the provider's limits: how long to wait, and what there is too much of.

Read are Retry-After, the IETF draft's RateLimit and RateLimit-Policy with its problem type
quota-exceeded, the older RateLimit-* and X-RateLimit-* headers, Stripe's reason and lock_timeout.
Dates are judged by the answer's own Date. Whatever cannot be read says nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

REFUSALS: Final = frozenset({429, 503})
LONGEST: Final = 3600.0  # seconds that a provider may ask for
MAX_FIELD: Final = 1000  # characters of a header that are looked at
_REMAINING: Final = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
_RESET: Final = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_TOLD: Final = frozenset({"ratelimit", *_REMAINING})
_REASON: Final = "stripe-rate-limited-reason"
_OBJECT_LOCK: Final = (
    "lock_timeout"  # Stripe: another request holds the object, no limit is reached
)
_EXCEEDED: Final = "quota-exceeded"  # how the type of the draft's problem ends
_MAX_BODY: Final = 65_536  # characters of a refusal's body that are looked at
# Numbers above this are moments since 1970, below it they are seconds from now; above the second
# they are in milliseconds.
_EPOCH: Final = 1e9
_IN_MS: Final = 1e11
_ITEM: Final = re.compile(r'((?:"[^"]*"|[^",])+)')
_PARAMETER: Final = re.compile(r';\s*([a-z*][a-z0-9_.*-]*)\s*=\s*("[^"]*"|[^;\s]*)')
_PAIR: Final = re.compile(r"\b(limit|remaining|reset)\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Pressure:
    """``seconds`` in which the provider wants no calls (None: it does not say), ``scope`` of the
    limit (global, endpoint, resource; None: it does not say), and whether it is about how many
    calls are in flight, not about how many there are in a time. ``last``: this call was let
    through, as the last one for so long.
    """

    seconds: float | None = None
    scope: str | None = None
    concurrent: bool = False
    last: bool = False

    def to_json(self) -> dict[str, Any]:
        """The pressure as a member of an answer's evidence; read() reads it."""
        return {"seconds": self.seconds, "scope": self.scope, "concurrent": self.concurrent} | (
            {"last": True} if self.last else {}
        )


def read(evidence: Mapping[str, Any]) -> Pressure | None:
    """The pressure that an answer's evidence tells of."""
    found = evidence.get("pressure")
    return Pressure(**found) if isinstance(found, Mapping) else None


def pressure(
    status: int, headers: Mapping[str, str], body: bytes = b"", now: float | None = None
) -> Pressure | None:
    """What an answer says of its limit; None if that is nothing. ``headers`` have names in lower
    case; ``now`` is seconds since 1970 and goes behind the answer's own Date.
    """
    refused = status in REFUSALS
    if not refused and _TOLD.isdisjoint(headers):
        return None
    now = _now(headers, now)
    reason = headers.get(_REASON, "").strip().lower()
    scope = next((s for s in ("global", "endpoint", "resource") if reason.startswith(s)), None)
    code, violated = _said(body) if refused else ("", [])
    policies = dict(_items(headers.get("ratelimit-policy", "")[:MAX_FIELD]))
    spent = _spent(headers, policies, violated)
    seconds = retry_after(headers, now) if refused else None
    if seconds is None:
        older = _older(headers, now, unsaid=refused)
        seconds = max([wait for _, wait in spent if wait is not None] or older, default=None)
    if seconds is not None:
        seconds = min(max(seconds, 0.0), LONGEST)
    concurrent = reason.endswith("concurrency") or any(
        policies.get(name, {}).get("qu") == "concurrent-requests" for name, _ in spent
    )
    if not refused:
        return Pressure(seconds, last=True) if seconds and not concurrent else None
    return Pressure(seconds, "resource" if code == _OBJECT_LOCK else scope, concurrent)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """The seconds that Retry-After asks for, as a number or as a date; None if it asks for none."""
    text = headers.get("retry-after")
    if text is None:
        return None
    wait = _until(text[:MAX_FIELD], _now(headers, now))
    return wait if wait is not None and wait > 0 else None


def _now(headers: Mapping[str, str], otherwise: float | None) -> float:
    """When the answer was given, by the clock of whoever gave it."""
    at = _moment(headers.get("date", "")[:MAX_FIELD])
    return at if at is not None else time.time() if otherwise is None else otherwise


def _said(body: bytes) -> tuple[str, list[str]]:
    """The code in a refusal's body, and the policies that it violated by the problem type."""
    try:
        said = orjson.loads(body) if 0 < len(body) <= _MAX_BODY else None
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        return "", []
    inner = said.get("error")
    code = inner.get("code") if isinstance(inner, dict) else said.get("code")
    violated = said.get("violated-policies")
    if not str(said.get("type", "")).endswith(_EXCEEDED) or not isinstance(violated, list):
        violated = []
    return str(code), [str(name) for name in violated]


def _spent(
    headers: Mapping[str, str], policies: Mapping[str, Mapping[str, str]], violated: list[str]
) -> list[tuple[str, float | None]]:
    """The policies that have nothing left, with the seconds until they have: what RateLimit says,
    or else the whole window of the policy.
    """
    text = headers.get("ratelimit", "")[:MAX_FIELD]
    earlier = dict(_PAIR.findall(text))  # the drafts before the eighth
    if "remaining" in earlier:
        left = int(earlier["remaining"])
        return [] if left else [("", _number(earlier.get("reset")))]
    states = dict(_items(text))
    names = [n for n, state in states.items() if _number(state.get("r")) == 0 and not violated]
    found = []
    for name in (*names, *violated):
        wait = _number(states.get(name, {}).get("t"))
        found.append((name, _number(policies.get(name, {}).get("w")) if wait is None else wait))
    return found


def _items(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for item in _ITEM.findall(text):
        name, _, _ = item.partition(";")
        yield (
            name.strip().strip('"'),
            {key: value.strip('"') for key, value in _PARAMETER.findall(item)},
        )


def _older(headers: Mapping[str, str], now: float, *, unsaid: bool) -> list[float]:
    """Seconds until the older headers say that calls are welcome again; ``unsaid``: also where they
    do not say that none is left.
    """
    found = []
    for left, reset in zip(_REMAINING, _RESET, strict=True):
        remaining = _number(headers.get(left))
        if (remaining == 0 or (remaining is None and unsaid)) and reset in headers:
            found.append(_until(headers[reset][:MAX_FIELD], now))
    return [wait for wait in found if wait is not None]


def _until(text: str, now: float) -> float | None:
    value = _number(text)
    if value is not None:
        value = value / 1000 if value > _IN_MS else value
        return value - now if value > _EPOCH else value
    at = _moment(text)
    return None if at is None else at - now


def _moment(text: str) -> float | None:
    try:
        at = parsedate_to_datetime(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if re.fullmatch(r"\d{1,13}(\.\d{1,6})?", text) else None
