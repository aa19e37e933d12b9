"""The contract form's templates between {{ and }}: a path, fallbacks, filters (CONTRACT 7).

Nothing here fails before it is evaluated: clients rely on a bad template failing its step only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from orch8.engine.expressions.evaluate import piped
from orch8.engine.expressions.filters import FILTERS
from orch8.engine.expressions.functions import CONTRACT_FUNCTIONS
from orch8.engine.expressions.lexer import check_length, fault, miscounted, suggestion
from orch8.engine.expressions.names import Uses
from orch8.engine.expressions.paths import (
    OUTPUT_ROOTS,
    Evaluate,
    constant,
    failing,
    nothing,
    read_output,
    read_root_or_null,
)
from orch8.errors import ExpressionError

_ROOTS: Final = OUTPUT_ROOTS | {
    "context", "input", "instance_id", "config", "data", "runtime", "state",
}  # fmt: skip
_SECTIONS: Final = frozenset({"data", "config"})
_FUNCTIONS: Final = frozenset({"json", "len"})
_CALL: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\((.*)\))?", re.DOTALL)
_NUMBER: Final = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?")
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_SHORTEST_QUOTED: Final = 2


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the values that a pipe tries: a way into a value, or (not ``reads``) a literal."""

    text: str
    reads: bool


@dataclass(frozen=True, slots=True)
class Parts:
    """What stands between the bars: the alternatives in their order, and the filters' text."""

    alternatives: tuple[Alternative, ...]
    filters: tuple[str, ...]


def take_apart(source: str) -> Parts:
    """The parts of the text between the braces; ExpressionError if it is too long."""
    check_length(source)
    first, *others = (each.strip() for each in _split(source, "|", quotes=False))
    alternatives, filters = [Alternative(first, _is_read(first))], []
    for segment in others:
        match = _CALL.fullmatch(segment)
        if match and match[1] in FILTERS:
            filters.append(segment)
        elif not filters and (len(alternatives) == 1 or alternatives[-1].reads):
            alternatives.append(Alternative(segment, _is_read(segment)))
    return Parts(tuple(alternatives), tuple(filters))


def paths_of_pipe(source: str) -> list[tuple[str, ...]]:
    """The paths that the alternatives read, in their order; ExpressionError as take_apart."""
    read = (each.text for each in take_apart(source).alternatives if each.reads)
    called = ((_CALL.fullmatch(text), text) for text in read)
    paths = (match[2].strip() if match and match[2] is not None else text for match, text in called)
    return [tuple(path.split(".")) for path in paths if path.partition(".")[0] in _ROOTS]


def compile_pipe(source: str, uses: Uses) -> tuple[Evaluate, ExpressionError | None]:
    """The closure for the text between the braces, and the first error that it would raise."""
    try:
        return _compile_parts(take_apart(source), uses), None
    except ExpressionError as error:
        return failing(error), error


def _compile_parts(parts: Parts, uses: Uses) -> Evaluate:
    first, *later = parts.alternatives
    candidates = [_first(first.text, uses), *(_later(each.text, uses) for each in later)]
    steps: list[tuple[Callable[..., Any], list[Evaluate]]] = []
    for text in parts.filters:
        name, _, arguments = text.partition("(")
        steps.append(_filter(name, arguments.removesuffix(")") or None, uses))
    return piped(candidates, steps)


def _first(segment: str, uses: Uses) -> Evaluate:
    if not _is_read(segment) or segment.partition("(")[0] in FILTERS:
        root = segment.partition(".")[0]
        raise fault(f"unknown template root: {root}", hint=suggestion(root, _ROOTS))
    return _read(segment, uses)


def _later(segment: str, uses: Uses) -> Evaluate:
    if not _is_read(segment):
        return constant(_literal(segment))
    try:
        return _read(segment, uses)
    except ExpressionError as error:
        return failing(error)  # only if nothing before it is taken


def _is_read(segment: str) -> bool:
    """Whether a segment is a path under a known root, or a call."""
    match = _CALL.fullmatch(segment)
    called = match is not None and match[2] is not None
    return called or segment.partition(".")[0] in _ROOTS


def _read(segment: str, uses: Uses) -> Evaluate:
    match = _CALL.fullmatch(segment)
    if match is None or match[2] is None:
        return _path(segment, uses)
    name = match[1]
    if name not in _FUNCTIONS:
        raise fault(f"unknown template function: {name}", hint=suggestion(name, _FUNCTIONS))
    argument, apply = _path(match[2].strip(), uses), CONTRACT_FUNCTIONS[name].apply
    return lambda env: apply(argument(env))


def _path(path: str, uses: Uses) -> Evaluate:
    root, *segments = path.split(".")
    if root not in _ROOTS:
        raise fault(f"unknown template root: {root}", hint=suggestion(root, _ROOTS))
    if root in OUTPUT_ROOTS:
        if not segments:
            return nothing
        uses.outputs.add(segments[0])
        return read_output(segments[0], segments[1:])
    if root == "context" and (not segments or segments[0] not in _SECTIONS):
        raise fault(f"unknown template root: {path}", hint="write context.data or context.config")
    uses.roots.add(root)
    return read_root_or_null(root, segments)


def _filter(
    name: str, arguments: str | None, uses: Uses
) -> tuple[Callable[..., Any], list[Evaluate]]:
    chosen = FILTERS[name]
    given = list(_split(arguments, ",", quotes=True)) if arguments and arguments.strip() else []
    if message := miscounted(name, chosen.least, chosen.most, len(given)):
        raise fault(message)
    return chosen.apply, [_argument(name, each.strip(), uses) for each in given]


def _argument(name: str, argument: str, uses: Uses) -> Evaluate:
    if "." in argument and argument.partition(".")[0] in _ROOTS:
        return _path(argument, uses)
    value = _literal(argument) if name == "default" else _unquoted(argument)
    return constant(argument if value is None and name != "default" else value)


def _literal(segment: str) -> Any:
    quoted = _unquoted(segment)
    if quoted is not None:
        return quoted
    if segment in _CONSTANTS:
        return _CONSTANTS[segment]
    if _NUMBER.fullmatch(segment) and math.isfinite(value := float(segment)):
        return value
    return segment


def _unquoted(segment: str) -> str | None:
    if len(segment) >= _SHORTEST_QUOTED and segment[0] in "'\"" and segment[-1] == segment[0]:
        return segment[1:-1]
    return None


def _split(text: str, separator: str, *, quotes: bool) -> Iterator[str]:
    """The parts between separators outside parentheses and, if asked for, outside quotes."""
    depth, start, quote = 0, 0, ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif quotes and character in "'\"":
            quote = character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == separator and depth <= 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]
