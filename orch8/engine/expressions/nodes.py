"""The shapes an expression is parsed into. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is written out."""

    value: Any


@dataclass(frozen=True, slots=True)
class Items:
    """A list in brackets."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """A first word: a root, or a member of the data."""

    name: str
    column: int


@dataclass(frozen=True, slots=True)
class Walk:
    """A way into a value: fixed segments and computed indexes."""

    base: Node
    steps: tuple[str | Node, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    name: str
    arguments: tuple[Node, ...]
    column: int


@dataclass(frozen=True, slots=True)
class Prefix:
    """``!`` or ``-`` before an operand."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Chain:
    """Operands joined by operators of one level, left to right, kept flat: depth is bounded."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """A condition with two outcomes."""

    test: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class Pipe:
    """A value, what stands in for null, then filters in their order."""

    base: Node
    fallbacks: tuple[Node, ...]
    filters: tuple[Call, ...]


Node: TypeAlias = Literal | Items | Name | Walk | Call | Prefix | Chain | Choice | Pipe
