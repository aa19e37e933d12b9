"""Properties of the expression language, templates and durations, for any input at all."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from orch8.engine.duration import Duration, parse_duration
from orch8.engine.expressions import (
    Dialect,
    compile_condition,
    compile_template,
    find_expressions,
)
from orch8.errors import ExpressionError

MANY = settings(max_examples=200, deadline=None)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False,
                                                                        allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["2026-02-28", "2026-01-31T10:00:00Z", "7", "YQ=="]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["a", "b", "0", "item"]), inner, max_size=3
    ),
    max_leaves=8,
)  # fmt: skip
FRAGMENTS = st.sampled_from(
    # Words rather than a list of a hundred quoted strings.
    "a b a.b a.0 outputs.a outputs context.data.a item now 1 0 2.5 'x' \"y\" true null [ ] ( ) , "  # noqa: SIM905
    "+ - * / == != < >= in not and or ! && || ? : | . { } {{ }} len( sum( min( sort( filter( "
    "'item' days( hours( random( slice( unique( format_date( default( upper round( join( split( "
    "replace( truncate( hash( abs json( % @ é".split()
)
SOURCES = st.text(max_size=40) | st.lists(FRAGMENTS, max_size=14).map(" ".join)


class World:
    """Any data at all behind every root."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def root(self, name: str) -> Any:
        return {"data": self.value, "config": {}} if name == "context" else self.value

    def output(self, _block_id: str) -> Any:
        return self.value

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def entropy(self) -> float:
        return 0.999


@MANY
@given(SOURCES, JSON)
@example("9" * 5000 + "*" + "9" * 5000, None)
@example("a" + "[0]" * 5000, [])
def test_seed_text_fails_only_as_an_expression_error(source: str, value: Any) -> None:
    """Any text either is an ExpressionError or evaluates to JSON or an ExpressionError."""
    with contextlib.suppress(ExpressionError):
        result = compile_condition(source, Dialect.SEED).evaluate(World(value))
        json.dumps(result, allow_nan=False)


@MANY
@given(SOURCES, JSON)
def test_lenient_condition_never_raises(source: str, value: Any) -> None:
    """A lenient condition gives JSON for any text and any data."""
    condition = compile_condition(source, Dialect.CONTRACT)
    json.dumps(condition.evaluate(World(value)), allow_nan=False)
    assert condition.truthy(World(value)) in {True, False}


@MANY
@given(SOURCES, JSON)
def test_strict_condition_raises_nothing_else(source: str, value: Any) -> None:
    """A strict condition compiles whatever it is, and fails only as an ExpressionError."""
    condition = compile_condition(source, Dialect.CONTRACT, strict=True)
    with contextlib.suppress(ExpressionError):
        condition.evaluate(World(value))


@MANY
@given(SOURCES, JSON, st.sampled_from(Dialect))
def test_template_renders_to_json_or_an_expression_error(
    source: str, value: Any, dialect: Dialect
) -> None:
    """Any text in a template renders to JSON or is an ExpressionError."""
    document = {"k": ["{{" + source + "}}", "x {{" + source + "}} y"], "l": source}
    with contextlib.suppress(ExpressionError):
        rendered = compile_template(document, dialect).render(World(value))
        json.dumps(rendered, allow_nan=False)


@MANY
@given(JSON, st.sampled_from(Dialect))
def test_template_without_expressions_is_the_identity(value: Any, dialect: Dialect) -> None:
    """A document without braces renders to the very same document."""
    if "{{" in json.dumps(value):
        return
    template = compile_template(value, dialect)
    assert template.is_constant
    assert template.render(World(None)) is value
    assert list(find_expressions(value)) == []


@MANY
@given(JSON)
def test_template_of_one_expression_keeps_the_value(value: Any) -> None:
    """A string that is one expression gives the value itself, not a copy or a text."""
    for dialect in Dialect:
        assert compile_template("{{context.data}}", dialect).render(World(value)) is value


@MANY
@given(st.integers(-(2**53), 2**53), st.integers(-(2**53), 2**53))
def test_money_stays_whole(left: int, right: int) -> None:
    """Sums and differences of whole numbers are exact whole numbers."""
    world = World({"a": left, "b": right})
    for sign, expected in (("+", left + right), ("-", left - right)):
        source = f"context.data.a {sign} context.data.b"
        result = compile_condition(source, Dialect.SEED).evaluate(world)
        assert (type(result), result) == (int, expected)


@MANY
@given(JSON, JSON)
def test_equality_is_symmetric_and_orders_exclude_it(left: Any, right: Any) -> None:
    """Equality does not depend on the side; what is less is not equal."""
    world = World({"a": left, "b": right})

    def holds(source: str) -> bool:
        return compile_condition(source, Dialect.CONTRACT).truthy(world)

    assert holds("data.a == data.b") == holds("data.b == data.a")
    assert not (holds("data.a < data.b") and holds("data.a == data.b"))
    assert holds("data.a == data.a")


DURATIONS = st.builds(
    Duration,
    st.integers(0, 1_200),
    st.integers(0, 30_000),
    st.integers(0, 10**9).map(lambda ms: timedelta(milliseconds=ms)),
)


@MANY
@given(DURATIONS)
def test_duration_survives_json(duration: Duration) -> None:
    """A duration written as JSON reads back as itself."""
    assert parse_duration(json.loads(json.dumps(duration.to_json()))) == duration


@MANY
@given(st.integers(0, 10**11))
def test_duration_of_milliseconds_is_their_number(milliseconds: int) -> None:
    """Milliseconds, seconds as text and seconds as a float agree."""
    duration = parse_duration(milliseconds)
    assert duration.total_ms() == milliseconds
    assert parse_duration(f"{milliseconds}ms") == duration
    assert parse_duration(milliseconds / 1000) == duration


@MANY
@given(
    DURATIONS,
    st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1)),  # noqa: DTZ001
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_duration_after_never_goes_back(duration: Duration, wall: datetime, zone: str) -> None:
    """Later is later: a clock change never moves the end before the start by over its gap."""
    start = wall.replace(tzinfo=UTC)
    assert duration.after(start, ZoneInfo(zone)) >= start - timedelta(hours=1)


@MANY
@given(JSON | st.text())
def test_duration_refuses_only_as_a_value_error(value: Any) -> None:
    """Whatever is no duration is a ValueError and nothing else."""
    with contextlib.suppress(ValueError):
        assert parse_duration(value).to_json() is not None
