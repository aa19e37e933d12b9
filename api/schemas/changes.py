"""What the routes of the change feed and of streams take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Number, Query, Shown, Text, described

MAX_TENANT = 128
_FURTHEST = 2**62  # what is out of range is brought into it, and not refused


class ChangeStreamQuery(Query):
    """Whose changes, and from where on."""

    tenant_id = described(Text(longest=MAX_TENANT), "The tenant, if X-Tenant-Id does not say it")
    cursor = described(Text(), "The place to go on behind: a next_cursor, or an event's id")


class ChangesQuery(ChangeStreamQuery):
    """Whose changes, from where on, and how many."""

    limit = described(
        Number(least=-_FURTHEST, most=_FURTHEST), "Entries of a page: 1 to 500, else the nearest"
    )


class FollowQuery(Query):
    """How closely an instance is followed."""

    poll_ms = described(
        Number(least=-_FURTHEST, most=_FURTHEST),
        "Milliseconds between two looks: 100 to 5000, else the nearest; 500 by default",
    )


class ChangeSchema(Shown):
    """What happened to an instance: who did it, when, and why."""

    id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    instance_id = fields.UUID(required=True)
    at = fields.AwareDateTime(required=True)
    created_at = fields.AwareDateTime(required=True, metadata={"description": "As at"})
    actor = fields.String(required=True)
    action = fields.String(required=True)
    event_type = fields.String(
        required=True,
        metadata={"description": "state_transition for a change of state, else as action"},
    )
    from_state = fields.String()
    to_state = fields.String()
    outcome = fields.String(required=True)
    reason = fields.String(required=True, allow_none=True)
    node_key = fields.String(required=True, allow_none=True)
    block_id = fields.String()
    request_id = fields.String(required=True, allow_none=True)
    details = fields.Raw(required=True)


class ChangePageSchema(Shown):
    """Part of a tenant's feed; an empty part has no next_cursor."""

    changes = fields.List(fields.Nested(ChangeSchema), required=True)
    has_more = fields.Boolean(required=True)
    next_cursor = fields.String()
