"""What any JSON must keep to before it is read: depth, number range, text that can be stored."""

from __future__ import annotations

import math
from typing import Any, Final

from orch8.blocks.fields import escape
from orch8.errors import Problem

MAX_DEPTH: Final = 400  # 64 levels of blocks, at most four of JSON each, and what params hold
_LARGEST_NUMBER: Final = 2**63

Trail = tuple[Any, Any] | None  # the way back: (the trail before, the member or index)


def check_json(body: Any) -> Problem | None:
    """The first thing that makes ``body`` no JSON that can be kept, None if there is none.

    It ends on every Python value, cyclic ones included, and recurses on none.
    """
    pending: list[tuple[Any, int, Trail]] = [(body, 0, None)]
    while pending:
        value, depth, trail = pending.pop()
        if isinstance(value, str):
            message, hint = _text(value)
        elif isinstance(value, dict):
            message, hint = _too_deep(depth)
            for key, below in value.items():
                if not isinstance(key, str) or _text(key)[0]:
                    message, hint = "a member's name must be text that can be stored", ""
                pending.append((below, depth + 1, (trail, key)))
        elif isinstance(value, list):
            message, hint = _too_deep(depth)
            pending.extend((below, depth + 1, (trail, i)) for i, below in enumerate(value))
        else:
            message, hint = _number(value)
        if message:
            return Problem(_pointer(trail), message, hint, shape=True)
    return None


def _too_deep(depth: int) -> tuple[str, str]:
    if depth < MAX_DEPTH:
        return "", ""
    return f"the JSON is nested more than {MAX_DEPTH} deep", "move a part into a sub_sequence"


def _text(value: str) -> tuple[str, str]:
    if value.isascii():
        return ("the text contains a NUL character", "leave it out") if "\0" in value else ("", "")
    try:
        value.encode()
    except UnicodeEncodeError:
        return "the text contains half of a surrogate pair", "write the whole character"
    return ("the text contains a NUL character", "leave it out") if "\0" in value else ("", "")


def _number(value: Any) -> tuple[str, str]:
    if value is None or isinstance(value, bool):
        return "", ""
    if isinstance(value, int):
        if -_LARGEST_NUMBER <= value < _LARGEST_NUMBER:
            return "", ""
        return "the number does not fit in 64 bits", "write it as a string"
    if isinstance(value, float):
        return ("", "") if math.isfinite(value) else ("the number is not finite", "")
    return f"a {type(value).__name__} is no JSON", ""


def _pointer(trail: Trail) -> str:
    parts = []
    while trail is not None:
        trail, key = trail
        parts.append(escape(str(key))[:200])
    return "".join(f"/{part}" for part in reversed(parts))
