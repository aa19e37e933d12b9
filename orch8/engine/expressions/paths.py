"""Ways into values: compiled once, a missing segment anywhere gives null."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from orch8.engine.expressions.environment import Environment
from orch8.engine.expressions.lexer import fault
from orch8.errors import ExpressionError

Evaluate: TypeAlias = Callable[[Environment], Any]
Key: TypeAlias = tuple[str, int | None]  # a segment, and the position it means in an array

OUTPUT_ROOTS: Final = frozenset({"outputs", "steps"})
_MOST_INDEX_DIGITS: Final = 9


def nothing(_env: Environment) -> Any:
    """Null, whatever the environment."""
    return None


def constant(value: Any) -> Evaluate:
    """Always this value."""
    return lambda _env: value


def failing(error: ExpressionError) -> Evaluate:
    """Raises the error whenever it is evaluated."""

    def fail(_env: Environment) -> Any:
        # A fresh one each time: a raised exception collects the trace of every raise.
        raise ExpressionError(error.detail, extra=error.extra)

    return fail


def keys_of(segments: Sequence[str]) -> tuple[Key, ...]:
    """The segments, each with the array position it means if it is all digits."""
    return tuple((each, _position(each)) for each in segments)


def walk(value: Any, keys: tuple[Key, ...]) -> Any:
    """What lies at the end of the keys, null if the way breaks off."""
    for name, position in keys:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list):
            if position is None or position >= len(value):
                return None
            value = value[position]
        elif isinstance(value, Mapping):
            value = value.get(name)
        else:
            return None
    return value


def element(value: Any, index: Any) -> Any:
    """The member or array element at a computed index; negative counts from the end."""
    if isinstance(index, str):
        return walk(value, keys_of((index,)))
    if not isinstance(value, list) or isinstance(index, bool) or not isinstance(index, int | float):
        return None
    if index != int(index) or not -len(value) <= index < len(value):
        return None
    return value[int(index)]


def read_output(block_id: str, segments: Sequence[str]) -> Evaluate:
    """Reads the output of a block, or what lies inside it."""
    keys = keys_of(segments)
    if not keys:
        return lambda env: env.output(block_id)
    return lambda env: walk(env.output(block_id), keys)


def read_root(name: str, segments: Sequence[str]) -> Evaluate:
    """Reads inside a root; a root that the environment does not have is an ExpressionError."""
    keys = keys_of(segments)

    def read(env: Environment) -> Any:
        try:
            value = env.root(name)
        except KeyError:
            message = f"unknown root {name}"
            raise fault(message, hint="it does not exist in this place") from None
        return walk(value, keys)

    return read


def read_root_or_null(name: str, segments: Sequence[str]) -> Evaluate:
    """Reads inside a root; null if the environment does not have it."""
    keys = keys_of(segments)

    def read(env: Environment) -> Any:
        try:
            value = env.root(name)
        except KeyError:
            return None
        return walk(value, keys)

    return read


def _position(segment: str) -> int | None:
    short = len(segment) <= _MOST_INDEX_DIGITS
    return int(segment) if short and segment.isascii() and segment.isdigit() else None
