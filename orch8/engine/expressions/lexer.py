"""Cuts the text of an expression into tokens.

Strings have no escapes, numbers no sign and no exponent (CONTRACT 8.1). Both dialects share
the tokens; what one of them lacks is refused by the parser.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from orch8.errors import ExpressionError

MAX_SOURCE_BYTES: Final = 65_536
_EXCERPT: Final = 80


class Dialect(StrEnum):
    """Which rules an expression follows: those of the sequence's form (DECISIONS 6)."""

    SEED = "seed"
    CONTRACT = "contract"


class Kind(StrEnum):
    """What a token is."""

    NUMBER = "number"
    WORD = "word"  # a dotted path, a name or a keyword
    TEXT = "text"  # a quoted string, quotes taken off
    FIELD = "field"  # `.name` after a bracket
    OPERATOR = "operator"
    END = "end"


class Token(NamedTuple):
    """One token; ``column`` counts characters from 1."""

    kind: Kind
    text: str
    column: int


_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)
      |(?P<word>[A-Za-z_][A-Za-z0-9_.]*)
      |(?P<text>'[^']*'|"[^"]*")
      |(?P<field>(?:\.[A-Za-z0-9_]+)+)
      |(?P<operator>\|\||&&|==|!=|>=|<=|[-+*/!<>()\[\],?:|]))""",
    re.VERBOSE,
)
_HINTS: Final = {
    "=": "use == to compare",
    "&": "use && or the word and",
    "'": "the string is not closed",
    '"': "the string is not closed",
    "{": "one pair of {{ }} goes around the whole expression",
    "}": "one pair of {{ }} goes around the whole expression",
    "%": "there is no remainder operator",
    "\\": "strings have no escapes: use the other kind of quote",
}


def fault(message: str, *, column: int = 0, source: str = "", hint: str = "") -> ExpressionError:
    """An ExpressionError that says where and what to do; ``extra`` has the same in parts."""
    where = f" at column {column}" if column else ""
    shown = source if len(source) <= _EXCERPT else f"{source[:_EXCERPT]}…"
    inside = f" of `{shown}`" if source else ""
    advice = f" ({hint})" if hint else ""
    extra = {"column": column, "hint": hint, "source": shown}
    return ExpressionError(
        f"{message}{where}{inside}{advice}", extra={k: v for k, v in extra.items() if v}
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """A did-you-mean for a mistyped name, else the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}"


def miscounted(name: str, least: int, most: int, given: int) -> str:
    """The message for a wrong number of arguments, empty if the number is right."""
    if least <= given <= most:
        return ""
    wanted = str(least) if least == most else f"{least} to {most}"
    return f"{name} takes {wanted} argument{'' if most == 1 else 's'}, not {given}"


def check_length(source: str) -> None:
    """Raises ExpressionError for a source of more than 64 KiB."""
    if len(source) > MAX_SOURCE_BYTES or len(source.encode(errors="replace")) > MAX_SOURCE_BYTES:
        message = f"the expression is longer than {MAX_SOURCE_BYTES} bytes"
        raise fault(message, hint="compute it in a step")


def tokenize(source: str) -> list[Token]:
    """The tokens of the source, an END token last; ExpressionError at an alien character."""
    check_length(source)
    tokens: list[Token] = []
    end = len(source.rstrip())
    position = 0
    while position < end:
        match = _TOKEN.match(source, position, end)
        if match is None:
            alien = source[position:end].lstrip()
            column = end - len(alien) + 1
            message = f"unexpected character {alien[0]!r}"
            raise fault(message, column=column, source=source, hint=_HINTS.get(alien[0], ""))
        kind = Kind(str(match.lastgroup))
        text = match.group(kind)
        shown = text[1:-1] if kind is Kind.TEXT else text
        tokens.append(Token(kind, shown, match.start(kind) + 1))
        position = match.end()
    tokens.append(Token(Kind.END, "", end + 1))
    return tokens
