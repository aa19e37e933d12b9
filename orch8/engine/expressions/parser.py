"""Turns the tokens of an expression into nodes (grammar: CONTRACT 8.1, and what the seed adds).

The seed adds brackets and fields after any operand, `not in`, nested ternaries and pipes.
"""

from __future__ import annotations

import math
from typing import Final

from orch8.engine.expressions.filters import FILTERS
from orch8.engine.expressions.lexer import Dialect, Kind, Token, fault, tokenize
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
from orch8.errors import ExpressionError

MAX_DEPTH: Final = 64
_NOT_LEVEL: Final = 3
_COMPARE_LEVEL: Final = 4
_LEVELS: Final = {
    "||": 1, "&&": 2,
    "==": 4, "!=": 4, ">": 4, ">=": 4, "<": 4, "<=": 4, "in": 4, "not": 4,
    "+": 5, "-": 5, "*": 6, "/": 6,
}  # fmt: skip
_WORDS: Final = {"and": "&&", "or": "||", "in": "in", "not": "not"}
_CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_MAX_INTEGER_DIGITS: Final = 18


def parse(source: str, dialect: Dialect, *, whole: bool = True) -> Node:
    """The tree of the source; ExpressionError if it has none.

    Without ``whole``, what follows a complete expression is ignored (CONTRACT's lenient mode).
    """
    parser = _Parser(source, dialect)
    node = parser.pipeline() if dialect is Dialect.SEED else parser.ternary()
    if whole:
        parser.expect_end()
    return node


class _Parser:
    def __init__(self, source: str, dialect: Dialect) -> None:
        self._source = source
        self._seed = dialect is Dialect.SEED
        self._tokens = tokenize(source)
        self._at = 0
        self._depth = 0
        if not self._seed:
            self._refuse_pipes()

    def pipeline(self) -> Node:
        base = self.ternary()
        fallbacks: list[Node] = []
        filters: list[Call] = []
        while self._take("|"):
            token = self._tokens[self._at]
            if token.kind is Kind.WORD and token.text in FILTERS:
                self._at += 1
                filters.append(Call(token.text, self._arguments(), token.column))
            elif filters:
                raise self._fault("a fallback comes before the first filter", token, "default(…)")
            else:
                fallbacks.append(self.ternary())
        return Pipe(base, tuple(fallbacks), tuple(filters)) if fallbacks or filters else base

    def ternary(self) -> Node:
        test = self._binary(1)
        if not self._take("?"):
            return test
        yes = self._branch()
        if not self._take(":"):
            raise self._fault("a ternary needs `:`", self._tokens[self._at], "write a ? b : c")
        return Choice(test, yes, self._branch())

    def expect_end(self) -> None:
        token = self._tokens[self._at]
        if token.kind is not Kind.END:
            hint = "compare once, and join with and/or" if self._operator(token) else ""
            raise self._fault(f"unexpected {token.text!r}", token, hint)

    def _branch(self) -> Node:
        if not self._seed:
            return self._deeper(1)
        before = self._enter()
        node = self.ternary()
        self._depth = before
        return node

    def _refuse_pipes(self) -> None:
        for token in self._tokens:
            if token[:2] == (Kind.OPERATOR, "|"):
                raise self._fault("unexpected '|'", token, "use || or the word or")

    def _enter(self) -> int:
        if self._depth >= MAX_DEPTH:
            token = self._tokens[self._at]
            raise self._fault(f"nested deeper than {MAX_DEPTH}", token, "compute parts in a step")
        self._depth += 1
        return self._depth - 1

    def _deeper(self, floor: int) -> Node:
        before = self._enter()
        node = self._binary(floor)
        self._depth = before
        return node

    def _binary(self, floor: int) -> Node:
        left = self._operand(floor)
        ceiling = max(_LEVELS.values())
        while True:
            operator = self._operator(self._tokens[self._at])
            level = _LEVELS.get(operator, 0)
            if not floor <= level <= ceiling or (operator == "not" and not self._not_in()):
                return left
            if level == _COMPARE_LEVEL:
                left = self._comparison(left, operator)
                ceiling = _COMPARE_LEVEL - 1
            else:
                left = self._chain(left, level)

    def _chain(self, first: Node, level: int) -> Node:
        rest: list[tuple[str, Node]] = []
        while _LEVELS.get(operator := self._operator(self._tokens[self._at])) == level:
            self._at += 1
            rest.append((operator, self._deeper(level + 1)))
        return Chain(first, tuple(rest))

    def _comparison(self, left: Node, operator: str) -> Node:
        self._at += 2 if operator == "not" else 1
        if operator not in {"in", "not"}:
            return Chain(left, ((operator, self._deeper(_COMPARE_LEVEL + 1)),))
        before = self._enter()
        member = Chain(left, (("in", self._primary()),))
        self._depth = before
        return Prefix("!", member) if operator == "not" else member

    def _not_in(self) -> bool:
        return self._seed and self._operator(self._tokens[self._at + 1]) == "in"

    def _operand(self, floor: int) -> Node:
        token = self._tokens[self._at]
        if token.kind is Kind.WORD and token.text == "not":
            if floor > _NOT_LEVEL:
                raise self._fault("`not` cannot stand here", token, "put it in parentheses")
            self._at += 1
            return Prefix("!", self._deeper(_NOT_LEVEL))
        if token.kind is Kind.OPERATOR and token.text in {"!", "-"}:
            self._at += 1
            before = self._enter()
            operand = self._operand(_LEVELS["*"] + 1)
            self._depth = before
            return Prefix(token.text, operand)
        return self._primary()

    def _primary(self) -> Node:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind is Kind.TEXT:
            node: Node = Literal(token.text)
        elif token.kind is Kind.NUMBER:
            node = Literal(_number(token.text))
        elif token.kind is Kind.WORD:
            node = self._word(token)
        elif token.text == "(" and token.kind is Kind.OPERATOR:
            node = self._parenthesis()
        elif token.text == "[" and token.kind is Kind.OPERATOR:
            node = Items(self._list("]"))
        else:
            what = f"unexpected {token.text!r}" if token.text else "the expression ends too early"
            raise self._fault(what, token, "a value was expected")
        return self._postfix(node) if self._seed else node

    def _word(self, token: Token) -> Node:
        if token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        if token.text in _WORDS:
            raise self._fault(f"unexpected `{token.text}`", token, "a value was expected")
        if self._tokens[self._at][:2] == (Kind.OPERATOR, "("):
            return Call(token.text, self._arguments(), token.column)
        first, *steps = token.text.split(".")
        if self._seed and "" in steps:
            raise self._fault("a path has an empty segment", token, "write a.b.c")
        name = Name(first, token.column)
        return Walk(name, tuple(steps)) if steps else name

    def _parenthesis(self) -> Node:
        before = self._enter()
        node = self.pipeline() if self._seed else self.ternary()
        self._depth = before
        self._close(")")
        return node

    def _postfix(self, node: Node) -> Node:
        steps: list[str | Node] = []
        while True:
            token = self._tokens[self._at]
            if token.kind is Kind.FIELD:
                self._at += 1
                steps.extend(token.text[1:].split("."))
            elif self._take("["):
                steps.append(self._deeper(1))
                self._close("]")
            else:
                break
        if not steps:
            return node
        if isinstance(node, Walk):
            return Walk(node.base, (*node.steps, *steps))
        return Walk(node, tuple(steps))

    def _arguments(self) -> tuple[Node, ...]:
        return self._list(")") if self._take("(") else ()

    def _list(self, closer: str) -> tuple[Node, ...]:
        """The items up to the closer; a comma before it is allowed."""
        items: list[Node] = []
        before = self._enter()
        while not self._take(closer):
            items.append(self.ternary())
            if not self._take(","):
                self._close(closer)
                break
        self._depth = before
        return tuple(items)

    def _operator(self, token: Token) -> str:
        if token.kind is Kind.OPERATOR:
            return token.text
        return _WORDS.get(token.text, "") if token.kind is Kind.WORD else ""

    def _take(self, text: str) -> bool:
        if self._tokens[self._at][:2] == (Kind.OPERATOR, text):
            self._at += 1
            return True
        return False

    def _close(self, closer: str) -> None:
        if not self._take(closer):
            token = self._tokens[self._at]
            found = f"found {token.text!r}" if token.text else "the expression ends"
            raise self._fault(f"`{closer}` was expected", token, found)

    def _fault(self, message: str, token: Token, hint: str) -> ExpressionError:
        return fault(message, column=token.column, source=self._source, hint=hint)


def _number(text: str) -> float | None:
    if "." in text or len(text) > _MAX_INTEGER_DIGITS:
        value = float(text)
        return value if math.isfinite(value) else None
    return int(text)
