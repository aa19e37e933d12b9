"""Templates: JSON with {{ expressions }} in its strings, compiled once and rendered often."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from orch8.engine.expressions.environment import Environment
from orch8.engine.expressions.evaluate import compile_node
from orch8.engine.expressions.lexer import Dialect, fault
from orch8.engine.expressions.names import Scope, Uses
from orch8.engine.expressions.parser import parse
from orch8.engine.expressions.paths import Evaluate, constant
from orch8.engine.expressions.pipes import compile_pipe
from orch8.engine.expressions.values import check_size, plain, text
from orch8.errors import ExpressionError

MAX_TEMPLATE_DEPTH: Final = 128
_OPEN: Final = "{{"
_CLOSE: Final = "}}"
_STOP: Final = re.compile(r"""['"]|}}""")


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template.

    ``outputs`` are the blocks it reads, ``roots`` the other roots. ``problems`` are the errors
    that rendering a contract-form template would raise.
    """

    outputs: frozenset[str]
    roots: frozenset[str]
    problems: tuple[ExpressionError, ...]
    is_constant: bool
    _run: Evaluate

    def render(self, env: Environment) -> Any:
        """The JSON with every expression replaced; ExpressionError if one cannot be evaluated.

        What is not replaced is shared with the template, what is read with the environment:
        neither is to be changed.
        """
        try:
            return self._run(env)
        except RecursionError:
            raise fault("the values are nested too deeply") from None


def compile_template(
    value: Any, dialect: Dialect, known_roots: Container[str] | None = None
) -> Template:
    """The template that a JSON value means. Keys are never templated.

    In the seed's form every mistake raises ExpressionError here, with the ``pointer`` of the
    string in its ``extra``. In the contract's form mistakes raise when rendered (CONTRACT 7.3).
    """
    compiler = _Compiler(dialect, known_roots)
    run = compiler.value(value, "")
    outputs, roots = frozenset(compiler.uses.outputs), frozenset(compiler.uses.roots)
    is_constant = run is None
    problems = tuple(compiler.problems)
    return Template(outputs, roots, problems, is_constant, constant(value) if run is None else run)


def find_expressions(value: Any) -> Iterator[tuple[str, str]]:
    """The JSON Pointer and the text between the braces of every {{ }}, in document order."""
    pending = [("", value)]
    while pending:
        pointer, each = pending.pop()
        if isinstance(each, str):
            yield from ((pointer, part) for is_code, part in _parts(each) if is_code)
        elif isinstance(each, dict):
            members = [(f"{pointer}/{_escaped(key)}", below) for key, below in each.items()]
            pending.extend(reversed(members))
        elif isinstance(each, list):
            elements = [(f"{pointer}/{index}", below) for index, below in enumerate(each)]
            pending.extend(reversed(elements))


@dataclass(slots=True)
class _Compiler:
    """Compiles one value; None stands for a part without expressions."""

    dialect: Dialect
    known_roots: Container[str] | None
    uses: Uses = field(default_factory=Uses)
    problems: list[ExpressionError] = field(default_factory=list)

    def value(self, value: Any, pointer: str, depth: int = 0) -> Evaluate | None:
        if isinstance(value, str):
            return self._text(value, pointer) if _OPEN in value else None
        if not isinstance(value, dict | list):
            return None
        if depth >= MAX_TEMPLATE_DEPTH:
            message = f"a template is nested at most {MAX_TEMPLATE_DEPTH} deep"
            raise fault(message)
        if isinstance(value, dict):
            return self._object(value, pointer, depth + 1)
        return self._array(value, pointer, depth + 1)

    def _object(self, value: dict[str, Any], pointer: str, depth: int) -> Evaluate | None:
        parts = {
            key: part
            for key, each in value.items()
            if (part := self.value(each, f"{pointer}/{_escaped(key)}", depth)) is not None
        }
        if not parts:
            return None

        def render(env: Environment) -> Any:
            # A copy keeps the order of the keys and every constant member.
            result = value.copy()
            for key, part in parts.items():
                result[key] = part(env)
            return result

        return render

    def _array(self, value: list[Any], pointer: str, depth: int) -> Evaluate | None:
        parts = [self.value(each, f"{pointer}/{index}", depth) for index, each in enumerate(value)]
        if not any(parts):
            return None
        filled = [
            constant(each) if part is None else part
            for part, each in zip(parts, value, strict=True)
        ]
        return lambda env: [part(env) for part in filled]

    def _text(self, value: str, pointer: str) -> Evaluate | None:
        parts = list(_parts(value))
        if self.dialect is Dialect.SEED and not parts[-1][0] and _OPEN in parts[-1][1]:
            message = f"{_OPEN} is not closed in {value[:80]!r}"
            raise _placed(fault(message, hint="write {{ expression }}"), pointer)
        if not any(is_code for is_code, _ in parts):
            return None
        if len(parts) == 1:
            return self._expression(parts[0][1], pointer)
        return _concatenation(
            [self._expression(part, pointer) if is_code else part for is_code, part in parts]
        )

    def _expression(self, source: str, pointer: str) -> Evaluate:
        if self.dialect is Dialect.CONTRACT:
            run, problem = compile_pipe(source, self.uses)
            if problem is not None:
                self.problems.append(_placed(problem, pointer))
            return run
        scope = Scope(source, self.dialect, self.known_roots, self.uses)
        try:
            evaluate = compile_node(parse(source, self.dialect), scope)
        except ExpressionError as error:
            raise _placed(error, pointer) from None
        return lambda env: plain(evaluate(env))


def _concatenation(parts: list[Evaluate | str]) -> Evaluate:
    def render(env: Environment) -> str:
        shown = [part if isinstance(part, str) else text(part(env)) for part in parts]
        check_size(sum(map(len, shown)))
        return "".join(shown)

    return render


def _parts(value: str) -> Iterator[tuple[bool, str]]:
    """Cuts a text into literal parts and the insides of {{ }}; an unclosed {{ is literal."""
    position = 0
    while (start := value.find(_OPEN, position)) >= 0:
        end = _closing(value, start + len(_OPEN))
        if end < 0:
            break
        if start > position:
            yield False, value[position:start]
        yield True, value[start + len(_OPEN) : end]
        position = end + len(_CLOSE)
    if position < len(value):
        yield False, value[position:]


def _closing(value: str, start: int) -> int:
    """Where the closing braces stand that are not inside quotes, -1 if nowhere."""
    while stop := _STOP.search(value, start):
        if stop.group() == _CLOSE:
            return stop.start()
        start = value.find(stop.group(), stop.end()) + 1
        if start == 0:
            break
    return -1


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _placed(error: ExpressionError, pointer: str) -> ExpressionError:
    return ExpressionError(error.detail, extra={**error.extra, "pointer": pointer})
