"""Resolves the first word of a path: which names there are, and which of them are read."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Final

from orch8.engine.expressions.lexer import Dialect, fault, suggestion
from orch8.engine.expressions.nodes import Name
from orch8.engine.expressions.paths import (
    OUTPUT_ROOTS,
    Evaluate,
    nothing,
    read_output,
    read_root,
    read_root_or_null,
)
from orch8.engine.expressions.values import timestamp

_CONDITION_ROOTS: Final = frozenset({"data", "config", "input", "instance_id", "runtime"})
_CONTEXT_SECTIONS: Final = frozenset({"data", "config"})
_CLOCK: Final = "now"


@dataclass(slots=True)
class Uses:
    """What a compiled expression refers to."""

    roots: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which names an expression may use; in an ``item`` scope they are fields of an item."""

    source: str
    dialect: Dialect
    known_roots: Container[str] | None
    uses: Uses
    item: bool = False


def read_path(node: Name, segments: tuple[str, ...], scope: Scope) -> Evaluate:
    """Reads what lies behind a name; ExpressionError for a name that the scope lacks."""
    if scope.dialect is Dialect.CONTRACT:
        return _contract_path(node.name, segments, scope)
    if node.name == _CLOCK and not segments:
        return lambda env: timestamp(env.now())
    if node.name in OUTPUT_ROOTS:
        if not segments:
            message = f"{node.name} must be followed by the id of a block"
            hint = 'write outputs.charge.status or outputs["some-id"]'
            raise fault(message, column=node.column, source=scope.source, hint=hint)
        scope.uses.outputs.add(segments[0])
        return read_output(segments[0], segments[1:])
    if scope.item:
        return read_root(node.name, segments)
    _check_root(node, scope)
    scope.uses.roots.add(node.name)
    return read_root(node.name, segments)


def _contract_path(name: str, segments: tuple[str, ...], scope: Scope) -> Evaluate:
    if name in OUTPUT_ROOTS:
        if not segments:
            return nothing
        scope.uses.outputs.add(segments[0])
        return read_output(segments[0], segments[1:])
    if name == "context":
        if not segments or segments[0] not in _CONTEXT_SECTIONS:
            return nothing
    elif name not in _CONDITION_ROOTS:
        name, segments = "data", (name, *segments)
    scope.uses.roots.add(name)
    return read_root_or_null(name, segments)


def _check_root(node: Name, scope: Scope) -> None:
    known = scope.known_roots
    if known is None or node.name in known:
        return
    names = {str(each) for each in known} if isinstance(known, Iterable) else set()
    hint = suggestion(node.name, names | OUTPUT_ROOTS)
    raise fault(f"unknown root {node.name}", column=node.column, source=scope.source, hint=hint)
