"""Conditions: an expression that decides something, compiled once and evaluated often."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from orch8.engine.expressions.environment import Environment
from orch8.engine.expressions.evaluate import compile_node
from orch8.engine.expressions.lexer import Dialect, fault
from orch8.engine.expressions.names import Scope, Uses
from orch8.engine.expressions.parser import parse
from orch8.engine.expressions.paths import Evaluate, failing, nothing
from orch8.engine.expressions.values import plain, truthy
from orch8.errors import ExpressionError


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition.

    ``outputs`` are the blocks it reads (through outputs. or steps.), ``roots`` the other roots.
    ``problem`` is why a contract-form source cannot be evaluated: a lenient one then gives null,
    a strict one raises it.
    """

    source: str
    outputs: frozenset[str]
    roots: frozenset[str]
    problem: ExpressionError | None
    _run: Evaluate
    _lenient: bool

    def evaluate(self, env: Environment) -> Any:
        """The value, JSON; ExpressionError unless it is lenient."""
        try:
            return plain(self._run(env))
        except ExpressionError:
            if self._lenient:
                return None
            raise
        except RecursionError:
            if self._lenient:
                return None
            raise fault("the values are nested too deeply", source=self.source) from None

    def truthy(self, env: Environment) -> bool:
        """Whether it holds: false for null, false, 0, "" and []."""
        return truthy(self.evaluate(env))


def compile_condition(
    source: str,
    dialect: Dialect,
    *,
    strict: bool = False,
    known_roots: Container[str] | None = None,
) -> Condition:
    """The condition that the source means; one pair of {{ }} around it is taken off.

    In the seed's form a syntax error, an unknown function and a root outside ``known_roots``
    (None = any) raise ExpressionError here. In the contract's form nothing raises here; without
    ``strict`` evaluation never raises either (CONTRACT 8.3).
    """
    if not isinstance(source, str):
        message = f"a condition must be a string, not {type(source).__name__}"
        raise fault(message)
    inner = _stripped(source)
    lenient = dialect is Dialect.CONTRACT and not strict
    uses = Uses()
    run: Evaluate = nothing
    problem = None
    try:
        if inner or dialect is Dialect.SEED:
            tree = parse(inner, dialect, whole=not lenient)
            run = compile_node(tree, Scope(inner, dialect, known_roots, uses))
    except ExpressionError as error:
        if dialect is Dialect.SEED:
            raise
        problem, run = error, failing(error)
    outputs, roots = frozenset(uses.outputs), frozenset(uses.roots)
    return Condition(source, outputs, roots, problem, run, lenient)


def _stripped(source: str) -> str:
    """The source without one pair of {{ }}; columns of errors count in what is left."""
    text = source.strip()
    if text.startswith("{{") and text.endswith("}}"):
        return text[2:-2].strip()
    return text
