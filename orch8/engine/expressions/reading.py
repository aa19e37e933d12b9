"""What an expression reads, told from its text: the ways into values that it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from orch8.engine.expressions.lexer import Dialect
from orch8.engine.expressions.nodes import (
    Call,
    Chain,
    Choice,
    Items,
    Name,
    Node,
    Pipe,
    Prefix,
    Walk,
)
from orch8.engine.expressions.parser import parse
from orch8.engine.expressions.paths import OUTPUT_ROOTS
from orch8.engine.expressions.pipes import paths_of_pipe

Path: TypeAlias = tuple[str, ...]  # ("outputs", block, ...), ("data", ...) or another root

_ROOTS: Final = frozenset({"data", "config", "input", "instance_id", "runtime", "state"})


def paths_of_template(source: str, dialect: Dialect) -> list[Path]:
    """The paths that the text between two pairs of braces reads, in its order; ExpressionError if
    it cannot be read at all.
    """
    if dialect is Dialect.CONTRACT:
        return [_plain(path) for path in paths_of_pipe(source)]
    return [_plain(path) for path in _paths(parse(source, dialect))]


def paths_of_condition(source: str, dialect: Dialect) -> list[Path]:
    """As paths_of_template, of a condition: in the contract's form other first words are members
    of the data.
    """
    text = source.strip().removeprefix("{{").removesuffix("}}").strip()
    found = [_plain(path) for path in _paths(parse(text, dialect))] if text else []
    if dialect is Dialect.SEED:
        return found
    known = _ROOTS | {"outputs", "context"}
    return [path if path[0] in known else ("data", *path) for path in found]


def _plain(path: Path) -> Path:
    """The path with its root's shortest name."""
    if path[0] in OUTPUT_ROOTS:
        return ("outputs", *path[1:])
    if path[0] == "context" and path[1:2] in (("data",), ("config",)):
        return path[1:]
    return ("data", *path) if path[0] == "input" else path


def _paths(node: Node) -> Iterator[Path]:
    match node:
        case Name():
            yield (node.name,)
        case Walk():
            yield from _walked(node)
        case Call():  # a predicate is about the members of an item, and stands in quotes
            yield from _each(node.arguments)
        case Prefix():
            yield from _paths(node.operand)
        case Choice():
            yield from _each((node.test, node.yes, node.no))
        case Chain():
            yield from _each((node.first, *(operand for _, operand in node.rest)))
        case Items():
            yield from _each(node.items)
        case Pipe():
            yield from _each((node.base, *node.fallbacks, *node.filters))
        case _:
            return


def _walked(node: Walk) -> Iterator[Path]:
    fixed: list[str] = []
    for step in node.steps:
        if not isinstance(step, str):
            break
        fixed.append(step)
    if isinstance(node.base, Name):
        yield (node.base.name, *fixed)
    else:
        yield from _paths(node.base)
    yield from _each(tuple(step for step in node.steps if not isinstance(step, str)))


def _each(nodes: tuple[Node, ...]) -> Iterator[Path]:
    for node in nodes:
        yield from _paths(node)
