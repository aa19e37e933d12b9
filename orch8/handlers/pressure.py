"""What a 429 or 503 says of the provider's limits: how long to wait, and what there is too much of.

Read are Retry-After, the IETF draft's RateLimit and RateLimit-Policy, the older RateLimit-* and
X-RateLimit-* headers, and Stripe's reason. Whatever cannot be read says nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

REFUSALS: Final = frozenset({429, 503})
LONGEST: Final = 3600.0  # seconds that a provider may ask for
MAX_FIELD: Final = 1000  # characters of a header that are looked at
_REMAINING: Final = ("ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining")
_RESET: Final = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_REASON: Final = "stripe-rate-limited-reason"
# Numbers above this are moments since 1970, below it they are seconds from now.
_EPOCH: Final = 1e9
_ITEM: Final = re.compile(r'((?:"[^"]*"|[^",])+)')
_PARAMETER: Final = re.compile(r';\s*([a-z*][a-z0-9_.*-]*)\s*=\s*("[^"]*"|[^;\s]*)')
_PAIR: Final = re.compile(r"\b(limit|remaining|reset)\s*=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Pressure:
    """``seconds`` in which the provider wants no calls (None: it does not say), ``scope`` of the
    limit (global, endpoint, resource; None: it does not say), and whether it is about how many
    calls are in flight, not about how many there are in a time.
    """

    seconds: float | None = None
    scope: str | None = None
    concurrent: bool = False

    def to_json(self) -> dict[str, Any]:
        """The pressure as a member of an answer's evidence; read() reads it."""
        return {"seconds": self.seconds, "scope": self.scope, "concurrent": self.concurrent}


def read(evidence: Mapping[str, Any]) -> Pressure | None:
    """The pressure that an answer's evidence tells of."""
    found = evidence.get("pressure")
    return Pressure(**found) if isinstance(found, Mapping) else None


def pressure(
    status: int, headers: Mapping[str, str], retry_after: float | None, now: float | None = None
) -> Pressure | None:
    """What an answer says of its limit; None if it was not refused for one. ``headers`` have names
    in lower case, ``now`` is seconds since 1970.
    """
    if status not in REFUSALS:
        return None
    now = time.time() if now is None else now
    reason = headers.get(_REASON, "").strip().lower()
    scope = next((s for s in ("global", "endpoint", "resource") if reason.startswith(s)), None)
    spent = _spent(headers)
    seconds = retry_after
    if seconds is None:
        resets = [wait for _, wait in spent if wait is not None] or list(_older(headers, now))
        seconds = max(resets, default=None)
    if seconds is not None:
        seconds = min(max(seconds, 0.0), LONGEST)
    counted = _units(headers)
    concurrent = reason.endswith("concurrency") or any(
        counted.get(name) == "concurrent-requests" for name, _ in spent
    )
    return Pressure(seconds, scope, concurrent)


def _spent(headers: Mapping[str, str]) -> list[tuple[str, float | None]]:
    """The policies of RateLimit that have nothing left, with the seconds until they have."""
    text = headers.get("ratelimit", "")[:MAX_FIELD]
    earlier = dict(_PAIR.findall(text))  # the drafts before the eighth
    if "remaining" in earlier:
        left = int(earlier["remaining"])
        return [] if left else [("", _number(earlier.get("reset")))]
    found = []
    for name, parameters in _items(text):
        if _number(parameters.get("r")) == 0:
            found.append((name, _number(parameters.get("t"))))
    return found


def _units(headers: Mapping[str, str]) -> dict[str, str]:
    """What each policy of RateLimit-Policy counts, if it says so."""
    text = headers.get("ratelimit-policy", "")[:MAX_FIELD]
    return {name: parameters.get("qu", "") for name, parameters in _items(text)}


def _items(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for item in _ITEM.findall(text):
        name, _, _ = item.partition(";")
        yield (
            name.strip().strip('"'),
            {key: value.strip('"') for key, value in _PARAMETER.findall(item)},
        )


def _older(headers: Mapping[str, str], now: float) -> Iterator[float]:
    """Seconds until the older headers say that calls are welcome again."""
    for left, reset in zip(_REMAINING, _RESET, strict=True):
        if _number(headers.get(left)) in (None, 0.0) and reset in headers:
            wait = _until(headers[reset][:MAX_FIELD], now)
            if wait is not None:
                yield wait


def _until(text: str, now: float) -> float | None:
    value = _number(text)
    if value is not None:
        return value - now if value > _EPOCH else value
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if re.fullmatch(r"\d{1,12}(\.\d{1,6})?", text) else None
