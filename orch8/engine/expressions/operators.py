"""The operators of expressions: tables from their signs to what they do."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from orch8.engine.expressions import values
from orch8.engine.expressions.environment import Environment
from orch8.engine.expressions.lexer import Dialect
from orch8.engine.expressions.paths import Evaluate
from orch8.engine.expressions.values import equal, truthy

_LOGIC: Final = {"||": True, "&&": False}


def chained(first: Evaluate, rest: list[tuple[str, Evaluate]], dialect: Dialect) -> Evaluate:
    """The operands joined by operators of one level, left to right."""
    sign, second = rest[0]
    if sign in _LOGIC:
        operands = [first, *(each for _, each in rest)]
        join = _deciding if dialect is Dialect.SEED else _boolean
        return join(operands, settles=_LOGIC[sign])
    if sign in _ARITHMETIC:
        return _arithmetic(first, [(_ARITHMETIC[each], read) for each, read in rest])
    compare = _ordered(sign, dialect) if sign in _ORDERS else _EQUALITIES[sign]
    return lambda env: compare(first(env), second(env))


def _deciding(operands: list[Evaluate], *, settles: bool) -> Evaluate:
    """The first operand that settles the matter, else the last, as its own value."""

    def decide(env: Environment) -> Any:
        value = None
        for operand in operands:
            value = operand(env)
            if truthy(value) is settles:
                break
        return value

    return decide


def _boolean(operands: list[Evaluate], *, settles: bool) -> Evaluate:
    return lambda env: any(truthy(each(env)) is settles for each in operands) is settles


def _arithmetic(
    first: Evaluate, rest: list[tuple[Callable[[Any, Any], Any], Evaluate]]
) -> Evaluate:
    def compute(env: Environment) -> Any:
        total = first(env)
        for combine, operand in rest:
            total = combine(total, operand(env))
        return total

    return compute


def _member(value: Any, whole: Any) -> bool:
    return isinstance(whole, list) and any(equal(each, value) for each in whole)


def _ordered(sign: str, dialect: Dialect) -> Callable[[Any, Any], bool]:
    """Compares by value; in the seed's form two timestamps by instant, however written."""
    test = _ORDERS[sign]

    def compare(left: Any, right: Any) -> bool:
        if not values.comparable(left, right):
            return False
        if dialect is Dialect.SEED:
            one, other = values.moment(left), values.moment(right)
            if one is not None and other is not None:
                return bool(test(one, other))
        return bool(test(left, right))

    return compare


_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": values.plus,
    "-": values.minus,
    "*": values.times,
    "/": values.divided,
}
_ORDERS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EQUALITIES: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "in": _member,
}
