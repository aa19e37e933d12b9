"""wait_for_event: which events a step waits for, and when it has enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from orch8.errors import ExpressionError

ALL, ANY, COUNT = JOINS = ("all", "any", "count")
MOST_EVENTS: Final = 100
LONGEST: Final = 255


@dataclass(frozen=True, slots=True)
class Wanted:
    """Events of these names about one thing: one of each, any one of them, or ``count`` of them."""

    names: tuple[str, ...]
    correlation_key: str
    join: str = ALL
    count: int = 1

    def takes(self, name: str, matched: Sequence[str]) -> bool:
        """Whether one more event of this name is wanted, besides those of the names ``matched``."""
        if name not in self.names or self.satisfied(matched):
            return False
        return self.join != ALL or name not in matched

    def satisfied(self, matched: Sequence[str]) -> bool:
        """Whether events of the names ``matched`` are enough."""
        if self.join == ALL:
            return set(self.names) <= set(matched)
        return len(matched) >= self.count


def read_wanted(params: Any) -> Wanted:
    """What rendered params ask for. Raises ExpressionError, which names what is wrong."""
    given = params if isinstance(params, dict) else {}
    events, key = given.get("events"), given.get("correlation_key")
    names = (events,) if isinstance(events, str) else events
    if not isinstance(names, list | tuple) or not 0 < len(names) <= MOST_EVENTS:
        raise ExpressionError(
            f"events came to {events!r:.100}; it must be a name, or a list of 1 to {MOST_EVENTS}"
        )
    chosen = tuple(dict.fromkeys(_text(name, "events") for name in names))
    about = _text(key, "correlation_key")
    join, count = given.get("join", ALL), given.get("count", 1)
    if join not in JOINS:
        raise ExpressionError(f"join came to {join!r:.60}; it must be all, any or count")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= MOST_EVENTS:
        raise ExpressionError(
            f"count came to {count!r:.60}; it must be a whole number from 1 to {MOST_EVENTS}"
        )
    return Wanted(chosen, about, join, count if join == COUNT else 1)


def _text(value: Any, member: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST:
        raise ExpressionError(
            f"{member} came to {value!r:.100}; it must be a text of 1 to {LONGEST} characters"
        )
    return value
