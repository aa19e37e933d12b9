"""Which codes a declining answer carries, wherever in it providers put them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

MAX_CODE: Final = 100  # characters of a code

# Where a code may stand, by what kind of code it is; the most telling name first.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "provider": (
        "decline_code", "refusalReasonCode", "failure_code", "response_code", "cause", "code",
        "error_code",
    ),
    "network_code": (
        "network_decline_code", "networkResponseCode", "network_response_code", "refusalReasonRaw",
        "processor_response_code",
    ),
    "advice": (
        "network_advice_code", "merchantAdviceCode", "merchant_advice_code", "advice_code",
    ),
    "category": ("visa_category", "decline_category", "network_decline_category"),
    "return_code": ("return_code", "return_reason_code", "ach_return_code"),
}  # fmt: skip
# The objects of an answer in which these names are looked for.
PLACES: Final = (
    (), ("error",), ("decline",), ("raw",), ("additionalData",), ("last_payment_error",),
    ("payment_intent", "last_payment_error"), ("error", "payment_intent", "last_payment_error"),
    ("outcome",), ("details",), ("data",),
)  # fmt: skip
# Kinds of codes that networks write with two characters, whoever dropped the zero.
TWO_CHARACTERS: Final = frozenset({"network_code", "advice"})


def normal(kind: str, code: str) -> str:
    """A code as the tables spell it: raw codes have two characters, whoever dropped the zero."""
    text = code.strip().lower()
    return text.zfill(2) if kind in TWO_CHARACTERS and text.isdigit() else text


def codes(kind: str, body: Any, error: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """The codes of a kind that an answer carries, each with the name that it stands under."""
    for name in FIELDS[kind]:
        for path in PLACES:
            place = _at(body, path)
            code = _text(place.get(name)) if isinstance(place, dict) else None
            if code is not None:
                yield name, code
    if kind == "provider" and error is not None:
        code = _text(error.get("code"))
        if code is not None:
            yield "code", code


def _at(body: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _text(value: Any) -> str | None:
    """A code as text; acquirers write "05 : Do not honor"."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).partition(" : ")[0].strip()
    return text[:MAX_CODE] or None
