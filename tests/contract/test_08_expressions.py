"""CONTRACT 8: conditions, as routers, loops and guards evaluate them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orch8.engine.expressions import Dialect, compile_condition
from orch8.errors import ExpressionError

DATA: dict[str, Any] = {
    "amount": 10, "name": "Ada", "list": [3, 1, 2], "null": None, "empty": {}, "none": [],
    "nested": {"deep": {"x": 1}}, "flag": True, "input": {"x": 5}, "words": ["b", "a", "b"],
}  # fmt: skip


class World:
    """An instance with these data, and one output."""

    def root(self, name: str) -> Any:
        """The value of a root."""
        config = {"mode": "live"}
        return {
            "context": {"data": DATA, "config": config}, "data": DATA, "config": config,
            "input": DATA["input"], "instance_id": "i-1", "runtime": {"attempt": 0},
        }[name]  # fmt: skip

    def output(self, block_id: str) -> Any:
        """The output of a block."""
        return {"charge": {"status": "ok"}}.get(block_id)

    def now(self) -> datetime:
        """A Sunday."""
        return datetime(2026, 11, 22, tzinfo=UTC)

    def entropy(self) -> float:
        """Chance."""
        return 0.5


def value(source: str, *, strict: bool = False) -> Any:
    """What a condition comes to."""
    return compile_condition(source, Dialect.CONTRACT, strict=strict).evaluate(World())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # paths
        ("context.data.amount", 10), ("data.nested.deep.x", 1), ("config.mode", "live"),
        ("outputs.charge.status", "ok"), ("steps.charge.status", "ok"), ("input.x", 5),
        ("instance_id", "i-1"), ("runtime.attempt", 0), ("amount", 10), ("missing.x", None),
        ("outputs.gone.x", None), ("state.x", None), ("{{ data.amount }}", 10), ("list.0", 3),
        # precedence, from the loosest to the tightest
        ("true ? 1 : 2", 1), ("false || true && false", False), ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9), ("-2 * -3", 6), ("!false && true", True), ("10 - 2 - 3", 5),
        ("8 / 2 / 2", 2), ("1 < 2 && 2 < 3", True), ("!data.none", True),
        # and, or: booleans
        ("1 && 'x'", True), ("0 || ''", False), ("null || 3", True),
        # equality: numbers by value, no coercion
        ("1 == 1.0", True), ("'5' == 5", False), ("missing == null", True),
        ("[1, 2] == [1, 2]", True), ("true == 1", False), ("1 != 2", True),
        # order: numbers with numbers, strings with strings
        ("2 > 1", True), ("'b' > 'a'", True), ("'2' > 1", False), ("null < 1", False),
        ("missing >= 0", False),
        # arithmetic
        ("'a' + 'b'", "ab"), ("'10' + 1 == 11", True), ("true + 1", 2), ("'x' + 1", None),
        ("1 / 0", None), ("-'x'", None), ("'6' / '2'", 3),
        # membership
        ("2 in [1, 2]", True), ("'a' in ['b']", False), ("1 in 1", False),
        # functions
        ("abs(-3)", 3), ("len('é')", 2), ("len(list)", 3), ("len(empty)", 0), ("len(5)", 0),
        ("json(nested)", '{"deep":{"x":1}}'), ("keys(nested)", ["deep"]),
        ("values(nested.deep)", [1]), ("contains(list, 2)", True), ("contains(name, 'da')", True),
        ("starts_with(name, 'A')", True), ("ends_with(name, 'x')", False), ("sum(list)", 6),
        ("avg(list)", 2), ("min(list)", 1), ("max(list)", 3), ("first(list)", 3), ("last(list)", 2),
        ("slice(list, 1)", [1, 2]), ("slice(list, 0, 1)", [3]), ("sort(list)", [1, 2, 3]),
        ("sort(list, 'desc')", [3, 2, 1]), ("unique(words)", ["b", "a"]), ("count(words, 'b')", 2),
        ("clamp(12, 0, 10)", 10), ("change_pct(10, 15)", 50),
        ("format_date('2026-11-22T10:00:00Z')", "2026-11-22"), ("day_of_week('2026-11-22')", 6),
        ("nothing(1)", None), ("sort(['a', 1, null, true])", [None, True, 1, "a"]),
    ],
)  # fmt: skip
def test_condition_has_its_value(source: str, expected: Any) -> None:
    """Leniently and strictly alike."""
    assert value(source) == expected
    assert value(source, strict=True) == expected


@pytest.mark.parametrize(
    ("source", "holds"),
    [("null", False), ("false", False), ("0", False), ("''", False), ("[]", False),
     ("data.empty", True), ("'0'", True), ("[0]", True), ("-1", True), ("missing", False)],
)  # fmt: skip
def test_truth_of_a_value(source: str, *, holds: bool) -> None:
    """Everything but null, false, 0, "" and []; an empty object is true."""
    assert compile_condition(source, Dialect.CONTRACT).truthy(World()) is holds


@pytest.mark.parametrize(
    "source", ["1 +", "amount >", "@", "true ? 1", "'open", "(1", "1 2", "(" * 100 + "1"]
)
def test_malformed_condition_is_null_or_fails(source: str) -> None:
    """Null where it is lenient, but for what follows a complete expression; an error in a guard."""
    assert value(source) in (None, 1)
    with pytest.raises(ExpressionError):
        value(source, strict=True)


@pytest.mark.parametrize("source", ["", "  ", "{{ }}"])
def test_empty_condition_is_null(source: str) -> None:
    """In a guard, too: its step is skipped."""
    assert value(source, strict=True) is None


def test_chance_and_clock_are_the_worlds() -> None:
    """So a run can be repeated."""
    assert value("random()") == 50
    assert value("random(1, 3)") == 2
    assert str(value("now()")).startswith("2026-11-22T")
    assert len(value("uuid()")) == 36
