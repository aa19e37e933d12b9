"""Compiles the nodes of an expression into closures: no parsing and no look-ups at run time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from orch8.engine.expressions import values
from orch8.engine.expressions.environment import Environment
from orch8.engine.expressions.filters import SEED_FILTERS
from orch8.engine.expressions.functions import (
    CONTRACT_FUNCTIONS,
    MAX_ARRAY,
    SEED_FUNCTIONS,
    Function,
)
from orch8.engine.expressions.lexer import Dialect, fault, miscounted, suggestion
from orch8.engine.expressions.names import Scope, read_path
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
from orch8.engine.expressions.operators import chained
from orch8.engine.expressions.parser import parse
from orch8.engine.expressions.paths import Evaluate, constant, element, nothing
from orch8.engine.expressions.values import bounded, plain, truthy

_FILTER: Final = "filter"


def compile_node(node: Node, scope: Scope) -> Evaluate:
    """The closure that evaluates the node; ExpressionError for names the scope lacks."""
    return _COMPILERS[type(node)](node, scope)


def _literal(node: Literal, _scope: Scope) -> Evaluate:
    return constant(node.value)


def _items(node: Items, scope: Scope) -> Evaluate:
    parts = [compile_node(each, scope) for each in node.items]
    return lambda env: [plain(part(env)) for part in parts]


def _name(node: Name, scope: Scope) -> Evaluate:
    return read_path(node, (), scope)


def _walk(node: Walk, scope: Scope) -> Evaluate:
    fixed: list[str] = []
    for step in node.steps:
        segment = _segment(step)
        if segment is None:
            break
        fixed.append(segment)
    if isinstance(node.base, Name):
        read = read_path(node.base, tuple(fixed), scope)
        rest = node.steps[len(fixed) :]
    else:
        read, rest = compile_node(node.base, scope), node.steps
    if not rest:
        return read
    indexes = [
        constant(step) if isinstance(step, str) else compile_node(step, scope) for step in rest
    ]

    def reach(env: Environment) -> Any:
        value = read(env)
        for index in indexes:
            value = element(value, index(env))
        return value

    return reach


def _segment(step: str | Node) -> str | None:
    """The segment of a path that a step is for certain, None if it has to be computed."""
    if isinstance(step, str):
        return step
    value = step.value if isinstance(step, Literal) else None
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else None


def _call(node: Call, scope: Scope) -> Evaluate:
    seed = scope.dialect is Dialect.SEED
    if seed and node.name == _FILTER:
        return _selection(node, scope)
    functions = SEED_FUNCTIONS if seed else CONTRACT_FUNCTIONS
    function = functions.get(node.name)
    if function is None:
        if not seed:
            return nothing
        known = {*SEED_FUNCTIONS, _FILTER}
        message, hint = f"unknown function {node.name}", suggestion(node.name, known)
        raise fault(message, column=node.column, source=scope.source, hint=hint)
    arguments = node.arguments
    if seed:
        _check_arguments(node, function.least, function.most, scope)
    else:
        missing = (Literal(None),) * (function.least - len(arguments))
        arguments = (*arguments, *missing)[: function.most]
    return _invocation(function, [compile_node(each, scope) for each in arguments])


def _check_arguments(node: Call, least: int, most: int, scope: Scope) -> None:
    if message := miscounted(node.name, least, most, len(node.arguments)):
        raise fault(message, column=node.column, source=scope.source)


def _invocation(function: Function, arguments: list[Evaluate]) -> Evaluate:
    apply = function.apply

    def call(env: Environment) -> Any:
        given = [plain(argument(env)) for argument in arguments]
        if not function.any_length:
            for each in given:
                if isinstance(each, list) and len(each) > MAX_ARRAY:
                    return None
        return bounded(apply(env, *given) if function.surrounded else apply(*given))

    return call


class _ItemEnvironment:
    """The environment of a predicate: roots are the fields of one item, `item` is all of it.

    Outputs, the clock and chance are those outside.
    """

    __slots__ = ("_env", "_item")

    def __init__(self, env: Environment, item: Any) -> None:
        self._env = env
        self._item = item

    def root(self, name: str) -> Any:
        if isinstance(self._item, Mapping) and name in self._item:
            return self._item[name]
        return self._item if name == "item" else None

    def output(self, block_id: str) -> Any:
        return self._env.output(block_id)

    def now(self) -> datetime:
        return self._env.now()

    def entropy(self) -> float:
        return self._env.entropy()


def _selection(node: Call, scope: Scope) -> Evaluate:
    _check_arguments(node, 2, 2, scope)
    listing, wanted = node.arguments
    if not isinstance(wanted, Literal) or not isinstance(wanted.value, str):
        hint = "write filter(items, 'amount > 5')"
        message = "filter needs its predicate as a quoted text"
        raise fault(message, column=node.column, source=scope.source, hint=hint)
    tree = parse(wanted.value, Dialect.SEED)
    inner = Scope(wanted.value, Dialect.SEED, None, scope.uses, item=True)
    read, keep = compile_node(listing, scope), compile_node(tree, inner)

    def select(env: Environment) -> Any:
        items = read(env)
        if not isinstance(items, list) or len(items) > MAX_ARRAY:
            return None
        return [each for each in items if truthy(keep(_ItemEnvironment(env, each)))]

    return select


def _prefix(node: Prefix, scope: Scope) -> Evaluate:
    operand = compile_node(node.operand, scope)
    if node.operator == "!":
        return lambda env: not truthy(operand(env))
    return lambda env: values.negated(operand(env))


def _choice(node: Choice, scope: Scope) -> Evaluate:
    test, yes, no = (compile_node(each, scope) for each in (node.test, node.yes, node.no))
    return lambda env: yes(env) if truthy(test(env)) else no(env)


def _chain(node: Chain, scope: Scope) -> Evaluate:
    rest = [(sign, compile_node(each, scope)) for sign, each in node.rest]
    return chained(compile_node(node.first, scope), rest, scope.dialect)


def _pipe(node: Pipe, scope: Scope) -> Evaluate:
    candidates = [compile_node(each, scope) for each in (node.base, *node.fallbacks)]
    steps = []
    for each in node.filters:
        chosen = SEED_FILTERS[each.name]
        _check_arguments(each, chosen.least, chosen.most, scope)
        steps.append((chosen.apply, [compile_node(one, scope) for one in each.arguments]))
    return piped(candidates, steps)


def piped(
    candidates: list[Evaluate], steps: list[tuple[Callable[..., Any], list[Evaluate]]]
) -> Evaluate:
    """The first candidate that is not null, sent through the filters."""

    def run(env: Environment) -> Any:
        value = None
        for candidate in candidates:
            value = plain(candidate(env))
            if value is not None:
                break
        for apply, arguments in steps:
            value = bounded(apply(value, *[plain(each(env)) for each in arguments]))
        return value

    return run


_COMPILERS: Final[Mapping[type, Callable[[Any, Scope], Evaluate]]] = {
    Literal: _literal,
    Items: _items,
    Name: _name,
    Walk: _walk,
    Call: _call,
    Prefix: _prefix,
    Choice: _choice,
    Chain: _chain,
    Pipe: _pipe,
}
