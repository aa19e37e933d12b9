"""What the routes of usage and artifacts take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Query, Shown, Text, Timestamp, described

MAX_TENANT = 128


class UsageQuery(Query):
    """Whose usage, and of which time."""

    tenant = described(Text(longest=MAX_TENANT), "The tenant; without one all that may be seen")
    tenant_id = described(Text(longest=MAX_TENANT), "The same")
    start = described(Timestamp(), "From when on; 30 days before the end if left out")
    end = described(Timestamp(), "Until when; now if left out")


class UsageSchema(Shown):
    """What language models used. There are none here, so nothing is counted."""

    tenant_id = fields.String(required=True, allow_none=True)
    start = fields.AwareDateTime(required=True)
    end = fields.AwareDateTime(required=True)
    input_tokens = fields.Integer(required=True)
    output_tokens = fields.Integer(required=True)
    total_tokens = fields.Integer(required=True)
    cost_microunits = fields.Integer(required=True)
    items = fields.List(fields.Raw(), required=True)
    note = fields.String(required=True)


class ArtifactSchema(Shown):
    """What a step left behind beside its output."""

    key = fields.String(required=True)
    size = fields.Integer(required=True)


class ArtifactsSchema(Shown):
    """The artifacts of an instance."""

    items = fields.List(fields.Nested(ArtifactSchema), required=True)
