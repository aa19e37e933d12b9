"""What an expression reads is told from its text."""

from __future__ import annotations

import pytest

from orch8.engine.expressions import (
    Dialect,
    paths_of_condition,
    paths_of_template,
    take_apart,
)
from orch8.errors import ExpressionError


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("data.a + steps.b.c * 2", ["data.a", "outputs.b.c"]),
        ("context.data.list[data.i].x", ["data.list", "data.i"]),
        ("!input.x ? -config.y : 'z'", ["data.input.x", "config.y"]),
        ("len([data.a, now]) in data.b", ["data.a", "now", "data.b"]),
        ("data.a | data.b | default(data.c)", ["data.a", "data.b", "data.c"]),
        ("filter(data.items, 'price > 3')[0].id", ["data.items"]),
        ("state", ["state"]),
    ],
)
def test_paths_of_a_seed_expression_are_found(source: str, paths: list[str]) -> None:
    """Wherever in the expression they stand; predicates are about other things."""
    found = paths_of_template(source, Dialect.SEED)
    assert [".".join(path) for path in found] == paths
    assert paths_of_condition(f"{{{{{source}}}}}", Dialect.SEED) == found


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("context.data.a|outputs.b|'c'|upper", ["data.a", "outputs.b"]),
        ("len(data.a)", ["data.a"]),
        ("context.audit", ["context.audit"]),
        ("foo.bar|nope(foo.x)", []),
    ],
)
def test_paths_of_a_contract_template_are_found(source: str, paths: list[str]) -> None:
    """Those of its alternatives; unknown roots lead nowhere."""
    found = paths_of_template(source, Dialect.CONTRACT)
    assert [".".join(path) for path in found] == paths


def test_first_word_of_a_contract_condition_is_a_member_of_the_data() -> None:
    """Unless it is a root."""
    found = paths_of_condition("amount > 5 && runtime.x || outputs.a", Dialect.CONTRACT)
    assert found == [("data", "amount"), ("runtime", "x"), ("outputs", "a")]
    assert paths_of_condition("  ", Dialect.CONTRACT) == []


def test_parts_of_a_pipe_are_told_apart() -> None:
    """What follows a literal, or stands among the filters, is not tried."""
    parts = take_apart("data.a | 'b' | data.c | upper | data.d | default(1)")
    assert [(each.text, each.reads) for each in parts.alternatives] == [
        ("data.a", True), ("'b'", False),
    ]  # fmt: skip
    assert parts.filters == ("upper", "default(1)")
    with pytest.raises(ExpressionError, match="longer than"):
        take_apart("x" * 70_000)
