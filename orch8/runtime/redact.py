"""redact: what a person is shown of a payload: no secrets, and no card number in full."""

from __future__ import annotations

import re
from typing import Any, Final

MAX_DEPTH: Final = 40
MAX_ITEMS: Final = 200  # members of one object or list
MAX_TEXT: Final = 2000  # characters of one text
HIDDEN: Final = "[redacted]"

# Names are compared without case and punctuation: apiKey, api_key and API-KEY are one.
_WHOLE: Final = frozenset(
    {
        "auth", "authorization", "cardnumber", "cookie", "csc", "cvc", "cvc2", "cvn", "cvv", "cvv2",
        "iban", "pan", "pin", "pwd", "ssn", "track", "track1", "track2",
    }
)  # fmt: skip
_PARTS: Final = (
    "accountnumber", "accesskey", "apikey", "cardnumber", "credential", "passphrase", "passwd",
    "password", "privatekey", "secret", "securitycode", "token", "trackdata",
)  # fmt: skip
_NOT_IN_NAME: Final = re.compile(r"[^a-z0-9]+")
_SECRET: Final = re.compile(
    r"\b(?:Bearer|Basic)\s+[\w.~+/=-]{8,}"
    r"|\b(?:sk|rk|pk)_(?:live|test)_\w{8,}"
    r"|\bwhsec_[\w+/=-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
)
# 13 to 19 digits, single blanks or hyphens between them; the major networks begin with 2 to 6.
_CARD: Final = re.compile(r"(?<![\w-])[2-6]\d(?:[ -]?\d){11,17}(?![\w-])")


def redact(value: Any, *, depth: int = 0) -> Any:
    """The JSON value as it may be shown: members with the names of secrets are hidden, what looks
    like a secret or a card number is cut out of texts, and what is too large is cut off.
    """
    if depth > MAX_DEPTH:
        return "[nested too deep]"
    if isinstance(value, dict):
        return {
            name: HIDDEN if _is_secret(name) and item is not None else redact(item, depth=depth + 1)
            for name, item in list(value.items())[:MAX_ITEMS]
        }
    if isinstance(value, list):
        return [redact(item, depth=depth + 1) for item in value[:MAX_ITEMS]]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
        shown = _text(text)
        return value if shown == text else shown
    return value


def _text(text: str) -> str:
    shown = _CARD.sub(_card, _SECRET.sub(HIDDEN, text))
    return shown if len(shown) <= MAX_TEXT else shown[:MAX_TEXT] + "…"


def _card(found: re.Match[str]) -> str:
    """A card number's first six and last four digits; other numbers stay as they are."""
    digits = re.sub(r"\D", "", found[0])
    return f"{digits[:6]}…{digits[-4:]}" if _luhn(digits) else found[0]


def _luhn(digits: str) -> bool:
    doubled = (2 * int(d) for d in digits[-2::-2])
    total = sum(int(d) for d in digits[-1::-2]) + sum(d // 10 + d % 10 for d in doubled)
    return total % 10 == 0


def _is_secret(name: str) -> bool:
    plain = _NOT_IN_NAME.sub("", name.lower())
    return plain in _WHOLE or any(part in plain for part in _PARTS)
