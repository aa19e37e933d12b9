"""What the routes of triggers take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Body, Choice, Number, Object, Query, Shown, Text, Whole, described
from orch8.runtime.triggers import Kind

LONGEST = 255
MAX_TENANT = 128
LONGEST_SECRET = 4096


class TriggerBody(Body):
    """Which sequence a name starts."""

    slug = described(
        Text(required=True, blank=False, printable=True, longest=LONGEST),
        "The name, once in the whole installation",
        "stripe-invoices",
    )
    sequence_name = Text(required=True, blank=False, longest=LONGEST)
    version = described(Whole(least=1), "Left out: the newest that is not deprecated when it fires")
    tenant_id = Text(printable=True, longest=MAX_TENANT)
    namespace = Text(blank=False, longest=LONGEST)
    secret = described(
        Text(blank=False, longest=LONGEST_SECRET), "Who fires it has to know this; never shown"
    )
    trigger_type = described(Choice(*Kind), "webhook: can be sent to POST /webhooks/<slug>, too")
    config = Object()


class TriggersQuery(Query):
    """Which triggers to list."""

    tenant_id = Text(longest=MAX_TENANT)
    limit = Number(least=1)


class TriggerSchema(Shown):
    """A trigger."""

    slug = fields.String(required=True)
    sequence_name = fields.String(required=True)
    version = fields.Integer()
    tenant_id = fields.String(required=True)
    namespace = fields.String(required=True)
    enabled = fields.Boolean(required=True)
    secret = fields.String(metadata={"description": "[REDACTED], if there is one"})
    trigger_type = fields.String(required=True)
    config = fields.Dict(required=True)
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)


class TakenInSchema(Shown):
    """A webhook was taken in."""

    instance_id = fields.UUID(required=True)
    trigger = fields.String(required=True)


class FiredSchema(TakenInSchema):
    """A trigger has fired."""

    sequence_name = fields.String(required=True)
