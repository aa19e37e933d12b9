"""What JSON values mean to the operators: truth, equality, order, arithmetic, text and moments.

Whole numbers stay exact as long as they fit 64 bits; beyond that they are floats, and what is
not finite is null. Nothing is coerced but numbers, by arithmetic (CONTRACT 8.3).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from orch8.engine.duration import Duration
from orch8.engine.expressions.lexer import fault

MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
_WIDEST_CHARACTER: Final = 4
_SMALLEST_INTEGER: Final = -(2**63)
_LARGEST_INTEGER: Final = 2**64 - 1
_LONGEST_NUMBER: Final = 400
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)
_DATE_LENGTH: Final = 10


def truthy(value: Any) -> bool:
    """False for null, false, 0, "" and [] only; {} is true."""
    return bool(value) or isinstance(value, Mapping)


def equal(left: Any, right: Any) -> bool:
    """Whether two values are deeply equal; numbers by value, and true is not 1."""
    if isinstance(left, str):
        return bool(left == right)
    pending = [(left, right)]
    while pending:
        one, other = pending.pop()
        if isinstance(one, bool) or isinstance(other, bool):
            if one is not other:
                return False
        elif isinstance(one, Mapping) and isinstance(other, Mapping):
            if one.keys() != other.keys():
                return False
            pending.extend((each, other[key]) for key, each in one.items())
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            pending.extend(zip(one, other, strict=True))
        elif one != other:
            return False
    return True


def comparable(left: Any, right: Any) -> bool:
    """Whether two values have an order: number with number, string with string."""
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    if isinstance(left, str):
        return isinstance(right, str)
    return isinstance(left, int | float) and isinstance(right, int | float)


def number(value: Any) -> float | None:
    """The number that arithmetic takes a value for; null if it is none."""
    if isinstance(value, int | float):
        return int(value) if isinstance(value, bool) else value
    if not isinstance(value, str) or len(value) > _LONGEST_NUMBER:
        return None
    text = value.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    return tidy(float(text)) if _NUMBER.fullmatch(text) else None


def tidy(value: float) -> float | None:
    """The result of arithmetic as JSON can hold it."""
    if isinstance(value, int):
        return value if _SMALLEST_INTEGER <= value <= _LARGEST_INTEGER else float(value)
    return value if math.isfinite(value) else None


def plus(left: Any, right: Any) -> Any:
    """The sum; of two strings the one after the other, of a moment and a duration a moment."""
    if isinstance(left, str) and isinstance(right, str):
        check_size(len(left) + len(right))
        return left + right
    if isinstance(left, Duration) or isinstance(right, Duration):
        return _shifted(left, right)
    one, other = number(left), number(right)
    return None if one is None or other is None else tidy(one + other)


def minus(left: Any, right: Any) -> Any:
    """The difference; of a moment and a duration the earlier moment."""
    if isinstance(right, Duration):
        return _shifted(left, -right)
    one, other = number(left), number(right)
    return None if one is None or other is None else tidy(one - other)


def times(left: Any, right: Any) -> Any:
    """The product."""
    one, other = number(left), number(right)
    return None if one is None or other is None else tidy(one * other)


def divided(left: Any, right: Any) -> Any:
    """The quotient, whole if it is exactly whole; by zero null."""
    one, other = number(left), number(right)
    if one is None or not other:
        return None
    if isinstance(one, int) and isinstance(other, int) and one % other == 0:
        return one // other
    return tidy(one / other)


def negated(value: Any) -> Any:
    """The number with the other sign; null for what is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return -value


def moment(value: Any) -> datetime | None:
    """The instant of an RFC 3339 timestamp or date (midnight UTC), in its own offset."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return None
    try:
        found = datetime.fromisoformat(value.upper())
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def timestamp(instant: datetime) -> str:
    """The RFC 3339 text of an instant: UTC, always with microseconds so that text sorts."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def plain(value: Any) -> Any:
    """The value as JSON: a duration becomes milliseconds or an object."""
    return value.to_json() if isinstance(value, Duration) else value


def compact(value: Any) -> str:
    """The value as JSON text without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)


def text(value: Any) -> str:
    """The value inside a text: strings as they are, everything else as compact JSON."""
    return value if isinstance(value, str) else compact(value)


def utf8_length(value: str) -> int:
    """The length of a string in UTF-8 bytes."""
    return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))


def check_size(characters: int) -> None:
    """Raises ExpressionError for a text of that many characters if it exceeds 4 MiB."""
    if characters > MAX_TEXT_BYTES:
        raise fault("the result is longer than 4 MiB", hint="compute it in a step")


def bounded(value: Any) -> Any:
    """The value itself; ExpressionError if it is a string of more than 4 MiB."""
    if isinstance(value, str) and len(value) * _WIDEST_CHARACTER > MAX_TEXT_BYTES:
        check_size(utf8_length(value))
    return value


def _shifted(left: Any, right: Any) -> Any:
    if isinstance(left, Duration):
        if isinstance(right, Duration):
            return left + right
        left, right = right, left
    start = moment(left)
    if start is None:
        return None
    try:
        end = right.after(start, UTC)
    except (OverflowError, ValueError):
        return None
    if len(left) == _DATE_LENGTH and not right.absolute:
        return end.date().isoformat()
    return timestamp(end)
