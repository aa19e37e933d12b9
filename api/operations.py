"""The description of an operation beside its view; the OpenAPI document is made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from marshmallow import Schema

from api.schemas.base import Body, Query

View = TypeVar("View", bound=Callable[..., Any])
MARK = "orch8_operation"


@dataclass(frozen=True)
class Many:
    """A JSON list of what the schema describes."""

    schema: type[Schema]


Content = type[Schema] | Many | str | None  # a media type, or None for an answer without a body


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What an operation takes and gives. ``answers`` maps a status to what is in the body;
    ``errors`` are the statuses besides those that every operation can have.
    """

    summary: str
    body: type[Body] | None = None
    body_required: bool = True
    query: type[Query] | None = None
    answers: Mapping[int, Content] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    headers: tuple[str, ...] = ()
    public: bool = False


def operation(summary: str, **parts: Any) -> Callable[[View], View]:
    """The view is described."""
    described = Operation(summary=summary, **parts)

    def mark(view: View) -> View:
        setattr(view, MARK, described)
        return view

    return mark
