"""What the route of approvals takes and gives."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Id, Number, Query, Shown, Text, described

MAX_TENANT = 128


class ApprovalsQuery(Query):
    """Which approvals to list."""

    tenant_id = Text(longest=MAX_TENANT)
    namespace = Text(longest=255)
    instance_id = described(Id(), "Only those of this instance")
    offset = Number()
    limit = Number(least=1)


class OptionSchema(Shown):
    """One of the choices: `label` is shown, `value` is sent."""

    label = fields.String(required=True)
    value = fields.String(required=True)


class ApprovalSchema(Shown):
    """A step that waits for a person's answer."""

    instance_id = fields.UUID(required=True)
    node_key = fields.String(required=True)
    tenant_id = fields.String(required=True)
    namespace = fields.String(required=True)
    sequence_id = fields.UUID(required=True)
    sequence_name = fields.String(required=True)
    block_id = fields.String(required=True)
    prompt = fields.String(required=True)
    choices = fields.List(fields.Nested(OptionSchema), required=True)
    store_as = fields.String(required=True, allow_none=True)
    timeout_seconds = fields.Integer(required=True, allow_none=True)
    escalation_handler = fields.String(required=True, allow_none=True)
    waiting_since = fields.AwareDateTime(required=True)
    deadline = fields.AwareDateTime(required=True, allow_none=True)
    metadata = fields.Raw(required=True, allow_none=True)
    allow_comment = fields.Boolean(required=True)


class ApprovalsSchema(Shown):
    """A page of approvals; `total` is how many there are on it."""

    items = fields.List(fields.Nested(ApprovalSchema), required=True)
    total = fields.Integer(required=True)
