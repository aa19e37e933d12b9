"""The filters of templates, `{{ value | filter(arguments) }}` (CONTRACT 7.3).

String filters take anything but a string for "", number filters anything but a number for 0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from orch8.engine.expressions.lexer import fault
from orch8.engine.expressions.values import check_size, text

_MOST_DIGITS: Final = 15
_ALREADY_WHOLE: Final = 2.0**53


class Filter(NamedTuple):
    """A filter: what it does to a value, and how many arguments it takes."""

    apply: Callable[..., Any]
    least: int = 0
    most: int = 0


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float:
    return 0 if isinstance(value, bool) or not isinstance(value, int | float) else value


def _count(argument: Any, name: str) -> int:
    """A whole number out of a literal argument such as 3, 3.0 or "3"."""
    try:
        return int(float(argument))
    except (TypeError, ValueError, OverflowError):
        message = f"{name} needs a number, not {text(argument)[:40]!r}"
        raise fault(message) from None


def _replace(value: Any, search: Any, replacement: Any) -> str:
    old, new = text(search), text(replacement)
    if not old:
        raise fault("replace needs a text to search for")
    whole = text(value)
    # Measured before it is built: the product may not fit into memory.
    check_size(len(whole) + whole.count(old) * (len(new) - len(old)))
    return whole.replace(old, new)


def _default(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None or value == "" else value


def _truncate(value: Any, count: Any, suffix: Any = "") -> str:
    whole, limit = _string(value), max(_count(count, "truncate"), 0)
    return whole if len(whole) <= limit else whole[:limit] + text(suffix)


def _join(value: Any, separator: Any = "") -> str:
    if not isinstance(value, list):
        return ""
    between, parts = text(separator), [text(each) for each in value]
    check_size(sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


def _split(value: Any, separator: Any) -> list[str]:
    whole, between = _string(value), text(separator)
    return whole.split(between) if between else list(whole)


def _hash(value: Any, algorithm: Any) -> str:
    if algorithm != "sha256":
        raise fault("hash knows sha256 only", hint="write hash('sha256')")
    return hashlib.sha256(_string(value).encode(errors="surrogatepass")).hexdigest()


def _base64(value: Any) -> str:
    return base64.b64encode(_string(value).encode(errors="surrogatepass")).decode()


def _base64_decode(value: Any) -> str:
    try:
        return base64.b64decode(_string(value).encode(), validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise fault("base64_decode was given bad base64") from None


def _url_encode(value: Any) -> str:
    return quote(_string(value), safe="", errors="replace")


def _rounded(value: Any, digits: int) -> float:
    amount = _number(value)
    if abs(amount) >= _ALREADY_WHOLE:
        return amount
    scale = 10.0 ** min(max(digits, -_MOST_DIGITS), _MOST_DIGITS)
    nearest = math.floor(abs(amount) * scale + 0.5) / scale  # halves go away from zero
    return math.copysign(nearest, amount)


def _round(value: Any, digits: Any) -> float:
    return float(_rounded(value, _count(digits, "round")))


def _round_exactly(value: Any, digits: Any = 0) -> float:
    places = _count(digits, "round")
    if isinstance(value, int) and places >= 0:
        return _number(value)
    nearest = _rounded(value, places)
    return int(nearest) if places <= 0 else nearest


FILTERS: Final[Mapping[str, Filter]] = {
    "upper": Filter(lambda value: _string(value).upper()),
    "lower": Filter(lambda value: _string(value).lower()),
    "trim": Filter(lambda value: _string(value).strip()),
    "abs": Filter(lambda value: abs(float(_number(value)))),
    "url_encode": Filter(_url_encode),
    "base64": Filter(_base64),
    "base64_decode": Filter(_base64_decode),
    "replace": Filter(_replace, 2, 2),
    "default": Filter(_default, 1, 1),
    "truncate": Filter(_truncate, 1, 2),
    "join": Filter(_join, 0, 1),
    "split": Filter(_split, 1, 1),
    "hash": Filter(_hash, 1, 1),
    "round": Filter(_round, 1, 1),
}

# The same names in the seed's form, where money that is whole stays whole.
SEED_FILTERS: Final[Mapping[str, Filter]] = {
    **FILTERS,
    "abs": Filter(lambda value: abs(_number(value))),
    "round": Filter(_round_exactly, 0, 1),
}
