"""What a condition decides about a payment: whether it can hold when the payment succeeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import Any, Final

from orch8.definition.money_lint.words import about_paying
from orch8.engine.expressions import Condition, Dialect
from orch8.engine.expressions.nodes import (
    Call,
    Chain,
    Choice,
    Items,
    Literal,
    Name,
    Node,
    Pipe,
    Prefix,
    Walk,
)
from orch8.engine.expressions.parser import parse
from orch8.errors import ExpressionError

# Words of providers and of orch8 that say that money was taken.
SUCCESS: Final = frozenset(
    {
        "accepted", "approved", "authorised", "authorized", "captured", "charged", "complete",
        "completed", "confirmed", "ok", "paid", "processed", "settled", "submitted_for_settlement",
        "success", "succeeded", "successful",
    }
)  # fmt: skip
_TELLING: Final = frozenset(
    {"outcome", "payment_status", "result", "resultcode", "state", "status"}
)
_FLAGS: Final = frozenset(
    {"approved", "captured", "charged", "ok", "paid", "succeeded", "success", "successful"}
)
_OUTPUTS: Final = frozenset({"outputs", "steps"})
_KEEPING: Final = frozenset({"lower", "upper", "trim", "default"})  # filters that leave the meaning


class Vague(Enum):
    """A value of which only this much is known."""

    PAID = "a word that says that it succeeded"
    NOT_PAID = "anything that does not say so"
    HOLDS = "anything that holds as a condition"
    ANYTHING = "anything"


@dataclass(frozen=True, slots=True)
class Supposed:
    """The supposition that the payment of block ``step`` had this ``outcome``.

    "" is any outcome but succeeded. Of an unnamed step, only what ``decline`` says is known.
    """

    step: str | None
    outcome: str

    @property
    def paid(self) -> bool:
        """Whether it is supposed to have succeeded."""
        return self.outcome == "succeeded"


@dataclass(frozen=True, slots=True)
class Test:
    """A condition that was parsed: which outputs and roots it reads, and what it is about."""

    outputs: frozenset[str]
    roots: frozenset[str]
    tree: Node | None
    asks_outside: bool  # reads the context or the state about having paid

    def holds(self, supposed: Supposed) -> bool | None:
        """Whether it holds then; None if that depends on something else."""
        return None if self.tree is None else _truth(_value(self.tree, supposed))


def read_test(condition: Condition, dialect: Dialect) -> Test:
    """The condition as a Test; one that cannot be parsed depends on everything it reads."""
    text = condition.source.strip()
    if text.startswith("{{") and text.endswith("}}"):
        text = text[2:-2].strip()
    try:
        tree = parse(text, dialect, whole=dialect is Dialect.SEED)
    except ExpressionError:
        return Test(condition.outputs, condition.roots, None, asks_outside=False)
    return Test(condition.outputs, condition.roots, tree, any(map(_outside, _paths(tree))))


def _outside(path: tuple[str, ...]) -> bool:
    if path[0] in _OUTPUTS or path[0] in ("decline", "last_decline"):
        return False
    return about_paying(".".join(path if path[0] != "state" else path[1:]))


def _paths(tree: Node) -> Iterator[tuple[str, ...]]:
    """Every path that the expression reads, as far as it is written out."""
    pending: list[Any] = [tree]
    while pending:
        match pending.pop():
            case Name(name):
                yield (name,)
            case Walk(Name(name), steps):
                yield (name, *_written(steps))
                pending += [each for each in steps if not isinstance(each, str)]
            case Walk(base, steps):
                pending += [base, *(each for each in steps if not isinstance(each, str))]
            case Items(items):
                pending += items
            case Call(_, arguments):
                pending += arguments
            case Prefix(_, operand):
                pending.append(operand)
            case Chain(first, rest):
                pending += [first, *(each for _, each in rest)]
            case Choice(test, yes, no):
                pending += [test, yes, no]
            case Pipe(base, fallbacks, filters):
                pending += [base, *fallbacks, *filters]


def _written(steps: tuple[str | Node, ...]) -> Iterator[str]:
    for each in steps:
        if isinstance(each, str):
            yield each
        elif isinstance(each, Literal) and isinstance(each.value, str):
            yield each.value


def _value(node: Node, supposed: Supposed) -> Any:
    """A JSON value, or how vague it is."""
    match node:
        case Literal(value):
            return value
        case Items(items):
            return [_value(each, supposed) for each in items]
        case Walk(Name(name), steps):
            return _read(name, list(_written(steps)), supposed)
        case Prefix("!", operand):
            truth = _truth(_value(operand, supposed))
            return Vague.ANYTHING if truth is None else not truth
        case Choice(test, yes, no):
            chosen = _truth(_value(test, supposed))
            if chosen is None:
                return Vague.ANYTHING
            return _value(yes if chosen else no, supposed)
        case Chain(first, rest):
            pairs = ((operator, _value(each, supposed)) for operator, each in rest)
            return reduce(_joined, pairs, _value(first, supposed))
        case Pipe(base, fallbacks, filters):
            value = _value(base, supposed)
            kept = not fallbacks and all(each.name in _KEEPING for each in filters)
            return value if kept and isinstance(value, Vague) else Vague.ANYTHING
    return Vague.ANYTHING


def _read(root: str, path: list[str], supposed: Supposed) -> Any:
    if root == "decline" and supposed.paid:
        return None
    if root not in _OUTPUTS or len(path) < 2 or path[0] != supposed.step:  # noqa: PLR2004
        return Vague.ANYTHING
    member = path[-1].lower()
    if member in _FLAGS:
        return supposed.paid
    if member not in _TELLING:
        return Vague.ANYTHING
    if supposed.paid:
        return Vague.PAID
    return supposed.outcome if member == "outcome" and supposed.outcome else Vague.NOT_PAID


def _truth(value: Any) -> bool | None:
    if isinstance(value, Vague):
        return True if value in (Vague.PAID, Vague.HOLDS) else None
    return bool(value)


def _joined(left: Any, right: tuple[str, Any]) -> Any:
    operator, other = right
    match operator:
        case "&&":
            return _both(left, other)
        case "||":
            return _either(left, other)
        case "==" | "!=":
            same = _same(left, other)
            if same is None:
                return Vague.ANYTHING
            return same if operator == "==" else not same
        case "in" if isinstance(other, list):
            found = [_same(left, each) for each in other]
            if True in found:
                return True
            return Vague.ANYTHING if None in found else False
    return Vague.ANYTHING


def _both(left: Any, right: Any) -> Any:
    first, second = _truth(left), _truth(right)
    if first:
        return right
    return False if first is False or second is False else Vague.ANYTHING


def _either(left: Any, right: Any) -> Any:
    first, second = _truth(left), _truth(right)
    if first:
        return left
    if first is False:
        return right
    if left is Vague.NOT_PAID and isinstance(right, str) and right.lower() not in SUCCESS:
        return Vague.NOT_PAID
    return Vague.HOLDS if second else Vague.ANYTHING


def _same(left: Any, right: Any) -> bool | None:
    if isinstance(right, Vague):
        left, right = right, left
    if not isinstance(left, Vague):
        return None if isinstance(right, Vague) else bool(left == right)
    if left in (Vague.ANYTHING, Vague.HOLDS) or isinstance(right, int | float | Vague):
        return None
    says_so = isinstance(right, str) and right.lower() in SUCCESS
    if left is Vague.PAID:
        return says_so
    return False if says_so else None
