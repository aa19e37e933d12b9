"""explain: what a template comes to, and for each of its expressions what it read and why.

The real language does the work: every alternative of an expression is rendered as a template of its
own. Values come in hidden, so that no filter can turn a secret into something else.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from orch8.definition.texts import texts
from orch8.engine.expressions import (
    Dialect,
    Environment,
    Template,
    compile_template,
    find_expressions,
    paths_of_template,
    take_apart,
)
from orch8.errors import ExpressionError
from orch8.runtime.hide import HIDDEN, has_hidden, hide

Render = Callable[[Template], Any]

WHOLE: Final = "_"  # the path of an expression in a template that is one text
LITERAL: Final = "literal"
_DEFAULT: Final = "default("
_TYPES: Final = (
    (bool, "boolean"), (int | float, "number"), (str, "string"), (list, "array"), (dict, "object"),
)  # fmt: skip


class Status(StrEnum):
    """What became of an expression."""

    OK = "ok"
    NULL = "null"  # what it reads is there, and is null
    MISSING = "missing"  # what it reads is not there
    REDACTED = "redacted"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One expression: the path of the text it stands in, its value, and where that came from."""

    param_path: str
    expression: str
    status: Status
    value: Any = None
    source: str | None = None
    fallback_used: bool = False
    coerced_to_string: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a template comes to, or why it comes to nothing, and its expressions."""

    result: Any
    entries: tuple[Entry, ...]
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One expression as it is written: what it may read, and the filters that follow."""

    param_path: str
    expression: str
    reads: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class World:
    """What somebody says that expressions see. Its values are hidden already."""

    data: Any
    config: Any
    outputs: Mapping[str, Any]
    moment: datetime
    more: Mapping[str, Any] = field(default_factory=dict)

    def root(self, name: str) -> Any:
        """The value of a root; KeyError for one that nobody spoke of."""
        given = self.data.get("input") if isinstance(self.data, dict) else None
        known = {
            "context": {"data": self.data, "config": self.config},
            "data": self.data, "config": self.config, "input": given,
            "instance_id": None, "runtime": {}, "state": {},
        }  # fmt: skip
        return {**known, **self.more}[name]

    def output(self, block_id: str) -> Any:
        """What the block is said to have put out."""
        return self.outputs.get(block_id)

    def now(self) -> datetime:
        """The moment it is."""
        return self.moment

    def entropy(self) -> float:
        """No chance: the same question has the same answer."""
        return 0.5


def rendered_in(world: Environment) -> Render:
    """Renders in a world."""
    return lambda template: template.render(world)


def explain(
    template: Any, dialect: Dialect, render: Render, roots: Container[str] | None = None
) -> Explanation:
    """What the template, any JSON, comes to by ``render``, which sees hidden values only."""
    written = dict(texts(template))
    entries = []
    for pointer, code in find_expressions(template):
        inline = written[pointer].strip() != f"{{{{{code}}}}}"
        entries.append(_entry(_path(pointer), code, inline, dialect, render, roots))
    try:
        result = hide(render(compile_template(template, dialect, roots)))
    except ExpressionError as problem:
        return Explanation(None, tuple(entries), problem.detail)
    return Explanation(result, tuple(entries))


def inspect(template: Any, dialect: Dialect, roots: Container[str] | None = None) -> list[Reading]:
    """What each expression of the template may read, and what is wrong with it; nothing is
    evaluated.
    """
    found = []
    for pointer, code in find_expressions(template):
        at, expression = _path(pointer), code.strip()
        try:
            compiled = compile_template(f"{{{{{code}}}}}", dialect, roots)
            reads = tuple(".".join(path) for path in paths_of_template(code, dialect))
            filters = take_apart(code).filters if dialect is Dialect.CONTRACT else ()
            error = compiled.problems[0].detail if compiled.problems else None
            found.append(
                Reading(
                    param_path=at, expression=expression, reads=reads, filters=filters, error=error
                )
            )
        except ExpressionError as problem:
            found.append(Reading(param_path=at, expression=expression, error=problem.detail))
    return found


def type_of(value: Any) -> str:
    """The name of a JSON value's type."""
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "null")


def _entry(
    at: str,
    code: str,
    inline: bool,
    dialect: Dialect,
    render: Render,
    roots: Container[str] | None,
) -> Entry:
    expression = code.strip()

    def value_of(text: str) -> Any:
        return render(compile_template(f"{{{{{text}}}}}", dialect, roots))

    try:
        value = hide(value_of(code))
        taken, fallback = _taken(code, dialect, value_of)
    except ExpressionError as problem:
        return Entry(
            param_path=at, expression=expression, status=Status.ERROR, error=problem.detail
        )
    if taken is None and value is not None and _DEFAULT in code:
        taken, fallback = LITERAL, True
    read = None if taken in (None, LITERAL) else value_of(str(taken))
    if read == HIDDEN:
        value = HIDDEN  # whatever its filters made of it
    if has_hidden(value):
        status = Status.REDACTED
    elif taken is None:
        status = Status.NULL if _is_there(code, dialect, value_of) else Status.MISSING
    else:
        status = Status.OK if value is not None else Status.NULL
    return Entry(
        param_path=at, expression=expression, status=status, value=value, source=taken,
        fallback_used=fallback, coerced_to_string=inline and not isinstance(value, str),
    )  # fmt: skip


def _taken(code: str, dialect: Dialect, value_of: Callable[[str], Any]) -> tuple[str | None, bool]:
    """The alternative whose value an expression has (LITERAL, or None: none has one), and whether
    another stood before it. An expression of the seed's form is one alternative.
    """
    if dialect is Dialect.SEED:
        return code.strip() if value_of(code) is not None else None, False
    for place, each in enumerate(take_apart(code).alternatives):
        if not each.reads:
            return LITERAL, place > 0
        if value_of(each.text) is not None:
            return each.text, place > 0
    return None, False


def _is_there(code: str, dialect: Dialect, value_of: Callable[[str], Any]) -> bool:
    """Whether any of the paths that an expression reads leads to something, though it is null."""
    for path in paths_of_template(code, dialect):
        *above, last = path
        try:
            holder = value_of(".".join(above)) if above and above != ["outputs"] else None
        except ExpressionError:
            continue
        if isinstance(holder, dict) and last in holder:
            return True
        if isinstance(holder, list) and last.isdecimal() and int(last) < len(holder):
            return True
    return False


def _path(pointer: str) -> str:
    parts = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    return ".".join(parts) or WHOLE
