"""What the routes of forecasts and of providers' limits take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Query, Shown, Text, described


class ForecastQuery(Query):
    """Which keys to look at."""

    key = described(Text(longest=512), "One key; left out: all of them", "stripe:live:acct_1")


class MissSchema(Shown):
    """A waiting step whose turn comes too late."""

    instance_id = fields.UUID(required=True)
    node_key = fields.String(required=True)
    lane = fields.String(required=True)
    misses = fields.String(
        required=True, metadata={"description": "deadline, sla or send_window: what ends before"}
    )
    ends_at = fields.AwareDateTime(required=True)
    turn_at = fields.AwareDateTime(required=True)


class ForecastSchema(Shown):
    """What becomes of the queue of one key."""

    tenant_id = fields.String(required=True)
    key = fields.String(required=True)
    max = fields.Integer(required=True, allow_none=True)
    window_seconds = fields.Float(required=True, allow_none=True)
    max_in_flight = fields.Integer(required=True, allow_none=True)
    used = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "Calls in the window that ends now; null: Redis is away"},
    )
    in_flight = fields.Integer(required=True, allow_none=True)
    blocked_seconds = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "For how long the provider wants no calls"},
    )
    waiting = fields.Integer(required=True, metadata={"description": "Steps that wait"})
    waiting_by_lane = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    paused = fields.Integer(
        required=True, metadata={"description": "Steps in line of instances that are paused"}
    )
    drain_seconds = fields.Float(
        required=True, metadata={"description": "Until the last of them has its turn"}
    )
    drains_at = fields.AwareDateTime(required=True, allow_none=True)
    will_miss = fields.Integer(
        required=True, metadata={"description": "How many have their turn too late"}
    )
    misses = fields.List(
        fields.Nested(MissSchema), required=True, metadata={"description": "The first of them"}
    )


class ForecastsSchema(Shown):
    """The forecasts of keys that steps wait for, then of those for which a limit is stated."""

    items = fields.List(fields.Nested(ForecastSchema), required=True)
    left_out = fields.Integer(
        required=True, metadata={"description": "How many more keys there are, counted to 10,000"}
    )


class AllowedSchema(Shown):
    """How many calls a provider takes."""

    max = fields.Integer(required=True)
    window_seconds = fields.Float(required=True)
    max_in_flight = fields.Integer(required=True, allow_none=True)


class ProviderLimitSchema(Shown):
    """One published limit of a provider."""

    key = fields.String(
        required=True, metadata={"description": "With the places {mode}, {account} and others"}
    )
    covers = fields.String(required=True)
    each = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Of which object each has this limit for itself"},
    )
    live = fields.Nested(AllowedSchema, required=True, allow_none=True)
    test = fields.Nested(AllowedSchema, required=True, allow_none=True)


class ProviderLimitsSchema(Shown):
    """The published limits of one provider."""

    name = fields.String(required=True)
    title = fields.String(required=True)
    account = fields.String(required=True, metadata={"description": "What they are counted by"})
    source = fields.String(required=True)
    checked = fields.Date(required=True)
    note = fields.String(required=True)
    limits = fields.List(fields.Nested(ProviderLimitSchema), required=True)


class PresetsSchema(Shown):
    """What is known of providers' limits."""

    version = fields.Integer(required=True)
    items = fields.List(fields.Nested(ProviderLimitsSchema), required=True)
