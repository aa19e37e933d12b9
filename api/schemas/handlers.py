"""What registering handlers, limits and the development clock takes and gives."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Body, Choice, Positive, Shown, Text, Timestamp, described
from orch8.blocks.fields import Span
from orch8.blocks.step import Effect

LONGEST_URL = 8192


class HandlerBody(Body):
    """Where a handler is reached, and what its calls may do."""

    url = described(
        Text(blank=False, longest=LONGEST_URL),
        "Steps are sent to <url>/<handler>",
        "https://pay.example.com/orch8",
    )
    effect = described(
        Choice(*(e.value for e in Effect)),
        "What a call may do; money and irrevocable are never guessed",
    )
    timeout = described(
        Span(fixed=True, positive=True), "Of a whole call, unless the step says", "30s"
    )


class HandlerSchema(Shown):
    """A registered handler."""

    tenant_id = fields.String(required=True)
    name = fields.String(required=True)
    url = fields.String(required=True, allow_none=True)
    effect = fields.String(required=True, allow_none=True)
    timeout = fields.Float(required=True, allow_none=True, metadata={"description": "Seconds"})
    updated_at = fields.AwareDateTime(required=True)


class HandlersSchema(Shown):
    """The handlers that steps can name."""

    builtin = fields.List(fields.String(), required=True)
    external = fields.List(fields.String(), required=True)
    registered = fields.List(fields.Nested(HandlerSchema), required=True)


class ClockBody(Body):
    """How to move the engine's clock."""

    advance = described(Span(fixed=True), "How far forward", "3d")
    at = described(Timestamp(), "Or: which moment it is now")
    rate = described(Positive(), "How many times as fast as real time it runs from now on")


class ClockSchema(Shown):
    """What time the engine thinks it is."""

    now = fields.AwareDateTime(required=True)
    rate = fields.Float(required=True)
    real = fields.AwareDateTime(required=True)
