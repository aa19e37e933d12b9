"""The shared members of request schemas: strict types, wrong parts named with a JSON Pointer.

Unknown members are left out: clients of the contract may send more than is read. Where a typing
error would cost money, ``strict`` refuses them and says what was probably meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields

from orch8.blocks.fields import (
    Anything,
    Choice,
    Flag,
    Many,
    Object,
    Positive,
    Text,
    Whole,
    wrong,
)
from orch8.blocks.schema import Base, read
from orch8.errors import InvalidArgument, Problem, Unprocessable

__all__ = [
    "Anything", "Body", "Choice", "Flag", "Id", "Many", "Number", "Object", "Positive", "Query",
    "Shown", "Switch", "Text", "Timestamp", "Whole", "Words", "described", "read_body",
    "read_query", "refuse_unknown",
]  # fmt: skip

NO_BODY = "the body must be a JSON object"


class Body(Base):
    """The JSON object in a request's body."""


class Query(Base):
    """The parameters in a request's address; their values are text."""


class Shown(Schema):
    """What an answer holds. Answers are written by hand, and tests hold them to their schema."""


class Id(Text):
    """A UUID, written as text."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            return UUID(text)
        except ValueError:
            raise wrong(
                "{name} must be a UUID", "as in the answer that created it", shape=True
            ) from None


class Timestamp(Text):
    """A moment; without an offset it is UTC."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise wrong(
                "{name} must be a timestamp", "such as 2026-04-01T00:00:00Z", shape=True
            ) from None


class Number(Whole):
    """A whole number in a query."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> int:
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):  # noqa: PLR2004 - fits in 64 bits
            raise wrong("{name} must be a whole number")
        return super()._deserialize(int(value), attr, data, **kwargs)


class Switch(Flag):
    """true or false in a query."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> bool:
        return super()._deserialize(
            {"true": True, "false": False}.get(value, value), attr, data, **kwargs
        )


class Words(Text):
    """Words of a fixed set in a query, separated by commas."""

    def __init__(self, *words: str, **more: Any) -> None:
        super().__init__(**more)
        self.words = words

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        given = tuple(word.strip() for word in text.split(",") if word.strip())
        unknown = next((word for word in given if word not in self.words), None)
        if unknown is not None:
            raise wrong(f"{{name}} must not be {unknown[:60]!r}", f"use {', '.join(self.words)}")
        return given


def described(field: fields.Field[Any], text: str, example: Any = None) -> Any:
    """The field, with what the OpenAPI document says of it."""
    said = (
        {"description": text} if example is None else {"description": text, "examples": [example]}
    )
    field.metadata = {**field.metadata, **said}
    return field


def read_body(schema: Body, value: Any) -> dict[str, Any]:
    """The members that are not null. Raises Unprocessable or InvalidArgument with every problem."""
    if not isinstance(value, dict):
        raise Unprocessable(NO_BODY, errors=[Problem("", NO_BODY, shape=True)])
    values, problems = read(schema, value)
    if problems:
        shaped = any(each.shape for each in problems)
        raise (Unprocessable if shaped else InvalidArgument)(summary(problems), errors=problems)
    return values


def read_query(schema: Query, given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters that are not empty. Raises InvalidArgument with every problem."""
    values, problems = read(schema, {name: text for name, text in given.items() if text.strip()})
    if problems:
        missing = next((p for p in problems if p.message.endswith(" is required")), None)
        detail = f"missing field `{missing.pointer[1:]}`" if missing else summary(problems)
        raise InvalidArgument(f"in the query: {detail}", errors=problems)
    return values


def refuse_unknown(schema: Body, value: Any) -> None:
    """Every member of the object is one that is read. Raises InvalidArgument naming the others."""
    known = {field.data_key or name for name, field in schema.fields.items()}
    unknown = [name for name in value if name not in known] if isinstance(value, dict) else []
    problems = []
    for name in unknown[:20]:
        meant = get_close_matches(name[:60], known, n=1)
        hint = f"did you mean {meant[0]}?" if meant else "leave it out, or add ?lenient=true"
        pointer = "/" + name[:200].replace("~", "~0").replace("/", "~1")
        problems.append(Problem(pointer, f"unknown member {name[:60]!r}", hint, "unknown_member"))
    if problems:
        raise InvalidArgument(f"{summary(problems)}: {problems[0].hint}", errors=problems)


def summary(problems: Iterable[Problem]) -> str:
    """The first problem, and how many there are besides."""
    first, *others = problems
    return first.message + (f" (and {len(others)} more)" if others else "")
