"""What the routes of rate limits take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Body, Choice, Positive, Query, Shown, Whole, described

MOST_IN_FLIGHT = 10_000


class LimitBody(Body):
    """How many calls may share a key: in a window, at a time, or both."""

    max = described(Whole(least=1, most=1_000_000), "Calls in any window", 95)
    window_seconds = described(Positive(), "Length of the window", 1)
    slack_seconds = described(Positive(), "Allowed from token to call; 0.02 unless given", 0.02)
    max_in_flight = described(Whole(least=1, most=MOST_IN_FLIGHT), "Calls at a time", 30)


class LimitsQuery(Query):
    """Which keys to list."""

    state = described(
        Choice("stated", "unlimited"),
        "stated (the default): those with a limit; unlimited: those that run without one",
    )


class LimitSchema(Shown):
    """A stated limit: the operator's, which wins, or an inline one of a sequence."""

    tenant_id = fields.String(required=True)
    key = fields.String(required=True)
    source = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": '"operator", or the id of a sequence\'s version'},
    )
    max = fields.Integer(required=True, allow_none=True)
    window_seconds = fields.Float(required=True, allow_none=True)
    max_in_flight = fields.Integer(required=True, allow_none=True)
    slack_seconds = fields.Float(
        required=True, allow_none=True, metadata={"description": "Between token and call"}
    )
    effective = fields.Boolean(
        required=True, metadata={"description": "Whether this is the one that holds"}
    )
    calls = fields.Integer(metadata={"description": "Calls without a limit, about"})
    first_at = fields.AwareDateTime()
    last_at = fields.AwareDateTime()


class LimitsSchema(Shown):
    """Every stated limit, or every key without one."""

    items = fields.List(fields.Nested(LimitSchema), required=True)
    left_out = fields.Integer(
        required=True, metadata={"description": "How many more are stated than are listed"}
    )
