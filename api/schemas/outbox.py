"""What the routes of outbound webhooks take and give."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.base import Body, Number, Query, Shown, Switch, Text, described

MAX_PAGE = 1000
MAX_URL = 8192
MAX_REASON = 1000
LONGEST = 200


class OutboxQuery(Query):
    """How many."""

    limit = described(Number(least=1, most=MAX_PAGE), "100 by default")


class DeliveriesQuery(OutboxQuery):
    """Which deliveries."""

    url = described(Text(longest=MAX_URL), "The receiver")
    event_type = described(Text(longest=LONGEST), "Such as instance.failed")
    delivered = described(Switch(), "Whether the receiver took it")
    error_class = described(
        Text(longest=LONGEST), "Why it did not, the last time: http_5xx, timeout, ssrf_blocked, ..."
    )


class RedeliverBody(Body):
    """Why."""

    reason = described(Text(longest=MAX_REASON), "Why, for the audit log")


class OutboxEventSchema(Shown):
    """An event that a receiver has not taken yet."""

    id = fields.UUID(required=True)
    delivery_id = fields.UUID(
        required=True, metadata={"description": "X-Orch8-Delivery-Id, the same in every attempt"}
    )
    tenant_id = fields.String(required=True)
    url = fields.String(required=True)
    event_type = fields.String(required=True)
    instance_id = fields.UUID(required=True)
    payload = fields.Dict(required=True)
    attempts = fields.Integer(required=True)
    status = fields.String(required=True, metadata={"enum": ["pending", "in_flight", "parked"]})
    last_error = fields.String()
    created_at = fields.AwareDateTime(required=True)
    next_attempt_at = fields.AwareDateTime(
        metadata={"description": "While it is in flight: when it counts as lost and is due again"}
    )
    claimed_at = fields.AwareDateTime()


class RedeliveredSchema(Shown):
    """The receiver has taken the event."""

    redelivered = fields.Boolean(required=True)
    delivery_id = fields.UUID(required=True)


class PreviewSchema(Shown):
    """The request that would leave now."""

    id = fields.UUID(required=True)
    delivery_id = fields.UUID(required=True)
    method = fields.String(required=True)
    url = fields.String(required=True)
    event_type = fields.String(required=True)
    status = fields.String(required=True)
    attempts = fields.Integer(required=True)
    headers = fields.Dict(required=True)
    signed = fields.Boolean(
        required=True, metadata={"description": "Whether X-Orch8-Signature would go with it"}
    )
    body = fields.String(required=True)


class DeliverySchema(Shown):
    """What came of telling one receiver of one event."""

    delivery_id = fields.UUID(required=True)
    tenant_id = fields.String(required=True)
    url = fields.String(required=True)
    event_type = fields.String(required=True)
    instance_id = fields.UUID(required=True)
    delivered = fields.Boolean(required=True)
    error_class = fields.String(required=True, allow_none=True)
    attempts = fields.Integer(required=True)
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)


class _AttemptSchema(Shown):
    attempt = fields.Integer(required=True)
    at = fields.AwareDateTime(required=True)
    delivered = fields.Boolean(required=True)
    http_status = fields.Integer(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)
    error_class = fields.String(required=True, allow_none=True)
    elapsed_ms = fields.Float(required=True)


class ToldDeliverySchema(DeliverySchema):
    """A delivery with its attempts, the oldest first."""

    timeline = fields.List(fields.Nested(_AttemptSchema), required=True)
